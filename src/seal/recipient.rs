//! Recipients and identities: the public keys that files are sealed to and their private halves, with their text forms,
//! `sealdrop1…` and `SEALDROP-IDENTITY-1…`. A text is parsed once; what exists afterwards is a valid key.

use std::fmt;
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use hpke::kem::{DhP256HkdfSha256, X25519HkdfSha256};
use hpke::{Deserializable, Kem as HpkeKem, Serializable};
use p256::elliptic_curve::sec1::ToSec1Point;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::SealError;
use super::keys::{Entropy, Kernel};
use super::wrap::{WRAPPED_LEN, unwrap, wrap};

type P256 = DhP256HkdfSha256;
type X25519 = X25519HkdfSha256;

const RECIPIENT_HRP: Hrp = Hrp::parse_unchecked("sealdrop");
const IDENTITY_HRP: Hrp = Hrp::parse_unchecked("sealdrop-identity-");

/// How a key pair agrees on a secret. Numbers are the HPKE registry's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kem {
    /// The default: NIST-approved, and what hardware and browsers have.
    P256 = 0x0010,
    X25519 = 0x0020,
}

/// A public key to seal to.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    kem: Kem,
    /// As HPKE serialises it: P-256 uncompressed, 65 bytes; X25519, 32 bytes.
    public: Vec<u8>,
}

/// A private key to open with. Wiped when dropped, and never printed but by [`Identity::to_text`].
#[derive(Clone)]
pub struct Identity {
    secret: Secret,
    recipient: Recipient,
}

/// Both wipe themselves when dropped (hpke's doing).
#[derive(Clone)]
enum Secret {
    P256(<P256 as HpkeKem>::PrivateKey),
    X25519(<X25519 as HpkeKem>::PrivateKey),
}

/// Why a text is no recipient or identity. Says nothing of what the text contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    #[error("expected a recipient, `sealdrop1…`")]
    NotARecipient,
    #[error("expected an identity, `SEALDROP-IDENTITY-1…`")]
    NotAnIdentity,
    #[error("this is an identity, the private half: a recipient begins with `sealdrop1`")]
    IdentityForRecipient,
    #[error("this is a recipient, the public half: an identity begins with `SEALDROP-IDENTITY-1`")]
    RecipientForIdentity,
    #[error("mistyped or cut: the checksum does not fit")]
    Checksum,
    #[error("of a kind that this program does not know")]
    Kind,
    #[error("not a valid key")]
    Key,
    #[error("line {0} is no identity")]
    Line(usize),
    #[error("there is no identity in it")]
    Empty,
}

impl Kem {
    pub(super) fn from_id(id: u16) -> Option<Self> {
        match id {
            0x0010 => Some(Self::P256),
            0x0020 => Some(Self::X25519),
            _ => None,
        }
    }

    /// Bytes of an encapsulated key, the same as of an uncompressed public key.
    pub(super) fn encapsulated_len(self) -> usize {
        match self {
            Self::P256 => 65,
            Self::X25519 => 32,
        }
    }
}

impl Recipient {
    pub fn kem(&self) -> Kem {
        self.kem
    }

    /// SHA-256 over `kem ‖ public key`, as 64 hex digits. Stanzas carry its first 8 bytes.
    pub fn fingerprint(&self) -> String {
        crate::names::hex(&self.digest())
    }

    /// How a stanza says which recipient it is for.
    pub fn key_id(&self) -> [u8; 8] {
        let mut id = [0; 8];
        id.copy_from_slice(&self.digest()[..8]);
        id
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::new().chain_update((self.kem as u16).to_be_bytes()).chain_update(&self.public).finalize().into()
    }

    /// The key as texts carry it: P-256 compressed.
    fn text_bytes(&self) -> Vec<u8> {
        let mut out = (self.kem as u16).to_be_bytes().to_vec();
        match (self.kem, self.public.as_slice()) {
            // SEC 1: 04 ‖ x ‖ y becomes 02 or 03, by the parity of y, ‖ x.
            (Kem::P256, [_, x_and_y @ .., last]) => {
                out.push(2 + (last & 1));
                out.extend_from_slice(&x_and_y[..32]);
            }
            (_, public) => out.extend_from_slice(public),
        }
        out
    }

    fn from_text_bytes(bytes: &[u8]) -> Result<Self, KeyTextError> {
        let (kem, key) = bytes.split_first_chunk().ok_or(KeyTextError::Kind)?;
        match Kem::from_id(u16::from_be_bytes(*kem)).ok_or(KeyTextError::Kind)? {
            Kem::P256 if key.len() == 33 => {
                let point = p256::PublicKey::from_sec1_bytes(key).map_err(|_| KeyTextError::Key)?;
                Ok(Self { kem: Kem::P256, public: point.to_sec1_point(false).as_bytes().to_vec() })
            }
            Kem::X25519 if key.len() == 32 => Ok(Self { kem: Kem::X25519, public: key.to_vec() }),
            _ => Err(KeyTextError::Key),
        }
    }

    /// Wraps a file key; the result is `(encapsulated key, 48 bytes)`.
    pub(super) fn wrap(
        &self,
        entropy: &mut dyn Entropy,
        info: &[u8],
        aad: &[u8],
        file_key: &[u8; 32],
    ) -> Result<(Vec<u8>, [u8; WRAPPED_LEN]), SealError> {
        match self.kem {
            Kem::P256 => wrap::<P256>(&self.public, entropy, info, aad, file_key),
            Kem::X25519 => wrap::<X25519>(&self.public, entropy, info, aad, file_key),
        }
    }
}

impl FromStr for Recipient {
    type Err = KeyTextError;
    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        let (hrp, bytes) = decode(text).map_err(|e| e.unwrap_or(KeyTextError::NotARecipient))?;
        if hrp == IDENTITY_HRP {
            return Err(KeyTextError::IdentityForRecipient);
        }
        if hrp != RECIPIENT_HRP {
            return Err(KeyTextError::NotARecipient);
        }
        let recipient = Self::from_text_bytes(&bytes)?;
        // One key, one text: leftover bits of the last character must be zero.
        if recipient.to_string().eq_ignore_ascii_case(text) { Ok(recipient) } else { Err(KeyTextError::Checksum) }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32::encode_lower_to_fmt::<Bech32, _>(f, RECIPIENT_HRP, &self.text_bytes()).map_err(|_| fmt::Error)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Identity {
    pub fn generate(kem: Kem) -> Result<Self, SealError> {
        Self::generate_with(&mut Kernel, kem)
    }

    pub(super) fn generate_with(entropy: &mut dyn Entropy, kem: Kem) -> Result<Self, SealError> {
        // DeriveKeyPair of RFC 9180 §7.1.3 rejects what is no valid scalar, so any 32 bytes will do.
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut seed[..])?;
        Ok(Self::of(match kem {
            Kem::P256 => Secret::P256(P256::derive_keypair(&seed[..]).0),
            Kem::X25519 => Secret::X25519(X25519::derive_keypair(&seed[..]).0),
        }))
    }

    fn of(secret: Secret) -> Self {
        let (kem, public) = match &secret {
            Secret::P256(key) => (Kem::P256, P256::sk_to_pk(key).to_bytes().to_vec()),
            Secret::X25519(key) => (Kem::X25519, X25519::sk_to_pk(key).to_bytes().to_vec()),
        };
        Self { secret, recipient: Recipient { kem, public } }
    }

    pub fn to_recipient(&self) -> Recipient {
        self.recipient.clone()
    }

    /// `kem ‖ private key`, 34 bytes: for the one who must keep it, sealed.
    pub fn expose(&self) -> Zeroizing<[u8; 34]> {
        let mut out = Zeroizing::new([0; 34]);
        out[..2].copy_from_slice(&(self.recipient.kem as u16).to_be_bytes());
        match &self.secret {
            Secret::P256(key) => key.write_exact(&mut out[2..]),
            Secret::X25519(key) => key.write_exact(&mut out[2..]),
        }
        out
    }

    /// The inverse of [`Identity::expose`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyTextError> {
        let (kem, key) = bytes.split_first_chunk().ok_or(KeyTextError::Kind)?;
        let secret = match Kem::from_id(u16::from_be_bytes(*kem)).ok_or(KeyTextError::Kind)? {
            Kem::P256 => HpkeKey::<P256>::from_bytes(key).map(Secret::P256),
            Kem::X25519 => HpkeKey::<X25519>::from_bytes(key).map(Secret::X25519),
        };
        secret.map(Self::of).map_err(|_| KeyTextError::Key)
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
        match &self.secret {
            Secret::P256(key) => unwrap::<P256>(key, encapsulated, info, aad, wrapped),
            Secret::X25519(key) => unwrap::<X25519>(key, encapsulated, info, aad, wrapped),
        }
    }
}

type HpkeKey<K> = <K as HpkeKem>::PrivateKey;

/// Bech32 (BIP 173) with any prefix. An error of `None`: not even of that form.
fn decode(text: &str) -> Result<(Hrp, Zeroizing<Vec<u8>>), Option<KeyTextError>> {
    let known = ["sealdrop1", "sealdrop-identity-1"];
    let begins = |prefix: &&str| text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if !known.iter().any(begins) {
        return Err(None);
    }
    let checked = CheckedHrpstring::new::<Bech32>(text).map_err(|_| Some(KeyTextError::Checksum))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    bytes.extend(checked.byte_iter());
    Ok((checked.hrp(), bytes))
}
