//! `Ledger`, the handle everyone in the keeper holds: submit a batch, read what is there. Cheap to clone. Submitting
//! never blocks; reading is blocking and cheap (microseconds from memory, one disk read otherwise). What is read is in
//! the journal, durably, even if its acknowledgement is still on the way.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::checkpoint::Checkpoint;
use super::committer::{Committer, Core};
use super::database::DatabaseError;
use super::journal::Written;
use super::live::{self, ReceiptPlace, Refusal};
use super::merkle::{self, Frontier, Hash};
use super::month::{Month, MonthError, Months};
use super::proof::InclusionProof;
use super::queue::Queue;
use super::receipt::{SignError, Signer};
use super::record::{Batch, Committed, DropRecord, ReceiptRecord, Usage};
use super::recovery::{self, OpenError, Recovery};
use super::settler::Settler;
use super::veil::{HiddenNames, Hiding, NamesKey, NamesKeyRecord};
use crate::clock::{self, Time};
use crate::names::{Digest, DropId, ReceiptId, UserName};
use crate::sys::durable;
use crate::vpath::VirtualPath;

/// See the module.
#[derive(Clone)]
pub struct Ledger {
    pub(super) core: Arc<Core>,
    writer: Arc<Writer>,
}

/// The queue, which is closed with the last handle of the ledger, and the thread that serves it.
struct Writer {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[derive(Clone)]
pub struct Options {
    /// Kept aside so that a full disk can still be opened and cleaned.
    pub ballast_bytes: u64,
    /// A checkpoint is kept with the first group after so long, and when nothing follows, so long after the last event.
    pub checkpoint_every: Option<Duration>,
    /// How long what is in the journal may be in a database and not on its disk.
    pub settle_after: Duration,
    /// How long a patient batch waits for another.
    pub patience: Duration,
    /// Decides which month's database an event goes into.
    pub clock: fn() -> Time,
    /// Hides names, and opens what is hidden in the journal. Without it names are in clear.
    pub names: Option<Arc<Hiding>>,
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
            checkpoint_every: Some(Duration::from_secs(1)),
            settle_after: Duration::from_secs(5),
            patience: Duration::from_millis(10),
            clock: clock::now,
            names: None,
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
    #[error("the certificate of drop {0} does not name its event in its batch, or not one of its own")]
    CertificateWithoutEvent(DropId),
    #[error("a paper does not name an event of its batch, or one that has its own")]
    PaperWithoutEvent,
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("names could not be hidden: {0}")]
    Hide(#[from] crate::seal::SealError),
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
            months: Months::new(dir.to_owned(), opened.starts, opened.pruned, opened.month, current.clone()),
            head: RwLock::new(head),
            written: RwLock::new(opened.journal.written()),
            signer: RwLock::new(Arc::new(signer)),
            ballast: opened.ballast,
            options,
            _lock: opened.lock,
        });
        let failed = |source| OpenError::Io { path: dir.to_owned(), source };
        let committer = Committer {
            settler: Settler::start(core.clone()).map_err(failed)?,
            core: core.clone(),
            journal: opened.journal,
            month: opened.month,
            current,
            applied: opened.applied,
            signed: 0,
            signed_at: None,
        };
        let queue = Arc::new(Queue::new(committer));
        let theirs = Arc::clone(&queue);
        let thread =
            std::thread::Builder::new().name("ledger".to_owned()).spawn(move || theirs.serve()).map_err(failed)?;
        Ok((Self { core, writer: Arc::new(Writer { queue, thread: Mutex::new(Some(thread)) }) }, opened.found))
    }

    /// Hands over one batch. Resolves when it is durable, or was refused and nothing of it is kept. The channel is
    /// closed without an answer only when the ledger was closed.
    pub fn submit(&self, batch: Batch) -> oneshot::Receiver<Result<Committed, LedgerError>> {
        let (answer, receiver) = oneshot::channel();
        self.writer.queue.submit(batch, answer);
        receiver
    }

    /// The same for a task that waits.
    pub async fn record(&self, batch: Batch) -> Result<Committed, LedgerError> {
        self.submit(batch).await.unwrap_or(Err(LedgerError::Stopped))
    }

    /// The same for callers that may block (never inside a runtime's task): their own thread commits, if none does.
    pub fn commit(&self, batch: Batch) -> Result<Committed, LedgerError> {
        let (answer, receiver) = oneshot::channel();
        self.writer.queue.commit(batch, answer);
        receiver.blocking_recv().unwrap_or(Err(LedgerError::Stopped))
    }

    /// Finishes what was submitted and ends the committer. Reading goes on as long as there are handles.
    pub fn close(self) {
        self.writer.queue.close();
        let thread = self.writer.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there has ended the process already.
            let _ = thread.join();
        }
    }

    /// The name in receipts, and the key they are signed with.
    pub fn signer(&self) -> Arc<Signer> {
        self.core.signer()
    }

    /// From here on receipts and checkpoints are signed by another key.
    pub fn set_signer(&self, signer: Signer) {
        *self.core.signer.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(signer);
    }

    /// Durable events and the root over them.
    pub fn head(&self) -> Head {
        *self.core.head.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The durable head, and up to where the journal is with it: all that a copy of the ledger needs.
    pub fn written(&self) -> (Head, Written) {
        let head = self.core.head.read().unwrap_or_else(PoisonError::into_inner);
        (*head, self.core.written.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// The durable head, signed.
    pub fn checkpoint(&self) -> Result<Checkpoint, LedgerError> {
        self.checkpoint_of(&self.head())
    }

    /// A head that this ledger had, signed.
    pub fn checkpoint_of(&self, head: &Head) -> Result<Checkpoint, LedgerError> {
        Ok(Checkpoint::of(&self.core.signer(), head)?)
    }

    pub fn drop_record(&self, drop: &DropId) -> Result<Option<DropRecord>, LedgerError> {
        Ok(live::read_drop(&self.core.live, drop)?)
    }

    /// The live or held drop whose entry in `user`'s view is at `path`.
    pub fn drop_at(&self, user: &UserName, path: &VirtualPath) -> Result<Option<DropRecord>, LedgerError> {
        self.record_at(live::PATHS, user, path)
    }

    /// Whether `user` has an entry in its view for a live or held drop of this kind.
    pub fn has_entry(&self, user: &UserName, kind: impl Fn(&DropRecord) -> bool) -> Result<bool, LedgerError> {
        let db = &self.core.live;
        let all = live::below(user, &VirtualPath::root());
        for pair in db.range(live::PATHS, &all) {
            let (key, id) = pair?;
            if !key.starts_with(&all) {
                break;
            }
            let id = id.as_ref().try_into().map(DropId).map_err(|_| db.unreadable(live::PATHS))?;
            if self.drop_record(&id)?.is_some_and(|record| kind(&record)) {
                return Ok(true);
            }
        }
        Ok(false)
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

    /// The number of an event before which there is none of `at` or later.
    pub fn first_event_since(&self, at: Time) -> u64 {
        self.core.months.first_event_since(at)
    }

    /// The log before the first event that is kept: of an unpruned one the empty log.
    pub fn beginning(&self) -> Frontier {
        self.core.months.pruned().clone()
    }

    /// Events from number `from` on with the leaf hashes that are kept beside them.
    pub fn logged(&self, from: u64, limit: usize) -> Result<Vec<(u64, Hash, String)>, LedgerError> {
        Ok(self.core.months.logged(from, limit)?)
    }

    /// Checkpoints that were kept, over more than `after` events, the smaller first.
    pub fn checkpoints(&self, after: u64, limit: usize) -> Result<Vec<Checkpoint>, LedgerError> {
        Ok(self.core.months.checkpoints(after, limit)?)
    }

    /// The newest checkpoint that was kept.
    pub fn last_checkpoint(&self) -> Result<Option<Checkpoint>, LedgerError> {
        Ok(self.core.months.last_checkpoint(self.head().size)?)
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

    /// The log as it was when it had `size` events, signed; `None` if it never had so many.
    pub fn checkpoint_at(&self, size: u64) -> Result<Option<Checkpoint>, LedgerError> {
        if size > self.head().size {
            return Ok(None);
        }
        let root = merkle::root(size, &mut |node| self.core.months.node(node))?;
        Ok(Some(Checkpoint::of(&self.core.signer(), &Head { size, root: Digest(root) })?))
    }

    /// That an event is in the log of `size` events, with the event and the checkpoint; `None` if it is not.
    pub fn proof(&self, event: u64, size: u64) -> Result<Option<InclusionProof>, LedgerError> {
        let (Some(inclusion), Some(checkpoint)) = (self.inclusion(event, size)?, self.checkpoint_at(size)?) else {
            return Ok(None);
        };
        let Some((number, json)) = self.events(event, 1)?.pop().filter(|(number, _)| *number == event) else {
            return Ok(None);
        };
        Ok(Some(InclusionProof {
            event: number,
            json: Some(json),
            hashes: inclusion.hashes,
            checkpoint: checkpoint.note,
        }))
    }

    /// What is hidden of the events from number `from` on, in their order.
    pub fn hidden_names(&self, from: u64, limit: usize) -> Result<Vec<HiddenNames>, LedgerError> {
        Ok(self.core.months.hidden_names(from, limit)?)
    }

    /// A key of hidden names, as it is kept.
    pub fn names_key(&self, id: &DropId) -> Result<Option<NamesKeyRecord>, LedgerError> {
        Ok(self.core.live.get_record(live::NAMES_KEYS, &id.0)?)
    }

    /// From now on hidden names are sealed with this, whose record is committed.
    pub fn seal_names_with(&self, key: NamesKey) {
        if let Some(names) = &self.core.options.names {
            names.seal_with(key);
        }
    }

    /// The proof that goes with a receipt: of its event, in the log as it was when it was given.
    pub fn receipt_proof(&self, receipt: &ReceiptRecord) -> Result<String, LedgerError> {
        let proof = self.proof(receipt.event, receipt.log_size)?;
        Ok(proof.map(|proof| proof.text()).ok_or(MonthError::NoSuchEvent(receipt.event))?)
    }

    /// That the log of `new` events begins with the log of `old`; `None` if there was no such log.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Option<Vec<Hash>>, LedgerError> {
        if new > self.head().size {
            return Ok(None);
        }
        Ok(merkle::consistency(old, new, &mut |node| self.core.months.node(node))?)
    }
}
