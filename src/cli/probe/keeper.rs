//! The probe's keeper: plants a tree of two users, has a yard built around the real gate, steers it, admits the
//! sessions that make the attempts, and hears what became of them.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::Duration;

use super::{Outcome, Place, SIBLING, Task, visit};
use crate::gate;
use crate::ipc::channel::{Socket, pair};
use crate::ipc::gate::{Death, GateLimits, ToGate, ToKeeper};
use crate::sys::attempt::Surroundings;
use crate::sys::files;
use crate::sys::process;
use crate::sys::yard::{self, Yard, YardConfig, YardError};

/// The ids of alice and bob, where each user has one of its own.
pub type Users = Option<(u32, u32)>;

/// Far longer than any attempt takes; a probe that hangs is a finding, too.
const DEADLINE: Duration = Duration::from_secs(20);

/// The probe's gate needs no account of its own.
const NOBODY: u32 = 65534;

/// Enough for the sibling and one attempt at a time.
pub const LIMITS: GateLimits = GateLimits { connections: 8, per_address: 8 };

/// The keeper's part: steers the gate, admits sessions, hears what they found.
pub struct Keeper {
    pub gate: Socket,
    pub yard: Yard,
    pub address: SocketAddr,
    tree: OwnedFd,
    ids: Users,
    /// A session that only lives, for the others to try themselves on; with its connection.
    pub sibling: Option<(i32, Socket, TcpStream)>,
}

/// Why there is no keeper to probe with.
pub enum Opening {
    Yard(YardError),
    Io(io::Error),
}

impl From<io::Error> for Opening {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Keeper {
    pub fn open(ids: Users, root: &Path) -> Result<Self, Opening> {
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
        // After the yard, so that a machine that gives none hears of that first.
        if !root.join("alice").exists() {
            plant(root, ids)?;
        }
        let tree = files::open_dir(&root.join("alice"))?;
        let mut keeper = Self { gate: ours, yard, address, tree, ids, sibling: None };
        match keeper.hear()? {
            ToKeeper::Ready => {}
            other => return Err(io::Error::other(format!("the gate said {other:?} first")).into()),
        }
        keeper.gate.send(&ToGate::Open { limits: LIMITS }, &[])?;
        let (pid, session, client) = keeper.connect()?;
        keeper.ask(&session, pid, Place::Jail, SIBLING)?;
        keeper.sibling = Some((pid, session, client));
        Ok(keeper)
    }

    pub fn hear(&self) -> io::Result<ToKeeper> {
        self.hear_with().map(|(message, _)| message)
    }

    fn hear_with(&self) -> io::Result<(ToKeeper, Vec<OwnedFd>)> {
        self.gate.recv().map_err(io::Error::other)?.ok_or_else(|| io::Error::other("the gate has ended"))
    }

    /// A new session: its pid in the yard, the conversation with it, and the client's side of its connection.
    pub fn connect(&self) -> io::Result<(i32, Socket, TcpStream)> {
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
            Place::Gate | Place::Porch => session.send(&task, &[]),
            Place::Jail => session.send(&task, &[self.tree.as_fd()]),
        }
    }

    pub fn try_one(&mut self, place: Place, attempt: &str) -> io::Result<Outcome> {
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
