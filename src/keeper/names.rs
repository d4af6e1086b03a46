//! Hidden names at the keeper: the key that a day's names are sealed with, for the auditor alone, and until they expire. The
//! server keeps no copy of it, so what was sealed before the last start it cannot open itself. docs/ledger.md, "Hidden names".

use std::sync::Arc;
use std::sync::atomic::Ordering;

use zeroize::Zeroizing;

use super::desk::Refusal;
use super::keys::{Bucket, Keys, names_bucket_of};
use super::{Keeper, KeeperError, blocking};
use crate::clock::Time;
use crate::config::{Audit, Settings};
use crate::ipc::admin::{NamesKeyRow, NamesRow, ToCommand};
use crate::ledger::{Batch, Event, Hiding, Kind, Ledger, NamesKey, NamesKeyRecord, Write};
use crate::names::DropId;
use crate::seal::{Envelope, FileKey, Head, Mode, Recipient};
use crate::sys::durable;

/// In the state directory, from before the first name is sealed in the journal: what that was done with is never made anew.
pub const MARK: &str = "names-hidden";

/// Records of hidden names in one answer: each is some hundred bytes.
const PAGE: usize = 96;

/// Records looked at in one go. The longest keys make it a frame that the journal takes.
const WALK: usize = 2_000;

/// Bytes of them in one answer.
const BYTES: usize = 32 * 1024;

/// What hides names in the ledger, if they are hidden or ever were. Called before the ledger is opened: a crash just after
/// the key is made leaves one that nothing is sealed with, and no mark.
pub fn hiding(settings: &Settings, keys: &Keys) -> Result<Option<Arc<Hiding>>, KeeperError> {
    let hides = settings.audit.auditor.is_some();
    let mark = settings.state.join(MARK);
    let marked = mark.try_exists()?;
    let Some(key) = keys.names_key(hides && !marked)? else {
        // Where names are hidden no longer, the journal says itself whether it needs the key.
        return if hides { Err(keys.names_missing().into()) } else { Ok(None) };
    };
    if !marked {
        durable::replace(&mark, b"Names in the ledger's journal are sealed with keys/names.\n")?;
    }
    Ok(Some(Arc::new(Hiding::new(key, hides))))
}

/// Has a key for the names of `now`'s day: before anything is recorded, and with each sweep. A crash just after the key is
/// recorded leaves one that nothing is sealed with.
pub fn turn(keeper: &Keeper, now: Time) -> Result<(), Refusal> {
    let audit = &keeper.settings.audit;
    let bucket = names_bucket_of(now, audit.names_expire);
    if keeper.names_bucket.load(Ordering::SeqCst) == bucket {
        return Ok(());
    }
    draw(&keeper.ledger, &keeper.keys, audit, now)?;
    // Only now: what failed, on a full disk say, the next sweep tries again.
    keeper.names_bucket.store(bucket, Ordering::SeqCst);
    Ok(())
}

/// A new key for the names of `now`'s day, recorded and then used, if names are hidden.
pub fn draw(ledger: &Ledger, keys: &Keys, audit: &Audit, now: Time) -> Result<(), Refusal> {
    let Some(auditor) = &audit.auditor else { return Ok(()) };
    let bucket = names_bucket_of(now, audit.names_expire);
    let auditor: Recipient = auditor.parse().map_err(Refusal::machine)?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(Refusal::machine)?;
    let (id, key) = (DropId(id), FileKey::generate()?);
    let head = Head::new(id, Mode::Sealed, &key)?;
    let inner = Envelope::wrap(&head, &key, &[auditor])?;
    let (envelope, made) = keys.with_shred(&head, &inner, bucket)?;
    let mut batch = Batch { urgent: true, ..Batch::default() };
    if made {
        let mut event = Event::new(now, Kind::ShredKeyMade);
        event.detail = Some(Bucket::told(bucket));
        batch.events.push(event);
    }
    let record = NamesKeyRecord { id, bucket, head: head.to_bytes().to_vec(), envelope: envelope.to_bytes() };
    batch.writes.push(Write::NamesKey(record));
    ledger.commit(batch)?;
    ledger.seal_names_with(NamesKey { id, key: Zeroizing::new(*key.expose()) });
    Ok(())
}

/// The same, where others must not wait for it.
pub async fn turn_later(keeper: &Arc<Keeper>, now: Time) {
    let worker = Arc::clone(keeper);
    if let Err(refusal) = blocking(move || turn(&worker, now)).await {
        tracing::error!(why = refusal.why, "there is no new key for hidden names; the last one is used on");
    }
}

/// What the live database still calls by a name that may not be read any more is forgotten there: with each key of names that
/// is destroyed. A crash in between: the key's file of zeros has the next sweep do it again.
pub async fn forget(keeper: &Arc<Keeper>, now: Time) -> Result<(), Refusal> {
    let audit = &keeper.settings.audit;
    if audit.auditor.is_none() {
        return Ok(());
    }
    let before = Time(now.0.saturating_sub(u64::try_from(audit.names_expire.as_millis()).unwrap_or(u64::MAX)));
    let mut from = None;
    loop {
        let (worker, place) = (Arc::clone(keeper), from.take());
        let (over, next) = blocking(move || Ok(worker.ledger.names_over(before, place, WALK)?)).await?;
        if !over.is_empty() {
            let writes = vec![Write::NamesOver(over)];
            keeper.record(Batch { writes, urgent: true, ..Batch::default() }).await?;
        }
        match next {
            Some(next) => from = Some(next),
            None => return Ok(()),
        }
    }
}

/// A page of what is hidden of the events from number `from` on, sealed as it is kept.
pub fn page(keeper: &Keeper, from: u64) -> Result<ToCommand, String> {
    let found = keeper.ledger.hidden_names(from, PAGE).map_err(|e| e.to_string())?;
    let mut bytes = 0;
    let within = found.into_iter().take_while(|names| {
        let first = bytes == 0;
        bytes += names.sealed.len();
        first || bytes <= BYTES
    });
    let rows = within.map(|names| NamesRow { event: names.event, key: names.key, sealed: names.sealed });
    Ok(ToCommand::Names { rows: rows.collect() })
}

/// A key, as only the auditor's identity opens it; nothing once its bucket's key is destroyed.
pub fn key(keeper: &Keeper, id: &DropId) -> Result<ToCommand, String> {
    let Some(record) = keeper.ledger.names_key(id).map_err(|e| e.to_string())? else {
        return Ok(ToCommand::NamesKey { found: None });
    };
    let opened = Head::parse(&record.head).and_then(|head| Ok((Envelope::parse(&record.envelope)?, head)));
    let (envelope, head) = opened.map_err(|e| e.to_string())?;
    let found = keeper.keys.without_shred(&head, &envelope).ok();
    Ok(ToCommand::NamesKey {
        found: found.map(|envelope| NamesKeyRow { head: record.head, envelope: envelope.to_bytes() }),
    })
}
