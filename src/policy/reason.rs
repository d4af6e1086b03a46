//! Why an operation is refused: one fixed sentence for the client, which names nothing the client did not send, and
//! a line for the log. What a user may not know to exist is refused exactly as what does not exist. No I/O here.

use crate::policy::phi::Phi;
use crate::policy::user::{Act, Barred};

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Outside every folder of the user's view, there or not.
    #[error("outside the user's folders")]
    NotThere,
    #[error("the user is no longer in the policy")]
    UserGone,
    #[error("{0}")]
    Barred(Barred),
    #[error("a drop folder is never read back")]
    WriteOnly,
    #[error("the inbox takes nothing from its user")]
    InboxReadOnly,
    #[error("receipts are read-only")]
    ReceiptsReadOnly,
    #[error("the top of the view belongs to the policy")]
    TopFixed,
    #[error("a folder of the policy cannot be removed or renamed")]
    FolderFixed,
    #[error("the folder is already there")]
    FolderThere,
    #[error("a folder, not a file")]
    IsFolder,
    #[error("the file name matches none of `accept`")]
    NotAccepted,
    #[error("the file name matches `refuse` pattern `{0}`")]
    Refused(String),
    #[error("a name looks like patient data (`refuse_phi`: {0}); it is not written down")]
    LooksLike(Phi),
    #[error("the folder's `deny` has \"{0}\"")]
    Denied(Act),
    #[error("a final name, and `finalize = \"rename\"`")]
    RenameOnly,
    #[error("a rename out of its folder")]
    OtherFolder,
    #[error("a folder cannot move into itself")]
    IntoItself,
    #[error("the name is there and `overwrite = \"refuse\"`")]
    Exists,
    #[error("larger than `max_size`")]
    TooLarge,
    #[error("larger than what is left of the user's `limits.bytes`")]
    NoSpaceLeft,
    #[error("the user's `limits.bytes` are used up")]
    BytesUsedUp,
    #[error("the user's `limits.files` are used up")]
    FilesUsedUp,
}

/// The SFTP status a refusal goes out with. `ipc` has its own for the wire; the keeper maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    NoSuchFile,
    PermissionDenied,
    Failure,
    Unsupported,
}

impl Reason {
    /// The sentence for the client.
    pub fn say(&self) -> &'static str {
        match self {
            Self::NotThere => "no such file or folder",
            Self::UserGone | Self::Barred(_) => "access has ended",
            Self::WriteOnly => "this folder takes files and does not give them back",
            Self::InboxReadOnly => "the inbox is filled by the server alone",
            Self::ReceiptsReadOnly => "receipts are read-only",
            Self::TopFixed => "files go into one of the folders listed here",
            Self::FolderFixed => "this folder is set by the server's policy",
            Self::FolderThere => "this folder is already there",
            Self::IsFolder => "this is a folder",
            Self::NotAccepted | Self::Refused(_) => "files of this name are not taken here",
            Self::LooksLike(_) => "names that look like patient data are not taken here",
            Self::Denied(_) => "this folder does not permit that",
            Self::RenameOnly => "send this under a temporary name, such as NAME.part, and rename it",
            Self::OtherFolder => "a file stays in its folder: send it again to the other one",
            Self::IntoItself => "a folder cannot be moved into itself",
            Self::Exists => "a file of this name is already there and may not be replaced",
            Self::TooLarge => "the file is larger than this folder takes",
            Self::NoSpaceLeft => "the file is larger than the space left for your files",
            Self::BytesUsedUp => "the space for your files is used up",
            Self::FilesUsedUp => "the number of your files is at its limit",
        }
    }

    pub fn status(&self) -> Status {
        match self {
            Self::NotThere => Status::NoSuchFile,
            Self::FolderThere
            | Self::IsFolder
            | Self::IntoItself
            | Self::Exists
            | Self::TooLarge
            | Self::NoSpaceLeft
            | Self::BytesUsedUp
            | Self::FilesUsedUp => Status::Failure,
            // OpenSSH's server answers a rename across file systems with FAILURE too; clients then copy.
            Self::OtherFolder => Status::Failure,
            Self::UserGone
            | Self::Barred(_)
            | Self::WriteOnly
            | Self::InboxReadOnly
            | Self::ReceiptsReadOnly
            | Self::TopFixed
            | Self::FolderFixed
            | Self::NotAccepted
            | Self::LooksLike(_)
            | Self::Denied(_)
            | Self::RenameOnly
            | Self::Refused(_) => Status::PermissionDenied,
        }
    }
}
