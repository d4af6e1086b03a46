//! The root key: 32 random bytes that wrap all other keys the keeper holds. Where it comes from is a setting; however it
//! comes, it is in one locked page of this process and nowhere else, and only what is derived from it is used.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::files::{at, place, random32, read_private, sync_dir};
use super::{KeyError, passphrase, token};
use crate::config::RootKey;
use crate::names::{from_hex, hex};
use crate::sys::memory::Locked;

/// Which root key; says nothing of what it is. Written as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootId(pub [u8; 8]);

impl fmt::Display for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// The root key in memory.
pub(super) struct Root {
    secret: Locked,
    id: RootId,
}

/// What a root key of this process may be opened with, besides what the settings name.
pub type Ask<'a> = &'a mut dyn FnMut() -> Result<Zeroizing<String>, KeyError>;

impl Root {
    pub fn generate() -> Result<Self, KeyError> {
        Self::new(*random32()?)
    }

    pub fn new(mut secret: [u8; 32]) -> Result<Self, KeyError> {
        let secret = Locked::take(&mut secret).map_err(KeyError::Memory)?;
        let mut id = RootId([0; 8]);
        id.0.copy_from_slice(&expand(secret.get(), "id", b"")[..8]);
        Ok(Self { secret, id })
    }

    pub fn id(&self) -> RootId {
        self.id
    }

    /// For what must carry it, wrapped.
    pub fn expose(&self) -> &[u8; 32] {
        self.secret.get()
    }

    pub fn derive(&self, label: &str, context: &[u8]) -> Zeroizing<[u8; 32]> {
        expand(self.secret.get(), label, context)
    }
}

/// HKDF-Expand with SHA-256 to 32 bytes; `key` is uniform already.
pub(super) fn expand(key: &[u8; 32], label: &str, context: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    let info = [b"sealdrop/v1/keys/", label.as_bytes(), b"\0", context].concat();
    // Both lengths are constants that HKDF accepts (RFC 5869 §2.3: at least HashLen in, at most 255 × HashLen out),
    // so the key can only stay zero if this build's HKDF is broken; a test of `Keys` refuses that.
    if let Ok(hkdf) = Hkdf::<Sha256>::from_prk(key) {
        let _ = hkdf.expand(&info, out.as_mut());
    }
    out
}

/// The file in which a root key is, wrapped or not; `None` for one that a service manager holds.
pub(super) fn file_of(dir: &Path, source: &RootKey) -> Option<PathBuf> {
    match source {
        RootKey::File(path) => Some(path.clone()),
        RootKey::Credential(_) => None,
        RootKey::Passphrase => Some(dir.join("root.passphrase")),
        RootKey::Token(_) => Some(dir.join("root.token")),
    }
}

/// The root key that is at `source`. Never makes one.
pub(super) fn load(dir: &Path, source: &RootKey, ask: Ask<'_>) -> Result<Root, KeyError> {
    let Some(path) = file_of(dir, source) else {
        let RootKey::Credential(name) = source else { return Err(KeyError::Place) };
        let path = credential_path(name)?;
        return from_text(&path, &read_credential(&path)?);
    };
    let bytes = read_private(&path)?;
    match source {
        RootKey::Passphrase => Root::new(passphrase::open(&path, &bytes, ask)?),
        RootKey::Token(key) => Root::new(token::open(&path, &bytes, key)?),
        RootKey::File(_) | RootKey::Credential(_) => from_text(&path, &bytes),
    }
}

/// What [`load`] reads at `source`, for a root key that is to be there. `None` for a credential, which is its service
/// manager's to keep.
pub(super) fn to_file(source: &RootKey, root: &Root, ask: Ask<'_>) -> Result<Option<Zeroizing<Vec<u8>>>, KeyError> {
    Ok(Some(match source {
        RootKey::Credential(_) => return Ok(None),
        RootKey::File(_) => Zeroizing::new(text_of(root).as_bytes().to_vec()),
        RootKey::Passphrase => Zeroizing::new(passphrase::seal(root, &ask()?)?),
        RootKey::Token(key) => Zeroizing::new(token::seal(root, key)?),
    }))
}

/// 64 hex digits and a line end: what a key file and a credential hold.
pub(super) fn text_of(root: &Root) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(65));
    for byte in root.expose() {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    text.push('\n');
    text
}

fn from_text(path: &Path, text: &[u8]) -> Result<Root, KeyError> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    let secret = from_hex::<32>(text.trim_end())
        .map_err(|_| KeyError::Unusable { path: path.to_owned(), why: "expected 64 hex digits".into() });
    let mut secret = secret?;
    let root = Root::new(secret);
    secret.zeroize();
    root
}

/// A new root key at `source`, durable when this returns. `None` if it is not this program's to make one there.
pub(super) fn create(dir: &Path, source: &RootKey, ask: Ask<'_>) -> Result<Option<PathBuf>, KeyError> {
    let Some(path) = file_of(dir, source) else { return Ok(None) };
    let Some(bytes) = to_file(source, &Root::generate()?, ask)? else { return Ok(None) };
    place(&path, &bytes, 0o600)?;
    path.parent().map_or(Ok(()), sync_dir)?;
    Ok(Some(path))
}

/// Where the service manager put a credential (systemd.exec(5)).
pub(super) fn credential_path(name: &str) -> Result<PathBuf, KeyError> {
    let dir = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty());
    dir.map(|dir| Path::new(&dir).join(name)).ok_or_else(|| KeyError::NoCredentials { name: name.to_owned() })
}

/// The service manager closes the directory; the mode of what is in it may show an access list's mask to the group.
pub(super) fn read_credential(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).map_err(at(path))?.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(KeyError::Open { path: path.to_owned(), mode });
    }
    fs::read(path).map(Zeroizing::new).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => KeyError::Missing { path: path.to_owned() },
        _ => at(path)(e),
    })
}
