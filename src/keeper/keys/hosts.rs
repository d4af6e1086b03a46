//! Host keys: which there are is a setting. A new one is made beside the old, so that partners can be told of it while the
//! old one still answers them, and takes its place when it is asked to; the next start shows it.

use std::fs;
use std::path::{Path, PathBuf};

use russh::keys::{Algorithm, EcdsaCurve, PrivateKey, PublicKey};

use super::KeyError;
use super::files::{at, destroy, read_ssh_key, sync_dir};
use crate::config::HostKey;
use crate::keeper::crash;

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

/// The host keys of these kinds, at the start, for the gate alone.
pub fn host_keys(dir: &Path, kinds: &[HostKey]) -> Result<Vec<PrivateKey>, KeyError> {
    let key = |kind: &HostKey| {
        let files = Files::of(dir, host_key(*kind).0);
        files.finish(dir)?;
        read_ssh_key(&files.private)
    };
    kinds.iter().map(key).collect()
}

/// The files of one kind of host key: in use and prepared, private and public.
struct Files {
    private: PathBuf,
    public: PathBuf,
    next: PathBuf,
    next_public: PathBuf,
}

impl Files {
    fn of(dir: &Path, name: &str) -> Self {
        let file = |ending: &str| dir.join(format!("{name}{ending}"));
        Self {
            private: file(""),
            public: file(".pub"),
            next: file(&format!(".{NEXT}")),
            next_public: file(&format!(".{NEXT}.pub")),
        }
    }

    /// Puts the prepared key in the place of the one in use, which is destroyed. Whether anything was to be done.
    fn place(&self, dir: &Path) -> Result<bool, KeyError> {
        if !self.next.exists() {
            return self.finish(dir);
        }
        // 1. The private half. A crash: the next start goes on, and shows the new key.
        let former = fs::OpenOptions::new().write(true).open(&self.private).ok();
        fs::rename(&self.next, &self.private).map_err(at(&self.private))?;
        sync_dir(dir)?;
        crash::point("rotate-host-placed");
        former.map_or(Ok(()), |former| super::files::wipe(&former)).map_err(at(&self.private))?;
        // 2. The public half.
        self.finish(dir)?;
        crash::point("rotate-host-told");
        Ok(true)
    }

    /// What a crash in the middle of [`place`](Self::place) left. A prepared public half without its private one may also be
    /// what a crash left that was making the pair: then it is not that of the key in use.
    fn finish(&self, dir: &Path) -> Result<bool, KeyError> {
        if self.next.exists() || !self.next_public.exists() {
            return Ok(false);
        }
        let text = fs::read_to_string(&self.next_public).map_err(at(&self.next_public))?;
        let in_use = read_ssh_key(&self.private)?;
        if PublicKey::from_openssh(&text).ok().is_none_or(|key| key.key_data() != in_use.public_key().key_data()) {
            return Ok(false);
        }
        fs::rename(&self.next_public, &self.public).map_err(at(&self.public))?;
        sync_dir(dir)?;
        Ok(true)
    }
}

/// Makes the next host key of each kind, where there is none yet.
pub fn prepare_host_keys(dir: &Path, kinds: &[HostKey]) -> Result<(), KeyError> {
    for (name, algorithm) in kinds.iter().map(|kind| host_key(*kind)) {
        let files = Files::of(dir, name);
        files.finish(dir)?;
        if !files.next.exists() {
            super::make_ssh_key(dir, &format!("{name}.{NEXT}"), name, algorithm)?;
            crash::point("rotate-host-made");
        }
    }
    sync_dir(dir)
}

/// Puts the prepared keys in the place of those that are shown now, and destroys these. How many.
pub fn place_host_keys(dir: &Path, kinds: &[HostKey]) -> Result<usize, KeyError> {
    let mut placed = 0;
    for (name, _) in kinds.iter().map(|kind| host_key(*kind)) {
        placed += usize::from(Files::of(dir, name).place(dir)?);
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
