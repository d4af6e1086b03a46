//! A stanza of an envelope: one wrapping of the file key. What kinds there are, and the rules that each must keep before
//! any key is used.

use super::aead::{NONCE_LEN, TAG_LEN};
use super::passphrase::Locked;
use super::wrap::WRAPPED_LEN;
use super::{Head, Kem};

/// Type, key id and length before a stanza's body.
pub(super) const PREFIX_LEN: usize = 14;
pub(super) const STANZAS_MAX: usize = 64;

pub(super) const HPKE: u16 = 1;
pub(super) const PASSPHRASE: u16 = 2;
pub(super) const SSH: u16 = 5;
pub(super) const SHRED: u16 = 0xff;
pub(super) const KDF_HKDF_SHA256: u16 = 1;
pub(super) const AEAD_AES_256_GCM: u16 = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stanza {
    pub kind: u16,
    /// Which recipient, or which bucket.
    pub key_id: [u8; 8],
    pub body: Vec<u8>,
}

/// What a stanza is known by, to anyone: compare it with [`Recipient::stanza_id`](super::Recipient::stanza_id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StanzaId {
    pub kind: StanzaKind,
    pub key_id: [u8; 8],
}

/// Of what kind a stanza is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StanzaKind {
    Hpke(Kem),
    Passphrase,
    Ssh,
    /// The shred wrap; its key id is the bucket's number.
    Shred,
    /// A type, a KEM or a way from passphrase to key that this program does not know: a later one may.
    Unknown,
}

/// The parts of an HPKE stanza's body.
pub(super) struct Hpke<'a> {
    pub kem: Kem,
    pub encapsulated: &'a [u8],
    pub wrapped: &'a [u8; WRAPPED_LEN],
}

impl Stanza {
    /// In an envelope.
    pub fn len(&self) -> usize {
        PREFIX_LEN + self.body.len()
    }

    pub fn id(&self) -> StanzaId {
        let kind = match self.kind {
            HPKE => self.hpke().map_or(StanzaKind::Unknown, |hpke| StanzaKind::Hpke(hpke.kem)),
            PASSPHRASE if self.passphrase().is_some() => StanzaKind::Passphrase,
            SSH => StanzaKind::Ssh,
            SHRED => StanzaKind::Shred,
            _ => StanzaKind::Unknown,
        };
        StanzaId { kind, key_id: self.key_id }
    }

    /// `None` for a function that this version does not know, and for what no correct writer makes with one it does.
    pub(super) fn passphrase(&self) -> Option<Locked<'_>> {
        Locked::parse(&self.body).filter(|_| self.key_id == [0; 8])
    }

    /// The encapsulated and the wrapped key of an SSH stanza.
    pub(super) fn ssh(&self) -> Option<(&[u8; 32], &[u8; WRAPPED_LEN])> {
        let (encapsulated, wrapped) = self.body.split_first_chunk()?;
        Some((encapsulated, wrapped.try_into().ok()?))
    }

    /// `None` for a KEM that this version does not know, and for a body of another length than its KEM says.
    pub(super) fn hpke(&self) -> Option<Hpke<'_>> {
        let (ids, rest) = self.body.split_first_chunk::<6>()?;
        let [kem, kdf, aead] = [[ids[0], ids[1]], [ids[2], ids[3]], [ids[4], ids[5]]].map(u16::from_be_bytes);
        let kem = Kem::from_id(kem)?;
        let (encapsulated, wrapped) = rest.split_at_checked(kem.encapsulated_len())?;
        if kdf != KDF_HKDF_SHA256 || aead != AEAD_AES_256_GCM {
            return None;
        }
        Some(Hpke { kem, encapsulated, wrapped: wrapped.try_into().ok()? })
    }

    /// Known kinds have one length each; that is checked before any key is used.
    fn well_formed(&self) -> bool {
        match self.kind {
            HPKE => {
                let kem = self.body.first_chunk().and_then(|id| Kem::from_id(u16::from_be_bytes(*id)));
                kem.is_none() || self.hpke().is_some()
            }
            PASSPHRASE => !Locked::is_known(&self.body) || self.passphrase().is_some(),
            SSH => self.ssh().is_some(),
            SHRED => self.body.len() > NONCE_LEN + TAG_LEN,
            _ => true,
        }
    }
}

pub(super) fn parse_stanzas(mut bytes: &[u8]) -> Option<Vec<Stanza>> {
    let mut stanzas = Vec::new();
    while !bytes.is_empty() {
        let (kind, rest) = bytes.split_first_chunk()?;
        let (key_id, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (body, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let stanza = Stanza { kind: u16::from_be_bytes(*kind), key_id: *key_id, body: body.to_vec() };
        let second = stanza.kind == PASSPHRASE && stanzas.iter().any(|other: &Stanza| other.kind == PASSPHRASE);
        if !stanza.well_formed() || second || stanzas.len() == STANZAS_MAX {
            return None;
        }
        stanzas.push(stanza);
        bytes = rest;
    }
    Some(stanzas)
}

pub(super) fn stanza_bytes(stanzas: &[Stanza]) -> Vec<u8> {
    let mut out = Vec::new();
    for Stanza { kind, key_id, body } in stanzas {
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(key_id);
        out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(body);
    }
    out
}

/// HPKE's `info`: which file.
pub(super) fn hpke_info(head: &Head) -> Vec<u8> {
    [b"sealdrop/v1/hpke\0", &head.core()[..]].concat()
}

/// HPKE's `aad`: which key, and which stanza.
pub(super) fn stanza_aad(head: &Head, kind: u16, key_id: &[u8; 8]) -> Vec<u8> {
    [&head.commit()[..], &kind.to_be_bytes(), key_id].concat()
}
