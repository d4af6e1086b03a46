//! Signed configuration: where the settings name signers, `sealdrop.toml` and each policy file count only with the signature of
//! one of them beside them, made by `ssh-keygen -Y sign`. What is checked is the bytes that were read, never the file again.

use std::path::{Path, PathBuf};

use russh::keys::ssh_key::SshSig;
use russh::keys::{HashAlg, PublicKey};

use crate::config::keys::{POLICY_SIGNATURES, SERVER};
use crate::config::problem::{Problem, Severity};
use crate::config::table::Table;
use crate::config::{source, sshkey};
use crate::names::escaped;

/// What a signature is for, in SSHSIG's sense.
pub const NAMESPACE: &str = "policy@sealdrop";

/// `[policy_signatures]`: the signers, each a line that was parsed. `None` if the reader has been told of an error.
pub fn signers(top: &Table<'_>) -> Option<Vec<String>> {
    let table = top.table("policy_signatures", &POLICY_SIGNATURES, &SERVER);
    if !table.is_there() {
        return Some(Vec::new());
    }
    let texts = table.texts("signers")?;
    if texts.value.is_empty() {
        let hint = "name whose signatures count, or take [policy_signatures] away";
        table.reader().error(texts.span, "nobody could sign a policy", hint);
        return None;
    }
    let mut signers = Vec::new();
    for text in &texts.value {
        match sshkey::parse(text.value) {
            Ok(_) => signers.push(text.value.trim().to_owned()),
            Err((message, hint)) => table.reader().error(text.span.clone(), message, hint),
        }
    }
    (signers.len() == texts.value.len()).then_some(signers)
}

/// Whose signatures these files have, each once; of a file without a good one a problem is added.
pub fn check(files: &[(&Path, &[u8])], signers: &[String], problems: &mut Vec<Problem>) -> Vec<String> {
    let keys: Vec<PublicKey> = signers.iter().filter_map(|line| PublicKey::from_openssh(line).ok()).collect();
    let mut found = Vec::new();
    if keys.is_empty() {
        return found;
    }
    for (path, bytes) in files {
        match signer(path, bytes, &keys) {
            Ok(signer) if found.contains(&signer) => {}
            Ok(signer) => found.push(signer),
            Err(message) => problems.push(Problem::of_file(Severity::Error, *path, message, how(path))),
        }
    }
    found
}

/// The command that signs a file.
pub fn how(path: &Path) -> String {
    format!("a signer of [policy_signatures] signs it: ssh-keygen -Y sign -n {NAMESPACE} -f KEY {}", path.display())
}

/// Where a file's signature is: where `ssh-keygen` puts it.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

/// Key and comment of who signed these bytes, or what is wrong.
fn signer(path: &Path, bytes: &[u8], keys: &[PublicKey]) -> Result<String, String> {
    let at = beside(path);
    if !at.exists() {
        return Err("it is not signed, and [policy_signatures] wants it to be".to_owned());
    }
    let read = source::read(&at).map_err(|problem| format!("its signature cannot be used: {}", problem.message))?;
    let text = String::from_utf8_lossy(&read.bytes);
    let signature =
        SshSig::from_pem(text.trim()).map_err(|_| "what is beside it is no signature of SSH's".to_owned())?;
    match keys.iter().find(|key| key.verify(NAMESPACE, bytes, &signature).is_ok()) {
        Some(key) => {
            let comment = escaped(key.comment().to_string().as_bytes());
            Ok(format!("{} {comment}", key.fingerprint(HashAlg::Sha256)).trim_end().to_owned())
        }
        None if signature.namespace() != NAMESPACE => {
            Err(format!("its signature is for \"{}\"", escaped(signature.namespace().as_bytes())))
        }
        None if keys.iter().all(|key| key.key_data() != signature.public_key()) => {
            Err("its signature is of nobody that [policy_signatures] names".to_owned())
        }
        None => Err("it has changed since it was signed".to_owned()),
    }
}
