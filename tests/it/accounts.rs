//! Accounts are made and changed with commands that leave the admin's files the admin's own, and what is sent to a new
//! partner works as it stands, in the clients it is for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Ran, run};
use crate::site::{SEALDROP, Site, have};

/// A key pair of the newcomer's own, without a passphrase.
fn new_key(site: &Site, name: &str) -> PathBuf {
    let path = site.work().join(name);
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&path);
    run(keygen, b"").ok();
    path
}

fn in_folder(folder: &Path, program: &str, words: &[&str]) -> Ran {
    let mut command = Command::new(program);
    command.args(words).current_dir(folder).env("HOME", folder);
    run(command, b"")
}

/// A site with a user `newcomer`, made by command, and the folder that is sent to it.
fn with_newcomer() -> (Site, PathBuf, PathBuf) {
    let site = Site::new();
    let key = new_key(&site, "newcomer");
    let public = format!("{}.pub", key.display());
    let add = [
        "user",
        "add",
        "newcomer",
        "--key",
        &public,
        "--drop",
        "/scans=radiology,lab",
        "--expire",
        "2 days",
        "--reload",
    ];
    site.sealdrop(&add).ok();
    let out = site.work().join("for-newcomer");
    let listen = site.place().listen().to_string();
    let told = site.sealdrop(&["onboard", "newcomer", "--host", &listen, "--out", &out.display().to_string()]).ok();
    assert!(told.contains("known_hosts") && told.contains("telephone"), "{told}");
    (site, key, out)
}

#[test]
fn from_nothing_to_a_first_receipted_drop_by_two_commands() {
    let (site, key, folder) = with_newcomer();
    let identity = format!("IdentityFile={}", key.display());
    in_folder(&folder, "sftp", &["-F", "ssh_config", "-o", &identity, "-b", "try.sftp", "sealdrop"]).ok();
    assert_eq!(site.recipient("radiology").list("/inbox/newcomer"), ["sealdrop-test.txt"]);
    let batch = "get /receipts/scans/sealdrop-test.txt.receipt\nget /receipts/scans/sealdrop-test.txt.receipt.sig\nget \
                 /receipts/scans/sealdrop-test.txt.content.sig\n";
    fs::write(folder.join("receipts.sftp"), batch).unwrap();
    in_folder(&folder, "sftp", &["-F", "ssh_config", "-o", &identity, "-b", "receipts.sftp", "sealdrop"]).ok();
    // The letter's own commands.
    let letter = fs::read_to_string(folder.join("README.txt")).unwrap();
    let commands: Vec<_> =
        letter.lines().filter(|line| line.trim_start().starts_with("ssh-keygen -Y verify")).collect();
    assert_eq!(commands.len(), 2, "{letter}");
    for command in commands {
        in_folder(&folder, "sh", &["-c", &command.replace("NAME", "sealdrop-test.txt")]).ok();
    }
}

#[test]
fn the_settings_in_the_folder_work_in_lftp_and_rclone_and_are_well_formed() {
    let (site, key, folder) = with_newcomer();
    if have("lftp") {
        // As a partner has its key: where ssh looks for it.
        let script = fs::read_to_string(folder.join("try.lftp")).unwrap();
        let script = script.replace("ssh -a -x", &format!("ssh -a -x -F /dev/null -i {}", key.display()));
        fs::write(folder.join("mine.lftp"), script).unwrap();
        in_folder(&folder, "lftp", &["-f", "mine.lftp"]).ok();
        assert_eq!(site.recipient("lab").list("/inbox/newcomer"), ["sealdrop-test.txt.sealed"]);
    }
    if have("rclone") {
        let file = key.display().to_string();
        let words = ["--config", "rclone.conf", "--sftp-key-file", &file, "lsd", "sealdrop:"];
        let listed = in_folder(&folder, "rclone", &words).ok();
        assert!(listed.contains("scans") && listed.contains("receipts"), "{listed}");
    }
    let read = "import xml.etree.ElementTree as t; s = t.parse('filezilla.xml').find('.//Server'); print(s.find('User').text, s.find('Port').text)";
    let told = in_folder(&folder, "/usr/bin/python3", &["-c", read]).ok();
    assert_eq!(told.trim(), format!("newcomer {}", site.place().listen().port()));
    let fingerprint = in_folder(&folder, "ssh-keygen", &["-l", "-f", "known_hosts"]).ok();
    let fingerprint = fingerprint.split_whitespace().find(|word| word.starts_with("SHA256:")).unwrap().to_owned();
    assert!(fs::read_to_string(folder.join("README.txt")).unwrap().contains(&fingerprint));
    let winscp = fs::read_to_string(folder.join("winscp.txt")).unwrap();
    assert!(winscp.contains(fingerprint.trim_start_matches("SHA256:")), "{winscp}");
}

#[test]
fn a_partner_made_from_a_shipped_template_pushes_and_the_recipient_pulls() {
    let site = Site::new();
    let templates = site.place().policy("partner").with_file_name("templates");
    fs::create_dir(&templates).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/policies/templates/partner-push.toml");
    // As its first lines say: with networks and a recipient of this site's own.
    let text = fs::read_to_string(shipped).unwrap();
    let own = text.replace("203.0.113.0/24", "127.0.0.0/8").replace("st-mary-radiology", "radiology");
    fs::write(templates.join("partner-push.toml"), own).unwrap();
    let key = new_key(&site, "acme");
    let public = format!("{}.pub", key.display());
    let add = ["user", "add", "acme", "--key", &public, "--template", "partner-push", "--reload"];
    let said = site.sealdrop(&add).fails_with(1);
    assert!(said.contains("downloadable"), "the profile is not there yet: {said}");

    let config = site.place().config();
    let mut settings = fs::read_to_string(&config).unwrap();
    settings.push_str("\n[[expiry]]\nname = \"downloadable\"\nexpire = \"48h\"\n");
    fs::write(&config, settings).unwrap();
    site.sealdrop(&add).ok();
    let out = site.work().join("for-acme");
    let listen = site.place().listen().to_string();
    site.sealdrop(&["onboard", "acme", "--host", &listen, "--out", &out.display().to_string()]).ok();
    let identity = format!("IdentityFile={}", key.display());
    let sftp = |batch: &str| {
        fs::write(out.join("batch"), batch).unwrap();
        in_folder(&out, "sftp", &["-F", "ssh_config", "-o", &identity, "-b", "batch", "sealdrop"])
    };
    fs::write(out.join("scan.dcm"), b"a scan").unwrap();
    sftp("put scan.dcm /to-st-mary/acme/scan.dcm\n").ok();
    assert_eq!(site.recipient("radiology").get("/inbox/acme/scan.dcm"), b"a scan");
    sftp("put scan.dcm /to-st-mary/acme/scan.exe\n").fails();
    let row = site.ask(&["drops"]).into_iter().find(|row| row["sender"] == "acme").expect("its drop");
    assert_eq!(row["path"], "/to-st-mary/acme/scan.dcm");
    let receipt = sftp("get /receipts/to-st-mary/acme/scan.dcm.receipt\n");
    receipt.ok();
    let receipt = fs::read_to_string(out.join("scan.dcm.receipt")).unwrap();
    assert!(receipt.contains("\nexpires "), "{receipt}");
}

#[test]
fn a_recipient_and_a_sender_end_to_end_are_made_by_two_commands() {
    let site = Site::new();
    let identity = site.work().join("desk.identity").display().to_string();
    let alone = |words: &[&str]| in_folder(&site.work(), SEALDROP, words).ok();
    let made = alone(&["keygen", "--output", &identity]);
    let recipient = made.split_whitespace().find(|word| word.starts_with("sealdrop1")).expect("its recipient");
    let keys = ["desk", "acme"].map(|name| new_key(&site, name));
    let [desk, acme] = keys.each_ref().map(|key| format!("{}.pub", key.display()));
    site.sealdrop(&["user", "add", "desk", "--key", &desk, "--inbox-e2e", recipient]).ok();
    site.sealdrop(&["user", "add", "acme", "--key", &acme, "--drop", "/scans=desk", "--e2e", "--reload"]).ok();
    // What the recipient would not get that way is refused before it is written.
    let add = ["user", "add", "beta", "--key", &acme, "--drop", "/scans=radiology", "--e2e"];
    assert!(site.sealdrop(&add).fails_with(1).contains("end to end"));
    assert!(!site.place().policy("beta").exists());

    let plain = site.file("scan.dcm", b"a scan");
    let sealed = site.work().join("scan.sealed").display().to_string();
    alone(&["seal", "-r", recipient, "-o", &sealed, &plain.display().to_string()]);
    let listen = site.place().listen();
    let sftp = |key: &Path, user: &str, batch: &str| {
        fs::write(site.work().join("batch"), batch).unwrap();
        let identity = format!("IdentityFile={}", key.display());
        let port = listen.port().to_string();
        let words = ["-F", "/dev/null", "-o", &identity, "-o", "StrictHostKeyChecking=no", "-o", "IdentitiesOnly=yes"];
        let known = ["-o", "UserKnownHostsFile=/dev/null", "-P", &port, "-b", "batch"];
        let to = format!("{user}@{}", listen.ip());
        in_folder(&site.work(), "sftp", &[&words[..], &known[..], &[to.as_str()]].concat())
    };
    let [desk, acme] = &keys;
    sftp(acme, "acme", "put scan.dcm /scans/plain.dcm\n").fails();
    sftp(acme, "acme", "put scan.sealed /scans/scan.dcm\n").ok();
    sftp(desk, "desk", "get /inbox/acme/scan.dcm pulled.sealed\n").ok();
    let pulled = site.work().join("pulled.sealed").display().to_string();
    let opened = site.work().join("opened").display().to_string();
    alone(&["open", "-i", &identity, "-o", &opened, &pulled]);
    assert_eq!(fs::read(opened).unwrap(), b"a scan");
}

#[test]
fn a_partner_is_told_of_the_host_keys_that_are_shown_and_of_no_other() {
    let (site, key, both) = with_newcomer();
    let kinds = |folder: &Path| -> Vec<String> {
        let lines = fs::read_to_string(folder.join("known_hosts")).unwrap();
        lines.lines().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(&both), ["ssh-ed25519", "ecdsa-sha2-nistp256"]);

    let config = site.place().config();
    let text = fs::read_to_string(&config).unwrap();
    let one = text.replacen("test_clock = true\n", "test_clock = true\nhost_keys = [\"ecdsa-p256\"]\n", 1);
    assert_ne!(one, text);
    fs::write(&config, one).unwrap();
    assert!(site.place().state().join("keys/host_ed25519.pub").exists(), "switched off, and still there");
    let out = site.work().join("one");
    let listen = site.place().listen().to_string();
    site.sealdrop(&["onboard", "newcomer", "--host", &listen, "--out", &out.display().to_string()]).ok();
    assert_eq!(kinds(&out), ["ecdsa-sha2-nistp256"]);
    for name in ["README.txt", "winscp.txt"] {
        let said = fs::read_to_string(out.join(name)).unwrap();
        assert!(!said.contains("ssh-ed25519") && said.contains("ecdsa-sha2-nistp256"), "{said}");
    }
    // The running server shows both, so the one that is told of is enough to know it.
    let identity = format!("IdentityFile={}", key.display());
    in_folder(&out, "sftp", &["-F", "ssh_config", "-o", &identity, "-b", "try.sftp", "sealdrop"]).ok();
}

#[test]
fn an_account_is_changed_and_every_other_line_of_its_file_stays() {
    let site = Site::new();
    let file = site.place().policy("partner");
    let before = format!("# the night job\n{}# the end\n", fs::read_to_string(&file).unwrap());
    fs::write(&file, &before).unwrap();

    site.sealdrop(&["user", "disable", "partner", "--reload", "--reason", "their machine was stolen"]).ok();
    let loaded = site.events_of("policy-loaded", "").pop().unwrap()["detail"].to_string();
    let why = "the account partner was changed by command: their machine was stolen";
    assert!(loaded.contains("by uid ") && loaded.contains(why), "{loaded}");
    site.sealdrop(&["user", "enable", "partner", "--reason", "nobody would record it"]).fails_with(2);
    site.partner().sftp("ls /\n").fails();
    let disabled = fs::read_to_string(&file).unwrap();
    let added: Vec<_> = disabled.lines().filter(|line| !before.lines().any(|old| old == *line)).collect();
    assert_eq!(added, ["disabled = true"]);
    site.sealdrop(&["user", "enable", "partner", "--reload"]).ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    site.partner().sftp("ls /\n").ok();

    let key = new_key(&site, "standby");
    let public = format!("{}.pub", key.display());
    site.sealdrop(&["user", "keys", "partner", "--add", &public, "--reload"]).ok();
    let shown = site.ask(&["user", "keys", "partner"]);
    assert_eq!((shown.len(), &shown[1]["comment"]), (2, &"standby".into()));
    site.sealdrop(&["user", "keys", "partner", "--remove", "standby", "--reload"]).ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    let said = site.sealdrop(&["user", "keys", "partner", "--remove", "standby"]).fails_with(1);
    assert!(said.contains("no key `standby`") && said.contains("hint: "), "{said}");
}

#[test]
fn a_change_that_could_not_be_used_is_not_made() {
    let site = Site::new();
    let key = new_key(&site, "k");
    let public = fs::read_to_string(format!("{}.pub", key.display())).unwrap();
    let public = public.trim();
    let refused = |words: &[&str], because: &str| {
        let said = site.sealdrop(words).fails_with(1);
        assert!(said.contains(because) && said.contains("hint: "), "{said}");
        assert!(!site.place().policy("x").exists());
    };
    refused(&["user", "add", "x", "--key", public, "--drop", "/a=nobody"], "nobody");
    refused(&["user", "add", "x", "--key", public, "--drop", "/a"], "does not say to whom");
    refused(&["user", "add", "x", "--key", "ssh-ed25519 AAAA", "--inbox"], "could not be used");
    refused(&["user", "add", "x", "--key", public], "do nothing");
    refused(&["user", "add", "partner", "--key", public, "--inbox"], "is there already");
    refused(&["user", "disable", "x"], "there is no user x");
    refused(&["onboard", "x"], "there are: lab, partner, radiology");
    // The last key of an account that has no password.
    let only = site.ask(&["user", "keys", "partner"])[0]["fingerprint"].as_str().unwrap().to_owned();
    let before = fs::read(site.place().policy("partner")).unwrap();
    site.sealdrop(&["user", "keys", "partner", "--remove", &only]).fails_with(1);
    assert_eq!(fs::read(site.place().policy("partner")).unwrap(), before);
    let shown = site.sealdrop(&["user", "add", "x", "--key", public, "--inbox", "--dry-run"]).ok();
    assert!(shown.contains("[inbox]\nmode = \"managed\"") && !site.place().policy("x").exists(), "{shown}");
}

#[test]
fn users_are_listed_with_what_they_have() {
    let site = Site::prepared();
    let users = site.ask(&["user", "list"]);
    let names: Vec<_> = users.iter().map(|user| user["user"].as_str().unwrap()).collect();
    assert_eq!(names, ["lab", "partner", "radiology"]);
    assert_eq!((&users[0]["inbox"], &users[1]["state"]), (&"sealed".into(), &"good".into()));
    assert_eq!(users[1]["folders"], serde_json::json!(["/radiology", "/lab", "/shared"]));
}
