//! Identities: the private halves of recipients, and the files that hold them. A text is parsed once; what exists
//! afterwards is a valid key. Those that are SSH keys are in `ssh`.

use bech32::Bech32;
use hpke::{Deserializable, Kem as HpkeKem, Serializable};
use zeroize::Zeroizing;

use super::SealError;
use super::keys::{Entropy, Kernel};
use super::recipient::{
    IDENTITY_HRP, Kem, KeyTextError, P256, PqP256, RECIPIENT_HRP, Recipient, X25519, XWing, decode,
};
use super::wrap::{WRAPPED_LEN, unwrap};

/// A private key to open with. Wiped when dropped, and never printed but by [`Identity::to_text`].
#[derive(Clone)]
pub struct Identity {
    kem: Kem,
    /// As HPKE serialises it: every kind has 32 bytes.
    secret: Zeroizing<[u8; 32]>,
    recipient: Recipient,
}

impl Identity {
    pub fn generate(kem: Kem) -> Result<Self, SealError> {
        Self::generate_with(&mut Kernel, kem)
    }

    pub(super) fn generate_with(entropy: &mut dyn Entropy, kem: Kem) -> Result<Self, SealError> {
        // DeriveKeyPair of RFC 9180 §7.1.3 rejects what is no valid scalar, so any 32 bytes will do.
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut seed[..])?;
        Ok(match kem {
            Kem::P256 => Self::of::<P256>(kem, &P256::derive_keypair(&seed[..]).0),
            Kem::X25519 => Self::of::<X25519>(kem, &X25519::derive_keypair(&seed[..]).0),
            Kem::MlKem768P256 => Self::of::<PqP256>(kem, &PqP256::derive_keypair(&seed[..]).0),
            Kem::XWing => Self::of::<XWing>(kem, &XWing::derive_keypair(&seed[..]).0),
        })
    }

    fn of<K: HpkeKem>(kem: Kem, key: &K::PrivateKey) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        key.write_exact(&mut secret[..]);
        let recipient = Recipient::hpke(kem, K::sk_to_pk(key).to_bytes().to_vec());
        Self { kem, secret, recipient }
    }

    pub fn to_recipient(&self) -> Recipient {
        self.recipient.clone()
    }

    pub fn kem(&self) -> Kem {
        self.kem
    }

    /// `kem ‖ private key`, 34 bytes: for the one who must keep it, sealed.
    pub fn expose(&self) -> Zeroizing<[u8; 34]> {
        let mut out = Zeroizing::new([0; 34]);
        out[..2].copy_from_slice(&(self.kem as u16).to_be_bytes());
        out[2..].copy_from_slice(&self.secret[..]);
        out
    }

    /// The inverse of [`Identity::expose`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyTextError> {
        fn read<K: HpkeKem>(kem: Kem, key: &[u8]) -> Result<Identity, KeyTextError> {
            Ok(Identity::of::<K>(kem, &K::PrivateKey::from_bytes(key).map_err(|_| KeyTextError::Key)?))
        }
        let (kem, key) = bytes.split_first_chunk().ok_or(KeyTextError::Kind)?;
        match Kem::from_id(u16::from_be_bytes(*kem)).ok_or(KeyTextError::Kind)? {
            kem @ Kem::P256 => read::<P256>(kem, key),
            kem @ Kem::X25519 => read::<X25519>(kem, key),
            kem @ Kem::MlKem768P256 => read::<PqP256>(kem, key),
            kem @ Kem::XWing => read::<XWing>(kem, key),
        }
    }

    /// `SEALDROP-IDENTITY-1…`
    pub fn to_text(&self) -> Zeroizing<String> {
        // Reserved whole: growing would leave copies. 19 of prefix, 55 of key, 6 of checksum.
        let mut text = Zeroizing::new(String::with_capacity(96));
        // Writing to a string cannot fail, and 34 bytes are within bech32's length.
        let _ = bech32::encode_upper_to_fmt::<Bech32, _>(&mut *text, IDENTITY_HRP, &self.expose()[..]);
        text
    }

    /// From one `SEALDROP-IDENTITY-1…`
    pub fn parse(text: &str) -> Result<Self, KeyTextError> {
        let (hrp, bytes) = decode(text).map_err(|e| e.unwrap_or(KeyTextError::NotAnIdentity))?;
        if hrp == RECIPIENT_HRP {
            return Err(KeyTextError::RecipientForIdentity);
        }
        if hrp != IDENTITY_HRP {
            return Err(KeyTextError::NotAnIdentity);
        }
        let identity = Self::from_bytes(&bytes)?;
        if identity.to_text().eq_ignore_ascii_case(text) { Ok(identity) } else { Err(KeyTextError::Checksum) }
    }

    /// From an identity file: one identity to a line, blank lines and `#` comments between.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, KeyTextError> {
        let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
        let mut identities = Vec::new();
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            identities.push(Self::parse(line).map_err(|error| match error {
                KeyTextError::NotAnIdentity => KeyTextError::Line(number),
                other => other,
            })?);
        }
        if identities.is_empty() { Err(KeyTextError::Empty) } else { Ok(identities) }
    }

    pub(super) fn unwrap(
        &self,
        encapsulated: &[u8],
        info: &[u8],
        aad: &[u8],
        wrapped: &[u8; WRAPPED_LEN],
    ) -> Result<Zeroizing<[u8; 32]>, SealError> {
        match self.kem {
            Kem::P256 => unwrap::<P256>(&self.secret, encapsulated, info, aad, wrapped),
            Kem::X25519 => unwrap::<X25519>(&self.secret, encapsulated, info, aad, wrapped),
            Kem::MlKem768P256 => unwrap::<PqP256>(&self.secret, encapsulated, info, aad, wrapped),
            Kem::XWing => unwrap::<XWing>(&self.secret, encapsulated, info, aad, wrapped),
        }
    }
}
