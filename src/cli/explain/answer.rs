//! A question about the policy and its answer, without a word of our own on what is permitted: `policy` decides, this
//! names the line it decided by and says what follows. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Serialize, Serializer};

use crate::clock::Time;
use crate::config::places::{Place as Line, Places};
use crate::ipc::admin::InForceRow;
use crate::keeper::uploads::inbox_path;
use crate::names::UserName;
use crate::policy::units::{show_pickups, show_span};
use crate::policy::{
    Barred, Credential, Facts, Finalize, Folder, FolderKind, Grant, Inbox, LoginFacts, LoginRefusal, LoginVerdict,
    Operation, Overwrite, Place, Policy, Reason, SenderDelete, Status, User, Verdict, decide, login,
};
use crate::vpath::VirtualPath;

use super::Asked;

pub struct Question {
    pub user: UserName,
    pub operation: Asked,
    pub path: VirtualPath,
    pub to: Option<VirtualPath>,
    pub from: Option<IpAddr>,
    pub at: Time,
    pub folder: bool,
}

/// The shape of `--json`.
#[derive(Serialize)]
pub struct Answer {
    pub permitted: bool,
    pub user: UserName,
    pub operation: &'static str,
    pub path: Option<String>,
    pub to: Option<String>,
    pub from: Option<IpAddr>,
    pub at: String,
    /// In words.
    pub rule: String,
    /// The keys that decided, and where they stand.
    pub decided: Vec<Decided>,
    /// What a refused client is told.
    pub client: Option<Heard>,
    /// What else would happen, a sentence each.
    pub then: Vec<String>,
    pub sealed_to: Vec<SealedTo>,
    pub delivered: Vec<Delivered>,
    pub expiry: Option<Expiry>,
    /// By their keys.
    #[serde(serialize_with = "as_map")]
    pub limits: Vec<(&'static str, String)>,
    /// Whether the user could log in then; an operation in a session that is open does not ask that again.
    pub login: Option<Login>,
    pub policy: String,
    /// When that policy was in force, if it is the ledger's; `None`: the files were read.
    pub in_force: Option<InForce>,
}

#[derive(Serialize)]
pub struct InForce {
    pub since: String,
    /// `None`: it still is.
    pub until: Option<String>,
}

impl InForce {
    pub fn of(row: &InForceRow) -> Self {
        Self { since: row.since.rfc3339(), until: row.until.map(Time::rfc3339) }
    }
}

#[derive(Serialize)]
pub struct Decided {
    pub key: String,
    pub file: Option<String>,
    pub line: Option<usize>,
}

#[derive(Serialize)]
pub struct Heard {
    pub status: &'static str,
    pub say: &'static str,
}

#[derive(Serialize)]
pub struct SealedTo {
    pub user: UserName,
    /// `managed` or `sealed`.
    pub mode: &'static str,
}

#[derive(Serialize)]
pub struct Delivered {
    pub user: UserName,
    /// In that user's view.
    pub path: String,
}

#[derive(Serialize)]
pub struct Expiry {
    /// `None`: never.
    pub at: Option<String>,
    pub after: Option<String>,
    /// Of each recipient, when that ends it sooner.
    pub pickups: Option<u32>,
}

#[derive(Serialize)]
pub struct Login {
    pub permitted: bool,
    pub rule: String,
    pub decided: Vec<Decided>,
    /// Alternatives; of each, the methods in order.
    pub require: Vec<Vec<String>>,
    pub from: Vec<String>,
    pub hours: Vec<String>,
    pub keys: Vec<Key>,
    /// Fingerprints of who may certify other keys, and what for.
    pub authorities: Vec<String>,
    pub principals: Vec<String>,
}

#[derive(Serialize)]
pub struct Key {
    pub fingerprint: String,
    pub comment: String,
    /// What comes of logging in with it first.
    pub leads_to: String,
}

/// Where keys stand, if that is known.
struct Finder<'a>(Option<&'a Places>);

pub fn answer(policy: &Policy, places: Option<&Places>, question: &Question) -> Answer {
    let finder = Finder(places);
    let user = policy.user(&question.user);
    let login = user.map(|user| may_log_in(policy, &finder, user, question));
    let mut answer = Answer {
        permitted: false,
        user: question.user.clone(),
        operation: question.operation.word(),
        path: (question.operation != Asked::Login).then(|| question.path.to_string()),
        to: question.to.as_ref().map(VirtualPath::to_string),
        from: question.from,
        at: question.at.rfc3339(),
        rule: String::new(),
        decided: Vec::new(),
        client: None,
        then: Vec::new(),
        sealed_to: Vec::new(),
        delivered: Vec::new(),
        expiry: None,
        limits: Vec::new(),
        login,
        policy: policy.digest.to_string(),
        in_force: None,
    };
    let path = &question.path;
    let operation = match question.operation {
        Asked::Login => {
            let (permitted, rule, decided) = match answer.login.as_mut() {
                Some(login) => (login.permitted, login.rule.clone(), std::mem::take(&mut login.decided)),
                None => (false, LoginRefusal::UnknownUser.to_string(), Vec::new()),
            };
            let limits = user.map(|user| user_limits(user)).unwrap_or_default();
            return Answer { permitted, rule, decided, limits, ..answer };
        }
        Asked::Put => Operation::Upload { path },
        Asked::Get => Operation::Read { path },
        Asked::List => Operation::List { path },
        Asked::Remove => Operation::Remove { path },
        Asked::Mkdir => Operation::MakeFolder { path },
        Asked::Rename => {
            Operation::Rename { from: path, to: question.to.as_ref().unwrap_or(path), folder: question.folder }
        }
    };
    let facts = Facts { user: &question.user, address: question.from, now: question.at };
    match decide(policy, &facts, &operation) {
        Verdict::Permit(grant) => permitted(&mut answer, policy, &finder, question, &grant),
        Verdict::Refuse(reason) => {
            answer.rule = reason.to_string();
            answer.client = Some(Heard { status: status(&reason), say: reason.say() });
            let folder = user.and_then(|user| user.folders.iter().find(|folder| path.below(&folder.path).is_some()));
            answer.decided = refused_by(&finder, folder.map(AsRef::as_ref), &reason);
            answer.then.extend(match user {
                Some(user) => view(user, &reason),
                None => Some(format!("no policy file is named {}.toml", question.user)),
            });
        }
    }
    answer
}

fn permitted(answer: &mut Answer, policy: &Policy, finder: &Finder<'_>, question: &Question, grant: &Grant) {
    answer.permitted = true;
    answer.rule = grant.rule().to_owned();
    match grant.place() {
        Place::Folder { folder, .. } => answer.decided.extend(finder.folder(folder, "kind")),
        Place::Inbox { .. } => {
            answer.decided.extend(finder.key("inbox", "mode"));
            if question.operation == Asked::Get {
                answer.then.push(match &grant.user().inbox {
                    Some(Inbox::Sealed { .. }) => {
                        "what is pulled is NAME.sealed, which the recipient opens with `sealdrop open`".to_owned()
                    }
                    Some(Inbox::EndToEnd { .. }) => {
                        "what is pulled is what was pushed, which the recipient opens with `sealdrop open`".to_owned()
                    }
                    _ => "the server opens it as it is read, if it has not expired".to_owned(),
                });
            }
        }
        Place::Root | Place::Receipts { .. } => {}
    }
    let Place::Folder { folder, below } = grant.place() else { return };
    match (question.operation, grant.target()) {
        (Asked::Put, _) => {
            answer.limits = user_limits(grant.user());
            answer.limits.extend(folder.max_size.map(|most| ("max_size", most.to_string())));
            answer.limits.push(("resume_window", show_span(folder.resume_window)));
            if folder.end_to_end {
                answer.decided.extend(finder.folder(folder, "require"));
                answer.then.push(
                    "it is refused with its first bytes unless `sealdrop seal` sealed it to these keys".to_owned(),
                );
                answer.then.extend(seal_with(policy, folder));
            }
            if grant.temporary() {
                answer.decided.extend(finder.folder(folder, "temp_names"));
                answer.then.push("a temp name: it is delivered when it is renamed to a final one".to_owned());
                sealed(answer, policy, grant.user(), folder, question.at);
            } else {
                answer.then.push(match (folder.overwrite, folder.kind) {
                    (Overwrite::Refuse, _) => "if the name is taken, it is refused".to_owned(),
                    (Overwrite::Version, FolderKind::Drop) => "if the name is taken, it is a new version".to_owned(),
                    (Overwrite::Version, FolderKind::Shared) => "if the name is taken, it is replaced".to_owned(),
                });
                if let Finalize::Quiet(span) = folder.finalize {
                    answer.decided.extend(finder.folder(folder, "finalize"));
                    answer.then.push(format!("it is delivered when nobody came back to it for {}", show_span(span)));
                }
                sealed(answer, policy, grant.user(), folder, question.at);
                delivered(answer, grant.user(), folder, below);
            }
        }
        (Asked::Remove, _) if folder.sender_delete == SenderDelete::Shred => {
            answer.decided.extend(finder.folder(folder, "sender_delete"));
            answer.then.push("the drop is shredded: for its recipients, and in every backup".to_owned());
        }
        (Asked::Rename, Some(target)) if grant.temporary() && !target.temporary => {
            if let Place::Folder { below, .. } = &target.place {
                answer.then.push("the upload is finished, and delivered".to_owned());
                sealed(answer, policy, grant.user(), folder, question.at);
                delivered(answer, grant.user(), folder, below);
            }
        }
        _ => {}
    }
}

/// To whom a file in `folder` is sealed, and until when.
fn sealed(answer: &mut Answer, policy: &Policy, owner: &User, folder: &Folder, at: Time) {
    match folder.kind {
        FolderKind::Shared => answer.sealed_to.push(SealedTo { user: owner.name.clone(), mode: "managed" }),
        FolderKind::Drop => {
            for name in &folder.to {
                let recipient = policy.user(name);
                let mode = match recipient.and_then(|user| user.inbox.as_ref()) {
                    Some(Inbox::Sealed { .. }) => "sealed",
                    Some(Inbox::EndToEnd { .. }) => "e2e",
                    _ => "managed",
                };
                answer.sealed_to.push(SealedTo { user: name.clone(), mode });
                if let Some(barred) = recipient.and_then(|user| user.barred(None, at)) {
                    answer.then.push(format!("{name} could not fetch it: {barred}"));
                }
            }
        }
    }
    if folder.escrow.is_some() {
        answer.then.push("it is sealed to the folder's escrow recipient too, and its receipt says so".to_owned());
    }
    answer.expiry = Some(Expiry {
        at: folder.expire.map(|span| at.plus(span).rfc3339()),
        after: folder.expire.map(show_span),
        pickups: folder.pickups,
    });
    if folder.pickups.is_some() {
        answer.then.push(
            "a recipient whose pickups are used up reads it no more; after the last one it is shredded".to_owned(),
        );
    }
}

/// The command that makes what an end-to-end folder takes.
fn seal_with(policy: &Policy, folder: &Folder) -> Option<String> {
    let keys = folder.to.iter().map(|name| match &policy.user(name)?.inbox {
        Some(Inbox::EndToEnd { recipient }) => Some(format!(" -r {recipient}")),
        _ => None,
    });
    keys.collect::<Option<String>>().map(|keys| format!("to make it: sealdrop seal{keys} FILE"))
}

fn delivered(answer: &mut Answer, sender: &User, folder: &Folder, below: &VirtualPath) {
    for user in &folder.to {
        match inbox_path(&sender.name, below) {
            Ok(path) => answer.delivered.push(Delivered { user: user.clone(), path: path.to_string() }),
            Err(refusal) => answer.then.push(format!("it cannot be delivered: {}", refusal.why)),
        }
    }
}

fn may_log_in(policy: &Policy, finder: &Finder<'_>, user: &User, question: &Question) -> Login {
    // Where no address is asked about, one that is allowed.
    let allowed = user.login.from.first().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), ipnet::IpNet::addr);
    let address = question.from.unwrap_or(allowed);
    let facts = LoginFacts { user: user.name.as_str(), address, now: question.at, passed: &[] };
    let refusal = match login(policy, &facts, Credential::Nothing) {
        LoginVerdict::Refuse { reason: LoginRefusal::Asked, .. } => None,
        LoginVerdict::Refuse { reason, .. } => Some(reason),
        _ => None,
    };
    let require: Vec<Vec<String>> =
        user.login.require.iter().map(|way| way.iter().map(ToString::to_string).collect()).collect();
    let keys = user.login.keys.iter().map(|key| Key {
        fingerprint: key.fingerprint.clone(),
        comment: key.comment.clone(),
        leads_to: match login(policy, &facts, Credential::Key(&key.blob)) {
            LoginVerdict::Admit(_) => "logs in".to_owned(),
            LoginVerdict::Partial { methods, .. } => {
                let methods: Vec<String> = methods.iter().map(ToString::to_string).collect();
                format!("then {}", methods.join(" or "))
            }
            LoginVerdict::Refuse { reason, .. } => format!("refused: {reason}"),
            LoginVerdict::Acceptable | LoginVerdict::CheckSecret(_) => String::new(),
        },
    });
    let ways: Vec<String> = require.iter().map(|way| way.join(", then ")).collect();
    Login {
        permitted: refusal.is_none(),
        rule: refusal.map_or_else(|| format!("with {}", ways.join("; or with ")), |reason| reason.to_string()),
        decided: finder
            .key("login", refusal.map_or(Some("require"), bar_key).unwrap_or_default())
            .into_iter()
            .collect(),
        keys: keys.collect(),
        authorities: policy.authorities_of(user).iter().map(|key| key.fingerprint.clone()).collect(),
        principals: user.login.principals.clone(),
        from: user.login.from.iter().map(ToString::to_string).collect(),
        hours: user.login.hours.iter().map(ToString::to_string).collect(),
        require,
    }
}

fn bar_key(refusal: LoginRefusal) -> Option<&'static str> {
    match refusal {
        LoginRefusal::Disabled => Some("disabled"),
        LoginRefusal::Expired => Some("expires"),
        LoginRefusal::Address => Some("from"),
        LoginRefusal::Hours => Some("hours"),
        _ => None,
    }
}

/// The key that a refusal rests on. Some rest on none: what the server itself keeps, or what is nowhere.
fn refused_by(finder: &Finder<'_>, folder: Option<&Folder>, reason: &Reason) -> Vec<Decided> {
    let login = |key| finder.key("login", key).into_iter().collect();
    let of_folder = |key| folder.and_then(|folder| finder.folder(folder, key)).into_iter().collect();
    match reason {
        Reason::Barred(Barred::Disabled) => login("disabled"),
        Reason::Barred(Barred::Expired) => login("expires"),
        Reason::Barred(Barred::Address) => login("from"),
        Reason::InboxReadOnly => finder.key("inbox", "mode").into_iter().collect(),
        Reason::WriteOnly => of_folder("kind"),
        Reason::NotAccepted => of_folder("accept"),
        Reason::RenameOnly => of_folder("finalize"),
        Reason::Refused(_) => of_folder("refuse"),
        Reason::LooksLike(_) => of_folder("refuse_phi"),
        Reason::Denied(_) => of_folder("deny"),
        Reason::OtherFolder | Reason::FolderFixed | Reason::FolderThere | Reason::IsFolder => of_folder("path"),
        _ => Vec::new(),
    }
}

/// Who asked for what is nowhere is told what there is.
fn view(user: &User, reason: &Reason) -> Option<String> {
    if !matches!(reason, Reason::NotThere | Reason::TopFixed) {
        return None;
    }
    let mut sees: Vec<String> = user.folders.iter().map(|folder| folder.path.to_string()).collect();
    sees.extend(user.inbox.as_ref().map(|_| "/inbox".to_owned()));
    sees.push("/receipts".to_owned());
    Some(format!("{} sees {}", user.name, sees.join(", ")))
}

fn user_limits(user: &User) -> Vec<(&'static str, String)> {
    let limits = &user.limits;
    let all = [
        ("bytes", limits.bytes.map(|most| most.to_string())),
        ("files", limits.files.map(|most| most.to_string())),
        ("sessions", limits.sessions.map(|most| most.to_string())),
    ];
    all.into_iter().filter_map(|(key, most)| Some((key, most?))).collect()
}

fn status(reason: &Reason) -> &'static str {
    match reason.status() {
        Status::NoSuchFile => "no such file",
        Status::PermissionDenied => "permission denied",
        Status::Failure => "failure",
        Status::Unsupported => "unsupported",
    }
}

impl Finder<'_> {
    fn key(&self, table: &str, key: &str) -> Option<Decided> {
        let line = self.0.and_then(|places| places.key(table, key));
        let dot = if key.is_empty() { "" } else { "." };
        Some(decided(format!("{table}{dot}{key}"), line))
    }

    fn folder(&self, folder: &Folder, key: &str) -> Option<Decided> {
        let line = self.0.and_then(|places| places.folder(&folder.path, key));
        Some(decided(format!("folder.{key}"), line))
    }
}

fn decided(key: String, line: Option<Line>) -> Decided {
    let file = line.as_ref().map(|line| crate::names::escaped(line.file.as_os_str().as_encoded_bytes()));
    Decided { key, file, line: line.map(|line| line.line) }
}

impl Login {
    pub fn words(&self) -> String {
        let mut words = format!("{}, {}", if self.permitted { "permitted" } else { "refused" }, self.rule);
        let certified = ("certified by", &self.authorities);
        for (name, list) in [certified, ("for", &self.principals), ("from", &self.from), ("hours", &self.hours)] {
            if !list.is_empty() {
                words.push_str(&format!("; {name} {}", list.join(", ")));
            }
        }
        words
    }
}

impl Key {
    pub fn words(&self) -> String {
        format!("{} {}: {}", self.fingerprint, crate::names::escaped(self.comment.as_bytes()), self.leads_to)
    }
}

impl Expiry {
    pub fn words(&self) -> String {
        let pickups = self.pickups.map(|most| format!("after {} of each recipient", show_pickups(most)));
        match (&self.at, &self.after, pickups) {
            (Some(at), Some(after), None) => format!("{at}, {after} after receipt"),
            (Some(at), Some(after), Some(pickups)) => format!("{at}, {after} after receipt, or {pickups}"),
            (_, _, Some(pickups)) => pickups,
            _ => "never".to_owned(),
        }
    }
}

/// `policies/acme.toml:12, login.from`.
impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}, {}", self.key),
            _ => f.write_str(&self.key),
        }
    }
}

fn as_map<S: Serializer>(limits: &[(&'static str, String)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(limits.iter().map(|(key, value)| (key, value)))
}

#[cfg(test)]
mod tests;
