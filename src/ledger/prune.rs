//! Pruning: months whose time is over go, with their events and receipts, and everything that is left stays provable. The
//! journal then begins with the first month that is kept, and beside it lies a snapshot of what the live database was
//! there. With no daemon running; a crash anywhere leaves a ledger that opens, and opening finishes what was begun.
//!
//! | step | a crash just after leaves |
//! |---|---|
//! | 1. the live database is made as it was at the cut, in `live.pruning` | that directory, which the next pruning removes |
//! | 2. the snapshot is written, whole under its name | a snapshot with older segments beside it: opening goes on with 3 |
//! | 3. `live` and the months before the cut are removed | the same |
//! | 4. the segments before the cut are removed, the oldest first | the same; after the last, nothing to do |

use std::fs;
use std::io;
use std::path::Path;

use super::bring_up::{Part, replay, start_of_live};
use super::database::{Database, DatabaseError, Fault};
use super::frame::SegmentHead;
use super::journal::{JournalError, Scan};
use super::live::{self, ReceiptPlace};
use super::month::Month;
use super::paper::Paper;
use super::policies::KeptPolicies;
use super::receipt::Signer;
use super::record::DropRecord;
use super::recovery::OpenError;
use super::snapshot::{self, Snapshot, SnapshotHead};
use super::store::{Ledger, Options};
use crate::sys::durable;

/// What was pruned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// The first month that is left.
    pub first: Month,
    /// The number of the first event that is left.
    pub event: u64,
    /// How many months went.
    pub months: u64,
}

/// Removes the months before `keep`, of the ledger in `dir`, which nobody has open. `None` if there are none.
pub fn prune(dir: &Path, signer: Signer, options: Options, keep: Month) -> Result<Option<Pruned>, OpenError> {
    // All that a crash left is mended first, and a ledger that does not open is not pruned.
    let (ledger, _) = Ledger::open(dir, signer.clone(), options.clone())?;
    let journal = dir.join("journal");
    let scan = Scan::of(&journal)?;
    let cut = cut(&scan, keep);
    let policies = cut.as_ref().map(|cut| KeptPolicies::of(&ledger.core.live, Month(cut.month))).transpose()?;
    ledger.close();
    let (Some(cut), Some(policies)) = (cut, policies) else { return Ok(None) };
    let months = {
        let mut months: Vec<u32> = scan.segments.iter().map(|segment| segment.head.month).collect();
        months.retain(|month| *month < cut.month);
        months.dedup();
        months.len() as u64
    };
    let work = dir.join("live.pruning");
    remove_dir(&work)?;
    let snapshot = {
        let database = open(&work)?;
        let mut applied = start_of_live(&journal, &scan, &database)?;
        replay(&database, Part::Live, &scan, &mut applied, cut.first, options.names.as_deref())?;
        let head = SnapshotHead { applied, month: cut.month };
        snapshot::write(&journal, &head, &database, |tree, key, value| match policies.keeps(tree, key) {
            Some(keeps) => Ok(keeps),
            None => keeps(&database, &cut, tree, key, value),
        })?
    };
    remove_dir(&work)?;
    finish(dir, &snapshot)?;
    // The live database is made anew now, and not when somebody waits for it.
    let (ledger, _) = Ledger::open(dir, signer, options)?;
    ledger.close();
    Ok(Some(Pruned { first: Month(cut.month), event: cut.log.size(), months }))
}

/// The head of the first segment of the first month that is kept, if anything is before it.
fn cut(scan: &Scan, keep: Month) -> Option<SegmentHead> {
    // The month that is written to is always kept.
    let last = scan.segments.last()?.head.month;
    let from = keep.0.min(last);
    let at = scan.segments.iter().position(|segment| segment.head.month >= from)?;
    (at > 0).then(|| scan.segments[at].head.clone())
}

/// What of the live database outlives the months: all but drops that have ended and whose receipt goes, what points
/// to receipts that go, papers whose event goes, and consignments whose manifest goes.
fn keeps(database: &Database, cut: &SegmentHead, tree: usize, key: &[u8], value: &[u8]) -> Result<bool, DatabaseError> {
    let month = cut.month;
    let gone = |receipt: &[u8]| -> Result<bool, DatabaseError> {
        let at = database.get(live::RECEIPT_MONTHS, receipt)?;
        Ok(at.and_then(|at| at.as_ref().try_into().ok().map(u32::from_be_bytes)).is_none_or(|at| at < month))
    };
    // What awaits its certificate has not ended.
    let ended = |record: &DropRecord| !record.state.holds_bytes() && live::uncertified_key(record).is_none();
    let over = |record: &DropRecord| Ok::<_, DatabaseError>(ended(record) && gone(&record.receipt.0)?);
    Ok(match tree {
        live::DROPS => !over(&database.record(tree, value)?)?,
        live::RECEIPT_MONTHS => !gone(key)?,
        live::RECEIPT_PATHS => database.record::<ReceiptPlace>(tree, value)?.month >= month,
        live::CERTIFICATES | live::UNCERTIFIED | live::MOVING => {
            // The drop's id is the end of each of these keys.
            let drop = key.get(key.len().saturating_sub(16)..).unwrap_or_default();
            match database.get_record::<DropRecord>(live::DROPS, drop)? {
                Some(of) => !over(&of)?,
                None => false,
            }
        }
        live::PAPERS => database.record::<Paper>(tree, value)?.event >= cut.log.size(),
        live::PAPER_EVENTS => key.first_chunk().is_some_and(|event| u64::from_be_bytes(*event) >= cut.log.size()),
        // An open one awaits something still.
        live::CONSIGNMENTS => match database.get_record::<DropRecord>(live::DROPS, key)? {
            Some(of) => database.get(live::CONSIGNMENTS_OPEN, key)?.is_some() || !over(&of)?,
            None => false,
        },
        live::DUPLICATES => match database.get_record::<DropRecord>(live::DROPS, value)? {
            Some(of) => !over(&of)?,
            None => false,
        },
        // What is written with each opening, and the head, are the database's own.
        super::database::META => {
            [&b"rejected "[..], b"consignments "].iter().any(|of| key.starts_with(of)) || key == live::LIVE_DROPS
        }
        _ => true,
    })
}

/// Goes on with a pruning that a crash cut short. Called before anything is opened.
pub fn finish_begun(dir: &Path) -> Result<(), OpenError> {
    match snapshot::list(&dir.join("journal"))?.pop() {
        Some(newest) => finish(dir, &newest),
        None => Ok(()),
    }
}

fn finish(dir: &Path, snapshot: &Snapshot) -> Result<(), OpenError> {
    let journal = dir.join("journal");
    let scan = Scan::heads(&journal)?;
    let first = snapshot.head.applied.frames;
    let begins = |head: &SegmentHead| head.first == first && head.month == snapshot.head.month;
    let Some(at) = scan.iter().position(|segment| begins(&segment.head)) else {
        return Err(JournalError::Gap { path: snapshot.path.clone() }.into());
    };
    if at == 0 {
        return Ok(());
    }
    // Nothing is removed for a snapshot that could not stand for it.
    snapshot.check()?;
    remove_dir(&dir.join("live"))?;
    let mut months: Vec<u32> = scan[..at].iter().map(|segment| segment.head.month).collect();
    months.dedup();
    for month in months.into_iter().filter(|month| *month < snapshot.head.month) {
        remove_dir(&dir.join(Month(month).database()))?;
    }
    durable::sync_dir(dir).map_err(|source| io_error(dir, source))?;
    for older in snapshot::list(&journal)?.into_iter().filter(|older| older.head.applied.frames < first) {
        remove_file(&older.path)?;
    }
    for segment in &scan[..at] {
        remove_file(&segment.path)?;
        durable::sync_dir(&journal).map_err(|source| io_error(&journal, source))?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<Database, OpenError> {
    Database::open(path, Part::Live.trees(), Part::Live.cache()).map_err(|fault| match fault {
        Fault::Broken(why) => io_error(path, io::Error::other(why)),
        Fault::Io(source) => io_error(path, source),
    })
}

fn remove_dir(path: &Path) -> Result<(), OpenError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error(path, e)),
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<(), OpenError> {
    fs::remove_file(path).map_err(|e| io_error(path, e))
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), source }
}
