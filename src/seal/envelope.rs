//! The envelope: one file key, wrapped for each recipient in a stanza of its own. It can be rewritten in place without
//! the body, to add a recipient or to put on and take off the shred wrap: the same stanzas, sealed whole once more
//! under the key of an expiry bucket, so that destroying that key destroys every copy.

use zeroize::Zeroizing;

use super::aead::{NONCE_LEN, TAG_LEN, enseal, unseal};
use super::keys::{Entropy, Kernel};
use super::stanza::{
    HPKE, PREFIX_LEN as STANZA_PREFIX_LEN, SHRED, SSH, STANZAS_MAX, Stanza, StanzaId, StanzaKind, hpke_info,
    parse_stanzas, stanza_aad, stanza_bytes,
};
use super::wrap::WRAPPED_LEN;
use super::{ENVELOPE_LEN, FileKey, Head, Identity, Passphrase, Recipient, SealError, ShredKey, SshIdentity};

/// Length and revision before the stanzas.
const PREFIX_LEN: usize = 8;
/// What the shred wrap adds to the stanzas it encloses. Always kept free, so that it can always be put on.
const SHRED_OVERHEAD: usize = STANZA_PREFIX_LEN + NONCE_LEN + TAG_LEN;
/// Bytes of stanzas that an envelope has room for beside the shred wrap.
pub const STANZAS_LEN_MAX: usize = ENVELOPE_LEN - PREFIX_LEN - SHRED_OVERHEAD;
/// As many P-256 stanzas of 133 bytes as fit.
pub const RECIPIENTS_MAX: usize = STANZAS_LEN_MAX / (STANZA_PREFIX_LEN + 6 + 65 + WRAPPED_LEN);

/// A file's stanzas. Nothing in it is secret without an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Counts rewrites; not authenticated, for people who compare copies.
    revision: u32,
    stanzas: Vec<Stanza>,
}

impl Envelope {
    /// A new envelope with a stanza for each recipient.
    pub fn wrap(head: &Head, key: &FileKey, recipients: &[Recipient]) -> Result<Self, SealError> {
        Self::wrap_with(&mut Kernel, head, key, recipients)
    }

    /// The same with a stanza for a passphrase last. There may be no recipient beside it.
    pub fn wrap_and_lock(
        head: &Head,
        key: &FileKey,
        recipients: &[Recipient],
        passphrase: &Passphrase,
    ) -> Result<Self, SealError> {
        let mut stanzas = stanzas_for(&mut Kernel, head, key, recipients)?;
        stanzas.push(passphrase.lock(&mut Kernel, head, key)?);
        Self::holding(stanzas)
    }

    pub(super) fn wrap_with(
        entropy: &mut dyn Entropy,
        head: &Head,
        key: &FileKey,
        recipients: &[Recipient],
    ) -> Result<Self, SealError> {
        Self::holding(stanzas_for(entropy, head, key, recipients)?)
    }

    /// New, with room left for the shred wrap.
    pub(super) fn holding(stanzas: Vec<Stanza>) -> Result<Self, SealError> {
        let length: usize = stanzas.iter().map(Stanza::len).sum();
        if stanzas.is_empty() || stanzas.len() > STANZAS_MAX || length > STANZAS_LEN_MAX {
            return Err(SealError::Recipients);
        }
        Ok(Self { revision: 0, stanzas })
    }

    /// The same file key for others: the stanzas known by `without` go, those of `with` are added, and what was
    /// there for anybody else stays as it is. One revision on.
    pub fn rewrap(
        &self,
        head: &Head,
        key: &FileKey,
        without: &[StanzaId],
        with: &[Recipient],
    ) -> Result<Self, SealError> {
        if self.bucket().is_some() {
            return Err(SealError::ShredWrapped);
        }
        head.check(key)?;
        let mut stanzas = self.stanzas.clone();
        stanzas.retain(|stanza| !without.contains(&stanza.id()));
        let missing =
            with.iter().filter(|recipient| !stanzas.iter().any(|stanza| stanza.id() == recipient.stanza_id()));
        let missing: Vec<Recipient> = missing.cloned().collect();
        if !missing.is_empty() {
            stanzas.extend(Self::wrap(head, key, &missing)?.stanzas);
        }
        if stanzas.is_empty() || stanzas.len() > STANZAS_MAX || stanza_bytes(&stanzas).len() > STANZAS_LEN_MAX {
            return Err(SealError::Recipients);
        }
        Ok(Self { revision: self.revision.wrapping_add(1), stanzas })
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

    /// What each stanza is known by, in order; under a shred wrap, that alone.
    pub fn stanza_ids(&self) -> Vec<StanzaId> {
        self.stanzas.iter().map(Stanza::id).collect()
    }

    /// The file key, if one of the stanzas is for `identity`. What it returns fits the head's commitment.
    pub fn open(&self, head: &Head, identity: &Identity) -> Result<FileKey, SealError> {
        self.first_that_fits(head, identity.to_recipient().stanza_id(), |stanza| {
            let hpke = stanza.hpke().ok_or(SealError::Damaged)?;
            let aad = stanza_aad(head, HPKE, &stanza.key_id);
            identity.unwrap(hpke.encapsulated, &hpke_info(head), &aad, hpke.wrapped)
        })
    }

    /// The same, by an SSH key.
    pub fn open_ssh(&self, head: &Head, identity: &SshIdentity) -> Result<FileKey, SealError> {
        self.first_that_fits(head, identity.to_recipient().stanza_id(), |stanza| {
            let (encapsulated, wrapped) = stanza.ssh().ok_or(SealError::Damaged)?;
            identity.unwrap(head, encapsulated, &stanza_aad(head, SSH, &stanza.key_id), wrapped)
        })
    }

    /// The same, by a passphrase: it takes as long as its sealer said, seconds at most.
    pub fn open_passphrase(&self, head: &Head, passphrase: &Passphrase) -> Result<FileKey, SealError> {
        self.first_that_fits(head, StanzaId { kind: StanzaKind::Passphrase, key_id: [0; 8] }, |stanza| {
            stanza.passphrase().ok_or(SealError::Damaged)?.unlock(head, passphrase)
        })
    }

    fn first_that_fits(
        &self,
        head: &Head,
        id: StanzaId,
        unwrap: impl Fn(&Stanza) -> Result<Zeroizing<[u8; 32]>, SealError>,
    ) -> Result<FileKey, SealError> {
        if self.bucket().is_some() {
            return Err(SealError::ShredWrapped);
        }
        let mut outcome = SealError::NotForThisIdentity;
        for stanza in self.stanzas.iter().filter(|stanza| stanza.id() == id) {
            outcome = SealError::Damaged;
            let Ok(key) = unwrap(stanza) else { continue };
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
        let key = key.of(head)?;
        let body = enseal(entropy, &key, &shred_aad(head, &key_id), &stanzas)?;
        Ok(Self { revision: self.revision.wrapping_add(1), stanzas: vec![Stanza { kind: SHRED, key_id, body }] })
    }

    /// The envelope inside the shred wrap, as it may be given to a recipient.
    pub fn shred_unwrap(&self, head: &Head, key: &ShredKey) -> Result<Self, SealError> {
        let [Stanza { kind: SHRED, key_id, body }] = self.stanzas.as_slice() else {
            return Err(SealError::NotShredWrapped);
        };
        let key = key.of(head)?;
        let plain = unseal(&key, &shred_aad(head, key_id), body)?;
        let stanzas = parse_stanzas(&plain).ok_or(SealError::Damaged)?;
        if stanzas.is_empty() || stanzas.iter().any(|stanza| stanza.kind == SHRED) {
            return Err(SealError::Damaged);
        }
        Ok(Self { revision: self.revision, stanzas })
    }
}

fn stanzas_for(
    entropy: &mut dyn Entropy,
    head: &Head,
    key: &FileKey,
    recipients: &[Recipient],
) -> Result<Vec<Stanza>, SealError> {
    if recipients.len() > RECIPIENTS_MAX {
        return Err(SealError::Recipients);
    }
    recipients.iter().map(|recipient| recipient.wrap(entropy, head, key)).collect()
}

fn shred_aad(head: &Head, key_id: &[u8; 8]) -> Vec<u8> {
    [&head.to_bytes()[..], &SHRED.to_be_bytes(), key_id].concat()
}
