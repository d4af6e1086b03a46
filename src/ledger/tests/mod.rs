//! The ledger's promises, tested on a real directory. Here: the site all tests arrange with, and what is read back of
//! what was committed.

mod crash;
mod keygen;
mod months;
mod tamper;

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
    Options { ballast_bytes: 0, clock: || noon(), ..Options::default() }
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
        mtime: None,
        received: noon(),
        expires: Some(noon().plus(DAY * u32::from(n))),
        bucket: Some(u64::from(n) * 24),
        state: DropState::Live,
        policy: Digest([9; 32]),
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
        recipients: vec![ReceiptRecipient { user: user("radiology"), key: Some("SHA256:radiology".to_owned()) }],
        folder: record.path.parent().unwrap(),
        path: record.path.clone(),
        size: record.size,
        sha256: record.sha256,
        received: record.received,
        expires: record.expires,
        policy: record.policy,
    };
    let mut event = Event::new(record.received, Kind::UploadCommitted);
    event.user = Some(record.sender.clone());
    event.drop = Some(record.drop);
    event.bytes = Some(record.size);
    Batch {
        events: vec![Event::new(record.received, Kind::UploadStarted), event],
        writes: vec![Write::Drop(record), Write::Receipt { event: 1, facts }],
        urgent: false,
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
fn drops_come_due_in_the_order_of_their_expiry_and_begun_destructions_first() {
    let site = Site::new();
    let ledger = site.open();
    for n in [5, 2, 9, 4] {
        ledger.commit(upload(drop_number(n))).unwrap();
    }
    let due = |days: u32| -> Vec<u8> {
        ledger.due(noon().plus(DAY * days), 100).unwrap().iter().map(|record| record.drop.0[0]).collect()
    };
    assert_eq!(due(1), [0; 0]);
    assert_eq!(due(5), [2, 4, 5]);
    ledger.commit(state(9, DropState::Expiring { since: noon() })).unwrap();
    assert_eq!(due(0), [9]);
    assert_eq!(due(4), [9, 2, 4]);
    ledger.commit(state(4, DropState::Held)).unwrap();
    assert_eq!(due(5), [9, 2, 5]);
    let mut hold = event(Kind::Released);
    hold.writes.push(Write::Expires { drop: DropId([2; 16]), expires: None, bucket: Some(7 * 24) });
    ledger.commit(hold).unwrap();
    assert_eq!(due(5), [9, 5]);
    assert_eq!(ledger.live_in_bucket(2 * 24).unwrap(), 0);
    assert_eq!(ledger.live_in_bucket(7 * 24).unwrap(), 1);
}

#[test]
fn a_drop_expires_exactly_once_and_frees_its_sender_and_its_bucket() {
    let site = Site::new();
    let ledger = site.open();
    ledger.commit(upload(drop_number(1))).unwrap();
    assert_eq!(ledger.live_in_bucket(24).unwrap(), 1);
    assert!(ledger.commit(state(1, DropState::Expired { at: noon() })).is_err(), "not before it is expiring");
    ledger.commit(state(1, DropState::Expiring { since: noon() })).unwrap();
    assert_eq!(ledger.drop_at(&user("acme"), &path("/radiology/1.dcm")).unwrap(), None);
    assert_eq!(ledger.live_in_bucket(24).unwrap(), 1, "its files may still be there");
    assert!(ledger.commit(state(1, DropState::Expiring { since: noon() })).is_err());
    ledger.commit(state(1, DropState::Expired { at: noon() })).unwrap();
    let size = ledger.head().size;
    assert!(ledger.commit(state(1, DropState::Expired { at: noon() })).is_err());
    assert_eq!(ledger.head().size, size, "and its event was not recorded again");
    assert_eq!(ledger.live_in_bucket(24).unwrap(), 0);
    assert_eq!(ledger.usage(&user("acme")).unwrap(), Usage::default());
    assert!(ledger.receipt(&ReceiptId([1; 16])).unwrap().is_some(), "the receipt stays");
}

#[test]
fn entries_follow_renames_and_removals_of_one_side_only() {
    let site = Site::new();
    let ledger = site.open();
    ledger.commit(upload(drop_number(1))).unwrap();
    ledger.commit(upload(drop_number(2))).unwrap();
    let mut batch = event(Kind::Renamed);
    let moved = |from: &str, to: &str| Write::FolderMoved { user: user("acme"), from: path(from), to: path(to) };
    batch.writes.push(moved("/radiology", "/old/radiology"));
    batch.writes.push(Write::Moved {
        drop: DropId([1; 16]),
        user: user("radiology"),
        from: path("/inbox/acme/1.dcm"),
        to: path("/inbox/acme/one.dcm"),
    });
    ledger.commit(batch).unwrap();
    let at = |name: &str, place: &str| ledger.drop_at(&user(name), &path(place)).unwrap().map(|r| r.drop.0[0]);
    assert_eq!(at("acme", "/radiology/1.dcm"), None);
    assert_eq!(at("acme", "/old/radiology/1.dcm"), Some(1));
    assert_eq!(at("acme", "/old/radiology/2.dcm"), Some(2));
    assert_eq!(at("radiology", "/inbox/acme/one.dcm"), Some(1));
    assert_eq!(at("radiology", "/inbox/acme/2.dcm"), Some(2));

    let unlinked = |place: &str| {
        let mut batch = event(Kind::Removed);
        let (drop, user) = (DropId([1; 16]), user("acme"));
        batch.writes.push(Write::Unlinked { drop, user, path: path(place), at: noon() });
        batch
    };
    ledger.commit(unlinked("/old/radiology/1.dcm")).unwrap();
    assert_eq!(at("acme", "/old/radiology/1.dcm"), None);
    assert_eq!(at("radiology", "/inbox/acme/one.dcm"), Some(1), "the recipient keeps its own");
    assert!(ledger.commit(unlinked("/old/radiology/1.dcm")).is_err());
    // Another drop at a path an older one had: ending the older one does not hide it.
    let mut third = drop_number(3);
    third.path = path("/old/radiology/2.dcm");
    ledger.commit(upload(third)).unwrap();
    ledger.commit(state(2, DropState::Superseded { at: noon() })).unwrap();
    assert_eq!(at("acme", "/old/radiology/2.dcm"), Some(3));
}

#[test]
fn receipts_mirror_the_paths_they_were_sent_to_and_pages_go_on_anywhere() {
    let site = Site::new();
    let ledger = site.open();
    let places = ["/r/b.dcm", "/r/a\\b", "/r/sub/x", "/r/sub.dcm", "/r/sub/y/z", "/other/q", "/r/ä\u{1}"];
    for (n, place) in (1..).zip(places) {
        let mut record = drop_number(n);
        record.path = path(place);
        ledger.commit(upload(record)).unwrap();
    }
    let acme = user("acme");
    let all = |limit: usize| {
        let (mut names, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = ledger.receipts_under(&acme, &path("/r"), after.as_deref(), limit).unwrap().unwrap();
            // As a caller would that can only send the first entry of each page.
            let taken = if limit == 1 { 1 } else { page.entries.len() };
            let more = page.more || taken < page.entries.len();
            for entry in page.entries.into_iter().take(taken) {
                after = Some(if entry.folder { format!("{}/", entry.name) } else { entry.name.clone() });
                names.push(entry.name);
            }
            if !more {
                return names;
            }
        }
    };
    let mut expected = Vec::new();
    for name in ["a\\\\b", "b.dcm", "sub.dcm", "sub", "ä\\x01"] {
        if name == "sub" {
            expected.push(name.to_owned());
        } else {
            expected.extend([".receipt", ".receipt.sig", ".content.sig"].map(|suffix| format!("{name}{suffix}")));
        }
    }
    for limit in [1, 2, 3, 4, 100] {
        assert_eq!(all(limit), expected, "pages of {limit}");
    }
    let root = ledger.receipts_under(&acme, &VirtualPath::root(), None, 9).unwrap().unwrap();
    assert_eq!(
        root.entries.iter().map(|e| (e.name.as_str(), e.folder)).collect::<Vec<_>>(),
        [("other", true), ("r", true)]
    );
    assert_eq!(ledger.receipts_under(&acme, &path("/none"), None, 9).unwrap(), None);
    assert_eq!(ledger.receipts_under(&user("b"), &VirtualPath::root(), None, 9).unwrap(), Some(Default::default()));

    let (record, part) = ledger.receipt_file(&acme, &path("/r/sub/y/z.receipt.sig")).unwrap().unwrap();
    assert_eq!((record.path, part), (path("/r/sub/y/z"), ReceiptPart::Signature));
    assert!(part.of(&ledger.receipt(&record.id).unwrap().unwrap()).starts_with("-----BEGIN SSH SIGNATURE-----"));
    for spelling in ["/r/a\\b.receipt", "/r/a\\\\b.receipt"] {
        let (record, part) = ledger.receipt_file(&acme, &path(spelling)).unwrap().unwrap();
        assert_eq!((record.path, part), (path("/r/a\\b"), ReceiptPart::Text));
    }
    for nothing in ["/r/sub", "/r/b.dcm", "/r/.receipt", "/r/none.receipt", "/"] {
        assert!(ledger.receipt_file(&acme, &path(nothing)).unwrap().is_none(), "{nothing}");
    }
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

/// A step of a random life, chosen by three numbers.
fn random_write(what: u8, n: u8, other: u8) -> Write {
    let drop = DropId([n; 16]);
    let at = noon();
    let states = [
        DropState::Live,
        DropState::Held,
        DropState::Expiring { since: at },
        DropState::Expired { at },
        DropState::Removed { at },
        DropState::Superseded { at },
    ];
    match what {
        0..=5 => Write::State { drop, to: states[usize::from(what)] },
        6 => {
            Write::Expires { drop, expires: (other > 2).then_some(Time(u64::from(other))), bucket: Some(other.into()) }
        }
        7 => Write::FolderMoved { user: user("acme"), from: path("/radiology"), to: path(&format!("/r{other}")) },
        8 => Write::FolderMoved { user: user("acme"), from: path(&format!("/r{other}")), to: path("/radiology") },
        9 => Write::Unlinked { drop, user: user("radiology"), path: path(&format!("/inbox/acme/{n}.dcm")), at },
        10 => Write::PickedUp { drop, user: user("radiology"), at },
        _ => Write::Drop(drop_number(n)),
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 12, ..Default::default() })]
    #[test]
    fn indexes_follow_from_the_records_whatever_happened(
        steps in proptest::collection::vec((0..16_u8, 1..6_u8, 0..6_u8), 1..60)
    ) {
        let site = Site::new();
        let ledger = site.open();
        let answers: Vec<_> = steps
            .into_iter()
            .map(|(what, n, other)| {
                let mut batch = event(Kind::AdminCommand);
                batch.writes.push(random_write(what, n, other));
                ledger.submit(batch)
            })
            .collect();
        // Many are refused; what matters is what the others leave.
        answers.into_iter().for_each(|answer| drop(answer.blocking_recv().unwrap()));

        let check = |ledger: &Ledger| {
            let records = ledger.drops(None, 100).unwrap();
            let with_bytes: Vec<_> = records.iter().filter(|record| record.state.holds_bytes()).collect();
            let bytes = with_bytes.iter().map(|record| record.size).sum();
            let usage = Usage { bytes, files: with_bytes.len() as u64 };
            assert_eq!(ledger.usage(&user("acme")).unwrap(), usage);
            assert_eq!(ledger.live_drops().unwrap(), usage.files);
            for bucket in 0..150 {
                let needed = with_bytes.iter().filter(|record| record.bucket == Some(bucket)).count() as u64;
                assert_eq!(ledger.live_in_bucket(bucket).unwrap(), needed, "bucket {bucket}");
            }
            let begun = |record: &DropRecord| matches!(record.state, DropState::Expiring { .. });
            let mut due: Vec<_> = records
                .iter()
                .filter(|record| begun(record) || record.state == DropState::Live && record.expires.is_some())
                .map(|record| (if begun(record) { None } else { record.expires }, record.drop))
                .collect();
            due.sort();
            let listed: Vec<_> = ledger.due(Time(u64::MAX), 100).unwrap().iter().map(|record| record.drop).collect();
            assert_eq!(listed, due.into_iter().map(|(_, drop)| drop).collect::<Vec<_>>());
            for record in &records {
                let found = ledger.drop_at(&record.sender, &record.path).unwrap().map(|found| found.drop);
                assert_eq!(found == Some(record.drop), record.state.has_paths(), "{record:?}");
                let inbox = &record.deliveries[0];
                let found = ledger.drop_at(&inbox.user, &inbox.path).unwrap().map(|found| found.drop);
                let there = record.state.has_paths() && inbox.unlinked.is_none();
                assert_eq!(found == Some(record.drop), there, "{record:?}");
            }
        };
        check(&ledger);
        let before = everything(&ledger);
        ledger.close();
        // And the journal alone gives the same.
        std::fs::remove_dir_all(site.dir().join("live")).unwrap();
        let (ledger, _) = open(&site.dir(), options()).unwrap();
        check(&ledger);
        assert_eq!(everything(&ledger), before);
    }
}
