//! A crash between any two steps leaves what the next start puts in order, and nothing that lies in staging stops it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::time::Duration;

use super::{Place, path};
use crate::clock;
use crate::keeper::delivery::{Existing, Names};
use crate::keeper::{expiry, recovery, rewrap};
use crate::ledger::DropState;

/// As `commit` names a file, up to the moment before the ledger is asked.
fn named(place: &Place, staging: &super::Staging, last: &str) {
    let file = File::open(&staging.part).unwrap();
    let sender = place.keeper().state.tree(&"partner".parse().unwrap()).unwrap();
    let mut names = Names::begin(file.as_fd(), staging.drop, sender.as_fd()).unwrap();
    for (user, at) in
        [("partner", "/lab/a.dcm"), ("archive", "/inbox/partner/a.dcm"), ("radiology", "/inbox/partner/a.dcm")]
    {
        let tree = place.keeper().state.tree(&user.parse().unwrap()).unwrap();
        let parent = path(at).parent().unwrap();
        place.keeper().state.make_folders(&user.parse().unwrap(), tree.as_fd(), parent.relative()).unwrap();
        names.add(file.as_fd(), staging.drop, tree.as_fd(), &path(at), Existing::Version).unwrap();
        if user == last {
            break;
        }
    }
    names.sync().unwrap();
}

#[tokio::test]
async fn a_commit_cut_off_among_its_names_leaves_every_older_file_where_it_was() {
    for last in ["partner", "archive", "radiology"] {
        let place = Place::new();
        let older = place.put("partner", "/lab/a.dcm", b"older").await;
        let staging = place.staged("partner", "/lab/a.dcm", b"newer").await;
        named(&place, &staging, last);
        let place = place.restart().await;
        for (user, folder) in [("partner", "/lab"), ("archive", "/inbox/partner"), ("radiology", "/inbox/partner")] {
            assert_eq!(place.names(user, folder), ["a.dcm"], "{user} after {last}");
            assert_eq!(place.names(user, ".commit"), [""; 0]);
        }
        let record = place.keeper().ledger.drop_record(&older.drop).unwrap().unwrap();
        assert_eq!(record.state, DropState::Live);
        for user in ["archive", "radiology"] {
            place.opens(user, "/inbox/partner/a.dcm").await.unwrap();
        }
        place.commit("partner", &staging).await.unwrap();
        assert_eq!(place.names("archive", "/inbox/partner"), ["a.dcm", "a.dcm.~1~"]);
    }
}

#[tokio::test]
async fn a_crash_before_the_new_file_has_its_name_leaves_no_second_name_of_the_older_one() {
    let place = Place::new();
    place.put("partner", "/lab/a.dcm", b"older").await;
    let staging = place.staged("partner", "/lab/a.dcm", b"newer").await;
    let file = File::open(&staging.part).unwrap();
    let tree = place.keeper().state.tree(&"partner".parse().unwrap()).unwrap();
    let _names = Names::begin(file.as_fd(), staging.drop, tree.as_fd()).unwrap();
    let lab = place.on_disk("partner", "/lab");
    let kept = place.on_disk("partner", &format!(".commit/{}.0.old", staging.drop));
    fs::hard_link(lab.join("a.dcm"), kept).unwrap();
    fs::hard_link(lab.join("a.dcm"), lab.join("a.dcm.~1~")).unwrap();
    drop(tree);
    let place = place.restart().await;
    assert_eq!(place.names("partner", "/lab"), ["a.dcm"]);
}

#[tokio::test]
async fn a_commit_is_taken_back_though_its_staging_name_is_gone_and_its_sender_is_no_user_any_more() {
    let place = Place::new();
    let staging = place.staged("partner", "/lab/a.dcm", b"one").await;
    named(&place, &staging, "radiology");
    fs::remove_file(&staging.part).unwrap();
    place.set_policies(&super::POLICIES[1..]);
    let place = place.restart().await;
    assert_eq!(place.names("partner", "/lab"), [""; 0]);
    assert_eq!(place.names("radiology", "/inbox/partner"), [""; 0]);
}

#[tokio::test]
async fn what_a_former_user_staged_is_destroyed() {
    let place = Place::new();
    let staging = place.staged("partner", "/lab/a.dcm", b"one").await;
    place.set_policies(&super::POLICIES[1..]);
    let place = place.restart().await;
    let (worker, later) = (place.keeper().clone(), clock::now().plus(Duration::from_secs(60)));
    tokio::task::spawn_blocking(move || recovery::discard_stale(&worker, later).unwrap()).await.unwrap();
    assert!(!staging.part.exists());
}

#[tokio::test]
async fn odd_things_in_staging_stop_neither_a_start_nor_the_discarding_of_others() {
    let place = Place::new();
    let staging = place.staged("partner", "/lab/a.dcm", b"one").await;
    for user in ["archive", "partner", "radiology"] {
        let odd = place.on_disk(user, ".staging");
        nix::unistd::mkfifo(&odd.join("pipe.part"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", odd.join("link.part")).unwrap();
        fs::create_dir(odd.join("folder.part")).unwrap();
        fs::write(odd.join("\u{1}.part"), b"").unwrap();
        fs::write(odd.join("short.part"), b"SEALDRP").unwrap();
    }
    let place = place.restart().await;
    let later = clock::now().plus(Duration::from_secs(400 * 86_400));
    let worker = place.keeper().clone();
    let discarded = tokio::task::spawn_blocking(move || recovery::discard_stale(&worker, later).unwrap());
    let discarded = tokio::time::timeout(Duration::from_secs(20), discarded).await.expect("it waits for nothing");
    assert_eq!(discarded.unwrap(), 3, "those of the users without a folder are gone since the start");
    assert!(!staging.part.exists());
    assert!(place.on_disk("partner", ".staging/pipe.part").exists());
}

#[tokio::test]
async fn one_drop_that_cannot_be_destroyed_keeps_no_other_from_it() {
    let place = Place::new();
    let stuck = place.put("partner", "/lab/stuck.dcm", b"one").await;
    let other = place.put("partner", "/lab/other.dcm", b"two").await;
    // Reading a folder as a file fails, as a damaged disk would.
    let at = place.on_disk("archive", "/inbox/partner/stuck.dcm");
    fs::remove_file(&at).unwrap();
    fs::create_dir(&at).unwrap();
    let later = clock::now().plus(Duration::from_secs(400 * 86_400));
    let swept = expiry::sweep(place.keeper(), later).await.unwrap();
    assert_eq!(swept.expired.len(), 1);
    let state = |drop| place.keeper().ledger.drop_record(drop).unwrap().unwrap().state.word();
    assert_eq!((state(&stuck.drop), state(&other.drop)), ("expiring", "expired"));
    fs::remove_dir(&at).unwrap();
    let swept = expiry::sweep(place.keeper(), later).await.unwrap();
    assert_eq!((swept.failed, swept.destroyed_keys), (0, 1));
}

#[tokio::test]
async fn a_drop_that_a_crash_left_under_another_name_expires_all_the_same() {
    let place = Place::new();
    place.put("partner", "/lab/a.dcm", b"one").await;
    fs::create_dir(place.on_disk("partner", "/lab/deep")).unwrap();
    fs::rename(place.on_disk("partner", "/lab/a.dcm"), place.on_disk("partner", "/lab/deep/b.dcm")).unwrap();
    let later = clock::now().plus(Duration::from_secs(400 * 86_400));
    expiry::sweep(place.keeper(), later).await.unwrap();
    assert_eq!(place.names("partner", "/lab/deep"), [""; 0]);
    assert!(!place.on_disk("partner", "/lab/deep").join(OsStr::new("b.dcm")).exists());
}

#[tokio::test]
async fn what_a_crash_left_beside_an_upload_goes_with_the_next_start() {
    let place = Place::new();
    let staging = place.staged("partner", "/lab/a.dcm", b"one").await;
    let stem = staging.part.file_stem().unwrap().to_str().unwrap().to_owned();
    let beside = place.on_disk("partner", ".staging");
    for name in ["gone.jrn", "gone.tmp", &format!("{stem}.tmp"), &format!("{stem}.jrn")] {
        fs::write(beside.join(name), b"x").unwrap();
    }
    let place = place.restart().await;
    assert_eq!(place.names("partner", ".staging"), [format!("{stem}.jrn"), format!("{stem}.part")]);
}

#[tokio::test]
async fn key_files_without_their_names_go_and_the_others_stay() {
    let place = Place::new();
    place.put("partner", "/lab/a.dcm", b"one").await;
    let keys = place.dir.path().join("state/keys");
    let shred = fs::read_dir(keys.join("shred")).unwrap().next().unwrap().unwrap().path();
    fs::hard_link(&shred, shred.with_file_name(".new-00")).unwrap();
    fs::write(keys.join("identities/.new-01"), b"x").unwrap();
    place.keeper().keys.remove_leftovers().unwrap();
    assert!(shred.exists() && keys.join("identities/archive").exists());
    assert!(!shred.with_file_name(".new-00").exists() && !keys.join("identities/.new-01").exists());
    place.opens("archive", "/inbox/partner/a.dcm").await.unwrap();
}

#[tokio::test]
async fn a_noted_envelope_is_written_or_of_a_file_that_is_gone_let_go() {
    let place = Place::new();
    let drop = place.put("partner", "/lab/a.dcm", b"kept").await.drop;
    let noted = |note: &std::path::Path| {
        let sealed = fs::read(place.on_disk("archive", "/inbox/partner/a.dcm")).unwrap();
        fs::create_dir_all(note.parent().unwrap()).unwrap();
        fs::write(note, &sealed[crate::seal::HEAD_LEN..crate::seal::HEADER_LEN]).unwrap();
    };
    let note = place.dir.path().join("state/rewrap").join(drop.to_string());
    noted(&note);
    assert_eq!(rewrap::mend(place.keeper()).unwrap(), 1);
    place.opens("archive", "/inbox/partner/a.dcm").await.unwrap();
    assert!(!note.exists());

    noted(&note);
    for (user, at) in
        [("partner", "/lab/a.dcm"), ("archive", "/inbox/partner/a.dcm"), ("radiology", "/inbox/partner/a.dcm")]
    {
        fs::remove_file(place.on_disk(user, at)).unwrap();
    }
    assert_eq!(rewrap::mend(place.keeper()).unwrap(), 0, "a start does not fail for it");
    assert!(!note.exists());
}
