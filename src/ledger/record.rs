//! What the ledger keeps besides events: drops, with the life they go through, and receipts; and the batch in which
//! changes of all three are handed over, one atomic unit. The rules of a drop's life are here and nowhere else.
//! No I/O here.

use serde::{Deserialize, Serialize};

use super::alarm::{Alarm, Notice, NoticeId};
use super::approval::Request;
use super::certificate::{CertificateFacts, CertificateRecord};
use super::checkpoint::Checkpoint;
use super::consignment::{Closed, ConsignmentRecord};
use super::event::Event;
use super::forget::Over;
use super::paper::{Paper, PaperFacts};
use super::policies::{InForce, PolicyRecord};
use super::receipt::ReceiptFacts;
use super::rejection::Rejection;
use super::veil::{HiddenNames, NamesKeyRecord};
use crate::clock::Time;
use crate::names::{Digest, DropId, ReceiptId, RequestId, UserName};
use crate::sums::Sums;
use crate::vpath::VirtualPath;

/// One atomic unit: all of it is in the ledger, or none.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub events: Vec<Event>,
    pub writes: Vec<Write>,
    /// May use the last room on the disk: for what frees room (removal, expiry) and for the last words of a run.
    pub urgent: bool,
    /// Whoever sent it does not wait: it may, a little, for another to share its sync with.
    pub patient: bool,
}

/// A change of a record. Indexes, usage and bucket counts follow from it; nobody writes those.
#[derive(Clone, Debug)]
pub enum Write {
    /// A new drop, at its sender's path and at each recipient's. A drop that was at one of these paths keeps its record
    /// but is no longer found there; say what became of it with `State`.
    Drop(DropRecord),
    /// The next state of a drop. Refused if it does not follow from the one it is in.
    State { drop: DropId, to: DropState },
    /// `user` read the drop, to its end or in part.
    PickedUp { drop: DropId, user: UserName, at: Time, whole: bool },
    /// `user` renamed its own entry of the drop.
    Moved { drop: DropId, user: UserName, from: VirtualPath, to: VirtualPath },
    /// `user` renamed a folder: every entry below `from` is now below `to`.
    FolderMoved { user: UserName, from: VirtualPath, to: VirtualPath },
    /// `user` removed its own entry of the drop; the others keep theirs.
    Unlinked { drop: DropId, user: UserName, path: VirtualPath, at: Time },
    /// Another expiry, and the shred bucket that goes with it.
    Expires { drop: DropId, expires: Option<Time>, bucket: Option<u64> },
    /// A person's order about a drop, which takes it to its next state.
    Order { drop: DropId, order: Order },
    /// The drop's envelope is about to be wrapped under another bucket: until [`Write::Rewrapped`] both keys are needed.
    Moving { drop: DropId, to: u64 },
    /// It is wrapped under this one and no other.
    Rewrapped { drop: DropId, bucket: u64 },
    /// The drop has these deliveries as well, or again, and this escrow recipient.
    Readdressed { drop: DropId, added: Vec<Delivery>, escrow: Option<String> },
    /// A certificate for the event at place `event` of this batch, which must be a `DestructionCertified`. The committer
    /// writes the text and signs it. Refused if the drop is not destroyed, or has one.
    Certificate { event: usize, facts: CertificateFacts },
    /// A receipt for the event at place `event` of this batch, which must be an `UploadCommitted`, or for a duplicate an
    /// `UploadDuplicate`. The committer knows its number, writes the text and signs it.
    /// `signature` is the sender's, if the receipt names one.
    Receipt { event: usize, facts: ReceiptFacts, signature: Option<String> },
    /// A paper about the event at place `event` of this batch. The committer writes and signs it.
    Paper { event: usize, facts: PaperFacts },
    /// A manifest was received.
    Consignment(ConsignmentRecord),
    /// All that a manifest names has come, or its time is over. Refused if it is closed already.
    ConsignmentClosed { manifest: DropId, closed: Closed },
    /// What the signature of the sender in this drop is over has come.
    Matched { signature: DropId },
    /// The drop stays, and a newer one has the place that it had with its sender: its receipts are superseded. Refused if
    /// they are already.
    Superseded { drop: DropId, by: ReceiptId, at: Time },
    /// An upload turned out to be what the drop `of` is, and was not delivered. The sender has its entry of that drop,
    /// again if it had removed it. Refused if the ledger knows the upload already.
    Duplicate { upload: DropId, of: DropId },
    /// Why an upload was refused: in the place of an older notice for the path.
    Rejected(Rejection),
    /// A notice that is old.
    RejectionOver { user: UserName, path: VirtualPath },
    /// A witness's signature line under the checkpoint over `size` events.
    Cosigned { size: u64, line: String },
    /// The text of a policy file, without its secrets; kept under its hash.
    PolicyText(String),
    /// What a policy consists of. Its texts are there, or in this batch.
    Policy(PolicyRecord),
    /// A policy came into force.
    InForce(InForce),
    /// An alarm is open: in the place of what was said of the same cause before.
    Alarm(Alarm),
    /// What was open is over, or an admin has seen it.
    AlarmOver { cause: String },
    /// A notice waits for the hook: in its own place if it has been tried.
    Notice(Notice),
    /// It was told, or given up.
    NoticeOver { id: NoticeId },
    /// The key that hidden names are sealed with from now on, for the auditor.
    NamesKey(NamesKeyRecord),
    /// Names that the live database forgets.
    NamesOver(Over),
    /// Something waits for a second person: in its own place once it is approved.
    Request(Request),
    /// It was refused, used, or is too old. Refused if there is no such request.
    RequestOver { id: RequestId },
}

/// A write as the journal keeps it: the same, but with the receipt made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stored {
    Drop(Box<DropRecord>),
    State {
        drop: DropId,
        to: DropState,
    },
    PickedUp {
        drop: DropId,
        user: UserName,
        at: Time,
        whole: bool,
    },
    Moved {
        drop: DropId,
        user: UserName,
        from: VirtualPath,
        to: VirtualPath,
    },
    FolderMoved {
        user: UserName,
        from: VirtualPath,
        to: VirtualPath,
    },
    Unlinked {
        drop: DropId,
        user: UserName,
        path: VirtualPath,
        at: Time,
    },
    Expires {
        drop: DropId,
        expires: Option<Time>,
        bucket: Option<u64>,
    },
    Order {
        drop: DropId,
        order: Order,
    },
    Moving {
        drop: DropId,
        to: u64,
    },
    Rewrapped {
        drop: DropId,
        bucket: u64,
    },
    Certificate(CertificateRecord),
    Receipt(ReceiptRecord),
    Superseded {
        drop: DropId,
        by: ReceiptId,
        at: Time,
    },
    Duplicate {
        upload: DropId,
        of: DropId,
    },
    Rejected(Rejection),
    RejectionOver {
        user: UserName,
        path: VirtualPath,
    },
    /// The log after the frame's events, signed; the committer's own.
    Checkpoint(Checkpoint),
    Cosigned {
        size: u64,
        line: String,
    },
    Alarm(Alarm),
    AlarmOver {
        cause: String,
    },
    Notice(Notice),
    NoticeOver {
        id: NoticeId,
    },
    Matched {
        signature: DropId,
    },
    Paper(Paper),
    Consignment(ConsignmentRecord),
    ConsignmentClosed {
        manifest: DropId,
        closed: Closed,
    },
    PolicyText(String),
    Policy(PolicyRecord),
    InForce(InForce),
    /// One of the others, sealed: it has names in it that are hidden.
    #[serde(with = "serde_bytes")]
    Sealed(Vec<u8>),
    /// A receipt as its month keeps it where names are hidden: its path is the root.
    HiddenReceipt(ReceiptRecord),
    /// What is hidden of one event's names.
    Names(HiddenNames),
    NamesKey(NamesKeyRecord),
    NamesOver(Over),
    Readdressed {
        drop: DropId,
        added: Vec<Delivery>,
        escrow: Option<String>,
    },
    Request(Request),
    RequestOver {
        id: RequestId,
    },
}

/// What an acknowledged batch became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The number of the batch's first event; the others follow on.
    pub first_event: u64,
    pub receipts: Vec<ReceiptId>,
}

/// One delivered file, from its commit on, for as long as the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRecord {
    pub drop: DropId,
    pub receipt: ReceiptId,
    pub sender: UserName,
    /// Fingerprint of the key the sender logged in with.
    pub sender_key: Option<String>,
    pub kind: DropKind,
    /// In the sender's view, now.
    pub path: VirtualPath,
    /// When the sender removed its own entry.
    pub unlinked: Option<Time>,
    pub deliveries: Vec<Delivery>,
    pub size: u64,
    pub sha256: Digest,
    /// Where its folder keeps them.
    pub sums: Sums,
    /// The client's, Unix seconds, if it set one.
    pub mtime: Option<u32>,
    pub received: Time,
    pub expires: Option<Time>,
    /// How often each recipient may pick it up; when none may any more, it is shredded.
    pub pickups: Option<u32>,
    /// The shred bucket whose key the envelope is wrapped under.
    pub bucket: Option<u64>,
    pub state: DropState,
    /// The policy it was received under.
    pub policy: Digest,
    /// Set when a newer drop took its place with its sender. It says nothing of its life: what was delivered stays.
    pub superseded: Option<Superseded>,
    /// It is its sender's signature over a file that has not come yet.
    pub unmatched_signature: Option<String>,
    /// The offline recipient that it is sealed to as well, `sealdrop1…`.
    pub escrow: Option<String>,
    /// The last that a person said about it.
    pub order: Option<Order>,
    /// The bucket that its envelope is being wrapped under, or was when a crash came.
    pub moving: Option<u64>,
    /// Since when there is a certificate of its destruction.
    pub certified: Option<Time>,
}

impl DropRecord {
    /// Whether `user`, one of its recipients, may pick it up once more.
    pub fn may_pick_up(&self, user: &UserName) -> bool {
        let used_up = |most: u32| self.deliveries.iter().any(|d| d.user == *user && d.picked_up >= most);
        !self.pickups.is_some_and(used_up)
    }

    /// Whether its pickups are limited, and nobody is left who may pick it up.
    pub fn is_used_up(&self) -> bool {
        self.pickups.is_some() && self.deliveries.iter().all(|d| d.unlinked.is_some() || !self.may_pick_up(&d.user))
    }

    /// Its state, as people are told it.
    pub fn word(&self) -> &'static str {
        let shred = self.order.as_ref().is_some_and(|order| order.what == Ordered::Shred);
        match self.state {
            DropState::Expiring { .. } if shred => "shredding",
            DropState::Expired { .. } if shred => "shredded",
            state => state.word(),
        }
    }
}

/// What a person wanted with a drop, or the policy it was received under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ordered {
    /// Keep it past its expiry.
    Hold,
    /// Let it expire again.
    Release,
    /// Destroy it now.
    Shred,
}

/// Who ordered what, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub what: Ordered,
    /// `uid 0`, its sender's name, or `policy`.
    pub by: String,
    pub reason: String,
    pub at: Time,
}

/// By which receipt the receipts of a drop are superseded, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseded {
    pub by: ReceiptId,
    pub at: Time,
}

/// What a receipt says of an earlier one, which is named by the receipt its drop was delivered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Earlier {
    /// The older version's. It is superseded from now on.
    Replaces(ReceiptId),
    /// The same content's, to the same recipients. Nothing was delivered again.
    Duplicate(ReceiptId),
}

impl Earlier {
    /// The word for it in receipts and events, and the earlier receipt.
    pub fn told(self) -> (&'static str, ReceiptId) {
        match self {
            Self::Replaces(receipt) => ("replaces", receipt),
            Self::Duplicate(receipt) => ("duplicate", receipt),
        }
    }

    pub fn replaces(self) -> Option<ReceiptId> {
        if let Self::Replaces(receipt) = self { Some(receipt) } else { None }
    }

    pub fn duplicate(self) -> Option<ReceiptId> {
        if let Self::Duplicate(receipt) = self { Some(receipt) } else { None }
    }
}

/// What sort of folder a drop came in through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DropKind {
    Drop,
    Shared,
}

/// A drop in one recipient's inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub user: UserName,
    /// In the recipient's view, now.
    pub path: VirtualPath,
    /// The mode byte of the sealed file: 0 managed, 1 sealed, 2 end to end.
    pub mode: u8,
    pub picked_up: u32,
    pub first_pickup: Option<Time>,
    pub last_pickup: Option<Time>,
    /// When it last read some of it and not all.
    pub last_part: Option<Time>,
    /// When the recipient removed its own entry.
    pub unlinked: Option<Time>,
}

impl Delivery {
    pub fn new(user: UserName, path: VirtualPath, mode: u8) -> Self {
        Self { user, path, mode, picked_up: 0, first_pickup: None, last_pickup: None, last_part: None, unlinked: None }
    }
}

/// Where a drop is in its life:
///
/// ```text
/// Live ⇄ Held
/// Live → Expiring → Expired
/// Live, Held → Removed, Superseded
/// Removed, Superseded → Expiring        by an order to shred alone: copies may be left
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DropState {
    Live,
    /// Kept past its expiry until released.
    Held,
    /// Expiry was decided and recorded; the files are being destroyed. After a crash this is where it goes on.
    Expiring {
        since: Time,
    },
    /// Destroyed. Nothing follows.
    Expired {
        at: Time,
    },
    /// Every entry of it was removed before it expired. Nothing follows.
    Removed {
        at: Time,
    },
    /// A later upload took its place, and no other entry of it was left. Nothing follows.
    Superseded {
        at: Time,
    },
}

impl DropState {
    /// Whether `next` may follow. A state never follows itself: that is what makes an event of it happen once.
    pub fn may_become(self, next: Self) -> bool {
        use DropState::{Expired, Expiring, Held, Live, Removed, Superseded};
        matches!(
            (self, next),
            (Live, Held | Expiring { .. } | Removed { .. } | Superseded { .. })
                | (Held, Live | Removed { .. } | Superseded { .. })
                | (Expiring { .. }, Expired { .. })
        )
    }

    /// Whether a drop in this state can be shredded before its time. What is held is released first.
    pub fn can_be_shredded(self) -> bool {
        matches!(self, Self::Live | Self::Removed { .. } | Self::Superseded { .. })
    }

    /// Whether its bytes may still be somewhere: it counts against the sender's quota and its bucket's key is needed.
    pub fn holds_bytes(self) -> bool {
        !matches!(self, Self::Expired { .. } | Self::Removed { .. } | Self::Superseded { .. })
    }

    /// Whether time alone will end it.
    pub fn can_come_due(self) -> bool {
        matches!(self, Self::Live | Self::Expiring { .. })
    }

    /// Whether it is found at its paths.
    pub fn has_paths(self) -> bool {
        matches!(self, Self::Live | Self::Held)
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Held => "held",
            Self::Expiring { .. } => "expiring",
            Self::Expired { .. } => "expired",
            Self::Removed { .. } => "removed",
            Self::Superseded { .. } => "superseded",
        }
    }
}

/// A receipt as it was given: text and signatures, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRecord {
    pub id: ReceiptId,
    pub drop: DropId,
    pub user: UserName,
    /// In the sender's view, when it was received.
    pub path: VirtualPath,
    pub size: u64,
    pub sha256: Digest,
    pub at: Time,
    /// The number of the event it stands for.
    pub event: u64,
    /// Events in the log with the batch of that event: the log its proof is of.
    pub log_size: u64,
    /// Of the text of that proof, which is made when it is asked for.
    pub proof_len: u32,
    pub earlier: Option<Earlier>,
    pub text: String,
    /// SSHSIG over `text`, namespace `receipt@sealdrop`.
    pub signature: String,
    /// SSHSIG over the content, namespace `content@sealdrop`.
    pub content_signature: String,
    /// The sender's signature that the text names.
    pub origin_signature: Option<String>,
}

/// What a sender's live drops add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub bytes: u64,
    pub files: u64,
}
