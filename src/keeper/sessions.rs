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
struct Register {
    entries: BTreeMap<SessionId, Entry>,
    /// Users on their way in: their login is being recorded. One entry for each session.
    coming: Vec<UserName>,
}

#[derive(Default)]
pub struct Sessions {
    register: Mutex<Register>,
    strangers: AtomicU32,
    /// Told each time somebody leaves.
    left: Notify,
}

impl Sessions {
    pub fn enter(&self, client: &Arc<Client>, pid: i32, socket: Arc<AsyncSocket>) {
        let entry = Entry { client: Arc::clone(client), pid, socket };
        self.register().entries.insert(client.session, entry);
    }

    pub fn leave(&self, session: SessionId) {
        self.register().entries.remove(&session);
        self.left.notify_waiters();
    }

    /// Keeps a place for one more session of `user`, if that makes no more than `most`. Those on their way in count.
    pub fn place(self: &Arc<Self>, user: &UserName, most: Option<u32>) -> Option<Place> {
        let mut register = self.register();
        let present = register.entries.values().filter(|entry| entry.client.user == *user).count();
        let coming = register.coming.iter().filter(|name| *name == user).count();
        if most.is_some_and(|most| present + coming >= most as usize) {
            return None;
        }
        register.coming.push(user.clone());
        Some(Place { sessions: Arc::clone(self), user: user.clone() })
    }

    pub fn all(&self) -> Vec<Entry> {
        self.register().entries.values().cloned().collect()
    }

    pub fn count(&self) -> usize {
        self.register().entries.len()
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

    fn register(&self) -> std::sync::MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A user's place among the sessions, until the session itself is entered.
pub struct Place {
    sessions: Arc<Sessions>,
    user: UserName,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut register = self.sessions.register();
        if let Some(at) = register.coming.iter().position(|name| *name == self.user) {
            register.coming.swap_remove(at);
        }
    }
}

/// A connection that is not admitted yet.
pub struct Stranger(Arc<Sessions>);

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.strangers.fetch_sub(1, Ordering::Relaxed);
    }
}
