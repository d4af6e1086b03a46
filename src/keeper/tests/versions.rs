//! Duplicates at the keeper: what makes one, what a session can make of it, and what a crash leaves.

use std::fs::{self, File};
use std::os::fd::AsFd;

use super::{Place, path};
use crate::clock;
use crate::keeper::delivery::{Existing, Names};
use crate::keeper::{expiry, namespace, recovery};
use crate::names::DropId;

/// A sender who is one of the recipients of what it sends.
const TO_ITSELF: &[(&str, &str)] = &[
    (
        "partner",
        "[[folder]]\npath = \"/lab\"\nkind = \"drop\"\nto = [\"partner\", \"radiology\"]\nexpire = \"72h\"\n\
         [inbox]\nmode = \"managed\"\n",
    ),
    ("radiology", "[inbox]\nmode = \"managed\"\n"),
];

fn events(place: &Place, kind: &str) -> usize {
    let events = place.keeper().ledger.events(0, 1000).unwrap();
    events.iter().filter(|(_, json)| json.contains(&format!("\"kind\":\"{kind}\",\"outcome\":\"done\""))).count()
}

#[tokio::test]
async fn an_upload_that_was_a_duplicate_is_committed_no_more() {
    let place = Place::new();
    place.put("partner", "/lab/a.dcm", b"one").await;
    let again = place.staged("partner", "/lab/a.dcm", b"one").await;
    place.commit("partner", &again).await.unwrap();
    assert_eq!(place.names("radiology", "/inbox/partner"), ["a.dcm"]);
    for to in ["/lab/a.dcm", "/other/b.dcm", "/shared/c.dcm"] {
        let again = super::Staging { path: path(to), part: again.part.clone(), ..again };
        assert!(place.commit("partner", &again).await.is_err(), "{to}");
    }
    assert_eq!((events(&place, "upload-committed"), events(&place, "upload-duplicate")), (1, 1));
    // The session died before it removed what it had staged.
    let _place = place.restart().await;
    assert!(!again.part.exists(), "and the next start has");
}

#[tokio::test]
async fn a_session_that_claims_a_digest_gets_no_receipt_for_another_file() {
    let place = Place::new();
    let first = place.put("partner", "/lab/a.dcm", b"one").await;
    let mut other = place.staged("partner", "/lab/a.dcm", b"two").await;
    let own = std::mem::replace(&mut other.sha256, first.sha256);
    assert!(place.commit("partner", &other).await.is_err());
    other.sha256 = own;
    place.commit("partner", &other).await.unwrap();
    assert_eq!(place.names("radiology", "/inbox/partner"), ["a.dcm", "a.dcm.~1~"]);
    assert_eq!(events(&place, "upload-duplicate"), 0);
}

#[tokio::test]
async fn what_one_of_two_recipients_has_no_more_is_delivered_to_both() {
    let place = Place::new();
    place.put("partner", "/lab/a.dcm", b"one").await;
    namespace::remove(place.keeper(), &place.client("archive"), path("/inbox/partner/a.dcm")).await.unwrap();
    place.put("partner", "/lab/a.dcm", b"one").await;
    assert_eq!(place.names("archive", "/inbox/partner"), ["a.dcm"]);
    assert_eq!(place.names("radiology", "/inbox/partner"), ["a.dcm", "a.dcm.~1~"]);
    // Cut short behind the keeper's back, it is no delivery.
    let there = place.on_disk("archive", "/inbox/partner/a.dcm");
    let bytes = fs::read(&there).unwrap();
    fs::remove_file(&there).unwrap();
    fs::write(&there, &bytes[..bytes.len() - 1]).unwrap();
    place.put("partner", "/lab/a.dcm", b"one").await;
    assert_eq!(events(&place, "upload-duplicate"), 0);
    place.opens("archive", "/inbox/partner/a.dcm").await.unwrap();
}

#[tokio::test]
async fn the_same_content_at_once_is_one_delivery() {
    let place = Place::new();
    let one = place.staged("partner", "/lab/a.dcm", b"one").await;
    let two = place.staged("partner", "/lab/a.dcm", b"one").await;
    let (first, second) = tokio::join!(place.commit("partner", &one), place.commit("partner", &two));
    first.unwrap();
    second.unwrap();
    assert_eq!((events(&place, "upload-committed"), events(&place, "upload-duplicate")), (1, 1));
    assert_eq!(place.names("radiology", "/inbox/partner"), ["a.dcm"]);
}

/// The name is made and the ledger was not asked.
fn named_again(place: &Place, drop: DropId) {
    let file = File::open(place.on_disk("radiology", "/inbox/partner/a.dcm")).unwrap();
    let tree = place.keeper().state.tree(&"partner".parse().unwrap()).unwrap();
    let mut names = Names::begin(file.as_fd(), drop, tree.as_fd()).unwrap();
    names.add(file.as_fd(), drop, tree.as_fd(), &path("/lab/a.dcm"), Existing::Refuse).unwrap();
}

#[tokio::test]
async fn a_crash_takes_the_name_back_that_the_ledger_does_not_know_and_no_other() {
    let place = Place::with(TO_ITSELF);
    let first = place.put("partner", "/lab/a.dcm", b"one").await;
    namespace::remove(place.keeper(), &place.client("partner"), path("/lab/a.dcm")).await.unwrap();
    named_again(&place, first.drop);
    let place = place.restart().await;
    assert_eq!(place.names("partner", "/lab"), [""; 0]);
    assert_eq!(place.names("partner", ".commit"), [""; 0]);
    for user in ["partner", "radiology"] {
        place.opens(user, "/inbox/partner/a.dcm").await.unwrap();
    }
    place.put("partner", "/lab/a.dcm", b"one").await;
    assert_eq!((place.names("partner", "/lab"), events(&place, "upload-duplicate")), (vec!["a.dcm".to_owned()], 1));
    // Of a drop whose name the ledger knows, a mark takes nothing away.
    let file = File::open(place.on_disk("radiology", "/inbox/partner/a.dcm")).unwrap();
    let tree = place.keeper().state.tree(&"partner".parse().unwrap()).unwrap();
    drop(Names::begin(file.as_fd(), first.drop, tree.as_fd()).unwrap());
    drop(tree);
    let worker = place.keeper().clone();
    tokio::task::spawn_blocking(move || recovery::mend(&worker, clock::now()).unwrap()).await.unwrap();
    assert_eq!(place.names("partner", "/lab"), ["a.dcm"]);
}

/// A crash between a rename and its record, or a backup put back: what is there is not what the ledger means.
#[tokio::test]
async fn another_file_under_the_senders_name_is_kept() {
    let place = Place::new();
    place.put("partner", "/lab/a.dcm", b"one").await;
    place.put("partner", "/lab/b.dcm", b"two").await;
    let lab = place.on_disk("partner", "/lab");
    fs::rename(lab.join("b.dcm"), lab.join("a.dcm")).unwrap();
    place.put("partner", "/lab/a.dcm", b"one").await;
    assert_eq!(place.names("partner", "/lab"), ["a.dcm", "a.dcm.~1~"]);
    assert_eq!(events(&place, "upload-duplicate"), 0);
}

/// What the ledger says is where it says, nothing is there that it does not know, and nobody has lost what they did not
/// remove.
fn assert_agrees(place: &Place, delivered: &[DropId], removed: &[DropId], step: &str) {
    let ledger = &place.keeper().ledger;
    let is_there = |user: &str, at: &str, id: DropId| {
        let file = File::open(place.on_disk(user, at)).unwrap_or_else(|e| panic!("{step}: {user} {at}: {e}"));
        assert_eq!(expiry::drop_of(&file).unwrap(), Some(id), "{step}: {user} {at}");
    };
    let mut entries = (0, 0);
    for id in delivered {
        let record = ledger.drop_record(id).unwrap().unwrap();
        if record.unlinked.is_none() {
            is_there("partner", &record.path.to_string(), *id);
            entries.0 += 1;
        }
        let [delivery] = &record.deliveries[..] else { panic!("{step}: one recipient") };
        assert_eq!(delivery.unlinked.is_some(), removed.contains(id), "{step}");
        if delivery.unlinked.is_none() {
            is_there("radiology", &delivery.path.to_string(), *id);
            entries.1 += 1;
        }
    }
    let there = (place.names("partner", "/other").len(), place.names("radiology", "/inbox/partner").len());
    assert_eq!(
        there,
        entries,
        "{step}: {:?} {:?}",
        place.names("partner", "/other"),
        place.names("radiology", "/inbox/partner")
    );
    for user in ["partner", "radiology"] {
        assert_eq!(place.names(user, ".commit"), [""; 0], "{step}");
    }
    // Of the receipts that are not superseded, each is for a drop of its own at a path of its own.
    let mut standing: Vec<_> = delivered.iter().filter_map(|id| ledger.drop_record(id).unwrap()).collect();
    standing.retain(|record| record.superseded.is_none() && record.unlinked.is_none());
    let paths: std::collections::BTreeSet<_> = standing.iter().map(|record| record.path.clone()).collect();
    assert_eq!(paths.len(), standing.len(), "{step}");
}

/// Whatever a sender and its recipient do in whatever order, with starts in between.
#[tokio::test]
async fn ledger_and_folders_agree_after_any_sequence() {
    for seed in 0..8_u64 {
        let mut place = Place::new();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (mut delivered, mut removed, mut log) = (Vec::new(), Vec::new(), String::new());
        for _ in 0..40 {
            let (what, one, two) = (draw(12), draw(2), draw(2));
            let at = |n: u64| format!("/other/{}", ["a", "b"][n as usize]);
            log.push_str(&format!(" {what}:{one}{two}"));
            match what {
                0..=4 => {
                    let staging = place.put("partner", &at(one), ["x", "y"][two as usize].as_bytes()).await;
                    delivered
                        .extend(place.keeper().ledger.drop_record(&staging.drop).unwrap().map(|record| record.drop));
                }
                5 | 6 => drop(namespace::remove(place.keeper(), &place.client("partner"), path(&at(one))).await),
                7 | 8 => {
                    let client = place.client("partner");
                    drop(namespace::rename(place.keeper(), &client, path(&at(one)), path(&at(two)), what == 7).await);
                }
                9 | 10 => {
                    let at = path(&format!("/inbox/partner/{}", ["a", "b"][one as usize]));
                    let there = place.keeper().ledger.drop_at(&"radiology".parse().unwrap(), &at).unwrap();
                    if namespace::remove(place.keeper(), &place.client("radiology"), at).await.is_ok() {
                        removed.extend(there.map(|record| record.drop));
                    }
                }
                _ => place = place.restart().await,
            }
            assert_agrees(&place, &delivered, &removed, &format!("seed {seed}{log}"));
        }
        assert!(events(&place, "upload-duplicate") > 0 || seed > 0, "there are duplicates among them");
    }
}
