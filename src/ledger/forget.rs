//! Names that are over: where names are hidden, the live database does not keep those of what ended and was received longer
//! ago than names may be read. What is left of a drop and of its receipt is found by their ids. docs/ledger.md, "Hidden names".

use serde::{Deserialize, Serialize};

use super::consignment::ConsignmentRecord;
use super::database::{DatabaseError, Plan};
use super::live::{CONSIGNMENTS, DROPS, PAPER_EVENTS, PAPERS, RECEIPT_NUMBERS, RECEIPT_PATHS, ReceiptPlace};
use super::paper::Paper;
use super::record::DropRecord;
use super::store::{Ledger, LedgerError};
use crate::clock::Time;
use crate::names::DropId;
use crate::vpath::VirtualPath;

/// Whose names go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Over {
    pub drops: Vec<DropId>,
    /// Keys of receipts' places, and of papers: they have names in them.
    pub receipts: Vec<Vec<u8>>,
    pub papers: Vec<Vec<u8>>,
}

/// Where to go on looking: a tree, and a key in it.
pub type Place = (usize, Vec<u8>);

/// In this order: a receipt's drop is asked whether it is over, whatever it is called by then.
const TREES: [usize; 3] = [DROPS, RECEIPT_PATHS, PAPERS];

impl Over {
    pub fn is_empty(&self) -> bool {
        self.drops.is_empty() && self.receipts.is_empty() && self.papers.is_empty()
    }
}

pub fn apply(plan: &mut Plan<'_>, over: &Over) -> Result<(), DatabaseError> {
    for id in &over.drops {
        let Some(mut record) = plan.get_record::<DropRecord>(DROPS, &id.0)? else { continue };
        // It has no place in any index by now.
        record.path = VirtualPath::root();
        record.deliveries.iter_mut().for_each(|delivery| delivery.path = VirtualPath::root());
        plan.put_record(DROPS, id.0.to_vec(), &record)?;
        if let Some(mut consignment) = plan.get_record::<ConsignmentRecord>(CONSIGNMENTS, &id.0)? {
            consignment.path = VirtualPath::root();
            plan.put_record(CONSIGNMENTS, id.0.to_vec(), &consignment)?;
        }
    }
    for key in &over.receipts {
        plan.remove(RECEIPT_PATHS, key.clone());
        plan.remove(RECEIPT_NUMBERS, key.clone());
    }
    for key in &over.papers {
        if let Some(paper) = plan.get_record::<Paper>(PAPERS, key)? {
            plan.remove(PAPER_EVENTS, paper.event.to_be_bytes().to_vec());
        }
        plan.remove(PAPERS, key.clone());
    }
    Ok(())
}

impl Ledger {
    /// Of `limit` records from a place on, those whose names are over: they ended, and are from before `cutoff`. And where to
    /// go on. It is a walk over all there is, once a day.
    pub fn names_over(
        &self,
        cutoff: Time,
        from: Option<Place>,
        limit: usize,
    ) -> Result<(Over, Option<Place>), LedgerError> {
        let (tree, start) = from.unwrap_or((DROPS, Vec::new()));
        let db = &self.core.live;
        let (mut over, mut last) = (Over::default(), None);
        let ended = |id: &DropId| -> Result<bool, LedgerError> {
            Ok(self.drop_record(id)?.is_none_or(|record| is_over(&record)))
        };
        for pair in db.range(tree, &start).take(limit) {
            let (key, value) = pair?;
            match tree {
                DROPS => {
                    let record: DropRecord = db.record(tree, &value)?;
                    if record.received < cutoff && is_over(&record) && !record.path.is_root() {
                        over.drops.push(record.drop);
                    }
                }
                RECEIPT_PATHS => {
                    let place: ReceiptPlace = db.record(tree, &value)?;
                    if place.at < cutoff && ended(&place.drop)? {
                        over.receipts.push(key.to_vec());
                    }
                }
                _ => {
                    if db.record::<Paper>(tree, &value)?.at < cutoff {
                        over.papers.push(key.to_vec());
                    }
                }
            }
            last = Some(key.to_vec());
        }
        let next = match last {
            Some(key) => Some((tree, [&key[..], b"\0"].concat())),
            None => TREES.iter().skip_while(|one| **one != tree).nth(1).map(|tree| (*tree, Vec::new())),
        };
        Ok((over, next))
    }
}

/// Nothing leads to it any more, and nothing more becomes of it.
fn is_over(record: &DropRecord) -> bool {
    !record.state.holds_bytes() && !record.state.has_paths() && super::live::uncertified_key(record).is_none()
}
