//! `sealdrop seal`: seals a file to recipients before it goes anywhere, so that whoever carries it never sees it. One
//! pass, any size, from a file or a pipe.

pub mod whom;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::failure::Failure;
use super::output::{Output, cannot_read, cannot_write, progress, same_file};
use crate::clock;
use crate::names::{Digest, DropId};
use crate::seal::{CHUNK, FileKey, Head, Mode, Sealer, Trailer};

/// Seal a file to its recipients
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("whom").required(true).multiple(true))]
pub struct Seal {
    /// Whom to seal to, `sealdrop1…` or an SSH key, `ssh-ed25519 AAAA…`; give it once for each recipient
    #[arg(short, long = "recipient", value_name = "RECIPIENT", group = "whom")]
    recipients: Vec<String>,
    /// A file with a recipient on each line, such as `authorized_keys`; blank lines and `#` comments between
    #[arg(short = 'R', long = "recipients-file", value_name = "FILE", group = "whom")]
    recipients_files: Vec<PathBuf>,
    /// Seal with a passphrase, asked for on the terminal; Enter alone makes one and shows it there
    #[arg(short, long, group = "whom", conflicts_with = "passphrase_file")]
    passphrase: bool,
    /// Seal with the passphrase in the first line of a file
    #[arg(long, value_name = "FILE", group = "whom")]
    passphrase_file: Option<PathBuf>,
    /// Seal to post-quantum keys and to others: the file is then as strong as the weakest
    #[arg(long)]
    mixed: bool,
    /// Where the sealed file goes, `-` for standard output; without it FILE.sealed
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
    /// What to seal; `-` reads standard input and writes standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Full records are made from this many bytes at a time.
const BLOCK: usize = 16 * CHUNK;

impl Seal {
    pub fn run(self, out: &mut dyn Write, json: bool, terminal: bool) -> Result<(), Failure> {
        let mut to = whom::Whom::read(&self.recipients, &self.recipients_files)?;
        to.check_mixture(self.mixed)?;
        let piped = self.file == Path::new("-");
        let target = match &self.output {
            Some(path) if path == Path::new("-") => None,
            Some(path) => Some(path.clone()),
            None if piped && terminal => {
                return Err(Failure::new("a sealed file is no text: it is not written to a terminal")
                    .hint("name a file with -o FILE, or pipe the output on"));
            }
            None if piped => None,
            None => Some(sealed_name(&self.file)),
        };
        to.take_passphrase(self.passphrase, self.passphrase_file.as_deref())?;
        let mut facts = Trailer { recipients: to.names(), ..Trailer::default() };
        let (mut input, length): (Box<dyn Read>, Option<u64>) = if piped {
            (Box::new(io::stdin().lock()), None)
        } else {
            let file = File::open(&self.file).map_err(|error| cannot_read(&self.file, &error))?;
            let metadata = file.metadata().map_err(|error| cannot_read(&self.file, &error))?;
            if metadata.is_dir() {
                return Err(Failure::new(format_args!("{} is a folder", self.file.display()))
                    .hint("pack it first: tar -c FOLDER | sealdrop seal -r RECIPIENT -o FOLDER.tar.sealed -"));
            }
            facts.name = self.file.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
            facts.mtime = u64::try_from(metadata.mtime()).ok();
            let length = metadata.is_file().then_some(metadata.len());
            (Box::new(file), length)
        };
        let Some(target) = target else {
            seal_stream(&mut *input, &self.file, length, &to, facts, out, Path::new("standard output"), json)?;
            return Ok(());
        };
        if same_file(&self.file, &target) {
            return Err(Failure::new("the output is the file that is being sealed").hint("choose another name with -o"));
        }
        let mut output = Output::create(&target, 0o666, self.force)?;
        let (drop, sealed) = seal_stream(&mut *input, &self.file, length, &to, facts, &mut output, &target, json)?;
        output.commit()?;
        let told = if json {
            let told = serde_json::json!({
                "output": target.to_string_lossy(),
                "drop": drop.to_string(),
                "size": sealed.size,
                "sha256": Digest(sealed.sha256).to_string(),
                "recipients": sealed.recipients,
            });
            writeln!(out, "{told}")
        } else {
            writeln!(out, "{}: {} bytes, sealed to {}", target.display(), sealed.size, to.said())
        };
        told.map_err(|error| cannot_write(Path::new("standard output"), &error))
    }
}

fn sealed_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sealed");
    name.into()
}

#[expect(clippy::too_many_arguments, reason = "what is read, what is written and how each is called in an error")]
fn seal_stream(
    input: &mut dyn Read,
    input_path: &Path,
    length: Option<u64>,
    to: &whom::Whom,
    mut facts: Trailer,
    output: &mut dyn Write,
    output_path: &Path,
    quiet: bool,
) -> Result<(DropId, Trailer), Failure> {
    let key = FileKey::generate().map_err(Failure::new)?;
    let mut drop = DropId([0; 16]);
    getrandom::fill(&mut drop.0).map_err(|_| Failure::new("the kernel gave no randomness"))?;
    let head = Head::new(drop, Mode::EndToEnd, &key).map_err(Failure::new)?;
    let envelope = to.envelope(&head, &key).map_err(Failure::new)?;
    facts.opened_at = clock::now().0;
    let mut sealed = Vec::with_capacity(BLOCK + BLOCK / 8);
    let mut block = Zeroizing::new(vec![0; BLOCK]);
    let mut sealer = Sealer::begin(head, key, &envelope, &mut sealed);
    let bar = progress(length, quiet);
    loop {
        let read = match input.read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(|error| cannot_read(input_path, &error))?,
        };
        if read == 0 {
            break;
        }
        sealer.push(&block[..read], &mut sealed).map_err(Failure::new)?;
        output.write_all(&sealed).map_err(|error| cannot_write(output_path, &error))?;
        sealed.clear();
        bar.inc(read as u64);
    }
    facts.sealed_at = clock::now().0;
    let trailer = sealer.finish(facts, &mut sealed).map_err(Failure::new)?;
    let ended = output.write_all(&sealed).and_then(|()| output.flush());
    ended.map_err(|error| cannot_write(output_path, &error))?;
    bar.finish_and_clear();
    Ok((drop, trailer))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Seals `file` beside itself.
    pub fn seal(file: &Path, recipient: &str) -> Result<PathBuf, Failure> {
        let command = Seal {
            recipients: vec![recipient.into()],
            recipients_files: Vec::new(),
            passphrase: false,
            passphrase_file: None,
            mixed: false,
            output: None,
            force: false,
            file: file.into(),
        };
        command.run(&mut Vec::new(), false, false)?;
        Ok(sealed_name(file))
    }

    #[test]
    fn nothing_is_left_behind_when_sealing_fails() {
        let folder = tempfile::tempdir().unwrap();
        let recipient = crate::seal::Identity::generate(crate::seal::Kem::X25519).unwrap().to_recipient().to_string();
        let failure = seal(folder.path(), &recipient).unwrap_err();
        assert!(failure.message.ends_with("is a folder") && failure.hint.is_some());
        assert!(seal(&folder.path().join("absent"), &recipient).is_err());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
}
