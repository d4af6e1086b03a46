//! The queue before the committer. Batches that wait are committed as one group, by a thread of the ledger's own, or at once by
//! a thread that waits for its own batch anyway, if nobody is committing: for a file sent alone that spares two changes of
//! threads, and where many send at once groups form as before while another is on its way to the disk.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::committer::{Committer, die};
use super::record::{Batch, Committed};
use super::store::LedgerError;

/// How many batches share one journal sync. Beyond it waiting costs more than it saves.
const GROUP_MAX: usize = 256;

pub type Answer = oneshot::Sender<Result<Committed, LedgerError>>;

pub struct Queue {
    waiting: Mutex<Waiting>,
    /// For the ledger's thread: there is something to do.
    changed: Condvar,
    /// Whoever holds it commits. `None` when the ledger is closed.
    committer: Mutex<Option<Committer>>,
    /// How long a patient batch waits for another.
    patience: Duration,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<(Batch, Answer)>,
    /// When events that no checkpoint covers yet have waited for one long enough.
    checkpoint: Option<Instant>,
    closed: bool,
}

impl Queue {
    pub fn new(committer: Committer) -> Self {
        let patience = committer.core.options.patience;
        Self { waiting: Mutex::default(), changed: Condvar::new(), committer: Mutex::new(Some(committer)), patience }
    }

    /// Leaves a batch to the ledger's thread. A closed queue drops the answer, which is what its receiver then reports.
    pub fn submit(&self, batch: Batch, answer: Answer) {
        if self.push(batch, answer) {
            self.changed.notify_one();
        }
    }

    /// The same for a thread that waits for the answer: it commits itself what waits, unless somebody is committing.
    pub fn commit(&self, batch: Batch, answer: Answer) {
        if !self.push(batch, answer) {
            return;
        }
        match self.committer.try_lock() {
            Ok(mut committer) => self.commit_group(&mut committer),
            Err(TryLockError::Poisoned(poisoned)) => self.commit_group(&mut poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
        // What came while another committed, or did not fit into the group.
        if !self.lock().batches.is_empty() {
            self.changed.notify_one();
        }
    }

    /// What the ledger's thread does, until the queue is closed.
    pub fn serve(&self) {
        loop {
            let closed = self.wait();
            let mut committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner);
            if closed && let Some(committer) = committer.as_mut() {
                // The last one of a run covers it whole.
                committer.signed_at = None;
            }
            self.commit_group(&mut committer);
            if closed && self.lock().batches.is_empty() {
                // It settles what is left.
                *committer = None;
                return;
            }
        }
    }

    /// Nothing is taken any more; what waits is committed.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    fn push(&self, batch: Batch, answer: Answer) -> bool {
        let mut waiting = self.lock();
        if !waiting.closed {
            waiting.batches.push_back((batch, answer));
        }
        !waiting.closed
    }

    /// Until there is something to commit, or a checkpoint is due; `true` if the queue is closed.
    fn wait(&self) -> bool {
        let mut waiting = self.lock();
        let mut begun = None;
        while !waiting.closed {
            let rest = if waiting.batches.is_empty() {
                begun = None;
                waiting.checkpoint.map(|at| at.saturating_duration_since(Instant::now()))
            } else if waiting.batches.iter().all(|(batch, _)| batch.patient) {
                // Who reads one file after the other tells of the end of one just before it opens the next.
                Some(self.patience.saturating_sub(begun.get_or_insert_with(Instant::now).elapsed()))
            } else {
                break;
            };
            waiting = match rest {
                Some(Duration::ZERO) => break,
                Some(rest) => self.changed.wait_timeout(waiting, rest).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        }
        waiting.closed
    }

    /// Commits what waits, as one group, and the checkpoint if it is due.
    fn commit_group(&self, holder: &mut Option<Committer>) {
        let Some(committer) = holder.as_mut() else { return };
        let group: Vec<_> = {
            let mut waiting = self.lock();
            let len = waiting.batches.len().min(GROUP_MAX);
            waiting.batches.drain(..len).collect()
        };
        // sled panics where it should return; that is no better than an error.
        match catch_unwind(AssertUnwindSafe(|| committer.commit(group))) {
            Ok(Ok(())) => {
                let mut waiting = self.lock();
                let before = std::mem::replace(&mut waiting.checkpoint, committer.checkpoint_due());
                if before.is_none() && waiting.checkpoint.is_some() {
                    self.changed.notify_one();
                }
            }
            #[cfg(test)]
            Ok(Err(super::committer::Fatal::Test)) => {
                let mut waiting = self.lock();
                (waiting.closed, *holder) = (true, None);
                waiting.batches.clear();
            }
            Ok(Err(fatal)) => die(&fatal.to_string()),
            Err(_) => die("the committer panicked"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::{Arc, Mutex};
    use std::thread::{self, ThreadId};
    use std::time::Duration;

    use crate::ledger::committer::Step;
    use crate::ledger::store::Options;
    use crate::ledger::tests::{event, open, options};
    use crate::ledger::{Kind, Ledger};

    #[test]
    fn a_thread_that_waits_for_its_batch_commits_it_itself() {
        let scratch = tempfile::tempdir().unwrap();
        let by: Arc<Mutex<Vec<ThreadId>>> = Arc::default();
        let seen = Arc::clone(&by);
        let stop_at = move |step| {
            if step == Step::JournalSynced {
                seen.lock().unwrap().push(thread::current().id());
            }
            false
        };
        let options = Options { stop_at: Some(Arc::new(stop_at)), checkpoint_every: None, ..options() };
        let (ledger, _) = open(scratch.path(), options).unwrap();
        ledger.commit(event(Kind::Listed)).unwrap();
        assert_eq!(*by.lock().unwrap(), [thread::current().id()]);
        ledger.submit(event(Kind::Listed)).blocking_recv().unwrap().unwrap();
        assert_ne!(by.lock().unwrap()[1], thread::current().id(), "what is left to the ledger's thread it does");
    }

    #[test]
    fn whoever_commits_every_batch_is_numbered_once_and_the_last_checkpoint_covers_all() {
        let scratch = tempfile::tempdir().unwrap();
        let options = || Options { checkpoint_every: Some(Duration::from_secs(3600)), ..options() };
        let (ledger, _) = open(scratch.path(), options()).unwrap();
        let work = |ledger: &Ledger| -> Vec<u64> {
            (0..40)
                .map(|n| match n % 2 {
                    0 => ledger.commit(event(Kind::Listed)).unwrap().first_event,
                    _ => ledger.submit(event(Kind::Listed)).blocking_recv().unwrap().unwrap().first_event,
                })
                .collect()
        };
        let numbers: Vec<u64> = thread::scope(|scope| {
            let workers: Vec<_> = (0..8).map(|_| scope.spawn(|| work(&ledger))).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
        assert_eq!(distinct, (0..320).collect());
        ledger.close();
        let (ledger, found) = open(scratch.path(), options()).unwrap();
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(ledger.head().size, 320);
        assert_eq!(ledger.last_checkpoint().unwrap().unwrap().size, 320);
    }

    #[test]
    fn what_was_handed_over_before_the_end_is_committed_and_what_comes_after_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let (ledger, _) = open(scratch.path(), options()).unwrap();
        let other = ledger.clone();
        let answers: Vec<_> = (0..600).map(|_| ledger.submit(event(Kind::Listed))).collect();
        ledger.close();
        answers.into_iter().for_each(|answer| drop(answer.blocking_recv().unwrap().unwrap()));
        assert!(other.submit(event(Kind::Listed)).blocking_recv().is_err());
        assert_eq!(other.head().size, 600);
    }
}
