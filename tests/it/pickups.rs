//! Drops that expire by being picked up: when CLOSE of the last whole read succeeds the drop is gone, for everybody and in
//! every copy of the disk; a part of it is no pickup; and who has not had it yet still gets it.

use std::fs;
use std::path::PathBuf;

use sealdrop::cli::demo::place::{LAB, RADIOLOGY};

use crate::site::{Site, content, have_python};

/// Places of a pickup, in order.
pub const PLACES: [&str; 1] = ["pickup-recorded"];

const PATH: &str = "/inbox/partner/a.dcm";

/// A site whose partner's folder `/radiology` says so.
fn site_with(expire: &str, to: &str) -> (Site, Vec<u8>) {
    let mut site = Site::prepared();
    let path = site.place().policy("partner");
    let policy = fs::read_to_string(&path).unwrap();
    let before = "to = [\"radiology\"]\nexpire = \"72h\"";
    assert!(policy.contains(before), "{policy}");
    fs::write(&path, policy.replacen(before, &format!("to = {to}\nexpire = \"{expire}\""), 1)).unwrap();
    site.start().expect("the daemon starts");
    let bytes = content("once ", 200_000);
    let local = site.file("a.dcm", &bytes);
    site.partner().put(&local, "/radiology/a.dcm");
    (site, bytes)
}

fn state(site: &Site) -> (String, String) {
    let row = site.ask(&["drops"]).into_iter().find(|row| row["path"] == "/radiology/a.dcm").expect("a row");
    (row["state"].as_str().unwrap().to_owned(), row["order"].as_str().unwrap_or_default().to_owned())
}

/// Copies of the drop that the server's keys of now open.
fn open_copies(site: &Site, copy: &std::collections::BTreeMap<PathBuf, Vec<u8>>) -> usize {
    crate::shred::opens(site, copy).len()
}

#[test]
fn a_drop_is_gone_from_everywhere_when_the_close_of_its_only_pickup_succeeds() {
    for expire in ["72h or after 1 pickup", "after 1 pickup"] {
        let (site, bytes) = site_with(expire, "[\"radiology\"]");
        let receipt = site.partner().verified_receipt("/radiology/a.dcm");
        assert!(receipt.contains("\npickups 1\n"), "{receipt}");
        let backup = site.snapshot("jails");
        assert_eq!(open_copies(&site, &backup), 1, "{expire}");

        assert!(site.recipient(RADIOLOGY).get(PATH) == bytes);
        // No wait: that the client ended is all that is waited for.
        assert_eq!(site.recipient(RADIOLOGY).delivered(), [""; 0]);
        site.recipient(RADIOLOGY).sftp(format!("get {PATH} again")).fails();
        assert_eq!(open_copies(&site, &backup), 0, "{expire}");
        let (state, order) = state(&site);
        assert_eq!(state, "shredded");
        assert!(order.starts_with("policy: nobody may pick it up any more: it expires after 1 pickup"), "{order}");
        let ended = site.events_of("download-ended", PATH).pop().unwrap();
        assert_eq!(ended["detail"], "pickup 1 of 1");
        assert_eq!(site.events_of("shredded", "/radiology/a.dcm").len(), 1);
        let certificate = site.partner().get("/receipts/radiology/a.dcm.destroyed");
        let certificate = String::from_utf8(certificate).unwrap();
        assert!(certificate.contains("\nrule shred\nby policy\nreason nobody may"), "{certificate}");
        assert!(certificate.contains(" pulled 1\n"), "{certificate}");
    }
}

#[test]
fn each_recipient_has_its_own_pickups_and_the_last_one_ends_the_drop() {
    let mut site = Site::prepared();
    // Both take what is managed.
    let lab = site.place().policy(LAB);
    let text = fs::read_to_string(&lab).unwrap();
    let at = text.find("[inbox]").unwrap();
    fs::write(&lab, format!("{}[inbox]\nmode = \"managed\"\n", &text[..at])).unwrap();
    let partner = site.place().policy("partner");
    let text = fs::read_to_string(&partner).unwrap();
    let before = "to = [\"radiology\"]\nexpire = \"72h\"";
    let after = "to = [\"radiology\", \"lab\"]\nexpire = \"72h or after 2 pickups\"";
    fs::write(&partner, text.replacen(before, after, 1)).unwrap();
    site.start().expect("the daemon starts");
    let bytes = content("twice ", 100_000);
    site.partner().put(&site.file("a.dcm", &bytes), "/radiology/a.dcm");

    for _ in 0..2 {
        assert!(site.recipient(RADIOLOGY).get(PATH) == bytes);
    }
    assert_eq!(site.recipient(RADIOLOGY).delivered(), [""; 0], "its two are used up, and the name is gone");
    assert_eq!(state(&site).0, "live");
    assert!(site.recipient(LAB).get(PATH) == bytes);
    assert_eq!(state(&site).0, "live");
    // Who removes its entry gives up what is left.
    site.recipient(LAB).sftp(format!("rm {PATH}")).ok();
    assert_eq!(state(&site).0, "shredded");
}

#[test]
fn a_part_of_a_drop_is_no_pickup_and_a_reader_of_before_reads_to_the_end() {
    if !have_python("paramiko") {
        return;
    }
    let (site, _) = site_with("72h or after 1 pickup", "[\"radiology\"]");
    site.recipient(RADIOLOGY)
        .paramiko(&format!(
            "part = sftp.open('{PATH}', 'rb')\n\
             assert len(part.read(1000)) == 1000\n\
             part.close()\n\
             first, second = sftp.open('{PATH}', 'rb'), sftp.open('{PATH}', 'rb')\n\
             assert len(first.read()) == 200000\n\
             first.close()\n\
             try:\n    sftp.open('{PATH}', 'rb')\n    raise SystemExit('it opens once more')\n\
             except FileNotFoundError:\n    pass\n\
             assert len(second.read()) == 200000\n\
             second.close()\n"
        ))
        .ok();
    assert_eq!(state(&site).0, "shredded");
}

#[test]
fn a_held_drop_outlives_its_pickups_and_ends_with_its_release() {
    let (site, bytes) = site_with("after 1 pickup", "[\"radiology\"]");
    let backup = site.snapshot("jails");
    site.sealdrop(&["hold", "partner:/radiology/a.dcm", "--reason", "case 7"]).ok();
    assert!(site.recipient(RADIOLOGY).get(PATH) == bytes);
    site.recipient(RADIOLOGY).sftp(format!("get {PATH} again")).fails();
    assert_eq!(state(&site).0, "held");
    site.sealdrop(&["release", "partner:/radiology/a.dcm", "--reason", "case 7 is over"]).ok();
    assert_eq!(state(&site).0, "shredded");
    assert_eq!(open_copies(&site, &backup), 0);
}

#[test]
fn a_crash_right_after_a_pickup_leaves_nothing_to_pick_up() {
    let (mut site, bytes) = site_with("72h or after 1 pickup", "[\"radiology\"]");
    let backup = site.snapshot("jails");
    site.crash_at(PLACES[0]);
    let pulled = site.recipient(RADIOLOGY).sftp(format!("get {PATH} pulled"));
    assert!(!pulled.status.success(), "CLOSE cannot have succeeded");
    assert!(fs::read(site.work().join("pulled")).is_ok_and(|pulled| pulled == bytes), "and the bytes were given out");
    site.wait_for_end();
    site.start().expect("the daemon starts after the crash");
    site.recipient(RADIOLOGY).sftp(format!("get {PATH} again")).fails();
    site.sealdrop(&["sweep"]).ok();
    assert_eq!(state(&site).0, "shredded");
    assert_eq!(open_copies(&site, &backup), 0);
    assert_eq!(site.events_of("shredded", "/radiology/a.dcm").len(), 1);
}
