//! Months that are pruned: what is left is found, proven and verified as before, the live database can still be made
//! anew, and a crash anywhere on the way leaves a ledger that opens.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::ledger::prune::prune;
use crate::ledger::signers::AllowedSigners;
use crate::ledger::verify::{Outside, Trust, verify};

fn at(clock: &AtomicU64, text: &str) {
    clock.store(Time::parse_rfc3339(text).unwrap().0, Ordering::SeqCst);
}

macro_rules! options_of {
    ($clock:ident) => {
        || Options {
            clock: || Time($clock.load(Ordering::SeqCst)),
            checkpoint_every: Some(Duration::ZERO),
            ..options()
        }
    };
}

/// Drops 1 to 8, two a month; of each month the first has expired in it. Answers the heads after each month.
fn fill(dir: &Path, clock: &AtomicU64, options: impl Fn() -> Options) -> Vec<Head> {
    at(clock, "2026-08-03T00:00:00Z");
    let (ledger, _) = open(dir, options()).unwrap();
    let mut heads = Vec::new();
    for (n, month) in (1..).step_by(2).zip(["2026-08", "2026-09", "2026-10", "2026-11"]) {
        at(clock, &format!("{month}-03T00:00:00Z"));
        // Without a bucket no certificate is waited for.
        ledger.commit(upload(DropRecord { bucket: None, ..drop_number(n) })).unwrap();
        ledger.commit(upload(drop_number(n + 1))).unwrap();
        ledger.commit(state(n, DropState::Expiring { since: noon() })).unwrap();
        ledger.commit(state(n, DropState::Expired { at: noon() })).unwrap();
        heads.push(ledger.head());
    }
    ledger.close();
    heads
}

fn verified(ledger: &mut Ledger, head: Head) -> u64 {
    let signers = AllowedSigners::parse(&signer().allowed_signer().unwrap()).unwrap();
    let trust = Trust { server: "drop.example".to_owned(), signers, now: noon() };
    let outside = [Outside { name: "kept".to_owned(), head }];
    let report = verify(ledger, &trust, &outside, |_| ()).unwrap();
    assert_eq!(report.problems, vec![]);
    assert_eq!(report.root, Some(ledger.head().root));
    report.pruned
}

fn check(ledger: &mut Ledger, heads: &[Head]) {
    let size = ledger.head().size;
    assert_eq!(size, 24);
    assert_eq!(ledger.events(0, 100).unwrap().first().unwrap().0, 12);
    for number in 12..size {
        for size in [size, heads[2].size].into_iter().filter(|size| number < *size) {
            let proof = ledger.inclusion(number, size).unwrap().unwrap();
            let root = merkle::root_from_inclusion(proof.leaf, number, size, &proof.hashes);
            let head = heads.iter().find(|head| head.size == size).unwrap();
            assert_eq!(root, Some(head.root.0));
        }
    }
    for old in [&heads[1], &heads[2]] {
        let proof = ledger.consistency(old.size, size).unwrap().unwrap();
        assert!(merkle::continues(old.size, size, old.root.0, heads[3].root.0, &proof));
    }
    assert!(ledger.inclusion(3, size).is_err(), "what is gone is not proven");
    assert_eq!(verified(ledger, heads[1]), 12);
    let drops: Vec<u8> = ledger.drops(None, 100).unwrap().iter().map(|record| record.drop.0[0]).collect();
    assert_eq!(drops, [2, 4, 5, 6, 7, 8], "those that live, and those whose month is kept");
    assert!(ledger.receipt(&ReceiptId([1; 16])).unwrap().is_none());
    assert!(ledger.receipt(&ReceiptId([6; 16])).unwrap().is_some());
    assert_eq!(ledger.usage(&user("acme")).unwrap(), Usage { bytes: 20, files: 4 });
    assert_eq!(ledger.live_drops().unwrap(), 4);
}

#[test]
fn what_is_left_after_pruning_is_proven_as_before() {
    static CLOCK: AtomicU64 = AtomicU64::new(0);
    let options = options_of!(CLOCK);
    let site = Site::new();
    let heads = fill(&site.dir(), &CLOCK, options);
    let pruned = prune(&site.dir(), signer(), options(), "2026-10".parse().unwrap()).unwrap().unwrap();
    assert_eq!((pruned.event, pruned.months, pruned.first.to_string()), (12, 2, "2026-10".to_owned()));
    assert!(!site.dir().join("epoch-2026-09").exists());
    let (mut ledger, found) = open(&site.dir(), options()).unwrap();
    assert_eq!(found, vec![]);
    check(&mut ledger, &heads);
    ledger.close();
    // Every database is gone: all come back from snapshot and journal.
    for database in ["live", "epoch-2026-10", "epoch-2026-11"] {
        std::fs::remove_dir_all(site.dir().join(database)).unwrap();
    }
    let (mut ledger, _) = open(&site.dir(), options()).unwrap();
    check(&mut ledger, &heads);
    // And it goes on, to be pruned again.
    at(&CLOCK, "2026-12-01T00:00:00Z");
    ledger.commit(upload(drop_number(9))).unwrap();
    let head = ledger.head();
    ledger.close();
    assert_eq!(prune(&site.dir(), signer(), options(), "2026-10".parse().unwrap()).unwrap(), None);
    assert_eq!(prune(&site.dir(), signer(), options(), "2030-01".parse().unwrap()).unwrap().unwrap().months, 2);
    let (mut ledger, _) = open(&site.dir(), options()).unwrap();
    assert_eq!(verified(&mut ledger, head), 24);
    assert_eq!(ledger.live_drops().unwrap(), 5);
}

/// The steps after the snapshot, each cut short.
#[test]
fn opening_finishes_a_pruning_that_a_crash_cut_short() {
    static CLOCK: AtomicU64 = AtomicU64::new(0);
    let options = options_of!(CLOCK);
    let site = Site::new();
    let heads = fill(&site.dir(), &CLOCK, options);
    let whole = site.dir().with_file_name("whole");
    copy_dir(&site.dir(), &whole);
    prune(&site.dir(), signer(), options(), "2026-10".parse().unwrap()).unwrap();
    let named = |dir: &Path, ending: &str| {
        let mut paths: Vec<_> = std::fs::read_dir(dir.join("journal")).unwrap().map(|e| e.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|e| e == ending));
        paths.sort();
        paths
    };
    let snapshot = named(&site.dir(), "snapshot").pop().unwrap();
    for step in 0..4 {
        let dir = site.dir().with_file_name(format!("step-{step}"));
        copy_dir(&whole, &dir);
        std::fs::copy(&snapshot, dir.join("journal").join(snapshot.file_name().unwrap())).unwrap();
        if step > 0 {
            std::fs::remove_dir_all(dir.join("live")).unwrap();
        }
        if step > 1 {
            std::fs::remove_dir_all(dir.join("epoch-2026-08")).unwrap();
        }
        if step > 2 {
            std::fs::remove_file(&named(&dir, "segment")[0]).unwrap();
        }
        let (mut ledger, _) = open(&dir, options()).unwrap();
        check(&mut ledger, &heads);
        ledger.close();
    }
    // A snapshot that cannot stand for what is before it removes nothing.
    let dir = site.dir().with_file_name("damaged");
    copy_dir(&whole, &dir);
    let mut bytes = std::fs::read(&snapshot).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(dir.join("journal").join(snapshot.file_name().unwrap()), bytes).unwrap();
    assert!(matches!(open(&dir, options()), Err(OpenError::Snapshot(_))));
    assert_eq!(
        named(&dir, "segment"),
        named(&whole, "segment").iter().map(|p| dir.join("journal").join(p.file_name().unwrap())).collect::<Vec<_>>()
    );
}

#[test]
fn a_certificate_stays_as_long_as_the_event_that_commits_to_it() {
    static CLOCK: AtomicU64 = AtomicU64::new(0);
    let options = options_of!(CLOCK);
    let site = Site::new();
    at(&CLOCK, "2026-08-03T00:00:00Z");
    let (ledger, _) = open(&site.dir(), options()).unwrap();
    ledger.commit(upload(drop_number(1))).unwrap();
    ledger.commit(state(1, DropState::Expiring { since: noon() })).unwrap();
    ledger.commit(state(1, DropState::Expired { at: noon() })).unwrap();
    at(&CLOCK, "2026-09-03T00:00:00Z");
    ledger.commit(certificate(&drop_number(1))).unwrap();
    at(&CLOCK, "2026-10-03T00:00:00Z");
    ledger.commit(event(Kind::Listed)).unwrap();
    let head = ledger.head();
    ledger.close();

    prune(&site.dir(), signer(), options(), "2026-09".parse().unwrap()).unwrap().unwrap();
    let (mut ledger, _) = open(&site.dir(), options()).unwrap();
    assert!(ledger.certificate(&DropId([1; 16])).unwrap().is_some());
    assert_eq!(verified(&mut ledger, head), 4, "its receipt went");
    ledger.close();

    prune(&site.dir(), signer(), options(), "2026-10".parse().unwrap()).unwrap().unwrap();
    let (mut ledger, _) = open(&site.dir(), options()).unwrap();
    assert_eq!(ledger.certificate(&DropId([1; 16])).unwrap(), None);
    assert_eq!(verified(&mut ledger, head), 5);
    ledger.close();
}
