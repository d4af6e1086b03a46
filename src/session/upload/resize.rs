//! Sizes that a client sets, and what it means by them: some clients say so that they were interrupted, some that they
//! have finished, and in a shared folder a size is a size.

use zeroize::{Zeroize, Zeroizing};

use super::{CHUNK_U64, Upload};
use crate::ipc::jail::FolderKind;
use crate::seal::{GENERATIONS_MAX, Midstate, record_offset};
use crate::session::reply::{Outcome, Refusal};
use crate::session::staging::Staging;

impl Upload {
    /// FSETSTAT with a size. To the size it has: nothing, unless it is how this client says it was interrupted.
    pub fn truncate(&mut self, staging: &Staging, size: u64, only_size: bool) -> Outcome<()> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if size > self.grant.size_max {
            return Err(self.grant.too_large.clone());
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
                self.cut(staging, size)?
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
        self.cut(staging, size)?;
        self.interrupted |= !in_place;
        Ok(())
    }

    pub(super) fn fill_to(&mut self, size: u64) -> Outcome<()> {
        self.fill_from_base(size)?;
        self.fill_with_zeros(size)
    }

    /// Lets go of everything from `size` on.
    pub(super) fn cut(&mut self, staging: &Staging, size: u64) -> Outcome<()> {
        self.ahead.clear();
        self.closed = None;
        if let Some((_, limit)) = &mut self.base {
            *limit = size.min(*limit);
        }
        if size >= self.contiguous() {
            return Ok(());
        }
        self.lower_journal(staging, size)?;
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
            // A drop that was cut is going to be continued to its end, which would be read back whole otherwise.
            self.digest = match (full, self.kind) {
                (0, _) => Some(Midstate::keeping(self.keeps).into()),
                (_, FolderKind::Shared) => None,
                _ => self.hash_from_anchor()?,
            };
        }
        self.own_prefix = self.own_prefix.min(size);
        Ok(())
    }
}
