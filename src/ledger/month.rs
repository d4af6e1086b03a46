//! Months' databases: the events of one calendar month (UTC) with their receipts and their part of the Merkle tree.
//! The current one is open; past ones are opened when asked for, two at a time, and dropped whole when their retention
//! ends. sled's memory and file grow with what they hold and never shrink: that is why there is more than one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use super::checkpoint::Checkpoint;
use super::database::{Database, DatabaseError, Plan};
use super::frame::Entry;
use super::merkle::{Frontier, Hash, Node, leaf_hash};
use super::record::{ReceiptRecord, Stored};
use super::recovery::{self, OpenError};
use super::veil::HiddenNames;
use crate::clock::Time;
use crate::names::ReceiptId;

pub const TREES: &[&str] =
    &["meta", "events", "nodes", "receipts", "receipt-events", "checkpoints", "cosignatures", "names"];
/// Event number → leaf hash, canonical JSON.
const EVENTS: usize = 1;
/// Level, index → hash. Levels from 1 on; the leaves are with the events.
const NODES: usize = 2;
/// Receipt id → [`ReceiptRecord`].
const RECEIPTS: usize = 3;
/// Event number → receipt id.
const RECEIPT_EVENTS: usize = 4;

/// Last event → [`Checkpoint`]. By the last event that it covers, because that is what tells the month.
const CHECKPOINTS: usize = 5;
/// Last event of the checkpoint, hash of the line → a witness's line under it. It may come in a later month.
const COSIGNATURES: usize = 6;

/// Event number → [`super::veil::HiddenNames`].
const NAMES: usize = 7;

/// How many past months stay open.
const PAST_OPEN: usize = 2;

/// A calendar month in UTC, counted from year 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(pub u32);

impl Month {
    pub fn of(at: Time) -> Self {
        let text = at.rfc3339();
        let number = |range: std::ops::Range<usize>| text.get(range).and_then(|digits| digits.parse().ok());
        // RFC 3339 in UTC always begins YYYY-MM; what is not of that form would be January of year 0.
        Self(number(0..4).unwrap_or(0) * 12 + number(5..7).unwrap_or(1).max(1) - 1)
    }

    /// Its first instant.
    pub fn begins(self) -> Time {
        // What `Display` writes of a month is a date; year 10000 is none, and never comes.
        Time::parse_rfc3339(&format!("{self}-01T00:00:00Z")).unwrap_or(Time(u64::MAX))
    }

    /// The name of its database's directory.
    pub fn database(self) -> String {
        format!("epoch-{self}")
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0 / 12, self.0 % 12 + 1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a month is written like 2026-11")]
pub struct MonthTextError;

impl std::str::FromStr for Month {
    type Err = MonthTextError;

    fn from_str(text: &str) -> Result<Self, MonthTextError> {
        let month = Time::parse_rfc3339(&format!("{text}-01T00:00:00Z")).map(Self::of);
        month.filter(|month| month.to_string() == text).ok_or(MonthTextError)
    }
}

/// Applies an entry's events and receipts to the plan, and the events to `log`.
pub fn apply(plan: &mut Plan<'_>, entry: &Entry, log: &mut Frontier) -> Result<(), DatabaseError> {
    for event in &entry.events {
        let leaf = leaf_hash(event.as_bytes());
        let number = log.size();
        plan.put(EVENTS, number.to_be_bytes().to_vec(), [&leaf[..], event.as_bytes()].concat());
        for (node, hash) in log.push(leaf) {
            plan.put(NODES, node_key(node), hash.to_vec());
        }
    }
    for write in &entry.writes {
        match write {
            Stored::Receipt(receipt) | Stored::HiddenReceipt(receipt) => {
                plan.put_record(RECEIPTS, receipt.id.0.to_vec(), receipt)?;
                plan.put(RECEIPT_EVENTS, receipt.event.to_be_bytes().to_vec(), receipt.id.0.to_vec());
            }
            Stored::Checkpoint(checkpoint) => {
                plan.put_record(CHECKPOINTS, last_event(checkpoint.size).to_be_bytes().to_vec(), checkpoint)?;
            }
            Stored::Names(names) => {
                plan.put_record(NAMES, names.event.to_be_bytes().to_vec(), names)?;
            }
            Stored::Cosigned { size, line } => {
                let key = [&last_event(*size).to_be_bytes()[..], &leaf_hash(line.as_bytes())[..8]].concat();
                plan.put(COSIGNATURES, key, line.as_bytes().to_vec());
            }
            _ => {}
        }
    }
    Ok(())
}

/// The last event that a checkpoint over `size` events covers. There is none over no events.
fn last_event(size: u64) -> u64 {
    size.saturating_sub(1)
}

fn node_key(node: Node) -> Vec<u8> {
    [&[node.level][..], &node.index.to_be_bytes()].concat()
}

/// Where a month begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    pub frame: u64,
    pub event: u64,
}

/// All months there are.
pub struct Months {
    dir: PathBuf,
    starts: RwLock<BTreeMap<Month, Start>>,
    /// The log before the first event that is kept: what proofs need of those before it.
    pruned: Frontier,
    current: RwLock<(Month, Arc<Database>)>,
    past: Mutex<Past>,
}

#[derive(Default)]
struct Past {
    /// Kept open, last used first.
    open: Vec<(Month, Arc<Database>)>,
    /// Whatever a reader may still hold: the same files cannot be opened twice.
    held: BTreeMap<Month, Weak<Database>>,
}

impl Past {
    fn remember(&mut self, month: Month, database: Arc<Database>) {
        self.held.retain(|_, database| database.strong_count() > 0);
        self.held.insert(month, Arc::downgrade(&database));
        self.open.retain(|(open, _)| *open != month);
        self.open.insert(0, (month, database));
        self.open.truncate(PAST_OPEN);
    }
}

/// A read of a past month can fail in one more way: its database may have to be opened.
#[derive(Debug, thiserror::Error)]
pub enum MonthError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("the database of {month} cannot be opened: {source}")]
    Open { month: Month, source: Box<OpenError> },
    #[error("there is no event {0}")]
    NoSuchEvent(u64),
    #[error("event {0} was pruned, and no proof leads to it any more")]
    Pruned(u64),
}

impl Months {
    pub fn new(
        dir: PathBuf,
        starts: BTreeMap<Month, Start>,
        pruned: Frontier,
        month: Month,
        current: Arc<Database>,
    ) -> Self {
        let (starts, current) = (RwLock::new(starts), RwLock::new((month, current)));
        Self { dir, starts, pruned, current, past: Mutex::default() }
    }

    /// The log before the first event that is kept.
    pub fn pruned(&self) -> &Frontier {
        &self.pruned
    }

    /// A new month has begun; the one before is a past one now.
    pub fn turn(&self, month: Month, start: Start, database: Arc<Database>) {
        self.starts.write().unwrap_or_else(PoisonError::into_inner).insert(month, start);
        // Taken first: a reader must not find the month before in neither place.
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, (month, database));
        past.remember(before.0, before.1);
    }

    pub fn current(&self) -> (Month, Arc<Database>) {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The database of a month, opened (and repaired) if it is not open.
    pub fn database(&self, month: Month) -> Result<Arc<Database>, MonthError> {
        let current = self.current();
        if current.0 == month {
            return Ok(current.1);
        }
        // Held while opening, so that two readers do not open the same files.
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match past.held.get(&month).and_then(Weak::upgrade) {
            Some(database) => database,
            None => Arc::new(
                recovery::open_past(&self.dir, month)
                    .map_err(|source| MonthError::Open { month, source: Box::new(source) })?,
            ),
        };
        past.remember(month, database.clone());
        Ok(database)
    }

    /// The month an event is in.
    fn month_of(&self, event: u64) -> Month {
        let starts = self.starts.read().unwrap_or_else(PoisonError::into_inner);
        // Of months that begin with the same event, all but the last are empty.
        let found = starts.iter().rev().find(|(_, start)| start.event <= event);
        // What was pruned is before the first.
        let found = found.or_else(|| starts.iter().next());
        found.map_or_else(|| self.current().0, |(month, _)| *month)
    }

    /// The first event of the latest month that had begun at `at`: nothing that was recorded at `at` or later is before it.
    /// Clocks that went back put later events there, never earlier ones.
    pub fn first_event_since(&self, at: Time) -> u64 {
        let starts = self.starts.read().unwrap_or_else(PoisonError::into_inner);
        starts.range(..=Month::of(at)).next_back().map_or(0, |(_, start)| start.event)
    }

    fn following(&self, month: Month) -> Option<Month> {
        let starts = self.starts.read().unwrap_or_else(PoisonError::into_inner);
        starts.range((std::ops::Bound::Excluded(month), std::ops::Bound::Unbounded)).next().map(|(month, _)| *month)
    }

    /// A hash of the log's tree.
    pub fn node(&self, node: Node) -> Result<Hash, MonthError> {
        let event = node.completed_by();
        if event < self.pruned.size() {
            let peak = self.pruned.peaks().into_iter().find(|(peak, _)| *peak == node);
            return peak.map(|(_, hash)| hash).ok_or(MonthError::Pruned(event));
        }
        let db = self.database(self.month_of(event))?;
        let (tree, key) =
            if node.level == 0 { (EVENTS, node.index.to_be_bytes().to_vec()) } else { (NODES, node_key(node)) };
        let value = db.get(tree, &key)?.ok_or(MonthError::NoSuchEvent(event))?;
        value.first_chunk::<32>().copied().ok_or_else(|| db.unreadable(tree).into())
    }

    pub fn receipt(&self, month: Month, id: &ReceiptId) -> Result<Option<ReceiptRecord>, MonthError> {
        Ok(self.database(month)?.get_record(RECEIPTS, &id.0)?)
    }

    /// Events from `from` on, through as many months as it takes.
    pub fn events(&self, from: u64, limit: usize) -> Result<Vec<(u64, String)>, MonthError> {
        self.collect(EVENTS, from, limit, |db, number, value| {
            let json = value.get(32..).and_then(|json| std::str::from_utf8(json).ok());
            Ok((number, json.ok_or_else(|| db.unreadable(EVENTS))?.to_owned()))
        })
    }

    /// The same with the leaf hash that is kept beside each.
    pub fn logged(&self, from: u64, limit: usize) -> Result<Vec<(u64, Hash, String)>, MonthError> {
        self.collect(EVENTS, from, limit, |db, number, value| {
            let (leaf, json) = value.split_first_chunk::<32>().ok_or_else(|| db.unreadable(EVENTS))?;
            // What is no text was not written by us: it is shown, and the hash will not fit.
            Ok((number, *leaf, String::from_utf8_lossy(json).into_owned()))
        })
    }

    /// What is hidden of the events from number `from` on.
    pub fn hidden_names(&self, from: u64, limit: usize) -> Result<Vec<HiddenNames>, MonthError> {
        self.collect(NAMES, from, limit, |db, _, value| db.record(NAMES, value))
    }

    /// Checkpoints over more than `after` events, with the witnesses' lines that are kept for them.
    pub fn checkpoints(&self, after: u64, limit: usize) -> Result<Vec<Checkpoint>, MonthError> {
        let mut found = self.collect(CHECKPOINTS, after, limit, |db, _, value| db.record(CHECKPOINTS, value))?;
        let (Some(first), Some(last)) = (found.first(), found.last()) else { return Ok(found) };
        let (first, last) = (last_event(first.size), last_event(last.size));
        let mut month = Some(self.month_of(first));
        while let Some(here) = month {
            let db = self.database(here)?;
            for pair in db.range(COSIGNATURES, &first.to_be_bytes()) {
                let (key, line) = pair?;
                let of = key.first_chunk().map_or(u64::MAX, |of| u64::from_be_bytes(*of));
                if of > last {
                    break;
                }
                if let Ok(at) = found.binary_search_by_key(&of, |checkpoint| last_event(checkpoint.size)) {
                    let line = std::str::from_utf8(&line).map_err(|_| db.unreadable(COSIGNATURES))?;
                    found[at].note.push_str(&format!("{line}\n"));
                }
            }
            month = self.following(here);
        }
        Ok(found)
    }

    /// The last checkpoint there is.
    pub fn last_checkpoint(&self, size: u64) -> Result<Option<Checkpoint>, MonthError> {
        let mut month = Some(self.current().0);
        while let Some(here) = month {
            let db = self.database(here)?;
            if let Some(found) = db.last_before(CHECKPOINTS, &size.to_be_bytes())? {
                let found: Checkpoint = db.record(CHECKPOINTS, &found)?;
                return Ok(self.checkpoints(last_event(found.size), 1)?.pop());
            }
            month = self.before(here);
        }
        Ok(None)
    }

    fn before(&self, month: Month) -> Option<Month> {
        let starts = self.starts.read().unwrap_or_else(PoisonError::into_inner);
        starts.range(..month).next_back().map(|(month, _)| *month)
    }

    /// Receipts from event `from` on.
    pub fn receipts(&self, from: u64, limit: usize) -> Result<Vec<ReceiptRecord>, MonthError> {
        self.collect(RECEIPT_EVENTS, from, limit, |db, _, id| {
            db.get_record(RECEIPTS, id)?.ok_or_else(|| db.unreadable(RECEIPTS))
        })
    }

    fn collect<T>(
        &self,
        tree: usize,
        from: u64,
        limit: usize,
        read: impl Fn(&Database, u64, &[u8]) -> Result<T, DatabaseError>,
    ) -> Result<Vec<T>, MonthError> {
        let mut found = Vec::new();
        let mut month = Some(self.month_of(from));
        while let Some(here) = month.filter(|_| found.len() < limit) {
            let db = self.database(here)?;
            for pair in db.range(tree, &from.to_be_bytes()).take(limit - found.len()) {
                let (key, value) = pair?;
                let number = key.as_ref().try_into().map(u64::from_be_bytes).map_err(|_| db.unreadable(tree))?;
                found.push(read(&db, number, &value)?);
            }
            month = self.following(here);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_named_as_people_write_them_and_sort_by_time() {
        let at = |text: &str| Month::of(Time::parse_rfc3339(text).unwrap());
        assert_eq!(at("2026-11-30T23:59:59Z").database(), "epoch-2026-11");
        assert_eq!(at("2026-12-01T00:30:00+01:00").to_string(), "2026-11");
        assert_eq!(Month(at("2026-12-31T00:00:00Z").0 + 1).to_string(), "2027-01");
        assert!(at("2027-01-01T00:00:00Z") > at("2026-12-31T23:59:59Z"));
    }
}
