//! `sealdrop export --age`: stock age opens what it writes, for an age identity and for an SSH key; a sealed file that
//! is not whole becomes no age file that age takes for whole, in a file nor in a pipe. For OpenPGP, the line of
//! docs/cli.md does the same.
#![cfg(not(feature = "fips"))]

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::Command;

use crate::run::{Ran, run};
use crate::site::{SEALDROP, have};

/// Somebody who opens sealed files, and hands them on to somebody with age alone.
struct Desk {
    folder: tempfile::TempDir,
    recipient: String,
}

const CHUNK: usize = 65536;

fn content(size: usize) -> Vec<u8> {
    crate::site::content("scan", size)
}

impl Desk {
    /// With a sealed file of `size` bytes, `scan.sealed`, and age identities `age` and `other`.
    fn new(size: usize) -> Self {
        let mut desk = Self { folder: tempfile::tempdir().unwrap(), recipient: String::new() };
        for name in ["age", "other"] {
            run(desk.command("age-keygen", &["-o", name]), b"").ok();
        }
        desk.recipient = run(desk.command("age-keygen", &["-y", "age"]), b"").ok().trim().to_owned();
        let sealdrop = run(desk.command(SEALDROP, &["keygen", "-o", "id"]), b"").ok();
        fs::write(desk.path("scan"), content(size)).unwrap();
        run(desk.command(SEALDROP, &["seal", "-r", sealdrop.trim(), "scan"]), b"").ok();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: &str, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(words).current_dir(&self.folder);
        command
    }

    /// Exports `scan.sealed`, with more words.
    fn export(&self, words: &[&str]) -> Ran {
        let words = [&["export", "--age", "-i", "id", "-r", &self.recipient, "scan.sealed"], words].concat();
        run(self.command(SEALDROP, &words), b"")
    }

    fn age_opens(&self, file: &str, identity: &str) -> Ran {
        run(self.command("age", &["--decrypt", "--identity", identity, file]), b"")
    }
}

#[test]
fn stock_age_opens_an_export_of_any_size() {
    if !have("age") {
        return;
    }
    for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 500] {
        let desk = Desk::new(size);
        assert!(desk.export(&["-o", "scan.age"]).ok().contains(&format!("{size} bytes, verified")));
        let opened = desk.age_opens("scan.age", "age");
        assert!(opened.status.success() && opened.stdout == content(size), "{size}: {}", opened.stderr);
        fs::write(desk.path("piped.age"), desk.export(&[]).stdout).unwrap();
        assert!(desk.age_opens("piped.age", "age").stdout == content(size), "{size}, through a pipe");
    }
}

#[test]
fn an_export_opens_for_each_of_its_recipients_and_for_nobody_else() {
    if !have("age") {
        return;
    }
    let desk = Desk::new(CHUNK + 7);
    run(desk.command("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "ssh"]), b"").ok();
    let ssh = fs::read_to_string(desk.path("ssh.pub")).unwrap();
    let told = desk.export(&["-r", &ssh, "-o", "scan.age", "--json"]).ok();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((told["format"].as_str(), told["recipients"].as_u64()), (Some("age"), Some(2)));
    for identity in ["age", "ssh"] {
        let opened = desk.age_opens("scan.age", identity);
        assert!(opened.status.success() && opened.stdout == content(CHUNK + 7), "{identity}: {}", opened.stderr);
    }
    let refused = desk.age_opens("scan.age", "other");
    assert!(!refused.status.success() && refused.stdout.is_empty());
}

#[test]
fn a_sealed_file_that_is_not_whole_becomes_no_age_file_that_age_takes_for_whole() {
    if !have("age") {
        return;
    }
    let desk = Desk::new(3 * CHUNK);
    let whole = fs::read(desk.path("scan.sealed")).unwrap();
    let mut last_record_changed = whole.clone();
    // The final record of a multiple of the chunk is empty: 32 bytes after three full ones.
    last_record_changed[8192 + 3 * 65568 + 20] ^= 1;
    let mut middle_changed = whole.clone();
    middle_changed[8192 + 65568 + 1000] ^= 1;
    for (what, bytes) in [
        ("cut", whole[..whole.len() - 100].to_vec()),
        ("cut at a record", whole[..8192 + 2 * 65568].to_vec()),
        ("its last record changed", last_record_changed),
        ("a record in the middle changed", middle_changed),
    ] {
        fs::write(desk.path("scan.sealed"), bytes).unwrap();
        let before = fs::read_dir(&desk.folder).unwrap().count();
        desk.export(&["-o", "scan.age"]).fails_with(1);
        assert_eq!(fs::read_dir(&desk.folder).unwrap().count(), before, "{what}: something was left behind");
        let piped = desk.export(&[]);
        assert_eq!(piped.status.code(), Some(1), "{what}");
        fs::write(desk.path("piped.age"), &piped.stdout).unwrap();
        assert!(!desk.age_opens("piped.age", "age").status.success(), "{what}: age takes the pipe's output for whole");
        fs::remove_file(desk.path("piped.age")).unwrap();
    }
}

#[test]
fn an_export_asks_for_what_it_needs_and_repeats_no_key() {
    if !have("age") {
        return;
    }
    let desk = Desk::new(10);
    let secret = fs::read_to_string(desk.path("age")).unwrap();
    let secret = secret.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).unwrap();
    let export = |recipient: &str, output: &str| {
        run(desk.command(SEALDROP, &["export", "--age", "-i", "id", "-r", recipient, "-o", output, "scan.sealed"]), b"")
    };
    let refused = export(secret, "out.age").fails_with(1);
    assert!(refused.contains("the private half") && !refused.contains(&secret[20..40]));
    export(&desk.recipient, "scan.sealed").fails_with(1);
    export(&desk.recipient, "out.age").ok();
    export(&desk.recipient, "out.age").fails_with(1);
    // The format is named: there may be others one day.
    run(desk.command(SEALDROP, &["export", "-i", "id", "-r", &desk.recipient, "scan.sealed"]), b"").fails_with(2);
}

#[test]
fn a_file_is_handed_on_to_an_openpgp_recipient_only_if_all_of_it_was_verified() {
    if !have("age") || !have("gpg") {
        return;
    }
    let desk = Desk::new(CHUNK + 9);
    let home = desk.path("gnupg");
    fs::DirBuilder::new().mode(0o700).create(&home).unwrap();
    let gpg = |words: &[&str]| {
        let mut command =
            desk.command("gpg", &["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]);
        command.args(words).env("GNUPGHOME", &home);
        run(command, b"")
    };
    gpg(&["--quick-gen-key", "lab@example.org", "rsa2048", "encrypt,sign", "never"]).ok();
    let hand_on = || {
        let line = "\"$0\" open -i id -o plain scan.sealed && gpg --batch --trust-model always --encrypt \
                    -r lab@example.org -o scan.gpg plain && rm plain";
        let mut shell = desk.command("sh", &["-c", line, SEALDROP]);
        shell.env("GNUPGHOME", &home);
        run(shell, b"")
    };
    hand_on().ok();
    let opened = gpg(&["--decrypt", "scan.gpg"]);
    assert!(opened.status.success() && opened.stdout == content(CHUNK + 9), "{}", opened.stderr);
    fs::remove_file(desk.path("scan.gpg")).unwrap();
    let sealed = fs::read(desk.path("scan.sealed")).unwrap();
    fs::write(desk.path("scan.sealed"), &sealed[..sealed.len() - 1]).unwrap();
    hand_on().fails();
    assert!(!desk.path("scan.gpg").exists() && !desk.path("plain").exists());
    let _ = run(desk.command("gpgconf", &["--homedir", "gnupg", "--kill", "all"]), b"");
}
