//! Any SFTP client people have pushes, lists, renames and pulls, and every byte comes back: from nothing to a hundred
//! megabytes, across the edges of a record (65,536 bytes).

use std::fs;
use std::path::PathBuf;

use sealdrop::cli::demo::place::{LAB, RADIOLOGY};

use crate::site::{Site, content, have, have_node, have_python};

/// Around nothing, a write of a client (32 KiB), a record and several.
const SIZES: [usize; 10] = [0, 1, 32_767, 32_768, 65_535, 65_536, 65_537, 131_072, 131_073, 1_000_003];

/// A file of each size, named by it.
fn files(site: &Site) -> Vec<(String, PathBuf, Vec<u8>)> {
    let make = |&size: &usize| {
        let (name, bytes) = (format!("f{size}.dcm"), content("some study ", size));
        (name.clone(), site.file(name, &bytes), bytes)
    };
    SIZES.iter().map(make).collect()
}

/// What every client is asked to do, with the words of that client.
struct Words<'a> {
    put: &'a dyn Fn(&Site, &str, &str),
    get: &'a dyn Fn(&Site, &'static str, &str, &str),
    list: &'a dyn Fn(&Site, &str) -> String,
    rename: &'a dyn Fn(&Site, &str, &str),
}

fn a_client_does_everything(words: &Words<'_>) {
    let site = &Site::new();
    let files = files(site);
    for (name, _, _) in &files {
        (words.put)(site, name, &format!("/radiology/{name}"));
        (words.put)(site, name, &format!("/shared/{name}"));
    }
    let listing = (words.list)(site, "/radiology");
    for (name, _, bytes) in &files {
        assert!(listing.contains(name.as_str()), "{name} is missing in\n{listing}");
        (words.get)(site, RADIOLOGY, &format!("/inbox/partner/{name}"), "delivered");
        assert!(fs::read(site.work().join("delivered")).unwrap() == *bytes, "{name} was delivered with other bytes");
        let renamed = format!("/shared/renamed-{name}");
        (words.rename)(site, &format!("/shared/{name}"), &renamed);
        (words.get)(site, "partner", &renamed, "own");
        assert!(fs::read(site.work().join("own")).unwrap() == *bytes, "{name} came back with other bytes");
    }
    for (name, _, _) in files.iter().take(2) {
        site.partner().verified_receipt(&format!("/radiology/{name}"));
    }
}

#[test]
fn openssh_sftp_does_everything() {
    a_client_does_everything(&Words {
        put: &|site, local, remote| drop(site.partner().sftp(format!("put {local} {remote}")).ok()),
        get: &|site, user, remote, local| drop(site.recipient(user).sftp(format!("get {remote} {local}")).ok()),
        list: &|site, dir| site.partner().sftp(format!("ls -l {dir}")).ok(),
        rename: &|site, from, to| drop(site.partner().sftp(format!("rename {from} {to}")).ok()),
    });
}

#[test]
fn openssh_scp_does_everything() {
    a_client_does_everything(&Words {
        put: &|site, local, remote| drop(site.partner().scp(&["-p", local, &site.partner().remote(remote)]).ok()),
        get: &|site, user, remote, local| {
            drop(site.recipient(user).scp(&[&site.recipient(user).remote(remote), local]).ok())
        },
        list: &|site, dir| site.partner().sftp(format!("ls -l {dir}")).ok(),
        rename: &|site, from, to| drop(site.partner().sftp(format!("rename {from} {to}")).ok()),
    });
}

#[test]
fn lftp_does_everything() {
    if !have("lftp") {
        return;
    }
    a_client_does_everything(&Words {
        put: &|site, local, remote| drop(site.partner().lftp(&format!("put {local} -o {remote}")).ok()),
        get: &|site, user, remote, local| {
            drop(site.recipient(user).lftp(&format!("set xfer:clobber on; get {remote} -o {local}")).ok())
        },
        list: &|site, dir| site.partner().lftp(&format!("cls -l {dir}")).ok(),
        rename: &|site, from, to| drop(site.partner().lftp(&format!("mv {from} {to}")).ok()),
    });
}

#[test]
fn rclone_does_everything() {
    if !have("rclone") {
        return;
    }
    a_client_does_everything(&Words {
        put: &|site, local, remote| drop(site.partner().rclone(&["copyto", local, &format!(":sftp:{remote}")]).ok()),
        get: &|site, user, remote, local| {
            drop(site.recipient(user).rclone(&["copyto", "--ignore-times", &format!(":sftp:{remote}"), local]).ok());
        },
        list: &|site, dir| site.partner().rclone(&["lsl", &format!(":sftp:{dir}")]).ok(),
        rename: &|site, from, to| {
            drop(site.partner().rclone(&["moveto", &format!(":sftp:{from}"), &format!(":sftp:{to}")]).ok());
        },
    });
}

#[test]
fn paramiko_does_everything() {
    if !have_python("paramiko") {
        return;
    }
    a_client_does_everything(&Words {
        put: &|site, local, remote| drop(site.partner().paramiko(&format!("sftp.put({local:?}, {remote:?})")).ok()),
        get: &|site, user, remote, local| {
            drop(site.recipient(user).paramiko(&format!("sftp.get({remote:?}, {local:?})")).ok())
        },
        list: &|site, dir| site.partner().paramiko(&format!("print(sftp.listdir({dir:?}))")).ok(),
        rename: &|site, from, to| drop(site.partner().paramiko(&format!("sftp.rename({from:?}, {to:?})")).ok()),
    });
}

#[test]
fn asyncssh_does_everything() {
    if !have_python("asyncssh") {
        return;
    }
    a_client_does_everything(&Words {
        put: &|site, local, remote| {
            drop(site.partner().asyncssh(&format!("await sftp.put({local:?}, {remote:?})")).ok())
        },
        get: &|site, user, remote, local| {
            drop(site.recipient(user).asyncssh(&format!("await sftp.get({remote:?}, {local:?})")).ok());
        },
        list: &|site, dir| site.partner().asyncssh(&format!("print(await sftp.listdir({dir:?}))")).ok(),
        rename: &|site, from, to| {
            drop(site.partner().asyncssh(&format!("await sftp.rename({from:?}, {to:?})")).ok());
        },
    });
}

#[test]
fn node_ssh2_does_everything() {
    if !have_node("ssh2") {
        return;
    }
    a_client_does_everything(&Words {
        put: &|site, local, remote| {
            drop(site.partner().node(&format!("await sftp.fastPut({local:?}, {remote:?})")).ok())
        },
        get: &|site, user, remote, local| {
            drop(site.recipient(user).node(&format!("await sftp.fastGet({remote:?}, {local:?})")).ok())
        },
        list: &|site, dir| {
            site.partner()
                .node(&format!("console.log((await sftp.readdir({dir:?})).map(e => e.longname).join('\\n'))"))
                .ok()
        },
        rename: &|site, from, to| drop(site.partner().node(&format!("await sftp.rename({from:?}, {to:?})")).ok()),
    });
}

/// A shared folder is a file system to work in: written anywhere, cut, extended, renamed, removed, and sealed all the while.
#[test]
fn sshfs_works_in_a_shared_folder() {
    use std::os::unix::fs::FileExt;
    if !have("sshfs") || !have("fusermount3") {
        return;
    }
    let site = Site::new();
    let bytes = content("a study on a mounted folder ", 300_000);
    let mut wanted = bytes.clone();
    site.partner().mounted("/shared", |at| {
        fs::create_dir(at.join("deep")).unwrap();
        fs::write(at.join("deep/a.dcm"), &bytes).unwrap();
        fs::rename(at.join("deep/a.dcm"), at.join("deep/b.dcm")).unwrap();
    });
    site.partner().mounted("/shared", |at| {
        let file = fs::OpenOptions::new().read(true).write(true).open(at.join("deep/b.dcm")).unwrap();
        for (offset, piece) in [(65_530, &b"across a record"[..]), (10, b"early"), (299_990, b"over the old end")] {
            file.write_all_at(piece, offset).unwrap();
            let end = offset as usize + piece.len();
            wanted.resize(wanted.len().max(end), 0);
            wanted[offset as usize..end].copy_from_slice(piece);
        }
        drop(file);
        assert!(fs::read(at.join("deep/b.dcm")).unwrap() == wanted, "what was written is read in the same mount");
        fs::write(at.join("gone.dcm"), b"not for long").unwrap();
        fs::remove_file(at.join("gone.dcm")).unwrap();
    });
    site.partner().sftp("get /shared/deep/b.dcm after").ok();
    assert!(fs::read(site.work().join("after")).unwrap() == wanted, "what sshfs wrote is what others read");
    let in_clear = site.state_contains(b"a study on a mounted folder");
    assert!(in_clear.is_empty(), "on disk in the clear: {in_clear:?}");
    site.partner().mounted("/radiology", |at| fs::write(at.join("dropped.dcm"), &bytes).unwrap());
    site.recipient(RADIOLOGY).sftp("get /inbox/partner/dropped.dcm delivered").ok();
    assert!(fs::read(site.work().join("delivered")).unwrap() == bytes);
}

#[test]
fn psftp_does_everything() {
    if !have("psftp") || !have("puttygen") {
        return;
    }
    a_client_does_everything(&Words {
        put: &|site, local, remote| drop(site.partner().psftp(&format!("put {local} {remote}")).ok()),
        get: &|site, user, remote, local| drop(site.recipient(user).psftp(&format!("get {remote} {local}")).ok()),
        list: &|site, dir| site.partner().psftp(&format!("ls {dir}")).ok(),
        rename: &|site, from, to| drop(site.partner().psftp(&format!("mv {from} {to}")).ok()),
    });
}

#[test]
fn curl_does_everything() {
    if !have("curl") {
        return;
    }
    a_client_does_everything(&Words {
        put: &|site, local, remote| drop(site.partner().curl(&["--upload-file", local], remote).ok()),
        get: &|site, user, remote, local| drop(site.recipient(user).curl(&["--output", local], remote).ok()),
        list: &|site, dir| site.partner().curl(&[], &format!("{dir}/")).ok(),
        rename: &|site, from, to| {
            drop(site.partner().curl(&["--quote", &format!("rename {from} {to}")], "/shared/").ok())
        },
    });
}

/// A client that knows no AEAD and no encrypt-then-MAC, as libssh2 before 1.11 with curl of Debian 12.
const OLD: [&str; 4] = ["-o", "Ciphers=aes256-ctr", "-o", "MACs=hmac-sha2-512,hmac-sha2-256"];

/// An old client is let in where the configuration says so, and nowhere else; the log says why it was not.
#[test]
fn old_macs_are_offered_only_where_the_operator_says_so() {
    let mut site = Site::prepared();
    let allowed = fs::read_to_string(site.place().config()).unwrap();
    assert!(allowed.contains("[ssh]") && allowed.contains("\nold_macs = true\n"), "the demo lets every client try");
    fs::write(site.place().config(), allowed.replace("\nold_macs = true\n", "\n")).unwrap();
    site.start().unwrap();
    let refused = site.partner().ssh(&OLD, &["receipt", "/radiology/a.dcm"]).fails();
    assert!(refused.contains("no matching MAC found. Their offer: hmac-sha2-256-etm@"), "{refused}");
    let offer = refused.split("Their offer: ").nth(1).unwrap().trim();
    assert!(offer.split(',').all(|mac| mac.contains("-etm@openssh.com")), "{offer}");
    // Each of them, however the end of the connection and of its handler fall together.
    let attempts = 100;
    for _ in 1..attempts {
        site.partner().ssh(&OLD, &["receipt", "/radiology/a.dcm"]).fails();
    }
    // The client is gone before the server's line is written.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while site.log().matches("no algorithm that this server takes").count() < attempts {
        assert!(std::time::Instant::now() < deadline, "{}", site.log());
    }
    fs::write(site.place().config(), allowed).unwrap();
    site.restart();
    site.partner().put(&site.file("a.dcm", b"a"), "/radiology/a.dcm");
    site.partner().ssh(&OLD, &["receipt", "/radiology/a.dcm"]).ok();
}

#[test]
fn a_hundred_megabytes_come_back() {
    let site = Site::new();
    there_and_back(&site, 100 << 20);
}

/// `SEALDROP_TEST_HUGE=5368709120 cargo test -- huge` pushes and pulls so many bytes: minutes, and disk for four copies.
#[test]
fn a_huge_file_comes_back() {
    let Some(size) = std::env::var("SEALDROP_TEST_HUGE").ok().and_then(|size| size.parse().ok()) else {
        eprintln!("skipped: SEALDROP_TEST_HUGE says how many bytes to push");
        return;
    };
    let site = Site::new();
    there_and_back(&site, size);
}

fn there_and_back(site: &Site, size: usize) {
    let local = site.work().join("large.dcm");
    write_large(&local, size);
    site.partner().put(&local, "/radiology/large.dcm");
    site.partner().put(&local, "/lab/large.dcm");
    site.recipient(RADIOLOGY).sftp("get /inbox/partner/large.dcm pulled").ok();
    same_files(&local, &site.work().join("pulled"));
    site.recipient(LAB).sftp("get /inbox/partner/large.dcm.sealed large.sealed").ok();
    site.recipient(LAB).open_offline("large.sealed", "opened").ok();
    same_files(&local, &site.work().join("opened"));
    let receipt = site.partner().verified_receipt("/radiology/large.dcm");
    assert!(receipt.contains(&size.to_string()), "the receipt says how long the file is:\n{receipt}");
}

fn write_large(path: &std::path::Path, size: usize) {
    use std::io::Write;
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    let (mut left, mut block_number) = (size, 0_u64);
    while left > 0 {
        let block = content(&format!("block {block_number} "), left.min(1 << 20));
        file.write_all(&block).unwrap();
        left -= block.len();
        block_number += 1;
    }
    file.flush().unwrap();
}

fn same_files(a: &std::path::Path, b: &std::path::Path) {
    let mut cmp = std::process::Command::new("cmp");
    cmp.arg(a).arg(b);
    crate::run::run(cmp, b"").ok();
}

#[test]
fn an_ordinary_user_can_run_the_server() {
    let site = Site::unprivileged();
    let bytes = content("run by nobody in particular ", 300_000);
    let local = site.file("a.dcm", &bytes);
    site.partner().put(&local, "/radiology/a.dcm");
    site.partner().put(&local, "/lab/a.dcm");
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm") == bytes);
    site.partner().verified_receipt("/radiology/a.dcm");
    site.assert_private();
}

#[test]
fn sixteen_sessions_push_at_once() {
    let site = Site::new();
    std::thread::scope(|scope| {
        for n in 0..16 {
            let site = &site;
            scope.spawn(move || {
                let local = site.file(format!("p{n}.dcm"), &content(&format!("from session {n} "), 500_000 + n));
                site.partner().put(&local, &format!("/radiology/p{n}.dcm"));
            });
        }
    });
    for n in 0..16 {
        let got = site.recipient(RADIOLOGY).get(&format!("/inbox/partner/p{n}.dcm"));
        assert!(got == content(&format!("from session {n} "), 500_000 + n), "file {n}");
    }
    assert_eq!(site.events_of("upload-committed", "").len(), 16);
}
