//! What can be wrong with a sealed file. The kinds tell apart only what anyone can see without a key; every failure
//! that depends on one is `Damaged`, so that answers about a tampered file never help to guess at keys.

/// Why a sealed file, a part of one, or a journal was not made or not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("this is not a sealed file")]
    NotSealed,
    #[error("this sealed file is of a version or suite that this program does not know")]
    Version,
    #[error("the sealed file's {0} is malformed")]
    Malformed(&'static str),
    #[error("the sealed file was cut short, extended, or never finished")]
    Length,
    #[error("the sealed file has no recipients: its upload was never finished")]
    Unfinished,
    #[error("the sealed file is not sealed to this identity")]
    NotForThisIdentity,
    #[error("the sealed file's envelope is shred-wrapped: only the server that keeps it can give it out")]
    ShredWrapped,
    #[error("the sealed file's envelope carries no shred wrap")]
    NotShredWrapped,
    /// A commitment, an unwrap, a record, a trailer or a journal did not verify. Never says which.
    #[error("the file is damaged or the key is wrong")]
    Damaged,
    #[error("a sealed file has room for {max} recipients, or for 6 post-quantum ones, and needs one", max = super::RECIPIENTS_MAX)]
    Recipients,
    /// The caller asked for something the format cannot hold.
    #[error("{0} is beyond what a sealed file can hold")]
    Limit(&'static str),
    #[error("the kernel gave no randomness")]
    Entropy,
}

impl SealError {
    /// The word for it in the test vectors and in `--json`.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotSealed => "not-sealed",
            Self::Version => "version",
            Self::Malformed(_) => "malformed",
            Self::Length => "length",
            Self::Unfinished => "unfinished",
            Self::NotForThisIdentity => "not-for-this-identity",
            Self::ShredWrapped => "shred-wrapped",
            Self::NotShredWrapped => "not-shred-wrapped",
            Self::Damaged => "damaged",
            Self::Recipients => "recipients",
            Self::Limit(_) => "limit",
            Self::Entropy => "entropy",
        }
    }
}
