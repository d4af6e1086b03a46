//! Reading a file: one the server may open is opened record by record, one sealed to a recipient's own key is given
//! out as it stands with its envelope put in place. Every byte given out has been authenticated; what does not
//! authenticate is an error, never a wrong byte.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use zeroize::Zeroizing;

use super::reply::{DAMAGED, Outcome};
use crate::names::{Digest, DropId};
use crate::seal::{
    CHUNK, ENVELOPE_LEN, FOOTER_LEN, FileKey, Footer, HEAD_LEN, HEADER_LEN, RECORD_LEN, RECORD_OVERHEAD, ReadAt,
    Reader, Records, Trailer, record_offset,
};
use crate::sys::files;
use crate::vpath::VirtualPath;

/// Records read from disk at once when a client reads in order: 512 KiB, two of the largest replies.
const AHEAD: u64 = 8;

/// Pieces of a file given out, out of order, that are still told apart; beyond it nobody claims the whole was sent.
const PIECES_MAX: usize = 256;

/// Where the plaintext stands in a record opened in place: after generation and nonce.
const DATA_AT: usize = 16;

/// A file on this machine's disk.
pub struct DiskFile(pub File);

impl ReadAt for DiskFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}

pub struct Download {
    pub path: VirtualPath,
    pub drop: DropId,
    pub mtime: u32,
    /// Of what the client is given.
    pub size: u64,
    /// Its drop expires after so many pickups: the keeper knows of this one before the client's CLOSE succeeds.
    pub counted: bool,
    content: Content,
    sent: Sent,
    /// The first thing that was found wrong with it.
    damage: Option<String>,
    told: bool,
}

enum Content {
    Managed(Box<Managed>),
    Sealed { file: File, envelope: Vec<u8> },
}

struct Managed {
    file: File,
    records: Records,
    trailer: Trailer,
    /// Opened records from `first` on, each in the place of its sealed form.
    held: Zeroizing<Vec<u8>>,
    first: u64,
    count: u64,
    /// Where the last read ended: one that goes on there is in order.
    next: u64,
}

/// What is wrong with a file, for the audit log. Its client is told [`DAMAGED`], whatever it is.
pub struct Damage(pub String);

impl<E: std::error::Error> From<E> for Damage {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl Download {
    /// A file of which the keeper gave the key, and what the ledger says of its content. Everything that needs no reading of
    /// the whole is checked here.
    pub fn managed(
        path: VirtualPath,
        file: File,
        drop: DropId,
        key: &FileKey,
        said: (u64, Digest),
    ) -> Result<Self, Damage> {
        let facts = files::facts(std::os::fd::AsFd::as_fd(&file))?;
        let reader = Reader::open(DiskFile(file.try_clone()?), facts.size, key)?;
        let trailer = reader.trailer().clone();
        if reader.head().drop_id() != drop || (trailer.size, trailer.sha256) != (said.0, said.1.0) {
            return Err(Damage("its trailer is not that of the file in the ledger".to_owned()));
        }
        let records = Records::new(reader.head(), key);
        let size = trailer.size;
        let held = Zeroizing::new(Vec::new());
        let managed = Managed { file, records, trailer, held, first: 0, count: 0, next: 0 };
        Ok(Self::with(path, drop, facts.mtime, size, Content::Managed(Box::new(managed))))
    }

    /// A file of which the keeper gave the envelope that its recipient opens, and the size of its content. What is within
    /// its records only the recipient can see.
    pub fn sealed(path: VirtualPath, file: File, drop: DropId, envelope: Vec<u8>, size: u64) -> Result<Self, Damage> {
        let facts = files::facts(std::os::fd::AsFd::as_fd(&file))?;
        let mut footer = [0; FOOTER_LEN];
        file.read_exact_at(&mut footer, facts.size.saturating_sub(FOOTER_LEN as u64))?;
        let footer = Footer::parse(&footer)?;
        footer.check_len(facts.size)?;
        if envelope.len() != ENVELOPE_LEN || footer.size != size {
            return Err(Damage("its footer is not that of the file in the ledger".to_owned()));
        }
        Ok(Self::with(path, drop, facts.mtime, facts.size, Content::Sealed { file, envelope }))
    }

    fn with(path: VirtualPath, drop: DropId, mtime: i64, size: u64, content: Content) -> Self {
        let mtime = u32::try_from(mtime).unwrap_or(0);
        Self { path, drop, mtime, size, counted: false, content, sent: Sent::default(), damage: None, told: false }
    }

    /// Appends up to `len` bytes from `offset`; nothing at and beyond the end.
    pub fn read(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Outcome<()> {
        let end = offset.saturating_add(len as u64).min(self.size);
        self.peek(offset, len, out)?;
        if offset < end {
            self.sent.add(offset, end);
        }
        Ok(())
    }

    /// The same for bytes that stay in this process: nobody was given them.
    pub fn peek(&mut self, offset: u64, len: usize, out: &mut Vec<u8>) -> Outcome<()> {
        let end = offset.saturating_add(len as u64).min(self.size);
        if offset >= end {
            return Ok(());
        }
        let start = out.len();
        let read = match &mut self.content {
            Content::Managed(managed) => managed.read(offset, end, out),
            Content::Sealed { file, envelope } => read_sealed(file, envelope, offset, end, out).map_err(Damage::from),
        };
        read.map_err(|Damage(what)| {
            // What came before it may be good, and goes out when it is asked for alone.
            out.truncate(start);
            self.damage.get_or_insert(what);
            DAMAGED
        })
    }

    /// What is wrong with it, once.
    pub fn news_of_damage(&mut self) -> Option<String> {
        let news = self.damage.clone().filter(|_| !self.told);
        self.told |= news.is_some();
        news
    }

    /// Its bytes are the sealed file, for its recipient to open.
    pub fn is_sealed(&self) -> bool {
        matches!(self.content, Content::Sealed { .. })
    }

    /// Bytes given out, repeats included.
    pub fn sent(&self) -> u64 {
        self.sent.bytes
    }

    /// Every byte was given out at least once.
    pub fn whole(&self) -> bool {
        self.sent.covers(self.size)
    }
}

impl Managed {
    fn read(&mut self, offset: u64, end: u64, out: &mut Vec<u8>) -> Result<(), Damage> {
        let in_order = offset == self.next;
        let mut at = offset;
        while at < end {
            let (index, within) = (at / CHUNK as u64, (at % CHUNK as u64) as usize);
            if index < self.first || index >= self.first + self.count {
                let wanted = (end - 1) / CHUNK as u64 + 1 - index;
                self.load(index, if in_order { wanted.max(AHEAD) } else { wanted })?;
            }
            let len = (end - at).min((CHUNK - within) as u64) as usize;
            let from = (index - self.first) as usize * RECORD_LEN + DATA_AT + within;
            let lost = || Damage("a record is not held".to_owned());
            out.extend_from_slice(self.held.get(from..from + len).ok_or_else(lost)?);
            at += len as u64;
        }
        self.next = end;
        Ok(())
    }

    /// Reads and opens records from `index` on, at most `count`, and holds those before the first that cannot be read or does
    /// not open. It is an error if that is the one at `index`.
    fn load(&mut self, index: u64, count: u64) -> Result<(), Damage> {
        self.count = 0;
        let last = self.trailer.size / CHUNK as u64;
        let count = count.min(last + 1 - index).min(2 * AHEAD);
        let short = (self.trailer.size % CHUNK as u64) as usize + RECORD_OVERHEAD;
        let mut len = count as usize * RECORD_LEN;
        if index + count > last {
            len -= RECORD_LEN - short;
        }
        self.held.resize(len, 0);
        match self.file.read_exact_at(&mut self.held, record_offset(index)) {
            Ok(()) => {}
            Err(_) if count > 1 => return self.load(index, 1),
            Err(error) => return Err(Damage(format!("record {index} cannot be read: {error}"))),
        }
        self.first = index;
        for (at, record) in (index..).zip(self.held.chunks_mut(RECORD_LEN)) {
            match self.records.open(at, self.trailer.generation(at), at == last, record) {
                Ok(_) => self.count += 1,
                Err(_) if at > index => break,
                Err(error) => return Err(Damage(format!("record {index} does not open: {error}"))),
            }
        }
        Ok(())
    }
}

fn read_sealed(file: &File, envelope: &[u8], offset: u64, end: u64, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    out.resize(start + usize::try_from(end - offset).unwrap_or(0), 0);
    let bytes = &mut out[start..];
    file.read_exact_at(bytes, offset)?;
    let (from, to) = (offset.max(HEAD_LEN as u64), end.min(HEADER_LEN as u64));
    if from < to {
        let (into, of) = ((from - offset) as usize, (from as usize) - HEAD_LEN);
        let len = (to - from) as usize;
        bytes[into..into + len].copy_from_slice(&envelope[of..of + len]);
    }
    Ok(())
}

/// Which bytes went out: disjoint pieces, in order.
#[derive(Default)]
struct Sent {
    bytes: u64,
    pieces: Vec<(u64, u64)>,
}

impl Sent {
    fn add(&mut self, from: u64, to: u64) {
        self.bytes += to - from;
        if let Some((_, end)) = self.pieces.last_mut()
            && *end == from
        {
            *end = to;
            return;
        }
        let at = self.pieces.partition_point(|(_, end)| *end < from);
        let touching = self.pieces[at..].iter().take_while(|(start, _)| *start <= to).count();
        let merged =
            self.pieces[at..at + touching].iter().fold((from, to), |(a, b), (start, end)| (a.min(*start), b.max(*end)));
        if touching > 0 || self.pieces.len() < PIECES_MAX {
            self.pieces.splice(at..at + touching, [merged]);
        }
    }

    fn covers(&self, size: u64) -> bool {
        size == 0 || matches!(self.pieces.as_slice(), [(0, end)] if *end >= size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whole_is_said_exactly_when_every_byte_went_out(pieces in proptest::collection::vec((0u64..60, 1u64..20), 0..40)) {
            let mut sent = Sent::default();
            let mut seen = [false; 64];
            for (from, len) in pieces {
                let to = (from + len).min(64);
                sent.add(from, to);
                seen[from as usize..to as usize].fill(true);
            }
            prop_assert_eq!(sent.covers(64), seen.iter().all(|s| *s));
        }
    }
}
