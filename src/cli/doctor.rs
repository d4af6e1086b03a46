//! `sealdrop doctor`: is this machine, this configuration and this daemon as they should be. Each check looks at one
//! thing, says what it found, and if that is not good, what to do. Nothing is changed; what needs rights that the caller
//! has not is skipped and said to be.

mod daemon;
mod hook;
mod machine;
mod site;

use serde::Serialize;

use crate::clock;
use crate::config;

use super::Ending;
use super::admin::Daemon;
use super::failure::Failure;
use super::say::{Say, Tone, count};

/// Look for what is wrong, or soon will be
#[derive(clap::Args)]
#[command(after_help = "Ends with 0 if all is well, with 4 if there are warnings, with 1 if something fails.")]
pub struct Doctor {
    #[command(flatten)]
    daemon: Daemon,
}

/// What one check found.
#[derive(Debug, Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub state: State,
    pub say: String,
    pub hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    Warn,
    Fail,
    /// Could not be looked at from here.
    Skip,
}

impl Finding {
    fn new(check: &'static str, state: State, say: impl Into<String>) -> Self {
        Self { check, state, say: say.into(), hint: None }
    }

    pub fn ok(check: &'static str, say: impl Into<String>) -> Self {
        Self::new(check, State::Ok, say)
    }

    pub fn warn(check: &'static str, say: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..Self::new(check, State::Warn, say) }
    }

    pub fn fail(check: &'static str, say: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..Self::new(check, State::Fail, say) }
    }

    pub fn skip(check: &'static str, say: impl Into<String>) -> Self {
        Self::new(check, State::Skip, say)
    }
}

impl Doctor {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let now = clock::now();
        let mut findings = machine::look();
        match config::load(&self.daemon.config) {
            Ok(loaded) => {
                findings.extend(site::look(&self.daemon.config, &loaded, now));
                let admin = self.daemon.admin.as_ref().unwrap_or(&loaded.settings.admin);
                findings.extend(daemon::look(admin, Some(&loaded.policy), now));
            }
            Err(problems) => {
                let hint = format!("`sealdrop check --config {}` shows each problem", self.daemon.config.display());
                findings.push(Finding::fail("configuration", problems.summary(), hint));
                if let Ok(settings) = config::load_settings(&self.daemon.config) {
                    findings.extend(daemon::look(&settings.admin, None, now));
                }
            }
        }
        let of = |state| findings.iter().filter(|finding| finding.state == state).count();
        let (fails, warnings) = (of(State::Fail), of(State::Warn));
        if say.is_json() {
            say.json(&serde_json::json!({
                "ok": of(State::Ok), "warn": warnings, "fail": fails, "skip": of(State::Skip), "findings": findings,
            }));
        } else {
            tell(say, &findings);
        }
        match (fails, warnings) {
            (0, 0) => Ok(()),
            (0, _) => Err(Ending::attention()),
            (fails, _) => {
                let fails = count(fails as u64, "check");
                Err(Failure::new(format_args!("{fails} failed")).hint("the hints above say what to do").into())
            }
        }
    }
}

fn tell(say: &Say, findings: &[Finding]) {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for finding in findings {
        let (tone, word) = match finding.state {
            State::Ok => (Tone::Good, "ok  "),
            State::Warn => (Tone::Unsure, "warn"),
            State::Fail => (Tone::Bad, "fail"),
            State::Skip => (Tone::Quiet, "skip"),
        };
        say.line(format_args!("{}  {:width$}  {}", say.tone(tone, word), finding.check, finding.say));
        if let Some(hint) = &finding.hint {
            say.line(format_args!("{:indent$}{} {hint}", "", say.tone(Tone::Tip, "hint:"), indent = width + 8));
        }
    }
}
