//! The committer: the only writer, one thread at a time (`queue`). It takes what sessions are waiting on, gives numbers, writes the
//! journal durably, then changes the month's database and the live one in memory, and only then says so to anybody; the
//! settler brings the changes to the disk later. An error on that way ends the process: nobody knows what is on the disk then but the
//! recovery at the next start.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::ballast::Ballast;
use super::certificate::{CERTIFICATE_NAMESPACE, CertificateFacts, CertificateRecord};
use super::checkpoint::Checkpoint;
use super::database::{Applied, Database, DatabaseError, Plan};
use super::event::{Event, Kind};
use super::frame::Entry;
use super::journal::{AppendError, Journal, JournalError, Written, payload};
use super::live::{self, Refusal};
use super::month::{self, Month, Months, Start};
use super::paper::{Paper, PaperFacts};
use super::proof::InclusionProof;
use super::queue::Answer;
use super::receipt::{Receipt, ReceiptFacts, SignError, Signer};
use super::record::{Batch, Committed, Earlier, ReceiptRecord, Stored, Write};
use super::recovery::{self, OpenError, ROOM_BYTES};
use super::settler::Settler;
use super::store::{Head, LedgerError, Options};
use super::veil::{Name, Veil};
use crate::names::Digest;
use crate::sys::files::Lock;
use crate::vpath::VirtualPath;

/// What the committer and the readers share.
pub struct Core {
    pub dir: PathBuf,
    pub live: Arc<Database>,
    pub months: Months,
    /// Of what is durable.
    pub head: RwLock<Head>,
    /// Up to where the journal is, at that head.
    pub written: RwLock<Written>,
    pub signer: RwLock<Arc<Signer>>,
    pub ballast: Ballast,
    pub options: Options,
    /// Held as long as anybody has the ledger.
    pub _lock: Lock,
}

impl Core {
    pub fn signer(&self) -> Arc<Signer> {
        Arc::clone(&self.signer.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where a crash can fall. The tests stop at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Taken,
    JournalWritten,
    JournalSynced,
    MonthApplied,
    LiveApplied,
    /// From here on in the settler, after the acknowledgement.
    MonthFlushed,
    LiveFlushed,
}

pub struct Committer {
    pub core: Arc<Core>,
    pub journal: Journal,
    pub month: Month,
    pub current: Arc<Database>,
    pub applied: Applied,
    /// How many events the last stored checkpoint covers, and since when the next one is waited for; not at all at first.
    pub signed: u64,
    pub signed_at: Option<Instant>,
    pub settler: Settler,
}

/// Why no more can be committed.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    NewMonth(#[from] OpenError),
    #[error("a checkpoint: {0}")]
    Sign(#[from] SignError),
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
    /// Makes a group of batches durable and answers each; without any, stores a checkpoint if it is due.
    pub fn commit(&mut self, group: Vec<(Batch, Answer)>) -> Result<(), Fatal> {
        if group.is_empty() {
            if !self.is_checkpoint_due(&self.applied) {
                // Another thread has stored it, or what this one was called for.
                return Ok(());
            }
            // Not where there is no room: it can wait.
            if !recovery::has_room(&self.core.dir, &self.core.options, 2 * ROOM_BYTES) {
                self.signed_at = Some(Instant::now());
                return Ok(());
            }
        } else {
            self.turn_if_due()?;
        }
        let asked = !group.is_empty();
        let group = self.with_room(group);
        if asked && group.is_empty() {
            return Ok(());
        }
        self.reached(Step::Taken)?;

        let mut salts = vec![[0; 16]; group.iter().map(|(batch, _)| 2 * batch.events.len()).sum()];
        salts.iter_mut().try_for_each(|salt| getrandom::fill(salt)).map_err(Fatal::Random)?;
        let mut salts = salts.into_iter();

        let live = self.core.live.clone();
        let current = self.current.clone();
        let (mut live_plan, mut month_plan) = (Plan::on(&live), Plan::on(&current));
        let mut next = self.applied.clone();
        let (mut payloads, mut accepted) = (Vec::new(), Vec::new());
        for (batch, answer) in group {
            let salts: Vec<_> = salts.by_ref().take(2 * batch.events.len()).collect();
            let mut log = next.log.clone();
            let tried = self.entry(batch, log.size(), &salts).and_then(|(entry, committed)| {
                let payload = payload(&entry).ok_or(LedgerError::TooLarge)?;
                live::apply(&mut live_plan, &entry, self.month.0, self.core.options.names.as_deref())?;
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

        // Signed before it is durable, and shown to nobody before: it is in the same frames.
        let mut signed = self.signed;
        if self.is_checkpoint_due(&next) {
            let head = Head { size: next.log.size(), root: Digest(next.log.root()) };
            let checkpoint = Checkpoint::of(&self.core.signer(), &head)?;
            let entry =
                Entry { first_event: head.size, events: Vec::new(), writes: vec![Stored::Checkpoint(checkpoint)] };
            if let Some(payload) = payload(&entry) {
                month::apply(&mut month_plan, &entry, &mut next.log)?;
                month_plan.keep();
                payloads.push(payload);
                (next.frames, signed) = (next.frames + 1, head.size);
            }
        }
        if payloads.is_empty() {
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
        self.current.apply(&month_plan.finish(&next)?);
        self.reached(Step::MonthApplied)?;
        self.core.live.apply(&live_plan.finish(&next)?);
        self.reached(Step::LiveApplied)?;
        let bytes = payloads.iter().map(|payload| payload.len() as u64).sum();
        self.settler.applied(&self.core, &self.current, bytes)?;

        let head = Head { size: next.log.size(), root: Digest(next.log.root()) };
        {
            let mut shown = self.core.head.write().unwrap_or_else(PoisonError::into_inner);
            *self.core.written.write().unwrap_or_else(PoisonError::into_inner) = self.journal.written();
            *shown = head;
        }
        self.applied = next;
        if signed != self.signed {
            (self.signed, self.signed_at) = (signed, Some(Instant::now()));
        }
        for Accepted { answer, committed } in accepted {
            // Whoever asked may be gone; what it asked for is done all the same.
            let _ = answer.send(Ok(committed));
        }
        Ok(())
    }

    /// Applied events that no checkpoint covers yet wait for one no longer than until then.
    pub fn checkpoint_due(&self) -> Option<Instant> {
        self.due_over(&self.applied)
    }

    fn is_checkpoint_due(&self, next: &Applied) -> bool {
        self.due_over(next).is_some_and(|due| due <= Instant::now())
    }

    fn due_over(&self, events: &Applied) -> Option<Instant> {
        let every = self.core.options.checkpoint_every.filter(|_| self.signed < events.log.size())?;
        Some(self.signed_at.map_or_else(Instant::now, |since| since + every))
    }

    /// Makes of a batch what the journal keeps: numbers given, receipts written and signed.
    /// `salts` are two for each event: the leaf's, and that of its names.
    fn entry(&self, batch: Batch, first_event: u64, salts: &[[u8; 16]]) -> Result<(Entry, Committed), LedgerError> {
        let Batch { mut events, writes, .. } = batch;
        let (salts, of_names) = salts.split_at(events.len());
        let hiding = self.core.options.names.as_ref().filter(|names| names.hides());
        let mut veils: Vec<Option<Veil>> =
            of_names.iter().map(|salt| hiding.is_some().then(|| Veil::new(*salt))).collect();
        let mut committed = Committed { first_event, receipts: Vec::new() };
        let mut stored = Vec::with_capacity(writes.len());
        for write in writes {
            stored.push(match write {
                Write::Drop(record) => Stored::Drop(Box::new(record)),
                Write::State { drop, to } => Stored::State { drop, to },
                Write::PickedUp { drop, user, at, whole } => Stored::PickedUp { drop, user, at, whole },
                Write::Moved { drop, user, from, to } => Stored::Moved { drop, user, from, to },
                Write::FolderMoved { user, from, to } => Stored::FolderMoved { user, from, to },
                Write::Unlinked { drop, user, path, at } => Stored::Unlinked { drop, user, path, at },
                Write::Expires { drop, expires, bucket } => Stored::Expires { drop, expires, bucket },
                Write::Order { drop, order } => Stored::Order { drop, order },
                Write::Moving { drop, to } => Stored::Moving { drop, to },
                Write::Rewrapped { drop, bucket } => Stored::Rewrapped { drop, bucket },
                Write::Readdressed { drop, added, escrow } => Stored::Readdressed { drop, added, escrow },
                Write::Certificate { event, facts } => {
                    Stored::Certificate(self.certificate(&mut events, &mut veils, first_event, event, facts)?)
                }
                Write::Rejected(rejection) => Stored::Rejected(rejection),
                Write::RejectionOver { user, path } => Stored::RejectionOver { user, path },
                Write::Cosigned { size, line } => Stored::Cosigned { size, line },
                Write::Alarm(alarm) => Stored::Alarm(alarm),
                Write::AlarmOver { cause } => Stored::AlarmOver { cause },
                Write::Notice(notice) => Stored::Notice(notice),
                Write::NoticeOver { id } => Stored::NoticeOver { id },
                Write::NamesKey(record) => Stored::NamesKey(record),
                Write::NamesOver(over) => Stored::NamesOver(over),
                Write::Request(request) => Stored::Request(request),
                Write::RequestOver { id } => Stored::RequestOver { id },
                Write::Receipt { event, facts, signature } => {
                    let mut receipt = self.receipt(&mut events, &mut veils, first_event, event, facts)?;
                    receipt.origin_signature = signature;
                    committed.receipts.push(receipt.id);
                    Stored::Receipt(receipt)
                }
                Write::PolicyText(text) => Stored::PolicyText(text),
                Write::Policy(record) => Stored::Policy(record),
                Write::InForce(in_force) => Stored::InForce(in_force),
                Write::Superseded { drop, by, at } => Stored::Superseded { drop, by, at },
                Write::Duplicate { upload, of } => Stored::Duplicate { upload, of },
                Write::Paper { event, facts } => {
                    Stored::Paper(self.paper(&mut events, &mut veils, first_event, event, &facts)?)
                }
                Write::Consignment(consignment) => Stored::Consignment(consignment),
                Write::ConsignmentClosed { manifest, closed } => Stored::ConsignmentClosed { manifest, closed },
                Write::Matched { signature } => Stored::Matched { signature },
            });
        }
        let numbered = events.into_iter().zip(salts).zip(&mut veils).zip(first_event..);
        let events: Vec<_> = numbered
            .map(|(((event, salt), veil), number)| match veil {
                Some(veil) => event.hidden(number, salt, veil),
                None => event.canonical(number, salt),
            })
            .collect();
        for write in &mut stored {
            let Stored::Receipt(receipt) = write else { continue };
            receipt.log_size = first_event + events.len() as u64;
            // Only now has the event its bytes; the batch has it, or the receipt would have been refused.
            let json = events.get((receipt.event - first_event) as usize).map_or(0, String::len);
            let len = InclusionProof::text_len(&self.core.signer(), json, receipt.event, receipt.log_size);
            receipt.proof_len = u32::try_from(len).unwrap_or(u32::MAX);
        }
        if let Some(hiding) = hiding {
            let clear = std::mem::take(&mut stored);
            clear.into_iter().try_for_each(|write| hiding.seal(write, &mut stored))?;
            let veiled = veils.iter().flatten().zip(first_event..);
            stored.extend(veiled.filter_map(|(veil, event)| hiding.record(veil, event).map(Stored::Names)));
        }
        Ok((Entry { first_event, events, writes: stored }, committed))
    }

    fn paper(
        &self,
        events: &mut [Event],
        veils: &mut [Option<Veil>],
        first_event: u64,
        event: usize,
        facts: &PaperFacts,
    ) -> Result<Paper, LedgerError> {
        let about = events.get_mut(event).filter(|about| about.receipt_sha256.is_none());
        let about = about.ok_or(LedgerError::PaperWithoutEvent)?;
        let number = first_event + event as u64;
        let signer = self.core.signer();
        let mut show = |path: &VirtualPath| hidden(veils, event, path);
        let text = facts.text(signer.server(), number, &mut show);
        about.receipt_sha256 = Some(Digest(Sha256::digest(&text).into()));
        let (user, path, at) = facts.place();
        Ok(Paper {
            kind: facts.kind(),
            user: user.clone(),
            path: path.clone(),
            at,
            event: number,
            signature: signer.sign(super::receipt::RECEIPT_NAMESPACE, text.as_bytes())?,
            text,
        })
    }

    fn receipt(
        &self,
        events: &mut [Event],
        veils: &mut [Option<Veil>],
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
        let signer = self.core.signer();
        let path = facts.path.clear().cloned().ok_or(LedgerError::ReceiptWithoutEvent(facts.id))?;
        let shown = ReceiptFacts { path: hidden(veils, event, &path), ..facts.clone() };
        let text = Receipt::new(signer.server(), number, shown).text();
        about.receipt = Some(facts.id);
        about.earlier = facts.earlier;
        about.receipt_sha256 = Some(Digest(Sha256::digest(&text).into()));
        Ok(ReceiptRecord {
            id: facts.id,
            drop: facts.drop,
            user: facts.sender,
            path,
            size: facts.size,
            sha256: facts.sha256,
            at: facts.received,
            event: number,
            log_size: 0,
            proof_len: 0,
            earlier: facts.earlier,
            signature: signer.sign(super::receipt::RECEIPT_NAMESPACE, text.as_bytes())?,
            content_signature: signer.sign_content(&facts.sha256)?,
            origin_signature: None,
            text,
        })
    }

    fn certificate(
        &self,
        events: &mut [Event],
        veils: &mut [Option<Veil>],
        first_event: u64,
        event: usize,
        mut facts: CertificateFacts,
    ) -> Result<CertificateRecord, LedgerError> {
        // Of a drop from before names were hidden.
        if let Some(path) = facts.path.clear().cloned() {
            facts.path = hidden(veils, event, &path);
        }
        let about = events
            .get_mut(event)
            .filter(|about| about.kind == Kind::DestructionCertified && about.certificate_sha256.is_none())
            .ok_or(LedgerError::CertificateWithoutEvent(facts.drop))?;
        let signer = self.core.signer();
        let text = facts.text(signer.server(), first_event + event as u64);
        about.certificate_sha256 = Some(Digest(Sha256::digest(&text).into()));
        let signature = signer.sign(CERTIFICATE_NAMESPACE, text.as_bytes())?;
        Ok(CertificateRecord { drop: facts.drop, at: facts.key_destroyed.unwrap_or(facts.destroyed), text, signature })
    }

    /// Begins a new month or a new segment when it is time. A clock that goes back changes nothing.
    fn turn_if_due(&mut self) -> Result<(), Fatal> {
        let now = Month::of((self.core.options.clock)());
        if now > self.month {
            self.settler.settle(&self.core)?;
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

/// A path as a text about an event of a batch has it.
fn hidden(veils: &mut [Option<Veil>], event: usize, path: &VirtualPath) -> Name {
    match veils.get_mut(event) {
        Some(Some(veil)) => veil.hide(path),
        _ => Name::Clear(path.clone()),
    }
}

/// Ends the process: whatever was not acknowledged is decided by the next start.
pub fn die(why: &str) -> ! {
    tracing::error!("the ledger cannot go on, and nothing can without it: {why}");
    std::process::abort()
}
