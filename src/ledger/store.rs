//! `Ledger`, the handle everyone in the keeper holds: submit a batch, read what is there. Cheap to clone. Submitting
//! never blocks; reading is blocking and cheap (microseconds from memory, one disk read otherwise). What is read is in
//! the journal, durably, even if its acknowledgement is still on the way.

use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::checkpoint::Checkpoint;
use super::committer::{Committer, Core, Job};
use super::database::DatabaseError;
use super::live::{self, ReceiptPlace, Refusal};
use super::merkle::{self, Hash};
use super::month::{Month, MonthError, Months};
use super::receipt::{SignError, Signer};
use super::record::{Batch, Committed, DropRecord, ReceiptRecord, Usage};
use super::recovery::{self, OpenError, Recovery};
use crate::clock::{self, Time};
use crate::names::{Digest, DropId, ReceiptId, UserName};
use crate::sys::durable;
use crate::vpath::VirtualPath;

/// See the module.
#[derive(Clone)]
pub struct Ledger {
    pub(super) core: Arc<Core>,
    jobs: Sender<Job>,
    committer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

#[derive(Clone)]
pub struct Options {
    /// Kept aside so that a full disk can still be opened and cleaned.
    pub ballast_bytes: u64,
    /// Decides which month's database an event goes into.
    pub clock: fn() -> Time,
    /// Room left on the file system of a path.
    pub free_bytes: fn(&Path) -> std::io::Result<u64>,
    /// Ends the committer at a step, as a crash would.
    #[cfg(test)]
    pub stop_at: Option<Arc<dyn Fn(super::committer::Step) -> bool + Send + Sync>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ballast_bytes: 16 << 20,
            clock: clock::now,
            free_bytes: durable::free_bytes,
            #[cfg(test)]
            stop_at: None,
        }
    }
}

/// The state of the log: how many events, and the root of the Merkle tree over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub size: u64,
    pub root: Digest,
}

/// Why a batch was not committed, or a read gave nothing. Nothing of a refused batch is kept.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("the ledger has stopped")]
    Stopped,
    #[error("the disk is full")]
    Full,
    #[error("the batch is too large")]
    TooLarge,
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("receipt {0} does not name the event of its upload in its batch, or not one of its own")]
    ReceiptWithoutEvent(ReceiptId),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error(transparent)]
    Read(#[from] DatabaseError),
    #[error(transparent)]
    Month(#[from] MonthError),
}

/// A proof that an event is in the log, as RFC 6962 §2.1.1 has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    pub event: u64,
    pub size: u64,
    pub leaf: Hash,
    pub hashes: Vec<Hash>,
}

impl Ledger {
    /// Opens the ledger in `dir`, makes it if there is none, repairs what a crash left. One process at a time. What had
    /// to be repaired is for the caller to log.
    pub fn open(dir: &Path, signer: Signer, options: Options) -> Result<(Ledger, Vec<Recovery>), OpenError> {
        let opened = recovery::open(dir, &options)?;
        let current = Arc::new(opened.current);
        let head = Head { size: opened.applied.log.size(), root: Digest(opened.applied.log.root()) };
        let core = Arc::new(Core {
            dir: dir.to_owned(),
            live: Arc::new(opened.live),
            months: Months::new(dir.to_owned(), opened.starts, opened.month, current.clone()),
            head: RwLock::new(head),
            signer,
            ballast: opened.ballast,
            options,
            _lock: opened.lock,
        });
        let committer = Committer {
            core: core.clone(),
            journal: opened.journal,
            month: opened.month,
            current,
            applied: opened.applied,
        };
        let (jobs, queue) = channel();
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || committer.run(&queue))
            .map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
        Ok((Self { core, jobs, committer: Arc::new(Mutex::new(Some(thread))) }, opened.found))
    }

    /// Hands over one batch. Resolves when it is durable, or was refused and nothing of it is kept. The channel is
    /// closed without an answer only when the ledger was closed.
    pub fn submit(&self, batch: Batch) -> oneshot::Receiver<Result<Committed, LedgerError>> {
        let (answer, receiver) = oneshot::channel();
        // A closed queue drops the answer, which is what the receiver then reports.
        let _ = self.jobs.send(Job::Commit(batch, answer));
        receiver
    }

    /// The same for a task that waits.
    pub async fn record(&self, batch: Batch) -> Result<Committed, LedgerError> {
        self.submit(batch).await.unwrap_or(Err(LedgerError::Stopped))
    }

    /// The same for callers that may block (never inside a runtime's task).
    pub fn commit(&self, batch: Batch) -> Result<Committed, LedgerError> {
        self.submit(batch).blocking_recv().unwrap_or(Err(LedgerError::Stopped))
    }

    /// Finishes what was submitted and ends the committer. Reading goes on as long as there are handles.
    pub fn close(self) {
        let _ = self.jobs.send(Job::Close);
        let thread = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there has ended the process already.
            let _ = thread.join();
        }
    }

    /// The name in receipts, and the key they are signed with.
    pub fn signer(&self) -> &Signer {
        &self.core.signer
    }

    /// Durable events and the root over them.
    pub fn head(&self) -> Head {
        *self.core.head.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The durable head, signed.
    pub fn checkpoint(&self) -> Result<Checkpoint, LedgerError> {
        Ok(Checkpoint::of(&self.core.signer, &self.head())?)
    }

    pub fn drop_record(&self, drop: &DropId) -> Result<Option<DropRecord>, LedgerError> {
        Ok(live::read_drop(&self.core.live, drop)?)
    }

    /// The live or held drop whose entry in `user`'s view is at `path`.
    pub fn drop_at(&self, user: &UserName, path: &VirtualPath) -> Result<Option<DropRecord>, LedgerError> {
        self.record_at(live::PATHS, user, path)
    }

    fn record_at(&self, tree: usize, user: &UserName, path: &VirtualPath) -> Result<Option<DropRecord>, LedgerError> {
        let db = &self.core.live;
        let Some(id) = db.get(tree, &live::at(user, path))? else { return Ok(None) };
        let id = id.as_ref().try_into().map(DropId).map_err(|_| db.unreadable(tree))?;
        self.drop_record(&id)
    }

    /// The live or held drop that `user` sent to `path`, or renamed to it, and whose own entry there it removed; of several
    /// the last.
    pub fn removed_at(&self, user: &UserName, path: &VirtualPath) -> Result<Option<DropRecord>, LedgerError> {
        self.record_at(live::REMOVED, user, path)
    }

    /// Whether this is a drop, or an upload that was found to be a duplicate of one: either way it has ended.
    pub fn knows(&self, upload: &DropId) -> Result<bool, LedgerError> {
        let db = &self.core.live;
        Ok(db.get(live::DROPS, &upload.0)?.is_some() || db.get(live::DUPLICATES, &upload.0)?.is_some())
    }

    /// All drops in the order of their ids, ended ones too.
    pub fn drops(&self, after: Option<&DropId>, limit: usize) -> Result<Vec<DropRecord>, LedgerError> {
        let db = &self.core.live;
        let start = after.map_or_else(Vec::new, |id| [&id.0[..], &[0]].concat());
        db.range(live::DROPS, &start).take(limit).map(|pair| Ok(db.record(live::DROPS, &pair?.1)?)).collect()
    }

    /// Drops that time has ended: those whose destruction had begun first (whatever `until` is), then by expiry.
    pub fn due(&self, until: Time, limit: usize) -> Result<Vec<DropRecord>, LedgerError> {
        Ok(live::read_due(&self.core.live, until, limit)?)
    }

    /// How many drops still need the key of this shred bucket.
    pub fn live_in_bucket(&self, bucket: u64) -> Result<u64, LedgerError> {
        Ok(live::read_bucket(&self.core.live, bucket)?)
    }

    /// What `user`'s drops add up to, for quotas.
    pub fn usage(&self, user: &UserName) -> Result<Usage, LedgerError> {
        Ok(live::read_user_usage(&self.core.live, user)?)
    }

    /// How many drops there are with bytes behind them.
    pub fn live_drops(&self) -> Result<u64, LedgerError> {
        Ok(live::read_live_drops(&self.core.live)?)
    }

    pub fn receipt(&self, id: &ReceiptId) -> Result<Option<ReceiptRecord>, LedgerError> {
        let db = &self.core.live;
        let Some(month) = db.get(live::RECEIPT_MONTHS, &id.0)? else { return Ok(None) };
        let month = month.as_ref().try_into().map(u32::from_be_bytes);
        let month = month.map_err(|_| db.unreadable(live::RECEIPT_MONTHS))?;
        Ok(self.core.months.receipt(Month(month), id)?)
    }

    /// The newest receipt for what `user` sent to `path`.
    pub fn receipt_at(&self, user: &UserName, path: &VirtualPath) -> Result<Option<ReceiptRecord>, LedgerError> {
        let place: Option<ReceiptPlace> = self.core.live.get_record(live::RECEIPT_PATHS, &live::at(user, path))?;
        match place {
            Some(place) => Ok(self.core.months.receipt(Month(place.month), &place.id)?),
            None => Ok(None),
        }
    }

    /// All receipts in the order they were given; `after` is the last one's event number.
    pub fn receipts(&self, after: Option<u64>, limit: usize) -> Result<Vec<ReceiptRecord>, LedgerError> {
        Ok(self.core.months.receipts(after.map_or(0, |event| event.saturating_add(1)), limit)?)
    }

    /// Events from number `from` on, as their canonical JSON.
    pub fn events(&self, from: u64, limit: usize) -> Result<Vec<(u64, String)>, LedgerError> {
        Ok(self.core.months.events(from, limit)?)
    }

    /// That an event is in the log as it was when it had `size` events; `None` if it was not.
    pub fn inclusion(&self, event: u64, size: u64) -> Result<Option<Inclusion>, LedgerError> {
        if size > self.head().size {
            return Ok(None);
        }
        let months = &self.core.months;
        let Some(hashes) = merkle::inclusion(event, size, &mut |node| months.node(node))? else { return Ok(None) };
        let leaf = months.node(merkle::Node { level: 0, index: event })?;
        Ok(Some(Inclusion { event, size, leaf, hashes }))
    }

    /// That the log of `new` events begins with the log of `old`; `None` if there was no such log.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Option<Vec<Hash>>, LedgerError> {
        if new > self.head().size {
            return Ok(None);
        }
        Ok(merkle::consistency(old, new, &mut |node| self.core.months.node(node))?)
    }
}
