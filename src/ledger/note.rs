//! Signed notes (c2sp.org/signed-note), the form of checkpoints: a text, a blank line, and a line for each signature. Two
//! kinds of signature are known: a log's own (Ed25519 over the text) and a witness's (cosignature/v1, which adds
//! when). Lines of other kinds or other keys are kept and count for nothing. No I/O here.

use std::fmt;

use russh::keys::signature::{Signer as _, Verifier as _};
use russh::keys::ssh_encoding::{Base64Reader, Base64Writer, Reader as _, Writer as _};
use russh::keys::ssh_key::public::{Ed25519PublicKey, KeyData};
use russh::keys::ssh_key::{Algorithm, Signature};
use russh::keys::{PrivateKey, PublicKey};
use sha2::{Digest as _, Sha256};

use crate::clock::Time;

/// More than any checkpoint: what is longer is not looked at.
pub const NOTE_MAX: usize = 32 * 1024;

/// Signature lines looked at in one note.
const SIGNATURES_MAX: usize = 64;

const DASH: &str = "\u{2014} ";

/// A text and its signatures, taken apart and not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What is signed, with the end of its last line.
    pub text: String,
    pub signatures: Vec<NoteSignature>,
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    pub name: String,
    pub key_id: [u8; 4],
    pub bytes: Vec<u8>,
}

/// What a signature of a key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// By the log itself.
    Log = 1,
    /// By a witness: this is the log that I have seen, and it continues what I saw before.
    Witness = 4,
}

/// A public key for notes, with the name it signs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteKey {
    pub name: String,
    pub kind: NoteKind,
    pub key: [u8; 32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("it is not a signed note: a text, an empty line, and signatures")]
    NotANote,
    #[error("line {0} after the empty one is not a signature")]
    SignatureLine(usize),
    #[error("it is too long")]
    TooLong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the key of a note (NAME+8HEX+BASE64, with Ed25519)")]
pub struct NoteKeyError;

impl Note {
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        if text.len() > NOTE_MAX {
            return Err(NoteError::TooLong);
        }
        let (body, lines) = text.rsplit_once("\n\n").ok_or(NoteError::NotANote)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::NotANote)?;
        if body.is_empty() || body.chars().any(|c| c != '\n' && c.is_control()) {
            return Err(NoteError::NotANote);
        }
        let mut signatures = Vec::new();
        for (at, line) in lines.split('\n').enumerate() {
            if at == SIGNATURES_MAX {
                return Err(NoteError::TooLong);
            }
            signatures.push(NoteSignature::parse(line).ok_or(NoteError::SignatureLine(at + 1))?);
        }
        Ok(Self { text: format!("{body}\n"), signatures })
    }

    /// Whether a signature of `key` is there and holds. A witness's says when it signed.
    pub fn signed_by(&self, key: &NoteKey) -> Option<Signed> {
        self.signatures.iter().find_map(|signature| key.verify(&self.text, signature))
    }
}

/// A signature that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    Log,
    Witness { at: Time },
}

impl NoteSignature {
    /// A line without its end: `— name base64`.
    pub fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix(DASH)?.split_once(' ')?;
        if !is_name(name) {
            return None;
        }
        let bytes = unbase64(encoded)?;
        let (key_id, bytes) = bytes.split_first_chunk::<4>()?;
        Some(Self { name: name.to_owned(), key_id: *key_id, bytes: bytes.to_vec() })
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{DASH}{} {}", self.name, base64(&[&self.key_id[..], &self.bytes].concat()))
    }
}

impl NoteKey {
    /// Of an SSH key, if it is Ed25519 and the name can stand in a note.
    pub fn of(name: &str, kind: NoteKind, key: &PublicKey) -> Option<Self> {
        match key.key_data() {
            KeyData::Ed25519(key) if is_name(name) => Some(Self { name: name.to_owned(), kind, key: key.0 }),
            _ => None,
        }
    }

    pub fn id(&self) -> [u8; 4] {
        let hash = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', self.kind as u8])
            .chain_update(self.key)
            .finalize();
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// Signs a note's text: the line without its end. `key` must be the private half of this.
    pub fn sign(&self, key: &PrivateKey, text: &str, at: Time) -> Option<NoteSignature> {
        let signed = self.signed_bytes(text, at.unix_seconds());
        let signature = key.try_sign(&signed).ok()?;
        let mut bytes = Vec::new();
        if self.kind == NoteKind::Witness {
            bytes.extend_from_slice(&at.unix_seconds().to_be_bytes());
        }
        bytes.extend_from_slice(signature.as_bytes());
        Some(NoteSignature { name: self.name.clone(), key_id: self.id(), bytes })
    }

    pub fn verify(&self, text: &str, signature: &NoteSignature) -> Option<Signed> {
        if signature.name != self.name || signature.key_id != self.id() {
            return None;
        }
        let (seconds, bytes) = match self.kind {
            NoteKind::Log => (0, signature.bytes.as_slice()),
            NoteKind::Witness => {
                let (seconds, bytes) = signature.bytes.split_first_chunk::<8>()?;
                (u64::from_be_bytes(*seconds), bytes)
            }
        };
        let parsed = Signature::new(Algorithm::Ed25519, bytes).ok()?;
        KeyData::Ed25519(Ed25519PublicKey(self.key)).verify(&self.signed_bytes(text, seconds), &parsed).ok()?;
        Some(match self.kind {
            NoteKind::Log => Signed::Log,
            NoteKind::Witness => Signed::Witness { at: Time::from_unix_seconds(seconds) },
        })
    }

    fn signed_bytes(&self, text: &str, seconds: u64) -> Vec<u8> {
        match self.kind {
            NoteKind::Log => text.as_bytes().to_vec(),
            NoteKind::Witness => format!("cosignature/v1\ntime {seconds}\n{text}").into_bytes(),
        }
    }
}

/// As the tools of transparency logs write it: `name+0123abcd+base64`.
impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = base64(&[&[self.kind as u8][..], &self.key].concat());
        write!(f, "{}+{}+{key}", self.name, crate::names::hex(&self.id()))
    }
}

impl std::str::FromStr for NoteKey {
    type Err = NoteKeyError;

    fn from_str(text: &str) -> Result<Self, NoteKeyError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteKeyError);
        };
        let bytes = unbase64(key).ok_or(NoteKeyError)?;
        let (kind, key) = bytes.split_first().ok_or(NoteKeyError)?;
        let kind = match kind {
            1 => NoteKind::Log,
            4 => NoteKind::Witness,
            _ => return Err(NoteKeyError),
        };
        let key = Self { name: name.to_owned(), kind, key: key.try_into().map_err(|_| NoteKeyError)? };
        if is_name(name) && crate::names::hex(&key.id()) == id { Ok(key) } else { Err(NoteKeyError) }
    }
}

/// What may name a key in a note.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 300 && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

pub fn base64(bytes: &[u8]) -> String {
    let mut buffer = vec![0; bytes.len().div_ceil(3) * 4];
    let encoded = Base64Writer::new(&mut buffer).and_then(|mut writer| {
        writer.write(bytes)?;
        writer.finish().map(str::to_owned)
    });
    // Only a buffer too small can fail, and it is exactly large enough.
    encoded.unwrap_or_default()
}

/// The bytes of padded base64 in its one form.
pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let mut reader = Base64Reader::new(text.as_bytes()).ok()?;
    let mut bytes = vec![0; reader.remaining_len()];
    reader.read(&mut bytes).ok()?;
    (base64(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};

    use super::*;

    fn private(seed: u8) -> PrivateKey {
        PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").unwrap()
    }

    fn key(name: &str, kind: NoteKind, seed: u8) -> NoteKey {
        NoteKey::of(name, kind, private(seed).public_key()).unwrap()
    }

    #[test]
    fn what_a_key_signs_it_verifies_and_no_other_does() {
        let text = "drop.example/audit\n5\nAAAA\n";
        for kind in [NoteKind::Log, NoteKind::Witness] {
            let ours = key("a.example/audit", kind, 1);
            let line = ours.sign(&private(1), text, Time::from_unix_seconds(77)).unwrap();
            let note = Note::parse(&format!("{text}\n{line}\n")).unwrap();
            assert_eq!(note.text, text);
            let expected = match kind {
                NoteKind::Log => Signed::Log,
                NoteKind::Witness => Signed::Witness { at: Time::from_unix_seconds(77) },
            };
            assert_eq!(note.signed_by(&ours), Some(expected));
            assert_eq!(note.signed_by(&key("a.example/audit", kind, 2)), None);
            assert_eq!(note.signed_by(&key("b.example/audit", kind, 1)), None);
            let other = Note::parse(&format!("{}\n{line}\n", text.replace('5', "6"))).unwrap();
            assert_eq!(other.signed_by(&ours), None);
            assert_eq!(ours.to_string().parse(), Ok(ours));
        }
    }

    #[test]
    fn what_is_no_note_is_named() {
        assert_eq!(Note::parse("text\n"), Err(NoteError::NotANote));
        assert_eq!(Note::parse("text\n\n\u{2014} a AAAAAA==\nrubbish\n"), Err(NoteError::SignatureLine(2)));
        assert_eq!(Note::parse("text\n\n\u{2014} a AAA\n"), Err(NoteError::SignatureLine(1)));
        assert_eq!(Note::parse(&"x".repeat(NOTE_MAX + 1)), Err(NoteError::TooLong));
        assert!("a+00000000+AQ==".parse::<NoteKey>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text: String, bytes: Vec<u8>) {
            let _ = Note::parse(&text);
            let _ = Note::parse(&format!("x\n\n{DASH}{text}\n"));
            let _ = text.parse::<NoteKey>();
            let _ = unbase64(&text);
            prop_assert_eq!(unbase64(&base64(&bytes)), Some(bytes));
        }
    }
}
