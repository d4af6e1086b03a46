//! A reader is given the drop that the ledger has at the path it named, or is told that it is damaged, or that somebody was
//! just changing it.

use std::fs;

use super::{Place, path};
use crate::ipc::jail::{Answer, Opened};
use crate::seal::HEADER_LEN;

/// The drops that were called damaged.
fn damaged(place: &Place) -> Vec<String> {
    let events = place.keeper().ledger.events(0, 1000).unwrap();
    let events = events.iter().map(|(_, json)| serde_json::from_str::<serde_json::Value>(json).unwrap());
    events.filter(|event| event["kind"] == "corrupt").map(|event| event["drop"].as_str().unwrap().to_owned()).collect()
}

fn header(place: &Place, user: &str, at: &str) -> Vec<u8> {
    fs::read(place.on_disk(user, at)).unwrap()[..HEADER_LEN].to_vec()
}

async fn open(place: &Place, user: &str, at: &str, header: Vec<u8>) -> Result<Answer, super::Refusal> {
    super::super::open::open(place.keeper(), &place.client(user), path(at), header).await
}

#[tokio::test]
async fn a_file_that_was_replaced_while_it_was_opened_is_no_damage() {
    let place = Place::new();
    place.put("partner", "/shared/a", b"old").await;
    let old = header(&place, "partner", "/shared/a");
    let new = place.put("partner", "/shared/a", b"new").await;
    let refusal = open(&place, "partner", "/shared/a", old).await.unwrap_err();
    assert!(refusal.say.contains("ask again"), "{refusal:?}");
    let Ok(Answer::Opened(opened)) = place.opens("partner", "/shared/a").await else { panic!("it does not open") };
    assert!(matches!(*opened, Opened::Managed { drop, size: 3, .. } if drop == new.drop));
    assert!(damaged(&place).is_empty());
}

#[tokio::test]
async fn another_file_that_its_reader_may_open_as_well_is_damage_all_the_same() {
    let place = Place::new();
    let here = place.put("partner", "/lab/here", b"here").await;
    place.put("partner", "/lab/there", b"there").await;
    let inbox = |name: &str| place.on_disk("radiology", &format!("/inbox/partner/{name}"));
    fs::remove_file(inbox("here")).unwrap();
    fs::copy(inbox("there"), inbox("here")).unwrap();
    let refusal = place.opens("radiology", "/inbox/partner/here").await.unwrap_err();
    assert!(refusal.why.contains("another file stands in its place"), "{refusal:?}");
    assert_eq!(damaged(&place), [here.drop.to_string()]);
    // The other recipient's entry is another name of what was delivered.
    place.opens("archive", "/inbox/partner/here").await.unwrap();
}

#[tokio::test]
async fn a_header_that_is_no_whole_header_is_damage_of_what_should_be_there() {
    let place = Place::new();
    let a = place.put("partner", "/lab/a", b"a").await;
    let good = header(&place, "archive", "/inbox/partner/a");
    for bytes in [&good[..0], &good[..95], &good[..HEADER_LEN - 1]] {
        fs::remove_file(place.on_disk("archive", "/inbox/partner/a")).unwrap();
        fs::write(place.on_disk("archive", "/inbox/partner/a"), bytes).unwrap();
        let refusal = open(&place, "archive", "/inbox/partner/a", bytes.to_vec()).await.unwrap_err();
        assert_eq!(refusal.say, "this file is damaged");
    }
    assert_eq!(damaged(&place), vec![a.drop.to_string(); 3]);
}
