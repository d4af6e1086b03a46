//! SHA-256 of the plaintext that can be put down and taken up again: its midstate goes into the journal, so that a
//! resumed upload need not be read back. Where a saved midstate cannot be used, [`rehash`] makes it anew.

use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::reader::{ReadAt, ReadError};
use super::{CHUNK, FileKey, Head, RECORD_LEN, Records, SealError, record_offset};

/// The form that [`Midstate::save`] writes: the state as sha2 0.11 serialises it. A test pins the bytes, so an update of
/// that crate that changes them must change this number too, and old journals fall back to [`rehash`].
const FORM: u8 = 1;

/// A SHA-256 in progress.
#[derive(Clone, Default)]
pub struct Midstate {
    hasher: Sha256,
    hashed: u64,
}

impl Midstate {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.hashed += bytes.len() as u64;
    }

    /// Bytes under it so far.
    pub fn hashed(&self) -> u64 {
        self.hashed
    }

    pub fn finish(self) -> [u8; 32] {
        self.hasher.finalize().into()
    }

    /// For the journal. Holds up to 63 bytes of plaintext: keep it sealed.
    pub fn save(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(105);
        out.push(FORM);
        out.extend_from_slice(&self.hasher.serialize());
        out
    }

    /// From [`Midstate::save`]; `None` if it is of another form, and then the caller must [`rehash`].
    pub fn load(saved: &[u8], hashed: u64) -> Option<Self> {
        let (&FORM, state) = saved.split_first()? else { return None };
        let state: &SerializedState<Sha256> = state.try_into().ok()?;
        Some(Self { hasher: Sha256::deserialize(state).ok()?, hashed })
    }
}

/// Reads `records` full records of an unfinished file back, opens each, and hashes them and `tail` in order.
pub fn rehash<F: ReadAt>(
    file: &F,
    head: &Head,
    key: &FileKey,
    generations: &[(u64, u32)],
    records: u64,
    tail: &[u8],
) -> Result<Midstate, ReadError> {
    let mut midstate = Midstate::new();
    let mut opener = Records::new(head, key);
    let mut buffer = Zeroizing::new(vec![0; RECORD_LEN]);
    for index in 0..records {
        file.read_exact_at(&mut buffer, record_offset(index))?;
        let at = generations.binary_search_by_key(&index, |(index, _)| *index);
        let generation = at.map_or(0, |at| generations[at].1);
        midstate.update(opener.open(index, generation, false, &mut buffer)?);
    }
    if tail.len() > CHUNK {
        return Err(SealError::Limit("a tail").into());
    }
    midstate.update(tail);
    Ok(midstate)
}
