//! What only shows when all policy files are seen together: recipients that do not exist, users given twice, drops
//! that nobody could read. Adds to the complaints of the file where it is to be mended.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Time;
use crate::config::recipient;
use crate::config::suggest::nearest;
use crate::config::user_file::UserFile;
use crate::names::UserName;
use crate::policy::{Inbox, PasswordHash, Trust, User};
use crate::seal::STANZAS_LEN_MAX;

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
    for file in files {
        if let Some(user) = &file.parsed {
            both_sides_agree(file, user, &by_name);
        }
    }
    // What follows asks whether a sound policy is wise.
    for file in files {
        if let Some(user) = &file.parsed {
            unread_drops(file, user, &by_name, now);
            envelopes(file, user, &by_name);
            outlived(file, user, &by_name, now);
            own_drops(file, user);
            ended_accounts(file, user, now);
            empty_view(file, user, &by_name);
            ending_keys(file, now);
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

/// What is end-to-end is so for every recipient, and for no other's files.
fn both_sides_agree(file: &UserFile, user: &User, by_name: &BTreeMap<&str, &UserFile>) {
    for (folder, to) in user.folders.iter().flat_map(|folder| folder.to.iter().map(move |to| (folder, to))) {
        let other = by_name.get(to.as_str()).and_then(|file| file.parsed.as_ref());
        let Some(inbox) = other.and_then(|other| other.inbox.as_ref()) else { continue };
        let place = file.to.iter().find(|named| named.value == *to).map_or(0..0, |named| named.span.clone());
        let path = &folder.path;
        match (folder.end_to_end, matches!(inbox, Inbox::EndToEnd { .. })) {
            (true, false) => {
                let message = format!("\"{to}\" would not get what is sent to `{path}` end to end");
                let hint = format!("its [inbox] takes mode = \"e2e\" and its own key, or `{path}` no `require`");
                file.reader.error(place, message, hint);
            }
            (false, true) => {
                let message = format!("\"{to}\" takes only what is sealed by its sender, and `{path}` takes anything");
                file.reader.error(place, message, format!("add require = \"e2e\" to `{path}`"));
            }
            _ => {}
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

/// A drop that lasts longer than its recipient can log in. Of what never expires that is everybody's lot.
fn outlived(file: &UserFile, user: &User, by_name: &BTreeMap<&str, &UserFile>, now: Time) {
    for folder in &user.folders {
        let Some(gone) = folder.expire.map(|span| now.plus(span)) else { continue };
        for to in &folder.to {
            let Some(recipient) = by_name.get(to.as_str()).and_then(|file| file.parsed.as_ref()) else { continue };
            let Some(end) = recipient.login.end().filter(|end| *end > now && *end < gone) else { continue };
            let place = file.to.iter().find(|named| named.value == *to).map_or(0..0, |named| named.span.clone());
            let message = format!("what is sent to `{}` may outlast \"{to}\", who can log in until {end}", folder.path);
            file.reader.warn(
                place,
                message,
                format!("give \"{to}\" a key or account that lasts, or a shorter `expire`"),
            );
        }
    }
}

/// Whether the keys of a folder's recipients go into one envelope, and whether they should.
fn envelopes(file: &UserFile, user: &User, by_name: &BTreeMap<&str, &UserFile>) {
    for folder in &user.folders {
        let keys: Vec<_> = folder
            .to
            .iter()
            .filter_map(|name| by_name.get(name.as_str())?.parsed.as_ref()?.inbox.as_ref())
            .filter_map(recipient::of)
            .collect();
        let place = file.to.iter().find(|to| folder.to.contains(&to.value)).map_or(0..0, |to| to.span.clone());
        if keys.iter().map(|key| key.length).sum::<usize>() > STANZAS_LEN_MAX {
            let message = format!("the keys of the recipients of `{}` do not fit into a sealed file", folder.path);
            let hint =
                "a post-quantum key takes the room of nine others, and six are the most: make another folder for some";
            file.reader.error(place, message, hint);
        } else if keys.iter().any(|key| key.post_quantum) && !keys.iter().all(|key| key.post_quantum) {
            let message = format!("what is sent to `{}` is sealed to post-quantum keys and to others", folder.path);
            file.reader.warn(
                place,
                message,
                "it is as strong as the weakest: give all its recipients one sort, or take two folders",
            );
        }
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

/// So long before its end a key is spoken of: a partner's change board meets once a month.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

fn ending_keys(file: &UserFile, now: Time) {
    for key in &file.keys {
        let Some(end) = key.value.expires else { continue };
        if end <= now {
            file.reader.warn(
                key.span.clone(),
                format!("this key has expired on {end}"),
                "ask for a new one, and remove it",
            );
        } else if end.since(now) < SOON {
            let hint = "ask for a new one: both can stand here until then";
            file.reader.warn(key.span.clone(), format!("this key ends on {end}"), hint);
        }
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

/// What a policy file and the server's `[certificates]` say together.
pub fn certificates(files: &[UserFile], trust: &Trust) {
    for file in files {
        let (Some(user), login) = (&file.parsed, file.parsed.as_ref().map(|user| &user.login)) else { continue };
        let place = file.principals.clone().unwrap_or(0..0);
        if login.is_some_and(|login| login.authorities.is_empty() && !login.principals.is_empty())
            && trust.authorities.is_empty()
        {
            let hint = "add `authorities` here, or to [certificates] in sealdrop.toml";
            file.reader.error(place, format!("nobody can certify a key of \"{}\"", user.name), hint);
        }
        for key in file.keys.iter().filter(|key| trust.revoked.has_key(&key.value.blob)) {
            file.reader.warn(key.span.clone(), "this key is revoked, and does not log in", "remove it");
        }
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
