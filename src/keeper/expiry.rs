//! Expiry. A drop comes due by the server's clock, counted from its receipt. The sweep destroys what is due in two recorded
//! steps, so that each destruction happens once in the ledger whatever crashes in between; when an expiry hour is over
//! and none of its drops is left, its shred key dies, and with it every copy of those drops anywhere.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::delivery::remove_if_there;
use super::desk::Refusal;
use super::{Keeper, blocking, crash, keys};
use crate::clock::Time;
use crate::ledger::{Batch, DropRecord, DropState, Event, Kind, Write};
use crate::names::{DropId, UserName};
use crate::seal::{HEAD_LEN, Head};
use crate::sys::files::{self, OFlag};
use crate::vpath::VirtualPath;

/// Drops handled between two looks at the ledger.
const PAGE: usize = 200;

/// What one sweep did.
#[derive(Default)]
pub struct Swept {
    pub expired: Vec<DropRecord>,
    pub destroyed_keys: u32,
}

/// Destroys everything that is due at `now`.
pub async fn sweep(keeper: &Arc<Keeper>, now: Time) -> Result<Swept, Refusal> {
    // One sweep at a time; a second waits and finds nothing left.
    let _turn = keeper.sweeping.lock().await;
    let mut swept = Swept::default();
    loop {
        // No sender of this page renames anything meanwhile: what the ledger says of paths stays true. In the order of
        // their names, so that two who wait for several turns never wait for each other.
        let senders: BTreeSet<UserName> = keeper.ledger.due(now, PAGE)?.into_iter().map(|r| r.sender).collect();
        let mut turns = Vec::with_capacity(senders.len());
        for sender in &senders {
            turns.push(keeper.turns.to_change(sender).await);
        }
        let mut due = keeper.ledger.due(now, PAGE)?;
        due.retain(|record| senders.contains(&record.sender));
        if due.is_empty() {
            break;
        }
        begin(keeper, &due, now).await?;
        crash::point("sweep-begun");
        let worker = Arc::clone(keeper);
        let gone = due.clone();
        blocking(move || gone.iter().try_for_each(|record| unlink(&worker, record))).await?;
        crash::point("sweep-unlinked");
        finish(keeper, &due, now).await?;
        crash::point("sweep-recorded");
        swept.expired.extend(due);
    }
    swept.destroyed_keys = destroy_keys(keeper, now).await?;
    if !swept.expired.is_empty() || swept.destroyed_keys > 0 {
        let mut event = Event::new(crate::clock::now(), Kind::SweepEnded);
        event.detail = Some(format!(
            "as of {now}: {} drops expired, {} shred keys destroyed",
            swept.expired.len(),
            swept.destroyed_keys
        ));
        keeper.record_event(event).await?;
    }
    Ok(swept)
}

/// Step 1. "This expires now" is durable. A crash after it: the drop is refused to everyone, and `due` names it first at the
/// next sweep, which goes on here.
async fn begin(keeper: &Keeper, due: &[DropRecord], now: Time) -> Result<(), Refusal> {
    let mut batch = Batch { urgent: true, ..Batch::default() };
    for record in due.iter().filter(|record| !matches!(record.state, DropState::Expiring { .. })) {
        batch.events.push(event(Kind::Expiring, record));
        batch.writes.push(Write::State { drop: record.drop, to: DropState::Expiring { since: now } });
    }
    if batch.events.is_empty() {
        return Ok(());
    }
    keeper.record(batch).await.map(drop)
}

/// Step 2. The names go, the sender's and each recipient's. A crash after any of them: done again, and what is gone is gone.
fn unlink(keeper: &Keeper, record: &DropRecord) -> Result<(), Refusal> {
    let own = record.unlinked.is_none().then_some((&record.sender, &record.path));
    let delivered = record.deliveries.iter().filter(|d| d.unlinked.is_none()).map(|d| (&d.user, &d.path));
    own.into_iter().chain(delivered).try_for_each(|(user, path)| unlink_one(keeper, user, path, record.drop))
}

/// Only the file that is this drop: a name may have been given to another since.
fn unlink_one(keeper: &Keeper, user: &UserName, path: &VirtualPath, drop: DropId) -> Result<(), Refusal> {
    let gone =
        |e: &std::io::Error| matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory);
    let tree = match keeper.state.tree(user) {
        Ok(tree) => tree,
        Err(e) if gone(&e) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let (dir, name) = match files::open_parent_beneath(tree.as_fd(), path.relative()) {
        Ok(found) => found,
        Err(e) if gone(&e) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    match drop_in(dir.as_fd(), std::path::Path::new(name)) {
        Ok(Some(found)) if found == drop => {
            remove_if_there(dir.as_fd(), name)?;
            Ok(files::sync(dir.as_fd())?)
        }
        Ok(_) => Ok(()),
        Err(e) if gone(&e) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Which drop the sealed file `name` is; `None` if it is not one.
pub fn drop_in(dir: std::os::fd::BorrowedFd<'_>, name: &std::path::Path) -> std::io::Result<Option<DropId>> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::from(files::open_beneath(dir, name, OFlag::O_RDONLY, files::Mode::empty())?);
    let mut head = [0; HEAD_LEN];
    match file.read_exact_at(&mut head, 0) {
        Ok(()) => Ok(Head::parse(&head).ok().map(|head| head.drop_id())),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

/// Step 3. "It is destroyed" is durable, once: the ledger refuses a second `Expired`.
async fn finish(keeper: &Keeper, due: &[DropRecord], now: Time) -> Result<(), Refusal> {
    let mut batch = Batch { urgent: true, ..Batch::default() };
    for record in due {
        batch.events.push(event(Kind::Expired, record));
        batch.writes.push(Write::State { drop: record.drop, to: DropState::Expired { at: now } });
    }
    keeper.record(batch).await.map(drop)
}

/// Step 4. The keys of hours that are over and have no drop left. The key is destroyed first, recorded second, its file
/// removed third: an event that claims a destruction which a crash prevented would be a lie. A crash after the first or
/// the second: the next sweep finds a file of zeros, and asks the ledger whether that is recorded.
async fn destroy_keys(keeper: &Arc<Keeper>, now: Time) -> Result<u32, Refusal> {
    let mut destroyed = 0;
    for bucket in keeper.keys.buckets()? {
        if keys::bucket_end(bucket) > now || keeper.ledger.live_in_bucket(bucket)? > 0 {
            continue;
        }
        let worker = Arc::clone(keeper);
        let detail = format!("bucket {bucket}, until {}", keys::bucket_end(bucket));
        let looked_for = detail.clone();
        let recorded = blocking(move || {
            let before = worker.keys.destroy_bucket(bucket)?;
            Ok(before && destruction_is_recorded(&worker, &looked_for)?)
        })
        .await?;
        crash::point("sweep-key-destroyed");
        if !recorded {
            let mut event = Event::new(crate::clock::now(), Kind::ShredKeyDestroyed);
            event.detail = Some(detail);
            keeper.record(Batch { events: vec![event], urgent: true, ..Batch::default() }).await?;
            destroyed += 1;
        }
        crash::point("sweep-key-recorded");
        let worker = Arc::clone(keeper);
        blocking(move || Ok(worker.keys.forget_bucket(bucket)?)).await?;
    }
    Ok(destroyed)
}

/// Reads the whole log: only a crash in the middle of a destruction asks this.
fn destruction_is_recorded(keeper: &Keeper, detail: &str) -> Result<bool, Refusal> {
    const EVENTS: usize = 1_000;
    let kind = format!("\"{}\"", Kind::ShredKeyDestroyed.word());
    let mut from = 0;
    loop {
        let page = keeper.ledger.events(from, EVENTS)?;
        let Some((last, _)) = page.last() else { return Ok(false) };
        from = last + 1;
        if page.iter().any(|(_, text)| text.contains(&kind) && text.contains(detail)) {
            return Ok(true);
        }
    }
}

fn event(kind: Kind, record: &DropRecord) -> Event {
    let mut event = Event::new(crate::clock::now(), kind);
    event.user = Some(record.sender.clone());
    event.path = Some(record.path.clone());
    event.drop = Some(record.drop);
    event.receipt = Some(record.receipt);
    event.bytes = Some(record.size);
    event.sha256 = Some(record.sha256);
    event.policy = Some(record.policy);
    let never = record.deliveries.iter().filter(|d| d.picked_up == 0).count();
    event.detail = (never > 0).then(|| format!("not picked up by {never} of {} recipients", record.deliveries.len()));
    event
}
