//! Reading: a sealed file with the key the keeper gives for it, a folder, and `/receipts`, which is the keeper's alone.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use crate::ipc::jail::{Answer, Opened, ReceiptEntry, ToKeeper};
use crate::names::{DropId, unescaped};
use crate::seal::{FileKey, HEADER_LEN};
use crate::session::channel::{Open, ReceiptFolder, Sftp, Shared};
use crate::session::download::{Damage, Download};
use crate::session::keeper::Keeper;
use crate::session::namespace::Place;
use crate::session::reply::{BAD_HANDLE, DAMAGED, KEEPER_GONE, NO_SUCH_FILE, Outcome, Refusal};
use crate::sftp::attrs::Attrs;
use crate::sftp::reply;
use crate::sftp::status::Status;
use crate::vpath::VirtualPath;

pub(super) async fn ask_open(keeper: &Keeper, path: &VirtualPath, file: &File) -> Outcome<Opened> {
    // Of a file that was cut the keeper sees the little that there is, and says whose it was.
    let mut header = Vec::with_capacity(HEADER_LEN);
    file.take(HEADER_LEN as u64).read_to_end(&mut header)?;
    match keeper.ask(ToKeeper::Open { path: path.clone(), header }).await? {
        Answer::Opened(opened) => Ok(*opened),
        _ => Err(KEEPER_GONE),
    }
}

pub async fn open_for_reading(shared: &Shared, path: VirtualPath) -> Outcome<Open> {
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
        // The view says under which name a file is there, as of login. What the keeper says since then may be otherwise.
        Opened::Managed { .. } if disk != path => Err(NO_SUCH_FILE),
        Opened::Managed { drop, file_key, size, sha256, counted } => {
            let key = FileKey::from_bytes(file_key.0);
            let opened = Download::managed(disk.clone(), file, drop, &key, (size, sha256));
            given(&shared.keeper, &disk, drop, opened, counted).await
        }
        Opened::Sealed { drop, size, envelope, counted } if disk != path => {
            let opened = Download::sealed(disk.clone(), file, drop, envelope, size);
            given(&shared.keeper, &disk, drop, opened, counted).await
        }
        Opened::Sealed { .. } => Err(NO_SUCH_FILE),
    }
}

async fn given(
    keeper: &Keeper,
    path: &VirtualPath,
    drop: DropId,
    opened: Result<Download, Damage>,
    counted: bool,
) -> Outcome<Open> {
    match opened {
        Ok(mut download) => {
            download.counted = counted;
            Ok(Open::Download(Box::new(download)))
        }
        Err(Damage(what)) => {
            keeper.done(ToKeeper::Corrupt { path: path.clone(), drop, what }).await?;
            Err(DAMAGED)
        }
    }
}

/// A download's handle is closed, or its connection has ended.
pub fn ended(keeper: &Keeper, download: &Download) {
    keeper.tell(pulled(download));
}

/// What the keeper is told of a download that has ended.
pub fn pulled(download: &Download) -> ToKeeper {
    ToKeeper::Pulled {
        path: download.path.clone(),
        drop: download.drop,
        bytes: download.sent(),
        whole: download.whole(),
    }
}

pub async fn open_folder(shared: &Shared, path: VirtualPath) -> Outcome<Open> {
    if let Place::Receipts(below) = shared.tree.place(&path) {
        // The first page says whether there is such a folder; the root of receipts always is.
        if !below.is_root() && receipts_page(&shared.keeper, &path, None).await?.2 {
            return Err(Refusal::failure("this is not a folder"));
        }
        return Ok(Open::Receipts(Box::new(ReceiptFolder { path, after: None, done: false })));
    }
    let mut folder = shared.tree.open_folder(&path)?;
    let mut after = None;
    loop {
        let answer = shared.keeper.ask(ToKeeper::List { path: path.clone(), after }).await?;
        let Answer::Listed { waiting, more } = answer else { return Err(KEEPER_GONE) };
        after = waiting.last().map(|file| file.name.clone());
        for file in waiting {
            let attrs = shared.tree.upload_attrs(file.size, Some(file.mtime));
            folder.add_waiting(file.name, attrs);
        }
        if !more || after.is_none() {
            return Ok(Open::Folder(Box::new(folder)));
        }
    }
}

// --- receipts -------------------------------------------------------------------------------------------------------

/// Names in `/receipts` are escaped, so that any file name is one printable line.
fn plain(below: &VirtualPath) -> Outcome<VirtualPath> {
    let text = std::str::from_utf8(below.as_bytes()).map_err(|_| NO_SUCH_FILE)?;
    let bytes = unescaped(text).ok_or(NO_SUCH_FILE)?;
    VirtualPath::parse(&bytes).map_err(|_| NO_SUCH_FILE)
}

/// Entries, whether there are more, and whether the path is a file's, whose entry it is.
pub async fn receipts_page(
    keeper: &Keeper,
    path: &VirtualPath,
    after: Option<String>,
) -> Outcome<(Vec<ReceiptEntry>, bool, bool)> {
    match keeper.ask(ToKeeper::Receipts { path: path.clone(), after }).await? {
        Answer::Receipts { page, more, file } => Ok((page, more, file)),
        _ => Err(KEEPER_GONE),
    }
}

/// The four files that a receipt is.
#[derive(Clone, Copy)]
enum ReceiptPart {
    Text,
    Signature,
    Content,
    Proof,
}

/// How the names of papers and their signatures end.
const PAPERS: [&[u8]; 4] = [b".consignment", b".consignment.sig", b".disclosure", b".disclosure.sig"];

/// A paper may be longer than a message.
async fn paper(keeper: &Keeper, path: &VirtualPath) -> Outcome<(Vec<u8>, u64)> {
    let mut bytes = Vec::new();
    loop {
        let offset = u32::try_from(bytes.len()).map_err(|_| KEEPER_GONE)?;
        match keeper.ask(ToKeeper::Paper { path: path.clone(), offset }).await? {
            Answer::Paper { part, more, at } => {
                bytes.extend_from_slice(&part);
                if !more || part.is_empty() {
                    return Ok((bytes, at.unix_seconds()));
                }
            }
            _ => return Err(KEEPER_GONE),
        }
    }
}

/// The bytes of a file below `/receipts`, and when it was given.
pub async fn receipt(keeper: &Keeper, below: &VirtualPath) -> Outcome<(Vec<u8>, u64)> {
    let bytes = below.as_bytes();
    if let Some(of) = bytes.strip_suffix(b".rejected") {
        let path = plain(&VirtualPath::parse(of)?)?;
        return match keeper.ask(ToKeeper::Rejected { path }).await? {
            Answer::Rejected { text, at } => Ok((text.into_bytes(), at.unix_seconds())),
            _ => Err(KEEPER_GONE),
        };
    }
    if PAPERS.iter().any(|ending| bytes.ends_with(ending)) {
        return paper(keeper, &plain(below)?).await;
    }
    let certificate = [(&b".destroyed"[..], true), (b".destroyed.sig", false)];
    let found = certificate.into_iter().find_map(|(ending, text)| bytes.strip_suffix(ending).map(|of| (of, text)));
    if let Some((of, is_text)) = found {
        let path = plain(&VirtualPath::parse(of)?)?;
        return match keeper.ask(ToKeeper::Certificate { path }).await? {
            Answer::Certificate { text, at, .. } if is_text => Ok((text.into_bytes(), at.unix_seconds())),
            Answer::Certificate { signature, at, .. } => Ok((signature.into_bytes(), at.unix_seconds())),
            _ => Err(KEEPER_GONE),
        };
    }
    let part = [
        (&b".receipt"[..], ReceiptPart::Text),
        (b".receipt.sig", ReceiptPart::Signature),
        (b".content.sig", ReceiptPart::Content),
        (b".receipt.proof", ReceiptPart::Proof),
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
                ReceiptPart::Proof => receipt.proof,
            };
            Ok((text.into_bytes(), crate::clock::now().unix_seconds()))
        }
        _ => Err(KEEPER_GONE),
    }
}

pub(super) async fn read_receipts(sftp: &Arc<Sftp>, id: u32, handle: u32, out: &mut Vec<u8>) -> Outcome<()> {
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
        let (page, more, _) = receipts_page(&sftp.shared.keeper, &folder.path, folder.after.take()).await?;
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

pub(super) async fn stat(sftp: &Arc<Sftp>, path: &VirtualPath) -> Outcome<Attrs> {
    let tree = &sftp.shared.tree;
    let Place::Receipts(below) = tree.place(path) else { return sftp.stat(path) };
    if below.is_root() {
        return Ok(tree.folder_attrs(None));
    }
    let (page, _, file) = receipts_page(&sftp.shared.keeper, path, None).await?;
    Ok(match page.first().filter(|_| file) {
        Some(entry) => tree.text_attrs(u64::from(entry.size), entry.at.unix_seconds()),
        None => tree.folder_attrs(None),
    })
}
