//! A manifest as `sha256sum` writes it, pushed with a study, gets one receipt over all its files, whichever comes first, with
//! what is missing or different.

use std::fs;
use std::process::Command;

use crate::run::run;
use crate::site::Site;

/// A study of some files, with the list that `sha256sum` makes of it.
fn study(site: &Site, names: &[&str]) {
    let dir = site.work().join("study");
    fs::create_dir_all(dir.join("sub")).unwrap();
    for name in names {
        fs::write(dir.join(name), format!("slice {name}")).unwrap();
    }
    let mut sums = Command::new("sh");
    sums.args(["-c", "sha256sum -- \"$@\" > SHA256SUMS", "sh"]).args(names).current_dir(&dir);
    run(sums, b"").ok();
}

fn consignment(site: &Site) -> String {
    String::from_utf8(site.partner().get("/receipts/radiology/study/SHA256SUMS.consignment")).unwrap()
}

#[test]
fn a_study_has_one_receipt_over_all_its_files() {
    let site = Site::new();
    let partner = site.partner();
    // Names as they come, one that sha256sum escapes among them.
    study(&site, &["a.dcm", "sub/b c.dcm", "back\\slash.dcm"]);
    partner.sftp("put -r study /radiology/").ok();
    let text = consignment(&site);
    assert!(text.starts_with("sealdrop-consignment/v1\nserver "), "{text}");
    for line in ["files 3", "missing 0", "different 0"] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
    assert_eq!(text.lines().filter(|line| line.starts_with("file ")).count(), 3, "{text}");
    assert!(text.contains(" /radiology/study/back\\\\slash.dcm\n"), "{text}");
    let signature = partner.get("/receipts/radiology/study/SHA256SUMS.consignment.sig");
    let signature = site.file("consignment.sig", &signature);
    partner.verify("receipt@sealdrop", text.as_bytes(), &signature).ok();
    partner.verify("receipt@sealdrop", text.replace("missing 0", "missing 1").as_bytes(), &signature).fails();
    // The log has its hash, and each receipt it names is one.
    let event = site.events_of("consignment-closed", "").pop().expect("an event");
    let digest = sealdrop::names::hex(&<sha2::Sha256 as sha2::Digest>::digest(&text));
    assert_eq!(event["receipt_sha256"], digest);
    let receipts = site.ask(&["receipts"]);
    for line in text.lines().filter(|line| line.starts_with("file ")) {
        let id = line.split(' ').nth(2).unwrap();
        assert!(receipts.iter().any(|receipt| receipt["id"] == id), "{line}");
    }
    let listing = partner.sftp("ls -l /receipts/radiology/study").ok();
    assert!(
        listing.lines().any(|line| line.contains(&format!(" {} ", text.len())) && line.contains("SUMS.consignment"))
    );
    assert!(partner.ssh(&["-T"], &["status /radiology/study/SHA256SUMS"]).ok().contains("all 3 files were received"));
}

#[test]
fn files_may_come_after_their_manifest_and_the_last_one_closes_it() {
    let site = Site::new();
    let partner = site.partner();
    study(&site, &["a.dcm", "b.dcm"]);
    partner
        .sftp("mkdir /radiology/study\nput study/SHA256SUMS /radiology/study/\nput study/b.dcm /radiology/study/")
        .ok();
    partner.sftp("ls /receipts/radiology/study/SHA256SUMS.consignment").fails();
    let status = partner.ssh(&["-T"], &["status /radiology/study/SHA256SUMS"]).ok();
    assert!(status.contains("1 of 2 files are not here yet"), "{status}");
    let told = site.ask(&["status", "/radiology/study/SHA256SUMS", "--user", "partner"]);
    assert_eq!((&told[0]["consignment"]["open"], &told[0]["state"]), (&1.into(), &"delivered".into()));
    // Not what was listed.
    site.file("other", b"another");
    partner.sftp("put other /radiology/study/a.dcm").ok();
    partner.sftp("ls /receipts/radiology/study/SHA256SUMS.consignment").fails();
    partner.sftp("put study/a.dcm /radiology/study/").ok();
    assert!(consignment(&site).contains("\nmissing 0\ndifferent 0\n"));
}

#[test]
fn when_its_time_is_over_a_consignment_is_receipted_as_it_stands() {
    let site = Site::new();
    let partner = site.partner();
    study(&site, &["a.dcm", "b.dcm", "c.dcm"]);
    site.file("other", b"another");
    partner.sftp("mkdir /radiology/study\nput study/SHA256SUMS /radiology/study/").ok();
    partner.sftp("put study/a.dcm /radiology/study/\nput other /radiology/study/b.dcm").ok();
    site.sealdrop(&["sweep", "--now", "+25h"]).ok();
    let text = consignment(&site);
    assert!(text.contains("\nmissing 1\ndifferent 1\n"), "{text}");
    for (word, name) in [("file", "a.dcm"), ("other", "b.dcm"), ("none", "c.dcm")] {
        let starts = format!("{word} ");
        let ends = format!(" /radiology/study/{name}");
        assert!(text.lines().any(|line| line.starts_with(&starts) && line.ends_with(&ends)), "{text}");
    }
    // It is closed once.
    site.sealdrop(&["sweep", "--now", "+26h"]).ok();
    assert_eq!(site.events_of("consignment-closed", "").len(), 1);
}

/// Clients that compare what they got with what was listed find every paper and receipt as long as it was said to be.
#[test]
fn whole_folders_of_receipts_and_papers_come_out_as_they_were_listed() {
    let site = Site::new();
    let partner = site.partner();
    study(&site, &["a.dcm", "sub/b.dcm"]);
    partner.sftp("put -r study /radiology/").ok();
    let expected = ["SHA256SUMS", "a.dcm", "sub/b.dcm"].iter().flat_map(|name| {
        [".receipt", ".receipt.sig", ".receipt.proof", ".content.sig"].map(|part| format!("{name}{part}"))
    });
    let mut expected: Vec<_> =
        expected.chain(["SHA256SUMS.consignment", "SHA256SUMS.consignment.sig"].map(str::to_owned)).collect();
    expected.sort();
    let got = |dir: &str| {
        let dir = site.work().join(dir);
        let below = crate::site::everything_below(&dir).into_iter().filter(|path| path.is_file());
        let mut names: Vec<_> = below.map(|path| path.strip_prefix(&dir).unwrap().display().to_string()).collect();
        names.sort();
        names
    };
    if crate::site::have("rclone") {
        partner.rclone(&["copy", ":sftp:/receipts/radiology/study", "by-rclone"]).ok();
        assert_eq!(got("by-rclone"), expected);
        partner.rclone(&["check", ":sftp:/receipts/radiology/study", "by-rclone", "--size-only"]).ok();
    }
    if crate::site::have("lftp") {
        partner.lftp("mirror /receipts/radiology/study by-lftp").ok();
        assert_eq!(got("by-lftp"), expected);
    }
}

#[test]
fn a_file_of_that_name_that_is_no_list_is_a_file_like_any_other() {
    let site = Site::new();
    site.file("SHA256SUMS", b"not a list\n");
    site.partner().sftp("put SHA256SUMS /radiology/").ok();
    let event = site.events_of("upload-committed", "/radiology/SHA256SUMS").pop().unwrap();
    assert!(event["detail"].as_str().unwrap().contains("line 1 is not one that sha256sum writes"), "{event}");
    site.partner().sftp("ls /receipts/radiology/SHA256SUMS.consignment").fails();
}
