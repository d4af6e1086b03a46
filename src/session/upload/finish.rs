//! An upload on its way to the disk: buffered records are written, the journal that makes it resumable is renewed, and
//! at the end it is parked under its temp name, or finished with the final record, trailer and footer.

use zeroize::Zeroize;

use super::end_to_end::Wanted;
use super::hashing::Hashing;
use super::{CHUNK_U64, FIRST_JOURNAL, FIRST_JOURNAL_AFTER, Finished, JOURNAL_EVERY, SYNC_EVERY, Upload, WRITE_AHEAD};
use crate::clock;
use crate::names::{Digest, FileName};
use crate::seal::{Journal, Midstate, Trailer, record_offset, rehash};
use crate::session::reply::{DAMAGED, Outcome, Refusal};
use crate::session::staging::Staging;
use crate::sums::Sums;

impl Upload {
    pub(super) fn flush(&mut self) -> Outcome<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.write_buffer()?;
        // The first records at once, for a small file has no more; then in longer runs, which cost the disk less.
        if self.header_in_buffer || self.full / WRITE_AHEAD > self.on_disk / WRITE_AHEAD {
            self.write_ahead();
        }
        self.on_disk = self.full;
        self.header_in_buffer = false;
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is in the buffer where it belongs; the offset of its end.
    fn write_buffer(&self) -> Outcome<u64> {
        let offset = if self.header_in_buffer { 0 } else { record_offset(self.on_disk) };
        self.part.write_all_at(&self.buffer, offset)?;
        Ok(offset + self.buffer.len() as u64)
    }

    /// Tells the disk of all from the beginning of the run that the buffer is in.
    fn write_ahead(&self) {
        self.part.write_ahead_from(record_offset(self.on_disk / WRITE_AHEAD * WRITE_AHEAD));
    }

    /// After a write of so many bytes: renews the journal when enough has come since the last.
    pub(super) fn settle(&mut self, staging: &Staging, len: usize) -> Outcome<()> {
        self.unjournaled += len as u64;
        let due = if self.has_journal {
            self.unjournaled >= JOURNAL_EVERY
        } else {
            self.unjournaled >= FIRST_JOURNAL || self.begun.elapsed() >= FIRST_JOURNAL_AFTER
        };
        if due {
            let durable = self.contiguous() >= self.synced + SYNC_EVERY;
            self.journal(staging, durable)?;
        }
        Ok(())
    }

    /// Before bytes from `offset` on change: if the journal stands for them, it is made to stand for less. A crash after
    /// this loses what came since `offset`; without it, it would give back neither the old bytes nor the new.
    pub(super) fn lower_journal(&mut self, staging: &Staging, offset: u64) -> Outcome<()> {
        if offset >= self.journaled {
            return Ok(());
        }
        self.anchors.retain(|(records, _)| *records <= offset / CHUNK_U64);
        self.put_journal(staging, offset / CHUNK_U64, &[], None, offset < self.synced)
    }

    /// Puts everything needed to resume where a killed session (or with `durable`, a power cut) leaves it. The body
    /// first: a journal must not count records that are not there.
    pub(super) fn journal(&mut self, staging: &Staging, durable: bool) -> Outcome<()> {
        self.flush()?;
        if durable {
            self.part.sync()?;
            self.synced = self.full * CHUNK_U64;
        }
        // After the sync: the other thread goes on hashing while the disk is waited for.
        let digest = self.digest.as_mut().map(Hashing::midstate);
        if let Some(digest) = digest.as_ref().filter(|_| durable) {
            self.anchors.retain(|(records, _)| *records < self.full);
            self.anchors.push((self.full, digest.clone()));
            self.anchors.drain(..self.anchors.len().saturating_sub(2));
        }
        let tail = self.tail.clone();
        self.put_journal(staging, self.full, &tail, digest.as_ref(), durable)?;
        self.unjournaled = 0;
        Ok(())
    }

    fn put_journal(
        &mut self,
        staging: &Staging,
        records: u64,
        tail: &[u8],
        digest: Option<&Midstate>,
        durable: bool,
    ) -> Outcome<()> {
        let length = records * CHUNK_U64 + tail.len() as u64;
        let sealed = self.sealed_journal(records, tail, digest)?;
        staging.write_journal(&self.part, self.stated(length), &sealed, durable)?;
        self.has_journal = true;
        self.journaled = length;
        if durable {
            self.synced = length;
        }
        Ok(())
    }

    /// The journal, after the number of the bucket that its key is of.
    fn sealed_journal(&self, records: u64, tail: &[u8], digest: Option<&Midstate>) -> Outcome<Vec<u8>> {
        let durable = (self.synced / CHUNK_U64).min(records);
        let anchor = self.anchors.last().filter(|(anchored, _)| (1..=durable).contains(anchored));
        let journal = Journal {
            path: self.path.as_bytes().to_vec(),
            file_key: self.key.clone(),
            records,
            tail: tail.to_vec(),
            midstate: digest.map(Midstate::save).unwrap_or_default(),
            gens: self.generations.range(..=records).map(|(index, generation)| (*index, *generation)).collect(),
            closed: self.closed,
            mtime: self.mtime,
            opened_at: self.opened_at,
            updated_at: clock::now().0,
            durable,
            anchor: anchor.map(|(records, digest)| (*records, digest.save().sha256)),
        };
        let by = &self.grant.journal;
        let sealed = [&by.bucket.to_be_bytes()[..], &journal.seal(self.drop, &by.key)?].concat();
        let Journal { mut tail, mut midstate, anchor, .. } = journal;
        tail.zeroize();
        midstate.zeroize();
        anchor.map(|(_, sha256)| sha256).zeroize();
        Ok(sealed)
    }

    /// The journal of the whole upload, for one that is finished and then waits ([`Staging::put_by`]). It may not be in
    /// place before the keeper knows of the wait: STAT would show a whole file that nobody is going to deliver.
    pub fn closed_journal(&mut self) -> Outcome<Vec<u8>> {
        let (size, sha256, _) = self.complete()?;
        self.closed = Some((size, sha256));
        let digest = self.digest.as_mut().map(Hashing::midstate);
        self.sealed_journal(self.full, &self.tail, digest.as_ref())
    }

    /// Everything so far survives a power cut when this returns: fsync@openssh.com, and the end of a connection.
    pub fn sync(&mut self, staging: &Staging) -> Outcome<()> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        self.journal(staging, true)
    }

    /// The same, if anything came since the last journal.
    pub fn sync_news(&mut self, staging: &Staging) -> Outcome<()> {
        if self.unjournaled == 0 { Ok(()) } else { self.sync(staging) }
    }

    /// For a temp name: the digest is made and everything is durable, but the file stays unfinished until it is
    /// renamed.
    pub fn park(&mut self, staging: &Staging) -> Outcome<u64> {
        let (size, sha256, _) = self.complete()?;
        self.closed = Some((size, sha256));
        self.journal(staging, true)?;
        Ok(size)
    }

    /// Everything there is has come; the digest of it.
    fn complete(&mut self) -> Outcome<(u64, [u8; 32], Sums)> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        self.fill_gaps()?;
        self.fill_to(self.len())?;
        if let Some((size, sha256, sums)) = self.closed()
            && size == self.contiguous()
            && sums.have(self.keeps)
        {
            return Ok((size, sha256, sums));
        }
        if self.digest.is_none() {
            self.flush()?;
            let generations: Vec<_> =
                self.generations.iter().map(|(index, generation)| (*index, *generation)).collect();
            self.digest = Some(rehash(&self.part, &self.head, &self.key, &generations, self.full, self.keeps)?.into());
        }
        let digest = self.whole_digest().ok_or(DAMAGED)?;
        if digest.hashed() != self.contiguous() {
            return Err(DAMAGED);
        }
        let (sha256, sums) = digest.finish();
        Ok((self.contiguous(), sha256, sums))
    }

    /// Writes the final record, the trailer and the footer. From here on the file can pass as complete, so nothing but
    /// a commit or its removal may follow.
    pub fn finish(mut self, name: Option<FileName>) -> Result<Finished, (Box<Self>, Refusal)> {
        match self.end(name) {
            Ok((size, sha256, sums)) => {
                let (file_key, opened_at) = (*self.key.expose(), self.opened_at);
                Ok(Finished { part: self.part, size, sha256: Digest(sha256), sums, file_key, opened_at })
            }
            Err(refusal) => Err((Box::new(self), refusal)),
        }
    }

    fn end(&mut self, name: Option<FileName>) -> Outcome<(u64, [u8; 32], Sums)> {
        let (size, sha256, sums) = self.complete()?;
        let generation = self.next_generation(self.full)?;
        let tail = std::mem::take(&mut self.tail);
        let mut recipients = std::mem::take(&mut self.grant.recipients);
        recipients.extend(self.wanted.iter().flat_map(Wanted::texts));
        self.records.seal(self.full, generation, true, &tail, &mut self.buffer)?;
        let trailer = Trailer {
            name: name.map(|name| name.as_bytes().to_vec()).unwrap_or_default(),
            mtime: self.mtime.map(u64::from),
            sender: std::mem::take(&mut self.grant.sender),
            recipients,
            size,
            sha256,
            opened_at: self.opened_at,
            sealed_at: clock::now().0,
            server: std::mem::take(&mut self.grant.server),
            gens: self.generations.range(..=self.full).map(|(index, generation)| (*index, *generation)).collect(),
            sums,
        };
        self.buffer.extend_from_slice(&trailer.seal(&self.head, &self.key)?);
        let end = self.write_buffer()?;
        self.part.set_len(end)?;
        // The disk begins while the keeper wraps the key, and is done sooner when it is waited for.
        self.write_ahead();
        self.part.close_writer();
        Ok((size, sha256, sums))
    }
}
