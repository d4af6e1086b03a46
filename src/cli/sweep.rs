//! `sealdrop sweep`: expire now what is due, instead of at the next scheduled sweep; with `--plan`, only say what
//! would be. `--now` ages the store, for demonstrations and tests: the daemon refuses it unless its configuration
//! allows a test clock.

use serde_json::json;

use crate::clock::{self, Time};
use crate::ipc::admin::{SweepRow, ToCommand, ToKeeper};

use super::Ending;
use super::admin::{Daemon, unexpected};
use super::say::{Align, Say, Table, count, size};

/// Expire what is due, or with --plan say what would be
#[derive(clap::Args)]
pub struct Sweep {
    #[command(flatten)]
    daemon: Daemon,
    /// Change nothing: say what a sweep would expire
    #[arg(long)]
    plan: bool,
    /// Sweep as if it were this time: RFC 3339, or `+400d` from now (only where `test_clock = true`)
    #[arg(long, value_name = "TIME", value_parser = parse_now)]
    now: Option<Time>,
    /// Why, for the audit log
    #[arg(long, alias = "reason", value_name = "WORDS")]
    why: Option<String>,
}

impl Sweep {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        let mut rows = Vec::new();
        let mut destroyed = 0;
        keeper.pages(
            |after| ToKeeper::Sweep { plan: self.plan, now: self.now, after, why: self.why.clone() },
            |answer| match answer {
                ToCommand::Sweep { rows: page, next, destroyed_keys } => {
                    rows.extend(page);
                    destroyed += destroyed_keys;
                    Ok(next)
                }
                answer => Err(unexpected(&answer)),
            },
        )?;
        if say.is_json() {
            let expired: Vec<_> = rows.iter().map(as_json).collect();
            say.json(&json!({ "plan": self.plan, "expired": expired, "destroyed_keys": destroyed }));
        } else {
            tell(say, self.plan, &rows, destroyed);
        }
        Ok(())
    }
}

fn tell(say: &Say, plan: bool, rows: &[SweepRow], destroyed_keys: u32) {
    if !rows.is_empty() {
        let mut table = Table::new(&[
            ("DROP", Align::Left),
            ("FROM", Align::Left),
            ("SIZE", Align::Right),
            ("EXPIRES", Align::Left),
            ("FETCHED", Align::Right),
            ("PATH", Align::Left),
        ]);
        for row in rows {
            table.row([
                row.drop.to_string(),
                row.sender.to_string(),
                size(row.size),
                row.expires.to_string(),
                row.picked_up.to_string(),
                row.path.clone(),
            ]);
        }
        say.table(&table);
    }
    let drops = count(rows.len() as u64, "drop");
    let keys = count(u64::from(destroyed_keys), "shred key");
    if plan {
        say.line(format_args!("a sweep would expire {drops}; nothing was changed"));
    } else {
        say.line(format_args!("expired {drops}, destroyed {keys}"));
    }
}

fn as_json(row: &SweepRow) -> serde_json::Value {
    json!({
        "drop": row.drop.to_string(), "sender": row.sender, "path": row.path, "size": row.size,
        "expires": row.expires.rfc3339(), "picked_up": row.picked_up,
    })
}

pub(super) fn parse_now(text: &str) -> Result<Time, String> {
    match text.strip_prefix('+') {
        Some(span) => humantime::parse_duration(span).map(|span| clock::now().plus(span)).map_err(|e| e.to_string()),
        None => Time::parse_rfc3339(text)
            .ok_or_else(|| "expected a time like 2026-11-22T08:00:00Z, or a span like +400d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_a_moment_or_a_span_from_now() {
        let day = std::time::Duration::from_secs(86_400);
        let soon = parse_now("+1d").unwrap();
        assert!(soon.since(clock::now()) <= day && soon.plus(day) > clock::now().plus(day));
        assert_eq!(parse_now("1970-01-01T00:00:01Z"), Ok(Time(1000)));
        assert!(parse_now("tomorrow").is_err() && parse_now("+soon").is_err());
    }
}
