//! The notes on disk: one small sealed file in `.commit` for each upload that waits, made, replaced and removed durably. Before
//! the note stands the number of its bucket (docs/sealed-file.md §12.1, §13).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::Waits;
use crate::clock::{self, Time};
use crate::keeper::Keeper;
use crate::keeper::delivery::{COMMIT, remove_if_there};
use crate::keeper::desk::{Client, Refusal, Refusals};
use crate::keeper::uploads::journal_key;
use crate::names::{Digest, DropId, SessionId, UserName};
use crate::policy::Operation;
use crate::seal::{self, SealError};
use crate::sys::files::{self, Mode, OFlag};
use crate::vpath::VirtualPath;

/// How the name of a note in `.commit` ends.
const NOTE: &str = ".wait";

/// The longest path and some hundred bytes more.
const NOTE_MAX: u64 = 1 << 16;

const NOTE_MODE: Mode = Mode::from_bits_truncate(0o600);

fn name(drop: DropId) -> OsString {
    OsString::from(format!("{drop}{NOTE}"))
}

fn folder(keeper: &Keeper, user: &UserName) -> io::Result<OwnedFd> {
    files::open_dir_beneath(keeper.state.tree(user)?.as_fd(), Path::new(COMMIT))
}

/// Whether a name in `.commit` is a note's: a start leaves it there.
pub fn is_note(name: &OsStr) -> bool {
    name.as_bytes().ends_with(NOTE.as_bytes())
}

pub fn has_note(keeper: &Keeper, user: &UserName, drop: DropId) -> bool {
    folder(keeper, user).is_ok_and(|dir| files::facts_at(dir.as_fd(), &name(drop)).is_ok())
}

/// A crash leaves the older note, or none, or this one.
pub fn write(keeper: &Keeper, user: &UserName, drop: DropId, note: &seal::Waiting) -> Result<(), Refusal> {
    let path = VirtualPath::parse(&note.path).map_err(Refusal::machine)?;
    let policy = keeper.policy();
    // As long as it may wait, and may be tried after that.
    let until = clock::now().plus(super::period(&policy, user, &path)).plus(super::window(&policy, user, &path));
    let (bucket, key) = journal_key(keeper, user, drop, until)?;
    let sealed = [&bucket.to_be_bytes()[..], &note.seal(drop, &key)?].concat();
    keeper.waiting.state().buckets.insert((user.clone(), drop), bucket);
    let dir = folder(keeper, user)?;
    let (fresh, name) = (OsString::from(format!("{drop}.new")), name(drop));
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW;
    let mut file = File::from(files::open_beneath(dir.as_fd(), Path::new(&fresh), flags, NOTE_MODE)?);
    file.write_all(&sealed)?;
    files::sync_data(file.as_fd())?;
    files::rename(dir.as_fd(), &fresh, dir.as_fd(), &name, true)?;
    Ok(files::sync(dir.as_fd())?)
}

/// `None`: there is none.
pub fn read(keeper: &Keeper, user: &UserName, drop: DropId) -> Result<Option<seal::Waiting>, Refusal> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW;
    let file = match files::open_beneath(folder(keeper, user)?.as_fd(), Path::new(&name(drop)), flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let len = usize::try_from(file.metadata()?.len().min(NOTE_MAX)).unwrap_or(0);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    let (bucket, sealed) = bytes.split_first_chunk().ok_or(SealError::NotSealed)?;
    let bucket = u64::from_be_bytes(*bucket);
    keeper.waiting.state().buckets.insert((user.clone(), drop), bucket);
    let key = keeper.keys.journal_key(user, drop, bucket)?;
    let key = key.ok_or_else(|| Refusal::machine("the key of its note is destroyed"))?;
    Ok(Some(seal::Waiting::open(drop, &key, sealed)?))
}

pub fn remove(keeper: &Keeper, user: &UserName, drop: DropId) -> Result<(), Refusal> {
    let dir = folder(keeper, user)?;
    remove_if_there(dir.as_fd(), &name(drop))?;
    files::sync(dir.as_fd())?;
    keeper.waiting.state().buckets.remove(&(user.clone(), drop));
    Ok(())
}

/// What `note` says, for those who ask; and whose upload it is.
pub fn parts(user: &UserName, drop: DropId, note: &seal::Waiting) -> Result<(Waits, Client), Refusal> {
    let path = VirtualPath::parse(&note.path).map_err(Refusal::machine)?;
    let waits = Waits {
        user: user.clone(),
        drop,
        path,
        size: note.size,
        sha256: Digest(note.sha256),
        mtime: note.mtime,
        closed_at: Time(note.closed_at),
    };
    let client = Client {
        holding: None,
        user: user.clone(),
        session: SessionId(note.session),
        key: Some(note.login_key.clone()).filter(|key| !key.is_empty()),
        address: note.address.parse().map_err(Refusal::machine)?,
        since: clock::now(),
        refusals: Refusals::default(),
        openings: Default::default(),
        activity: Default::default(),
    };
    Ok((waits, client))
}

/// At start: registers every note. What the ledger knows by now was delivered just before a crash.
pub fn load(keeper: &Arc<Keeper>) -> Result<(), Refusal> {
    for user in keeper.state.owners()? {
        let dir = match folder(keeper, &user) {
            Ok(dir) => dir,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e.into()),
        };
        for entry in files::list(dir.as_fd())? {
            let name = OsString::from_vec(entry?.name);
            let stem = name.as_bytes().strip_suffix(NOTE.as_bytes());
            let drop = stem.and_then(|stem| std::str::from_utf8(stem).ok()?.parse::<DropId>().ok());
            let Some(drop) = drop else { continue };
            // One bad note keeps neither the others nor the daemon from going on.
            if let Err(refusal) = load_one(keeper, &user, drop) {
                tracing::error!(%user, %drop, why = refusal.why, "an upload that waits cannot be delivered: its note is not readable");
            }
        }
    }
    Ok(())
}

fn load_one(keeper: &Arc<Keeper>, user: &UserName, drop: DropId) -> Result<(), Refusal> {
    if keeper.ledger.drop_record(&drop)?.is_some() {
        return remove(keeper, user, drop);
    }
    let note = read(keeper, user, drop)?.ok_or(SealError::NotSealed)?;
    let (waits, client) = parts(user, drop, &note)?;
    let granted = keeper.permit(&client, &Operation::Deliver { path: &waits.path }).ok();
    let reserved = granted.and_then(|grant| keeper.quotas.reserve(&keeper.ledger, user, &grant, waits.size).ok());
    keeper.waiting.insert(waits, reserved, &keeper.policy());
    Ok(())
}
