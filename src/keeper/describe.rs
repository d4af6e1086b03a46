//! What the ledger says of a file without anybody opening it: its digest, and what became of it. A sender hears of all
//! its recipients, a recipient of itself alone; of another user's drop nobody hears anything. Each answer is an event.

use super::Keeper;
use super::desk::{Client, Refusal};
use super::open::readable;
use crate::clock::{self, Time};
use crate::ipc::jail::{Answer, ConsignmentStanding, DropStatus, Newer, Pickups, Standing};
use crate::ledger::{DropKind, DropRecord, DropState, Kind, LedgerError};
use crate::names::UserName;
use crate::policy::{Operation, Place};
use crate::sums::Sums;
use crate::vpath::VirtualPath;

/// The digest of what stands at `path` now. What has expired has none: it is answered as reading it would be.
pub async fn digests(keeper: &Keeper, client: &Client, path: &VirtualPath) -> Result<Answer, Refusal> {
    let _checked = keeper.permit(client, &Operation::Describe { path })?;
    // The sums beside SHA-256 are known when it is delivered.
    if let Some(waits) = keeper.waiting.at(&client.user, path) {
        let mut event = keeper.event(client, Kind::DigestRead, Some(path));
        event.drop = Some(waits.drop);
        keeper.record_event(event).await?;
        return Ok(Answer::Digests { size: waits.size, sha256: waits.sha256, sums: Sums::default() });
    }
    let record = keeper.ledger.drop_at(&client.user, path)?;
    let record = record.ok_or_else(|| Refusal::not_there("no drop of this user is at this path"))?;
    readable(&record)?;
    let mut event = keeper.event(client, Kind::DigestRead, Some(path));
    event.drop = Some(record.drop);
    keeper.record_event(event).await?;
    Ok(Answer::Digests { size: record.size, sha256: record.sha256, sums: record.sums })
}

/// What became of the drop at `path`. A sender may ask for as long as there is a receipt, a recipient as long as the
/// drop is in its inbox.
pub async fn status(keeper: &Keeper, client: &Client, path: &VirtualPath) -> Result<Answer, Refusal> {
    let grant = keeper.permit(client, &Operation::Describe { path })?;
    if let Some(waits) = keeper.waiting.at(&client.user, path) {
        let mut event = keeper.event(client, Kind::StatusRead, Some(path));
        event.drop = Some(waits.drop);
        keeper.record_event(event).await?;
        return Ok(Answer::DropStatus(Box::new(DropStatus {
            drop: waits.drop,
            sender: client.user.clone(),
            size: waits.size,
            sha256: waits.sha256,
            sums: Sums::default(),
            received: waits.closed_at,
            expires: None,
            pickups: None,
            standing: Standing::Waiting { until: waits.until(&keeper.policy()) },
            superseded: None,
            consignment: None,
            deliveries: Vec::new(),
        })));
    }
    let told = of(keeper, &client.user, path, matches!(grant.place(), Place::Folder { .. }))?;
    let told = told.ok_or_else(|| Refusal::not_there("no drop that this user may know of is or was at this path"))?;
    let mut event = keeper.event(client, Kind::StatusRead, Some(path));
    event.drop = Some(told.drop);
    keeper.record_event(event).await?;
    Ok(Answer::DropStatus(Box::new(told)))
}

/// What `user` may know of what is at `path` in its view, or, if it is a `folder`'s, of what it sent there.
pub fn of(
    keeper: &Keeper,
    user: &UserName,
    path: &VirtualPath,
    folder: bool,
) -> Result<Option<DropStatus>, LedgerError> {
    let mut found = keeper.ledger.drop_at(user, path)?;
    if found.is_none() && folder {
        found = match keeper.ledger.receipt_at(user, path)? {
            Some(receipt) => keeper.ledger.drop_record(&receipt.drop)?,
            None => None,
        };
    }
    let Some(record) = found else { return Ok(None) };
    let Some(mut told) = told(&record, user, clock::now()) else { return Ok(None) };
    if record.sender == *user
        && let Some(consignment) = keeper.ledger.consignment(&record.drop)?
    {
        told.consignment = Some(ConsignmentStanding {
            files: consignment.listed,
            open: keeper.ledger.consignment_open(&record.drop)?,
            until: consignment.due,
            closed: consignment.closed.map(|closed| (closed.at, closed.missing, closed.different)),
        });
    }
    Ok(Some(told))
}

/// What `user` may know of the drop; `None`: not even that there is one.
fn told(record: &DropRecord, user: &UserName, now: Time) -> Option<DropStatus> {
    let is_sender = record.sender == *user;
    let own = |delivery: &&crate::ledger::Delivery| is_sender || delivery.user == *user;
    let deliveries: Vec<_> = record
        .deliveries
        .iter()
        // A shared file is delivered to nobody but its owner, who is not waiting for a pick-up.
        .filter(|_| record.kind == DropKind::Drop)
        .filter(own)
        .map(|d| Pickups {
            user: d.user.clone(),
            count: d.picked_up,
            last: d.last_pickup,
            part: d.last_part,
            removed: d.unlinked,
        })
        .collect();
    if !is_sender && deliveries.is_empty() {
        return None;
    }
    let past = record.expires.is_some_and(|end| now >= end);
    let standing = match record.state {
        DropState::Live if past => Standing::Expired,
        DropState::Live => Standing::Live,
        DropState::Held => Standing::Held,
        DropState::Expiring { .. } => Standing::Expired,
        DropState::Expired { at } => Standing::Destroyed { at },
        DropState::Removed { at } => Standing::Removed { at },
        DropState::Superseded { at } => Standing::Superseded { at },
    };
    Some(DropStatus {
        drop: record.drop,
        sender: record.sender.clone(),
        size: record.size,
        sha256: record.sha256,
        sums: record.sums,
        received: record.received,
        expires: record.expires,
        pickups: record.pickups,
        standing,
        // By which receipt is between the sender and this server.
        superseded: record.superseded.map(|newer| Newer { at: newer.at, by: is_sender.then_some(newer.by) }),
        consignment: None,
        deliveries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Delivery;
    use crate::names::{Digest, DropId, ReceiptId};

    fn name(text: &str) -> UserName {
        text.parse().unwrap()
    }

    fn path(text: &str) -> VirtualPath {
        VirtualPath::parse(text.as_bytes()).unwrap()
    }

    fn record() -> DropRecord {
        let mut read = Delivery::new(name("lab"), path("/inbox/acme/a"), 0);
        (read.picked_up, read.last_pickup) = (2, Some(Time(1_500)));
        DropRecord {
            drop: DropId([1; 16]),
            receipt: ReceiptId([2; 16]),
            sender: name("acme"),
            sender_key: None,
            kind: DropKind::Drop,
            path: path("/out/a"),
            unlinked: None,
            deliveries: vec![read, Delivery::new(name("clinic"), path("/inbox/acme/a"), 1)],
            size: 5,
            sha256: Digest([3; 32]),
            sums: Default::default(),
            mtime: None,
            received: Time(1_000),
            expires: Some(Time(2_000)),
            pickups: None,
            bucket: None,
            state: DropState::Live,
            policy: Digest([4; 32]),
            superseded: None,
            escrow: None,
            order: None,
            moving: None,
            certified: None,
            unmatched_signature: None,
        }
    }

    #[test]
    fn a_sender_hears_of_all_recipients_and_a_recipient_of_itself() {
        let users = |user: &str| {
            told(&record(), &name(user), Time(1_999))
                .map(|told| told.deliveries.into_iter().map(|d| (d.user.to_string(), d.count)).collect::<Vec<_>>())
        };
        assert_eq!(users("acme"), Some(vec![("lab".to_owned(), 2), ("clinic".to_owned(), 0)]));
        assert_eq!(users("clinic"), Some(vec![("clinic".to_owned(), 0)]));
        assert_eq!(users("stranger"), None);
    }

    #[test]
    fn a_drop_is_expired_to_the_millisecond_and_destroyed_when_it_is() {
        let standing = |state, now| told(&DropRecord { state, ..record() }, &name("acme"), Time(now)).unwrap().standing;
        assert_eq!(standing(DropState::Live, 1_999), Standing::Live);
        assert_eq!(standing(DropState::Live, 2_000), Standing::Expired);
        assert_eq!(standing(DropState::Held, 3_000), Standing::Held);
        let at = Time(2_500);
        assert_eq!(standing(DropState::Expired { at }, 3_000), Standing::Destroyed { at });
        assert_eq!(standing(DropState::Superseded { at }, 1_500), Standing::Superseded { at });
    }
}
