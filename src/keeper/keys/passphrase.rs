//! The root key under a passphrase: a small text file with the wrapped key and how the passphrase becomes the key that
//! unwraps it (docs/keys.md, "root.passphrase"). A passphrase that is wrong opens nothing, and nothing new is made.

use std::num::NonZeroU32;
use std::path::Path;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use aws_lc_rs::pbkdf2;
use zeroize::{Zeroize, Zeroizing};

use super::KeyError;
use super::root::{Ask, Root};
use crate::names::{from_hex, hex};

/// Two thirds of a second on a slow core, once at each start. NIST SP 800-132 asks for as many as can be borne.
const ROUNDS: u32 = 600_000;
/// What is believed of a file: fewer would be guessed at, more would never end.
const ROUNDS_READ: std::ops::RangeInclusive<u32> = 100_000..=10_000_000;
/// Who has the file can guess for ever, so this is longer than what a password that is guessed at over the network needs.
pub(super) const CHARACTERS_MIN: usize = 16;

const FIRST_LINE: &str = "sealdrop root key, wrapped by a passphrase, v1";

pub(super) fn seal(root: &Root, passphrase: &str) -> Result<Vec<u8>, KeyError> {
    if passphrase.chars().count() < CHARACTERS_MIN {
        return Err(KeyError::ShortPassphrase);
    }
    let (mut salt, mut nonce) = ([0; 32], [0; 12]);
    getrandom::fill(&mut salt).and_then(|()| getrandom::fill(&mut nonce)).map_err(KeyError::Random)?;
    let head = format!("{FIRST_LINE}\nkdf pbkdf2-hmac-sha512 {ROUNDS} {}\n", hex(&salt));
    let payload = Payload { msg: root.expose(), aad: head.as_bytes() };
    let sealed = cipher(passphrase, &salt, ROUNDS).encrypt(&Nonce::from(nonce), payload);
    let sealed = sealed.map_err(|_| KeyError::Place)?;
    Ok(format!("{head}wrapped {}{}\n", hex(&nonce), hex(&sealed)).into_bytes())
}

/// Asks only for a file that can be opened at all.
pub(super) fn open(path: &Path, bytes: &[u8], ask: Ask<'_>) -> Result<[u8; 32], KeyError> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let damaged = || KeyError::Unusable { path: path.to_owned(), why: "it is not as this program writes it".into() };
    let (head, wrapped) = text.find("\nwrapped ").map(|end| text.split_at(end + 1)).ok_or_else(damaged)?;
    let wrapped = wrapped.strip_prefix("wrapped ").ok_or_else(damaged)?;
    let kdf = head.strip_prefix(FIRST_LINE).and_then(|rest| rest.strip_prefix("\nkdf pbkdf2-hmac-sha512 "));
    let (rounds, salt) = kdf.and_then(|kdf| kdf.trim_end().split_once(' ')).ok_or_else(damaged)?;
    let rounds = rounds.parse().ok().filter(|rounds| ROUNDS_READ.contains(rounds)).ok_or_else(damaged)?;
    let salt = from_hex::<32>(salt).map_err(|_| damaged())?;
    let wrapped = from_hex::<60>(wrapped.trim_end()).map_err(|_| damaged())?;
    let (nonce, sealed) = wrapped.split_first_chunk::<12>().ok_or_else(damaged)?;
    let passphrase = ask()?;
    let payload = Payload { msg: sealed, aad: head.as_bytes() };
    let opened = cipher(&passphrase, &salt, rounds).decrypt(&Nonce::from(*nonce), payload);
    let mut opened = opened.map_err(|_| KeyError::WrongPassphrase { path: path.to_owned() })?;
    let secret = opened.as_slice().try_into().map_err(|_| damaged());
    opened.zeroize();
    secret
}

fn cipher(passphrase: &str, salt: &[u8; 32], rounds: u32) -> Aes256Gcm {
    let mut key = Zeroizing::new([0; 32]);
    let salt = [b"sealdrop/v1/root\0", &salt[..]].concat();
    let rounds = NonZeroU32::new(rounds).unwrap_or(NonZeroU32::MAX);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, rounds, &salt, passphrase.as_bytes(), key.as_mut());
    Aes256Gcm::new(&(*key).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSPHRASE: &str = "correct horse battery staple";

    fn opened(bytes: &[u8], passphrase: &str) -> Result<[u8; 32], KeyError> {
        open(Path::new("root.passphrase"), bytes, &mut || Ok(Zeroizing::new(passphrase.to_owned())))
    }

    #[test]
    fn a_passphrase_opens_what_it_sealed_and_another_says_that_it_is_wrong() {
        let root = Root::new([7; 32]).unwrap();
        let sealed = seal(&root, PASSPHRASE).unwrap();
        assert_eq!(opened(&sealed, PASSPHRASE).unwrap(), [7; 32]);
        assert!(matches!(opened(&sealed, "incorrect horse battery"), Err(KeyError::WrongPassphrase { .. })));
        assert!(matches!(seal(&root, "too short"), Err(KeyError::ShortPassphrase)));
        let asked =
            open(Path::new("x"), b"sealdrop root key", &mut || panic!("asked for a file that opens with nothing"));
        assert!(matches!(asked, Err(KeyError::Unusable { .. })));
    }

    #[test]
    fn a_file_that_would_make_guessing_cheap_is_not_believed() {
        let sealed = String::from_utf8(seal(&Root::new([7; 32]).unwrap(), PASSPHRASE).unwrap()).unwrap();
        let cheap = sealed.replace(" 600000 ", " 1 ");
        assert!(matches!(opened(cheap.as_bytes(), PASSPHRASE), Err(KeyError::Unusable { .. })));
    }
}
