//! The state of a server over years: copied while it runs, put back, checked, rebuilt from what is left.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::run::Ran;
use crate::site::Site;

fn stop(site: &mut Site) {
    site.signal(Signal::SIGTERM);
    site.wait_for_end();
}

/// With two drops, and one of them picked up.
fn site() -> Site {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", b"content of a"), "/radiology/a.dcm");
    site.partner().put(&site.file("b.dcm", b"content of b"), "/radiology/b.dcm");
    site.recipient("radiology").get("/inbox/partner/a.dcm");
    site.wait_for_event("download-ended", 1);
    site
}

fn remove_all(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
}

fn findings(ran: &Ran) -> Vec<(String, bool)> {
    let answer: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    let findings = answer["findings"].as_array().unwrap().iter();
    findings.map(|f| (f["finding"].as_str().unwrap().to_owned(), f["open"].as_bool().unwrap())).collect()
}

#[test]
fn no_drop_is_lost_when_the_databases_are_destroyed() {
    let mut site = site();
    let before = (site.ask(&["drops"]), site.ask(&["receipts"]));
    stop(&mut site);
    let ledger = site.place().state().join("ledger");
    for entry in fs::read_dir(&ledger).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() && entry.file_name() != "journal" {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    site.start().unwrap();
    assert_eq!((site.ask(&["drops"]), site.ask(&["receipts"])), before);
    assert!(!site.events_of("ledger-recovered", "").is_empty());
    assert_eq!(site.recipient("radiology").get("/inbox/partner/b.dcm"), b"content of b");
    assert_eq!(site.ask(&["audit", "verify"])[0]["verified"], true);
}

/// Also when nothing of the ledger is left: the sealed files say what they are.
#[test]
fn no_drop_is_lost_when_the_whole_ledger_is_destroyed() {
    let mut site = site();
    let before = site.ask(&["drops"]);
    stop(&mut site);
    remove_all(&site.place().state().join("ledger"));
    let looked = site.sealdrop(&["fsck", "--json"]);
    assert_eq!(looked.status.code(), Some(4), "{looked:?}");
    assert_eq!(findings(&looked), vec![("unknown".to_owned(), true); 2]);
    let mended = site.sealdrop(&["fsck", "--repair", "--json"]);
    assert!(mended.status.success(), "{mended:?}");
    assert_eq!(findings(&mended), vec![("unknown".to_owned(), false); 2]);
    site.sealdrop(&["fsck"]).ok();
    site.start().unwrap();
    let after = site.ask(&["drops"]);
    for (before, after) in before.iter().zip(&after) {
        for member in ["drop", "state", "sender", "recipients", "path", "size"] {
            assert_eq!(before[member], after[member], "{member}");
        }
        // To the hour: the file knows the hour whose key it is sealed under.
        assert!(after["expires"].as_str() >= before["expires"].as_str());
    }
    assert_eq!(after.len(), 2);
    assert_eq!(site.events_of("drop-recovered", "").len(), 2);
    assert_eq!(site.recipient("radiology").get("/inbox/partner/a.dcm"), b"content of a");
}

#[test]
fn a_drop_that_is_known_again_has_the_pickups_of_its_folder_and_one_where_that_is_not_known() {
    for (then, now, left) in [
        ("after 2 pickups", "after 2 pickups", Some(2)),
        ("after 2 pickups", "72h", Some(1)),
        ("72h or after 2 pickups", "72h or after 2 pickups", Some(2)),
        // It had no limit, or had another: a time ends it, in any case.
        ("72h or after 2 pickups", "72h", None),
        ("72h", "after 2 pickups", None),
    ] {
        let mut site = Site::prepared();
        let file = site.place().policy("partner");
        let text = fs::read_to_string(&file).unwrap();
        let with = |expire: &str| {
            let before = "to = [\"radiology\"]\nexpire = \"72h\"";
            assert!(text.contains(before), "{text}");
            text.replacen(before, &format!("to = [\"radiology\"]\nexpire = \"{expire}\""), 1)
        };
        fs::write(&file, with(then)).unwrap();
        site.start().unwrap();
        site.partner().put(&site.file("a.dcm", b"content of a"), "/radiology/a.dcm");
        stop(&mut site);
        fs::write(&file, with(now)).unwrap();
        remove_all(&site.place().state().join("ledger"));
        site.sealdrop(&["fsck", "--repair"]).ok();
        site.start().unwrap();
        assert_eq!(site.ask(&["drops"])[0]["pickups"].as_u64(), left, "{then}, {now}");
        for _ in 0..left.unwrap_or(3) {
            assert_eq!(site.ask(&["drops"])[0]["state"], "live", "{then}, {now}");
            assert_eq!(site.recipient("radiology").get("/inbox/partner/a.dcm"), b"content of a");
        }
        let ends = if left.is_some() { "shredded" } else { "live" };
        assert_eq!(site.ask(&["drops"])[0]["state"], ends, "{then}, {now}");
    }
}

#[test]
fn what_does_not_agree_is_said_and_what_can_be_is_mended() {
    let mut site = site();
    stop(&mut site);
    site.sealdrop(&["fsck"]).ok();
    fs::remove_file(site.on_disk("radiology", "/inbox/partner/a.dcm")).unwrap();
    for (user, path) in [("partner", "/radiology/b.dcm"), ("radiology", "/inbox/partner/b.dcm")] {
        fs::remove_file(site.on_disk(user, path)).unwrap();
    }
    fs::write(site.on_disk("partner", "/radiology/plain.txt"), b"not sealed").unwrap();
    let looked = site.sealdrop(&["fsck", "--repair", "--json"]);
    assert_eq!(looked.status.code(), Some(4), "{looked:?}");
    let mut found = findings(&looked);
    found.sort();
    let found: Vec<(&str, bool)> = found.iter().map(|(word, open)| (word.as_str(), *open)).collect();
    assert_eq!(found, [("no-entry", false), ("no-file", true), ("not-sealed", true)]);
    site.start().unwrap();
    assert_eq!(site.recipient("radiology").get("/inbox/partner/a.dcm"), b"content of a");
    assert!(site.sealdrop(&["fsck"]).fails_with(1).contains("another daemon"));
}

#[test]
fn a_backup_of_a_running_server_is_restored_whole() {
    let mut site = site();
    let dir = site.work().join("backup");
    site.sealdrop(&["backup", dir.to_str().unwrap(), "--why", "nightly"]).ok();
    let (drops, receipts) = (site.ask(&["drops"]), site.ask(&["receipts"]));
    site.partner().put(&site.file("c.dcm", b"later"), "/radiology/c.dcm");
    assert!(site.sealdrop(&["backup", dir.to_str().unwrap()]).fails_with(1).contains("not empty"));
    site.sealdrop(&["restore", dir.to_str().unwrap()]).fails_with(1);
    assert!(!dir.join("keys").exists() && crate::site::everything_below(&dir).iter().all(|p| !p.ends_with(".staging")));

    stop(&mut site);
    remove_all(&site.place().state().join("ledger"));
    remove_all(&site.place().state().join("jails"));
    site.sealdrop(&["restore", dir.to_str().unwrap(), "--why", "the disk failed"]).ok();
    let checked = site.sealdrop(&["fsck", "--json"]);
    assert!(checked.status.success(), "{checked:?}");
    assert!(findings(&checked).iter().all(|(word, _)| word == "ledger-recovered"));
    site.start().unwrap();
    assert_eq!((site.ask(&["drops"]), site.ask(&["receipts"])), (drops, receipts));
    assert_eq!(site.recipient("radiology").get("/inbox/partner/b.dcm"), b"content of b");
    for _ in 0..2 {
        let told = site.events().into_iter().filter_map(|event| event["detail"].as_str().map(str::to_owned));
        let told: Vec<_> = told.filter(|told| told.starts_with("restore of a backup of ")).collect();
        assert!(
            matches!(&told[..], [one] if one.contains(", by uid ") && one.ends_with(": the disk failed")),
            "{told:?}"
        );
        site.restart();
    }
    let kept = dir.join("checkpoint");
    let said = site.ask(&["audit", "verify", "--checkpoint", kept.to_str().unwrap()]);
    assert_eq!(said[0]["verified"], true, "the backup's own checkpoint is the one of its copy");
}

#[test]
fn pruning_is_for_a_stopped_server_and_keeps_the_month_that_is_written_to() {
    let mut site = site();
    assert!(site.sealdrop(&["audit", "prune", "--keep", "6y"]).fails_with(1).contains("another daemon"));
    stop(&mut site);
    let pruned = site.ask(&["audit", "prune", "--before", "2999-01"]);
    assert_eq!(pruned[0]["months"], 0);
    site.sealdrop(&["audit", "prune", "--before", "next month"]).fails_with(2);
    site.start().unwrap();
    assert_eq!(site.ask(&["audit", "verify"])[0]["pruned"], 0);
}
