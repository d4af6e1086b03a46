//! `sealdrop rewrap`: a sealed file for other recipients, by somebody who can open it. The envelope is made anew and the body
//! copied as it is: nothing is opened, and nothing passes in clear.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::failure::Failure;
use super::open::{keys, unwrap};
use super::output::{Output, cannot_read, cannot_write, progress, same_file};
use super::seal::whom::Whom;
use crate::names::hex;
use crate::seal::{Envelope, HEAD_LEN, HEADER_LEN, Head, Recipient, SealError, StanzaId};

/// Give a sealed file other recipients; the body stays as it is
#[derive(clap::Args)]
pub struct Rewrap {
    /// The identity file or SSH key of one who can open it now
    #[arg(short, long, value_name = "FILE")]
    identity: PathBuf,
    /// Who can open it from now on, `sealdrop1…` or an SSH key, and nobody else; give it once for each recipient
    #[arg(long = "to", value_name = "RECIPIENT", required = true)]
    to: Vec<String>,
    /// Seal to post-quantum keys and to others: the file is then as strong as the weakest
    #[arg(long)]
    mixed: bool,
    /// Where the result goes; without it FILE itself is replaced
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
    /// The sealed file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Copied at a time.
const BLOCK: usize = 1 << 20;

impl Rewrap {
    pub fn run(self, out: &mut dyn Write, json: bool) -> Result<(), Failure> {
        let keys = keys::read(&self.identity)?;
        let to = Whom::read(&self.to, &[])?;
        to.check_mixture(self.mixed)?;
        let recipients = to.recipients();
        let failed = |error: io::Error| cannot_read(&self.file, &error);
        let mut file = File::open(&self.file).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        let mut header = vec![0; HEADER_LEN];
        let of_file = |error: SealError| Failure::new(format_args!("{}: {error}", self.file.display()));
        file.read_exact(&mut header).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => of_file(SealError::NotSealed),
            _ => failed(error),
        })?;
        let (head, envelope) = header.split_at(HEAD_LEN);
        let head = Head::parse(head).map_err(of_file)?;
        let envelope = Envelope::parse(envelope).map_err(of_file)?;
        let key = unwrap(&self.file, &head, &envelope, &keys)?;
        let wanted: Vec<StanzaId> = recipients.iter().map(Recipient::stanza_id).collect();
        let before = envelope.stanza_ids();
        let gone: Vec<StanzaId> = before.iter().filter(|id| !wanted.contains(id)).copied().collect();
        let rewrapped = envelope.rewrap(&head, &key, &gone, recipients).map_err(of_file)?;

        let target = self.output.clone().unwrap_or_else(|| self.file.clone());
        let overwrite = self.force || self.output.is_none() || same_file(&self.file, &target);
        let mut output = Output::create(&target, about.mode() & 0o777, overwrite)?;
        let bar = progress(Some(about.len()), json);
        let broken = |error: io::Error| cannot_write(&target, &error);
        output.write_all(&head.to_bytes()).and_then(|()| output.write_all(&rewrapped.to_bytes())).map_err(broken)?;
        let mut block = vec![0; BLOCK];
        loop {
            let read = match file.read(&mut block) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            output.write_all(&block[..read]).map_err(broken)?;
            bar.inc(read as u64);
        }
        bar.finish_and_clear();
        output.commit()?;
        let added = wanted.iter().filter(|id| !before.contains(id)).count();
        let told = if json {
            let ids = |ids: &[StanzaId]| ids.iter().map(|id| hex(&id.key_id)).collect::<Vec<_>>();
            let told = serde_json::json!({
                "output": target.to_string_lossy(), "drop": head.drop_id().to_string(),
                "recipients": recipients.iter().map(Recipient::to_string).collect::<Vec<_>>(),
                "before": ids(&before), "removed": ids(&gone), "added": added,
            });
            writeln!(out, "{told}")
        } else {
            let (count, gone) = (recipients.len(), gone.len());
            writeln!(out, "{}: sealed to {count} now; {added} added, {gone} removed", target.display())
        };
        told.map_err(|error| cannot_write(std::path::Path::new("standard output"), &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::keygen::write_identity;
    use crate::clock::Time;
    use crate::seal::{FileKey, Identity, Kem, Mode};
    use std::fs;

    #[test]
    fn a_file_opens_for_those_it_was_rewrapped_to_and_no_other_and_its_body_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let [old, new, third] = [(); 3].map(|()| Identity::generate(Kem::P256).unwrap());
        write_identity(&at("old"), &old, Time(0)).unwrap();
        let key = FileKey::generate().unwrap();
        let head = Head::new(crate::names::DropId([7; 16]), Mode::Sealed, &key).unwrap();
        let both = [old.to_recipient(), third.to_recipient()];
        let envelope = Envelope::wrap(&head, &key, &both).unwrap();
        let body = vec![9; 3 * BLOCK / 2];
        fs::write(at("f.sealed"), [&head.to_bytes()[..], &envelope.to_bytes(), &body].concat()).unwrap();
        let rewrap = |output: Option<&str>, to: &[&Identity]| {
            let to = to.iter().map(|identity| identity.to_recipient().to_string()).collect();
            let (identity, output) = (at("old"), output.map(at));
            Rewrap { identity, to, mixed: false, output, force: false, file: at("f.sealed") }.run(&mut Vec::new(), true)
        };
        let opens = |name: &str, identity: &Identity| {
            let bytes = fs::read(at(name)).unwrap();
            assert!(bytes[..HEAD_LEN] == head.to_bytes() && bytes[HEADER_LEN..] == body);
            let envelope = Envelope::parse(&bytes[HEAD_LEN..HEADER_LEN]).unwrap();
            envelope.open(&head, identity).is_ok_and(|opened| opened.expose() == key.expose())
        };
        rewrap(Some("g.sealed"), &[&new, &third]).unwrap();
        assert!(opens("g.sealed", &new) && opens("g.sealed", &third) && !opens("g.sealed", &old));
        assert!(rewrap(Some("g.sealed"), &[&new]).is_err(), "what is there is not replaced unasked");
        rewrap(None, &[&new]).unwrap();
        assert!(opens("f.sealed", &new) && !opens("f.sealed", &old) && !opens("f.sealed", &third));
        assert!(rewrap(None, &[&new]).unwrap_err().message.contains("not sealed to this identity"));
    }
}
