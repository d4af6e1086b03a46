//! Bytes into an upload and back out of it: in order straight into records, ahead of their turn into bounded memory, over
//! what is there by resealing the records they touch.

use zeroize::Zeroizing;

use super::ahead::AHEAD_MAX;
use super::{CHUNK_U64, Upload, WRITE_BUFFER};
use crate::ipc::jail::FolderKind;
use crate::seal::{CHUNK, GENERATIONS_MAX, HEADER_LEN, RECORD_LEN, SealError, record_offset};
use crate::session::reply::{DAMAGED, GAP, Outcome};
use crate::session::staging::Staging;

impl Upload {
    /// Takes bytes at any offset. The first failure is remembered: every later write and the end fail with it.
    pub fn write(&mut self, staging: &Staging, offset: u64, data: &[u8]) -> Outcome<()> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let placed = self.place(staging, offset, data).and_then(|()| self.judge_beginning(offset));
        let result = placed.and_then(|()| self.settle(staging, data.len()));
        if let Err(refusal) = &result {
            self.fault = Some(refusal.clone());
        }
        result
    }

    fn place(&mut self, staging: &Staging, offset: u64, data: &[u8]) -> Outcome<()> {
        let offset = self.meant(offset, data)?;
        let end = offset.checked_add(data.len() as u64).ok_or_else(|| self.grant.too_large.clone())?;
        if data.is_empty() {
            return Ok(());
        }
        self.continued_at = None;
        if end > self.grant.size_max {
            return Err(self.grant.too_large.clone());
        }
        // Sent again from the beginning, and not the same file: what an earlier try left is of no use.
        if self.resumed && self.own_prefix == 0 && offset == 0 && !self.matches(data)? {
            self.cut(staging, 0)?;
        }
        if offset <= self.own_prefix {
            self.own_prefix = self.own_prefix.max(end);
        }
        if self.closed.take().is_some() {
            // What is written to again was not all there was.
            self.journal(staging, true)?;
        }
        if offset > self.contiguous() {
            self.fill_from_base(offset)?;
        }
        let contiguous = self.contiguous();
        if offset > contiguous {
            let waits = end - contiguous <= AHEAD_MAX && self.ahead.has_room_for(data.len() as u64);
            if waits {
                self.ahead.keep(offset, data);
                return Ok(());
            }
            self.fill_with_zeros(offset)?;
        }
        let over = usize::try_from(self.contiguous() - offset).unwrap_or(usize::MAX).min(data.len());
        self.overwrite(staging, offset, &data[..over])?;
        self.append(&data[over..])?;
        self.take_ahead()
    }

    /// Where a write is meant to go. A handle opened with APPEND has no say in it: asyncssh counts from 0 on one, and what is
    /// there would be lost. Beyond the end it is as given, so that a gap shows; OpenSSH's `reput` gives the end itself.
    /// What continues an upload begins where STAT said that it ends, unless it does not fit: who never asked knows better.
    fn meant(&mut self, offset: u64, data: &[u8]) -> Outcome<u64> {
        if !self.habits.appends {
            return Ok(offset);
        }
        let end = self.contiguous().max(self.base.as_ref().map_or(0, |(_, limit)| *limit));
        let stated = self.continued_at.filter(|at| *at == end && offset < end).and_then(|at| at.checked_sub(1));
        if let (Some(stated), Some(first)) = (stated, data.first()) {
            let mut last = Zeroizing::new(Vec::new());
            self.read(stated, 1, &mut last)?;
            if offset == stated || last.first() == Some(first) {
                return Ok(stated);
            }
        }
        Ok(offset.max(end))
    }

    /// Whether the beginning of what is staged is the beginning of `data`, or the other way round.
    fn matches(&mut self, data: &[u8]) -> Outcome<bool> {
        let mut staged = Zeroizing::new(Vec::new());
        self.read(0, data.len(), &mut staged)?;
        let len = staged.len().min(data.len());
        Ok(staged[..len] == data[..len])
    }

    /// Appends what waited and whose turn it is now. Where it overlaps with what was appended meanwhile, that is newer.
    fn take_ahead(&mut self) -> Outcome<()> {
        while self.ahead.first().is_some_and(|offset| offset <= self.contiguous()) {
            let Some((offset, data)) = self.ahead.pop_first() else { break };
            let known = usize::try_from(self.contiguous() - offset).unwrap_or(usize::MAX);
            if let Some(news) = data.get(known..) {
                self.append(news)?;
            }
        }
        Ok(())
    }

    /// Copies what the older version has up to `offset`.
    pub(super) fn fill_from_base(&mut self, offset: u64) -> Outcome<()> {
        let Some((mut base, limit)) = self.base.take() else { return Ok(()) };
        let mut result = Ok(());
        while result.is_ok() && self.contiguous() < offset.min(limit) {
            let at = self.contiguous();
            let index = at / CHUNK_U64;
            let drop = base.head().drop_id();
            let chunk = base.chunk(index).map_err(|error| {
                self.base_damage = Some((drop, format!("record {index}: {error}")));
                DAMAGED
            });
            result = chunk.and_then(|chunk| {
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
    pub(super) fn fill_with_zeros(&mut self, to: u64) -> Outcome<()> {
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
    pub(super) fn fill_gaps(&mut self) -> Outcome<()> {
        while let Some(next) = self.ahead.first() {
            self.fill_to(next)?;
            self.take_ahead()?;
        }
        Ok(())
    }

    pub(super) fn append(&mut self, mut data: &[u8]) -> Outcome<()> {
        while !data.is_empty() {
            let (now, rest) = data.split_at((CHUNK - self.tail.len()).min(data.len()));
            self.tail.extend_from_slice(now);
            data = rest;
            if self.tail.len() == CHUNK {
                self.seal_tail()?;
            }
        }
        Ok(())
    }

    /// Seals the tail, which is full, and hands it on to the digest; an empty buffer takes its place.
    fn seal_tail(&mut self) -> Outcome<()> {
        let mut chunk = std::mem::take(&mut self.tail);
        let generation = self.next_generation(self.full)?;
        // At once, not by doubling, which copies all there is each time.
        self.buffer.reserve_exact(WRITE_BUFFER.saturating_sub(self.buffer.len()));
        self.records.seal(self.full, generation, false, &chunk, &mut self.buffer)?;
        self.full += 1;
        self.tail = match &mut self.digest {
            Some(digest) => digest.update(chunk),
            None => {
                chunk.clear();
                chunk
            }
        };
        if self.buffer.len() + RECORD_LEN > WRITE_BUFFER { self.flush() } else { Ok(()) }
    }

    /// 0 for a record never sealed before; one more than before for any other.
    pub(super) fn next_generation(&mut self, index: u64) -> Outcome<u32> {
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

    pub(super) fn generation(&self, index: u64) -> u32 {
        self.generations.get(&index).copied().unwrap_or(0)
    }

    /// Writes over bytes that are there. Bytes that do not change, as when a client sends again, change nothing.
    fn overwrite(&mut self, staging: &Staging, mut offset: u64, mut data: &[u8]) -> Outcome<()> {
        while !data.is_empty() {
            let (index, within) = (offset / CHUNK_U64, (offset % CHUNK_U64) as usize);
            let (now, rest) = data.split_at((CHUNK - within).min(data.len()));
            if index == self.full {
                let there = within..within + now.len();
                if self.tail.get(there.clone()).ok_or(DAMAGED)? != now {
                    self.lower_journal(staging, offset)?;
                    self.tail[there].copy_from_slice(now);
                }
            } else {
                let mut record = self.sealed_record(index)?;
                let generation = self.generation(index);
                let plain = self.records.open(index, generation, false, &mut record)?;
                if plain[within..within + now.len()] != *now {
                    plain[within..within + now.len()].copy_from_slice(now);
                    let plain = Zeroizing::new(plain.to_vec());
                    self.lower_journal(staging, offset)?;
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
    pub(super) fn buffered(&self, index: u64) -> Option<usize> {
        let from = usize::try_from(index.checked_sub(self.on_disk)?).ok()?;
        Some(from * RECORD_LEN + if self.header_in_buffer { HEADER_LEN } else { 0 })
    }

    /// A copy of a sealed full record, to be opened in place.
    pub(super) fn sealed_record(&self, index: u64) -> Outcome<Zeroizing<Vec<u8>>> {
        let mut record = Zeroizing::new(vec![0; RECORD_LEN]);
        match self.buffered(index) {
            Some(at) => record.copy_from_slice(self.buffer.get(at..at + RECORD_LEN).ok_or(DAMAGED)?),
            None => crate::seal::ReadAt::read_exact_at(&self.part, &mut record, record_offset(index))?,
        }
        Ok(record)
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
                let drop = base.head().drop_id();
                let chunk = base.chunk(index).map_err(|error| {
                    self.base_damage = Some((drop, format!("record {index}: {error}")));
                    DAMAGED
                })?;
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
}
