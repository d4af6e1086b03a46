//! The content of files: records, their digest, a whole small file, and the journal of an upload in progress.

use std::hint::black_box;
use std::io;

use sealdrop::names::DropId;
use sealdrop::seal::{
    CHUNK, Envelope, FileKey, HEADER_LEN, Head, Identity, Journal, JournalKey, Kem, Midstate, Mode, ReadAt, ReadError,
    Reader, Records, Sealer, Trailer,
};

use crate::Work;

/// Four chunks, in the pieces that a client writes.
const FILE: usize = 4 * CHUNK;
const PIECE: usize = 32 * 1024;

const DROP: DropId = DropId([7; 16]);

pub fn works() -> Vec<Work> {
    vec![record(), open_record(), sha256(), file(), open_file(), journal(), open_journal()]
}

pub fn head(key: &FileKey) -> Head {
    Head::new(DROP, Mode::Managed, key).unwrap()
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn key() -> FileKey {
    FileKey::from_bytes([1; 32])
}

fn record() -> Work {
    let (key, plain) = (key(), content(CHUNK));
    let mut records = Records::new(&head(&key), &key);
    let mut out = Vec::new();
    Work::of_bytes("bodies/seal-record", CHUNK, move || {
        out.clear();
        records.seal(5, 0, false, black_box(&plain), &mut out).unwrap();
        black_box(&out);
    })
}

/// Opened in place, so a copy of the record is made first: 2 % of it.
fn open_record() -> Work {
    let key = key();
    let mut records = Records::new(&head(&key), &key);
    let mut sealed = Vec::new();
    records.seal(5, 0, false, &content(CHUNK), &mut sealed).unwrap();
    let mut buffer = sealed.clone();
    Work::of_bytes("bodies/open-record", CHUNK, move || {
        buffer.copy_from_slice(&sealed);
        black_box(records.open(5, 0, false, &mut buffer).unwrap());
    })
}

fn sha256() -> Work {
    let plain = content(CHUNK);
    let mut midstate = Midstate::new();
    Work::of_bytes("bodies/sha256", CHUNK, move || midstate.update(black_box(&plain)))
}

/// Records, digest and trailer; the envelope is wrapped already.
fn file() -> Work {
    let (key, plain) = (key(), content(FILE));
    let (head, envelope) = (head(&key), envelope(&key));
    let mut out = Vec::new();
    Work::of_bytes("bodies/seal-file", FILE, move || {
        out.clear();
        seal(&head, &key, &envelope, black_box(&plain), &mut out);
        black_box(&out);
    })
}

fn open_file() -> Work {
    let key = key();
    let mut sealed = Vec::new();
    seal(&head(&key), &key, &envelope(&key), &content(FILE), &mut sealed);
    Work::of_bytes("bodies/open-file", FILE, move || {
        let mut reader = Reader::open(Bytes(&sealed), sealed.len() as u64, &key).unwrap();
        reader
            .stream(|chunk| {
                black_box(chunk);
                Ok::<(), ReadError>(())
            })
            .unwrap();
    })
}

fn seal(head: &Head, key: &FileKey, envelope: &Envelope, plain: &[u8], out: &mut Vec<u8>) {
    let mut sealer = Sealer::begin(head.clone(), key.clone(), envelope, out);
    for piece in plain.chunks(PIECE) {
        sealer.push(piece, out).unwrap();
    }
    let facts = Trailer { name: b"a.dcm".to_vec(), sender: "acme-imaging".into(), ..Trailer::default() };
    sealer.finish(facts, out).unwrap();
    assert!(out.len() > HEADER_LEN + plain.len());
}

fn envelope(key: &FileKey) -> Envelope {
    let recipient = Identity::generate(Kem::P256).unwrap().to_recipient();
    Envelope::wrap(&head(key), key, &[recipient]).unwrap()
}

/// A sealed file that is in memory.
struct Bytes<'a>(&'a [u8]);

impl ReadAt for Bytes<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = self.0.get(offset as usize..).and_then(|from| from.get(..buffer.len()));
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// In the middle of a gigabyte, with half a chunk after its records.
fn half_way() -> Journal {
    let records = 8192;
    let mut midstate = Midstate::new();
    midstate.update(&content(CHUNK));
    Journal {
        path: b"/radiology/2026/a.dcm".to_vec(),
        file_key: key(),
        records,
        tail: content(CHUNK / 2),
        midstate: midstate.save(),
        gens: Vec::new(),
        closed: None,
        mtime: None,
        opened_at: 1_795_308_143_000,
        updated_at: 1_795_308_144_000,
        durable: records,
        anchor: None,
    }
}

fn journal() -> Work {
    let (journal, key) = (half_way(), JournalKey::from_bytes([2; 32]));
    Work::of_bytes("bodies/seal-journal", CHUNK / 2, move || {
        black_box(journal.seal(DROP, &key).unwrap());
    })
}

fn open_journal() -> Work {
    let key = JournalKey::from_bytes([2; 32]);
    let sealed = half_way().seal(DROP, &key).unwrap();
    Work::of_bytes("bodies/open-journal", CHUNK / 2, move || {
        black_box(Journal::open(DROP, &key, black_box(&sealed)).unwrap());
    })
}
