//! Whether there is a key for every recipient that a folder names, as far as this machine can tell: the server may not have
//! been set up yet, or its keys be closed to whoever asks. What is found here, the daemon finds at each upload's first byte.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::config::{Loaded, Problem, Severity};
use crate::keeper::{
    self,
    keys::{KeyError, Keys},
};
use crate::names::UserName;
use crate::policy::{Folder, FolderKind, Inbox, User};
use crate::seal::{HEAD_LEN, Head, Mode};

/// One warning for each folder that nothing can be sent to. Nobody is made to type a passphrase for it: where none is handed
/// over, the keys are closed to whoever asks.
pub fn missing(loaded: &Loaded, mut passphrase: Option<OwnedFd>) -> Vec<Problem> {
    let settings = &loaded.settings;
    if !settings.keys.is_dir() {
        return Vec::new();
    }
    let mut ask = || match passphrase.take() {
        Some(handed_over) => keeper::ask(Some(handed_over)),
        None => Err(KeyError::NoPassphrase { why: "none was handed over".to_owned() }),
    };
    let keys = match Keys::unlock_for_command(settings, &mut ask) {
        Ok(keys) => keys,
        Err(error) if is_closed(&error) => return Vec::new(),
        Err(error) => {
            let message = format!("nothing can be sent to any folder: {error}");
            return vec![Problem::of_file(Severity::Warning, &settings.keys, message, error.hint())];
        }
    };
    let mut problems = Vec::new();
    for user in loaded.policy.users() {
        for folder in &user.folders {
            let sealed_to = sealed_to(loaded, user, folder);
            let found = sealed_to.iter().find_map(|name| Some((name, why(&keys, loaded, name)?)));
            let Some((name, (why, hint))) = found else { continue };
            let message = format!("nothing can be sent to `{}`: there is no key for {name}: {why}", folder.path);
            let file = settings.policies.join(format!("{}.toml", user.name));
            problems.push(Problem::of_file(Severity::Warning, file, message, hint));
        }
    }
    problems
}

/// Those to whose identity, which the server keeps, files in `folder` are sealed.
fn sealed_to(loaded: &Loaded, owner: &User, folder: &Folder) -> Vec<UserName> {
    match folder.kind {
        FolderKind::Shared => vec![owner.name.clone()],
        FolderKind::Drop => {
            let managed = |name: &&UserName| {
                let inbox = loaded.policy.user(name).and_then(|user| user.inbox.as_ref());
                matches!(inbox, Some(Inbox::Managed { .. } | Inbox::EndToEnd { .. }))
            };
            folder.to.iter().filter(managed).cloned().collect()
        }
    }
}

/// What is wrong with the identity of `user`, and what to do. One that nothing is sealed to is made when it is needed.
fn why(keys: &Keys, loaded: &Loaded, user: &UserName) -> Option<(String, String)> {
    match keys.has_identity(user) {
        Ok(true) => None,
        Ok(false) => {
            let tree = loaded.settings.state.join("jails").join(user.as_str());
            let own = loaded.policy.user(user).into_iter().flat_map(|user| &user.folders);
            let shared = own.filter(|folder| folder.kind == FolderKind::Shared).map(|folder| folder.path.relative());
            let mut places = shared.chain([Path::new("inbox")]);
            let holds = places.any(|place| holds_managed(&tree.join(place)).unwrap_or(false));
            let hint = "restore it in `identities` of the keys directory, from that one's own backup; without it nobody opens what was delivered";
            holds.then(|| ("its identity is gone, and files are sealed to it".to_owned(), hint.to_owned()))
        }
        Err(error) if is_closed(&error) => None,
        Err(error) => Some((error.to_string(), error.hint().to_owned())),
    }
}

/// Another's, or not to be read by whoever asks, or under what only the daemon is given: that says nothing about what is in it.
fn is_closed(error: &KeyError) -> bool {
    match error {
        KeyError::Owner { .. } | KeyError::NoPassphrase { .. } | KeyError::NoCredentials { .. } => true,
        KeyError::File { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
        _ => false,
    }
}

/// Whether there is a file in `dir`, or below it, that takes an identity of the server's.
fn holds_managed(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let (kind, path) = entry.and_then(|entry| Ok((entry.file_type()?, entry.path())))?;
        if kind.is_dir() && holds_managed(&path)? {
            return Ok(true);
        }
        let mut head = Vec::with_capacity(HEAD_LEN);
        if kind.is_file() && File::open(&path)?.take(HEAD_LEN as u64).read_to_end(&mut head)? == HEAD_LEN {
            let managed = Head::parse(&head).is_ok_and(|head| head.mode() == Mode::Managed);
            if managed {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
