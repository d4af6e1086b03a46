//! Expired is gone: from the server, for the recipient's key, and in every copy of the server's disk. What is not due
//! stays, and a receipt outlives its file.

use std::fs;

use sealdrop::cli::demo::place::{LAB, RADIOLOGY};

use crate::run::run;
use crate::site::{SEALDROP, Site, content};

fn site_with_two_drops() -> Site {
    let site = Site::new();
    let local = site.file("a.dcm", &content("to expire ", 100_000));
    site.partner().put(&local, "/radiology/a.dcm");
    site.partner().put(&local, "/lab/a.dcm");
    site.partner().put(&local, "/shared/a.dcm");
    site
}

#[test]
fn an_expired_drop_opens_for_nobody_and_nothing() {
    let site = site_with_two_drops();
    let backup: Vec<_> = site.snapshot("jails").into_iter().collect();
    let swept = site.age();
    assert_eq!(swept["expired"].as_array().unwrap().len(), 2, "{swept}");
    assert!(swept["destroyed_keys"].as_u64().unwrap() >= 1, "{swept}");

    site.recipient(RADIOLOGY).sftp("get /inbox/partner/a.dcm x").fails();
    site.recipient(LAB).sftp("get /inbox/partner/a.dcm.sealed x").fails();
    assert!(!site.on_disk("partner", "/radiology/a.dcm").exists());
    assert!(!site.on_disk(RADIOLOGY, "/inbox/partner/a.dcm").exists());

    let mut tried = 0;
    for (path, sealed) in backup {
        if path.ends_with("inbox/partner/a.dcm") {
            site.file("from-backup", &sealed);
            site.recipient(LAB).open_offline("from-backup", "opened").fails();
            tried += 1;
        }
    }
    assert_eq!(tried, 2);
    assert!(site.partner().get("/shared/a.dcm") == content("to expire ", 100_000), "what has no expiry stays");
}

#[test]
fn a_backup_put_back_after_expiry_stays_closed() {
    let mut site = site_with_two_drops();
    let backup = site.snapshot("jails");
    site.age();
    site.signal(nix::sys::signal::Signal::SIGTERM);
    site.wait_for_end();
    for (path, content) in &backup {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(path);
        fs::write(path, content).unwrap();
    }
    site.start().expect("the daemon starts on restored files");
    site.recipient(RADIOLOGY).sftp("get /inbox/partner/a.dcm x").fails();
    assert!(fs::read(site.work().join("x")).is_err());
}

#[test]
fn receipts_outlive_their_files() {
    let site = site_with_two_drops();
    site.age();
    let text = site.partner().verified_receipt("/radiology/a.dcm");
    assert!(text.contains("100000"));
}

#[test]
fn a_plan_changes_nothing_and_a_second_sweep_finds_nothing() {
    let site = site_with_two_drops();
    let before = site.snapshot("jails");
    let plan = site.ask(&["sweep", "--plan", "--now", "+400d"]).pop().unwrap();
    assert_eq!(plan["expired"].as_array().unwrap().len(), 2);
    assert_eq!(plan["destroyed_keys"], 0);
    assert!(site.snapshot("jails") == before);
    assert_eq!(
        site.ask(&["sweep", "--plan"]).pop().unwrap()["expired"].as_array().unwrap().len(),
        0,
        "72 hours are not over"
    );
    assert_eq!(site.age()["expired"].as_array().unwrap().len(), 2);
    assert_eq!(site.age()["expired"].as_array().unwrap().len(), 0);
    assert_eq!(site.events_of("expired", "").len(), 2, "each expiry is recorded once");
    let states: Vec<_> =
        site.ask(&["drops"]).into_iter().map(|row| row["state"].as_str().unwrap().to_owned()).collect();
    assert_eq!(states.iter().filter(|state| *state == "expired").count(), 2, "{states:?}");
}

#[test]
fn expiry_survives_a_crash_right_after_it() {
    let mut site = site_with_two_drops();
    site.age();
    site.crash_keeper();
    site.recipient(RADIOLOGY).sftp("get /inbox/partner/a.dcm x").fails();
    assert_eq!(site.events_of("expired", "").len(), 2);
    assert_eq!(site.age()["expired"].as_array().unwrap().len(), 0);
}

#[test]
fn the_clock_cannot_be_moved_where_the_configuration_does_not_say_so() {
    let mut site = Site::prepared();
    let config = fs::read_to_string(site.place().config()).unwrap();
    fs::write(site.place().config(), config.replace("test_clock = true", "test_clock = false")).unwrap();
    site.start().unwrap();
    site.partner().put(&site.file("a.dcm", b"x"), "/radiology/a.dcm");
    let mut sweep = std::process::Command::new(SEALDROP);
    sweep.args(["sweep", "--now", "+400d", "--config"]).arg(site.place().config());
    let told = run(sweep, b"").fails_with(1);
    assert!(told.contains("test_clock"), "{told}");
    assert_eq!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm"), b"x");
}
