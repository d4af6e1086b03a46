//! Reads that never lie: whatever somebody or a bad disk did to a file, its reader gets a failure and never a wrong byte, and
//! the audit log says which drop it was, where, and what is wrong with it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sealdrop::cli::demo::place::{LAB, RADIOLOGY};
use serde_json::Value;

use crate::site::{Site, content, have};
use crate::wire::{Wire, handle, string};

const HEADER: usize = 8192;
const RECORD: usize = 65_568;
const CHUNK: usize = 65_536;
/// Eleven records, the last of them short.
const SIZE: usize = 10 * CHUNK + 44_640;

/// Changes the bytes of a delivered file in place: every name of it sees that.
fn spoil(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    let mode = fs::metadata(path).unwrap().permissions();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut file = fs::OpenOptions::new().write(true).truncate(true).open(path).unwrap();
    file.write_all(&bytes).unwrap();
    fs::set_permissions(path, mode).unwrap();
}

fn flip(at: usize) -> impl Fn(&mut Vec<u8>) {
    move |bytes| bytes[at] ^= 1
}

fn flip_from_end(back: usize) -> impl Fn(&mut Vec<u8>) {
    move |bytes| {
        let at = bytes.len() - back;
        bytes[at] ^= 1;
    }
}

fn swap_records(bytes: &mut [u8]) {
    let (two, three) = (HEADER + 2 * RECORD, HEADER + 3 * RECORD);
    let second = bytes[two..three].to_vec();
    bytes.copy_within(three..three + RECORD, two);
    bytes[three..three + RECORD].copy_from_slice(&second);
}

fn drop_of(site: &Site, path: &str) -> Value {
    site.events_of("upload-committed", path)[0]["drop"].clone()
}

/// The one entry for this name, which tells the drop.
fn told(site: &Site, name: &str) -> String {
    let events = site.events_of("corrupt", &format!("/{name}"));
    assert!(!events.is_empty(), "{name}: nothing is in the log");
    for event in &events {
        assert_eq!(event["drop"], drop_of(site, &format!("/{name}")), "{name}");
        assert_eq!(event["outcome"], "failed", "{name}");
    }
    events[0]["why"].as_str().unwrap_or_default().to_owned()
}

/// What there is of `local` is of the original, or nothing: a client that reads ahead leaves holes.
fn is_of(local: &Path, original: &[u8]) {
    let Ok(bytes) = fs::read(local) else { return };
    assert!(bytes.len() <= original.len(), "{}", local.display());
    for (at, (got, right)) in bytes.chunks(4096).zip(original.chunks(4096)).enumerate() {
        let hole = got.iter().all(|byte| *byte == 0);
        assert!(hole || *got == right[..got.len()], "a wrong byte after {} in {}", at * 4096, local.display());
    }
}

#[test]
fn whatever_is_changed_on_disk_is_a_failure_and_named_in_the_audit_log() {
    type Change = Box<dyn Fn(&mut Vec<u8>)>;
    let site = Site::new();
    let bytes = content("for radiology ", SIZE);
    let other = site.file("other", &content("something else ", SIZE));
    site.partner().put(&other, "/radiology/other.dcm");
    let other = fs::read(site.on_disk(RADIOLOGY, "/inbox/partner/other.dcm")).unwrap();
    let other_record = other[HEADER..HEADER + RECORD].to_vec();
    let end = HEADER + 10 * RECORD + 44_640 + 32;
    let cases: Vec<(&str, Change, &str)> = vec![
        ("ciphertext", Box::new(flip(HEADER + 5 * RECORD + 999)), "record 5 "),
        ("generation", Box::new(flip(HEADER + 3)), "record 0 "),
        ("nonce", Box::new(flip(HEADER + 6)), "record 0 "),
        ("last-tag", Box::new(flip(end - 1)), "record 10 "),
        ("swapped", Box::new(|bytes| swap_records(bytes)), "record 2 "),
        (
            "foreign-record",
            Box::new(move |bytes| bytes[HEADER..HEADER + RECORD].copy_from_slice(&other_record)),
            "record 0 ",
        ),
        ("trailer", Box::new(flip(end + 20)), "damaged"),
        ("footer-size", Box::new(flip_from_end(25)), ""),
        ("footer-zero", Box::new(flip_from_end(15)), ""),
        ("footer-magic", Box::new(flip_from_end(1)), ""),
        ("magic", Box::new(flip(0)), "its head"),
        ("file-id", Box::new(flip(20)), "another file"),
        ("salt", Box::new(flip(40)), "its envelope"),
        ("commitment", Box::new(flip(70)), "its envelope"),
        ("envelope-length", Box::new(flip(99)), "its envelope"),
        ("shred-wrap", Box::new(flip(140)), "its envelope"),
        ("padding", Box::new(flip(HEADER - 1)), "its envelope"),
        ("cut-at-a-record", Box::new(|bytes| bytes.truncate(HEADER + 4 * RECORD)), ""),
        ("cut-by-one", Box::new(|bytes| bytes.truncate(bytes.len() - 1)), ""),
        ("cut-short", Box::new(|bytes| bytes.truncate(100)), "shorter"),
        ("emptied", Box::new(Vec::clear), "shorter"),
        ("longer", Box::new(|bytes| bytes.push(0)), ""),
        ("anothers", Box::new(move |bytes| bytes.clone_from(&other)), "another file"),
    ];
    let local = site.file("a.dcm", &bytes);
    let puts: Vec<String> =
        cases.iter().map(|(name, ..)| format!("put {} /radiology/{name}", local.display())).collect();
    site.partner().sftp(puts.join("\n")).ok();
    for (name, change, _) in &cases {
        spoil(&site.on_disk(RADIOLOGY, &format!("/inbox/partner/{name}")), change);
    }
    // One of them at a time fails, whatever the others do.
    let gets: Vec<String> = cases.iter().map(|(name, ..)| format!("-get /inbox/partner/{name} got-{name}")).collect();
    let ran = site.recipient(RADIOLOGY).sftp(gets.join("\n"));
    for (name, ..) in &cases {
        let got = site.work().join(format!("got-{name}"));
        is_of(&got, &bytes);
        assert!(!fs::read(&got).is_ok_and(|got| got == bytes), "{name} was given out whole\n{}", ran.told());
    }
    site.wait_for_event("corrupt", cases.len());
    for (name, _, what) in &cases {
        let why = told(&site, name);
        assert!(why.contains(what), "{name}: {why}");
    }
}

#[test]
fn what_is_good_of_a_damaged_file_is_given_to_every_client_and_the_rest_to_none() {
    let site = Site::new();
    let bytes = content("for radiology ", SIZE);
    site.partner().put(&site.file("a.dcm", &bytes), "/radiology/a.dcm");
    spoil(&site.on_disk(RADIOLOGY, "/inbox/partner/a.dcm"), flip(HEADER + 5 * RECORD + 999));
    let (bad, after) = (5 * CHUNK, 6 * CHUNK);
    let reader = site.recipient(RADIOLOGY);

    let held = site.file("held", &bytes[..200_000]);
    reader.sftp("reget /inbox/partner/a.dcm held").fails();
    let held = fs::read(held).unwrap();
    assert!(held.len() >= 200_000 && held[..200_000] == bytes[..200_000]);
    is_of(&site.work().join("held"), &bytes);

    reader.scp(&[&reader.remote("/inbox/partner/a.dcm"), "by-scp"]).fails();
    is_of(&site.work().join("by-scp"), &bytes);
    reader.scp(&["-O", &reader.remote("/inbox/partner/a.dcm"), "by-old-scp"]).fails();
    is_of(&site.work().join("by-old-scp"), &bytes);

    if have("rclone") {
        let cat = |offset: usize, count: usize| {
            let words = [format!("--offset={offset}"), format!("--count={count}")];
            reader.rclone(&["cat", &words[0], &words[1], ":sftp:/inbox/partner/a.dcm"])
        };
        for (offset, count) in [(0, 1000), (bad - 40_000, 500), (after, 500), (after + 70_000, 100_000)] {
            let ran = cat(offset, count);
            assert!(ran.stdout == bytes[offset..offset + count], "{offset}: {}", ran.told());
        }
        for (offset, count) in [(bad, 1), (after - 1, 1)] {
            let ran = cat(offset, count);
            assert!(ran.stdout.is_empty(), "{offset}");
            ran.fails();
        }
    }
    if have("sshfs") && have("fusermount3") {
        reader.mounted("/inbox", |at| {
            let file = fs::File::open(at.join("partner/a.dcm")).unwrap();
            let mut piece = vec![0; 4096];
            for offset in [0, bad - 4096, after, SIZE - 4096] {
                file.read_exact_at(&mut piece, offset as u64).unwrap();
                assert!(piece == bytes[offset..offset + 4096], "{offset}");
            }
            assert!(file.read_exact_at(&mut piece, bad as u64 + 10_000).is_err());
        });
    }
    told(&site, "a.dcm");
}

#[test]
fn a_sealed_recipients_file_is_whole_and_its_own_or_not_given_out() {
    let site = Site::new();
    let bytes = content("for the lab ", 200_000);
    let local = site.file("a.dcm", &bytes);
    let names = ["cut", "longer", "footer", "anothers", "record"];
    for name in names {
        site.partner().put(&local, &format!("/lab/{name}"));
    }
    site.partner().put(&site.file("other", &content("something else ", 200_000)), "/lab/other");
    let at = |name: &str| site.on_disk(LAB, &format!("/inbox/partner/{name}"));
    let other = fs::read(at("other")).unwrap();
    spoil(&at("cut"), |bytes| bytes.truncate(bytes.len() - 1));
    spoil(&at("longer"), |bytes| bytes.push(0));
    spoil(&at("footer"), flip_from_end(25));
    spoil(&at("anothers"), |bytes| bytes.clone_from(&other));
    spoil(&at("record"), flip(HEADER + RECORD + 100));
    for name in &names[..4] {
        site.recipient(LAB).sftp(format!("get /inbox/partner/{name}.sealed got")).fails();
        assert!(fs::read(site.work().join("got")).unwrap_or_default().is_empty(), "{name}");
        told(&site, name);
    }
    // What is within its records only its recipient can see, and does.
    site.file("got", &site.recipient(LAB).get("/inbox/partner/record.sealed"));
    site.recipient(LAB).open_offline("got", "opened").fails();
}

#[test]
fn a_damaged_shared_file_is_not_mended_by_writing_into_it() {
    let site = Site::new();
    let bytes = content("shared ", SIZE);
    site.partner().put(&site.file("a", &bytes), "/shared/a");
    let disk = site.on_disk("partner", "/shared/a");
    spoil(&disk, flip(HEADER + 5 * RECORD + 999));
    let before = fs::read(&disk).unwrap();
    let mut wire = Wire::open(site.partner());
    // To write, and not to cut.
    let file = handle(wire.ask(3, &[&string(b"/shared/a")[..], &[0, 0, 0, 2], &[0; 4]].concat()));
    wire.ask(6, &[&file[..], &[0; 8], &string(b"a new beginning")].concat());
    let closed = crate::wire::status(wire.ask(4, &file));
    assert_ne!(closed, 0);
    assert!(fs::read(&disk).unwrap() == before, "the older version still stands");
    site.wait_for_event("corrupt", 1);
    assert!(told(&site, "a").contains("record 5"));
}

/// `SEALDROP_TEST_HUGE=10737418240` reads in a file of so many bytes; else it is just larger than a region of records.
#[test]
fn reads_anywhere_in_a_huge_file_by_several_readers_are_right() {
    let site = Site::new();
    let size = std::env::var("SEALDROP_TEST_HUGE").ok().and_then(|size| size.parse().ok());
    let size: u64 = size.unwrap_or((257 << 20) + 12_345);
    let local = Huge::make(&site, size);
    site.partner().put(&local, "/radiology/huge.dcm");
    fs::remove_file(&local).unwrap();
    let region = 256 << 20;
    std::thread::scope(|scope| {
        for reader in 0..3u64 {
            let site = &site;
            scope.spawn(move || {
                let mut wire = Wire::open(site.recipient(RADIOLOGY));
                let path = string(b"/inbox/partner/huge.dcm");
                let file = handle(wire.ask(3, &[&path[..], &[0, 0, 0, 1], &[0; 4]].concat()));
                let mut at = 0x9e37_79b9 * (reader + 1);
                for n in 0..120u64 {
                    at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let offset = match n % 4 {
                        // Across the border of two regions, and at the very end.
                        0 => region - 65_536 + at % 65_536,
                        1 => size - at % 100_000,
                        _ => (at >> 20) % size,
                    };
                    let len = 65_536.min(size - offset) as usize;
                    let fields = [&file[..], &offset.to_be_bytes(), &65_536u32.to_be_bytes()].concat();
                    let (kind, data) = wire.ask(5, &fields);
                    assert_eq!(kind, 103, "{offset}");
                    assert!(data[4..] == Huge::bytes(offset, len), "{len} bytes at {offset}");
                }
            });
        }
    });
    assert!(site.events_of("corrupt", "").is_empty());
}

/// A file any piece of which can be told by its offset.
struct Huge;

impl Huge {
    fn make(site: &Site, size: u64) -> PathBuf {
        let path = site.work().join("huge");
        let mut file = fs::File::create(&path).unwrap();
        let mut at = 0;
        while at < size {
            let len = (1 << 20).min(size - at);
            file.write_all(&Self::bytes(at, len as usize)).unwrap();
            at += len;
        }
        path
    }

    /// Blocks of 512 bytes, each of which is its number over and over.
    fn bytes(offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 1024);
        let first = offset / 512;
        while bytes.len() < len + 512 {
            let number = first + bytes.len() as u64 / 512;
            bytes.extend_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().repeat(64));
        }
        let skip = (offset % 512) as usize;
        bytes[skip..skip + len].to_vec()
    }
}
