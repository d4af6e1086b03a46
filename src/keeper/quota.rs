//! What a user's limits still leave, counting commits that are under way: the ledger knows only those that have ended,
//! and as many as a user has sessions may be on their way at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::ledger::{Ledger, LedgerError};
use crate::names::UserName;
use crate::policy::{Grant, Reason, Room, Usage};

/// Why there is no room.
pub enum QuotaError {
    Rule(Reason),
    Ledger(LedgerError),
}

/// Of each user with commits under way, what they add up to.
#[derive(Default)]
pub struct Quotas(Mutex<HashMap<UserName, Usage>>);

/// Room for one file, kept for as long as this lives: until the ledger counts it, or it came to nothing.
pub struct Reserved {
    quotas: Arc<Quotas>,
    user: UserName,
    bytes: u64,
}

impl Quotas {
    /// What one more file may have. Reads the ledger: for where blocking is allowed.
    pub fn room(&self, ledger: &Ledger, user: &UserName, grant: &Grant) -> Result<Room, QuotaError> {
        Self::left(&self.pending(), ledger, user, grant)
    }

    /// Keeps room for a file of `bytes`. Blocks as `room` does.
    pub fn reserve(
        self: &Arc<Self>,
        ledger: &Ledger,
        user: &UserName,
        grant: &Grant,
        bytes: u64,
    ) -> Result<Reserved, QuotaError> {
        // The ledger is read under the lock: whoever left the list meanwhile is in what it says.
        let mut pending = self.pending();
        let room = Self::left(&pending, ledger, user, grant)?;
        if bytes > room.bytes {
            return Err(QuotaError::Rule(room.beyond));
        }
        let sum = pending.entry(user.clone()).or_default();
        *sum = Usage { bytes: sum.bytes.saturating_add(bytes), files: sum.files + 1 };
        Ok(Reserved { quotas: Arc::clone(self), user: user.clone(), bytes })
    }

    fn left(
        pending: &HashMap<UserName, Usage>,
        ledger: &Ledger,
        user: &UserName,
        grant: &Grant,
    ) -> Result<Room, QuotaError> {
        let used = ledger.usage(user).map_err(QuotaError::Ledger)?;
        let coming = pending.get(user).copied().unwrap_or_default();
        let bytes = used.bytes.saturating_add(coming.bytes);
        grant.room(Usage { bytes, files: used.files.saturating_add(coming.files) }).map_err(QuotaError::Rule)
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, HashMap<UserName, Usage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut pending = self.quotas.pending();
        if let Some(sum) = pending.get_mut(&self.user) {
            *sum = Usage { bytes: sum.bytes.saturating_sub(self.bytes), files: sum.files.saturating_sub(1) };
            if sum.files == 0 {
                pending.remove(&self.user);
            }
        }
    }
}
