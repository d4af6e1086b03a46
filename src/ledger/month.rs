//! Months' databases: the events of one calendar month (UTC) with their receipts and their part of the Merkle tree.
//! The current one is open; past ones are opened when asked for, two at a time, and dropped whole when their retention
//! ends. sled's memory and file grow with what they hold and never shrink: that is why there is more than one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use super::database::{Database, DatabaseError, Plan};
use super::frame::Entry;
use super::merkle::{Frontier, Hash, Node, leaf_hash};
use super::record::{ReceiptRecord, Stored};
use super::recovery::{self, OpenError};
use crate::clock::Time;
use crate::names::ReceiptId;

pub const TREES: &[&str] = &["meta", "events", "nodes", "receipts", "receipt-events"];
/// Event number → leaf hash, canonical JSON.
const EVENTS: usize = 1;
/// Level, index → hash. Levels from 1 on; the leaves are with the events.
const NODES: usize = 2;
/// Receipt id → [`ReceiptRecord`].
const RECEIPTS: usize = 3;
/// Event number → receipt id.
const RECEIPT_EVENTS: usize = 4;

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
        if let Stored::Receipt(receipt) = write {
            plan.put_record(RECEIPTS, receipt.id.0.to_vec(), receipt)?;
            plan.put(RECEIPT_EVENTS, receipt.event.to_be_bytes().to_vec(), receipt.id.0.to_vec());
        }
    }
    Ok(())
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
}

impl Months {
    pub fn new(dir: PathBuf, starts: BTreeMap<Month, Start>, month: Month, current: Arc<Database>) -> Self {
        Self { dir, starts: RwLock::new(starts), current: RwLock::new((month, current)), past: Mutex::default() }
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
        found.map_or_else(|| self.current().0, |(month, _)| *month)
    }

    fn following(&self, month: Month) -> Option<Month> {
        let starts = self.starts.read().unwrap_or_else(PoisonError::into_inner);
        starts.range((std::ops::Bound::Excluded(month), std::ops::Bound::Unbounded)).next().map(|(month, _)| *month)
    }

    /// A hash of the log's tree.
    pub fn node(&self, node: Node) -> Result<Hash, MonthError> {
        let event = node.completed_by();
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
