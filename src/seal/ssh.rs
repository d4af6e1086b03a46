//! SSH keys as recipients: an ed25519 key as it stands in `authorized_keys`, opened with the OpenSSH private key file beside
//! it. The key's point serves X25519 after the map of RFC 7748; the key itself, as SSH encodes it, goes into what is derived, so
//! that a stanza belongs to one SSH key (docs/sealed-file.md §6.3 has the whole of it, and why it is sound).

use std::fmt;

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{self, PrivateKey};
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use super::recipient::{KeyTextError, Recipient, X25519};
use super::wrap::{WRAPPED_LEN, unwrap};
use super::{Head, SealError};

const ALGORITHM: &str = "ssh-ed25519";
/// How the file of an SSH private key begins.
const ARMOUR: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";

/// The public half.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SshKey {
    /// As SSH has it: the point, compressed.
    edwards: [u8; 32],
    /// The same point's u, for X25519.
    montgomery: [u8; 32],
}

/// An SSH private key to open with. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct SshIdentity {
    scalar: Zeroizing<[u8; 32]>,
    key: SshKey,
}

/// One that needs its passphrase before it opens anything. What it could open is known without.
pub struct LockedSshIdentity {
    file: Box<PrivateKey>,
    key: SshKey,
}

/// What an SSH private key file holds.
pub enum SshFile {
    Open(SshIdentity),
    Locked(LockedSshIdentity),
}

/// Whether a text means to be an SSH public key, with or without options before it.
pub(super) fn looks_like_a_key(text: &str) -> bool {
    text.split_whitespace().any(|word| {
        ["ssh-ed25519", "ssh-rsa", "ssh-dss"].contains(&word)
            || ["ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "ssh-ed25519-cert", "ssh-rsa-cert"]
                .iter()
                .any(|w| word.starts_with(w))
    })
}

impl SshKey {
    /// From `ssh-ed25519 AAAA… comment`.
    pub fn parse(text: &str) -> Result<Self, KeyTextError> {
        let mut words = text.splitn(3, ' ');
        let (Some(ALGORITHM), Some(base64)) = (words.next(), words.next()) else { return Err(KeyTextError::SshKind) };
        let key = ssh_key::PublicKey::from_openssh(&format!("{ALGORITHM} {base64}")).map_err(|_| KeyTextError::Key)?;
        let KeyData::Ed25519(key) = key.key_data() else { return Err(KeyTextError::SshKind) };
        let key = Self::from_point(key.0)?;
        // One key, one text, and nothing behind the key in it.
        if key.to_string().split_once(' ').is_some_and(|(_, canonical)| canonical == base64) {
            Ok(key)
        } else {
            Err(KeyTextError::Key)
        }
    }

    fn from_point(edwards: [u8; 32]) -> Result<Self, KeyTextError> {
        let point = CompressedEdwardsY(edwards).decompress().ok_or(KeyTextError::Key)?;
        if point.compress().0 != edwards || point.is_small_order() {
            return Err(KeyTextError::Key);
        }
        Ok(Self { edwards, montgomery: point.to_montgomery().0 })
    }

    /// As SSH encodes it.
    pub fn blob(&self) -> Vec<u8> {
        [&[0, 0, 0, 11][..], ALGORITHM.as_bytes(), &[0, 0, 0, 32], &self.edwards].concat()
    }

    pub fn montgomery(&self) -> &[u8; 32] {
        &self.montgomery
    }

    /// HPKE's `info`: which SSH key, and which file.
    pub fn info(&self, head: &Head) -> Vec<u8> {
        [b"sealdrop/v1/ssh-ed25519\0", &self.blob()[..], head.core()].concat()
    }
}

impl fmt::Display for SshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = ssh_key::PublicKey::from(ssh_key::public::Ed25519PublicKey(self.edwards));
        f.write_str(&key.to_openssh().map_err(|_| fmt::Error)?)
    }
}

impl SshIdentity {
    /// Whether a file's content means to be an SSH private key.
    pub fn is_meant(text: &str) -> bool {
        text.trim_start().starts_with(ARMOUR)
    }

    /// From the file that `ssh-keygen` wrote.
    pub fn parse(text: &str) -> Result<SshFile, KeyTextError> {
        let file = PrivateKey::from_openssh(text).map_err(|_| KeyTextError::SshIdentity)?;
        let KeyData::Ed25519(public) = file.public_key().key_data() else { return Err(KeyTextError::SshIdentityKind) };
        let key = SshKey::from_point(public.0)?;
        if file.is_encrypted() {
            return Ok(SshFile::Locked(LockedSshIdentity { file: Box::new(file), key }));
        }
        Self::of(&file).map(SshFile::Open)
    }

    fn of(file: &PrivateKey) -> Result<Self, KeyTextError> {
        let KeypairData::Ed25519(pair) = file.key_data() else { return Err(KeyTextError::SshIdentityKind) };
        Self::from_seed(pair.private.as_ref(), pair.public.0)
    }

    /// `public` is checked, not believed.
    pub(super) fn from_seed(seed: &[u8; 32], public: [u8; 32]) -> Result<Self, KeyTextError> {
        let hash = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(seed)));
        let mut scalar = Zeroizing::new([0; 32]);
        scalar.copy_from_slice(&hash[..32]);
        scalar[0] &= 248;
        scalar[31] = scalar[31] & 127 | 64;
        let key = SshKey::from_point(public)?;
        if EdwardsPoint::mul_base_clamped(*scalar).compress().0 != public {
            return Err(KeyTextError::SshIdentity);
        }
        Ok(Self { scalar, key })
    }

    pub fn to_recipient(&self) -> Recipient {
        Recipient::ssh(self.key.clone())
    }

    #[cfg(test)]
    pub(super) fn key(&self) -> &SshKey {
        &self.key
    }

    pub(super) fn unwrap(
        &self,
        head: &Head,
        encapsulated: &[u8; 32],
        aad: &[u8],
        wrapped: &[u8; WRAPPED_LEN],
    ) -> Result<Zeroizing<[u8; 32]>, SealError> {
        unwrap::<X25519>(&self.scalar, encapsulated, &self.key.info(head), aad, wrapped)
    }
}

impl LockedSshIdentity {
    pub fn to_recipient(&self) -> Recipient {
        Recipient::ssh(self.key.clone())
    }

    /// `None` if the passphrase is another one, or the file is damaged: nobody can tell these apart.
    pub fn unlock(&self, passphrase: &str) -> Option<SshIdentity> {
        let identity = SshIdentity::of(&self.file.decrypt(passphrase).ok()?).ok()?;
        (identity.key == self.key).then_some(identity)
    }
}
