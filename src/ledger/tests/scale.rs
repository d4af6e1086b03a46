//! A log that grows for long: what it takes to add to it, to read it and to open it does not grow with it beyond what a
//! month's database holds. `SEALDROP_TEST_EVENTS=1000000` tries so many; the numbers are printed.

use std::time::Instant;

use super::*;
use crate::ledger::signers::AllowedSigners;
use crate::ledger::verify::{Trust, verify};

const BATCH: u64 = 100;

/// What reading the whole log may take of memory: pages, and sled's caches, which are bounded.
const READING_MAX_MIB: u64 = 96;

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn events() -> u64 {
    std::env::var("SEALDROP_TEST_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

#[test]
fn a_long_log_is_read_in_the_memory_of_a_page_and_opened_without_reading_it() {
    let site = Site::new();
    let options = || Options { checkpoint_every: Some(Duration::from_secs(1)), ..options() };
    let (ledger, _) = open(&site.dir(), options()).unwrap();
    let begun = Instant::now();
    let mut listed = Event::new(noon(), Kind::Listed);
    listed.user = Some(user("acme"));
    listed.path = Some(path("/radiology/a-folder-with-a-name"));
    // A group's worth is under way at any time, as with many sessions.
    let mut answers = std::collections::VecDeque::new();
    for _ in 0..events() / BATCH {
        let events = vec![listed.clone(); BATCH as usize];
        answers.push_back(ledger.submit(Batch { events, ..Batch::default() }));
        if answers.len() > 64 {
            answers.pop_front().unwrap().blocking_recv().unwrap().unwrap();
        }
    }
    answers.into_iter().for_each(|answer| drop(answer.blocking_recv().unwrap().unwrap()));
    let filled = begun.elapsed();
    let after_filling = resident_mib();
    let size = ledger.head().size;
    assert_eq!(size, events() / BATCH * BATCH);
    ledger.close();

    let begun = Instant::now();
    let (mut ledger, found) = open(&site.dir(), options()).unwrap();
    let opened = begun.elapsed();
    assert_eq!(found, vec![]);
    let before = resident_mib();
    let signers = AllowedSigners::parse(&signer().allowed_signer().unwrap()).unwrap();
    let trust = Trust { server: "drop.example".to_owned(), signers, now: noon() };
    let begun = Instant::now();
    let report = verify(&mut ledger, &trust, &[], |_| ()).unwrap();
    let verified = begun.elapsed();
    assert_eq!((report.events, report.problems), (size, vec![]));
    let grown = resident_mib().saturating_sub(before);
    eprintln!(
        "{size} events: filled in {filled:?}, {after_filling} MiB; opened in {opened:?}, {before} MiB; verified in {verified:?}, {grown} MiB more"
    );
    assert!(grown < READING_MAX_MIB, "reading took {grown} MiB");
}
