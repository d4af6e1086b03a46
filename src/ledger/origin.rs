//! The sender's own signature: `X.sig` beside `X`, made with `ssh-keygen -Y sign`. A receipt proves that the server has
//! received; this proves who has sent, and the receipt that names it says that the server checked it. docs/ledger.md,
//! "The sender's signature". No I/O here.

use russh::keys::ssh_key::SshSig;
use russh::keys::{HashAlg, PublicKey};

use crate::names::{Digest, ReceiptId};

/// What such a signature is for, in SSHSIG's sense. One of another namespace was made for somebody else.
pub const ORIGIN_NAMESPACE: &str = "origin@sealdrop";

/// How the name of a signature ends.
pub const SUFFIX: &str = ".sig";

/// A signature of the largest key that SSH knows has some 6 KiB.
pub const SIGNATURE_MAX: usize = 8 << 10;

const ARMOUR: &[u8] = b"-----BEGIN SSH SIGNATURE-----";

/// What a receipt says of its sender's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The file's: that `key` has signed it, by a signature file of this digest.
    Signed { key: String, signature: Digest },
    /// The signature file's: that `key` has signed the content of this digest, which that receipt was given for.
    Signs { receipt: ReceiptId, sha256: Digest, key: String },
}

/// A signature that was made for this server.
#[derive(Clone, Debug)]
pub struct OriginSignature {
    signature: SshSig,
    key: PublicKey,
    armour: String,
}

/// Why it is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    #[error("it is cut short or not an SSH signature")]
    Broken,
    /// The server knows content by its SHA-256 alone.
    #[error("it is over a SHA-512 digest")]
    Hash,
}

impl OriginSignature {
    /// `None`: this is no SSH signature, or one of another namespace.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, OriginError> {
        if !bytes.starts_with(ARMOUR) {
            return Ok(None);
        }
        let armour = std::str::from_utf8(bytes).map_err(|_| OriginError::Broken)?;
        let signature = SshSig::from_pem(armour).map_err(|_| OriginError::Broken)?;
        if signature.namespace() != ORIGIN_NAMESPACE {
            return Ok(None);
        }
        if signature.hash_alg() != HashAlg::Sha256 {
            return Err(OriginError::Hash);
        }
        let key = PublicKey::new(signature.public_key().clone(), "");
        Ok(Some(Self { signature, key, armour: armour.to_owned() }))
    }

    /// Whether it is over content of this digest.
    pub fn holds(&self, sha256: &Digest) -> bool {
        self.key.verify_prehash(ORIGIN_NAMESPACE, &sha256.0, &self.signature).is_ok()
    }

    /// Of the key that made it, as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }

    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// As its sender made it.
    pub fn armour(&self) -> &str {
        &self.armour
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::LineEnding;
    use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn sign(namespace: &str, hash: HashAlg, content: &[u8]) -> String {
        let key = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[9; 32])), "").unwrap();
        key.sign(namespace, hash, content).unwrap().to_pem(LineEnding::LF).unwrap()
    }

    #[test]
    fn a_signature_holds_for_its_content_alone() {
        let armour = sign(ORIGIN_NAMESPACE, HashAlg::Sha256, b"content");
        let signature = OriginSignature::parse(armour.as_bytes()).unwrap().unwrap();
        assert!(signature.holds(&Digest(Sha256::digest(b"content").into())));
        assert!(!signature.holds(&Digest(Sha256::digest(b"c0ntent").into())));
        assert!(signature.fingerprint().starts_with("SHA256:"));
        assert_eq!(signature.armour(), armour);
    }

    #[test]
    fn what_was_made_for_others_is_not_ours_and_what_is_ours_must_be_right() {
        let parse = |text: &str| OriginSignature::parse(text.as_bytes()).map(|found| found.is_some());
        assert_eq!(parse("iQIzBAABCAAdFiEE"), Ok(false));
        assert_eq!(parse(&sign("file", HashAlg::Sha512, b"x")), Ok(false));
        assert_eq!(parse(&sign(ORIGIN_NAMESPACE, HashAlg::Sha512, b"x")), Err(OriginError::Hash));
        let whole = sign(ORIGIN_NAMESPACE, HashAlg::Sha256, b"x");
        assert_eq!(parse(&whole), Ok(true));
        assert_eq!(parse(&whole[..whole.len() / 2]), Err(OriginError::Broken));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = OriginSignature::parse(&bytes);
            let _ = OriginSignature::parse(&[ARMOUR, b"\n", &bytes].concat());
        }
    }
}
