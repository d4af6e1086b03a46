//! `sealdrop audit anomalies`: what is unlike a user's own past. It reads the log once: a history that teaches what is usual for
//! each user, and then the days that are looked at. It says what to look into, not that something is wrong. The
//! thresholds are the configuration's (`[anomalies]`); what is compared is `habits`.

use std::time::Duration;

use serde_json::json;

use crate::clock::{self, Time};
use crate::config;

use super::Ending;
use super::admin::Daemon;
use super::report::{for_each_event, moment};
use super::say::{Align, Say, Table};
use habits::Habits;

pub mod habits;

/// Tell what is unlike each user's own past: mass downloads, odd hours, repeated failures
#[derive(clap::Args)]
pub struct Anomalies {
    #[command(flatten)]
    daemon: Daemon,
    /// Look at what happened since this day or moment [default: a day ago]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Time>,
    /// Up to this day or moment, which is not in it [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<Time>,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Anomalies {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        // With --admin alone there may be no configuration here: then the thresholds are the defaults.
        let thresholds =
            config::load_settings(&self.daemon.config).map(|settings| settings.anomalies).unwrap_or_default();
        let to = self.to.unwrap_or_else(clock::now);
        let since = self.since.unwrap_or(Time(to.0.saturating_sub(DAY.as_millis() as u64)));
        let from = Time(since.0.saturating_sub(u64::try_from(thresholds.history.as_millis()).unwrap_or(u64::MAX)));
        let mut habits = Habits::new(thresholds, since);
        for_each_event(&mut keeper, from, to, |event| {
            habits.see(event);
            Ok(())
        })?;
        let found = habits.found();
        let mut table = Table::new(&[
            ("WHAT", Align::Left),
            ("USER", Align::Left),
            ("WHEN", Align::Left),
            ("SEEN", Align::Right),
            ("USUAL", Align::Right),
            ("SAYS", Align::Left),
        ]);
        for one in &found {
            if say.is_json() {
                say.json(&json!({
                    "kind": one.kind.word(), "user": one.user, "when": one.when, "seen": one.seen, "usual": one.usual,
                    "says": one.says(),
                }));
            }
            table.row([
                one.kind.word().to_owned(),
                one.user.clone(),
                one.when.clone(),
                one.seen.to_string(),
                one.usual.to_string(),
                one.says(),
            ]);
        }
        if found.is_empty() {
            say.line(format_args!("nothing unusual since {since}"));
            return Ok(());
        }
        if !say.is_json() {
            say.table(&table);
        }
        Err(Ending::attention())
    }
}
