//! Changes of names and attributes: the keeper makes them, except that a staged upload's own files are moved and removed
//! here. A temp name that becomes a final one is a delivery.

use std::sync::Arc;

use super::reading::stat;
use super::refuse_receipts;
use super::uploads::{close_upload, drop_upload, open_upload, take_up, throw_away};
use crate::ipc::jail::{Abandon, FolderKind, ToKeeper};
use crate::session::channel::{Sftp, Shared};
use crate::session::namespace::Place;
use crate::session::reply::{CUT_SHORT, EXISTS, Outcome, Refusal};
use crate::session::staging::Part;
use crate::sftp::attrs::Attrs;
use crate::sftp::packet::OpenFlags;
use crate::shown::Shown;
use crate::vpath::VirtualPath;

/// SETSTAT never fails an upload that went well: permissions and owners are accepted and not kept, times are kept
/// where they can be, and a size that is the file's own changes nothing.
pub(super) async fn set_stat(sftp: &Arc<Sftp>, path: VirtualPath, attrs: &Attrs) -> Outcome<()> {
    let shared = &sftp.shared;
    if sftp.set_stat(&path, attrs)? {
        return Ok(());
    }
    let there = stat(sftp, &path).await?;
    if attrs.size.is_some_and(|size| Some(size) != there.size) {
        return set_size(sftp, path, attrs.size.unwrap_or(0)).await;
    }
    if let Some((atime, mtime)) = attrs.times {
        set_times(shared, path, atime, mtime).await;
    }
    Ok(())
}

/// SETSTAT with another size, by path: in a shared folder that is a new version of the file.
async fn set_size(sftp: &Arc<Sftp>, path: VirtualPath, size: u64) -> Outcome<()> {
    let shared = &sftp.shared;
    if shared.tree.place(&path) != Place::In(FolderKind::Shared) || !shared.tree.exists(&path) {
        return Err(Refusal::failure("the size of a delivered file does not change"));
    }
    let mut upload = open_upload(shared, path, OpenFlags(0x02), sftp.cuts_when_interrupted()).await?;
    if let Err(refusal) = upload.truncate(&shared.tree.staging, size, true) {
        throw_away(shared, upload, &refusal).await;
        return Err(refusal);
    }
    close_upload(shared, upload).await
}

/// Whatever the keeper says: a time that is not kept must not fail the job of the client that set it.
pub async fn set_times(shared: &Shared, path: VirtualPath, atime: u32, mtime: u32) {
    let tree = &shared.tree;
    if !tree.exists(&path) && !tree.staging.is_waiting(&path) {
        // Parked under a temp name: the time waits in the journal for the commit.
        if let Ok(Some(part)) = tree.staging.open(&path)
            && let Ok(mut upload) = take_up(shared, part, &path, &path, false).await
        {
            upload.mtime = Some(mtime);
            let (drop, parks) = (upload.drop, upload.temporary);
            let parked =
                if parks { upload.park(&tree.staging) } else { upload.sync(&tree.staging).map(|()| upload.len()) };
            drop_upload(upload);
            match parked {
                Ok(size) if parks => shared.keeper.tell(ToKeeper::Park { path, drop, size }),
                Ok(bytes) => {
                    let why = Abandon::Disconnected;
                    shared.keeper.tell(ToKeeper::Discard { path, drop, bytes, keep: true, why, say: None });
                }
                Err(refusal) => tracing::warn!(path = %Shown(&path), say = %refusal.say, "a time could not be noted"),
            }
        }
        return;
    }
    let path = tree.resolve(path);
    if let Err(refusal) = shared.keeper.done(ToKeeper::SetTimes { path: path.clone(), atime, mtime }).await {
        tracing::info!(path = %Shown(&path), say = %refusal.say, "a client's time was not set");
    }
}

pub(super) async fn remove(sftp: &Arc<Sftp>, path: VirtualPath) -> Outcome<()> {
    let shared = &sftp.shared;
    let tree = &shared.tree;
    refuse_receipts(tree, &path)?;
    let disk = tree.resolve(path);
    let waits = tree.staging.is_waiting(&disk);
    if tree.exists(&disk) && !waits {
        return shared.keeper.done(ToKeeper::Remove { path: disk }).await;
    }
    if matches!(tree.place(&disk), Place::In(_))
        && let Some(part) = tree.staging.open(&disk)?
    {
        let (drop, bytes) = (part.head().map(|head| head.drop_id()), tree.staging.size(&disk).unwrap_or(0));
        tree.staging.remove(part)?;
        if let Some(drop) = drop {
            let request =
                ToKeeper::Discard { path: disk.clone(), drop, bytes, keep: false, why: Abandon::Removed, say: None };
            shared.keeper.done(request).await?;
        }
        // To its client there was one file: the older version that a waiting one hid goes with it.
        if waits && tree.exists(&disk) {
            return shared.keeper.done(ToKeeper::Remove { path: disk }).await;
        }
        return Ok(());
    }
    // The keeper refuses it, and puts on record that it was tried.
    shared.keeper.done(ToKeeper::Remove { path: disk }).await
}

pub(super) async fn rename(sftp: &Arc<Sftp>, from: VirtualPath, to: VirtualPath, replace: bool) -> Outcome<()> {
    let shared = &sftp.shared;
    let tree = &shared.tree;
    refuse_receipts(tree, &from)?;
    refuse_receipts(tree, &to)?;
    if sftp.is_uploading(&from) {
        return Err(Refusal::failure("this file is still being written"));
    }
    let (from, to) = (tree.resolve(from), tree.resolve(to));
    if !replace && from != to && tree.staging.is_waiting(&to) {
        return Err(EXISTS);
    }
    if tree.staging.is_waiting(&from)
        && let Some(part) = tree.staging.open(&from)?
    {
        return rename_waiting(shared, part, from, to, replace).await;
    }
    if !tree.exists(&from)
        && matches!(tree.place(&from), Place::In(_))
        && let Some(part) = tree.staging.open(&from)?
    {
        return rename_staged(shared, part, from, to, replace).await;
    }
    shared.keeper.done(ToKeeper::Rename { from, to, replace }).await
}

/// It goes on waiting, under another name. We hold its lock, so that it is not delivered meanwhile; the keeper's note is
/// what counts, and a crash before the files have followed it leaves them where the keeper looks for them too.
async fn rename_waiting(
    shared: &Shared,
    mut part: Part,
    from: VirtualPath,
    to: VirtualPath,
    replace: bool,
) -> Outcome<()> {
    let tree = &shared.tree;
    let old = tree.staging.open(&to)?;
    shared.keeper.done(ToKeeper::Rename { from, to: to.clone(), replace }).await?;
    if let Some(old) = old {
        let drop = old.head().map(|head| head.drop_id());
        tree.staging.remove(old)?;
        if let Some(drop) = drop {
            let why = Abandon::Removed;
            shared
                .keeper
                .done(ToKeeper::Discard { path: to.clone(), drop, bytes: 0, keep: false, why, say: None })
                .await?;
        }
    }
    Ok(tree.staging.rename(&mut part, &to)?)
}

/// A temp name becomes the final one: this is when the upload is delivered.
async fn rename_staged(shared: &Shared, part: Part, from: VirtualPath, to: VirtualPath, replace: bool) -> Outcome<()> {
    let tree = &shared.tree;
    let mut upload = take_up(shared, part, &from, &to, !replace).await?;
    if !upload.is_closed() {
        // It was cut off in the middle; under its final name it would pass for whole.
        let (drop, bytes) = (upload.drop, upload.len());
        drop_upload(upload);
        let why = Abandon::Disconnected;
        shared.keeper.done(ToKeeper::Discard { path: from, drop, bytes, keep: true, why, say: None }).await?;
        return Err(Refusal::failure("this upload is not complete"));
    }
    if !upload.temporary
        && let Err(refusal) = upload.judge_whole()
    {
        // It stays under its temp name, to be continued and renamed again.
        if refusal == CUT_SHORT {
            let (drop, bytes) = (upload.drop, upload.len());
            drop_upload(upload);
            let why = Abandon::Interrupted;
            shared.keeper.done(ToKeeper::Discard { path: from, drop, bytes, keep: true, why, say: None }).await?;
        } else {
            throw_away(shared, upload, &refusal).await;
        }
        return Err(refusal);
    }
    // What an upload to the new name left behind gives way.
    if let Some(old) = tree.staging.open(&to)? {
        let drop = old.head().map(|head| head.drop_id());
        tree.staging.remove(old)?;
        if let Some(drop) = drop {
            let why = Abandon::Removed;
            shared
                .keeper
                .done(ToKeeper::Discard { path: to.clone(), drop, bytes: 0, keep: false, why, say: None })
                .await?;
        }
    }
    if upload.temporary {
        upload.move_to(&tree.staging, to)?;
    } else {
        // Its files stay under the temp name until it is committed: a crash leaves it parked, to be renamed again, and
        // nothing that could pass for delivered.
        upload.path = to;
    }
    close_upload(shared, upload).await
}
