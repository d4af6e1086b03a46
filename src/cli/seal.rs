//! `sealdrop seal`: seals a file to recipients before it goes anywhere, so that whoever carries it never sees it. One
//! pass, any size, from a file or a pipe.

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
use crate::seal::{CHUNK, Envelope, FileKey, Head, Mode, Recipient, Sealer, Trailer};

/// Seal a file to its recipients
#[derive(clap::Args)]
pub struct Seal {
    /// Whom to seal to, `sealdrop1…`; give it once for each recipient
    #[arg(short, long = "recipient", value_name = "RECIPIENT", required = true)]
    recipients: Vec<String>,
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
        let recipients = parse_recipients(&self.recipients)?;
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
        let mut facts =
            Trailer { recipients: recipients.iter().map(Recipient::to_string).collect(), ..Trailer::default() };
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
            seal_stream(&mut *input, &self.file, length, &recipients, facts, out, Path::new("standard output"), json)?;
            return Ok(());
        };
        if same_file(&self.file, &target) {
            return Err(Failure::new("the output is the file that is being sealed").hint("choose another name with -o"));
        }
        let mut output = Output::create(&target, 0o666, self.force)?;
        let (drop, sealed) =
            seal_stream(&mut *input, &self.file, length, &recipients, facts, &mut output, &target, json)?;
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
            let whom =
                if recipients.len() == 1 { "1 recipient".into() } else { format!("{} recipients", recipients.len()) };
            writeln!(out, "{}: {} bytes, sealed to {whom}", target.display(), sealed.size)
        };
        told.map_err(|error| cannot_write(Path::new("standard output"), &error))
    }
}

/// Each recipient once. A text that is not one is never repeated in the error: it may be an identity.
fn parse_recipients(texts: &[String]) -> Result<Vec<Recipient>, Failure> {
    let mut recipients: Vec<Recipient> = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let recipient: Recipient = text.trim().parse().map_err(|error| {
            let which = if texts.len() == 1 { String::new() } else { format!(" {}", number + 1) };
            Failure::new(format_args!("recipient{which}: {error}"))
                .hint("`sealdrop keygen` prints the recipient of a new identity; an identity file has it in a comment")
        })?;
        if !recipients.contains(&recipient) {
            recipients.push(recipient);
        }
    }
    Ok(recipients)
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
    recipients: &[Recipient],
    mut facts: Trailer,
    output: &mut dyn Write,
    output_path: &Path,
    quiet: bool,
) -> Result<(DropId, Trailer), Failure> {
    let key = FileKey::generate().map_err(Failure::new)?;
    let mut drop = DropId([0; 16]);
    getrandom::fill(&mut drop.0).map_err(|_| Failure::new("the kernel gave no randomness"))?;
    let head = Head::new(drop, Mode::EndToEnd, &key).map_err(Failure::new)?;
    let envelope = Envelope::wrap(&head, &key, recipients).map_err(Failure::new)?;
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
        let command = Seal { recipients: vec![recipient.into()], output: None, force: false, file: file.into() };
        command.run(&mut Vec::new(), false, false)?;
        Ok(sealed_name(file))
    }

    #[test]
    fn a_mistyped_recipient_is_refused_and_never_repeated() {
        let identity = crate::seal::Identity::generate(crate::seal::Kem::P256).unwrap();
        let failure = parse_recipients(&[identity.to_text().to_string()]).unwrap_err();
        assert!(failure.message.contains("this is an identity"));
        assert!(!format!("{failure:?}").contains("SEALDROP-IDENTITY-1Q"));
        let text = identity.to_recipient().to_string();
        assert_eq!(parse_recipients(&[text.clone(), text.to_uppercase()]).unwrap().len(), 1);
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
