//! Certificates of destruction: what is known of a drop that is gone is put together here; the ledger writes and signs it.
//! Of what expired they are given when its bucket's key is destroyed, of what was shredded at once.

use std::sync::Arc;

use super::desk::{Client, Refusal};
use super::{Keeper, blocking};
use crate::clock::{self, Time};
use crate::ipc::jail::Answer;
use crate::ledger::{
    Batch, CertificateFacts, CertifiedRecipient, DropRecord, DropState, Event, Kind, Ordered, Receipt, Write,
};
use crate::names::UserName;
use crate::policy::Operation;
use crate::vpath::VirtualPath;

/// Certificates in one batch.
const PAGE: usize = 100;

/// The event and the write of a drop's certificate, for a batch that has `events` already.
pub fn certificate(
    keeper: &Keeper,
    record: &DropRecord,
    destroyed: Time,
    key_destroyed: Option<Time>,
    events: usize,
) -> Result<(Event, Write), Refusal> {
    // Path and keys as the receipt has them: the sender may have renamed its entry since.
    let receipt = keeper.ledger.receipt(&record.receipt)?.and_then(|receipt| Receipt::parse(&receipt.text).ok());
    let receipt = receipt.map(|receipt| receipt.facts);
    let key_of = |user: &UserName| {
        let known = receipt.as_ref()?.recipients.iter().find(|recipient| recipient.user == *user)?;
        known.key.clone()
    };
    let recipients = record.deliveries.iter().map(|delivery| CertifiedRecipient {
        user: delivery.user.clone(),
        key: key_of(&delivery.user),
        pulled: delivery.picked_up,
    });
    let facts = CertificateFacts {
        drop: record.drop,
        receipt: record.receipt,
        sha256: record.sha256,
        size: record.size,
        sender: record.sender.clone(),
        sender_key: record.sender_key.clone(),
        recipients: recipients.collect(),
        path: receipt.map_or_else(|| record.path.clone().into(), |facts| facts.path),
        received: record.received,
        expires: record.expires,
        order: record.order.clone().filter(|order| order.what == Ordered::Shred),
        destroyed,
        key_destroyed,
    };
    let mut event = Event::new(clock::now(), Kind::DestructionCertified);
    event.user = Some(record.sender.clone());
    event.path = Some(record.path.clone());
    event.drop = Some(record.drop);
    event.receipt = Some(record.receipt);
    Ok((event, Write::Certificate { event: events, facts }))
}

/// The key of `bucket` is destroyed, at `now`: what expired in it is certified. A crash leaves the rest for the next sweep,
/// which finds the key's file of zeros.
pub async fn certify(keeper: &Arc<Keeper>, bucket: u64, now: Time) -> Result<(), Refusal> {
    loop {
        let worker = Arc::clone(keeper);
        let batch = blocking(move || {
            let mut batch = Batch { urgent: true, ..Batch::default() };
            for record in worker.ledger.uncertified(bucket, PAGE)? {
                let DropState::Expired { at } = record.state else { continue };
                let (event, write) = certificate(&worker, &record, at, Some(now), batch.events.len())?;
                batch.events.push(event);
                batch.writes.push(write);
            }
            Ok(batch)
        })
        .await?;
        if batch.events.is_empty() {
            return Ok(());
        }
        keeper.record(batch).await?;
    }
}

/// `path` is where the drop was, as its receipt has it, or the name of the certificate itself.
pub async fn read(keeper: &Arc<Keeper>, client: &Client, path: VirtualPath) -> Result<Answer, Refusal> {
    let _checked = keeper.permit(client, &Operation::ReadReceipt { path: &path })?;
    let (worker, user, asked) = (Arc::clone(keeper), client.user.clone(), path.clone());
    let found = blocking(move || {
        let receipt = worker.ledger.receipt_at(&user, &asked)?;
        Ok(match receipt {
            Some(receipt) => worker.ledger.certificate(&receipt.drop)?,
            None => worker.ledger.certificate_file(&user, &asked)?.map(|(certificate, _)| certificate),
        })
    });
    let certificate = found.await?.ok_or_else(|| Refusal::not_there("no certificate of destruction for this path"))?;
    let mut event = keeper.event(client, Kind::ReceiptRead, Some(&path));
    event.drop = Some(certificate.drop);
    keeper.record_event(event).await?;
    Ok(Answer::Certificate { text: certificate.text, signature: certificate.signature, at: certificate.at })
}
