//! AES-256-GCM behind one small trait, twice: `AwsLc` carries the records because it is five times faster here and is
//! linked already for SSH; `Reference` (aes-gcm) seals everything small. A test holds the two to the same bytes. A build
//! with `fips` has AWS-LC's validated module in the place of both (`module.rs`).
//!
//! Keys expanded inside `AwsLc` are not wiped when dropped, for aws-lc-rs offers no way to; they live in a process that
//! cannot be dumped. `Reference` wipes its own.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::SealError;
use super::keys::{Entropy, Kernel, expand};

pub const NONCE_LEN: usize = 12;
pub const TAG_LEN: usize = 16;

/// AES-256-GCM under one key, in place.
pub trait Aead: Sized + Send {
    fn new(key: &[u8; 32]) -> Result<Self, SealError>;
    /// Encrypts `data` under a fresh random nonce, and returns nonce and tag. The nonce is drawn here and not by the
    /// caller, since a FIPS module may seal only under nonces of its own drawing.
    fn seal(&self, entropy: &mut dyn Entropy, aad: &[u8], data: &mut [u8]) -> Result<Sealed, SealError>;
    /// Decrypts `sealed`, ciphertext and tag, in place if the tag fits, and returns the plaintext; otherwise what is left
    /// there means nothing.
    fn open<'a>(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &'a mut [u8]) -> Result<&'a mut [u8], SealError>;
}

/// Nonce and tag of one call.
pub type Sealed = ([u8; NONCE_LEN], [u8; TAG_LEN]);

/// A cipher that takes a nonce from its caller: what test vectors and comparisons need, and nothing else does.
pub trait GivenNonce: Aead {
    fn seal_under(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], data: &mut [u8]) -> Result<[u8; TAG_LEN], SealError>;
}

/// What carries the records.
#[cfg(not(feature = "fips"))]
pub type Bulk = AwsLc;
#[cfg(feature = "fips")]
pub type Bulk = super::module::Module;

/// What seals everything small.
#[cfg(not(feature = "fips"))]
type Small = Reference;
#[cfg(feature = "fips")]
type Small = super::module::Module;

/// AWS-LC: assembly that interleaves AES and GHASH, of AVX-512 where the processor has it.
pub struct AwsLc(LessSafeKey);

/// aes-gcm: portable Rust with hardware instructions found at run time.
pub struct Reference(Aes256Gcm);

impl Aead for AwsLc {
    fn new(key: &[u8; 32]) -> Result<Self, SealError> {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| SealError::Limit("a key"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    fn seal(&self, entropy: &mut dyn Entropy, aad: &[u8], data: &mut [u8]) -> Result<Sealed, SealError> {
        seal_drawn(self, entropy, aad, data)
    }

    fn open<'a>(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &'a mut [u8]) -> Result<&'a mut [u8], SealError> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0.open_in_place(nonce, Aad::from(aad), sealed).map_err(|_| SealError::Damaged)
    }
}

impl GivenNonce for AwsLc {
    fn seal_under(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], data: &mut [u8]) -> Result<[u8; TAG_LEN], SealError> {
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), data)
            .map_err(|_| SealError::Limit("a record"))?;
        let mut out = [0; TAG_LEN];
        out.copy_from_slice(tag.as_ref());
        Ok(out)
    }
}

impl Aead for Reference {
    fn new(key: &[u8; 32]) -> Result<Self, SealError> {
        Ok(Self(Aes256Gcm::new(key.into())))
    }

    fn seal(&self, entropy: &mut dyn Entropy, aad: &[u8], data: &mut [u8]) -> Result<Sealed, SealError> {
        seal_drawn(self, entropy, aad, data)
    }

    fn open<'a>(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &'a mut [u8]) -> Result<&'a mut [u8], SealError> {
        let (data, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(SealError::Damaged)?;
        let opened = self.0.decrypt_inout_detached(nonce.into(), aad, (&mut *data).into(), (&*tag).into());
        opened.map(|()| data).map_err(|_| SealError::Damaged)
    }
}

impl GivenNonce for Reference {
    fn seal_under(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], data: &mut [u8]) -> Result<[u8; TAG_LEN], SealError> {
        let tag = self
            .0
            .encrypt_inout_detached(nonce.into(), aad, data.into())
            .map_err(|_| SealError::Limit("a plaintext"))?;
        Ok(tag.into())
    }
}

fn seal_drawn<A: GivenNonce>(
    aead: &A,
    entropy: &mut dyn Entropy,
    aad: &[u8],
    data: &mut [u8],
) -> Result<Sealed, SealError> {
    let mut nonce = [0; NONCE_LEN];
    entropy.fill(&mut nonce)?;
    let tag = aead.seal_under(&nonce, aad, data)?;
    Ok((nonce, tag))
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
    // Reserved whole, so that no grown-out-of buffer with plaintext in it is left behind.
    let mut out = Vec::with_capacity(NONCE_LEN + plain.len() + TAG_LEN);
    out.extend_from_slice(&[0; NONCE_LEN]);
    out.extend_from_slice(plain);
    match Small::new(key).and_then(|aead| aead.seal(entropy, aad, &mut out[NONCE_LEN..])) {
        Ok((nonce, tag)) => {
            out[..NONCE_LEN].copy_from_slice(&nonce);
            out.extend_from_slice(&tag);
            Ok(out)
        }
        Err(error) => {
            zeroize::Zeroize::zeroize(&mut out);
            Err(error)
        }
    }
}

pub(super) fn unseal(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, sealed) = sealed.split_first_chunk().ok_or(SealError::Damaged)?;
    let mut plain = Zeroizing::new(sealed.to_vec());
    let length = Small::new(key)?.open(nonce, aad, &mut plain)?.len();
    plain.truncate(length);
    Ok(plain)
}
