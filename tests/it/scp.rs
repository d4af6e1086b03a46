//! `scp -O`, the protocol that scripts of twenty years use: files and trees, there and back, with their times; and what
//! is cut off, refused or lied about is not delivered.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, Instant};

use sealdrop::cli::demo::place::RADIOLOGY;

use crate::exec::said_in_time;
use crate::run::run;
use crate::site::{Site, content, have, kill_hard};

#[test]
fn files_of_any_size_go_and_come_back() {
    let site = Site::new();
    for size in [0, 1, 65_535, 65_536, 65_537, 3_000_001] {
        let bytes = content("by scp ", size);
        site.file("local.dcm", &bytes);
        let name = format!("f{size}.dcm");
        site.partner().scp(&["-O", "local.dcm", &site.partner().remote(&format!("/radiology/{name}"))]).ok();
        let inbox = site.recipient(RADIOLOGY).remote(&format!("/inbox/partner/{name}"));
        site.recipient(RADIOLOGY).scp(&["-O", &inbox, "pulled"]).ok();
        assert!(fs::read(site.work().join("pulled")).unwrap() == bytes, "{size}");
        site.partner().verified_receipt(&format!("/radiology/{name}"));
    }
    let status = || site.partner().ssh(&["-T"], &["status", "/radiology/f1.dcm"]).ok();
    said_in_time(status, "radiology: picked up");
}

#[test]
fn a_tree_keeps_its_names_and_times() {
    let site = Site::new();
    let tree = site.work().join("tree");
    let deep = (0..40).fold(tree.join("deep"), |dir, n| dir.join(format!("d{n}")));
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir_all(tree.join("a b/empty")).unwrap();
    let strange = OsStr::from_bytes(b"na\xffme \xc3\xbc 'x'.dcm").to_owned();
    let mut files = vec![deep.join("bottom.dcm"), tree.join("a b").join(&strange), tree.join("top.dcm")];
    files.extend((0..30).map(|n| tree.join(format!("slice{n}.dcm"))));
    for (n, file) in files.iter().enumerate() {
        fs::write(file, content(&format!("{n} "), n * 1000)).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000 + n as u64);
        fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
    }
    site.partner().scp(&["-O", "-r", "-p", "tree", &site.partner().remote("/shared/")]).ok();
    site.partner().scp(&["-O", "-r", "-p", &site.partner().remote("/shared/tree"), "back"]).ok();
    for file in &files {
        let back = site.work().join("back").join(file.strip_prefix(&tree).unwrap());
        assert!(fs::read(&back).unwrap() == fs::read(file).unwrap(), "{}", back.display());
        let modified = |path| fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(modified(&back), modified(file), "{}", back.display());
    }
    assert!(site.work().join("back/a b/empty").is_dir());
    // Over what is there, and to a name of its own.
    site.partner().scp(&["-O", "-r", "tree", &site.partner().remote("/shared")]).ok();
    site.partner().scp(&["-O", "-r", "tree", &site.partner().remote("/radiology/renamed")]).ok();
    site.recipient(RADIOLOGY).scp(&["-O", "-r", &site.recipient(RADIOLOGY).remote("/inbox/partner"), "inbox"]).ok();
    assert!(fs::read(site.work().join("inbox/renamed/a b").join(&strange)).unwrap() == fs::read(&files[1]).unwrap());
    site.partner().scp(&["-O", "-r", &site.partner().remote("/receipts/radiology"), "receipts"]).ok();
    assert!(site.work().join("receipts/renamed/top.dcm.receipt").exists());
}

#[test]
fn a_name_is_quoted_for_a_shell_that_is_not_there() {
    let site = Site::new();
    let bytes = content("named ", 1000);
    site.file("a.dcm", &bytes);
    for name in ["a b.dcm", "$(id);x.dcm", "it's.dcm", "*.dcm"] {
        let quoted = format!("'/shared/{}'", name.replace('\'', r"'\''"));
        site.partner().scp(&["-O", "a.dcm", &site.partner().remote(&quoted)]).ok();
        assert!(site.partner().list("/shared").contains(&name.to_owned()), "{name}");
    }
    site.partner().scp(&["-O", "a.dcm", &site.partner().remote("/shared/x;id")]).fails();
    site.partner().scp(&["-O", "a.dcm", &site.partner().remote("/shared/$(id)")]).fails();
}

#[test]
fn a_pattern_pulls_what_a_shell_would_have_given() {
    let site = Site::new();
    for name in ["a1.dcm", "a2.dcm", "b.dcm"] {
        let local = site.file(name, name.as_bytes());
        site.partner().put(&local, &format!("/radiology/{name}"));
    }
    let to = site.work().join("matched");
    fs::create_dir(&to).unwrap();
    let inbox = site.recipient(RADIOLOGY).remote("/inbox/partner/a?.dcm");
    site.recipient(RADIOLOGY).scp(&["-O", &inbox, "matched"]).ok();
    let mut names: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a1.dcm", "a2.dcm"]);
    let none = site.recipient(RADIOLOGY).remote("/inbox/partner/z*.dcm");
    site.recipient(RADIOLOGY).scp(&["-O", &none, "matched"]).fails();
}

#[test]
fn pscp_speaks_it_too() {
    if !have("pscp") || !have("puttygen") {
        return;
    }
    let site = Site::new();
    let bytes = content("by pscp ", 300_000);
    site.file("a.dcm", &bytes);
    site.partner()
        .pscp(&["-scp", "-p", "a.dcm", &site.partner().remote("/radiology/a b.dcm").replace(' ', "\\ ")])
        .ok();
    let inbox = site.recipient(RADIOLOGY).remote("/inbox/partner/a\\ b.dcm");
    site.recipient(RADIOLOGY).pscp(&["-scp", &inbox, "pulled"]).ok();
    assert!(fs::read(site.work().join("pulled")).unwrap() == bytes);
}

#[test]
fn what_is_refused_is_said_and_the_rest_goes_on() {
    let site = Site::new();
    site.file("good.dcm", b"good");
    site.file("also.dcm", b"also");
    let said = site.partner().scp(&["-O", "good.dcm", &site.partner().remote("/nowhere/x.dcm")]).fails();
    assert!(said.contains("no such file"), "{said}");
    site.partner().scp(&["-O", "good.dcm", "also.dcm", &site.partner().remote("/radiology/good.dcm")]).fails();
    site.partner().scp(&["-O", "good.dcm", &site.partner().remote("/inbox/x.dcm")]).fails();
    site.partner().scp(&["-O", "good.dcm", "also.dcm", &site.partner().remote("/radiology")]).ok();
    assert_eq!(site.recipient(RADIOLOGY).delivered().len(), 2);
    // A drop is never read back.
    let said = site.partner().scp(&["-O", &site.partner().remote("/radiology/good.dcm"), "stolen"]).fails();
    assert!(said.contains("does not give them back"), "{said}");
    site.partner().scp(&["-O", "-r", &site.partner().remote("/radiology"), "stolen"]).fails();
    assert!(!site.work().join("stolen/good.dcm").exists());
    site.partner().scp(&["-O", &site.partner().remote("/shared"), "folder"]).fails();
    assert!(!site.refusals("/radiology/good.dcm").is_empty());
}

#[test]
fn a_damaged_file_ends_the_command_and_is_never_made_up() {
    let site = Site::new();
    let bytes = content("soon damaged ", 3_000_000);
    let local = site.file("a.dcm", &bytes);
    site.partner().put(&local, "/radiology/a.dcm");
    let sealed = site.on_disk(RADIOLOGY, "/inbox/partner/a.dcm");
    fs::set_permissions(&sealed, fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs::File::options().write(true).open(&sealed).unwrap();
    file.write_all_at(b"damage", 2_500_000).unwrap();
    let inbox = site.recipient(RADIOLOGY).remote("/inbox/partner/a.dcm");
    let said = site.recipient(RADIOLOGY).scp(&["-O", &inbox, "pulled"]).fails();
    assert!(said.contains("this file is damaged"), "{said}");
    let pulled = fs::read(site.work().join("pulled")).unwrap_or_default();
    assert!(pulled.len() < bytes.len() && bytes.starts_with(&pulled), "{} bytes", pulled.len());
    let deadline = Instant::now() + Duration::from_secs(60);
    while site.events_of("corrupt", "/inbox/partner/a.dcm").is_empty() {
        assert!(Instant::now() < deadline, "the damage is on record");
    }
    let said = site.partner().ssh(&["-T"], &["status", "/radiology/a.dcm"]).ok();
    assert!(said.contains("not picked up"), "{said}");
}

/// What stands on the standard input of a client that speaks the protocol itself.
fn raw(site: &Site, command: &str, input: &[u8]) -> crate::run::Ran {
    let mut ssh = Command::new("ssh");
    ssh.args(site.partner().ssh_options()).arg("-T").arg(site.partner().target()).arg(command);
    run(ssh, input)
}

#[test]
fn a_client_that_does_not_wait_is_served_and_one_that_lies_is_not() {
    let site = Site::new();
    let body = content("ahead ", 5_000_000);
    let stream = [b"D0755 0 d\nC0644 5000000 a.dcm\n", &body[..], b"\0C0644 0 b.dcm\n\0E\n"].concat();
    raw(&site, "scp -rt /radiology", &stream).ok();
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/d/a.dcm") == body);
    for (n, wrong) in [
        // Cut in the bytes, before the last word, and with the word that the client could not read its file.
        [b"C0644 1000 cut.dcm\n", &body[..500], b""].concat(),
        [b"C0644 1000 cut.dcm\n", &body[..1000], b""].concat(),
        [b"C0644 1000 cut.dcm\n", &body[..1000], b"\x01scp: cut.dcm: Input/output error\n"].concat(),
        [b"C0644 1000 cut.dcm\n", &body[..1000], b"\x07"].concat(),
        b"C0644 4 ../cut.dcm\nabc\n\0".to_vec(),
        b"C0644 -4 cut.dcm\nabc\n\0".to_vec(),
        b"D0755 0 cut.dcm\n".to_vec(),
        b"E\n".to_vec(),
        b"hello\n".to_vec(),
        vec![b'C'; 100_000],
    ]
    .iter()
    .enumerate()
    {
        let ran = raw(&site, "scp -t /radiology", wrong);
        assert!(!ran.status.success(), "{n}: {}", ran.told());
    }
    assert_eq!(site.recipient(RADIOLOGY).delivered(), ["d"]);
    raw(&site, "scp -dt /radiology/none", b"").fails();
    assert!(site.events_of("upload-committed", "cut.dcm").is_empty());
}

#[test]
fn a_killed_scp_delivers_nothing_and_can_be_continued() {
    let site = Site::new();
    let bytes = content("cut off ", 40_000_000);
    site.file("large.dcm", &bytes);
    let staging = site.on_disk("partner", "/.staging");
    let mut command = Command::new("scp");
    command.args(["-O", "-q", "-l", "80000"]).args(site.partner().ssh_options());
    command.args(["large.dcm", &site.partner().remote("/radiology/large.dcm")]).current_dir(site.work());
    let mut scp = command.spawn().expect("scp starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    let staged = || {
        let parts = fs::read_dir(&staging).into_iter().flatten().flatten();
        parts.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum::<u64>()
    };
    while staged() < 4_000_000 {
        assert!(Instant::now() < deadline && scp.try_wait().unwrap().is_none(), "scp sends");
        std::thread::yield_now();
    }
    kill_hard(u64::from(scp.id()));
    scp.wait().unwrap();
    while site.events_of("upload-abandoned", "/radiology/large.dcm").is_empty() {
        assert!(Instant::now() < deadline, "the server notices");
        std::thread::yield_now();
    }
    assert!(site.recipient(RADIOLOGY).delivered().is_empty());
    assert!(site.events_of("upload-committed", "").is_empty());
    site.partner().sftp("reput large.dcm /radiology/large.dcm").ok();
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/large.dcm") == bytes);
}
