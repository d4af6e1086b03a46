//! Uploads that are complete and wait to be left alone (`finalize = "quiet …"`). Such an upload is a whole sealed file in
//! `.staging` and a note of the keeper's in `.commit`, where no session reaches it: what its delivery needs, sealed. While
//! there is a note the `.part` does not change: who comes back to the upload has it taken away first, and durably. So a
//! crash leaves an upload that waits or one that can be continued, and never delivers what was being changed.
//!
//! The notes are all there is to know; the register in memory is read from them at start. `due` delivers.

mod due;
mod notes;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::desk::{Client, Refusal};
use super::quota::Reserved;
use super::{Keeper, blocking, crash, takeover};
use crate::clock::{self, Time};
use crate::ipc::jail::{Answer, Commit, StagedFrom, Status, WaitingFile};
use crate::ledger::Kind;
use crate::names::{Digest, DropId, FileName, UserName};
use crate::policy::{self, Finalize, Grant, Operation, Policy};
use crate::seal;
use crate::sys::files::{self, Kind as FileKind};
use crate::vpath::VirtualPath;
pub use due::{Asked, deliver_due, deliver_when_due};
pub use notes::{has_note, is_note, load};

/// Names in one answer to a listing: with the longest names it fits into a message.
const PAGE: usize = 200;

/// Every upload that waits.
#[derive(Default)]
pub struct Register {
    state: Mutex<State>,
    /// Held while a note is changed: what is read is what is written over.
    notes: Mutex<()>,
    /// One at a time: a sweep that an admin asks for, and the clock.
    delivering: tokio::sync::Mutex<()>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<(UserName, DropId), Entry>,
    paths: HashMap<(UserName, VirtualPath), DropId>,
    /// The bucket of each note on the disk, also of one that could not be read: what keeps its key from being destroyed.
    buckets: HashMap<(UserName, DropId), u64>,
    /// When the clock looks next, if it sleeps.
    next: Option<Time>,
}

struct Entry {
    path: VirtualPath,
    size: u64,
    sha256: Digest,
    mtime: Option<u32>,
    closed_at: Time,
    /// Somebody was at it, or it failed: not tried again before then.
    not_before: Time,
    /// Room in the sender's quota until it is delivered; none if there was none at a start.
    reserved: Option<Reserved>,
}

/// One upload that waits, as of now.
#[derive(Clone)]
pub struct Waits {
    pub user: UserName,
    pub drop: DropId,
    pub path: VirtualPath,
    pub size: u64,
    pub sha256: Digest,
    pub mtime: Option<u32>,
    pub closed_at: Time,
}

impl Waits {
    /// When it is delivered, as policy has it now. A folder that waits no longer delivers at once.
    pub fn until(&self, policy: &Policy) -> Time {
        self.closed_at.plus(period(policy, &self.user, &self.path))
    }
}

fn period(policy: &Policy, user: &UserName, path: &VirtualPath) -> Duration {
    let folders = policy.user(user).into_iter().flat_map(|user| &user.folders);
    match folders.into_iter().find(|folder| path.below(&folder.path).is_some()).map(|folder| folder.finalize) {
        Some(Finalize::Quiet(span)) => span,
        _ => Duration::ZERO,
    }
}

/// For how long its folder lets an upload be continued.
fn window(policy: &Policy, user: &UserName, path: &VirtualPath) -> Duration {
    let folders = policy.user(user).into_iter().flat_map(|user| &user.folders);
    let folder = folders.into_iter().find(|folder| path.below(&folder.path).is_some());
    folder.map_or(Duration::ZERO, |folder| folder.resume_window)
}

impl Register {
    /// What waits at `path` in `user`'s view.
    pub fn at(&self, user: &UserName, path: &VirtualPath) -> Option<Waits> {
        let state = self.state();
        let drop = state.paths.get(&(user.clone(), path.clone()))?;
        state.waits(user, *drop)
    }

    /// Of what waits in `folder` of `user`'s view, the first names after `after`; and whether there are more.
    pub fn page(&self, user: &UserName, folder: &VirtualPath, after: Option<&FileName>) -> (Vec<WaitingFile>, bool) {
        let state = self.state();
        let own = state.entries.range((user.clone(), DropId([0; 16]))..=(user.clone(), DropId([0xff; 16])));
        let mut files: Vec<WaitingFile> = own
            .filter(|(_, entry)| entry.path.parent().as_ref() == Some(folder))
            .filter_map(|(_, entry)| {
                let mtime = entry.mtime.unwrap_or_else(|| u32::try_from(entry.closed_at.unix_seconds()).unwrap_or(0));
                Some(WaitingFile { name: entry.path.name()?, size: entry.size, mtime })
            })
            .filter(|file| after.is_none_or(|after| file.name > *after))
            .collect();
        files.sort_by(|one, other| one.name.cmp(&other.name));
        let more = files.len() > PAGE;
        files.truncate(PAGE);
        (files, more)
    }

    /// Whether anything waits in `folder` or deeper: it would find no place there any more.
    pub fn is_any_below(&self, user: &UserName, folder: &VirtualPath) -> bool {
        let state = self.state();
        let mut own = state.entries.range((user.clone(), DropId([0; 16]))..=(user.clone(), DropId([0xff; 16])));
        own.any(|(_, entry)| entry.path.below(folder).is_some())
    }

    pub fn count(&self) -> u64 {
        self.state().entries.len() as u64
    }

    /// Whether a note needs the key of this bucket.
    pub fn needs(&self, bucket: u64) -> bool {
        self.state().buckets.values().any(|needed| *needed == bucket)
    }

    fn holds(&self, user: &UserName, drop: DropId) -> bool {
        self.state().entries.contains_key(&(user.clone(), drop))
    }

    fn insert(&self, waits: Waits, reserved: Option<Reserved>, policy: &Policy) {
        let until = waits.until(policy);
        let Waits { user, drop, path, size, sha256, mtime, closed_at } = waits;
        let mut state = self.state();
        state.paths.insert((user.clone(), path.clone()), drop);
        let entry = Entry { path, size, sha256, mtime, closed_at, not_before: Time(0), reserved };
        state.entries.insert((user, drop), entry);
        if state.next.is_none_or(|next| until < next) {
            self.changed.notify_one();
        }
    }

    fn remove(&self, user: &UserName, drop: DropId) {
        let mut state = self.state();
        let Some(entry) = state.entries.remove(&(user.clone(), drop)) else { return };
        let at = (user.clone(), entry.path);
        if state.paths.get(&at) == Some(&drop) {
            state.paths.remove(&at);
        }
    }

    /// Policy is another, so what is due may be too.
    pub fn look_again(&self) {
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notes(&self) -> MutexGuard<'_, ()> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn waits(&self, user: &UserName, drop: DropId) -> Option<Waits> {
        let entry = self.entries.get(&(user.clone(), drop))?;
        Some(Waits {
            user: user.clone(),
            drop,
            path: entry.path.clone(),
            size: entry.size,
            sha256: entry.sha256,
            mtime: entry.mtime,
            closed_at: entry.closed_at,
        })
    }
}

/// CLOSE of an upload to a folder that waits. When it answers, the upload survives a power cut and will be delivered.
pub async fn begin(
    keeper: &Arc<Keeper>,
    client: &Client,
    request: Commit,
    file: OwnedFd,
    grant: Grant,
    span: Duration,
) -> Result<Answer, Refusal> {
    let closed_at = clock::now();
    let waits = Waits {
        user: client.user.clone(),
        drop: request.drop,
        path: request.path.clone(),
        size: request.size,
        sha256: request.sha256,
        mtime: request.mtime,
        closed_at,
    };
    let note = seal::Waiting {
        path: request.path.as_bytes().to_vec(),
        file_key: seal::FileKey::from_bytes(request.file_key.0),
        size: request.size,
        sha256: request.sha256.0,
        mtime: request.mtime,
        opened_at: request.opened_at.0,
        closed_at: closed_at.0,
        login_key: client.key.clone().unwrap_or_default(),
        address: client.address.to_string(),
        session: client.session.0,
    };
    let (worker, user, drop) = (Arc::clone(keeper), client.user.clone(), request.drop);
    let reserved = blocking(move || {
        let file = File::from(file);
        let facts = files::facts(file.as_fd())?;
        if facts.kind != FileKind::File || facts.links != 1 || worker.ledger.drop_record(&drop)?.is_some() {
            return Err(Refusal::machine("what was to wait is not a file in staging alone"));
        }
        let trailer = takeover::inspect(&file, drop, &note.file_key)?;
        if (trailer.size, trailer.sha256) != (note.size, note.sha256) {
            return Err(Refusal::machine("the file's own size or digest is not the one that was to wait"));
        }
        let reserved = worker.quotas.reserve(&worker.ledger, &user, &grant, note.size)?;
        // The bytes, then the note. A crash before the note: an upload that can be continued, as its journal says.
        files::sync(file.as_fd())?;
        let _changing = worker.waiting.notes();
        notes::write(&worker, &user, drop, &note)?;
        crash::point("wait-noted");
        Ok(reserved)
    })
    .await?;
    // A crash before the event: it is delivered all the same, and that is recorded.
    let mut event = keeper.event(client, Kind::UploadParked, Some(&waits.path));
    event.drop = Some(drop);
    event.bytes = Some(waits.size);
    event.sha256 = Some(waits.sha256);
    event.detail = Some(format!("complete; delivered when it was left alone until {}", closed_at.plus(span)));
    if let Err(refusal) = keeper.record_event(event).await {
        cancel(keeper, &client.user, drop).await?;
        return Err(refusal);
    }
    crash::point("wait-recorded");
    keeper.waiting.insert(waits, Some(reserved), &keeper.policy());
    Ok(Answer::Waiting { until: closed_at.plus(span) })
}

/// Its sender comes back to it: it waits no longer. When this returns, no crash delivers it.
pub async fn reopen(keeper: &Arc<Keeper>, client: &Client, from: &StagedFrom) -> Result<(), Refusal> {
    if !keeper.waiting.holds(&client.user, from.drop) {
        return Ok(());
    }
    cancel(keeper, &client.user, from.drop).await?;
    crash::point("wait-reopened");
    let mut event = keeper.event(client, Kind::UploadResumed, Some(&from.path));
    event.drop = Some(from.drop);
    event.detail = Some("it waited to be delivered, and waits no longer".to_owned());
    keeper.record_event(event).await
}

/// Takes the note away, durably, if there is one.
pub async fn cancel(keeper: &Arc<Keeper>, user: &UserName, drop: DropId) -> Result<(), Refusal> {
    let (worker, user) = (Arc::clone(keeper), user.clone());
    blocking(move || {
        let _changing = worker.waiting.notes();
        if has_note(&worker, &user, drop) {
            notes::remove(&worker, &user, drop)?;
        }
        worker.waiting.remove(&user, drop);
        Ok(())
    })
    .await
}

/// It waits on, under another name, and from now on. The session, which holds the upload's lock, moves its files.
pub async fn rename(
    keeper: &Arc<Keeper>,
    client: &Client,
    waits: &Waits,
    to: VirtualPath,
    replace: bool,
) -> Result<Answer, Refusal> {
    let moved = keeper.permit(client, &Operation::Rename { from: &waits.path, to: &to, folder: false })?;
    if moved.target().is_some_and(|target| target.temporary) {
        let say = "this file waits to be delivered: give it a final name";
        return Err(Refusal::rule(Status::Failure, say, "a final name to a temp name while it waits"));
    }
    let grant = keeper.permit(client, &Operation::Deliver { path: &to })?;
    let mut event = keeper.event(client, Kind::Renamed, Some(&waits.path));
    event.to = Some(to.clone());
    event.drop = Some(waits.drop);
    let (worker, now_at) = (Arc::clone(keeper), Waits { path: to, closed_at: event.at, ..waits.clone() });
    blocking(move || {
        let tree = worker.state.tree(&now_at.user)?;
        match files::facts_beneath(tree.as_fd(), now_at.path.relative()) {
            Ok(there) if there.kind != FileKind::File => return Err(policy::Reason::IsFolder.into()),
            Ok(_) if !replace => return Err(policy::Reason::Exists.into()),
            Ok(_) => grant.may_replace()?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let parent = now_at.path.parent().unwrap_or_else(VirtualPath::root);
                files::facts_beneath(tree.as_fd(), parent.relative())?;
            }
            Err(e) => return Err(e.into()),
        }
        change(&worker, &now_at.user, now_at.drop, |note| {
            note.path = now_at.path.as_bytes().to_vec();
            note.closed_at = now_at.closed_at.0;
        })?;
        let reserved = worker.waiting.take_room(&now_at.user, now_at.drop);
        worker.waiting.remove(&now_at.user, now_at.drop);
        worker.waiting.insert(now_at, reserved, &worker.policy());
        Ok(())
    })
    .await?;
    keeper.record_event(event).await.map(|()| Answer::Done)
}

/// A time that its client sets after CLOSE, as half of them do, is no coming back.
pub async fn set_mtime(keeper: &Arc<Keeper>, user: &UserName, waits: &Waits, mtime: u32) -> Result<(), Refusal> {
    let (worker, user, drop) = (Arc::clone(keeper), user.clone(), waits.drop);
    blocking(move || {
        change(&worker, &user, drop, |note| note.mtime = Some(mtime))?;
        if let Some(entry) = worker.waiting.state().entries.get_mut(&(user, drop)) {
            entry.mtime = Some(mtime);
        }
        Ok(())
    })
    .await
}

/// Replaces a note by a changed one, in one step.
fn change(
    keeper: &Keeper,
    user: &UserName,
    drop: DropId,
    change: impl FnOnce(&mut seal::Waiting),
) -> Result<(), Refusal> {
    let _changing = keeper.waiting.notes();
    let mut note = notes::read(keeper, user, drop)?.ok_or_else(|| Refusal::not_there("it waits no longer"))?;
    change(&mut note);
    notes::write(keeper, user, drop, &note)
}

impl Register {
    /// Gives up the room kept in the quota, for whoever keeps it from now on.
    pub fn take_room(&self, user: &UserName, drop: DropId) -> Option<Reserved> {
        self.state().entries.get_mut(&(user.clone(), drop))?.reserved.take()
    }
}
