//! Which one-time codes were used: of each user the number of the last half minute whose code counted, in a small file
//! of `state/codes/`. A code is marked as used before anybody is let in by it, so that no crash gives it a second life.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::names::UserName;
use crate::sys::durable;

pub struct Codes {
    dir: PathBuf,
    /// What the files say, of users who were asked about.
    last: Mutex<HashMap<UserName, u64>>,
}

impl Codes {
    /// `dir` is made if it is not there: a server that never saw a code has none.
    pub fn open(dir: &Path) -> io::Result<Self> {
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => dir.parent().map_or(Ok(()), durable::sync_dir)?,
        }
        Ok(Self { dir: dir.to_owned(), last: Mutex::default() })
    }

    /// Marks the code of `step` and all before it as used, durably. `false`: it was.
    pub fn use_once(&self, user: &UserName, step: u64) -> io::Result<bool> {
        let mut all = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.dir.join(user.as_str());
        let last = match all.get(user) {
            Some(last) => Some(*last),
            None => read(&path)?,
        };
        if last.is_some_and(|last| step <= last) {
            return Ok(false);
        }
        // A crash before it is durable leaves the code unused and nobody in; after it, used.
        durable::replace(&path, format!("{step}\n").as_bytes())?;
        all.insert(user.clone(), step);
        Ok(true)
    }
}

fn read(path: &Path) -> io::Result<Option<u64>> {
    match fs::read_to_string(path) {
        // One that cannot be read might have said anything: no code counts until it is mended.
        Ok(text) => text.trim_end().parse().map(Some).map_err(|_| io::Error::other("not the number of a half minute")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_counts_once_and_a_restart_does_not_forget_it() {
        let dir = tempfile::tempdir().unwrap();
        let (acme, lab) = ("acme".parse().unwrap(), "lab".parse().unwrap());
        let codes = Codes::open(&dir.path().join("codes")).unwrap();
        assert!(codes.use_once(&acme, 7).unwrap());
        assert!(!codes.use_once(&acme, 7).unwrap());
        assert!(codes.use_once(&lab, 7).unwrap());
        let again = Codes::open(&dir.path().join("codes")).unwrap();
        assert!(!again.use_once(&acme, 7).unwrap());
        assert!(!again.use_once(&acme, 6).unwrap());
        assert!(again.use_once(&acme, 8).unwrap());
    }

    #[test]
    fn a_broken_file_lets_no_code_count() {
        let dir = tempfile::tempdir().unwrap();
        let codes = Codes::open(dir.path()).unwrap();
        fs::write(dir.path().join("acme"), "").unwrap();
        assert!(codes.use_once(&"acme".parse().unwrap(), 7).is_err());
    }
}
