//! What is raised, when it is over, and that each is raised once: the looking itself, at whatever time it is.

use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::clock::Time;
use crate::keeper::alarms::watch::look;
use crate::ledger::{Event, Kind};

const HOUR: Duration = Duration::from_secs(3600);

/// The causes that are open, without those of the machine's disk.
fn open(place: &Place) -> Vec<String> {
    let alarms = place.keeper().ledger.alarms().unwrap();
    alarms.into_iter().map(|alarm| alarm.cause).filter(|cause| !cause.starts_with("disk/")).collect()
}

/// Details of the events of a kind, oldest first.
fn events(place: &Place, kind: &str) -> Vec<String> {
    let events = place.keeper().ledger.events(0, usize::MAX).unwrap();
    let events = events.iter().map(|(_, json)| serde_json::from_str::<Value>(json).unwrap());
    let of_kind = events.filter(|event| event["kind"] == kind);
    let details = of_kind.map(|event| event["detail"].as_str().unwrap_or_default().to_owned());
    details.filter(|detail| !detail.starts_with("disk/")).collect()
}

fn settings(place: &Place, lines: &str) {
    let text = fs::read_to_string(place.config()).unwrap();
    fs::write(place.config(), format!("{text}[alarms]\n{lines}\n")).unwrap();
}

#[tokio::test]
async fn drops_that_nobody_picks_up_are_told_of_before_they_expire_and_once() {
    let place = Place::new();
    for name in ["a", "b", "c", "d"] {
        place.put("partner", &format!("/lab/{name}.dcm"), name.as_bytes()).await;
    }
    look(place.keeper(), clock::now().plus(60 * HOUR)).await.unwrap();
    assert_eq!(open(&place), [""; 0], "there is time");
    let late = clock::now().plus(70 * HOUR);
    look(place.keeper(), late).await.unwrap();
    look(place.keeper(), late).await.unwrap();
    let raised = events(&place, "alarm-raised");
    assert_eq!(raised.len(), 2, "one for each recipient: {raised:?}");
    assert!(
        raised[0].starts_with("unpicked/archive/partner/20") && raised[0].contains("4 drops from partner"),
        "{raised:?}"
    );
    assert!(raised[0].ends_with("/lab/a.dcm, /lab/b.dcm, /lab/c.dcm and 1 more") || raised[0].contains(" and 1 more"));

    // What the ledger has is what a next start has.
    let place = place.restart().await;
    assert_eq!(open(&place).len(), 2);
    let drops: Vec<_> = place.keeper().ledger.drops(None, 100).unwrap().iter().map(|record| record.drop).collect();
    for drop in drops {
        let client = place.client("archive");
        crate::keeper::open::pulled(place.keeper(), &client, &path("/inbox/partner/a.dcm"), drop, 1, true)
            .await
            .unwrap();
    }
    look(place.keeper(), late).await.unwrap();
    assert!(matches!(&open(&place)[..], [one] if one.starts_with("unpicked/radiology/partner/")), "{:?}", open(&place));
    assert!(events(&place, "alarm-cleared")[0].ends_with(": picked up, held or removed"));
    look(place.keeper(), clock::now().plus(74 * HOUR)).await.unwrap();
    assert_eq!(open(&place), [""; 0]);
    assert!(events(&place, "alarm-cleared")[1].ends_with(": their time is over"));
    look(place.keeper(), late).await.unwrap();
    assert_eq!(events(&place, "alarm-raised").len(), 3, "after it was over it is raised again");
}

#[tokio::test]
async fn what_was_due_and_did_not_come_is_told_of_until_it_comes() {
    let due = "[[folder]]\npath = \"/lab\"\nkind = \"drop\"\nto = [\"archive\"]\nexpire = \"72h\"\n\
               [[due]]\nfolder = \"/lab\"\nby = \"Mon-Sun 03:00 UTC\"\nwithin = \"12h\"\nfiles = 2\nnames = [\"*.dcm\"]\n";
    let place = Place::with(&[("partner", due), ("archive", "[inbox]\nmode = \"managed\"\n")]);
    place.put("partner", "/lab/a.dcm", b"a").await;
    place.put("partner", "/lab/note.txt", b"b").await;
    // The next three in the morning after now: what came just now came within the 12 hours before it, or the day's before.
    let day = 24 * 3600;
    let three = Time::from_unix_seconds((clock::now().unix_seconds() + 21 * 3600) / day * day + 3 * 3600);
    let hours = three.since(clock::now()).as_secs() / 3600;
    look(place.keeper(), three).await.unwrap();
    let causes = open(&place);
    assert!(
        causes.len() == 1 && causes[0].starts_with("missing/partner/20") && causes[0].ends_with("/lab/*.dcm"),
        "{causes:?}"
    );
    let expected = if hours < 12 { "1 came" } else { "0 came" };
    assert!(events(&place, "alarm-raised").last().unwrap().ends_with(expected), "{hours}");
    place.put("partner", "/lab/b.dcm", b"c").await;
    place.put("partner", "/lab/c.dcm", b"d").await;
    look(place.keeper(), three).await.unwrap();
    let came = hours < 12;
    assert_eq!(open(&place).is_empty(), came, "what came longer before was for another day");
    if came {
        assert!(events(&place, "alarm-cleared").last().unwrap().ends_with(": it came"));
    }
    place.set_policies(&[
        ("partner", due.split("[[due]]").next().unwrap()),
        ("archive", "[inbox]\nmode = \"managed\"\n"),
    ]);
    let place = place.restart().await;
    look(place.keeper(), three).await.unwrap();
    assert_eq!(open(&place), [""; 0], "nobody waits for it any more");
}

#[tokio::test]
async fn who_is_refused_again_and_again_is_told_of() {
    let place = Place::new();
    settings(&place, "refusals = 3");
    let place = place.restart().await;
    for _ in 0..4 {
        let mut event = Event::new(clock::now(), Kind::LoginRefused).refused("a wrong key");
        event.address = Some([192, 0, 2, 9].into());
        event.user = Some("partner".parse().unwrap());
        place.keeper().record_event(event).await.unwrap();
    }
    look(place.keeper(), clock::now()).await.unwrap();
    assert_eq!(open(&place), ["refusals/address/192.0.2.9", "refusals/user/partner"]);
    assert!(
        events(&place, "alarm-raised")[0].ends_with("was refused 3 times or more within 10min"),
        "{:?}",
        events(&place, "alarm-raised")
    );
}

#[tokio::test]
async fn an_account_and_a_key_near_their_end_are_told_of() {
    let soon = clock::now().plus(5 * 24 * HOUR).rfc3339();
    let place = Place::new();
    let file = place.dir.path().join("config/policies/partner.toml");
    let text = fs::read_to_string(&file).unwrap();
    let key = format!("keys = [{{ key = \"{KEY}\", expires = {soon} }}]\nexpires = {soon}");
    fs::write(&file, text.replace(&format!("keys = [\"{KEY}\"]"), &key)).unwrap();
    let place = place.restart().await;
    look(place.keeper(), clock::now()).await.unwrap();
    let causes = open(&place);
    assert!(
        causes.len() == 2 && causes[0] == "key-end/partner" && causes[1].starts_with("key-end/partner/SHA256:"),
        "{causes:?}"
    );
}

#[tokio::test]
async fn damage_is_told_of_with_its_event_and_stays_until_somebody_has_seen_it() {
    let place = Place::new();
    let drop = place.put("partner", "/lab/a.dcm", b"a").await.drop;
    for _ in 0..2 {
        let client = place.client("radiology");
        let at = path("/inbox/partner/a.dcm");
        crate::keeper::open::corrupt(place.keeper(), &client, &at, drop, "a record does not open".to_owned())
            .await
            .unwrap();
    }
    look(place.keeper(), clock::now()).await.unwrap();
    assert_eq!(open(&place), [format!("damage/drop/{drop}")]);
    assert_eq!(events(&place, "alarm-raised").len(), 1, "each of them is an event; the alarm is one");
    use crate::ipc::admin::ToCommand;
    use crate::keeper::alarms::clear_by;
    let cause = format!("damage/drop/{drop}");
    let root = &crate::keeper::who::Who::root();
    assert!(matches!(clear_by(place.keeper(), &cause, "", root).await, ToCommand::Sorry { .. }));
    assert!(matches!(clear_by(place.keeper(), "damage/nothing", "seen", root).await, ToCommand::Sorry { .. }));
    assert!(matches!(clear_by(place.keeper(), &cause, "sent again", root).await, ToCommand::Done { .. }));
    assert_eq!(open(&place), [""; 0]);
    assert!(events(&place, "alarm-cleared")[0].contains("sent again"));
}

#[tokio::test]
async fn what_waits_for_the_hook_is_bounded_and_that_it_is_full_is_an_alarm() {
    let place = Place::new();
    settings(&place, "hook = [\"/bin/true\"]\nnotices = [\"raised\", \"received\"]\nqueue = 3");
    let place = place.restart().await;
    for n in 0..5 {
        place.put("partner", &format!("/lab/{n}.dcm"), &[n]).await;
    }
    let waiting = place.keeper().ledger.notices().unwrap();
    assert_eq!(waiting.iter().filter(|notice| notice.about.word() == "received").count(), 3);
    assert_eq!(open(&place), ["hook/queue"]);
    place.put("partner", "/shared/x", b"x").await;
    look(place.keeper(), clock::now().plus(70 * HOUR)).await.unwrap();
    let waiting = place.restart().await.keeper().ledger.notices().unwrap();
    assert!(waiting.iter().filter(|notice| notice.about.word() == "raised").count() >= 2, "alarms find room still");
}
