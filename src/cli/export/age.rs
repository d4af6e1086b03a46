//! The age format, version 1, the writing half: a file key wrapped to X25519 recipients (`age1…`) and to SSH ed25519
//! keys, then the content in chunks of 64 KiB. Only [`Writer::finish`] writes the chunk that is marked as the last, so
//! what was broken off before opens nowhere as a whole. Why this is not the `age` crate: docs/decisions/0007.
//!
//! age is ChaCha20-Poly1305 and X25519, which NIST has not approved: a build with `fips` has none of this.

use std::io::{self, Write};

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::montgomery::MontgomeryPoint;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::{self, public::KeyData};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::ledger::checkpoint::base64;

/// Plaintext bytes in a chunk; the last one has this many or fewer.
const CHUNK: usize = 65536;
const TAG_LEN: usize = 16;
const VERSION_LINE: &str = "age-encryption.org/v1\n";
const X25519_INFO: &[u8] = b"age-encryption.org/v1/X25519";
const SSH_INFO: &[u8] = b"age-encryption.org/v1/ssh-ed25519";

/// Whom an age file can be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    X25519 {
        point: MontgomeryPoint,
    },
    /// `wire` is the public key as SSH encodes it; `point` the same key on the other form of the curve.
    Ssh {
        wire: Vec<u8>,
        point: MontgomeryPoint,
    },
}

/// Why a text is no recipient, and what to try. Says nothing of the text: it may be an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    #[error("this is an age identity, the private half: a recipient begins with `age1`")]
    Identity,
    #[error("expected a recipient of age, `age1…`, or a line `ssh-ed25519 …`")]
    NotARecipient,
    #[error("mistyped or cut: the checksum does not fit")]
    Checksum,
    #[error("of a kind that is not written here: X25519 (`age1…`) and ssh-ed25519 are")]
    Kind,
    #[error("not a valid key")]
    Key,
}

impl Recipient {
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let text = text.trim();
        if text.starts_with("ssh-") || text.starts_with("ecdsa-") || text.starts_with("sk-") {
            return Self::parse_ssh(text);
        }
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("age-secret-key-") || lower.starts_with("age-plugin-") {
            return Err(TextError::Identity);
        }
        if !lower.starts_with("age1") {
            return Err(TextError::NotARecipient);
        }
        let checked = CheckedHrpstring::new::<Bech32>(text).map_err(|_| TextError::Checksum)?;
        // Plugins' and post-quantum recipients have prefixes of their own, which begin with `age1` too.
        if checked.hrp() != Hrp::parse_unchecked("age") {
            return Err(TextError::Kind);
        }
        let key: [u8; 32] = checked.byte_iter().collect::<Vec<u8>>().try_into().map_err(|_| TextError::Key)?;
        Ok(Self::X25519 { point: usable(MontgomeryPoint(key))? })
    }

    fn parse_ssh(text: &str) -> Result<Self, TextError> {
        let key = ssh_key::PublicKey::from_openssh(text).map_err(|_| TextError::Key)?;
        let KeyData::Ed25519(ed25519) = key.key_data() else { return Err(TextError::Kind) };
        let point = CompressedEdwardsY(ed25519.0).decompress().ok_or(TextError::Key)?.to_montgomery();
        let wire = key.to_bytes().map_err(|_| TextError::Key)?;
        Ok(Self::Ssh { wire, point: usable(point)? })
    }

    /// The lines that carry the file key to this recipient.
    fn stanza(&self, file_key: &[u8; 16]) -> io::Result<String> {
        let ephemeral = draw::<32>()?;
        let share = MontgomeryPoint::mul_base_clamped(*ephemeral);
        let (point, info) = match self {
            Self::X25519 { point } => (point, X25519_INFO),
            Self::Ssh { point, .. } => (point, SSH_INFO),
        };
        let mut shared = point.mul_clamped(*ephemeral);
        let mut words = String::from("X25519");
        if let Self::Ssh { wire, .. } = self {
            let tweak = derive(&[], wire, SSH_INFO)?;
            shared = shared.mul_clamped(*tweak);
            words = format!("ssh-ed25519 {}", unpadded(&Sha256::digest(wire)[..4]));
        }
        let shared = Zeroizing::new(shared.to_bytes());
        let key = derive(&*shared, &[share.as_bytes().as_slice(), point.as_bytes()].concat(), info)?;
        // The key is new with every stanza, so its one nonce is zero.
        let mut body = Vec::with_capacity(16 + TAG_LEN);
        body.extend_from_slice(file_key);
        let sealed =
            cipher(&key)?.seal_in_place_append_tag(Nonce::assume_unique_for_key([0; 12]), Aad::empty(), &mut body);
        sealed.map_err(|_| io::Error::other("a file key was not sealed"))?;
        Ok(format!("-> {words} {}\n{}\n", unpadded(share.as_bytes()), unpadded(&body)))
    }
}

/// Refuses the few points with which every secret is the same, known one.
fn usable(point: MontgomeryPoint) -> Result<MontgomeryPoint, TextError> {
    // Clamped scalars are multiples of 8, the order of those points: any of them shows it.
    if point.mul_clamped([1; 32]).to_bytes() == [0; 32] { Err(TextError::Key) } else { Ok(point) }
}

/// An age file in the making.
pub struct Writer<W: Write> {
    out: W,
    key: LessSafeKey,
    /// Plaintext that is not written yet: whether it is the last is known only when more comes, or nothing.
    chunk: Zeroizing<Vec<u8>>,
    next: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    pub fn begin(mut out: W, recipients: &[Recipient]) -> io::Result<Self> {
        let file_key = draw::<16>()?;
        let mut header = String::from(VERSION_LINE);
        for recipient in recipients {
            header.push_str(&recipient.stanza(&file_key)?);
        }
        header.push_str("---");
        let mac_key = derive(&*file_key, &[], b"header")?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&*mac_key).map_err(io::Error::other)?;
        mac.update(header.as_bytes());
        let mac = mac.finalize().into_bytes();
        let nonce = draw::<16>()?;
        let key = cipher(&*derive(&*file_key, &*nonce, b"payload")?)?;
        out.write_all(format!("{header} {}\n", unpadded(&mac)).as_bytes())?;
        out.write_all(&*nonce)?;
        Ok(Self { out, key, chunk: Zeroizing::new(Vec::with_capacity(CHUNK + TAG_LEN)), next: 0 })
    }

    /// Writes the last chunk. Without this the file is cut, and every age says so.
    pub fn finish(mut self) -> io::Result<W> {
        self.put(true)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn put(&mut self, last: bool) -> io::Result<()> {
        let mut nonce = [0; 12];
        // An 11-byte counter, of which 8 are used, and the flag.
        nonce[3..11].copy_from_slice(&self.next.to_be_bytes());
        nonce[11] = u8::from(last);
        self.next += 1;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut *self.chunk);
        sealed.map_err(|_| io::Error::other("a chunk was not sealed"))?;
        self.out.write_all(&self.chunk)?;
        self.chunk.clear();
        Ok(())
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() && self.chunk.len() == CHUNK {
            self.put(false)?;
        }
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn draw<const N: usize>() -> io::Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut bytes[..]).map_err(io::Error::other)?;
    Ok(bytes)
}

/// HKDF-SHA-256 to 32 bytes.
fn derive(secret: &[u8], salt: &[u8], info: &[u8]) -> io::Result<Zeroizing<[u8; 32]>> {
    let mut out = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(salt), secret).expand(info, &mut out[..]).map_err(io::Error::other)?;
    Ok(out)
}

fn cipher(key: &[u8; 32]) -> io::Result<LessSafeKey> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_| io::Error::other("a key was not taken"))?;
    Ok(LessSafeKey::new(key))
}

fn unpadded(bytes: &[u8]) -> String {
    base64(bytes).trim_end_matches('=').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The recipient of the test identity in the description of the format, and an SSH key of RFC 8032's first vector.
    const AGE: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

    #[test]
    fn what_is_no_recipient_is_told_apart_and_never_repeated() {
        assert!(matches!(Recipient::parse(AGE), Ok(Recipient::X25519 { .. })));
        assert_eq!(Recipient::parse(&AGE.to_uppercase()), Recipient::parse(AGE));
        assert_eq!(Recipient::parse(&AGE.replace("zvky", "zvkx")), Err(TextError::Checksum));
        assert_eq!(Recipient::parse("sealdrop1qqq"), Err(TextError::NotARecipient));
        assert_eq!(Recipient::parse("AGE-SECRET-KEY-1XYZ"), Err(TextError::Identity));
        assert_eq!(Recipient::parse("ssh-ed25519 AAAA"), Err(TextError::Key));
        let plugin = bech32::encode::<Bech32>(Hrp::parse("age1yubikey").unwrap(), &[2; 33]).unwrap();
        assert_eq!(Recipient::parse(&plugin), Err(TextError::Kind));
        let ecdsa = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBMkn5KkH\
                     r1X1DZyVbGUh9wqSvOKvPqQ8r9ExNgDK1tWQ";
        assert!(Recipient::parse(ecdsa).is_err());
    }

    #[test]
    fn a_point_that_gives_everybody_the_same_secret_is_no_recipient() {
        for point in [[0; 32], {
            let mut one = [0; 32];
            one[0] = 1;
            one
        }] {
            let text = bech32::encode::<Bech32>(Hrp::parse("age").unwrap(), &point).unwrap();
            assert_eq!(Recipient::parse(&text), Err(TextError::Key));
        }
    }

    #[test]
    fn only_finish_writes_a_last_chunk() {
        let recipients = [Recipient::parse(AGE).unwrap()];
        for (size, chunks) in [(0, 0), (1, 0), (CHUNK, 0), (CHUNK + 1, 1), (2 * CHUNK, 1)] {
            let mut out = Vec::new();
            let mut writer = Writer::begin(&mut out, &recipients).unwrap();
            writer.write_all(&vec![7; size]).unwrap();
            drop(writer);
            let body = out.len() - (out.windows(4).position(|four| four == b"--- ").unwrap() + 4 + 43 + 1 + 16);
            assert_eq!(body, chunks * (CHUNK + TAG_LEN), "{size}");
        }
    }
}
