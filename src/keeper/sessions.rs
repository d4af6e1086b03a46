//! Who is in: the register of admitted sessions, for limits, for withdrawing rights and for the drain at the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::desk::Client;
use super::overview::rate;
use crate::clock::{self, Time};
use crate::ipc::channel::AsyncSocket;
use crate::ipc::jail::ToKeeper;
use crate::names::{SessionId, UserName};
use crate::vpath::VirtualPath;

/// One admitted session.
#[derive(Clone)]
pub struct Entry {
    pub client: Arc<Client>,
    /// In the gate's numbering.
    pub pid: i32,
    pub socket: Arc<AsyncSocket>,
}

/// A session tells of its bytes so often, while they grow (docs/ipc.md, `Moved`).
const SAID_EVERY: Duration = Duration::from_secs(5);

/// What a session does, for who looks: what it last said of its bytes, and what it last asked.
#[derive(Default)]
pub struct Activity {
    sent: AtomicU64,
    received: AtomicU64,
    last: Mutex<Option<(&'static str, Option<VirtualPath>, Time)>>,
    /// Bytes a second sent and received between its last two words about them, and when the last was.
    rates: Mutex<Option<(u64, u64, Instant)>>,
    uploads: AtomicU32,
}

impl Activity {
    pub fn moved(&self, sent: u64, received: u64) {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let passed = rates.map_or(SAID_EVERY, |(_, _, at)| now.duration_since(at).min(SAID_EVERY * 2));
        let (before, after) = (self.totals(), (sent, received));
        *rates = Some((rate(before.0, after.0, passed), rate(before.1, after.1, passed), now));
        drop(rates);
        self.sent.store(sent, Ordering::Relaxed);
        self.received.store(received, Ordering::Relaxed);
    }

    pub fn asked(&self, request: &ToKeeper, path: Option<&VirtualPath>) {
        let verb = match request {
            ToKeeper::Stage { .. } => "uploads",
            ToKeeper::Commit(_) => "has sent",
            ToKeeper::Park { .. } | ToKeeper::Discard { .. } => "has left off",
            ToKeeper::Open { .. } => "downloads",
            ToKeeper::Pulled { .. } => "has read",
            ToKeeper::List { .. } | ToKeeper::Receipts { .. } => "lists",
            ToKeeper::MakeFolder { .. } => "makes",
            ToKeeper::RemoveFolder { .. } | ToKeeper::Remove { .. } => "removes",
            ToKeeper::Rename { .. } => "renames",
            ToKeeper::Receipt { .. }
            | ToKeeper::Paper { .. }
            | ToKeeper::Rejected { .. }
            | ToKeeper::Certificate { .. } => "reads",
            ToKeeper::SetTimes { .. }
            | ToKeeper::Corrupt { .. }
            | ToKeeper::Digests { .. }
            | ToKeeper::DropStatus { .. }
            | ToKeeper::Space { .. } => "asks about",
            ToKeeper::RenewJournal { .. }
            | ToKeeper::Refused { .. }
            | ToKeeper::Moved { .. }
            | ToKeeper::Bye { .. } => return,
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((verb, path.cloned(), clock::now()));
    }

    /// Bytes a second, sent and received. A session that has said nothing for a while moves nothing.
    pub fn rates(&self) -> (u64, u64) {
        let rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.filter(|(_, _, at)| at.elapsed() < SAID_EVERY * 2).map_or((0, 0), |(sent, received, _)| (sent, received))
    }

    pub fn upload_begun(&self) {
        self.uploads.fetch_add(1, Ordering::Relaxed);
    }

    pub fn upload_ended(&self) {
        // One that was never granted can be discarded as well.
        let _ = self.uploads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    }

    /// Uploads that are under way.
    pub fn uploads(&self) -> u32 {
        self.uploads.load(Ordering::Relaxed)
    }

    /// Bytes sent and received.
    pub fn totals(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }

    /// In words, and since when.
    pub fn last(&self) -> Option<(String, Time)> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (verb, path, at) = last.as_ref()?;
        Some((path.as_ref().map_or_else(|| (*verb).to_owned(), |path| format!("{verb} {path}")), *at))
    }
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

/// Whether one more stranger is turned away, where there are so many and `most` may be. From half of that on by chance, first
/// three of ten and more the fuller it is: who floods the door is then met more often than who comes once and tries
/// again. `draw` is any byte.
pub fn turns_away(strangers: u32, most: u32, draw: u8) -> bool {
    let begin = (most / 2).max(FEW).min(most);
    if strangers < begin {
        return false;
    }
    if strangers >= most {
        return true;
    }
    let fullness = f64::from(strangers - begin) / f64::from(most - begin);
    f64::from(draw) < 256.0 * (0.3 + 0.7 * fullness)
}

/// So few strangers are no flood.
const FEW: u32 = 10;

/// A connection that is not admitted yet.
pub struct Stranger(Arc<Sessions>);

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.strangers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuller_the_door_the_fewer_come_through() {
        let turned = |strangers| (0..=255).filter(|draw| turns_away(strangers, 128, *draw)).count();
        assert_eq!(turned(63), 0);
        assert_eq!(turned(64), 77, "three of ten");
        assert_eq!(turned(128), 256);
        assert!((64..=128).is_sorted_by_key(turned));
        // Of a small number each has its place.
        assert!((0..10).all(|strangers| !turns_away(strangers, 10, 0)));
        assert!(turns_away(1, 1, 255));
    }
}
