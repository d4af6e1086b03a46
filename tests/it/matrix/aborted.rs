//! A client that is killed in the middle: nothing is delivered, and then it goes on where it can, or begins anew.

use std::fs;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use sealdrop::cli::demo::place::RADIOLOGY;

use super::clients::Client;
use super::{Tried, done, done_with, of_file};
use crate::run::telling;
use crate::site::{Site, content};

/// More than a session that is stopped can still be sent: a window of 16 MiB, and what lies in pipes and sockets.
const LARGE: usize = 32 << 20;

/// So much is staged when the session is stopped.
const STAGED: u64 = 1 << 20;

pub fn tried(client: &Client, site: &Site) -> Vec<Tried> {
    let user = site.partner();
    let bytes = content("a study that is cut off ", LARGE);
    site.file("large", &bytes);
    let before = site.events_of("upload-abandoned", "").len();
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        let client_side = scope.spawn(|| telling(tell, || (client.put)(&user, "large", "/radiology/large.dcm")));
        let stopped = stop_in_the_middle(site);
        end_client(site, &told);
        signal(&stopped, Signal::SIGCONT);
        // Its mount is gone as well, which ends the words of sshfs in a panic.
        drop(client_side.join());
    });
    site.wait_for_event("upload-abandoned", before + 1);
    let delivered = site.recipient(RADIOLOGY).delivered().iter().any(|name| name.starts_with("large.dcm"));
    let again = client.resume.unwrap_or(client.put)(&user, "large", "/radiology/large.dcm");
    site.recipient(RADIOLOGY).sftp("-get /inbox/partner/large.dcm see-large").ok();
    let seen = format!("{}, {}", done(&again), of_file(&site.work().join("see-large")));
    let column = if client.resume.is_some() { "resume" } else { "abort" };
    vec![
        Tried::new("abort", "nothing is delivered", (!delivered).to_string(), "true"),
        Tried::new(column, "after the abort", seen, done_with(&bytes)),
    ]
}

/// Stops the sessions once an upload is under way; their process ids.
fn stop_in_the_middle(site: &Site) -> Vec<u64> {
    let staging = site.on_disk("partner", "/.staging");
    let staged = || {
        let parts = fs::read_dir(&staging).into_iter().flatten().flatten();
        parts.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum::<u64>()
    };
    let gate = site.status()["pids"]["gate"].as_u64().expect("the gate's process id");
    let deadline = Instant::now() + Duration::from_secs(60);
    while staged() < STAGED {
        assert!(Instant::now() < deadline, "the client sends");
        std::thread::yield_now();
    }
    let sessions = crate::site::children(gate);
    signal(&sessions, Signal::SIGSTOP);
    sessions
}

fn signal(pids: &[u64], signal: Signal) {
    for pid in pids {
        // One that has ended has ended.
        let _ = kill(Pid::from_raw(i32::try_from(*pid).expect("a process id")), signal);
    }
}

/// `kill -9` of all that the client is: the program that it started last, and the sshfs that serves a mount of this site.
fn end_client(site: &Site, told: &mpsc::Receiver<u32>) {
    // Taken before anything is killed: what is at work then is the client. What is started afterwards takes its mount away.
    let at_work = told.recv().into_iter().chain(told.try_iter()).last();
    let work = site.work();
    let ours = work.to_str().expect("a path in UTF-8").as_bytes();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line.starts_with(b"sshfs\0") && crate::site::contains(&line, ours) {
            signal(&[pid], Signal::SIGKILL);
        }
    }
    if let Some(group) = at_work {
        let _ = killpg(Pid::from_raw(i32::try_from(group).expect("a process id")), Signal::SIGKILL);
    }
}
