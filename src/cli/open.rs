//! `sealdrop open`: opens a sealed file with an identity, an SSH key or a passphrase, without a server. To a file, it appears only when all of it was
//! verified; to a pipe, every byte that goes out was authenticated in its place first, after the file's length and
//! trailer, and the exit code says whether the whole was good. A range is authenticated record by record, and no more
//! records are read than it touches.

mod input;
pub mod keys;
pub mod page;
mod range;
#[cfg(test)]
mod tests;
mod told;

use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
pub(super) use input::Disk;
use input::{read_header, sealed_input};
use keys::{Key, KeyError};
use range::ByteRange;
use told::{explain, tell};

use super::failure::Failure;
use super::output::{Output, cannot_write, progress, same_file};
use crate::seal::{CHUNK, Envelope, FileKey, Head, ReadError, Reader};

/// Open sealed files with an identity, an SSH key or a passphrase
#[derive(clap::Args)]
pub struct Open {
    /// The identity file, or an OpenSSH private key (ed25519); give it more than once to try several
    #[arg(short, long = "identity", value_name = "FILE", required_unless_present_any = ["page", "passphrase", "passphrase_file"])]
    identities: Vec<PathBuf>,
    /// Ask for the passphrase that the files are sealed with, on the terminal
    #[arg(short, long, conflicts_with = "passphrase_file")]
    passphrase: bool,
    /// Take the passphrase from the first line of a file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Where the opened file goes: a file, a folder (under its name without `.sealed`), or `-` for standard output, which
    /// is also where it goes without this
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
    /// Only these bytes, counted from 0, the last among them: `0-499`, `500-` to the end, `-500` the last 500
    #[arg(long, value_name = "FIRST-LAST", allow_hyphen_values = true)]
    range: Option<ByteRange>,
    /// Write a page that opens sealed files in a browser, offline, to standard output
    #[arg(long, exclusive = true)]
    page: bool,
    /// The sealed files; `-` reads standard input. Several need a folder as output
    #[arg(value_name = "FILE", required_unless_present = "page")]
    files: Vec<PathBuf>,
}

impl Open {
    pub fn run(self, out: &mut dyn Write, json: bool, terminal: bool) -> Result<(), Failure> {
        if self.page {
            let written = out.write_all(page::PAGE.as_bytes()).and_then(|()| out.flush());
            return written.map_err(|error| cannot_write(Path::new(STDOUT), &error));
        }
        let mut keys = Vec::new();
        for path in &self.identities {
            keys.append(&mut keys::read(path)?);
        }
        // Before the work: what cannot go where it is meant to.
        let targets = self.targets(terminal)?;
        keys.extend(keys::passphrase(self.passphrase, self.passphrase_file.as_deref())?);
        let work = Work { keys, force: self.force, range: self.range, json };
        let mut failures = Vec::new();
        for (file, target) in self.files.iter().zip(&targets) {
            failures.extend(work.open(file, target.as_deref(), out).err());
        }
        match failures.len() {
            0 => Ok(()),
            1 if self.files.len() == 1 => Err(failures.remove(0)),
            count => {
                let each: String = failures.iter().map(|failure| format!("\n  {failure}")).collect();
                Err(Failure::new(format_args!("{count} of {} files were not opened:{each}", self.files.len()))
                    .hint("the others are there, whole; open one of these alone to see what to try"))
            }
        }
    }

    /// Where each file goes; `None` is standard output.
    fn targets(&self, terminal: bool) -> Result<Vec<Option<PathBuf>>, Failure> {
        let several = self.files.len() > 1;
        if several && self.range.is_some() {
            return Err(Failure::new("a range is of one file").hint("name one sealed file with --range"));
        }
        let Some(output) = self.output.as_deref().filter(|path| *path != Path::new("-")) else {
            if several {
                return Err(Failure::new("several files do not go to one output").hint("name a folder with -o FOLDER"));
            }
            if terminal {
                return Err(Failure::new("the opened file is not written to a terminal")
                    .hint("name a file with -o FILE, or pipe the output on"));
            }
            return Ok(vec![None]);
        };
        let folder = output.is_dir();
        if several && !folder {
            return Err(Failure::new(format_args!("{} is not a folder", output.display()))
                .hint("several files need a folder that is there: make it first"));
        }
        let mut targets: Vec<Option<PathBuf>> = Vec::new();
        for file in &self.files {
            let target = if folder { output.join(opened_name(file)?) } else { output.to_owned() };
            if same_file(file, &target) {
                return Err(Failure::new("the output is the sealed file itself").hint("choose another name with -o"));
            }
            if targets.iter().flatten().any(|other| *other == target) {
                return Err(Failure::new(format_args!("two of the files would become {}", target.display()))
                    .hint("open one of them alone, with -o FILE"));
            }
            targets.push(Some(target));
        }
        Ok(targets)
    }
}

/// What a file that could not be named is called in errors.
const STDOUT: &str = "standard output";

/// The sealed file's own name without `.sealed`. The name in its trailer is a stranger's, and no path for us.
fn opened_name(file: &Path) -> Result<PathBuf, Failure> {
    match (file.extension(), file.file_stem()) {
        (Some(extension), Some(stem)) if extension == "sealed" => Ok(stem.into()),
        _ => Err(Failure::new(format_args!("{}: no name to open it under", file.display()))
            .hint("files that go to a folder end in .sealed; name the output of others with -o FILE")),
    }
}

/// What is the same for every file that one command opens.
struct Work {
    keys: Vec<Key>,
    force: bool,
    range: Option<ByteRange>,
    json: bool,
}

impl Work {
    fn open(&self, path: &Path, target: Option<&Path>, out: &mut dyn Write) -> Result<(), Failure> {
        // A name that is taken is told before the work.
        let output = match target {
            Some(target) => Some((Output::create(target, 0o600, self.force)?, target)),
            None => None,
        };
        let (file, length) = sealed_input(path)?;
        let failed = |error| explain(path, error, None);
        let (head, envelope) = read_header(&file, length).map_err(failed)?;
        let key = unwrap(path, &head, &envelope, &self.keys)?;
        let mut reader = Reader::open(file, length, &key).map_err(failed)?;
        let range = self
            .range
            .map(|range| range.of(reader.size()))
            .transpose()
            .map_err(|failure| Failure { message: format!("{}: {}", path.display(), failure.message), ..failure })?;
        let bar = progress(Some(range.as_ref().map_or(reader.size(), |range| range.end - range.start)), self.json);
        let Some((mut output, target)) = output else {
            let copied = copy(&mut reader, range, out, &bar).and_then(|()| out.flush().map_err(CopyError::Write));
            return copied.map_err(|error| error.failure(path, Path::new(STDOUT)));
        };
        copy(&mut reader, range.clone(), &mut output, &bar).map_err(|error| error.failure(path, target))?;
        output.commit()?;
        bar.finish_and_clear();
        tell(out, self.json, target, &head, reader.trailer(), range)
            .map_err(|error| cannot_write(Path::new(STDOUT), &error))
    }
}

/// For `export`: the sealed file, opened by the first of these identity files that has its key.
#[cfg(not(feature = "fips"))]
pub(super) fn opened(path: &Path, identities: &[PathBuf]) -> Result<Reader<Disk>, Failure> {
    let mut all = Vec::new();
    for path in identities {
        all.append(&mut keys::read(path)?);
    }
    let (file, length) = sealed_input(path)?;
    let (head, envelope) = read_header(&file, length).map_err(|error| explain(path, error, None))?;
    let key = unwrap(path, &head, &envelope, &all)?;
    Reader::open(file, length, &key).map_err(|error| explain(path, error, None))
}

pub(super) fn unwrap(path: &Path, head: &Head, envelope: &Envelope, keys: &[Key]) -> Result<FileKey, Failure> {
    keys::unwrap(head, envelope, keys).map_err(|error| match error {
        KeyError::Seal(error) => explain(path, error.into(), Some((envelope, keys))),
        KeyError::Ask(failure) => failure,
    })
}

pub(super) enum CopyError {
    Read(ReadError),
    Write(io::Error),
}

impl From<ReadError> for CopyError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl CopyError {
    pub(super) fn failure(self, input: &Path, output: &Path) -> Failure {
        match self {
            Self::Read(error) => explain(input, error, None),
            Self::Write(error) => cannot_write(output, &error),
        }
    }
}

fn copy(
    reader: &mut Reader<Disk>,
    range: Option<Range<u64>>,
    out: &mut dyn Write,
    bar: &ProgressBar,
) -> Result<(), CopyError> {
    let mut each = |bytes: &[u8]| {
        bar.inc(bytes.len() as u64);
        out.write_all(bytes).map_err(CopyError::Write)
    };
    let Some(range) = range else { return reader.stream(each) };
    let chunk_len = CHUNK as u64;
    for index in range.start / chunk_len..range.end.div_ceil(chunk_len) {
        let begins = index * chunk_len;
        let chunk = reader.chunk(index)?;
        let from = range.start.saturating_sub(begins) as usize;
        let to = chunk.len().min((range.end - begins) as usize);
        each(chunk.get(from..to).unwrap_or_default())?;
    }
    Ok(())
}
