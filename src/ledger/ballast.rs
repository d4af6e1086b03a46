//! Ballast: a file that is good for nothing but its room. sled cannot even open on a full disk, so some of the disk is
//! kept aside: given up when the disk is full, so that the ledger opens and what frees room can still be recorded, and
//! taken again afterwards.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::durable;

#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    pub fn in_dir(dir: &Path, bytes: u64) -> Self {
        Self { path: dir.join("ballast"), bytes }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn is_held(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|meta| meta.len() == self.bytes)
    }

    /// Takes the room, if it is not held. Without room for all of it nothing is taken.
    pub fn take(&self) -> io::Result<()> {
        if self.bytes == 0 || self.is_held() {
            return Ok(());
        }
        let file = File::create(&self.path)?;
        let taken = durable::reserve(&file, 0, self.bytes).and_then(|()| file.sync_all());
        if taken.is_err() {
            fs::remove_file(&self.path)?;
        }
        taken
    }

    pub fn release(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Ok(()) => self.path.parent().map_or(Ok(()), durable::sync_dir),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ballast_is_taken_whole_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::in_dir(dir.path(), 1 << 20);
        assert!(!ballast.is_held());
        ballast.take().unwrap();
        ballast.take().unwrap();
        assert!(ballast.is_held());
        ballast.release().unwrap();
        ballast.release().unwrap();
        assert!(!ballast.is_held());
    }
}
