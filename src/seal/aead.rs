//! AES-256-GCM behind one small trait, twice: `Ring` carries the records because it is three times faster here and is
//! linked already for SSH; `Reference` (aes-gcm) seals everything small. A test holds the two to the same bytes.
//!
//! Keys expanded inside `Ring` are not wiped when dropped, for ring offers no way to; they live in a process that
//! cannot be dumped. `Reference` wipes its own.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use zeroize::Zeroizing;

use super::SealError;
use super::keys::{Entropy, Kernel, expand};

pub const NONCE_LEN: usize = 12;
pub const TAG_LEN: usize = 16;

/// AES-256-GCM under one key, with the nonce given by the caller, in place.
pub trait Aead: Sized + Send {
    fn new(key: &[u8; 32]) -> Result<Self, SealError>;
    /// Encrypts `data` and returns the tag.
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], data: &mut [u8]) -> Result<[u8; TAG_LEN], SealError>;
    /// Decrypts `data` if `tag` fits; otherwise what is left in `data` means nothing.
    fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], data: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), SealError>;
}

/// ring: assembly that interleaves AES and GHASH.
pub struct Ring(LessSafeKey);

/// aes-gcm: portable Rust with hardware instructions found at run time.
pub struct Reference(Aes256Gcm);

impl Aead for Ring {
    fn new(key: &[u8; 32]) -> Result<Self, SealError> {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| SealError::Limit("a key"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], data: &mut [u8]) -> Result<[u8; TAG_LEN], SealError> {
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), data)
            .map_err(|_| SealError::Limit("a record"))?;
        let mut out = [0; TAG_LEN];
        out.copy_from_slice(tag.as_ref());
        Ok(out)
    }

    fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], data: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), SealError> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0
            .open_in_place_separate_tag(nonce, Aad::from(aad), Tag::from(*tag), data, 0..)
            .map(|_| ())
            .map_err(|_| SealError::Damaged)
    }
}

impl Aead for Reference {
    fn new(key: &[u8; 32]) -> Result<Self, SealError> {
        Ok(Self(Aes256Gcm::new(key.into())))
    }

    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], data: &mut [u8]) -> Result<[u8; TAG_LEN], SealError> {
        let tag = self
            .0
            .encrypt_inout_detached(nonce.into(), aad, data.into())
            .map_err(|_| SealError::Limit("a plaintext"))?;
        Ok(tag.into())
    }

    fn open(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], data: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), SealError> {
        self.0.decrypt_inout_detached(nonce.into(), aad, data.into(), tag.into()).map_err(|_| SealError::Damaged)
    }
}

/// Seals a small secret under a long-lived key: `nonce ‖ ciphertext ‖ tag`, under a key of its own for every `label` and
/// `context`. For keys that a server keeps at rest under its root key.
pub fn lock(key: &[u8; 32], label: &str, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
    lock_with(&mut Kernel, key, label, context, plain)
}

/// Opens what [`lock`] sealed with the same key, label and context.
pub fn unlock(key: &[u8; 32], label: &str, context: &[u8], locked: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    unseal(&*expand(key, label, &[context])?, &[], locked)
}

pub(super) fn lock_with(
    entropy: &mut dyn Entropy,
    key: &[u8; 32],
    label: &str,
    context: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, SealError> {
    enseal(entropy, &*expand(key, label, &[context])?, &[], plain)
}

/// `nonce ‖ ciphertext ‖ tag` with a fresh nonce: how everything but the records is sealed.
pub(super) fn enseal(
    entropy: &mut dyn Entropy,
    key: &[u8; 32],
    aad: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, SealError> {
    let mut nonce = [0; NONCE_LEN];
    entropy.fill(&mut nonce)?;
    // Reserved whole, so that no grown-out-of buffer with plaintext in it is left behind.
    let mut out = Vec::with_capacity(NONCE_LEN + plain.len() + TAG_LEN);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(plain);
    let tag = Reference::new(key)?.seal(&nonce, aad, &mut out[NONCE_LEN..])?;
    out.extend_from_slice(&tag);
    Ok(out)
}

pub(super) fn unseal(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, rest) = sealed.split_first_chunk().ok_or(SealError::Damaged)?;
    let (ciphertext, tag) = rest.split_last_chunk().ok_or(SealError::Damaged)?;
    let mut plain = Zeroizing::new(ciphertext.to_vec());
    Reference::new(key)?.open(nonce, aad, &mut plain, tag)?;
    Ok(plain)
}
