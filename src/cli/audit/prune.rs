//! `audit prune`: months whose retention is over go, with the daemon stopped. What stays is provable as before.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::clock;
use crate::config;
use crate::keeper::fsck;
use crate::ledger::Month;

use super::super::Ending;
use super::super::admin::DEFAULT_CONFIG;
use super::super::failure::Failure;
use super::super::passphrase::Passphrase;
use super::super::say::{Say, count};

/// Remove months of the log that need not be kept any longer (the daemon must be stopped)
#[derive(clap::Args)]
#[group(id = "until", required = true, args = ["before", "keep"])]
pub struct Prune {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Remove the months before this one, such as 2020-11
    #[arg(long, value_name = "MONTH")]
    before: Option<Month>,
    /// Keep so much, counted back from now, such as 6y
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    keep: Option<Duration>,
    /// Why, for the audit log
    #[arg(long, alias = "reason", value_name = "WORDS")]
    why: Option<String>,
}

impl Prune {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let settings =
            config::load_settings(&self.config).map_err(|e| super::super::config_failure(&self.config, &e))?;
        let back = |span: Duration| {
            let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            Month::of(clock::Time(clock::now().0.saturating_sub(ms)))
        };
        let Some(keep) = self.before.or_else(|| self.keep.map(back)) else { return Ok(()) };
        let pruned = fsck::prune(&settings, keep, self.why.as_deref(), self.passphrase.descriptor()?);
        let pruned = pruned.map_err(|e| Failure::new(&e).hint(e.hint()))?;
        if say.is_json() {
            say.json(&json!({
                "first_month": pruned.as_ref().map(|pruned| pruned.first.to_string()),
                "first_event": pruned.as_ref().map(|pruned| pruned.event),
                "months": pruned.as_ref().map_or(0, |pruned| pruned.months),
            }));
            return Ok(());
        }
        match pruned {
            Some(pruned) => say.line(format_args!(
                "{} removed; the log begins with event {}, in {}",
                count(pruned.months, "month"),
                pruned.event,
                pruned.first
            )),
            None => say.line("nothing to remove"),
        }
        Ok(())
    }
}
