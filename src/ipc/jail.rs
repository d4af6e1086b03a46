//! Session ↔ keeper after admission. The session works on the bytes of files it already holds; everything that
//! changes a name, needs a key, or must be in the ledger is asked of the keeper here, and done when it answers.
//! Every request carries a number; answers come back with it, in any order.
//!
//! Paths cross as parsed [`VirtualPath`]s and the keeper resolves them itself beneath the user's tree, so what policy
//! decides on and what is acted on are the same value (docs/decisions/0001).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::clock::Time;
use crate::names::{Digest, DropId, FileName, ReceiptId, SessionId, UserName};
use crate::sums::{Keeps, Sums};
use crate::vpath::VirtualPath;

/// What an admitted session needs to confine itself and to serve.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Admission {
    pub user: UserName,
    pub session: SessionId,
    /// As seen inside the yard. Without root both are 0, the only id there is.
    pub uid: u32,
    pub gid: u32,
    /// The folders of the user's view, in the order of the policy.
    pub folders: Vec<FolderView>,
    /// Which sums any file that the user sends or is sent may have.
    pub keeps: Keeps,
    pub handles_max: u32,
    pub idle_max: Duration,
}

/// One folder of a user's view, with what a session may answer without asking.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FolderView {
    pub path: VirtualPath,
    pub kind: FolderKind,
    /// An inbox whose user holds the identity: files show as `NAME.sealed`.
    pub sealed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FolderKind {
    /// Write, list, never read back; delivered at commit to each recipient.
    Drop,
    /// Read and write, sealed to its owner.
    Shared,
    /// What others delivered to this user: read, list, remove.
    Inbox,
}

/// Session → keeper: one packet.
#[derive(Serialize, Deserialize)]
pub struct Ask {
    pub number: u32,
    pub request: ToKeeper,
}

/// Keeper → session: one packet.
#[derive(Serialize, Deserialize)]
pub enum ToSession {
    Answer {
        number: u32,
        answer: Answer,
    },
    /// The user's rights ended, or an admin said so: end now. Nothing more is answered.
    Revoked,
    /// The daemon is stopping: finish what is open, take nothing new.
    Drain,
}

#[derive(Serialize, Deserialize)]
pub enum ToKeeper {
    /// To begin or continue an upload to `path`. `from` names the staged upload to continue: its drop, and the path it
    /// was staged under (another than `path` when a temp name is renamed to its final one).
    Stage {
        path: VirtualPath,
        from: Option<StagedFrom>,
        exclusive: bool,
    },
    /// Another key for the journals of an upload that has lasted for long.
    RenewJournal {
        path: VirtualPath,
        drop: DropId,
    },
    /// All bytes are in the `.part` whose read-only descriptor comes along, and the session holds no writable one.
    /// The keeper adds the envelope, makes it durable, delivers it, records it, and only then answers `Committed`.
    Commit(Box<Commit>),
    /// A temp-named upload was closed: its bytes and journal are durable in `.staging`, nothing is delivered.
    Park {
        path: VirtualPath,
        drop: DropId,
        size: u64,
    },
    /// An upload ended without commit. Staged bytes that may be resumed stay when `keep` is set.
    Discard {
        path: VirtualPath,
        drop: DropId,
        bytes: u64,
        keep: bool,
        why: Abandon,
        /// The sentence its client got, if it was refused and the keeper does not know yet.
        say: Option<String>,
    },
    /// To read a sealed file: the first 8,192 bytes of the file, or what there is of them.
    Open {
        path: VirtualPath,
        #[serde(with = "serde_bytes")]
        header: Vec<u8>,
    },
    /// A download ended: `bytes` went out; `whole` if every byte of the file was sent at least once.
    Pulled {
        path: VirtualPath,
        drop: DropId,
        bytes: u64,
        whole: bool,
    },
    /// Reading found `drop` damaged; the client was told so.
    Corrupt {
        path: VirtualPath,
        drop: DropId,
        what: String,
    },
    /// A listing begins; the answer is what is not in the folder yet. `after`: the next page of that, of the same listing.
    List {
        path: VirtualPath,
        after: Option<FileName>,
    },
    MakeFolder {
        path: VirtualPath,
    },
    RemoveFolder {
        path: VirtualPath,
    },
    Remove {
        path: VirtualPath,
    },
    /// `replace`: posix-rename@openssh.com; otherwise an existing target is refused (SFTP v3).
    Rename {
        from: VirtualPath,
        to: VirtualPath,
        replace: bool,
    },
    /// Unix seconds.
    SetTimes {
        path: VirtualPath,
        atime: u32,
        mtime: u32,
    },
    /// A page of the receipts mirrored at `path` (a path below `/receipts`), after `after`. If `path` is a receipt and not a
    /// folder: an entry for it, alone.
    Receipts {
        path: VirtualPath,
        after: Option<String>,
    },
    /// The receipt of the file that is, or was, at `path`.
    Receipt {
        path: VirtualPath,
    },
    /// A paper below `/receipts`, or its signature (`path` is as a listing there shows it), from byte `offset` on.
    Paper {
        path: VirtualPath,
        offset: u32,
    },
    /// Why an upload to `path` was refused.
    Rejected {
        path: VirtualPath,
    },
    /// The certificate that what was sent to `path` is destroyed.
    Certificate {
        path: VirtualPath,
    },
    /// The digest of the plaintext of the file at `path`, as the ledger has it; nothing is opened.
    Digests {
        path: VirtualPath,
    },
    /// What became of the file that is, or was, at `path`.
    DropStatus {
        path: VirtualPath,
    },
    /// Room left for the user at `path`, for statvfs@openssh.com.
    Space {
        path: VirtualPath,
    },
    /// Something the session refused by itself and the log must know: a shell, a forwarding, a symlink.
    Refused {
        what: String,
        path: Option<VirtualPath>,
    },
    /// The bytes of SFTP so far, for who looks at the sessions: now and then, while there are more.
    Moved {
        sent: u64,
        received: u64,
    },
    /// The last words of an orderly end.
    Bye {
        sent: u64,
        received: u64,
    },
}

/// Why an upload ended without commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Abandon {
    /// The connection went away.
    Disconnected,
    /// The client cut the file short and closed it, as OpenSSH does on Ctrl-C.
    Interrupted,
    /// The client removed it.
    Removed,
    /// It broke a rule or a limit.
    Refused,
    /// This side failed: a full disk, a damaged staging file.
    Failed,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StagedFrom {
    pub path: VirtualPath,
    pub drop: DropId,
    /// The bucket that stands before the upload's journal.
    pub bucket: u64,
}

#[derive(Serialize, Deserialize)]
pub struct Commit {
    pub path: VirtualPath,
    pub drop: DropId,
    pub size: u64,
    pub sha256: Digest,
    pub sums: Sums,
    /// Checked by the keeper against the header's commitment.
    pub file_key: Key,
    /// The client's, Unix seconds, if it set one.
    pub mtime: Option<u32>,
    /// When the first byte was staged.
    pub opened_at: Time,
    /// The upload can be left in staging until nobody comes back to it, and was granted so.
    pub waits: bool,
}

/// Key bytes on their way between processes; wiped when dropped, never printed.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Key(pub [u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The keeper's answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    Staged(Box<Staged>),
    Journal(JournalGrant),
    Committed {
        receipt: ReceiptId,
    },
    /// The upload will be delivered, but not before then; the session leaves its files where they are.
    Waiting {
        until: Time,
    },
    Opened(Box<Opened>),
    /// Of the user's uploads to this folder those that wait, by their names.
    Listed {
        waiting: Vec<WaitingFile>,
        more: bool,
    },
    Receipts {
        page: Vec<ReceiptEntry>,
        more: bool,
        /// The path is a file's and not a folder's, and this is its entry.
        file: bool,
    },
    Certificate {
        text: String,
        signature: String,
        at: Time,
    },
    Paper {
        #[serde(with = "serde_bytes")]
        part: Vec<u8>,
        more: bool,
        at: Time,
    },
    Rejected {
        text: String,
        at: Time,
    },
    Receipt(Box<ReceiptText>),
    Digests {
        size: u64,
        sha256: Digest,
        sums: Sums,
    },
    DropStatus(Box<DropStatus>),
    Space {
        total: u64,
        free: u64,
        files: u64,
        files_free: u64,
    },
    Done,
    /// Refused or failed. `status` and `say` go to the client as they are.
    Sorry {
        status: Status,
        say: String,
    },
}

/// The part of SFTP's status codes that the keeper chooses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    NoSuchFile,
    PermissionDenied,
    Failure,
    Unsupported,
}

/// To seal an upload's journals with, for a while.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JournalGrant {
    /// Stands before each journal, to ask with when the upload is continued.
    pub bucket: u64,
    pub key: Key,
    /// A journal that is written after this could not be continued for as long as its folder says: ask for another.
    pub renew: Time,
}

/// A granted upload.
#[derive(Debug, Serialize, Deserialize)]
pub struct Staged {
    pub drop: DropId,
    pub kind: FolderKind,
    /// The mode byte of the sealed file (docs/sealed-file.md, "Core").
    pub mode: u8,
    /// Fresh uploads: the key to seal with. Continued ones: `None`, it is in the journal.
    pub file_key: Option<Key>,
    /// Seals the upload's journal.
    pub journal: JournalGrant,
    /// Continued uploads: opens the journal there is. `None`: it may no longer be opened, nor the upload continued.
    pub opens: Option<Key>,
    /// `path` is a temp name: CLOSE parks, a rename to a final name commits.
    pub temporary: bool,
    /// The folder delivers when an upload was left alone for a while after CLOSE.
    pub waits: bool,
    /// Bytes this upload may have at the most: the least of the folder's `max_size` and what is left of the quota.
    pub size_max: u64,
    /// Whether `size_max` is what is left of the quota; otherwise it is the folder's.
    pub quota: bool,
    /// Which sums to make beside SHA-256.
    pub keeps: Keeps,
    /// What goes into the trailer.
    pub sender: UserName,
    pub recipients: Vec<UserName>,
    /// The offline recipient that the file will be sealed to as well, `sealdrop1…`.
    pub escrow: Option<String>,
    pub server: String,
    /// The folder takes only what its sender sealed to just these recipients, `sealdrop1…`; empty: it takes anything.
    pub sealed_to: Vec<String>,
}

/// A granted read.
#[derive(Debug, Serialize, Deserialize)]
pub enum Opened {
    /// The session opens the records itself and sends the plaintext, of which the ledger has this size and digest.
    /// `counted`, of both: the drop expires by pickups, and CLOSE waits until a whole read is recorded.
    Managed { drop: DropId, file_key: Key, size: u64, sha256: Digest, counted: bool },
    /// The recipient's identity is not here: the session sends the sealed file as it stands, with this envelope
    /// (8,096 bytes, the shred wrap taken off) in place of the one on disk.
    Sealed {
        drop: DropId,
        size: u64,
        #[serde(with = "serde_bytes")]
        envelope: Vec<u8>,
        counted: bool,
    },
}

/// An upload that is complete and not delivered yet: its sender sees it as a file.
#[derive(Debug, Serialize, Deserialize)]
pub struct WaitingFile {
    pub name: FileName,
    pub size: u64,
    pub mtime: u32,
}

/// One name in a folder of `/receipts`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReceiptEntry {
    /// As the client sees it, `a.dcm.receipt` or a folder's name, escaped.
    pub name: String,
    pub folder: bool,
    pub size: u32,
    pub at: Time,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ReceiptText {
    pub id: ReceiptId,
    pub text: String,
    /// SSHSIG over `text`, armoured.
    pub signature: String,
    /// SSHSIG over the content itself, armoured.
    pub content_signature: String,
    /// That its event is in the log.
    pub proof: String,
}

/// A drop as the one who asks may know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropStatus {
    pub drop: DropId,
    pub sender: UserName,
    pub size: u64,
    pub sha256: Digest,
    pub sums: Sums,
    pub received: Time,
    pub expires: Option<Time>,
    /// How often each recipient may pick it up.
    pub pickups: Option<u32>,
    pub standing: Standing,
    /// A newer version took its place with its sender; what was delivered stays.
    pub superseded: Option<Newer>,
    /// To its sender, of a manifest.
    pub consignment: Option<ConsignmentStanding>,
    /// To its sender: every recipient. To a recipient: itself alone.
    pub deliveries: Vec<Pickups>,
}

/// What has come of what a manifest names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsignmentStanding {
    pub files: u32,
    /// While it is open: how many are not there yet.
    pub open: u64,
    pub until: Time,
    /// Since it is closed: when, how many were missing, and how many were others.
    pub closed: Option<(Time, u32, u32)>,
}

/// Since when there is a newer version, and to the sender: by which receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newer {
    pub at: Time,
    pub by: Option<ReceiptId>,
}

/// Where a drop is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It is complete and not delivered yet: its sender may still come back to it.
    Waiting { until: Time },
    /// It can be picked up.
    Live,
    /// The same, past its expiry too, until somebody releases it.
    Held,
    /// Its time has come: nobody gets it any more, and its key is destroyed by the next sweep.
    Expired,
    /// Its bytes are gone from this server.
    Destroyed { at: Time },
    /// Everybody removed it.
    Removed { at: Time },
    /// A later version took its place.
    Superseded { at: Time },
}

/// One recipient of a drop, and what it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pickups {
    pub user: UserName,
    pub count: u32,
    pub last: Option<Time>,
    /// When it last read some of it and not all.
    pub part: Option<Time>,
    /// When it removed its own entry.
    pub removed: Option<Time>,
}
