//! Consignments: what a manifest names, whether it has come, and the receipt over all of it. A consignment is open until every file it
//! names is there as it says, or until its time is over; then it is closed, once. What is awaited is found by its path, so
//! that a commit costs one look, and everything here is a function of the journal's entries. docs/ledger.md, "Consignments".

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::database::{DatabaseError, META, Plan};
use super::live::{self, AWAITED, CONSIGNMENTS, CONSIGNMENTS_DUE, CONSIGNMENTS_OPEN, Refusal};
use super::manifest::Listed;
use super::paper::Show;
use super::record::{DropKind, DropRecord};
use super::store::{Ledger, LedgerError};
use crate::clock::Time;
use crate::names::{Digest, DropId, ReceiptId, UserName};
use crate::vpath::VirtualPath;

/// A manifest that was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsignmentRecord {
    /// The manifest's own drop and receipt.
    pub manifest: DropId,
    pub receipt: ReceiptId,
    pub sha256: Digest,
    pub sender: UserName,
    pub path: VirtualPath,
    pub received: Time,
    /// When it is closed as it stands.
    pub due: Time,
    /// As long as it is open.
    pub files: Vec<Listed>,
    /// How many those are.
    pub listed: u32,
    pub closed: Option<Closed>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    pub at: Time,
    pub missing: u32,
    pub different: u32,
}

/// What a consignment receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsignmentFacts {
    pub manifest: ReceiptId,
    pub sha256: Digest,
    pub sender: UserName,
    pub path: VirtualPath,
    pub received: Time,
    pub closed: Time,
    pub files: Vec<(Listed, Found)>,
}

/// What there is of a file that a manifest names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was received as the manifest says, by this receipt.
    Received(ReceiptId),
    /// Another content was.
    Different(ReceiptId, Digest),
    Missing,
}

impl ConsignmentFacts {
    pub fn count(&self) -> Closed {
        let count = |is: fn(&Found) -> bool| {
            u32::try_from(self.files.iter().filter(|(_, found)| is(found)).count()).unwrap_or(u32::MAX)
        };
        Closed {
            at: self.closed,
            missing: count(|found| *found == Found::Missing),
            different: count(|found| matches!(found, Found::Different(..))),
        }
    }

    pub fn text(&self, server: &str, event: u64, show: Show<'_>) -> String {
        let Closed { missing, different, .. } = self.count();
        let mut text = "sealdrop-consignment/v1\n".to_owned();
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "{key} {value}");
        };
        line("server", &server);
        line("manifest", &format_args!("{} {}", self.manifest, self.sha256));
        line("sender", &self.sender);
        line("path", &show(&self.path));
        line("files", &self.files.len());
        line("missing", &missing);
        line("different", &different);
        for (Listed { path, sha256 }, found) in &self.files {
            let path = show(path);
            match found {
                Found::Received(receipt) => line("file", &format_args!("{sha256} {receipt} {path}")),
                Found::Different(receipt, other) => {
                    line("other", &format_args!("{sha256} {receipt} {other} {path}"));
                }
                Found::Missing => line("none", &format_args!("{sha256} {path}")),
            }
        }
        line("received", &self.received);
        line("closed", &self.closed);
        line("event", &event);
        line("version", &env!("CARGO_PKG_VERSION"));
        text
    }
}

/// A manifest was received: what it names and is not there is awaited.
pub fn put(plan: &mut Plan<'_>, consignment: &ConsignmentRecord) -> Result<(), Refusal> {
    if plan.get(CONSIGNMENTS, &consignment.manifest.0)?.is_some() {
        return Err(Refusal::DropExists(consignment.manifest));
    }
    let mut open = 0_u64;
    for Listed { path, sha256 } in &consignment.files {
        let key = live::at(&consignment.sender, path);
        let there = match plan.get(live::PATHS, &key)?.map(TryInto::try_into) {
            Some(Ok(id)) => plan.get_record::<DropRecord>(live::DROPS, &DropId(id).0)?,
            _ => None,
        };
        if there.is_none_or(|there| there.sender != consignment.sender || there.sha256 != *sha256) {
            // A newer manifest that names the file takes the older one's place; that one is closed in its time.
            plan.put(AWAITED, key, [&consignment.manifest.0[..], &sha256.0].concat());
            open += 1;
        }
    }
    plan.put(CONSIGNMENTS_OPEN, consignment.manifest.0.to_vec(), open.to_be_bytes().to_vec());
    plan.put(CONSIGNMENTS_DUE, due_key(consignment, open), Vec::new());
    let count = plan.get_count(META, &count_key(&consignment.sender))? + 1;
    plan.put(META, count_key(&consignment.sender), count.to_be_bytes().to_vec());
    Ok(plan.put_record(CONSIGNMENTS, consignment.manifest.0.to_vec(), consignment)?)
}

/// A drop was delivered: it may be what a consignment awaits.
pub fn arrived(plan: &mut Plan<'_>, record: &DropRecord) -> Result<(), DatabaseError> {
    if record.kind != DropKind::Drop {
        return Ok(());
    }
    let key = live::at(&record.sender, &record.path);
    let Some(awaited) = plan.get(AWAITED, &key)? else { return Ok(()) };
    let Some((manifest, sha256)) = awaited.split_first_chunk::<16>() else { return Ok(()) };
    if sha256 != record.sha256.0 {
        return Ok(());
    }
    plan.remove(AWAITED, key);
    let open = plan.get_count(CONSIGNMENTS_OPEN, manifest)?.saturating_sub(1);
    plan.put(CONSIGNMENTS_OPEN, manifest.to_vec(), open.to_be_bytes().to_vec());
    if open == 0
        && let Some(consignment) = plan.get_record::<ConsignmentRecord>(CONSIGNMENTS, manifest)?
    {
        plan.remove(CONSIGNMENTS_DUE, due_key(&consignment, 1));
        plan.put(CONSIGNMENTS_DUE, due_key(&consignment, 0), Vec::new());
    }
    Ok(())
}

/// It has its receipt, and awaits nothing any more.
pub fn close(plan: &mut Plan<'_>, manifest: &DropId, closed: Closed) -> Result<(), Refusal> {
    let mut consignment: ConsignmentRecord =
        plan.get_record(CONSIGNMENTS, &manifest.0)?.ok_or(Refusal::NoSuchDrop(*manifest))?;
    if consignment.closed.is_some() {
        return Err(Refusal::Closed(*manifest));
    }
    for listed in &consignment.files {
        let key = live::at(&consignment.sender, &listed.path);
        if plan.get(AWAITED, &key)?.is_some_and(|awaited| awaited.starts_with(&manifest.0)) {
            plan.remove(AWAITED, key);
        }
    }
    for open in [0, 1] {
        plan.remove(CONSIGNMENTS_DUE, due_key(&consignment, open));
    }
    plan.remove(CONSIGNMENTS_OPEN, manifest.0.to_vec());
    match plan.get_count(META, &count_key(&consignment.sender))?.saturating_sub(1) {
        0 => plan.remove(META, count_key(&consignment.sender)),
        count => plan.put(META, count_key(&consignment.sender), count.to_be_bytes().to_vec()),
    }
    // The receipt names them all.
    consignment.files = Vec::new();
    consignment.closed = Some(closed);
    Ok(plan.put_record(CONSIGNMENTS, manifest.0.to_vec(), &consignment)?)
}

/// In `meta`: how many open ones a user has.
fn count_key(user: &UserName) -> Vec<u8> {
    [b"consignments ", user.as_str().as_bytes()].concat()
}

/// Complete ones are due at once.
fn due_key(consignment: &ConsignmentRecord, open: u64) -> Vec<u8> {
    let due = if open == 0 { 0 } else { consignment.due.0.max(1) };
    [&due.to_be_bytes()[..], &consignment.manifest.0].concat()
}

impl Ledger {
    /// Consignments that are complete, or whose time is over at `now`, and are not closed.
    pub fn consignments_due(&self, now: Time, limit: usize) -> Result<Vec<DropId>, LedgerError> {
        let db = &self.core.live;
        let mut due = Vec::new();
        for pair in db.range(CONSIGNMENTS_DUE, &[]).take(limit) {
            let (key, _) = pair?;
            let Some((time, id)) = key.split_first_chunk::<8>() else { continue };
            if u64::from_be_bytes(*time) > now.0 {
                break;
            }
            due.push(id.try_into().map(DropId).map_err(|_| db.unreadable(CONSIGNMENTS_DUE))?);
        }
        Ok(due)
    }

    /// How many open ones a user has.
    pub fn open_consignments(&self, user: &UserName) -> Result<u64, LedgerError> {
        Ok(self.core.live.get_count(META, &count_key(user))?)
    }

    pub fn consignment(&self, manifest: &DropId) -> Result<Option<ConsignmentRecord>, LedgerError> {
        Ok(self.core.live.get_record(CONSIGNMENTS, &manifest.0)?)
    }

    /// How many files of an open consignment are not there yet.
    pub fn consignment_open(&self, manifest: &DropId) -> Result<u64, LedgerError> {
        Ok(self.core.live.get_count(CONSIGNMENTS_OPEN, &manifest.0)?)
    }

    /// What there is of each file of a consignment now, by the receipts its sender has.
    pub fn consignment_facts(
        &self,
        consignment: &ConsignmentRecord,
        now: Time,
    ) -> Result<ConsignmentFacts, LedgerError> {
        let mut files = Vec::with_capacity(consignment.files.len());
        for listed in &consignment.files {
            let found = match self.receipt_at(&consignment.sender, &listed.path)? {
                None => Found::Missing,
                Some(receipt) if receipt.sha256 == listed.sha256 => Found::Received(receipt.id),
                Some(receipt) => Found::Different(receipt.id, receipt.sha256),
            };
            files.push((listed.clone(), found));
        }
        Ok(ConsignmentFacts {
            manifest: consignment.receipt,
            sha256: consignment.sha256,
            sender: consignment.sender.clone(),
            path: consignment.path.clone(),
            received: consignment.received,
            closed: now,
            files,
        })
    }
}
