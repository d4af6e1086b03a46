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
struct Removal {
    kind: String,
    outcome: String,
    user: Option<String>,
    path: Option<String>,
    #[serde(rename = "drop")]
    removed: Option<String>,
}

/// Removes the names that the ledger has recorded as removed; answers how many were still there.
pub fn finish(keeper: &Keeper) -> Result<u32, Refusal> {
    let end = keeper.ledger.head().size;
    let from = end.saturating_sub(LOOK_BACK);
    let mut finished = 0;
    let events = keeper.ledger.events(from, usize::try_from(end - from).map_err(Refusal::machine)?)?;
    for (number, json) in events {
        let event: Removal = serde_json::from_str(&json)
            .map_err(|e| Refusal::machine(format!("event {number} of the log cannot be read: {e}")))?;
        if event.kind != Kind::Removed.word() || event.outcome != "done" {
            continue;
        }
        if let (Some(user), Some(path), Some(removed)) = (event.user, event.path, event.removed) {
            let removed = removed.parse().map_err(Refusal::machine)?;
            finished += u32::from(finish_one(keeper, &user, &path, removed)?);
        }
    }
    Ok(finished)
}

fn finish_one(keeper: &Keeper, user: &str, path: &str, removed: DropId) -> Result<bool, Refusal> {
    let user: UserName = user.parse().map_err(Refusal::machine)?;
    let path = unescaped(path).and_then(|bytes| VirtualPath::parse(&bytes).ok());
    let Some(path) = path else { return Ok(false) };
    // The name may have been given again since.
    if keeper.ledger.drop_at(&user, &path)?.is_some() {
        return Ok(false);
    }
    let tree = match keeper.state.tree(&user) {
        Ok(tree) => tree,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e.into()),
    };
    let Ok((dir, name)) = files::open_parent_beneath(tree.as_fd(), path.relative()) else { return Ok(false) };
    let there = Staged::open(dir.as_fd(), name)?.is_some_and(|file| file.drop == Some(removed));
    if there {
        tracing::info!(%user, path = %Shown(&path), "a removal that a crash cut short is finished");
        remove_if_there(dir.as_fd(), name)?;
        files::sync(dir.as_fd())?;
    }
    Ok(there)
}
