//! Digests of files: of a whole file from the ledger, without opening it, so that a sender has them too; of parts of it
//! only by reading, which takes the right to read.

use sha2::Digest;

use super::reading::{open_for_reading, receipt};
use super::uploads::{drop_upload, take_up};
use crate::ipc::jail::{Answer, ToKeeper};
use crate::seal::Midstate;
use crate::session::channel::{Open, Shared};
use crate::session::download::Download;
use crate::session::namespace::Place;
use crate::session::reply::{
    IS_FOLDER, KEEPER_GONE, NO_SUCH_FILE, NOT_KEPT, Outcome, Refusal, SEALED_DIGEST, STILL_WRITTEN,
};
use crate::sftp::PACKET_MAX;
use crate::sftp::attrs::S_IFDIR;
use crate::sftp::extension::CheckFile;
use crate::sftp::wire::Write as _;
use crate::sums::{Algorithm, Keeps, Sums};
use crate::vpath::VirtualPath;

/// Read and hashed before others get their turn: some milliseconds.
const SLICE: usize = 512 * 1024;

/// The draft's least block, so that hashes are not the file itself.
const BLOCK_MIN: u32 = 256;

/// In one reply, with room for its other fields even if they are of the longest hash.
const BLOCKS_MAX: u64 = (PACKET_MAX / 32 / 2) as u64;

/// A `check-file` request that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Of the client's list those that a file here may have; best first, and never empty.
    algorithms: Vec<Algorithm>,
    start: u64,
    length: u64,
    block: u32,
    named: bool,
}

/// What `check-file` answers.
pub struct Hashes {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

/// What is known of a whole file.
pub struct Whole {
    size: u64,
    sha256: [u8; 32],
    sums: Sums,
}

impl Query {
    pub fn new(check: &CheckFile<'_>, keeps: Keeps) -> Outcome<Self> {
        let known = check.algorithms.split(|&byte| byte == b',').filter_map(Algorithm::from_word);
        let mut algorithms: Vec<Algorithm> = Vec::new();
        for algorithm in known.filter(|algorithm| keeps.has(*algorithm)) {
            if !algorithms.contains(&algorithm) {
                algorithms.push(algorithm);
            }
        }
        if algorithms.is_empty() {
            return Err(NOT_KEPT);
        }
        if check.block != 0 && check.block < BLOCK_MIN {
            return Err(Refusal::failure("a block has at least 256 bytes"));
        }
        Ok(Self { algorithms, start: check.start, length: check.length, block: check.block, named: check.named })
    }

    /// Whether it is the whole of a file of `size`, in one hash.
    fn is_whole(&self, size: u64) -> bool {
        self.start == 0 && self.block == 0 && (self.length == 0 || self.length >= size)
    }

    /// The reply's fields.
    pub fn write(&self, hashes: &Hashes, out: &mut Vec<u8>) {
        if self.named {
            out.put_string(b"check-file");
        }
        out.put_string(hashes.algorithm.word().as_bytes());
        out.extend_from_slice(&hashes.bytes);
    }
}

impl Whole {
    /// `None` if it is not kept.
    pub fn hash(&self, algorithm: Algorithm) -> Option<&[u8]> {
        match algorithm {
            Algorithm::Sha256 => Some(&self.sha256),
            Algorithm::Md5 => self.sums.md5.as_ref().map(<[u8; 16]>::as_slice),
            Algorithm::Sha1 => self.sums.sha1.as_ref().map(<[u8; 20]>::as_slice),
        }
    }
}

/// Size and digests of what a client gets at `path`, or sent to it.
pub async fn digest(shared: &Shared, path: &VirtualPath) -> Outcome<Whole> {
    let tree = &shared.tree;
    match tree.place(path) {
        Place::Receipts(below) => {
            let (text, _) = receipt(&shared.keeper, &below).await?;
            let mut digest = Midstate::keeping(shared.admission.keeps);
            digest.update(&text);
            let (sha256, sums) = digest.finish();
            return Ok(Whole { size: text.len() as u64, sha256, sums });
        }
        Place::Above => return Err(IS_FOLDER),
        Place::Nowhere => return Err(NO_SUCH_FILE),
        Place::In(_) => {}
    }
    if tree.stat(path)?.permissions.is_some_and(|mode| mode & S_IFDIR == S_IFDIR) {
        return Err(IS_FOLDER);
    }
    if tree.shows_sealed(&tree.resolve(path.clone())) {
        return Err(SEALED_DIGEST);
    }
    if !tree.exists(path) && !tree.staging.is_waiting(path) {
        // Staged: whole only if it was closed under a temp name, as rclone does before it compares and renames.
        let part = tree.staging.open(path)?.ok_or(NO_SUCH_FILE)?;
        let mut upload = take_up(shared, part, path, path, false).await?;
        let closed = upload.closed();
        drop_upload(upload);
        let (size, sha256, sums) = closed.ok_or(STILL_WRITTEN)?;
        return Ok(Whole { size, sha256, sums });
    }
    match shared.keeper.ask(ToKeeper::Digests { path: path.clone() }).await? {
        Answer::Digests { size, sha256, sums } => Ok(Whole { size, sha256: sha256.0, sums }),
        _ => Err(KEEPER_GONE),
    }
}

/// The hashes that `check-file` asks for, one after the other.
pub async fn check_file(shared: &Shared, path: &VirtualPath, query: &Query) -> Outcome<Hashes> {
    if query.start == 0 && query.block == 0 {
        match digest(shared, path).await {
            Ok(whole) if query.is_whole(whole.size) => {
                let mut kept = query.algorithms.iter().filter_map(|a| whole.hash(*a).map(|hash| (*a, hash)));
                let (algorithm, hash) = kept.next().ok_or(NOT_KEPT)?;
                return Ok(Hashes { algorithm, bytes: hash.to_vec() });
            }
            Ok(_) => {}
            Err(refusal) if refusal == SEALED_DIGEST => {}
            Err(refusal) => return Err(refusal),
        }
    }
    shared.reserve()?;
    let hashes = match open_for_reading(shared, path.clone()).await {
        Ok(Open::Download(mut download)) => {
            let algorithm = query.algorithms.first().copied().unwrap_or(Algorithm::Sha256);
            let hashes = match algorithm {
                Algorithm::Sha256 => hash::<sha2::Sha256>(&mut download, query).await,
                Algorithm::Md5 => hash::<md5::Md5>(&mut download, query).await,
                Algorithm::Sha1 => hash::<sha1::Sha1>(&mut download, query).await,
            };
            // Nothing left this process: that is not a pick-up, whatever the size.
            let (path, drop) = (download.path.clone(), download.drop);
            if let Some(what) = download.news_of_damage() {
                shared.keeper.tell(ToKeeper::Corrupt { path: path.clone(), drop, what });
            }
            shared.keeper.tell(ToKeeper::Pulled { path, drop, bytes: 0, whole: false });
            hashes.map(|bytes| Hashes { algorithm, bytes })
        }
        Ok(_) => Err(Refusal::failure("parts of a receipt are not hashed")),
        Err(refusal) => Err(refusal),
    };
    shared.unreserve();
    hashes
}

async fn hash<H: Digest>(download: &mut Download, query: &Query) -> Outcome<Vec<u8>> {
    if query.start > download.size {
        return Err(Refusal::failure("this is beyond the end of the file"));
    }
    let rest = download.size - query.start;
    let end = query.start + if query.length == 0 { rest } else { query.length.min(rest) };
    let block = if query.block == 0 { u64::MAX } else { u64::from(query.block) };
    if (end - query.start).div_ceil(block) > BLOCKS_MAX {
        return Err(Refusal::failure("these are too many blocks for one reply: ask for larger ones"));
    }
    let mut hashes = Vec::new();
    let mut plain = zeroize::Zeroizing::new(Vec::with_capacity(SLICE));
    let mut at = query.start;
    loop {
        let block_end = at.saturating_add(block).min(end);
        let mut hasher = H::new();
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
