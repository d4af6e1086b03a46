//! What a run says of itself first: version, settings, policy and keys, whether they are others than the last run's, and
//! whether the clock is behind the log.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::desk::Refusal;
use super::state::State;
use super::{Keeper, clockwatch};
use crate::clock::{self, Time};
use crate::ledger::{Event, Kind};
use crate::names::{Digest, hex};

/// How far back the last run's policy is looked for. Nearly every event has one.
const LOOK_BACK: u64 = 1_000;

/// What stands before the settings' digest, in the first event of a run and in the last.
const SETTINGS: &str = "settings ";

/// The digest of the settings file, as the log has it.
pub fn settings_digest(config: &Path) -> String {
    fs::read(config).map_or_else(|_| "-".to_owned(), |text| hex(&Sha256::digest(text)))
}

/// The last event of a run. It says again what the settings were: the first may be far behind when the next run looks.
pub fn stopped(keeper: &Keeper) -> Event {
    let mut event = Event::new(clock::now(), Kind::DaemonStopped);
    event.detail = Some(format!("{SETTINGS}{}", keeper.settings_digest));
    event
}

/// In the state directory between a `restore` and the start after it: who restored what, and why, for a log that was not
/// there to be told.
pub const RESTORED: &str = "restored";

/// Durably recorded by now. A crash before this is durable: it is recorded once more.
pub fn forget_restored(state: &State) -> io::Result<()> {
    match fs::remove_file(state.dir().join(RESTORED)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn restored(state: &State) -> io::Result<Option<String>> {
    match fs::read_to_string(state.dir().join(RESTORED)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// The first events of a run.
pub fn events(keeper: &Keeper) -> Result<Vec<Event>, Refusal> {
    let digest = keeper.policy().digest;
    let last = Last::of(keeper)?;
    let settings = &keeper.settings_digest;
    let mut started = Event::new(keeper.since, Kind::DaemonStarted);
    let other = last.settings.filter(|before| before != settings);
    let other = other.map_or_else(String::new, |before| format!("; before they were {before}"));
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    started.detail = Some(format!("version {version}, pid {pid}, {SETTINGS}{settings}{other}"));
    started.policy = Some(digest);
    let mut keys = Event::new(keeper.since, Kind::KeysLoaded);
    keys.detail = Some(keeper.keys.fingerprints().join(", "));
    let mut events = vec![started, keys];
    events.extend(restored(&keeper.state)?.map(|told| {
        let mut event = Event::new(keeper.since, Kind::AdminCommand);
        event.detail = Some(told);
        event
    }));
    if let Some(before) = last.policy.filter(|before| *before != digest) {
        let mut loaded = Event::new(keeper.since, Kind::PolicyLoaded);
        loaded.policy = Some(digest);
        loaded.detail = Some(format!("at start; before it was {before}"));
        events.push(loaded);
    }
    events.extend(last.at.and_then(|at| clockwatch::at_start(at, keeper.since)));
    Ok(events)
}

/// The digest in such an event's words.
fn settings_in(detail: &str) -> Option<String> {
    let digest = detail.split_once(SETTINGS)?.1.split([';', ' ']).next()?;
    (digest.len() == 64).then(|| digest.to_owned())
}

/// What the log ends with.
#[derive(Default)]
struct Last {
    at: Option<Time>,
    policy: Option<Digest>,
    settings: Option<String>,
}

impl Last {
    fn of(keeper: &Keeper) -> Result<Self, Refusal> {
        let from = keeper.ledger.head().size.saturating_sub(LOOK_BACK);
        let limit = usize::try_from(LOOK_BACK).unwrap_or(usize::MAX);
        let mut last = Self::default();
        for (_, json) in keeper.ledger.events(from, limit)?.into_iter().rev() {
            let event: Value = serde_json::from_str(&json).unwrap_or_default();
            let word = |key: &str| event.get(key).and_then(Value::as_str);
            last.at = last.at.or_else(|| word("at").and_then(Time::parse_rfc3339));
            last.policy = last.policy.or_else(|| word("policy").and_then(|digest| digest.parse().ok()));
            if last.settings.is_none() && word("kind").is_some_and(|kind| kind.starts_with("daemon-st")) {
                last.settings = word("detail").and_then(settings_in);
            }
            if last.policy.is_some() && last.settings.is_some() {
                break;
            }
        }
        Ok(last)
    }
}
