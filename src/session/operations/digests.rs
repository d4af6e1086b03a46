//! Digests of files: of a whole file from the ledger, without opening it, so that a sender has them too; of parts of it
//! only by reading, which takes the right to read.

use sha2::{Digest, Sha256};

use super::reading::{open_for_reading, receipt};
use super::uploads::{drop_upload, take_up};
use crate::ipc::jail::{Answer, ToKeeper};
use crate::session::channel::{Open, Shared};
use crate::session::download::Download;
use crate::session::namespace::Place;
use crate::session::reply::{IS_FOLDER, KEEPER_GONE, NO_SUCH_FILE, Outcome, Refusal, SEALED_DIGEST, STILL_WRITTEN};
use crate::sftp::PACKET_MAX;
use crate::sftp::attrs::S_IFDIR;
use crate::sftp::extension::CheckFile;
use crate::sftp::wire::Write as _;
use crate::vpath::VirtualPath;

/// Read and hashed before others get their turn: some milliseconds.
const SLICE: usize = 512 * 1024;

/// The draft's least block, so that hashes are not the file itself.
const BLOCK_MIN: u32 = 256;

const HASH_LEN: usize = 32;

/// A `check-file` request that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    start: u64,
    length: u64,
    block: u32,
    named: bool,
}

impl Query {
    pub fn new(check: &CheckFile<'_>) -> Outcome<Self> {
        if !check.algorithms.split(|&byte| byte == b',').any(|name| name == b"sha256") {
            return Err(Refusal::failure("only sha256 is kept of files here"));
        }
        if check.block != 0 && check.block < BLOCK_MIN {
            return Err(Refusal::failure("a block has at least 256 bytes"));
        }
        Ok(Self { start: check.start, length: check.length, block: check.block, named: check.named })
    }

    /// Whether it is the whole of a file of `size`, in one hash.
    fn is_whole(&self, size: u64) -> bool {
        self.start == 0 && self.block == 0 && (self.length == 0 || self.length >= size)
    }

    /// The reply's fields.
    pub fn write(&self, hashes: &[u8], out: &mut Vec<u8>) {
        if self.named {
            out.put_string(b"check-file");
        }
        out.put_string(b"sha256");
        out.extend_from_slice(hashes);
    }
}

/// Size and SHA-256 of what a client gets at `path`, or sent to it.
pub async fn digest(shared: &Shared, path: &VirtualPath) -> Outcome<(u64, [u8; 32])> {
    let tree = &shared.tree;
    match tree.place(path) {
        Place::Receipts(below) => {
            let (text, _) = receipt(&shared.keeper, &below).await?;
            return Ok((text.len() as u64, Sha256::digest(&text).into()));
        }
        Place::Above => return Err(IS_FOLDER),
        Place::Nowhere => return Err(NO_SUCH_FILE),
        Place::In(_) => {}
    }
    if tree.stat(path)?.permissions.is_some_and(|mode| mode & S_IFDIR == S_IFDIR) {
        return Err(IS_FOLDER);
    }
    if tree.shows_sealed(path) {
        return Err(SEALED_DIGEST);
    }
    if !tree.exists(path) && !tree.staging.is_waiting(path) {
        // Staged: whole only if it was closed under a temp name, as rclone does before it compares and renames.
        let part = tree.staging.open(path)?.ok_or(NO_SUCH_FILE)?;
        let upload = take_up(shared, part, path, path, false).await?;
        let closed = upload.closed();
        drop_upload(upload);
        return closed.ok_or(STILL_WRITTEN);
    }
    match shared.keeper.ask(ToKeeper::Digests { path: path.clone() }).await? {
        Answer::Digests { size, sha256 } => Ok((size, sha256.0)),
        _ => Err(KEEPER_GONE),
    }
}

/// The hashes that `check-file` asks for, one after the other.
pub async fn check_file(shared: &Shared, path: &VirtualPath, query: &Query) -> Outcome<Vec<u8>> {
    if query.start == 0 && query.block == 0 {
        match digest(shared, path).await {
            Ok((size, hash)) if query.is_whole(size) => return Ok(hash.to_vec()),
            Ok(_) => {}
            Err(refusal) if refusal == SEALED_DIGEST => {}
            Err(refusal) => return Err(refusal),
        }
    }
    shared.reserve()?;
    let hashes = match open_for_reading(shared, path.clone()).await {
        Ok(Open::Download(mut download)) => {
            let hashes = hash(&mut download, query).await;
            // Nothing left this process: that is not a pick-up, whatever the size.
            let (path, drop) = (download.path.clone(), download.drop);
            shared.keeper.tell(ToKeeper::Pulled { path, drop, bytes: 0, whole: false });
            hashes
        }
        Ok(_) => Err(Refusal::failure("parts of a receipt are not hashed")),
        Err(refusal) => Err(refusal),
    };
    shared.unreserve();
    hashes
}

async fn hash(download: &mut Download, query: &Query) -> Outcome<Vec<u8>> {
    if query.start > download.size {
        return Err(Refusal::failure("this is beyond the end of the file"));
    }
    let rest = download.size - query.start;
    let end = query.start + if query.length == 0 { rest } else { query.length.min(rest) };
    let block = if query.block == 0 { u64::MAX } else { u64::from(query.block) };
    // Room for the reply's other fields is left.
    if (end - query.start).div_ceil(block) > (PACKET_MAX / HASH_LEN / 2) as u64 {
        return Err(Refusal::failure("these are too many blocks for one reply: ask for larger ones"));
    }
    let mut hashes = Vec::new();
    let mut plain = zeroize::Zeroizing::new(Vec::with_capacity(SLICE));
    let mut at = query.start;
    loop {
        let block_end = at.saturating_add(block).min(end);
        let mut hasher = Sha256::new();
        while at < block_end {
            let len = usize::try_from(block_end - at).unwrap_or(SLICE).min(SLICE);
            plain.clear();
            download.peek(at, len, &mut plain)?;
            hasher.update(plain.as_slice());
            at += len as u64;
            tokio::task::yield_now().await;
        }
        hashes.extend_from_slice(&hasher.finalize());
        if at >= end {
            return Ok(hashes);
        }
    }
}
