//! Reading at the keeper: whether a drop may be opened now, by whom, and with which key. Expiry is refused here to the
//! minute, whatever the sweep has or has not done yet; every opening and its end is a disclosure in the ledger.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::desk::{Client, Refusal};
use super::keys::KeyError;
use super::{Keeper, blocking, pickups, readdress};
use crate::clock;
use crate::ipc::jail::{Answer, Key, Opened, Status};
use crate::ledger::{Batch, DisclosureFacts, DropKind, DropRecord, DropState, Kind, PaperFacts, Write};
use crate::names::{DropId, UserName};
use crate::policy::{Inbox, Operation, Place};
use crate::seal::{Envelope, FileKey, HEAD_LEN, HEADER_LEN, Head, Mode as SealedMode, Recipient, SealError};
use crate::shown::Shown;
use crate::sys::files::{self, Mode, OFlag};
use crate::vpath::VirtualPath;

/// What is at `path`, to its reader. A file that is not what the ledger says stands there is looked at once more when nobody
/// changes names; what is wrong with it then is damage, and in the ledger before the reader hears that there is any.
pub async fn open(
    keeper: &Arc<Keeper>,
    client: &Arc<Client>,
    path: VirtualPath,
    header: Vec<u8>,
) -> Result<Answer, Refusal> {
    let found = match find(keeper, client, &path, header.clone()).await? {
        Found::Damaged { .. } => {
            let _turn = keeper.turns.to_change_at(&client.user, &path).await;
            let (worker, user, at) = (Arc::clone(keeper), client.user.clone(), path.clone());
            let now = blocking(move || Ok(header_at(&worker, &user, &at)?)).await?;
            if Head::parse(&now).ok() != Head::parse(&header).ok() {
                const SAY: &str = "this name was given to another file just now: ask again";
                return Err(Refusal::rule(Status::Failure, SAY, "the file was exchanged while it was opened"));
            }
            find(keeper, client, &path, now).await?
        }
        found => found,
    };
    match found {
        Found::Good(opened, drop, size) => {
            let mut event = keeper.event(client, Kind::DownloadOpened, Some(&path));
            event.drop = Some(drop);
            event.bytes = Some(size);
            let at = event.at;
            keeper.record_event(event).await?;
            client.openings.begin(drop, at);
            Ok(Answer::Opened(opened))
        }
        Found::Damaged { drop, what } => {
            corrupt(keeper, client, &path, drop, what.clone()).await?;
            Err(Refusal { say: "this file is damaged", ..Refusal::machine(what) })
        }
    }
}

enum Found {
    Good(Box<Opened>, DropId, u64),
    /// The file is not, or not any more, the drop that was put there.
    Damaged {
        drop: DropId,
        what: String,
    },
}

async fn find(
    keeper: &Arc<Keeper>,
    client: &Arc<Client>,
    path: &VirtualPath,
    header: Vec<u8>,
) -> Result<Found, Refusal> {
    let (worker, client, path) = (Arc::clone(keeper), Arc::clone(client), path.clone());
    blocking(move || {
        let grant = worker.permit(&client, &Operation::Read { path: &path })?;
        let user = &client.user;
        let record = worker.ledger.drop_at(user, &path)?;
        let record = record.ok_or_else(|| Refusal::not_there("the ledger knows no drop at this path"))?;
        readable(&record)?;
        let inbox = match grant.place() {
            Place::Inbox { .. } => {
                let delivered = record.deliveries.iter().any(|d| d.user == *user && d.unlinked.is_none());
                if !delivered {
                    return Err(Refusal::not_there("the drop was not delivered to this user"));
                }
                if !record.may_pick_up(user) {
                    return Err(expired("the user has picked it up as often as it may"));
                }
                grant.user().inbox.clone()
            }
            Place::Folder { .. } if record.sender == *user && record.kind == DropKind::Shared => None,
            _ => return Err(Refusal::not_there("the drop is another user's, or in a folder that is not read")),
        };
        let damaged = |what: &str| Ok(Found::Damaged { drop: record.drop, what: what.to_owned() });
        let Some((head, envelope)) = header.split_at_checked(HEAD_LEN).filter(|_| header.len() == HEADER_LEN) else {
            return damaged("the file is shorter than its head and envelope");
        };
        let Ok(head) = Head::parse(head) else { return damaged("its head is not that of a sealed file") };
        let drop = head.drop_id();
        if drop != record.drop {
            return damaged(&format!("another file stands in its place, which says that it is {drop}"));
        }
        let Ok(envelope) = Envelope::parse(envelope) else {
            return damaged("its envelope breaks a rule of the format");
        };
        let (size, sha256, counted) = (record.size, record.sha256, record.pickups.is_some());
        let own_key = match &inbox {
            Some(Inbox::Sealed { recipient }) => Some(recipient.as_str()),
            Some(Inbox::Managed { .. } | Inbox::EndToEnd { .. }) | None => None,
        };
        let opened = if own_key.is_some() || head.mode() == SealedMode::Sealed {
            sealed_envelope(&worker, &record, &head, &envelope, own_key).map(|envelope| Opened::Sealed {
                drop,
                size,
                envelope: envelope.to_bytes(),
                counted,
            })
        } else {
            file_key(&worker, &record, user, &head, &envelope).map(|key| Opened::Managed {
                drop,
                file_key: Key(*key.expose()),
                size,
                sha256,
                counted,
            })
        };
        match opened {
            Ok(opened) => Ok(Found::Good(Box::new(opened), drop, size)),
            // The keys are there and the envelope is not what was wrapped for them.
            Err(KeyError::Seal(error)) => damaged(&format!("its envelope does not open: {error}")),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

/// The envelope that a recipient's own key opens. A drop that came when policy said otherwise, and that the server can open,
/// gets one that is made for this reading; the file stays as it is.
fn sealed_envelope(
    keeper: &Keeper,
    record: &DropRecord,
    head: &Head,
    envelope: &Envelope,
    own_key: Option<&str>,
) -> Result<Envelope, KeyError> {
    let inner = keeper.keys.without_shred(head, envelope)?;
    let to: Option<Recipient> = own_key.and_then(|key| key.parse().ok());
    let Some(to) = to.filter(|to| head.mode() != SealedMode::Sealed && !inner.stanza_ids().contains(&to.stanza_id()))
    else {
        return Ok(inner);
    };
    match readdress::open(keeper, record, head, envelope)? {
        Some(key) => Ok(inner.rewrap(head, &key, &inner.stanza_ids(), &[to])?),
        // To a key that it had before: who has that can open it.
        None => Ok(inner),
    }
}

/// The file key of a drop that the server opens: by the identity that it keeps of `user` or, if the drop came when `user` had
/// a key of its own, by that of another whom it was delivered to.
fn file_key(
    keeper: &Keeper,
    record: &DropRecord,
    user: &UserName,
    head: &Head,
    envelope: &Envelope,
) -> Result<FileKey, KeyError> {
    match keeper.keys.open_envelope(user, head, envelope) {
        Err(error @ (KeyError::Missing { .. } | KeyError::Seal(SealError::NotForThisIdentity))) => {
            readdress::open(keeper, record, head, envelope)?.ok_or(error)
        }
        opened => opened,
    }
}

/// The first bytes of what is at `path` on disk: of a file that was cut, what there is.
fn header_at(keeper: &Keeper, user: &UserName, path: &VirtualPath) -> std::io::Result<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let tree = keeper.state.tree(user)?;
    let file = File::from(files::open_beneath(tree.as_fd(), path.relative(), flags, Mode::empty())?);
    let mut header = Vec::with_capacity(HEADER_LEN);
    file.take(HEADER_LEN as u64).read_to_end(&mut header)?;
    Ok(header)
}

/// A drop is readable while it lives and until its exact expiry; held, until it is released.
pub(super) fn readable(record: &DropRecord) -> Result<(), Refusal> {
    match (record.state, record.expires) {
        (DropState::Held, _) => Ok(()),
        (DropState::Live, Some(end)) if clock::now() >= end => Err(expired(&format!("expired at {end}"))),
        (DropState::Live, _) => Ok(()),
        (state, _) => Err(expired(&format!("the drop is {}", state.word()))),
    }
}

fn expired(why: &str) -> Refusal {
    Refusal::rule(Status::NoSuchFile, "this file has expired", why)
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
    event.ms = client.openings.end(&drop).and_then(|since| u64::try_from(event.at.since(since).as_millis()).ok());
    if !whole {
        event.detail = Some("not every byte was sent".to_owned());
    }
    let at = event.at;
    let worker = Arc::clone(keeper);
    let record = blocking(move || Ok(worker.ledger.drop_record(&drop)?)).await?;
    // One's own shared file is disclosed to nobody, and neither is what was opened and not read.
    let delivered = record.filter(|record| record.deliveries.iter().any(|d| d.user == client.user));
    let mut batch = Batch { events: vec![event], patient: true, ..Batch::default() };
    if let Some(record) = delivered.filter(|_| whole || bytes > 0) {
        let facts = DisclosureFacts {
            drop,
            sha256: record.sha256,
            size: record.size,
            sender: record.sender.clone(),
            recipient: client.user.clone(),
            key: client.key.clone(),
            address: client.address,
            path: path.clone(),
            bytes,
            whole,
            at,
            policy: keeper.policy().digest,
        };
        batch.writes.push(Write::PickedUp { drop, user: client.user.clone(), at, whole });
        batch.writes.push(Write::Paper { event: 0, facts: PaperFacts::Disclosure(facts) });
        if whole && record.pickups.is_some() {
            return pickups::count(keeper, client, &record, batch).await.map(|()| Answer::Done);
        }
    }
    keeper.record(batch).await.map(|_| Answer::Done)
}

pub async fn corrupt(
    keeper: &Keeper,
    client: &Client,
    path: &VirtualPath,
    drop: DropId,
    what: String,
) -> Result<Answer, Refusal> {
    tracing::error!(user = %client.user, path = %Shown(&path), %drop, what, "a drop is damaged");
    let mut event = keeper.event(client, Kind::Corrupt, Some(path)).failed(what);
    event.drop = Some(drop);
    keeper.record_event(event).await.map(|()| Answer::Done)
}
