//! Who may log in, how, and what their view holds: the policy as values that are right once they exist. `config`
//! makes them from TOML; everything else only reads them. No I/O here.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::clock::Time;
use crate::names::{Digest, UserName};
use crate::policy::certificate::{Certified, Holding};
use crate::policy::due::Due;
use crate::policy::hours::Window;
use crate::policy::login::Choice;
use crate::policy::password::PasswordHash;
use crate::policy::patterns::Patterns;
use crate::policy::phi::Phi;
use crate::policy::revoked::Revoked;
use crate::policy::totp::SealedSecret;
use crate::policy::units::ByteSize;
use crate::sums::Keeps;
use crate::vpath::VirtualPath;

/// Everything the admins said about users, as of one load. Shared as an `Arc` and replaced whole on reload.
#[derive(Clone, Debug)]
pub struct Policy {
    /// SHA-256 over all policy files: sorted by name; for each, the length of the name and the name, the length of the
    /// content and the content; lengths as 8 bytes, big-endian. It is in every receipt and audit event.
    pub digest: Digest,
    /// What it was read from, so that it can be shown and compared when the files on disk have long changed.
    pub texts: Arc<[PolicyText]>,
    /// Whom the server trusts to certify keys, and what it trusts no more. From the server's file, not a policy file.
    trust: Arc<Trust>,
    users: BTreeMap<UserName, Arc<User>>,
}

/// What the server's own file says of keys and certificates; read again with the policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// May certify keys of users who have `principals` and no authority of their own.
    pub authorities: Vec<PublicKey>,
    pub revoked: Revoked,
}

/// One policy file as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct PolicyText {
    /// `<user>.toml`.
    pub name: String,
    pub bytes: Vec<u8>,
}

/// One account.
#[derive(Clone, Debug)]
pub struct User {
    pub name: UserName,
    pub login: Login,
    pub limits: Limits,
    /// In the order of the file; none lies within another.
    pub folders: Vec<Arc<Folder>>,
    /// Set for those who may be named in a folder's `to`.
    pub inbox: Option<Inbox>,
    /// What is expected of the user, each in one of `folders`.
    pub due: Vec<Due>,
}

/// How an account proves itself.
#[derive(Clone, Debug)]
pub struct Login {
    pub keys: Vec<PublicKey>,
    /// Of this user alone; empty: the server's, if there are `principals`.
    pub authorities: Vec<PublicKey>,
    /// One of them must be in a certificate; empty: the user has none.
    pub principals: Vec<String>,
    pub password: Option<PasswordHash>,
    /// What one-time codes are made from.
    pub totp: Option<SealedSecret>,
    /// Alternatives; each is the methods to pass, in order. Never empty, and neither is an alternative.
    pub require: Vec<Vec<Method>>,
    /// Where logins may come from; empty: anywhere.
    pub from: Vec<IpNet>,
    /// When a login may begin; empty: at any time. An open session is not ended by it.
    pub hours: Vec<Window>,
    pub disabled: bool,
    /// From this moment on the account is as good as disabled.
    pub expires: Option<Time>,
}

/// An SSH authentication method. `ipc` has its own for the wire; the keeper maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    PublicKey,
    Password,
    /// A one-time code (RFC 6238).
    Totp,
    /// A password that the site's own authenticator decides on.
    External,
}

/// A user's public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// `ssh-ed25519`, `ecdsa-sha2-nistp256`, `ssh-rsa`, `sk-ssh-ed25519@openssh.com`, …
    pub algorithm: String,
    /// SSH wire form (RFC 4253 §6.6), as a client sends it.
    pub blob: Vec<u8>,
    /// `SHA256:…` as ssh-keygen prints it.
    pub fingerprint: String,
    pub comment: String,
    /// From this moment on it does not log in.
    pub expires: Option<Time>,
}

/// What an account may use at the most; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of live drops and shared files together, as plaintext.
    pub bytes: Option<ByteSize>,
    pub files: Option<u64>,
    pub sessions: Option<u32>,
}

/// A path in a user's view with one policy.
#[derive(Clone, Debug)]
pub struct Folder {
    /// One name or more; never below `/inbox`, `/receipts` or a name that begins with `.staging`.
    pub path: VirtualPath,
    pub kind: FolderKind,
    /// The recipients, at least one for a drop; none for a shared folder.
    pub to: Vec<UserName>,
    /// Counted from receipt by the server's clock; `None`: never.
    pub expire: Option<Duration>,
    /// How often each recipient may read a drop to its end; when none may any more it expires. Of a drop.
    pub pickups: Option<u32>,
    /// What file names are taken; empty: all.
    pub accept: Patterns,
    /// What file names are not taken, even if accepted above.
    pub refuse: Patterns,
    /// What no name in it may look like, temp names and folders among them.
    pub refuse_phi: Vec<Phi>,
    /// What the user may not do there of what the kind permits.
    pub deny: Vec<Act>,
    pub max_size: Option<ByteSize>,
    /// How long an unfinished upload can be continued before it is destroyed.
    pub resume_window: Duration,
    pub finalize: Finalize,
    pub overwrite: Overwrite,
    pub sender_delete: SenderDelete,
    /// Each file is sealed to it too; its identity is offline.
    pub escrow: Option<String>,
    /// `require = "e2e"`: takes only what its sender sealed to the keys of just these recipients. Of a drop.
    pub end_to_end: bool,
    pub mtime: Mtime,
    /// What is kept of a file's plaintext beside its SHA-256.
    pub digests: Keeps,
    /// Names under which clients upload before they rename to the final one: never delivered.
    pub temp_names: Patterns,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FolderKind {
    /// Write, list, never read back; delivered at commit to each recipient.
    Drop,
    /// Read and write, sealed to its owner.
    Shared,
}

/// What a user does in a folder, as `deny` and `sealdrop explain` call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Sending a file, and giving it its final name.
    Put,
    Get,
    /// Listing; what a name stands for can still be asked.
    List,
    /// Of what has its final name.
    Rename,
    /// Files and folders.
    Remove,
    MakeFolder,
}

/// What a sender's removal of its own entry of a drop does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SenderDelete {
    /// What was delivered stays.
    Keep,
    /// The drop is shredded.
    Shred,
}

/// When an upload is finished. Of a shared folder always [`Finalize::Close`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finalize {
    /// When its client closes it.
    Close,
    /// When it is renamed from a temp name; under a final name nothing can be sent.
    Rename,
    /// When it was closed and then left alone for so long.
    Quiet(Duration),
}

/// What an upload to a name that is already there means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overwrite {
    /// It is a new version; what was delivered before stays delivered.
    Version,
    Refuse,
}

/// Which modification time a listing shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mtime {
    /// What the client set; the receive time if it set none.
    Client,
    /// When the server received it.
    Received,
}

/// How what is delivered to a user is sealed. When it expires is the sender's folder's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbox {
    /// The keeper holds the identity; the recipient reads plaintext over SFTP.
    Managed { kem: Kem },
    /// The server holds only this recipient, `sealdrop1…` or `ssh-ed25519 …`; what is pulled is opened with `sealdrop open`.
    Sealed { recipient: String },
    /// Takes only what its sender sealed to this recipient; it is pulled as it was pushed.
    EndToEnd { recipient: String },
}

/// The key agreement of an identity the keeper makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kem {
    P256,
    X25519,
    /// Post-quantum, with P-256; experimental.
    MlKem768P256,
    /// Post-quantum, with X25519; experimental.
    XWing,
}

impl Policy {
    /// A later user of the same name replaces an earlier one; `config` has refused that before.
    pub fn new(digest: Digest, users: impl IntoIterator<Item = User>) -> Self {
        let users = users.into_iter().map(|user| (user.name.clone(), Arc::new(user))).collect();
        Self { digest, texts: Arc::from([]), trust: Arc::default(), users }
    }

    /// The same, with what it was read from.
    #[must_use]
    pub fn read_from(self, texts: impl Into<Arc<[PolicyText]>>) -> Self {
        Self { texts: texts.into(), ..self }
    }

    /// The same, trusting whom the server's file says.
    #[must_use]
    pub fn trusting(self, trust: Trust) -> Self {
        Self { trust: Arc::new(trust), ..self }
    }

    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Who may certify keys of this user; empty: nobody.
    pub fn authorities_of<'a>(&'a self, user: &'a User) -> &'a [PublicKey] {
        match (&user.login.authorities[..], &user.login.principals[..]) {
            ([], []) => &[],
            ([], _) => &self.trust.authorities,
            (own, _) => own,
        }
    }

    /// Whether anybody could log in with a certificate.
    pub fn takes_certificates(&self) -> bool {
        self.authorities().next().is_some()
    }

    /// Everyone's.
    pub fn authorities(&self) -> impl Iterator<Item = &PublicKey> {
        self.users().flat_map(|user| self.authorities_of(user))
    }

    /// Why what a client proved to hold would not let it in as `user` now; `None` if it would.
    pub fn why_not_held(&self, user: &User, holding: &Holding, now: Time) -> Option<&'static str> {
        if self.trust.revoked.covers(holding) {
            return Some("the key, its certificate or its authority is revoked");
        }
        match &holding.certified {
            None => match user.login.key(&holding.key) {
                None => Some("the key is no longer the user's"),
                Some(key) => key.has_expired(now).then_some("the key has expired"),
            },
            Some(Certified { authority, principals, .. }) => {
                if !self.authorities_of(user).iter().any(|known| known.blob == *authority) {
                    Some("the certificate's authority is no longer one of the user's")
                } else if !principals.iter().any(|has| user.login.principals.contains(has)) {
                    Some("the certificate is for none of the user's principals any more")
                } else {
                    None
                }
            }
        }
    }

    pub fn user(&self, name: &UserName) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// In the order of their names.
    pub fn users(&self) -> impl ExactSizeIterator<Item = &Arc<User>> {
        self.users.values()
    }

    /// What is offered to one who has passed nothing yet: whatever any account here could use. The same for every name, so
    /// that it tells a stranger nothing about one. Never a code, which comes after something else: clients that see
    /// keyboard-interactive often take it for the password.
    pub fn choices(&self) -> Vec<Choice> {
        let any = |method| self.users().any(|user| user.login.require.iter().any(|steps| steps.contains(&method)));
        // With no user at all there is still an answer to give.
        let mut choices = vec![Choice::PublicKey];
        choices.extend((any(Method::Password) || any(Method::External)).then_some(Choice::Password));
        choices
    }

    /// Whether a password may have a code at its end. By the policy as a whole: what is done with a password must not tell
    /// whose it is.
    pub fn takes_codes(&self) -> bool {
        self.users().any(|user| user.login.totp.is_some())
    }
}

impl User {
    /// Whether the site's authenticator decides on its password.
    pub fn asks_outside(&self) -> bool {
        self.login.require.iter().any(|way| way.contains(&Method::External))
    }

    /// The folder that `path` is in, or is, and the path below it; no folder is inside another.
    pub fn folder_at(&self, path: &VirtualPath) -> Option<(&Arc<Folder>, VirtualPath)> {
        self.folders.iter().find_map(|folder| Some((folder, path.below(&folder.path)?)))
    }

    /// The reason why this account may not act from there, then; `None` if it may.
    pub fn barred(&self, address: Option<IpAddr>, now: Time) -> Option<Barred> {
        if self.login.disabled {
            Some(Barred::Disabled)
        } else if self.login.expires.is_some_and(|end| now >= end) {
            Some(Barred::Expired)
        } else if address.is_some_and(|address| !self.login.allows(address)) {
            Some(Barred::Address)
        } else {
            None
        }
    }
}

/// Why an account may not act, whatever it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Barred {
    #[error("the account is disabled")]
    Disabled,
    #[error("the account has expired")]
    Expired,
    #[error("the user may not act from this address")]
    Address,
}

impl PublicKey {
    pub fn has_expired(&self, now: Time) -> bool {
        self.expires.is_some_and(|end| now >= end)
    }
}

impl Login {
    /// Whether `from` allows the address. An IPv4 address inside IPv6 (`::ffff:…`, what a dual-stack socket reports)
    /// is the IPv4 address.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.from.is_empty() || self.from.iter().any(|net| net.contains(&address))
    }

    /// Whether `hours` let a login begin now.
    pub fn is_open(&self, now: Time) -> bool {
        self.hours.is_empty() || self.hours.iter().any(|window| window.holds(now))
    }

    /// When nobody can log in any more: the account's end, or that of the last key where there is no other way in.
    pub fn end(&self) -> Option<Time> {
        let by_key_alone = self.password.is_none() && self.principals.is_empty() && !self.keys.is_empty();
        let ends = self.keys.iter().map(|key| key.expires).collect::<Option<Vec<Time>>>().filter(|_| by_key_alone);
        self.expires.into_iter().chain(ends.and_then(|ends| ends.into_iter().max())).min()
    }

    pub fn key(&self, blob: &[u8]) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.blob == blob)
    }
}

/// Without the text, which may hold a password's hash.
impl fmt::Debug for PolicyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.name, self.bytes.len())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, self.fingerprint)
    }
}

impl Act {
    pub const ALL: [Self; 6] = [Self::Put, Self::Get, Self::List, Self::Rename, Self::Remove, Self::MakeFolder];

    /// As it is written in a policy.
    pub fn word(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::List => "list",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::MakeFolder => "mkdir",
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl fmt::Display for FolderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Drop => "drop",
            Self::Shared => "shared",
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PublicKey => "publickey",
            Self::Password => "password",
            Self::Totp => "totp",
            Self::External => "external",
        })
    }
}
