//! What the messages of the admin socket are made of: rows of lists, orders, the words of break-glass.

use crate::clock::Time;
use crate::names::{Digest, DropId, ReceiptId, RequestId, SessionId, UserName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// What a person may want with a drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ordered {
    Hold,
    Release,
    Shred,
}

/// Drops in one order at the most.
pub const ORDER_MAX: usize = 100;

/// Drops that are announced as one act at the most, and in one message.
pub const ANNOUNCED_MAX: usize = 10_000;
pub const ANNOUNCE_MAX: usize = 1_000;

/// Bytes of a reason.
pub const REASON_MAX: usize = 500;

/// The steps of break-glass.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum BreakGlass {
    Request {
        drop: DropId,
        reason: String,
    },
    /// `signature`: SSHSIG over the request's text, in its PEM form.
    Approve {
        request: ReceiptId,
        signature: String,
    },
    Open {
        request: ReceiptId,
    },
    List,
}

/// One request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BreakGlassRow {
    pub request: ReceiptId,
    pub drop: DropId,
    pub until: Time,
    /// By which key.
    pub approved: Option<String>,
    /// What has to be signed.
    pub text: String,
}

/// What became of an order for one drop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrderRow {
    pub drop: DropId,
    /// Why it was not done.
    pub failed: Option<String>,
}

/// Some of a policy file; parts of one name follow each other.
#[derive(Clone, Serialize, Deserialize)]
pub struct PolicyPart {
    /// `<user>.toml`.
    pub name: String,
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// When a drop came, and what became of it with each recipient: when that one first fetched it, and how it ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DropLife {
    pub drop: DropId,
    pub sender: UserName,
    pub folder: String,
    pub path: String,
    pub size: u64,
    pub received: Time,
    pub deliveries: Vec<(UserName, Option<Time>, LifeEnd)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LifeEnd {
    /// It is there.
    None,
    Expired(Time),
    /// Removed, replaced or shredded.
    Withdrawn(Time),
}

/// A policy that was in force, or is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InForceRow {
    pub since: Time,
    /// `None`: it still is.
    pub until: Option<Time>,
    pub digest: Digest,
    /// How many; `None`: their texts are not kept.
    pub files: Option<u32>,
}

/// Without the text, which may hold a password's hash.
impl fmt::Debug for PolicyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.name, self.bytes.len())
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub server: String,
    pub pid: u32,
    pub gate_pid: u32,
    pub since: Time,
    pub listen: Vec<String>,
    pub policy: String,
    pub users: u32,
    pub sessions: u32,
    pub strangers: u32,
    pub drops: u64,
    /// Uploads that are complete and will be delivered when they were left alone.
    pub waiting: u64,
    pub events: u64,
    /// Root of the log over all `events`, hex.
    pub log_root: String,
    pub next_sweep: Option<Time>,
    pub confinement: String,
    pub free_bytes: u64,
    /// What is handed on has no names in it.
    pub names_hidden: bool,
    /// Requests that a second person has not answered.
    pub awaiting: u32,
}

/// A request that waits for a second person, or for who asked to do what was approved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApprovalRow {
    pub request: RequestId,
    /// In words.
    pub what: String,
    /// How many drops it is for, if it is for drops.
    pub drops: u32,
    pub by: String,
    pub reason: Option<String>,
    pub asked: Time,
    pub until: Time,
    pub approved: Option<ApprovedBy>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApprovedBy {
    pub by: String,
    pub reason: String,
    pub at: Time,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Overview {
    pub connections: u32,
    pub connections_max: u32,
    /// Since the start.
    pub turned_away: u64,
    /// Under way.
    pub uploads: u32,
    /// Bytes a second, of all sessions.
    pub sending: u64,
    pub receiving: u64,
    /// What counts as soon, in seconds.
    pub soon: u32,
    /// Drops that end soon, and those of them that nobody has picked up; as of a minute ago.
    pub expiring: u32,
    pub unpicked: u32,
    /// Batches on their way into the ledger, and how long the last took.
    pub committing: u32,
    pub commit_ms: Option<u64>,
    /// The size of the file system.
    pub disk_bytes: u64,
    pub alarms: u32,
    /// That wait for the hook.
    pub notices: u32,
}

/// A notice that waits for the hook.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NoticeRow {
    pub id: String,
    pub at: Time,
    /// What it tells of.
    pub what: String,
    pub tries: u32,
    pub next: Time,
    /// How the last try ended.
    pub last: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookState {
    /// The settings name none.
    None,
    Ready,
    /// The process that runs it has ended.
    Gone,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionRow {
    pub session: SessionId,
    pub user: UserName,
    pub address: IpAddr,
    /// Fingerprint of the key that logged in; `None`: a password.
    pub key: Option<String>,
    /// Which certificate, in words.
    pub certificate: Option<String>,
    pub since: Time,
    /// Bytes of SFTP, as the session last said.
    pub sent: u64,
    pub received: u64,
    /// Bytes a second, as it last said.
    pub sending: u64,
    pub receiving: u64,
    /// Uploads under way.
    pub uploads: u32,
    /// What it asked last, and when.
    pub last: Option<(String, Time)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DropRow {
    pub drop: DropId,
    pub state: String,
    pub sender: UserName,
    pub recipients: Vec<UserName>,
    pub path: String,
    pub size: u64,
    pub received: Time,
    pub expires: Option<Time>,
    /// How often each recipient may pick it up.
    pub pickups: Option<u32>,
    pub picked_up: u32,
    /// Since when a newer version has its place with its sender, and by which receipt.
    pub superseded: Option<(Time, ReceiptId)>,
    /// Who holds, has released or shredded it, and why.
    pub order: Option<String>,
    /// Since when there is a certificate of its destruction.
    pub certified: Option<Time>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReceiptRow {
    pub id: ReceiptId,
    pub drop: DropId,
    pub sender: UserName,
    pub path: String,
    pub size: u64,
    pub sha256: String,
    pub received: Time,
    pub replaces: Option<ReceiptId>,
    pub duplicate: Option<ReceiptId>,
    pub superseded: Option<(Time, ReceiptId)>,
}

/// An event with the leaf hash that is kept beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogRow {
    pub number: u64,
    pub leaf: [u8; 32],
    /// Canonical JSON.
    pub json: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckpointRow {
    pub size: u64,
    pub body: String,
    /// With the witnesses' lines that are kept.
    pub note: String,
    /// SSHSIG over the body.
    pub signature: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogReceiptRow {
    pub text: String,
    pub signature: String,
    pub content_signature: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogPaperRow {
    #[serde(with = "serde_bytes")]
    pub part: Vec<u8>,
    pub more: bool,
    pub signature: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NamesRow {
    pub event: u64,
    pub key: DropId,
    #[serde(with = "serde_bytes")]
    pub sealed: Vec<u8>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NamesKeyRow {
    #[serde(with = "serde_bytes")]
    pub head: Vec<u8>,
    #[serde(with = "serde_bytes")]
    pub envelope: Vec<u8>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepRow {
    pub drop: DropId,
    pub sender: UserName,
    pub path: String,
    pub size: u64,
    pub expires: Time,
    pub picked_up: u32,
}
