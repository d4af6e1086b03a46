//! The one HPKE operation of the format: a file key wrapped to a public key, and unwrapped (RFC 9180, single-shot base
//! mode, HKDF-SHA-256, AES-256-GCM; docs/sealed-file.md §6.1). Generic over the KEM, so that another is one more line.

use hpke::aead::{AeadTag, AesGcm256};
use hpke::kdf::HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable, Kem as HpkeKem, OpModeR, OpModeS, Serializable};
use zeroize::Zeroizing;

use super::SealError;
use super::keys::Entropy;

/// A file key and its tag.
pub(super) const WRAPPED_LEN: usize = 48;

/// Wraps `file_key` for the holder of `public`'s private half: the encapsulated key, and 48 bytes.
pub(super) fn wrap<K: HpkeKem>(
    public: &[u8],
    entropy: &mut dyn Entropy,
    info: &[u8],
    aad: &[u8],
    file_key: &[u8; 32],
) -> Result<(Vec<u8>, [u8; WRAPPED_LEN]), SealError> {
    let public = K::PublicKey::from_bytes(public).map_err(|_| SealError::Malformed("recipient"))?;
    let mut wrapped = [0; WRAPPED_LEN];
    let (data, tag_out) = wrapped.split_at_mut(32);
    data.copy_from_slice(file_key);
    let mut rng = Drawn { entropy, failed: None };
    let mode = OpModeS::Base;
    let sealed = hpke::single_shot_seal_inout_detached_with_rng::<AesGcm256, HkdfSha256, K>(
        &mode,
        &public,
        info,
        data.into(),
        aad,
        &mut rng,
    );
    if let Some(error) = rng.failed {
        zeroize::Zeroize::zeroize(&mut wrapped);
        return Err(error);
    }
    match sealed {
        Ok((encapsulated, tag)) => {
            tag_out.copy_from_slice(&tag.to_bytes());
            Ok((encapsulated.to_bytes().to_vec(), wrapped))
        }
        // An X25519 key of small order is the one that gets here.
        Err(_) => {
            zeroize::Zeroize::zeroize(&mut wrapped);
            Err(SealError::Malformed("recipient"))
        }
    }
}

/// The inverse of [`wrap`]. What comes out is authentic for `info` and `aad`, and still to be held against the commitment.
pub(super) fn unwrap<K: HpkeKem>(
    key: &[u8; 32],
    encapsulated: &[u8],
    info: &[u8],
    aad: &[u8],
    wrapped: &[u8; WRAPPED_LEN],
) -> Result<Zeroizing<[u8; 32]>, SealError> {
    // Every KEM here has a private key of 32 bytes, and a hybrid one makes a large key of it, wiped when dropped.
    let key = K::PrivateKey::from_bytes(key).map_err(|_| SealError::Damaged)?;
    let encapsulated = K::EncappedKey::from_bytes(encapsulated).map_err(|_| SealError::Damaged)?;
    let mut file_key = Zeroizing::new([0; 32]);
    file_key.copy_from_slice(&wrapped[..32]);
    let tag = AeadTag::<AesGcm256>::from_bytes(&wrapped[32..]).map_err(|_| SealError::Damaged)?;
    hpke::single_shot_open_inout_detached::<AesGcm256, HkdfSha256, K>(
        &OpModeR::Base,
        &key,
        &encapsulated,
        info,
        (&mut file_key[..]).into(),
        aad,
        &tag,
    )
    .map_err(|_| SealError::Damaged)?;
    Ok(file_key)
}

/// hpke wants a generator that cannot fail; ours can. A failure is remembered, and what was made with it thrown away.
struct Drawn<'a> {
    entropy: &'a mut dyn Entropy,
    failed: Option<SealError>,
}

impl TryRng for Drawn<'_> {
    type Error = std::convert::Infallible;

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        if let Err(error) = self.entropy.fill(bytes) {
            self.failed = Some(error);
        }
        Ok(())
    }

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

impl TryCryptoRng for Drawn<'_> {}
