//! Crashes of the committer, at each step and of each kind: what was written is lost, or is there after all. And a
//! process that is killed over and over. Whatever was acknowledged is there; whatever is there is whole.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::ledger::committer::Step;

/// The directory as it stands: before the batch, and when the committer stopped at `step`.
fn stopped_at(step: Step) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let (running, before, after) =
        (scratch.path().join("running"), scratch.path().join("before"), scratch.path().join("after"));
    let armed = Arc::new(AtomicBool::new(false));
    let (trigger, source, target) = (armed.clone(), running.clone(), after.clone());
    let stop_at = move |at: Step| {
        let stop = at == step && trigger.load(Ordering::SeqCst);
        if stop {
            copy_dir(&source, &target);
        }
        stop
    };
    // Nothing is settled but when it is asked for: what is copied stands still.
    let options = Options { stop_at: Some(Arc::new(stop_at)), settle_after: DAY, ..options() };
    let (ledger, _) = open(&running, options).unwrap();
    ledger.commit(upload(drop_number(1))).unwrap();
    ledger.commit(upload(drop_number(2))).unwrap();
    copy_dir(&running, &before);
    armed.store(true, Ordering::SeqCst);
    let third = ledger.commit(upload(drop_number(3)));
    if matches!(step, Step::MonthFlushed | Step::LiveFlushed) {
        third.unwrap();
        ledger.close();
    } else {
        assert!(matches!(third, Err(LedgerError::Stopped)), "never acknowledged");
    }
    (scratch, before, after)
}

/// Opens, and checks that drops 1 and 2 are there, and the third batch whole or not at all.
fn check(dir: &Path, third: Option<bool>) {
    let (ledger, _) = open(dir, options()).unwrap();
    let has_third = ledger.drop_record(&DropId([3; 16])).unwrap().is_some();
    assert!(third.is_none_or(|third| third == has_third), "third batch there: {has_third}");
    let drops = if has_third { 3 } else { 2 };
    assert_eq!(ledger.events(0, 100).unwrap().len(), drops * 2);
    assert_eq!(ledger.head().size, drops as u64 * 2);
    assert_eq!(ledger.receipts(None, 100).unwrap().len(), drops);
    assert_eq!(ledger.usage(&user("acme")).unwrap().files, drops as u64);
    assert_eq!(ledger.due(Time(u64::MAX), 100).unwrap().len(), drops);
    // And it goes on, giving the same numbers it would have given.
    assert_eq!(ledger.commit(upload(drop_number(4))).unwrap().first_event, drops as u64 * 2);
    let all = everything(&ledger);
    ledger.close();
    let (ledger, found) = open(dir, options()).unwrap();
    assert_eq!(found, vec![], "a second start finds nothing to repair");
    assert_eq!(everything(&ledger), all);
}

/// A directory put together from parts of others, as a power cut may leave it.
fn mixed(parts: &[(&Path, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (from, part) in parts {
        let (from, to) = (from.join(part), dir.path().join(part));
        if from.is_dir() {
            copy_dir(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
    dir
}

fn segment(dir: &Path) -> PathBuf {
    let mut segments: Vec<_> = std::fs::read_dir(dir.join("journal")).unwrap().map(|e| e.unwrap().path()).collect();
    segments.sort();
    segments.pop().unwrap()
}

/// The segment's bytes, and how many of them are not room.
fn frames(dir: &Path) -> (Vec<u8>, usize) {
    let bytes = std::fs::read(segment(dir)).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    (bytes, end)
}

#[test]
fn a_crash_at_any_step_loses_nothing_acknowledged() {
    let steps = [
        (Step::Taken, Some(false)),
        (Step::JournalWritten, Some(true)),
        (Step::JournalSynced, Some(true)),
        (Step::MonthApplied, Some(true)),
        (Step::LiveApplied, Some(true)),
        (Step::MonthFlushed, Some(true)),
        (Step::LiveFlushed, Some(true)),
    ];
    for (step, third) in steps {
        let (_scratch, _, after) = stopped_at(step);
        check(&after, third);
    }
}

/// Day-long patience: it ends with the next batch, or with the ledger.
#[test]
fn a_patient_batch_shares_the_sync_of_the_next_one_and_needs_none() {
    let scratch = tempfile::tempdir().unwrap();
    let syncs = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&syncs);
    let stop_at = move |at| {
        counted.fetch_add(u64::from(at == Step::JournalSynced), Ordering::SeqCst);
        false
    };
    let options = Options { stop_at: Some(Arc::new(stop_at)), patience: DAY, ..options() };
    let (ledger, _) = open(scratch.path(), options).unwrap();
    let before = syncs.load(Ordering::SeqCst);
    let patient = || Batch { patient: true, ..event(Kind::DownloadEnded) };
    let first = ledger.submit(patient());
    ledger.commit(event(Kind::DownloadOpened)).unwrap();
    first.blocking_recv().unwrap().unwrap();
    assert_eq!(syncs.load(Ordering::SeqCst), before + 1);
    let last = ledger.submit(patient());
    ledger.close();
    last.blocking_recv().unwrap().unwrap();
}

#[test]
fn a_power_cut_while_the_journal_is_written_leaves_a_batch_or_nothing() {
    let (_scratch, before, after) = stopped_at(Step::JournalWritten);
    let ((_, short), (long, end)) = (frames(&before), frames(&after));
    let name = segment(&after).file_name().unwrap().to_owned();
    let torn = |bytes: &[u8], third: bool| {
        let dir = mixed(&[(&before, "live"), (&before, "epoch-2026-11"), (&before, "layout"), (&before, "journal")]);
        std::fs::write(dir.path().join("journal").join(&name), bytes).unwrap();
        check(dir.path(), Some(third));
    };
    for cut in [short + 1, short + 40, (short + end) / 2, end - 1] {
        torn(&long[..cut], false);
        // The zeros were there and the bytes are not.
        let mut zeros = long[..cut].to_vec();
        zeros.resize(long.len(), 0);
        torn(&zeros, false);
    }
    torn(&long, true);
}

#[test]
fn zeros_after_the_last_frame_are_room_for_the_next_and_no_torn_one() {
    let (_scratch, _, after) = stopped_at(Step::LiveFlushed);
    let (bytes, end) = frames(&after);
    assert!(bytes.len() > end, "it was made beforehand");
    // Of another length, or none: as a full disk leaves it, and as an earlier version wrote.
    for room in [0, 1, 5_000, bytes.len() - end] {
        std::fs::write(segment(&after), &bytes[..end + room]).unwrap();
        let (ledger, found) = open(&after, options()).unwrap();
        assert!(!found.iter().any(|found| matches!(found, Recovery::TornTail { .. })), "{room}: {found:?}");
        let size = ledger.head().size;
        ledger.commit(event(Kind::Listed)).unwrap();
        ledger.close();
        let (ledger, _) = open(&after, options()).unwrap();
        assert_eq!(ledger.head().size, size + 1);
        ledger.close();
        std::fs::write(segment(&after), &bytes).unwrap();
        for part in ["live", "epoch-2026-11"] {
            std::fs::remove_dir_all(after.join(part)).unwrap();
        }
    }
}

#[test]
fn a_power_cut_after_the_journal_is_repaired_whatever_the_databases_kept() {
    let (_scratch, before, after) = stopped_at(Step::LiveFlushed);
    for live in [&before, &after] {
        for month in [&before, &after] {
            let parts = [(month.as_path(), "epoch-2026-11"), (live, "live"), (&after, "layout"), (&after, "journal")];
            check(mixed(&parts).path(), Some(true));
        }
    }
}

#[test]
fn databases_that_are_lost_or_broken_come_back_from_the_journal() {
    let (_scratch, _, after) = stopped_at(Step::LiveFlushed);
    let whole = [(after.as_path(), "epoch-2026-11"), (&after, "live"), (&after, "layout"), (&after, "journal")];
    check(mixed(&whole[1..]).path(), Some(true));
    check(mixed(&[whole[0], whole[2], whole[3]]).path(), Some(true));
    check(mixed(&whole[2..]).path(), Some(true));
    for broken in ["live", "epoch-2026-11"] {
        for (file, bytes) in [("conf", vec![b'x'; 40]), ("db", vec![0xee; 4096])] {
            let dir = mixed(&whole);
            std::fs::write(dir.path().join(broken).join(file), bytes).unwrap();
            let (ledger, found) = open(dir.path(), options()).unwrap();
            assert_eq!(ledger.head().size, 6);
            ledger.close();
            assert!(found.len() <= 1 && !found.contains(&Recovery::BallastReleased), "{found:?}");
            check(dir.path(), Some(true));
        }
    }
}

#[test]
fn a_crash_while_the_ledger_is_made_is_no_obstacle() {
    let site = Site::new();
    site.open().close();
    let part = |parts: &[&str]| {
        let dir = site.dir();
        mixed(&parts.iter().map(|part| (dir.as_path(), *part)).collect::<Vec<_>>())
    };
    for made in [&[][..], &["journal"], &["journal", "live"], &["journal", "live", "epoch-2026-11"]] {
        let dir = part(made);
        let (ledger, found) = open(dir.path(), options()).unwrap();
        assert_eq!((ledger.head().size, found), (0, vec![]));
        ledger.commit(upload(drop_number(1))).unwrap();
    }
}

/// Not a test of its own: what `kill_after_kill_…` runs and kills. Prints what was acknowledged, for ever.
#[test]
#[ignore = "the child of another test"]
fn child_that_commits_until_it_is_killed() {
    let Some(dir) = std::env::var_os("SEALDROP_LEDGER_TEST_DIR") else { return };
    let (ledger, _) = open(Path::new(&dir), options()).unwrap();
    let mut n = ledger.head().size / 2;
    let mut waiting = std::collections::VecDeque::new();
    loop {
        let mut record = drop_number(1);
        record.drop.0[..8].copy_from_slice(&n.to_be_bytes());
        record.receipt.0[..8].copy_from_slice(&n.to_be_bytes());
        record.path = path(&format!("/radiology/{n}"));
        record.deliveries.clear();
        waiting.push_back((n, ledger.submit(upload(record))));
        n += 1;
        // Some are always on their way, so that groups are of more than one.
        if waiting.len() > 8 {
            let (n, answer) = waiting.pop_front().unwrap();
            answer.blocking_recv().unwrap().unwrap();
            println!("acknowledged {n}");
        }
    }
}

#[test]
fn kill_after_kill_keeps_everything_acknowledged() {
    let site = Site::new();
    site.open().close();
    let mut acknowledged = None;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "ledger::tests::crash::child_that_commits_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env("SEALDROP_LEDGER_TEST_DIR", site.dir())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The harness may leave the line it began before the child's first one.
        let numbers = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| line.rsplit_once("acknowledged ")?.1.parse::<u64>().ok());
        let mut numbers = numbers;
        for _ in 0..5 + round * 7 {
            acknowledged = Some(numbers.next().expect("the child goes on until it is killed"));
        }
        child.kill().unwrap();
        // What was in the pipe was acknowledged too.
        acknowledged = numbers.last().or(acknowledged);
        child.wait().unwrap();

        let (ledger, _) = open(&site.dir(), options()).unwrap();
        let drops = ledger.live_drops().unwrap();
        assert!(drops > acknowledged.unwrap(), "{drops} drops, {acknowledged:?} acknowledged");
        assert_eq!(ledger.head().size, drops * 2);
        assert_eq!(ledger.events(0, usize::MAX).unwrap().len() as u64, drops * 2);
        assert_eq!(ledger.receipts(None, usize::MAX).unwrap().len() as u64, drops);
        assert_eq!(ledger.usage(&user("acme")).unwrap().files, drops);
        ledger.close();
    }
}
