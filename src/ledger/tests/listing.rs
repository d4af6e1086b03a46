//! `/receipts` as clients walk it.

use super::*;
use crate::ledger::Rejection;

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
    for place in ["/r/b.dcm", "/r/only.exe", "/refused/x"] {
        let (user, path, text) = (acme.clone(), path(place), "why".to_owned());
        let writes = vec![Write::Rejected(Rejection { user, path, at: noon(), text })];
        ledger.commit(Batch { writes, ..Batch::default() }).unwrap();
    }
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
    for name in ["a\\\\b", "b.dcm", "only.exe", "sub.dcm", "sub", "ä\\x01"] {
        if name == "sub" {
            expected.push(name.to_owned());
        } else if name == "only.exe" {
            expected.push("only.exe.rejected".to_owned());
        } else {
            expected.extend(
                [".receipt", ".receipt.sig", ".receipt.proof", ".content.sig"].map(|suffix| format!("{name}{suffix}")),
            );
            expected.extend((name == "b.dcm").then(|| "b.dcm.rejected".to_owned()));
        }
    }
    for limit in [1, 2, 3, 4, 5, 100] {
        assert_eq!(all(limit), expected, "pages of {limit}");
    }
    let root = ledger.receipts_under(&acme, &VirtualPath::root(), None, 9).unwrap().unwrap();
    assert_eq!(
        root.entries.iter().map(|e| (e.name.as_str(), e.folder)).collect::<Vec<_>>(),
        [("other", true), ("r", true), ("refused", true)]
    );
    assert_eq!(ledger.receipts_under(&acme, &path("/none"), None, 9).unwrap(), None);
    assert_eq!(ledger.receipts_under(&user("b"), &VirtualPath::root(), None, 9).unwrap(), Some(Default::default()));

    let (record, part) = ledger.receipt_file(&acme, &path("/r/sub/y/z.receipt.sig")).unwrap().unwrap();
    assert_eq!((&record.path, part), (&path("/r/sub/y/z"), ReceiptPart::Signature));
    assert_eq!(part.len_of(&record) as usize, record.signature.len());
    for spelling in ["/r/a\\b.receipt", "/r/a\\\\b.receipt"] {
        let (record, part) = ledger.receipt_file(&acme, &path(spelling)).unwrap().unwrap();
        assert_eq!((record.path, part), (path("/r/a\\b"), ReceiptPart::Text));
    }
    for nothing in ["/r/sub", "/r/b.dcm", "/r/.receipt", "/r/none.receipt", "/"] {
        assert!(ledger.receipt_file(&acme, &path(nothing)).unwrap().is_none(), "{nothing}");
    }
}
