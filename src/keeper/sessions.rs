//! Who is in: the register of admitted sessions, for limits, for withdrawing rights and for the drain at the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::desk::Client;
use crate::ipc::channel::AsyncSocket;
use crate::names::{SessionId, UserName};

/// One admitted session.
#[derive(Clone)]
pub struct Entry {
    pub client: Arc<Client>,
    /// In the gate's numbering.
    pub pid: i32,
    pub socket: Arc<AsyncSocket>,
}

#[derive(Default)]
pub struct Sessions {
    entries: Mutex<BTreeMap<SessionId, Entry>>,
    strangers: AtomicU32,
    /// Told each time somebody leaves.
    left: Notify,
}

impl Sessions {
    pub fn enter(&self, client: &Arc<Client>, pid: i32, socket: Arc<AsyncSocket>) {
        let entry = Entry { client: Arc::clone(client), pid, socket };
        self.entries().insert(client.session, entry);
    }

    pub fn leave(&self, session: SessionId) {
        self.entries().remove(&session);
        self.left.notify_waiters();
    }

    /// How many sessions `user` has.
    pub fn of(&self, user: &UserName) -> usize {
        self.entries().values().filter(|entry| entry.client.user == *user).count()
    }

    pub fn all(&self) -> Vec<Entry> {
        self.entries().values().cloned().collect()
    }

    pub fn count(&self) -> usize {
        self.entries().len()
    }

    pub fn strangers(&self) -> u32 {
        self.strangers.load(Ordering::Relaxed)
    }

    /// Counts a stranger for as long as the answer lives.
    pub fn stranger(self: &Arc<Self>) -> Stranger {
        self.strangers.fetch_add(1, Ordering::Relaxed);
        Stranger(Arc::clone(self))
    }

    /// Returns once nobody is in.
    pub async fn empty(&self) {
        loop {
            let left = self.left.notified();
            if self.count() == 0 {
                return;
            }
            left.await;
        }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, BTreeMap<SessionId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is not admitted yet.
pub struct Stranger(Arc<Sessions>);

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.strangers.fetch_sub(1, Ordering::Relaxed);
    }
}
