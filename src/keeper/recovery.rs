//! What a start finds of the run before, and mends before anybody is let in: commits that a crash cut in two are finished or taken
//! back, and uploads whose resume window is over are discarded. The ledger decides; the link count says where to look.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::delivery::{COMMIT, is_numbered, remove_if_there};
use super::desk::Refusal;
use super::state::STAGING;
use super::{Keeper, expiry};
use crate::clock::Time;
use crate::ledger::{Batch, Event, Kind};
use crate::names::DropId;
use crate::policy::User;
use crate::sys::files::{self, Facts, Kind as FileKind, Mode, OFlag};

/// What was mended, for the log and the ledger.
#[derive(Default)]
pub struct Mended {
    /// Commits that the ledger knew: their leftovers in staging were removed.
    pub finished: u32,
    /// Commits that it did not: their names were taken back; the uploads can be resumed.
    pub taken_back: u32,
    /// Uploads nobody resumed in time.
    pub discarded: u32,
}

/// Mends every user's tree. Runs before the gate opens: no session exists.
pub fn mend(keeper: &Keeper, now: Time) -> Result<Mended, Refusal> {
    let mut mended = Mended::default();
    for user in keeper.policy().users() {
        mend_tree(keeper, user, now, &mut mended).map_err(|mut refusal| {
            refusal.why = format!("in the tree of {}: {}", user.name, refusal.why);
            refusal
        })?;
    }
    Ok(mended)
}

fn mend_tree(keeper: &Keeper, user: &User, now: Time, mended: &mut Mended) -> Result<(), Refusal> {
    let tree = keeper.state.tree(&user.name)?;
    mend_staging(keeper, user, tree.as_fd(), now, mended)?;
    settle_commits(keeper, user, tree.as_fd())
}

/// Also run by each sweep: discards uploads whose resume window is over. `mended.discarded` alone can change then, since
/// a `.part` with several links is a commit under way.
pub fn discard_stale(keeper: &Keeper, user: &User, now: Time) -> Result<u32, Refusal> {
    let tree = keeper.state.tree(&user.name)?;
    let staging = files::open_dir_beneath(tree.as_fd(), Path::new(STAGING))?;
    let mut discarded = 0;
    for part in parts(staging.as_fd())? {
        let facts = files::facts_at(staging.as_fd(), part.as_os_str())?;
        if facts.links == 1 {
            discarded += discard_if_stale(keeper, user, staging.as_fd(), &part, &facts, now)?;
        }
    }
    Ok(discarded)
}

fn mend_staging(
    keeper: &Keeper,
    user: &User,
    tree: BorrowedFd<'_>,
    now: Time,
    mended: &mut Mended,
) -> Result<(), Refusal> {
    let staging = files::open_dir_beneath(tree, Path::new(STAGING))?;
    for part in parts(staging.as_fd())? {
        let facts = files::facts_at(staging.as_fd(), part.as_os_str())?;
        if facts.kind != FileKind::File {
            continue;
        }
        let drop = expiry::drop_in(staging.as_fd(), &part)?;
        let known = match drop {
            Some(drop) => keeper.ledger.drop_record(&drop)?.is_some(),
            None => false,
        };
        if known {
            remove_upload(staging.as_fd(), &part)?;
            mended.finished += 1;
            continue;
        }
        if facts.links > 1 {
            take_back(keeper, user, &facts, drop)?;
            mended.taken_back += 1;
        }
        give_back(keeper, user, staging.as_fd(), &part)?;
        mended.discarded += discard_if_stale(keeper, user, staging.as_fd(), &part, &facts, now)?;
    }
    Ok(())
}

/// Removes every name of this file outside staging, in the sender's tree and in all inboxes, and puts back what it replaced.
fn take_back(keeper: &Keeper, user: &User, file: &Facts, drop: Option<DropId>) -> Result<(), Refusal> {
    for other in keeper.policy().users() {
        let tree = keeper.state.tree(&other.name)?;
        let mut places: Vec<PathBuf> = Vec::new();
        if other.name == user.name {
            places.extend(other.folders.iter().map(|folder| folder.path.relative().to_owned()));
        }
        if other.inbox.is_some() {
            places.push(Path::new(crate::policy::decide::INBOX).join(user.name.as_str()));
        }
        let commit = files::open_dir_beneath(tree.as_fd(), Path::new(COMMIT))?;
        let kept = match drop {
            Some(drop) => kept_for(commit.as_fd(), drop)?,
            None => Vec::new(),
        };
        for place in places {
            let dir = match files::open_dir_beneath(tree.as_fd(), &place) {
                Ok(dir) => dir,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e.into()),
            };
            take_back_below(dir.as_fd(), commit.as_fd(), &kept, file)?;
        }
    }
    Ok(())
}

/// One directory and what is below it. The depth is bounded by `VirtualPath::MAX_DEPTH`.
fn take_back_below(
    dir: BorrowedFd<'_>,
    commit: BorrowedFd<'_>,
    kept: &[(PathBuf, Facts)],
    file: &Facts,
) -> Result<(), Refusal> {
    let names = names_in(dir)?;
    let mut changed = false;
    for name in &names {
        let facts = files::facts_at(dir, name)?;
        if facts.kind == FileKind::Folder {
            take_back_below(files::open_dir_beneath(dir, Path::new(name))?.as_fd(), commit, kept, file)?;
        } else if facts.inode == file.inode && facts.device == file.device {
            // The older file it replaced, if this is where: its numbered name beside it says so, or there is just one.
            let older = kept.iter().find(|(_, old)| has_name(dir, &names, old)).or(kept.first());
            match older {
                Some((old_name, _)) => files::rename(commit, old_name.as_os_str(), dir, name, true)?,
                None => remove_if_there(dir, name)?,
            }
            changed = true;
        }
    }
    if changed {
        for name in names.iter().filter(|name| is_numbered(name.as_encoded_bytes())) {
            let twin = files::facts_at(dir, name)
                .is_ok_and(|facts| kept.iter().any(|(_, old)| old.inode == facts.inode && old.device == facts.device));
            if twin {
                remove_if_there(dir, name)?;
            }
        }
        files::sync(dir)?;
    }
    Ok(())
}

fn names_in(dir: BorrowedFd<'_>) -> Result<Vec<OsString>, Refusal> {
    files::list(dir)?.map(|entry| Ok(OsString::from_vec(entry?.name))).collect()
}

fn has_name(dir: BorrowedFd<'_>, names: &[OsString], old: &Facts) -> bool {
    names.iter().filter(|name| is_numbered(name.as_encoded_bytes())).any(|name| {
        files::facts_at(dir, name).is_ok_and(|facts| facts.inode == old.inode && facts.device == old.device)
    })
}

/// What a commit of `drop` kept aside.
fn kept_for(commit: BorrowedFd<'_>, drop: DropId) -> Result<Vec<(PathBuf, Facts)>, Refusal> {
    let prefix = format!("{drop}.");
    let mut kept = Vec::new();
    for name in names_in(commit)? {
        let text = name.to_string_lossy();
        if text.starts_with(&prefix) && text.ends_with(".old") {
            let facts = files::facts_at(commit, &name)?;
            kept.push((PathBuf::from(name), facts));
        }
    }
    kept.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(kept)
}

/// Whatever is left in `.commit` now belongs to a commit that is recorded, or that was taken back.
fn settle_commits(keeper: &Keeper, user: &User, tree: BorrowedFd<'_>) -> Result<(), Refusal> {
    let commit = files::open_dir_beneath(tree, Path::new(COMMIT))?;
    for name in names_in(commit.as_fd())? {
        tracing::info!(user = %user.name, name = ?name, state = %keeper.state.dir().display(), "a leftover of a commit is removed");
        remove_if_there(commit.as_fd(), &name)?;
    }
    Ok(())
}

fn parts(staging: BorrowedFd<'_>) -> Result<Vec<PathBuf>, Refusal> {
    let mut parts = Vec::new();
    for name in names_in(staging)? {
        let name = PathBuf::from(name);
        if name.extension().is_some_and(|e| e == "part") {
            parts.push(name);
        }
    }
    Ok(parts)
}

/// The upload is its user's again, to be resumed.
fn give_back(keeper: &Keeper, user: &User, staging: BorrowedFd<'_>, part: &Path) -> Result<(), Refusal> {
    let file = files::open_beneath(staging, part, OFlag::O_RDONLY, Mode::empty())?;
    if keeper.state.as_root() {
        let id = keeper.state.id_of(&user.name)?;
        files::set_owner(file.as_fd(), id, id)?;
    }
    Ok(files::set_mode(file.as_fd(), Mode::from_bits_truncate(0o600))?)
}

fn discard_if_stale(
    keeper: &Keeper,
    user: &User,
    staging: BorrowedFd<'_>,
    part: &Path,
    facts: &Facts,
    now: Time,
) -> Result<u32, Refusal> {
    // The longest window of the user's folders: which folder an upload is for is sealed in its journal.
    let window = user.folders.iter().map(|folder| folder.resume_window).max().unwrap_or(Duration::ZERO);
    let touched = Time::from_unix_seconds(u64::try_from(facts.mtime).unwrap_or(0));
    if now.since(touched) <= window {
        return Ok(0);
    }
    // A session that still works on it holds its lock.
    let file = files::open_beneath(staging, part, OFlag::O_RDONLY, Mode::empty())?;
    if !files::lock_exclusive(file.as_fd())? {
        return Ok(0);
    }
    let mut event = Event::new(now, Kind::UploadAbandoned);
    event.user = Some(user.name.clone());
    event.drop = expiry::drop_in(staging, part)?;
    event.bytes = Some(facts.size);
    event.detail = Some("nobody resumed it in time; what was staged is destroyed".to_owned());
    keeper.ledger.commit(Batch { events: vec![event], urgent: true, ..Batch::default() })?;
    remove_upload(staging, part)?;
    Ok(1)
}

fn remove_upload(staging: BorrowedFd<'_>, part: &Path) -> Result<(), Refusal> {
    remove_if_there(staging, part.as_os_str())?;
    remove_if_there(staging, part.with_extension("jrn").as_os_str())?;
    Ok(files::sync(staging)?)
}
