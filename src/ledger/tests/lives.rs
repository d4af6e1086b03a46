//! The lives of drops: what follows what, what comes due when, who finds what where, and that every index follows from
//! the records alone.

use super::*;

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
        10 => Write::PickedUp { drop, user: user("radiology"), at, whole: true },
        11 => Write::Unlinked { drop, user: user("acme"), path: path(&format!("/radiology/{n}.dcm")), at },
        12 => Write::Duplicate { upload: DropId([10 + other; 16]), of: drop },
        _ => Write::Drop(drop_number(n)),
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 12, ..Default::default() })]
    #[test]
    fn indexes_follow_from_the_records_whatever_happened(
        steps in proptest::collection::vec((0..18_u8, 1..6_u8, 0..6_u8), 1..60)
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
                let there = record.state.has_paths() && record.unlinked.is_none();
                assert_eq!(found == Some(record.drop), there, "{record:?}");
                let found = ledger.removed_at(&record.sender, &record.path).unwrap().map(|found| found.drop);
                let removed = record.state.has_paths() && record.unlinked.is_some();
                assert_eq!(found == Some(record.drop), removed, "{record:?}");
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
