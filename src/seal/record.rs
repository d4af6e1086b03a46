//! The records of the body: each seals one chunk under a key that it shares with the 4,095 beside it, with a nonce of
//! its own from the kernel and its place in the file as associated data. So a record can be written again after a
//! crash, or rewritten, without any state that would have to survive; and it opens nowhere but where it belongs.

use zeroize::Zeroizing;

use super::aead::{Aead, Bulk, NONCE_LEN};
use super::head::CORE_LEN;
use super::keys::{Entropy, Kernel, expand};
use super::{CHUNK, FileKey, GENERATION_MAX, HEADER_LEN, Head, RECORD_LEN, RECORD_OVERHEAD, SIZE_MAX, SealError};

/// log2 of the records that share a key: 256 MiB of plaintext, 2^24 AES blocks.
const REGION_LOG2: u32 = 12;

/// Seals and opens the records of one file. Keeps the key of the region it last worked in.
pub struct Records<A: Aead = Bulk> {
    key: FileKey,
    core: [u8; CORE_LEN],
    region: Option<(u64, A)>,
}

/// Where a record begins in the file.
pub fn record_offset(index: u64) -> u64 {
    index.saturating_mul(RECORD_LEN as u64).saturating_add(HEADER_LEN as u64)
}

/// The length of all records of a finished file of `size` plaintext bytes, the final one included.
pub fn body_len(size: u64) -> u64 {
    let chunk = CHUNK as u64;
    (size / chunk).saturating_mul(RECORD_LEN as u64).saturating_add(size % chunk + RECORD_OVERHEAD as u64)
}

/// The generation that a record claims, before it is opened.
pub fn record_generation(record: &[u8]) -> Option<u32> {
    record.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

impl Records {
    pub fn new(head: &Head, key: &FileKey) -> Self {
        Self::with_backend(head, key)
    }
}

impl<A: Aead> Records<A> {
    /// [`Records::new`] with another implementation of the same cipher.
    pub fn with_backend(head: &Head, key: &FileKey) -> Self {
        Self { key: key.clone(), core: *head.core(), region: None }
    }

    /// Appends the record of chunk `index` to `out`. `last` is the final record, always short, possibly empty; every
    /// other chunk is full. `generation` is 0 unless the chunk at this place is being replaced by a new version.
    pub fn seal(
        &mut self,
        index: u64,
        generation: u32,
        last: bool,
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        self.seal_with(&mut Kernel, index, generation, last, plain, out)
    }

    pub(super) fn seal_with(
        &mut self,
        entropy: &mut dyn Entropy,
        index: u64,
        generation: u32,
        last: bool,
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        if plain.len() > CHUNK || (plain.len() == CHUNK) == last || generation > GENERATION_MAX {
            return Err(SealError::Limit("a record"));
        }
        let aead = self.aead(index)?;
        out.reserve(plain.len() + RECORD_OVERHEAD);
        let start = out.len();
        out.extend_from_slice(&generation.to_be_bytes());
        out.extend_from_slice(&[0; NONCE_LEN]);
        out.extend_from_slice(plain);
        let data_at = start + 4 + NONCE_LEN;
        match aead.seal(entropy, &aad(index, generation, last), &mut out[data_at..]) {
            Ok((nonce, tag)) => {
                out[data_at - NONCE_LEN..data_at].copy_from_slice(&nonce);
                out.extend_from_slice(&tag);
            }
            // No plaintext stays in a buffer that is on its way to a disk.
            Err(error) => {
                zeroize::Zeroize::zeroize(&mut out[start..]);
                out.truncate(start);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Opens `record` in place and returns its plaintext. `generation` is what the trailer (or the journal) says this
    /// record must be; an older version of the same chunk does not open.
    pub fn open<'a>(
        &mut self,
        index: u64,
        generation: u32,
        last: bool,
        record: &'a mut [u8],
    ) -> Result<&'a mut [u8], SealError> {
        let length = record.len().checked_sub(RECORD_OVERHEAD).ok_or(SealError::Damaged)?;
        if length > CHUNK || (length == CHUNK) == last {
            return Err(SealError::Damaged);
        }
        let (claimed, rest) = record.split_first_chunk_mut::<4>().ok_or(SealError::Damaged)?;
        let (nonce, rest) = rest.split_first_chunk_mut::<NONCE_LEN>().ok_or(SealError::Damaged)?;
        if u32::from_be_bytes(*claimed) != generation {
            return Err(SealError::Damaged);
        }
        self.aead(index)?.open(nonce, &aad(index, generation, last), rest)
    }

    fn aead(&mut self, index: u64) -> Result<&A, SealError> {
        if index > SIZE_MAX / CHUNK as u64 {
            return Err(SealError::Limit("a record's index"));
        }
        let region = index >> REGION_LOG2;
        if self.region.as_ref().is_none_or(|(held, _)| *held != region) {
            let key: Zeroizing<[u8; 32]> = expand(self.key.expose(), "gcm", &[&self.core, &region.to_be_bytes()])?;
            self.region = Some((region, A::new(&key)?));
        }
        match &self.region {
            Some((_, aead)) => Ok(aead),
            None => Err(SealError::Limit("a region")),
        }
    }
}

fn aad(index: u64, generation: u32, last: bool) -> [u8; 13] {
    let mut out = [0; 13];
    out[..8].copy_from_slice(&index.to_be_bytes());
    out[8..12].copy_from_slice(&generation.to_be_bytes());
    out[12] = u8::from(last);
    out
}
