//! `sealdrop open`: opens a sealed file with an identity, without a server. To a file, it appears only when all of it was
//! verified; to a pipe, every byte that goes out was authenticated in its place first, after the file's length and
//! trailer, and the exit code says whether the whole was good. A range is authenticated record by record, and no more
//! records are read than it touches.

mod page;
mod range;

use std::fs::File;
use std::io::{self, Seek, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use zeroize::Zeroizing;

use range::ByteRange;

use super::failure::Failure;
use super::output::{Output, cannot_read, cannot_write, progress, same_file};
use crate::clock::Time;
use crate::names::{Digest, escaped, hex};
use crate::seal::{
    CHUNK, Envelope, FileKey, HEAD_LEN, HEADER_LEN, Head, Identity, ReadAt, ReadError, Reader, SealError, Trailer,
};

/// Open sealed files with an identity
#[derive(clap::Args)]
pub struct Open {
    /// The identity file; give it more than once to try several
    #[arg(short, long = "identity", value_name = "FILE", required_unless_present = "page")]
    identities: Vec<PathBuf>,
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
        let mut identities = Vec::new();
        for path in &self.identities {
            identities.append(&mut read_identities(path)?);
        }
        let work = Work { identities, force: self.force, range: self.range, json };
        // Before the work: what cannot go where it is meant to.
        let targets = self.targets(terminal)?;
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
    identities: Vec<Identity>,
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
        let key = unwrap(&head, &envelope, &self.identities)
            .map_err(|error| explain(path, error.into(), Some((&envelope, &self.identities))))?;
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

/// A file to read anywhere in.
struct Disk(File);

impl ReadAt for Disk {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}

fn read_identities(path: &Path) -> Result<Vec<Identity>, Failure> {
    let text = std::fs::read(path).map(Zeroizing::new).map_err(|error| {
        cannot_read(path, &error).hint("-i takes the identity file that `sealdrop keygen` wrote for the recipient")
    })?;
    let text = std::str::from_utf8(&text).map_err(|_| Failure::new(format_args!("{}: not text", path.display())));
    Identity::parse_file(text?).map_err(|error| {
        Failure::new(format_args!("{}: {error}", path.display()))
            .hint("-i takes the identity file that `sealdrop keygen` wrote for the recipient")
    })
}

/// The sealed file, where any part of it can be read. What comes through a pipe is kept, sealed as it is, in a nameless
/// temporary file: the length and the trailer stand at its end, and are checked before anything is given out.
fn sealed_input(path: &Path) -> Result<(Disk, u64), Failure> {
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

fn read_header(file: &Disk, length: u64) -> Result<(Head, Envelope), ReadError> {
    let mut header = vec![0; HEADER_LEN.min(usize::try_from(length).unwrap_or(HEADER_LEN))];
    file.read_exact_at(&mut header, 0)?;
    let head = Head::parse(&header)?;
    let envelope = Envelope::parse(header.get(HEAD_LEN..HEADER_LEN).ok_or(SealError::Length)?)?;
    Ok((head, envelope))
}

/// The file key by the first identity that has it; else the most telling of the failures.
fn unwrap(head: &Head, envelope: &Envelope, identities: &[Identity]) -> Result<FileKey, SealError> {
    let mut worst = SealError::NotForThisIdentity;
    for identity in identities {
        match envelope.open(head, identity) {
            Ok(key) => return Ok(key),
            Err(SealError::NotForThisIdentity) => {}
            Err(error) => worst = error,
        }
    }
    Err(worst)
}

enum CopyError {
    Read(ReadError),
    Write(io::Error),
}

impl From<ReadError> for CopyError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl CopyError {
    fn failure(self, input: &Path, output: &Path) -> Failure {
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

fn tell(
    out: &mut dyn Write,
    json: bool,
    path: &Path,
    head: &Head,
    trailer: &Trailer,
    range: Option<Range<u64>>,
) -> io::Result<()> {
    let range = range.map(|range| format!("{}-{}", range.start, range.end - 1));
    if json {
        let mut told = serde_json::json!({
            "output": path.to_string_lossy(),
            "drop": head.drop_id().to_string(),
            "name": escaped(&trailer.name),
            "size": trailer.size,
            "sha256": Digest(trailer.sha256).to_string(),
            "sender": trailer.sender,
            "server": trailer.server,
            "recipients": trailer.recipients,
            "sealed_at": Time(trailer.sealed_at).rfc3339(),
        });
        if let Some(range) = range {
            told["range"] = range.into();
        }
        return writeln!(out, "{told}");
    }
    // Names come from whoever sealed the file: they are shown escaped, and never used as a path.
    let mut from = String::new();
    for (word, name) in [("from", &trailer.sender), ("by way of", &trailer.server)] {
        if !name.is_empty() {
            from.push_str(&format!(", {word} {}", escaped(name.as_bytes())));
        }
    }
    let sealed = Time(trailer.sealed_at).rfc3339();
    if let Some(range) = range {
        return writeln!(
            out,
            "{}: bytes {range} of {}, each verified{from}, sealed {sealed}",
            path.display(),
            trailer.size
        );
    }
    writeln!(out, "{}: {} bytes, verified{from}, sealed {sealed}", path.display(), trailer.size)?;
    writeln!(out, "sha256 {}", Digest(trailer.sha256))
}

/// What to tell the person, and what to try. `tried` is there when no identity fitted.
fn explain(path: &Path, error: ReadError, tried: Option<(&Envelope, &[Identity])>) -> Failure {
    let name = if path == Path::new("-") { "standard input".into() } else { path.display().to_string() };
    let error = match error {
        ReadError::Io(error) => return cannot_read(Path::new(&name), &error),
        ReadError::Seal(error) => error,
    };
    let failure = Failure::new(format_args!("{name}: {error}"));
    match error {
        SealError::NotSealed => {
            failure.hint("a sealed file begins with SEALDRP; is this the original, or another tool's?")
        }
        SealError::Version => failure.hint("a newer sealdrop may open it"),
        SealError::NotForThisIdentity => match tried {
            Some((envelope, identities)) => {
                let ids = |ids: Vec<[u8; 8]>| ids.iter().map(|id| hex(id)).collect::<Vec<_>>().join(", ");
                let have = ids(identities.iter().map(|identity| identity.to_recipient().key_id()).collect());
                failure.hint(format_args!("it is sealed to key {}; you gave {have}", ids(envelope.key_ids())))
            }
            None => failure,
        },
        SealError::ShredWrapped => failure.hint(
            "this copy is from the server's disk or a backup of it; fetch the file over SFTP while it has not expired",
        ),
        SealError::Unfinished => {
            failure.hint("this is the .part of an upload; the sender can continue it, or send the file again")
        }
        SealError::Length => failure.hint("compare its length with the server's listing and fetch it again"),
        SealError::Damaged | SealError::Malformed(_) => {
            failure.hint("fetch it again and check it against its receipt with `sealdrop verify`")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::keygen::write_identity;
    use crate::cli::seal::tests::seal;
    use crate::seal::{ENVELOPE_LEN, Kem, ShredKey};
    use std::fs;

    /// A sealed file with its identity, in a folder of their own.
    struct Site {
        folder: tempfile::TempDir,
        identity: Identity,
        plain: Vec<u8>,
        sealed: PathBuf,
    }

    fn site(size: usize) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::generate(Kem::P256).unwrap();
        write_identity(&folder.path().join("id"), &identity, Time(0)).unwrap();
        let plain: Vec<u8> = (0..size).map(|at| (at % 253) as u8).collect();
        fs::write(folder.path().join("scan"), &plain).unwrap();
        let sealed = seal(&folder.path().join("scan"), &identity.to_recipient().to_string()).unwrap();
        Site { folder, identity, plain, sealed }
    }

    impl Site {
        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn open_with(&self, id: &str, output: Option<&str>, force: bool) -> Result<Vec<u8>, Failure> {
            let output = output.map(|name| self.path(name));
            let command = Open { output, force, ..self.command(id) };
            let mut out = Vec::new();
            command.run(&mut out, false, false).map(|()| out)
        }

        fn command(&self, id: &str) -> Open {
            Open {
                identities: vec![self.path(id)],
                output: None,
                force: false,
                range: None,
                page: false,
                files: vec![self.sealed.clone()],
            }
        }

        fn range(&self, range: &str) -> Result<Vec<u8>, Failure> {
            let mut out = Vec::new();
            let range = Some(range.parse().map_err(Failure::new)?);
            Open { range, ..self.command("id") }.run(&mut out, false, false).map(|()| out)
        }

        /// Opens to a file and to a pipe; both must fail alike, and the folder stay as it was.
        fn refused(&self) -> Failure {
            let before = fs::read_dir(&self.folder).unwrap().count();
            let failure = self.open_with("id", Some("out"), false).unwrap_err();
            assert_eq!(self.open_with("id", None, false).unwrap_err(), failure);
            assert_eq!(fs::read_dir(&self.folder).unwrap().count(), before, "something was left behind");
            failure
        }

        fn rewrite(&self, change: impl FnOnce(&mut Vec<u8>)) {
            let mut bytes = fs::read(&self.sealed).unwrap();
            change(&mut bytes);
            fs::write(&self.sealed, bytes).unwrap();
        }
    }

    #[test]
    fn what_seal_writes_open_gives_back_to_a_file_and_to_a_pipe() {
        for size in [0, 1, 65536, 200_000] {
            let site = site(size);
            let said = site.open_with("id", Some("out"), false).unwrap();
            assert!(String::from_utf8(said).unwrap().contains(&format!("{size} bytes, verified")));
            assert!(fs::read(site.path("out")).unwrap() == site.plain);
            assert!(site.open_with("id", None, false).unwrap() == site.plain);
        }
    }

    #[test]
    fn the_opened_file_is_private_and_replaces_nothing_unasked() {
        let site = site(10);
        fs::write(site.path("out"), b"mine").unwrap();
        assert!(site.open_with("id", Some("out"), false).unwrap_err().hint.unwrap().contains("--force"));
        assert_eq!(fs::read(site.path("out")).unwrap(), b"mine");
        site.open_with("id", Some("out"), true).unwrap();
        assert!(fs::read(site.path("out")).unwrap() == site.plain);
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(site.path("out")).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        assert!(
            site.open_with("id", Some("scan.sealed"), true).unwrap_err().message.contains("the sealed file itself")
        );
    }

    #[test]
    fn a_wrong_identity_is_told_whom_the_file_is_for() {
        let site = site(10);
        let other = Identity::generate(Kem::X25519).unwrap();
        write_identity(&site.path("other"), &other, Time(0)).unwrap();
        let failure = site.open_with("other", Some("out"), false).unwrap_err();
        assert!(failure.message.ends_with("is not sealed to this identity"));
        let hint = failure.hint.unwrap();
        assert!(
            hint.contains(&hex(&site.identity.to_recipient().key_id()))
                && hint.contains(&hex(&other.to_recipient().key_id()))
        );
        assert!(site.open_with("absent", None, false).unwrap_err().hint.unwrap().contains("keygen"));
        assert!(site.open_with("scan.sealed", None, false).unwrap_err().message.contains("scan.sealed"));
    }

    #[test]
    fn a_damaged_or_cut_file_leaves_nothing_behind() {
        let damaged = site(200_000);
        // The last record: to a pipe, the good ones before it have gone out by then.
        damaged.rewrite(|bytes| bytes[8192 + 3 * 65568 + 20] ^= 1);
        let failure = damaged.open_with("id", Some("out"), false).unwrap_err();
        assert!(failure.message.ends_with("the file is damaged or the key is wrong"));
        assert!(!damaged.path("out").exists());
        let cut = site(10);
        cut.rewrite(|bytes| bytes.truncate(bytes.len() - 1));
        assert!(cut.refused().message.contains("cut short"));
        let short = site(10);
        short.rewrite(|bytes| bytes.truncate(100));
        assert!(short.refused().message.contains("cut short"));
        let other = site(10);
        other.rewrite(|bytes| bytes.fill(b'x'));
        assert!(other.refused().message.ends_with("this is not a sealed file"));
    }

    #[test]
    fn a_copy_from_the_servers_disk_says_where_to_get_a_good_one() {
        let site = site(10);
        site.rewrite(|bytes| {
            let head = Head::parse(bytes).unwrap();
            let envelope = Envelope::parse(&bytes[HEAD_LEN..HEADER_LEN]).unwrap();
            let wrapped = envelope.shred_wrap(&head, 1, &ShredKey::generate().unwrap()).unwrap();
            bytes[HEAD_LEN..HEADER_LEN].copy_from_slice(&wrapped.to_bytes());
        });
        let failure = site.refused();
        assert!(failure.message.contains("shred-wrapped") && failure.hint.unwrap().contains("over SFTP"));
    }

    #[test]
    fn a_part_of_an_upload_says_that_it_was_never_finished() {
        let site = site(70_000);
        site.rewrite(|bytes| {
            bytes[HEAD_LEN..HEADER_LEN].copy_from_slice(&[0; ENVELOPE_LEN]);
            bytes.truncate(8192 + 65568);
        });
        let failure = site.refused();
        assert!(failure.message.contains("never finished") && failure.hint.unwrap().contains(".part"));
    }

    #[test]
    fn plaintext_is_not_poured_into_a_terminal() {
        let site = site(10);
        let command = site.command("id");
        let mut out = Vec::new();
        assert!(command.run(&mut out, false, true).unwrap_err().hint.unwrap().contains("-o"));
        assert!(out.is_empty());
    }
    #[test]
    fn a_range_gives_its_bytes_and_reads_no_other_record() {
        let site = site(200_000);
        for (text, from, to) in [
            ("0-0", 0, 1),
            ("0-65535", 0, 65_536),
            ("65535-65536", 65_535, 65_537),
            ("70000-", 70_000, 200_000),
            ("-500", 199_500, 200_000),
            ("-999999999", 0, 200_000),
            ("199999-18446744073709551615", 199_999, 200_000),
        ] {
            assert!(site.range(text).unwrap() == site.plain[from..to], "{text}");
        }
        // The second of four records: what does not touch it does not mind.
        site.rewrite(|bytes| bytes[8192 + 65568 + 20] ^= 1);
        assert!(site.range("0-65535").is_ok() && site.range("131072-").is_ok());
        assert!(site.range("65536-65536").unwrap_err().message.contains("damaged"));
        assert!(site.range("200000-").unwrap_err().hint.unwrap().contains("200000 bytes"));
        let output = Some(site.path("part"));
        let range = Some("0-9".parse().unwrap());
        let mut said = Vec::new();
        Open { output, range, ..site.command("id") }.run(&mut said, false, false).unwrap();
        assert!(String::from_utf8(said).unwrap().contains("bytes 0-9 of 200000, each verified"));
        assert!(fs::read(site.path("part")).unwrap() == site.plain[..10]);
    }

    #[test]
    fn several_files_open_into_a_folder_and_one_that_fails_does_not_stop_the_others() {
        let site = site(10);
        fs::create_dir(site.path("opened")).unwrap();
        let damaged = site.path("damaged.sealed");
        let mut bytes = fs::read(&site.sealed).unwrap();
        bytes[8192 + 20] ^= 1;
        fs::write(&damaged, bytes).unwrap();
        fs::copy(&site.sealed, site.path("second.sealed")).unwrap();
        let files = vec![site.sealed.clone(), damaged.clone(), site.path("second.sealed")];
        let to_folder =
            |files: &[PathBuf]| Open { output: Some(site.path("opened")), files: files.to_vec(), ..site.command("id") };
        let failure = to_folder(&files).run(&mut Vec::new(), false, false).unwrap_err();
        assert!(failure.message.starts_with("1 of 3 files") && failure.message.contains("damaged.sealed: the file is"));
        for name in ["scan", "second"] {
            assert!(fs::read(site.path("opened").join(name)).unwrap() == site.plain);
        }
        assert_eq!(fs::read_dir(site.path("opened")).unwrap().count(), 2);

        let refused = |command: Open| command.run(&mut Vec::new(), false, false).unwrap_err();
        assert!(refused(Open { files: files.clone(), ..site.command("id") }).hint.unwrap().contains("-o FOLDER"));
        assert!(
            refused(Open { output: Some(site.path("id")), files: files.clone(), ..site.command("id") })
                .message
                .contains("not a folder")
        );
        assert!(refused(to_folder(&[site.sealed.clone(), site.sealed.clone()])).message.contains("two of the files"));
        assert!(refused(to_folder(&[site.path("scan")])).hint.unwrap().contains(".sealed"));
    }
}
