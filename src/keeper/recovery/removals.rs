//! Removals that a crash cut in two. A removal is recorded first and done second, so the log itself says which names may still
//! be there: those of its last entries, for the client hears of a removal only when it is done.

use std::os::fd::AsFd;

use serde::Deserialize;

use super::super::Keeper;
use super::super::delivery::remove_if_there;
use super::super::desk::Refusal;
use super::Staged;
use crate::ledger::Kind;
use crate::names::{DropId, UserName, unescaped};
use crate::shown::Shown;
use crate::sys::files;
use crate::vpath::VirtualPath;

/// How many of the last events are looked at. A session has at most 16 requests in the keeper's hands, and what follows a
/// removal while it is being done is of other requests: this is room for every session of a busy server.
const LOOK_BACK: u64 = 8_192;

/// What an event says of a removal.
#[derive(Deserialize)]
struct Said {
    kind: String,
    outcome: String,
    user: Option<String>,
    path: Option<String>,
    #[serde(rename = "drop")]
    of: Option<String>,
}

/// Removes the names that the ledger has recorded as removed; answers how many were still there.
pub fn finish(keeper: &Keeper) -> Result<u32, Refusal> {
    let end = keeper.ledger.head().size;
    let from = end.saturating_sub(LOOK_BACK);
    let mut finished = 0;
    let events = keeper.ledger.events(from, usize::try_from(end - from).map_err(Refusal::machine)?)?;
    for (number, json) in events {
        let event: Said = serde_json::from_str(&json)
            .map_err(|e| Refusal::machine(format!("event {number} of the log cannot be read: {e}")))?;
        if event.outcome == "done" {
            for (user, path, drop) in removed(keeper, event)? {
                finished += u32::from(finish_one(keeper, &user, &path, drop)?);
            }
        }
    }
    Ok(finished)
}

/// The names that are there no more by an event: the one that it tells, and those that its drop had. The first alone is not
/// enough: the event of a drop that was taken from a recipient tells its sender's, and a hidden name leads nowhere.
fn removed(keeper: &Keeper, event: Said) -> Result<Vec<(UserName, VirtualPath, DropId)>, Refusal> {
    let is_removal = [Kind::Removed, Kind::Readdressed].iter().any(|kind| kind.word() == event.kind);
    let Some(drop) = event.of.filter(|_| is_removal) else { return Ok(Vec::new()) };
    let drop = drop.parse().map_err(Refusal::machine)?;
    let user = event.user.map(|user| user.parse().map_err(Refusal::machine)).transpose()?;
    let path = event.path.and_then(|path| VirtualPath::parse(&unescaped(&path)?).ok());
    let mut names: Vec<_> = user.zip(path).filter(|_| event.kind == Kind::Removed.word()).into_iter().collect();
    if let Some(record) = keeper.ledger.drop_record(&drop)? {
        names.extend(record.unlinked.map(|_| (record.sender, record.path)));
        let gone = record.deliveries.into_iter().filter(|delivery| delivery.unlinked.is_some());
        names.extend(gone.map(|delivery| (delivery.user, delivery.path)));
    }
    Ok(names.into_iter().map(|(user, path)| (user, path, drop)).collect())
}

fn finish_one(keeper: &Keeper, user: &UserName, path: &VirtualPath, removed: DropId) -> Result<bool, Refusal> {
    // The name may have been given again since.
    if keeper.ledger.drop_at(user, path)?.is_some() {
        return Ok(false);
    }
    let tree = match keeper.state.tree(user) {
        Ok(tree) => tree,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e.into()),
    };
    let Ok((dir, name)) = files::open_parent_beneath(tree.as_fd(), path.relative()) else { return Ok(false) };
    let there = Staged::open(dir.as_fd(), name)?.is_some_and(|file| file.drop == Some(removed));
    if there {
        tracing::info!(%user, path = %Shown(path), "a removal that a crash cut short is finished");
        remove_if_there(dir.as_fd(), name)?;
        files::sync(dir.as_fd())?;
    }
    Ok(there)
}
