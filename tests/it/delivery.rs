//! What is delivered is whole, sealed to its recipient alone, and opens without the server; what is not finished is not
//! delivered.

use std::fs;

use sealdrop::cli::demo::place::{LAB, RADIOLOGY};

use crate::run::run;
use crate::site::{SEALDROP, Site, content, have_python};

#[test]
fn a_sealed_recipient_opens_its_drop_offline_with_its_identity_alone() {
    let mut site = Site::new();
    let bytes = content("for the lab ", 500_000);
    site.partner().put(&site.file("a.dcm", &bytes), "/lab/a.dcm");
    assert_eq!(site.recipient(LAB).delivered(), ["a.dcm.sealed"]);
    let sealed = site.recipient(LAB).get("/inbox/partner/a.dcm.sealed");
    site.file("a.sealed", &sealed);
    site.signal(nix::sys::signal::Signal::SIGTERM);
    site.wait_for_end();
    site.recipient(LAB).open_offline("a.sealed", "opened").ok();
    assert!(fs::read(site.work().join("opened")).unwrap() == bytes);

    let mut keygen = std::process::Command::new(SEALDROP);
    keygen.args(["keygen", "--output"]).arg(site.work().join("other.identity"));
    run(keygen, b"").ok();
    let mut open = std::process::Command::new(SEALDROP);
    open.args(["open", "--identity", "other.identity", "--output", "no", "a.sealed"]).current_dir(site.work());
    run(open, b"").fails();
    assert!(!site.work().join("no").exists(), "a failed open leaves no file");
}

#[test]
fn a_drop_for_an_ssh_key_opens_with_that_key_and_a_managed_post_quantum_one_as_it_is_read() {
    let mut site = Site::prepared();
    // The key that the lab logs in with.
    let public = fs::read_to_string(site.place().key(LAB).with_extension("pub")).unwrap();
    for (user, from, to) in [
        (LAB, "key = \"sealdrop1", format!("key = \"{}\" # \"sealdrop1", public.trim_end())),
        (RADIOLOGY, "[inbox]", "[inbox]\nkem = \"mlkem768-p256\"".to_owned()),
    ] {
        let path = site.place().policy(user);
        let policy = fs::read_to_string(&path).unwrap();
        fs::write(&path, policy.replacen(from, &to, 1)).unwrap();
    }
    site.start().unwrap();
    let bytes = content("for a key of SSH ", 70_000);
    site.partner().put(&site.file("a.dcm", &bytes), "/lab/a.dcm");
    site.partner().put(&site.file("a.dcm", &bytes), "/radiology/a.dcm");
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm") == bytes);
    let sealed = site.recipient(LAB).get("/inbox/partner/a.dcm.sealed");
    site.file("a.sealed", &sealed);
    let mut open = std::process::Command::new(SEALDROP);
    open.arg("open").arg("-i").arg(site.place().key(LAB)).args(["-o", "opened", "a.sealed"]).current_dir(site.work());
    run(open, b"").ok();
    assert!(fs::read(site.work().join("opened")).unwrap() == bytes);
    site.recipient(LAB).open_offline("a.sealed", "no").fails();
}

#[test]
fn a_changed_byte_anywhere_in_a_sealed_file_is_an_error() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", &content("for the lab ", 200_000)), "/lab/a.dcm");
    let sealed = site.recipient(LAB).get("/inbox/partner/a.dcm.sealed");
    let length = sealed.len();
    for at in [0, 40, 70, 8192, 8200, 70_000, length / 2, length - 40, length - 20, length - 1] {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        site.file("changed.sealed", &changed);
        site.recipient(LAB).open_offline("changed.sealed", "opened").fails();
        assert!(!site.work().join("opened").exists(), "byte {at}");
    }
    for cut in [1, 32, 70_000, length - 8192] {
        site.file("changed.sealed", &sealed[..length - cut]);
        site.recipient(LAB).open_offline("changed.sealed", "opened").fails();
    }
}

#[test]
fn the_server_has_nothing_that_opens_a_sealed_recipients_drop() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", &content("for the lab ", 1000)), "/lab/a.dcm");
    let identity = fs::read_to_string(site.place().lab_identity()).unwrap();
    let secret = identity.lines().find(|line| !line.starts_with('#')).unwrap();
    assert!(site.state_contains(secret.as_bytes()).is_empty());
    assert!(!site.place().state().join("keys/identities").join(LAB).exists());
}

#[test]
fn a_delivered_file_has_its_plaintext_size_and_is_there_at_once() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", &content("", 65_537)), "/radiology/sub.dcm");
    for (user, folder) in [("partner", "/radiology"), (RADIOLOGY, "/inbox/partner")] {
        let listing = site.recipient(user).sftp(format!("ls -l {folder}")).ok();
        assert!(listing.contains(" 65537 "), "{listing}");
    }
}

#[test]
fn folders_in_a_drop_are_delivered_with_their_path() {
    let site = Site::new();
    let local = site.file("slice.dcm", b"slice");
    site.partner().sftp("mkdir /radiology/study\nmkdir /radiology/study/series").ok();
    site.partner().put(&local, "/radiology/study/series/slice.dcm");
    assert_eq!(site.recipient(RADIOLOGY).get("/inbox/partner/study/series/slice.dcm"), b"slice");
    site.partner().verified_receipt("/radiology/study/series/slice.dcm");
}

#[test]
fn a_temporary_name_is_delivered_when_it_is_renamed_and_receipted_under_its_final_name() {
    let site = Site::new();
    let bytes = content("renamed when done ", 150_000);
    let local = site.file("a.dcm", &bytes);
    for temporary in ["a.dcm.filepart", "b.dcm.3fa85f64.partial", ".in.c.dcm."] {
        site.partner().put(&local, &format!("/radiology/{temporary}"));
        let inbox = site.recipient(RADIOLOGY).sftp("ls -1 /inbox/partner").stdout;
        assert!(!String::from_utf8_lossy(&inbox).contains(temporary), "{temporary} is delivered too early");
        site.partner().sftp(format!("rename /radiology/{temporary} /radiology/final-{temporary}.dcm")).ok();
        assert!(site.recipient(RADIOLOGY).get(&format!("/inbox/partner/final-{temporary}.dcm")) == bytes);
        site.partner().verified_receipt(&format!("/radiology/final-{temporary}.dcm"));
    }
}

#[test]
fn an_upload_cut_off_is_resumed_where_it_stopped() {
    if !have_python("paramiko") {
        return;
    }
    let site = Site::new();
    let bytes = content("to be continued ", 2_000_000);
    let local = site.file("whole.dcm", &bytes);
    let first = site.file("first", &bytes[..1_200_000]);
    let script = format!(
        "out = sftp.open('/radiology/r.dcm', 'w'); out.write(open({first:?}, 'rb').read()); out.flush(); os._exit(0)"
    );
    site.partner().paramiko(&script).ok();
    assert!(site.events_of("upload-committed", "r.dcm").is_empty(), "half a file is not a delivery");
    site.partner().sftp(format!("reput {} /radiology/r.dcm", local.display())).ok();
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/r.dcm") == bytes);
    site.partner().verified_receipt("/radiology/r.dcm");
}

#[test]
fn a_second_version_of_a_drop_does_not_take_the_first_away_silently() {
    let site = Site::new();
    site.partner().put(&site.file("one.dcm", b"first version"), "/radiology/v.dcm");
    site.partner().put(&site.file("two.dcm", b"second version"), "/radiology/v.dcm");
    let inbox = site.recipient(RADIOLOGY).delivered();
    let contents: Vec<Vec<u8>> =
        inbox.iter().map(|name| site.recipient(RADIOLOGY).get(&format!("/inbox/partner/{name}"))).collect();
    assert!(contents.contains(&b"second version".to_vec()), "{inbox:?}");
    assert!(site.events_of("upload-committed", "/radiology/v.dcm").len() == 2);
}

#[test]
fn one_folder_is_delivered_to_a_managed_and_a_sealed_recipient() {
    let mut site = Site::prepared();
    let policy = fs::read_to_string(site.place().policy("partner")).unwrap();
    fs::write(site.place().policy("partner"), policy.replace("to = [\"lab\"]", "to = [\"radiology\", \"lab\"]"))
        .unwrap();
    site.start().unwrap();
    let bytes = content("for both ", 300_000);
    site.partner().put(&site.file("a.dcm", &bytes), "/lab/a.dcm");
    assert_eq!(site.recipient(RADIOLOGY).delivered(), ["a.dcm"]);
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm") == bytes);
    assert_eq!(site.recipient(LAB).delivered(), ["a.dcm.sealed"]);
    site.recipient(LAB).sftp("get /inbox/partner/a.dcm plain").fails();
    site.recipient(RADIOLOGY).sftp("get /inbox/partner/a.dcm.sealed sealed").fails();
    let sealed = site.recipient(LAB).get("/inbox/partner/a.dcm.sealed");
    site.file("a.sealed", &sealed);
    site.recipient(LAB).open_offline("a.sealed", "opened").ok();
    assert!(fs::read(site.work().join("opened")).unwrap() == bytes);
    // Each removes its own entry and no other's.
    site.recipient(LAB).sftp("rm /inbox/partner/a.dcm.sealed").ok();
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm") == bytes);
}
