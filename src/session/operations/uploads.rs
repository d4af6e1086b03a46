//! An upload's dealings with the keeper: granted or continued at OPEN, committed or parked at CLOSE, kept or thrown away
//! when it ends otherwise. Whatever happens, the lock on the `.part` goes before the keeper hears that it is free.

use std::os::fd::AsFd;

use super::reading::ask_open;
use super::refuse_receipts;
use crate::clock::{self, Time};
use crate::ipc::jail::{Abandon, Answer, Commit, FolderKind, Key, Opened, Staged, StagedFrom, ToKeeper};
use crate::names::DropId;
use crate::seal::{FileKey, Reader};
use crate::session::channel::Shared;
use crate::session::download::DiskFile;
use crate::session::keeper::Keeper;
use crate::session::reply::{CUT_SHORT, DAMAGED, EXISTS, KEEPER_GONE, LOST_END, NO_SUCH_FILE, Outcome, Refusal};
use crate::session::staging::Part;
use crate::session::upload::{self, Finished, Habits, Upload};
use crate::sftp::packet::OpenFlags;
use crate::shown::Shown;
use crate::vpath::VirtualPath;

async fn stage(keeper: &Keeper, path: &VirtualPath, from: Option<StagedFrom>, exclusive: bool) -> Outcome<Staged> {
    match keeper.ask(ToKeeper::Stage { path: path.clone(), from, exclusive }).await? {
        Answer::Staged(staged) => Ok(*staged),
        _ => Err(KEEPER_GONE),
    }
}

/// `cuts_when_interrupted`: see [`Habits`].
pub async fn open_upload(
    shared: &Shared,
    path: VirtualPath,
    flags: OpenFlags,
    cuts_when_interrupted: bool,
) -> Outcome<Upload> {
    let (tree, keeper) = (&shared.tree, &shared.keeper);
    refuse_receipts(tree, &path)?;
    // What waits hides an older version, in a folder that has versions.
    let exists = tree.exists(&path) && !tree.staging.is_waiting(&path);
    let found = tree.staging.open(&path)?;
    // What STAT has said, which nobody else can change now.
    let stated = tree.staging.size(&path);
    let habits = Habits { truncated: flags.truncate(), appends: flags.append(), cuts_when_interrupted };
    if flags.create() && flags.exclusive() && found.is_some() && stated.is_some() && !exists {
        // To the client it exists: STAT says so.
        return Err(EXISTS);
    }
    if !flags.create() && !exists && found.is_none() {
        return Err(NO_SUCH_FILE);
    }
    let mut old = None;
    if let Some(part) = found {
        match part.head() {
            Some(head) if !flags.truncate() && !exists && stated.is_some() => {
                let drop = head.drop_id();
                // None that can be read is one that does not open.
                let bucket = tree.staging.journal_bucket(&part).unwrap_or_default();
                let from = Some(StagedFrom { path: path.clone(), drop, bucket });
                // A keeper that no longer knows the upload, or a journal that does not open: begin anew.
                if let Ok(staged) = stage(keeper, &path, from, false).await {
                    match Upload::resume(path.clone(), part, &tree.staging, &staged, habits) {
                        Ok(upload) if stated.is_some_and(|size| upload.is_stated_as(size)) => return Ok(upload),
                        Ok(mut upload) => {
                            // A power cut took what the journal counts. From here on STAT says what is left.
                            tracing::warn!(path = %Shown(&path), left = upload.len(), "a staged upload has lost its end");
                            upload.sync(&tree.staging)?;
                            return Err(LOST_END);
                        }
                        Err(refusal) => {
                            tracing::warn!(path = %Shown(&path), say = %refusal.say, "a staged upload cannot be continued; it begins anew");
                            old = tree.staging.open(&path)?.map(|part| (part, Some(drop)));
                        }
                    }
                } else {
                    old = Some((part, Some(drop)));
                }
            }
            head => old = Some((part, head.map(|head| head.drop_id()))),
        }
    }
    let staged = stage(keeper, &path, None, flags.create() && flags.exclusive()).await?;
    // The older upload's bytes go only when the new one was granted.
    if let Some((part, drop)) = old {
        tree.staging.remove(part)?;
        if let Some(drop) = drop {
            let request =
                ToKeeper::Discard { path: path.clone(), drop, bytes: 0, keep: false, why: Abandon::Removed, say: None };
            keeper.done(request).await?;
        }
    }
    let base = if staged.kind == FolderKind::Shared && exists && !flags.truncate() {
        Some(open_base(shared, &path).await)
    } else {
        None
    };
    let drop = staged.drop;
    let begun = tree.staging.create(&path).and_then(|part| Upload::begin(path.clone(), part, &staged, habits));
    let begun = match (begun, base) {
        (Ok(mut upload), Some(Ok(base))) => {
            upload.set_base(base);
            Ok(upload)
        }
        (Ok(upload), None) => Ok(upload),
        (Ok(upload), Some(Err(refusal))) => {
            upload.remove(&tree.staging)?;
            Err(refusal)
        }
        (Err(refusal), _) => Err(refusal),
    };
    if begun.is_err() {
        keeper.tell(ToKeeper::Discard { path, drop, bytes: 0, keep: false, why: Abandon::Failed, say: None });
    }
    begun
}

/// The content that a shared file has now, for a client that opens it without cutting it.
async fn open_base(shared: &Shared, path: &VirtualPath) -> Outcome<upload::Base> {
    let file = shared.tree.open(path)?;
    match ask_open(&shared.keeper, path, &file).await? {
        Opened::Managed { drop, file_key, .. } => {
            let len = crate::sys::files::facts(file.as_fd())?.size;
            match Reader::open(DiskFile(file), len, &FileKey::from_bytes(file_key.0)) {
                Ok(base) => Ok(base),
                Err(error) => {
                    let what = error.to_string();
                    shared.keeper.done(ToKeeper::Corrupt { path: path.clone(), drop, what }).await?;
                    Err(DAMAGED)
                }
            }
        }
        Opened::Sealed { .. } => Err(DAMAGED),
    }
}

/// Before a write: an upload that lasts longer than its journal's key asks for another, and goes on meanwhile. If the
/// keeper says no, that is said when the upload is to be committed.
pub fn renew_journal(shared: &Shared, upload: &mut Upload) {
    let Some(renewal) = upload.renewal(clock::now()) else { return };
    let (keeper, path, drop) = (shared.keeper.clone(), upload.path.clone(), upload.drop);
    tokio::spawn(async move {
        if let Ok(Answer::Journal(grant)) = keeper.ask(ToKeeper::RenewJournal { path, drop }).await {
            renewal.answered(grant);
        }
    });
}

/// CLOSE of an upload: committed, parked, or, if anything went wrong before, thrown away and refused.
pub async fn close_upload(shared: &Shared, mut upload: Upload) -> Outcome<()> {
    tell_base_damage(shared, &mut upload);
    if upload.is_interrupted() {
        abandon(shared, upload, Abandon::Interrupted).await;
        return Ok(());
    }
    let (path, drop, size) = (upload.path.clone(), upload.drop, upload.len());
    let staging = &shared.tree.staging;
    if upload.temporary {
        let parked = match upload.park(staging) {
            Ok(size) => shared.keeper.done(ToKeeper::Park { path, drop, size }).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = parked {
            throw_away(shared, upload, &refusal).await;
            return Err(refusal);
        }
        return Ok(());
    }
    if let Some(refusal) = upload.fault().cloned() {
        throw_away(shared, upload, &refusal).await;
        return Err(refusal);
    }
    if let Err(refusal) = upload.judge_whole() {
        match refusal == CUT_SHORT {
            true => abandon(shared, upload, Abandon::Interrupted).await,
            false => throw_away(shared, upload, &refusal).await,
        }
        return Err(refusal);
    }
    let mtime = upload.mtime;
    let journal = match upload.waits.then(|| upload.closed_journal()).transpose() {
        Ok(journal) => journal,
        Err(refusal) => {
            throw_away(shared, upload, &refusal).await;
            return Err(refusal);
        }
    };
    match upload.finish(path.name()) {
        Ok(finished) => commit(shared, path, drop, mtime, finished, journal).await,
        Err((upload, refusal)) => {
            tracing::warn!(path = %Shown(&path), size, say = %refusal.say, "an upload could not be finished");
            throw_away(shared, *upload, &refusal).await;
            Err(refusal)
        }
    }
}

/// `journal`: of an upload that can be left waiting.
async fn commit(
    shared: &Shared,
    path: VirtualPath,
    drop: DropId,
    mtime: Option<u32>,
    finished: Finished,
    journal: Option<Vec<u8>>,
) -> Outcome<()> {
    let Finished { part, size, sha256, sums, file_key, opened_at } = finished;
    let file_key = Key(file_key);
    let request = Commit {
        path: path.clone(),
        drop,
        size,
        sha256,
        sums,
        file_key,
        mtime,
        opened_at: Time(opened_at),
        waits: journal.is_some(),
    };
    let answer = shared.keeper.ask_with(ToKeeper::Commit(Box::new(request)), &[part.reader().as_fd()]).await;
    match answer {
        // A crash before this removal leaves a `.part` that the keeper knows as committed and clears away.
        Ok(Answer::Committed { .. }) => Ok(shared.tree.staging.remove(part)?),
        Ok(Answer::Waiting { .. }) => {
            let Err(e) = shared.tree.staging.put_by(part, &path, size, &journal.unwrap_or_default()) else {
                return Ok(());
            };
            let request = ToKeeper::Discard { path, drop, bytes: size, keep: false, why: Abandon::Failed, say: None };
            shared.keeper.done(request).await?;
            Err(e.into())
        }
        Ok(_) => Err(KEEPER_GONE),
        // The keeper may have committed and not have lived to say so: recovery decides, not we.
        Err(refusal) if refusal == KEEPER_GONE => Err(refusal),
        Err(refusal) => {
            let _ = shared.tree.staging.remove(part);
            let request = ToKeeper::Discard { path, drop, bytes: size, keep: false, why: Abandon::Refused, say: None };
            shared.keeper.tell(request);
            Err(refusal)
        }
    }
}

/// An upload that broke a rule or failed: nothing of it stays, so that nothing of it stats.
pub async fn throw_away(shared: &Shared, mut upload: Upload, refusal: &Refusal) {
    tell_base_damage(shared, &mut upload);
    let why = if upload::is_refusal(refusal) { Abandon::Refused } else { Abandon::Failed };
    let (path, drop, bytes) = (upload.path.clone(), upload.drop, upload.len());
    if let Err(refusal) = upload.remove(&shared.tree.staging) {
        tracing::warn!(path = %Shown(&path), say = %refusal.say, "staged files could not be removed");
    }
    let say = (why == Abandon::Refused).then(|| refusal.say.to_string());
    let _ = shared.keeper.done(ToKeeper::Discard { path, drop, bytes, keep: false, why, say }).await;
}

/// What an upload into a shared file found wrong with its older version, once.
fn tell_base_damage(shared: &Shared, upload: &mut Upload) {
    if let Some((drop, what)) = upload.base_damage.take() {
        shared.keeper.tell(ToKeeper::Corrupt { path: upload.path.clone(), drop, what });
    }
}

/// An upload that ended without CLOSE, or was cut by its client: kept for resuming, never delivered.
pub async fn abandon(shared: &Shared, mut upload: Upload, why: Abandon) {
    if let Some(refusal) = upload.fault().cloned() {
        return throw_away(shared, upload, &refusal).await;
    }
    // What rests on an older version cannot be continued without it; and the older version still stands.
    let kept = if upload.has_base() { Err(DAMAGED) } else { upload.sync(&shared.tree.staging) };
    match kept {
        Ok(()) => {
            let (path, drop, bytes) = (upload.path.clone(), upload.drop, upload.len());
            drop_upload(upload);
            let _ = shared.keeper.done(ToKeeper::Discard { path, drop, bytes, keep: true, why, say: None }).await;
        }
        Err(refusal) => throw_away(shared, upload, &refusal).await,
    }
}

/// Gives up the lock before the keeper hears that the upload is free.
pub(super) fn drop_upload(upload: Upload) {
    std::mem::drop(upload);
}

/// Takes up a parked upload under its own or another name.
pub(super) async fn take_up(
    shared: &Shared,
    part: Part,
    from: &VirtualPath,
    to: &VirtualPath,
    exclusive: bool,
) -> Outcome<Upload> {
    let head = part.head().ok_or(DAMAGED)?;
    let bucket = shared.tree.staging.journal_bucket(&part)?;
    let origin = StagedFrom { path: from.clone(), drop: head.drop_id(), bucket };
    let staged = stage(&shared.keeper, to, Some(origin), exclusive).await?;
    Upload::resume(from.clone(), part, &shared.tree.staging, &staged, Habits::default())
}
