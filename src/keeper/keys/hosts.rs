//! Host keys: which there are is a setting. A new one is made beside the old, so that partners can be told of it while the
//! old one still answers them, and takes its place when it is asked to; the next start shows it.

use std::fs;
use std::path::{Path, PathBuf};

use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};

use super::KeyError;
use super::files::{at, destroy, read_ssh_key, sync_dir};
use crate::config::HostKey;

/// How the file of one that is prepared ends.
const NEXT: &str = "next";

/// The name of a host key's file, and what is in it.
pub(super) fn host_key(kind: HostKey) -> (&'static str, Algorithm) {
    match kind {
        HostKey::Ed25519 => ("host_ed25519", Algorithm::Ed25519),
        HostKey::EcdsaP256 => ("host_ecdsa", Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }),
    }
}

/// The name of the file of a kind of host key, the usual one if none is said.
pub fn host_key_file(kind: Option<HostKey>) -> &'static str {
    host_key(kind.unwrap_or(HostKey::Ed25519)).0
}

/// The host keys of these kinds, for the gate alone.
pub fn host_keys(dir: &Path, kinds: &[HostKey]) -> Result<Vec<PrivateKey>, KeyError> {
    kinds.iter().map(|kind| read_ssh_key(&dir.join(host_key(*kind).0))).collect()
}

/// Makes the next host key of each kind, where there is none yet.
pub fn prepare_host_keys(dir: &Path, kinds: &[HostKey]) -> Result<(), KeyError> {
    for (name, algorithm) in kinds.iter().map(|kind| host_key(*kind)) {
        let next = format!("{name}.{NEXT}");
        if !dir.join(&next).exists() {
            super::make_ssh_key(dir, &next, name, algorithm)?;
        }
    }
    sync_dir(dir)
}

/// Puts the prepared keys in the place of those that are shown now, and destroys these. How many.
pub fn place_host_keys(dir: &Path, kinds: &[HostKey]) -> Result<usize, KeyError> {
    let mut placed = 0;
    for (name, _) in kinds.iter().map(|kind| host_key(*kind)) {
        let (path, next) = (dir.join(name), dir.join(format!("{name}.{NEXT}")));
        let (public, next_public) = (dir.join(format!("{name}.pub")), dir.join(format!("{name}.{NEXT}.pub")));
        if !next.exists() {
            continue;
        }
        // The public half, then the private one. A crash between them: this is asked for again, and goes on.
        if next_public.exists() {
            fs::rename(&next_public, &public).map_err(at(&public))?;
        }
        let former = fs::OpenOptions::new().write(true).open(&path).ok();
        fs::rename(&next, &path).map_err(at(&path))?;
        sync_dir(dir)?;
        former.map_or(Ok(()), |former| super::files::wipe(&former)).map_err(at(&path))?;
        placed += 1;
    }
    // Of kinds that are not wanted any more nothing waits.
    for kind in [HostKey::Ed25519, HostKey::EcdsaP256].into_iter().filter(|kind| !kinds.contains(kind)) {
        destroy(&dir.join(format!("{}.{NEXT}", host_key(kind).0)))?;
    }
    Ok(placed)
}

/// For `known_hosts`: the public halves of the present keys, then of those that are prepared.
pub fn known_hosts(dir: &Path, host: &str, kinds: &[HostKey]) -> Result<String, KeyError> {
    let names = kinds.iter().map(|kind| host_key(*kind).0);
    let files: Vec<PathBuf> = names
        .clone()
        .map(|name| dir.join(format!("{name}.pub")))
        .chain(names.map(|name| dir.join(format!("{name}.{NEXT}.pub"))).filter(|path| path.exists()))
        .collect();
    let mut lines = String::new();
    for path in files {
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        let key = text.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        lines.push_str(&format!("{host} {key}\n"));
    }
    Ok(lines)
}
