//! Alarms that are open, and notices that wait for the hook. An alarm has a cause, and there is one of each: it is raised
//! once, and again only after it was cleared. A notice has an id of its own that stays the same however often it is tried.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::live::{ALARMS, NOTICES};
use super::store::{Ledger, LedgerError};
use crate::clock::Time;
use crate::names::{Digest, DropId, ReceiptId, UserName, hex};
use crate::vpath::VirtualPath;

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AlarmKind {
    /// Drops expire soon, and nobody has picked them up.
    Unpicked,
    /// A delivery that was due did not come.
    Missing,
    /// Many refusals of one user, or from one address.
    Refusals,
    Disk,
    /// A key or an account ends soon.
    KeyEnd,
    /// A drop is damaged, or the ledger was, or the last run did not end in order.
    Damage,
    /// What has expired could not be destroyed.
    Sweep,
    /// The hook does not take what it is told.
    Hook,
}

impl AlarmKind {
    pub const ALL: [Self; 8] = [
        Self::Unpicked,
        Self::Missing,
        Self::Refusals,
        Self::Disk,
        Self::KeyEnd,
        Self::Damage,
        Self::Sweep,
        Self::Hook,
    ];

    /// As causes begin, and as it is told.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unpicked => "unpicked",
            Self::Missing => "missing",
            Self::Refusals => "refusals",
            Self::Disk => "disk",
            Self::KeyEnd => "key-end",
            Self::Damage => "damage",
            Self::Sweep => "sweep",
            Self::Hook => "hook",
        }
    }

    /// Whether it stays until an admin has seen it: it is something that happened, and does not go away.
    pub fn stays(self) -> bool {
        self == Self::Damage
    }
}

/// Something that is wrong, or soon will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// `KIND/…`: what tells it from all others.
    pub cause: String,
    pub kind: AlarmKind,
    pub since: Time,
    /// What is wrong, in a sentence.
    pub say: String,
    /// What an operator might do.
    pub hint: String,
    pub user: Option<UserName>,
    pub address: Option<IpAddr>,
    pub path: Option<VirtualPath>,
    pub drop: Option<DropId>,
}

/// Eight bytes of time, so that they sort by it, and eight that are random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NoticeId(pub [u8; 16]);

impl fmt::Display for NoticeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex(&self.0))
    }
}

impl fmt::Debug for NoticeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the hook is told, once if all goes well and at least once if not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub id: NoticeId,
    pub at: Time,
    pub about: About,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried next, at the earliest.
    pub next: Time,
    /// How the last try ended.
    pub last: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum About {
    Raised(Alarm),
    /// With what it ended by.
    Cleared(Alarm, String),
    Received(Box<Delivered>),
    PickedUp(Box<Delivered>),
    Expired(Box<Delivered>),
    Test,
}

/// What became of a drop, from its event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    pub user: Option<UserName>,
    pub path: Option<VirtualPath>,
    pub drop: Option<DropId>,
    pub receipt: Option<ReceiptId>,
    pub bytes: Option<u64>,
    pub sha256: Option<Digest>,
    /// In the event's words: to whom, or by whom not.
    pub detail: Option<String>,
}

impl Alarm {
    /// `cause` without its kind.
    pub fn new(kind: AlarmKind, cause: impl fmt::Display, since: Time, say: String, hint: &str) -> Self {
        let cause = format!("{}/{cause}", kind.word());
        let hint = hint.to_owned();
        Self { cause, kind, since, say, hint, user: None, address: None, path: None, drop: None }
    }
}

impl About {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Raised(_) => "raised",
            Self::Cleared(..) => "cleared",
            Self::Received(_) => "received",
            Self::PickedUp(_) => "picked-up",
            Self::Expired(_) => "expired",
            Self::Test => "test",
        }
    }
}

impl Ledger {
    /// All alarms that are open, by their causes. Their number is bounded by who raises them.
    pub fn alarms(&self) -> Result<Vec<Alarm>, LedgerError> {
        let db = &self.core.live;
        db.range(ALARMS, &[]).map(|pair| Ok(db.record(ALARMS, &pair?.1)?)).collect()
    }

    /// All notices that wait, the oldest first.
    pub fn notices(&self) -> Result<Vec<Notice>, LedgerError> {
        let db = &self.core.live;
        db.range(NOTICES, &[]).map(|pair| Ok(db.record(NOTICES, &pair?.1)?)).collect()
    }
}
