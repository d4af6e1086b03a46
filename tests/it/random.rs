//! Writing in any order, anywhere and at the same time: what comes out is what a file system would have, the digest in the
//! receipt is of that, and memory is bounded. The same requests go to OpenSSH's own server, and are answered alike.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use sealdrop::cli::demo::place::RADIOLOGY;
use sealdrop::names::hex;
use sha2::{Digest, Sha256};

use crate::limits::peak;
use crate::reference::Reference;
use crate::run::Ran;
use crate::site::{Site, children, content, have, have_node, have_python};
use crate::user::User;
use crate::wire::{Wire, handle, status, string};

const OPEN: u8 = 3;
const CLOSE: u8 = 4;
const READ: u8 = 5;
const WRITE: u8 = 6;
const FSTAT: u8 = 8;
const SETSTAT: u8 = 9;
const FSETSTAT: u8 = 10;
const DATA: u8 = 103;
const ATTRS: u8 = 105;

/// READ, WRITE and CREAT.
const TO_WORK_IN: u32 = 0x01 | 0x02 | 0x08;

/// A dozen records.
const LEN_MAX: u64 = 800_000;
/// Longer than half a record, so that some pieces lie in two.
const PIECE_MAX: u64 = 50_000;

/// What a session may use for an upload that comes in any order; docs/sftp.md has its parts.
const SESSION_KIB: u64 = 64 * 1024;

/// Numbers that look random and are the same each time (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        let start = self.below(u64::MAX).to_be_bytes();
        (0..len).map(|n| start[(n % 8) as usize] ^ (n >> 3) as u8).collect()
    }
}

/// One step of somebody who works in a file.
#[derive(Debug)]
enum Step {
    Write(u64, Vec<u8>),
    Read(u64, u32),
    SetLen(u64),
    Len,
    /// Closed, and its length set by its path.
    SetLenClosed(u64),
    Reopen,
}

fn step(numbers: &mut Numbers, len: u64) -> Step {
    match numbers.below(100) {
        0..45 => {
            let (offset, size) = (numbers.below(LEN_MAX - PIECE_MAX), 1 + numbers.below(PIECE_MAX));
            Step::Write(offset, numbers.bytes(size))
        }
        45..80 => Step::Read(numbers.below(len + 1000), 1 + numbers.below(PIECE_MAX) as u32),
        80..88 => Step::SetLen(numbers.below(LEN_MAX)),
        88..95 => Step::Len,
        95 => Step::SetLenClosed(numbers.below(LEN_MAX)),
        _ => Step::Reopen,
    }
}

/// One file, open on one server.
struct Worker<'a> {
    wire: Wire,
    path: &'a str,
    held: Vec<u8>,
}

impl<'a> Worker<'a> {
    fn new(user: User<'_>, path: &'a str) -> Self {
        let mut wire = Wire::open(user);
        let held = open(&mut wire, path);
        Self { wire, path, held }
    }

    /// The answer, as far as both servers have to give the same one.
    fn does(&mut self, step: &Step) -> String {
        let held = self.held.clone();
        match step {
            Step::Write(offset, data) => {
                let fields = [&held[..], &offset.to_be_bytes(), &string(data)].concat();
                format!("status {}", status(self.wire.ask(WRITE, &fields)))
            }
            Step::Read(offset, len) => {
                match self.wire.ask(READ, &[&held[..], &offset.to_be_bytes(), &len.to_be_bytes()].concat()) {
                    (DATA, fields) => format!("data {}", told(&fields[4..])),
                    other => format!("status {}", status(other)),
                }
            }
            Step::SetLen(len) => {
                let fields = [&held[..], &[0, 0, 0, 1], &len.to_be_bytes()].concat();
                format!("status {}", status(self.wire.ask(FSETSTAT, &fields)))
            }
            Step::Len => match self.wire.ask(FSTAT, &held) {
                (ATTRS, fields) => format!("{} bytes", u64::from_be_bytes(fields[4..12].try_into().expect("a size"))),
                other => format!("status {}", status(other)),
            },
            Step::SetLenClosed(len) => {
                let closed = status(self.wire.ask(CLOSE, &held));
                let fields = [&string(self.path.as_bytes())[..], &[0, 0, 0, 1], &len.to_be_bytes()].concat();
                let set = status(self.wire.ask(SETSTAT, &fields));
                self.held = open(&mut self.wire, self.path);
                format!("closed {closed}, set {set}")
            }
            Step::Reopen => {
                let closed = status(self.wire.ask(CLOSE, &held));
                self.held = open(&mut self.wire, self.path);
                format!("closed {closed}")
            }
        }
    }
}

fn open(wire: &mut Wire, path: &str) -> Vec<u8> {
    handle(wire.ask(OPEN, &[&string(path.as_bytes())[..], &TO_WORK_IN.to_be_bytes(), &[0; 4]].concat()))
}

fn told(bytes: &[u8]) -> String {
    format!("{} bytes {}", bytes.len(), &hex(&Sha256::digest(bytes))[..16])
}

/// What a file system would have answered, and has then.
fn model(file: &mut Vec<u8>, step: &Step) -> String {
    match step {
        Step::Write(offset, data) => {
            let (from, to) = (*offset as usize, *offset as usize + data.len());
            file.resize(file.len().max(to), 0);
            file[from..to].copy_from_slice(data);
            "status 0".to_owned()
        }
        Step::Read(offset, _) if *offset >= file.len() as u64 => "status 1".to_owned(),
        Step::Read(offset, len) => {
            let (from, to) = (*offset as usize, (*offset as usize + *len as usize).min(file.len()));
            format!("data {}", told(&file[from..to]))
        }
        Step::SetLen(len) => {
            file.resize(*len as usize, 0);
            "status 0".to_owned()
        }
        Step::Len => format!("{} bytes", file.len()),
        Step::SetLenClosed(len) => {
            file.resize(*len as usize, 0);
            "closed 0, set 0".to_owned()
        }
        Step::Reopen => "closed 0".to_owned(),
    }
}

#[test]
fn random_steps_in_a_shared_file_are_as_on_a_file_system_and_with_openssh() {
    let site = Site::new();
    let reference = Reference::new();
    for seed in [1, 2, 3] {
        let path = format!("/shared/random-{seed}.bin");
        let mut numbers = Numbers(seed);
        let mut file = Vec::new();
        let mut here = Worker::new(site.partner(), &path);
        let mut there = reference.as_ref().map(|reference| Worker::new(reference.user(), &path));
        for n in 0..1000 {
            let step = step(&mut numbers, file.len() as u64);
            let wanted = model(&mut file, &step);
            let brief = format!("{step:?}").chars().take(60).collect::<String>();
            assert_eq!(here.does(&step), wanted, "seed {seed}, step {n}: {brief}");
            if let Some(there) = &mut there {
                assert_eq!(there.does(&step), wanted, "OpenSSH, seed {seed}, step {n}: {brief}");
            }
        }
        here.does(&Step::Reopen);
        drop(here);
        assert!(site.partner().get(&path) == file, "seed {seed}");
        let receipt = site.partner().verified_receipt(&path);
        assert!(
            receipt.contains(&hex(&Sha256::digest(&file))),
            "seed {seed}: the digest is of what is there\n{receipt}"
        );
    }
}

#[test]
fn random_steps_through_sshfs_are_as_in_a_local_file() {
    if !have("sshfs") || !have("fusermount3") {
        return;
    }
    let site = Site::new();
    let local = site.work().join("model");
    site.partner().mounted("/shared", |at| {
        let open = |path: &std::path::Path| {
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
        };
        let (model, remote) = (open(&local), at.join("random.bin"));
        let mut mounted = open(&remote);
        let mut numbers = Numbers(4);
        for n in 0..800 {
            let len = model.metadata().unwrap().len();
            match step(&mut numbers, len) {
                Step::Write(offset, data) => {
                    model.write_all_at(&data, offset).unwrap();
                    mounted.write_all_at(&data, offset).unwrap();
                }
                Step::Read(offset, size) => {
                    let read = |file: &fs::File| {
                        let mut bytes = vec![0; size as usize];
                        let mut got = 0;
                        while let more @ 1.. = file.read_at(&mut bytes[got..], offset + got as u64).unwrap() {
                            got += more;
                        }
                        told(&bytes[..got])
                    };
                    assert_eq!(read(&mounted), read(&model), "step {n}: {size} bytes at {offset}");
                }
                Step::SetLen(len) => {
                    model.set_len(len).unwrap();
                    mounted.set_len(len).unwrap();
                }
                Step::Len => assert_eq!(mounted.metadata().unwrap().len(), len, "step {n}"),
                Step::SetLenClosed(_) | Step::Reopen => {
                    drop(mounted);
                    mounted = open(&remote);
                }
            }
        }
    });
    // The kernel tells sshfs of the last close when it gets to it, and sshfs ends without waiting for the answer.
    site.wait_for_event("logged-out", 1);
    let file = fs::read(&local).unwrap();
    assert!(site.partner().get("/shared/random.bin") == file);
    assert!(site.partner().verified_receipt("/shared/random.bin").contains(&hex(&Sha256::digest(&file))));
}

/// From its end to its beginning: as far out of order as is waited for.
#[test]
fn a_drop_written_backwards_is_whole() {
    let site = Site::new();
    let bytes = content("written backwards ", 8_000_000);
    let mut wire = Wire::open(site.partner());
    let held = handle(wire.ask(OPEN, &[&string(b"/radiology/back.dcm")[..], &[0, 0, 0, 0x1a], &[0; 4]].concat()));
    for (n, piece) in bytes.chunks(32_768).enumerate().collect::<Vec<_>>().into_iter().rev() {
        let offset = n as u64 * 32_768;
        assert_eq!(status(wire.ask(WRITE, &[&held[..], &offset.to_be_bytes(), &string(piece)].concat())), 0, "{n}");
    }
    assert_eq!(status(wire.ask(CLOSE, &held)), 0);
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/back.dcm") == bytes);
    assert!(site.partner().verified_receipt("/radiology/back.dcm").contains(&hex(&Sha256::digest(&bytes))));
}

/// Runs a client and has the most memory that any session of the site used, in KiB.
pub fn measured(site: &Site, work: impl FnOnce() -> Ran) -> (Ran, u64) {
    let gate = site.status()["pids"]["gate"].as_u64().expect("the gate's process id");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let most = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                // The kernel keeps the peak of each; this only has to look before it ends.
                most = children(gate).into_iter().filter_map(peak).fold(most, u64::max);
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            most
        });
        let ran = work();
        over.store(true, Ordering::Relaxed);
        (ran, most.join().expect("the measurement"))
    })
}

/// Each pushes 48 MB at once as it can, in any order, into a drop; and pulls it.
fn pushes_and_pulls(put: impl FnOnce(&Site) -> Ran, get: impl FnOnce(&Site) -> Ran) {
    let site = Site::new();
    let bytes = content("many at a time ", 48_000_000);
    site.file("many.dcm", &bytes);
    let (put, put_kib) = measured(&site, || put(&site));
    put.ok();
    let digest = hex(&Sha256::digest(&bytes));
    assert!(site.partner().verified_receipt("/radiology/many.dcm").contains(&digest));
    let (got, get_kib) = measured(&site, || get(&site));
    got.ok();
    assert!(fs::read(site.work().join("got")).unwrap() == bytes, "it came back with other bytes");
    eprintln!("a session's peak: {put_kib} KiB pushing, {get_kib} KiB pulling");
    assert!(put_kib < SESSION_KIB && get_kib < SESSION_KIB, "{put_kib} KiB, {get_kib} KiB");
}

#[test]
fn node_pushes_and_pulls_64_pieces_at_a_time() {
    if !have_node("ssh2") {
        return;
    }
    pushes_and_pulls(
        |site| {
            let options = "{ concurrency: 64, chunkSize: 32768 }";
            site.partner().node(&format!("await sftp.fastPut('many.dcm', '/radiology/many.dcm', {options})"))
        },
        |site| {
            let options = "{ concurrency: 64, chunkSize: 32768 }";
            site.recipient(RADIOLOGY).node(&format!("await sftp.fastGet('/inbox/partner/many.dcm', 'got', {options})"))
        },
    );
}

/// `fastPut` sends what it has read, and a local file is read in order. Here every 64 pieces are shuffled.
#[test]
fn node_pushes_in_any_order_and_lftp_pulls_four_parts_at_once() {
    if !have_node("ssh2") || !have("lftp") {
        return;
    }
    let script = "const bytes = fs.readFileSync('many.dcm'); const size = 32768; const pieces = [];\
         for (let at = 0; at < bytes.length; at += size) pieces.push(at);\
         let seed = 7; const random = n => (seed = seed * 1103515245 + 12345 & 0x7fffffff) % n;\
         const handle = await sftp.open('/radiology/many.dcm', 'w');\
         for (let from = 0; from < pieces.length; from += 64) {\
           const window = pieces.slice(from, from + 64);\
           for (let i = window.length - 1; i > 0; i--) {\
             const j = random(i + 1); [window[i], window[j]] = [window[j], window[i]];\
           }\
           await Promise.all(window.map(at =>\
             sftp.write(handle, bytes, at, Math.min(size, bytes.length - at), at)));\
         }\
         await sftp.close(handle);";
    pushes_and_pulls(
        |site| site.partner().node(script),
        |site| site.recipient(RADIOLOGY).lftp("pget -n 4 /inbox/partner/many.dcm -o got"),
    );
}

#[test]
fn paramiko_pushes_and_pulls_without_waiting() {
    if !have_python("paramiko") {
        return;
    }
    pushes_and_pulls(
        |site| {
            site.partner().paramiko(
                "file = sftp.open('/radiology/many.dcm', 'wb'); file.set_pipelined(True)\n\
                 file.write(open('many.dcm', 'rb').read()); file.close()",
            )
        },
        |site| site.recipient(RADIOLOGY).paramiko("sftp.get('/inbox/partner/many.dcm', 'got', prefetch=True)"),
    );
}

#[test]
fn asyncssh_pushes_and_pulls_256_requests_at_a_time() {
    if !have_python("asyncssh") {
        return;
    }
    pushes_and_pulls(
        |site| {
            let options = "block_size=16384, max_requests=256";
            site.partner().asyncssh(&format!("await sftp.put('many.dcm', '/radiology/many.dcm', {options})"))
        },
        |site| {
            let options = "block_size=16384, max_requests=256";
            let script = format!("await sftp.get('/inbox/partner/many.dcm', 'got', {options})");
            site.recipient(RADIOLOGY).asyncssh(&script)
        },
    );
}
