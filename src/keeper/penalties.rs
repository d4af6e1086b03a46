//! Slowing down who guesses. Wrong passwords and codes are counted by where they come from and by the name they were for, whether
//! or not there is such a user; beyond a few, further ones of that source or that name take turns, each a while after the
//! one before, and who would have to wait long is refused unheard. Keys and certificates are never slowed: nobody
//! guesses those, and so nobody can shut out who holds one by failing in their name.
//!
//! The counts fade by the minute and survive a restart, in `state/penalties`. Sources and names stand there as salted
//! digests: a name that does not exist is often a password in the wrong field.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::clock::Time;
use crate::sys::durable;

/// Wrong ones before anybody is slowed. A name has more: its failures may be somebody else's.
const FREE_OF_SOURCE: u32 = 5;
const FREE_OF_NAME: u32 = 10;

/// The longest between two attempts. Of a source: 60 guesses an hour. Of a name, whose user is held up as well: enough
/// that the strength of any password `sealdrop passwd` takes is beyond reach.
const SPACE_OF_SOURCE: Duration = Duration::from_secs(60);
const SPACE_OF_NAME: Duration = Duration::from_secs(10);

/// Who would have to wait longer is refused at once. Well under the login grace, so that who waits is heard.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// One failure is forgotten in each.
const FADES_IN: Duration = Duration::from_secs(60);

/// Failures that are counted: what a night of guessing costs is over after an hour.
const COUNT_MAX: u32 = 60;

/// Sources and names together: 200 KiB. Beyond it the least are forgotten.
const ENTRIES_MAX: usize = 4096;

const VERSION: u8 = 1;

type Key = [u8; 16];

pub struct Penalties {
    path: PathBuf,
    book: Mutex<Book>,
}

struct Book {
    salt: [u8; 16],
    entries: BTreeMap<Key, Entry>,
    /// Something was counted since it was written.
    changed: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Entry {
    failures: u32,
    /// When `failures` was true.
    as_of: Time,
    /// When the next attempt may be.
    next: Time,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    version: u8,
    salt: [u8; 16],
    entries: Vec<(Key, Entry)>,
}

/// Whether, and when, an attempt is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    After(Duration),
    Refused,
}

impl Penalties {
    /// What cannot be read is begun anew: it makes guessing no easier than on the first day.
    pub fn open(path: &Path) -> io::Result<Self> {
        let read = match fs::read(path) {
            Ok(bytes) => postcard::from_bytes::<Written>(&bytes).ok().filter(|written| written.version == VERSION),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(io::Error::other)?;
        let fresh = Written { version: VERSION, salt, entries: Vec::new() };
        let Written { salt, entries, .. } = read.unwrap_or(fresh);
        let book = Book { salt, entries: entries.into_iter().collect(), changed: false };
        Ok(Self { path: path.to_owned(), book: Mutex::new(book) })
    }

    /// A turn for one password or code, which is taken with this.
    pub fn turn(&self, source: IpAddr, name: &str, now: Time) -> Turn {
        let mut book = self.book();
        let kinds = [
            (book.of_source(source), FREE_OF_SOURCE, SPACE_OF_SOURCE),
            (book.of_name(name), FREE_OF_NAME, SPACE_OF_NAME),
        ];
        let mut at = now;
        for (key, free, most) in kinds {
            let Some(entry) = book.entries.get(&key) else { continue };
            if space(entry.faded(now).failures, free, most).is_some() {
                at = at.max(entry.next);
            }
        }
        let wait = at.since(now);
        if wait > WAIT_MAX {
            return Turn::Refused;
        }
        for (key, free, most) in kinds {
            if let Some(entry) = book.entries.get_mut(&key)
                && let Some(space) = space(entry.faded(now).failures, free, most)
            {
                entry.next = at.plus(space);
                book.changed = true;
            }
        }
        Turn::After(wait)
    }

    /// It was wrong.
    pub fn failed(&self, source: IpAddr, name: &str, now: Time) {
        let mut book = self.book();
        for key in [book.of_source(source), book.of_name(name)] {
            let mut entry =
                book.entries.get(&key).map_or(Entry { failures: 0, as_of: now, next: now }, |entry| entry.faded(now));
            entry.failures = (entry.failures + 1).min(COUNT_MAX);
            book.entries.insert(key, entry);
        }
        book.changed = true;
        if book.entries.len() > ENTRIES_MAX {
            book.forget(now);
        }
    }

    /// Durable, if anything has changed since the last time. A crash forgets what came after that: some seconds of guesses.
    pub fn write(&self, now: Time) -> io::Result<()> {
        let bytes = {
            let mut book = self.book();
            if !std::mem::take(&mut book.changed) {
                return Ok(());
            }
            book.entries.retain(|_, entry| entry.faded(now).failures > 0);
            let entries = book.entries.iter().map(|(key, entry)| (*key, *entry)).collect();
            postcard::to_allocvec(&Written { version: VERSION, salt: book.salt, entries }).map_err(io::Error::other)?
        };
        // A crash in it leaves the older counts, whole.
        durable::replace(&self.path, &bytes)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn key(&self, kind: u8, bytes: &[u8]) -> Key {
        let digest = Sha256::new().chain_update(self.salt).chain_update([kind]).chain_update(bytes).finalize();
        let mut key = Key::default();
        key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        key
    }

    /// Of IPv6 the first 64 bits: one customer's network as a rule.
    fn of_source(&self, address: IpAddr) -> Key {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.key(4, &v4.octets()),
            IpAddr::V6(v6) => self.key(6, v6.octets().get(..8).unwrap_or_default()),
        }
    }

    fn of_name(&self, name: &str) -> Key {
        self.key(1, name.as_bytes())
    }

    /// Keeps the half with the most failures.
    fn forget(&mut self, now: Time) {
        let mut counts: Vec<u32> = self.entries.values().map(|entry| entry.faded(now).failures).collect();
        counts.sort_unstable();
        let least = counts.get(counts.len() / 2).copied().unwrap_or(0);
        self.entries.retain(|_, entry| entry.faded(now).failures > least);
    }
}

impl Entry {
    fn faded(self, now: Time) -> Self {
        let faded = now.since(self.as_of).as_secs() / FADES_IN.as_secs();
        let failures = self.failures.saturating_sub(u32::try_from(faded).unwrap_or(u32::MAX));
        // What has not faded a whole one goes on from when it was counted.
        let as_of = self.as_of.plus(FADES_IN.saturating_mul(u32::try_from(faded).unwrap_or(u32::MAX)));
        Self { failures, as_of: as_of.min(now), next: self.next }
    }
}

/// How long after one attempt the next may be, once there were more failures than are free.
fn space(failures: u32, free: u32, most: Duration) -> Option<Duration> {
    let beyond = failures.checked_sub(free)?;
    Some(Duration::from_secs(1).saturating_mul(1 << beyond.min(16)).min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_795_308_143_000);

    fn penalties() -> (tempfile::TempDir, Penalties) {
        let dir = tempfile::tempdir().unwrap();
        let penalties = Penalties::open(&dir.path().join("penalties")).unwrap();
        (dir, penalties)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Turns that are heard within an hour, one who is refused coming again each second.
    fn heard_in_an_hour(penalties: &Penalties, source: impl Fn(u64) -> IpAddr, name: impl Fn(u64) -> String) -> u32 {
        let mut heard = 0;
        for second in 0..3600 {
            let now = NOW.plus(Duration::from_secs(second));
            if let Turn::After(wait) = penalties.turn(source(second), &name(second), now) {
                heard += 1;
                penalties.failed(source(second), &name(second), now.plus(wait));
            }
        }
        heard
    }

    #[test]
    fn a_few_mistakes_are_free_and_guessing_is_not() {
        let (_dir, penalties) = penalties();
        for _ in 0..FREE_OF_SOURCE {
            assert_eq!(penalties.turn(ip("192.0.2.1"), "acme", NOW), Turn::After(Duration::ZERO));
            penalties.failed(ip("192.0.2.1"), "acme", NOW);
        }
        let heard = heard_in_an_hour(&penalties, |_| ip("192.0.2.1"), |n| format!("name{n}"));
        assert!((30..=90).contains(&heard), "one source is heard {heard} times");
        // Somebody else is not slowed.
        assert_eq!(penalties.turn(ip("192.0.2.2"), "lab", NOW), Turn::After(Duration::ZERO));
    }

    #[test]
    fn a_name_is_slowed_wherever_the_guesses_come_from_and_whether_or_not_it_exists() {
        let (_dir, penalties) = penalties();
        let source = |n: u64| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
        for name in ["acme", "never-was"] {
            let heard = heard_in_an_hour(&penalties, |n| source(n + 7), |_| name.to_owned());
            assert!((200..=500).contains(&heard), "{name} is heard {heard} times");
        }
    }

    #[test]
    fn guesses_at_the_same_time_take_turns() {
        let (_dir, penalties) = penalties();
        for _ in 0..FREE_OF_SOURCE + 2 {
            penalties.failed(ip("2001:db8::1"), "acme", NOW);
        }
        let turns: Vec<Turn> = (0..9).map(|n| penalties.turn(ip(&format!("2001:db8::{n}")), "acme", NOW)).collect();
        let refused = turns.iter().filter(|turn| **turn == Turn::Refused).count();
        assert_eq!(turns[0], Turn::After(Duration::ZERO));
        assert_eq!(turns[1], Turn::After(Duration::from_secs(4)));
        assert!(refused >= 6, "{turns:?}");
    }

    #[test]
    fn a_restart_forgets_nothing_and_time_does() {
        let (dir, penalties) = penalties();
        for _ in 0..COUNT_MAX {
            penalties.failed(ip("192.0.2.1"), "acme", NOW);
        }
        let _ = penalties.turn(ip("192.0.2.1"), "acme", NOW);
        penalties.write(NOW).unwrap();
        let path = dir.path().join("penalties");
        let again = Penalties::open(&path).unwrap();
        assert_eq!(again.turn(ip("192.0.2.1"), "other", NOW), Turn::Refused);
        assert_eq!(
            again.turn(ip("192.0.2.1"), "other", NOW.plus(Duration::from_secs(3700))),
            Turn::After(Duration::ZERO)
        );
        assert!(!fs::read(&path).unwrap().windows(4).any(|window| window == b"acme"));
        fs::write(&path, b"nonsense").unwrap();
        assert_eq!(Penalties::open(&path).unwrap().turn(ip("192.0.2.1"), "other", NOW), Turn::After(Duration::ZERO));
    }

    #[test]
    fn a_flood_of_names_and_sources_takes_no_more_than_its_room() {
        let (_dir, penalties) = penalties();
        for _ in 0..FREE_OF_SOURCE + 3 {
            penalties.failed(ip("192.0.2.1"), "acme", NOW);
        }
        for n in 0..3 * ENTRIES_MAX as u32 {
            penalties.failed(IpAddr::from(n.to_be_bytes()), &format!("name{n}"), NOW);
        }
        assert!(penalties.book().entries.len() <= ENTRIES_MAX);
        assert_eq!(penalties.turn(ip("192.0.2.1"), "x", NOW), Turn::After(Duration::ZERO));
        assert_eq!(penalties.turn(ip("192.0.2.1"), "x", NOW), Turn::After(Duration::from_secs(8)), "it is remembered");
    }
}
