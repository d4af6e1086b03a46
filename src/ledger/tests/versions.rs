//! Newer versions and repeated ones: what the ledger says of the older drop, where it finds it, and that no receipt is lost.

use super::*;

fn written(writes: Vec<Write>) -> Batch {
    Batch { writes, ..event(Kind::AdminCommand) }
}

/// Drop `n` at the place of drop 1.
fn version(n: u8) -> DropRecord {
    DropRecord { path: path("/radiology/1.dcm"), ..drop_number(n) }
}

fn removed(n: u8) -> Batch {
    written(vec![Write::Unlinked {
        drop: DropId([n; 16]),
        user: user("acme"),
        path: path("/radiology/1.dcm"),
        at: noon(),
    }])
}

fn duplicate(upload: u8, of: u8) -> Batch {
    let mut batch = super::upload(version(upload));
    batch.events[1].kind = Kind::UploadDuplicate;
    batch.writes[0] = Write::Duplicate { upload: DropId([upload; 16]), of: DropId([of; 16]) };
    if let Write::Receipt { facts, .. } = &mut batch.writes[1] {
        facts.drop = DropId([of; 16]);
        facts.earlier = Some(Earlier::Duplicate(ReceiptId([of; 16])));
    }
    batch
}

#[test]
fn a_drop_is_superseded_once_and_lives_on() {
    let site = Site::new();
    let ledger = site.open();
    ledger.commit(upload(drop_number(1))).unwrap();
    let superseded =
        |by: u8| written(vec![Write::Superseded { drop: DropId([1; 16]), by: ReceiptId([by; 16]), at: noon() }]);
    ledger.commit(superseded(2)).unwrap();
    assert!(matches!(ledger.commit(superseded(3)), Err(LedgerError::Refused(Refusal::Superseded(_)))));
    let record = ledger.drop_record(&DropId([1; 16])).unwrap().unwrap();
    assert_eq!(record.superseded, Some(Superseded { by: ReceiptId([2; 16]), at: noon() }));
    assert_eq!(record.state, DropState::Live);
    assert_eq!(ledger.usage(&user("acme")).unwrap().files, 1);
    assert_eq!(ledger.due(Time(u64::MAX), 9).unwrap().len(), 1, "it comes due as if nothing were");
}

#[test]
fn what_its_sender_removed_is_found_until_it_ends_or_is_there_again() {
    let site = Site::new();
    let ledger = site.open();
    let found =
        |ledger: &Ledger| ledger.removed_at(&user("acme"), &path("/radiology/1.dcm")).unwrap().map(|r| r.drop.0[0]);
    ledger.commit(upload(version(1))).unwrap();
    assert_eq!(found(&ledger), None);
    ledger.commit(removed(1)).unwrap();
    assert_eq!(found(&ledger), Some(1));
    ledger.commit(upload(version(2))).unwrap();
    ledger.commit(removed(2)).unwrap();
    assert_eq!(found(&ledger), Some(2), "the last");
    ledger.commit(state(1, DropState::Removed { at: noon() })).unwrap();
    assert_eq!(found(&ledger), Some(2), "the end of an older one hides nothing");
    ledger.commit(duplicate(3, 2)).unwrap();
    assert_eq!(found(&ledger), None);
    assert_eq!(ledger.drop_at(&user("acme"), &path("/radiology/1.dcm")).unwrap().unwrap().drop, DropId([2; 16]));
    ledger.commit(removed(2)).unwrap();
    ledger.commit(state(2, DropState::Expiring { since: noon() })).unwrap();
    assert_eq!(found(&ledger), None);
}

#[test]
fn a_duplicate_is_known_by_its_upload_and_counts_for_nothing() {
    let site = Site::new();
    let ledger = site.open();
    ledger.commit(upload(version(5))).unwrap();
    ledger.commit(duplicate(6, 5)).unwrap();
    assert!(ledger.commit(duplicate(6, 5)).is_err(), "an upload ends once");
    assert!(ledger.commit(duplicate(5, 5)).is_err(), "a drop is no duplicate of itself");
    for (n, known) in [(5, true), (6, true), (7, false)] {
        assert_eq!(ledger.knows(&DropId([n; 16])).unwrap(), known);
    }
    assert_eq!(ledger.drop_record(&DropId([6; 16])).unwrap(), None);
    assert_eq!(ledger.usage(&user("acme")).unwrap(), Usage { bytes: 5, files: 1 });
    let receipt = ledger.receipt(&ReceiptId([6; 16])).unwrap().unwrap();
    assert!(receipt.text.contains(&format!("\nduplicate {}\n", ReceiptId([5; 16]))));
    let (_, json) = ledger.events(receipt.event, 1).unwrap().remove(0);
    assert!(json.contains(r#""kind":"upload-duplicate""#) && json.contains(r#""duplicate":"0505"#), "{json}");

    // A receipt of one kind does not stand for an event of the other.
    let mut wrong = duplicate(7, 5);
    wrong.events[1].kind = Kind::UploadCommitted;
    assert!(matches!(ledger.commit(wrong), Err(LedgerError::ReceiptWithoutEvent(_))));
    let mut wrong = super::upload(version(7));
    wrong.events[1].kind = Kind::UploadDuplicate;
    assert!(matches!(ledger.commit(wrong), Err(LedgerError::ReceiptWithoutEvent(_))));
}

#[test]
fn receipts_of_one_path_are_numbered_in_the_order_they_were_given() {
    let site = Site::new();
    let ledger = site.open();
    // A file that happens to have the name of the second number.
    ledger.commit(upload(DropRecord { path: path("/radiology/1.dcm.~2~"), ..drop_number(9) })).unwrap();
    for n in 1..=4 {
        ledger.commit(upload(version(n))).unwrap();
    }
    let shared = |n| DropRecord { kind: DropKind::Shared, path: path("/radiology/s"), ..drop_number(n) };
    ledger.commit(upload(shared(11))).unwrap();
    ledger.commit(upload(shared(12))).unwrap();
    let check = |ledger: &Ledger| {
        let at = |place: &str| ledger.receipt_at(&user("acme"), &path(place)).unwrap().map(|receipt| receipt.id.0[0]);
        let places = ["1.dcm", "1.dcm.~1~", "1.dcm.~2~", "1.dcm.~3~", "1.dcm.~4~", "1.dcm.~5~", "s", "s.~1~"];
        let found = places.map(|name| at(&format!("/radiology/{name}")));
        assert_eq!(found, [Some(4), Some(1), Some(9), Some(2), Some(3), None, Some(12), None]);
    };
    check(&ledger);
    ledger.close();
    std::fs::remove_dir_all(site.dir().join("live")).unwrap();
    let (ledger, _) = open(&site.dir(), options()).unwrap();
    check(&ledger);
    ledger.commit(upload(version(5))).unwrap();
    let fifth = ledger.receipt_at(&user("acme"), &path("/radiology/1.dcm.~5~")).unwrap();
    assert_eq!(fifth.unwrap().id, ReceiptId([4; 16]), "the numbers go on after a rebuild");
}
