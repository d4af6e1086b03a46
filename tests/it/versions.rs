//! The second file of a name in a drop, in every way that clients have to send one: a newer version whose receipt replaces
//! the older one, with nothing lost; or the same content again, which is receipted and not delivered twice.

use std::fs;

use sealdrop::cli::demo::place::{LAB, RADIOLOGY};
use serde_json::Value;

use crate::site::{Site, content, have, have_python};
use crate::wire::{STAT, Wire, handle, status, string};

const OPEN: u8 = 3;
const CLOSE: u8 = 4;
const WRITE: u8 = 6;
const LSTAT: u8 = 7;
const FSETSTAT: u8 = 10;
const REMOVE: u8 = 13;
const RENAME: u8 = 18;

const WRITE_CREAT: u8 = 0x0a;
const TRUNC: u8 = 0x10;
const EXCL: u8 = 0x20;

/// Where each test sends to.
const PATH: &str = "/radiology/a.dcm";

/// The first version is the longer one: whoever writes in place must not leave its end.
fn first() -> Vec<u8> {
    content("the first version ", 300_000)
}

fn second() -> Vec<u8> {
    content("the second version ", 200_000)
}

/// Receipts the server gave, oldest first.
fn receipts(site: &Site) -> Vec<Value> {
    site.ask(&["receipts"])
}

fn inbox(site: &Site) -> Vec<(String, Vec<u8>)> {
    let radiology = site.recipient(RADIOLOGY);
    radiology
        .delivered()
        .into_iter()
        .map(|name| (name.clone(), radiology.get(&format!("/inbox/partner/{name}"))))
        .collect()
}

fn named(name: &str, bytes: Vec<u8>) -> (String, Vec<u8>) {
    (name.to_owned(), bytes)
}

/// Sends a local file to [`PATH`] as some client does.
type Way<'a> = &'a dyn Fn(&Site, &str);

/// A second version, and then the same once more, in one way.
fn a_version_and_a_duplicate(way: Way<'_>) {
    let site = &Site::new();
    site.partner().put(&site.file("first", &first()), PATH);
    site.file("second", &second());
    way(site, "second");
    let both = [named("a.dcm", second()), named("a.dcm.~1~", first())];
    assert!(inbox(site) == both, "{:?}", site.recipient(RADIOLOGY).delivered());
    let [old, new] = &receipts(site)[..] else { panic!("{:?}", receipts(site)) };
    assert_eq!((&new["replaces"], &new["superseded"]), (&old["id"], &Value::Null));
    assert_eq!(old["superseded_by"], new["id"]);
    let text = site.partner().verified_receipt(PATH);
    assert!(text.contains(&format!("\nreplaces {}\n", old["id"].as_str().unwrap())), "{text}");

    way(site, "second");
    assert!(inbox(site) == both, "{:?}", site.recipient(RADIOLOGY).delivered());
    let all = receipts(site);
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!((&all[2]["duplicate"], &all[2]["drop"]), (&all[1]["id"], &all[1]["drop"]));
    let text = site.partner().verified_receipt(PATH);
    assert!(text.contains(&format!("\nduplicate {}\n", all[1]["id"].as_str().unwrap())), "{text}");
    assert_eq!(site.events_of("upload-committed", "").len(), 2);
    let [event] = &site.events_of("upload-duplicate", PATH)[..] else { panic!("one duplicate") };
    assert_eq!((&event["receipt"], &event["duplicate"]), (&all[2]["id"], &all[1]["id"]));
    assert!(site.partner().list("/radiology").contains(&"a.dcm".to_owned()), "its sender sees it");
    let staged = fs::read_dir(site.on_disk("partner", "/.staging")).unwrap().count();
    assert_eq!(staged, 0, "nothing is left of the upload, and no key");
    assert!(fs::read_dir(site.on_disk("partner", "/.commit")).unwrap().next().is_none());
}

#[test]
fn openssh_puts_over_a_file() {
    a_version_and_a_duplicate(&|site, local| site.partner().put(&site.work().join(local), PATH));
}

#[test]
fn scp_writes_in_place_over_a_longer_file() {
    a_version_and_a_duplicate(&|site, local| {
        drop(site.partner().scp(&["-p", local, &site.partner().remote(PATH)]).ok())
    });
}

#[test]
fn scp_of_old_sends_it_again() {
    a_version_and_a_duplicate(&|site, local| {
        drop(site.partner().scp(&["-O", local, &site.partner().remote(PATH)]).ok())
    });
}

#[test]
fn a_temp_name_is_renamed_over_a_file() {
    a_version_and_a_duplicate(&|site, local| {
        site.partner().sftp(format!("put {local} {PATH}.part\nrename {PATH}.part {PATH}")).ok();
    });
}

#[test]
fn a_file_is_removed_and_a_temp_name_takes_its_place() {
    a_version_and_a_duplicate(&|site, local| {
        site.partner().sftp(format!("put {local} {PATH}.part\nrm {PATH}\nrename -l {PATH}.part {PATH}")).ok();
    });
}

#[test]
fn a_file_is_removed_and_sent_again() {
    a_version_and_a_duplicate(&|site, local| drop(site.partner().sftp(format!("rm {PATH}\nput {local} {PATH}")).ok()));
}

#[test]
fn lftp_puts_with_a_temp_file() {
    if !have("lftp") {
        return;
    }
    a_version_and_a_duplicate(&|site, local| {
        site.partner().lftp(&format!("set xfer:use-temp-file yes; put {local} -o {PATH}")).ok();
    });
}

#[test]
fn rclone_copies_a_changed_file() {
    if !have("rclone") {
        return;
    }
    a_version_and_a_duplicate(&|site, local| {
        site.partner().rclone(&["copyto", "--ignore-times", local, &format!(":sftp:{PATH}")]).ok();
    });
}

#[test]
fn psftp_puts_over_a_file() {
    if !have("psftp") || !have("puttygen") {
        return;
    }
    a_version_and_a_duplicate(&|site, local| drop(site.partner().psftp(&format!("put {local} {PATH}")).ok()));
}

#[test]
fn curl_uploads_over_a_file() {
    if !have("curl") {
        return;
    }
    a_version_and_a_duplicate(&|site, local| drop(site.partner().curl(&["--upload-file", local], PATH).ok()));
}

#[test]
fn sshfs_copies_over_a_file() {
    if !have("sshfs") {
        return;
    }
    a_version_and_a_duplicate(&|site, local| {
        let (from, before) = (site.work().join(local), receipts(site).len());
        site.partner().mounted("/radiology", |at| assert!(fs::copy(&from, at.join("a.dcm")).is_ok()));
        // The kernel does not wait for the last close of a file that it unmounts.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while receipts(site).len() == before {
            assert!(std::time::Instant::now() < deadline, "no receipt in a minute");
        }
    });
}

fn open(path: &str, flags: u8) -> Vec<u8> {
    [string(path.as_bytes()), vec![0, 0, 0, flags, 0, 0, 0, 0]].concat()
}

fn write_all(wire: &mut Wire, held: &[u8], bytes: &[u8]) {
    for (n, piece) in bytes.chunks(32_768).enumerate() {
        let offset = (n as u64 * 32_768).to_be_bytes();
        assert_eq!(status(wire.ask(WRITE, &[held, &offset, &string(piece)].concat())), 0);
    }
}

/// What WinSCP asks for a file of 100 KiB or more, one after the other.
#[test]
fn winscp_sends_under_filepart_and_removes_and_renames() {
    a_version_and_a_duplicate(&|site, local| {
        let mut wire = Wire::open(site.partner());
        let (dest, part) = (string(PATH.as_bytes()), format!("{PATH}.filepart"));
        assert_eq!(wire.ask(LSTAT, &dest).0, 105, "attributes");
        assert_eq!(status(wire.ask(LSTAT, &string(part.as_bytes()))), 2, "no such file");
        let held = handle(wire.ask(OPEN, &open(&part, WRITE_CREAT | TRUNC)));
        write_all(&mut wire, &held, &fs::read(site.work().join(local)).unwrap());
        assert_eq!(status(wire.ask(CLOSE, &held)), 0);
        assert_eq!(status(wire.ask(REMOVE, &dest)), 0);
        assert_eq!(status(wire.ask(RENAME, &[string(part.as_bytes()), dest.clone()].concat())), 0);
        let times =
            [&dest[..], &[0, 0, 0, 8], &1_700_000_000_u32.to_be_bytes(), &1_700_000_000_u32.to_be_bytes()].concat();
        assert_eq!(status(wire.ask(9, &times)), 0, "SETSTAT");
        assert_eq!(wire.ask(STAT, &dest).0, 105);
    });
}

/// What WinSCP asks for a smaller file: it tries to make it, looks, and, told to overwrite, cuts it.
#[test]
fn winscp_probes_with_excl_and_then_overwrites() {
    a_version_and_a_duplicate(&|site, local| {
        let before = site.snapshot("jails");
        let mut wire = Wire::open(site.partner());
        let (kind, said) = wire.ask(OPEN, &open(PATH, WRITE_CREAT | EXCL));
        assert!(kind == 101 && said[..4] == [0, 0, 0, 4], "FAILURE: {said:?}");
        assert!(crate::site::contains(&said, b"already there"), "{}", String::from_utf8_lossy(&said));
        assert!(site.snapshot("jails") == before, "the probe leaves nothing and takes nothing");
        assert_eq!(wire.ask(LSTAT, &string(PATH.as_bytes())).0, 105);
        let held = handle(wire.ask(OPEN, &open(PATH, WRITE_CREAT | TRUNC)));
        write_all(&mut wire, &held, &fs::read(site.work().join(local)).unwrap());
        assert_eq!(status(wire.ask(CLOSE, &held)), 0);
    });
}

/// An older scp, and others that write in place: no TRUNC, and the length is said at the end.
#[test]
fn a_file_written_in_place_ends_where_its_client_says() {
    a_version_and_a_duplicate(&|site, local| {
        let mut wire = Wire::open(site.partner());
        let held = handle(wire.ask(OPEN, &open(PATH, WRITE_CREAT)));
        let bytes = fs::read(site.work().join(local)).unwrap();
        write_all(&mut wire, &held, &bytes);
        let size = [&held[..], &[0, 0, 0, 1], &(bytes.len() as u64).to_be_bytes()].concat();
        assert_eq!(status(wire.ask(FSETSTAT, &size)), 0);
        assert_eq!(status(wire.ask(CLOSE, &held)), 0);
    });
}

/// Cyberduck's temp names are like any other: what comes under one is delivered, and renamed.
#[test]
fn a_rename_to_where_a_file_was_removed_is_a_newer_version() {
    let site = Site::new();
    site.partner().put(&site.file("first", &first()), PATH);
    site.partner().put(&site.file("second", &second()), "/radiology/a-1f3e.dcm");
    site.partner().sftp(format!("rm {PATH}\nrename /radiology/a-1f3e.dcm {PATH}")).ok();
    let [old, new] = &receipts(&site)[..] else { panic!("two receipts") };
    assert_eq!((&old["superseded_by"], &new["superseded"]), (&new["id"], &Value::Null));
    assert_eq!(site.events_of("renamed", "")[0]["replaces"], old["id"]);
    let said = site.partner().ssh(&["-T"], &["receipt", "/radiology/a-1f3e.dcm"]).ok();
    assert!(said.contains(new["id"].as_str().unwrap()));
    assert!(inbox(&site) == [named("a.dcm", second()), named("a.dcm.~1~", first())]);
    site.partner().sftp(format!("rename {PATH} /radiology/other.dcm")).ok();
    site.partner().put(&site.file("third", b"third"), PATH);
    assert_eq!(receipts(&site)[2]["replaces"], Value::Null);
    let said = site.partner().ssh(&["-T"], &["receipt", "/radiology/other.dcm"]).ok();
    assert!(said.contains(new["id"].as_str().unwrap()), "by the name it has now: {said}");
}

#[test]
fn a_rename_over_a_delivered_file_is_a_newer_version() {
    let site = Site::new();
    site.partner().put(&site.file("first", &first()), PATH);
    site.partner().put(&site.file("second", &second()), "/radiology/a.dcm.uploading");
    site.partner().sftp(format!("rename -l /radiology/a.dcm.uploading {PATH}")).fails();
    site.partner().sftp(format!("rename /radiology/a.dcm.uploading {PATH}")).ok();
    assert!(inbox(&site) == [named("a.dcm", second()), named("a.dcm.~1~", first())]);
    assert_eq!(site.partner().list("/radiology"), ["a.dcm", "a.dcm.~1~"]);
    let [old, new] = &receipts(&site)[..] else { panic!("two receipts") };
    assert_eq!(old["superseded_by"], new["id"]);
    // Back again: neither is superseded by what it has superseded, and what was read keeps the name it was read under.
    site.partner().sftp(format!("rename {PATH}.~1~ {PATH}")).ok();
    assert!(inbox(&site) == [named("a.dcm", second()), named("a.dcm.~1~", first())]);
    assert_eq!(receipts(&site), [old.clone(), new.clone()]);
    site.partner().put(&site.file("third", b"third"), PATH);
    site.partner().put(&site.file("third", b"third"), PATH);
    assert_eq!(site.events_of("upload-duplicate", PATH).len(), 1);
    assert_eq!(receipts(&site)[2]["replaces"], Value::Null, "what stood there is superseded already");
    change_policy(&site, "path = \"/radiology\"", "path = \"/radiology\"\noverwrite = \"refuse\"");
    site.partner().sftp(format!("rename /radiology/a.dcm.~2~ {PATH}")).fails();
    site.age();
    assert!(site.partner().list("/radiology").is_empty() && site.recipient(RADIOLOGY).delivered().is_empty());
}

#[test]
fn a_rename_to_the_name_it_has_changes_nothing() {
    let site = Site::new();
    let local = site.file("first", &first());
    for path in [PATH, "/shared/a.bin"] {
        site.partner().put(&local, path);
        let before = site.snapshot("jails");
        site.partner().sftp(format!("rename {path} {path}")).ok();
        site.partner().sftp(format!("rename -l {path} {path}")).fails();
        assert!(site.snapshot("jails") == before, "{path}");
    }
    assert_eq!(site.partner().get("/shared/a.bin"), first());
    assert!(site.ask(&["drops"]).iter().all(|drop| drop["state"] == "live"));
}

/// rclone from 1.63 on: a time and a look under the temp name, then one of two ways to the final one.
#[test]
fn newer_rclones_send_under_partial_and_look_before_they_rename() {
    if !have_python("paramiko") {
        return;
    }
    for to_final in ["sftp.posix_rename(part, dest)", "sftp.remove(dest); sftp.rename(part, dest)"] {
        a_version_and_a_duplicate(&|site, local| {
            let script = format!(
                "part, dest = '{PATH}.1a2b3c4d.partial', '{PATH}'\n\
                 data = open({local:?}, 'rb').read()\n\
                 f = sftp.open(part, 'w'); f.write(data); f.close()\n\
                 sftp.utime(part, (1700000000, 1700000000))\n\
                 assert sftp.stat(part).st_size == len(data)\n\
                 {to_final}\n\
                 assert sftp.stat(dest).st_size == len(data)"
            );
            site.partner().paramiko(&script).ok();
        });
    }
}

#[test]
fn an_ordinary_users_server_gives_a_name_back_too() {
    let site = Site::unprivileged();
    let local = site.file("first", &first());
    site.partner().put(&local, PATH);
    site.partner().sftp(format!("rm {PATH}")).ok();
    site.partner().put(&local, PATH);
    assert!(site.partner().verified_receipt(PATH).contains("\nduplicate "));
    assert!(site.on_disk("partner", PATH).exists());
    site.assert_private();
}

#[test]
fn a_rename_over_a_shared_file_supersedes_its_receipt() {
    let site = Site::new();
    site.partner().put(&site.file("first", &first()), "/shared/a.bin");
    site.partner().put(&site.file("second", &second()), "/shared/b.bin");
    site.partner().sftp("rename /shared/b.bin /shared/a.bin").ok();
    assert_eq!(site.partner().get("/shared/a.bin"), second());
    let [old, new] = &receipts(&site)[..] else { panic!("two receipts") };
    assert_eq!(old["superseded_by"], new["id"]);
    assert_eq!(site.partner().list("/shared"), ["a.bin"]);
}

#[test]
fn every_receipt_of_a_path_stays_under_its_number() {
    let site = Site::new();
    for n in 1..=4 {
        site.partner().put(&site.file("a", format!("version {n}").as_bytes()), PATH);
        if n == 2 {
            site.partner().put(&site.file("a", b"version 2"), PATH);
        }
        if n == 3 {
            site.partner().sftp(format!("rm {PATH}")).ok();
        }
    }
    let all = receipts(&site);
    assert_eq!(all.len(), 5);
    for (n, receipt) in all.iter().enumerate() {
        let at = if n == 4 { PATH.to_owned() } else { format!("{PATH}.~{}~", n + 1) };
        let text = site.partner().verified_receipt(&at);
        assert!(text.contains(&format!("\nreceipt {}\n", receipt["id"].as_str().unwrap())), "{at}: {text}");
        assert!(text.contains(&format!("\npath {PATH}\n")), "{at}: {text}");
        assert_eq!(receipt["superseded"].is_null(), n == 4, "{receipt}");
    }
    // A duplicate's receipt is superseded with the one it repeats.
    assert_eq!(all[1]["superseded_by"], all[3]["id"]);
    assert_eq!(all[2]["superseded_by"], all[3]["id"]);
    let listed = site.partner().list("/receipts/radiology");
    assert_eq!(listed.len(), 5 * 4, "{listed:?}");
    assert_eq!(site.partner().list("/radiology"), ["a.dcm", "a.dcm.~1~", "a.dcm.~2~"]);
    let drops = site.ask(&["drops"]);
    assert_eq!(drops.iter().filter(|drop| drop["superseded"].is_null()).count(), 1, "{drops:?}");
    assert!(drops.iter().all(|drop| drop["state"] == "live"), "each is with its recipient: {drops:?}");
    assert!(site.sealdrop(&["receipts"]).ok().contains("superseded"));
    assert!(site.sealdrop(&["drops"]).ok().contains("SUPERSEDED"));
}

#[test]
fn a_sender_hears_of_a_version_by_which_receipt_it_is_superseded() {
    let site = Site::new();
    site.partner().put(&site.file("first", &first()), PATH);
    site.partner().put(&site.file("second", &second()), PATH);
    let status = |user: &'static str, path: &str| site.recipient(user).ssh(&["-T"], &["status", path]).ok();
    let new = &receipts(&site)[1];
    let said = status("partner", "/radiology/a.dcm.~1~");
    assert!(said.contains("state      delivered") && said.contains("superseded 20"), "{said}");
    assert!(said.contains(&format!("by receipt {}", new["id"].as_str().unwrap())), "{said}");
    assert!(!status("partner", PATH).contains("superseded"));
    let said = status(RADIOLOGY, "/inbox/partner/a.dcm.~1~");
    assert!(said.contains("superseded 20") && !said.contains("receipt"), "{said}");
    site.partner().sftp("get /receipts/radiology/a.dcm.receipt\nget /receipts/radiology/a.dcm.receipt.sig").ok();
    let signers = site.place().allowed_signers().display().to_string();
    let receipt = site.work().join("a.dcm.receipt").display().to_string();
    let mut verify = std::process::Command::new(crate::site::SEALDROP);
    verify.args(["verify", "--receipt", &receipt, "--signers", &signers]).arg(site.work().join("second"));
    assert!(crate::run::run(verify, b"").ok().contains("it replaces receipt"));
}

#[test]
fn what_a_recipient_has_no_more_is_delivered_again() {
    let site = Site::new();
    let local = site.file("first", &first());
    site.partner().put(&local, PATH);
    assert_eq!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm"), first());
    site.partner().put(&local, PATH);
    assert_eq!(site.recipient(RADIOLOGY).delivered(), ["a.dcm"], "it has it still, though it has read it");
    site.recipient(RADIOLOGY).sftp("rm /inbox/partner/a.dcm").ok();
    site.partner().put(&local, PATH);
    assert!(inbox(&site) == [named("a.dcm", first())]);
    assert_eq!(site.events_of("upload-committed", "").len(), 2);
    assert_eq!(site.events_of("upload-duplicate", "").len(), 1);
    // A file that somebody took away behind the server's back is no delivery either.
    fs::remove_file(site.on_disk(RADIOLOGY, "/inbox/partner/a.dcm")).unwrap();
    site.partner().put(&local, PATH);
    assert!(inbox(&site) == [named("a.dcm", first())]);
}

/// The demo's partner with its policy changed, as an operator does while the server runs.
fn change_policy(site: &Site, from: &str, to: &str) {
    let policy = fs::read_to_string(site.place().policy("partner")).unwrap();
    assert!(policy.contains(from), "{policy}");
    fs::write(site.place().policy("partner"), policy.replace(from, to)).unwrap();
    site.sealdrop(&["reload"]).ok();
}

#[test]
fn another_recipient_or_another_time_is_another_delivery() {
    let site = Site::new();
    let local = site.file("first", &first());
    site.partner().put(&local, PATH);
    for (from, to, again) in [
        ("to = [\"radiology\"]", "to = [\"radiology\", \"lab\"]", true),
        // What is there would end long before or long after what is sent now.
        ("\"72h\"", "\"145h\"", true),
        ("\"145h\"", "\"140h\"", true),
        ("\"140h\"", "\"141h\"", false),
        ("\"141h\"", "\"never\"", true),
        ("\"never\"", "\"never\"\nmax_size = \"1 GiB\"", false),
    ] {
        let before = site.events_of("upload-committed", "").len();
        change_policy(&site, from, to);
        site.partner().put(&local, PATH);
        let now = site.events_of("upload-committed", "").len();
        assert_eq!(now, before + usize::from(again), "{from} → {to}");
    }
    assert!(site.recipient(LAB).delivered().contains(&"a.dcm.sealed".to_owned()));
    change_policy(&site, "\"never\"", "\"72h\"");
    site.partner().put(&local, "/lab/b.dcm");
    let before = site.events_of("upload-duplicate", "").len();
    site.age();
    site.partner().put(&local, "/lab/b.dcm");
    assert_eq!(site.events_of("upload-duplicate", "").len(), before, "what has expired is over");
    assert_eq!(receipts(&site).last().unwrap()["replaces"], Value::Null, "and its receipt with it");
}

#[test]
fn a_duplicate_uses_up_nothing() {
    let site = Site::new();
    change_policy(&site, "[[folder]]\npath = \"/radiology\"", "[limits]\nfiles = 3\n[[folder]]\npath = \"/radiology\"");
    let local = site.file("first", &first());
    for _ in 0..4 {
        site.partner().put(&local, PATH);
    }
    site.partner().put(&local, "/radiology/b.dcm");
    site.partner().put(&local, "/radiology/c.dcm");
    site.partner().sftp(format!("put {} /radiology/d.dcm", local.display())).fails();
    assert_eq!(site.status()["drops"], 3);
    let mut told = site.partner().list("/receipts/radiology");
    told.retain(|name| !name.ends_with(".rejected"));
    assert_eq!(told.len(), 4 * 6);
    // What was removed by its sender and came again is its sender's again, and ends with the rest.
    site.partner().sftp(format!("rm {PATH}")).ok();
    change_policy(&site, "files = 3", "files = 4");
    site.partner().put(&local, PATH);
    site.partner().ssh(&["-T"], &["sha256sum", PATH]).ok();
    assert_eq!(site.status()["drops"], 3);
    site.age();
    assert!(site.partner().list("/radiology").is_empty() && site.recipient(RADIOLOGY).delivered().is_empty());
    assert_eq!(site.status()["drops"], 0);
}

#[test]
fn a_shared_folder_knows_no_duplicates() {
    let site = Site::new();
    let local = site.file("first", &first());
    for _ in 0..2 {
        site.partner().put(&local, "/shared/a.bin");
    }
    assert!(site.events_of("upload-duplicate", "").is_empty());
    let [old, new] = &receipts(&site)[..] else { panic!("two receipts") };
    assert_eq!((&new["replaces"], &old["superseded_by"]), (&old["id"], &new["id"]));
    assert_eq!(site.partner().list("/shared"), ["a.bin"]);
    assert_eq!(site.partner().list("/receipts/shared").len(), 4, "of each save the last");
}

#[test]
fn a_folder_that_refuses_a_second_file_takes_a_retry_of_what_its_sender_removed() {
    if !have_python("paramiko") {
        return;
    }
    let site = Site::new();
    change_policy(&site, "path = \"/radiology\"", "path = \"/radiology\"\noverwrite = \"refuse\"");
    let local = site.file("first", &first());
    site.partner().put(&local, PATH);
    let before = site.snapshot("jails");
    // At OPEN it is not known yet what comes.
    for name in ["first", "second"] {
        site.file("second", &second());
        site.partner().sftp(format!("put {name} {PATH}")).fails();
        site.partner().paramiko(&format!("sftp.open({PATH:?}, 'wx')")).fails();
    }
    assert!(site.snapshot("jails") == before);
    site.partner().sftp(format!("rm {PATH}\nput first {PATH}")).ok();
    assert_eq!(site.events_of("upload-duplicate", PATH).len(), 1);
    assert!(inbox(&site) == [named("a.dcm", first())]);
    assert!(site.snapshot("jails") == before, "as if it had not been removed");
}
