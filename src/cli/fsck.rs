//! `sealdrop fsck`: whether ledger, log and disk agree, while no daemon runs. It says what it found and, with --repair,
//! what it did; it destroys nothing.

use std::path::PathBuf;

use serde_json::json;

use crate::config;
use crate::keeper::fsck;

use super::Ending;
use super::admin::DEFAULT_CONFIG;
use super::failure::Failure;
use super::passphrase::Passphrase;
use super::say::{Say, Tone, count};

/// Check that drops, ledger and log agree (the daemon must be stopped), and mend what can be
#[derive(clap::Args)]
pub struct Fsck {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Link entries that are missing, and make drops known again that the ledger has lost
    #[arg(long)]
    repair: bool,
}

impl Fsck {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let loaded = config::load(&self.config).map_err(|e| super::config_failure(&self.config, &e))?;
        let passphrase = self.passphrase.descriptor()?;
        let (settings, policy) = (loaded.settings, loaded.policy);
        let checked = fsck::Fsck { settings, policy, repair: self.repair, passphrase }.run();
        let checked = checked.map_err(|e| Failure::new(&e).hint(e.hint()))?;
        let open = checked.findings.iter().filter(|finding| finding.is_open()).count();
        if say.is_json() {
            let findings: Vec<_> = checked
                .findings
                .iter()
                .map(|finding| json!({ "finding": finding.word(), "open": finding.is_open(), "say": finding.to_string() }))
                .collect();
            let log: Vec<String> = checked.log.problems.iter().map(ToString::to_string).collect();
            say.json(&json!({
                "drops": checked.drops, "files": checked.files, "events": checked.log.events, "open": open,
                "findings": findings, "log": log,
            }));
        } else {
            for finding in &checked.findings {
                let tone = if finding.is_open() { Tone::Bad } else { Tone::Quiet };
                say.line(say.tone(tone, finding));
            }
            for problem in &checked.log.problems {
                say.line(say.tone(Tone::Bad, problem));
            }
            say.line(format_args!(
                "{}, {}, {}: {}",
                count(checked.drops, "drop"),
                count(checked.files, "sealed file"),
                count(checked.log.events, "event"),
                match (open, checked.log.holds()) {
                    (0, true) => "all agree",
                    (0, false) => "the log is not what was signed",
                    _ => "not all agree",
                }
            ));
        }
        match (checked.log.holds(), open) {
            (false, _) => Err(Ending::failed()),
            (true, 0) => Ok(()),
            (true, _) => Err(Ending::attention()),
        }
    }
}
