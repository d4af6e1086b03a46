//! The live database: drops, what comes due, where things are in users' views, what they add up to, and where the
//! receipts are. Changes come from the journal's entries alone, so applying them again from the journal gives the same
//! database. A drop's index entries are a function of its record: what differs is what changes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::database::{Database, DatabaseError, META, Plan};
use super::frame::Entry;
use super::record::{DropKind, DropRecord, DropState, Ordered, ReceiptRecord, Stored, Superseded, Usage};
use super::veil::{Hiding, NamesSealed};
use super::{consignment, forget, paper, policies, rejection};
use crate::clock::Time;
use crate::names::{DropId, ReceiptId, RequestId, UserName};
use crate::vpath::VirtualPath;

pub const TREES: &[&str] = &[
    "meta",
    "drops",
    "expiry",
    "paths",
    "usage",
    "buckets",
    "receipt-paths",
    "receipt-months",
    "removed",
    "duplicates",
    "receipt-numbers",
    "rejected",
    "rejected-ages",
    "certificates",
    "uncertified",
    "moving",
    "papers",
    "consignments",
    "consignments-open",
    "consignments-due",
    "awaited",
    "paper-events",
    "policies",
    "policy-files",
    "in-force",
    "alarms",
    "notices",
    "names-keys",
    "requests",
];
/// Drop id → [`DropRecord`].
pub const DROPS: usize = 1;
/// Due time, drop id → nothing.
pub const EXPIRY: usize = 2;
/// User, NUL, path → drop id.
pub const PATHS: usize = 3;
/// User → bytes, files.
const USAGE: usize = 4;
/// Bucket → how many drops need its key.
const BUCKETS: usize = 5;
/// User, NUL, path → [`ReceiptPlace`].
pub const RECEIPT_PATHS: usize = 6;
/// Receipt id → month.
pub const RECEIPT_MONTHS: usize = 7;
/// User, NUL, path → drop id, of what its sender removed there and others still have.
pub const REMOVED: usize = 8;
/// Upload's drop id → the drop it is a duplicate of.
pub const DUPLICATES: usize = 9;
/// User, NUL, path → the last number given to an earlier receipt for it.
pub const RECEIPT_NUMBERS: usize = 10;
/// User, NUL, path → [`super::rejection::Rejection`].
pub const REJECTED: usize = 11;
/// User, NUL, time, path → nothing.
pub const REJECTED_AGES: usize = 12;
/// Drop id → [`super::certificate::CertificateRecord`].
pub const CERTIFICATES: usize = 13;
/// Bucket, drop id → nothing: it has expired, and its certificate waits for the bucket's key to be destroyed.
pub const UNCERTIFIED: usize = 14;
/// Drop id → nothing: its envelope is being wrapped under another bucket.
pub const MOVING: usize = 15;
/// User, NUL, path, NUL, kind → [`super::paper::Paper`].
pub const PAPERS: usize = 16;
/// Manifest's drop id → [`super::consignment::ConsignmentRecord`].
pub const CONSIGNMENTS: usize = 17;
/// Manifest's drop id → how many of its files are not there yet; of consignments that are not closed.
pub const CONSIGNMENTS_OPEN: usize = 18;
/// Due time, manifest's drop id → nothing.
pub const CONSIGNMENTS_DUE: usize = 19;
/// User, NUL, path → manifest's drop id, SHA-256.
pub const AWAITED: usize = 20;
/// Event number → the key in `papers` of the paper it is about, as long as that is the newest.
pub const PAPER_EVENTS: usize = 21;
/// Policy's digest → [`policies::PolicyRecord`].
pub const POLICIES: usize = 22;
/// Hash → text of a policy file, without its secrets.
pub const POLICY_FILES: usize = 23;
/// Time → [`policies::InForce`].
pub const IN_FORCE: usize = 24;
/// Cause → [`super::alarm::Alarm`].
pub const ALARMS: usize = 25;
/// Time, random → [`super::alarm::Notice`].
pub const NOTICES: usize = 26;
/// Key id → [`super::veil::NamesKeyRecord`].
pub const NAMES_KEYS: usize = 27;
/// Request id → [`super::approval::Request`].
pub const REQUESTS: usize = 28;
/// In `meta`: how many drops have bytes.
pub const LIVE_DROPS: &[u8] = b"live-drops";

/// Where a receipt is, and what a listing shows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptPlace {
    pub id: ReceiptId,
    pub drop: DropId,
    pub month: u32,
    pub at: Time,
    pub text_len: u32,
    pub signature_len: u32,
    pub content_signature_len: u32,
    pub proof_len: u32,
}

/// Why a write does not apply.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("there is no drop {0}")]
    NoSuchDrop(DropId),
    #[error("drop {0} is already in the ledger")]
    DropExists(DropId),
    #[error("receipt {0} is already in the ledger")]
    ReceiptExists(ReceiptId),
    #[error("drop {drop} is {from} and cannot become {to}")]
    WrongState { drop: DropId, from: &'static str, to: &'static str },
    #[error("drop {0} is not destroyed, or its destruction is certified already")]
    Certified(DropId),
    #[error("the receipts of drop {0} are superseded already")]
    Superseded(DropId),
    #[error("{user} has no entry of drop {drop} at {path}")]
    NotThere { drop: DropId, user: UserName, path: VirtualPath },
    #[error("the consignment of manifest {0} is closed already")]
    Closed(DropId),
    #[error("request {0} is over")]
    RequestOver(RequestId),
    #[error(transparent)]
    Names(#[from] NamesSealed),
    #[error("a path would become too long or too deep")]
    PathTooLong,
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Applies an entry's writes to the plan.
pub fn apply(plan: &mut Plan<'_>, entry: &Entry, month: u32, names: Option<&Hiding>) -> Result<(), Refusal> {
    for write in &entry.writes {
        match write {
            Stored::Sealed(sealed) => apply_one(plan, &names.ok_or(NamesSealed)?.open(sealed)?, month)?,
            write => apply_one(plan, write, month)?,
        }
    }
    Ok(())
}

fn apply_one(plan: &mut Plan<'_>, write: &Stored, month: u32) -> Result<(), Refusal> {
    match write {
        Stored::Drop(record) => {
            if plan.get(DROPS, &record.drop.0)?.is_some() {
                return Err(Refusal::DropExists(record.drop));
            }
            put(plan, None, record)?;
            consignment::arrived(plan, record)?;
        }
        Stored::State { drop, to } => change(plan, drop, |record| {
            let from = record.state;
            if !from.may_become(*to) {
                return Err(Refusal::WrongState { drop: *drop, from: from.word(), to: to.word() });
            }
            record.state = *to;
            Ok(())
        })?,
        Stored::PickedUp { drop, user, at, whole: false } => change(plan, drop, |record| {
            for delivery in record.deliveries.iter_mut().filter(|delivery| delivery.user == *user) {
                delivery.last_part = Some(*at);
            }
            Ok(())
        })?,
        Stored::PickedUp { drop, user, at, whole: true } => change(plan, drop, |record| {
            // A shared folder's file has no delivery; reading one's own is no pickup.
            for delivery in record.deliveries.iter_mut().filter(|delivery| delivery.user == *user) {
                delivery.picked_up = delivery.picked_up.saturating_add(1);
                delivery.first_pickup.get_or_insert(*at);
                delivery.last_pickup = Some(*at);
            }
            Ok(())
        })?,
        Stored::Moved { drop, user, from, to } => change(plan, drop, |record| {
            let Some((path, _)) = entries_mut(record, user).find(|(path, _)| **path == *from) else {
                return Err(Refusal::NotThere { drop: *drop, user: user.clone(), path: from.clone() });
            };
            *path = to.clone();
            Ok(())
        })?,
        Stored::FolderMoved { user, from, to } => move_folder(plan, user, from, to)?,
        Stored::Unlinked { drop, user, path, at } => change(plan, drop, |record| {
            let Some((_, unlinked)) = entries_mut(record, user).find(|(p, _)| **p == *path) else {
                return Err(Refusal::NotThere { drop: *drop, user: user.clone(), path: path.clone() });
            };
            *unlinked = Some(*at);
            Ok(())
        })?,
        Stored::Expires { drop, expires, bucket } => change(plan, drop, |record| {
            (record.expires, record.bucket) = (*expires, *bucket);
            Ok(())
        })?,
        Stored::Order { drop, order } => change(plan, drop, |record| {
            let to = match order.what {
                Ordered::Hold => DropState::Held,
                Ordered::Release => DropState::Live,
                Ordered::Shred => DropState::Expiring { since: order.at },
            };
            let from = record.state;
            let follows = match order.what {
                Ordered::Shred => from.can_be_shredded(),
                Ordered::Hold | Ordered::Release => from.may_become(to),
            };
            if !follows {
                return Err(Refusal::WrongState { drop: *drop, from: from.word(), to: to.word() });
            }
            (record.state, record.order) = (to, Some(order.clone()));
            Ok(())
        })?,
        Stored::Moving { drop, to } => change(plan, drop, |record| {
            record.moving = Some(*to);
            Ok(())
        })?,
        Stored::Rewrapped { drop, bucket } => change(plan, drop, |record| {
            (record.bucket, record.moving) = (Some(*bucket), None);
            Ok(())
        })?,
        Stored::Readdressed { drop, added, escrow } => change(plan, drop, |record| {
            for delivery in added {
                match record.deliveries.iter_mut().find(|had| had.user == delivery.user) {
                    // What it picked up before stays counted.
                    Some(had) => (had.path, had.unlinked) = (delivery.path.clone(), None),
                    None => record.deliveries.push(delivery.clone()),
                }
            }
            record.escrow.clone_from(escrow);
            Ok(())
        })?,
        Stored::Certificate(certificate) => {
            let drop = certificate.drop;
            change(plan, &drop, |record| {
                if !matches!(record.state, DropState::Expired { .. }) || record.certified.is_some() {
                    return Err(Refusal::Certified(drop));
                }
                record.certified = Some(certificate.at);
                Ok(())
            })?;
            plan.put_record(CERTIFICATES, drop.0.to_vec(), certificate)?;
        }
        Stored::Receipt(receipt) => put_receipt(plan, receipt, month)?,
        Stored::Superseded { drop, by, at } => change(plan, drop, |record| {
            if record.superseded.is_some() {
                return Err(Refusal::Superseded(*drop));
            }
            record.superseded = Some(Superseded { by: *by, at: *at });
            Ok(())
        })?,
        Stored::Duplicate { upload, of } => {
            if plan.get(DROPS, &upload.0)?.is_some() || plan.get(DUPLICATES, &upload.0)?.is_some() {
                return Err(Refusal::DropExists(*upload));
            }
            plan.put(DUPLICATES, upload.0.to_vec(), of.0.to_vec());
            change(plan, of, |record| {
                record.unlinked = None;
                Ok(())
            })?;
        }
        Stored::Matched { signature } => change(plan, signature, |record| {
            record.unmatched_signature = None;
            Ok(())
        })?,
        Stored::Paper(paper) => paper::put(plan, paper)?,
        Stored::Consignment(consignment) => consignment::put(plan, consignment)?,
        Stored::ConsignmentClosed { manifest, closed } => consignment::close(plan, manifest, *closed)?,
        Stored::Rejected(rejection) => rejection::put(plan, rejection)?,
        Stored::RejectionOver { user, path } => rejection::remove(plan, user, path)?,
        Stored::PolicyText(text) => policies::put_text(plan, text),
        Stored::Policy(record) => policies::put_policy(plan, record)?,
        Stored::InForce(in_force) => policies::put_in_force(plan, in_force)?,
        Stored::Alarm(alarm) => plan.put_record(ALARMS, alarm.cause.clone().into_bytes(), alarm)?,
        Stored::AlarmOver { cause } => plan.remove(ALARMS, cause.clone().into_bytes()),
        Stored::Notice(notice) => plan.put_record(NOTICES, notice.id.0.to_vec(), notice)?,
        Stored::NoticeOver { id } => plan.remove(NOTICES, id.0.to_vec()),
        Stored::NamesOver(over) => forget::apply(plan, over)?,
        Stored::NamesKey(record) => plan.put_record(NAMES_KEYS, record.id.0.to_vec(), record)?,
        Stored::Request(request) => plan.put_record(REQUESTS, request.id.0.to_vec(), request)?,
        Stored::RequestOver { id } => {
            if plan.get(REQUESTS, &id.0)?.is_none() {
                return Err(Refusal::RequestOver(*id));
            }
            plan.remove(REQUESTS, id.0.to_vec());
        }
        // Of the log: they are with their month. What is sealed is open by now.
        Stored::Checkpoint(_)
        | Stored::Cosigned { .. }
        | Stored::HiddenReceipt(_)
        | Stored::Names(_)
        | Stored::Sealed(_) => {}
    }
    Ok(())
}

fn change(
    plan: &mut Plan<'_>,
    drop: &DropId,
    change: impl FnOnce(&mut DropRecord) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let before: DropRecord = plan.get_record(DROPS, &drop.0)?.ok_or(Refusal::NoSuchDrop(*drop))?;
    let mut after = before.clone();
    change(&mut after)?;
    Ok(put(plan, Some(&before), &after)?)
}

/// A user's linked entries of a drop: the sender's own, and its deliveries.
fn entries_mut<'a>(
    record: &'a mut DropRecord,
    user: &'a UserName,
) -> impl Iterator<Item = (&'a mut VirtualPath, &'a mut Option<Time>)> {
    let own = (record.sender == *user).then_some((&mut record.path, &mut record.unlinked));
    let delivered = record.deliveries.iter_mut().filter(move |delivery| delivery.user == *user);
    own.into_iter()
        .chain(delivered.map(|delivery| (&mut delivery.path, &mut delivery.unlinked)))
        .filter(|(_, unlinked)| unlinked.is_none())
}

fn move_folder(plan: &mut Plan<'_>, user: &UserName, from: &VirtualPath, to: &VirtualPath) -> Result<(), Refusal> {
    for (_, id) in plan.under(PATHS, &below(user, from))? {
        let Ok(id) = id.try_into().map(DropId) else { continue };
        change(plan, &id, |record| {
            for (path, _) in entries_mut(record, user) {
                if let Some(tail) = path.below(from) {
                    *path = to.append(&tail).map_err(|_| Refusal::PathTooLong)?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Writes the record and brings its index entries from those of `before` to those of `after`.
fn put(plan: &mut Plan<'_>, before: Option<&DropRecord>, after: &DropRecord) -> Result<(), DatabaseError> {
    let id = after.drop.0;
    plan.put_record(DROPS, id.to_vec(), after)?;

    put_places(plan, PATHS, &id, &before.map(path_keys).unwrap_or_default(), &path_keys(after))?;
    put_places(plan, REMOVED, &id, &before.map(removed_keys).unwrap_or_default(), &removed_keys(after))?;

    let (old, new) = (before.and_then(due_key), due_key(after));
    if old != new {
        old.into_iter().for_each(|key| plan.remove(EXPIRY, key));
        new.into_iter().for_each(|key| plan.put(EXPIRY, key, Vec::new()));
    }

    let held = |record: &DropRecord| record.state.holds_bytes();
    let (was, is) = (before.is_some_and(held), held(after));
    if was != is {
        let mut usage = usage(plan, &after.sender)?;
        let step = |n: u64, by: u64| if is { n.saturating_add(by) } else { n.saturating_sub(by) };
        usage = Usage { bytes: step(usage.bytes, after.size), files: step(usage.files, 1) };
        let value = [usage.bytes.to_be_bytes(), usage.files.to_be_bytes()].concat();
        plan.put(USAGE, after.sender.as_str().as_bytes().to_vec(), value);
        let live = step(plan.get_count(META, LIVE_DROPS)?, 1);
        plan.put(META, LIVE_DROPS.to_vec(), live.to_be_bytes().to_vec());
    }

    let needed = |record: &DropRecord| -> BTreeSet<u64> {
        let buckets = [record.bucket, record.moving].into_iter().flatten();
        buckets.filter(|_| record.state.holds_bytes()).collect()
    };
    let (old, new) = (before.map(needed).unwrap_or_default(), needed(after));
    if old != new {
        let gone = old.difference(&new).map(|bucket| (*bucket, false));
        for (bucket, up) in gone.chain(new.difference(&old).map(|bucket| (*bucket, true))) {
            let key = bucket.to_be_bytes();
            let count = plan.get_count(BUCKETS, &key)?;
            let count = if up { count + 1 } else { count.saturating_sub(1) };
            if count == 0 {
                plan.remove(BUCKETS, key.to_vec());
            } else {
                plan.put(BUCKETS, key.to_vec(), count.to_be_bytes().to_vec());
            }
        }
    }

    for (tree, key) in [(UNCERTIFIED, uncertified_key as fn(&DropRecord) -> Option<Vec<u8>>), (MOVING, moving_key)] {
        let (old, new) = (before.and_then(key), key(after));
        if old != new {
            old.into_iter().for_each(|key| plan.remove(tree, key));
            new.into_iter().for_each(|key| plan.put(tree, key, Vec::new()));
        }
    }
    Ok(())
}

pub fn uncertified_key(record: &DropRecord) -> Option<Vec<u8>> {
    let waits = matches!(record.state, DropState::Expired { .. }) && record.certified.is_none();
    record.bucket.filter(|_| waits).map(|bucket| [&bucket.to_be_bytes()[..], &record.drop.0].concat())
}

fn moving_key(record: &DropRecord) -> Option<Vec<u8>> {
    record.moving.filter(|_| record.state.holds_bytes()).map(|_| record.drop.0.to_vec())
}

/// Brings a drop's entries in an index of paths from `old` to `new`.
fn put_places(
    plan: &mut Plan<'_>,
    tree: usize,
    id: &[u8],
    old: &BTreeSet<Vec<u8>>,
    new: &BTreeSet<Vec<u8>>,
) -> Result<(), DatabaseError> {
    for key in old.difference(new) {
        // A later drop may have taken the path.
        if plan.get(tree, key)?.as_deref() == Some(id) {
            plan.remove(tree, key.clone());
        }
    }
    for key in new.difference(old) {
        plan.put(tree, key.clone(), id.to_vec());
    }
    Ok(())
}

fn put_receipt(plan: &mut Plan<'_>, receipt: &ReceiptRecord, month: u32) -> Result<(), Refusal> {
    if plan.get(RECEIPT_MONTHS, &receipt.id.0)?.is_some() {
        return Err(Refusal::ReceiptExists(receipt.id));
    }
    // What was refused there before has been taken now.
    rejection::remove(plan, &receipt.user, &receipt.path)?;
    plan.put(RECEIPT_MONTHS, receipt.id.0.to_vec(), month.to_be_bytes().to_vec());
    let len = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX);
    let place = ReceiptPlace {
        id: receipt.id,
        drop: receipt.drop,
        month,
        at: receipt.at,
        text_len: len(&receipt.text),
        signature_len: len(&receipt.signature),
        content_signature_len: len(&receipt.content_signature),
        proof_len: receipt.proof_len,
    };
    let key = at(&receipt.user, &receipt.path);
    let of: Option<DropRecord> = plan.get_record(DROPS, &receipt.drop.0)?;
    // A shared file has a receipt for each time it was saved, and only the last is of use to its owner.
    if of.is_some_and(|record| record.kind == DropKind::Drop) {
        number_earlier(plan, &key)?;
    }
    Ok(plan.put_record(RECEIPT_PATHS, key, &place)?)
}

/// The receipt that was the newest for a path stays, under the next number: `a.dcm.~3~` is for ever the third that
/// was given for `a.dcm`. A file of that very name may have taken its place; then it is the next after it.
fn number_earlier(plan: &mut Plan<'_>, key: &[u8]) -> Result<(), DatabaseError> {
    let Some(earlier) = plan.get(RECEIPT_PATHS, key)? else { return Ok(()) };
    let mut number = plan.get_count(RECEIPT_NUMBERS, key)?;
    let numbered = loop {
        number += 1;
        let numbered = [key, format!(".~{number}~").as_bytes()].concat();
        if plan.get(RECEIPT_PATHS, &numbered)?.is_none() {
            break numbered;
        }
    };
    plan.put(RECEIPT_NUMBERS, key.to_vec(), number.to_be_bytes().to_vec());
    plan.put(RECEIPT_PATHS, numbered, earlier);
    Ok(())
}

fn path_keys(record: &DropRecord) -> BTreeSet<Vec<u8>> {
    if !record.state.has_paths() {
        return BTreeSet::new();
    }
    let own = record.unlinked.is_none().then(|| at(&record.sender, &record.path));
    let delivered = record.deliveries.iter().filter(|delivery| delivery.unlinked.is_none());
    own.into_iter().chain(delivered.map(|delivery| at(&delivery.user, &delivery.path))).collect()
}

/// Where its sender removed it, while others may have it still.
fn removed_keys(record: &DropRecord) -> BTreeSet<Vec<u8>> {
    let removed = record.unlinked.is_some() && record.kind == DropKind::Drop && record.state.has_paths();
    removed.then(|| at(&record.sender, &record.path)).into_iter().collect()
}

/// Destructions that have begun sort before everything: they go on whatever the time is.
fn due_key(record: &DropRecord) -> Option<Vec<u8>> {
    let due = match record.state {
        DropState::Expiring { .. } => Some(0),
        state if state.can_come_due() => record.expires.map(|at| at.0.max(1)),
        _ => None,
    };
    Some([&due?.to_be_bytes()[..], &record.drop.0].concat())
}

/// The key of a user's path. A user name has no NUL, a path neither.
pub fn at(user: &UserName, path: &VirtualPath) -> Vec<u8> {
    [user.as_str().as_bytes(), b"\0", path.as_bytes()].concat()
}

/// What the keys of everything below a user's folder begin with.
pub fn below(user: &UserName, dir: &VirtualPath) -> Vec<u8> {
    let mut key = at(user, dir);
    if !dir.is_root() {
        key.push(b'/');
    }
    key
}

fn usage(plan: &Plan<'_>, user: &UserName) -> Result<Usage, DatabaseError> {
    Ok(plan.get(USAGE, user.as_str().as_bytes())?.map_or_else(Usage::default, |value| read_usage(&value)))
}

fn read_usage(value: &[u8]) -> Usage {
    let number = |at: usize| value.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes);
    Usage { bytes: number(0), files: number(8) }
}

pub fn read_user_usage(db: &Database, user: &UserName) -> Result<Usage, DatabaseError> {
    Ok(db.get(USAGE, user.as_str().as_bytes())?.map_or_else(Usage::default, |value| read_usage(&value)))
}

pub fn read_bucket(db: &Database, bucket: u64) -> Result<u64, DatabaseError> {
    db.get_count(BUCKETS, &bucket.to_be_bytes())
}

pub fn read_live_drops(db: &Database) -> Result<u64, DatabaseError> {
    db.get_count(META, LIVE_DROPS)
}

pub fn read_drop(db: &Database, id: &DropId) -> Result<Option<DropRecord>, DatabaseError> {
    db.get_record(DROPS, &id.0)
}

pub fn read_due(db: &Database, until: Time, limit: usize) -> Result<Vec<DropRecord>, DatabaseError> {
    let mut due = Vec::new();
    for pair in db.range(EXPIRY, &[]).take(limit) {
        let (key, _) = pair?;
        let Some((time, id)) = key.split_first_chunk::<8>() else { continue };
        if u64::from_be_bytes(*time) > until.0 {
            break;
        }
        let id = id.try_into().map(DropId).map_err(|_| db.unreadable(EXPIRY))?;
        due.push(read_drop(db, &id)?.ok_or_else(|| db.unreadable(DROPS))?);
    }
    Ok(due)
}
