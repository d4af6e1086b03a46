//! A whole file, or a test vector: whatever it is, reading it ends in an answer.
#![no_main]
use std::io;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sealdrop::seal::{Envelope, FileKey, HEAD_LEN, HEADER_LEN, Head, Identity, Kem, ReadAt, Reader};

struct Bytes<'a>(&'a [u8]);

impl ReadAt for Bytes<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|at| self.0.get(at..at.checked_add(buffer.len())?));
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| Identity::generate(Kem::P256).unwrap());

fuzz_target!(|bytes: &[u8]| {
    // Past the text header of a vector.
    let bytes = bytes.windows(2).position(|pair| pair == b"\n\n").map_or(bytes, |at| &bytes[at + 2..]);
    let Ok(head) = Head::parse(bytes) else { return };
    if let Some(Ok(envelope)) = bytes.get(HEAD_LEN..HEADER_LEN).map(Envelope::parse) {
        let _ = envelope.open(&head, &IDENTITY);
    }
    assert!(Reader::open(Bytes(bytes), bytes.len() as u64, &FileKey::from_bytes([1; 32])).is_err());
});
