//! `sealdrop keygen`: an identity for someone who opens sealed files, in a file of its own that nobody else can read,
//! and the recipient that goes with it. Or a passphrase, which is both.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::failure::Failure;
use super::output::cannot_write;
use crate::clock::{self, Time};
use crate::seal::{Identity, Kem, Passphrase};

/// Make an identity that opens sealed files, and the recipient to seal them to
#[derive(clap::Args)]
pub struct Keygen {
    /// Where the identity goes; an existing file is never overwritten
    #[arg(short, long, value_name = "FILE", default_value = "sealdrop.identity")]
    output: PathBuf,
    /// The kind of key
    #[arg(long, value_enum, default_value_t = Kind::P256)]
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Approved by NIST; has the most hardware and tools
    P256,
    X25519,
    /// Experimental: ML-KEM-768 and P-256 together, against quantum computers
    #[value(name = "mlkem768-p256")]
    MlKem768P256,
    /// Experimental: ML-KEM-768 and X25519 together, against quantum computers
    XWing,
    /// A passphrase of 100 bits, for `seal` and `open` with --passphrase-file
    Passphrase,
}

impl Keygen {
    pub fn run(self, out: &mut dyn Write, json: bool, terminal: bool) -> Result<(), Failure> {
        let kem = match self.kind {
            Kind::P256 => Kem::P256,
            Kind::X25519 => Kem::X25519,
            Kind::MlKem768P256 => Kem::MlKem768P256,
            Kind::XWing => Kem::XWing,
            Kind::Passphrase => return self.passphrase(out, json),
        };
        let identity = Identity::generate(kem).map_err(Failure::new)?;
        write_identity(&self.output, &identity, clock::now())?;
        let recipient = identity.to_recipient();
        let path = self.output.display();
        let said = if json {
            let told = serde_json::json!({
                "identity_file": self.output.to_string_lossy(),
                "recipient": recipient.to_string(),
                "fingerprint": recipient.fingerprint(),
            });
            writeln!(out, "{told}")
        } else if terminal {
            writeln!(
                out,
                "Identity: {path} (keep it secret, and keep a copy: nothing else opens what is sealed to it)\n\
                 Recipient, to give to those who seal to you:\n{recipient}"
            )
        } else {
            writeln!(out, "{recipient}")
        };
        if kem.is_post_quantum() && !json {
            // Beside the recipient, which may be redirected.
            let _ = writeln!(io::stderr(), "{EXPERIMENTAL}");
        }
        said.map_err(|error| cannot_write(Path::new("standard output"), &error))
    }

    fn passphrase(&self, out: &mut dyn Write, json: bool) -> Result<(), Failure> {
        let passphrase = Passphrase::generate().map_err(Failure::new)?;
        let mut text = Zeroizing::new(String::with_capacity(64));
        text.push_str(passphrase.as_str());
        text.push('\n');
        write_private(&self.output, &text)?;
        let said = if json {
            writeln!(out, "{}", serde_json::json!({ "passphrase_file": self.output.to_string_lossy() }))
        } else {
            let path = self.output.display();
            writeln!(out, "Passphrase: in {path} (who has it opens what is sealed with it, and nothing else does)")
        };
        said.map_err(|error| cannot_write(Path::new("standard output"), &error))
    }
}

const EXPERIMENTAL: &str =
    "This kind of key is experimental: no standard has its number yet. Keep a copy of what is sealed to it elsewhere.";

/// The text of an identity file, as docs/sealed-file.md §11 has it.
pub fn identity_text(identity: &Identity, made: Time) -> Zeroizing<String> {
    let recipient = identity.to_recipient();
    let key = identity.to_text();
    // Reserved whole, so that growing leaves no copy of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(4096));
    text.push_str("# sealdrop identity: the private half of a key. Who has this file can open what is sealed to it.\n");
    let kind = if identity.kem().is_post_quantum() { " (post-quantum, experimental)" } else { "" };
    text.push_str(&format!("# kind: {}{kind}\n# made: {made}\n# recipient: {recipient}\n", recipient.word()));
    text.push_str(&key);
    text.push('\n');
    text
}

/// Writes a new identity file that only its owner can read, and makes it durable: sealing to a lost key loses the data.
pub fn write_identity(path: &Path, identity: &Identity, made: Time) -> Result<(), Failure> {
    write_private(path, &identity_text(identity, made))
}

fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Failure::new(format_args!("{} exists already", path.display()))
                .hint("it may be the only key to files sealed to it: choose another name with -o"));
        }
        opened => opened.map_err(|error| cannot_write(path, &error))?,
    };
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::File::open(folder)?.sync_all());
    written.map_err(|error| {
        // Half an identity helps nobody, and would be in the way of the next try.
        let _ = fs::remove_file(path);
        cannot_write(path, &error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Recipient;
    use std::os::unix::fs::PermissionsExt;

    fn keygen(path: &Path, kind: Kind, json: bool) -> Result<String, Failure> {
        let mut out = Vec::new();
        Keygen { output: path.to_owned(), kind }.run(&mut out, json, false)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn an_identity_file_is_private_says_what_it_is_and_opens() {
        let folder = tempfile::tempdir().unwrap();
        for (name, kind) in [("a", Kind::P256), ("b", Kind::X25519), ("c", Kind::MlKem768P256), ("d", Kind::XWing)] {
            let path = folder.path().join(name);
            let recipient: Recipient = keygen(&path, kind, false).unwrap().trim().parse().unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("# sealdrop identity:") && text.contains(&format!("# recipient: {recipient}\n")));
            assert_eq!(Identity::parse_file(&text).unwrap()[0].to_recipient(), recipient);
            assert!(text.contains(&format!("# kind: {}", recipient.word())));
            assert_eq!(text.contains("experimental"), recipient.is_post_quantum());
        }
    }

    #[test]
    fn an_existing_identity_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        keygen(&path, Kind::P256, false).unwrap();
        let before = fs::read(&path).unwrap();
        let failure = keygen(&path, Kind::P256, false).unwrap_err();
        assert!(failure.message.ends_with("exists already") && failure.hint.is_some());
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_made_passphrase_is_in_its_file_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words");
        let said = keygen(&path, Kind::Passphrase, false).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!((text.len(), text.matches('-').count()), (25, 4));
        assert!(!said.contains(text.trim_end()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn json_never_contains_the_private_key() {
        let folder = tempfile::tempdir().unwrap();
        let told = keygen(&folder.path().join("a"), Kind::P256, true).unwrap();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert!(told["recipient"].as_str().unwrap().starts_with("sealdrop1"));
        assert!(!told.to_string().to_uppercase().contains("SEALDROP-IDENTITY-1"));
    }
}
