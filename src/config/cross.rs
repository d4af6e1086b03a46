//! What only shows when all policy files are seen together: recipients that do not exist, users given twice, drops
//! that nobody could read. Adds to the complaints of the file where it is to be mended.

use std::collections::BTreeMap;

use crate::clock::Time;
use crate::config::suggest::nearest;
use crate::config::user_file::UserFile;
use crate::names::UserName;
use crate::policy::{PasswordHash, User};

pub fn check(files: &[UserFile], now: Time) {
    let mut by_name: BTreeMap<&str, &UserFile> = BTreeMap::new();
    for file in files {
        let name = file.user.as_ref().map_or(file.stem.as_str(), |user| user.value.as_str());
        match (by_name.get(name), &file.user) {
            (Some(first), Some(user)) => {
                let hint = format!("one file for each user: see {}", first.reader.file.display());
                file.reader.error(user.span.clone(), "this user is given twice", hint);
            }
            _ => {
                by_name.insert(name, file);
            }
        }
    }
    for file in files {
        recipients_exist(file, &by_name);
    }
    // What follows asks whether a sound policy is wise.
    for file in files {
        if let Some(user) = &file.parsed {
            unread_drops(file, user, &by_name, now);
            own_drops(file, user);
            ended_accounts(file, user, now);
            empty_view(file, user, &by_name);
        }
    }
    shared_keys(files);
    unequal_passwords(files);
}

fn recipients_exist(file: &UserFile, by_name: &BTreeMap<&str, &UserFile>) {
    for to in &file.to {
        match by_name.get(to.value.as_str()) {
            None => {
                let hint = match nearest(to.value.as_str(), by_name.keys().copied()) {
                    Some(name) => format!("did you mean \"{name}\"?"),
                    None => format!("make the user first, in {}.toml with an [inbox]", to.value),
                };
                file.reader.error(to.span.clone(), format!("there is no user \"{}\"", to.value), hint);
            }
            Some(other) if other.has_inbox == Some(false) => {
                let hint =
                    format!("add [inbox] with mode = \"managed\" or \"sealed\" to {}", other.reader.file.display());
                file.reader.error(to.span.clone(), format!("the user \"{}\" has no inbox", to.value), hint);
            }
            Some(_) => {}
        }
    }
}

fn unread_drops(file: &UserFile, user: &User, by_name: &BTreeMap<&str, &UserFile>, now: Time) {
    for folder in &user.folders {
        let ended = |name: &UserName| {
            let recipient = by_name.get(name.as_str()).and_then(|file| file.parsed.as_ref())?;
            // No address: that is about a login, not about the account.
            recipient.barred(None, now)
        };
        let bars: Vec<_> = folder.to.iter().map(ended).collect();
        if bars.is_empty() || bars.iter().any(Option::is_none) {
            continue;
        }
        let place = file.to.iter().find(|to| folder.to.contains(&to.value)).map_or(0..0, |to| to.span.clone());
        let message = format!("nobody can read what is sent to `{}`: no recipient can log in", folder.path);
        file.reader.warn(place, message, "their accounts are disabled or have expired");
    }
}

fn own_drops(file: &UserFile, user: &User) {
    for to in file.to.iter().filter(|to| to.value == user.name) {
        let hint = "for files of one's own write kind = \"shared\"";
        file.reader.warn(to.span.clone(), "this user delivers to itself", hint);
    }
}

fn ended_accounts(file: &UserFile, user: &User, now: Time) {
    if !user.login.disabled && user.login.expires.is_some_and(|end| end <= now) {
        let place = file.user.as_ref().map_or(0..0, |user| user.span.clone());
        file.reader.warn(
            place,
            "this account has expired",
            "set `expires` in [login] anew, or write disabled = true to say it is meant",
        );
    }
}

fn empty_view(file: &UserFile, user: &User, by_name: &BTreeMap<&str, &UserFile>) {
    let place = file.user.as_ref().map_or(0..0, |user| user.span.clone());
    if user.folders.is_empty() && user.inbox.is_none() {
        file.reader.warn(place, "this user can log in and sees nothing", "add a [[folder]] or an [inbox]");
        return;
    }
    let named = by_name.values().any(|other| other.to.iter().any(|to| to.value == user.name));
    if user.inbox.is_some() && !named {
        file.reader.warn(
            place,
            "nobody delivers to this user's inbox",
            format!("name it in a folder of another user: to = [\"{}\"]", user.name),
        );
    }
}

fn shared_keys(files: &[UserFile]) {
    let mut owners: BTreeMap<&[u8], &UserFile> = BTreeMap::new();
    for file in files {
        for key in &file.keys {
            if let Some(other) = owners.insert(&key.value.blob, file).filter(|other| other.stem != file.stem) {
                let message = format!("this key is also a key of \"{}\"", other.stem);
                file.reader.warn(
                    key.span.clone(),
                    message,
                    "whoever holds it is both users; give each a key of their own",
                );
            }
        }
    }
}

/// The work of checking a password is the same for every name only if the hashes are alike (`policy::password`).
fn unequal_passwords(files: &[UserFile]) {
    let cost =
        |file: &UserFile| file.parsed.as_ref().and_then(|user| user.login.password.as_ref()).map(PasswordHash::cost);
    let Some(most) = files.iter().filter_map(cost).max_by_key(|cost| cost.work()) else { return };
    for file in files {
        if let (Some(place), Some(_)) = (&file.password, cost(file).filter(|cost| *cost != most)) {
            let message = "checking this password takes another time than checking others";
            file.reader.warn(
                place.clone(),
                message,
                "a stranger could tell names apart by it: renew it with `sealdrop passwd`",
            );
        }
    }
}
