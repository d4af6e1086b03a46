//! Changes of names, each decided, done beneath the user's tree and recorded before the client hears of it. In a drop folder a
//! sender changes its own entries; what was delivered stays delivered, but follows a rename as long as nobody has
//! picked it up.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::delivery::remove_if_there;
use super::desk::{Client, Refusal};
use super::{Keeper, blocking};
use crate::clock::Time;
use crate::ipc::jail::{Answer, Status};
use crate::ledger::{Batch, DropKind, DropRecord, DropState, Kind, Write};
use crate::names::UserName;
use crate::policy::{self, Operation};
use crate::sys::files::{self, Kind as FileKind};
use crate::vpath::VirtualPath;

pub async fn list(keeper: &Keeper, client: &Client, path: &VirtualPath) -> Result<Answer, Refusal> {
    let _checked = keeper.permit(client, &Operation::List { path })?;
    keeper.record_event(keeper.event(client, Kind::Listed, Some(path))).await.map(|()| Answer::Done)
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

/// Recorded first, then done: a file that is gone without a word in the log is worse than a word too many after a crash.
pub async fn remove(keeper: &Arc<Keeper>, client: &Client, path: VirtualPath) -> Result<Answer, Refusal> {
    let _checked = keeper.permit(client, &Operation::Remove { path: &path })?;
    let _turn = keeper.turns.to_change(&client.user).await;
    let tree = keeper.state.tree(&client.user)?;
    if files::facts_beneath(tree.as_fd(), path.relative())?.kind != FileKind::File {
        return Err(Refusal::rule(Status::Failure, "this is a folder", "a folder, not a file"));
    }
    let mut event = keeper.event(client, Kind::Removed, Some(&path));
    let mut writes = Vec::new();
    if let Some(record) = keeper.ledger.drop_at(&client.user, &path)? {
        event.drop = Some(record.drop);
        event.bytes = Some(record.size);
        let at = event.at;
        writes.push(Write::Unlinked { drop: record.drop, user: client.user.clone(), path: path.clone(), at });
        if last_entry(&record, &client.user) {
            writes.push(Write::State { drop: record.drop, to: DropState::Removed { at } });
        }
    }
    keeper.record(Batch { events: vec![event], writes, urgent: true }).await?;
    blocking(move || {
        let (dir, name) = files::open_parent_beneath(tree.as_fd(), path.relative())?;
        remove_if_there(dir.as_fd(), name)?;
        Ok(files::sync(dir.as_fd())?)
    })
    .await?;
    Ok(Answer::Done)
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

pub async fn rename(
    keeper: &Arc<Keeper>,
    client: &Client,
    from: VirtualPath,
    to: VirtualPath,
    replace: bool,
) -> Result<Answer, Refusal> {
    let _turn = keeper.turns.to_change(&client.user).await;
    let tree = keeper.state.tree(&client.user)?;
    // What policy says first: a path outside the view must not be told apart from one that is not there.
    let as_file = Operation::Rename { from: &from, to: &to, folder: false };
    let kind = files::facts_beneath(tree.as_fd(), from.relative()).map(|facts| facts.kind);
    let folder = matches!(kind, Ok(FileKind::Folder));
    let operation = Operation::Rename { from: &from, to: &to, folder };
    let grant = keeper.permit(client, if folder { &operation } else { &as_file })?;
    kind?;
    let mut event = keeper.event(client, Kind::Renamed, Some(&from));
    event.to = Some(to.clone());
    let record = if folder { None } else { keeper.ledger.drop_at(&client.user, &from)? };
    let target = keeper.ledger.drop_at(&client.user, &to)?;
    let target_is_there = files::facts_beneath(tree.as_fd(), to.relative()).is_ok();
    if target_is_there && !replace {
        return Err(policy::Reason::Exists.into());
    }
    let is_drop = grant.folder().is_some_and(|f| f.kind == policy::FolderKind::Drop);
    if target_is_there && is_drop {
        // A drop is never overwritten by a rename; a new version comes by a new upload.
        return Err(policy::Reason::Exists.into());
    }
    let at = event.at;
    let mut writes = Vec::new();
    if let Some(target) = target {
        writes.push(replaced(&target, &client.user, &to, at));
    }
    match &record {
        Some(record) => {
            event.drop = Some(record.drop);
            writes.push(Write::Moved {
                drop: record.drop,
                user: client.user.clone(),
                from: from.clone(),
                to: to.clone(),
            });
        }
        None if folder => {
            writes.push(Write::FolderMoved { user: client.user.clone(), from: from.clone(), to: to.clone() });
        }
        None => {}
    }
    let worker = Arc::clone(keeper);
    let moved = blocking(move || {
        let (from_dir, from_name) = files::open_parent_beneath(tree.as_fd(), from.relative())?;
        let (to_dir, to_name) = files::open_parent_beneath(tree.as_fd(), to.relative())?;
        files::rename(from_dir.as_fd(), from_name, to_dir.as_fd(), to_name, replace)?;
        files::sync(to_dir.as_fd())?;
        files::sync(from_dir.as_fd())?;
        match record.filter(|record| record.kind == DropKind::Drop) {
            Some(record) => follow(&worker, &record, &to),
            None => Ok(Vec::new()),
        }
    })
    .await?;
    writes.extend(moved);
    keeper.record(Batch { events: vec![event], writes, urgent: false }).await.map(|_| Answer::Done)
}

/// The inboxes follow a sender's rename of the last name, where nobody has picked the drop up and the new name is free.
fn follow(keeper: &Keeper, record: &DropRecord, to: &VirtualPath) -> Result<Vec<Write>, Refusal> {
    let mut writes = Vec::new();
    let (old, new) = (record.path.name(), to.name());
    let (Some(_), Some(new)) = (old.filter(|old| Some(old) != new.as_ref()), new) else { return Ok(writes) };
    for delivery in record.deliveries.iter().filter(|d| d.unlinked.is_none() && d.picked_up == 0) {
        let Some(target) = delivery.path.parent().and_then(|parent| parent.join(&new).ok()) else { continue };
        let tree = keeper.state.tree(&delivery.user)?;
        let (dir, name) = files::open_parent_beneath(tree.as_fd(), delivery.path.relative())?;
        match files::rename(dir.as_fd(), name, dir.as_fd(), new.as_os_str(), false) {
            Ok(()) => {
                files::sync(dir.as_fd())?;
                writes.push(Write::Moved {
                    drop: record.drop,
                    user: delivery.user.clone(),
                    from: delivery.path.clone(),
                    to: target,
                });
            }
            Err(e) if matches!(e.kind(), std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotFound) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(writes)
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
    if grant.folder().is_some_and(|folder| folder.mtime == policy::Mtime::Client) {
        let (worker, user) = (Arc::clone(keeper), client.user.clone());
        blocking(move || {
            let tree = worker.state.tree(&user)?;
            let (dir, name) = files::open_parent_beneath(tree.as_fd(), path.relative())?;
            Ok(files::set_times_at(dir.as_fd(), name, Some(i64::from(atime)), Some(i64::from(mtime)))?)
        })
        .await?;
    }
    drop(keeper.ledger.submit(Batch { events: vec![event], ..Batch::default() }));
    Ok(Answer::Done)
}

/// What is left to the user: of the quota if there is one, else of the disk.
pub async fn space(keeper: &Keeper, client: &Client, path: &VirtualPath) -> Result<Answer, Refusal> {
    let grant = keeper.permit(client, &Operation::Stat { path })?;
    let disk = files::room(keeper.state.jails())?;
    let used = keeper.ledger.usage(&client.user)?;
    let limits = grant.user().limits;
    let total = limits.bytes.map_or(disk.total, |size| size.0.min(disk.total));
    let left = limits.bytes.map_or(disk.free, |size| size.0.saturating_sub(used.bytes).min(disk.free));
    let files = limits.files.unwrap_or(disk.files);
    let files_free = limits.files.map_or(disk.files_free, |most| most.saturating_sub(used.files));
    Ok(Answer::Space { total, free: left, files, files_free })
}
