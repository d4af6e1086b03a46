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
use crate::policy::hours::Window;
use crate::policy::password::PasswordHash;
use crate::policy::patterns::Patterns;
use crate::policy::units::ByteSize;
use crate::sums::Keeps;
use crate::vpath::VirtualPath;

/// Everything the admins said about users, as of one load. Shared as an `Arc` and replaced whole on reload.
#[derive(Clone, Debug)]
pub struct Policy {
    /// SHA-256 over all policy files: sorted by name; for each, the length of the name and the name, the length of the
    /// content and the content; lengths as 8 bytes, big-endian. It is in every receipt and audit event.
    pub digest: Digest,
    users: BTreeMap<UserName, Arc<User>>,
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
}

/// How an account proves itself.
#[derive(Clone, Debug)]
pub struct Login {
    pub keys: Vec<PublicKey>,
    pub password: Option<PasswordHash>,
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
    /// What file names are taken; empty: all.
    pub accept: Patterns,
    /// What file names are not taken, even if accepted above.
    pub refuse: Patterns,
    pub max_size: Option<ByteSize>,
    /// How long an unfinished upload can be continued before it is destroyed.
    pub resume_window: Duration,
    pub finalize: Finalize,
    pub overwrite: Overwrite,
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
    /// The server holds only this recipient, `sealdrop1…`; what is pulled is opened with `sealdrop open`.
    Sealed { recipient: String },
}

/// The key agreement of an identity the keeper makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kem {
    P256,
    X25519,
}

impl Policy {
    /// A later user of the same name replaces an earlier one; `config` has refused that before.
    pub fn new(digest: Digest, users: impl IntoIterator<Item = User>) -> Self {
        Self { digest, users: users.into_iter().map(|user| (user.name.clone(), Arc::new(user))).collect() }
    }

    pub fn user(&self, name: &UserName) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// In the order of their names.
    pub fn users(&self) -> impl ExactSizeIterator<Item = &Arc<User>> {
        self.users.values()
    }

    /// The methods offered to one who has passed nothing yet: what any account here could use. The same for every
    /// name, so that it tells a stranger nothing about one.
    pub fn methods(&self) -> Vec<Method> {
        let any = |method| self.users().any(|user| user.login.require.iter().any(|steps| steps.contains(&method)));
        // With no user at all there is still an answer to give.
        let mut methods = vec![Method::PublicKey];
        methods.extend(any(Method::Password).then_some(Method::Password));
        methods
    }
}

impl User {
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

    pub fn key(&self, blob: &[u8]) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.blob == blob)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, self.fingerprint)
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
        })
    }
}
