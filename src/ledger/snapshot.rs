//! Snapshots: what the live database was before a frame, beside the journal, so that the journal can begin there. Made when
//! months are pruned, read when the live database is made anew. The bytes are in docs/ledger.md, "Pruning".

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::database::{Applied, Changes, Database, DatabaseError};
use super::live;
use crate::sys::durable;

const MAGIC: [u8; 8] = *b"SDSNAP\x01\0";

/// No record of the live database comes near it.
const RECORD_MAX: u32 = 64 << 20;

/// Pairs in one transaction when a snapshot is loaded.
const LOAD_STEP: usize = 1000;

/// What a snapshot begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHead {
    /// The state it is: the journal goes on with frame `applied.frames`.
    pub applied: Applied,
    /// The month of that frame.
    pub month: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is damaged")]
    Damaged { path: PathBuf },
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// A whole snapshot on the disk.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub path: PathBuf,
    pub head: SnapshotHead,
}

/// All snapshots beside a journal, the oldest first. Only their heads are read.
pub fn list(journal: &Path) -> Result<Vec<Snapshot>, SnapshotError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| SnapshotError::Io { path, source }
    };
    let mut found = Vec::new();
    let entries = match fs::read_dir(journal) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(at(journal)(e)),
    };
    for entry in entries {
        let path = entry.map_err(at(journal))?.path();
        if path.extension().is_some_and(|ending| ending == "snapshot") {
            let mut reader = Hashed::new(BufReader::new(File::open(&path).map_err(at(&path))?));
            let head = read_head(&mut reader).map_err(|_| SnapshotError::Damaged { path: path.clone() })?;
            found.push(Snapshot { path, head });
        }
    }
    found.sort_by_key(|snapshot| snapshot.head.applied.frames);
    Ok(found)
}

impl Snapshot {
    /// Hands every pair to `take`; its end is checked before this returns without an error.
    pub fn read<E: From<SnapshotError>>(
        &self,
        mut take: impl FnMut(usize, Vec<u8>, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let damaged = || SnapshotError::Damaged { path: self.path.clone() };
        let file = File::open(&self.path);
        let file = file.map_err(|source| SnapshotError::Io { path: self.path.clone(), source })?;
        let mut reader = Hashed::new(BufReader::new(file));
        read_head(&mut reader).map_err(|_| damaged())?;
        loop {
            let mut tree = [0];
            reader.read_exact(&mut tree).map_err(|_| damaged())?;
            let tree = usize::from(tree[0]);
            // No tree: the end, and the hash of all before it.
            if tree == usize::from(u8::MAX) {
                break;
            }
            if tree >= live::TREES.len() {
                return Err(damaged().into());
            }
            let key = reader.record().map_err(|_| damaged())?;
            let value = reader.record().map_err(|_| damaged())?;
            take(tree, key, value)?;
        }
        let expected: [u8; 32] = reader.hash.clone().finalize().into();
        let mut hash = [0; 32];
        reader.inner.read_exact(&mut hash).map_err(|_| damaged())?;
        if hash == expected { Ok(()) } else { Err(damaged().into()) }
    }

    /// Whether every byte is as it was written.
    pub fn check(&self) -> Result<(), SnapshotError> {
        self.read(|_, _, _| Ok(()))
    }

    /// Fills a database. Done again after a crash in its middle: what is there is written over.
    pub fn load(&self, database: &Database) -> Result<Applied, SnapshotError> {
        // Nothing of a damaged one is believed.
        self.check()?;
        let mut step = Changes::default();
        self.read(|tree, key, value| {
            step.put(tree, key, value);
            if step.len() < LOAD_STEP {
                return Ok(());
            }
            database.apply(&std::mem::take(&mut step));
            database.write().map_err(SnapshotError::from)
        })?;
        database.apply(&step);
        database.write()?;
        Ok(self.head.applied.clone())
    }
}

/// Writes a snapshot of `database` next to the journal: durable, whole under its name or not there.
pub fn write(
    journal: &Path,
    head: &SnapshotHead,
    database: &Database,
    mut keeps: impl FnMut(usize, &[u8], &[u8]) -> Result<bool, DatabaseError>,
) -> Result<Snapshot, SnapshotError> {
    let path = journal.join(format!("{:016x}-{:06}.snapshot", head.applied.frames, head.month));
    let failed = |source| SnapshotError::Io { path: path.clone(), source };
    let passing = path.with_extension("snapshot-new");
    let file = File::options().write(true).create(true).truncate(true).open(&passing).map_err(failed)?;
    let mut writer = Hashed::new(BufWriter::new(file));
    let bytes = postcard::to_allocvec(head).map_err(|e| failed(io::Error::other(e)))?;
    writer.put(&MAGIC).and_then(|()| writer.put_record(&bytes)).map_err(failed)?;
    for tree in 0..live::TREES.len() {
        for pair in database.range(tree, &[]) {
            let (key, value) = pair?;
            if keeps(tree, &key, &value)? {
                let number = [u8::try_from(tree).unwrap_or(u8::MAX)];
                writer.put(&number).map_err(failed)?;
                writer.put_record(&key).and_then(|()| writer.put_record(&value)).map_err(failed)?;
            }
        }
    }
    writer.put(&[u8::MAX]).map_err(failed)?;
    let hash = writer.hash.clone().finalize();
    let mut file = writer.inner;
    file.write_all(&hash).map_err(failed)?;
    file.into_inner().map_err(|e| failed(e.into_error()))?.sync_all().map_err(failed)?;
    fs::rename(&passing, &path).map_err(failed)?;
    durable::sync_dir(journal).map_err(failed)?;
    Ok(Snapshot { path, head: head.clone() })
}

fn read_head<R: Read>(reader: &mut Hashed<R>) -> io::Result<SnapshotHead> {
    let mut magic = [0; 8];
    reader.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    postcard::from_bytes(&reader.record()?).map_err(io::Error::other)
}

/// Hashes what passes.
struct Hashed<T> {
    inner: T,
    hash: Sha256,
}

impl<T> Hashed<T> {
    fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new() }
    }
}

impl<R: Read> Hashed<R> {
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(buffer)?;
        self.hash.update(&*buffer);
        Ok(())
    }

    fn record(&mut self) -> io::Result<Vec<u8>> {
        let mut len = [0; 4];
        self.read_exact(&mut len)?;
        let len = u32::from_be_bytes(len);
        if len > RECORD_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // Not taken at its word: a length that lies ends at the end of the file, not in memory.
        let mut bytes = Vec::new();
        (&mut self.inner).take(u64::from(len)).read_to_end(&mut bytes)?;
        self.hash.update(&bytes);
        if bytes.len() == len as usize { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl<W: Write> Hashed<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.inner.write_all(bytes)
    }

    fn put_record(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.put(&len.to_be_bytes())?;
        self.put(bytes)
    }
}
