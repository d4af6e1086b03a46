//! Password hashes: argon2id in PHC string form (RFC 9106), nothing else. A wrong password, an account without one and
//! a name that does not exist cost the same work, so that time tells a stranger nothing. No I/O here; checking takes
//! tens of milliseconds and tens of MiB by design, so callers run it where it blocks nobody.

use std::fmt;
use std::str::FromStr;

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};

/// An argon2id hash of bounded cost.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    text: String,
    cost: Cost,
}

/// What checking a hash takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

/// What `sealdrop passwd` writes: the first of the settings OWASP recommends as equal in strength that stays quick
/// on a small machine (47104 KiB, 1 pass), rounded up to 64 MiB and 3 passes as RFC 9106 §4 gives it, on one lane.
pub const COST: Cost = Cost { memory_kib: 65_536, passes: 3, lanes: 1 };

/// Weaker hashes are refused: the least of OWASP's equivalents in memory, and in passes.
const MEMORY_KIB: std::ops::RangeInclusive<u32> = 7_168..=1_048_576;
const PASSES: std::ops::RangeInclusive<u32> = 1..=16;
const LANES: std::ops::RangeInclusive<u32> = 1..=8;

/// Longer passwords are refused unread: no one types them, and hashing them is work a stranger could order.
pub const PASSWORD_MAX: usize = 1024;

/// Why a text is not a password hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    #[error("this is not a password hash")]
    NotAHash,
    #[error("only argon2id hashes are taken, this is {0}")]
    Algorithm(String),
    #[error("this hash is cheaper to guess, or dearer to check, than is safe (m={}, t={}, p={})", .0.memory_kib, .0.passes, .0.lanes)]
    Cost(Cost),
    #[error("the password could not be hashed")]
    Hash,
}

impl FromStr for PasswordHash {
    type Err = PasswordError;

    fn from_str(text: &str) -> Result<Self, PasswordError> {
        let hash = phc::PasswordHash::new(text).map_err(|_| PasswordError::NotAHash)?;
        if hash.algorithm.as_str() != "argon2id" || hash.version != Some(u32::from(Version::V0x13)) {
            return Err(PasswordError::Algorithm(hash.algorithm.as_str().to_owned()));
        }
        let params = Params::try_from(&hash).map_err(|_| PasswordError::NotAHash)?;
        let whole = hash.salt.is_some_and(|salt| salt.len() >= 8) && hash.hash.is_some_and(|output| output.len() >= 16);
        if !whole {
            return Err(PasswordError::NotAHash);
        }
        let cost = Cost { memory_kib: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() };
        if !cost.is_sane() {
            return Err(PasswordError::Cost(cost));
        }
        Ok(Self { text: text.to_owned(), cost })
    }
}

impl Cost {
    fn is_sane(self) -> bool {
        MEMORY_KIB.contains(&self.memory_kib) && PASSES.contains(&self.passes) && LANES.contains(&self.lanes)
    }

    /// Block operations to check one hash: what the time is proportional to.
    pub fn work(self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }
}

impl PasswordHash {
    /// A fresh salted hash of `password`, at [`COST`].
    pub fn of(password: &str) -> Result<Self, PasswordError> {
        let hash = hasher(COST)?.hash_password(password.as_bytes()).map_err(|_| PasswordError::Hash)?;
        hash.to_string().parse()
    }

    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// The PHC string, as it stands in the policy file.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Whether `password` is the one behind `hash`. Without a hash it does the work of `decoy` and says no.
#[must_use]
pub fn verify_password(hash: Option<&PasswordHash>, decoy: Cost, password: &str) -> bool {
    // The length is the client's own doing and the same for every name.
    if password.len() > PASSWORD_MAX {
        return false;
    }
    match hash {
        Some(hash) => Argon2::default().verify_password(password.as_bytes(), hash.text.as_str()).is_ok(),
        None => {
            // What it computes is of no interest, only that it takes as long.
            let mut output = [0; 32];
            let done =
                hasher(decoy).map(|hasher| hasher.hash_password_into(password.as_bytes(), &[0; 16], &mut output));
            std::hint::black_box((done.is_ok(), output));
            false
        }
    }
}

fn hasher(cost: Cost) -> Result<Argon2<'static>, PasswordError> {
    let params =
        Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(|_| PasswordError::Cost(cost))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_passes_and_no_hash_never_does() {
        let hash = PasswordHash::of("correct horse").unwrap();
        assert_eq!(hash.cost(), COST);
        assert!(verify_password(Some(&hash), COST, "correct horse"));
        assert!(!verify_password(Some(&hash), COST, "correct horsf"));
        assert!(!verify_password(None, COST, "correct horse"));
        assert!(!verify_password(Some(&hash), COST, &"x".repeat(PASSWORD_MAX + 1)));
        assert!(!format!("{hash:?}").contains("argon2id"));
    }

    #[test]
    fn weak_foreign_or_broken_hashes_are_refused() {
        let good = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        assert!(good.parse::<PasswordHash>().is_ok());
        for (text, why) in [
            (good.replace("argon2id", "argon2i"), "argon2i"),
            (good.replace("m=19456", "m=64"), "cheaper"),
            (good.replace("t=2", "t=9000"), "dearer"),
            ("hunter2".to_owned(), "not a password hash"),
            ("$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW".to_owned(), ""),
            ("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA".to_owned(), "not a password hash"),
        ] {
            assert!(text.parse::<PasswordHash>().unwrap_err().to_string().contains(why), "{text}");
        }
    }
}
