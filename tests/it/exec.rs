//! What `ssh HOST COMMAND` answers, and what SFTP's `check-file` does: receipts, what became of a file, and digests out of
//! the ledger, to whom they belong and to nobody else.

use std::fs;
use std::time::{Duration, Instant};

use sealdrop::cli::demo::place::{LAB, RADIOLOGY};
use sealdrop::names::hex;
use sha2::{Digest, Sha256};

use crate::site::{Site, content, have, have_python};

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Asks until the answer says so.
#[track_caller]
pub fn said_in_time(ask: impl Fn() -> String, words: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let said = ask();
        if said.contains(words) {
            return said;
        }
        assert!(Instant::now() < deadline, "this does not come to say `{words}`: {said}");
    }
}

#[test]
fn a_receipt_and_its_signatures_come_by_ssh() {
    let site = Site::new();
    let local = site.file("a b.dcm", &content("receipted ", 100_000));
    site.partner().put(&local, "/radiology/a b.dcm");
    let said = site.partner().ssh(&["-T"], &["receipt", r"/radiology/a\ b.dcm"]).ok();
    assert_eq!(said, site.partner().receipt("/radiology/a b.dcm").0);
    let signature = site.partner().ssh(&["-T"], &["receipt --sig '/radiology/a b.dcm'"]).ok();
    let signature = site.file("sig", signature.as_bytes());
    site.partner().verify("receipt@sealdrop", said.as_bytes(), &signature).ok();
    let signature = site.partner().ssh(&["-T"], &["receipt --content-sig \"/radiology/a b.dcm\""]).ok();
    let signature = site.file("content-sig", signature.as_bytes());
    site.partner().verify("content@sealdrop", &std::fs::read(&local).unwrap(), &signature).ok();
    site.partner().ssh(&["-T"], &["receipt", "/radiology/none.dcm"]).fails_with(1);
    site.partner().ssh(&["-T"], &["receipt", "/radiology/a", "b.dcm"]).fails_with(2);
    site.recipient(RADIOLOGY).ssh(&["-T"], &["receipt '/inbox/partner/a b.dcm'"]).fails_with(1);
}

#[test]
fn a_sender_hears_what_became_of_a_file_until_it_is_destroyed() {
    let site = Site::new();
    let bytes = content("", 5_000);
    site.partner().put(&site.file("a.dcm", &bytes), "/radiology/a.dcm");
    let status = || site.partner().ssh(&["-T"], &["status", "/radiology/a.dcm"]).ok();
    let before = status();
    assert!(before.contains("5000") && before.contains(&sha256(&bytes)), "{before}");
    assert!(before.contains("delivered") && before.contains("radiology: not picked up"), "{before}");
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm") == bytes);
    // The end of a download is told without waiting.
    let after = said_in_time(status, "radiology: picked up 2");
    assert!(!after.contains("not picked up"), "{after}");
    let seen = site.recipient(RADIOLOGY).ssh(&["-T"], &["status", "/inbox/partner/a.dcm"]).ok();
    assert!(seen.contains("partner") && seen.contains(&sha256(&bytes)), "{seen}");
    site.age();
    assert!(status().contains("destroyed"), "{}", status());
    site.recipient(RADIOLOGY).ssh(&["-T"], &["status", "/inbox/partner/a.dcm"]).fails_with(1);
    site.partner().ssh(&["-T"], &["sha256sum", "/radiology/a.dcm"]).fails_with(1);
    assert!(!site.events_of("status-read", "/radiology/a.dcm").is_empty());
}

#[test]
fn a_digest_comes_from_the_ledger_and_nothing_is_opened() {
    let site = Site::new();
    let names = ["a.dcm", "a b.dcm", "it's \\ $(id) \"x\".dcm", "ü.dcm"];
    for (n, name) in names.iter().enumerate() {
        let bytes = content(&format!("file {n} "), 70_000 + n);
        let local = site.file(format!("local{n}"), &bytes);
        let remote = format!("/radiology/{name}");
        site.partner().put(&local, &remote);
        // As rclone quotes a path.
        let escaped: String = remote
            .chars()
            .flat_map(|c| (!c.is_alphanumeric() && !"/.".contains(c)).then_some('\\').into_iter().chain([c]))
            .collect();
        for command in ["sha256sum", "sha256sum -b --", "rclone hashsum sha256"] {
            let said = site.partner().ssh(&["-T"], &[&format!("{command} {escaped}")]).ok();
            let hash = said.trim_start_matches('\\').split(' ').next().unwrap();
            assert_eq!(hash, sha256(&bytes), "{command} {escaped}\n{said}");
        }
    }
    let said = site.recipient(RADIOLOGY).ssh(&["-T"], &["sha256sum", "/inbox/partner/a.dcm", "/inbox"]);
    assert!(String::from_utf8_lossy(&said.stdout).contains(&sha256(&content("file 0 ", 70_000))));
    assert!(said.fails_with(1).contains("this is a folder"));
    assert!(site.events_of("download-opened", "").is_empty());
    assert_eq!(site.events_of("digest-read", "/radiology/a.dcm").len(), 3);
}

#[test]
fn a_digest_is_not_told_to_others_nor_of_a_sealed_form() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", b"x"), "/radiology/a.dcm");
    site.partner().put(&site.file("a.dcm", b"x"), "/lab/a.dcm");
    for path in ["/radiology/a.dcm", "/inbox/partner/a.dcm", "/inbox/partner/../../radiology/a.dcm"] {
        let ran = site.recipient(LAB).ssh(&["-T"], &["sha256sum", path]);
        assert!(!String::from_utf8_lossy(&ran.stdout).contains(&sha256(b"x")), "{}", ran.told());
        ran.fails_with(1);
    }
    // What the lab pulls is another file than what was sent.
    let ran = site.recipient(LAB).ssh(&["-T"], &["sha256sum", "/inbox/partner/a.dcm.sealed"]);
    assert!(ran.fails_with(1).contains("receipt"));
}

#[test]
fn rclones_probes_are_answered_as_a_unix_machine_does() {
    let site = Site::new();
    let ask = |command: &str| site.partner().ssh(&["-T"], &[command]);
    assert_eq!(ask("echo ${ShellId}%ComSpec%").ok(), "%ComSpec%\n");
    for command in ["sha256sum", "rclone hashsum sha256"] {
        assert!(ask(command).ok().starts_with(&sha256(b"")), "{command}");
    }
    for command in ["md5sum", "md5 -r", "rclone md5sum", "sha1sum", "rclone sha1sum", "rclone hashsum md5"] {
        ask(command).fails_with(127);
    }
    let partner = site.partner();
    let mut command = std::process::Command::new("ssh");
    command.args(partner.ssh_options()).arg("-T").arg(partner.target()).arg("sha256sum");
    crate::run::run(command, b"something").fails_with(1);
    assert!(ask("help").ok().contains("status PATH"));
}

#[test]
fn rclone_copies_and_checks_without_the_hashes_it_would_like() {
    if !have("rclone") {
        return;
    }
    let site = Site::new();
    fs::create_dir(site.work().join("tree")).unwrap();
    for n in 0..5 {
        site.file(format!("tree/f{n}.dcm"), &content("", n * 30_000));
    }
    site.partner().rclone(&["copy", "tree", ":sftp:/shared/tree"]).ok();
    site.partner().rclone(&["check", "tree", ":sftp:/shared/tree"]).ok();
    let hashes = site.partner().rclone(&["hashsum", "SHA-256", "--download", ":sftp:/shared/tree"]).ok();
    assert!(hashes.contains(&sha256(&content("", 60_000))), "{hashes}");
    site.file("tree/f4.dcm", b"changed");
    site.partner().rclone(&["check", "tree", ":sftp:/shared/tree"]).fails();
}

#[test]
fn a_parked_upload_has_its_digest_before_it_has_its_name() {
    let site = Site::new();
    let bytes = content("in rclone's way ", 200_000);
    site.partner().put(&site.file("a", &bytes), "/radiology/a.dcm.1234abcd.partial");
    let said = site.partner().ssh(&["-T"], &["sha256sum", "/radiology/a.dcm.1234abcd.partial"]).ok();
    assert!(said.starts_with(&sha256(&bytes)), "{said}");
    assert!(site.recipient(RADIOLOGY).delivered().is_empty());
    site.partner().sftp("rename /radiology/a.dcm.1234abcd.partial /radiology/a.dcm").ok();
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm") == bytes);
}

#[test]
fn check_file_answers_in_its_three_dialects() {
    if !have_python("paramiko") {
        return;
    }
    let site = Site::new();
    let bytes = content("checked ", 200_000);
    let local = site.file("a.dcm", &bytes);
    site.partner().put(&local, "/shared/a.dcm");
    site.partner().put(&local, "/radiology/a.dcm");
    let blocks: String = bytes.chunks(65_536).map(sha256).collect();
    let script = format!(
        r#"
from paramiko.sftp import CMD_EXTENDED
try:
    from paramiko.sftp import int64
except ImportError:
    from paramiko.py3compat import long as int64
def ask(*words):
    t, msg = sftp._request(CMD_EXTENDED, *words)
    return msg
with sftp.open('/shared/a.dcm') as f:
    assert f.check('sha256').hex() == '{whole}'
    assert f.check('md5,sha256', 0, 0, 65536).hex() == '{blocks}'
    assert f.check('sha256', 100, 1000).hex() == '{part}'
    msg = ask('check-file-handle', f.handle, 'sha256', int64(0), int64(0), 0)
    assert (msg.get_text(), msg.get_remainder().hex()) == ('sha256', '{whole}')
    for wrong in [('md5,sha1,crc32', 0, 0, 0), ('sha256', 0, 0, 16), ('sha256', 200001, 0, 0)]:
        try:
            f.check(*wrong)
            raise SystemExit('answered: %r' % (wrong,))
        except IOError:
            pass
msg = ask('check-file-name', '/radiology/a.dcm', 'sha1,sha256', int64(0), int64(0), 0)
assert (msg.get_text(), msg.get_remainder().hex()) == ('sha256', '{whole}')
for words in [('/radiology/a.dcm', 'sha256', int64(1), int64(10), 0), ('/radiology/none', 'sha256', int64(0), int64(0), 0),
              ('/radiology', 'sha256', int64(0), int64(0), 0)]:
    try:
        ask('check-file-name', *words)
        raise SystemExit('answered: %r' % (words,))
    except IOError:
        pass
"#,
        whole = sha256(&bytes),
        part = sha256(&bytes[100..1100]),
    );
    site.partner().paramiko(&script).ok();
    let pulled = site.events_of("download-ended", "/shared/a.dcm");
    assert!(pulled.iter().all(|event| event["bytes"] == 0), "hashing is no download: {pulled:?}");
}
