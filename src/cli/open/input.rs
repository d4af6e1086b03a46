//! The sealed files that `sealdrop open` reads, from a disk or a pipe.

use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::cli::failure::Failure;
use crate::cli::output::cannot_read;
use crate::seal::{Envelope, HEAD_LEN, HEADER_LEN, Head, ReadAt, ReadError, SealError};

/// A file to read anywhere in.
pub struct Disk(File);

impl ReadAt for Disk {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}

/// The sealed file, where any part of it can be read. What comes through a pipe is kept, sealed as it is, in a nameless
/// temporary file: the length and the trailer stand at its end, and are checked before anything is given out.
pub fn sealed_input(path: &Path) -> Result<(Disk, u64), Failure> {
    let failed = |error: io::Error| cannot_read(path, &error);
    let mut file = if path == Path::new("-") {
        spool(&mut io::stdin().lock())?
    } else {
        let mut file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(Failure::new(format_args!("{} is a folder", path.display())));
        }
        if metadata.is_file() { file } else { spool(&mut file)? }
    };
    let length = file.seek(io::SeekFrom::End(0)).map_err(failed)?;
    Ok((Disk(file), length))
}

fn spool(input: &mut dyn io::Read) -> Result<File, Failure> {
    let folder = std::env::temp_dir();
    let kept = tempfile::tempfile().and_then(|mut file| io::copy(input, &mut file).map(|_| file));
    kept.map_err(|error| {
        Failure::new(format_args!("cannot keep what is piped in, in {}: {error}", folder.display()))
            .hint("name the sealed file instead of `-`, or set TMPDIR to a folder with room for it")
    })
}

pub fn read_header(file: &Disk, length: u64) -> Result<(Head, Envelope), ReadError> {
    let mut header = vec![0; HEADER_LEN.min(usize::try_from(length).unwrap_or(HEADER_LEN))];
    file.read_exact_at(&mut header, 0)?;
    let head = Head::parse(&header)?;
    let envelope = Envelope::parse(header.get(HEAD_LEN..HEADER_LEN).ok_or(SealError::Length)?)?;
    Ok((head, envelope))
}
