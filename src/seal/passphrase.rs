//! Passphrases: a stanza for whoever knows the words (docs/sealed-file.md §6.2). One that a person chose is guessed at off line, so
//! easy ones are refused; one that this program made cannot be guessed.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use aws_lc_rs::pbkdf2::{PBKDF2_HMAC_SHA512, derive};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::aead::{NONCE_LEN, enseal, unseal};
use super::keys::{Entropy, Kernel};
use super::stanza::{PASSPHRASE, Stanza};
use super::wrap::WRAPPED_LEN;
use super::{FileKey, Head, SealError};

/// PBKDF2 with HMAC-SHA-512, the one that there is.
const PRF_HMAC_SHA512: u8 = 2;
/// What we write: some 0.7 s where a file is opened once, and for each guess. OWASP asks for 210,000.
const ITERATIONS: u32 = 600_000;
/// What we read. Less protects nobody; more is work, some 10 s of it, that a stranger's file could order.
const ITERATIONS_TAKEN: RangeInclusive<u32> = 100_000..=10_000_000;
const SALT_LEN: usize = 32;
const BODY_LEN: usize = 1 + 4 + SALT_LEN + NONCE_LEN + WRAPPED_LEN;
/// Far beyond what anybody types, and a bound for who reads one from a file.
const BYTES_MAX: usize = 1024;
/// What a chosen passphrase has to be worth. With the iterations, which are worth 20 more, 70 bits: beyond who is not a state.
const BITS_MIN: u32 = 50;

/// The letters of Bech32: none is taken for another when it is read aloud or copied by hand.
const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// Words that open a file. Wiped when dropped, never printed but by [`Passphrase::as_str`].
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

/// Why words are no passphrase. Says nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    #[error("a passphrase of nothing")]
    Empty,
    #[error("this passphrase is longer than {BYTES_MAX} bytes")]
    Long,
    #[error("this passphrase has a control character in it")]
    Control,
    #[error("this passphrase is easy to guess: it is worth some {0} bits, of the {BITS_MIN} that it needs")]
    Weak(u32),
}

/// The parts of a passphrase stanza's body.
pub(super) struct Locked<'a> {
    iterations: NonZeroU32,
    salt: &'a [u8],
    sealed: &'a [u8],
}

impl Passphrase {
    /// One to open with: whatever was sealed with it, by whomever.
    pub fn new(words: &str) -> Result<Self, PassphraseError> {
        if words.len() > BYTES_MAX {
            return Err(PassphraseError::Long);
        }
        // NFC makes at most three times as many bytes of them; reserved whole, so that growing leaves no copy.
        let mut text = Zeroizing::new(String::with_capacity(3 * BYTES_MAX));
        text.extend(words.nfc());
        match text.len() {
            0 => Err(PassphraseError::Empty),
            1..=BYTES_MAX if text.chars().any(char::is_control) => Err(PassphraseError::Control),
            1..=BYTES_MAX => Ok(Self(text)),
            _ => Err(PassphraseError::Long),
        }
    }

    /// One to seal with, which a person chose.
    pub fn chosen(words: &str) -> Result<Self, PassphraseError> {
        let passphrase = Self::new(words)?;
        match bits(passphrase.as_str()) {
            BITS_MIN.. => Ok(passphrase),
            bits => Err(PassphraseError::Weak(bits)),
        }
    }

    /// A new one of 100 bits, `qpzr-y9x8-gf2t-vdw0-s3jn`.
    pub fn generate() -> Result<Self, SealError> {
        Self::generate_with(&mut Kernel)
    }

    pub(super) fn generate_with(entropy: &mut dyn Entropy) -> Result<Self, SealError> {
        let mut drawn = Zeroizing::new([0; 20]);
        entropy.fill(&mut drawn[..])?;
        let mut text = Zeroizing::new(String::with_capacity(24));
        for (at, byte) in drawn.iter().enumerate() {
            if at > 0 && at % 4 == 0 {
                text.push('-');
            }
            text.push(char::from(LETTERS[usize::from(byte % 32)]));
        }
        Ok(Self(text))
    }

    /// To show to the one it was made for.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn lock(&self, entropy: &mut dyn Entropy, head: &Head, key: &FileKey) -> Result<Stanza, SealError> {
        self.lock_in(entropy, head, key, ITERATIONS)
    }

    pub(super) fn lock_in(
        &self,
        entropy: &mut dyn Entropy,
        head: &Head,
        key: &FileKey,
        iterations: u32,
    ) -> Result<Stanza, SealError> {
        let mut salt = [0; SALT_LEN];
        entropy.fill(&mut salt)?;
        let rounds = NonZeroU32::new(iterations).ok_or(SealError::Limit("a passphrase"))?;
        let sealed = enseal(entropy, &self.key(rounds, &salt), &aad(head), key.expose())?;
        let body = [&[PRF_HMAC_SHA512][..], &iterations.to_be_bytes(), &salt, &sealed].concat();
        Ok(Stanza { kind: PASSPHRASE, key_id: [0; 8], body })
    }

    /// The key that the words and this salt make.
    fn key(&self, iterations: NonZeroU32, salt: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        let salt = [b"sealdrop/v1/passphrase\0", salt].concat();
        derive(PBKDF2_HMAC_SHA512, iterations, &salt, self.0.as_bytes(), &mut key[..]);
        key
    }
}

impl<'a> Locked<'a> {
    /// Whether the body says that its rules are those of this version.
    pub fn is_known(body: &[u8]) -> bool {
        body.first() == Some(&PRF_HMAC_SHA512)
    }

    pub fn parse(body: &'a [u8]) -> Option<Self> {
        if !Self::is_known(body) || body.len() != BODY_LEN {
            return None;
        }
        let (iterations, rest) = body[1..].split_first_chunk()?;
        let iterations = u32::from_be_bytes(*iterations);
        let (salt, sealed) = rest.split_at_checked(SALT_LEN)?;
        let iterations = ITERATIONS_TAKEN.contains(&iterations).then(|| NonZeroU32::new(iterations)).flatten()?;
        Some(Self { iterations, salt, sealed })
    }

    pub fn unlock(&self, head: &Head, passphrase: &Passphrase) -> Result<Zeroizing<[u8; 32]>, SealError> {
        let opened = unseal(&passphrase.key(self.iterations, self.salt), &aad(head), self.sealed)?;
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(opened.get(..32).ok_or(SealError::Damaged)?);
        Ok(key)
    }
}

fn aad(head: &Head) -> Vec<u8> {
    [&head.to_bytes()[..], &PASSPHRASE.to_be_bytes(), &[0; 8]].concat()
}

/// What a passphrase is worth at most to who guesses well: a floor against `Summer2026!`, not a measure. A letter of a word is two
/// bits, as in words drawn from a list of thousands; where the kind of character changes there are four; and what goes on
/// from, or repeats, what stands before is half of one.
fn bits(text: &str) -> u32 {
    let characters: Vec<char> = text.chars().collect();
    if in_made_form(text) {
        return 100;
    }
    let mut halves = 0;
    for (at, &character) in characters.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| characters[at]);
        let step = before.map(|before| (u32::from(character)).abs_diff(u32::from(before)));
        let seen = at >= 3 && characters[..at - 1].windows(3).any(|earlier| earlier == &characters[at - 2..=at]);
        halves += match before {
            _ if seen || step.is_some_and(|step| step <= 1) => 1,
            Some(before) if kind(before) == kind(character) => 4,
            _ => 8,
        };
    }
    halves / 2
}

/// As [`Passphrase::generate`] makes them, and no one's joke of that form.
fn in_made_form(text: &str) -> bool {
    let letters: HashSet<u8> = text.bytes().filter(|letter| LETTERS.contains(letter)).collect();
    let groups: Vec<&str> = text.split('-').collect();
    let full = |group: &&str| group.len() == 4 && group.bytes().all(|letter| LETTERS.contains(&letter));
    groups.len() == 5 && groups.iter().all(full) && letters.len() >= 8
}

fn kind(character: char) -> u8 {
    match character {
        ' ' | '-' | 'a'..='z' => 0,
        _ if character.is_lowercase() => 0,
        _ if character.is_uppercase() => 1,
        _ if character.is_numeric() => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_choose_first_is_refused_and_what_cannot_be_guessed_is_taken() {
        for weak in [
            "hunter2",
            "Summer2026!",
            "Summer2026Hospital!",
            "password password password password",
            "qwertyuiopasdfgh",
            "12345678901234567890",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "abcdefghijklmnopqrstuvwxyz",
            "our radiology files",
            "aaaa-aaaa-aaaa-aaaa-aaaa",
        ] {
            assert!(matches!(Passphrase::chosen(weak), Err(PassphraseError::Weak(_))), "{weak}");
            assert!(Passphrase::new(weak).is_ok(), "what was sealed with it opens: {weak}");
        }
        for good in
            ["walnut ferry oblique tundra sand quiver", "kV9#mQ2x!pLw7Zt&", "Grüße an den Wüstenfuchs im Nebelmoor"]
        {
            assert!(Passphrase::chosen(good).is_ok(), "{good}");
        }
        for _ in 0..100 {
            let made = Passphrase::generate().unwrap();
            assert_eq!(made.as_str().len(), 24);
            assert!(Passphrase::chosen(made.as_str()).is_ok(), "what we make, we take: {}", made.as_str());
        }
    }

    #[test]
    fn the_same_words_typed_otherwise_are_the_same_passphrase() {
        let [composed, combining] =
            ["Stra\u{df}e \u{fc}ber", "Stra\u{df}e u\u{308}ber"].map(|w| Passphrase::new(w).unwrap());
        assert_eq!(composed.as_str(), combining.as_str());
        assert_ne!(Passphrase::new("a ").unwrap().as_str(), Passphrase::new("a").unwrap().as_str());
        assert_eq!(Passphrase::new("").err(), Some(PassphraseError::Empty));
        assert_eq!(Passphrase::new("a\tb").err(), Some(PassphraseError::Control));
        assert_eq!(Passphrase::new(&"x".repeat(1025)).err(), Some(PassphraseError::Long));
    }
}
