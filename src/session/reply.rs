//! How a failure is told to a client: a status and one fixed sentence. What the keeper refuses comes with its own
//! words; what fails here is said in words that never name a path on this machine, nor tell one failure of a key from
//! another.

use std::borrow::Cow;
use std::io;

use crate::ipc::jail;
use crate::seal::{ReadError, SealError, Unfit};
use crate::sftp::status::Status;
use crate::vpath::PathError;

/// What goes into a STATUS reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: Status,
    pub say: Cow<'static, str>,
}

pub type Outcome<T> = Result<T, Refusal>;

impl Refusal {
    pub const fn new(status: Status, say: &'static str) -> Self {
        Self { status, say: Cow::Borrowed(say) }
    }

    pub const fn failure(say: &'static str) -> Self {
        Self::new(Status::Failure, say)
    }
}

pub const NO_SUCH_FILE: Refusal = Refusal::new(Status::NoSuchFile, "no such file or folder");
pub const BAD_HANDLE: Refusal = Refusal::failure("this handle is not open");
pub const DENIED: Refusal = Refusal::new(Status::PermissionDenied, "permission denied");
pub const NO_LINKS: Refusal = Refusal::new(Status::Unsupported, "this server has no links");
pub const UNSUPPORTED: Refusal = Refusal::new(Status::Unsupported, "this server does not support this request");
pub const DAMAGED: Refusal = Refusal::failure("this file is damaged");
pub const KEEPER_GONE: Refusal = Refusal::failure("the server is stopping");
pub const EXISTS: Refusal = Refusal::failure("this name is taken");
pub const TOO_LARGE: Refusal = Refusal::failure("the file is larger than this folder takes");
pub const NO_SPACE_LEFT: Refusal = Refusal::failure("the file is larger than the space left for your files");
pub const GAP: Refusal = Refusal::failure("bytes are missing before this offset");
pub const LOST_END: Refusal = Refusal::failure("the end of this upload was lost in a crash: look at its size again");
pub const BUSY: Refusal = Refusal::failure("this file is being uploaded by another session");
pub const DRAINING: Refusal = Refusal::failure("the server is stopping: nothing new is opened");
pub const TOO_MANY_HANDLES: Refusal = Refusal::failure("too many files are open in this session");
pub const STILL_WRITTEN: Refusal = Refusal::failure("this file is still being written");
pub const NOT_KEPT: Refusal = Refusal::failure("this digest is not kept of this file");
pub const IS_FOLDER: Refusal = Refusal::failure("this is a folder");
pub const SEALED_DIGEST: Refusal = Refusal::new(
    Status::Unsupported,
    "the digest of a sealed file is not kept: compare what you open with its receipt",
);
pub const READ_ONLY_RECEIPTS: Refusal = Refusal::new(Status::PermissionDenied, "receipts cannot be changed");

pub const CUT_SHORT: Refusal =
    Refusal::failure("the end of this sealed file is missing: send the rest, or the whole again");

impl From<Unfit> for Refusal {
    fn from(unfit: Unfit) -> Self {
        Self::new(Status::PermissionDenied, unfit.say())
    }
}

impl From<(jail::Status, String)> for Refusal {
    fn from((status, say): (jail::Status, String)) -> Self {
        let status = match status {
            jail::Status::NoSuchFile => Status::NoSuchFile,
            jail::Status::PermissionDenied => Status::PermissionDenied,
            jail::Status::Failure => Status::Failure,
            jail::Status::Unsupported => Status::Unsupported,
        };
        Self { status, say: Cow::Owned(say) }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            // Links and other devices do not exist in this tree as far as a client can tell.
            Kind::NotFound | Kind::NotADirectory | Kind::CrossesDevices => NO_SUCH_FILE,
            Kind::PermissionDenied => DENIED,
            Kind::AlreadyExists => EXISTS,
            Kind::StorageFull | Kind::QuotaExceeded => {
                // The client is told, and so must be whoever can make room.
                tracing::error!(%error, "an upload found no room");
                Self::failure("the server's disk is full")
            }
            Kind::InvalidFilename => Self::failure("this name is too long"),
            Kind::IsADirectory => Self::failure("this is a folder"),
            Kind::UnexpectedEof => DAMAGED,
            _ if error.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) => NO_SUCH_FILE,
            _ => {
                tracing::warn!(%error, "a file operation failed");
                Self::failure("the server failed to do this")
            }
        }
    }
}

impl From<SealError> for Refusal {
    fn from(error: SealError) -> Self {
        tracing::warn!(%error, "sealing or opening failed");
        match error {
            SealError::Limit(_) => Self::failure("this file has been rewritten in too many places; send it anew"),
            SealError::Entropy => Self::failure("the server failed to do this"),
            _ => DAMAGED,
        }
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Seal(error) => error.into(),
            ReadError::Io(error) => error.into(),
        }
    }
}

impl From<PathError> for Refusal {
    fn from(error: PathError) -> Self {
        Self { status: Status::Failure, say: Cow::Owned(error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_and_a_missing_file_look_alike() {
        let missing = Refusal::from(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(Refusal::from(io::Error::from_raw_os_error(nix::errno::Errno::ELOOP as i32)), missing);
        assert_eq!(Refusal::from(io::Error::from_raw_os_error(nix::errno::Errno::EXDEV as i32)), missing);
    }

    #[test]
    fn every_damage_is_one_sentence() {
        for error in [SealError::Damaged, SealError::Length, SealError::NotSealed, SealError::Version] {
            assert_eq!(Refusal::from(error), DAMAGED);
        }
        assert_eq!(Refusal::from(io::Error::from(io::ErrorKind::UnexpectedEof)), DAMAGED);
    }
}
