//! The staged upload: plaintext comes in as a client writes it, sealed records go to `.staging`. In-order writing is
//! the fast path: 64 KiB sealed straight into a large buffer, hashed on the way, one write per buffer. Writes ahead of
//! their turn wait in bounded memory; writes over what is there reseal the records they touch.
//!
//! The invariant: at any instant the `.part` and the last journal together give back a prefix of the upload and its
//! digest, and neither can pass for a complete file, since only [`Upload::finish`] writes a final record.

use std::collections::BTreeMap;

use zeroize::{Zeroize, Zeroizing};

use super::reply::{DAMAGED, GAP, Outcome, Refusal, TOO_LARGE};
use super::staging::{Part, Staging};
use crate::clock;
use crate::ipc::jail::{FolderKind, Staged};
use crate::names::{Digest, DropId, FileName};
use crate::seal::{
    CHUNK, FileKey, GENERATIONS_MAX, HEADER_LEN, Head, Journal, JournalKey, Midstate, Mode, RECORD_LEN, Reader,
    Records, SealError, Trailer, record_offset, rehash,
};
use crate::sftp::status::Status;
use crate::vpath::VirtualPath;

/// Sealed bytes gathered before they are written: a file of up to 15 records is one write.
const WRITE_BUFFER: usize = 1 << 20;

/// How far ahead of its turn a write may be, and how many bytes may wait so.
const AHEAD_MAX: u64 = 8 << 20;

/// After so many bytes the disk is asked to begin writing, and the journal is renewed: what a killed session loses.
const JOURNAL_EVERY: u64 = 8 << 20;

/// After so many bytes they are made durable too: what a power cut loses. Resuming verifies this much of the end.
const SYNC_EVERY: u64 = 32 << 20;

const CHUNK_U64: u64 = CHUNK as u64;

/// What an existing file of a shared folder gives to its new version as long as the client has not written there.
pub type Base = Reader<super::download::DiskFile>;

pub struct Upload {
    pub path: VirtualPath,
    pub drop: DropId,
    pub kind: FolderKind,
    pub temporary: bool,
    pub mtime: Option<u32>,
    grant: Grant,
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
    ahead: BTreeMap<u64, Zeroizing<Vec<u8>>>,
    ahead_bytes: u64,
    base: Option<(Base, u64)>,
    /// `None` once something under it has changed: then it is made anew at the end.
    digest: Option<Midstate>,
    generations: BTreeMap<u64, u32>,
    /// Records below this index have been sealed before, even if a truncation took them away.
    sealed_before: u64,
    closed: Option<(u64, [u8; 32])>,
    opened_at: u64,
    journaled_at: u64,
    synced_at: u64,
    /// How far this handle alone has written from the beginning without a gap.
    own_prefix: u64,
    resumed: bool,
    habits: Habits,
    interrupted: bool,
    fault: Option<Refusal>,
}

/// What the keeper granted that is needed until the end.
struct Grant {
    journal_key: JournalKey,
    size_max: u64,
    sender: String,
    recipients: Vec<String>,
    server: String,
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
    pub file_key: [u8; 32],
    pub opened_at: u64,
}

impl Upload {
    /// Begins a fresh upload in `part`, which is empty.
    pub fn begin(path: VirtualPath, part: Part, staged: &Staged, habits: Habits) -> Outcome<Self> {
        let key = staged.file_key.as_ref().map(|key| FileKey::from_bytes(key.0)).ok_or(DAMAGED)?;
        let mode = Mode::from_byte(staged.mode).ok_or(DAMAGED)?;
        let head = Head::new(staged.drop, mode, &key)?;
        let mut upload = Self::with(path, part, staged, habits, head, key);
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
        let journal_key = JournalKey::from_bytes(staged.journal_key.0);
        let journal = Journal::open(head.drop_id(), &journal_key, &staging.read_journal(&part)?)?;
        head.check(&journal.file_key)?;
        let mut upload = Self::with(path, part, staged, habits, head, journal.file_key.clone());
        let held = upload.part.len()?.saturating_sub(HEADER_LEN as u64) / RECORD_LEN as u64;
        upload.generations = journal.gens.iter().copied().collect();
        upload.full = journal.records.min(held);
        upload.on_disk = upload.full;
        upload.opened_at = journal.opened_at;
        upload.mtime = journal.mtime;
        upload.resumed = true;
        let intact = upload.verify_end()?;
        if upload.full == journal.records && intact {
            upload.tail.extend_from_slice(&journal.tail);
            upload.digest = Midstate::load(&journal.sha256, journal.hashed);
            if upload.digest.as_ref().is_some_and(|digest| digest.hashed() != upload.contiguous()) {
                upload.digest = None;
            }
            upload.closed = journal.closed;
        } else {
            upload.digest = None;
        }
        upload.part.set_len(record_offset(upload.full))?;
        upload.journaled_at = upload.contiguous();
        upload.synced_at = upload.contiguous();
        Ok(upload)
    }

    fn with(path: VirtualPath, part: Part, staged: &Staged, habits: Habits, head: Head, key: FileKey) -> Self {
        let records = Records::new(&head, &key);
        Self {
            path,
            drop: head.drop_id(),
            kind: staged.kind,
            temporary: staged.temporary,
            mtime: None,
            grant: Grant {
                journal_key: JournalKey::from_bytes(staged.journal_key.0),
                size_max: staged.size_max.min(crate::seal::SIZE_MAX),
                sender: staged.sender.to_string(),
                recipients: staged.recipients.iter().map(ToString::to_string).collect(),
                server: staged.server.clone(),
            },
            key,
            head,
            records,
            part,
            full: 0,
            on_disk: 0,
            buffer: Vec::new(),
            header_in_buffer: false,
            tail: Zeroizing::new(Vec::with_capacity(CHUNK)),
            ahead: BTreeMap::new(),
            ahead_bytes: 0,
            base: None,
            digest: Some(Midstate::new()),
            generations: BTreeMap::new(),
            sealed_before: 0,
            closed: None,
            opened_at: clock::now().0,
            journaled_at: 0,
            synced_at: 0,
            own_prefix: 0,
            resumed: false,
            habits,
            interrupted: false,
            fault: None,
        }
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
        match self.ahead.last_key_value() {
            Some((offset, data)) if self.kind == FolderKind::Shared => known.max(offset + data.len() as u64),
            _ => known,
        }
    }

    /// It was closed under a temp name, and not written since.
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
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

    /// Takes bytes at any offset. The first failure is remembered: every later write and the end fail with it.
    pub fn write(&mut self, staging: &Staging, offset: u64, data: &[u8]) -> Outcome<()> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let result = self.place(offset, data).and_then(|()| self.settle(staging));
        if let Err(refusal) = &result {
            self.fault = Some(refusal.clone());
        }
        result
    }

    fn place(&mut self, offset: u64, data: &[u8]) -> Outcome<()> {
        let end = offset.checked_add(data.len() as u64).ok_or(TOO_LARGE)?;
        if data.is_empty() {
            return Ok(());
        }
        if end > self.grant.size_max {
            return Err(TOO_LARGE);
        }
        // Sent again from the beginning, and not the same file: what an earlier try left is of no use.
        if self.resumed && self.own_prefix == 0 && offset == 0 && !self.matches(data)? {
            self.cut(0)?;
        }
        if offset <= self.own_prefix {
            self.own_prefix = self.own_prefix.max(end);
        }
        self.closed = None;
        if offset > self.contiguous() {
            self.fill_from_base(offset)?;
        }
        let contiguous = self.contiguous();
        if offset > contiguous {
            let waits = end - contiguous <= AHEAD_MAX && self.ahead_bytes + data.len() as u64 <= AHEAD_MAX;
            if waits {
                self.keep_ahead(offset, data);
                return Ok(());
            }
            self.fill_with_zeros(offset)?;
        }
        let over = usize::try_from(self.contiguous() - offset).unwrap_or(usize::MAX).min(data.len());
        self.overwrite(offset, &data[..over])?;
        self.append(&data[over..])?;
        self.take_ahead()
    }

    /// Whether the beginning of what is staged is the beginning of `data`, or the other way round.
    fn matches(&mut self, data: &[u8]) -> Outcome<bool> {
        let mut staged = Zeroizing::new(Vec::new());
        self.read(0, data.len(), &mut staged)?;
        let len = staged.len().min(data.len());
        Ok(staged[..len] == data[..len])
    }

    /// What overlaps with bytes already waiting is newer, and replaces them there too.
    fn keep_ahead(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        for (at, waiting) in self.ahead.range_mut(..end) {
            let (from, to) = (offset.max(*at), end.min(at + waiting.len() as u64));
            if from < to {
                let (into, of) = ((from - at) as usize, (from - offset) as usize);
                let len = (to - from) as usize;
                waiting[into..into + len].copy_from_slice(&data[of..of + len]);
            }
        }
        if self.ahead.get(&offset).is_none_or(|waiting| waiting.len() < data.len()) {
            self.ahead_bytes += data.len() as u64;
            if let Some(shorter) = self.ahead.insert(offset, Zeroizing::new(data.to_vec())) {
                self.ahead_bytes -= shorter.len() as u64;
            }
        }
    }

    /// Appends what waited and whose turn it is now. Where it overlaps with what was appended meanwhile, that is newer.
    fn take_ahead(&mut self) -> Outcome<()> {
        while self.ahead.first_key_value().is_some_and(|(offset, _)| *offset <= self.contiguous()) {
            let Some((offset, data)) = self.ahead.pop_first() else { break };
            self.ahead_bytes -= data.len() as u64;
            let known = usize::try_from(self.contiguous() - offset).unwrap_or(usize::MAX);
            if let Some(news) = data.get(known..) {
                self.append(news)?;
            }
        }
        Ok(())
    }

    /// Copies what the older version has up to `offset`.
    fn fill_from_base(&mut self, offset: u64) -> Outcome<()> {
        let Some((mut base, limit)) = self.base.take() else { return Ok(()) };
        let mut result = Ok(());
        while result.is_ok() && self.contiguous() < offset.min(limit) {
            let at = self.contiguous();
            let index = at / CHUNK_U64;
            result = base.chunk(index).map_err(Refusal::from).and_then(|chunk| {
                let end = usize::try_from(offset.min(limit) - index * CHUNK_U64).unwrap_or(CHUNK).min(chunk.len());
                let plain = chunk.get((at % CHUNK_U64) as usize..end).unwrap_or_default();
                if plain.is_empty() { Err(DAMAGED) } else { self.append(plain) }
            });
        }
        self.base = Some((base, limit));
        result
    }

    /// A shared folder has files like any other, with holes that read as zeros; a drop that has a gap is not what its
    /// sender meant.
    fn fill_with_zeros(&mut self, to: u64) -> Outcome<()> {
        if self.contiguous() < to && self.kind != FolderKind::Shared {
            return Err(GAP);
        }
        let zeros = [0; CHUNK];
        while self.contiguous() < to {
            let len = (to - self.contiguous()).min(CHUNK_U64) as usize;
            self.append(&zeros[..len])?;
            self.take_ahead()?;
        }
        Ok(())
    }

    /// Nothing waits any more for the bytes before it.
    fn fill_gaps(&mut self) -> Outcome<()> {
        while let Some((next, _)) = self.ahead.first_key_value() {
            let next = *next;
            self.fill_to(next)?;
            self.take_ahead()?;
        }
        Ok(())
    }

    fn append(&mut self, mut data: &[u8]) -> Outcome<()> {
        if let Some(digest) = &mut self.digest {
            digest.update(data);
        }
        while !data.is_empty() {
            if self.tail.is_empty()
                && let Some((chunk, rest)) = data.split_at_checked(CHUNK)
            {
                self.seal_full(chunk)?;
                data = rest;
                continue;
            }
            let (now, rest) = data.split_at((CHUNK - self.tail.len()).min(data.len()));
            self.tail.extend_from_slice(now);
            data = rest;
            if self.tail.len() == CHUNK {
                let mut chunk = std::mem::take(&mut self.tail);
                self.seal_full(&chunk)?;
                chunk.clear();
                self.tail = chunk;
            }
        }
        Ok(())
    }

    fn seal_full(&mut self, chunk: &[u8]) -> Outcome<()> {
        let generation = self.next_generation(self.full)?;
        self.records.seal(self.full, generation, false, chunk, &mut self.buffer)?;
        self.full += 1;
        if self.buffer.len() + RECORD_LEN > WRITE_BUFFER { self.flush() } else { Ok(()) }
    }

    /// 0 for a record never sealed before; one more than before for any other.
    fn next_generation(&mut self, index: u64) -> Outcome<u32> {
        if index >= self.sealed_before && !self.generations.contains_key(&index) {
            return Ok(0);
        }
        let next = self.generation(index) + 1;
        if self.generations.len() >= GENERATIONS_MAX && !self.generations.contains_key(&index) {
            return Err(SealError::Limit("the list of rewritten records").into());
        }
        self.generations.insert(index, next);
        Ok(next)
    }

    fn generation(&self, index: u64) -> u32 {
        self.generations.get(&index).copied().unwrap_or(0)
    }

    /// Writes over bytes that are there. Bytes that do not change, as when a client sends again, change nothing.
    fn overwrite(&mut self, mut offset: u64, mut data: &[u8]) -> Outcome<()> {
        while !data.is_empty() {
            let (index, within) = (offset / CHUNK_U64, (offset % CHUNK_U64) as usize);
            let (now, rest) = data.split_at((CHUNK - within).min(data.len()));
            if index == self.full {
                let there = self.tail.get_mut(within..within + now.len()).ok_or(DAMAGED)?;
                if there != now {
                    there.copy_from_slice(now);
                    self.digest = None;
                }
            } else {
                let mut record = self.sealed_record(index)?;
                let generation = self.generation(index);
                let plain = self.records.open(index, generation, false, &mut record)?;
                if plain[within..within + now.len()] != *now {
                    plain[within..within + now.len()].copy_from_slice(now);
                    let plain = Zeroizing::new(plain.to_vec());
                    self.reseal(index, &plain)?;
                }
            }
            offset += now.len() as u64;
            data = rest;
        }
        Ok(())
    }

    fn reseal(&mut self, index: u64, plain: &[u8]) -> Outcome<()> {
        self.digest = None;
        self.sealed_before = self.sealed_before.max(index + 1);
        let generation = self.next_generation(index)?;
        let mut record = Vec::with_capacity(RECORD_LEN);
        self.records.seal(index, generation, false, plain, &mut record)?;
        match self.buffered(index) {
            Some(at) => self.buffer[at..at + RECORD_LEN].copy_from_slice(&record),
            None => self.part.write_all_at(&record, record_offset(index))?,
        }
        Ok(())
    }

    /// Where record `index` stands in the buffer, if it is there.
    fn buffered(&self, index: u64) -> Option<usize> {
        let from = usize::try_from(index.checked_sub(self.on_disk)?).ok()?;
        Some(from * RECORD_LEN + if self.header_in_buffer { HEADER_LEN } else { 0 })
    }

    /// A copy of a sealed full record, to be opened in place.
    fn sealed_record(&self, index: u64) -> Outcome<Zeroizing<Vec<u8>>> {
        let mut record = Zeroizing::new(vec![0; RECORD_LEN]);
        match self.buffered(index) {
            Some(at) => record.copy_from_slice(self.buffer.get(at..at + RECORD_LEN).ok_or(DAMAGED)?),
            None => crate::seal::ReadAt::read_exact_at(&self.part, &mut record, record_offset(index))?,
        }
        Ok(record)
    }

    fn flush(&mut self) -> Outcome<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let offset = if self.header_in_buffer { 0 } else { record_offset(self.on_disk) };
        self.part.write_all_at(&self.buffer, offset)?;
        self.part.write_ahead(offset, self.buffer.len() as u64);
        self.on_disk = self.full;
        self.header_in_buffer = false;
        self.buffer.clear();
        Ok(())
    }

    /// After a write: renews the journal when enough has come since the last.
    fn settle(&mut self, staging: &Staging) -> Outcome<()> {
        let now = self.contiguous();
        if now >= self.journaled_at + JOURNAL_EVERY {
            let durable = now >= self.synced_at + SYNC_EVERY;
            self.journal(staging, durable)?;
        }
        Ok(())
    }

    /// Puts everything needed to resume where a killed session (or with `durable`, a power cut) leaves it. The body
    /// first: a journal must not count records that are not there.
    fn journal(&mut self, staging: &Staging, durable: bool) -> Outcome<()> {
        self.flush()?;
        if durable {
            self.part.sync()?;
            self.synced_at = self.contiguous();
        }
        let hashed = self.digest.as_ref().map_or(0, Midstate::hashed);
        let journal = Journal {
            path: self.path.as_bytes().to_vec(),
            file_key: self.key.clone(),
            records: self.full,
            tail: self.tail.to_vec(),
            sha256: self.digest.as_ref().map(Midstate::save).unwrap_or_default(),
            hashed,
            gens: self.generations.range(..=self.full).map(|(index, generation)| (*index, *generation)).collect(),
            closed: self.closed,
            mtime: self.mtime,
            opened_at: self.opened_at,
            updated_at: clock::now().0,
        };
        let sealed = journal.seal(self.drop, &self.grant.journal_key)?;
        let Journal { mut tail, mut sha256, .. } = journal;
        tail.zeroize();
        sha256.zeroize();
        staging.write_journal(&self.part, &sealed, durable)?;
        self.part.hint_size(self.contiguous())?;
        self.journaled_at = self.contiguous();
        Ok(())
    }

    /// Everything so far survives a power cut when this returns: fsync@openssh.com, and the end of a connection.
    pub fn sync(&mut self, staging: &Staging) -> Outcome<()> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        self.journal(staging, true)
    }

    /// Reads back what was written, and what the older version has where nothing was.
    pub fn read(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Outcome<()> {
        if self.kind == FolderKind::Shared {
            self.fill_gaps()?;
        }
        let (mut at, end) = (offset, offset.saturating_add(len as u64).min(self.len()));
        while at < end {
            let (index, within) = (at / CHUNK_U64, (at % CHUNK_U64) as usize);
            let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK - within);
            let before = out.len();
            if at >= self.contiguous() {
                let (base, _) = self.base.as_mut().ok_or(DAMAGED)?;
                let chunk = base.chunk(index)?;
                out.extend_from_slice(chunk.get(within..chunk.len().min(within + wanted)).unwrap_or_default());
            } else if index == self.full {
                out.extend_from_slice(&self.tail[within..self.tail.len().min(within + wanted)]);
            } else {
                let mut record = self.sealed_record(index)?;
                let generation = self.generation(index);
                let plain = self.records.open(index, generation, false, &mut record)?;
                out.extend_from_slice(&plain[within..within + wanted]);
            }
            if out.len() == before {
                return Err(DAMAGED);
            }
            at += (out.len() - before) as u64;
        }
        Ok(())
    }

    /// FSETSTAT with a size. To the size it has: nothing, unless it is how this client says it was interrupted.
    pub fn truncate(&mut self, size: u64, only_size: bool) -> Outcome<()> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if size > self.grant.size_max {
            return Err(TOO_LARGE);
        }
        let delivered = self.kind != FolderKind::Shared;
        let cut_habit = self.habits.cuts_when_interrupted && (self.habits.truncated || self.habits.appends);
        if size == self.len() && self.ahead.is_empty() {
            self.interrupted |= delivered && cut_habit && only_size;
            return Ok(());
        }
        if !delivered {
            self.fill_gaps()?;
            if size < self.len() {
                self.cut(size)?
            } else {
                self.fill_to(size)?
            }
            return Ok(());
        }
        if size > self.len() {
            return Err(Refusal::failure("a file in this folder cannot be made longer than what was written"));
        }
        // Written in place from the beginning to exactly here: the rest is what an earlier, longer try left.
        let in_place = self.resumed && !self.habits.truncated && !self.habits.appends && size == self.own_prefix;
        self.cut(size)?;
        self.interrupted |= !in_place;
        Ok(())
    }

    fn fill_to(&mut self, size: u64) -> Outcome<()> {
        self.fill_from_base(size)?;
        self.fill_with_zeros(size)
    }

    /// Lets go of everything from `size` on.
    fn cut(&mut self, size: u64) -> Outcome<()> {
        self.ahead.clear();
        self.ahead_bytes = 0;
        self.closed = None;
        if let Some((_, limit)) = &mut self.base {
            *limit = size.min(*limit);
        }
        if size >= self.contiguous() {
            return Ok(());
        }
        let (full, rest) = (size / CHUNK_U64, (size % CHUNK_U64) as usize);
        if full == self.full {
            self.tail[rest..].zeroize();
            self.tail.truncate(rest);
        } else {
            let mut tail = Zeroizing::new(Vec::new());
            if rest > 0 {
                let mut record = self.sealed_record(full)?;
                let generation = self.generation(full);
                tail.extend_from_slice(&self.records.open(full, generation, false, &mut record)?[..rest]);
            }
            self.tail = tail;
            // As far as a trailer can list them; a fresh nonce makes the rest as safe against all but a disk that
            // gives back what was cut.
            if (self.full - full) as usize + self.generations.len() < GENERATIONS_MAX {
                self.sealed_before = self.sealed_before.max(self.full);
            }
            match self.buffered(full) {
                Some(at) => self.buffer.truncate(at),
                None => {
                    self.buffer.clear();
                    self.on_disk = full;
                    self.part.set_len(record_offset(full))?;
                }
            }
            self.full = full;
        }
        self.digest = if size == 0 { Some(Midstate::new()) } else { None };
        self.journaled_at = self.journaled_at.min(size);
        self.synced_at = self.synced_at.min(size);
        self.own_prefix = self.own_prefix.min(size);
        Ok(())
    }

    /// Opens the records that a power cut may have taken although the journal counts them. `false`: some were, and the
    /// upload now ends before the first of them.
    fn verify_end(&mut self) -> Outcome<bool> {
        let span = (SYNC_EVERY + JOURNAL_EVERY) / CHUNK_U64;
        for index in self.full.saturating_sub(span)..self.full {
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

    /// For a temp name: the digest is made and everything is durable, but the file stays unfinished until it is
    /// renamed.
    pub fn park(&mut self, staging: &Staging) -> Outcome<u64> {
        let (size, sha256) = self.complete()?;
        self.closed = Some((size, sha256));
        self.journal(staging, true)?;
        Ok(size)
    }

    /// Everything there is has come; the digest of it.
    fn complete(&mut self) -> Outcome<(u64, [u8; 32])> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        self.fill_gaps()?;
        self.fill_to(self.len())?;
        if let Some((size, sha256)) = self.closed
            && size == self.contiguous()
        {
            return Ok((size, sha256));
        }
        if self.digest.is_none() {
            self.flush()?;
            let generations: Vec<_> =
                self.generations.iter().map(|(index, generation)| (*index, *generation)).collect();
            self.digest = Some(rehash(&self.part, &self.head, &self.key, &generations, self.full, &self.tail)?);
        }
        let digest = self.digest.clone().ok_or(DAMAGED)?;
        if digest.hashed() != self.contiguous() {
            return Err(DAMAGED);
        }
        Ok((self.contiguous(), digest.finish()))
    }

    /// Writes the final record, the trailer and the footer. From here on the file can pass as complete, so nothing but
    /// a commit or its removal may follow.
    pub fn finish(mut self, name: Option<FileName>) -> Result<Finished, (Box<Self>, Refusal)> {
        match self.end(name) {
            Ok((size, sha256)) => {
                let (file_key, opened_at) = (*self.key.expose(), self.opened_at);
                Ok(Finished { part: self.part, size, sha256: Digest(sha256), file_key, opened_at })
            }
            Err(refusal) => Err((Box::new(self), refusal)),
        }
    }

    fn end(&mut self, name: Option<FileName>) -> Outcome<(u64, [u8; 32])> {
        let (size, sha256) = self.complete()?;
        let generation = self.next_generation(self.full)?;
        let tail = std::mem::take(&mut self.tail);
        self.records.seal(self.full, generation, true, &tail, &mut self.buffer)?;
        let trailer = Trailer {
            name: name.map(|name| name.as_bytes().to_vec()).unwrap_or_default(),
            mtime: self.mtime.map(u64::from),
            sender: std::mem::take(&mut self.grant.sender),
            recipients: std::mem::take(&mut self.grant.recipients),
            size,
            sha256,
            opened_at: self.opened_at,
            sealed_at: clock::now().0,
            server: std::mem::take(&mut self.grant.server),
            gens: self.generations.range(..=self.full).map(|(index, generation)| (*index, *generation)).collect(),
        };
        self.buffer.extend_from_slice(&trailer.seal(&self.head, &self.key)?);
        let offset = if self.header_in_buffer { 0 } else { record_offset(self.on_disk) };
        self.part.write_all_at(&self.buffer, offset)?;
        self.part.set_len(offset + self.buffer.len() as u64)?;
        if !self.header_in_buffer {
            self.part.wipe_envelope()?;
        }
        self.part.close_writer();
        Ok((size, sha256))
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
    *refusal == TOO_LARGE || *refusal == GAP || refusal.status == Status::PermissionDenied
}
