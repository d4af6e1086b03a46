//! Changes of names: of two users at once, of what is delivered meanwhile, and of what the ledger refuses.

use std::fs;

use super::{Place, path};
use crate::keeper::namespace;

#[tokio::test]
async fn a_recipient_who_removes_a_file_does_not_remove_the_version_that_comes_meanwhile() {
    for _ in 0..20 {
        let place = Place::new();
        place.put("partner", "/lab/a.dcm", b"older").await;
        let staging = place.staged("partner", "/lab/a.dcm", b"newer").await;
        let recipient = place.client("radiology");
        let (removed, committed) = tokio::join!(
            namespace::remove(place.keeper(), &recipient, path("/inbox/partner/a.dcm")),
            place.commit("partner", &staging),
        );
        removed.unwrap();
        committed.unwrap();
        let record = place.keeper().ledger.drop_record(&staging.drop).unwrap().unwrap();
        let delivery = record.deliveries.iter().find(|d| d.user.as_str() == "radiology").unwrap();
        let there = place.on_disk("radiology", &delivery.path.to_string()).exists();
        assert_eq!(there, delivery.unlinked.is_none(), "the ledger and the inbox agree");
        assert_eq!(place.names("radiology", "/inbox/partner").len(), 1, "one was removed, one is there");
    }
}

#[tokio::test]
async fn a_rename_over_a_shared_file_replaces_it() {
    let place = Place::new();
    let old = place.put("partner", "/shared/a", b"old").await;
    let new = place.put("partner", "/shared/b", b"new").await;
    let client = place.client("partner");
    let plain = namespace::rename(place.keeper(), &client, path("/shared/b"), path("/shared/a"), false).await;
    assert!(plain.is_err());
    namespace::rename(place.keeper(), &client, path("/shared/b"), path("/shared/a"), true).await.unwrap();
    assert_eq!(place.names("partner", "/shared"), ["a"]);
    place.opens("partner", "/shared/a").await.unwrap();
    let ledger = &place.keeper().ledger;
    assert_eq!(ledger.drop_record(&old.drop).unwrap().unwrap().state.word(), "superseded");
    assert_eq!(ledger.drop_at(&"partner".parse().unwrap(), &path("/shared/a")).unwrap().unwrap().drop, new.drop);
}

#[tokio::test]
async fn a_rename_that_the_ledger_refuses_is_undone() {
    let place = Place::new();
    let deep = format!("/shared/{}", vec!["d".repeat(20); 120].join("/"));
    fs::create_dir_all(place.on_disk("partner", &deep)).unwrap();
    place.put("partner", &format!("{deep}/a"), b"one").await;
    let long = "x".repeat(200);
    for at in [format!("/shared/{long}"), format!("/shared/{long}/{long}"), format!("/shared/{long}/{long}/{long}")] {
        fs::create_dir(place.on_disk("partner", &at)).unwrap();
    }
    let (from, to) = (path(&format!("/shared/{}", "d".repeat(20))), path(&format!("/shared/{long}/{long}/{long}/d")));
    let client = place.client("partner");
    assert!(namespace::rename(place.keeper(), &client, from, to, false).await.is_err());
    place.opens("partner", &format!("{deep}/a")).await.unwrap();
}

#[tokio::test]
async fn a_rename_is_followed_where_it_can_be_and_stands_where_not() {
    let place = Place::new();
    place.put("partner", "/lab/a.dcm", b"one").await;
    fs::remove_dir_all(place.on_disk("archive", "/inbox/partner")).unwrap();
    fs::write(place.on_disk("archive", "/inbox/partner"), b"").unwrap();
    let client = place.client("partner");
    namespace::rename(place.keeper(), &client, path("/lab/a.dcm"), path("/lab/b.dcm"), false).await.unwrap();
    assert_eq!(place.names("radiology", "/inbox/partner"), ["b.dcm"]);
    assert_eq!(place.names("partner", "/lab"), ["b.dcm"]);
}
