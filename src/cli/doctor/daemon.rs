//! The running daemon, if there is one: whether it answers, by which policy, how its ledger stands, and who has not
//! logged in for long.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::super::admin::{Keeper, connect};
use super::super::say::count;
use super::Finding;
use crate::clock::Time;
use crate::ipc::admin::{Status, ToCommand, ToKeeper};
use crate::policy::Policy;

/// An account nobody has used for so long is one nobody would miss.
const DORMANT: Duration = Duration::from_secs(90 * 86_400);

/// How far back logins are looked for: reading more takes longer than anyone waits.
const EVENTS_MAX: u64 = 200_000;

/// A group commit takes some 10 ms on a usual disk; what takes a hundred times that is one that nobody wants to wait for.
const COMMIT_SLOW_MS: u64 = 1_000;

/// As many as the ledger takes at once (docs/ledger.md, "Committing").
const WAITING_MANY: u32 = 256;

/// The log is read backwards in pieces of so many, which is at most one page.
const PIECE: u64 = 100;

/// How far the log may be ahead of this command's clock: they are of one machine.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

pub fn look(admin: &Path, policy: Option<&Policy>, now: Time) -> Vec<Finding> {
    const CHECK: &str = "daemon";
    let mut keeper = match connect(admin) {
        Ok(keeper) => keeper,
        Err(ending) => {
            let failure = ending.failure;
            let say = failure.as_ref().map_or_else(String::new, |failure| failure.message.clone());
            let hint = failure.and_then(|failure| failure.hint).unwrap_or_default();
            return vec![Finding::warn(CHECK, say, hint)];
        }
    };
    let status = match keeper.ask(&ToKeeper::Status) {
        Ok(ToCommand::Status(status)) => status,
        Ok(_) => return vec![Finding::fail(CHECK, "it answers another question", "is it of the same version?")],
        Err(ending) => {
            let say = ending.failure.map_or_else(String::new, |failure| failure.message);
            return vec![Finding::fail(CHECK, say, "its log says more: `journalctl -u sealdrop`")];
        }
    };
    let mut findings = vec![version(&status), in_force(&status, policy), sweep(&status)];
    findings.extend(ledger(&mut keeper, &status, now));
    findings.extend(lag(&mut keeper));
    findings.push(alarms(&mut keeper));
    findings.extend(approvals(&status));
    if let Some(policy) = policy {
        findings.push(dormant(|from| piece(&mut keeper, from), status.events, policy, now));
    }
    findings
}

fn version(status: &Status) -> Finding {
    const CHECK: &str = "daemon";
    let say = format!("sealdrop {}, up since {}", status.version, status.since);
    if status.version == env!("CARGO_PKG_VERSION") {
        return Finding::ok(CHECK, say);
    }
    Finding::warn(
        CHECK,
        format!("{say}; this command is {}", env!("CARGO_PKG_VERSION")),
        "the program was replaced and the daemon not restarted",
    )
}

fn in_force(status: &Status, policy: Option<&Policy>) -> Finding {
    const CHECK: &str = "policy";
    match policy {
        Some(policy) if policy.digest.to_string() == status.policy => {
            Finding::ok(CHECK, "the one in force is the one on disk")
        }
        Some(_) => Finding::warn(
            CHECK,
            "the one on disk is not in force",
            "`sealdrop plan` says what differs, `sealdrop reload` puts it in force",
        ),
        None => Finding::warn(CHECK, "the one in force is not the one on disk, which cannot be used", "mend it"),
    }
}

fn sweep(status: &Status) -> Finding {
    const CHECK: &str = "sweep";
    match status.next_sweep {
        Some(at) => Finding::ok(CHECK, format!("next at {at}")),
        None => {
            Finding::fail(CHECK, "none will ever come", "mend `schedule` in [sweep]: what expires is never destroyed")
        }
    }
}

/// The newest event is there to be read, and not of a time to come.
fn ledger(keeper: &mut Keeper, status: &Status, now: Time) -> Option<Finding> {
    const CHECK: &str = "ledger";
    let head = format!("{}, root {}", count(status.events, "event"), status.log_root);
    let newest = match piece(keeper, status.events.saturating_sub(1)) {
        Ok(events) => events.last().and_then(at)?,
        Err(why) => {
            let hint = "its log says more: `journalctl -u sealdrop`; docs/operations.md, when something is wrong";
            return Some(Finding::fail(CHECK, format!("{head}; it cannot be read: {why}"), hint));
        }
    };
    if newest > now.plus(CLOCK_SLACK) {
        let say = format!("the newest event is of {newest}, and this clock says {now}");
        return Some(Finding::fail(CHECK, say, "the clock was set back: set it right before anything expires by it"));
    }
    Some(Finding::ok(CHECK, format!("{head}, newest {newest}")))
}

/// Whether what clients wait for becomes durable as fast as it comes.
fn lag(keeper: &mut Keeper) -> Option<Finding> {
    const CHECK: &str = "ledger lag";
    let Ok(ToCommand::Overview(told)) = keeper.ask(&ToKeeper::Overview) else { return None };
    let took = told.commit_ms.map_or_else(|| "none so far".to_owned(), |ms| format!("the last took {ms} ms"));
    let say =
        format!("{} on their way, {took}", count(u64::from(told.committing), "batch").replace("batchs", "batches"));
    let slow = told.committing > WAITING_MANY || told.commit_ms.is_some_and(|ms| ms > COMMIT_SLOW_MS);
    if !slow {
        return Some(Finding::ok(CHECK, say));
    }
    let hint =
        "each client waits for that disk: see what else writes to it (`iostat -x`), or give `state` a faster one";
    Some(Finding::warn(CHECK, say, hint))
}

/// What waits for a person is told of where one looks.
fn approvals(status: &Status) -> Option<Finding> {
    let say = format!("{} for a second person", count(u64::from(status.awaiting), "request"));
    let hint = "`sealdrop approvals` says which; `sealdrop approve` and `refuse` answer them";
    (status.awaiting > 0).then(|| Finding::warn("approvals", say, hint))
}

fn alarms(keeper: &mut Keeper) -> Finding {
    const CHECK: &str = "alarms";
    let open = match super::super::alarms::open(keeper) {
        Ok(open) => open,
        Err(ending) => return Finding::skip(CHECK, ending.failure.map_or_else(String::new, |failure| failure.message)),
    };
    let first = open.first().and_then(|alarm| alarm["cause"].as_str());
    match first {
        None => Finding::ok(CHECK, "none is open"),
        Some(first) => {
            let say = format!("{} open, the first: {first}", open.len());
            Finding::warn(CHECK, say, "`sealdrop alarms` says what they are")
        }
    }
}

/// Accounts that may log in and have not. `read` gives events of the log's `events` from one on, as many as it likes.
fn dormant(
    mut read: impl FnMut(u64) -> Result<Vec<Value>, String>,
    events: u64,
    policy: &Policy,
    now: Time,
) -> Finding {
    const CHECK: &str = "dormant";
    let since = Time(now.0.saturating_sub(u64::try_from(DORMANT.as_millis()).unwrap_or(u64::MAX)));
    let usable = policy.users().filter(|user| user.barred(None, now).is_none());
    let mut unseen: BTreeSet<&str> = usable.map(|user| user.name.as_str()).collect();
    let all = unseen.len();
    let (mut end, last) = (events, events.saturating_sub(EVENTS_MAX));
    // Where the log is younger than that, nobody can be called dormant.
    let mut reached = false;
    while end > last && !unseen.is_empty() && !reached {
        let begin = end.saturating_sub(PIECE).max(last);
        let mut from = begin;
        while from < end {
            let events = match read(from) {
                Ok(events) if !events.is_empty() => events,
                Ok(_) => break,
                Err(why) => return Finding::skip(CHECK, why),
            };
            from += events.len() as u64;
            for event in &events {
                reached |= at(event).is_some_and(|at| at < since);
                if event["kind"] == "logged-in" && at(event).is_some_and(|at| at >= since) {
                    unseen.remove(event["user"].as_str().unwrap_or_default());
                }
            }
        }
        end = begin;
    }
    if unseen.is_empty() {
        return Finding::ok(CHECK, format!("each of {all} accounts logged in within 90 days"));
    }
    if !reached {
        let (seen, count) = (all - unseen.len(), events - end);
        return Finding::skip(
            CHECK,
            format!("{seen} of {all} accounts logged in; {count} events were read, not yet 90 days"),
        );
    }
    let names: Vec<&str> = unseen.into_iter().collect();
    Finding::warn(
        CHECK,
        format!("no login within 90 days: {}", names.join(", ")),
        "disabled = true for those that nobody needs",
    )
}

/// Events from one on, at most a page.
fn piece(keeper: &mut Keeper, from: u64) -> Result<Vec<Value>, String> {
    match keeper.ask(&ToKeeper::Audit { from }) {
        Ok(ToCommand::Audit { rows, .. }) => {
            rows.iter().map(|row| serde_json::from_str(row).map_err(|e| e.to_string())).collect()
        }
        Ok(_) => Err("it answers another question".to_owned()),
        Err(ending) => Err(ending.failure.map_or_else(String::new, |failure| failure.message)),
    }
}

fn at(event: &Value) -> Option<Time> {
    Time::parse_rfc3339(event["at"].as_str()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config;
    use crate::policy::PolicyText;

    const DAY: u64 = 86_400;

    fn policy() -> Policy {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO/6HrxB4Ov2QoZoRHIzGcyvk8VZ9ffSKa8yVeTRsWY2";
        let text = |name: &str, rest: &str| PolicyText {
            name: format!("{name}.toml"),
            bytes: format!("user = \"{name}\"\n[login]\nkeys = [\"{key}\"]\n{rest}").into_bytes(),
        };
        config::policy_of(&[text("acme", ""), text("lab", ""), text("old", "disabled = true")]).unwrap()
    }

    /// What is found in a log of one event a day, today's last, in pages of 7; `logins` by their day.
    fn found(days: u64, logins: &[(u64, &str)]) -> Finding {
        let now = Time::from_unix_seconds(1_000 * DAY);
        let event = |number: u64| {
            let ago = days - 1 - number;
            let at = Time::from_unix_seconds((1_000 - ago) * DAY).rfc3339();
            match logins.iter().find(|(day, _)| *day == ago) {
                Some((_, user)) => json!({ "at": at, "kind": "logged-in", "user": user }),
                None => json!({ "at": at, "kind": "listed", "user": "lab" }),
            }
        };
        dormant(|from| Ok((from..days.min(from + 7)).map(event).collect()), days, &policy(), now)
    }

    #[test]
    fn who_has_not_logged_in_for_ninety_days_is_named() {
        let finding = found(400, &[(3, "acme"), (89, "lab")]);
        assert_eq!(finding.state, super::super::State::Ok, "{finding:?}");
        let finding = found(400, &[(3, "acme"), (91, "lab")]);
        assert_eq!((finding.state, finding.say.as_str()), (super::super::State::Warn, "no login within 90 days: lab"));
        let finding = found(400, &[]);
        assert_eq!(finding.say, "no login within 90 days: acme, lab", "who is disabled is meant to be");
    }

    #[test]
    fn in_a_young_log_nobody_is_called_dormant() {
        let finding = found(30, &[(3, "acme")]);
        assert_eq!(finding.state, super::super::State::Skip);
        assert!(finding.say.starts_with("1 of 2 accounts logged in; 30 events were read"), "{}", finding.say);
        assert_eq!(found(0, &[]).state, super::super::State::Skip);
    }
}
