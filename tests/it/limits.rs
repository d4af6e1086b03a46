//! The ends of a session that its client does not choose, and what a client that breaks the rules can reach: its own
//! connection, and no more memory than docs/sftp.md says.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sealdrop::cli::demo::place::RADIOLOGY;

use crate::secrecy::{let_it_close, upload_in_progress};
use crate::site::{Site, have_python};
use crate::wire::{STAT, Wire, handle, request, status, string};

const OPEN: u8 = 3;
const CLOSE: u8 = 4;
const READ: u8 = 5;
const WRITE: u8 = 6;
const REMOVE: u8 = 13;

/// What a session may use at the most when its client sends requests and reads no reply; docs/sftp.md has the same.
const FLOODED_KIB: u64 = 128 * 1024;

fn with_limits(limits: &str) -> Site {
    let mut site = Site::prepared();
    let config = fs::read_to_string(site.place().config()).unwrap();
    fs::write(site.place().config(), config.replace("[limits]\n", &format!("[limits]\n{limits}\n"))).unwrap();
    site.start().unwrap();
    site
}

#[test]
fn a_stranger_who_does_not_log_in_is_sent_away() {
    let site = with_limits("login_grace = \"1s\"");
    for said in ["", "SSH-2.0-Slow\r\n"] {
        let begun = Instant::now();
        let mut stranger = TcpStream::connect(site.place().listen()).unwrap();
        stranger.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stranger.write_all(said.as_bytes()).unwrap();
        let mut heard = Vec::new();
        let _ = stranger.read_to_end(&mut heard);
        assert!(heard.starts_with(b"SSH-2.0-sealdrop"), "{heard:?}");
        assert!(begun.elapsed() >= Duration::from_secs(1), "not before its time");
    }
    site.partner().put(&site.file("a.dcm", b"a"), "/radiology/a.dcm");
}

#[test]
fn an_idle_session_ends_with_a_word() {
    let site = with_limits("idle = \"1s\"");
    let begun = Instant::now();
    let said = Wire::open(site.partner()).end();
    assert!(said.contains("this session was idle for too long"), "{said}");
    assert!(begun.elapsed() >= Duration::from_secs(1), "not before its time");
}

#[test]
fn a_stopping_server_ends_who_has_nothing_open_and_opens_nothing_new() {
    let mut site = with_limits("drain = \"1h\"");
    let idle = Wire::open(site.partner());
    let mut busy = Wire::open(site.partner());
    let open = |path: &[u8]| [string(path), vec![0, 0, 0, 0x1a, 0, 0, 0, 0]].concat();
    let held = handle(busy.ask(OPEN, &open(b"/radiology/a.dcm")));
    site.signal(Signal::SIGTERM);
    let said = idle.end();
    assert!(said.contains("the server is stopping"), "{said}");
    // Each session hears of it by itself: what this one was asked before it did, it does.
    let (kind, fields) = loop {
        let (kind, fields) = busy.ask(OPEN, &open(b"/radiology/b.dcm"));
        if kind != 102 {
            break (kind, fields);
        }
        assert_eq!(status(busy.ask(CLOSE, &handle((kind, fields)))), 0);
    };
    assert!(kind == 101 && crate::site::contains(&fields, b"nothing new is opened"), "{fields:?}");
    assert_eq!(status(busy.ask(WRITE, &[&held[..], &[0; 8], &string(b"late")].concat())), 0);
    assert_eq!(status(busy.ask(CLOSE, &held)), 0);
    busy.end();
    assert!(site.wait_for_end().success(), "long before the hour is over");
    site.start().unwrap();
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm") == b"late");
}

#[test]
fn a_user_who_was_removed_is_cut_off_and_no_other() {
    let site = Site::new();
    let mut other = Wire::open(site.recipient(RADIOLOGY));
    let mut gone = Wire::open(site.partner());
    let open = [string(b"/radiology/half.dcm"), vec![0, 0, 0, 0x1a, 0, 0, 0, 0]].concat();
    let held = handle(gone.ask(OPEN, &open));
    assert_eq!(status(gone.ask(WRITE, &[&held[..], &[0; 8], &string(b"half")].concat())), 0);
    fs::remove_file(site.place().policy("partner")).unwrap();
    site.sealdrop(&["reload"]).ok();
    gone.end();
    site.partner().sftp("ls").fails();
    assert_eq!(other.ask(STAT, &string(b"/inbox")).0, 105, "others stay");
    assert!(site.recipient(RADIOLOGY).delivered().is_empty());
    site.wait_for_event("revoked", 1);
    assert_eq!(site.events_of("revoked", "").len(), 1);
}

#[test]
fn a_packet_that_breaks_the_format_ends_the_connection_and_is_in_the_log() {
    let site = Site::new();
    let broken: [&[u8]; 4] = [
        &[0; 4],
        &[0xff; 9],
        &(256 * 1024 + 1_u32).to_be_bytes(),
        &[0, 0, 0, 9, STAT, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff],
    ];
    for (n, bytes) in broken.into_iter().enumerate() {
        let mut wire = Wire::open(site.partner());
        wire.send(bytes).unwrap();
        let said = wire.end();
        assert!(said.contains("disconnect"), "{bytes:?}: {said}");
        // The client is told first: what it sent is no secret to it.
        site.wait_for_event("operation-refused", n + 1);
        let reported = site.refusals("");
        assert_eq!(reported.len(), n + 1, "{bytes:?}: {reported:?}");
        assert!(reported[n].to_string().contains("an SFTP stream that breaks the protocol"), "{}", reported[n]);
    }
}

#[test]
fn huge_offsets_are_refused_and_nothing_comes_of_them() {
    let site = Site::new();
    let mut wire = Wire::open(site.partner());
    let open = |path: &[u8], flags| [string(path), vec![0, 0, 0, flags, 0, 0, 0, 0]].concat();
    let ends = [u64::MAX, u64::MAX - 3, i64::MAX as u64, 1 << 62, 1 << 53];
    for (n, offset) in ends.into_iter().enumerate() {
        for folder in ["radiology", "shared"] {
            let held = handle(wire.ask(OPEN, &open(format!("/{folder}/{n}").as_bytes(), 0x1a)));
            let write = [&held[..], &offset.to_be_bytes(), &string(b"far")].concat();
            assert_eq!(status(wire.ask(WRITE, &write)), 4, "{folder} {offset}");
            assert_eq!(status(wire.ask(CLOSE, &held)), 4, "{folder} {offset}");
            assert_eq!(status(wire.ask(STAT, &string(format!("/{folder}/{n}").as_bytes()))), 2, "{folder} {offset}");
        }
    }
    site.partner().put(&site.file("a.bin", b"a"), "/shared/a.bin");
    let held = handle(wire.ask(OPEN, &open(b"/shared/a.bin", 1)));
    for offset in ends {
        let read = [&held[..], &offset.to_be_bytes(), &u32::MAX.to_be_bytes()].concat();
        assert_eq!(status(wire.ask(READ, &read)), 1, "the end, {offset}");
    }
}

/// Each refusal is an entry for years: a program that is refused without end fills the ledger slowly.
#[test]
fn who_is_refused_without_end_waits_and_is_recorded_all_the_same() {
    let site = Site::new();
    let mut wire = Wire::open(site.partner());
    let asked = 256 + 10;
    let begun = Instant::now();
    for n in 0..asked {
        assert_eq!(status(wire.ask(REMOVE, &string(format!("/radiology/{n}").as_bytes()))), 2);
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "the last ten waited a tenth of a second each");
    assert_eq!(site.refusals("").len(), asked);
}

/// The most memory a process has used, in KiB; `None` when it is gone.
pub fn peak(pid: u64) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

/// Sends these requests for ever and reads nothing; the most memory the session used until it was cut off.
fn flooded(site: &Site, prepare: impl FnOnce(&mut Wire) -> Vec<u8>) -> u64 {
    let before = site.sessions();
    let mut wire = Wire::open(site.partner());
    let session = *site.sessions().iter().find(|pid| !before.contains(pid)).expect("a session of its own");
    let requests = prepare(&mut wire).repeat(1000);
    let mut input = wire.take_input();
    let flood = std::thread::spawn(move || while input.write_all(&requests).is_ok() {});
    let mut most = 0;
    while wire.is_connected() {
        match peak(session) {
            Some(now) => most = most.max(now),
            // What `ssh` has of it is not read: it would wait for us for ever.
            None => break,
        }
        // The kernel keeps the peak; this only leaves the processor to those who flood and are flooded.
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(wire);
    flood.join().expect("the flood ends");
    most
}

#[test]
fn a_client_that_asks_and_never_reads_is_cut_off_and_takes_little_memory() {
    if !have_python("paramiko") {
        return;
    }
    let site = Site::new();
    let other = upload_in_progress(&site, "/radiology/other.dcm", 1_000_000);
    site.partner().put(&site.file("big.bin", &vec![7; 3_000_000]), "/shared/big.bin");
    let stats = flooded(&site, |_| request(STAT, &string(b"/")));
    let reads = flooded(&site, |wire| {
        let held = handle(wire.ask(OPEN, &[string(b"/shared/big.bin"), vec![0, 0, 0, 1, 0, 0, 0, 0]].concat()));
        request(READ, &[&held[..], &[0; 8], &(255_u32 * 1024).to_be_bytes()].concat())
    });
    let deep = ["d"; 2000].join("/");
    let lanes = flooded(&site, |_| request(15, &string(format!("/shared/{deep}").as_bytes())));
    for (what, most) in [("STAT", stats), ("READ", reads), ("MKDIR", lanes)] {
        eprintln!("{what}: {most} KiB");
        assert!(most < FLOODED_KIB, "{what}: {most} KiB");
    }
    assert!(let_it_close(other), "the other session is unharmed");
    assert_eq!(site.recipient(RADIOLOGY).delivered(), ["other.dcm"]);
}
