//! What a witness must not forget: its key, and of each log the last checkpoint that it signed. A checkpoint is written
//! beside, synced, renamed and the directory synced before the signature over it leaves: whatever crash comes, nothing is
//! signed that contradicts what was signed before.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use russh::keys::PrivateKey;
use russh::keys::ssh_key::{self, Algorithm, LineEnding};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::clock::Time;
use crate::ledger::checkpoint::Claim;
use crate::ledger::note::{Note, NoteKey, NoteKind, NoteSignature};
use crate::ledger::store::Head;
use crate::names::hex;
use crate::sys::durable;
use crate::sys::files::Lock;

#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("another witness is using {0}")]
    InUse(PathBuf),
    #[error("{path} cannot be used: {why}")]
    Key { path: PathBuf, why: String },
    #[error("`{0}` cannot be a witness's name: no blanks and no `+`")]
    Name(String),
    /// A witness that signed on would contradict itself.
    #[error("{0} cannot be read; what was signed last is not known, and nothing more is signed for this log")]
    Damaged(PathBuf),
}

pub struct Memory {
    dir: PathBuf,
    private: PrivateKey,
    key: NoteKey,
    /// One request is decided at a time.
    turn: Mutex<()>,
    _lock: Lock,
}

/// One log's memory, held while a request is answered.
pub struct LogMemory<'a> {
    path: PathBuf,
    last: Option<Head>,
    _turn: MutexGuard<'a, ()>,
}

impl Memory {
    /// Opens the memory in `dir`, makes it with a fresh key if there is none.
    pub fn open(dir: &Path, name: &str) -> Result<Self, MemoryError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| MemoryError::File { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
        let logs = dir.join("logs");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&logs).map_err(at(&logs))?;
        let path = dir.join("lock");
        let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = file.and_then(Lock::take).map_err(at(&path))?;
        let lock = lock.ok_or_else(|| MemoryError::InUse(dir.to_owned()))?;
        let path = dir.join("key");
        let failed = |path: &Path, e: ssh_key::Error| MemoryError::Key { path: path.to_owned(), why: e.to_string() };
        if !path.exists() {
            let mut rng = ssh_key::rand_core::UnwrapErr(getrandom::SysRng);
            let mut fresh = PrivateKey::random(&mut rng, Algorithm::Ed25519).map_err(|e| failed(&path, e))?;
            fresh.set_comment(format!("sealdrop witness {name}"));
            let text = fresh.to_openssh(LineEnding::LF).map_err(|e| failed(&path, e))?;
            durable::replace(&path, text.as_bytes()).map_err(at(&path))?;
        }
        let text = Zeroizing::new(fs::read_to_string(&path).map_err(at(&path))?);
        let private = PrivateKey::from_openssh(text.as_str()).map_err(|e| failed(&path, e))?;
        let key = NoteKey::of(name, NoteKind::Witness, private.public_key())
            .ok_or_else(|| MemoryError::Name(name.to_owned()))?;
        durable::sync_dir(dir).map_err(at(dir))?;
        Ok(Self { dir: dir.to_owned(), private, key, turn: Mutex::default(), _lock: lock })
    }

    /// What others verify its signatures with.
    pub fn key(&self) -> &NoteKey {
        &self.key
    }

    pub fn sign(&self, text: &str, now: Time) -> Option<NoteSignature> {
        self.key.sign(&self.private, text, now)
    }

    /// What was signed last of a log. Nobody else is answered while this is held.
    pub fn log(&self, origin: &str) -> Result<LogMemory<'_>, MemoryError> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // A log's name may be long and have slashes.
        let path = self.dir.join("logs").join(hex(&Sha256::digest(origin)));
        let last = match fs::read_to_string(&path) {
            Ok(text) => {
                let claim = Note::parse(&text).ok().and_then(|note| Claim::of_note(&note));
                let claim = claim.filter(|claim| claim.origin == origin);
                Some(claim.ok_or_else(|| MemoryError::Damaged(path.clone()))?.head)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(MemoryError::File { path, source }),
        };
        Ok(LogMemory { path, last, _turn: turn })
    }
}

impl LogMemory<'_> {
    pub fn last(&self) -> Option<Head> {
        self.last
    }

    /// Durable when it returns.
    pub fn remember(&mut self, checkpoint: &str, head: Head) -> Result<(), MemoryError> {
        durable::replace(&self.path, checkpoint.as_bytes())
            .map_err(|source| MemoryError::File { path: self.path.clone(), source })?;
        self.last = Some(head);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_memory_signs_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::open(dir.path(), "witness.example").unwrap();
        let path = memory.log("a/audit").unwrap().path.clone();
        fs::write(&path, "half a checkp").unwrap();
        assert!(matches!(memory.log("a/audit"), Err(MemoryError::Damaged(_))));
        assert!(memory.log("b/audit").unwrap().last().is_none());
        let again = Memory::open(dir.path(), "witness.example");
        assert!(matches!(again, Err(MemoryError::InUse(_))));
        let key = memory.key().clone();
        drop(memory);
        assert_eq!(*Memory::open(dir.path(), "witness.example").unwrap().key(), key, "the key stays");
    }
}
