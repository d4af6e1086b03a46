//! What a permission says: who, by which rule, where, and how much. Only policy can make a [`Grant`]; the keeper's
//! functions that act take one as an argument. No I/O here.

use std::sync::Arc;

use crate::policy::reason::Reason;
use crate::policy::units::ByteSize;
use crate::policy::user::{Folder, Overwrite, User};
use crate::vpath::VirtualPath;

/// Permission for one operation, held by value.
#[derive(Debug)]
pub struct Grant {
    pub(super) user: Arc<User>,
    pub(super) rule: &'static str,
    pub(super) place: Place,
    pub(super) temporary: bool,
    pub(super) target: Option<Target>,
}

/// The other end of a granted rename.
#[derive(Debug)]
pub struct Target {
    pub place: Place,
    pub temporary: bool,
}

/// Where in a user's view a path lies. `below` is the rest of the path, `/` for the place itself.
#[derive(Clone, Debug)]
pub enum Place {
    /// `/`, or a directory that exists only because a folder lies deeper.
    Root,
    Folder {
        folder: Arc<Folder>,
        below: VirtualPath,
    },
    Inbox {
        below: VirtualPath,
    },
    Receipts {
        below: VirtualPath,
    },
}

/// What a user has live in all folders, as the ledger counts it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub bytes: u64,
    pub files: u64,
}

/// How large an upload may be, and which limit says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    pub bytes: u64,
    /// Why a byte more is refused.
    pub beyond: Reason,
}

impl Grant {
    pub(super) fn new(user: &Arc<User>, rule: &'static str, place: Place) -> Self {
        Self { user: user.clone(), rule, place, temporary: false, target: None }
    }

    pub fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// Which rule permitted it, in words.
    pub fn rule(&self) -> &str {
        self.rule
    }

    /// Where the path is; of a rename, the old one.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Of a rename: where it goes.
    pub fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    pub fn folder(&self) -> Option<&Arc<Folder>> {
        match &self.place {
            Place::Folder { folder, .. } => Some(folder),
            Place::Root | Place::Inbox { .. } | Place::Receipts { .. } => None,
        }
    }

    /// Of an upload: the name is a temp name, CLOSE parks. Of a rename: the old name was one.
    pub fn temporary(&self) -> bool {
        self.temporary
    }

    /// Whether an upload or a rename to a final name may take the place of a file that is there.
    pub fn may_replace(&self) -> Result<(), Reason> {
        match self.folder() {
            Some(folder) if folder.overwrite == Overwrite::Refuse => Err(Reason::Exists),
            _ => Ok(()),
        }
    }

    /// How many bytes this upload may have: the least of the folder's `max_size` and what is left to the user after
    /// `used`.
    pub fn room(&self, used: Usage) -> Result<Room, Reason> {
        let limits = &self.user.limits;
        if limits.files.is_some_and(|most| used.files >= most) {
            return Err(Reason::FilesUsedUp);
        }
        let left = match limits.bytes {
            Some(ByteSize(most)) if used.bytes >= most => return Err(Reason::BytesUsedUp),
            Some(ByteSize(most)) => most - used.bytes,
            None => u64::MAX,
        };
        let folder_max = self.folder().and_then(|folder| folder.max_size).map_or(u64::MAX, |size| size.0);
        let beyond = if left < folder_max { Reason::NoSpaceLeft } else { Reason::TooLarge };
        Ok(Room { bytes: left.min(folder_max), beyond })
    }
}
