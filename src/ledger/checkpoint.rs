//! Checkpoints: the state of the log, signed, so that whoever has kept one can tell whether the log still begins with
//! it. The text is a C2SP signed note (c2sp.org/tlog-checkpoint), which transparency tools read; the same body is signed
//! once more as SSHSIG for those who have only `ssh-keygen`. docs/ledger.md, "Log". No I/O here.

use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::{Base64Writer, Writer as _};
use russh::keys::ssh_key::public::KeyData;
use sha2::{Digest as _, Sha256};

use super::receipt::{CHECKPOINT_NAMESPACE, SignError, Signer};
use super::store::Head;

/// A signed head of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// What the SSHSIG is over: origin, size, root, a line each.
    pub body: String,
    /// The body with the note's signature line; without one if the receipt key is not Ed25519.
    pub note: String,
    /// SSHSIG, armoured, namespace `checkpoint@sealdrop`.
    pub signature: String,
}

/// The signature type of Ed25519 in signed notes.
const NOTE_ED25519: u8 = 1;

impl Checkpoint {
    pub fn of(signer: &Signer, head: &Head) -> Result<Self, SignError> {
        let name = format!("{}/audit", signer.server());
        let body = format!("{name}\n{}\n{}\n", head.size, base64(&head.root.0));
        let mut note = format!("{body}\n");
        if let KeyData::Ed25519(key) = signer.public_key().key_data() {
            let id = note_key_id(&name, &key.0);
            let signature = signer.key().try_sign(body.as_bytes()).map_err(russh::keys::ssh_key::Error::from)?;
            note.push_str(&format!("\u{2014} {name} {}\n", base64(&[&id, signature.as_bytes()].concat())));
        }
        let signature = signer.sign(CHECKPOINT_NAMESPACE, body.as_bytes())?;
        Ok(Self { body, note, signature })
    }
}

fn note_key_id(name: &str, key: &[u8; 32]) -> [u8; 4] {
    let hash = Sha256::new().chain_update(name).chain_update([b'\n', NOTE_ED25519]).chain_update(key).finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut buffer = vec![0; bytes.len().div_ceil(3) * 4];
    let encoded = Base64Writer::new(&mut buffer).and_then(|mut writer| {
        writer.write(bytes)?;
        writer.finish().map(str::to_owned)
    });
    // Only a buffer too small can fail, and it is exactly large enough.
    encoded.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use russh::keys::PrivateKey;
    use russh::keys::signature::Verifier;
    use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
    use russh::keys::ssh_key::{Algorithm, Signature};

    use super::*;
    use crate::names::Digest;

    #[test]
    fn a_checkpoint_is_a_signed_note_and_an_ssh_signature() {
        let key = KeypairData::Ed25519(Ed25519Keypair::from_seed(&[7; 32]));
        let signer = Signer::new("drop.example", PrivateKey::new(key, "").unwrap()).unwrap();
        let head = Head { size: 20_852_163, root: Digest([0xa5; 32]) };
        let checkpoint = Checkpoint::of(&signer, &head).unwrap();
        assert_eq!(checkpoint.body, "drop.example/audit\n20852163\npaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaU=\n");
        let (body, line) = checkpoint.note.split_once("\n\n").unwrap();
        assert_eq!(format!("{body}\n"), checkpoint.body);
        let encoded = line.strip_prefix("\u{2014} drop.example/audit ").unwrap().trim_end();
        let bytes = data(encoded);
        let KeyData::Ed25519(public) = signer.public_key().key_data() else { panic!() };
        assert_eq!(bytes[..4], note_key_id("drop.example/audit", &public.0));
        let signature = Signature::new(Algorithm::Ed25519, &bytes[4..]).unwrap();
        signer.public_key().key_data().verify(checkpoint.body.as_bytes(), &signature).unwrap();
        let signature = checkpoint.signature.parse().unwrap();
        signer.public_key().verify(CHECKPOINT_NAMESPACE, checkpoint.body.as_bytes(), &signature).unwrap();
    }

    fn data(text: &str) -> Vec<u8> {
        let digit = |c: u8| {
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|&d| d == c).unwrap()
        };
        let text = text.trim_end_matches('=');
        let mut bits = text.bytes().flat_map(|c| (0..6).rev().map(move |bit| (digit(c) >> bit & 1) as u8));
        let bytes = (0..text.len() * 6 / 8).map(|_| bits.by_ref().take(8).fold(0, |byte, bit| byte << 1 | bit));
        bytes.collect()
    }
}
