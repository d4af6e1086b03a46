//! One-time codes (RFC 6238: SHA-1, six digits, thirty seconds, which is what every app makes), and the secret that they
//! are made from. In the policy the secret stands sealed under a key that only the keeper has: who reads the file, a
//! backup of it or the ledger's copy can make no code. A code counts once; who remembers which were used is the keeper.

use std::fmt;
use std::str::FromStr;

use totp_rs::{Builder, Secret, Totp};

use crate::clock::Time;
use crate::names::{from_hex, hex};

/// Digits of a code.
pub const DIGITS: usize = 6;
/// RFC 4226 §4 recommends 160 bits.
pub const SECRET_LEN: usize = 20;
/// A nonce before it and a tag behind it.
const SEALED_LEN: usize = 12 + SECRET_LEN + 16;
const PREFIX: &str = "totp1-";

/// As it stands in a policy file: `totp1-` and hex digits.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSecret(pub [u8; SEALED_LEN]);

/// The opened secret, which wipes itself.
pub struct TotpSecret(Totp);

/// Why a text is no sealed secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TotpError {
    #[error("this is not what `sealdrop totp` prints")]
    Form,
    #[error("this looks like the secret itself")]
    Open,
}

impl FromStr for SealedSecret {
    type Err = TotpError;

    fn from_str(text: &str) -> Result<Self, TotpError> {
        let base32 = |c: char| matches!(c, 'A'..='Z' | '2'..='7' | '=');
        match text.strip_prefix(PREFIX) {
            Some(digits) => from_hex(digits).map(Self).map_err(|_| TotpError::Form),
            None if text.starts_with("otpauth:") || text.len() >= 16 && text.chars().all(base32) => {
                Err(TotpError::Open)
            }
            None => Err(TotpError::Form),
        }
    }
}

impl fmt::Display for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", hex(&self.0))
    }
}

impl TotpSecret {
    /// `None` if it is not 20 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; SECRET_LEN] = bytes.try_into().ok()?;
        Builder::new().with_secret(Secret::new_stack(bytes)).build().ok().map(Self)
    }

    /// The half minute that `code` is of: this one, the one before or the one after, for clocks that differ. Each has its
    /// number, which counts up.
    pub fn step_of(&self, code: &str, now: Time) -> Option<u64> {
        let digits = code.len() == DIGITS && code.bytes().all(|byte| byte.is_ascii_digit());
        if digits { self.0.check(code, now.unix_seconds()) } else { None }
    }
}

/// What an app reads to make codes: the secret in the open, to be shown once. `issuer` and `user` hold no character that
/// would have to be escaped.
pub fn uri(issuer: &str, user: &str, secret: &[u8; SECRET_LEN]) -> zeroize::Zeroizing<String> {
    let secret = zeroize::Zeroizing::new(Secret::new_stack(*secret).to_base32());
    zeroize::Zeroizing::new(format!("otpauth://totp/{issuer}:{user}?secret={}&issuer={issuer}", *secret))
}

/// A password with a code at its end, for clients that ask for nothing else: the two apart, if it could be that.
pub fn split(password: &str) -> Option<(&str, &str)> {
    let (password, code) = password.split_at_checked(password.len().checked_sub(DIGITS)?)?;
    (!password.is_empty() && code.bytes().all(|byte| byte.is_ascii_digit())).then_some((password, code))
}

impl fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedSecret(…)")
    }
}

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Appendix B, with six digits of its eight.
        let secret = TotpSecret::from_bytes(b"12345678901234567890").unwrap();
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let at = |seconds: u64| secret.step_of(code, Time(seconds * 1000));
            assert_eq!(at(seconds), Some(seconds / 30), "{code}");
            // A clock that is half a minute off does; two half minutes do not.
            assert_eq!(at(seconds + 30), at(seconds));
            assert_eq!(at(seconds - 30), at(seconds));
            assert_eq!(at(seconds + 60), None);
        }
        for wrong in ["", "28708", "2870820", "28 082", "+87082", "２８７０８２"] {
            assert_eq!(secret.step_of(wrong, Time(59_000)), None, "{wrong}");
        }
    }

    #[test]
    fn only_what_the_command_prints_is_a_sealed_secret_and_it_is_not_shown() {
        let sealed = SealedSecret([7; SEALED_LEN]);
        assert_eq!(sealed.to_string().parse(), Ok(sealed.clone()));
        assert_eq!("totp1-07".parse::<SealedSecret>(), Err(TotpError::Form));
        assert_eq!("JBSWY3DPEHPK3PXPJBSWY3DP".parse::<SealedSecret>(), Err(TotpError::Open));
        assert!(!format!("{sealed:?}").contains("07"));
    }

    #[test]
    fn a_password_is_split_only_before_six_digits() {
        assert_eq!(split("correct horse123456"), Some(("correct horse", "123456")));
        assert_eq!(split("123456"), None);
        assert_eq!(split("correct horse12345x"), None);
        assert_eq!(split("ä12345"), None);
        assert_eq!(split(""), None);
    }

    #[test]
    fn the_uri_is_what_apps_read() {
        let uri = uri("sftp.st-mary.example", "acme", b"12345678901234567890");
        let said = "otpauth://totp/sftp.st-mary.example:acme?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=sftp.st-mary.example";
        assert_eq!(*uri, said);
    }
}
