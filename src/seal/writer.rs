//! Seals a stream from its beginning to its end: bytes are pushed in, finished records come out, and nothing is ever
//! gone back to. An upload that can be resumed uses [`super::Records`] itself.

use zeroize::Zeroizing;

use super::keys::{Entropy, Kernel};
use super::{CHUNK, Envelope, FileKey, Head, Midstate, Records, SealError, Trailer};

/// A sealed file in the making.
pub struct Sealer {
    head: Head,
    key: FileKey,
    records: Records,
    /// Plaintext of the chunk that is not full yet.
    pending: Zeroizing<Vec<u8>>,
    next: u64,
    digest: Midstate,
}

impl Sealer {
    /// Appends head and envelope to `out`: the file's first 8,192 bytes.
    pub fn begin(head: Head, key: FileKey, envelope: &Envelope, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(&head.to_bytes());
        out.extend_from_slice(&envelope.to_bytes());
        let records = Records::new(&head, &key);
        let pending = Zeroizing::new(Vec::with_capacity(CHUNK));
        Self { head, key, records, pending, next: 0, digest: Midstate::new() }
    }

    /// Takes plaintext and appends the records that it fills to `out`.
    pub fn push(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        self.push_with(&mut Kernel, plain, out)
    }

    pub(super) fn push_with(
        &mut self,
        entropy: &mut dyn Entropy,
        mut plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        self.digest.update(plain);
        while !plain.is_empty() {
            let room = CHUNK - self.pending.len();
            let (now, later) = plain.split_at(room.min(plain.len()));
            plain = later;
            if now.len() == CHUNK {
                self.records.seal_with(entropy, self.next, 0, false, now, out)?;
                self.next += 1;
                continue;
            }
            self.pending.extend_from_slice(now);
            if self.pending.len() == CHUNK {
                self.records.seal_with(entropy, self.next, 0, false, &self.pending, out)?;
                self.pending.clear();
                self.next += 1;
            }
        }
        Ok(())
    }

    /// Appends the final record, the trailer and the footer. Size, digest and generations of `facts` are filled in here
    /// and returned with the rest.
    pub fn finish(self, facts: Trailer, out: &mut Vec<u8>) -> Result<Trailer, SealError> {
        self.finish_with(&mut Kernel, facts, out)
    }

    pub(super) fn finish_with(
        mut self,
        entropy: &mut dyn Entropy,
        facts: Trailer,
        out: &mut Vec<u8>,
    ) -> Result<Trailer, SealError> {
        self.records.seal_with(entropy, self.next, 0, true, &self.pending, out)?;
        let size = self.digest.hashed();
        let trailer = Trailer { size, sha256: self.digest.finish().0, gens: Vec::new(), ..facts };
        out.extend_from_slice(&trailer.seal_with(entropy, &self.head, &self.key)?);
        Ok(trailer)
    }
}
