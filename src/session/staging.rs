//! `.staging`: the one directory a session may write in. Each upload in progress is two files there, named after a
//! digest of the path it goes to: `.part`, the sealed bytes so far, and `.jrn`, the sealed journal that resuming needs.
//! Whoever works on a `.part` holds its lock, so two sessions never write one upload.
//!
//! The journal file begins with the plaintext length it stands for, in clear, so that STAT can answer it without a key, and
//! with whether the upload is complete and waits to be delivered, and the bucket of its key. They come and go with the journal in one rename: what
//! STAT says and where an upload is continued are one value.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::reply::{BUSY, Outcome};
use super::upload::SessionCount;
use crate::seal::{CHUNK, ENVELOPE_LEN, HEAD_LEN, HEADER_LEN, Head, RECORD_LEN};
use crate::sys::files::{self, Mode, OFlag};
use crate::vpath::VirtualPath;

/// The directory's name at the root of a user's tree; never visible to a client.
pub const STAGING: &str = ".staging";

/// The plaintext length before the journal, big-endian.
const LENGTH_LEN: usize = 8;

/// The same and the byte after it: 1 for an upload that waits, 0 for any other.
const CLEAR_LEN: usize = LENGTH_LEN + 1;

/// More than a journal with a full tail and a full list of rewritten records has.
const JOURNAL_MAX: u64 = 1 << 20;

/// Owner only. The keeper takes the file over at commit and sets what it shall have from then on.
const PART_MODE: Mode = Mode::from_bits_truncate(0o600);

pub struct Staging {
    dir: OwnedFd,
    waiting: SessionCount,
}

/// A `.part` that is ours alone while this lives.
pub struct Part {
    stem: String,
    waiting: SessionCount,
    /// Read-only, and holding the lock; this one goes to the keeper.
    reader: File,
    writer: Option<File>,
}

impl Staging {
    pub fn new(dir: OwnedFd) -> Self {
        Self { dir, waiting: SessionCount::default() }
    }

    /// A fresh `.part` for `path`; one that was there must have been removed before.
    pub fn create(&self, path: &VirtualPath) -> Outcome<Part> {
        let stem = path.staging_stem();
        let name = format!("{stem}.part");
        // A crash between two renames may have left a journal alone; it must not speak for this upload.
        self.remove_file(&format!("{stem}.jrn"))?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        let writer = File::from(files::open_beneath(self.dir.as_fd(), Path::new(&name), flags, PART_MODE)?);
        let reader = self.open_file(&name, OFlag::O_RDONLY)?;
        if !files::lock_exclusive(reader.as_fd())? {
            return Err(BUSY);
        }
        Ok(Part { stem, waiting: self.waiting.clone(), reader, writer: Some(writer) })
    }

    /// The `.part` of an upload to `path` that has not ended, if there is one; `BUSY` if another works on it.
    pub fn open(&self, path: &VirtualPath) -> Outcome<Option<Part>> {
        let stem = path.staging_stem();
        let name = format!("{stem}.part");
        let reader = match self.open_file(&name, OFlag::O_RDONLY) {
            Ok(reader) => reader,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if !files::lock_exclusive(reader.as_fd())? {
            return Err(BUSY);
        }
        // Another session may have ended this upload while we waited for nothing: the name must still be this file.
        let now = self.open_file(&name, OFlag::O_RDWR);
        match now {
            Ok(writer) if files::facts(writer.as_fd())?.inode == files::facts(reader.as_fd())?.inode => {
                Ok(Some(Part { stem, waiting: self.waiting.clone(), reader, writer: Some(writer) }))
            }
            Ok(_) => Err(BUSY),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The plaintext length from which an upload to `path` can be continued. `None`: there is nothing to continue, and
    /// a client that opens it begins anew.
    pub fn size(&self, path: &VirtualPath) -> Option<u64> {
        let stem = path.staging_stem();
        let journal = self.open_file(&format!("{stem}.jrn"), OFlag::O_RDONLY).ok()?;
        let mut length = [0; LENGTH_LEN];
        journal.read_exact_at(&mut length, 0).ok()?;
        let length = u64::from_be_bytes(length);
        let held = files::facts_at(self.dir.as_fd(), format!("{stem}.part").as_ref()).ok()?.size;
        // Shorter than the journal counts, as after a power cut: the upload continues where the file ends.
        let full = held.checked_sub(HEADER_LEN as u64)? / RECORD_LEN as u64;
        Some(if full < length / CHUNK as u64 { full * CHUNK as u64 } else { length })
    }

    /// Whether the upload to `path` is complete and waits to be delivered: to its client it is a file like any other. The
    /// keeper's note decides; a crash may leave this word without the note, for an upload that can be continued.
    pub fn is_waiting(&self, path: &VirtualPath) -> bool {
        let mut clear = [0; CLEAR_LEN];
        let journal = self.open_file(&format!("{}.jrn", path.staging_stem()), OFlag::O_RDONLY);
        journal.is_ok_and(|journal| journal.read_exact_at(&mut clear, 0).is_ok())
            && clear[LENGTH_LEN] == 1
            && self.size(path).is_some()
    }

    /// Puts a finished upload by, at the place of `path`, with the journal that lets it be continued at its end. The keeper
    /// has its note already: a crash before this loses nothing, and STAT shows the older journal's length meanwhile.
    pub fn put_by(&self, mut part: Part, path: &VirtualPath, size: u64, journal: &[u8]) -> io::Result<()> {
        if part.stem != path.staging_stem() {
            self.rename(&mut part, path)?;
        }
        self.put_journal(&part.stem, &[&size.to_be_bytes()[..], &[1], journal].concat(), true)
    }

    /// Replaces the journal, which stands for `length` bytes. A crash before the rename leaves the older journal, which
    /// counts records that are all still there; after it, the newer one.
    pub fn write_journal(&self, part: &Part, length: u64, journal: &[u8], durable: bool) -> io::Result<()> {
        self.put_journal(&part.stem, &[&length.to_be_bytes()[..], &[0], journal].concat(), durable)
    }

    fn put_journal(&self, stem: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        let (fresh, name) = (format!("{stem}.tmp"), format!("{stem}.jrn"));
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
        let file = File::from(files::open_beneath(self.dir.as_fd(), Path::new(&fresh), flags, PART_MODE)?);
        file.write_all_at(bytes, 0)?;
        // Also if the name need not be durable: it takes the place of a journal that may be, and must not be less.
        files::sync_data(file.as_fd())?;
        files::rename(self.dir.as_fd(), fresh.as_ref(), self.dir.as_fd(), name.as_ref(), true)?;
        if durable {
            files::sync(self.dir.as_fd())?;
        }
        Ok(())
    }

    /// The bucket that the journal's key is of: what to ask with when the upload is continued.
    pub fn journal_bucket(&self, part: &Part) -> io::Result<u64> {
        let mut bucket = [0; 8];
        self.open_file(&format!("{}.jrn", part.stem), OFlag::O_RDONLY)?.read_exact_at(&mut bucket, CLEAR_LEN as u64)?;
        Ok(u64::from_be_bytes(bucket))
    }

    /// With the number of its bucket before it, as it was given.
    pub fn read_journal(&self, part: &Part) -> io::Result<Vec<u8>> {
        self.read_from(part, CLEAR_LEN as u64)
    }

    fn read_from(&self, part: &Part, offset: u64) -> io::Result<Vec<u8>> {
        let file = self.open_file(&format!("{}.jrn", part.stem), OFlag::O_RDONLY)?;
        let len = files::facts(file.as_fd())?.size.saturating_sub(offset).min(JOURNAL_MAX);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Gives a parked upload the place of another path. A crash at any step leaves the `.part` with its journal beside
    /// it, under the one stem or the other: without its journal nobody could go on with it. A journal without a `.part`
    /// that is left at the other is removed by the next upload there.
    pub fn rename(&self, part: &mut Part, to: &VirtualPath) -> io::Result<()> {
        let (stem, dir) = (to.staging_stem(), self.dir.as_fd());
        if stem == part.stem {
            return Ok(());
        }
        self.put_journal(&stem, &self.read_from(part, 0)?, true)?;
        files::rename(dir, format!("{}.part", part.stem).as_ref(), dir, format!("{stem}.part").as_ref(), true)?;
        files::sync(dir)?;
        self.remove_file(&format!("{}.jrn", part.stem))?;
        part.stem = stem;
        Ok(())
    }

    /// Removes both files of an upload that has ended. What is not there is gone already.
    pub fn remove(&self, part: Part) -> io::Result<()> {
        self.remove_file(&format!("{}.jrn", part.stem))?;
        self.remove_file(&format!("{}.part", part.stem))
    }

    fn remove_file(&self, name: &str) -> io::Result<()> {
        match files::remove_file(self.dir.as_fd(), name.as_ref()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn open_file(&self, name: &str, flags: OFlag) -> io::Result<File> {
        files::open_beneath(self.dir.as_fd(), Path::new(name), flags | OFlag::O_NOFOLLOW, Mode::empty()).map(File::from)
    }
}

impl Part {
    /// What waits for its turn in all uploads of this session.
    pub fn session_count(&self) -> SessionCount {
        self.waiting.clone()
    }

    /// The head, if the upload got as far as writing one.
    pub fn head(&self) -> Option<Head> {
        let mut bytes = [0; HEAD_LEN];
        self.reader.read_exact_at(&mut bytes, 0).ok()?;
        Head::parse(&bytes).ok()
    }

    pub fn len(&self) -> io::Result<u64> {
        files::facts(self.reader.as_fd()).map(|facts| facts.size)
    }

    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.writer()?.write_all_at(bytes, offset)
    }

    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.writer()?.set_len(len)
    }

    /// Bytes and length survive a power cut when this returns.
    pub fn sync(&self) -> io::Result<()> {
        files::sync_data(self.reader.as_fd())
    }

    /// Lets the disk begin with what was written from there on; a disk that cannot is no error.
    pub fn write_ahead_from(&self, from: u64) {
        let _ = files::write_ahead_from(self.reader.as_fd(), from);
    }

    /// The envelope area is the keeper's, and zero until it writes there. It did if its commit was cut short by a crash.
    pub fn wipe_envelope(&self) -> io::Result<()> {
        let mut envelope = [0; ENVELOPE_LEN];
        self.reader.read_exact_at(&mut envelope, HEAD_LEN as u64)?;
        if envelope.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        self.write_all_at(&[0; ENVELOPE_LEN], HEAD_LEN as u64)
    }

    /// No more writing: what the keeper wants before it takes the file.
    pub fn close_writer(&mut self) {
        self.writer = None;
    }

    pub fn reader(&self) -> &File {
        &self.reader
    }

    fn writer(&self) -> io::Result<&File> {
        self.writer.as_ref().ok_or_else(|| io::ErrorKind::PermissionDenied.into())
    }
}

impl crate::seal::ReadAt for Part {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        READ.with(|read| read.set(read.get() + buffer.len() as u64));
        self.reader.read_exact_at(buffer, offset)
    }
}

#[cfg(test)]
thread_local! {
    /// Bytes of records that this thread has read back from parts.
    pub static READ: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}
