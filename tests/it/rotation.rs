//! Keys are replaced while the server serves: no body is written anew, everything opens as before, and a rotation that
//! `kill -9` cuts at any of its steps goes on at the next start.

use std::fs;
use std::process::Command;

use sealdrop::cli::demo::place::{RADIOLOGY, SERVER};

use crate::root_key::assert_secret;
use crate::run::run;
use crate::site::{Site, content};

/// Where the body of a sealed file begins.
const BODY: usize = 8192;

fn with_drops(site: &Site) -> Vec<u8> {
    let bytes = content("kept through rotations ", 150_000);
    let local = site.file("a.dcm", &bytes);
    for name in ["/radiology/a.dcm", "/lab/a.dcm", "/shared/a.dcm"] {
        site.partner().put(&local, name);
    }
    bytes
}

#[track_caller]
fn assert_all_opens(site: &Site, bytes: &[u8]) {
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm") == bytes);
    assert!(site.partner().get("/shared/a.dcm") == bytes);
}

/// Waits until whatever was begun has ended.
fn wait_until_done(site: &Site) {
    let keys = site.place().state().join("keys");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let pending = || {
        let retired = fs::read_dir(keys.join("retired")).unwrap().count() > 0;
        let state = site.ask(&["rotate", "status"]).pop().unwrap();
        let running = !state["what"].is_null() && state["ended"].is_null();
        running || retired || keys.join("root.older").exists() || keys.join("receipt.next").exists()
    };
    while pending() {
        assert!(std::time::Instant::now() < deadline, "a rotation does not end");
    }
}

#[test]
fn the_root_key_is_replaced_and_no_drop_is_touched() {
    let mut site = Site::new();
    let bytes = with_drops(&site);
    let keys = site.place().state().join("keys");
    let (old, drops) = (fs::read_to_string(keys.join("root")).unwrap(), site.snapshot("jails"));
    let told = site.ask(&["rotate", "root", "--reason", "an admin left"]).pop().unwrap();
    assert!(told["ended"].as_str().unwrap().contains("took the place of"), "{told}");
    assert!(site.snapshot("jails") == drops, "no drop was touched");
    assert_all_opens(&site, &bytes);
    assert_secret(&site, old.trim().as_bytes(), None);
    let begun = site.events_of("rotation-begun", "").pop().unwrap();
    assert!(begun["detail"].as_str().unwrap().ends_with(": an admin left"), "{begun}");
    let new = fs::read_to_string(keys.join("root")).unwrap();
    assert_ne!(new, old);
    assert_secret(&site, new.trim().as_bytes(), Some(&keys.join("root")));
    site.restart();
    assert_all_opens(&site, &bytes);
    // What was copied before opens with what was copied before, and not with what is now.
    site.signal(nix::sys::signal::Signal::SIGTERM);
    site.wait_for_end();
    fs::write(keys.join("root"), &old).unwrap();
    assert!(site.start().unwrap_err().to_string().contains("is wrapped by root key"));
}

#[test]
fn a_rotation_of_the_root_key_goes_on_after_kill_9_at_each_step() {
    let mut site = Site::new();
    let bytes = with_drops(&site);
    let places = sealdrop::keeper::crash::ROTATION_PLACES.iter().filter(|place| place.starts_with("rotate-root-"));
    for place in places {
        let old = fs::read_to_string(site.place().state().join("keys/root")).unwrap();
        site.crash_at(place);
        site.sealdrop(&["rotate", "root", "--reason", "test"]).fails();
        site.wait_for_end();
        site.start().unwrap_or_else(|e| panic!("{place}: {e}"));
        wait_until_done(&site);
        assert_all_opens(&site, &bytes);
        let early = ["rotate-root-made", "rotate-root-older"].contains(place);
        let same = fs::read_to_string(site.place().state().join("keys/root")).unwrap() == old;
        assert_eq!(same, early, "{place}: before it is in place nothing has changed, after it the new one is the one");
        if !same {
            assert_secret(&site, old.trim().as_bytes(), None);
        }
        site.assert_private();
    }
    let leftovers = site.snapshot("keys").into_keys().filter(|path| path.to_string_lossy().contains(".ne"));
    assert_eq!(leftovers.count(), 0);
}

#[test]
fn an_identity_is_replaced_in_every_envelope_and_no_body_is_written() {
    let mut site = Site::new();
    let bytes = with_drops(&site);
    let file = site.on_disk(RADIOLOGY, "/inbox/partner/a.dcm");
    let (before, about) = (fs::read(&file).unwrap(), fs::metadata(&file).unwrap());
    let identity = site.place().state().join("keys/identities").join(RADIOLOGY);
    let wrapped = fs::read(&identity).unwrap();

    let told = site.ask(&["rotate", "identity", RADIOLOGY, "--reason", "test"]).pop().unwrap();
    assert!(told["ended"].as_str().unwrap().starts_with("1 drops rewrapped"), "{told}");
    let after = fs::read(&file).unwrap();
    assert!(after[BODY..] == before[BODY..] && after[..96] == before[..96] && after[96..BODY] != before[96..BODY]);
    let revision = |bytes: &[u8]| u32::from_be_bytes(bytes[100..104].try_into().unwrap());
    assert!(revision(&after) > revision(&before));
    use std::os::unix::fs::MetadataExt;
    let now = fs::metadata(&file).unwrap();
    assert_eq!((now.mtime(), now.mode(), now.ino()), (about.mtime(), about.mode(), about.ino()));
    assert_all_opens(&site, &bytes);
    assert_ne!(fs::read(&identity).unwrap(), wrapped);
    site.restart();
    assert_all_opens(&site, &bytes);
    // A drop of later is sealed to the new one; and the old one opens nothing any more.
    site.partner().put(&site.file("b.dcm", b"later"), "/radiology/b.dcm");
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/b.dcm") == b"later");
    site.signal(nix::sys::signal::Signal::SIGTERM);
    site.wait_for_end();
    fs::write(&identity, wrapped).unwrap();
    site.start().unwrap();
    site.recipient(RADIOLOGY).sftp(format!("get /inbox/partner/a.dcm {}", site.work().join("no").display())).fails();
}

#[test]
fn a_rotation_of_an_identity_goes_on_after_kill_9_at_each_step() {
    let mut site = Site::new();
    let bytes = with_drops(&site);
    let places = sealdrop::keeper::crash::ROTATION_PLACES;
    for place in places.iter().filter(|place| place.starts_with("rotate-identity-") || place.starts_with("rewrap-")) {
        let before = fs::read(site.place().state().join("keys/identities").join(RADIOLOGY)).unwrap();
        site.crash_at(place);
        site.sealdrop(&["rotate", "identity", RADIOLOGY, "--reason", "test"]).fails();
        site.wait_for_end();
        site.start().unwrap_or_else(|e| panic!("{place}: {e}"));
        wait_until_done(&site);
        assert_all_opens(&site, &bytes);
        assert_ne!(fs::read(site.place().state().join("keys/identities").join(RADIOLOGY)).unwrap(), before, "{place}");
        assert_eq!(site.snapshot("rewrap").len(), 0, "{place}: no note is left");
        site.assert_private();
    }
}

#[test]
fn the_receipt_key_is_replaced_and_old_receipts_verify() {
    let mut site = Site::new();
    site.partner().put(&site.file("a.dcm", b"old"), "/radiology/a.dcm");
    let (text, signature) = site.partner().receipt("/radiology/a.dcm");
    for place in ["rotate-receipt-made", "rotate-receipt-noted", "rotate-receipt-placed"] {
        site.crash_at(place);
        site.sealdrop(&["rotate", "receipt", "--reason", "test"]).fails();
        site.wait_for_end();
        site.start().unwrap();
        wait_until_done(&site);
    }
    let told = site.ask(&["rotate", "receipt", "--reason", "test"]).pop().unwrap();
    let signers = told["allowed_signers"].as_str().unwrap().to_owned();
    assert_eq!(signers.lines().count(), 5, "each key once:\n{signers}");
    site.partner().put(&site.file("b.dcm", b"new"), "/radiology/b.dcm");
    let (new, new_signature) = site.partner().receipt("/radiology/b.dcm");

    let list = site.file("all_signers", signers.as_bytes());
    let verify = |text: &str, signature: &std::path::Path, at: Option<&str>| {
        let mut command = Command::new("ssh-keygen");
        command.args(["-Y", "verify", "-f"]).arg(&list).args(["-I", SERVER, "-n", "receipt@sealdrop"]);
        command.args(at.map(|at| format!("-Overify-time={at}"))).arg("-s").arg(signature);
        run(command, text.as_bytes())
    };
    let received = text.lines().find_map(|line| line.strip_prefix("received ")).unwrap();
    let stamp: String = received.chars().filter(char::is_ascii_digit).take(14).collect::<String>() + "Z";
    verify(&text, &signature, Some(&stamp)).ok();
    verify(&new, &new_signature, None).ok();
    verify(&new, &new_signature, Some("20200101000000Z")).fails();
    let receipt = site.file("a.receipt", text.as_bytes());
    let mut command = Command::new(crate::site::SEALDROP);
    command.args(["verify", "--receipt"]).arg(receipt).arg("--signature").arg(signature).arg("--signers").arg(&list);
    run(command, b"").ok();
    assert!(!site.place().state().join("keys/receipt.former").exists());
}

#[test]
fn without_root_an_identity_is_replaced_as_well() {
    let site = Site::unprivileged();
    let bytes = with_drops(&site);
    // The settings belong to another account here, so the daemon is found by its socket.
    let rotate = |user: &str| {
        let mut command = Command::new(crate::site::SEALDROP);
        command.args(["rotate", "identity", user, "--reason", "test", "--admin"]).arg(site.place().admin());
        run(command, b"")
    };
    rotate(RADIOLOGY).ok();
    assert_all_opens(&site, &bytes);
    use std::os::unix::fs::PermissionsExt;
    let about = fs::metadata(site.on_disk(RADIOLOGY, "/inbox/partner/a.dcm")).unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o444, "nobody can write it afterwards");
    let refused = rotate("lab");
    assert!(refused.stderr.contains("keeps no identity of lab"), "{}", refused.stderr);
}

#[test]
fn a_partner_who_was_told_of_new_host_keys_notices_nothing_of_their_coming() {
    let mut site = Site::new();
    let told = site.ask(&["rotate", "host", "--reason", "test"]).pop().unwrap();
    let lines = told["known_hosts"].as_str().unwrap().to_owned();
    assert_eq!(lines.lines().count(), 4, "two that are and two that will be: {lines}");
    let name = fs::read_to_string(site.place().known_hosts()).unwrap();
    let name = name.split_whitespace().next().unwrap().to_owned();
    let renamed: String = lines.lines().map(|line| format!("{name} {}\n", line.split_once(' ').unwrap().1)).collect();
    let old = fs::read_to_string(site.place().known_hosts()).unwrap();
    fs::write(site.place().known_hosts(), &renamed).unwrap();
    site.partner().put(&site.file("a.dcm", b"before"), "/radiology/a.dcm");
    site.sealdrop(&["rotate", "host", "--place", "--reason", "test"]).ok();
    site.restart();
    site.partner().put(&site.file("b.dcm", b"after"), "/radiology/b.dcm");
    fs::write(site.place().known_hosts(), old).unwrap();
    site.partner().sftp("ls /radiology").fails();
    let none = site.sealdrop(&["rotate", "host", "--place", "--reason", "test"]);
    assert!(none.stderr.contains("none is prepared"), "{}", none.stderr);
}

#[test]
fn a_rotation_of_the_host_keys_cut_by_kill_9_is_asked_for_again_and_partners_know_the_server_all_the_while() {
    let mut site = Site::new();
    let known_hosts = site.place().known_hosts();
    let name = fs::read_to_string(&known_hosts).unwrap();
    let name = name.split_whitespace().next().unwrap().to_owned();
    let rotate = |site: &Site, more: &[&str]| site.sealdrop(&[&["rotate", "host", "--reason", "test"], more].concat());
    let keys = site.place().state().join("keys");
    let private = || ["host_ed25519", "host_ecdsa"].map(|key| fs::read(keys.join(key)).unwrap());
    for (place, words) in
        [("rotate-host-made", &[][..]), ("rotate-host-placed", &["--place"]), ("rotate-host-told", &["--place"])]
    {
        let before = private();
        if !words.is_empty() {
            rotate(&site, &[]).ok();
        }
        site.crash_at(place);
        rotate(&site, words).fails();
        site.wait_for_end();
        site.start().unwrap_or_else(|e| panic!("{place}: {e}"));
        // What partners are told now holds until the next keys are in place, and after that.
        let told = site.ask(&["rotate", "host", "--reason", "test"]).pop().unwrap();
        let lines = told["known_hosts"].as_str().unwrap();
        let renamed = lines.lines().map(|line| format!("{name} {}\n", line.split_once(' ').unwrap().1));
        fs::write(&known_hosts, renamed.collect::<String>()).unwrap();
        site.partner().sftp("ls").ok();
        rotate(&site, &["--place"]).ok();
        site.restart();
        site.partner().sftp("ls").ok();
        assert!(private().iter().zip(&before).all(|(now, before)| now != before), "{place}: both are new");
        let left = site.snapshot("keys").into_keys().filter(|path| path.to_string_lossy().contains(".next"));
        assert_eq!(left.count(), 0, "{place}");
        site.assert_private();
    }
}

#[test]
fn the_settings_say_which_host_keys_there_are() {
    let mut site = Site::prepared();
    site.set("host_keys = [\"ecdsa-p256\"]");
    fs::remove_file(site.place().state().join("keys/host_ed25519")).unwrap();
    site.start().expect("a key that is not wanted is not missed");
    let mut scan = Command::new("ssh-keyscan");
    scan.args(["-p", "2222", "-t", "ed25519,ecdsa", &site.place().listen().ip().to_string()]);
    let seen = run(scan, b"");
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(seen.contains("ecdsa-sha2-nistp256") && !seen.contains("ssh-ed25519"), "{seen}");
}
