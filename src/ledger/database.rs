//! One sled database: opened so that a broken one is an answer and not an end, changed in memory first (`unsettled`) and
//! then by one transaction at a time, made durable in the way that sled's own flush is not (sys/durable).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sled::transaction::{ConflictableTransactionResult, TransactionError, TransactionalTree};
use sled::{IVec, Transactional, Tree};

use super::merkle::{Frontier, Hash};
use super::unsettled::Unsettled;
use crate::sys::durable;

/// The tree that every database has, for [`Applied`].
pub const META: usize = 0;
const HEAD_KEY: &[u8] = b"head";
/// Kept free behind the end of sled's file: more than it writes for as much as may wait for a flush (`settler`).
const AHEAD: u64 = 4 << 20;
/// How often the database was opened to be written.
const OPENINGS_KEY: &[u8] = b"openings";

/// How long a lock is waited for. Who waits has the ledger's own lock, or asks for it: what still holds one is a handle
/// on its way out (sled's threads let go late) or a child between its fork and its exec.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What a database holds of the journal. Written in the same transaction as what it speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub ledger: [u8; 16],
    /// Frames applied; the number of the next.
    pub frames: u64,
    /// The hash of the last of them.
    pub hash: Hash,
    /// The log after them.
    pub log: Frontier,
}

pub struct Database {
    pub name: String,
    db: sled::Db,
    /// A descriptor of our own on sled's file, to sync it once more after each flush, and to keep room for the next.
    file: File,
    /// Whether the next flush has its room, whatever else fills the disk: sled does not survive one that has not.
    has_room: AtomicBool,
    trees: Vec<Tree>,
    unsettled: Unsettled,
    /// One at a time.
    writing: Mutex<()>,
}

/// Why a database did not open.
#[derive(Debug)]
pub enum Fault {
    /// Its files cannot be used.
    Broken(String),
    /// The machine's fault: no room, no rights, held by another process.
    Io(io::Error),
}

/// A read or a change that failed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("{database}: {source}")]
    Sled { database: String, source: sled::Error },
    #[error("{database}: {source}")]
    Io { database: String, source: io::Error },
    #[error("{database}: a record of tree `{tree}` cannot be read")]
    Record { database: String, tree: String },
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Changes to be made at once: by tree and key, the new value or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(BTreeMap<(usize, Vec<u8>), Option<Vec<u8>>>);

impl Database {
    /// Opens or makes the database in `path`, and makes its files' existence durable. Its name is the directory's.
    pub fn open(path: &Path, trees: &[&str], cache_bytes: u64) -> Result<Self, Fault> {
        let config = sled::Config::new().path(path).cache_capacity(cache_bytes).flush_every_ms(None);
        remove_unfinished(path).map_err(Fault::Io)?;
        let begun = Instant::now();
        let (db, trees) = loop {
            // sled answers some damage with a panic; the ledger has a better answer.
            let opened = catch_unwind(AssertUnwindSafe(|| -> Result<_, sled::Error> {
                let db = config.open()?;
                let trees = trees.iter().map(|name| db.open_tree(name)).collect::<Result<Vec<_>, _>>()?;
                Ok((db, trees))
            }));
            match opened {
                Ok(Ok(opened)) => break opened,
                Ok(Err(error)) if is_held(&error) && begun.elapsed() < PATIENCE => std::thread::sleep(PATIENCE / 200),
                Ok(Err(error)) => return Err(Fault::of(error)),
                Err(panic) => return Err(Fault::Broken(panic_text(panic.as_ref()))),
            }
        };
        let file = File::options().read(true).write(true).open(path.join("db")).map_err(Fault::Io)?;
        durable::sync_tree(path).map_err(Fault::Io)?;
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let has_room = AtomicBool::new(durable::reserve_beyond(&file, AHEAD).is_ok());
        Ok(Self { name, db, file, has_room, trees, unsettled: Unsettled::default(), writing: Mutex::default() })
    }

    pub fn get(&self, tree: usize, key: &[u8]) -> Result<Option<IVec>, DatabaseError> {
        match self.unsettled.layers().get(tree, key) {
            Some(value) => Ok(value),
            None => self.trees[tree].get(key).map_err(|e| self.failed(e)),
        }
    }

    pub fn get_record<T: DeserializeOwned>(&self, tree: usize, key: &[u8]) -> Result<Option<T>, DatabaseError> {
        self.get(tree, key)?.map(|bytes| self.record(tree, &bytes)).transpose()
    }

    /// A number kept big-endian; 0 if there is none.
    pub fn get_count(&self, tree: usize, key: &[u8]) -> Result<u64, DatabaseError> {
        Ok(count_of(self.get(tree, key)?.as_deref()))
    }

    /// Decodes a record of `tree`.
    pub fn record<T: DeserializeOwned>(&self, tree: usize, bytes: &[u8]) -> Result<T, DatabaseError> {
        postcard::from_bytes(bytes).map_err(|_| self.unreadable(tree))
    }

    pub fn unreadable(&self, tree: usize) -> DatabaseError {
        let tree = String::from_utf8_lossy(&self.trees[tree].name()).into_owned();
        DatabaseError::Record { database: self.name.clone(), tree }
    }

    /// Pairs from `start` (included) on, in the order of their keys.
    pub fn range(&self, tree: usize, start: &[u8]) -> impl Iterator<Item = Result<(IVec, IVec), DatabaseError>> {
        // In this order: what is settled meanwhile is seen twice, and not missed.
        let layers = self.unsettled.layers();
        layers.over(tree, start, self.trees[tree].range(start..).map(|pair| pair.map_err(|e| self.failed(e))))
    }

    /// The value of the last key below `end`.
    pub fn last_before(&self, tree: usize, end: &[u8]) -> Result<Option<IVec>, DatabaseError> {
        let layers = self.unsettled.layers();
        let mut end = IVec::from(end);
        loop {
            let settled = self.trees[tree].range(..&end[..]).next_back().transpose().map_err(|e| self.failed(e))?;
            match layers.last(tree, &end) {
                Some((key, value)) if settled.as_ref().is_none_or(|(below, _)| *below <= key) => match value {
                    Some(value) => return Ok(Some(value)),
                    // Removed: the one before it.
                    None => end = key,
                },
                _ => return Ok(settled.map(|(_, value)| value)),
            }
        }
    }

    pub fn applied(&self) -> Result<Option<Applied>, DatabaseError> {
        self.get_record(META, HEAD_KEY)
    }

    /// Makes all changes at once, for every reader. Durable after [`Database::flush`].
    pub fn apply(&self, changes: &Changes) {
        self.unsettled.apply(changes.0.iter().map(|((tree, key), value)| (*tree, key.as_slice(), value.as_deref())));
    }

    /// What was applied survives a power cut: sled has it, writes its buffers (and syncs, since sys/durable), then the file is
    /// synced once more, as the measurements that lost nothing did.
    pub fn flush(&self) -> Result<(), DatabaseError> {
        self.write()?;
        self.db.flush().map_err(|e| self.failed(e))?;
        self.file.sync_data().map_err(|source| DatabaseError::Io { database: self.name.clone(), source })?;
        self.has_room.store(durable::reserve_beyond(&self.file, AHEAD).is_ok(), Ordering::Relaxed);
        Ok(())
    }

    /// What was applied goes to sled, in one transaction: no longer in memory, and durable no sooner than before.
    pub fn write(&self) -> Result<(), DatabaseError> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let layer = self.unsettled.settle();
        if layer.is_empty() {
            return Ok(());
        }
        let done = self.trees.as_slice().transaction(
            |trees: &Vec<TransactionalTree>| -> ConflictableTransactionResult<(), ()> {
                for (tree, key, value) in layer.changes() {
                    match value {
                        Some(value) => trees[tree].insert(key, value)?,
                        None => trees[tree].remove(key)?,
                    };
                }
                Ok(())
            },
        );
        match done {
            Ok(()) | Err(TransactionError::Abort(())) => {
                self.unsettled.settled();
                Ok(())
            }
            Err(TransactionError::Storage(source)) => Err(self.failed(source)),
        }
    }

    /// Whether a flush may come later: its room is kept. On a file system that keeps none, and on a full one, it is `false`.
    pub fn has_room(&self) -> bool {
        self.has_room.load(Ordering::Relaxed)
    }

    /// Writes a little, flushes it, and reports whether sled's flush came through sys/durable's guard: the proof that
    /// this very build keeps what it acknowledges.
    pub fn flush_is_guarded(&self) -> Result<bool, DatabaseError> {
        let before = durable::guarded_syncs();
        let openings = self.get_count(META, OPENINGS_KEY)?;
        self.trees[META].insert(OPENINGS_KEY, &openings.wrapping_add(1).to_be_bytes()).map_err(|e| self.failed(e))?;
        self.flush()?;
        Ok(durable::guarded_syncs() > before)
    }

    fn failed(&self, source: sled::Error) -> DatabaseError {
        DatabaseError::Sled { database: self.name.clone(), source }
    }
}

fn count_of(value: Option<&[u8]>) -> u64 {
    value.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Removes the snapshots that a crash or a full disk kept sled from finishing. They stand for nothing, but sled takes
/// one for damage and does not open (its issue 1527).
fn remove_unfinished(path: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b"snap.") && name.as_encoded_bytes().ends_with(b".generating") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

impl Fault {
    fn of(error: sled::Error) -> Self {
        let held = is_held(&error);
        match error {
            sled::Error::Io(e) => match e.kind() {
                // sled's own words for damage; `Other` is also its word for a held lock.
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Self::Broken(e.to_string()),
                io::ErrorKind::Other if !held => Self::Broken(e.to_string()),
                _ => Self::Io(e),
            },
            other => Self::Broken(other.to_string()),
        }
    }
}

/// sled has no kind of error of its own for this.
fn is_held(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(e) if e.to_string().contains("could not acquire lock"))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("sled panicked").lines().next().unwrap_or_default().to_owned()
}

impl Changes {
    pub fn put(&mut self, tree: usize, key: Vec<u8>, value: Vec<u8>) {
        self.0.insert((tree, key), Some(value));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// A change nobody planned.
    #[cfg(test)]
    pub fn set(&mut self, tree: usize, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.0.insert((tree, key), value);
    }
}

/// A database with changes that are not made yet in front of it. Batches are tried one by one: what one changed is
/// kept for the next ones to see, or forgotten.
pub struct Plan<'a> {
    db: &'a Database,
    kept: Changes,
    tried: Changes,
}

impl<'a> Plan<'a> {
    pub fn on(db: &'a Database) -> Self {
        Self { db, kept: Changes::default(), tried: Changes::default() }
    }

    pub fn get(&self, tree: usize, key: &[u8]) -> Result<Option<Vec<u8>>, DatabaseError> {
        let key = (tree, key.to_vec());
        match self.tried.0.get(&key).or_else(|| self.kept.0.get(&key)) {
            Some(value) => Ok(value.clone()),
            None => Ok(self.db.get(tree, &key.1)?.map(|value| value.to_vec())),
        }
    }

    pub fn get_record<T: DeserializeOwned>(&self, tree: usize, key: &[u8]) -> Result<Option<T>, DatabaseError> {
        self.get(tree, key)?.map(|bytes| self.db.record(tree, &bytes)).transpose()
    }

    /// A number kept big-endian; 0 if there is none.
    pub fn get_count(&self, tree: usize, key: &[u8]) -> Result<u64, DatabaseError> {
        Ok(count_of(self.get(tree, key)?.as_deref()))
    }

    /// All pairs whose key begins with `prefix`.
    pub fn under(&self, tree: usize, prefix: &[u8]) -> Result<Vec<Pair>, DatabaseError> {
        let mut found = BTreeMap::new();
        for pair in self.db.range(tree, prefix) {
            let (key, value) = pair?;
            if !key.starts_with(prefix) {
                break;
            }
            found.insert(key.to_vec(), Some(value.to_vec()));
        }
        for changes in [&self.kept, &self.tried] {
            let ahead = changes.0.range((tree, prefix.to_vec())..);
            for ((_, key), value) in ahead.take_while(|((t, key), _)| *t == tree && key.starts_with(prefix)) {
                found.insert(key.clone(), value.clone());
            }
        }
        Ok(found.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
    }

    /// The first pair whose key begins with `prefix`.
    pub fn first(&self, tree: usize, prefix: &[u8]) -> Result<Option<Pair>, DatabaseError> {
        let mut ahead = BTreeMap::new();
        for changes in [&self.kept, &self.tried] {
            let changes = changes.0.range((tree, prefix.to_vec())..);
            for ((_, key), value) in changes.take_while(|((t, key), _)| *t == tree && key.starts_with(prefix)) {
                ahead.insert(key.clone(), value.clone());
            }
        }
        for pair in self.db.range(tree, prefix) {
            let (key, value) = pair?;
            if !key.starts_with(prefix) {
                break;
            }
            if !ahead.contains_key(key.as_ref()) {
                ahead.insert(key.to_vec(), Some(value.to_vec()));
                break;
            }
        }
        Ok(ahead.into_iter().find_map(|(key, value)| Some((key, value?))))
    }

    pub fn put(&mut self, tree: usize, key: Vec<u8>, value: Vec<u8>) {
        self.tried.0.insert((tree, key), Some(value));
    }

    pub fn put_record(&mut self, tree: usize, key: Vec<u8>, value: &impl Serialize) -> Result<(), DatabaseError> {
        let bytes = postcard::to_allocvec(value).map_err(|_| self.db.unreadable(tree))?;
        self.put(tree, key, bytes);
        Ok(())
    }

    pub fn remove(&mut self, tree: usize, key: Vec<u8>) {
        self.tried.0.insert((tree, key), None);
    }

    pub fn keep(&mut self) {
        self.kept.0.append(&mut self.tried.0);
    }

    pub fn forget(&mut self) {
        self.tried.0.clear();
    }

    /// All that was kept, and what the database then holds of the journal.
    pub fn finish(mut self, applied: &Applied) -> Result<Changes, DatabaseError> {
        self.forget();
        self.put_record(META, HEAD_KEY.to_vec(), applied)?;
        self.keep();
        Ok(self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(dir: &Path) -> Database {
        Database::open(dir, &["meta", "a"], 1 << 20).unwrap()
    }

    #[test]
    fn a_plan_sees_what_was_kept_and_not_what_was_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let db = database(dir.path());
        let mut plan = Plan::on(&db);
        plan.put(1, b"k1".to_vec(), b"1".to_vec());
        plan.keep();
        plan.put(1, b"k2".to_vec(), b"2".to_vec());
        plan.remove(1, b"k1".to_vec());
        assert_eq!(plan.under(1, b"k").unwrap(), vec![(b"k2".to_vec(), b"2".to_vec())]);
        plan.forget();
        assert_eq!(plan.under(1, b"k").unwrap(), vec![(b"k1".to_vec(), b"1".to_vec())]);
        let applied = Applied { ledger: [1; 16], frames: 3, hash: [2; 32], log: Frontier::empty() };
        db.apply(&plan.finish(&applied).unwrap());
        assert_eq!(db.get(1, b"k1").unwrap().unwrap(), b"1");
        assert_eq!(db.get(1, b"k2").unwrap(), None);
        assert_eq!(db.applied().unwrap(), Some(applied));
    }

    #[test]
    fn sleds_own_flush_ends_in_fdatasync() {
        let dir = tempfile::tempdir().unwrap();
        let db = database(dir.path());
        assert!(db.flush_is_guarded().unwrap());
        assert!(db.flush_is_guarded().unwrap(), "and not the first time only");
    }

    #[test]
    fn a_snapshot_that_was_not_finished_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        drop(database(dir.path()));
        std::fs::write(dir.path().join("snap.0000000001791AA6.generating"), b"").unwrap();
        database(dir.path());
    }

    #[test]
    fn a_database_of_rubbish_is_broken_and_one_that_is_held_is_not() {
        let dir = tempfile::tempdir().unwrap();
        drop(database(dir.path()));
        std::fs::write(dir.path().join("conf"), b"rubbish of more than eight bytes").unwrap();
        assert!(matches!(Database::open(dir.path(), &["meta"], 1 << 20), Err(Fault::Broken(_))));
        let dir = tempfile::tempdir().unwrap();
        let _held = database(dir.path());
        assert!(matches!(Database::open(dir.path(), &["meta"], 1 << 20), Err(Fault::Io(_))));
    }
}
