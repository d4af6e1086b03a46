//! Consignments: what a manifest names is awaited, found when it comes, and closed once; and all of it comes back from the journal.

use super::*;
use crate::ledger::consignment::{ConsignmentRecord, Found};
use crate::ledger::manifest::Listed;

/// The manifest of drop `n`, over what `drop_number` makes of these.
fn manifest(n: u8, of: &[u8]) -> (DropRecord, ConsignmentRecord) {
    let record = DropRecord { path: path("/radiology/SHA256SUMS"), ..drop_number(n) };
    let files = of.iter().map(|n| Listed { path: drop_number(*n).path, sha256: drop_number(*n).sha256 }).collect();
    let consignment = ConsignmentRecord {
        manifest: record.drop,
        receipt: record.receipt,
        sha256: record.sha256,
        sender: record.sender.clone(),
        path: record.path.clone(),
        received: noon(),
        due: noon().plus(DAY),
        listed: of.len() as u32,
        files,
        closed: None,
    };
    (record, consignment)
}

fn push(ledger: &Ledger, n: u8, of: &[u8]) {
    let (record, consignment) = manifest(n, of);
    let mut upload = upload(record);
    upload.writes.push(Write::Consignment(consignment));
    ledger.commit(upload).unwrap();
}

/// As the keeper does it.
fn close(ledger: &Ledger, n: u8) -> Result<Committed, LedgerError> {
    let consignment = ledger.consignment(&DropId([n; 16])).unwrap().unwrap();
    let facts = ledger.consignment_facts(&consignment, noon()).unwrap();
    let mut closing = event(Kind::ConsignmentClosed);
    closing.writes = vec![
        Write::ConsignmentClosed { manifest: consignment.manifest, closed: facts.count() },
        Write::Paper { event: 0, facts: PaperFacts::Consignment(facts) },
    ];
    ledger.commit(closing)
}

fn due(ledger: &Ledger, at: Time) -> Vec<u8> {
    ledger.consignments_due(at, 10).unwrap().into_iter().map(|drop| drop.0[0]).collect()
}

#[test]
fn a_consignment_is_complete_with_its_last_file_and_closed_once() {
    let site = Site::new();
    let ledger = site.open();
    ledger.commit(upload(drop_number(1))).unwrap();
    push(&ledger, 100, &[1, 2, 3]);
    assert_eq!(ledger.open_consignments(&user("acme")).unwrap(), 1);
    assert_eq!(ledger.consignment_open(&DropId([100; 16])).unwrap(), 2, "one was there");
    assert_eq!(due(&ledger, noon()), [0_u8; 0]);
    assert_eq!(due(&ledger, noon().plus(DAY)), [100], "its time is over then");
    ledger.commit(upload(drop_number(2))).unwrap();
    let other = DropRecord { path: drop_number(3).path, ..drop_number(4) };
    ledger.commit(upload(other)).unwrap();
    assert_eq!(due(&ledger, noon()), [0_u8; 0], "another content is not what is awaited");
    let mut third = drop_number(3);
    (third.drop, third.receipt) = (DropId([33; 16]), ReceiptId([33; 16]));
    ledger.commit(upload(third)).unwrap();
    assert_eq!(due(&ledger, noon()), [100]);

    ledger.close();
    let ledger = site.open();
    assert_eq!(due(&ledger, noon()), [100], "after a restart too");
    close(&ledger, 100).unwrap();
    assert_eq!(due(&ledger, noon().plus(DAY)), [0_u8; 0]);
    assert!(matches!(close(&ledger, 100), Err(LedgerError::Refused(Refusal::Closed(_)))));
    let paper = ledger.paper(&user("acme"), &path("/radiology/SHA256SUMS"), PaperKind::Consignment).unwrap().unwrap();
    assert!(paper.text.contains("\nfiles 3\nmissing 0\ndifferent 0\nfile "), "{}", paper.text);
    let listed = ledger.receipts_under(&user("acme"), &path("/radiology"), None, 99).unwrap().unwrap();
    let sizes: Vec<_> =
        listed.entries.iter().filter(|e| e.name.contains(".consignment")).map(|e| e.size as usize).collect();
    assert_eq!(sizes, [paper.text.len(), paper.signature.len()]);
}

#[test]
fn what_is_missing_or_different_is_told_when_its_time_is_over() {
    let site = Site::new();
    let ledger = site.open();
    push(&ledger, 100, &[1, 2, 3]);
    ledger.commit(upload(drop_number(1))).unwrap();
    ledger.commit(upload(DropRecord { path: drop_number(2).path, ..drop_number(5) })).unwrap();
    let consignment = ledger.consignment(&DropId([100; 16])).unwrap().unwrap();
    let found: Vec<_> =
        ledger.consignment_facts(&consignment, noon()).unwrap().files.into_iter().map(|(_, found)| found).collect();
    let other = Found::Different(ReceiptId([5; 16]), drop_number(5).sha256);
    assert_eq!(found, [Found::Received(ReceiptId([1; 16])), other, Found::Missing]);
    close(&ledger, 100).unwrap();
    let closed = ledger.consignment(&DropId([100; 16])).unwrap().unwrap().closed.unwrap();
    assert_eq!((closed.missing, closed.different), (1, 1));
    assert_eq!(ledger.open_consignments(&user("acme")).unwrap(), 0);
    // What comes too late is awaited by nobody.
    ledger.commit(upload(drop_number(3))).unwrap();
    assert_eq!(due(&ledger, noon().plus(DAY * 9)), [0_u8; 0]);
}

#[test]
fn of_two_manifests_over_one_file_each_is_closed() {
    let site = Site::new();
    let ledger = site.open();
    push(&ledger, 100, &[1]);
    let (mut record, mut consignment) = manifest(101, &[1]);
    record.path = path("/radiology/more.sha256sums");
    consignment.path = record.path.clone();
    let mut upload_of = upload(record);
    upload_of.writes.push(Write::Consignment(consignment));
    ledger.commit(upload_of).unwrap();
    ledger.commit(upload(drop_number(1))).unwrap();
    assert_eq!(due(&ledger, noon()), [101]);
    close(&ledger, 101).unwrap();
    assert_eq!(due(&ledger, noon().plus(DAY)), [100]);
    close(&ledger, 100).unwrap();
    assert_eq!(due(&ledger, noon().plus(DAY)), [0_u8; 0]);
}
