//! `sealdrop probe`: the confinement, tried from inside. It builds a real yard with the real gate around a tree of two
//! users, and for each attempt has a session made as for any connection: a stranger on the porch, or an admitted user
//! in its jail. Each session makes one attempt and ends. It says what was refused and how, and fails if anything
//! forbidden worked or anything needed did not. Hidden from the help: it is for tests, and for an operator who wants
//! to see what this kernel really enforces.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::exit;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::gate::{self, Newborn};
use crate::ipc::channel::{Socket, pair};
use crate::ipc::gate::{Death, GateLimits, ToGate, ToKeeper};
use crate::sys::attempt::{self, Attempt, Surroundings};
use crate::sys::confine;
use crate::sys::files;
use crate::sys::process;
use crate::sys::yard::{self, Yard, YardConfig};

/// Try the confinement from inside and say what holds
#[derive(Debug, clap::Args)]
pub struct Probe {
    /// First id of the two users made for it (root only)
    #[arg(long, default_value_t = 200_001, value_name = "ID")]
    uid: u32,
}

/// Far longer than any attempt takes; a probe that hangs is a finding, too.
const DEADLINE: Duration = Duration::from_secs(20);

/// The probe's gate needs no account of its own.
const NOBODY: u32 = 65534;

/// The task of a session that only lives.
const SIBLING: &str = "wait here";

/// Where an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    Porch,
    Jail,
}

/// What the probe, as the keeper, has a session do. The tree comes beside it for a jail.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    place: Place,
    attempt: String,
    uid: u32,
    surroundings: Surroundings,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Outcome {
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
        let ids = process::is_root().then(|| (self.uid, self.uid.saturating_add(1)));
        plant(tree.path(), ids).map_err(|error| unready(&error))?;
        let mut keeper = Keeper::open(ids, tree.path()).map_err(|error| match error {
            Opening::Yard(error) => Failure::new(&error).hint(error.hint()),
            Opening::Io(error) => unready(&error),
        })?;
        let mut rows = Vec::new();
        for (place, needed, table) in tables() {
            for &(attempt, _) in table {
                let outcome = keeper.try_one(place, attempt).map_err(|error| unready(&error))?;
                let ok = match &outcome {
                    Outcome::Worked => needed,
                    Outcome::Refused(_) | Outcome::Killed(_) => !needed,
                    Outcome::Unconfined(_) => false,
                };
                rows.push(Row { place, attempt, needed, outcome, ok });
            }
        }
        say(out, json, ids.is_some(), &rows).map_err(|error| Failure::new(format!("writing the result: {error}")))?;
        let bad = rows.iter().filter(|row| !row.ok).count();
        if bad == 0 {
            return Ok(());
        }
        Err(Failure::new(format!("{bad} of {} attempts did not end as they must", rows.len()))
            .hint("do not serve on this machine before the reason is found; docs/confinement.md has each wall's"))
    }
}

type Table = &'static [(&'static str, Attempt)];

/// Every attempt, with its place and whether it must work.
fn tables() -> [(Place, bool, Table); 5] {
    [
        (Place::Porch, true, attempt::NEEDED_ON_PORCH),
        (Place::Porch, false, attempt::NOWHERE),
        (Place::Jail, true, attempt::NEEDED_IN_JAIL),
        (Place::Jail, false, attempt::NOWHERE),
        (Place::Jail, false, attempt::NOT_IN_JAIL),
    ]
}

/// Two users' trees as the keeper makes them: alice, whom sessions become, and bob, whose secret stands beside.
fn plant(root: &Path, ids: Users) -> io::Result<()> {
    let own = |path: &Path, user: Option<u32>, group: u32, mode: u32| -> io::Result<()> {
        if ids.is_some() {
            chown(path, user, Some(group))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    let (alice, bob) = ids.unwrap_or((0, 0));
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    for (name, id) in [("alice", alice), ("bob", bob)] {
        let home = root.join(name);
        for folder in [home.clone(), home.join("drop"), home.join(".staging")] {
            fs::create_dir(folder)?;
        }
        for file in ["drop/sealed", "drop/secret", ".staging/old"] {
            fs::write(home.join(file), "sealed\n")?;
        }
        fs::remove_file(home.join(if name == "alice" { "drop/secret" } else { "drop/sealed" }))?;
        symlink("/etc/passwd", home.join("leak"))?;
        symlink("../bob/drop/secret", home.join("across"))?;
        let delivered = if name == "alice" { "drop/sealed" } else { "drop/secret" };
        own(&home.join(delivered), None, id, 0o440)?;
        own(&home.join("drop"), None, id, 0o750)?;
        own(&home.join(".staging/old"), Some(id), id, 0o600)?;
        own(&home.join(".staging"), Some(id), id, 0o700)?;
        own(&home, None, id, 0o750)?;
    }
    Ok(())
}

/// The ids of alice and bob, where each user has one of its own.
type Users = Option<(u32, u32)>;

/// The keeper's part: steers the gate, admits sessions, hears what they found.
struct Keeper {
    gate: Socket,
    yard: Yard,
    address: std::net::SocketAddr,
    tree: OwnedFd,
    ids: Users,
    /// A session that only lives, for the others to try themselves on; with its connection.
    sibling: Option<(i32, Socket, TcpStream)>,
}

enum Opening {
    Yard(yard::YardError),
    Io(io::Error),
}

impl From<io::Error> for Opening {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Keeper {
    fn open(ids: Users, root: &Path) -> Result<Self, Opening> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let (ours, theirs) = pair()?;
        ours.set_deadline(Some(DEADLINE))?;
        let config = match ids {
            Some((first, last)) => YardConfig::as_root(NOBODY, NOBODY, first..last.saturating_add(1)),
            None => YardConfig::one_id(),
        };
        process::harden()?;
        let yard = yard::spawn(config, move || gate::run(vec![listener], theirs, visit)).map_err(Opening::Yard)?;
        let tree = files::open_dir(&root.join("alice"))?;
        let mut keeper = Self { gate: ours, yard, address, tree, ids, sibling: None };
        match keeper.hear()? {
            ToKeeper::Ready => {}
            other => return Err(io::Error::other(format!("the gate said {other:?} first")).into()),
        }
        keeper.gate.send(&ToGate::Open { limits: GateLimits { connections: 8, per_address: 8 } }, &[])?;
        let (pid, session, client) = keeper.connect()?;
        keeper.ask(&session, pid, Place::Jail, SIBLING)?;
        keeper.sibling = Some((pid, session, client));
        Ok(keeper)
    }

    fn hear(&self) -> io::Result<ToKeeper> {
        self.hear_with().map(|(message, _)| message)
    }

    fn hear_with(&self) -> io::Result<(ToKeeper, Vec<OwnedFd>)> {
        self.gate.recv().map_err(io::Error::other)?.ok_or_else(|| io::Error::other("the gate has ended"))
    }

    /// A new session: its pid in the yard, the conversation with it, and the client's side of its connection.
    fn connect(&self) -> io::Result<(i32, Socket, TcpStream)> {
        let client = TcpStream::connect(self.address)?;
        client.set_read_timeout(Some(DEADLINE))?;
        match self.hear_with()? {
            (ToKeeper::Born { pid, .. }, mut descriptors) => {
                let socket =
                    Socket::from(descriptors.pop().ok_or_else(|| io::Error::other("a birth without a socket"))?);
                socket.set_deadline(Some(DEADLINE))?;
                Ok((pid, socket, client))
            }
            (other, _) => Err(io::Error::other(format!("the gate said {other:?}"))),
        }
    }

    fn ask(&self, session: &Socket, pid: i32, place: Place, attempt: &str) -> io::Result<()> {
        let (uid, other_uid) = self.ids.unwrap_or((0, 0));
        let sibling = self.sibling.as_ref().map_or(pid, |(pid, ..)| *pid);
        let surroundings = Surroundings { sibling, other_uid, port: self.address.port(), connection: -1 };
        let task = Task { place, attempt: attempt.to_owned(), uid, surroundings };
        match place {
            Place::Porch => session.send(&task, &[]),
            Place::Jail => session.send(&task, &[self.tree.as_fd()]),
        }
    }

    fn try_one(&mut self, place: Place, attempt: &str) -> io::Result<Outcome> {
        let (pid, session, client) = self.connect()?;
        self.ask(&session, pid, place, attempt)?;
        let said = session.recv::<Outcome>().map_err(io::Error::other)?;
        drop(client);
        drop(session);
        // It ends by itself; what ended it matters only if it said nothing.
        match self.hear()? {
            ToKeeper::Died { pid: died, how } if died == pid => Ok(match (said, how) {
                (Some((outcome, _)), _) => outcome,
                (None, Death::Signal(libc::SIGSYS)) => Outcome::Killed("SIGSYS".into()),
                (None, Death::Signal(signal)) => Outcome::Unconfined(format!("ended by signal {signal}")),
                (None, Death::Exit(code)) => Outcome::Unconfined(format!("ended with {code}, see the log")),
            }),
            ToKeeper::Died { .. } => Ok(Outcome::Unconfined("another session died of it".into())),
            other => Err(io::Error::other(format!("the gate said {other:?}"))),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = process::kill(self.yard.pid);
    }
}

/// A session's entry: one task, one outcome, the end.
fn visit(newborn: Newborn) -> Infallible {
    let code = match attempt_one(&newborn) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("probe: {error}");
            1
        }
    };
    exit(code)
}

fn attempt_one(newborn: &Newborn) -> io::Result<()> {
    let keeper = Socket::from(newborn.keeper.try_clone()?);
    confine::porch().map_err(io::Error::other)?;
    let Some((task, descriptors)) = keeper.recv::<Task>().map_err(io::Error::other)? else { return Ok(()) };
    let confined = match descriptors.into_iter().next() {
        Some(tree) => Some(confine::jail(tree, task.uid, task.uid, 32).map_err(io::Error::other)?),
        None => None,
    };
    if confined.is_some() != (task.place == Place::Jail) {
        return Err(io::Error::other("a jail needs a tree, a porch has none"));
    }
    if task.attempt == SIBLING {
        // Until the keeper is gone.
        let _ = keeper.recv::<Task>();
        return Ok(());
    }
    let found = tables().into_iter().flat_map(|(_, _, table)| table).find(|(name, _)| *name == task.attempt);
    let Some((_, attempt)) = found else { return Err(io::Error::other("no such attempt")) };
    let surroundings = Surroundings { connection: newborn.stream.as_raw_fd(), ..task.surroundings };
    let outcome = match attempt(&surroundings) {
        Ok(()) => Outcome::Worked,
        Err(error) => Outcome::Refused(match error.raw_os_error() {
            Some(number) => format!("{:?}", nix::errno::Errno::from_raw(number)),
            None => error.to_string(),
        }),
    };
    keeper.send(&outcome, &[])
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
