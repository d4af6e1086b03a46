//! The FIPS module, in builds with `fips`: AES-256-GCM of records and of everything small, SHA-256 of content and HKDF
//! through AWS-LC's validated build. What it does not do is in docs/operations.md (FIPS): the HPKE wraps of file keys, above
//! all. The bytes are the same: a file sealed by either build opens with the other.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk};

use super::SealError;
use super::aead::{Aead, NONCE_LEN, Sealed, TAG_LEN};
use super::keys::Entropy;

/// AES-256-GCM under nonces that the module draws: the only way in which it may seal.
pub struct Module(RandomizedNonceKey);

impl Aead for Module {
    fn new(key: &[u8; 32]) -> Result<Self, SealError> {
        RandomizedNonceKey::new(&AES_256_GCM, key).map(Self).map_err(|_| SealError::Limit("a key"))
    }

    /// `entropy` is not asked.
    fn seal(&self, _: &mut dyn Entropy, aad: &[u8], data: &mut [u8]) -> Result<Sealed, SealError> {
        let sealed = self.0.seal_in_place_separate_tag(Aad::from(aad), data);
        let (nonce, tag) = sealed.map_err(|_| SealError::Limit("a record"))?;
        let mut out = [0; TAG_LEN];
        out.copy_from_slice(tag.as_ref());
        Ok((*nonce.as_ref(), out))
    }

    fn open<'a>(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], sealed: &'a mut [u8]) -> Result<&'a mut [u8], SealError> {
        self.0.open_in_place(Nonce::from(nonce), Aad::from(aad), sealed).map_err(|_| SealError::Damaged)
    }
}

/// SHA-256 in progress. Its state cannot be put into a journal.
#[derive(Clone)]
pub struct Sha256(Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Sha256 {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.finish().as_ref());
        out
    }
}

/// HKDF-Expand with SHA-256.
pub(super) fn expand_into(key: &[u8; 32], info: &[&[u8]], out: &mut [u8; 32]) -> Result<(), SealError> {
    let prk = Prk::new_less_safe(HKDF_SHA256, key);
    let okm = prk.expand(info, HKDF_SHA256).map_err(|_| SealError::Limit("a key"))?;
    okm.fill(out).map_err(|_| SealError::Limit("a key"))
}

#[cfg(test)]
mod tests {
    use sha2::Digest;

    use super::*;
    use crate::seal::keys::Kernel;
    use crate::seal::{Midstate, Reference};

    #[test]
    fn the_module_is_the_validated_one() {
        assert_eq!(aws_lc_rs::try_fips_mode(), Ok(()));
    }

    #[test]
    fn the_module_and_the_reference_open_each_others_bytes() {
        let key = [7; 32];
        let (module, reference) = (Module::new(&key).unwrap(), Reference::new(&key).unwrap());
        let mut one = b"from the module".to_vec();
        let (nonce, tag) = module.seal(&mut Kernel, b"aad", &mut one).unwrap();
        one.extend(tag);
        assert_eq!(reference.open(&nonce, b"aad", &mut one).unwrap(), b"from the module");
        let mut other = b"from the reference".to_vec();
        let (nonce, tag) = reference.seal(&mut Kernel, b"aad", &mut other).unwrap();
        other.extend(tag);
        assert_eq!(module.open(&nonce, b"aad", &mut other.clone()).unwrap(), b"from the reference");
        other[3] ^= 1;
        assert_eq!(module.open(&nonce, b"aad", &mut other), Err(SealError::Damaged));
        assert_eq!(module.open(&nonce, b"aad", &mut [0; 15]), Err(SealError::Damaged));
    }

    #[test]
    fn digests_and_derived_keys_are_those_of_every_other_build() {
        let mut digest = Midstate::new();
        digest.update(b"ab");
        assert!(digest.save().sha256.is_empty() && Midstate::load(&digest.save(), Default::default()).is_none());
        digest.update(b"c");
        assert_eq!(digest.finish().0, <[u8; 32]>::from(sha2::Sha256::digest(b"abc")));
        let (mut here, mut there) = ([0; 32], [0; 32]);
        expand_into(&[1; 32], &[b"sealdrop/v1/", b"gcm", &[0], b"context"], &mut here).unwrap();
        let hkdf = hkdf::Hkdf::<sha2::Sha256>::from_prk(&[1; 32]).unwrap();
        hkdf.expand(b"sealdrop/v1/gcm\0context", &mut there).unwrap();
        assert_eq!(here, there);
    }
}
