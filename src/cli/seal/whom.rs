//! Whom `sealdrop seal` seals to: recipients given as words or in files, and a passphrase.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::cli::ask;
use crate::cli::failure::Failure;
use crate::cli::output::cannot_read;
use crate::seal::{Envelope, FileKey, Head, KeyTextError, Passphrase, Recipient, SealError};

/// As many recipients as fit into a file, with comments, many times over.
const FILE_MAX: u64 = 1 << 20;

/// Everyone who will be able to open the file.
pub struct Whom {
    recipients: Vec<Recipient>,
    passphrase: Option<Passphrase>,
}

impl Whom {
    /// Each recipient once. A text that is not one is never repeated in the error: it may be an identity.
    pub fn read(texts: &[String], files: &[PathBuf]) -> Result<Self, Failure> {
        let mut to = Self { recipients: Vec::new(), passphrase: None };
        for (number, text) in texts.iter().enumerate() {
            let which = if texts.len() == 1 { String::new() } else { format!(" {}", number + 1) };
            to.add(text, &format!("recipient{which}"))?;
        }
        for path in files {
            let mut text = Vec::new();
            let file = File::open(path).map_err(|error| cannot_read(path, &error))?;
            let read = file.take(FILE_MAX + 1).read_to_end(&mut text).map_err(|error| cannot_read(path, &error))?;
            if read as u64 > FILE_MAX {
                return Err(Failure::new(format_args!("{} is too large for a list of recipients", path.display()))
                    .hint("a recipient on each line: sealdrop1… or ssh-ed25519 AAAA…"));
            }
            let text = String::from_utf8_lossy(&text);
            let mut named = 0;
            for (number, line) in text.lines().enumerate() {
                if !line.trim().is_empty() && !line.trim_start().starts_with('#') {
                    named += 1;
                    to.add(line, &format!("{}, line {}", path.display(), number + 1))?;
                }
            }
            if named == 0 {
                return Err(Failure::new(format_args!("{} names no recipient", path.display()))
                    .hint("a recipient on each line: sealdrop1… or ssh-ed25519 AAAA…"));
            }
        }
        Ok(to)
    }

    fn add(&mut self, text: &str, place: &str) -> Result<(), Failure> {
        let recipient: Recipient = text.trim().parse().map_err(|error| {
            Failure::new(format_args!("{place}: {error}")).hint(match error {
                KeyTextError::SshKind => {
                    "the whole line of an id_ed25519.pub, without options before it: ssh-ed25519 AAAA… comment"
                }
                _ => "`sealdrop keygen` prints the recipient of a new identity; an identity file has it in a comment",
            })
        })?;
        if !self.recipients.contains(&recipient) {
            self.recipients.push(recipient);
        }
        Ok(())
    }

    /// One who took the trouble of a post-quantum key is told when another key undoes it.
    pub fn check_mixture(&self, meant: bool) -> Result<(), Failure> {
        let strong = self.recipients.iter().filter(|recipient| recipient.is_post_quantum()).count();
        if meant || strong == 0 || strong == self.recipients.len() {
            return Ok(());
        }
        let other =
            self.recipients.iter().find(|recipient| !recipient.is_post_quantum()).map_or("other", Recipient::word);
        Err(Failure::new(format_args!("some of these recipients are post-quantum, and others are not ({other})"))
            .hint("the file would be as strong as the weakest: seal it twice, or say --mixed if that is enough"))
    }

    /// Without the passphrase.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    pub fn take_passphrase(&mut self, asked: bool, file: Option<&Path>) -> Result<(), Failure> {
        const EASY: &str = "take six words that have nothing to do with each other; \
                            at -p, Enter alone makes a passphrase that nobody guesses";
        let chosen = |words: &str| Passphrase::chosen(words).map_err(|error| Failure::new(error).hint(EASY));
        self.passphrase = match file {
            Some(path) => Some(chosen(&ask::from_file(path)?)?),
            None if asked => {
                let words = ask::ask("Passphrase (Enter alone makes one): ")?;
                if words.is_empty() {
                    let made = Passphrase::generate().map_err(Failure::new)?;
                    ask::show(&format!("The passphrase, shown this once: {}", made.as_str()))?;
                    Some(made)
                } else {
                    let passphrase = chosen(&words)?;
                    if *ask::ask("Again: ")? != *words {
                        return Err(Failure::new("the two are not the same").hint("try again"));
                    }
                    Some(passphrase)
                }
            }
            None => None,
        };
        Ok(())
    }

    pub fn envelope(&self, head: &Head, key: &FileKey) -> Result<Envelope, SealError> {
        match &self.passphrase {
            Some(passphrase) => Envelope::wrap_and_lock(head, key, &self.recipients, passphrase),
            None => Envelope::wrap(head, key, &self.recipients),
        }
    }

    /// As the trailer lists them.
    pub fn names(&self) -> Vec<String> {
        let passphrase = self.passphrase.iter().map(|_| "passphrase".to_owned());
        self.recipients.iter().map(Recipient::to_string).chain(passphrase).collect()
    }

    /// For the person who sealed.
    pub fn said(&self) -> String {
        let keys = match self.recipients.len() {
            0 => return "a passphrase".to_owned(),
            1 => "1 recipient".to_owned(),
            many => format!("{many} recipients"),
        };
        if self.passphrase.is_some() { format!("{keys} and a passphrase") } else { keys }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::{Identity, Kem};

    fn read(texts: &[String]) -> Result<Whom, Failure> {
        Whom::read(texts, &[])
    }

    #[test]
    fn a_mistyped_recipient_is_refused_and_never_repeated() {
        let identity = Identity::generate(Kem::P256).unwrap();
        let failure = read(&[identity.to_text().to_string()]).err().unwrap();
        assert!(failure.message.contains("this is an identity"));
        assert!(!format!("{failure:?}").contains("SEALDROP-IDENTITY-1Q"));
        let text = identity.to_recipient().to_string();
        assert_eq!(read(&[text.clone(), text.to_uppercase()]).unwrap().recipients.len(), 1);
    }

    #[test]
    fn a_post_quantum_file_has_no_weaker_recipient_unless_that_is_said() {
        let [classic, hybrid] =
            [Kem::X25519, Kem::XWing].map(|kem| Identity::generate(kem).unwrap().to_recipient().to_string());
        let mixed = read(&[classic.clone(), hybrid.clone()]).unwrap();
        assert!(mixed.check_mixture(false).unwrap_err().hint.unwrap().contains("--mixed"));
        assert!(mixed.check_mixture(true).is_ok());
        for alike in [&[classic][..], &[hybrid]] {
            assert!(read(alike).unwrap().check_mixture(false).is_ok());
        }
    }

    #[test]
    fn recipients_come_from_files_like_authorized_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFcYizeBcGOaXgIJ/GeMA6KMTGTHeSZ1TbsknHBxIMcm";
        let other = Identity::generate(Kem::P256).unwrap().to_recipient();
        std::fs::write(&path, format!("# ours\n\n{ssh} nightly@acme\n  {other}\n{ssh} again\n")).unwrap();
        let to = Whom::read(&[], std::slice::from_ref(&path)).unwrap();
        assert_eq!(to.names(), [ssh.to_owned(), other.to_string()]);
        std::fs::write(&path, format!("{ssh}\nssh-rsa AAAA\n")).unwrap();
        let failure = Whom::read(&[], std::slice::from_ref(&path)).err().unwrap();
        assert!(failure.message.contains("line 2") && failure.hint.unwrap().contains("id_ed25519.pub"));
        std::fs::write(&path, "# nobody\n").unwrap();
        assert!(Whom::read(&[], &[path]).is_err());
    }

    #[test]
    fn an_easy_passphrase_is_not_sealed_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words");
        let mut to = read(&[]).unwrap();
        std::fs::write(&path, "Summer2026!\n").unwrap();
        let failure = to.take_passphrase(false, Some(&path)).unwrap_err();
        assert!(failure.message.contains("easy to guess") && !format!("{failure:?}").contains("Summer"));
        std::fs::write(&path, "walnut ferry oblique tundra sand quiver\n").unwrap();
        to.take_passphrase(false, Some(&path)).unwrap();
        assert_eq!((to.names(), to.said()), (vec!["passphrase".to_owned()], "a passphrase".to_owned()));
    }
}
