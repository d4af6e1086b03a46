//! The staged upload: plaintext comes in as a client writes it, sealed records go to `.staging`. In-order writing is
//! the fast path: 64 KiB sealed straight into a large buffer, hashed on the way, one write per buffer. Writes ahead of
//! their turn wait in bounded memory; writes over what is there reseal the records they touch.
//!
//! The invariant: at any instant the `.part` and the last journal together give back a prefix of the upload, and neither
//! can pass for a complete file, since only [`Upload::finish`] writes a final record, and resuming takes it away again. So
//! a journal is lowered before anything that it stands for is changed.

mod ahead;
mod end_to_end;
mod finish;
mod hashing;
mod resize;
mod write;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use ahead::Ahead;
pub use ahead::SessionCount;
use end_to_end::Wanted;
use hashing::Hashing;

use super::reply::{DAMAGED, GAP, NO_SPACE_LEFT, Outcome, Refusal, TOO_LARGE};
use super::staging::{Part, Staging};
use crate::clock::{self, Time};
use crate::ipc::jail::{FolderKind, JournalGrant, Staged};
use crate::names::{Digest, DropId};
use crate::seal::{
    CHUNK, FileKey, HEADER_LEN, Head, Journal, JournalKey, Midstate, Mode, RECORD_LEN, Reader, Records, Saved,
    record_offset,
};
use crate::sftp::status::Status;
use crate::sums::{Keeps, Sums};
use crate::vpath::VirtualPath;

/// Sealed bytes gathered before they are written. The disk has begun with the first when the last arrive, and each upload has a
/// buffer of this size.
const WRITE_BUFFER: usize = HEADER_LEN + 4 * RECORD_LEN;

/// So many records at a time the disk is told to begin with.
const WRITE_AHEAD: u64 = 16;

/// After so many bytes the journal is renewed: what a killed session loses.
const JOURNAL_EVERY: u64 = 8 << 20;

/// The first journal waits for so many bytes, or for the first write after so long: a small file needs none. Until then
/// a killed session loses all, and the client begins anew.
const FIRST_JOURNAL: u64 = 1 << 20;
const FIRST_JOURNAL_AFTER: Duration = Duration::from_secs(1);

/// After so many bytes they are made durable too: what a power cut loses. Resuming verifies at most this much of the end.
/// Since the disk has begun with them long before, it costs nothing that can be measured; at 4 MiB it does.
const SYNC_EVERY: u64 = 16 << 20;

/// What is hashed again at once when a crash or its client cut an upload: two such spans, since the nearer anchor may be in
/// what was cut off.
const ANCHOR_FAR: u64 = 2 * SYNC_EVERY;

/// A keeper that did not answer is asked again for another journal key.
const RENEWAL_RETRY: Duration = Duration::from_secs(60);

const CHUNK_U64: u64 = CHUNK as u64;

/// What an existing file of a shared folder gives to its new version as long as the client has not written there.
pub type Base = Reader<super::download::DiskFile>;

pub struct Upload {
    pub path: VirtualPath,
    pub drop: DropId,
    pub kind: FolderKind,
    pub temporary: bool,
    /// CLOSE leaves it waiting instead of delivering it.
    pub waits: bool,
    pub mtime: Option<u32>,
    /// Reading it back was refused, and reported.
    pub refused_reading: bool,
    grant: Grant,
    /// What it has to be, where not everything is taken.
    wanted: Option<Wanted>,
    key: FileKey,
    head: Head,
    records: Records,
    part: Part,
    /// Full records sealed so far, in the file and in `buffer`.
    full: u64,
    /// Of those, the ones in the file.
    on_disk: u64,
    /// The header, as long as it is not in the file, and records from `on_disk` on.
    buffer: Vec<u8>,
    header_in_buffer: bool,
    /// Plaintext after the full records; less than a chunk.
    tail: Zeroizing<Vec<u8>>,
    ahead: Ahead,
    base: Option<(Base, u64)>,
    /// The older version, and what was found wrong with it: for the keeper to know.
    pub base_damage: Option<(DropId, String)>,
    /// Of the full records. `None` once something under it has changed: then it is made anew at the end.
    digest: Option<Hashing>,
    /// It as of the last moments when they were made durable, with their number: two at most, the newer last.
    anchors: Vec<(u64, Midstate)>,
    generations: BTreeMap<u64, u32>,
    /// Records below this index have been sealed before, even if a truncation took them away.
    sealed_before: u64,
    closed: Option<(u64, [u8; 32])>,
    keeps: Keeps,
    opened_at: u64,
    begun: Instant,
    /// Whether there is a journal, how much of the file it stands for, and how much came since it was last renewed.
    has_journal: bool,
    journaled: u64,
    unjournaled: u64,
    /// As much of the file as the last journal that was made durable stands for.
    synced: u64,
    /// How far this handle alone has written from the beginning without a gap.
    own_prefix: u64,
    resumed: bool,
    /// How much there was when it was continued, one byte more than its client was told.
    continued_at: Option<u64>,
    habits: Habits,
    interrupted: bool,
    renewal: Renewal,
    fault: Option<Refusal>,
}

/// What the keeper granted that is needed until the end.
struct Grant {
    journal: JournalSeal,
    size_max: u64,
    /// What a byte more is told.
    too_large: Refusal,
    sender: String,
    recipients: Vec<String>,
    server: String,
}

/// What journals are sealed with, until it has to be another.
struct JournalSeal {
    bucket: u64,
    key: JournalKey,
    renew: Time,
}

impl From<&JournalGrant> for JournalSeal {
    fn from(grant: &JournalGrant) -> Self {
        Self { bucket: grant.bucket, key: JournalKey::from_bytes(grant.key.0), renew: grant.renew }
    }
}

/// Where the keeper's answer to a renewal is left for the upload.
#[derive(Clone, Default)]
pub struct Renewal(Arc<Mutex<Asked>>);

#[derive(Default)]
enum Asked {
    #[default]
    Nothing,
    /// At that time; if it was in vain, again a while later.
    Yes(Time),
    Answered(JournalGrant),
}

impl Renewal {
    pub fn answered(&self, grant: JournalGrant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Asked::Answered(grant);
    }
}

/// How the handle was opened, which tells what a truncation means.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habits {
    pub truncated: bool,
    pub appends: bool,
    /// OpenSSH's own `sftp`: it cuts to the last acknowledged byte when interrupted, and never otherwise.
    pub cuts_when_interrupted: bool,
}

/// A complete sealed file, for the keeper to commit.
pub struct Finished {
    pub part: Part,
    pub size: u64,
    pub sha256: Digest,
    pub sums: Sums,
    pub file_key: [u8; 32],
    pub opened_at: u64,
}

impl Upload {
    /// Begins a fresh upload in `part`, which is empty.
    pub fn begin(path: VirtualPath, part: Part, staged: &Staged, habits: Habits) -> Outcome<Self> {
        let key = staged.file_key.as_ref().map(|key| FileKey::from_bytes(key.0)).ok_or(DAMAGED)?;
        let mode = Mode::from_byte(staged.mode).ok_or(DAMAGED)?;
        let head = Head::new(staged.drop, mode, &key)?;
        let mut upload = Self::with(path, part, staged, habits, head, key)?;
        upload.buffer.extend_from_slice(&upload.head.to_bytes());
        upload.buffer.resize(HEADER_LEN, 0);
        upload.header_in_buffer = true;
        Ok(upload)
    }

    /// Continues what `part` and its journal hold. Records beyond those the journal counts are let go; those that may
    /// not have been durable when the journal was written are opened, and the upload continues before the first that
    /// does not open.
    pub fn resume(path: VirtualPath, part: Part, staging: &Staging, staged: &Staged, habits: Habits) -> Outcome<Self> {
        let head = part.head().ok_or(DAMAGED)?;
        let opens = staged.opens.as_ref().map(|key| JournalKey::from_bytes(key.0)).ok_or(DAMAGED)?;
        let journal = staging.read_journal(&part)?;
        let (_bucket, journal) = journal.split_first_chunk::<8>().ok_or(DAMAGED)?;
        let journal = Journal::open(head.drop_id(), &opens, journal)?;
        head.check(&journal.file_key)?;
        let mut upload = Self::with(path, part, staged, habits, head, journal.file_key.clone())?;
        let held = upload.part.len()?.saturating_sub(HEADER_LEN as u64) / RECORD_LEN as u64;
        upload.generations = journal.gens.iter().copied().collect();
        upload.full = journal.records.min(held);
        upload.on_disk = upload.full;
        upload.opened_at = journal.opened_at;
        upload.mtime = journal.mtime;
        upload.resumed = true;
        // SHA-256 alone: where other sums are kept too, there is no anchor, and they are made anew from the beginning.
        let load = |(records, state): &(u64, Vec<u8>)| {
            let saved = Saved { sha256: state.clone(), hashed: records * CHUNK_U64, ..Saved::default() };
            Some((*records, Midstate::load(&saved, staged.keeps)?))
        };
        upload.anchors.extend(journal.anchor.as_ref().and_then(load).filter(|(records, _)| *records <= upload.full));
        let intact = upload.verify_from(journal.durable)?;
        if upload.full == journal.records && intact {
            upload.tail.extend_from_slice(&journal.tail);
            let whole = |digest: &Midstate| digest.hashed() == upload.full * CHUNK_U64;
            upload.digest = Midstate::load(&journal.midstate, upload.keeps).filter(whole).map(Hashing::from);
            upload.closed = journal.closed;
        } else {
            upload.digest = upload.hash_from_anchor()?;
        }
        upload.part.set_len(record_offset(upload.full))?;
        upload.part.wipe_envelope()?;
        // What the killed session wrote may not have been.
        upload.part.sync()?;
        upload.has_journal = true;
        upload.continued_at = Some(upload.contiguous()).filter(|_| upload.closed.is_none());
        upload.journaled = upload.contiguous();
        upload.synced = upload.contiguous();
        Ok(upload)
    }

    fn with(path: VirtualPath, part: Part, staged: &Staged, habits: Habits, head: Head, key: FileKey) -> Outcome<Self> {
        let records = Records::new(&head, &key);
        Ok(Self {
            path,
            drop: head.drop_id(),
            kind: staged.kind,
            temporary: staged.temporary,
            waits: staged.waits,
            mtime: None,
            refused_reading: false,
            grant: Grant {
                journal: JournalSeal::from(&staged.journal),
                size_max: staged.size_max.min(crate::seal::SIZE_MAX),
                too_large: if staged.quota { NO_SPACE_LEFT } else { TOO_LARGE },
                sender: staged.sender.to_string(),
                recipients: staged.recipients.iter().map(ToString::to_string).chain(staged.escrow.clone()).collect(),
                server: staged.server.clone(),
            },
            wanted: Wanted::new(&staged.sealed_to)?,
            key,
            head,
            records,
            ahead: Ahead::new(part.session_count()),
            part,
            full: 0,
            on_disk: 0,
            buffer: Vec::new(),
            header_in_buffer: false,
            tail: Zeroizing::new(Vec::with_capacity(CHUNK)),
            base: None,
            base_damage: None,
            digest: Some(Midstate::keeping(staged.keeps).into()),
            keeps: staged.keeps,
            anchors: Vec::new(),
            generations: BTreeMap::new(),
            sealed_before: 0,
            closed: None,
            opened_at: clock::now().0,
            begun: Instant::now(),
            has_journal: false,
            journaled: 0,
            unjournaled: 0,
            synced: 0,
            own_prefix: 0,
            resumed: false,
            continued_at: None,
            habits,
            interrupted: false,
            renewal: Renewal::default(),
            fault: None,
        })
    }

    /// Takes up a new journal key that has come; answers where to leave one if it is time to ask. What the journal on disk
    /// is sealed with changes with the next journal.
    pub fn renewal(&mut self, now: Time) -> Option<Renewal> {
        let mut asked = self.renewal.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*asked {
            Asked::Answered(grant) => {
                self.grant.journal = JournalSeal::from(grant);
                *asked = Asked::Nothing;
            }
            Asked::Yes(at) if now < at.plus(RENEWAL_RETRY) => return None,
            Asked::Nothing | Asked::Yes(_) => {}
        }
        if now < self.grant.journal.renew {
            return None;
        }
        *asked = Asked::Yes(now);
        drop(asked);
        Some(self.renewal.clone())
    }

    /// Bytes of `base` stand wherever this upload has none of its own yet.
    pub fn set_base(&mut self, base: Base) {
        let size = base.size();
        self.base = Some((base, size));
    }

    pub fn has_base(&self) -> bool {
        self.base.is_some()
    }

    /// The size a client sees.
    pub fn len(&self) -> u64 {
        let known = self.contiguous().max(self.base.as_ref().map_or(0, |(_, limit)| *limit));
        // In a drop a gap is not size, it is missing: a client that resumes must begin before it.
        match self.ahead.end() {
            Some(end) if self.kind == FolderKind::Shared => known.max(end),
            _ => known,
        }
    }

    /// What STAT answers, once the connection is gone, of an upload of which there are `length` bytes: one less, unless it
    /// was closed. Who lost the connection before its CLOSE, and then found as many bytes as its file has, would take it
    /// for arrived, and nobody would ever deliver it.
    fn stated(&self, length: u64) -> u64 {
        if self.closed.is_some() { length } else { length.saturating_sub(1) }
    }

    /// The size that the client is told through this handle: what it was told before, until it goes on.
    pub fn shown_len(&self) -> u64 {
        let len = self.len();
        if self.continued_at == Some(len) { self.stated(len) } else { len }
    }

    /// Whether STAT has said this of it, as it is now.
    pub fn is_stated_as(&self, size: u64) -> bool {
        self.stated(self.len()) == size
    }

    /// It was closed under a temp name, and not written since.
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Size, SHA-256 and sums, of one that was closed under a temp name.
    pub fn closed(&mut self) -> Option<(u64, [u8; 32], Sums)> {
        let (size, sha256) = self.closed?;
        let digest = self.whole_digest().filter(|digest| digest.hashed() == size);
        Some((size, sha256, digest.map(|digest| digest.finish().1).unwrap_or_default()))
    }

    /// The digest of the full records and the tail, if it is known.
    fn whole_digest(&mut self) -> Option<Midstate> {
        let mut digest = self.digest.as_mut()?.midstate();
        digest.update(&self.tail);
        Some(digest)
    }

    /// Whether a file of this size may be sent; known before its first byte from a client that says its size.
    pub fn takes(&self, size: u64) -> Outcome<()> {
        if size > self.grant.size_max { Err(self.grant.too_large.clone()) } else { Ok(()) }
    }

    pub fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    pub fn fault(&self) -> Option<&Refusal> {
        self.fault.as_ref()
    }

    fn contiguous(&self) -> u64 {
        self.full * CHUNK_U64 + self.tail.len() as u64
    }

    /// Opens the records that a power cut may have taken although the journal counts them: those from `durable` on, less
    /// than [`SYNC_EVERY`], and none after an end in order. `false`: some were, and the upload now ends before the first.
    fn verify_from(&mut self, durable: u64) -> Outcome<bool> {
        for index in durable..self.full {
            let mut record = self.sealed_record(index)?;
            let generation = self.generation(index);
            if self.records.open(index, generation, false, &mut record).is_err() {
                self.full = index;
                self.on_disk = index;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The digest of the records there are, made from the last moment of which it is known, if that is near. `None`: all is
    /// hashed again at the end.
    fn hash_from_anchor(&mut self) -> Outcome<Option<Hashing>> {
        let (known, mut digest) = self.anchors.last().cloned().unwrap_or_else(|| (0, Midstate::keeping(self.keeps)));
        if (self.full - known) * CHUNK_U64 > ANCHOR_FAR {
            return Ok(None);
        }
        for index in known..self.full {
            let mut record = self.sealed_record(index)?;
            let generation = self.generation(index);
            digest.update(self.records.open(index, generation, false, &mut record)?);
        }
        Ok(Some(digest.into()))
    }

    /// Gives the upload another path: a temp name renamed to a temp name.
    pub fn move_to(&mut self, staging: &Staging, path: VirtualPath) -> Outcome<()> {
        staging.rename(&mut self.part, &path)?;
        self.path = path;
        Ok(())
    }

    /// Ends the upload without a commit: both files go.
    pub fn remove(self, staging: &Staging) -> Outcome<()> {
        Ok(staging.remove(self.part)?)
    }
}

/// Failing to find room is not the client's fault, and is told apart for the log.
pub fn is_refusal(refusal: &Refusal) -> bool {
    *refusal == TOO_LARGE || *refusal == NO_SPACE_LEFT || *refusal == GAP || refusal.status == Status::PermissionDenied
}
