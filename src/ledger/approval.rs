//! Requests that wait for a second person, or for who asked to do what was approved. One that is refused, used or too old is
//! removed, once: whoever removes it second is refused by the ledger, and that is what makes an approval one of one act.

use serde::{Deserialize, Serialize};

use super::live::REQUESTS;
use super::store::{Ledger, LedgerError};
use crate::clock::Time;
use crate::names::{Digest, DropId, RequestId};
use crate::vpath::VirtualPath;

/// What somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub id: RequestId,
    /// Of exactly this act.
    pub digest: Digest,
    /// In words, without names of files.
    pub what: String,
    /// Which drops it is for, in order.
    pub drops: Vec<DropId>,
    /// Which folder, if it is for one.
    pub path: Option<VirtualPath>,
    pub by: Person,
    pub reason: Option<String>,
    pub at: Time,
    /// From then on it is over, approved or not.
    pub until: Time,
    pub approved: Option<Approval>,
}

/// Somebody who gave a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    pub uid: u32,
    /// The account they logged in with, which stays what it is when they become another.
    pub login: u32,
    /// Both, as the audit log has them.
    pub told: String,
}

/// The second person's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub by: Person,
    pub reason: String,
    pub at: Time,
}

impl Ledger {
    /// All requests there are, those that are over by now too. Their number is bounded by who takes them.
    pub fn requests(&self) -> Result<Vec<Request>, LedgerError> {
        let db = &self.core.live;
        db.range(REQUESTS, &[]).map(|pair| Ok(db.record(REQUESTS, &pair?.1)?)).collect()
    }
}
