//! Notices of refused uploads: one for each path, bounded for each user, and the same after a replay.

use super::*;
use crate::ledger::Rejection;

fn rejected(name: &str, to: &str, at: u64) -> Batch {
    let (user, path, text) = (user(name), path(to), format!("refused at {at}"));
    Batch { writes: vec![Write::Rejected(Rejection { user, path, at: Time(at), text })], ..Batch::default() }
}

#[test]
fn a_path_has_one_notice_until_a_drop_takes_its_place() {
    let site = Site::new();
    let acme = user("acme");
    {
        let ledger = site.open();
        for at in [5, 9] {
            ledger.commit(rejected("acme", "/r/a", at)).unwrap();
        }
        ledger.commit(rejected("acme", "/r/b\u{1}", 7)).unwrap();
        assert_eq!(ledger.rejection(&acme, &path("/r/a")).unwrap().unwrap().text, "refused at 9");
        assert!(ledger.rejection(&user("other"), &path("/r/a")).unwrap().is_none());
        let mut record = drop_number(1);
        (record.sender, record.path) = (acme.clone(), path("/r/a"));
        ledger.commit(upload(record)).unwrap();
        assert!(ledger.rejection(&acme, &path("/r/a")).unwrap().is_none());
        ledger.close();
    }
    let ledger = site.open();
    assert!(ledger.rejection(&acme, &path("/r/a")).unwrap().is_none());
    let found = ledger.rejection_file(&acme, &path("/r/b\\x01.rejected")).unwrap().unwrap();
    assert_eq!(found.path, path("/r/b\u{1}"));
    let old = ledger.rejections_until(Time(7), 10).unwrap();
    assert_eq!(old, [(acme.clone(), path("/r/b\u{1}"))]);
    assert!(ledger.rejections_until(Time(6), 10).unwrap().is_empty());
    let writes = old.into_iter().map(|(user, path)| Write::RejectionOver { user, path }).collect();
    ledger.commit(Batch { writes, ..Batch::default() }).unwrap();
    assert!(ledger.rejections_until(Time(u64::MAX), 10).unwrap().is_empty());
}

#[test]
fn a_user_has_a_bounded_number_and_loses_the_oldest() {
    let site = Site::new();
    let ledger = site.open();
    let (acme, other) = (user("acme"), user("other"));
    ledger.commit(rejected("other", "/r/0", 1)).unwrap();
    for first in (0..1_050).step_by(150) {
        let writes = (first..first + 150).flat_map(|n| rejected("acme", &format!("/r/{n}"), 10 + n).writes).collect();
        ledger.commit(Batch { writes, ..Batch::default() }).unwrap();
    }
    assert!(ledger.rejection(&acme, &path("/r/49")).unwrap().is_none());
    assert!(ledger.rejection(&acme, &path("/r/50")).unwrap().is_some());
    assert!(ledger.rejection(&other, &path("/r/0")).unwrap().is_some());
    assert_eq!(ledger.rejections_until(Time(u64::MAX), 5_000).unwrap().len(), 1_001);
    let page = ledger.receipts_under(&acme, &path("/r"), None, 5).unwrap().unwrap();
    assert!(page.more && page.entries.iter().all(|entry| entry.name.ends_with(".rejected")), "{page:?}");
}
