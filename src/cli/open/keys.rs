//! What `sealdrop open` opens with: identities, SSH keys, a passphrase. An SSH key that is under a passphrase is asked for when a
//! file needs it, and once.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::cli::ask;
use crate::cli::failure::Failure;
use crate::cli::output::cannot_read;
use crate::seal::{
    Envelope, FileKey, Head, Identity, KeyTextError, LockedSshIdentity, Passphrase, SealError, SshFile, SshIdentity,
    StanzaId, StanzaKind,
};

/// One thing to open with.
pub enum Key {
    Identity(Identity),
    Ssh(SshIdentity),
    Locked { file: LockedSshIdentity, path: PathBuf, unlocked: OnceCell<SshIdentity> },
    Passphrase(Passphrase),
}

/// Why none of them gave the file key: the most telling failure, or one of asking.
pub enum KeyError {
    Seal(SealError),
    Ask(Failure),
}

const HINT: &str = "-i takes the identity file that `sealdrop keygen` wrote for the recipient, or the OpenSSH private key beside its .pub";

/// The keys in one file.
pub fn read(path: &Path) -> Result<Vec<Key>, Failure> {
    let text = std::fs::read(path).map(Zeroizing::new).map_err(|error| cannot_read(path, &error).hint(HINT))?;
    let failed = |error: KeyTextError| {
        let hint = match error {
            KeyTextError::SshIdentityKind => "files are sealed to ed25519 keys alone: is there an id_ed25519?",
            _ => HINT,
        };
        Failure::new(format_args!("{}: {error}", path.display())).hint(hint)
    };
    let text = std::str::from_utf8(&text).map_err(|_| Failure::new(format_args!("{}: not text", path.display())))?;
    if !SshIdentity::is_meant(text) {
        return Ok(Identity::parse_file(text).map_err(failed)?.into_iter().map(Key::Identity).collect());
    }
    Ok(vec![match SshIdentity::parse(text).map_err(failed)? {
        SshFile::Open(identity) => Key::Ssh(identity),
        SshFile::Locked(file) => Key::Locked { file, path: path.to_owned(), unlocked: OnceCell::new() },
    }])
}

/// The file key by the first that has it.
pub fn unwrap(head: &Head, envelope: &Envelope, keys: &[Key]) -> Result<FileKey, KeyError> {
    let mut worst = SealError::NotForThisIdentity;
    for key in keys {
        match key.open(head, envelope) {
            Ok(key) => return Ok(key),
            Err(KeyError::Seal(SealError::NotForThisIdentity)) => {}
            Err(KeyError::Seal(error)) => worst = error,
            Err(asked) => return Err(asked),
        }
    }
    Err(KeyError::Seal(worst))
}

impl Key {
    /// What the stanzas that it opens are known by.
    pub fn id(&self) -> StanzaId {
        match self {
            Self::Identity(identity) => identity.to_recipient().stanza_id(),
            Self::Ssh(identity) => identity.to_recipient().stanza_id(),
            Self::Locked { file, .. } => file.to_recipient().stanza_id(),
            Self::Passphrase(_) => StanzaId { kind: StanzaKind::Passphrase, key_id: [0; 8] },
        }
    }

    pub fn is_passphrase(&self) -> bool {
        matches!(self, Self::Passphrase(_))
    }

    fn open(&self, head: &Head, envelope: &Envelope) -> Result<FileKey, KeyError> {
        let opened = match self {
            Self::Identity(identity) => envelope.open(head, identity),
            Self::Ssh(identity) => envelope.open_ssh(head, identity),
            Self::Locked { .. } if envelope.bucket().is_some() => Err(SealError::ShredWrapped),
            Self::Locked { .. } if !envelope.stanza_ids().contains(&self.id()) => Err(SealError::NotForThisIdentity),
            Self::Locked { file, path, unlocked } => {
                let identity = match unlocked.get() {
                    Some(identity) => identity,
                    None => {
                        let asked = ask_for(file, path).map_err(KeyError::Ask)?;
                        unlocked.get_or_init(|| asked)
                    }
                };
                envelope.open_ssh(head, identity)
            }
            Self::Passphrase(passphrase) => envelope.open_passphrase(head, passphrase),
        };
        opened.map_err(KeyError::Seal)
    }
}

fn ask_for(file: &LockedSshIdentity, path: &Path) -> Result<SshIdentity, Failure> {
    let words = ask::ask(&format!("Passphrase of the SSH key {}: ", path.display()))?;
    file.unlock(&words)
        .ok_or_else(|| Failure::new(format_args!("{}: this is not its passphrase", path.display())).hint("try again"))
}

/// The passphrase that a file is sealed with, asked or read.
pub fn passphrase(asked: bool, file: Option<&Path>) -> Result<Option<Key>, Failure> {
    let words = match file {
        Some(path) => ask::from_file(path)?,
        None if asked => ask::ask("Passphrase: ")?,
        None => return Ok(None),
    };
    Passphrase::new(&words).map(|passphrase| Some(Key::Passphrase(passphrase))).map_err(Failure::new)
}
