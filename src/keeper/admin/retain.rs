//! The life of drops as it was, for `sealdrop retain`: when each recipient first fetched, and when it ended. A page at a time,
//! so that a large ledger costs neither side memory.

use super::{PAGE, page};
use crate::clock::Time;
use crate::ipc::admin::{DropLife, LifeEnd, ToCommand};
use crate::keeper::Keeper;
use crate::ledger::{Delivery, DropKind, DropRecord, DropState, Ordered};

pub fn lives(keeper: &Keeper, after: Option<&str>) -> Result<ToCommand, String> {
    let after = after.map(str::parse).transpose().map_err(|_| "not a page of this list".to_owned())?;
    let records = keeper.ledger.drops(after.as_ref(), PAGE).map_err(|e| e.to_string())?;
    let full = records.len() == PAGE;
    let last = records.last().map(|record| record.drop.to_string());
    let lives = records.iter().filter(|record| record.kind == DropKind::Drop && !record.deliveries.is_empty());
    let (rows, cut) = page(lives.map(|record| life(keeper, record)), |row: &DropLife| {
        row.path.len() + row.folder.len() + 60 * row.deliveries.len() + 120
    });
    let next = match (cut, full) {
        (true, _) => rows.last().map(|row| row.drop.to_string()),
        (false, true) => last,
        (false, false) => None,
    };
    Ok(ToCommand::Lives { rows, next })
}

fn life(keeper: &Keeper, record: &DropRecord) -> DropLife {
    let deliveries = record.deliveries.iter();
    DropLife {
        drop: record.drop,
        sender: record.sender.clone(),
        folder: folder(keeper, record),
        path: record.path.to_string(),
        size: record.size,
        received: record.received,
        deliveries: deliveries.map(|to| (to.user.clone(), to.first_pickup, end(record, to))).collect(),
    }
}

/// By the policy that is in force; where it has no such folder any more, the first of the path.
fn folder(keeper: &Keeper, record: &DropRecord) -> String {
    let policy = keeper.policy();
    let folders = policy.user(&record.sender).map(|user| user.folders.as_slice()).unwrap_or_default();
    match folders.iter().find(|folder| record.path.below(&folder.path).is_some()) {
        Some(folder) => folder.path.to_string(),
        None => {
            let first = record.path.components().next().unwrap_or_default();
            format!("/{}", crate::names::escaped(first))
        }
    }
}

/// When and how it ended for a recipient.
fn end(record: &DropRecord, to: &Delivery) -> LifeEnd {
    let withdrawn = to.unlinked.map(LifeEnd::Withdrawn);
    let shredded = record.order.as_ref().filter(|order| order.what == Ordered::Shred);
    match (record.state, withdrawn, shredded) {
        (_, Some(withdrawn), _) => withdrawn,
        (DropState::Removed { at } | DropState::Superseded { at }, ..) => LifeEnd::Withdrawn(at),
        (DropState::Expiring { .. } | DropState::Expired { .. }, _, Some(order)) => LifeEnd::Withdrawn(order.at),
        (DropState::Expiring { .. } | DropState::Expired { .. }, ..) => {
            LifeEnd::Expired(record.expires.unwrap_or(Time(u64::MAX)))
        }
        (DropState::Live | DropState::Held, ..) => LifeEnd::None,
    }
}
