//! Drops that are there already get the recipients that the policy names now: who is new can pull and open them, who is gone can
//! do neither, and no body is written. `kill -9` at any step only delays it.

use std::fs;
use std::path::PathBuf;

use sealdrop::cli::demo::place::{LAB, PARTNER, RADIOLOGY};
use sealdrop::keeper::crash::ROTATION_PLACES;

use crate::site::{Site, content};
use crate::user::unique;

/// Where the body of a sealed file begins.
const BODY: usize = 8192;
const HEAD: usize = 96;

/// The partner's folder `/radiology` is sent to these from now on.
pub fn send_to(site: &Site, recipients: &[&str]) {
    let file = site.place().policy(PARTNER);
    let text = fs::read_to_string(&file).unwrap();
    let (before, folder) = text.split_once("path = \"/radiology\"").unwrap();
    let (kind, rest) = folder.split_once("to = [").unwrap();
    let (_, rest) = rest.split_once(']').unwrap();
    let list = recipients.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    fs::write(&file, format!("{before}path = \"/radiology\"{kind}to = [{list}]{rest}")).unwrap();
    site.sealdrop(&["reload"]).ok();
}

pub fn readdress(site: &Site) -> String {
    let told = site.ask(&["rotate", "recipients", PARTNER, "--reason", "the lab reads along"]).pop().unwrap();
    told["ended"].as_str().unwrap().to_owned()
}

/// One that was cut short goes on by itself.
#[track_caller]
pub fn wait_until_readdressed(site: &Site) {
    let note = site.place().state().join("readdressing");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while note.exists() {
        assert!(std::time::Instant::now() < deadline, "it does not go on");
        site.ask(&["rotate", "status"]);
    }
}

fn on_disk(site: &Site, name: &str) -> PathBuf {
    site.on_disk(PARTNER, &format!("/radiology/{name}"))
}

#[track_caller]
pub fn assert_lab_has(site: &Site, name: &str, bytes: &[u8]) {
    let (sealed, opened) = (format!("{name}.sealed"), format!("{name}.opened.{}", unique()));
    let pulled = site.recipient(LAB).get(&format!("/inbox/{PARTNER}/{sealed}"));
    site.file(&sealed, &pulled);
    site.recipient(LAB).open_offline(&sealed, &opened).ok();
    assert!(fs::read(site.work().join(&opened)).unwrap() == bytes);
}

#[track_caller]
pub fn assert_has_not(site: &Site, user: &'static str, name: &str) {
    let no = site.work().join("no");
    for name in [name.to_owned(), format!("{name}.sealed")] {
        site.recipient(user).sftp(format!("get /inbox/{PARTNER}/{name} {}", no.display())).fails();
    }
    assert!(!site.on_disk(user, &format!("/inbox/{PARTNER}/{name}")).exists(), "{user} still has a name for {name}");
}

#[test]
fn who_is_added_to_a_folder_gets_what_is_there_and_who_is_taken_off_loses_it() {
    let site = Site::new();
    let bytes = content("for one and then for two ", 150_000);
    site.partner().put(&site.file("a.dcm", &bytes), "/radiology/a.dcm");
    let before = fs::read(on_disk(&site, "a.dcm")).unwrap();

    assert_eq!(readdress(&site), "0 of 1 drops changed", "nothing is to be done");
    assert!(fs::read(on_disk(&site, "a.dcm")).unwrap() == before);

    send_to(&site, &[RADIOLOGY, LAB]);
    assert_eq!(readdress(&site), "1 of 1 drops changed");
    assert_lab_has(&site, "a.dcm", &bytes);
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm") == bytes);
    let after = fs::read(on_disk(&site, "a.dcm")).unwrap();
    assert!(after[BODY..] == before[BODY..] && after[..HEAD] == before[..HEAD], "no body is written");
    let event = site.events_of("readdressed", "/radiology/a.dcm").pop().unwrap();
    assert_eq!(event["detail"], "now also to lab");
    let begun = site.events_of("rotation-begun", "").pop().unwrap();
    assert!(begun["detail"].as_str().unwrap().ends_with(": the lab reads along"), "{begun}");

    send_to(&site, &[RADIOLOGY]);
    assert_eq!(readdress(&site), "1 of 1 drops changed");
    assert_has_not(&site, LAB, "a.dcm");
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm") == bytes);
    // A name that it kept, or a backup of the inbox, would not help it: the new envelope has nothing for its identity.
    site.file("kept.sealed", &fs::read(on_disk(&site, "a.dcm")).unwrap());
    site.recipient(LAB).open_offline("kept.sealed", "kept").fails();
    // Taken on again, it has it again.
    send_to(&site, &[RADIOLOGY, LAB]);
    assert_eq!(readdress(&site), "1 of 1 drops changed");
    assert_lab_has(&site, "a.dcm", &bytes);
    let details: Vec<_> = site.events_of("readdressed", "").iter().map(|event| event["detail"].to_string()).collect();
    assert!(details.iter().any(|detail| detail.contains("no longer to lab")), "{details:?}");
}

#[test]
fn a_new_recipient_keeps_what_has_the_name_already_and_one_that_removed_its_own_is_not_given_it_again() {
    let site = Site::new();
    send_to(&site, &[LAB]);
    site.partner().put(&site.file("a.dcm", b"for the lab alone"), "/lab/a.dcm");
    send_to(&site, &[RADIOLOGY]);
    site.partner().put(&site.file("b.dcm", b"the other one"), "/radiology/a.dcm");
    send_to(&site, &[RADIOLOGY, LAB]);
    let told =
        site.ask(&["rotate", "recipients", PARTNER, "--folder", "/radiology", "--reason", "test"]).pop().unwrap();
    assert_eq!(told["ended"], "1 of 1 drops changed");
    assert_lab_has(&site, "a.dcm", b"for the lab alone");
    assert_lab_has(&site, "a.dcm.~1~", b"the other one");

    site.recipient(LAB).sftp("rm /inbox/partner/a.dcm.~1~.sealed").ok();
    assert!(readdress(&site).starts_with("0 of "));
    assert_has_not(&site, LAB, "a.dcm.~1~");
}

#[test]
fn what_the_server_cannot_open_is_left_and_told() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", b"sealed to the lab alone"), "/lab/a.dcm");
    let text = fs::read_to_string(site.place().policy(PARTNER)).unwrap();
    fs::write(site.place().policy(PARTNER), text.replace("to = [\"lab\"]", "to = [\"lab\", \"radiology\"]")).unwrap();
    site.sealdrop(&["reload"]).ok();
    let before = site.snapshot("jails");
    let told = readdress(&site);
    assert!(told.starts_with("0 of 1 drops changed; 1 left as they are, the first "), "{told}");
    assert!(told.ends_with("it is sealed to its recipients alone, and the server cannot open it"), "{told}");
    assert!(site.snapshot("jails") == before);
}

#[test]
fn kill_9_at_each_step_only_delays_it() {
    let mut site = Site::new();
    let bytes = content("through crashes ", 20_000);
    let mut names = Vec::new();
    for place in ROTATION_PLACES.iter().filter(|place| place.starts_with("readdress-") || place.starts_with("rewrap-"))
    {
        let name = format!("{place}.dcm");
        let leaves = *place == "readdress-left";
        send_to(&site, if leaves { &[RADIOLOGY, LAB] } else { &[RADIOLOGY] });
        site.partner().put(&site.file(&name, &bytes), &format!("/radiology/{name}"));
        // What earlier rounds left is as it should be.
        readdress(&site);
        send_to(&site, if leaves { &[RADIOLOGY] } else { &[RADIOLOGY, LAB] });
        site.crash_at(place);
        site.sealdrop(&["rotate", "recipients", PARTNER, "--reason", "test"]).fails();
        site.wait_for_end();
        site.start().unwrap_or_else(|e| panic!("{place}: {e}"));
        wait_until_readdressed(&site);
        names.push(name);
        // Which of them it was at when it died is not known.
        for name in &names {
            assert!(site.recipient(RADIOLOGY).get(&format!("/inbox/partner/{name}")) == bytes, "{place}, {name}");
            match leaves {
                true => assert_has_not(&site, LAB, name),
                false => assert_lab_has(&site, name, &bytes),
            }
        }
        assert_eq!(site.snapshot("rewrap").len(), 0, "{place}: no note is left");
        site.assert_private();
        site.signal(nix::sys::signal::Signal::SIGTERM);
        site.wait_for_end();
        site.sealdrop(&["fsck"]).ok();
        site.start().unwrap();
    }
}
