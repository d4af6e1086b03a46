//! `sealdrop probe`: the confinement, tried from inside. It builds a real yard with the real gate around a tree of two
//! users, and for each attempt has a session made as for any connection: a stranger on the porch, or an admitted user
//! in its jail. Each session makes one attempt and ends. It says what was refused and how, and fails if anything
//! forbidden worked or anything needed did not. Hidden from the help: it is for tests, and for an operator who wants
//! to see what this kernel really enforces.

mod gate;
mod keeper;

use std::convert::Infallible;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::process::exit;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::gate::Newborn;
use crate::ipc::channel::{AsyncSocket, Socket};
use crate::sys::attempt::{self, Attempt, Surroundings};
use crate::sys::confine;
use keeper::{Keeper, Opening};

/// Try the confinement from inside and say what holds
#[derive(Debug, clap::Args)]
pub struct Probe {
    /// First id of the two users made for it (root only)
    #[arg(long, default_value_t = 200_001, value_name = "ID")]
    uid: u32,
}

/// The task of a session that only lives.
pub const SIBLING: &str = "wait here";

/// Where an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In a new process, before it gave up what the gate still may.
    Gate,
    Porch,
    Jail,
}

/// What the probe, as the keeper, has a session do. The tree comes beside it for a jail.
#[derive(Debug, Serialize, Deserialize)]
pub struct Task {
    place: Place,
    attempt: String,
    uid: u32,
    surroundings: Surroundings,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It worked.
    Worked,
    /// The kernel said no.
    Refused(String),
    /// The kernel ended the session.
    Killed(String),
    /// The session never got as far as the attempt.
    Unconfined(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worked => f.write_str("works"),
            Self::Refused(how) => write!(f, "refused, {how}"),
            Self::Killed(how) => write!(f, "killed, {how}"),
            Self::Unconfined(how) => write!(f, "not tried: {how}"),
        }
    }
}

fn in_words<S: serde::Serializer>(outcome: &Outcome, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(outcome)
}

/// One line of the result.
#[derive(Debug, Serialize)]
struct Row {
    place: Place,
    attempt: &'static str,
    /// Whether it must work, or must not.
    needed: bool,
    #[serde(serialize_with = "in_words")]
    outcome: Outcome,
    ok: bool,
}

impl Probe {
    pub fn run(self, out: &mut dyn Write, json: bool, _terminal: bool) -> Result<(), Failure> {
        let tree = tempfile::Builder::new().prefix("sealdrop-probe").tempdir().map_err(|error| unready(&error))?;
        let ids = crate::sys::process::is_root().then(|| (self.uid, self.uid.saturating_add(1)));
        let open = || {
            Keeper::open(ids, tree.path()).map_err(|error| match error {
                Opening::Yard(error) => Failure::new(&error).hint(error.hint()),
                Opening::Io(error) => unready(&error),
            })
        };
        let mut rows = Vec::new();
        let mut keeper = open()?;
        for (place, needed, attempt) in attempts() {
            let outcome = keeper.try_one(place, attempt).map_err(|error| unready(&error))?;
            rows.push(Row::new(place, attempt, needed, outcome));
        }
        for (duty, check) in gate::DUTIES {
            rows.push(Row::new(Place::Gate, duty, true, gate::outcome(check(&mut keeper))));
        }
        let (duty, check) = gate::DRAINS;
        rows.push(Row::new(Place::Gate, duty, true, gate::outcome(check(keeper))));
        let (duty, check) = gate::ENDS;
        rows.push(Row::new(Place::Gate, duty, true, gate::outcome(check(open()?))));
        say(out, json, ids.is_some(), &rows).map_err(|error| Failure::new(format!("writing the result: {error}")))?;
        let bad = rows.iter().filter(|row| !row.ok).count();
        if bad == 0 {
            return Ok(());
        }
        Err(Failure::new(format!("{bad} of {} attempts did not end as they must", rows.len()))
            .hint("do not serve on this machine before the reason is found; docs/confinement.md has each wall's"))
    }
}

impl Row {
    fn new(place: Place, attempt: &'static str, needed: bool, outcome: Outcome) -> Self {
        let ok = match &outcome {
            Outcome::Worked => needed,
            Outcome::Refused(_) | Outcome::Killed(_) => !needed,
            Outcome::Unconfined(_) => false,
        };
        Self { place, attempt, needed, outcome, ok }
    }
}

type Table = &'static [(&'static str, Attempt)];

/// Every table of attempts, with its place and whether they must work.
const TABLES: [(Place, bool, Table); 6] = [
    (Place::Gate, false, attempt::NOWHERE),
    (Place::Porch, true, attempt::NEEDED_ON_PORCH),
    (Place::Porch, false, attempt::NOWHERE),
    (Place::Jail, true, attempt::NEEDED_IN_JAIL),
    (Place::Jail, false, attempt::NOWHERE),
    (Place::Jail, false, attempt::NOT_IN_JAIL),
];

/// What a gate is for, and therefore may: no attempts there.
const GATES_OWN: [&str; 4] = ["fork", "accept connections", "kill another session", "kill the gate"];

fn attempts() -> impl Iterator<Item = (Place, bool, &'static str)> {
    let all =
        TABLES.iter().flat_map(|&(place, needed, table)| table.iter().map(move |&(name, _)| (place, needed, name)));
    all.filter(|(place, _, name)| *place != Place::Gate || !GATES_OWN.contains(name))
}

/// A session's entry: one task, one outcome, the end.
pub fn visit(newborn: Newborn) -> Infallible {
    let code = match attempt_one(&newborn) {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "probe: {error}");
            1
        }
    };
    exit(code)
}

/// As a session goes: the event loop is built outside, and goes on in the jail.
fn attempt_one(newborn: &Newborn) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let inside = runtime.enter();
    let keeper = AsyncSocket::new(Socket::from(newborn.keeper.try_clone()?))?;
    drop(inside);
    let next = || runtime.block_on(keeper.recv::<Task>()).map_err(io::Error::other);
    let Some((task, descriptors)) = next()? else { return Ok(()) };
    if task.place != Place::Gate {
        confine::porch().map_err(io::Error::other)?;
    }
    let confined = match descriptors.into_iter().next() {
        Some(tree) => Some(confine::jail(tree, task.uid, task.uid, 32).map_err(io::Error::other)?),
        None => None,
    };
    if confined.is_some() != (task.place == Place::Jail) {
        return Err(io::Error::other("a jail needs a tree, other places have none"));
    }
    if task.attempt == SIBLING {
        // Until the keeper is gone.
        return next().map(drop);
    }
    let found = TABLES.iter().flat_map(|(_, _, table)| *table).find(|(name, _)| *name == task.attempt);
    let Some((_, attempt)) = found else { return Err(io::Error::other("no such attempt")) };
    let surroundings = Surroundings { connection: newborn.stream.as_raw_fd(), ..task.surroundings };
    let outcome = match attempt(&surroundings) {
        Ok(()) => Outcome::Worked,
        Err(error) => Outcome::Refused(match error.raw_os_error() {
            Some(number) => format!("{:?}", nix::errno::Errno::from_raw(number)),
            None => error.to_string(),
        }),
    };
    runtime.block_on(keeper.send(&outcome, &[]))
}

fn say(out: &mut dyn Write, json: bool, range: bool, rows: &[Row]) -> io::Result<()> {
    let kernel = confine::landlock().map_or(0, |landlock| landlock.abi);
    if json {
        let whole = serde_json::json!({ "landlock_abi": kernel, "ids": if range { "range" } else { "single" }, "attempts": rows });
        return writeln!(out, "{whole}");
    }
    let ids = if range { "one id per user" } else { "one id for all users (not root)" };
    writeln!(out, "{ids}; Landlock ABI {kernel}\n")?;
    let width = rows.iter().map(|row| row.attempt.len()).max().unwrap_or(0);
    for row in rows {
        let place = match row.place {
            Place::Gate => "gate",
            Place::Porch => "porch",
            Place::Jail => "jail",
        };
        let outcome = &row.outcome;
        let mark = if row.ok {
            ""
        } else if row.needed {
            "  <-- needed"
        } else {
            "  <-- FORBIDDEN"
        };
        writeln!(out, "{place:<6} {:<width$}  {outcome}{mark}", row.attempt)?;
    }
    writeln!(out, "\n{} attempts, {} not as they must be", rows.len(), rows.iter().filter(|row| !row.ok).count())
}

fn unready(error: &io::Error) -> Failure {
    Failure::new(format!("the probe could not be carried out: {error}"))
}
