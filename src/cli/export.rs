//! `sealdrop export`: a sealed file as a file of another format, for a recipient who has only that format's tools. The
//! plaintext goes from one format into the other and nowhere else; what is written can be opened as a whole only once
//! the sealed file was verified to its end.

#[cfg(not(feature = "fips"))]
mod age;

use std::io::Write;
use std::path::PathBuf;

use super::failure::Failure;
#[cfg(not(feature = "fips"))]
use {
    super::open,
    super::output::{Output, cannot_write, progress, same_file},
    crate::names::Digest,
    crate::seal::Reader,
    indicatif::ProgressBar,
    std::io,
    std::path::Path,
};

/// Write a sealed file in another format
#[derive(clap::Args)]
pub struct Export {
    /// As age writes it, for who has stock `age` only: its ciphers are not NIST-approved
    #[arg(long, required = true)]
    age: bool,
    /// Whom the new file is for, `age1…` or a line `ssh-ed25519 …`; give it once for each recipient
    #[arg(short, long = "recipient", value_name = "RECIPIENT", required = true)]
    recipients: Vec<String>,
    /// The identity file that opens the sealed file; give it more than once to try several
    #[arg(short, long = "identity", value_name = "FILE", required = true)]
    identities: Vec<PathBuf>,
    /// Where the new file goes, `-` for standard output, which is also where it goes without this
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
    /// The sealed file; `-` reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[cfg(feature = "fips")]
impl Export {
    pub fn run(self, _: &mut dyn Write, _: bool, _: bool) -> Result<(), Failure> {
        Err(Failure::new("this build keeps to FIPS: it writes no age files, whose ciphers are not approved")
            .hint("open the file with `sealdrop open`, or export it with a build without `fips`"))
    }
}

#[cfg(not(feature = "fips"))]
impl Export {
    pub fn run(self, out: &mut dyn Write, json: bool, terminal: bool) -> Result<(), Failure> {
        let recipients = parse_recipients(&self.recipients)?;
        let target = self.output.as_deref().filter(|path| *path != Path::new("-"));
        if target.is_none() && terminal {
            return Err(Failure::new("an age file is no text: it is not written to a terminal")
                .hint("name a file with -o FILE, or pipe the output on"));
        }
        // A name that is taken, or that is the sealed file's, is told before the work.
        if let Some(target) = target
            && same_file(&self.file, target)
        {
            return Err(Failure::new("the output is the sealed file itself").hint("choose another name with -o"));
        }
        let output = target.map(|target| Output::create(target, 0o600, self.force)).transpose()?;
        let mut reader = open::opened(&self.file, &self.identities)?;
        let bar = progress(Some(reader.size()), json);
        let Some(mut output) = output else {
            return self.write(&mut reader, &recipients, out, Path::new("standard output"), &bar);
        };
        let target = target.unwrap_or(Path::new("-"));
        self.write(&mut reader, &recipients, &mut output, target, &bar)?;
        output.commit()?;
        bar.finish_and_clear();
        tell(out, json, target, &reader, recipients.len())
            .map_err(|error| cannot_write(Path::new("standard output"), &error))
    }

    /// The age file's last chunk is written when the whole sealed file has been verified, its SHA-256 too: what a reader
    /// of a pipe has before that is a file that no age takes for complete, and this ends with an error.
    fn write(
        &self,
        reader: &mut Reader<open::Disk>,
        recipients: &[age::Recipient],
        out: &mut dyn Write,
        target: &Path,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        let written = |error: io::Error| cannot_write(target, &error);
        let mut writer = age::Writer::begin(out, recipients).map_err(written)?;
        reader
            .stream(|bytes| {
                bar.inc(bytes.len() as u64);
                writer.write_all(bytes).map_err(open::CopyError::Write)
            })
            .map_err(|error| error.failure(&self.file, target))?;
        writer.finish().map_err(written)?;
        Ok(())
    }
}

/// Each recipient once. A text that is not one is never repeated in the error: it may be an identity.
#[cfg(not(feature = "fips"))]
fn parse_recipients(texts: &[String]) -> Result<Vec<age::Recipient>, Failure> {
    let mut recipients = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let recipient = age::Recipient::parse(text).map_err(|error| {
            let which = if texts.len() == 1 { String::new() } else { format!(" {}", number + 1) };
            Failure::new(format_args!("recipient{which}: {error}"))
                .hint("`age-keygen -y IDENTITY` prints the recipient of an age identity; an SSH key is the line of its .pub file")
        })?;
        if !recipients.contains(&recipient) {
            recipients.push(recipient);
        }
    }
    Ok(recipients)
}

#[cfg(not(feature = "fips"))]
fn tell(out: &mut dyn Write, json: bool, path: &Path, reader: &Reader<open::Disk>, count: usize) -> io::Result<()> {
    let trailer = reader.trailer();
    if json {
        let told = serde_json::json!({
            "output": path.to_string_lossy(),
            "format": "age",
            "drop": reader.head().drop_id().to_string(),
            "size": trailer.size,
            "sha256": Digest(trailer.sha256).to_string(),
            "recipients": count,
        });
        return writeln!(out, "{told}");
    }
    let whom = if count == 1 { "1 recipient".into() } else { format!("{count} recipients") };
    writeln!(out, "{}: {} bytes, verified, as an age file to {whom}", path.display(), trailer.size)?;
    writeln!(out, "sha256 {}", Digest(trailer.sha256))
}
