//! Two policies side by side: whose rights change, each in one sentence, and whether it gives more than before. Every
//! field of a user and of a folder is named here, so that a new one does not compile until it is compared. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;

use crate::names::UserName;
use crate::policy::due::Due;
use crate::policy::patterns::Patterns;
use crate::policy::units::{show_expiry, show_pickups, show_span};
use crate::policy::user::{
    Finalize, Folder, FolderKind, Inbox, Limits, Login, Method, Mtime, Overwrite, Policy, SenderDelete, User,
};
use crate::sums::Algorithm;
use crate::vpath::VirtualPath;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub user: UserName,
    pub folder: Option<VirtualPath>,
    /// The key of the policy file, `login.from`.
    pub key: &'static str,
    pub effect: Effect,
    pub say: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Somebody may do, reach or keep more than before: to be looked at twice.
    Wider,
    /// Somebody may do less.
    Narrower,
    /// Neither, or not to be said in general.
    Other,
}

/// In the order of users' names; of each, as a policy file is written.
pub fn compare(before: &Policy, after: &Policy) -> Vec<Change> {
    let names: BTreeSet<&UserName> = before.users().chain(after.users()).map(|user| &user.name).collect();
    let (old_mail, new_mail) = (deliveries(before), deliveries(after));
    let mut all = Vec::new();
    for name in names {
        let mut changes = Changes { user: name, folder: None, list: Vec::new() };
        match (before.user(name), after.user(name)) {
            (Some(old), Some(new)) => changes.users(old, new),
            (None, Some(new)) => changes.appears(new),
            (Some(_), None) => {
                changes.add("user", Effect::Narrower, "the account is gone: sessions end, nobody logs in")
            }
            (None, None) => {}
        }
        let none = BTreeSet::new();
        let (old, new) = (old_mail.get(name).unwrap_or(&none), new_mail.get(name).unwrap_or(&none));
        for (sender, path) in new.difference(old) {
            changes.add("folder.to", Effect::Wider, format!("receives what {sender} sends to {path}"));
        }
        for (sender, path) in old.difference(new) {
            changes.add("folder.to", Effect::Narrower, format!("no longer receives what {sender} sends to {path}"));
        }
        all.append(&mut changes.list);
    }
    all
}

type Deliveries<'a> = BTreeMap<&'a UserName, BTreeSet<(&'a UserName, &'a VirtualPath)>>;

/// Of each recipient, whose folders it is sent.
fn deliveries(policy: &Policy) -> Deliveries<'_> {
    let mut all = Deliveries::new();
    for user in policy.users() {
        for folder in &user.folders {
            for to in &folder.to {
                all.entry(to).or_default().insert((&user.name, &folder.path));
            }
        }
    }
    all
}

/// The changes of one user, as they are found.
struct Changes<'a> {
    user: &'a UserName,
    folder: Option<&'a VirtualPath>,
    list: Vec<Change>,
}

impl<'a> Changes<'a> {
    fn add(&mut self, key: &'static str, effect: Effect, say: impl Into<String>) {
        let (user, folder) = (self.user.clone(), self.folder.cloned());
        self.list.push(Change { user, folder, key, effect, say: say.into() });
    }

    /// `what: before → after`, if they differ.
    fn differs<T: PartialEq>(
        &mut self,
        key: &'static str,
        effect: Effect,
        old: &T,
        new: &T,
        show: impl Fn(&T) -> String,
    ) {
        if old != new {
            self.add(key, effect, format!("{}: {} -> {}", label(key), show(old), show(new)));
        }
    }

    /// A bound: `None` is none.
    fn bound<T: Ord>(&mut self, key: &'static str, old: Option<&T>, new: Option<&T>, show: impl Fn(&T) -> String) {
        let wider = match (old, new) {
            (None, None) => return,
            (Some(old), Some(new)) if old == new => return,
            (Some(old), Some(new)) => new > old,
            (old, _) => old.is_some(),
        };
        let effect = if wider { Effect::Wider } else { Effect::Narrower };
        let none = if key.ends_with("expire") || key.ends_with("expires") { "never" } else { "no limit" };
        let show = |bound: Option<&T>| bound.map_or_else(|| none.to_owned(), &show);
        self.add(key, effect, format!("{}: {} -> {}", label(key), show(old), show(new)));
    }

    fn appears(&mut self, user: &'a User) {
        let closed = if user.login.disabled { ", disabled" } else { "" };
        self.add("user", Effect::Wider, format!("a new account{closed}"));
        for key in &user.login.keys {
            self.add("login.keys", Effect::Wider, format!("logs in with key {} {}", key.fingerprint, key.comment));
        }
        if !user.login.principals.is_empty() {
            let names = show_list(&user.login.principals, "nobody");
            self.add("login.principals", Effect::Wider, format!("logs in with a certificate for {names}"));
        }
        if user.login.password.is_some() {
            self.add("login.password", Effect::Wider, "logs in with a password");
        }
        if user.login.from.is_empty() {
            self.add("login.from", Effect::Wider, "from anywhere");
        }
        for folder in &user.folders {
            self.folder_appears(folder);
        }
        if let Some(inbox) = &user.inbox {
            self.add("inbox", Effect::Wider, format!("an inbox, {}", show_inbox(inbox)));
        }
    }

    fn users(&mut self, old: &'a User, new: &'a User) {
        let User { name: _, login, limits, folders, inbox, due } = new;
        self.login(&old.login, login);
        let Limits { bytes, files, sessions } = limits;
        self.bound("limits.bytes", old.limits.bytes.as_ref(), bytes.as_ref(), |size| size.to_string());
        self.bound("limits.files", old.limits.files.as_ref(), files.as_ref(), u64::to_string);
        self.bound("limits.sessions", old.limits.sessions.as_ref(), sessions.as_ref(), u32::to_string);
        for folder in &old.folders {
            if !folders.iter().any(|other| other.path == folder.path) {
                self.folder = Some(&folder.path);
                self.add("folder", Effect::Narrower, "the folder is gone from the view");
            }
        }
        for folder in folders {
            match old.folders.iter().find(|other| other.path == folder.path) {
                Some(before) => self.folders(before, folder),
                None => self.folder_appears(folder),
            }
        }
        self.folder = None;
        self.inboxes(old.inbox.as_ref(), inbox.as_ref());
        let told = |due: &[Due]| due.iter().map(ToString::to_string).collect::<Vec<_>>();
        self.differs("due", Effect::Other, &told(&old.due), &told(due), |due| show_list(due, "nothing"));
    }

    fn login(&mut self, old: &Login, new: &Login) {
        let Login { keys, authorities, principals, password, totp, require, from, hours, disabled, expires } = new;
        match (old.disabled, *disabled) {
            (true, false) => self.add("login.disabled", Effect::Wider, "the account is enabled again"),
            (false, true) => self.add("login.disabled", Effect::Narrower, "the account is disabled: sessions end"),
            _ => {}
        }
        let end = |time: &crate::clock::Time| time.rfc3339();
        self.bound("login.expires", old.expires.as_ref(), expires.as_ref(), end);
        for key in keys.iter().filter(|key| old.key(&key.blob).is_none()) {
            self.add("login.keys", Effect::Wider, format!("a key more: {} {}", key.fingerprint, key.comment));
        }
        for key in old.keys.iter().filter(|key| new.key(&key.blob).is_none()) {
            self.add("login.keys", Effect::Narrower, format!("a key less: {} {}", key.fingerprint, key.comment));
        }
        for key in keys {
            let Some(before) = old.key(&key.blob).filter(|before| before.expires != key.expires) else { continue };
            let wider = match (before.expires, key.expires) {
                (Some(old), Some(new)) => new > old,
                (old, _) => old.is_some(),
            };
            let effect = if wider { Effect::Wider } else { Effect::Narrower };
            let end = |end: Option<crate::clock::Time>| end.map_or_else(|| "never".to_owned(), |end| end.rfc3339());
            let say = format!("key {} ends: {} -> {}", key.fingerprint, end(before.expires), end(key.expires));
            self.add("login.keys", effect, say);
        }
        for (effect, say, these, those) in [
            (Effect::Wider, "may certify keys", authorities, &old.authorities),
            (Effect::Narrower, "may certify keys no more", &old.authorities, authorities),
        ] {
            for key in these.iter().filter(|key| !those.contains(key)) {
                self.add("login.authorities", effect, format!("{} {} {say}", key.fingerprint, key.comment));
            }
        }
        if !same(&old.principals, principals) {
            let gone = old.principals.iter().any(|name| !principals.contains(name));
            let more = principals.iter().any(|name| !old.principals.contains(name));
            let effect = if more || !gone { Effect::Wider } else { Effect::Narrower };
            self.differs("login.principals", effect, &old.principals, principals, |names| show_list(names, "none"));
        }
        match (&old.password, password) {
            (None, Some(_)) => self.add("login.password", Effect::Wider, "a password is set"),
            (Some(_), None) => self.add("login.password", Effect::Narrower, "the password is gone"),
            (Some(old), Some(new)) if old != new => {
                self.add("login.password", Effect::Other, "the password is another")
            }
            _ => {}
        }
        match (&old.totp, totp) {
            (None, Some(_)) => self.add("login.totp", Effect::Other, "one-time codes are set up"),
            (Some(_), None) => self.add("login.totp", Effect::Other, "one-time codes are gone"),
            (Some(old), Some(new)) if old != new => {
                self.add("login.totp", Effect::Other, "one-time codes are made from another secret");
            }
            _ => {}
        }
        if !same(&old.require, require) {
            // An alternative that asks for no less than one of before lets nobody in who was not let in.
            let no_less =
                |way: &Vec<Method>| old.require.iter().any(|before| before.iter().all(|step| way.contains(step)));
            let effect = if require.iter().all(no_less) { Effect::Narrower } else { Effect::Wider };
            self.differs("login.require", effect, &old.require, require, |ways| show_ways(ways));
        }
        if !same(&old.from, from) {
            let within = |net: &IpNet| old.from.is_empty() || old.from.iter().any(|before| before.contains(net));
            let narrower = !from.is_empty() && from.iter().all(within);
            let effect = if narrower { Effect::Narrower } else { Effect::Wider };
            self.differs("login.from", effect, &old.from, from, |nets| show_list(nets, "anywhere"));
        }
        let texts = |windows: &[crate::policy::Window]| windows.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (old_hours, new_hours) = (texts(&old.hours), texts(hours));
        if !same(&old_hours, &new_hours) {
            let effect = of_allowed(&old_hours, &new_hours);
            self.differs("login.hours", effect, &old_hours, &new_hours, |hours| show_list(hours, "at any time"));
        }
    }

    fn folder_appears(&mut self, folder: &'a Folder) {
        self.folder = Some(&folder.path);
        let expire = match (folder.expire, folder.pickups) {
            (None, None) => "never expires".to_owned(),
            (None, Some(pickups)) => format!("expires after {}", show_pickups(pickups)),
            (span, pickups) => format!("expires after {}", show_expiry(span, pickups)),
        };
        let say = match folder.kind {
            FolderKind::Drop => format!("a new drop folder to {}, {expire}", show_list(&folder.to, "nobody")),
            FolderKind::Shared => format!("a new shared folder, {expire}"),
        };
        self.add("folder", Effect::Wider, say);
        self.folder = None;
    }

    fn folders(&mut self, old: &'a Folder, new: &'a Folder) {
        let Folder {
            path,
            kind,
            to,
            expire,
            pickups,
            accept,
            refuse,
            refuse_phi,
            deny,
            max_size,
            resume_window,
            finalize,
            overwrite,
            sender_delete,
            escrow,
            end_to_end,
            mtime,
            digests,
            temp_names,
        } = new;
        self.folder = Some(path);
        let kinds = match kind {
            FolderKind::Drop => "a shared folder becomes a drop: what is sent goes to others, and is not read back",
            FolderKind::Shared => "a drop becomes a shared folder: what is sent goes to nobody, and is read back",
        };
        if old.kind != *kind {
            self.add("folder.kind", Effect::Wider, kinds);
        }
        for name in to.iter().filter(|name| !old.to.contains(name)) {
            self.add("folder.to", Effect::Wider, format!("what is sent goes to {name} too"));
        }
        for name in old.to.iter().filter(|name| !to.contains(name)) {
            self.add("folder.to", Effect::Narrower, format!("what is sent no longer goes to {name}"));
        }
        self.bound("folder.expire", old.expire.as_ref(), expire.as_ref(), |span: &Duration| show_span(*span));
        self.bound("folder.pickups", old.pickups.as_ref(), pickups.as_ref(), |count| show_pickups(*count));
        self.patterns("folder.accept", &old.accept, accept);
        self.patterns("folder.refuse", &old.refuse, refuse);
        let narrower = old.refuse_phi.iter().all(|kind| refuse_phi.contains(kind));
        let effect = if narrower { Effect::Narrower } else { Effect::Wider };
        if !same(&old.refuse_phi, refuse_phi) {
            self.differs("folder.refuse_phi", effect, &old.refuse_phi, refuse_phi, |kinds| show_list(kinds, "none"));
        }
        for act in old.deny.iter().filter(|act| !deny.contains(act)) {
            self.add("folder.deny", Effect::Wider, format!("may {act} there again, as its kind permits"));
        }
        for act in deny.iter().filter(|act| !old.deny.contains(act)) {
            self.add("folder.deny", Effect::Narrower, format!("may no longer {act} there"));
        }
        self.bound("folder.max_size", old.max_size.as_ref(), max_size.as_ref(), |size| size.to_string());
        self.differs("folder.resume_window", Effect::Other, &old.resume_window, resume_window, |span| show_span(*span));
        self.differs("folder.finalize", Effect::Other, &old.finalize, finalize, |finalize| match finalize {
            Finalize::Close => "close".to_owned(),
            Finalize::Rename => "rename".to_owned(),
            Finalize::Quiet(span) => format!("quiet {}", show_span(*span)),
        });
        self.differs("folder.digests", Effect::Other, &old.digests, digests, |keeps| {
            let kept: Vec<&str> = [Algorithm::Md5, Algorithm::Sha1]
                .into_iter()
                .filter(|algorithm| keeps.has(*algorithm))
                .map(Algorithm::word)
                .collect();
            show_list(&kept, "none")
        });
        match (old.end_to_end, *end_to_end) {
            (false, true) => {
                self.add("folder.require", Effect::Narrower, "only files that their sender sealed are taken")
            }
            (true, false) => {
                self.add("folder.require", Effect::Wider, "files that their sender did not seal are taken too");
            }
            _ => {}
        }
        let effect = if *overwrite == Overwrite::Version { Effect::Wider } else { Effect::Narrower };
        self.differs("folder.overwrite", effect, &old.overwrite, overwrite, |overwrite| match overwrite {
            Overwrite::Version => "version".to_owned(),
            Overwrite::Refuse => "refuse".to_owned(),
        });
        let effect = if *sender_delete == SenderDelete::Shred { Effect::Wider } else { Effect::Narrower };
        self.differs("folder.sender_delete", effect, &old.sender_delete, sender_delete, |delete| match delete {
            SenderDelete::Keep => "keep".to_owned(),
            SenderDelete::Shred => "shred".to_owned(),
        });
        let effect = if escrow.is_some() { Effect::Wider } else { Effect::Narrower };
        self.differs("folder.escrow", effect, &old.escrow, escrow, |escrow| {
            escrow.clone().unwrap_or_else(|| "nobody".to_owned())
        });
        self.differs("folder.mtime", Effect::Other, &old.mtime, mtime, |mtime| match mtime {
            Mtime::Client => "client".to_owned(),
            Mtime::Received => "received".to_owned(),
        });
        let temp_names_of = |patterns: &Patterns| patterns.texts().to_vec();
        let (old_names, new_names) = (temp_names_of(&old.temp_names), temp_names_of(temp_names));
        self.differs("folder.temp_names", Effect::Other, &old_names, &new_names, |names| show_list(names, "none"));
        self.folder = None;
    }

    fn patterns(&mut self, key: &'static str, old: &Patterns, new: &Patterns) {
        let accepts = key == "folder.accept";
        if !same(old.texts(), new.texts()) {
            let effect = match accepts {
                true => of_allowed(old.texts(), new.texts()),
                false => match old.texts().iter().all(|text| new.texts().contains(text)) {
                    true => Effect::Narrower,
                    false => Effect::Wider,
                },
            };
            let none = if accepts { "every name" } else { "none" };
            self.differs(key, effect, &old.texts().to_vec(), &new.texts().to_vec(), |texts| show_list(texts, none));
        }
        if !old.is_empty() && !new.is_empty() && old.any_case() != new.any_case() {
            let effect = if new.any_case() == accepts { Effect::Wider } else { Effect::Narrower };
            let say = if new.any_case() { "in either case of letters" } else { "in the case as written" };
            self.add(key, effect, format!("{} {say}", label(key)));
        }
    }

    fn inboxes(&mut self, old: Option<&Inbox>, new: Option<&Inbox>) {
        match (old, new) {
            (None, Some(new)) => self.add("inbox", Effect::Wider, format!("an inbox, {}", show_inbox(new))),
            (Some(_), None) => self.add("inbox", Effect::Narrower, "the inbox is gone: what is in it is out of reach"),
            (Some(Inbox::Sealed { .. }), Some(Inbox::Managed { .. })) => {
                self.add("inbox.mode", Effect::Wider, "sealed -> managed: the server can open what arrives");
            }
            (Some(Inbox::Managed { .. }), Some(new @ Inbox::Sealed { .. })) => {
                let say = format!("managed -> {}: that key alone opens what arrives", show_inbox(new));
                self.add("inbox.mode", Effect::Wider, say);
            }
            (Some(Inbox::Sealed { recipient: old }), Some(Inbox::Sealed { recipient: new })) if old != new => {
                self.add("inbox.key", Effect::Wider, format!("another key opens what arrives: {old} -> {new}"));
            }
            (Some(Inbox::EndToEnd { recipient: old }), Some(Inbox::EndToEnd { recipient: new })) if old != new => {
                let say = format!("what arrives is sealed to another key by its sender: {old} -> {new}");
                self.add("inbox.key", Effect::Wider, say);
            }
            (Some(Inbox::EndToEnd { .. }), Some(new @ (Inbox::Managed { .. } | Inbox::Sealed { .. }))) => {
                let say = format!("e2e -> {}: the server has in hand what is sent", show_inbox(new));
                self.add("inbox.mode", Effect::Wider, say);
            }
            (Some(Inbox::Managed { .. } | Inbox::Sealed { .. }), Some(new @ Inbox::EndToEnd { .. })) => {
                self.add("inbox.mode", Effect::Narrower, format!("-> {}", show_inbox(new)));
            }
            (Some(Inbox::Managed { kem: old }), Some(Inbox::Managed { kem: new })) if old != new => {
                self.add("inbox.kem", Effect::Other, "the server makes another kind of key");
            }
            _ => {}
        }
    }
}

/// What a list of what is allowed means for the one before; an empty one allows everything.
fn of_allowed(old: &[String], new: &[String]) -> Effect {
    let narrower = old.is_empty() || !new.is_empty() && new.iter().all(|text| old.contains(text));
    if narrower { Effect::Narrower } else { Effect::Wider }
}

/// In any order.
fn same<T: PartialEq>(old: &[T], new: &[T]) -> bool {
    old.len() == new.len() && new.iter().all(|item| old.contains(item))
}

fn label(key: &str) -> &str {
    match key {
        "login.expires" => "the account ends",
        "login.require" => "asked for at the login",
        "login.from" => "logins from",
        "login.principals" => "certificates for",
        "login.hours" => "logins begin",
        "folder.expire" => "files received from now on expire after",
        "folder.pickups" => "files received from now on expire after, of each recipient",
        "folder.accept" => "names that are taken",
        "folder.finalize" => "an upload is finished on",
        "folder.digests" => "digests kept beside SHA-256",
        "folder.refuse_phi" => "names that are refused for what they look like",
        "folder.refuse" => "names that are refused",
        other => other.split_once('.').map_or(other, |(_, key)| key),
    }
}

fn show_list<T: ToString>(items: &[T], none: &str) -> String {
    match items {
        [] => none.to_owned(),
        items => items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn show_ways(ways: &[Vec<Method>]) -> String {
    let ways: Vec<String> =
        ways.iter().map(|way| way.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")).collect();
    ways.join(", or ")
}

fn show_inbox(inbox: &Inbox) -> String {
    match inbox {
        Inbox::Managed { .. } => "managed".to_owned(),
        Inbox::Sealed { recipient } => format!("sealed to {recipient}"),
        Inbox::EndToEnd { recipient } => format!("e2e: only what its sender sealed to {recipient}"),
    }
}
