//! Resuming: cut at any byte, in any way, any number of times, and taken up by any client's habit, an upload ends in the
//! plaintext, the digest and the sealed file that it would have been in one piece, and little is read back for it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sha2::Digest as _;

use crate::clock::Time;
use crate::ipc::jail::{FolderKind, JournalGrant, Key, Staged};
use crate::seal::{CHUNK, Journal, JournalKey, RECORD_LEN, record_offset};
use crate::session::staging::{READ, Staging};
use crate::session::testing::{grant, opened, path, pattern, staging};
use crate::session::upload::{Finished, Habits, Upload};

/// What the constants of `upload` bound: what is opened again, and what is hashed again after a power cut.
const OPENED_MAX: u64 = (16 << 20) / CHUNK as u64 * RECORD_LEN as u64;
const HASHED_MAX: u64 = (32 << 20) / CHUNK as u64 * RECORD_LEN as u64;

/// How a session, or the machine, ended in the middle.
#[derive(Clone, Debug)]
enum End {
    /// The connection went away, or the client was interrupted and said so.
    InOrder,
    /// OpenSSH's `sftp` on Ctrl-C: the size is cut to what it knows to have arrived.
    CutBack(u64),
    /// `kill -9`: what came since the last journal is lost.
    Killed,
    /// `kill -9` of the keeper while it committed: the file is finished, and its journal is older.
    KilledAtCommit,
    /// Closed in a folder that waits, and come back to.
    Waited,
    /// The disk lost whatever the journal does not call durable: cut there, or holed there.
    PowerCut { hole: u64, cut: u64 },
}

/// How a client goes on.
#[derive(Clone, Debug)]
enum Habit {
    /// OpenSSH's `reput`, from the size there is.
    Append,
    /// WinSCP, JSch, lftp: at the size there is, without APPEND.
    Offset,
    /// A client that sends the last bytes again, to be sure.
    Overlap(usize),
    /// `scp` and a script that knows nothing: from the beginning, without TRUNC.
    Again,
}

#[derive(Clone, Debug)]
struct Cut {
    bytes: usize,
    piece: usize,
    /// fsync@openssh.com before the last so many bytes.
    synced: Option<usize>,
    end: End,
    habit: Habit,
}

fn ends() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::InOrder),
        (0u64..200_000).prop_map(End::CutBack),
        Just(End::Killed),
        Just(End::KilledAtCommit),
        Just(End::Waited),
        (0u64..2_000_000, 0u64..2_000_000).prop_map(|(hole, cut)| End::PowerCut { hole, cut }),
    ]
}

fn habits() -> impl Strategy<Value = Habit> {
    prop_oneof![
        Just(Habit::Append),
        Just(Habit::Offset),
        (1usize..200_000).prop_map(Habit::Overlap),
        Just(Habit::Again),
    ]
}

fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    let cut = (0usize..1_500_000, 1usize..255_000, prop::option::of(0usize..400_000), ends(), habits());
    let cut = cut.prop_map(|(bytes, piece, synced, end, habit)| Cut { bytes, piece, synced, end, habit });
    prop::collection::vec(cut, 0..7)
}

fn file_in(dir: &Path, ending: &str) -> Option<PathBuf> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    names.into_iter().find(|path| path.extension().is_some_and(|end| end == ending))
}

/// Takes away what the journal does not call durable, in one way or another.
fn lose_power(dir: &Path, hole: u64, cut: u64) {
    let Some(journal) = file_in(dir, "jrn") else { return };
    let bytes = fs::read(journal).unwrap();
    let staged = grant(FolderKind::Drop, 1);
    let journal = Journal::open(staged.drop, &JournalKey::from_bytes([200; 32]), &bytes[17..]).unwrap();
    let part = OpenOptions::new().write(true).open(file_in(dir, "part").unwrap()).unwrap();
    let (safe, len) = (record_offset(journal.durable), part.metadata().unwrap().len());
    if safe + hole + 4096 < len {
        part.write_all_at(&[0; 4096], safe + hole).unwrap();
    }
    if safe + cut < len {
        part.set_len(safe + cut).unwrap();
    }
}

/// Bytes of records read back since the last call.
fn read_back() -> u64 {
    READ.with(std::cell::Cell::take)
}

/// Sends `data` from `from` on up to `to`.
fn send(upload: &mut Upload, staging: &Staging, data: &[u8], from: usize, to: usize, piece: usize) {
    let mut at = from;
    while at < to {
        let end = (at + piece).min(to);
        upload.write(staging, at as u64, &data[at..end]).unwrap();
        at = end;
    }
}

fn begin(staging: &Staging) -> Upload {
    let at = path("/drop/a");
    if let Some(part) = staging.open(&at).unwrap() {
        staging.remove(part).unwrap();
    }
    Upload::begin(at.clone(), staging.create(&at).unwrap(), &grant(FolderKind::Drop, 1), Habits::default()).unwrap()
}

/// As a client's OPEN, after its STAT; the size it was told. One whose end was lost is refused once, and looks again.
fn take_up(staging: &Staging, appends: bool) -> (Upload, usize) {
    let at = path("/drop/a");
    let mut staged = grant(FolderKind::Drop, 1);
    staged.file_key = None;
    loop {
        let Some(said) = staging.size(&at) else { return (begin(staging), 0) };
        let part = staging.open(&at).unwrap().unwrap();
        let habits = Habits { appends, ..Habits::default() };
        let mut upload = Upload::resume(at.clone(), part, staging, &staged, habits).unwrap();
        if upload.is_stated_as(said) {
            return (upload, said as usize);
        }
        upload.sync(staging).unwrap();
    }
}

fn plain(finished: Finished) -> Vec<u8> {
    let (plain, digest) = opened(finished.part.reader().try_clone().unwrap(), finished.file_key);
    assert_eq!((finished.sha256.0, finished.size), (digest, plain.len() as u64));
    assert_eq!(<[u8; 32]>::from(sha2::Sha256::digest(&plain)), digest);
    plain
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_cut_any_number_of_times_by_any_client_ends_in_the_same_file(len in 1usize..5_000_000, cuts in cuts(), seed: u64) {
        let dir = tempfile::tempdir().unwrap();
        let staging = staging(dir.path());
        let data = pattern(seed, len);
        let mut upload = begin(&staging);
        let mut done = 0;
        for Cut { bytes, piece, synced, end, habit } in cuts {
            let to = (done + bytes).min(len);
            if let Some(last) = synced {
                let middle = to.saturating_sub(last).max(done);
                send(&mut upload, &staging, &data, done, middle, piece);
                upload.sync(&staging).unwrap();
                done = middle;
            }
            send(&mut upload, &staging, &data, done, to, piece);
            match end {
                End::InOrder => upload.sync(&staging).unwrap(),
                End::CutBack(back) => {
                    let size = upload.len().saturating_sub(back);
                    upload.truncate(&staging, size, true).unwrap();
                    upload.sync(&staging).unwrap();
                    prop_assert_eq!(upload.len(), size);
                }
                End::Killed | End::KilledAtCommit | End::Waited | End::PowerCut { .. } => {}
            }
            match end {
                End::KilledAtCommit => drop(upload.finish(path("/drop/a").name()).ok().unwrap()),
                End::Waited => {
                    let (len, journal) = (upload.len(), upload.closed_journal().unwrap());
                    let Finished { part, size, .. } = upload.finish(path("/drop/a").name()).ok().unwrap();
                    staging.put_by(part, &path("/drop/a"), size, &journal).unwrap();
                    prop_assert!(staging.is_waiting(&path("/drop/a")));
                    prop_assert_eq!(staging.size(&path("/drop/a")), Some(len));
                }
                _ => drop(upload),
            }
            if let End::PowerCut { hole, cut } = end {
                lose_power(dir.path(), hole, cut);
            }
            read_back();
            let (again, said) = take_up(&staging, matches!(habit, Habit::Append));
            upload = again;
            let read = read_back();
            match end {
                End::InOrder | End::CutBack(_) => prop_assert_eq!(read, 0),
                End::Killed | End::KilledAtCommit | End::Waited => prop_assert!(read <= OPENED_MAX),
                End::PowerCut { .. } => prop_assert!(read <= OPENED_MAX + HASHED_MAX),
            }
            done = match habit {
                Habit::Append | Habit::Offset => said,
                Habit::Overlap(last) => said.saturating_sub(last),
                Habit::Again => 0,
            };
        }
        send(&mut upload, &staging, &data, done, len, 32_768);
        read_back();
        let finished = upload.finish(path("/drop/a").name()).ok().unwrap();
        prop_assert_eq!(read_back(), 0, "nothing is hashed again at the end");
        prop_assert!(plain(finished) == data);
    }
}

/// With the real distances: 100 MiB, killed beyond two journals that were durable, and a power cut beyond three.
#[test]
fn what_a_resume_reads_does_not_grow_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let staging = staging(dir.path());
    let mut data = vec![7; 130 << 20];
    data.chunks_mut(4096).enumerate().for_each(|(n, page)| page[..8].copy_from_slice(&n.to_be_bytes()));
    let mut upload = begin(&staging);
    send(&mut upload, &staging, &data, 0, 94 << 20, 255 << 10);
    drop(upload);
    read_back();
    let (mut upload, said) = take_up(&staging, true);
    assert!(said >= 86 << 20, "at most a journal's distance is lost: {said}");
    assert!((1..=OPENED_MAX).contains(&read_back()));
    send(&mut upload, &staging, &data, said, said + (26 << 20), 100_000);
    drop(upload);
    lose_power(dir.path(), 70_000, 1 << 40);
    let (mut upload, said) = take_up(&staging, false);
    assert!(said >= 86 << 20, "at most the distance of what is made durable: {said}");
    let read = read_back();
    assert!((1..=OPENED_MAX + HASHED_MAX).contains(&read), "{read}");
    // Ctrl-C: in the middle of a record, some MiB back.
    send(&mut upload, &staging, &data, said, said + (5 << 20), 100_000);
    let said = said + (5 << 20);
    upload.truncate(&staging, said as u64 - (3 << 20) - 5, true).unwrap();
    upload.sync(&staging).unwrap();
    assert!(read_back() <= HASHED_MAX);
    drop(upload);
    let (mut upload, said) = take_up(&staging, false);
    assert_eq!(read_back(), 0);
    send(&mut upload, &staging, &data, said, data.len(), 65_536);
    let finished = upload.finish(None).ok().unwrap();
    assert_eq!(read_back(), 0, "nothing is hashed again at the end");
    assert!(plain(finished) == data);
}

/// As a session does that lasts longer than its journal's key: it asks once, takes up the answer, and seals with it.
#[test]
fn an_upload_that_lasts_seals_its_journals_with_a_key_that_lives_on() {
    let dir = tempfile::tempdir().unwrap();
    let staging = staging(dir.path());
    let mut granted = grant(FolderKind::Drop, 1);
    granted.journal.renew = Time(1_000_000);
    let part = staging.create(&path("/drop/a")).unwrap();
    let mut upload = Upload::begin(path("/drop/a"), part, &granted, Habits::default()).unwrap();
    let data = pattern(1, 200_000);
    send(&mut upload, &staging, &data, 0, 100_000, 32_768);
    upload.sync(&staging).unwrap();
    assert!(upload.renewal(Time(999_999)).is_none());
    let renewal = upload.renewal(Time(1_000_000)).expect("it is time to ask");
    assert!(upload.renewal(Time(1_000_001)).is_none(), "once");
    assert!(upload.renewal(Time(1_060_000)).is_some(), "again if nobody answers");
    renewal.answered(JournalGrant { bucket: 10, key: Key([201; 32]), renew: Time(2_000_000) });
    assert!(upload.renewal(Time(1_060_001)).is_none());
    send(&mut upload, &staging, &data, 100_000, 150_000, 32_768);
    upload.sync(&staging).unwrap();
    drop(upload);
    let part = staging.open(&path("/drop/a")).unwrap().unwrap();
    assert_eq!(staging.journal_bucket(&part).unwrap(), 10);
    let resumed = |part, opens| {
        let granted = Staged { opens, ..grant(FolderKind::Drop, 1) };
        Upload::resume(path("/drop/a"), part, &staging, &granted, Habits::default())
    };
    assert!(resumed(part, None).is_err(), "a journal whose key is gone");
    let part = staging.open(&path("/drop/a")).unwrap().unwrap();
    assert_eq!(resumed(part, Some(Key([201; 32]))).unwrap().len(), 150_000);
}
