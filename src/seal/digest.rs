//! SHA-256 of the plaintext that can be put down and taken up again: its midstate goes into the journal, so that a
//! resumed upload need not be read back. Where a saved midstate cannot be used, [`rehash`] makes it anew: also always in a
//! build with `fips`, whose module gives no state away.

use sha2::Digest;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use zeroize::{Zeroize, Zeroizing};

use super::reader::{ReadAt, ReadError};
use super::{FileKey, Head, RECORD_LEN, Records, SIZE_MAX, record_offset};
use crate::sums::{Keeps, Sums};

#[cfg(not(feature = "fips"))]
use sha2::Sha256;

#[cfg(feature = "fips")]
use super::module::Sha256;

/// The form that [`Midstate::save`] writes: the states as sha2, md-5 and sha1 0.11 serialise them. A test pins the bytes,
/// so an update of those crates that changes them must change this number too, and old journals fall back to [`rehash`].
const FORM: u8 = 1;

/// A SHA-256 in progress, and the sums that are kept beside it.
#[derive(Clone, Default)]
pub struct Midstate {
    hasher: Sha256,
    md5: Option<md5::Md5>,
    sha1: Option<sha1::Sha1>,
    hashed: u64,
}

/// What a [`Midstate`] is in a journal. Each state holds up to 63 bytes of plaintext: keep it sealed. Empty: there is
/// none, and whoever continues must [`rehash`].
#[derive(Clone, Default, PartialEq, Eq, Zeroize)]
pub struct Saved {
    pub sha256: Vec<u8>,
    pub md5: Vec<u8>,
    pub sha1: Vec<u8>,
    /// Bytes under them, from the beginning of the file.
    pub hashed: u64,
}

impl Midstate {
    /// SHA-256 alone.
    pub fn new() -> Self {
        Self::default()
    }

    pub fn keeping(keeps: Keeps) -> Self {
        Self { md5: keeps.md5.then(Default::default), sha1: keeps.sha1.then(Default::default), ..Self::default() }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(bytes);
        }
        self.hashed += bytes.len() as u64;
    }

    /// Bytes under it so far.
    pub fn hashed(&self) -> u64 {
        self.hashed
    }

    pub fn finish(self) -> ([u8; 32], Sums) {
        let sums =
            Sums { md5: self.md5.map(|md5| md5.finalize().into()), sha1: self.sha1.map(|sha1| sha1.finalize().into()) };
        (finalized(self.hasher), sums)
    }

    /// For the journal.
    pub fn save(&self) -> Saved {
        Saved {
            sha256: save_sha256(&self.hasher),
            md5: self.md5.as_ref().map(save).unwrap_or_default(),
            sha1: self.sha1.as_ref().map(save).unwrap_or_default(),
            hashed: self.hashed,
        }
    }

    /// From [`Midstate::save`]; `None` if it is of another form, counts other bytes than [`Saved::hashed`] or lacks what
    /// shall be kept, and then the caller must [`rehash`].
    pub fn load(saved: &Saved, keeps: Keeps) -> Option<Self> {
        let hashed = saved.hashed;
        Some(Self {
            hasher: load_sha256(&saved.sha256, hashed)?,
            md5: if keeps.md5 { Some(load(&saved.md5, hashed)?) } else { None },
            sha1: if keeps.sha1 { Some(load(&saved.sha1, hashed)?) } else { None },
            hashed,
        })
    }
}

#[cfg(not(feature = "fips"))]
fn finalized(hasher: Sha256) -> [u8; 32] {
    hasher.finalize().into()
}

#[cfg(not(feature = "fips"))]
fn save_sha256(hasher: &Sha256) -> Vec<u8> {
    save(hasher)
}

#[cfg(not(feature = "fips"))]
fn load_sha256(saved: &[u8], hashed: u64) -> Option<Sha256> {
    load(saved, hashed)
}

#[cfg(feature = "fips")]
fn finalized(hasher: Sha256) -> [u8; 32] {
    hasher.finish()
}

/// There is none to save: [`Saved`] says what that means.
#[cfg(feature = "fips")]
fn save_sha256(_: &Sha256) -> Vec<u8> {
    Vec::new()
}

#[cfg(feature = "fips")]
fn load_sha256(_: &[u8], _: u64) -> Option<Sha256> {
    None
}

fn save<H: SerializableState>(hasher: &H) -> Vec<u8> {
    let state = hasher.serialize();
    let mut out = Vec::with_capacity(1 + state.len());
    out.push(FORM);
    out.extend_from_slice(&state);
    out
}

fn load<H: SerializableState>(saved: &[u8], hashed: u64) -> Option<H> {
    let (&FORM, state) = saved.split_first()? else { return None };
    if hashed > SIZE_MAX || counted(state)? != hashed {
        return None;
    }
    let state: &SerializedState<H> = state.try_into().ok()?;
    H::deserialize(state).ok()
}

/// Bytes under a state of [`FORM`] 1, of whichever hash: it ends with `blocks u64 ‖ rest u8 ‖ 63 bytes`, little-endian.
fn counted(state: &[u8]) -> Option<u64> {
    let (_, &[a, b, c, d, e, f, g, h, rest, ..]) = state.split_last_chunk::<72>()?;
    u64::from_le_bytes([a, b, c, d, e, f, g, h]).checked_mul(64)?.checked_add(rest.into())
}

/// Reads `records` full records of an unfinished file back, opens each, and hashes them in order.
pub fn rehash<F: ReadAt>(
    file: &F,
    head: &Head,
    key: &FileKey,
    generations: &[(u64, u32)],
    records: u64,
    keeps: Keeps,
) -> Result<Midstate, ReadError> {
    let mut midstate = Midstate::keeping(keeps);
    let mut opener = Records::new(head, key);
    let mut buffer = Zeroizing::new(vec![0; RECORD_LEN]);
    for index in 0..records {
        file.read_exact_at(&mut buffer, record_offset(index))?;
        let at = generations.binary_search_by_key(&index, |(index, _)| *index);
        let generation = at.map_or(0, |at| generations[at].1);
        midstate.update(opener.open(index, generation, false, &mut buffer)?);
    }
    Ok(midstate)
}
