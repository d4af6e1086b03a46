//! Uploads that wait, at the keeper's own level: what a session says of one is checked before it is promised anything, a
//! note outlives everything but a decision, and nobody reaches another's.

use std::fs;
use std::time::Duration;

use super::{Place, path};
use crate::clock;
use crate::ipc::jail::{Abandon, Answer, StagedFrom};
use crate::keeper::desk::Refusal;
use crate::keeper::{commit, describe, expiry, recovery, uploads, waiting};
use crate::names::Digest;

const WAITS: &[(&str, &str)] = &[
    (
        "partner",
        "[limits]\nfiles = 2\nbytes = \"100 B\"\n[[folder]]\npath = \"/lab\"\nkind = \"drop\"\nto = [\"radiology\"]\nexpire = \"72h\"\n\
         finalize = \"quiet 5min\"\nresume_window = \"10min\"\n",
    ),
    ("radiology", "[inbox]\nmode = \"managed\"\n"),
];

impl Place {
    /// CLOSE in a folder that waits.
    async fn close(&self, staging: &super::Staging) -> Result<Answer, Refusal> {
        let file: std::os::fd::OwnedFd = fs::File::open(&staging.part).unwrap().into();
        let request = crate::ipc::jail::Commit { waits: true, ..staging.request() };
        commit::commit(self.keeper(), &self.client("partner"), request, vec![file]).await
    }

    /// Staged where a session would stage it.
    async fn staged_at(&self, to: &str, content: &[u8]) -> super::Staging {
        let mut staging = self.staged("partner", to, content).await;
        let part = self.on_disk("partner", ".staging").join(format!("{}.part", path(to).staging_stem()));
        fs::rename(&staging.part, &part).unwrap();
        staging.part = part;
        staging
    }

    async fn minutes_later(&self, minutes: u64) {
        let then = clock::now().plus(Duration::from_secs(60 * minutes));
        waiting::deliver_due(self.keeper(), then, waiting::Asked::ByClock).await;
    }
}

#[tokio::test]
async fn what_a_session_says_is_checked_before_it_waits() {
    let place = Place::with(WAITS);
    let staging = place.staged_at("/lab/a.dcm", b"one").await;
    let lie = super::Staging { sha256: [9; 32], part: staging.part.clone(), path: path("/lab/a.dcm"), ..staging };
    assert!(place.close(&lie).await.unwrap_err().why.contains("digest"));
    let lie = super::Staging { key: [9; 32], part: staging.part.clone(), path: path("/lab/a.dcm"), ..staging };
    assert!(place.close(&lie).await.is_err());
    fs::write(&staging.part, &fs::read(&staging.part).unwrap()[..8200]).unwrap();
    assert!(place.close(&staging).await.is_err(), "an unfinished file does not wait");
    assert_eq!(place.names("partner", ".commit"), [""; 0]);
    assert!(place.keeper().waiting.at(&"partner".parse().unwrap(), &path("/lab/a.dcm")).is_none());
}

#[tokio::test]
async fn a_note_outlives_restarts_and_the_resume_window_and_is_delivered_once() {
    let place = Place::with(WAITS);
    let staging = place.staged_at("/lab/a.dcm", b"one").await;
    assert!(matches!(place.close(&staging).await.unwrap(), Answer::Waiting { .. }));
    // As if the daemon had been down for days: the upload is older than its window.
    let file = fs::File::options().write(true).open(&staging.part).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(86_400)).unwrap();
    drop(file);
    let place = place.restart().await;
    let worker = place.keeper().clone();
    let discard = move || recovery::discard_stale(&worker, clock::now()).unwrap();
    assert_eq!(tokio::task::spawn_blocking(discard).await.unwrap(), 0);
    place.minutes_later(4).await;
    assert_eq!(place.names("radiology", "/inbox"), [""; 0]);
    place.minutes_later(6).await;
    place.minutes_later(60).await;
    assert_eq!(place.names("radiology", "/inbox/partner"), ["a.dcm"]);
    assert_eq!(place.names("partner", ".staging"), [""; 0]);
    assert_eq!(place.names("partner", ".commit"), [""; 0]);
    place.opens("radiology", "/inbox/partner/a.dcm").await.unwrap();
}

#[tokio::test]
async fn a_note_that_does_not_open_stops_neither_a_start_nor_the_others() {
    let place = Place::with(WAITS);
    let staging = place.staged_at("/lab/a.dcm", b"one").await;
    place.close(&staging).await.unwrap();
    let commit = place.on_disk("partner", ".commit");
    fs::write(commit.join(format!("{}.wait", crate::names::DropId([7; 16]))), b"SEALWTG\x01 and noise").unwrap();
    fs::write(commit.join("odd.wait"), b"").unwrap();
    let place = place.restart().await;
    place.minutes_later(6).await;
    assert_eq!(place.names("radiology", "/inbox/partner"), ["a.dcm"]);
}

#[tokio::test]
async fn a_note_whose_file_is_gone_or_was_changed_delivers_nothing() {
    let place = Place::with(WAITS);
    let gone = place.staged_at("/lab/gone.dcm", b"one").await;
    let changed = place.staged_at("/lab/changed.dcm", b"two").await;
    place.close(&gone).await.unwrap();
    place.close(&changed).await.unwrap();
    fs::remove_file(&gone.part).unwrap();
    let bytes = fs::read(&changed.part).unwrap();
    fs::write(&changed.part, &bytes[..bytes.len() - 1]).unwrap();
    place.minutes_later(6).await;
    assert_eq!(place.names("radiology", "/inbox"), [""; 0]);
    // The one is given up; the other is tried again, and its file is its sender's still.
    assert_eq!(place.names("partner", ".commit"), [format!("{}.wait", changed.drop)]);
    place.minutes_later(7).await;
    let failed = || {
        let events = place.keeper().ledger.events(0, 1_000).unwrap();
        events.iter().filter(|(_, event)| event.contains("\"outcome\":\"failed\"")).count()
    };
    assert_eq!(failed(), 1, "not at every beat");
    fs::write(&changed.part, bytes).unwrap();
    waiting::deliver_due(place.keeper(), clock::now().plus(Duration::from_secs(480)), waiting::Asked::ByPerson).await;
    assert_eq!(place.names("radiology", "/inbox/partner"), ["changed.dcm"]);
}

#[tokio::test]
async fn what_cannot_be_delivered_is_not_tried_for_ever() {
    let place = Place::with(WAITS);
    let staging = place.staged_at("/lab/a.dcm", b"one").await;
    place.close(&staging).await.unwrap();
    let bytes = fs::read(&staging.part).unwrap();
    fs::write(&staging.part, &bytes[..bytes.len() - 1]).unwrap();
    place.minutes_later(6).await;
    assert_eq!(place.names("partner", ".commit").len(), 1);
    place.minutes_later(17).await;
    assert_eq!(place.names("partner", ".commit"), [""; 0], "five minutes of quiet and a window of ten are over");
    assert!(staging.part.exists(), "the next sweep discards it as any upload that nobody continued");
}

#[tokio::test]
async fn who_comes_back_takes_the_note_away_and_nobody_else_can() {
    let place = Place::with(WAITS);
    let staging = place.staged_at("/lab/a.dcm", b"one").await;
    place.close(&staging).await.unwrap();
    let stranger = place.client("radiology");
    let (at, drop) = (path("/lab/a.dcm"), staging.drop);
    let ended = uploads::Ended { drop, bytes: 0, keep: false, why: Abandon::Removed, say: None };
    uploads::discard(place.keeper(), &stranger, &at, ended).await.unwrap();
    assert!(describe::status(place.keeper(), &stranger, &at).await.is_err());
    assert_eq!(place.names("partner", ".commit").len(), 1, "another user's word changes nothing");

    let from = Some(StagedFrom { path: at.clone(), drop, bucket: 0 });
    let granted = uploads::stage(place.keeper(), &place.client("partner"), at, from, false).await.unwrap();
    let Answer::Staged(granted) = granted else { panic!("it is granted") };
    assert_eq!((granted.size_max, granted.waits), (100, true), "its own room is its own");
    assert_eq!(place.names("partner", ".commit"), [""; 0]);
    place.minutes_later(6).await;
    assert_eq!(place.names("radiology", "/inbox"), [""; 0]);
}

#[tokio::test]
async fn what_waits_has_its_room_in_the_quota() {
    let place = Place::with(WAITS);
    let mut all = Vec::new();
    for name in ["/lab/a.dcm", "/lab/b.dcm", "/lab/c.dcm"] {
        let granted = uploads::stage(place.keeper(), &place.client("partner"), path(name), None, false).await;
        if all.len() == 2 {
            assert!(granted.is_err(), "two wait, and two is the limit");
            break;
        }
        let staging = place.staged_at(name, b"one").await;
        place.close(&staging).await.unwrap();
        all.push(staging);
    }
    let place = place.restart().await;
    place.minutes_later(6).await;
    assert_eq!(place.names("radiology", "/inbox/partner"), ["a.dcm", "b.dcm"]);
    let swept = expiry::sweep(place.keeper(), clock::now().plus(Duration::from_secs(400 * 86_400))).await.unwrap();
    assert_eq!(swept.expired.len(), 2);
    assert_eq!(swept.expired[0].sha256, Digest(all[0].sha256));
}

#[tokio::test]
async fn a_listing_has_every_name_that_waits_page_by_page() {
    let place = Place::with(&[
        (WAITS[0].0, &WAITS[0].1.replace("files = 2", "files = 1000").replace("100 B", "1 MiB")),
        WAITS[1],
    ]);
    let mut all = Vec::new();
    for n in 0..450 {
        let name = format!("/lab/{n:04}.dcm");
        let staging = place.staged_at(&name, b"x").await;
        place.close(&staging).await.unwrap();
        all.push(name[5..].to_owned());
    }
    let (mut names, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let (page, more) = place.keeper().waiting.page(&"partner".parse().unwrap(), &path("/lab"), after.as_ref());
        pages += 1;
        after = page.last().map(|file| file.name.clone());
        names.extend(page.iter().map(|file| file.name.to_string()));
        if !more {
            break;
        }
    }
    assert_eq!((names, pages), (all, 3));
    assert!(place.keeper().waiting.page(&"partner".parse().unwrap(), &path("/"), None).0.is_empty());
    assert!(place.keeper().waiting.page(&"radiology".parse().unwrap(), &path("/lab"), None).0.is_empty());
}
