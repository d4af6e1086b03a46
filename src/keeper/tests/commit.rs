//! What is committed stays as it was committed, whatever a session asks next; what is not can be asked again.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::{Place, path};

#[tokio::test]
async fn a_committed_file_cannot_be_committed_again_under_another_name() {
    let place = Place::new();
    let staging = place.put("partner", "/lab/a.dcm", b"one").await;
    let before = fs::read(place.on_disk("partner", "/lab/a.dcm")).unwrap();
    for to in ["/other/b.dcm", "/shared/b.dcm", "/lab/a.dcm"] {
        let again = super::Staging { path: path(to), part: place.on_disk("partner", "/lab/a.dcm"), ..staging };
        assert!(place.commit("partner", &again).await.is_err(), "{to}");
    }
    assert!(fs::read(place.on_disk("partner", "/lab/a.dcm")).unwrap() == before, "not a byte has changed");
    assert_eq!(fs::metadata(place.on_disk("partner", "/lab/a.dcm")).unwrap().nlink(), 3);
    place.opens("archive", "/inbox/partner/a.dcm").await.unwrap();
}

#[tokio::test]
async fn a_commit_that_was_refused_leaves_the_upload_its_users() {
    let place = Place::new();
    let mut staging = place.staged("partner", "/lab/a.dcm", b"one").await;
    let before = fs::metadata(&staging.part).unwrap();
    staging.size += 1;
    assert!(place.commit("partner", &staging).await.is_err());
    let after = fs::metadata(&staging.part).unwrap();
    assert_eq!((after.uid(), after.mode(), after.nlink()), (before.uid(), before.mode(), 1));
    staging.size -= 1;
    place.commit("partner", &staging).await.unwrap();
}

#[tokio::test]
async fn one_upload_is_committed_once_however_often_it_is_asked_at_once() {
    let place = Place::new();
    let one = place.staged("partner", "/lab/a.dcm", b"one").await;
    let two = super::Staging { path: path("/shared/a.dcm"), part: one.part.clone(), ..one };
    let (first, second) = tokio::join!(place.commit("partner", &one), place.commit("partner", &two));
    assert!(first.is_ok() && second.is_err());
    assert_eq!(place.names("partner", "shared"), [""; 0]);
    place.opens("radiology", "/inbox/partner/a.dcm").await.unwrap();
}

#[tokio::test]
async fn commits_at_once_do_not_exceed_a_limit_together() {
    let mut policies = super::POLICIES.to_vec();
    let limited = format!("{}[limits]\nbytes = \"10 B\"\n", policies[0].1);
    policies[0].1 = &limited;
    let place = Place::with(&policies);
    let one = place.staged("partner", "/lab/a.dcm", b"six bytes"[..6].as_ref()).await;
    let two = place.staged("partner", "/shared/b.dcm", b"six bytes"[..6].as_ref()).await;
    let (first, second) = tokio::join!(place.commit("partner", &one), place.commit("partner", &two));
    assert!(first.is_ok() != second.is_ok());
    assert_eq!(place.keeper().ledger.usage(&"partner".parse().unwrap()).unwrap().files, 1);
}

#[tokio::test]
async fn a_file_that_is_still_written_or_that_lies_about_its_sender_is_not_committed() {
    let place = Place::new();
    let staging = place.staged("partner", "/lab/a.dcm", b"one").await;
    let writer = fs::OpenOptions::new().write(true).open(&staging.part).unwrap();
    assert!(place.commit("partner", &staging).await.unwrap_err().why.contains("open for writing"));
    drop(writer);
    place.commit("partner", &staging).await.unwrap();

    let mut staged = place.granted("partner", "/lab/b.dcm").await;
    staged.sender = "archive".parse().unwrap();
    let part = place.on_disk("partner", ".staging/forged.part");
    let forged = super::Staging::write(part, path("/lab/b.dcm"), &staged, b"two");
    assert!(place.commit("partner", &forged).await.unwrap_err().why.contains("another sender"));
}
