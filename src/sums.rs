//! Sums: MD5 and SHA-1 of a file's plaintext, kept beside its SHA-256 where a folder's policy says so, because rclone and
//! partners of long standing compare nothing else. They are for comparison, never for security: no receipt has one.

use serde::{Deserialize, Serialize};

/// What a client may ask for a file to be compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Sha256,
    Md5,
    Sha1,
}

/// Which sums are kept. SHA-256 always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeps {
    pub md5: bool,
    pub sha1: bool,
}

/// The sums of one file, as many as are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    pub md5: Option<[u8; 16]>,
    pub sha1: Option<[u8; 20]>,
}

impl Algorithm {
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Md5, Self::Sha1];

    /// As `check-file`, the policy and rclone write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
        }
    }

    pub fn from_word(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.word().as_bytes() == word)
    }
}

impl Keeps {
    pub fn has(self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::Sha256 => true,
            Algorithm::Md5 => self.md5,
            Algorithm::Sha1 => self.sha1,
        }
    }

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { md5: self.md5 || other.md5, sha1: self.sha1 || other.sha1 }
    }
}

impl Sums {
    /// Whether there is one of each that `keeps` names.
    pub fn have(&self, keeps: Keeps) -> bool {
        (self.md5.is_some() || !keeps.md5) && (self.sha1.is_some() || !keeps.sha1)
    }
}
