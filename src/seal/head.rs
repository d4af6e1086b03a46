//! The head of a sealed file: what it is (the core) and which key it belongs to (the commitment). The commitment is
//! checked before anything is decrypted, so that no file can open under two keys and no answer depends on a guess.

use subtle::ConstantTimeEq;

use super::keys::{Entropy, Kernel, expand};
use super::{FileKey, HEAD_LEN, SealError};
use crate::names::DropId;

pub(super) const CORE_LEN: usize = 64;
const MAGIC: &[u8; 7] = b"SEALDRP";
const VERSION: u8 = 1;
/// AES-256-GCM records, HKDF-SHA-256, as this version describes them. There is no other.
const SUITE: u16 = 1;
const CHUNK_LOG2: u8 = 16;
const _: () = assert!(1 << CHUNK_LOG2 == super::CHUNK);

/// Who can open a file at rest. It changes nothing about the bytes; it is there so that a reader knows what to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// The server keeps the recipient's identity and opens on an authorised read.
    Managed = 0,
    /// The server has public keys only.
    Sealed = 1,
    /// Sealed before it reached a server.
    EndToEnd = 2,
}

/// Core and commitment. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    core: [u8; CORE_LEN],
    commit: [u8; 32],
}

impl Mode {
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Managed),
            1 => Some(Self::Sealed),
            2 => Some(Self::EndToEnd),
            _ => None,
        }
    }
}

impl Head {
    /// The head of a new file; `key` must be fresh.
    pub fn new(drop: DropId, mode: Mode, key: &FileKey) -> Result<Self, SealError> {
        Self::new_with(&mut Kernel, drop, mode, key)
    }

    pub(super) fn new_with(
        entropy: &mut dyn Entropy,
        drop: DropId,
        mode: Mode,
        key: &FileKey,
    ) -> Result<Self, SealError> {
        let mut core = [0; CORE_LEN];
        core[..7].copy_from_slice(MAGIC);
        core[7] = VERSION;
        core[8..10].copy_from_slice(&SUITE.to_be_bytes());
        core[10] = CHUNK_LOG2;
        core[11] = mode as u8;
        core[16..32].copy_from_slice(&drop.0);
        entropy.fill(&mut core[32..])?;
        let commit = *expand(key.expose(), "commit", &[&core])?;
        Ok(Self { core, commit })
    }

    /// From the first 96 bytes of a file; more may follow.
    pub fn parse(bytes: &[u8]) -> Result<Self, SealError> {
        let (core, rest) = bytes.split_first_chunk::<CORE_LEN>().ok_or(SealError::NotSealed)?;
        let commit = rest.first_chunk::<32>().ok_or(SealError::NotSealed)?;
        if &core[..7] != MAGIC {
            return Err(SealError::NotSealed);
        }
        if core[7] != VERSION || core[8..10] != SUITE.to_be_bytes() || core[10] != CHUNK_LOG2 {
            return Err(SealError::Version);
        }
        if Mode::from_byte(core[11]).is_none() || core[12..16] != [0; 4] {
            return Err(SealError::Malformed("head"));
        }
        Ok(Self { core: *core, commit: *commit })
    }

    /// Whether a sealed file may begin with these bytes, which may be only some of its head.
    pub fn may_begin(bytes: &[u8]) -> bool {
        bytes.iter().zip(MAGIC).all(|(byte, magic)| byte == magic)
    }

    pub fn to_bytes(&self) -> [u8; HEAD_LEN] {
        let mut out = [0; HEAD_LEN];
        out[..CORE_LEN].copy_from_slice(&self.core);
        out[CORE_LEN..].copy_from_slice(&self.commit);
        out
    }

    pub fn drop_id(&self) -> DropId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.core[16..32]);
        DropId(id)
    }

    pub fn mode(&self) -> Mode {
        // Both ways to a `Head` checked the byte.
        Mode::from_byte(self.core[11]).unwrap_or(Mode::Managed)
    }

    /// Whether this file was sealed with `key`, in constant time.
    pub fn check(&self, key: &FileKey) -> Result<(), SealError> {
        let commit = expand(key.expose(), "commit", &[&self.core])?;
        if bool::from(commit.ct_eq(&self.commit)) { Ok(()) } else { Err(SealError::Damaged) }
    }

    pub(super) fn core(&self) -> &[u8; CORE_LEN] {
        &self.core
    }

    pub(super) fn commit(&self) -> &[u8; 32] {
        &self.commit
    }
}
