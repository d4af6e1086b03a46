//! Which drops a person means: by a drop's id, by a receipt's, or by `USER:PATH` as that user sees or saw it.

use super::{drop_row, drops_where, sorry};
use crate::ipc::admin::ToCommand;
use crate::keeper::Keeper;
use crate::ledger::DropRecord;
use crate::names::{DropId, ReceiptId, UserName};
use crate::vpath::VirtualPath;

const HOW: &str = "a drop's or receipt's id, or USER:PATH; `sealdrop drops` and `sealdrop receipts` list them";

/// `below`: of a path everything under it, page by page.
pub fn find(keeper: &Keeper, what: &str, below: bool, after: Option<&str>) -> Result<ToCommand, String> {
    let failed = |e: crate::ledger::LedgerError| e.to_string();
    let records = match what.split_once(':') {
        None => by_id(keeper, what).map_err(failed)?.into_iter().collect(),
        Some((user, path)) => {
            let named = user.parse::<UserName>().ok().zip(VirtualPath::parse(path.as_bytes()).ok());
            let Some((user, path)) = named else {
                return Ok(sorry(&format!("`{what}` is no user and path"), Some(HOW)));
            };
            if below {
                return all_below(keeper, &user, &path, after);
            }
            at(keeper, &user, &path).map_err(failed)?.into_iter().collect::<Vec<_>>()
        }
    };
    if records.is_empty() {
        return Ok(sorry(&format!("there is no drop `{what}`"), Some(HOW)));
    }
    Ok(ToCommand::Drops { rows: records.iter().map(drop_row).collect(), next: None })
}

fn by_id(keeper: &Keeper, id: &str) -> Result<Option<DropRecord>, crate::ledger::LedgerError> {
    if let Ok(drop) = id.parse::<DropId>()
        && let Some(record) = keeper.ledger.drop_record(&drop)?
    {
        return Ok(Some(record));
    }
    let Ok(receipt) = id.parse::<ReceiptId>() else { return Ok(None) };
    match keeper.ledger.receipt(&receipt)? {
        Some(receipt) => keeper.ledger.drop_record(&receipt.drop),
        None => Ok(None),
    }
}

/// What stands there, or what its sender removed from there, or what the newest receipt for it is of.
fn at(keeper: &Keeper, user: &UserName, path: &VirtualPath) -> Result<Option<DropRecord>, crate::ledger::LedgerError> {
    if let Some(record) = keeper.ledger.drop_at(user, path)? {
        return Ok(Some(record));
    }
    if let Some(record) = keeper.ledger.removed_at(user, path)? {
        return Ok(Some(record));
    }
    match keeper.ledger.receipt_at(user, path)? {
        Some(receipt) => keeper.ledger.drop_record(&receipt.drop),
        None => Ok(None),
    }
}

/// Live and held drops that `user` sent from, or has, below `path`.
fn all_below(keeper: &Keeper, user: &UserName, path: &VirtualPath, after: Option<&str>) -> Result<ToCommand, String> {
    drops_where(keeper, after, |record| {
        let own = record.sender == *user && record.path.below(path).is_some();
        let mut delivered = record.deliveries.iter();
        let has = delivered.any(|d| d.user == *user && d.unlinked.is_none() && d.path.below(path).is_some());
        record.state.has_paths() && (own || has)
    })
}
