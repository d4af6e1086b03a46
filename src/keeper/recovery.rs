//! What a start finds of the run before, and mends before anybody is let in: commits that a crash cut in two are finished or taken
//! back, and uploads whose resume window is over are discarded. The ledger decides; the mark that each commit leaves in
//! `.commit` says where to look. Trees of users that policy no longer names are mended like all others.
//!
//! What lies in `.staging` is its user's to make as odd as a session likes: nothing there is waited for, and nothing there
//! keeps the others, or the daemon, from going on.

mod removals;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

use super::Keeper;
use super::delivery::{COMMIT, MARK, before_number, remove_if_there};
use super::desk::Refusal;
use super::expiry::drop_of;
use super::state::STAGING;
use super::{moving, takeover, waiting};
use crate::clock::Time;
use crate::ledger::{Batch, DropKind, Event, Kind};
use crate::names::{DropId, UserName};
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
    /// Names that the ledger knew as removed.
    pub removed: u32,
}

/// Mends every tree. Runs before the gate opens: no session exists. Fails only if a commit could not be taken back: then
/// what it kept aside is needed, and stays.
pub fn mend(keeper: &Keeper, now: Time) -> Result<Mended, Refusal> {
    let mut mended = Mended::default();
    let owners = keeper.state.owners()?;
    for owner in &owners {
        take_back_commits(keeper, &owners, owner, &mut mended).map_err(in_tree_of(owner))?;
    }
    for owner in &owners {
        mend_staging(keeper, owner, now, &mut mended).map_err(in_tree_of(owner))?;
    }
    moving::settle(keeper)?;
    // Only now: what one tree's commit kept aside may have been needed in another's taking back.
    for owner in &owners {
        settle_commits(keeper, owner).map_err(in_tree_of(owner))?;
    }
    mended.removed = removals::finish(keeper)?;
    Ok(mended)
}

/// Takes back what `owner`'s commits named and the ledger does not know.
fn take_back_commits(
    keeper: &Keeper,
    owners: &[UserName],
    owner: &UserName,
    mended: &mut Mended,
) -> Result<(), Refusal> {
    let Some(commit) = open_in(keeper, owner, COMMIT)? else { return Ok(()) };
    for mark in names_in(commit.as_fd())?.iter().filter(|name| name.as_bytes().ends_with(MARK.as_bytes())) {
        let Some(staged) = Staged::open(commit.as_fd(), mark)? else { continue };
        mended.taken_back += take_back_unless_known(keeper, owners, owner, &staged)?;
        remove_if_there(commit.as_fd(), mark)?;
    }
    Ok(())
}

/// What is left in staging is finished, given back, or given up.
fn mend_staging(keeper: &Keeper, owner: &UserName, now: Time, mended: &mut Mended) -> Result<(), Refusal> {
    let Some(staging) = open_in(keeper, owner, STAGING)? else { return Ok(()) };
    remove_orphans(owner, staging.as_fd())?;
    each_part(owner, staging.as_fd(), |part, staged| {
        if staged.is_known(keeper)? {
            remove_upload(staging.as_fd(), part)?;
            mended.finished += 1;
            return Ok(());
        }
        // A file that has another name is not given back to be written.
        if staged.facts.links > 1 {
            return Ok(());
        }
        let id = if keeper.state.as_root() { Some(keeper.state.id_of(owner)?) } else { None };
        takeover::hand_over(staged.file.as_fd(), id)?;
        // A file that was taken over for its commit may carry the client's time already, of long ago; its window to be
        // resumed begins with this start.
        if staged.facts.mode & 0o200 == 0 {
            return Ok(files::set_times(staged.file.as_fd(), None, i64::try_from(now.unix_seconds()).ok())?);
        }
        mended.discarded += discard_if_stale(keeper, owner, staging.as_fd(), part, staged, now)?;
        Ok(())
    })
}

/// What stands beside a `.part` is of no use without it, and a journal that never got its name is of none at all.
fn remove_orphans(owner: &UserName, staging: BorrowedFd<'_>) -> Result<(), Refusal> {
    for entry in files::list(staging)? {
        let entry = entry?;
        let name = OsString::from_vec(entry.name);
        let path = Path::new(&name);
        let orphan = match path.extension() {
            Some(ending) if ending == "tmp" => true,
            Some(ending) if ending == "jrn" => {
                let part = files::facts_at(staging, path.with_extension("part").as_os_str());
                part.is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
            }
            _ => false,
        };
        if orphan && files::facts_at(staging, &name).is_ok_and(|facts| facts.kind == FileKind::File) {
            tracing::info!(user = %owner, ?name, "a leftover in staging is removed");
            remove_if_there(staging, &name)?;
        }
    }
    Ok(())
}

fn settle_commits(keeper: &Keeper, owner: &UserName) -> Result<(), Refusal> {
    let Some(commit) = open_in(keeper, owner, COMMIT)? else { return Ok(()) };
    for name in names_in(commit.as_fd())? {
        if waiting::is_note(&name) {
            continue;
        }
        tracing::info!(user = %owner, ?name, "a leftover of a commit is removed");
        remove_if_there(commit.as_fd(), &name)?;
    }
    Ok(())
}

fn in_tree_of(owner: &UserName) -> impl Fn(Refusal) -> Refusal {
    move |mut refusal| {
        refusal.why = format!("in the tree of {owner}: {}", refusal.why);
        refusal
    }
}

/// Also run by each sweep: discards uploads whose resume window is over.
pub fn discard_stale(keeper: &Keeper, now: Time) -> Result<u32, Refusal> {
    let mut discarded = 0;
    for owner in keeper.state.owners()? {
        let Some(staging) = open_in(keeper, &owner, STAGING)? else { continue };
        each_part(&owner, staging.as_fd(), |part, staged| {
            // More than one name: a commit is under way.
            if staged.facts.links == 1 {
                discarded += discard_if_stale(keeper, &owner, staging.as_fd(), part, staged, now)?;
            }
            Ok(())
        })?;
    }
    Ok(discarded)
}

/// `None` for a tree that was never laid out, or that somebody has begun to take away.
fn open_in(keeper: &Keeper, owner: &UserName, folder: &str) -> io::Result<Option<OwnedFd>> {
    match files::open_dir_beneath(keeper.state.tree(owner)?.as_fd(), Path::new(folder)) {
        Ok(dir) => Ok(Some(dir)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// A file in `.staging` or `.commit`.
struct Staged {
    file: File,
    facts: Facts,
    drop: Option<DropId>,
}

impl Staged {
    /// `None` if it is gone, or is no file.
    fn open(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Self>> {
        // Looked at before it is opened, since opening something else may have an effect, and after, since it may be
        // another by then. A pipe that nobody writes to is not waited for.
        let facts = match files::facts_at(dir, name) {
            Ok(facts) if facts.kind == FileKind::File => facts,
            Ok(_) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = match files::open_beneath(dir, Path::new(name), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let opened = files::facts(file.as_fd())?;
        if (opened.device, opened.inode) != (facts.device, facts.inode) {
            return Ok(None);
        }
        let drop = drop_of(&file)?;
        Ok(Some(Self { file, facts: opened, drop }))
    }

    fn is_known(&self, keeper: &Keeper) -> Result<bool, Refusal> {
        match &self.drop {
            Some(drop) => Ok(keeper.ledger.knows(drop)?),
            None => Ok(false),
        }
    }

    /// Whether this is a drop whose sender removed its own entry.
    fn is_removed(&self, keeper: &Keeper) -> Result<bool, Refusal> {
        let Some(drop) = &self.drop else { return Ok(false) };
        let record = keeper.ledger.drop_record(drop)?;
        Ok(record.is_some_and(|record| record.kind == DropKind::Drop && record.unlinked.is_some()))
    }
}

/// Each `.part` of a user, one after the other however many there are. What fails with one is logged and left.
fn each_part(
    owner: &UserName,
    staging: BorrowedFd<'_>,
    mut each: impl FnMut(&OsStr, &Staged) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    for entry in files::list(staging)? {
        let name = OsString::from_vec(entry?.name);
        if Path::new(&name).extension() != Some(OsStr::new("part")) {
            continue;
        }
        let done = match Staged::open(staging, &name) {
            Ok(Some(staged)) => each(&name, &staged),
            Ok(None) => Ok(()),
            Err(e) => Err(e.into()),
        };
        if let Err(refusal) = done {
            tracing::error!(user = %owner, ?name, why = refusal.why, "something in staging is left as it is");
        }
    }
    Ok(())
}

/// 1 if the commit was taken back, 0 if it had happened.
fn take_back_unless_known(
    keeper: &Keeper,
    owners: &[UserName],
    sender: &UserName,
    staged: &Staged,
) -> Result<u32, Refusal> {
    let known = staged.is_known(keeper)?;
    // A drop that is known has a mark when its sender, who had removed it, is given its name back: only that was in doubt.
    let removed = known && staged.is_removed(keeper)?;
    let Some(drop) = staged.drop.filter(|_| !known || removed) else { return Ok(0) };
    for owner in owners.iter().filter(|owner| !removed || *owner == sender) {
        let tree = keeper.state.tree(owner)?;
        let Some(commit) = open_in(keeper, owner, COMMIT)? else { continue };
        let undone = Undone { file: staged.facts, commit: commit.as_fd(), kept: kept_for(commit.as_fd(), drop)? };
        if owner == sender {
            // Wherever the folder is by now, and whatever policy calls it.
            for name in names_in(files::open_dir_beneath(tree.as_fd(), Path::new(""))?.as_fd())? {
                let is_inbox = removed && name == crate::policy::decide::INBOX;
                if name != STAGING && name != COMMIT && !is_inbox {
                    undone.take_back_below(tree.as_fd(), Path::new(&name))?;
                }
            }
        } else {
            undone.take_back_below(tree.as_fd(), &Path::new(crate::policy::decide::INBOX).join(sender.as_str()))?;
        }
    }
    Ok(1)
}

/// A commit that is taken back in one tree.
struct Undone<'a> {
    file: Facts,
    commit: BorrowedFd<'a>,
    /// What it kept aside here.
    kept: Vec<(OsString, Facts)>,
}

impl Undone<'_> {
    /// One directory and what is below it. The depth is bounded by `VirtualPath::MAX_DEPTH`.
    fn take_back_below(&self, tree: BorrowedFd<'_>, rel: &Path) -> Result<(), Refusal> {
        let dir = match files::open_dir_beneath(tree, rel) {
            Ok(dir) => dir,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let mut changed = false;
        let names = names_in(dir.as_fd())?;
        for name in &names {
            let facts = files::facts_at(dir.as_fd(), name)?;
            if facts.kind == FileKind::Folder {
                self.take_back_below(dir.as_fd(), Path::new(name))?;
            } else if same(&facts, &self.file) {
                // The older file it replaced, if this is where: its numbered name beside it says so, or there is just one.
                let beside = |old: &Facts| {
                    names.iter().any(|twin| {
                        before_number(twin.as_bytes()) == Some(name.as_bytes())
                            && files::facts_at(dir.as_fd(), twin).is_ok_and(|facts| same(&facts, old))
                    })
                };
                match self.kept.iter().find(|(_, old)| beside(old)).or(self.kept.first()) {
                    Some((old, _)) => files::rename(self.commit, old, dir.as_fd(), name, true)?,
                    None => remove_if_there(dir.as_fd(), name)?,
                }
                changed = true;
            }
        }
        // The numbered names that this commit gave: beside the name they were made of, which is the older file's again,
        // or still, if the crash came before the new one took it.
        for twin in &names {
            let Some(base) = before_number(twin.as_bytes()) else { continue };
            let is_kept = |name: &OsStr| {
                files::facts_at(dir.as_fd(), name).is_ok_and(|facts| self.kept.iter().any(|(_, old)| same(&facts, old)))
            };
            if is_kept(twin) && is_kept(OsStr::from_bytes(base)) {
                remove_if_there(dir.as_fd(), twin)?;
                changed = true;
            }
        }
        if changed { Ok(files::sync(dir.as_fd())?) } else { Ok(()) }
    }
}

fn same(one: &Facts, other: &Facts) -> bool {
    (one.device, one.inode) == (other.device, other.inode)
}

/// What a commit of `drop` kept aside.
fn kept_for(commit: BorrowedFd<'_>, drop: DropId) -> Result<Vec<(OsString, Facts)>, Refusal> {
    let prefix = format!("{drop}.");
    let mut kept = Vec::new();
    for name in names_in(commit)? {
        if name.as_bytes().starts_with(prefix.as_bytes()) && name.as_bytes().ends_with(b".old") {
            let facts = files::facts_at(commit, &name)?;
            kept.push((name, facts));
        }
    }
    kept.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(kept)
}

fn names_in(dir: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    files::list(dir)?.map(|entry| Ok(OsString::from_vec(entry?.name))).collect()
}

fn discard_if_stale(
    keeper: &Keeper,
    owner: &UserName,
    staging: BorrowedFd<'_>,
    part: &OsStr,
    staged: &Staged,
    now: Time,
) -> Result<u32, Refusal> {
    // The longest window of the user's folders: which folder an upload is for is sealed in its journal. Who is no longer
    // in the policy resumes nothing.
    let policy = keeper.policy();
    let windows = policy.user(owner).into_iter().flat_map(|user| user.folders.iter().map(|f| f.resume_window));
    let window = windows.max().unwrap_or(Duration::ZERO);
    let touched = Time::from_unix_seconds(u64::try_from(staged.facts.mtime).unwrap_or(0));
    // Its window begins when it does not wait any more.
    if staged.drop.is_some_and(|drop| waiting::has_note(keeper, owner, drop)) {
        return Ok(0);
    }
    // A session that still works on it holds its lock.
    if now.since(touched) <= window || !files::lock_exclusive(staged.file.as_fd())? {
        return Ok(0);
    }
    let mut event = Event::new(now, Kind::UploadAbandoned);
    event.user = Some(owner.clone());
    event.drop = staged.drop;
    event.bytes = Some(staged.facts.size);
    event.detail = Some("nobody resumed it in time; what was staged is destroyed".to_owned());
    keeper.ledger.commit(Batch { events: vec![event], urgent: true, ..Batch::default() })?;
    remove_upload(staging, part)?;
    Ok(1)
}

pub fn remove_upload(staging: BorrowedFd<'_>, part: &OsStr) -> Result<(), Refusal> {
    remove_if_there(staging, part)?;
    remove_if_there(staging, Path::new(part).with_extension("jrn").as_os_str())?;
    Ok(files::sync(staging)?)
}
