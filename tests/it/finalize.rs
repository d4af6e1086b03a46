//! When an upload is finished, where CLOSE does not say: by its rename, or when it was left alone for a while. Until then
//! nothing is delivered, and from CLOSE on nothing is lost.

use std::fs;

use sealdrop::cli::demo::place::RADIOLOGY;

use crate::site::{Site, content, everything_below, have, have_python};
use crate::wire::{Wire, string};

/// Places of a wait, in order; `places` has those of commits and sweeps.
pub const PLACES: [&str; 4] = ["wait-noted", "wait-recorded", "wait-reopened", "wait-delivered"];

/// A site whose partner's folder `/radiology` finishes uploads so.
pub fn site_with(finalize: &str) -> Site {
    let mut site = Site::prepared();
    set_finalize(&site, finalize);
    site.start().expect("the daemon starts");
    site
}

/// Writes it into the policy; in force at the next start or reload.
fn set_finalize(site: &Site, finalize: &str) {
    let path = site.place().policy("partner");
    let policy = fs::read_to_string(&path).unwrap();
    let without: Vec<&str> = policy.lines().filter(|line| !line.starts_with("finalize")).collect();
    let to = "to = [\"radiology\"]";
    let with = without.join("\n").replacen(to, &format!("{to}\nfinalize = \"{finalize}\""), 1) + "\n";
    assert!(with.contains("finalize"), "{policy}");
    fs::write(&path, with).unwrap();
}

/// As if so much time had passed.
#[track_caller]
pub fn later(site: &Site, span: &str) {
    site.sealdrop(&["sweep", "--now", span]).ok();
}

pub fn delivered(site: &Site) -> Vec<String> {
    site.recipient(RADIOLOGY).delivered()
}

/// Delivered once, whole, with a receipt, and nothing of it is left where uploads are.
#[track_caller]
pub fn assert_delivered_once(site: &Site, name: &str, bytes: &[u8]) {
    assert_eq!(delivered(site), [name]);
    assert!(site.recipient(RADIOLOGY).get(&format!("/inbox/partner/{name}")) == bytes);
    assert_eq!(site.events_of("upload-committed", name).len(), 1);
    let receipt = site.partner().verified_receipt(&format!("/radiology/{name}"));
    let sha256 = sealdrop::names::hex(&<sha2::Sha256 as sha2::Digest>::digest(bytes));
    assert!(receipt.contains(&format!("sha256 {sha256}\n")), "{receipt}");
    for dir in [".staging", ".commit"] {
        let left = everything_below(&site.on_disk("partner", dir)).split_off(1);
        assert!(left.is_empty(), "{left:?}");
    }
}

#[track_caller]
fn size_of(site: &Site, path: &str) -> usize {
    let listed = site.partner().sftp(format!("ls -l {path}")).ok();
    let size = listed.lines().last().and_then(|line| line.split_whitespace().nth(4)?.parse().ok());
    size.unwrap_or_else(|| panic!("no size in {listed}"))
}

#[track_caller]
fn status_of(site: &Site, path: &str) -> String {
    site.partner().ssh(&[], &["status", path]).ok()
}

#[test]
fn a_closed_upload_waits_and_is_delivered_when_nobody_came_back_to_it() {
    let site = site_with("quiet 5min");
    let bytes = content("quiet ", 200_000);
    site.partner().put(&site.file("a.dcm", &bytes), "/radiology/a.dcm");
    assert!(delivered(&site).is_empty());
    assert_eq!(size_of(&site, "/radiology/a.dcm"), bytes.len());
    site.partner().sftp("ls /receipts/radiology/a.dcm.receipt").fails();
    let status = status_of(&site, "/radiology/a.dcm");
    assert!(status.contains("state      waiting until 2"), "{status}");
    let parked = site.events_of("upload-parked", "/a.dcm");
    assert_eq!(parked.len(), 1, "{parked:?}");
    assert!(parked[0]["detail"].as_str().unwrap().contains("left alone until"), "{parked:?}");
    let hash = site.partner().ssh(&[], &["sha256sum", "/radiology/a.dcm"]).ok();
    assert!(hash.starts_with(&sealdrop::names::hex(&<sha2::Sha256 as sha2::Digest>::digest(&bytes))), "{hash}");
    site.assert_private();

    assert_eq!(site.status()["waiting"], 1);
    let listed = site.partner().sftp("ls -l /radiology").ok();
    assert!(listed.contains(" 200000 ") && listed.contains("a.dcm"), "{listed}");
    later(&site, "+4min");
    assert!(delivered(&site).is_empty());
    later(&site, "+6min");
    assert_delivered_once(&site, "a.dcm", &bytes);
    assert!(status_of(&site, "/radiology/a.dcm").contains("state      delivered"));
    assert_eq!(site.status()["waiting"], 0);
    later(&site, "+7min");
    assert_delivered_once(&site, "a.dcm", &bytes);
}

#[test]
fn the_clock_delivers_by_itself() {
    let site = site_with("quiet 1s");
    let bytes = content("by the clock ", 100_000);
    site.partner().put(&site.file("a.dcm", &bytes), "/radiology/a.dcm");
    site.wait_for_event("upload-committed", 1);
    // The event is recorded before what was staged goes.
    later(&site, "+1s");
    assert_delivered_once(&site, "a.dcm", &bytes);
}

#[test]
fn what_waits_survives_crashes_and_restarts_and_needs_nobody_to_be_logged_in() {
    let mut site = site_with("quiet 5min");
    let bytes = content("survives ", 3_000_000);
    site.partner().put(&site.file("a.dcm", &bytes), "/radiology/a.dcm");
    site.crash_keeper();
    site.restart();
    site.crash_gate();
    assert_eq!(size_of(&site, "/radiology/a.dcm"), bytes.len());
    assert!(status_of(&site, "/radiology/a.dcm").contains("waiting until"));
    later(&site, "+6min");
    assert_delivered_once(&site, "a.dcm", &bytes);
}

#[test]
fn who_comes_back_in_time_continues_and_the_period_begins_anew() {
    let site = site_with("quiet 5min");
    let bytes = content("in two pieces ", 2_000_000);
    site.partner().put(&site.file("half", &bytes[..1_300_001]), "/radiology/a.dcm");
    let local = site.file("whole", &bytes);
    site.partner().sftp(format!("reput {} /radiology/a.dcm", local.display())).ok();
    assert!(delivered(&site).is_empty());
    assert_eq!(site.events_of("upload-resumed", "/a.dcm").len(), 1);
    assert_eq!(size_of(&site, "/radiology/a.dcm"), bytes.len());
    later(&site, "+6min");
    assert_delivered_once(&site, "a.dcm", &bytes);
}

#[test]
fn who_came_back_and_did_not_finish_delivers_nothing() {
    if !have_python("paramiko") {
        return;
    }
    let site = site_with("quiet 5min");
    let bytes = content("not finished ", 2_000_000);
    site.partner().put(&site.file("half", &bytes[..1_000_000]), "/radiology/a.dcm");
    site.partner().paramiko("f = sftp.open('/radiology/a.dcm', 'a'); f.write(b'x'); f.flush(); os._exit(0)").ok();
    later(&site, "+6min");
    assert!(delivered(&site).is_empty());
    let status = status_of(&site, "/radiology/a.dcm");
    assert!(status.contains("not complete"), "{status}");
    // Written over, it is what it is in the end.
    site.partner().put(&site.file("whole", &bytes), "/radiology/a.dcm");
    later(&site, "+6min");
    assert_delivered_once(&site, "a.dcm", &bytes);
}

#[test]
fn what_waits_is_renamed_and_waits_on() {
    let site = site_with("quiet 5min");
    let bytes = content("renamed ", 1_500_000);
    let local = site.file("a", &bytes);
    site.partner().put(&local, "/radiology/a.dcm.filepart");
    site.partner().sftp("rename /radiology/a.dcm.filepart /radiology/b.dcm").ok();
    assert!(status_of(&site, "/radiology/b.dcm").contains("waiting until"));
    site.partner().sftp("rename /radiology/b.dcm /radiology/c.dcm").ok();
    site.partner().sftp("ls /radiology/b.dcm").fails();
    assert_eq!(size_of(&site, "/radiology/c.dcm"), bytes.len());
    assert!(delivered(&site).is_empty());
    later(&site, "+6min");
    assert_delivered_once(&site, "c.dcm", &bytes);
}

#[test]
fn what_was_removed_while_it_waited_is_not_delivered() {
    let mut site = site_with("quiet 5min");
    site.partner().put(&site.file("a", b"removed"), "/radiology/a.dcm");
    site.partner().sftp("rm /radiology/a.dcm").ok();
    site.partner().sftp("ls /radiology/a.dcm").fails();
    site.crash_keeper();
    later(&site, "+6min");
    assert!(delivered(&site).is_empty());
    assert!(site.events_of("upload-committed", "").is_empty());
}

#[test]
fn sent_again_while_it_waits_it_is_delivered_once_and_later_as_a_new_version() {
    let site = site_with("quiet 5min");
    let (one, two, three) = (content("one ", 100_000), content("two ", 90_000), content("three ", 120_000));
    site.partner().put(&site.file("1", &one), "/radiology/a.dcm");
    site.partner().put(&site.file("2", &two), "/radiology/a.dcm");
    later(&site, "+6min");
    assert_delivered_once(&site, "a.dcm", &two);
    site.partner().put(&site.file("3", &three), "/radiology/a.dcm");
    assert_eq!(size_of(&site, "/radiology/a.dcm"), three.len(), "the client sees what it closed");
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm") == two);
    later(&site, "+6min");
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm") == three);
    assert_eq!(site.events_of("upload-committed", "/a.dcm").len(), 2);
}

#[test]
fn a_time_set_after_close_is_kept_and_is_no_coming_back() {
    if !have_python("paramiko") {
        return;
    }
    let site = site_with("quiet 5min");
    site.partner().put(&site.file("a", b"timed"), "/radiology/a.dcm");
    let until = status_of(&site, "/radiology/a.dcm");
    site.partner().paramiko("sftp.utime('/radiology/a.dcm', (1600000000, 1600000000))").ok();
    assert_eq!(status_of(&site, "/radiology/a.dcm"), until);
    later(&site, "+6min");
    let mtime = site.partner().paramiko("print(int(sftp.stat('/radiology/a.dcm').st_mtime))").ok();
    assert_eq!(mtime.trim(), "1600000000");
    assert_delivered_once(&site, "a.dcm", b"timed");
}

#[test]
fn policy_is_asked_again_when_its_time_comes() {
    let site = site_with("quiet 5min");
    site.partner().put(&site.file("a", b"refused in the end"), "/radiology/a.dcm");
    let path = site.place().policy("partner");
    let policy = fs::read_to_string(&path).unwrap();
    fs::write(&path, policy.replacen("finalize", "refuse = [\"*.dcm\"]\nfinalize", 1)).unwrap();
    site.sealdrop(&["reload"]).ok();
    later(&site, "+6min");
    assert!(delivered(&site).is_empty());
    let refused = site.events_of("upload-refused", "/a.dcm");
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0]["why"].as_str().unwrap().contains("refuse"), "{refused:?}");
    assert_eq!(size_of(&site, "/radiology/a.dcm"), 18, "it is kept for its resume window");
    assert!(status_of(&site, "/radiology/a.dcm").contains("not complete"));
    later(&site, "+7min");
    assert_eq!(site.events_of("upload-refused", "/a.dcm").len(), 1);
}

#[test]
fn a_folder_that_waits_no_longer_delivers_what_waited() {
    let site = site_with("quiet 12h");
    let bytes = content("no longer ", 50_000);
    site.partner().put(&site.file("a", &bytes), "/radiology/a.dcm");
    set_finalize(&site, "close");
    site.sealdrop(&["reload"]).ok();
    site.wait_for_event("upload-committed", 1);
    later(&site, "+1s");
    assert_delivered_once(&site, "a.dcm", &bytes);
}

#[test]
fn a_crash_anywhere_in_a_wait_loses_nothing_and_delivers_once() {
    let mut site = site_with("quiet 5min");
    let bytes = content("crashed ", 1_700_000);
    for place in ["wait-noted", "wait-recorded"] {
        let name = format!("{place}.dcm");
        let local = site.file("whole", &bytes);
        site.crash_at(place);
        site.partner().sftp(format!("put {} /radiology/{name}", local.display())).fails();
        site.wait_for_end();
        site.start().expect("the daemon starts after a crash");
        assert!(status_of(&site, &format!("/radiology/{name}")).contains("waiting until"), "{place}");
        later(&site, "+6min");
        assert!(site.recipient(RADIOLOGY).get(&format!("/inbox/partner/{name}")) == bytes, "{place}");
        assert_eq!(site.events_of("upload-committed", &name).len(), 1, "{place}");
    }

    site.partner().put(&site.file("half", &bytes[..1_200_000]), "/radiology/wait-reopened.dcm");
    let local = site.file("whole", &bytes);
    site.crash_at("wait-reopened");
    let reput = format!("reput {} /radiology/wait-reopened.dcm", local.display());
    site.partner().sftp(&reput).fails();
    site.wait_for_end();
    site.start().expect("the daemon starts after a crash");
    later(&site, "+6min");
    assert!(!delivered(&site).contains(&"wait-reopened.dcm".to_owned()), "who came back had not finished");
    site.partner().sftp(&reput).ok();
    later(&site, "+6min");
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/wait-reopened.dcm") == bytes);
}

#[test]
fn a_crash_anywhere_in_a_delivery_that_is_due_delivers_once() {
    let of_commits = sealdrop::keeper::crash::PLACES.iter().filter(|place| place.starts_with("commit-"));
    for place in of_commits.chain(["wait-delivered"].iter()) {
        let mut site = site_with("quiet 5min");
        let bytes = content("due ", 150_000);
        site.partner().put(&site.file("a", &bytes), "/radiology/a.dcm");
        site.crash_at(place);
        site.sealdrop(&["sweep", "--now", "+6min"]).fails();
        site.wait_for_end();
        site.start().expect("the daemon starts after a crash");
        later(&site, "+6min");
        assert_delivered_once(&site, "a.dcm", &bytes);
    }
}

#[test]
fn where_a_rename_finishes_a_final_name_is_refused_with_what_to_do() {
    let site = site_with("rename");
    let bytes = content("under a temp name ", 300_000);
    let local = site.file("a", &bytes);
    site.partner().sftp(format!("put {} /radiology/a.dcm", local.display())).fails();
    let mut wire = Wire::open(site.partner());
    let open = [string(b"/radiology/a.dcm"), vec![0, 0, 0, 0x1a], vec![0; 4]].concat();
    let (kind, fields) = wire.ask(3, &open);
    assert_eq!((kind, &fields[..4]), (101, &[0, 0, 0, 3][..]), "permission denied");
    let said = String::from_utf8_lossy(&fields[8..]).into_owned();
    assert!(said.starts_with("send this under a temporary name, such as NAME.part, and rename it"), "{said}");
    assert_eq!(site.refusals("/radiology/a.dcm").len(), 2);
    assert!(everything_below(&site.on_disk("partner", ".staging")).len() == 1, "nothing was begun");

    site.partner().put(&local, "/radiology/a.dcm.part");
    assert!(delivered(&site).is_empty());
    site.partner().sftp("rename /radiology/a.dcm.part /radiology/a.dcm").ok();
    assert_delivered_once(&site, "a.dcm", &bytes);
}

#[test]
fn a_rename_to_a_name_that_waits_is_refused_unless_it_replaces() {
    let site = site_with("quiet 5min");
    let (one, two) = (content("one ", 1000), content("two ", 2000));
    site.partner().put(&site.file("1", &one), "/radiology/a.dcm");
    site.partner().put(&site.file("2", &two), "/radiology/b.dcm.part");
    // OpenSSH's own `rename -l` is the plain one.
    site.partner().sftp("rename -l /radiology/b.dcm.part /radiology/a.dcm").fails();
    assert_eq!(size_of(&site, "/radiology/a.dcm"), one.len());
    site.partner().sftp("rename /radiology/b.dcm.part /radiology/a.dcm").ok();
    later(&site, "+6min");
    assert_delivered_once(&site, "a.dcm", &two);
}

#[test]
fn a_folder_in_which_something_waits_is_neither_removed_nor_renamed() {
    let site = site_with("quiet 5min");
    site.partner().sftp("mkdir /radiology/study").ok();
    site.partner().put(&site.file("a", b"in a folder"), "/radiology/study/a.dcm");
    site.partner().sftp("rmdir /radiology/study").fails();
    site.partner().sftp("rename /radiology/study /radiology/other").fails();
    assert_eq!(site.partner().list("/radiology/study"), ["a.dcm"]);
    later(&site, "+6min");
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/study/a.dcm") == b"in a folder");
    site.partner().sftp("rename /radiology/study /radiology/other").ok();
}

#[test]
fn a_client_that_compares_listings_does_not_send_again_what_waits() {
    if !have("rclone") {
        return;
    }
    let site = site_with("quiet 5min");
    let bytes = content("compared ", 100_000);
    fs::create_dir(site.work().join("out")).unwrap();
    site.file("out/a.dcm", &bytes);
    for _ in 0..2 {
        site.partner().rclone(&["copy", "out", ":sftp:/radiology"]).ok();
    }
    assert_eq!(site.events_of("upload-parked", "/a.dcm").len(), 1);
    later(&site, "+6min");
    assert_delivered_once(&site, "a.dcm", &bytes);
}
