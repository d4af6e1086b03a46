//! Key files on disk: private, whole or absent, durable before they are relied on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use russh::keys::PrivateKey;
use zeroize::Zeroizing;

use super::KeyError;
use crate::names::hex;

/// How the name of a key file begins until the file has its own. No user's name begins with a dot.
pub(super) const FRESH: &str = ".new-";

/// A name of that kind in the directory of `path`.
pub(super) fn fresh_beside(path: &Path) -> Result<PathBuf, KeyError> {
    let mut tag = [0; 8];
    getrandom::fill(&mut tag).map_err(KeyError::Random)?;
    Ok(path.with_file_name(format!("{FRESH}{}", hex(&tag))))
}

/// Overwrites what a file holds before it goes: what the file system keeps of it elsewhere is not in reach.
pub(super) fn wipe(file: &File) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(4096)];
    file.write_all_at(&zeros, 0)?;
    file.sync_all()
}

/// Wipes and removes a key file, durably. One that is gone already is fine.
pub(super) fn destroy(path: &Path) -> Result<(), KeyError> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => wipe(&file).and_then(|()| fs::remove_file(path)).map_err(at(path))?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(at(path)(e)),
    }
    path.parent().map_or(Ok(()), sync_dir)
}

pub(super) fn random32() -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(KeyError::Random)?;
    Ok(bytes)
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::NotFound => KeyError::Missing { path },
        _ => KeyError::File { path, source },
    }
}

/// A new file that is whole under its name or not there, whenever the power goes: `init` makes what is missing, and
/// cannot mend what is half there.
pub(super) fn place(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyError> {
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
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(at(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(path))
}

pub(super) fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
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

pub(super) fn read_ssh_key(path: &Path) -> Result<PrivateKey, KeyError> {
    let text = read_private(path)?;
    PrivateKey::from_openssh(text.as_slice())
        .map_err(|e| KeyError::Unusable { path: path.to_owned(), why: e.to_string() })
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), KeyError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(at(dir))
}
