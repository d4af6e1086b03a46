//! Reading at the keeper: whether a drop may be opened now, by whom, and with which key. Expiry is refused here to the
//! minute, whatever the sweep has or has not done yet; every opening and its end is a disclosure in the ledger.

use std::sync::Arc;

use super::desk::{Client, Refusal};
use super::{Keeper, blocking};
use crate::clock;
use crate::ipc::jail::{Answer, Key, Opened, Status};
use crate::ledger::{Batch, DropKind, DropRecord, DropState, Kind, Write};
use crate::names::DropId;
use crate::policy::{Inbox, Operation, Place};
use crate::seal::{Envelope, HEAD_LEN, HEADER_LEN, Head};
use crate::vpath::VirtualPath;

pub async fn open(
    keeper: &Arc<Keeper>,
    client: &Client,
    path: VirtualPath,
    header: Vec<u8>,
) -> Result<Answer, Refusal> {
    let grant = keeper.permit(client, &Operation::Read { path: &path })?;
    if header.len() != HEADER_LEN {
        return Err(Refusal::machine("an opening without a whole header"));
    }
    let (head, envelope) = header.split_at(HEAD_LEN);
    let head = Head::parse(head)?;
    let envelope = Envelope::parse(envelope)?;
    let drop = head.drop_id();
    let (worker, user) = (Arc::clone(keeper), client.user.clone());
    let (opened, size) = blocking(move || {
        let record = worker.ledger.drop_record(&drop)?;
        let record = record.ok_or_else(|| Refusal::not_there("the ledger does not know this drop"))?;
        readable(&record)?;
        let inbox = match grant.place() {
            Place::Inbox { .. } => {
                let delivered = record.deliveries.iter().any(|d| d.user == user && d.unlinked.is_none());
                if !delivered {
                    return Err(Refusal::not_there("the drop was not delivered to this user"));
                }
                grant.user().inbox.clone()
            }
            Place::Folder { .. } if record.sender == user && record.kind == DropKind::Shared => None,
            _ => return Err(Refusal::not_there("the drop is another user's, or in a folder that is not read")),
        };
        let opened = match inbox {
            Some(Inbox::Sealed { .. }) => {
                let envelope = worker.keys.without_shred(&head, &envelope)?;
                Opened::Sealed { drop, envelope: envelope.to_bytes() }
            }
            Some(Inbox::Managed { .. }) | None => {
                let key = worker.keys.open_envelope(&user, &head, &envelope)?;
                Opened::Managed { drop, file_key: Key(*key.expose()) }
            }
        };
        Ok((opened, record.size))
    })
    .await?;
    let mut event = keeper.event(client, Kind::DownloadOpened, Some(&path));
    event.drop = Some(drop);
    event.bytes = Some(size);
    keeper.record_event(event).await?;
    Ok(Answer::Opened(Box::new(opened)))
}

/// A drop is readable while it lives and until its exact expiry; held, until it is released.
pub(super) fn readable(record: &DropRecord) -> Result<(), Refusal> {
    let expired = |why: String| Refusal::rule(Status::NoSuchFile, "this file has expired", why);
    match (record.state, record.expires) {
        (DropState::Held, _) => Ok(()),
        (DropState::Live, Some(end)) if clock::now() >= end => Err(expired(format!("expired at {end}"))),
        (DropState::Live, _) => Ok(()),
        (state, _) => Err(expired(format!("the drop is {}", state.word()))),
    }
}

pub async fn pulled(
    keeper: &Arc<Keeper>,
    client: &Client,
    path: &VirtualPath,
    drop: DropId,
    bytes: u64,
    whole: bool,
) -> Result<Answer, Refusal> {
    let mut event = keeper.event(client, Kind::DownloadEnded, Some(path));
    event.drop = Some(drop);
    event.bytes = Some(bytes);
    if !whole {
        event.detail = Some("not every byte was sent".to_owned());
    }
    let at = event.at;
    let worker = Arc::clone(keeper);
    let record = blocking(move || Ok(worker.ledger.drop_record(&drop)?)).await?;
    let delivered = record.is_some_and(|r| r.deliveries.iter().any(|d| d.user == client.user));
    let mut writes = Vec::new();
    if whole && delivered {
        writes.push(Write::PickedUp { drop, user: client.user.clone(), at });
    }
    keeper.record(Batch { events: vec![event], writes, urgent: false }).await.map(|_| Answer::Done)
}

pub async fn corrupt(
    keeper: &Keeper,
    client: &Client,
    path: &VirtualPath,
    drop: DropId,
    what: String,
) -> Result<Answer, Refusal> {
    tracing::error!(user = %client.user, %path, %drop, what, "a drop is damaged");
    let mut event = keeper.event(client, Kind::Corrupt, Some(path)).failed(what);
    event.drop = Some(drop);
    keeper.record_event(event).await.map(|()| Answer::Done)
}
