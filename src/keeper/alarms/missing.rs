//! Deliveries that were due and did not come. What came is counted by receipts, from the first event that can matter on; how far
//! that has gone is kept, so that the next look goes on there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::Keeper;
use super::super::desk::Refusal;
use crate::clock::Time;
use crate::ledger::{Alarm, AlarmKind, Ledger};
use crate::names::UserName;
use crate::policy::{Due, User};

/// Receipts read at once.
const PAGE: usize = 500;

/// One delivery that is waited for, by what tells it from others: whose, what, and the moment it was due.
type Expected = (UserName, String, Time);

#[derive(Default)]
pub struct Progress(BTreeMap<Expected, Counted>);

#[derive(Clone, Copy)]
struct Counted {
    files: u64,
    /// The last event that was looked at; `None`: none yet.
    after: Option<u64>,
}

/// What was due last, of each that is waited for.
pub struct Found {
    /// Of those that have not come.
    pub alarms: Vec<Alarm>,
    /// Causes of those that have.
    pub came: BTreeSet<String>,
}

pub fn look(keeper: &Keeper, progress: &mut Progress, now: Time) -> Result<Found, Refusal> {
    let mut found = Found { alarms: Vec::new(), came: BTreeSet::new() };
    let (policy, mut seen) = (keeper.policy(), BTreeMap::new());
    for user in policy.users().filter(|user| !user.login.disabled) {
        for due in &user.due {
            let Some(at) = due.by.last(now) else { continue };
            let expected = (user.name.clone(), due.to_string(), at);
            let before = progress.0.get(&expected).copied();
            let counted = count(&keeper.ledger, user, due, at, before)?;
            let cause = format!("{}/{}{}", user.name, at.rfc3339(), due.folder);
            // Two rules for one folder and time differ in their names.
            let cause = match due.names.texts().join(",") {
                names if names.is_empty() => cause,
                names => format!("{cause}/{names}"),
            };
            let say = format!("{} was due to send {due}: {} came", user.name, counted.files);
            let hint = "ask the sender; `sealdrop receipts --user USER` lists what came";
            let alarm = Alarm::new(AlarmKind::Missing, cause, at, say, hint);
            if counted.files >= due.files {
                found.came.insert(alarm.cause);
            } else {
                let user = Some(user.name.clone());
                found.alarms.push(Alarm { user, path: Some(due.folder.clone()), ..alarm });
            }
            seen.insert(expected, counted);
        }
    }
    progress.0 = seen;
    Ok(found)
}

/// Goes on counting, no further than is needed.
fn count(ledger: &Ledger, user: &User, due: &Due, at: Time, before: Option<Counted>) -> Result<Counted, Refusal> {
    let mut counted = match before {
        Some(before) => before,
        None => {
            let begins = Time(at.0.saturating_sub(u64::try_from(due.within.as_millis()).unwrap_or(u64::MAX)));
            Counted { files: 0, after: first_at(ledger, begins)?.checked_sub(1) }
        }
    };
    while counted.files < due.files {
        let receipts = ledger.receipts(counted.after, PAGE)?;
        let Some(last) = receipts.last() else { break };
        counted.after = Some(last.event);
        let of_it = receipts.iter().filter(|r| r.user == user.name && due.counts(at, &r.path, r.at));
        counted.files += of_it.count() as u64;
    }
    Ok(counted)
}

/// The number of the first event that is not before `begin`, by halves. Where the clock was set, it may be a little off: then
/// some more are read, since each receipt is held against its own time.
fn first_at(ledger: &Ledger, begin: Time) -> Result<u64, Refusal> {
    let (mut low, mut high) = (ledger.beginning().size(), ledger.head().size);
    while low < high {
        let middle = low + (high - low) / 2;
        let event = ledger.events(middle, 1)?.into_iter().next();
        let at = event.and_then(|(_, json)| {
            let event: Value = serde_json::from_str(&json).ok()?;
            Time::parse_rfc3339(event.get("at")?.as_str()?)
        });
        match at {
            Some(at) if at < begin => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}
