//! Command → keeper, over the admin socket. The keeper knows who asks from the kernel (SO_PEERCRED). Lists come in
//! pages: ask again with the last row's key until `next` is `None`.

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::names::{DropId, ReceiptId, UserName};

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
    /// Events from number `from` on; at most one page.
    Audit {
        from: u64,
    },
    /// Expire what is due, or with `plan` say what would be. `now` other than the clock's needs `test_clock = true`.
    Sweep {
        plan: bool,
        now: Option<Time>,
        after: Option<String>,
    },
    Reload,
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
    /// Events as their canonical JSON lines.
    Audit {
        rows: Vec<String>,
        next: u64,
    },
    Sweep {
        rows: Vec<SweepRow>,
        next: Option<String>,
        destroyed_keys: u32,
    },
    Done {
        say: String,
    },
    Sorry {
        say: String,
        hint: Option<String>,
    },
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
    pub picked_up: u32,
    /// Since when a newer version has its place with its sender, and by which receipt.
    pub superseded: Option<(Time, ReceiptId)>,
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

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepRow {
    pub drop: DropId,
    pub sender: UserName,
    pub path: String,
    pub size: u64,
    pub expires: Time,
    pub picked_up: u32,
}
