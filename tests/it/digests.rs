//! MD5 and SHA-1 where a folder keeps them: for rclone as it comes, for `md5sum` by ssh, for `check-file`; made in order, over
//! resumes and rewrites, and nowhere else.

use std::fs;

use md5::Md5;
use sealdrop::cli::demo::place::{LAB, RADIOLOGY};
use sealdrop::names::hex;
use sha1::Sha1;
use sha2::Digest;

use crate::site::{Site, content, have, have_python};

fn md5(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

fn sha1(bytes: &[u8]) -> String {
    hex(&Sha1::digest(bytes))
}

/// `/radiology` and `/shared` keep both, `/lab` neither.
fn keeping() -> Site {
    let mut site = Site::prepared();
    let path = site.place().policy("partner");
    let policy = fs::read_to_string(&path).unwrap();
    let mut kept = policy.clone();
    for folder in ["path = \"/radiology\"\n", "path = \"/shared\"\n"] {
        assert!(policy.contains(folder), "{policy}");
        kept = kept.replacen(folder, &format!("{folder}digests = [\"md5\", \"sha1\"]\n"), 1);
    }
    fs::write(&path, kept).unwrap();
    site.start().unwrap();
    site
}

#[test]
fn sums_are_told_by_ssh_to_the_sender_and_the_recipient() {
    let site = keeping();
    let bytes = content("summed ", 200_001);
    let local = site.file("a.dcm", &bytes);
    for path in ["/radiology/a.dcm", "/shared/a.dcm", "/lab/a.dcm"] {
        site.partner().put(&local, path);
    }
    let ask = |command: &str| site.partner().ssh(&["-T"], &[command]);
    for path in ["/radiology/a.dcm", "/shared/a.dcm"] {
        for command in ["md5sum", "rclone md5sum", "rclone hashsum md5"] {
            assert_eq!(ask(&format!("{command} {path}")).ok(), format!("{}  {path}\n", md5(&bytes)));
        }
        for command in ["sha1sum", "rclone sha1sum", "rclone hashsum sha1"] {
            assert_eq!(ask(&format!("{command} {path}")).ok(), format!("{}  {path}\n", sha1(&bytes)));
        }
        assert_eq!(ask(&format!("md5 -r {path}")).ok(), format!("{} {path}\n", md5(&bytes)));
        assert_eq!(ask(&format!("sha1 -r {path}")).ok(), format!("{} {path}\n", sha1(&bytes)));
        let status = ask(&format!("status {path}")).ok();
        assert!(status.contains(&md5(&bytes)) && status.contains(&sha1(&bytes)), "{status}");
    }
    let inbox = site.recipient(RADIOLOGY).ssh(&["-T"], &["md5sum /inbox/partner/a.dcm"]).ok();
    assert!(inbox.starts_with(&md5(&bytes)), "{inbox}");
    // What is not kept is said, and is no digest.
    let none = ask("md5sum /lab/a.dcm");
    assert!(none.stderr.contains("this digest is not kept of this file"), "{}", none.told());
    assert_eq!(none.ok(), "  /lab/a.dcm\n", "as rclone reads that there is none");
    ask("md5sum /lab/none.dcm").fails_with(1);
    assert!(!ask("status /lab/a.dcm").ok().contains("md5"));
    for (command, hash) in [("md5sum", md5(b"")), ("md5 -r", md5(b"")), ("sha1sum", sha1(b"")), ("sha1 -r", sha1(b""))]
    {
        assert!(ask(command).ok().starts_with(&hash), "{command}");
    }
    assert!(ask("help").ok().contains("md5sum PATH"));
    site.recipient(LAB).ssh(&["-T"], &["md5sum"]).fails_with(127);
    assert!(site.events_of("download-opened", "").is_empty());
}

#[test]
fn sums_go_on_over_resumes_temp_names_and_rewrites() {
    if !have_python("paramiko") {
        return;
    }
    let site = keeping();
    let bytes = content("resumed ", 3_000_000);
    let local = site.file("a.dcm", &bytes);
    // A first half whose connection is lost, then the rest.
    let half = format!(
        "f = sftp.open('/radiology/a.dcm', 'wb')\nf.write(open({local:?}, 'rb').read()[:1700000])\nf.stat()\nos._exit(0)"
    );
    site.partner().paramiko(&half).ok();
    site.wait_for_event("upload-abandoned", 1);
    site.partner().sftp(format!("reput {} /radiology/a.dcm", local.display())).ok();
    // Under a temp name: there before and after it is renamed.
    site.partner().put(&local, "/radiology/b.dcm.partial");
    let parked = site.partner().ssh(&["-T"], &["sha1sum /radiology/b.dcm.partial"]).ok();
    assert!(parked.starts_with(&sha1(&bytes)), "{parked}");
    site.partner().sftp("rename /radiology/b.dcm.partial /radiology/b.dcm").ok();
    // Written over in the middle: made anew at the end.
    let over = format!(
        "f = sftp.open('/shared/c.bin', 'wb')\nf.write(open({local:?}, 'rb').read())\nf.seek(100)\nf.write(b'changed')\nf.close()"
    );
    site.partner().paramiko(&over).ok();
    let mut changed = bytes.clone();
    changed[100..107].copy_from_slice(b"changed");
    for (path, bytes) in [("/radiology/a.dcm", &bytes), ("/radiology/b.dcm", &bytes), ("/shared/c.bin", &changed)] {
        let said = site.partner().ssh(&["-T"], &[&format!("md5sum {path}")]).ok();
        assert_eq!(said, format!("{}  {path}\n", md5(bytes)));
        let said = site.partner().ssh(&["-T"], &[&format!("sha1sum {path}")]).ok();
        assert_eq!(said, format!("{}  {path}\n", sha1(bytes)));
    }
}

#[test]
fn rclone_as_it_comes_compares_what_is_kept_and_copies_where_nothing_is() {
    if !have("rclone") {
        return;
    }
    let site = keeping();
    fs::create_dir(site.work().join("tree")).unwrap();
    for n in 0..3 {
        site.file(format!("tree/f{n}.dcm"), &content("", n * 30_000 + 10));
    }
    let partner = site.partner();
    for folder in ["/shared/tree", "/radiology"] {
        let remote = format!(":sftp:{folder}");
        partner.rclone(&["copy", "tree", &remote]).ok();
        partner.rclone(&["copy", "--checksum", "tree", &remote]).ok();
        partner.rclone(&["check", "tree", &remote]).ok();
        for (command, hash) in [("md5sum", md5(&content("", 30_010))), ("sha1sum", sha1(&content("", 30_010)))] {
            // rclone 1.60 forgets, while one of its threads asks what is kept, to have the others wait for the answer.
            let said = partner.rclone(&["--transfers", "1", command, &remote]).ok();
            assert!(said.contains(&format!("{hash}  f1.dcm")), "{said}");
        }
    }
    // The same size and time, and another content: only a digest tells.
    let changed = site.work().join("tree/f1.dcm");
    let before = fs::metadata(&changed).unwrap().modified().unwrap();
    let mut bytes = content("", 30_010);
    bytes[7] ^= 1;
    fs::write(&changed, bytes).unwrap();
    fs::File::options().write(true).open(&changed).unwrap().set_modified(before).unwrap();
    partner.rclone(&["check", "tree", ":sftp:/shared/tree"]).fails();
    // A folder that keeps none, of a user who has others: what is sent arrives.
    partner.rclone(&["copy", "tree", ":sftp:/lab"]).ok();
    assert_eq!(site.recipient(LAB).delivered().len(), 3);
    partner.rclone(&["--transfers", "1", "copy", "--checksum", "tree", ":sftp:/lab"]).ok();
    partner.rclone(&["--checkers", "1", "check", "tree", ":sftp:/lab"]).ok();
    assert!(site.events_of("removed", "").is_empty(), "what was delivered stays");
}

#[test]
fn check_file_takes_the_first_that_is_kept() {
    if !have_python("paramiko") {
        return;
    }
    let site = keeping();
    let bytes = content("checked ", 200_000);
    let local = site.file("a.dcm", &bytes);
    for path in ["/shared/a.dcm", "/radiology/a.dcm", "/lab/a.dcm"] {
        site.partner().put(&local, path);
    }
    let script = format!(
        r#"
from paramiko.sftp import CMD_EXTENDED
try:
    from paramiko.sftp import int64
except ImportError:
    from paramiko.py3compat import long as int64
def ask(*words):
    t, msg = sftp._request(CMD_EXTENDED, *words)
    return msg.get_text(), msg.get_remainder().hex()
def name(path, list):
    return ask('check-file-name', path, list, int64(0), int64(0), 0)
with sftp.open('/shared/a.dcm') as f:
    assert f.check('md5').hex() == '{md5}'
    assert f.check('sha1').hex() == '{sha1}'
    assert f.check('sha1', 100, 1000).hex() == '{part}'
    assert ask('check-file-handle', f.handle, 'crc32,sha1,md5', int64(0), int64(0), 0) == ('sha1', '{sha1}')
assert name('/radiology/a.dcm', 'md5,sha256') == ('md5', '{md5}')
assert name('/lab/a.dcm', 'md5,sha256') == ('sha256', '{sha256}')
try:
    name('/lab/a.dcm', 'md5,sha1')
    raise SystemExit('answered')
except IOError as e:
    assert 'not kept' in str(e), e
"#,
        md5 = md5(&bytes),
        sha1 = sha1(&bytes),
        part = sha1(&bytes[100..1100]),
        sha256 = hex(&sha2::Sha256::digest(&bytes)),
    );
    site.partner().paramiko(&script).ok();
}
