//! Wrapped key files: everything that hangs on the root key lies in one of these. Each says in its header which root key it
//! is wrapped by, what kind of key it is and whose place it has, so that one can not be put in another's stead, and so that
//! a rotation can rewrap whatever kinds there are (docs/keys.md, "Wrapped files").

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use zeroize::Zeroizing;

use super::files::{FRESH, at, fresh_beside, read_private, sync_dir, write_private};
use super::root::{Root, RootId};
use super::{KeyError, Keys};

const MAGIC: &[u8; 8] = b"SDKEY\x01\r\n";
const NONCE_LEN: usize = 12;

/// A wrapped file, taken apart and not opened.
pub(super) struct Wrapped {
    pub root: RootId,
    kind: String,
    place: Vec<u8>,
    /// The associated data: all that stands before the nonce.
    header: Vec<u8>,
    nonce: [u8; NONCE_LEN],
    sealed: Vec<u8>,
}

impl Wrapped {
    pub fn seal(root: &Root, kind: &str, place: &[u8], secret: &[u8]) -> Result<Self, KeyError> {
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&root.id().0);
        for part in [kind.as_bytes(), place] {
            header.push(u8::try_from(part.len()).map_err(|_| KeyError::Place)?);
            header.extend_from_slice(part);
        }
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(KeyError::Random)?;
        let payload = Payload { msg: secret, aad: &header };
        let sealed = cipher(root, kind).encrypt(&Nonce::from(nonce), payload).map_err(|_| KeyError::Place)?;
        Ok(Self { root: root.id(), kind: kind.to_owned(), place: place.to_vec(), header, nonce, sealed })
    }

    /// `None` for what is no wrapped file: a public key, or the zeros of one that was destroyed.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (root, rest) = rest.split_first_chunk()?;
        let (kind, rest) = counted(rest)?;
        let (place, rest) = counted(rest)?;
        let header = bytes.get(..bytes.len() - rest.len())?.to_vec();
        let (nonce, sealed) = rest.split_first_chunk()?;
        Some(Self {
            root: RootId(*root),
            kind: std::str::from_utf8(kind).ok()?.to_owned(),
            place: place.to_vec(),
            header,
            nonce: *nonce,
            sealed: sealed.to_vec(),
        })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.header[..], &self.nonce, &self.sealed].concat()
    }

    pub fn is(&self, kind: &str, place: &[u8]) -> bool {
        self.kind == kind && self.place == place
    }

    pub fn open(&self, root: &Root) -> Option<Zeroizing<Vec<u8>>> {
        let payload = Payload { msg: &self.sealed, aad: &self.header };
        let opened = cipher(root, &self.kind).decrypt(&Nonce::from(self.nonce), payload).ok()?;
        Some(Zeroizing::new(opened))
    }

    /// The same key under another root key.
    pub fn rewrap(&self, from: &Root, to: &Root) -> Result<Option<Self>, KeyError> {
        self.open(from).map(|secret| Self::seal(to, &self.kind, &self.place, &secret)).transpose()
    }
}

/// A length of one byte and so many bytes.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

fn cipher(root: &Root, kind: &str) -> Aes256Gcm {
    Aes256Gcm::new(&(*root.derive(kind, b"wrap")).into())
}

impl Keys {
    pub(super) fn read_wrapped(&self, path: &Path, kind: &str, place: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let unwrap = || KeyError::Unwrap { path: path.to_owned() };
        let wrapped = Wrapped::parse(&read_private(path)?).filter(|w| w.is(kind, place)).ok_or_else(unwrap)?;
        let roots = self.roots();
        let root = [Some(&roots.current), roots.older.as_ref()].into_iter().flatten().find(|r| r.id() == wrapped.root);
        let root = root.ok_or_else(|| KeyError::OtherRoot {
            path: path.to_owned(),
            wanted: wrapped.root,
            have: roots.current.id(),
        })?;
        wrapped.open(root).ok_or_else(unwrap)
    }

    /// True if this call made the file, false if it was there: made beside it and linked, so that it is whole or absent.
    pub(super) fn make_wrapped(&self, path: &Path, kind: &str, place: &[u8], secret: &[u8]) -> Result<bool, KeyError> {
        let wrapped = Wrapped::seal(&self.roots().current, kind, place, secret)?;
        let fresh = fresh_beside(path)?;
        write_private(&fresh, &wrapped.to_bytes())?;
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
}

/// Every wrapped file below `dir`, whatever its kind.
pub(super) fn all_below(dir: &Path) -> Result<Vec<PathBuf>, KeyError> {
    let (mut found, mut folders) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            let entry = entry.map_err(at(&folder))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(at(&folder))?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && !entry.file_name().as_encoded_bytes().starts_with(FRESH.as_bytes()) {
                match wrapped_by(&path)? {
                    Some(_) => found.push(path),
                    None => continue,
                }
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Which root key wraps the file; `None` if it is gone or no wrapped file.
pub(super) fn wrapped_by(path: &Path) -> Result<Option<RootId>, KeyError> {
    use std::io::Read;
    let mut start = [0; 16];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    match read {
        Ok(()) => Ok(start.strip_prefix(MAGIC).and_then(|id| id.try_into().ok()).map(RootId)),
        Err(e) if [io::ErrorKind::NotFound, io::ErrorKind::UnexpectedEof].contains(&e.kind()) => Ok(None),
        Err(e) => Err(at(path)(e)),
    }
}
