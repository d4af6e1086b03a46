//! The journal of an upload in progress: everything that is needed to continue it, and that a disk must not show. One
//! small sealed file beside the `.part`, rewritten whole under a fresh nonce; destroying its key ends the upload for
//! good. The records that it counts must be durable before it is.

use super::aead::{enseal, unseal};
use super::digest::Saved;
use super::fields::{Fields, Parsed, generations_fit};
use super::keys::{Entropy, Kernel, expand};
use super::{CHUNK, FileKey, JournalKey, SIZE_MAX, SealError};
use crate::names::DropId;

const MAGIC: &[u8; 7] = b"SEALJNL";
const VERSION: u8 = 1;

const PATH: u16 = 1;
const FILE_KEY: u16 = 2;
const RECORDS: u16 = 3;
const TAIL: u16 = 4;
const SHA256: u16 = 5;
const HASHED: u16 = 6;
const GENERATIONS: u16 = 7;
const CLOSED: u16 = 8;
const MTIME: u16 = 9;
const OPENED_AT: u16 = 10;
const UPDATED_AT: u16 = 11;
const MD5: u16 = 12;
const SHA1: u16 = 13;
const DURABLE: u16 = 16;
const ANCHOR: u16 = 17;

/// What an upload in progress knows.
#[derive(Clone)]
pub struct Journal {
    /// As the client named it.
    pub path: Vec<u8>,
    pub file_key: FileKey,
    /// Full records in the `.part`; bytes of it beyond them mean nothing.
    pub records: u64,
    /// The plaintext after them, less than a chunk.
    pub tail: Vec<u8>,
    pub midstate: Saved,
    /// Rewritten records, as in the trailer.
    pub gens: Vec<(u64, u32)>,
    /// Size and digest, once a temp-named upload was closed.
    pub closed: Option<(u64, [u8; 32])>,
    /// Unix seconds, if the client set one.
    pub mtime: Option<u32>,
    /// Milliseconds since 1970.
    pub opened_at: u64,
    pub updated_at: u64,
    /// Of the records, those that were durable when this was written: no crash can have taken them.
    pub durable: u64,
    /// A number of durable records, and [`super::Midstate::save`] of exactly those: where hashing goes on from when a crash
    /// has taken some of the others.
    pub anchor: Option<(u64, Vec<u8>)>,
}

impl Journal {
    /// The bytes of the journal file of `drop`, under a fresh nonce each time.
    pub fn seal(&self, drop: DropId, key: &JournalKey) -> Result<Vec<u8>, SealError> {
        self.seal_with(&mut Kernel, drop, key)
    }

    pub(super) fn seal_with(
        &self,
        entropy: &mut dyn Entropy,
        drop: DropId,
        key: &JournalKey,
    ) -> Result<Vec<u8>, SealError> {
        if !self.consistent() {
            return Err(SealError::Limit("a journal"));
        }
        let (magic, key) = (magic(), expand(key.expose(), "journal", &[&drop.0])?);
        let fields = self.fields();
        let sealed = enseal(entropy, &key, &aad(drop), fields.as_bytes())?;
        Ok([&magic[..], &sealed].concat())
    }

    pub fn open(drop: DropId, key: &JournalKey, bytes: &[u8]) -> Result<Self, SealError> {
        let (magic, sealed) = bytes.split_first_chunk::<8>().ok_or(SealError::NotSealed)?;
        if &magic[..7] != MAGIC {
            return Err(SealError::NotSealed);
        }
        if magic[7] != VERSION {
            return Err(SealError::Version);
        }
        let key = expand(key.expose(), "journal", &[&drop.0])?;
        let plain = unseal(&key, &aad(drop), sealed)?;
        Self::from_fields(&plain).filter(Self::consistent).ok_or(SealError::Damaged)
    }

    fn consistent(&self) -> bool {
        let held = self.records.saturating_mul(CHUNK as u64).saturating_add(self.tail.len() as u64);
        self.tail.len() < CHUNK
            && held <= SIZE_MAX
            && self.midstate.hashed <= held
            && self.durable <= self.records
            && self.anchor.as_ref().is_none_or(|(records, _)| *records <= self.durable)
            && generations_fit(&self.gens)
            && self.gens.last().is_none_or(|(index, _)| *index <= self.records)
            && self.closed.is_none_or(|(size, _)| size == held)
    }

    pub(super) fn fields(&self) -> Fields {
        let anchor = self.anchor.as_ref().map_or(0, |(_, sha256)| sha256.len());
        let varying = self.path.len() + self.tail.len() + anchor + 12 * self.gens.len();
        let mut fields = Fields::with_capacity(512 + varying);
        fields.put(PATH, &self.path);
        fields.put(FILE_KEY, self.file_key.expose());
        fields.put_u64(RECORDS, self.records);
        fields.put(TAIL, &self.tail);
        fields.put(SHA256, &self.midstate.sha256);
        fields.put_u64(HASHED, self.midstate.hashed);
        fields.put_generations(GENERATIONS, &self.gens);
        if let Some((size, sha256)) = self.closed {
            fields.put(CLOSED, &[&size.to_be_bytes()[..], &sha256].concat());
        }
        if let Some(mtime) = self.mtime {
            fields.put(MTIME, &mtime.to_be_bytes());
        }
        fields.put_u64(OPENED_AT, self.opened_at);
        fields.put_u64(UPDATED_AT, self.updated_at);
        for (tag, state) in [(MD5, &self.midstate.md5), (SHA1, &self.midstate.sha1)] {
            if !state.is_empty() {
                fields.put(tag, state);
            }
        }
        if self.durable > 0 {
            fields.put_u64(DURABLE, self.durable);
        }
        if let Some((records, sha256)) = &self.anchor {
            fields.put(ANCHOR, &[&records.to_be_bytes()[..], sha256].concat());
        }
        fields
    }

    pub(super) fn from_fields(bytes: &[u8]) -> Option<Self> {
        let fields = Parsed::parse(bytes, None)?;
        let closed = match fields.optional::<40>(CLOSED)? {
            None => None,
            Some(value) => {
                let (size, sha256) = value.split_first_chunk()?;
                Some((u64::from_be_bytes(*size), sha256.try_into().ok()?))
            }
        };
        let anchor = match fields.get(ANCHOR) {
            None => None,
            Some(value) => {
                let (records, sha256) = value.split_first_chunk()?;
                Some((u64::from_be_bytes(*records), sha256.to_vec()))
            }
        };
        Some(Self {
            path: fields.get(PATH)?.to_vec(),
            file_key: FileKey::from_bytes(fields.array(FILE_KEY)?),
            records: fields.u64(RECORDS)?,
            tail: fields.get(TAIL)?.to_vec(),
            midstate: Saved {
                sha256: fields.get(SHA256)?.to_vec(),
                md5: fields.get(MD5).unwrap_or_default().to_vec(),
                sha1: fields.get(SHA1).unwrap_or_default().to_vec(),
                hashed: fields.u64(HASHED)?,
            },
            gens: fields.generations(GENERATIONS)?,
            closed,
            mtime: fields.optional(MTIME)?.map(u32::from_be_bytes),
            opened_at: fields.u64(OPENED_AT)?,
            updated_at: fields.u64(UPDATED_AT)?,
            durable: fields.optional(DURABLE)?.map_or(0, u64::from_be_bytes),
            anchor,
        })
    }
}

fn magic() -> [u8; 8] {
    let mut magic = [VERSION; 8];
    magic[..7].copy_from_slice(MAGIC);
    magic
}

fn aad(drop: DropId) -> Vec<u8> {
    [&magic()[..], &drop.0].concat()
}
