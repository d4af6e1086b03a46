//! The keys the keeper holds, and the small files they live in. Keys are services: other parts ask for an envelope to be
//! opened, a journal key to be derived, a bucket to be wrapped; no caller gets a root, identity or shred key itself.
//!
//! ```text
//! keys/
//!   host_ed25519 host_ecdsa   OpenSSH private keys: read once before the gate is forked, then forgotten here
//!   receipt receipt.pub       OpenSSH ed25519: signs receipts and checkpoints
//!   root                      64 hex digits: wraps everything below. It may come from elsewhere (`root_key`)
//!   root.passphrase           the same, wrapped by a passphrase; root.token: wrapped by a PKCS#11 token
//!   root.older                while the root key is being replaced: the old one, wrapped by the new
//!   codes                     what the secrets of one-time codes in policies are sealed with
//!   names                     what hidden names are sealed with in the journal, once names are hidden
//!   identities/<user>         a managed recipient's identity
//!   retired/<user>            the one before, while it is being replaced
//!   shred/<bucket>.key        one bucket's key; destroyed when the bucket is past
//! ```
//! Everything from `root.older` on is a wrapped file (`wrapped`). docs/keys.md has the formats.

mod files;
mod hosts;
mod identities;
mod passphrase;
mod receipt;
mod root;
mod rotation;
mod shred;
mod token;
mod wrapped;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use russh::keys::ssh_key::{self, LineEnding};
use russh::keys::{Algorithm, PrivateKey};
use zeroize::Zeroizing;

use crate::config::{HostKey, RootKey, Settings};
use crate::names::UserName;
use crate::policy::totp::{self, SealedSecret, TotpSecret};
use crate::seal::SealError;
use crate::sys::memory::Locked;
use crate::sys::process;
use files::{FRESH, at, place, random32, read_ssh_key, sync_dir};
use root::Root;

pub use hosts::{host_key_file, host_keys, known_hosts, place_host_keys, prepare_host_keys};
pub use receipt::allowed_signers;
pub use root::{Ask, RootId};
pub use rotation::Rotated;
pub use shred::{Bucket, bucket_of, names_bucket_of, pickup_bucket_of};

/// Why a key file could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is missing")]
    Missing { path: PathBuf },
    #[error("{path} is missing, and names were hidden with it")]
    NamesMissing { path: PathBuf },
    #[error("{path} can be read by others (mode {mode:04o})")]
    Open { path: PathBuf, mode: u32 },
    #[error("{path} belongs to uid {owner}, and this daemon runs as uid {me}")]
    Owner { path: PathBuf, owner: u32, me: u32 },
    #[error("{path} is not a key this server can use: {why}")]
    Unusable { path: PathBuf, why: String },
    #[error("{path} does not open under the root key")]
    Unwrap { path: PathBuf },
    #[error("{path} is wrapped by root key {wanted}, and this is root key {have}")]
    OtherRoot { path: PathBuf, wanted: RootId, have: RootId },
    #[error("{path} is wrapped by root key {to} already, and this is {have}, which was being replaced")]
    HalfRotated { path: PathBuf, to: RootId, have: RootId },
    #[error("{path} is wrapped by a root key, and there is none at {source_of_root}")]
    NoRoot { path: PathBuf, source_of_root: String },
    #[error("the passphrase does not open {path}")]
    WrongPassphrase { path: PathBuf },
    #[error("a passphrase for the root key has at least {} characters", passphrase::CHARACTERS_MIN)]
    ShortPassphrase,
    #[error("the root key's passphrase cannot be asked for: {why}")]
    NoPassphrase { why: String },
    #[error("there is no credential {name}: the service manager handed over none")]
    NoCredentials { name: String },
    #[error("the root key's token: {what}")]
    Token { what: String },
    #[error("the root key at {at} is the one in use")]
    SameRoot { at: String },
    #[error("the root key is being replaced already")]
    Rotating,
    #[error("no root key is being replaced")]
    NoRotation,
    #[error("{path} is still under the old root key")]
    StillOlder { path: PathBuf },
    #[error("a key's kind or place is too long")]
    Place,
    #[error("cannot forbid core dumps: {0}")]
    Core(io::Error),
    #[error("no memory for a key: {0}")]
    Memory(io::Error),
    #[error("no random bytes from the kernel: {0}")]
    Random(getrandom::Error),
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl KeyError {
    /// What an operator might try.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Missing { .. } => {
                "restore the keys directory from its own backup; `sealdrop init` makes new keys, which open nothing old"
            }
            Self::NamesMissing { .. } => {
                "restore it from the keys directory's own backup; another one would not open the names in the journal"
            }
            Self::Open { .. } => "make it private: chmod 600 FILE, and ask yourself who has read it",
            Self::Owner { .. } => "chown it to the daemon's account, and ask yourself who has read it",
            Self::Unwrap { .. } => {
                "the root key is not the one this file was wrapped with: restore both from the same backup"
            }
            Self::Unusable { .. } => "restore the file from its backup; never edit a key file by hand",
            Self::OtherRoot { .. } => {
                "`root_key` names another root key than before: set it back, start, then change it and run `sealdrop rotate root`"
            }
            Self::HalfRotated { .. } => "set `root_key` to where the new one is; the rotation goes on by itself",
            Self::NoRoot { .. } => {
                "set `root_key` to where the root key is, or restore it from its backup; a new one would open nothing"
            }
            Self::WrongPassphrase { .. } => "try again; nothing was changed, and no new key was made",
            Self::ShortPassphrase => {
                "who has the key files can guess for ever; for a random one: openssl rand -base64 24"
            }
            Self::NoPassphrase { .. } => {
                "start it on a terminal, or hand the passphrase over: sealdrop serve --passphrase-fd 3 3</path/to/pipe"
            }
            Self::NoCredentials { .. } => {
                "LoadCredentialEncrypted=NAME in the unit (systemd/sealdrop.service shows it); docs/keys.md says how to make one"
            }
            Self::Token { .. } => {
                "is the library the token's, the token plugged in, its label and the key's as `pkcs11-tool -O` lists them?"
            }
            Self::SameRoot { .. } => "name another in `root_key` first",
            Self::Rotating | Self::NoRotation => "`sealdrop status` says what the daemon is doing",
            Self::StillOlder { .. } => {
                "run `sealdrop rotate root` again; the old root key is kept until no file needs it"
            }
            Self::File { .. } | Self::Random(_) | Self::Seal(_) | Self::Place | Self::Core(_) | Self::Memory(_) => {
                "see the system error above"
            }
        }
    }
}

/// What `create` made, for `init` to tell.
pub struct Created {
    pub files: Vec<PathBuf>,
}

/// Makes every key that is not there yet, the host keys of `kinds` among them. Existing files are left alone, and where
/// there are keys that a root key wraps, a root key that is missing is never made anew.
pub fn create(dir: &Path, kinds: &[HostKey], source: &RootKey, ask: Ask<'_>) -> Result<Created, KeyError> {
    let mut files = Vec::new();
    for sub in [dir.to_owned()].into_iter().chain(FOLDERS.map(|name| dir.join(name))) {
        if !sub.is_dir() {
            // Closed from the first moment: a mode that is set later may be lost where the name is not.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&sub).map_err(at(&sub))?;
            fs::set_permissions(&sub, fs::Permissions::from_mode(0o700)).map_err(at(&sub))?;
            files.push(sub);
        }
    }
    let hosts = kinds.iter().map(|kind| hosts::host_key(*kind));
    for (name, algorithm) in hosts.chain([("receipt", Algorithm::Ed25519)]) {
        if !dir.join(name).exists() {
            files.extend(make_ssh_key(dir, name, name, algorithm)?);
        }
    }
    // A credential is its service manager's.
    if root::file_of(dir, source).is_some_and(|path| !path.exists()) {
        if let Some(path) = wrapped::all_below(dir)?.into_iter().next() {
            return Err(KeyError::NoRoot { path, source_of_root: source.to_string() });
        }
        files.extend(root::create(dir, source, ask)?);
    }
    sync_dir(dir)?;
    // Its own name: without it a power cut after init takes all keys, and all that was sealed under them by then.
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_dir)?;
    Ok(Created { files })
}

/// A new root key as a key file or a credential holds it, for who puts it there.
pub fn fresh_root_text() -> Result<Zeroizing<String>, KeyError> {
    Ok(root::text_of(&Root::generate()?))
}

/// A new OpenSSH key in the file `name`, and its public half beside it.
fn make_ssh_key(dir: &Path, name: &str, comment: &str, algorithm: Algorithm) -> Result<[PathBuf; 2], KeyError> {
    let path = dir.join(name);
    let unusable = |e: ssh_key::Error| KeyError::Unusable { path: path.clone(), why: e.to_string() };
    let mut rng = ssh_key::rand_core::UnwrapErr(getrandom::SysRng);
    let mut key = PrivateKey::random(&mut rng, algorithm).map_err(unusable)?;
    key.set_comment(format!("sealdrop {comment}"));
    let text = key.to_openssh(LineEnding::LF).map_err(unusable)?;
    // The public half first: where the private one is, both are.
    let public = dir.join(format!("{name}.pub"));
    let line = key.public_key().to_openssh().map_err(unusable)?;
    place(&public, format!("{line}\n").as_bytes(), 0o644)?;
    sync_dir(dir)?;
    place(&path, text.as_bytes(), 0o600)?;
    Ok([path, public])
}

/// What is below the keys' directory.
const FOLDERS: [&str; 3] = ["identities", "retired", "shred"];

/// The root key in use, and while it is being replaced the one before.
#[derive(Clone)]
struct Roots {
    source: RootKey,
    current: Arc<Root>,
    older: Option<Arc<Root>>,
}

/// Receipt, root, identity and shred keys in use.
pub struct Keys {
    dir: PathBuf,
    roots: RwLock<Roots>,
    /// What the secrets of one-time codes are sealed with.
    codes: Locked,
    identities: identities::Opened,
    /// Buckets whose key is known to survive a power cut; one that is merely there may not.
    durable: Mutex<HashSet<u64>>,
    /// Users whose identity was made and is not in the ledger yet.
    made: Mutex<Vec<UserName>>,
    /// Held for writing while a key file is rewrapped, for reading while one is destroyed.
    changing: RwLock<()>,
}

impl Keys {
    /// With the root key that `source` names; asks for a passphrase only if that is one.
    pub fn unlock(dir: &Path, source: &RootKey, ask: Ask<'_>) -> Result<Self, KeyError> {
        for sub in FOLDERS {
            let sub = dir.join(sub);
            if !sub.is_dir() {
                return Err(KeyError::Missing { path: sub });
            }
        }
        let current = Arc::new(root::load(dir, source, ask)?);
        let mut keys = Self {
            dir: dir.to_owned(),
            roots: RwLock::new(Roots { source: source.clone(), current, older: None }),
            codes: Locked::take(&mut [0; 32]).map_err(KeyError::Memory)?,
            identities: identities::Opened::default(),
            durable: Mutex::default(),
            made: Mutex::default(),
            changing: RwLock::default(),
        };
        keys.find_older()?;
        keys.codes = keys.read_codes()?;
        Ok(keys)
    }

    /// The same for a command, which is no daemon: before a key is open, this process leaves no core and lets nobody look.
    pub fn unlock_for_command(settings: &Settings, ask: Ask<'_>) -> Result<Self, KeyError> {
        process::harden().map_err(KeyError::Core)?;
        Self::unlock(&settings.keys, &settings.root_key, ask)
    }

    /// With the root key in a file beside the others.
    pub fn open(dir: &Path) -> Result<Self, KeyError> {
        let mut nobody = || Err(KeyError::NoPassphrase { why: "a file needs none".into() });
        Self::unlock(dir, &RootKey::File(dir.join("root")), &mut nobody)
    }

    /// Made at the first start: the first thing that is opened with the root key, which so proves to be the right one.
    fn read_codes(&self) -> Result<Locked, KeyError> {
        let path = self.dir.join("codes");
        if !path.exists() {
            if let Some(path) = wrapped::all_below(&self.dir)?.into_iter().next() {
                let why = "it is gone, and other keys are there".into();
                return Err(KeyError::Unusable { path: path.with_file_name("codes"), why });
            }
            self.make_wrapped(&path, "codes", b"", random32()?.as_ref())?;
        }
        let bytes = self.read_wrapped(&path, "codes", b"")?;
        let mut key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| KeyError::Unwrap { path })?;
        Locked::take(&mut key).map_err(KeyError::Memory)
    }

    /// What names are sealed with in the journal, made if `make` says so. Whether one was made before is known where the
    /// journal is ([`super::names::hiding`]); here only that there are keys of buckets of names, which none is made beside.
    pub fn names_key(&self, make: bool) -> Result<Option<Zeroizing<[u8; 32]>>, KeyError> {
        let path = self.dir.join("names");
        if !path.exists() {
            if !make {
                return Ok(None);
            }
            if self.buckets()?.into_iter().any(|bucket| matches!(Bucket::of(bucket), Bucket::Names { .. })) {
                return Err(self.names_missing());
            }
            self.make_wrapped(&path, "names", b"", random32()?.as_ref())?;
        }
        let bytes = self.read_wrapped(&path, "names", b"")?;
        let key = bytes.as_slice().try_into().map_err(|_| KeyError::Unwrap { path })?;
        Ok(Some(Zeroizing::new(key)))
    }

    pub fn names_missing(&self) -> KeyError {
        KeyError::NamesMissing { path: self.dir.join("names") }
    }

    fn roots(&self) -> Roots {
        self.roots.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_roots(&self, roots: Roots) {
        *self.roots.write().unwrap_or_else(PoisonError::into_inner) = roots;
    }

    /// Which root key is in use, and where it comes from.
    pub fn root(&self) -> (RootId, RootKey) {
        let roots = self.roots();
        (roots.current.id(), roots.source)
    }

    /// Whose identities were made since this was last asked.
    pub fn take_made(&self) -> Vec<UserName> {
        std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fingerprints of the keys that others know this server by, with what each is for.
    pub fn fingerprints(&self) -> Vec<String> {
        let names = ["host_ed25519", "host_ecdsa", "receipt"];
        let read = names.iter().filter_map(|name| Some((name, read_ssh_key(&self.dir.join(name)).ok()?)));
        read.map(|(name, key)| format!("{name} {}", key.fingerprint(russh::keys::HashAlg::Sha256))).collect()
    }

    /// The key that signs receipts.
    pub fn receipt_key(&self) -> Result<PrivateKey, KeyError> {
        read_ssh_key(&self.dir.join("receipt"))
    }

    /// A one-time code's secret as it may stand in the policy of `user` and nobody else's, whichever root key there is by then.
    pub fn seal_totp(&self, user: &UserName, secret: &[u8; totp::SECRET_LEN]) -> Result<SealedSecret, KeyError> {
        let sealed = crate::seal::lock(self.codes.get(), "totp", user.as_str().as_bytes(), secret)?;
        sealed.try_into().map(SealedSecret).map_err(|_| self.no_totp())
    }

    pub fn open_totp(&self, user: &UserName, sealed: &SealedSecret) -> Result<TotpSecret, KeyError> {
        let opened = crate::seal::unlock(self.codes.get(), "totp", user.as_str().as_bytes(), &sealed.0);
        TotpSecret::from_bytes(&opened.map_err(|_| self.no_totp())?).ok_or_else(|| self.no_totp())
    }

    fn no_totp(&self) -> KeyError {
        KeyError::Unwrap { path: PathBuf::from("totp") }
    }

    /// Removes the key files that a crash left without their names: each is a second name of one that has its own, or of
    /// one that was never used. At start, when nobody makes any.
    pub fn remove_leftovers(&self) -> Result<(), KeyError> {
        for dir in [self.dir.clone()].into_iter().chain(FOLDERS.map(|name| self.dir.join(name))) {
            let mut removed = false;
            for entry in fs::read_dir(&dir).map_err(at(&dir))? {
                let path = entry.map_err(at(&dir))?.path();
                let name = path.file_name().unwrap_or_default();
                if name.as_encoded_bytes().starts_with(FRESH.as_bytes()) {
                    shred::erase(&path)?;
                    removed = true;
                }
            }
            if removed {
                sync_dir(&dir)?;
            }
        }
        self.destroy_former_receipt_key()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(at: &Path, source: &RootKey) -> Result<Created, KeyError> {
        create(at, &[HostKey::Ed25519], source, &mut || Ok("correct horse battery".to_owned().into()))
    }

    pub(super) fn keys() -> (tempfile::TempDir, Keys) {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("keys");
        make(&at, &RootKey::File(at.join("root"))).unwrap();
        let keys = Keys::open(&at).unwrap();
        (dir, keys)
    }

    #[test]
    fn derived_keys_differ_by_label_and_context() {
        let root = Root::generate().unwrap();
        let all = [root.derive("a", b"x"), root.derive("a", b"y"), root.derive("b", b"x")];
        assert!(all.iter().all(|k| **k != [0; 32]));
        assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
    }

    #[test]
    fn a_sealed_code_secret_opens_for_its_user_alone() {
        let (_dir, keys) = keys();
        let (acme, lab) = ("acme".parse().unwrap(), "lab".parse().unwrap());
        let sealed = keys.seal_totp(&acme, b"12345678901234567890").unwrap();
        let code = keys.open_totp(&acme, &sealed).unwrap().step_of("287082", crate::clock::Time(59_000));
        assert_eq!(code, Some(1));
        assert!(keys.open_totp(&lab, &sealed).is_err());
        assert!(!sealed.0.windows(20).any(|window| window == b"12345678901234567890"));
    }

    #[test]
    fn where_keys_are_a_missing_root_key_is_never_made_anew() {
        let (dir, _keys) = keys();
        let at = dir.path().join("keys");
        for source in [RootKey::File(at.join("elsewhere")), RootKey::Passphrase] {
            assert!(matches!(make(&at, &source), Err(KeyError::NoRoot { .. })));
            assert!(matches!(Keys::unlock(&at, &source, &mut || panic!()), Err(KeyError::Missing { .. })));
        }
        fs::write(at.join("root"), format!("{}\n", "0".repeat(64))).unwrap();
        assert!(matches!(Keys::open(&at), Err(KeyError::OtherRoot { .. })));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let (dir, _keys) = keys();
        let root = dir.path().join("keys/root");
        fs::set_permissions(&root, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keys::open(&dir.path().join("keys")), Err(KeyError::Open { mode: 0o644, .. })));
    }
}
