//! A root key as a credential: made here, given to `systemd-creds` through a pipe, and kept by nobody else. It encrypts with
//! the machine's TPM where there is one, and writes the file that `LoadCredentialEncrypted=NAME` finds.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::failure::Failure;
use crate::keeper::keys;

/// `None` if the credential is there already.
pub fn make(store: &Path, name: &str) -> Result<Option<PathBuf>, Failure> {
    let path = store.join(name);
    if path.exists() {
        return Ok(None);
    }
    let cannot = |what: &str, e: &dyn std::fmt::Display| {
        Failure::new(format_args!("{what}: {e}"))
            .hint("systemd-creds is part of systemd 250 and newer; run as root, or see docs/keys.md for other ways")
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(store)
        .map_err(|e| cannot(&format!("cannot make {}", store.display()), &e))?;
    let mut encrypting = Command::new("systemd-creds")
        .args(["encrypt", "--quiet", &format!("--name={name}"), "-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| cannot("cannot run systemd-creds", &e))?;
    let text = keys::fresh_root_text().map_err(|e| Failure::new(&e).hint(e.hint()))?;
    let written = encrypting.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(text.as_bytes()));
    let output = encrypting.wait_with_output().map_err(|e| cannot("systemd-creds", &e))?;
    if written.is_err() || !output.status.success() {
        return Err(cannot("systemd-creds did not encrypt the root key", &output.status));
    }
    let beside = store.join(format!(".{name}.new"));
    let _ = fs::remove_file(&beside);
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(&output.stdout).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, &path))
        .and_then(|()| fs::File::open(store)?.sync_all())
        .map_err(|e| cannot(&format!("cannot write {}", path.display()), &e))?;
    Ok(Some(path))
}
