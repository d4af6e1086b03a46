//! The state directory: its layout, its version, its lock, and each user's tree in it. Opening it refuses a directory
//! of another owner, one that others can enter, a newer layout and a second daemon, each with what to do about it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::delivery::COMMIT;
use crate::names::UserName;
use crate::policy::User;
use crate::sys::durable;
use crate::sys::files::{self, Lock, OFlag};

/// Written into `version`; an older daemon refuses a newer one.
const LAYOUT: u32 = 1;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("the state directory {path} does not exist")]
    Missing { path: PathBuf },
    #[error("the state directory has lost {path}")]
    Lost { path: PathBuf },
    #[error("the state directory {path} belongs to uid {owner}, and this daemon runs as uid {me}")]
    Owner { path: PathBuf, owner: u32, me: u32 },
    #[error("the state directory {path} can be entered by others (mode {mode:04o})")]
    Mode { path: PathBuf, mode: u32 },
    #[error("the state directory {path} has layout {found}, and this daemon knows up to {LAYOUT}")]
    Newer { path: PathBuf, found: String },
    #[error("another daemon is using the state directory {path}")]
    Locked { path: PathBuf },
    #[error("no id is left in the range {start}..{end} for user {user}")]
    NoId { user: UserName, start: u32, end: u32 },
}

impl StateError {
    /// What an operator might try.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "make it with `sealdrop init`",
            Self::Lost { .. } => "restore it from a backup that keeps hard links, or begin anew with `sealdrop init`",
            Self::Owner { .. } => {
                "run as the owner, or choose another `state` in sealdrop.toml; do not chown a live store"
            }
            Self::Mode { .. } => "chmod 700 it: what is in it is sealed, but names are not",
            Self::Newer { .. } => "run the newer sealdrop that wrote it",
            Self::Locked { .. } => "`sealdrop status` talks to the one that runs; stop it before starting another",
            Self::NoId { .. } => "widen `ids` in sealdrop.toml",
            Self::File { .. } => "see the system error above; is the disk full, or mounted read-only?",
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::File { path, source }
}

/// Makes what is not there yet of `dir`; says what it made.
pub fn create(dir: &Path) -> Result<Vec<PathBuf>, StateError> {
    let mut made = Vec::new();
    for path in [dir.to_owned(), dir.join("jails"), dir.join("ledger")] {
        if !path.is_dir() {
            path.parent().map_or(Ok(()), fs::create_dir_all).map_err(at(&path))?;
            // Closed from the first moment: a mode that is set later may be lost where the name is not.
            fs::DirBuilder::new().mode(0o700).create(&path).map_err(at(&path))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(at(&path))?;
            made.push(path);
        }
    }
    let version = dir.join("version");
    if !version.exists() {
        // Whole or not there: a version that cannot be read is taken for a newer one.
        let passing = dir.join("version.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&passing)
            .map_err(at(&passing))?;
        let written = file.write_all(format!("sealdrop state {LAYOUT}\n").as_bytes()).and_then(|()| file.sync_all());
        written.and_then(|()| fs::rename(&passing, &version)).map_err(at(&version))?;
        made.push(version);
    }
    // Also of what was there: an init that was cut short may not have come to this.
    for path in [Some(dir), dir.parent().filter(|parent| !parent.as_os_str().is_empty())].into_iter().flatten() {
        durable::sync_dir(path).map_err(at(path))?;
    }
    Ok(made)
}

/// The state directory in use: locked for as long as this lives.
pub struct State {
    dir: PathBuf,
    jails: OwnedFd,
    _lock: Lock,
    as_root: bool,
    after_crash: bool,
}

impl State {
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let meta = match fs::metadata(dir) {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StateError::Missing { path: dir.to_owned() }),
            Err(e) => return Err(at(dir)(e)),
        };
        let me = nix::unistd::geteuid().as_raw();
        if meta.uid() != me {
            return Err(StateError::Owner { path: dir.to_owned(), owner: meta.uid(), me });
        }
        let mode = meta.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(StateError::Mode { path: dir.to_owned(), mode });
        }
        let version = dir.join("version");
        let text = match fs::read_to_string(&version) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StateError::Missing { path: version }),
            Err(e) => return Err(at(&version)(e)),
        };
        let found = text.trim().strip_prefix("sealdrop state ").unwrap_or("of an unknown kind");
        if found.parse::<u32>().is_ok_and(|v| v <= LAYOUT) {
            let path = dir.join("lock");
            let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
            let lock = file.and_then(Lock::take).map_err(at(&path))?;
            let lock = lock.ok_or_else(|| StateError::Locked { path: dir.to_owned() })?;
            let path = dir.join("jails");
            let jails = match File::open(&path) {
                Ok(jails) => jails,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StateError::Lost { path }),
                Err(e) => return Err(at(&path)(e)),
            };
            let after_crash = dir.join(RUNNING).exists();
            Ok(Self { dir: dir.to_owned(), jails: jails.into(), _lock: lock, as_root: me == 0, after_crash })
        } else {
            Err(StateError::Newer { path: dir.to_owned(), found: found.to_owned() })
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the last run did not end in order.
    pub fn after_crash(&self) -> bool {
        self.after_crash
    }

    /// From here on a daemon runs, and the next start knows it unless [`Self::mark_stopped`] comes before.
    pub fn mark_running(&self) -> Result<(), StateError> {
        let path = self.dir.join(RUNNING);
        fs::write(&path, b"").and_then(|()| durable::sync_dir(&self.dir)).map_err(at(&path))
    }

    /// A power cut after this may leave the mark: then the next start looks for what is not there.
    pub fn mark_stopped(&self) -> io::Result<()> {
        fs::remove_file(self.dir.join(RUNNING))
    }

    pub fn ledger_dir(&self) -> PathBuf {
        self.dir.join("ledger")
    }

    /// Whether users have ids of their own.
    pub fn as_root(&self) -> bool {
        self.as_root
    }

    pub fn jails(&self) -> BorrowedFd<'_> {
        self.jails.as_fd()
    }

    /// Makes the trees of all `users` agree with the policy: each jail, its folders, its staging directory.
    /// Folders that policy no longer names stay as they are; nobody is permitted anything in them.
    pub fn lay_out<'a>(
        &self,
        users: impl Iterator<Item = &'a User>,
        ids: std::ops::Range<u32>,
    ) -> Result<(), StateError> {
        let mut changed = BTreeSet::new();
        for user in users {
            let jail = self.dir.join("jails").join(user.name.as_str());
            let id = match fs::metadata(&jail) {
                Ok(meta) => meta.gid(),
                Err(_) => self.free_id(&user.name, &ids)?,
            };
            let mode = self.folder_mode().bits();
            let mut folders = vec![jail.clone()];
            for folder in &user.folders {
                let mut path = jail.clone();
                for name in folder.path.components() {
                    path.push(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name));
                    folders.push(path.clone());
                }
            }
            if user.inbox.is_some() {
                folders.push(jail.join("inbox"));
            }
            for path in &folders {
                self.folder(path, (0, id), mode, &mut changed)?;
            }
            self.folder(&jail.join(COMMIT), (0, id), 0o700, &mut changed)?;
            self.folder(&jail.join(STAGING), (id, id), 0o700, &mut changed)?;
        }
        // Before anything is acknowledged that lies in them.
        changed.iter().try_for_each(|path| durable::sync_dir(path).map_err(at(path)))
    }

    /// Whose trees there are: those of users that policy no longer names, too.
    pub fn owners(&self) -> io::Result<Vec<UserName>> {
        let mut owners: Vec<UserName> = Vec::new();
        for entry in files::list(self.jails())? {
            owners.extend(std::str::from_utf8(&entry?.name).ok().and_then(|name| name.parse().ok()));
        }
        owners.sort_unstable();
        Ok(owners)
    }

    /// The id that `user`'s sessions run as, inside the yard: the group of the user's tree. Without root there is one.
    pub fn id_of(&self, user: &UserName) -> io::Result<u32> {
        if !self.as_root {
            return Ok(0);
        }
        fs::metadata(self.dir.join("jails").join(user.as_str())).map(|meta| meta.gid())
    }

    /// A descriptor of `user`'s tree that resolves names below it and can do nothing else (O_PATH).
    pub fn tree(&self, user: &UserName) -> io::Result<OwnedFd> {
        files::open_beneath(
            self.jails(),
            Path::new(user.as_str()),
            OFlag::O_PATH | OFlag::O_DIRECTORY,
            files::Mode::empty(),
        )
    }

    /// Makes one folder in `user`'s tree; its parent must be there.
    pub fn make_folder(&self, user: &UserName, tree: BorrowedFd<'_>, rel: &Path) -> io::Result<()> {
        let (parent, name) = files::open_parent_beneath(tree, rel)?;
        files::make_dir(parent.as_fd(), name, self.folder_mode(), self.folder_owner(user)?).map(drop)
    }

    /// Makes whatever is missing of a path of folders in `user`'s tree.
    pub fn make_folders(&self, user: &UserName, tree: BorrowedFd<'_>, rel: &Path) -> io::Result<()> {
        files::make_dirs_beneath(tree, rel, self.folder_mode(), self.folder_owner(user)?).map(drop)
    }

    /// With ids of their own, a user's group may list and enter; the keeper alone may change.
    fn folder_mode(&self) -> files::Mode {
        files::Mode::from_bits_truncate(if self.as_root { 0o750 } else { 0o700 })
    }

    fn folder_owner(&self, user: &UserName) -> io::Result<Option<(u32, u32)>> {
        if self.as_root { self.id_of(user).map(|id| Some((0, id))) } else { Ok(None) }
    }

    /// Makes a folder what it should be, and notes what is to be synced for that: itself and where its name is. After a
    /// crash that is every folder, for it may be there and not be durable.
    fn folder(
        &self,
        path: &Path,
        owner: (u32, u32),
        mode: u32,
        changed: &mut BTreeSet<PathBuf>,
    ) -> Result<(), StateError> {
        let made = !path.is_dir();
        if made {
            fs::create_dir(path).map_err(at(path))?;
        }
        let meta = fs::metadata(path).map_err(at(path))?;
        let owned = !self.as_root || (meta.uid(), meta.gid()) == owner;
        if !owned {
            std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1)).map_err(at(path))?;
        }
        let moded = meta.permissions().mode() & 0o7777 == mode;
        if !moded {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at(path))?;
        }
        if made || !owned || !moded || self.after_crash {
            changed.insert(path.to_owned());
            changed.extend(path.parent().map(Path::to_owned));
        }
        Ok(())
    }

    /// One above the highest id in use. Ids of removed trees come back only at the top of the range, so a new user
    /// never inherits what an old one's id still owns somewhere.
    fn free_id(&self, user: &UserName, ids: &std::ops::Range<u32>) -> Result<u32, StateError> {
        if !self.as_root {
            return Ok(0);
        }
        let jails = self.dir.join("jails");
        let mut next = ids.start;
        for entry in fs::read_dir(&jails).map_err(at(&jails))? {
            let meta = entry.and_then(|e| e.metadata()).map_err(at(&jails))?;
            next = next.max(meta.gid().saturating_add(1));
        }
        if ids.contains(&next) {
            Ok(next)
        } else {
            Err(StateError::NoId { user: user.clone(), start: ids.start, end: ids.end })
        }
    }
}

/// Is there while a daemon runs, and after one that did not end in order.
const RUNNING: &str = "running";

/// Where uploads in progress live in a user's tree.
pub const STAGING: &str = ".staging";
