//! Changes of names, each decided, done beneath the user's tree and recorded before the client hears of it. In a drop folder a
//! sender changes its own entries; what was delivered stays delivered, but follows a rename as long as nobody has
//! picked it up.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::delivery::{first_number, remove_if_there};
use super::desk::{Client, Refusal};
use super::{Keeper, blocking, crash, orders, pickups, versions, waiting};
use crate::clock::Time;
use crate::ipc::jail::{Answer, Status};
use crate::ledger::{Batch, Delivery, DropKind, DropRecord, DropState, Earlier, Kind, Ordered, Write};
use crate::names::{FileName, UserName};
use crate::policy::{self, Operation};
use crate::sys::files::{self, Kind as FileKind};
use crate::vpath::VirtualPath;

/// Recorded once, with its first page.
pub async fn list(
    keeper: &Keeper,
    client: &Client,
    path: &VirtualPath,
    after: Option<FileName>,
) -> Result<Answer, Refusal> {
    let _checked = keeper.permit(client, &Operation::List { path })?;
    if after.is_none() {
        keeper.record_event(keeper.event(client, Kind::Listed, Some(path))).await?;
    }
    let (waiting, more) = keeper.waiting.page(&client.user, path, after.as_ref());
    Ok(Answer::Listed { waiting, more })
}

pub async fn make_folder(keeper: &Arc<Keeper>, client: &Client, path: VirtualPath) -> Result<Answer, Refusal> {
    let _checked = keeper.permit(client, &Operation::MakeFolder { path: &path })?;
    let event = keeper.event(client, Kind::FolderMade, Some(&path));
    let (worker, user) = (Arc::clone(keeper), client.user.clone());
    blocking(move || Ok(worker.state.make_folder(&user, worker.state.tree(&user)?.as_fd(), path.relative())?)).await?;
    keeper.record_event(event).await.map(|()| Answer::Done)
}

pub async fn remove_folder(keeper: &Arc<Keeper>, client: &Client, path: VirtualPath) -> Result<Answer, Refusal> {
    let _checked = keeper.permit(client, &Operation::RemoveFolder { path: &path })?;
    let _turn = keeper.turns.to_change(&client.user).await;
    if keeper.waiting.is_any_below(&client.user, &path) {
        return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty).into());
    }
    let event = keeper.event(client, Kind::FolderRemoved, Some(&path));
    let (worker, user) = (Arc::clone(keeper), client.user.clone());
    blocking(move || {
        let tree = worker.state.tree(&user)?;
        let (dir, name) = files::open_parent_beneath(tree.as_fd(), path.relative())?;
        files::remove_dir(dir.as_fd(), name)?;
        Ok(files::sync(dir.as_fd())?)
    })
    .await?;
    keeper.record_event(event).await.map(|()| Answer::Done)
}

/// Recorded first, then done: a file that is gone without a word in the log is worse than a word too many. A crash between
/// leaves a name that the log calls removed, and `recovery` finishes that.
pub async fn remove(keeper: &Arc<Keeper>, client: &Arc<Client>, path: VirtualPath) -> Result<Answer, Refusal> {
    let grant = keeper.permit(client, &Operation::Remove { path: &path })?;
    // Before a turn is waited for: who asks for what is not there does not wait, and makes no lock of a name it invents.
    file_at(keeper, client, &path).await?;
    let _turn = keeper.turns.to_change_at(&client.user, &path).await;
    let record = file_at(keeper, client, &path).await?;
    if record.as_ref().is_some_and(|record| record.state == DropState::Held) {
        return Err(Refusal::rule(Status::Failure, "this file is held and cannot be removed", "the drop is held"));
    }
    let shreds = grant.folder().is_some_and(|folder| folder.sender_delete == policy::SenderDelete::Shred);
    if let Some(record) = record.as_ref().filter(|record| shreds && record.sender == client.user) {
        // The removal is in the log first: whose wish it was.
        let mut event = keeper.event(client, Kind::Removed, Some(&path));
        (event.drop, event.bytes) = (Some(record.drop), Some(record.size));
        event.detail = Some("its sender's removal shreds it, as the folder says".to_owned());
        keeper.record(Batch { events: vec![event], urgent: true, ..Batch::default() }).await?;
        let order = orders::order(Ordered::Shred, client.user.to_string(), "removed by its sender".to_owned());
        let done = orders::shred(keeper, &[record.drop], &order).await?;
        return match done.into_iter().find_map(|(_, why)| why) {
            None => Ok(Answer::Done),
            Some(why) => Err(Refusal::machine(why)),
        };
    }
    let mut event = keeper.event(client, Kind::Removed, Some(&path));
    let mut writes = Vec::new();
    if let Some(record) = record {
        event.drop = Some(record.drop);
        event.bytes = Some(record.size);
        let at = event.at;
        writes.push(Write::Unlinked { drop: record.drop, user: client.user.clone(), path: path.clone(), at });
        if pickups::ends_without(&record, &client.user, &path) {
            let mut batch = Batch { events: vec![event], writes, urgent: true, ..Batch::default() };
            pickups::end(&mut batch, &record);
            keeper.record(batch).await?;
            pickups::destroy(keeper, &[record.drop]).await;
            return Ok(Answer::Done);
        }
        if last_entry(&record, &client.user) {
            writes.push(Write::State { drop: record.drop, to: DropState::Removed { at } });
        }
    }
    keeper.record(Batch { events: vec![event], writes, urgent: true, ..Batch::default() }).await?;
    crash::point("removal-recorded");
    unlink(keeper, client.user.clone(), path).await?;
    Ok(Answer::Done)
}

/// Removes a name whose removal is recorded. A crash before: `recovery` does it.
pub(super) async fn unlink(keeper: &Arc<Keeper>, user: UserName, path: VirtualPath) -> Result<(), Refusal> {
    let worker = Arc::clone(keeper);
    blocking(move || {
        let tree = worker.state.tree(&user)?;
        let (dir, name) = files::open_parent_beneath(tree.as_fd(), path.relative())?;
        remove_if_there(dir.as_fd(), name)?;
        Ok(files::sync(dir.as_fd())?)
    })
    .await
}

/// That there is a file, and which drop the ledger has there.
async fn file_at(keeper: &Arc<Keeper>, client: &Client, path: &VirtualPath) -> Result<Option<DropRecord>, Refusal> {
    let (worker, user, path) = (Arc::clone(keeper), client.user.clone(), path.clone());
    blocking(move || {
        let tree = worker.state.tree(&user)?;
        if files::facts_beneath(tree.as_fd(), path.relative())?.kind != FileKind::File {
            return Err(Refusal::rule(Status::Failure, "this is a folder", "a folder, not a file"));
        }
        Ok(worker.ledger.drop_at(&user, &path)?)
    })
    .await
}

/// What becomes of a drop whose entry of `user`'s at `path` a newer file took: it ends, unless others have theirs.
pub fn replaced(record: &DropRecord, user: &UserName, path: &VirtualPath, at: Time) -> Write {
    if last_entry(record, user) {
        Write::State { drop: record.drop, to: DropState::Superseded { at } }
    } else {
        Write::Unlinked { drop: record.drop, user: user.clone(), path: path.clone(), at }
    }
}

/// Whether nobody has an entry of the drop left once `user`'s is gone.
fn last_entry(record: &DropRecord, user: &UserName) -> bool {
    let sender_left = record.unlinked.is_none() && record.sender != *user;
    let others_left = record.deliveries.iter().any(|d| d.unlinked.is_none() && d.user != *user);
    // A sender who is also a recipient keeps the other entry; the shared folder's owner has just the one.
    let own_left = record.kind == DropKind::Drop
        && record.sender == *user
        && record.deliveries.iter().any(|d| d.unlinked.is_none() && d.user == *user);
    !sender_left && !others_left && !own_left
}

/// Done first, then recorded, and undone if it cannot be recorded. A crash between leaves a file under a name that the
/// ledger does not have it at: it opens as before, and its expiry looks for it.
pub async fn rename(
    keeper: &Arc<Keeper>,
    client: &Arc<Client>,
    from: VirtualPath,
    to: VirtualPath,
    replace: bool,
) -> Result<Answer, Refusal> {
    if let Some(waits) = keeper.waiting.at(&client.user, &from) {
        return waiting::rename(keeper, client, &waits, to, replace).await;
    }
    let _turn = keeper.turns.to_change(&client.user).await;
    let mut event = keeper.event(client, Kind::Renamed, Some(&from));
    event.to = Some(to.clone());
    let at = event.at;
    let (worker, asker) = (Arc::clone(keeper), Arc::clone(client));
    let (drop, earlier, writes, moves) = blocking(move || {
        let tree = worker.state.tree(&asker.user)?;
        // What policy says first: a path outside the view must not be told apart from one that is not there.
        let kind = files::facts_beneath(tree.as_fd(), from.relative()).map(|facts| facts.kind);
        let folder = matches!(kind, Ok(FileKind::Folder));
        let grant = worker.permit(&asker, &Operation::Rename { from: &from, to: &to, folder })?;
        kind?;
        if folder && worker.waiting.is_any_below(&asker.user, &from) {
            let say = "files in this folder wait to be delivered: rename it when they are";
            return Err(Refusal::rule(Status::Failure, say, "a folder in which uploads wait"));
        }
        let is_drop = grant.folder().is_some_and(|f| f.kind == policy::FolderKind::Drop);
        let taken = match files::facts_beneath(tree.as_fd(), to.relative()) {
            Ok(there) if !replace || folder || there.kind != FileKind::File => {
                return Err(policy::Reason::Exists.into());
            }
            // As rename(2) has it: nothing to do.
            Ok(_) if from == to => return Ok((None, None, Vec::new(), Vec::new())),
            Ok(_) => true,
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(e.into()),
        };
        let user = &asker.user;
        let (mut writes, mut moves) = (Vec::new(), Vec::new());
        let record = if folder { None } else { worker.ledger.drop_at(user, &from)? };
        // A client whose temp names policy does not know renames what is delivered already; what stands there, or what it
        // removed there before, is the older version.
        let newer = record.as_ref().filter(|record| record.superseded.is_none());
        let older = newer.map(|_| versions::older(&worker, user, &to, at)).transpose()?.flatten();
        if let (Some(newer), Some(older)) = (newer, &older) {
            writes.push(Write::Superseded { drop: older.drop, by: newer.receipt, at });
        }
        let earlier = older.map(|older| Earlier::Replaces(older.receipt));
        let target = worker.ledger.drop_at(user, &to)?;
        if taken && is_drop {
            // In a drop the older file stays, as it does when a new one is uploaded over it.
            grant.may_replace()?;
            put_aside(&worker, user, &to, &mut writes, &mut moves)?;
        } else if let Some(target) = target {
            if target.state == DropState::Held {
                let say = "this file is held and cannot be replaced";
                return Err(Refusal::rule(Status::Failure, say, "the drop there is held"));
            }
            writes.push(replaced(&target, user, &to, at));
        }
        let moved = |drop| Write::Moved { drop, user: user.clone(), from: from.clone(), to: to.clone() };
        if folder {
            writes.push(Write::FolderMoved { user: user.clone(), from: from.clone(), to: to.clone() });
        }
        writes.extend(record.as_ref().map(|record| moved(record.drop)));
        let made = Move::make(tree.as_fd(), from.relative(), to.relative(), taken && !is_drop);
        keep_or_undo(made.map_err(Refusal::from), &mut moves)?;
        if let Some(record) = record.as_ref().filter(|record| record.kind == DropKind::Drop) {
            follow(&worker, record, &to, &mut writes, &mut moves);
        }
        Ok((record.map(|record| record.drop), earlier, writes, moves))
    })
    .await?;
    event.drop = drop;
    event.earlier = earlier;
    let recorded = keeper.record(Batch { events: vec![event], writes, urgent: true, ..Batch::default() }).await;
    blocking(move || match recorded {
        Ok(_) => moves.iter().try_for_each(Move::settle).map_err(Refusal::from),
        Err(refusal) => {
            moves.iter().rev().try_for_each(Move::undo)?;
            Err(refusal)
        }
    })
    .await?;
    Ok(Answer::Done)
}

/// A name that was changed, until that is recorded.
struct Move {
    from: (OwnedFd, OsString),
    to: (OwnedFd, OsString),
    /// A file had the new name; it has the old one until the change is recorded.
    displaces: bool,
}

impl Move {
    fn make(tree: BorrowedFd<'_>, from: &Path, to: &Path, displaces: bool) -> io::Result<Self> {
        let (from_dir, from_name) = files::open_parent_beneath(tree, from)?;
        let (to_dir, to_name) = files::open_parent_beneath(tree, to)?;
        let moved = Self { from: (from_dir, from_name.into()), to: (to_dir, to_name.into()), displaces };
        moved.step(&moved.from, &moved.to)?;
        Ok(moved)
    }

    fn undo(&self) -> io::Result<()> {
        self.step(&self.to, &self.from)
    }

    fn settle(&self) -> io::Result<()> {
        if self.displaces {
            remove_if_there(self.from.0.as_fd(), &self.from.1)?;
            files::sync(self.from.0.as_fd())?;
        }
        Ok(())
    }

    fn step(&self, (from, name): &(OwnedFd, OsString), (to, to_name): &(OwnedFd, OsString)) -> io::Result<()> {
        if self.displaces {
            files::exchange(from.as_fd(), name, to.as_fd(), to_name)?;
        } else {
            files::rename(from.as_fd(), name, to.as_fd(), to_name, false)?;
        }
        files::sync(to.as_fd())?;
        files::sync(from.as_fd())
    }
}

/// Another move is made, or what was moved before it is moved back.
fn keep_or_undo(made: Result<Move, Refusal>, moves: &mut Vec<Move>) -> Result<(), Refusal> {
    match made {
        Ok(made) => {
            moves.push(made);
            Ok(())
        }
        Err(refusal) => {
            moves.iter().rev().try_for_each(Move::undo)?;
            Err(refusal)
        }
    }
}

/// The file at `path` in `user`'s tree gets a numbered name, so that another may have its own.
fn put_aside(
    keeper: &Keeper,
    user: &UserName,
    path: &VirtualPath,
    writes: &mut Vec<Write>,
    moves: &mut Vec<Move>,
) -> Result<(), Refusal> {
    let older = keeper.ledger.drop_at(user, path)?;
    let parent = path.parent().unwrap_or_else(VirtualPath::root);
    let tree = keeper.state.tree(user)?;
    let (dir, name) = files::open_parent_beneath(tree.as_fd(), path.relative())?;
    let to_dir = dir.try_clone()?;
    let mut to = path.clone();
    let numbered = first_number(name, |numbered| {
        // A path that the ledger cannot have is not taken.
        let told = FileName::new(numbered.as_bytes()).ok().and_then(|name| parent.join(&name).ok());
        to = told.ok_or(io::ErrorKind::InvalidFilename)?;
        files::rename(dir.as_fd(), name, dir.as_fd(), numbered, false)
    })?;
    // Nothing may fail from here on: it is the caller who moves it back. It is durable with the move that follows, which is
    // in the same folder.
    moves.push(Move { from: (dir, name.into()), to: (to_dir, numbered), displaces: false });
    writes.extend(older.map(|older| Write::Moved { drop: older.drop, user: user.clone(), from: path.clone(), to }));
    Ok(())
}

/// The inboxes follow a sender's rename of the last name, where nobody has picked the drop up; an older file that has the
/// new name there gets a numbered one. Where that fails the drop stays delivered under the name it has.
fn follow(keeper: &Keeper, record: &DropRecord, to: &VirtualPath, writes: &mut Vec<Write>, moves: &mut Vec<Move>) {
    let Some(new) = to.name().filter(|new| record.path.name().as_ref() != Some(new)) else { return };
    for delivery in record.deliveries.iter().filter(|d| d.unlinked.is_none() && d.picked_up == 0) {
        let Some(target) = delivery.path.parent().and_then(|parent| parent.join(&new).ok()) else { continue };
        let (written, moved) = (writes.len(), moves.len());
        if let Err(refusal) = follow_one(keeper, record, delivery, target, writes, moves) {
            let (user, why) = (&delivery.user, refusal.why);
            tracing::error!(%user, drop = %record.drop, why, "an inbox does not follow a rename");
            for undone in moves.drain(moved..).rev() {
                if let Err(e) = undone.undo() {
                    tracing::error!(%user, error = %e, "a name in an inbox is not what the ledger says");
                }
            }
            writes.truncate(written);
        }
    }
}

fn follow_one(
    keeper: &Keeper,
    record: &DropRecord,
    delivery: &Delivery,
    target: VirtualPath,
    writes: &mut Vec<Write>,
    moves: &mut Vec<Move>,
) -> Result<(), Refusal> {
    let tree = keeper.state.tree(&delivery.user)?;
    match files::facts_beneath(tree.as_fd(), target.relative()) {
        Ok(there) if there.kind != FileKind::File => return Ok(()),
        Ok(_) => put_aside(keeper, &delivery.user, &target, writes, moves)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e.into()),
    }
    moves.push(Move::make(tree.as_fd(), delivery.path.relative(), target.relative(), false)?);
    let (user, from) = (delivery.user.clone(), delivery.path.clone());
    writes.push(Write::Moved { drop: record.drop, user, from, to: target });
    Ok(())
}

/// Times are shown, and decide nothing: expiry counts from receipt. Recorded without waiting, since it follows each upload
/// of half the clients there are and what it changes is not worth a flush.
pub async fn set_times(
    keeper: &Arc<Keeper>,
    client: &Client,
    path: VirtualPath,
    atime: u32,
    mtime: u32,
) -> Result<Answer, Refusal> {
    let grant = keeper.permit(client, &Operation::SetTimes { path: &path })?;
    let mut event = keeper.event(client, Kind::TimesSet, Some(&path));
    event.detail = Some(format!("mtime {}", crate::clock::Time::from_unix_seconds(u64::from(mtime))));
    if let Some(waits) = keeper.waiting.at(&client.user, &path) {
        waiting::set_mtime(keeper, &client.user, &waits, mtime).await?;
    } else if grant.folder().is_some_and(|folder| folder.mtime == policy::Mtime::Client) {
        let (worker, user) = (Arc::clone(keeper), client.user.clone());
        blocking(move || {
            let tree = worker.state.tree(&user)?;
            let (dir, name) = files::open_parent_beneath(tree.as_fd(), path.relative())?;
            Ok(files::set_times_at(dir.as_fd(), name, Some(i64::from(atime)), Some(i64::from(mtime)))?)
        })
        .await?;
    }
    keeper.record_event(event).await.map(|()| Answer::Done)
}

/// What is left to the user: of the quota if there is one, else of the disk.
pub async fn space(keeper: &Arc<Keeper>, client: &Client, path: &VirtualPath) -> Result<Answer, Refusal> {
    let grant = keeper.permit(client, &Operation::Stat { path })?;
    let (worker, user) = (Arc::clone(keeper), client.user.clone());
    let (disk, used) = blocking(move || Ok((files::room(worker.state.jails())?, worker.ledger.usage(&user)?))).await?;
    let limits = grant.user().limits;
    let total = limits.bytes.map_or(disk.total, |size| size.0.min(disk.total));
    let left = limits.bytes.map_or(disk.free, |size| size.0.saturating_sub(used.bytes).min(disk.free));
    let files = limits.files.unwrap_or(disk.files);
    let files_free = limits.files.map_or(disk.files_free, |most| most.saturating_sub(used.files));
    Ok(Answer::Space { total, free: left, files, files_free })
}
