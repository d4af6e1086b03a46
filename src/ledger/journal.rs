//! The journal's files: an append-only run of segments beside the databases, synced before anything is acknowledged.
//! It is the flight recorder from which a database is made anew, and the witness against one that was changed.
//! A segment is created whole under its final name; only the end of the last one can ever be half-written.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::frame::{Entry, Frame, FrameError, SegmentHead, read_frame, settled_in, write_frame};
use super::merkle::{Frontier, Hash};
use crate::sys::durable;

/// A segment takes no more frames beyond this: it is read whole at start (30 ms), and a month has a few dozen.
pub const SEGMENT_BYTES: u64 = 32 << 20;

/// Zeros that are written and synced ahead of the frames, for a hundred of them or so. What is written over them changes
/// neither the file's length nor where it lies, so that its sync is one of data alone: 0.16 ms where one that
/// the file grows with takes 0.44.
const ROOM: u64 = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is damaged at batch {frame}: {why}", path = path.display())]
    Damaged { path: PathBuf, frame: u64, why: FrameError },
    #[error("{path} does not continue the segment before it", path = path.display())]
    Gap { path: PathBuf },
    #[error("the journal begins at batch {first}; batch {wanted} is no longer in it")]
    Pruned { first: u64, wanted: u64 },
}

/// One segment file.
#[derive(Clone, Debug)]
pub struct Segment {
    pub path: PathBuf,
    pub head: SegmentHead,
}

/// All segments, and how far the last one can be read.
pub struct Scan {
    pub segments: Vec<Segment>,
    /// Frames in all; the number of the next.
    pub next: u64,
    pub hash: Hash,
    /// Where the next frame goes in the last segment.
    pub end: u64,
    /// Up to where there is room for frames: nothing but zeros.
    pub room: u64,
    pub tail: Option<Tail>,
}

/// What stands in the last segment after its last good frame.
pub struct Tail {
    pub bytes: u64,
    pub why: FrameError,
    /// Frames before this number are known to have been durable: a bad one among them is damage, not a torn write.
    pub settled: u64,
}

/// The journal, open for writing.
pub struct Journal {
    dir: PathBuf,
    file: File,
    path: PathBuf,
    ledger: [u8; 16],
    next: u64,
    hash: Hash,
    end: u64,
    /// Up to here the file is zeros.
    room: u64,
    buffer: Vec<u8>,
}

/// A place in the journal: what is before it never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The name of the segment; those of other names that sort before it are whole.
    pub segment: String,
    pub end: u64,
}

/// Why frames were not appended.
#[derive(Debug)]
pub enum AppendError {
    /// No room; the journal is as it was before.
    Full,
    /// Nobody knows what is on the disk now.
    Fatal(JournalError),
}

impl Scan {
    /// The heads of all segments.
    pub fn heads(dir: &Path) -> Result<Vec<Segment>, JournalError> {
        segments(dir)
    }

    /// Reads the heads of all segments, and the last one whole. An empty list if there are none.
    pub fn of(dir: &Path) -> Result<Self, JournalError> {
        let segments = segments(dir)?;
        let Some(last) = segments.last() else {
            return Ok(Self { segments, next: 0, hash: [0; 32], end: 0, room: 0, tail: None });
        };
        let (bytes, begin) = last.read()?;
        let (mut at, mut next, mut hash) = (begin, last.head.first, last.head.previous);
        let mut tail = None;
        // What may be frames; the rest is room for more.
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        while at < written {
            match read_frame(&bytes[at..], next, &hash) {
                Ok(frame) => (at, next, hash) = (at + frame.len, next + 1, frame.hash),
                Err(why) => {
                    let rest = &bytes[at..written];
                    tail = Some(Tail { bytes: rest.len() as u64, why, settled: settled_in(rest) });
                    break;
                }
            }
        }
        let room = if tail.is_some() { at } else { bytes.len() };
        Ok(Self { next, hash, end: at as u64, room: room as u64, tail, segments })
    }

    /// The hash of the frame before number `next`: what a database that holds `next` frames must have written down.
    pub fn hash_before(&self, next: u64) -> Result<Hash, JournalError> {
        if next == self.next {
            return Ok(self.hash);
        }
        let segment = &self.segments[self.segment_of(next)?];
        if segment.head.first == next {
            return Ok(segment.head.previous);
        }
        let mut hash = segment.head.previous;
        self.read(segment.head.first, next, |_, frame| {
            hash = frame.hash;
            Ok::<_, JournalError>(())
        })?;
        Ok(hash)
    }

    /// Hands the frames from number `from` up to, not including, `until` to `take`, each with its segment's head.
    pub fn read<E: From<JournalError>>(
        &self,
        from: u64,
        until: u64,
        mut take: impl FnMut(&SegmentHead, Frame) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut number = from;
        while number < until {
            let at = self.segment_of(number)?;
            let segment = &self.segments[at];
            let stop = self.segments.get(at + 1).map_or(self.next, |following| following.head.first);
            let (bytes, mut place) = segment.read()?;
            let mut hash = segment.head.previous;
            for here in segment.head.first..stop.min(until) {
                let frame = read_frame(&bytes[place.min(bytes.len())..], here, &hash)
                    .map_err(|why| JournalError::Damaged { path: segment.path.clone(), frame: here, why })?;
                (place, hash) = (place + frame.len, frame.hash);
                if here >= number {
                    take(&segment.head, frame)?;
                }
            }
            if stop <= until && self.segments.get(at + 1).is_some_and(|following| following.head.previous != hash) {
                return Err(JournalError::Gap { path: self.segments[at + 1].path.clone() }.into());
            }
            number = stop;
        }
        Ok(())
    }

    /// The frames of a month's events: first, and the one after the last.
    pub fn frames_of(&self, month: u32) -> Option<(u64, u64)> {
        let first = self.segments.iter().find(|segment| segment.head.month == month)?.head.first;
        let after = self.segments.iter().find(|segment| segment.head.month > month);
        Some((first, after.map_or(self.next, |segment| segment.head.first)))
    }

    /// The log as it was before the first frame of a month.
    pub fn log_before(&self, month: u32) -> Option<(&Frontier, &Hash)> {
        let head = &self.segments.iter().find(|segment| segment.head.month == month)?.head;
        Some((&head.log, &head.previous))
    }

    fn segment_of(&self, number: u64) -> Result<usize, JournalError> {
        let after = self.segments.partition_point(|segment| segment.head.first <= number);
        after.checked_sub(1).ok_or_else(|| JournalError::Pruned {
            first: self.segments.first().map_or(0, |segment| segment.head.first),
            wanted: number,
        })
    }
}

impl Segment {
    /// All bytes, and where the frames begin.
    fn read(&self) -> Result<(Vec<u8>, usize), JournalError> {
        let bytes = fs::read(&self.path).map_err(|source| JournalError::Io { path: self.path.clone(), source })?;
        let (head, begin) = SegmentHead::read(&bytes).map_err(|why| self.damaged(why))?;
        if head == self.head { Ok((bytes, begin)) } else { Err(self.damaged(FrameError::Unlinked)) }
    }

    fn damaged(&self, why: FrameError) -> JournalError {
        JournalError::Damaged { path: self.path.clone(), frame: self.head.first, why }
    }
}

/// The segments in order, their heads read and held against each other.
fn segments(dir: &Path) -> Result<Vec<Segment>, JournalError> {
    let failed = |source| JournalError::Io { path: dir.to_owned(), source };
    let mut paths = Vec::new();
    match fs::read_dir(dir) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(failed)?.path();
                if path.extension().is_some_and(|ending| ending == "segment") {
                    paths.push(path);
                }
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    paths.sort();
    let mut segments: Vec<Segment> = Vec::with_capacity(paths.len());
    for path in paths {
        let mut start = vec![0; 8192];
        let file = File::open(&path).map_err(|source| JournalError::Io { path: path.clone(), source })?;
        let len = file.read_at(&mut start, 0).map_err(|source| JournalError::Io { path: path.clone(), source })?;
        let (head, _) = SegmentHead::read(&start[..len]).map_err(|why| JournalError::Damaged {
            path: path.clone(),
            frame: 0,
            why,
        })?;
        let follows = segments.last().is_none_or(|before| {
            let before = &before.head;
            before.ledger == head.ledger && before.first <= head.first && before.month <= head.month
        });
        if !follows || path.file_name() != Some(segment_name(head.first, head.month).as_ref()) {
            return Err(JournalError::Gap { path });
        }
        segments.push(Segment { path, head });
    }
    Ok(segments)
}

/// Sorts by first frame; the month tells apart two segments of which the first stayed empty.
fn segment_name(first: u64, month: u32) -> String {
    format!("{first:016x}-{month:06}.segment")
}

impl Journal {
    /// Makes the first segment of a new ledger.
    pub fn create(dir: &Path, head: &SegmentHead) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Io { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        durable::sync_tree(dir).map_err(failed)?;
        let (path, file, end) = create_segment(dir, head)?;
        Ok(Self {
            dir: dir.to_owned(),
            file,
            path,
            ledger: head.ledger,
            next: head.first,
            hash: head.previous,
            end,
            room: end,
            buffer: Vec::new(),
        })
    }

    /// Opens the last segment of `scan` to go on after its last good frame; what stands there is cut off.
    pub fn resume(dir: &Path, scan: &Scan, last: &Segment) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Io { path: last.path.clone(), source };
        let file = File::options().read(true).write(true).open(&last.path).map_err(failed)?;
        if scan.tail.is_some() {
            file.set_len(scan.end).map_err(failed)?;
        }
        // Also what a crash before its sync left whole must be durable before anything is built on it.
        file.sync_all().map_err(failed)?;
        durable::sync_dir(dir).map_err(failed)?;
        Ok(Self {
            dir: dir.to_owned(),
            file,
            path: last.path.clone(),
            ledger: last.head.ledger,
            next: scan.next,
            hash: scan.hash,
            end: scan.end,
            room: scan.room,
            buffer: Vec::new(),
        })
    }

    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Where what was appended ends.
    pub fn written(&self) -> Written {
        let segment = self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Written { segment, end: self.end }
    }

    /// Whether the segment should take no more.
    pub fn is_long(&self) -> bool {
        self.end >= SEGMENT_BYTES
    }

    /// Goes on in a new segment. A crash before its name is durable leaves the old one the last, whole. It has no use for its
    /// room any more.
    pub fn turn(&mut self, month: u32, log: &Frontier) -> Result<(), JournalError> {
        if self.room > self.end {
            let cut = self.file.set_len(self.end).and_then(|()| self.file.sync_all());
            cut.map_err(|source| self.failed(source))?;
        }
        let head = SegmentHead { ledger: self.ledger, month, first: self.next, previous: self.hash, log: log.clone() };
        let (path, file, end) = create_segment(&self.dir, &head)?;
        (self.path, self.file, self.end, self.room) = (path, file, end, end);
        Ok(())
    }

    /// Appends the payloads as frames. Not durable before [`Journal::sync`].
    pub fn append(&mut self, payloads: &[Vec<u8>], settled: u64) -> Result<(), AppendError> {
        self.buffer.clear();
        let (mut next, mut hash) = (self.next, self.hash);
        for payload in payloads {
            hash = write_frame(&mut self.buffer, next, settled, &hash, payload);
            next += 1;
        }
        let len = self.buffer.len() as u64;
        let written = self.make_room(len).and_then(|()| self.file.write_all_at(&self.buffer, self.end));
        if let Err(error) = written {
            let undone = self.file.set_len(self.end);
            self.room = self.end;
            let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            return match (full, undone) {
                (true, Ok(())) => Err(AppendError::Full),
                _ => Err(AppendError::Fatal(self.failed(error))),
            };
        }
        (self.next, self.hash, self.end) = (next, hash, self.end + len);
        self.room = self.room.max(self.end);
        Ok(())
    }

    /// Room for `len` bytes, and for some more, which a crash leaves as zeros after the last frame. Where the disk has no
    /// more, for these alone.
    fn make_room(&mut self, len: u64) -> io::Result<()> {
        let (from, wanted) = (self.room.max(self.end), self.end + len);
        if wanted <= self.room {
            return Ok(());
        }
        let zeros = vec![0; usize::try_from(wanted + ROOM - from).unwrap_or(0)];
        let roomy = durable::reserve(&self.file, from, zeros.len() as u64)
            .and_then(|()| self.file.write_all_at(&zeros, from))
            .and_then(|()| self.file.sync_all());
        if roomy.is_ok() {
            self.room = from + zeros.len() as u64;
            return Ok(());
        }
        self.file.set_len(from)?;
        durable::reserve(&self.file, self.end, len)
    }

    /// What was appended survives a power cut.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> JournalError {
        JournalError::Io { path: self.path.clone(), source }
    }
}

/// Writes a segment's head under a passing name, syncs it, gives it its name, syncs that.
fn create_segment(dir: &Path, head: &SegmentHead) -> Result<(PathBuf, File, u64), JournalError> {
    let path = dir.join(segment_name(head.first, head.month));
    let failed = |source| JournalError::Io { path: path.clone(), source };
    let bytes = head.to_bytes().map_err(|e| failed(io::Error::other(e)))?;
    let passing = path.with_extension("new");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&passing).map_err(failed)?;
    file.write_all_at(&bytes, 0).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&passing, &path).map_err(failed)?;
    durable::sync_dir(dir).map_err(failed)?;
    Ok((path, file, bytes.len() as u64))
}

/// Reads an [`Entry`] for a frame that is about to be written: the bytes, if they fit.
pub fn payload(entry: &Entry) -> Option<Vec<u8>> {
    entry.to_bytes().ok().filter(|bytes| bytes.len() <= super::frame::PAYLOAD_MAX)
}
