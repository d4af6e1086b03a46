//! Whether a log is what was signed: every event is held against its leaf, the leaves against every checkpoint, each
//! receipt against the event that commits to it. Works through pages, in the memory of one, on whatever has the records:
//! an open ledger, a daemon that is asked, an export. No I/O of its own.

use std::fmt;

use russh::keys::PublicKey;
use russh::keys::ssh_key::SshSig;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::certificate::CERTIFICATE_NAMESPACE;
use super::checkpoint::{Checkpoint, Claim, origin};
use super::event::Kind;
use super::merkle::{Frontier, Hash, leaf_hash};
use super::note::{Note, NoteKey, NoteKind};
use super::receipt::{CHECKPOINT_NAMESPACE, RECEIPT_NAMESPACE, signature_holds};
use super::signers::AllowedSigners;
use super::store::{Head, Ledger, LedgerError};
use crate::clock::Time;
use crate::names::{Digest, DropId, ReceiptId, hex};

/// Problems that are told one by one; of more, only how many.
const TOLD_MAX: usize = 100;

/// An event as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    pub number: u64,
    /// Its leaf hash where that is kept beside it.
    pub leaf: Option<Hash>,
    /// Canonical JSON; `None` where only the leaf is left.
    pub json: Option<String>,
}

/// Who has the records.
pub trait Records {
    type Error;

    /// The log before the first event there is: what pruning left of those before it.
    fn beginning(&mut self) -> Result<Frontier, Self::Error>;

    /// Some events from `from` on, in order; none at the end.
    fn events(&mut self, from: u64) -> Result<Vec<Logged>, Self::Error>;

    /// Some checkpoints over more than `after` events, the smaller first; none at the end.
    fn checkpoints(&mut self, after: u64) -> Result<Vec<Checkpoint>, Self::Error>;

    /// The text and the signature of the paper that this event is about, or of the certificate of this drop. `None` also
    /// of a paper that a newer one took the place of.
    fn paper(&mut self, event: u64, certified: Option<DropId>) -> Result<Option<(String, String)>, Self::Error>;

    /// A receipt's text and its signature.
    fn receipt(&mut self, id: &ReceiptId) -> Result<Option<(String, String)>, Self::Error>;
}

/// Records of an open ledger looked at in one go. In the ledger's own tests few, so that the edges of pages are passed.
const PAGE: usize = if cfg!(test) { 3 } else { 256 };

impl Records for Ledger {
    type Error = LedgerError;

    fn beginning(&mut self) -> Result<Frontier, LedgerError> {
        Ok(Ledger::beginning(self))
    }

    fn events(&mut self, from: u64) -> Result<Vec<Logged>, LedgerError> {
        let page = self.logged(from, PAGE)?;
        Ok(page.into_iter().map(|(number, leaf, json)| Logged { number, leaf: Some(leaf), json: Some(json) }).collect())
    }

    fn checkpoints(&mut self, after: u64) -> Result<Vec<Checkpoint>, LedgerError> {
        Ledger::checkpoints(self, after, PAGE)
    }

    fn paper(&mut self, event: u64, certified: Option<DropId>) -> Result<Option<(String, String)>, LedgerError> {
        Ok(match certified {
            Some(drop) => self.certificate(&drop)?.map(|record| (record.text, record.signature)),
            None => self.paper_of_event(event)?.map(|paper| (paper.text, paper.signature)),
        })
    }

    fn receipt(&mut self, id: &ReceiptId) -> Result<Option<(String, String)>, LedgerError> {
        Ok(Ledger::receipt(self, id)?.map(|record| (record.text, record.signature)))
    }
}

/// A checkpoint that somebody kept elsewhere.
#[derive(Clone, Debug)]
pub struct Outside {
    /// Where it came from, for people.
    pub name: String,
    pub head: Head,
}

/// What is checked against.
pub struct Trust {
    pub server: String,
    pub signers: AllowedSigners,
    pub now: Time,
}

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Events that are not there, though later ones are.
    Missing {
        from: u64,
        to: u64,
    },
    /// The entry in this place says that it is another.
    Misplaced {
        event: u64,
        says: u64,
    },
    /// The entry cannot be read.
    Unreadable {
        event: u64,
    },
    /// The entry is not the one whose hash was kept beside it.
    Changed {
        event: u64,
    },
    /// The first `size` events are not those that were signed; what differs is among the events from `since` on.
    OtherLog {
        source: String,
        size: u64,
        since: u64,
    },
    /// The log has fewer events than were signed.
    Short {
        source: String,
        size: u64,
        has: u64,
    },
    /// A checkpoint that the server's key did not sign.
    Signature {
        size: u64,
    },
    /// A checkpoint that is not one.
    Checkpoint {
        size: u64,
    },
    /// A receipt is gone, is not the one that its event commits to, or its signature is not the server's.
    ReceiptMissing {
        event: u64,
        receipt: ReceiptId,
    },
    ReceiptChanged {
        event: u64,
        receipt: ReceiptId,
    },
    ReceiptSignature {
        event: u64,
        receipt: ReceiptId,
    },
    /// A certificate is gone. Nothing takes the place of one, so it is there as long as its event is.
    CertificateMissing {
        event: u64,
        drop: DropId,
    },
    /// A paper or a certificate is not the one that its event commits to, or its signature is not the server's.
    PaperChanged {
        event: u64,
    },
    PaperSignature {
        event: u64,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How many there were, those that were pruned with them.
    pub events: u64,
    /// How many were pruned, and are known by their hashes alone.
    pub pruned: u64,
    pub receipts: u64,
    /// Papers and certificates that are kept.
    pub papers: u64,
    pub checkpoints: u64,
    /// The last event that a good checkpoint covers, plus one.
    pub signed: u64,
    /// Of all events; `None` if some are missing.
    pub root: Option<Digest>,
    pub problems: Vec<Problem>,
    /// Problems beyond those told.
    pub more: u64,
}

impl Report {
    pub fn holds(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, problem: Problem) {
        // A gap is one problem, however it was come upon.
        if let (Some(Problem::Missing { to, .. }), Problem::Missing { from, to: end }) =
            (self.problems.last_mut(), &problem)
            && to == from
        {
            *to = *end;
            return;
        }
        if self.problems.len() < TOLD_MAX { self.problems.push(problem) } else { self.more += 1 }
    }
}

impl Problem {
    /// The entry that is wrong, or the first that may be.
    pub fn event(&self) -> Option<u64> {
        match self {
            Self::Missing { from: event, .. }
            | Self::Misplaced { event, .. }
            | Self::Unreadable { event }
            | Self::Changed { event }
            | Self::OtherLog { since: event, .. }
            | Self::Short { has: event, .. }
            | Self::ReceiptMissing { event, .. }
            | Self::ReceiptChanged { event, .. }
            | Self::ReceiptSignature { event, .. }
            | Self::CertificateMissing { event, .. }
            | Self::PaperChanged { event }
            | Self::PaperSignature { event } => Some(*event),
            Self::Signature { .. } | Self::Checkpoint { .. } => None,
        }
    }

    pub fn word(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing",
            Self::Misplaced { .. } => "misplaced",
            Self::Unreadable { .. } => "unreadable",
            Self::Changed { .. } => "changed",
            Self::OtherLog { .. } => "other-log",
            Self::Short { .. } => "short",
            Self::Signature { .. } => "checkpoint-signature",
            Self::Checkpoint { .. } => "checkpoint-unreadable",
            Self::ReceiptMissing { .. } => "receipt-missing",
            Self::ReceiptChanged { .. } => "receipt-changed",
            Self::ReceiptSignature { .. } => "receipt-signature",
            Self::CertificateMissing { .. } => "certificate-missing",
            Self::PaperChanged { .. } => "paper-changed",
            Self::PaperSignature { .. } => "paper-signature",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { from, to } if from + 1 == *to => write!(f, "event {from} is missing"),
            Self::Missing { from, to } => write!(f, "events {from} to {} are missing", to - 1),
            Self::Misplaced { event, says } => write!(f, "in the place of event {event} stands event {says}"),
            Self::Unreadable { event } => write!(f, "event {event} cannot be read"),
            Self::Changed { event } => write!(f, "event {event} was changed: it does not have the hash kept beside it"),
            Self::OtherLog { source, size, since } if *since + 1 == *size => {
                write!(f, "event {since} is not the one that was signed ({source}, over {size} events)")
            }
            Self::OtherLog { source, size, since } => write!(
                f,
                "the first {size} events are not those that were signed ({source}); the first that differs is one of {since} to {}",
                size - 1
            ),
            Self::Short { source, size, has } => {
                write!(
                    f,
                    "the log ends after {has} events, and {size} were signed ({source}): it was cut off or is an older copy"
                )
            }
            Self::Signature { size } => {
                write!(f, "the checkpoint over {size} events is not signed by a key that counts for this server")
            }
            Self::Checkpoint { size } => write!(f, "the checkpoint over {size} events does not say what it should"),
            Self::ReceiptMissing { event, receipt } => write!(f, "receipt {receipt}, of event {event}, is missing"),
            Self::ReceiptChanged { event, receipt } => {
                write!(f, "receipt {receipt} is not the one that event {event} commits to")
            }
            Self::ReceiptSignature { event, receipt } => {
                write!(f, "receipt {receipt}, of event {event}, is not signed by a key that counts for this server")
            }
            Self::CertificateMissing { event, drop } => {
                write!(f, "the certificate of drop {drop}, of event {event}, is missing")
            }
            Self::PaperChanged { event } => write!(f, "the paper of event {event} is not the one that it commits to"),
            Self::PaperSignature { event } => {
                write!(f, "the paper of event {event} is not signed by a key that counts for this server")
            }
        }
    }
}

impl Trust {
    /// Whether an SSHSIG over these bytes is by a key that counts.
    pub fn signed(&self, namespace: &str, bytes: &[u8], signature: &str) -> bool {
        let Ok(signature) = signature.parse::<SshSig>() else { return false };
        let key = PublicKey::from(signature.public_key().clone());
        self.signers.allow(&key, &self.server, namespace, self.now)
            && signature_holds(&key, namespace, bytes, &signature)
    }

    /// Whether one of the note's signatures is by a key that counts.
    pub fn signed_note(&self, note: &Note) -> bool {
        let name = origin(&self.server);
        let keys = self.signers.keys_of(&self.server, CHECKPOINT_NAMESPACE, self.now);
        let mut keys = keys.filter_map(|key| NoteKey::of(&name, NoteKind::Log, key));
        keys.any(|key| note.signed_by(&key).is_some())
    }
}

/// The receipt that an event was given, and the hash of its text that it commits to.
pub fn receipt_of(event: &Value) -> Option<(ReceiptId, &str)> {
    let word = |key: &str| event.get(key).and_then(Value::as_str);
    let kinds = [Kind::UploadCommitted, Kind::UploadDuplicate];
    let given = word("kind").and_then(Kind::from_word).is_some_and(|kind| kinds.contains(&kind));
    Some((word("receipt").filter(|_| given)?.parse().ok()?, word("receipt_sha256")?))
}

/// What else an event commits to.
pub struct PaperOf<'a> {
    pub namespace: &'static str,
    /// The drop, if it is a certificate.
    pub certified: Option<DropId>,
    pub sha256: &'a str,
}

/// The paper or certificate that an event is about.
pub fn paper_of(event: &Value) -> Option<PaperOf<'_>> {
    let word = |key: &str| event.get(key).and_then(Value::as_str);
    match Kind::from_word(word("kind")?)? {
        Kind::DestructionCertified => Some(PaperOf {
            namespace: CERTIFICATE_NAMESPACE,
            certified: Some(word("drop")?.parse().ok()?),
            sha256: word("certificate_sha256")?,
        }),
        Kind::DownloadEnded | Kind::ConsignmentClosed => {
            Some(PaperOf { namespace: RECEIPT_NAMESPACE, certified: None, sha256: word("receipt_sha256")? })
        }
        _ => None,
    }
}

/// Goes through all of it. `told` hears how many events are done, for whoever waits.
pub fn verify<R: Records>(
    records: &mut R,
    trust: &Trust,
    outside: &[Outside],
    mut told: impl FnMut(u64),
) -> Result<Report, R::Error> {
    let beginning = records.beginning()?;
    let pruned = beginning.size();
    // Of a log inside what was pruned nothing is left to compare.
    let mut outside: Vec<&Outside> = outside.iter().filter(|checkpoint| checkpoint.head.size >= pruned).collect();
    outside.sort_by_key(|checkpoint| checkpoint.head.size);
    let mut walk = Walk {
        trust,
        log: beginning,
        broken: false,
        wrong: false,
        outside,
        own: Vec::new(),
        after: Some(pruned),
        report: Report {
            events: pruned,
            pruned,
            receipts: 0,
            papers: 0,
            checkpoints: 0,
            signed: pruned,
            root: None,
            problems: Vec::new(),
            more: 0,
        },
    };
    walk.fetch(records)?;
    // Every log begins with nothing, or with what pruning left.
    walk.compare();
    loop {
        let page = records.events(walk.report.events)?;
        if page.is_empty() {
            break;
        }
        for logged in page {
            walk.event(records, logged)?;
        }
        told(walk.report.events);
    }
    walk.rest(records)?;
    let mut report = walk.report;
    report.root = (!walk.broken).then(|| Digest(walk.log.root()));
    Ok(report)
}

struct Walk<'a> {
    trust: &'a Trust,
    log: Frontier,
    /// Events are missing: the log cannot be followed to any root after them.
    broken: bool,
    /// One of the log's own checkpoints did not fit; the later ones tell nothing new.
    wrong: bool,
    /// Not reached yet, the smallest first.
    outside: Vec<&'a Outside>,
    /// The same of the log's own: of a page the rest, in reverse.
    own: Vec<Checkpoint>,
    /// Where the next page begins; `None` after the last.
    after: Option<u64>,
    report: Report,
}

impl Walk<'_> {
    fn fetch<R: Records>(&mut self, records: &mut R) -> Result<(), R::Error> {
        if let (true, Some(after)) = (self.own.is_empty(), self.after) {
            self.own = records.checkpoints(after)?;
            self.own.retain(|checkpoint| checkpoint.size > after);
            self.own.reverse();
            self.after = self.own.first().map(|last| last.size);
        }
        Ok(())
    }

    fn event<R: Records>(&mut self, records: &mut R, logged: Logged) -> Result<(), R::Error> {
        let expected = self.report.events;
        if logged.number < expected {
            self.report.add(Problem::Misplaced { event: expected, says: logged.number });
            return Ok(());
        }
        if logged.number > expected {
            self.report.add(Problem::Missing { from: expected, to: logged.number });
            self.broken = true;
            self.report.events = logged.number;
        }
        let number = self.report.events;
        let leaf = match &logged.json {
            Some(json) => self.entry(records, number, json, logged.leaf)?,
            None => {
                self.report.add(Problem::Missing { from: number, to: number + 1 });
                logged.leaf
            }
        };
        match leaf {
            Some(leaf) => drop(self.log.push(leaf)),
            None => self.broken = true,
        }
        self.report.events = number + 1;
        self.fetch(records)?;
        self.compare();
        Ok(())
    }

    /// One entry by itself. Answers the leaf that the log goes on with: the one that was kept, if one was.
    fn entry<R: Records>(
        &mut self,
        records: &mut R,
        number: u64,
        json: &str,
        kept: Option<Hash>,
    ) -> Result<Option<Hash>, R::Error> {
        let leaf = leaf_hash(json.as_bytes());
        if kept.is_some_and(|kept| kept != leaf) {
            self.report.add(Problem::Changed { event: number });
        }
        let Ok(event) = serde_json::from_str::<Value>(json) else {
            self.report.add(Problem::Unreadable { event: number });
            return Ok(kept.or(Some(leaf)));
        };
        match event.get("n").and_then(Value::as_u64) {
            Some(says) if says == number => {}
            Some(says) => self.report.add(Problem::Misplaced { event: number, says }),
            None => self.report.add(Problem::Unreadable { event: number }),
        }
        if let Some((receipt, sha256)) = receipt_of(&event) {
            self.receipt(records, number, receipt, sha256)?;
        }
        if let Some(paper) = paper_of(&event) {
            self.paper(records, number, &paper)?;
        }
        Ok(kept.or(Some(leaf)))
    }

    fn paper<R: Records>(&mut self, records: &mut R, event: u64, of: &PaperOf<'_>) -> Result<(), R::Error> {
        let Some((text, signature)) = records.paper(event, of.certified)? else {
            if let Some(drop) = of.certified {
                self.report.add(Problem::CertificateMissing { event, drop });
            }
            return Ok(());
        };
        self.report.papers += 1;
        if hex(&Sha256::digest(&text)) != of.sha256 {
            self.report.add(Problem::PaperChanged { event });
        } else if !self.trust.signed(of.namespace, text.as_bytes(), &signature) {
            self.report.add(Problem::PaperSignature { event });
        }
        Ok(())
    }

    fn receipt<R: Records>(
        &mut self,
        records: &mut R,
        event: u64,
        receipt: ReceiptId,
        sha256: &str,
    ) -> Result<(), R::Error> {
        self.report.receipts += 1;
        match records.receipt(&receipt)? {
            None => self.report.add(Problem::ReceiptMissing { event, receipt }),
            Some((text, _)) if hex(&Sha256::digest(&text)) != sha256 => {
                self.report.add(Problem::ReceiptChanged { event, receipt });
            }
            Some((text, signature)) if !self.trust.signed(RECEIPT_NAMESPACE, text.as_bytes(), &signature) => {
                self.report.add(Problem::ReceiptSignature { event, receipt });
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Holds the log as it is now against the checkpoints over just so many events.
    fn compare(&mut self) {
        let size = self.report.events;
        let root = Digest(self.log.root());
        while let Some(outside) = self.outside.first().filter(|outside| outside.head.size <= size).copied() {
            self.outside.remove(0);
            if !self.broken && outside.head.size == size {
                self.judge(&outside.name.clone(), outside.head, root);
            }
        }
        while self.own.last().is_some_and(|checkpoint| checkpoint.size <= size) {
            let Some(checkpoint) = self.own.pop() else { break };
            let Some(head) = self.own_claim(&checkpoint) else { continue };
            if !self.broken && !self.wrong && head.size == size {
                self.wrong = !self.judge("a checkpoint of its own", head, root);
            }
        }
    }

    fn judge(&mut self, source: &str, head: Head, root: Digest) -> bool {
        if head.root == root {
            self.report.signed = head.size;
            return true;
        }
        let (source, since) = (source.to_owned(), self.report.signed);
        self.report.add(Problem::OtherLog { source, size: head.size, since });
        false
    }

    /// What one of the log's own checkpoints says, if it is signed.
    fn own_claim(&mut self, checkpoint: &Checkpoint) -> Option<Head> {
        self.report.checkpoints += 1;
        let size = checkpoint.size;
        let note = Note::parse(&checkpoint.note).ok();
        let claim = Claim::parse(&checkpoint.body).filter(|claim| {
            let same = note.as_ref().is_none_or(|note| note.text == checkpoint.body);
            same && claim.head.size == size && claim.origin == origin(&self.trust.server)
        });
        let Some(claim) = claim else {
            self.report.add(Problem::Checkpoint { size });
            return None;
        };
        // A receipt key that is not Ed25519 signs no notes.
        let noted = note.is_none_or(|note| self.trust.signed_note(&note));
        if !noted || !self.trust.signed(CHECKPOINT_NAMESPACE, checkpoint.body.as_bytes(), &checkpoint.signature) {
            self.report.add(Problem::Signature { size });
            return None;
        }
        Some(claim.head)
    }

    /// Checkpoints over more events than there are.
    fn rest<R: Records>(&mut self, records: &mut R) -> Result<(), R::Error> {
        let has = self.report.events;
        for outside in std::mem::take(&mut self.outside) {
            let (source, size) = (outside.name.clone(), outside.head.size);
            self.report.add(Problem::Short { source, size, has });
        }
        let mut told = false;
        loop {
            self.fetch(records)?;
            let Some(checkpoint) = self.own.pop() else { return Ok(()) };
            if let (false, Some(head)) = (told, self.own_claim(&checkpoint)) {
                told = true;
                let source = "a checkpoint of its own".to_owned();
                self.report.add(Problem::Short { source, size: head.size, has });
            }
        }
    }
}
