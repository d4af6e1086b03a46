//! The committer: one thread, the only writer. It takes what all sessions are waiting on, gives numbers, writes the
//! journal, then the month's database, then the live one, each durably, and only then says so to anybody. An error on
//! that way ends the process: nobody knows what is on the disk then but the recovery at the next start.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::ballast::Ballast;
use super::database::{Applied, Database, DatabaseError, Plan};
use super::event::{Event, Kind};
use super::frame::Entry;
use super::journal::{AppendError, Journal, JournalError, payload};
use super::live::{self, Refusal};
use super::month::{self, Month, Months, Start};
use super::receipt::{Receipt, ReceiptFacts, Signer};
use super::record::{Batch, Committed, Earlier, ReceiptRecord, Stored, Write};
use super::recovery::{self, OpenError, ROOM_BYTES};
use super::store::{Head, LedgerError, Options};
use crate::names::Digest;

/// How many batches share one journal sync and one flush. Beyond it waiting costs more than it saves.
const GROUP_MAX: usize = 256;

/// What the committer and the readers share.
pub struct Core {
    pub dir: PathBuf,
    pub live: Arc<Database>,
    pub months: Months,
    /// Of what is durable.
    pub head: RwLock<Head>,
    pub signer: Signer,
    pub ballast: Ballast,
    pub options: Options,
    /// Held as long as anybody has the ledger.
    pub _lock: File,
}

pub enum Job {
    Commit(Batch, Answer),
    Close,
}

type Answer = oneshot::Sender<Result<Committed, LedgerError>>;

/// Where a crash can fall. The tests stop at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Taken,
    JournalWritten,
    JournalSynced,
    MonthApplied,
    MonthFlushed,
    LiveApplied,
    LiveFlushed,
}

pub struct Committer {
    pub core: Arc<Core>,
    pub journal: Journal,
    pub month: Month,
    pub current: Arc<Database>,
    pub applied: Applied,
}

/// Why no more can be committed.
#[derive(Debug, thiserror::Error)]
enum Fatal {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    NewMonth(#[from] OpenError),
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
    #[cfg(test)]
    #[error("stopped by a test")]
    Test,
}

/// A batch that was accepted and waits for the disk.
struct Accepted {
    answer: Answer,
    committed: Committed,
}

impl Committer {
    /// Serves until the ledger is closed or every handle is gone.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        let mut open = true;
        while open {
            let mut group = Vec::new();
            match jobs.recv() {
                Ok(Job::Commit(batch, answer)) => group.push((batch, answer)),
                Ok(Job::Close) | Err(_) => return,
            }
            while group.len() < GROUP_MAX {
                match jobs.try_recv() {
                    Ok(Job::Commit(batch, answer)) => group.push((batch, answer)),
                    Ok(Job::Close) | Err(TryRecvError::Disconnected) => {
                        open = false;
                        break;
                    }
                    Err(TryRecvError::Empty) => break,
                }
            }
            // sled panics where it should return; that is no better than an error.
            match catch_unwind(AssertUnwindSafe(|| self.commit(group))) {
                Ok(Ok(())) => {}
                #[cfg(test)]
                Ok(Err(Fatal::Test)) => return,
                Ok(Err(fatal)) => die(&fatal.to_string()),
                Err(_) => die("the committer panicked"),
            }
        }
    }

    fn commit(&mut self, group: Vec<(Batch, Answer)>) -> Result<(), Fatal> {
        self.turn_if_due()?;
        let group = self.with_room(group);
        if group.is_empty() {
            return Ok(());
        }
        self.reached(Step::Taken)?;

        let mut salts = vec![[0; 16]; group.iter().map(|(batch, _)| batch.events.len()).sum()];
        salts.iter_mut().try_for_each(|salt| getrandom::fill(salt)).map_err(Fatal::Random)?;
        let mut salts = salts.into_iter();

        let live = self.core.live.clone();
        let current = self.current.clone();
        let (mut live_plan, mut month_plan) = (Plan::on(&live), Plan::on(&current));
        let mut next = self.applied.clone();
        let (mut payloads, mut accepted) = (Vec::new(), Vec::new());
        for (batch, answer) in group {
            let salts: Vec<_> = salts.by_ref().take(batch.events.len()).collect();
            let mut log = next.log.clone();
            let tried = self.entry(batch, log.size(), &salts).and_then(|(entry, committed)| {
                let payload = payload(&entry).ok_or(LedgerError::TooLarge)?;
                live::apply(&mut live_plan, &entry, self.month.0)?;
                month::apply(&mut month_plan, &entry, &mut log).map_err(Refusal::Database)?;
                Ok((payload, committed))
            });
            match tried {
                Ok((payload, committed)) => {
                    (next.frames, next.log) = (next.frames + 1, log);
                    live_plan.keep();
                    month_plan.keep();
                    payloads.push(payload);
                    accepted.push(Accepted { answer, committed });
                }
                Err(LedgerError::Refused(Refusal::Database(error))) => return Err(error.into()),
                Err(error) => {
                    live_plan.forget();
                    month_plan.forget();
                    let _ = answer.send(Err(error));
                }
            }
        }

        if accepted.is_empty() {
            return Ok(());
        }

        // A crash from here on and before the sync leaves all, some or none of these frames: none is acknowledged.
        match self.journal.append(&payloads, self.applied.frames) {
            Ok(()) => {}
            Err(AppendError::Full) => {
                accepted.into_iter().for_each(|one| drop(one.answer.send(Err(LedgerError::Full))));
                return Ok(());
            }
            Err(AppendError::Fatal(error)) => return Err(error.into()),
        }
        self.reached(Step::JournalWritten)?;
        self.journal.sync()?;
        next.hash = self.journal.hash();
        // From here on they are in the ledger whatever happens: opening replays what a database lacks.
        self.reached(Step::JournalSynced)?;

        // The month first: what the live database points to must be there.
        self.current.apply(&month_plan.finish(&next)?)?;
        self.reached(Step::MonthApplied)?;
        self.current.flush()?;
        self.reached(Step::MonthFlushed)?;
        self.core.live.apply(&live_plan.finish(&next)?)?;
        self.reached(Step::LiveApplied)?;
        self.core.live.flush()?;
        self.reached(Step::LiveFlushed)?;

        let head = Head { size: next.log.size(), root: Digest(next.log.root()) };
        *self.core.head.write().unwrap_or_else(PoisonError::into_inner) = head;
        self.applied = next;
        for Accepted { answer, committed } in accepted {
            // Whoever asked may be gone; what it asked for is done all the same.
            let _ = answer.send(Ok(committed));
        }
        Ok(())
    }

    /// Makes of a batch what the journal keeps: numbers given, receipts written and signed.
    fn entry(&self, batch: Batch, first_event: u64, salts: &[[u8; 16]]) -> Result<(Entry, Committed), LedgerError> {
        let Batch { mut events, writes, .. } = batch;
        let mut committed = Committed { first_event, receipts: Vec::new() };
        let mut stored = Vec::with_capacity(writes.len());
        for write in writes {
            stored.push(match write {
                Write::Drop(record) => Stored::Drop(record),
                Write::State { drop, to } => Stored::State { drop, to },
                Write::PickedUp { drop, user, at } => Stored::PickedUp { drop, user, at },
                Write::Moved { drop, user, from, to } => Stored::Moved { drop, user, from, to },
                Write::FolderMoved { user, from, to } => Stored::FolderMoved { user, from, to },
                Write::Unlinked { drop, user, path, at } => Stored::Unlinked { drop, user, path, at },
                Write::Expires { drop, expires, bucket } => Stored::Expires { drop, expires, bucket },
                Write::Rejected(rejection) => Stored::Rejected(rejection),
                Write::RejectionOver { user, path } => Stored::RejectionOver { user, path },
                Write::Receipt { event, facts } => {
                    let receipt = self.receipt(&mut events, first_event, event, facts)?;
                    committed.receipts.push(receipt.id);
                    Stored::Receipt(receipt)
                }
                Write::Superseded { drop, by, at } => Stored::Superseded { drop, by, at },
                Write::Duplicate { upload, of } => Stored::Duplicate { upload, of },
            });
        }
        let numbered = events.iter().zip(salts).zip(first_event..);
        let events = numbered.map(|((event, salt), number)| event.canonical(number, salt)).collect();
        Ok((Entry { first_event, events, writes: stored }, committed))
    }

    fn receipt(
        &self,
        events: &mut [Event],
        first_event: u64,
        event: usize,
        facts: ReceiptFacts,
    ) -> Result<ReceiptRecord, LedgerError> {
        let kind = match facts.earlier {
            Some(Earlier::Duplicate(_)) => Kind::UploadDuplicate,
            Some(Earlier::Replaces(_)) | None => Kind::UploadCommitted,
        };
        let about = events
            .get_mut(event)
            .filter(|about| about.kind == kind && about.receipt_sha256.is_none())
            .ok_or(LedgerError::ReceiptWithoutEvent(facts.id))?;
        let number = first_event + event as u64;
        let signer = &self.core.signer;
        let text = Receipt::new(signer.server(), number, facts.clone()).text();
        about.receipt = Some(facts.id);
        about.earlier = facts.earlier;
        about.receipt_sha256 = Some(Digest(Sha256::digest(&text).into()));
        Ok(ReceiptRecord {
            id: facts.id,
            drop: facts.drop,
            user: facts.sender,
            path: facts.path,
            size: facts.size,
            sha256: facts.sha256,
            at: facts.received,
            event: number,
            earlier: facts.earlier,
            signature: signer.sign(super::receipt::RECEIPT_NAMESPACE, text.as_bytes())?,
            content_signature: signer.sign_content(&facts.sha256)?,
            text,
        })
    }

    /// Begins a new month or a new segment when it is time. A clock that goes back changes nothing.
    fn turn_if_due(&mut self) -> Result<(), Fatal> {
        let now = Month::of((self.core.options.clock)());
        if now > self.month {
            self.journal.turn(now.0, &self.applied.log)?;
            let database = Arc::new(recovery::open_new(&self.core.dir, now)?);
            let start = Start { frame: self.applied.frames, event: self.applied.log.size() };
            self.core.months.turn(now, start, database.clone());
            (self.month, self.current) = (now, database);
        } else if self.journal.is_long() {
            self.journal.turn(self.month.0, &self.applied.log)?;
        }
        Ok(())
    }

    /// Answers the batches there is no room for, and keeps the ballast: given up for urgent ones, taken again when
    /// there is room for it twice.
    fn with_room(&mut self, group: Vec<(Batch, Answer)>) -> Vec<(Batch, Answer)> {
        let Core { dir, ballast, options, .. } = &*self.core;
        let free = || (options.free_bytes)(dir).unwrap_or(u64::MAX);
        let spare = if ballast.is_held() { 0 } else { ballast.bytes() };
        let mut room = free();
        if spare > 0 && room >= ROOM_BYTES + 2 * spare {
            // Failing is no harm: it is tried again with the next group.
            let _ = ballast.take();
            return group;
        }
        if room >= ROOM_BYTES + spare {
            return group;
        }
        let (urgent, others): (Vec<_>, Vec<_>) = group.into_iter().partition(|(batch, _)| batch.urgent);
        let refuse = |batches: Vec<(Batch, Answer)>| {
            batches.into_iter().for_each(|(_, answer)| drop(answer.send(Err(LedgerError::Full))));
        };
        refuse(others);
        if room < ROOM_BYTES && spare == 0 && !urgent.is_empty() {
            tracing::error!("the disk is full: the ledger gives up its ballast to record what frees room");
            if let Err(error) = ballast.release() {
                tracing::error!("the ledger's ballast cannot be released: {error}");
            }
            room = free();
        }
        if room < ROOM_BYTES / 4 {
            refuse(urgent);
            return Vec::new();
        }
        urgent
    }

    #[cfg(test)]
    fn reached(&self, step: Step) -> Result<(), Fatal> {
        match &self.core.options.stop_at {
            Some(stop_at) if stop_at(step) => Err(Fatal::Test),
            _ => Ok(()),
        }
    }

    #[cfg(not(test))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "the tests' twin uses both")]
    fn reached(&self, _step: Step) -> Result<(), Fatal> {
        Ok(())
    }
}

/// Ends the process: whatever was not acknowledged is decided by the next start.
fn die(why: &str) -> ! {
    tracing::error!("the ledger cannot go on, and nothing can without it: {why}");
    std::process::abort()
}
