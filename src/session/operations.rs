//! The requests that wait for the keeper: opening, committing, and everything that changes a name. Each is one async
//! function that asks, does its part on descriptors, and says what to answer. They hold nothing across a wait but what
//! they were given, so the rest of the channel goes on.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::channel::{Open, ReceiptFolder, Sftp, Shared, may_open};
use super::download::{DiskFile, Download};
use super::keeper::Keeper;
use super::namespace::{Place, Tree};
use super::reply::{
    BAD_HANDLE, DAMAGED, DRAINING, EXISTS, KEEPER_GONE, NO_SUCH_FILE, Outcome, READ_ONLY_RECEIPTS, Refusal,
};
use super::staging::Part;
use super::upload::{self, Finished, Habits, Upload};
use crate::clock::Time;
use crate::ipc::jail::{Abandon, Answer, Commit, FolderKind, Key, Opened, Staged, StagedFrom, ToKeeper};
use crate::names::{DropId, unescaped};
use crate::seal::{FileKey, HEADER_LEN, Reader};
use crate::sftp::attrs::Attrs;
use crate::sftp::extension::Space;
use crate::sftp::packet::OpenFlags;
use crate::sftp::reply;
use crate::sftp::status::Status;
use crate::vpath::VirtualPath;

/// A request with its paths parsed, on its way through the lane.
#[derive(Debug)]
pub enum Operation {
    Open { path: VirtualPath, flags: OpenFlags },
    OpenDir { path: VirtualPath },
    ReadReceipts { handle: u32 },
    CloseAway { handle: u32 },
    Stat { path: VirtualPath },
    SetStat { path: VirtualPath, attrs: Attrs },
    SetTimes { path: VirtualPath, atime: u32, mtime: u32 },
    MakeFolder { path: VirtualPath },
    RemoveFolder { path: VirtualPath },
    Remove { path: VirtualPath },
    Rename { from: VirtualPath, to: VirtualPath, replace: bool },
    Space { path: VirtualPath },
}

/// Whether even looking at `path` needs the keeper.
pub fn needs_keeper(tree: &Tree, path: &VirtualPath) -> bool {
    matches!(tree.place(path), Place::Receipts(below) if !below.is_root())
}

/// Does it and appends the answer; a refusal is the caller's to append.
pub async fn perform(sftp: &Arc<Sftp>, id: u32, operation: Operation, out: &mut Vec<u8>) -> Outcome<()> {
    let shared = &sftp.shared;
    let (tree, keeper) = (&shared.tree, &shared.keeper);
    match operation {
        Operation::Open { path, flags } => {
            if !may_open(keeper) {
                return Err(DRAINING);
            }
            sftp.reserve()?;
            let opened = if flags.write() {
                open_upload(sftp, path, flags).await.map(|upload| Open::Upload(Box::new(upload)))
            } else {
                open_for_reading(shared, path).await
            };
            match opened {
                Ok(file) => reply::handle(out, id, sftp.insert(file)),
                Err(refusal) => {
                    sftp.unreserve();
                    return Err(refusal);
                }
            }
            return Ok(());
        }
        Operation::OpenDir { path } => {
            sftp.reserve()?;
            match open_folder(shared, path).await {
                Ok(folder) => reply::handle(out, id, sftp.insert(folder)),
                Err(refusal) => {
                    sftp.unreserve();
                    return Err(refusal);
                }
            }
            return Ok(());
        }
        Operation::ReadReceipts { handle } => return read_receipts(sftp, id, handle, out).await,
        Operation::CloseAway { handle } => sftp.drop_handle(handle)?,
        Operation::Stat { path } => {
            let attrs = stat(sftp, &path).await?;
            reply::attrs(out, id, &attrs);
            return Ok(());
        }
        Operation::SetStat { path, attrs } => set_stat(sftp, path, &attrs).await?,
        Operation::SetTimes { path, atime, mtime } => set_times(shared, path, atime, mtime).await,
        Operation::MakeFolder { path } => {
            refuse_receipts(tree, &path)?;
            keeper.done(ToKeeper::MakeFolder { path }).await?;
        }
        Operation::RemoveFolder { path } => {
            refuse_receipts(tree, &path)?;
            keeper.done(ToKeeper::RemoveFolder { path }).await?;
        }
        Operation::Remove { path } => remove(sftp, path).await?,
        Operation::Rename { from, to, replace } => rename(sftp, from, to, replace).await?,
        Operation::Space { path } => match keeper.ask(ToKeeper::Space { path }).await? {
            Answer::Space { total, free, files, files_free } => {
                reply::extended(out, id, |out| Space { total, free, files, files_free }.write(out));
                return Ok(());
            }
            _ => return Err(KEEPER_GONE),
        },
    }
    reply::status(out, id, Status::Ok, Status::Ok.say());
    Ok(())
}

fn refuse_receipts(tree: &Tree, path: &VirtualPath) -> Outcome<()> {
    if matches!(tree.place(path), Place::Receipts(_)) { Err(READ_ONLY_RECEIPTS) } else { Ok(()) }
}

// --- uploads --------------------------------------------------------------------------------------------------------

async fn stage(keeper: &Keeper, path: &VirtualPath, from: Option<StagedFrom>, exclusive: bool) -> Outcome<Staged> {
    match keeper.ask(ToKeeper::Stage { path: path.clone(), from, exclusive }).await? {
        Answer::Staged(staged) => Ok(*staged),
        _ => Err(KEEPER_GONE),
    }
}

async fn open_upload(sftp: &Arc<Sftp>, path: VirtualPath, flags: OpenFlags) -> Outcome<Upload> {
    let shared = &sftp.shared;
    let (tree, keeper) = (&shared.tree, &shared.keeper);
    refuse_receipts(tree, &path)?;
    let exists = tree.exists(&path);
    let found = tree.staging.open(&path)?;
    let habits = Habits {
        truncated: flags.truncate(),
        appends: flags.append(),
        cuts_when_interrupted: sftp.cuts_when_interrupted(),
    };
    if flags.create() && flags.exclusive() && found.as_ref().is_some_and(|part| part.head().is_some()) && !exists {
        // To the client it exists: STAT says so.
        return Err(EXISTS);
    }
    if !flags.create() && !exists && found.is_none() {
        return Err(NO_SUCH_FILE);
    }
    let mut old = None;
    if let Some(part) = found {
        match part.head() {
            Some(head) if !flags.truncate() && !exists => {
                let drop = head.drop_id();
                let from = Some(StagedFrom { path: path.clone(), drop });
                // A keeper that no longer knows the upload, or a journal that does not open: begin anew.
                if let Ok(staged) = stage(keeper, &path, from, false).await {
                    match Upload::resume(path.clone(), part, &tree.staging, &staged, habits) {
                        Ok(upload) => return Ok(upload),
                        Err(refusal) => {
                            tracing::warn!(%path, say = %refusal.say, "a staged upload cannot be continued; it begins anew");
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
            let request = ToKeeper::Discard { path: path.clone(), drop, bytes: 0, keep: false, why: Abandon::Removed };
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
        keeper.tell(ToKeeper::Discard { path, drop, bytes: 0, keep: false, why: Abandon::Failed });
    }
    begun
}

/// The content that a shared file has now, for a client that opens it without cutting it.
async fn open_base(shared: &Shared, path: &VirtualPath) -> Outcome<upload::Base> {
    let file = shared.tree.open(path)?;
    match ask_open(&shared.keeper, path, &file).await? {
        Opened::Managed { file_key, .. } => {
            let len = crate::sys::files::facts(file.as_fd())?.size;
            Ok(Reader::open(DiskFile(file), len, &FileKey::from_bytes(file_key.0))?)
        }
        Opened::Sealed { .. } => Err(DAMAGED),
    }
}

/// CLOSE of an upload: committed, parked, or, if anything went wrong before, thrown away and refused.
pub async fn close_upload(shared: &Shared, mut upload: Upload) -> Outcome<()> {
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
    let mtime = upload.mtime;
    match upload.finish(path.name()) {
        Ok(finished) => commit(shared, path, drop, mtime, finished).await,
        Err((upload, refusal)) => {
            tracing::warn!(%path, size, say = %refusal.say, "an upload could not be finished");
            throw_away(shared, *upload, &refusal).await;
            Err(refusal)
        }
    }
}

async fn commit(
    shared: &Shared,
    path: VirtualPath,
    drop: DropId,
    mtime: Option<u32>,
    finished: Finished,
) -> Outcome<()> {
    let Finished { part, size, sha256, file_key, opened_at } = finished;
    let file_key = Key(file_key);
    let request = Commit { path: path.clone(), drop, size, sha256, file_key, mtime, opened_at: Time(opened_at) };
    let answer = shared.keeper.ask_with(ToKeeper::Commit(Box::new(request)), &[part.reader().as_fd()]).await;
    match answer {
        // A crash before this removal leaves a `.part` that the keeper knows as committed and clears away.
        Ok(Answer::Committed { .. }) => Ok(shared.tree.staging.remove(part)?),
        Ok(_) => Err(KEEPER_GONE),
        // The keeper may have committed and not have lived to say so: recovery decides, not we.
        Err(refusal) if refusal == KEEPER_GONE => Err(refusal),
        Err(refusal) => {
            let _ = shared.tree.staging.remove(part);
            let request = ToKeeper::Discard { path, drop, bytes: size, keep: false, why: Abandon::Refused };
            shared.keeper.tell(request);
            Err(refusal)
        }
    }
}

/// An upload that broke a rule or failed: nothing of it stays, so that nothing of it stats.
async fn throw_away(shared: &Shared, upload: Upload, refusal: &Refusal) {
    let why = if upload::is_refusal(refusal) { Abandon::Refused } else { Abandon::Failed };
    let (path, drop, bytes) = (upload.path.clone(), upload.drop, upload.len());
    if let Err(refusal) = upload.remove(&shared.tree.staging) {
        tracing::warn!(%path, say = %refusal.say, "staged files could not be removed");
    }
    let _ = shared.keeper.done(ToKeeper::Discard { path, drop, bytes, keep: false, why }).await;
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
            let _ = shared.keeper.done(ToKeeper::Discard { path, drop, bytes, keep: true, why }).await;
        }
        Err(refusal) => throw_away(shared, upload, &refusal).await,
    }
}

/// Gives up the lock before the keeper hears that the upload is free.
fn drop_upload(upload: Upload) {
    std::mem::drop(upload);
}

/// Takes up a parked upload under its own or another name.
async fn take_up(
    shared: &Shared,
    part: Part,
    from: &VirtualPath,
    to: &VirtualPath,
    exclusive: bool,
) -> Outcome<Upload> {
    let head = part.head().ok_or(DAMAGED)?;
    let origin = StagedFrom { path: from.clone(), drop: head.drop_id() };
    let staged = stage(&shared.keeper, to, Some(origin), exclusive).await?;
    Upload::resume(from.clone(), part, &shared.tree.staging, &staged, Habits::default())
}

// --- reading --------------------------------------------------------------------------------------------------------

async fn ask_open(keeper: &Keeper, path: &VirtualPath, file: &File) -> Outcome<Opened> {
    let mut header = vec![0; HEADER_LEN];
    file.read_exact_at(&mut header, 0)?;
    match keeper.ask(ToKeeper::Open { path: path.clone(), header }).await? {
        Answer::Opened(opened) => Ok(*opened),
        _ => Err(KEEPER_GONE),
    }
}

async fn open_for_reading(shared: &Shared, path: VirtualPath) -> Outcome<Open> {
    let tree = &shared.tree;
    match tree.place(&path) {
        Place::Receipts(below) => return receipt(&shared.keeper, &below).await.map(|(text, at)| Open::Text(text, at)),
        Place::Above => return Err(Refusal::failure("this is a folder")),
        Place::Nowhere => return Err(NO_SUCH_FILE),
        Place::In(_) => {}
    }
    let disk = tree.resolve(path.clone());
    let file = tree.open(&disk)?;
    match ask_open(&shared.keeper, &disk, &file).await? {
        // The key opens it: it has no name ending in `.sealed`.
        Opened::Managed { drop, file_key } => {
            let key = FileKey::from_bytes(file_key.0);
            let opened = Download::managed(disk.clone(), file, drop, &key);
            if let Err(refusal) = &opened
                && *refusal == DAMAGED
            {
                let what = "head, trailer or length do not fit together".to_owned();
                shared.keeper.done(ToKeeper::Corrupt { path: disk, drop, what }).await?;
            }
            opened.map(|download| Open::Download(Box::new(download)))
        }
        Opened::Sealed { drop, envelope } if disk != path => {
            Download::sealed(disk, file, drop, envelope).map(|download| Open::Download(Box::new(download)))
        }
        Opened::Sealed { .. } => Err(NO_SUCH_FILE),
    }
}

/// A download's handle is closed, or its connection has ended.
pub fn ended(keeper: &Keeper, download: &Download) {
    keeper.tell(ToKeeper::Pulled {
        path: download.path.clone(),
        drop: download.drop,
        bytes: download.sent(),
        whole: download.whole(),
    });
}

async fn open_folder(shared: &Shared, path: VirtualPath) -> Outcome<Open> {
    if let Place::Receipts(below) = shared.tree.place(&path) {
        // The first page says whether there is such a folder; the root of receipts always is.
        if !below.is_root() {
            receipts_page(&shared.keeper, &path, None).await?;
        }
        return Ok(Open::Receipts(Box::new(ReceiptFolder { path, after: None, done: false })));
    }
    let folder = shared.tree.open_folder(&path)?;
    shared.keeper.done(ToKeeper::List { path }).await?;
    Ok(Open::Folder(Box::new(folder)))
}

// --- receipts -------------------------------------------------------------------------------------------------------

/// Names in `/receipts` are escaped, so that any file name is one printable line.
fn plain(below: &VirtualPath) -> Outcome<VirtualPath> {
    let text = std::str::from_utf8(below.as_bytes()).map_err(|_| NO_SUCH_FILE)?;
    let bytes = unescaped(text).ok_or(NO_SUCH_FILE)?;
    VirtualPath::parse(&bytes).map_err(|_| NO_SUCH_FILE)
}

async fn receipts_page(
    keeper: &Keeper,
    path: &VirtualPath,
    after: Option<String>,
) -> Outcome<(Vec<crate::ipc::jail::ReceiptEntry>, bool)> {
    match keeper.ask(ToKeeper::Receipts { path: path.clone(), after }).await? {
        Answer::Receipts { page, more } => Ok((page, more)),
        _ => Err(KEEPER_GONE),
    }
}

/// The three files that a receipt is.
#[derive(Clone, Copy)]
enum ReceiptPart {
    Text,
    Signature,
    Content,
}

/// The bytes of a file below `/receipts`, and when it was given.
async fn receipt(keeper: &Keeper, below: &VirtualPath) -> Outcome<(Vec<u8>, u64)> {
    let bytes = below.as_bytes();
    let part = [
        (&b".receipt"[..], ReceiptPart::Text),
        (b".receipt.sig", ReceiptPart::Signature),
        (b".content.sig", ReceiptPart::Content),
    ];
    let found = part.into_iter().find_map(|(ending, part)| bytes.strip_suffix(ending).map(|of| (of, part)));
    let (of, part) = found.ok_or(NO_SUCH_FILE)?;
    let path = plain(&VirtualPath::parse(of)?)?;
    match keeper.ask(ToKeeper::Receipt { path }).await? {
        Answer::Receipt(receipt) => {
            let text = match part {
                ReceiptPart::Text => receipt.text,
                ReceiptPart::Signature => receipt.signature,
                ReceiptPart::Content => receipt.content_signature,
            };
            Ok((text.into_bytes(), crate::clock::now().unix_seconds()))
        }
        _ => Err(KEEPER_GONE),
    }
}

async fn read_receipts(sftp: &Arc<Sftp>, id: u32, handle: u32, out: &mut Vec<u8>) -> Outcome<()> {
    let mut file = sftp.borrow(handle)?;
    let result = match &mut file {
        Open::Receipts(folder) => next_receipts(sftp, id, folder, out).await,
        _ => Err(BAD_HANDLE),
    };
    sftp.give_back(handle, file);
    result
}

async fn next_receipts(sftp: &Arc<Sftp>, id: u32, folder: &mut ReceiptFolder, out: &mut Vec<u8>) -> Outcome<()> {
    let tree = &sftp.shared.tree;
    if !folder.done {
        let (page, more) = receipts_page(&sftp.shared.keeper, &folder.path, folder.after.take()).await?;
        folder.done = !more || page.is_empty();
        folder.after =
            page.last().map(|entry| if entry.folder { format!("{}/", entry.name) } else { entry.name.clone() });
        let now = crate::clock::now().unix_seconds();
        let mut names = reply::Names::begin(out, id);
        for entry in &page {
            let attrs = if entry.folder {
                tree.folder_attrs(None)
            } else {
                tree.text_attrs(u64::from(entry.size), entry.at.unix_seconds())
            };
            names.push(entry.name.as_bytes(), &attrs, &tree.owner, now);
        }
        if names.end() {
            return Ok(());
        }
    }
    reply::status(out, id, Status::Eof, Status::Eof.say());
    Ok(())
}

async fn stat(sftp: &Arc<Sftp>, path: &VirtualPath) -> Outcome<Attrs> {
    let tree = &sftp.shared.tree;
    let Place::Receipts(below) = tree.place(path) else { return sftp.stat(path) };
    if below.is_root() {
        return Ok(tree.folder_attrs(None));
    }
    match receipt(&sftp.shared.keeper, &below).await {
        Ok((text, at)) => Ok(tree.text_attrs(text.len() as u64, at)),
        Err(refusal) if refusal == KEEPER_GONE => Err(refusal),
        Err(_) => receipts_page(&sftp.shared.keeper, path, None).await.map(|_| tree.folder_attrs(None)),
    }
}

// --- names ----------------------------------------------------------------------------------------------------------

/// SETSTAT never fails an upload that went well: permissions and owners are accepted and not kept, times are kept
/// where they can be, and a size that is the file's own changes nothing.
async fn set_stat(sftp: &Arc<Sftp>, path: VirtualPath, attrs: &Attrs) -> Outcome<()> {
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
    let mut upload = open_upload(sftp, path, OpenFlags(0x02)).await?;
    if let Err(refusal) = upload.truncate(size, true) {
        throw_away(shared, upload, &refusal).await;
        return Err(refusal);
    }
    close_upload(shared, upload).await
}

/// Whatever the keeper says: a time that is not kept must not fail the job of the client that set it.
async fn set_times(shared: &Shared, path: VirtualPath, atime: u32, mtime: u32) {
    let tree = &shared.tree;
    if !tree.exists(&path) {
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
                    shared.keeper.tell(ToKeeper::Discard { path, drop, bytes, keep: true, why });
                }
                Err(refusal) => tracing::warn!(%path, say = %refusal.say, "a time could not be noted"),
            }
        }
        return;
    }
    let path = tree.resolve(path);
    if let Err(refusal) = shared.keeper.done(ToKeeper::SetTimes { path: path.clone(), atime, mtime }).await {
        tracing::info!(%path, say = %refusal.say, "a client's time was not set");
    }
}

async fn remove(sftp: &Arc<Sftp>, path: VirtualPath) -> Outcome<()> {
    let shared = &sftp.shared;
    let tree = &shared.tree;
    refuse_receipts(tree, &path)?;
    let disk = tree.resolve(path);
    if tree.exists(&disk) {
        return shared.keeper.done(ToKeeper::Remove { path: disk }).await;
    }
    if matches!(tree.place(&disk), Place::In(_))
        && let Some(part) = tree.staging.open(&disk)?
    {
        let (drop, bytes) = (part.head().map(|head| head.drop_id()), tree.staging.size(&disk).unwrap_or(0));
        tree.staging.remove(part)?;
        if let Some(drop) = drop {
            let request = ToKeeper::Discard { path: disk, drop, bytes, keep: false, why: Abandon::Removed };
            shared.keeper.done(request).await?;
        }
        return Ok(());
    }
    // The keeper refuses it, and puts on record that it was tried.
    shared.keeper.done(ToKeeper::Remove { path: disk }).await
}

async fn rename(sftp: &Arc<Sftp>, from: VirtualPath, to: VirtualPath, replace: bool) -> Outcome<()> {
    let shared = &sftp.shared;
    let tree = &shared.tree;
    refuse_receipts(tree, &from)?;
    refuse_receipts(tree, &to)?;
    if sftp.is_uploading(&from) {
        return Err(Refusal::failure("this file is still being written"));
    }
    let (from, to) = (tree.resolve(from), tree.resolve(to));
    if !tree.exists(&from)
        && matches!(tree.place(&from), Place::In(_))
        && let Some(part) = tree.staging.open(&from)?
    {
        return rename_staged(shared, part, from, to, replace).await;
    }
    shared.keeper.done(ToKeeper::Rename { from, to, replace }).await
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
        shared.keeper.done(ToKeeper::Discard { path: from, drop, bytes, keep: true, why }).await?;
        return Err(Refusal::failure("this upload is not complete"));
    }
    // What an upload to the new name left behind gives way.
    if let Some(old) = tree.staging.open(&to)? {
        let drop = old.head().map(|head| head.drop_id());
        tree.staging.remove(old)?;
        if let Some(drop) = drop {
            let why = Abandon::Removed;
            shared.keeper.done(ToKeeper::Discard { path: to.clone(), drop, bytes: 0, keep: false, why }).await?;
        }
    }
    upload.move_to(&tree.staging, to)?;
    close_upload(shared, upload).await
}
