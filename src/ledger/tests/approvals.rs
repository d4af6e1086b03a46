//! Requests for approval: there until their end, which comes once, and the same after a replay.

use super::*;
use crate::names::RequestId;

fn request(n: u8) -> Request {
    Request {
        id: RequestId([n; 16]),
        digest: Digest([n; 32]),
        what: format!("shred {n} drops"),
        drops: vec![DropId([n; 16])],
        path: None,
        by: Person { uid: 0, login: 1001, told: "anna".to_owned() },
        reason: Some("x".to_owned()),
        at: Time(5),
        until: Time(9),
        approved: None,
    }
}

fn asked(request: Request) -> Batch {
    Batch { writes: vec![Write::Request(request)], ..Batch::default() }
}

fn over(n: u8) -> Batch {
    Batch { writes: vec![Write::RequestOver { id: RequestId([n; 16]) }], ..Batch::default() }
}

#[test]
fn a_request_is_there_until_its_end_which_comes_once() {
    let site = Site::new();
    let by = Person { uid: 0, login: 1002, told: "ben".to_owned() };
    let approved = Request { approved: Some(Approval { by, reason: "seen".to_owned(), at: Time(6) }), ..request(1) };
    {
        let ledger = site.open();
        for n in [1, 2] {
            ledger.commit(asked(request(n))).unwrap();
        }
        ledger.commit(asked(approved.clone())).unwrap();
        ledger.close();
    }
    // The database is made anew of the journal.
    std::fs::remove_dir_all(site.dir().join("live")).unwrap();
    let (ledger, _) = open(&site.dir(), options()).unwrap();
    assert_eq!(ledger.requests().unwrap(), [approved, request(2)]);
    ledger.commit(over(1)).unwrap();
    for n in [1, 3] {
        assert!(matches!(ledger.commit(over(n)), Err(LedgerError::Refused(Refusal::RequestOver(_)))));
    }
    assert_eq!(ledger.requests().unwrap(), [request(2)]);
}
