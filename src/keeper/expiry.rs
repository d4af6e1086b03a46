//! Expiry. A drop comes due by the server's clock, counted from its receipt. The sweep destroys what is due in two recorded
//! steps, so that each destruction happens once in the ledger whatever crashes in between; when an expiry hour is over
//! and none of its drops is left, its shred key dies, and with it every copy of those drops anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::delivery::{COMMIT, remove_if_there};
use super::desk::Refusal;
use super::keys::{Bucket, KeyError};
use super::state::STAGING;
use super::{Keeper, blocking, certificates, consignments, crash, names, rejected};
use crate::clock::Time;
use crate::ledger::{Batch, DropRecord, DropState, Event, Kind, Ordered, Write};
use crate::names::{DropId, UserName};
use crate::seal::{HEAD_LEN, Head, SealError};
use crate::sys::files::{self, OFlag};
use crate::vpath::VirtualPath;

/// Drops handled between two looks at the ledger.
const PAGE: usize = 200;

/// What one sweep did.
#[derive(Default)]
pub struct Swept {
    pub expired: Vec<DropRecord>,
    pub destroyed_keys: u32,
    /// Drops and keys that could not be destroyed; the next sweep tries again.
    pub failed: usize,
}

/// Destroys everything that is due at `now`. What cannot be destroyed keeps nothing else from it.
pub async fn sweep(keeper: &Arc<Keeper>, now: Time) -> Result<Swept, Refusal> {
    // One sweep at a time; a second waits and finds nothing left.
    let _turn = keeper.sweeping.lock().await;
    let mut swept = Swept::default();
    let mut failed = BTreeSet::new();
    loop {
        let by_sender = due(keeper, now, &failed).await?;
        if by_sender.is_empty() {
            break;
        }
        for (sender, drops) in by_sender {
            // The sender renames nothing and nobody removes what it delivered meanwhile: what the ledger says of paths
            // stays true. One turn at a time, so that nobody waits for another sender's transfers.
            let _turn = keeper.turns.to_change(&sender).await;
            match destroy(keeper, &drops, now).await {
                Ok(records) => swept.expired.extend(records),
                Err(_) => {
                    for drop in &drops {
                        match destroy(keeper, &[*drop], now).await {
                            Ok(records) => swept.expired.extend(records),
                            Err(e) => tracing::error!(%drop, why = e.why, "a drop that is due was not destroyed"),
                        }
                    }
                }
            }
            failed.extend(drops);
        }
        for record in &swept.expired {
            failed.remove(&record.drop);
        }
    }
    swept.failed = failed.len();
    destroy_keys(keeper, now, &mut swept).await?;
    rejected::forget_old(keeper, now).await?;
    consignments::close_due(keeper, now).await?;
    if !swept.expired.is_empty() || swept.destroyed_keys > 0 || swept.failed > 0 {
        let mut event = Event::new(crate::clock::now(), Kind::SweepEnded);
        event.detail = Some(format!(
            "as of {now}: {} drops expired, {} shred keys destroyed",
            swept.expired.len(),
            swept.destroyed_keys
        ));
        if swept.failed > 0 {
            event = event.failed(format!("{} could not be destroyed", swept.failed));
        }
        keeper.record_event(event).await?;
    }
    Ok(swept)
}

/// A page of what is due, by sender, without those that `failed` before.
async fn due(
    keeper: &Arc<Keeper>,
    now: Time,
    failed: &BTreeSet<DropId>,
) -> Result<BTreeMap<UserName, Vec<DropId>>, Refusal> {
    let (worker, limit) = (Arc::clone(keeper), PAGE + failed.len());
    let records = blocking(move || Ok(worker.ledger.due(now, limit)?)).await?;
    let mut by_sender = BTreeMap::<_, Vec<_>>::new();
    for record in records.into_iter().filter(|record| !failed.contains(&record.drop)) {
        by_sender.entry(record.sender).or_default().push(record.drop);
    }
    Ok(by_sender)
}

/// Destroys those of one sender's `drops` that are due still, or were ordered to be shredded. The caller has the sender's turn.
pub async fn destroy(keeper: &Arc<Keeper>, drops: &[DropId], now: Time) -> Result<Vec<DropRecord>, Refusal> {
    let (worker, drops) = (Arc::clone(keeper), drops.to_vec());
    let due = blocking(move || {
        let mut due = Vec::with_capacity(drops.len());
        for id in &drops {
            due.extend(worker.ledger.drop_record(id)?.filter(|record| match record.state {
                DropState::Expiring { .. } => true,
                state => state.can_come_due() && record.expires.is_some_and(|at| at <= now),
            }));
        }
        Ok(due)
    })
    .await?;
    begin(keeper, &due, now).await?;
    crash::point("sweep-begun");
    let (worker, gone) = (Arc::clone(keeper), due.clone());
    blocking(move || unlink(&worker, &gone)).await?;
    crash::point("sweep-unlinked");
    let (worker, gone) = (Arc::clone(keeper), due.clone());
    let keyless = blocking(move || forget(&worker, &gone)).await?;
    crash::point("shred-forgotten");
    finish(keeper, &due, &keyless, now).await?;
    crash::point("sweep-recorded");
    Ok(due)
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
fn unlink(keeper: &Keeper, due: &[DropRecord]) -> Result<(), Refusal> {
    // A crash between a rename and its record leaves a file elsewhere than the ledger says: then it is looked for.
    let mut missing = BTreeMap::<&UserName, BTreeSet<DropId>>::new();
    for record in due {
        let own = record.unlinked.is_none().then_some((&record.sender, &record.path));
        let delivered = record.deliveries.iter().filter(|d| d.unlinked.is_none()).map(|d| (&d.user, &d.path));
        for (user, path) in own.into_iter().chain(delivered) {
            if !unlink_one(keeper, user, path, record.drop)? {
                missing.entry(user).or_default().insert(record.drop);
            }
        }
    }
    for (user, drops) in missing {
        match keeper.state.tree(user) {
            Ok(tree) => unlink_below(tree.as_fd(), Path::new(""), &drops)?,
            Err(e) if gone(&e) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn gone(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Only the file that is this drop: a name may have been given to another since. Says whether it was there.
fn unlink_one(keeper: &Keeper, user: &UserName, path: &VirtualPath, drop: DropId) -> Result<bool, Refusal> {
    let found = keeper.state.tree(user).and_then(|tree| {
        let (dir, name) = files::open_parent_beneath(tree.as_fd(), path.relative())?;
        let found = drop_in(dir.as_fd(), name)? == Some(drop);
        if found {
            remove_if_there(dir.as_fd(), name)?;
        }
        // Also if it is gone: a run that a crash ended may have removed it and not come to this.
        files::sync(dir.as_fd())?;
        Ok(found)
    });
    match found {
        Err(e) if gone(&e) => Ok(false),
        other => Ok(other?),
    }
}

/// The same for all of a tree: whatever name these drops have there. The depth is bounded by `VirtualPath::MAX_DEPTH`.
fn unlink_below(dir: BorrowedFd<'_>, rel: &Path, drops: &BTreeSet<DropId>) -> Result<(), Refusal> {
    let dir = files::open_dir_beneath(dir, rel)?;
    for entry in files::list(dir.as_fd())? {
        let name = OsString::from_vec(entry?.name);
        // Uploads and commits under way are no drops yet.
        if name == STAGING || name == COMMIT {
            continue;
        }
        match files::facts_at(dir.as_fd(), &name).map(|facts| facts.kind) {
            Ok(files::Kind::Folder) => unlink_below(dir.as_fd(), Path::new(&name), drops)?,
            Ok(files::Kind::File) => {
                if drop_in(dir.as_fd(), &name)?.is_some_and(|drop| drops.contains(&drop)) {
                    remove_if_there(dir.as_fd(), &name)?;
                    files::sync(dir.as_fd())?;
                }
            }
            Ok(files::Kind::Other) => {}
            Err(e) if gone(&e) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Which drop the sealed file `name` is; `None` if it is not one.
fn drop_in(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<DropId>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    drop_of(&File::from(files::open_beneath(dir, Path::new(name), flags, files::Mode::empty())?))
}

/// Which drop a sealed file is, finished or not; `None` for any other file.
pub fn drop_of(file: &File) -> io::Result<Option<DropId>> {
    let mut head = [0; HEAD_LEN];
    match file.read_exact_at(&mut head, 0) {
        Ok(()) => Ok(Head::parse(&head).ok().map(|head| head.drop_id())),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

/// Step 3, of what was shredded, and of what had left its bucket for one without an end: the buckets' keys forget it. Answers
/// which no key leads to any more; the others' dies with their bucket. A crash: done again, and what is forgotten is forgotten.
fn forget(keeper: &Keeper, due: &[DropRecord]) -> Result<BTreeSet<DropId>, Refusal> {
    let mut of_bucket = BTreeMap::<u64, Vec<DropId>>::new();
    let mut keyless = BTreeSet::new();
    for record in due {
        let buckets = || record.bucket.into_iter().chain(record.moving);
        if is_shredded(record) || buckets().any(Bucket::is_endless) {
            keyless.insert(record.drop);
            buckets().for_each(|bucket| of_bucket.entry(bucket).or_default().push(record.drop));
        }
    }
    for (bucket, drops) in of_bucket {
        match keeper.keys.forget_drops(bucket, &drops) {
            Ok(()) => {}
            Err(KeyError::Seal(SealError::Limit(why))) => {
                tracing::error!(
                    bucket,
                    why,
                    "drops cannot be forgotten one by one any more: their key dies with the bucket"
                );
                keyless.retain(|drop| !drops.contains(drop));
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(keyless)
}

fn is_shredded(record: &DropRecord) -> bool {
    record.order.as_ref().is_some_and(|order| order.what == Ordered::Shred)
}

/// Step 4. "It is destroyed" is durable, once: the ledger refuses a second `Expired`. What no key leads to is certified.
async fn finish(
    keeper: &Arc<Keeper>,
    due: &[DropRecord],
    keyless: &BTreeSet<DropId>,
    now: Time,
) -> Result<(), Refusal> {
    let (worker, due, keyless) = (Arc::clone(keeper), due.to_vec(), keyless.clone());
    let batch = blocking(move || {
        let mut batch = Batch { urgent: true, ..Batch::default() };
        for record in &due {
            let kind = if is_shredded(record) { Kind::Shredded } else { Kind::Expired };
            batch.events.push(event(kind, record));
            batch.writes.push(Write::State { drop: record.drop, to: DropState::Expired { at: now } });
            if keyless.contains(&record.drop) {
                let key_destroyed = record.bucket.map(|_| now);
                let at = batch.events.len();
                let (event, write) = certificates::certificate(&worker, record, now, key_destroyed, at)?;
                batch.events.push(event);
                batch.writes.push(write);
            }
        }
        Ok(batch)
    })
    .await?;
    keeper.record(batch).await.map(drop)
}

/// Step 5. The keys of buckets that are over and have no drop left.
async fn destroy_keys(keeper: &Arc<Keeper>, now: Time, swept: &mut Swept) -> Result<(), Refusal> {
    let worker = Arc::clone(keeper);
    for bucket in blocking(move || Ok(worker.keys.buckets()?)).await? {
        let past = match Bucket::of(bucket) {
            // What was delivered may have been moved since, and what is to be is under other buckets.
            Bucket::Expiry { end } => end <= now,
            Bucket::Uploads { end } => end <= now && !keeper.waiting.needs(bucket),
            Bucket::Pickups { until } => until <= now,
            Bucket::Names { end } => end <= now,
            Bucket::Hold => true,
        };
        if !past {
            continue;
        }
        match destroy_key(keeper, bucket, now).await {
            Ok(true) => swept.destroyed_keys += 1,
            Ok(false) => {}
            Err(refusal) => {
                tracing::error!(bucket, why = refusal.why, "a shred key that is due was not destroyed");
                swept.failed += 1;
            }
        }
    }
    Ok(())
}

/// The key is destroyed first, recorded second, its file removed third: an event that claims a destruction which a crash
/// prevented would be a lie. A crash after the first or the second: the next sweep finds a file of zeros, and asks the
/// ledger whether that is recorded. Answers whether it is recorded by this call.
async fn destroy_key(keeper: &Arc<Keeper>, bucket: u64, now: Time) -> Result<bool, Refusal> {
    let detail = Bucket::told(bucket);
    let (worker, looked_for) = (Arc::clone(keeper), detail.clone());
    let to_record = blocking(move || {
        if worker.ledger.live_in_bucket(bucket)? > 0 {
            return Ok(None);
        }
        let before = worker.keys.destroy_bucket(bucket)?;
        Ok(Some(!(before && destruction_is_recorded(&worker, &looked_for)?)))
    })
    .await?;
    let Some(to_record) = to_record else { return Ok(false) };
    crash::point("sweep-key-destroyed");
    if to_record {
        let mut event = Event::new(crate::clock::now(), Kind::ShredKeyDestroyed);
        event.detail = Some(detail);
        keeper.record(Batch { events: vec![event], urgent: true, ..Batch::default() }).await?;
    }
    crash::point("sweep-key-recorded");
    certificates::certify(keeper, bucket, now).await?;
    if matches!(Bucket::of(bucket), Bucket::Names { .. }) {
        names::forget(keeper, now).await?;
    }
    crash::point("sweep-key-certified");
    let worker = Arc::clone(keeper);
    blocking(move || Ok(worker.keys.forget_bucket(bucket)?)).await?;
    Ok(to_record)
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
