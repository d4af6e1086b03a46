//! Drops that expire by being picked up. Each recipient may read such a drop to its end so many times; then its own entry
//! goes, and when nobody is left who may read it the drop is shredded as if its sender had ordered it: key, names, all
//! copies. What a reader had open before is read to its end, as after any expiry: it was given the key.

use std::sync::Arc;

use super::desk::{Client, Refusal};
use super::{Keeper, blocking, crash, expiry, namespace, orders};
use crate::clock;
use crate::ledger::{Batch, DropRecord, DropState, Kind, Ordered, Write};
use crate::names::{DropId, UserName};
use crate::policy::units::show_pickups;
use crate::vpath::VirtualPath;

/// Counts a whole read of the drop: `batch` has its event first, and records the pickup. Durable when this returns, with all that follows from it: a
/// crash leaves a drop that nobody may read, and the next sweep destroys it; or a name that the ledger calls removed, and
/// the next start removes it.
pub async fn count(
    keeper: &Arc<Keeper>,
    client: &Client,
    record: &DropRecord,
    mut batch: Batch,
) -> Result<(), Refusal> {
    let (drop, user, at) = (record.drop, client.user.clone(), clock::now());
    // A client waits for it.
    batch.patient = false;
    // Two recipients who end at the same time see each other's pickup, and a rename does not come between path and name.
    let _turn = keeper.turns.to_change(&record.sender).await;
    let worker = Arc::clone(keeper);
    let record = blocking(move || Ok(worker.ledger.drop_record(&drop)?)).await?;
    let Some(mut record) = record else { return Err(Refusal::machine("the drop has left the ledger")) };
    for delivery in record.deliveries.iter_mut().filter(|delivery| delivery.user == user) {
        delivery.picked_up = delivery.picked_up.saturating_add(1);
        let most = record.pickups.map_or_else(String::new, |most| format!(" of {most}"));
        let detail = format!("pickup {}{most}", delivery.picked_up);
        batch.events.iter_mut().take(1).for_each(|event| event.detail = Some(detail.clone()));
    }
    // Held: it is counted, and the rest waits for the release.
    let live = record.state == DropState::Live;
    if live && record.is_used_up() {
        end(&mut batch, &record);
        keeper.record(batch).await?;
        crash::point("pickup-recorded");
        destroy(keeper, &[drop]).await;
        return Ok(());
    }
    let gone = record.deliveries.iter().find(|d| live && d.user == user && d.unlinked.is_none());
    let gone = gone.filter(|_| !record.may_pick_up(&user)).map(|delivery| delivery.path.clone());
    batch.writes.extend(gone.clone().map(|path| Write::Unlinked { drop, user: user.clone(), path, at }));
    keeper.record(batch).await?;
    crash::point("pickup-recorded");
    if let Some(path) = gone
        && let Err(refusal) = namespace::unlink(keeper, user, path).await
    {
        tracing::error!(%drop, why = refusal.why, "a drop that was picked up keeps its name in an inbox until the next start");
    }
    Ok(())
}

/// Whether the drop ends when `user` removes its entry at `path`: nobody else may pick it up.
pub fn ends_without(record: &DropRecord, user: &UserName, path: &VirtualPath) -> bool {
    let mut record = record.clone();
    let mut own = record.deliveries.iter_mut().filter(|d| d.user == *user && d.path == *path && d.unlinked.is_none());
    let Some(delivery) = own.next() else { return false };
    delivery.unlinked = Some(clock::now());
    record.state == DropState::Live && record.is_used_up()
}

/// The end of a drop that is used up goes into the batch which makes it so. The caller has its sender's turn.
pub fn end(batch: &mut Batch, record: &DropRecord) {
    let most = record.pickups.unwrap_or_default();
    let reason = format!("nobody may pick it up any more: it expires after {} of each recipient", show_pickups(most));
    let order = orders::order(Ordered::Shred, "policy".to_owned(), reason);
    batch.urgent = true;
    batch.events.push(orders::event(Kind::Shredding, record, &order));
    batch.writes.push(Write::Order { drop: record.drop, order });
}

/// Goes on with what [`end`] recorded. What cannot be destroyed now, the next sweep tries again.
pub async fn destroy(keeper: &Arc<Keeper>, drops: &[DropId]) {
    if drops.is_empty() {
        return;
    }
    if let Err(refusal) = expiry::destroy(keeper, drops, clock::now()).await {
        tracing::error!(why = refusal.why, "a drop that is used up was not destroyed");
    }
}
