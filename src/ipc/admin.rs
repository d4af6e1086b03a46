//! Command → keeper, over the admin socket. The keeper knows who asks from the kernel (SO_PEERCRED). Lists come in
//! pages: ask again with the last row's key until `next` is `None`.

mod rows;

pub use rows::*;

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::clock::Time;
use crate::ipc::jail::DropStatus;
use crate::names::{Digest, DropId, ReceiptId, RequestId, SessionId, UserName};
use crate::vpath::VirtualPath;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToKeeper {
    Status,
    Drops {
        user: Option<UserName>,
        after: Option<String>,
    },
    Receipts {
        user: Option<UserName>,
        after: Option<String>,
    },
    /// One receipt with its signature.
    Receipt {
        id: ReceiptId,
    },
    /// What became of what is or was at a path in a user's view; without a user, in everybody's.
    DropStatus {
        user: Option<UserName>,
        path: VirtualPath,
    },
    /// Everything there is about a receipt: which files.
    Evidence {
        id: ReceiptId,
    },
    /// One of those files, as of the log that had so many events.
    EvidenceFile {
        id: ReceiptId,
        log_size: u64,
        name: String,
    },
    /// The events about a receipt and its drop, from number `from` on; without it from the first there can be.
    EvidenceEvents {
        id: ReceiptId,
        from: Option<u64>,
        log_size: u64,
    },
    /// That an event is in the log of so many events.
    Proof {
        event: u64,
        log_size: u64,
    },
    /// The number of an event before which there is none of that time or later.
    FirstEvent {
        since: Time,
    },
    /// Events from number `from` on; at most one page.
    Audit {
        from: u64,
    },
    /// The log as it stands, from event `from` on; at most one page.
    Log {
        from: u64,
    },
    /// The newest checkpoint; one of this moment if the newest that is kept does not cover every event.
    Checkpoint,
    /// What pruning left of the events before the first.
    Beginning,
    /// The newest checkpoint that is kept, as the only row.
    LastCheckpoint,
    /// Checkpoints that are kept, over more than `after` events; at most one page.
    Checkpoints {
        after: u64,
    },
    /// A receipt as the log commits to it, or nothing.
    LogReceipt {
        id: ReceiptId,
    },
    /// What is kept of the paper that an event is about, or of the certificate of a drop; from its byte `offset` on.
    LogPaper {
        event: u64,
        certified: Option<DropId>,
        offset: u32,
    },
    /// What is hidden of the names of the events from this number on.
    Names {
        from: u64,
    },
    /// The key of hidden names, for the auditor.
    NamesKey {
        id: DropId,
    },
    /// That an event is in the log of `size` events.
    Inclusion {
        event: u64,
        size: u64,
    },
    /// That the log of `new` events begins with that of `old`.
    Consistency {
        old: u64,
        new: u64,
    },
    /// A witness's line under the checkpoint over `size` events, with the witness's public key.
    Cosigned {
        size: u64,
        line: String,
        key: String,
    },
    /// A command that only reads, and so much that it belongs into the log.
    Noted {
        command: String,
        why: Option<String>,
    },
    /// What a copy of the state needs to know.
    Backup {
        why: Option<String>,
    },
    /// Expire what is due, or with `plan` say what would be. `now` other than the clock's needs `test_clock = true`.
    Sweep {
        plan: bool,
        now: Option<Time>,
        after: Option<String>,
        why: Option<String>,
    },
    Reload {
        why: Option<String>,
    },
    /// Who is on.
    Sessions {
        after: Option<SessionId>,
    },
    /// End one session, or all of a user.
    Kick {
        user: Option<UserName>,
        session: Option<SessionId>,
        reason: String,
    },
    /// The drops that are meant by a drop's or receipt's id, or by `USER:PATH`; with `below`, all that are below that path.
    Find {
        what: String,
        below: bool,
        after: Option<String>,
    },
    /// Hold, release or shred these drops; a page of them at most.
    Order {
        what: Ordered,
        drops: Vec<DropId>,
        reason: String,
    },
    BreakGlass(BreakGlass),
    /// The certificate of a drop's destruction.
    Certificate {
        drop: DropId,
    },
    /// The policy in force, as the texts it was read from.
    Policy {
        after: Option<String>,
    },
    /// What became of the drops, in the order of their ids.
    Lives {
        after: Option<String>,
    },
    /// When which policy was in force, the earliest first.
    PoliciesInForce {
        after: Option<Time>,
    },
    /// The one that was in force at a moment, as the only row; none before the first.
    PolicyInForceAt {
        at: Time,
    },
    /// The texts of a policy that was in force, without its secrets.
    PolicyKept {
        digest: Digest,
        after: Option<String>,
    },
    /// Begins to replace keys; the answer comes at once.
    Rotate {
        rotation: Rotation,
        /// In the words of who asks, for the audit log.
        reason: String,
    },
    /// How the rotation under way goes, or how the last one ended.
    RotationState,
    /// Alarms that are open; `after` is a cause.
    Alarms {
        after: Option<String>,
    },
    /// Notices that wait for the hook.
    Notices {
        after: Option<String>,
    },
    /// Look for what is wrong at once. `now` other than the clock's needs `test_clock = true`.
    LookForAlarms {
        now: Option<Time>,
    },
    /// An alarm that stays until somebody has seen it.
    ClearAlarm {
        cause: String,
        reason: String,
    },
    /// Tell the hook something, and wait for how that went.
    TestHook,
    /// What is going on, in numbers.
    Overview,
    /// Which drops the orders to come in this conversation are for, some at a time: they are one act, and approved as one.
    Announce {
        what: Ordered,
        drops: Vec<DropId>,
        reason: String,
        last: bool,
    },
    /// What waits for a second person, or for who asked to do it.
    Approvals {
        after: Option<RequestId>,
    },
    /// The drops that one of them is for.
    ApprovalDrops {
        request: RequestId,
        after: Option<String>,
    },
    /// As the second person.
    Approve {
        request: RequestId,
        reason: String,
    },
    /// As the second person, or as who asked.
    Refuse {
        request: RequestId,
        reason: String,
    },
}

/// Which keys are to be replaced.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Rotation {
    /// By a new one, where `root_key` in the settings on disk says; under this passphrase, if it says so.
    Root {
        passphrase: Option<Passphrase>,
    },
    /// A managed recipient's; every drop that it opens is rewrapped.
    Identity {
        user: UserName,
    },
    /// Drops of a sender that are there already: to those whom policy names now, of one of its folders or of all.
    Recipients {
        sender: UserName,
        folder: Option<VirtualPath>,
    },
    Receipt,
    /// New host keys beside the present ones; with `place`, those that were prepared in their place.
    Host {
        place: bool,
    },
}

/// Sent once, to the keeper; nothing sends one back.
#[derive(Clone, Serialize, Deserialize)]
pub struct Passphrase(pub Zeroizing<String>);

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RotationState {
    pub what: String,
    pub done: u64,
    pub total: u64,
    /// What was done, or why it stopped.
    pub ended: Option<Result<String, String>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ToCommand {
    Status(Box<Status>),
    Drops {
        rows: Vec<DropRow>,
        next: Option<String>,
    },
    Receipts {
        rows: Vec<ReceiptRow>,
        next: Option<String>,
    },
    Receipt {
        text: String,
        signature: String,
    },
    DropStatus {
        rows: Vec<(UserName, DropStatus)>,
    },
    Evidence {
        drop: DropId,
        log_size: u64,
        files: Vec<String>,
    },
    EvidenceFile {
        text: String,
    },
    EvidenceEvents {
        rows: Vec<(u64, String)>,
        next: Option<u64>,
    },
    /// In C2SP's form, with the event.
    Proof {
        text: String,
    },
    FirstEvent {
        number: u64,
    },
    /// Events as their canonical JSON lines.
    Audit {
        rows: Vec<String>,
        next: u64,
    },
    Log {
        rows: Vec<LogRow>,
    },
    /// The roots of the complete subtrees over the pruned events, the largest first.
    Beginning {
        size: u64,
        peaks: Vec<[u8; 32]>,
    },
    /// With the `allowed_signers` line of the key that signs them, and that key for notes.
    Checkpoint {
        row: Box<CheckpointRow>,
        signers: String,
        key: Option<String>,
    },
    Checkpoints {
        rows: Vec<CheckpointRow>,
    },
    LogReceipt {
        found: Option<LogReceiptRow>,
    },
    LogPaper {
        found: Option<LogPaperRow>,
    },
    /// Empty after the last.
    Names {
        rows: Vec<NamesRow>,
    },
    /// Nothing once they have expired.
    NamesKey {
        found: Option<NamesKeyRow>,
    },
    /// The leaf of the event, where one was asked for.
    Hashes {
        leaf: Option<[u8; 32]>,
        hashes: Vec<[u8; 32]>,
    },
    /// Where the state is; the journal's last segment and how much of it is whole; the head at that place.
    Backup {
        state: String,
        segment: String,
        end: u64,
        root: Digest,
        checkpoint: Box<CheckpointRow>,
    },
    Sweep {
        rows: Vec<SweepRow>,
        next: Option<String>,
        destroyed_keys: u32,
    },
    Ordered {
        rows: Vec<OrderRow>,
    },
    BreakGlass {
        rows: Vec<BreakGlassRow>,
    },
    /// Comes with a descriptor, read-only: the sealed file as it is on disk, for this envelope (8,096 bytes) in the place of its own.
    SealedFile {
        #[serde(with = "serde_bytes")]
        envelope: Vec<u8>,
    },
    Certificate {
        text: String,
        signature: String,
    },
    /// Of every page the same digest, or the policy has changed in between.
    Policy {
        digest: Digest,
        parts: Vec<PolicyPart>,
        next: Option<String>,
    },
    Lives {
        rows: Vec<DropLife>,
        next: Option<String>,
    },
    PoliciesInForce {
        rows: Vec<InForceRow>,
        next: Option<Time>,
    },
    Sessions {
        rows: Vec<SessionRow>,
        next: Option<SessionId>,
    },
    Kicked {
        sessions: Vec<SessionId>,
    },
    /// `None`: there was none since the daemon's start.
    Rotation(Option<RotationState>),
    /// Each as JSON, as the hook reads it.
    Alarms {
        rows: Vec<String>,
        next: Option<String>,
    },
    Overview(Box<Overview>),
    Notices {
        rows: Vec<NoticeRow>,
        next: Option<String>,
        hook: HookState,
    },
    Approvals {
        rows: Vec<ApprovalRow>,
        next: Option<RequestId>,
    },
    /// Not done: a second person has to approve it, and then it can be asked for again.
    Awaits(Box<ApprovalRow>),
    Done {
        say: String,
    },
    Sorry {
        say: String,
        hint: Option<String>,
    },
}
