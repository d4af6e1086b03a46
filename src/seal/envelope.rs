//! The envelope: one file key, wrapped for each recipient in a stanza of its own. It can be rewritten in place without
//! the body, to add a recipient or to put on and take off the shred wrap: the same stanzas, sealed whole once more
//! under the key of an expiry bucket, so that destroying that key destroys every copy.

use super::aead::{NONCE_LEN, TAG_LEN, enseal, unseal};
use super::keys::{Entropy, Kernel, expand};
use super::wrap::WRAPPED_LEN;
use super::{ENVELOPE_LEN, FileKey, Head, Identity, Kem, Recipient, SealError, ShredKey};

/// Length and revision before the stanzas.
const PREFIX_LEN: usize = 8;
/// Type, key id and length before a stanza's body.
const STANZA_PREFIX_LEN: usize = 14;
/// What the shred wrap adds to the stanzas it encloses. Always kept free, so that it can always be put on.
const SHRED_OVERHEAD: usize = STANZA_PREFIX_LEN + NONCE_LEN + TAG_LEN;
const STANZAS_LEN_MAX: usize = ENVELOPE_LEN - PREFIX_LEN - SHRED_OVERHEAD;
const STANZAS_MAX: usize = 64;
/// As many P-256 stanzas of 133 bytes as fit.
pub const RECIPIENTS_MAX: usize = STANZAS_LEN_MAX / (STANZA_PREFIX_LEN + 6 + 65 + WRAPPED_LEN);

const HPKE: u16 = 1;
const SHRED: u16 = 0xff;
const KDF_HKDF_SHA256: u16 = 1;
const AEAD_AES_256_GCM: u16 = 2;

/// A file's stanzas. Nothing in it is secret without an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Counts rewrites; not authenticated, for people who compare copies.
    revision: u32,
    stanzas: Vec<Stanza>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stanza {
    kind: u16,
    /// Which recipient, or which bucket.
    key_id: [u8; 8],
    body: Vec<u8>,
}

/// The parts of an HPKE stanza's body.
struct Hpke<'a> {
    kem: Kem,
    encapsulated: &'a [u8],
    wrapped: &'a [u8; WRAPPED_LEN],
}

impl Envelope {
    /// A new envelope with a stanza for each recipient.
    pub fn wrap(head: &Head, key: &FileKey, recipients: &[Recipient]) -> Result<Self, SealError> {
        Self::wrap_with(&mut Kernel, head, key, recipients)
    }

    pub(super) fn wrap_with(
        entropy: &mut dyn Entropy,
        head: &Head,
        key: &FileKey,
        recipients: &[Recipient],
    ) -> Result<Self, SealError> {
        if !(1..=RECIPIENTS_MAX).contains(&recipients.len()) {
            return Err(SealError::Recipients);
        }
        let mut stanzas = Vec::with_capacity(recipients.len());
        for recipient in recipients {
            let key_id = recipient.key_id();
            let (encapsulated, wrapped) =
                recipient.wrap(entropy, &info(head), &stanza_aad(head, HPKE, &key_id), key.expose())?;
            let ids = [recipient.kem() as u16, KDF_HKDF_SHA256, AEAD_AES_256_GCM].map(u16::to_be_bytes);
            let body = [&ids.concat(), &encapsulated, &wrapped[..]].concat();
            stanzas.push(Stanza { kind: HPKE, key_id, body });
        }
        Ok(Self { revision: 0, stanzas })
    }

    /// From the 8,096 bytes after the head.
    pub fn parse(bytes: &[u8]) -> Result<Self, SealError> {
        let area: &[u8; ENVELOPE_LEN] = bytes.try_into().map_err(|_| SealError::Malformed("envelope"))?;
        let malformed = SealError::Malformed("envelope");
        let (length, rest) = area.split_first_chunk().ok_or(malformed)?;
        let (revision, rest) = rest.split_first_chunk().ok_or(malformed)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| malformed)?;
        let (stanzas, padding) = rest.split_at_checked(length).ok_or(malformed)?;
        if padding.iter().any(|&byte| byte != 0) {
            return Err(malformed);
        }
        if stanzas.is_empty() {
            return Err(SealError::Unfinished);
        }
        let stanzas = parse_stanzas(stanzas).ok_or(malformed)?;
        if stanzas.len() > 1 && stanzas.iter().any(|stanza| stanza.kind == SHRED) {
            return Err(malformed);
        }
        Ok(Self { revision: u32::from_be_bytes(*revision), stanzas })
    }

    /// The whole area, padding included.
    pub fn to_bytes(&self) -> Vec<u8> {
        let stanzas = stanza_bytes(&self.stanzas);
        let mut out = Vec::with_capacity(ENVELOPE_LEN);
        // `wrap`, `parse` and `shred_wrap` keep the stanzas within the area.
        out.extend_from_slice(&u32::try_from(stanzas.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&self.revision.to_be_bytes());
        out.extend_from_slice(&stanzas);
        out.resize(ENVELOPE_LEN, 0);
        out
    }

    /// How often this envelope was rewritten.
    pub fn revision(&self) -> u32 {
        self.revision
    }

    /// The key ids of the recipients' stanzas, in order; empty under a shred wrap.
    pub fn key_ids(&self) -> Vec<[u8; 8]> {
        self.stanzas.iter().filter(|stanza| stanza.kind == HPKE).map(|stanza| stanza.key_id).collect()
    }

    /// The file key, if one of the stanzas is for `identity`. What it returns fits the head's commitment.
    pub fn open(&self, head: &Head, identity: &Identity) -> Result<FileKey, SealError> {
        if self.bucket().is_some() {
            return Err(SealError::ShredWrapped);
        }
        let recipient = identity.to_recipient();
        let key_id = recipient.key_id();
        let mut outcome = SealError::NotForThisIdentity;
        for stanza in self.stanzas.iter().filter(|stanza| stanza.kind == HPKE && stanza.key_id == key_id) {
            let Some(hpke) = stanza.hpke().filter(|hpke| hpke.kem == recipient.kem()) else { continue };
            outcome = SealError::Damaged;
            let aad = stanza_aad(head, HPKE, &key_id);
            let Ok(key) = identity.unwrap(hpke.encapsulated, &info(head), &aad, hpke.wrapped) else { continue };
            let key = FileKey::from_bytes(*key);
            if head.check(&key).is_ok() {
                return Ok(key);
            }
        }
        Err(outcome)
    }

    /// The bucket whose key this envelope is shred-wrapped under.
    pub fn bucket(&self) -> Option<u64> {
        match self.stanzas.as_slice() {
            [Stanza { kind: SHRED, key_id, .. }] => Some(u64::from_be_bytes(*key_id)),
            _ => None,
        }
    }

    /// This envelope under the key of `bucket`, one revision on.
    pub fn shred_wrap(&self, head: &Head, bucket: u64, key: &ShredKey) -> Result<Self, SealError> {
        self.shred_wrap_with(&mut Kernel, head, bucket, key)
    }

    pub(super) fn shred_wrap_with(
        &self,
        entropy: &mut dyn Entropy,
        head: &Head,
        bucket: u64,
        key: &ShredKey,
    ) -> Result<Self, SealError> {
        if self.bucket().is_some() {
            return Err(SealError::ShredWrapped);
        }
        let stanzas = stanza_bytes(&self.stanzas);
        if stanzas.len() > STANZAS_LEN_MAX {
            return Err(SealError::Limit("an envelope"));
        }
        let key_id = bucket.to_be_bytes();
        let key = expand(key.expose(), "shred", &[head.core()])?;
        let body = enseal(entropy, &key, &shred_aad(head, &key_id), &stanzas)?;
        Ok(Self { revision: self.revision.wrapping_add(1), stanzas: vec![Stanza { kind: SHRED, key_id, body }] })
    }

    /// The envelope inside the shred wrap, as it may be given to a recipient.
    pub fn shred_unwrap(&self, head: &Head, key: &ShredKey) -> Result<Self, SealError> {
        let [Stanza { kind: SHRED, key_id, body }] = self.stanzas.as_slice() else {
            return Err(SealError::NotShredWrapped);
        };
        let key = expand(key.expose(), "shred", &[head.core()])?;
        let plain = unseal(&key, &shred_aad(head, key_id), body)?;
        let stanzas = parse_stanzas(&plain).ok_or(SealError::Damaged)?;
        if stanzas.is_empty() || stanzas.iter().any(|stanza| stanza.kind == SHRED) {
            return Err(SealError::Damaged);
        }
        Ok(Self { revision: self.revision, stanzas })
    }
}

impl Stanza {
    /// `None` for a KEM that this version does not know, and for a body of another length than its KEM says.
    fn hpke(&self) -> Option<Hpke<'_>> {
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
            SHRED => self.body.len() > NONCE_LEN + TAG_LEN,
            _ => true,
        }
    }
}

fn parse_stanzas(mut bytes: &[u8]) -> Option<Vec<Stanza>> {
    let mut stanzas = Vec::new();
    while !bytes.is_empty() {
        let (kind, rest) = bytes.split_first_chunk()?;
        let (key_id, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (body, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let stanza = Stanza { kind: u16::from_be_bytes(*kind), key_id: *key_id, body: body.to_vec() };
        if !stanza.well_formed() || stanzas.len() == STANZAS_MAX {
            return None;
        }
        stanzas.push(stanza);
        bytes = rest;
    }
    Some(stanzas)
}

fn stanza_bytes(stanzas: &[Stanza]) -> Vec<u8> {
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
fn info(head: &Head) -> Vec<u8> {
    [b"sealdrop/v1/hpke\0", &head.core()[..]].concat()
}

/// HPKE's `aad`: which key, and which stanza.
fn stanza_aad(head: &Head, kind: u16, key_id: &[u8; 8]) -> Vec<u8> {
    [&head.commit()[..], &kind.to_be_bytes(), key_id].concat()
}

fn shred_aad(head: &Head, key_id: &[u8; 8]) -> Vec<u8> {
    [&head.to_bytes()[..], &SHRED.to_be_bytes(), key_id].concat()
}
