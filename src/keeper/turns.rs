//! Turns: who may change names in a user's tree now. Commits to different paths go on side by side, so that they share one
//! flush of the ledger; two commits to one path, and any rename or removal, wait for each other, so that versions are
//! numbered and the ledger's paths change without a race. As many locks as there are users.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::ledger::origin::SUFFIX;
use crate::names::UserName;
use crate::policy::decide::INBOX;
use crate::vpath::VirtualPath;

/// Enough that a user's parallel transfers rarely meet by chance; meeting costs one wait.
const STRIPES: usize = 32;

#[derive(Default)]
pub struct Turns {
    users: Mutex<HashMap<UserName, Arc<Tree>>>,
    hasher: RandomState,
}

struct Tree {
    names: Arc<RwLock<()>>,
    stripes: [Arc<Turn<()>>; STRIPES],
}

/// The turn to commit to one path.
pub struct CommitTurn {
    _names: OwnedRwLockReadGuard<()>,
    _stripe: OwnedMutexGuard<()>,
}

impl Turns {
    /// `below` is the path below the folder: two folders of a sender meet in the inbox, where that is what is left of it.
    /// A file and the signature beside it wait for each other as well: whichever is second checks the two.
    pub async fn to_commit(&self, user: &UserName, below: &VirtualPath) -> CommitTurn {
        let tree = self.tree(user);
        let mut path = below.as_bytes();
        while let Some(signed) = path.strip_suffix(SUFFIX.as_bytes()) {
            path = signed;
        }
        let stripe = self.hasher.hash_one(path) as usize % STRIPES;
        let names = Arc::clone(&tree.names).read_owned().await;
        let stripe = Arc::clone(&tree.stripes[stripe]).lock_owned().await;
        CommitTurn { _names: names, _stripe: stripe }
    }

    /// The turn to rename or remove what is at `path` in `user`'s view. What lies in an inbox was named by its sender's
    /// commits and follows its sender's renames, so it is the sender's turn that is waited for there.
    pub async fn to_change_at(&self, user: &UserName, path: &VirtualPath) -> OwnedRwLockWriteGuard<()> {
        let sender = inbox_sender(path);
        self.to_change(sender.as_ref().unwrap_or(user)).await
    }

    /// The turn to rename or remove anything that `user` named.
    pub async fn to_change(&self, user: &UserName) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.tree(user).names).write_owned().await
    }

    fn tree(&self, user: &UserName) -> Arc<Tree> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(users.entry(user.clone()).or_insert_with(|| {
            Arc::new(Tree { names: Arc::default(), stripes: std::array::from_fn(|_| Arc::default()) })
        }))
    }
}

/// Whose drops lie at `path`, if that is in an inbox.
fn inbox_sender(path: &VirtualPath) -> Option<UserName> {
    let mut names = path.components();
    let first = names.next()?;
    let sender = names.next()?;
    if first == INBOX.as_bytes() { std::str::from_utf8(sender).ok()?.parse().ok() } else { None }
}
