//! Reads a finished sealed file: anywhere in it, or all of it. Opening checks everything that does not need the whole
//! body (commitment, footer, length, trailer); after that every byte given out has been authenticated in its place.

use std::io;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    CHUNK, FOOTER_LEN, FileKey, Footer, HEAD_LEN, Head, Midstate, RECORD_LEN, RECORD_OVERHEAD, Records, SealError,
    Trailer, record_offset,
};

/// Where the sealed bytes are. Implemented by whoever has a file.
pub trait ReadAt {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// Why a read failed: the file, or the way to it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("cannot read the sealed file: {0}")]
    Io(#[from] io::Error),
}

/// A finished sealed file, open. Holds one opened chunk; several readers of one file do not disturb each other.
pub struct Reader<F: ReadAt> {
    file: F,
    head: Head,
    trailer: Trailer,
    last: u64,
    records: Records,
    record: Zeroizing<Vec<u8>>,
    /// The chunk whose plaintext is in `record`, and its length there.
    held: Option<(u64, usize)>,
}

/// Where the plaintext stands in a record opened in place.
const DATA_AT: usize = RECORD_OVERHEAD - 16;

impl<F: ReadAt> Reader<F> {
    /// `file_len` is the length of the whole sealed file.
    pub fn open(file: F, file_len: u64, key: &FileKey) -> Result<Self, ReadError> {
        let mut head = [0; HEAD_LEN];
        if file_len < HEAD_LEN as u64 {
            return Err(SealError::NotSealed.into());
        }
        file.read_exact_at(&mut head, 0)?;
        let head = Head::parse(&head)?;
        head.check(key)?;
        let footer_at = file_len.checked_sub(FOOTER_LEN as u64).ok_or(SealError::Length)?;
        let mut footer_bytes = [0; FOOTER_LEN];
        file.read_exact_at(&mut footer_bytes, footer_at)?;
        let footer = Footer::parse(&footer_bytes)?;
        footer.check_len(file_len)?;
        let mut trailer = vec![0; footer.trailer_len as usize];
        file.read_exact_at(&mut trailer, footer.trailer_offset())?;
        let trailer = Trailer::open(&head, key, &footer_bytes, &trailer)?;
        let records = Records::new(&head, key);
        let record = Zeroizing::new(vec![0; RECORD_LEN]);
        Ok(Self { file, head, trailer, last: footer.last_index(), records, record, held: None })
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    pub fn trailer(&self) -> &Trailer {
        &self.trailer
    }

    /// Plaintext bytes.
    pub fn size(&self) -> u64 {
        self.trailer.size
    }

    /// Chunks in the file, the final one (which may be empty) included.
    pub fn chunks(&self) -> u64 {
        self.last + 1
    }

    /// The plaintext of one chunk; empty beyond the end.
    pub fn chunk(&mut self, index: u64) -> Result<&[u8], ReadError> {
        if index > self.last {
            return Ok(&[]);
        }
        if self.held.is_none_or(|(held, _)| held != index) {
            self.held = None;
            let last = index == self.last;
            let length = if last { (self.trailer.size % CHUNK as u64) as usize } else { CHUNK };
            let record = &mut self.record[..length + RECORD_OVERHEAD];
            self.file.read_exact_at(record, record_offset(index))?;
            self.records.open(index, self.trailer.generation(index), last, record)?;
            self.held = Some((index, length));
        }
        let length = self.held.map_or(0, |(_, length)| length);
        Ok(&self.record[DATA_AT..DATA_AT + length])
    }

    /// Fills as much of `buffer` as the file has from `offset` on, and says how much that was.
    pub fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset.saturating_add(filled as u64);
            let chunk = self.chunk(at / CHUNK as u64)?;
            let Some(from) = chunk.get((at % CHUNK as u64) as usize..).filter(|from| !from.is_empty()) else { break };
            let length = from.len().min(buffer.len() - filled);
            buffer[filled..filled + length].copy_from_slice(&from[..length]);
            filled += length;
        }
        Ok(filled)
    }

    /// Opens every chunk in order, gives it to `each`, and at the end holds the whole against the trailer's SHA-256: the
    /// one thing that binds those who have the file key.
    pub fn stream<E: From<ReadError>>(&mut self, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut digest = Midstate::new();
        for index in 0..=self.last {
            let chunk = self.chunk(index)?;
            digest.update(chunk);
            each(chunk)?;
        }
        if bool::from(digest.finish().0.ct_eq(&self.trailer.sha256)) {
            Ok(())
        } else {
            Err(ReadError::Seal(SealError::Damaged).into())
        }
    }

    /// Whether every byte of the file is what was sealed.
    pub fn verify_whole(&mut self) -> Result<(), ReadError> {
        self.stream(|_| Ok(()))
    }
}
