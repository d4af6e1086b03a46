//! The keys the keeper holds, and the small files they live in. Keys are services: other parts ask for an envelope to be
//! opened, a journal key to be derived, a bucket to be wrapped; no caller gets a root, identity or shred key itself.
//!
//! ```text
//! keys/
//!   host_ed25519 host_ecdsa   OpenSSH private keys: read once before the gate is forked, then forgotten here
//!   receipt receipt.pub       OpenSSH ed25519: signs receipts and checkpoints
//!   root                      64 hex digits: wraps everything below
//!   identities/<user>         a managed recipient's identity, wrapped by the root key
//!   shred/<bucket>.key        one expiry hour's key, wrapped by the root key; destroyed when the hour is past
//! ```
//! Wrapped files are `nonce(12) ‖ AES-256-GCM(ciphertext ‖ tag)` under `HKDF-Expand(root, "sealdrop/v1/keys/" ‖ kind)`
//! with the file's place as associated data, so one can not be put in another's stead.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hkdf::Hkdf;
use russh::keys::ssh_key::{self, LineEnding};
use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::clock::Time;
use crate::names::{DropId, UserName, from_hex, hex};
use crate::seal::{Envelope, FileKey, Head, Identity, JournalKey, Kem, Recipient, SealError, ShredKey};

/// How the ending of a key file begins until the file has its name.
const FRESH: &str = "new-";

/// Milliseconds in one shred bucket: an hour.
const BUCKET_MS: u64 = 3_600_000;

/// Why a key file could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is missing")]
    Missing { path: PathBuf },
    #[error("{path} can be read by others (mode {mode:04o})")]
    Open { path: PathBuf, mode: u32 },
    #[error("{path} belongs to uid {owner}, and this daemon runs as uid {me}")]
    Owner { path: PathBuf, owner: u32, me: u32 },
    #[error("{path} is not a key this server can use: {why}")]
    Unusable { path: PathBuf, why: String },
    #[error("{path} does not open under the root key")]
    Unwrap { path: PathBuf },
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
            Self::Open { .. } => "make it private: chmod 600 FILE, and ask yourself who has read it",
            Self::Owner { .. } => "chown it to the daemon's account, and ask yourself who has read it",
            Self::Unwrap { .. } => {
                "the root key is not the one this file was wrapped with: restore both from the same backup"
            }
            Self::Unusable { .. } => "restore the file from its backup; never edit a key file by hand",
            Self::File { .. } | Self::Random(_) | Self::Seal(_) => "see the system error above",
        }
    }
}

/// The expiry hour whose key wraps a drop that expires at `expires`: the first full hour not before it, so the key's
/// end never comes before the drop's.
pub fn bucket_of(expires: Time) -> u64 {
    expires.0.div_ceil(BUCKET_MS)
}

/// The moment from which no drop of `bucket` is readable any more.
pub fn bucket_end(bucket: u64) -> Time {
    Time(bucket.saturating_mul(BUCKET_MS))
}

/// What `create` made, for `init` to tell.
pub struct Created {
    pub files: Vec<PathBuf>,
}

/// Makes every key that is not there yet. Existing files are left alone.
pub fn create(dir: &Path) -> Result<Created, KeyError> {
    let mut files = Vec::new();
    for sub in [dir.to_owned(), dir.join("identities"), dir.join("shred")] {
        if !sub.is_dir() {
            // Closed from the first moment: a mode that is set later may be lost where the name is not.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&sub).map_err(at(&sub))?;
            fs::set_permissions(&sub, fs::Permissions::from_mode(0o700)).map_err(at(&sub))?;
            files.push(sub);
        }
    }
    for (name, algorithm) in [
        ("host_ed25519", Algorithm::Ed25519),
        ("host_ecdsa", Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }),
        ("receipt", Algorithm::Ed25519),
    ] {
        let path = dir.join(name);
        if path.exists() {
            continue;
        }
        let unusable = |e: ssh_key::Error| KeyError::Unusable { path: path.clone(), why: e.to_string() };
        let mut rng = ssh_key::rand_core::UnwrapErr(getrandom::SysRng);
        let mut key = PrivateKey::random(&mut rng, algorithm).map_err(unusable)?;
        key.set_comment(format!("sealdrop {name}"));
        let text = key.to_openssh(LineEnding::LF).map_err(unusable)?;
        // The public half first: where the private one is, both are.
        let public = dir.join(format!("{name}.pub"));
        let line = key.public_key().to_openssh().map_err(unusable)?;
        place(&public, format!("{line}\n").as_bytes(), 0o644)?;
        sync_dir(dir)?;
        place(&path, text.as_bytes(), 0o600)?;
        files.extend([path, public]);
    }
    let root = dir.join("root");
    if !root.exists() {
        let secret = random32()?;
        let text = Zeroizing::new(format!("{}\n", hex(secret.as_ref())));
        place(&root, text.as_bytes(), 0o600)?;
        files.push(root);
    }
    sync_dir(dir)?;
    // Its own name: without it a power cut after init takes all keys, and all that was sealed under them by then.
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_dir)?;
    Ok(Created { files })
}

/// The host keys, for the gate alone.
pub fn host_keys(dir: &Path) -> Result<Vec<PrivateKey>, KeyError> {
    ["host_ed25519", "host_ecdsa"].iter().map(|name| read_ssh_key(&dir.join(name))).collect()
}

/// Receipt, root, identity and shred keys in use.
pub struct Keys {
    dir: PathBuf,
    root: Zeroizing<[u8; 32]>,
    /// Opened identities of managed recipients; a few hundred bytes each, for as long as the keeper runs.
    identities: Mutex<HashMap<UserName, Arc<Identity>>>,
    /// Buckets whose key is known to survive a power cut; one that is merely there may not.
    durable: Mutex<HashSet<u64>>,
}

impl Keys {
    pub fn open(dir: &Path) -> Result<Self, KeyError> {
        let path = dir.join("root");
        let text = Zeroizing::new(String::from_utf8(read_private(&path)?.to_vec()).unwrap_or_default());
        let root = from_hex::<32>(text.trim_end())
            .map_err(|_| KeyError::Unusable { path, why: "expected 64 hex digits".into() })?;
        for sub in ["identities", "shred"] {
            let sub = dir.join(sub);
            if !sub.is_dir() {
                return Err(KeyError::Missing { path: sub });
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            root: Zeroizing::new(root),
            identities: Mutex::default(),
            durable: Mutex::default(),
        })
    }

    /// The key that signs receipts.
    pub fn receipt_key(&self) -> Result<PrivateKey, KeyError> {
        read_ssh_key(&self.dir.join("receipt"))
    }

    /// Seals and opens the staging journal of one upload of `user`'s. Another user who asks with the same drop id, which
    /// receipts and lists tell, gets another key.
    pub fn journal_key(&self, user: &UserName, drop: DropId) -> JournalKey {
        JournalKey::from_bytes(*self.derive("journal", &[&drop.0, user.as_str().as_bytes()].concat()))
    }

    /// The public half of a managed recipient's identity; the identity is made at its first use.
    pub fn managed_recipient(&self, user: &UserName, kem: Kem) -> Result<Recipient, KeyError> {
        Ok(self.identity(user, Some(kem))?.to_recipient())
    }

    /// The file key of a drop sealed to `user`, who is a managed recipient.
    pub fn open_envelope(&self, user: &UserName, head: &Head, envelope: &Envelope) -> Result<FileKey, KeyError> {
        let inner = self.without_shred(head, envelope)?;
        Ok(inner.open(head, self.identity(user, None)?.as_ref())?)
    }

    /// The envelope as its recipient can use it: the shred wrap taken off.
    pub fn without_shred(&self, head: &Head, envelope: &Envelope) -> Result<Envelope, KeyError> {
        match envelope.bucket() {
            Some(bucket) => Ok(envelope.shred_unwrap(head, &self.shred_key(bucket)?)?),
            None => Ok(Envelope::parse(&envelope.to_bytes()[..])?),
        }
    }

    /// `envelope` under the shred key of `bucket`, which exists durably when this returns.
    /// The second value is whether the key was made by this call.
    pub fn with_shred(&self, head: &Head, envelope: &Envelope, bucket: u64) -> Result<(Envelope, bool), KeyError> {
        let made = self.ensure_bucket(bucket)?;
        Ok((envelope.shred_wrap(head, bucket, &self.shred_key(bucket)?)?, made))
    }

    /// Whether this call made the bucket's key. Commits that meet here wait for the one that makes it: a key that is there
    /// is not durable yet.
    fn ensure_bucket(&self, bucket: u64) -> Result<bool, KeyError> {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if durable.contains(&bucket) {
            return Ok(false);
        }
        let path = self.shred_path(bucket);
        let made = !path.exists() && self.make_wrapped(&path, "shred", &bucket.to_be_bytes(), random32()?.as_ref())?;
        if !made {
            sync_dir(&self.dir.join("shred"))?;
        }
        durable.insert(bucket);
        Ok(made)
    }

    /// Removes the key files that a crash left without their names: each is a second name of one that has its own, or of
    /// one that was never used. At start, when nobody makes any.
    pub fn remove_leftovers(&self) -> Result<(), KeyError> {
        for sub in ["identities", "shred"] {
            let dir = self.dir.join(sub);
            let mut removed = false;
            for entry in fs::read_dir(&dir).map_err(at(&dir))? {
                let path = entry.map_err(at(&dir))?.path();
                if path.extension().is_some_and(|ending| ending.to_string_lossy().starts_with(FRESH)) {
                    fs::remove_file(&path).map_err(at(&path))?;
                    removed = true;
                }
            }
            if removed {
                sync_dir(&dir)?;
            }
        }
        Ok(())
    }

    /// The buckets that still have a key.
    pub fn buckets(&self) -> Result<Vec<u64>, KeyError> {
        let dir = self.dir.join("shred");
        let mut buckets = Vec::new();
        for entry in fs::read_dir(&dir).map_err(at(&dir))? {
            let name = entry.map_err(at(&dir))?.file_name();
            let number = name.to_str().and_then(|n| n.strip_suffix(".key")).and_then(|n| n.parse::<u64>().ok());
            buckets.extend(number);
        }
        buckets.sort_unstable();
        Ok(buckets)
    }

    /// Destroys a bucket's key: overwritten and synced. Answers whether it was destroyed before. The file of zeros stays, opens
    /// nothing, and says that the destruction is still to be recorded; [`Self::forget_bucket`] ends that.
    pub fn destroy_bucket(&self, bucket: u64) -> Result<bool, KeyError> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).remove(&bucket);
        let path = self.shred_path(bucket);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(at(&path))?;
        let length = file.metadata().map_err(at(&path))?.len();
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(256)];
        file.read_exact_at(&mut bytes, 0).map_err(at(&path))?;
        let before = bytes.iter().all(|&byte| byte == 0);
        bytes.fill(0);
        file.write_all_at(&bytes, 0).map_err(at(&path))?;
        file.sync_all().map_err(at(&path))?;
        Ok(before)
    }

    /// Removes what [`Self::destroy_bucket`] left.
    pub fn forget_bucket(&self, bucket: u64) -> Result<(), KeyError> {
        let path = self.shred_path(bucket);
        fs::remove_file(&path).map_err(at(&path))?;
        sync_dir(&self.dir.join("shred"))
    }

    fn shred_path(&self, bucket: u64) -> PathBuf {
        self.dir.join("shred").join(format!("{bucket}.key"))
    }

    fn shred_key(&self, bucket: u64) -> Result<ShredKey, KeyError> {
        let path = self.shred_path(bucket);
        let bytes = self.read_wrapped(&path, "shred", &bucket.to_be_bytes())?;
        let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| KeyError::Unwrap { path })?;
        Ok(ShredKey::from_bytes(key))
    }

    /// From memory, from its file, or (given what to make) new.
    fn identity(&self, user: &UserName, make: Option<Kem>) -> Result<Arc<Identity>, KeyError> {
        let mut identities = self.identities.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(identity) = identities.get(user) {
            return Ok(Arc::clone(identity));
        }
        let path = self.dir.join("identities").join(user.as_str());
        match make {
            Some(kem) if !path.exists() => {
                let fresh = Identity::generate(kem)?.expose();
                self.make_wrapped(&path, "identity", user.as_str().as_bytes(), fresh.as_ref())?;
            }
            // A crash may have left it there and not durable; something is about to be sealed to it.
            Some(_) => path.parent().map_or(Ok(()), sync_dir)?,
            None => {}
        }
        let bytes = self.read_wrapped(&path, "identity", user.as_str().as_bytes())?;
        let identity = Arc::new(Identity::from_bytes(&bytes).map_err(|_| KeyError::Unwrap { path })?);
        identities.insert(user.clone(), Arc::clone(&identity));
        Ok(identity)
    }

    fn derive(&self, label: &str, context: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0; 32]);
        let info = [b"sealdrop/v1/keys/", label.as_bytes(), b"\0", context].concat();
        // Both lengths are constants that HKDF accepts (RFC 5869 §2.3: at least HashLen in, at most 255 × HashLen out),
        // so the key can only stay zero if this build's HKDF is broken; `Keys` tests refuse that.
        if let Ok(hkdf) = Hkdf::<Sha256>::from_prk(self.root.as_ref()) {
            let _ = hkdf.expand(&info, out.as_mut());
        }
        out
    }

    fn read_wrapped(&self, path: &Path, kind: &str, place: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let file = read_private(path)?;
        let unwrap = || KeyError::Unwrap { path: path.to_owned() };
        let (nonce, sealed) = file.split_at_checked(12).ok_or_else(unwrap)?;
        let nonce = Nonce::try_from(nonce).map_err(|_| unwrap())?;
        let opened = self.wrapper(kind).decrypt(&nonce, Payload { msg: sealed, aad: place }).map_err(|_| unwrap())?;
        Ok(Zeroizing::new(opened))
    }

    /// True if this call made the file, false if it was there: made beside it and linked, so that it is whole or absent.
    fn make_wrapped(&self, path: &Path, kind: &str, place: &[u8], secret: &[u8]) -> Result<bool, KeyError> {
        let mut nonce = [0; 12];
        getrandom::fill(&mut nonce).map_err(KeyError::Random)?;
        let sealed = self
            .wrapper(kind)
            .encrypt(&Nonce::from(nonce), Payload { msg: secret, aad: place })
            .map_err(|_| KeyError::Unwrap { path: path.to_owned() })?;
        let mut tag = [0; 8];
        getrandom::fill(&mut tag).map_err(KeyError::Random)?;
        let fresh = path.with_extension(format!("{FRESH}{}", hex(&tag)));
        write_private(&fresh, &[&nonce[..], &sealed].concat())?;
        let linked = fs::hard_link(&fresh, path);
        fs::remove_file(&fresh).map_err(at(&fresh))?;
        match linked {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(e) => return Err(at(path)(e)),
        }
        path.parent().map_or(Ok(()), sync_dir)?;
        Ok(true)
    }

    fn wrapper(&self, kind: &str) -> Aes256Gcm {
        Aes256Gcm::new(&(*self.derive(kind, b"wrap")).into())
    }
}

fn random32() -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(KeyError::Random)?;
    Ok(bytes)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::NotFound => KeyError::Missing { path },
        _ => KeyError::File { path, source },
    }
}

/// A new file that is whole under its name or not there, whenever the power goes: `init` makes what is missing, and
/// cannot mend what is half there.
fn place(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyError> {
    let mut passing = path.as_os_str().to_owned();
    passing.push(".new");
    let passing = PathBuf::from(passing);
    match fs::remove_file(&passing) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(at(&passing)(e)),
        _ => {}
    }
    write_private(&passing, bytes)?;
    let shown = fs::set_permissions(&passing, fs::Permissions::from_mode(mode));
    shown.and_then(|()| File::open(&passing)?.sync_all()).map_err(at(&passing))?;
    fs::rename(&passing, path).map_err(at(path))
}

/// A new file of mode 0600, durable with its content.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(at(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(path))
}

fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let meta = fs::metadata(path).map_err(at(path))?;
    let mode = meta.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Open { path: path.to_owned(), mode });
    }
    let (owner, me) = (meta.uid(), nix::unistd::geteuid().as_raw());
    if owner != me {
        return Err(KeyError::Owner { path: path.to_owned(), owner, me });
    }
    fs::read(path).map(Zeroizing::new).map_err(at(path))
}

fn read_ssh_key(path: &Path) -> Result<PrivateKey, KeyError> {
    let text = read_private(path)?;
    PrivateKey::from_openssh(text.as_slice())
        .map_err(|e| KeyError::Unusable { path: path.to_owned(), why: e.to_string() })
}

fn sync_dir(dir: &Path) -> Result<(), KeyError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(at(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (tempfile::TempDir, Keys) {
        let dir = tempfile::tempdir().unwrap();
        create(&dir.path().join("keys")).unwrap();
        let keys = Keys::open(&dir.path().join("keys")).unwrap();
        (dir, keys)
    }

    #[test]
    fn a_bucket_ends_no_earlier_than_its_drops() {
        for ms in [0, 1, BUCKET_MS - 1, BUCKET_MS, BUCKET_MS + 1] {
            let end = bucket_end(bucket_of(Time(ms)));
            assert!(end >= Time(ms) && end.0 < ms + BUCKET_MS, "{ms}");
        }
    }

    #[test]
    fn derived_keys_differ_by_label_and_context() {
        let (_dir, keys) = keys();
        let all = [keys.derive("a", b"x"), keys.derive("a", b"y"), keys.derive("b", b"x")];
        assert!(all.iter().all(|k| **k != [0; 32]));
        assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
    }

    #[test]
    fn a_journal_opens_for_its_user_alone() {
        let (_dir, keys) = keys();
        let [one, two] = ["lab", "other"].map(|user| keys.journal_key(&user.parse().unwrap(), DropId([7; 16])));
        assert!(one.expose() != two.expose());
    }

    #[test]
    fn a_drop_under_a_destroyed_bucket_opens_with_no_other_key() {
        let (dir, keys) = keys();
        let user: UserName = "lab".parse().unwrap();
        let key = FileKey::generate().unwrap();
        let head = Head::new(DropId([7; 16]), crate::seal::Mode::Managed, &key).unwrap();
        let recipient = keys.managed_recipient(&user, Kem::P256).unwrap();
        let inner = Envelope::wrap(&head, &key, &[recipient]).unwrap();
        let (outer, made) = keys.with_shred(&head, &inner, 42).unwrap();
        assert!(made && !keys.with_shred(&head, &inner, 42).unwrap().1);
        assert_eq!(keys.open_envelope(&user, &head, &outer).unwrap().expose(), key.expose());
        assert_eq!(keys.buckets().unwrap(), [42]);

        assert!(!keys.destroy_bucket(42).unwrap());
        let again = Keys::open(&dir.path().join("keys")).unwrap();
        assert!(matches!(again.open_envelope(&user, &head, &outer), Err(KeyError::Unwrap { .. })));
        assert!(again.destroy_bucket(42).unwrap(), "a file of zeros says that it was destroyed before");
        again.forget_bucket(42).unwrap();
        assert!(matches!(again.open_envelope(&user, &head, &outer), Err(KeyError::Missing { .. })));
        assert!(again.buckets().unwrap().is_empty());
    }

    #[test]
    fn an_identity_put_in_anothers_place_does_not_open() {
        let (dir, keys) = keys();
        keys.managed_recipient(&"lab".parse().unwrap(), Kem::X25519).unwrap();
        let identities = dir.path().join("keys/identities");
        fs::copy(identities.join("lab"), identities.join("other")).unwrap();
        let moved = keys.managed_recipient(&"other".parse().unwrap(), Kem::X25519);
        assert!(matches!(moved, Err(KeyError::Unwrap { .. })));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let (dir, _keys) = keys();
        let root = dir.path().join("keys/root");
        fs::set_permissions(&root, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keys::open(&dir.path().join("keys")), Err(KeyError::Open { mode: 0o644, .. })));
    }
}
