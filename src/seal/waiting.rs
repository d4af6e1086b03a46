//! The note beside an upload that is complete and waits to be left alone before it is delivered: what its delivery will
//! need, sealed like the journal but under a label of its own. The keeper writes it and no session can reach it; while it
//! is there, nobody changes the `.part`.

use super::aead::{enseal, unseal};
use super::fields::{Fields, Parsed};
use super::keys::{Entropy, Kernel, expand};
use super::{FileKey, JournalKey, SIZE_MAX, SealError};
use crate::names::DropId;

/// `SEALWTG`, and the version.
const MAGIC: &[u8; 8] = b"SEALWTG\x01";

const PATH: u16 = 1;
const FILE_KEY: u16 = 2;
const SIZE: u16 = 3;
const SHA256: u16 = 4;
const MTIME: u16 = 5;
const OPENED_AT: u16 = 6;
const CLOSED_AT: u16 = 7;
const LOGIN_KEY: u16 = 8;
const ADDRESS: u16 = 9;
const SESSION: u16 = 10;

/// What is known of an upload that waits.
#[derive(Clone)]
pub struct Waiting {
    /// Where it will be delivered, as the client named it.
    pub path: Vec<u8>,
    pub file_key: FileKey,
    /// Of the plaintext; the trailer in the `.part` must say the same.
    pub size: u64,
    pub sha256: [u8; 32],
    /// Unix seconds, if the client set one.
    pub mtime: Option<u32>,
    /// Milliseconds since 1970.
    pub opened_at: u64,
    /// From when on it has been left alone.
    pub closed_at: u64,
    /// Fingerprint of the key its sender logged in with; empty if it was none.
    pub login_key: String,
    /// From where, and in which session.
    pub address: String,
    pub session: u64,
}

impl Waiting {
    /// The bytes of the note, under a fresh nonce each time.
    pub fn seal(&self, drop: DropId, key: &JournalKey) -> Result<Vec<u8>, SealError> {
        self.seal_with(&mut Kernel, drop, key)
    }

    pub(super) fn seal_with(
        &self,
        entropy: &mut dyn Entropy,
        drop: DropId,
        key: &JournalKey,
    ) -> Result<Vec<u8>, SealError> {
        let key = expand(key.expose(), "waiting", &[&drop.0])?;
        let sealed = enseal(entropy, &key, &aad(drop), self.fields().as_bytes())?;
        Ok([&MAGIC[..], &sealed].concat())
    }

    pub fn open(drop: DropId, key: &JournalKey, bytes: &[u8]) -> Result<Self, SealError> {
        let (magic, sealed) = bytes.split_first_chunk::<8>().ok_or(SealError::NotSealed)?;
        if magic[..7] != MAGIC[..7] {
            return Err(SealError::NotSealed);
        }
        if magic != MAGIC {
            return Err(SealError::Version);
        }
        let key = expand(key.expose(), "waiting", &[&drop.0])?;
        let plain = unseal(&key, &aad(drop), sealed)?;
        Self::from_fields(&plain).filter(|waiting| waiting.size <= SIZE_MAX).ok_or(SealError::Damaged)
    }

    fn fields(&self) -> Fields {
        let varying = self.path.len() + self.login_key.len() + self.address.len();
        let mut fields = Fields::with_capacity(256 + varying);
        fields.put(PATH, &self.path);
        fields.put(FILE_KEY, self.file_key.expose());
        fields.put_u64(SIZE, self.size);
        fields.put(SHA256, &self.sha256);
        if let Some(mtime) = self.mtime {
            fields.put(MTIME, &mtime.to_be_bytes());
        }
        fields.put_u64(OPENED_AT, self.opened_at);
        fields.put_u64(CLOSED_AT, self.closed_at);
        fields.put_text(LOGIN_KEY, &self.login_key);
        fields.put_text(ADDRESS, &self.address);
        fields.put_u64(SESSION, self.session);
        fields
    }

    pub(super) fn from_fields(bytes: &[u8]) -> Option<Self> {
        let fields = Parsed::parse(bytes, None)?;
        Some(Self {
            path: fields.get(PATH)?.to_vec(),
            file_key: FileKey::from_bytes(fields.array(FILE_KEY)?),
            size: fields.u64(SIZE)?,
            sha256: fields.array(SHA256)?,
            mtime: fields.optional(MTIME)?.map(u32::from_be_bytes),
            opened_at: fields.u64(OPENED_AT)?,
            closed_at: fields.u64(CLOSED_AT)?,
            login_key: fields.text(LOGIN_KEY)?,
            address: fields.text(ADDRESS)?,
            session: fields.u64(SESSION)?,
        })
    }
}

fn aad(drop: DropId) -> Vec<u8> {
    [&MAGIC[..], &drop.0].concat()
}
