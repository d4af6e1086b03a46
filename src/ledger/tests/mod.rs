//! The ledger's promises, tested on a real directory. Here: the site all tests arrange with, and what is read back of
//! what was committed.

mod approvals;
mod audit;
mod consignments;
mod crash;
mod keygen;
mod listing;
mod lives;
mod months;
mod policies;
mod proofs;
mod prune;
mod rejections;
mod scale;
mod tamper;
mod versions;

use std::path::{Path, PathBuf};
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::clock::Time;
use crate::names::{Digest, DropId, ReceiptId, UserName};
use crate::vpath::VirtualPath;

pub const DAY: Duration = Duration::from_secs(86_400);

/// A directory for a ledger, and what fills it.
pub struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn dir(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    pub fn open(&self) -> Ledger {
        let (ledger, found) = open(&self.dir(), options()).unwrap();
        assert_eq!(found, vec![]);
        ledger
    }
}

pub fn open(dir: &Path, options: Options) -> Result<(Ledger, Vec<Recovery>), OpenError> {
    Ledger::open(dir, signer(), options)
}

/// Without ballast, and always in the same month.
pub fn options() -> Options {
    Options { ballast_bytes: 0, checkpoint_every: None, clock: || noon(), ..Options::default() }
}

pub fn noon() -> Time {
    Time::parse_rfc3339("2026-11-22T12:00:00Z").unwrap()
}

pub fn signer() -> Signer {
    let key = KeypairData::Ed25519(Ed25519Keypair::from_seed(&[7; 32]));
    Signer::new("drop.example", PrivateKey::new(key, "").unwrap()).unwrap()
}

pub fn user(name: &str) -> UserName {
    name.parse().unwrap()
}

pub fn path(text: &str) -> VirtualPath {
    VirtualPath::parse(text.as_bytes()).unwrap()
}

/// Drop `n`: acme's `/radiology/<n>.dcm` of `n` bytes, for radiology, received at noon, kept `n` days.
pub fn drop_number(n: u8) -> DropRecord {
    DropRecord {
        drop: DropId([n; 16]),
        receipt: ReceiptId([n; 16]),
        sender: user("acme"),
        sender_key: Some("SHA256:acme".to_owned()),
        kind: DropKind::Drop,
        path: path(&format!("/radiology/{n}.dcm")),
        unlinked: None,
        deliveries: vec![Delivery::new(user("radiology"), path(&format!("/inbox/acme/{n}.dcm")), 0)],
        size: u64::from(n),
        sha256: Digest(Sha256::digest(content(n)).into()),
        sums: Default::default(),
        mtime: None,
        received: noon(),
        expires: Some(noon().plus(DAY * u32::from(n))),
        pickups: None,
        bucket: Some(u64::from(n) * 24),
        state: DropState::Live,
        policy: Digest([9; 32]),
        superseded: None,
        escrow: None,
        order: None,
        moving: None,
        certified: None,
        unmatched_signature: None,
    }
}

pub fn content(n: u8) -> Vec<u8> {
    vec![n; usize::from(n)]
}

/// What the keeper hands in when an upload is complete.
pub fn upload(record: DropRecord) -> Batch {
    let facts = ReceiptFacts {
        id: record.receipt,
        drop: record.drop,
        sender: record.sender.clone(),
        sender_key: record.sender_key.clone(),
        escrow: None,
        recipients: vec![ReceiptRecipient { user: user("radiology"), key: Some("SHA256:radiology".to_owned()) }],
        end_to_end: false,
        folder: record.path.parent().unwrap(),
        path: record.path.clone().into(),
        earlier: None,
        origin: None,
        size: record.size,
        sha256: record.sha256,
        received: record.received,
        expires: record.expires,
        pickups: record.pickups,
        policy: record.policy,
    };
    let mut event = Event::new(record.received, Kind::UploadCommitted);
    event.user = Some(record.sender.clone());
    event.drop = Some(record.drop);
    event.bytes = Some(record.size);
    Batch {
        events: vec![Event::new(record.received, Kind::UploadResumed), event],
        writes: vec![Write::Drop(record), Write::Receipt { event: 1, facts, signature: None }],
        ..Batch::default()
    }
}

pub fn event(kind: Kind) -> Batch {
    Batch { events: vec![Event::new(noon(), kind)], ..Batch::default() }
}

pub fn state(n: u8, to: DropState) -> Batch {
    let mut batch = event(Kind::AdminCommand);
    batch.writes.push(Write::State { drop: DropId([n; 16]), to });
    batch
}

/// What the keeper hands in when a drop has expired and its key is destroyed.
pub fn certificate(record: &DropRecord) -> Batch {
    let recipient = |of: &Delivery| CertifiedRecipient { user: of.user.clone(), key: None, pulled: 0 };
    let facts = CertificateFacts {
        drop: record.drop,
        receipt: record.receipt,
        sha256: record.sha256,
        size: record.size,
        sender: record.sender.clone(),
        sender_key: record.sender_key.clone(),
        recipients: record.deliveries.iter().map(recipient).collect(),
        path: record.path.clone().into(),
        received: record.received,
        expires: record.expires,
        order: None,
        destroyed: noon(),
        key_destroyed: Some(noon()),
    };
    let mut about = Event::new(noon(), Kind::DestructionCertified);
    about.drop = Some(record.drop);
    Batch { events: vec![about], writes: vec![Write::Certificate { event: 0, facts }], ..Batch::default() }
}

/// Everything a reader can see, for comparing two ledgers.
pub fn everything(ledger: &Ledger) -> impl PartialEq + std::fmt::Debug + use<> {
    let listing = ledger.receipts_under(&user("acme"), &path("/radiology"), None, 1000).unwrap();
    (
        (ledger.head(), ledger.events(0, 10_000).unwrap(), ledger.drops(None, 1000).unwrap()),
        (ledger.receipts(None, 1000).unwrap(), ledger.due(Time(u64::MAX), 1000).unwrap(), listing),
        (ledger.usage(&user("acme")).unwrap(), ledger.live_drops().unwrap()),
        (1..=20).map(|n| ledger.live_in_bucket(n * 24).unwrap()).collect::<Vec<_>>(),
    )
}

/// A copy of a directory, as a reader of the disk would find it now.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn what_was_acknowledged_is_read_back_after_a_restart() {
    let site = Site::new();
    let ledger = site.open();
    let committed = ledger.commit(upload(drop_number(1))).unwrap();
    assert_eq!(committed, Committed { first_event: 0, receipts: vec![ReceiptId([1; 16])] });
    assert_eq!(ledger.commit(upload(drop_number(2))).unwrap().first_event, 2);
    let before = everything(&ledger);
    ledger.close();

    let ledger = site.open();
    assert_eq!(everything(&ledger), before);
    assert_eq!(ledger.drop_record(&DropId([2; 16])).unwrap(), Some(drop_number(2)));
    assert_eq!(ledger.drop_at(&user("acme"), &path("/radiology/1.dcm")).unwrap(), Some(drop_number(1)));
    assert_eq!(ledger.drop_at(&user("radiology"), &path("/inbox/acme/1.dcm")).unwrap(), Some(drop_number(1)));
    assert_eq!(ledger.usage(&user("acme")).unwrap(), Usage { bytes: 3, files: 2 });
    assert_eq!(ledger.head().size, 4);
}

#[test]
fn a_receipt_and_its_event_name_each_other() {
    let site = Site::new();
    let ledger = site.open();
    ledger.commit(event(Kind::DaemonStarted)).unwrap();
    ledger.commit(upload(drop_number(3))).unwrap();
    let record = ledger.receipt(&ReceiptId([3; 16])).unwrap().unwrap();
    let receipt = Receipt::parse(&record.text).unwrap();
    assert_eq!((receipt.event, record.event), (2, 2));
    assert_eq!(receipt.server, "drop.example");
    let (number, json) = ledger.events(2, 1).unwrap().remove(0);
    assert_eq!(number, 2);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["receipt"], record.id.to_string());
    assert_eq!(json["receipt_sha256"], crate::names::hex(&Sha256::digest(&record.text)));
}

#[test]
fn every_event_is_proven_to_be_in_the_log() {
    let site = Site::new();
    let ledger = site.open();
    for _ in 0..7 {
        ledger.commit(event(Kind::Listed)).unwrap();
    }
    let head = ledger.head();
    for (number, json) in ledger.events(0, 100).unwrap() {
        let proof = ledger.inclusion(number, head.size).unwrap().unwrap();
        assert_eq!(proof.leaf, merkle::leaf_hash(json.as_bytes()));
        let root = merkle::root_from_inclusion(proof.leaf, number, head.size, &proof.hashes);
        assert_eq!(root, Some(head.root.0));
    }
    assert_eq!(ledger.inclusion(7, 7).unwrap(), None);
    assert!(ledger.consistency(3, 7).unwrap().is_some());
}

#[test]
fn a_refused_batch_leaves_nothing_and_the_ones_beside_it_are_kept() {
    let site = Site::new();
    let ledger = site.open();
    ledger.commit(upload(drop_number(1))).unwrap();
    let again = ledger.submit(upload(drop_number(1)));
    let good = ledger.submit(upload(drop_number(2)));
    let unknown = ledger.submit(state(9, DropState::Held));
    let mut lone = upload(drop_number(3));
    lone.events.clear();
    let lone = ledger.submit(lone);
    assert!(matches!(again.blocking_recv(), Ok(Err(LedgerError::Refused(Refusal::DropExists(_))))));
    assert_eq!(good.blocking_recv().unwrap().unwrap().first_event, 2);
    assert!(matches!(unknown.blocking_recv(), Ok(Err(LedgerError::Refused(Refusal::NoSuchDrop(_))))));
    assert!(matches!(lone.blocking_recv(), Ok(Err(LedgerError::ReceiptWithoutEvent(_)))));
    assert_eq!(ledger.head().size, 4);
    assert_eq!(ledger.usage(&user("acme")).unwrap().files, 2);
}

#[test]
fn batches_of_one_group_see_each_other() {
    let site = Site::new();
    let ledger = site.open();
    // All are queued before the first is answered, so most share a group.
    let mut answers = Vec::new();
    for n in 1..=20 {
        answers.push(ledger.submit(upload(drop_number(n))));
        answers.push(ledger.submit(state(n, DropState::Expiring { since: noon() })));
        answers.push(ledger.submit(state(n, DropState::Expired { at: noon() })));
    }
    answers.into_iter().for_each(|answer| drop(answer.blocking_recv().unwrap().unwrap()));
    assert_eq!(ledger.usage(&user("acme")).unwrap(), Usage::default());
    assert_eq!(ledger.due(Time(u64::MAX), 100).unwrap(), vec![]);
    assert_eq!(ledger.live_drops().unwrap(), 0);
}

#[test]
fn only_one_process_has_the_ledger_open() {
    let site = Site::new();
    let _held = site.open();
    assert!(matches!(open(&site.dir(), options()), Err(OpenError::InUse)));
}

#[test]
fn a_closed_ledger_says_so() {
    let site = Site::new();
    let ledger = site.open();
    let other = ledger.clone();
    ledger.close();
    assert!(matches!(other.commit(event(Kind::Listed)), Err(LedgerError::Stopped)));
}
