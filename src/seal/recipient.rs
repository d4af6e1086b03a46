//! Recipients: the public keys that files are sealed to, with their text forms, `sealdrop1…` and `ssh-ed25519 …`. A text is
//! parsed once; what exists afterwards is a valid key.

use std::fmt;
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Checksum, Hrp};
use hpke::kem::{MlKem768P256, X25519HkdfSha256};
use hpke::{Deserializable, Kem as HpkeKem};
use p256::elliptic_curve::sec1::ToSec1Point;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::dhkem::DhP256;
use super::keys::Entropy;
use super::ssh::SshKey;
use super::stanza::{
    AEAD_AES_256_GCM, HPKE, KDF_HKDF_SHA256, SSH, Stanza, StanzaId, StanzaKind, hpke_info, stanza_aad,
};
use super::wrap::{WRAPPED_LEN, wrap};
use super::{FileKey, Head, SealError};

pub(super) type P256 = DhP256;
pub(super) type X25519 = X25519HkdfSha256;
pub(super) type PqP256 = MlKem768P256;
pub(super) use hpke::kem::XWing;

pub(super) const RECIPIENT_HRP: Hrp = Hrp::parse_unchecked("sealdrop");
pub(super) const IDENTITY_HRP: Hrp = Hrp::parse_unchecked("sealdrop-identity-");

/// How a key pair agrees on a secret. Numbers are the HPKE registry's, or what its drafts have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum Kem {
    /// The default: NIST-approved, and what hardware and browsers have.
    P256 = 0x0010,
    X25519 = 0x0020,
    /// Post-quantum and P-256 together. Experimental: its number and construction are a draft's.
    MlKem768P256 = 0x0050,
    /// Post-quantum and X25519 together. Experimental, too.
    XWing = 0x647a,
}

/// A public key to seal to.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(Key);

#[derive(Clone, PartialEq, Eq)]
enum Key {
    /// The public key as HPKE serialises it: P-256 uncompressed.
    Hpke {
        kem: Kem,
        public: Vec<u8>,
    },
    Ssh(SshKey),
}

/// Why a text is no recipient or identity. Says nothing of what the text contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    #[error("expected a recipient, `sealdrop1…` or `ssh-ed25519 …`")]
    NotARecipient,
    #[error("expected an identity, `SEALDROP-IDENTITY-1…`")]
    NotAnIdentity,
    #[error("this is an identity, the private half: a recipient begins with `sealdrop1` or `ssh-ed25519`")]
    IdentityForRecipient,
    #[error("this is a recipient, the public half: an identity begins with `SEALDROP-IDENTITY-1`")]
    RecipientForIdentity,
    #[error("mistyped or cut: the checksum does not fit")]
    Checksum,
    #[error("of a kind that this program does not know")]
    Kind,
    #[error("not a valid key")]
    Key,
    #[error("of SSH keys, only ssh-ed25519 can be sealed to")]
    SshKind,
    #[error("this SSH key is not ed25519: no other can open sealed files")]
    SshIdentityKind,
    #[error("not a whole OpenSSH private key")]
    SshIdentity,
    #[error("line {0} is no identity")]
    Line(usize),
    #[error("there is no identity in it")]
    Empty,
}

impl Kem {
    pub const ALL: [Self; 4] = [Self::P256, Self::X25519, Self::MlKem768P256, Self::XWing];

    pub(super) fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kem| *kem as u16 == id)
    }

    /// Bytes of an encapsulated key.
    pub(super) fn encapsulated_len(self) -> usize {
        match self {
            Self::P256 => 65,
            Self::X25519 => 32,
            Self::MlKem768P256 => 1153,
            Self::XWing => 1120,
        }
    }

    /// The length of a stanza in an envelope.
    pub fn stanza_len(self) -> usize {
        super::stanza::PREFIX_LEN + 6 + self.encapsulated_len() + WRAPPED_LEN
    }

    /// The word for it on the command line and in policies.
    pub fn word(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::X25519 => "x25519",
            Self::MlKem768P256 => "mlkem768-p256",
            Self::XWing => "x-wing",
        }
    }

    /// Whether a quantum computer is no help against it. What is, is experimental here, and the reverse.
    pub fn is_post_quantum(self) -> bool {
        matches!(self, Self::MlKem768P256 | Self::XWing)
    }
}

impl Recipient {
    pub(super) fn hpke(kem: Kem, public: Vec<u8>) -> Self {
        Self(Key::Hpke { kem, public })
    }

    pub(super) fn ssh(key: SshKey) -> Self {
        Self(Key::Ssh(key))
    }

    /// How it agrees on a secret, of those that are not SSH keys.
    pub fn kem(&self) -> Option<Kem> {
        match &self.0 {
            Key::Hpke { kem, .. } => Some(*kem),
            Key::Ssh(_) => None,
        }
    }

    /// The word for its kind: a KEM's, or `ssh-ed25519`.
    pub fn word(&self) -> &'static str {
        self.kem().map_or("ssh-ed25519", Kem::word)
    }

    pub fn is_post_quantum(&self) -> bool {
        self.kem().is_some_and(Kem::is_post_quantum)
    }

    /// A SHA-256 as 64 hex digits, over `kem ‖ public key`, or over an SSH key as SSH encodes it. Stanzas carry its first
    /// 8 bytes.
    pub fn fingerprint(&self) -> String {
        crate::names::hex(&self.digest())
    }

    /// What a stanza for this recipient is known by.
    pub fn stanza_id(&self) -> StanzaId {
        let kind = self.kem().map_or(StanzaKind::Ssh, StanzaKind::Hpke);
        StanzaId { kind, key_id: self.key_id() }
    }

    /// How a stanza says which recipient it is for.
    pub fn key_id(&self) -> [u8; 8] {
        let mut id = [0; 8];
        id.copy_from_slice(&self.digest()[..8]);
        id
    }

    /// The stanza's length in an envelope.
    pub fn stanza_len(&self) -> usize {
        self.kem().map_or(super::stanza::PREFIX_LEN + 32 + WRAPPED_LEN, Kem::stanza_len)
    }

    fn digest(&self) -> [u8; 32] {
        match &self.0 {
            Key::Hpke { kem, public } => {
                Sha256::new().chain_update((*kem as u16).to_be_bytes()).chain_update(public).finalize().into()
            }
            Key::Ssh(key) => Sha256::digest(key.blob()).into(),
        }
    }

    /// The text of anything, for tests of what is no key.
    #[cfg(test)]
    pub(super) fn hpke_text(bytes: &[u8]) -> String {
        bech32::encode::<Long>(RECIPIENT_HRP, bytes).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn public_bytes(&self) -> &[u8] {
        match &self.0 {
            Key::Hpke { public, .. } => public,
            Key::Ssh(key) => key.montgomery(),
        }
    }

    fn from_text_bytes(bytes: &[u8]) -> Result<Self, KeyTextError> {
        fn check<K: HpkeKem>(kem: Kem, key: &[u8]) -> Result<Recipient, KeyTextError> {
            K::PublicKey::from_bytes(key).map_err(|_| KeyTextError::Key)?;
            Ok(Recipient::hpke(kem, key.to_vec()))
        }
        let (kem, key) = bytes.split_first_chunk().ok_or(KeyTextError::Kind)?;
        match Kem::from_id(u16::from_be_bytes(*kem)).ok_or(KeyTextError::Kind)? {
            kem @ Kem::P256 if key.len() == 33 => {
                let point = p256::PublicKey::from_sec1_bytes(key).map_err(|_| KeyTextError::Key)?;
                Ok(Self::hpke(kem, point.to_sec1_point(false).as_bytes().to_vec()))
            }
            Kem::P256 => Err(KeyTextError::Key),
            kem @ Kem::X25519 => check::<X25519>(kem, key),
            kem @ Kem::MlKem768P256 => check::<PqP256>(kem, key),
            kem @ Kem::XWing => check::<XWing>(kem, key),
        }
    }

    /// A stanza with the file key, wrapped.
    pub(super) fn wrap(&self, entropy: &mut dyn Entropy, head: &Head, key: &FileKey) -> Result<Stanza, SealError> {
        let key_id = self.key_id();
        let (kem, public) = match &self.0 {
            Key::Hpke { kem, public } => (*kem, public),
            Key::Ssh(ssh) => {
                let aad = stanza_aad(head, SSH, &key_id);
                let (encapsulated, wrapped) =
                    wrap::<X25519>(ssh.montgomery(), entropy, &ssh.info(head), &aad, key.expose())?;
                return Ok(Stanza { kind: SSH, key_id, body: [&encapsulated, &wrapped[..]].concat() });
            }
        };
        let (info, aad) = (hpke_info(head), stanza_aad(head, HPKE, &key_id));
        let (encapsulated, wrapped) = match kem {
            Kem::P256 => wrap::<P256>(public, entropy, &info, &aad, key.expose()),
            Kem::X25519 => wrap::<X25519>(public, entropy, &info, &aad, key.expose()),
            Kem::MlKem768P256 => wrap::<PqP256>(public, entropy, &info, &aad, key.expose()),
            Kem::XWing => wrap::<XWing>(public, entropy, &info, &aad, key.expose()),
        }?;
        let ids = [kem as u16, KDF_HKDF_SHA256, AEAD_AES_256_GCM].map(u16::to_be_bytes);
        Ok(Stanza { kind: HPKE, key_id, body: [&ids.concat(), &encapsulated, &wrapped[..]].concat() })
    }
}

impl FromStr for Recipient {
    type Err = KeyTextError;
    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        if super::ssh::looks_like_a_key(text) {
            return SshKey::parse(text).map(Self::ssh);
        }
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

/// The one text of the key, without the comment that an SSH key may have.
impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kem, public) = match &self.0 {
            Key::Hpke { kem, public } => (*kem, public.as_slice()),
            Key::Ssh(key) => return fmt::Display::fmt(key, f),
        };
        let mut bytes = (kem as u16).to_be_bytes().to_vec();
        match (kem, public) {
            // SEC 1: 04 ‖ x ‖ y becomes 02 or 03, by the parity of y, ‖ x.
            (Kem::P256, [_, x_and_y @ .., last]) => {
                bytes.push(2 + (last & 1));
                bytes.extend_from_slice(&x_and_y[..32]);
            }
            (_, public) => bytes.extend_from_slice(public),
        }
        bech32::encode_lower_to_fmt::<Long, _>(f, RECIPIENT_HRP, &bytes).map_err(|_| fmt::Error)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bech32 of any length: a hybrid key has some 2,000 characters, where the crate's ends at 1,023. Beyond that the checksum no
/// longer promises to see every three or four changed letters; it is still 30 bits.
enum Long {}

impl Checksum for Long {
    type MidstateRepr = <Bech32 as Checksum>::MidstateRepr;
    type CorrectionField = <Bech32 as Checksum>::CorrectionField;
    const ROOT_GENERATOR: Self::CorrectionField = Bech32::ROOT_GENERATOR;
    const ROOT_EXPONENTS: std::ops::RangeInclusive<usize> = Bech32::ROOT_EXPONENTS;
    const CODE_LENGTH: usize = 4096;
    const CHECKSUM_LENGTH: usize = Bech32::CHECKSUM_LENGTH;
    const GENERATOR_SH: [u32; 5] = Bech32::GENERATOR_SH;
    const TARGET_RESIDUE: u32 = Bech32::TARGET_RESIDUE;
}

/// Bech32 (BIP 173) with any prefix. An error of `None`: not even of that form.
pub(super) fn decode(text: &str) -> Result<(Hrp, Zeroizing<Vec<u8>>), Option<KeyTextError>> {
    let known = ["sealdrop1", "sealdrop-identity-1"];
    let begins = |prefix: &&str| text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if !known.iter().any(begins) {
        return Err(None);
    }
    let checked = CheckedHrpstring::new::<Long>(text).map_err(|_| Some(KeyTextError::Checksum))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    bytes.extend(checked.byte_iter());
    Ok((checked.hrp(), bytes))
}
