//! What a person orders about drops: hold them, release them, shred them before their time. Who it was and why is in the
//! ledger before anything is done, and each order is done whole or told as failed, drop by drop.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::desk::Refusal;
use super::keys::{Bucket, bucket_of};
use super::{Keeper, blocking, crash, expiry, moving, pickups};
use crate::clock::{self, Time};
use crate::ledger::{Batch, DropRecord, DropState, Event, Kind, Order, Ordered, Write};
use crate::names::{DropId, UserName};

/// What became of an order for one drop; `Some`: why it was not done.
pub type Outcomes = Vec<(DropId, Option<String>)>;

/// Carries out one order for some drops.
pub async fn carry_out(keeper: &Arc<Keeper>, drops: &[DropId], order: &Order) -> Result<Outcomes, Refusal> {
    let mut outcomes = Vec::new();
    let mut by_sender = BTreeMap::<UserName, Vec<DropId>>::new();
    for drop in drops {
        match keeper.ledger.drop_record(drop)? {
            Some(record) => by_sender.entry(record.sender).or_default().push(*drop),
            None => outcomes.push((*drop, Some("the ledger does not know this drop".to_owned()))),
        }
    }
    for (sender, drops) in by_sender {
        // As for a sweep: nobody renames or removes what this sender delivered meanwhile.
        match order.what {
            Ordered::Shred => {
                let _turn = keeper.turns.to_change(&sender).await;
                outcomes.extend(shred(keeper, &drops, order).await?);
            }
            Ordered::Hold | Ordered::Release => {
                // No sweep destroys a key that is about to be needed.
                let _sweep = keeper.sweeping.lock().await;
                let _turn = keeper.turns.to_change(&sender).await;
                outcomes.extend(rebucket(keeper, &drops, order).await?);
            }
        }
    }
    Ok(outcomes)
}

/// Shreds some drops of one sender, whose turn the caller has: recorded, their names gone, their keys forgotten, certified.
/// From the first step on a crash only delays the rest until the next sweep.
pub async fn shred(keeper: &Arc<Keeper>, drops: &[DropId], order: &Order) -> Result<Outcomes, Refusal> {
    let mut outcomes = Vec::new();
    let mut ordered = Vec::new();
    let mut batch = Batch { urgent: true, ..Batch::default() };
    for record in records(keeper, drops).await? {
        if !record.state.can_be_shredded() {
            outcomes.push((record.drop, Some(why_not(&record, order.what))));
            continue;
        }
        batch.events.push(event(Kind::Shredding, &record, order));
        batch.writes.push(Write::Order { drop: record.drop, order: order.clone() });
        ordered.push(record.drop);
    }
    if ordered.is_empty() {
        return Ok(outcomes);
    }
    keeper.record(batch).await?;
    crash::point("shred-ordered");
    expiry::destroy(keeper, &ordered, clock::now()).await?;
    outcomes.extend(ordered.into_iter().map(|drop| (drop, None)));
    Ok(outcomes)
}

/// Holds or releases some drops of one sender, whose turn the caller has.
async fn rebucket(keeper: &Arc<Keeper>, drops: &[DropId], order: &Order) -> Result<Outcomes, Refusal> {
    let mut outcomes = Vec::new();
    let (from, kind) = match order.what {
        Ordered::Hold => (DropState::Live, Kind::Held),
        _ => (DropState::Held, Kind::Released),
    };
    let mut found = Vec::new();
    for record in records(keeper, drops).await? {
        match record.state == from {
            true => found.push(record),
            false => outcomes.push((record.drop, Some(why_not(&record, order.what)))),
        }
    }
    if found.is_empty() {
        return Ok(outcomes);
    }
    let mut moves: Vec<(DropRecord, Option<u64>)> = Vec::new();
    let mut batch = Batch { urgent: true, ..Batch::default() };
    let mut hold = None;
    for record in found {
        // What never expires is under no key, and need not be moved.
        let to = match (record.bucket, order.what) {
            (None, _) => None,
            (Some(_), Ordered::Hold) => {
                let worker = Arc::clone(keeper);
                let bucket = match hold {
                    Some(bucket) => bucket,
                    None => blocking(move || Ok(worker.keys.make_hold_bucket(clock::now())?)).await?,
                };
                if hold.replace(bucket).is_none() {
                    let mut made = Event::new(clock::now(), Kind::ShredKeyMade);
                    made.detail = Some(Bucket::told(bucket));
                    batch.events.push(made);
                }
                Some(bucket)
            }
            // What expires by pickups alone stays under the hold's key, which has no end either: the one of before has
            // forgotten it.
            (Some(_), _) if record.expires.is_none() && record.pickups.is_some() => None,
            (Some(_), _) => {
                let end = record.expires.unwrap_or(order.at).max(clock::now());
                Some(bucket_of(end, keeper.settings.buckets))
            }
        };
        batch.writes.extend(to.map(|to| Write::Moving { drop: record.drop, to }));
        moves.push((record, to));
    }
    // 1. Both keys are needed from now on. A crash: the next start sees where each envelope is.
    keeper.record(batch).await?;
    crash::point("hold-moving");
    // 2. The envelopes.
    let worker = Arc::clone(keeper);
    let moved = blocking(move || {
        let moved: Vec<_> = moves
            .into_iter()
            .map(|(record, to)| {
                let done = to.map_or(Ok(()), |to| moving::put_under(&worker, &record, to));
                (record, to, done.err())
            })
            .collect();
        // 3. Of a bucket without an end that goes on for others, the key of what it had. The envelopes are under another
        // already.
        let mut left = BTreeMap::<u64, Vec<DropId>>::new();
        for (record, _, _) in moved.iter().filter(|(_, to, failed)| to.is_some() && failed.is_none()) {
            if let Some(bucket) = record.bucket.filter(|bucket| Bucket::is_endless(*bucket)) {
                left.entry(bucket).or_default().push(record.drop);
            }
        }
        for (bucket, drops) in left {
            worker.keys.forget_drops(bucket, &drops)?;
        }
        Ok(moved)
    })
    .await?;
    crash::point("hold-rewrapped");
    // 4. The new state. What could not be rewrapped stays with both keys until the next start looks at it.
    let mut batch = Batch { urgent: true, ..Batch::default() };
    let mut used_up = Vec::new();
    for (record, to, failed) in moved {
        if let Some(refusal) = failed {
            tracing::error!(drop = %record.drop, why = refusal.why, "a drop was not moved to another bucket");
            batch.events.push(event(kind, &record, order).failed(refusal.why.clone()));
            outcomes.push((record.drop, Some(refusal.why)));
            continue;
        }
        batch.events.push(event(kind, &record, order));
        batch.writes.push(Write::Order { drop: record.drop, order: order.clone() });
        batch.writes.extend(to.map(|bucket| Write::Rewrapped { drop: record.drop, bucket }));
        // While it was held nothing ended it; who was to pick it up has done so.
        if order.what == Ordered::Release && record.is_used_up() {
            pickups::end(&mut batch, &record);
            used_up.push(record.drop);
        }
        outcomes.push((record.drop, None));
    }
    keeper.record(batch).await?;
    crash::point("hold-recorded");
    pickups::destroy(keeper, &used_up).await;
    Ok(outcomes)
}

async fn records(keeper: &Arc<Keeper>, drops: &[DropId]) -> Result<Vec<DropRecord>, Refusal> {
    let (worker, drops) = (Arc::clone(keeper), drops.to_vec());
    blocking(move || {
        let mut records = Vec::with_capacity(drops.len());
        for drop in &drops {
            records.extend(worker.ledger.drop_record(drop)?);
        }
        Ok(records)
    })
    .await
}

fn why_not(record: &DropRecord, what: Ordered) -> String {
    match (what, record.state) {
        (Ordered::Shred, DropState::Held) => "it is held: release it first".to_owned(),
        (Ordered::Hold, DropState::Held) => "it is held already".to_owned(),
        (Ordered::Release, DropState::Live) => "it is not held".to_owned(),
        _ => format!("it is {}", record.word()),
    }
}

pub(super) fn event(kind: Kind, record: &DropRecord, order: &Order) -> Event {
    let mut event = Event::new(clock::now(), kind);
    event.user = Some(record.sender.clone());
    event.path = Some(record.path.clone());
    event.drop = Some(record.drop);
    event.receipt = Some(record.receipt);
    event.detail = Some(format!("by {}: {}", order.by, order.reason));
    event
}

/// An order of `by`, now.
pub fn order(what: Ordered, by: String, reason: String) -> Order {
    let at: Time = clock::now();
    Order { what, by, reason, at }
}
