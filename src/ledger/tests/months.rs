//! One database a month: events go into the month they happen in, are found again from any later one, and a past
//! month's database is as replaceable as the current one.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// Each test that turns months has a clock of its own: they run side by side.
macro_rules! clock {
    ($name:ident) => {
        static $name: AtomicU64 = AtomicU64::new(0);
    };
}

fn set(clock: &AtomicU64, text: &str) {
    clock.store(Time::parse_rfc3339(text).unwrap().0, Ordering::SeqCst);
}

#[test]
fn events_and_receipts_of_every_month_are_read_as_one_log() {
    clock!(CLOCK);
    let site = Site::new();
    let options = || Options { clock: || Time(CLOCK.load(Ordering::SeqCst)), ..options() };
    set(&CLOCK, "2026-11-30T23:59:59Z");
    let (ledger, _) = open(&site.dir(), options()).unwrap();
    for (n, month) in (1..).zip(["2026-11", "2026-12", "2027-01", "2027-02", "2027-05"]) {
        set(&CLOCK, &format!("{month}-03T00:00:00Z"));
        ledger.commit(upload(drop_number(n))).unwrap();
    }
    set(&CLOCK, "2026-01-01T00:00:00Z");
    ledger.commit(upload(drop_number(6))).unwrap();
    for month in ["2026-11", "2026-12", "2027-01", "2027-02", "2027-05"] {
        assert!(site.dir().join(format!("epoch-{month}")).is_dir());
    }
    assert!(!site.dir().join("epoch-2026-01").exists(), "a clock that goes back opens no past month");
    let check = |ledger: &Ledger| {
        let numbers: Vec<u64> = ledger.events(0, 100).unwrap().iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (0..12).collect::<Vec<_>>());
        assert_eq!(ledger.events(3, 4).unwrap().iter().map(|e| e.0).collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert_eq!(ledger.receipts(Some(1), 2).unwrap().iter().map(|r| r.id.0[0]).collect::<Vec<_>>(), [2, 3]);
        assert!(ledger.receipt(&ReceiptId([2; 16])).unwrap().is_some());
        for number in 0..12 {
            let proof = ledger.inclusion(number, 12).unwrap().unwrap();
            let root = merkle::root_from_inclusion(proof.leaf, number, 12, &proof.hashes);
            assert_eq!(root, Some(ledger.head().root.0));
        }
    };
    check(&ledger);
    let before = everything(&ledger);
    ledger.close();

    let (ledger, found) = open(&site.dir(), options()).unwrap();
    assert_eq!(found, vec![]);
    check(&ledger);
    assert_eq!(everything(&ledger), before);
    ledger.close();

    // Every database is gone or broken: all come back from the journal.
    std::fs::remove_dir_all(site.dir().join("live")).unwrap();
    std::fs::remove_dir_all(site.dir().join("epoch-2026-12")).unwrap();
    std::fs::write(site.dir().join("epoch-2027-01/conf"), b"rubbish, more than eight bytes").unwrap();
    let (ledger, found) = open(&site.dir(), options()).unwrap();
    assert!(matches!(&found[..], [Recovery::Rebuilt { database, batches: 6, .. }] if database == "live"), "{found:?}");
    check(&ledger);
    assert_eq!(everything(&ledger), before);
    assert!(site.dir().join("epoch-2027-01.broken-1").is_dir());
}

#[test]
fn a_month_without_events_leaves_no_hole() {
    clock!(CLOCK);
    let site = Site::new();
    let options = || Options { clock: || Time(CLOCK.load(Ordering::SeqCst)), ..options() };
    set(&CLOCK, "2026-11-03T00:00:00Z");
    let (ledger, _) = open(&site.dir(), options()).unwrap();
    set(&CLOCK, "2026-12-03T00:00:00Z");
    assert!(ledger.commit(state(1, DropState::Held)).is_err(), "turns the month, and adds nothing");
    set(&CLOCK, "2027-01-03T00:00:00Z");
    ledger.commit(event(Kind::Listed)).unwrap();
    assert_eq!(ledger.events(0, 9).unwrap().len(), 1);
    ledger.close();
    let (ledger, found) = open(&site.dir(), options()).unwrap();
    assert_eq!(found, vec![]);
    assert_eq!(ledger.events(0, 9).unwrap().len(), 1);
}

#[test]
fn a_full_disk_refuses_growth_and_still_records_what_frees_room() {
    clock!(FREE);
    let site = Site::new();
    let ballast = 1 << 20;
    let options = || Options { ballast_bytes: 1 << 20, free_bytes: |_| Ok(FREE.load(Ordering::SeqCst)), ..options() };
    let plenty = 100 << 20;
    FREE.store(plenty, Ordering::SeqCst);
    let (ledger, _) = open(&site.dir(), options()).unwrap();
    let held = || std::fs::metadata(site.dir().join("ballast")).is_ok_and(|meta| meta.len() == ballast);
    assert!(held());
    ledger.commit(upload(drop_number(1))).unwrap();
    FREE.store(7 << 20, Ordering::SeqCst);
    assert!(matches!(ledger.commit(upload(drop_number(2))), Err(LedgerError::Full)));
    let urgent = |to| Batch { urgent: true, ..state(1, to) };
    ledger.commit(urgent(DropState::Expiring { since: noon() })).unwrap();
    assert!(!held(), "the ballast was given up");
    FREE.store(8 << 20, Ordering::SeqCst);
    assert!(matches!(ledger.commit(upload(drop_number(2))), Err(LedgerError::Full)), "its room is not for growth");
    FREE.store(1 << 20, Ordering::SeqCst);
    assert!(matches!(ledger.commit(urgent(DropState::Expired { at: noon() })), Err(LedgerError::Full)));
    ledger.close();

    // Without any room the ledger does not open, and nothing in it is taken for broken.
    assert!(matches!(open(&site.dir(), options()), Err(OpenError::Full)));
    // A start on a full disk gives the ballast up first.
    FREE.store(plenty, Ordering::SeqCst);
    let (ledger, _) = open(&site.dir(), options()).unwrap();
    assert!(held());
    ledger.close();
    FREE.store(5 << 20, Ordering::SeqCst);
    let (ledger, found) = open(&site.dir(), options()).unwrap();
    assert_eq!(found, [Recovery::BallastReleased]);
    ledger.commit(urgent(DropState::Expired { at: noon() })).unwrap();
    FREE.store(plenty, Ordering::SeqCst);
    ledger.commit(upload(drop_number(2))).unwrap();
    assert!(held(), "taken again");
}
