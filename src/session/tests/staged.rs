//! The staged upload alone: in any order, cut anywhere, damaged by the disk, it ends in the file that was sent.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use sha2::Digest as _;

use crate::ipc::jail::FolderKind;
use crate::seal::CHUNK;
use crate::session::testing::{grant, opened, path, pattern, staging};
use crate::session::upload::{Finished, Habits, Upload};

fn plain(finished: Finished) -> Vec<u8> {
    let (plain, digest) = opened(finished.part.reader().try_clone().unwrap(), finished.file_key);
    assert_eq!(digest, finished.sha256.0);
    assert_eq!(<[u8; 32]>::from(sha2::Sha256::digest(&plain)), digest);
    assert_eq!(plain.len() as u64, finished.size);
    plain
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Pieces in any order within the window, some of them twice.
    #[test]
    fn writes_in_any_order_give_the_same_file(len in 0usize..900_000, piece in 10_000usize..120_000, seed: u64, order: u64) {
        let dir = tempfile::tempdir().unwrap();
        let staging = staging(dir.path());
        let data = pattern(seed, len);
        let mut upload =
            Upload::begin(path("/drop/a"), staging.create(&path("/drop/a")).unwrap(), &grant(FolderKind::Drop, 1), Habits::default()).unwrap();
        let mut pieces: Vec<_> = data.chunks(piece).enumerate().map(|(n, bytes)| (n * piece, bytes)).collect();
        let again = pieces.clone();
        let mut state = order | 1;
        for at in (1..pieces.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            pieces.swap(at, (state >> 33) as usize % (at + 1));
        }
        for (offset, bytes) in pieces.into_iter().chain(again.into_iter().step_by(3)) {
            upload.write(&staging, offset as u64, bytes).unwrap();
        }
        prop_assert_eq!(plain(upload.finish(path("/drop/a").name()).ok().unwrap()), data);
    }

    /// Written, overwritten and cut like a file on any disk.
    #[test]
    fn a_shared_file_behaves_like_a_file(
        steps in proptest::collection::vec((0u8..4, 0u64..400_000, 0usize..150_000), 1..14), seed: u64
    ) {
        let dir = tempfile::tempdir().unwrap();
        let staging = staging(dir.path());
        let mut upload =
            Upload::begin(path("/shared/a"), staging.create(&path("/shared/a")).unwrap(), &grant(FolderKind::Shared, 1), Habits::default()).unwrap();
        let mut model: Vec<u8> = Vec::new();
        for (n, (kind, offset, len)) in steps.into_iter().enumerate() {
            match kind {
                0 | 1 => {
                    let data = pattern(seed ^ n as u64, len);
                    let end = offset as usize + len;
                    if len > 0 && model.len() < end {
                        model.resize(end, 0);
                    }
                    if len > 0 {
                        model[offset as usize..end].copy_from_slice(&data);
                    }
                    upload.write(&staging, offset, &data).unwrap();
                }
                2 => {
                    upload.truncate(&staging, offset, true).unwrap();
                    model.resize(offset as usize, 0);
                }
                _ => {
                    let mut out = Vec::new();
                    upload.read(offset, len, &mut out).unwrap();
                    let end = (offset as usize + len).min(model.len());
                    let expected = model.get(offset as usize..end).unwrap_or_default();
                    prop_assert_eq!(out.as_slice(), expected);
                }
            }
        }
        prop_assert_eq!(plain(upload.finish(None).ok().unwrap()), model);
    }

    /// The session dies at any bytes, any number of times; each time the client goes on from what STAT says.
    #[test]
    fn any_cut_any_number_of_times_ends_in_the_same_file(
        len in 1usize..700_000, cuts in proptest::collection::vec((1usize..300_000, any::<bool>()), 0..6), seed: u64
    ) {
        let dir = tempfile::tempdir().unwrap();
        let staging = staging(dir.path());
        let at = path("/drop/a");
        let data = pattern(seed, len);
        let mut fresh = grant(FolderKind::Drop, 1);
        let mut upload = Upload::begin(at.clone(), staging.create(&at).unwrap(), &fresh, Habits::default()).unwrap();
        fresh.file_key = None;
        let mut done = 0;
        for (more, orderly) in cuts {
            let end = (done + more).min(len);
            for piece in data[done..end].chunks(32_768) {
                upload.write(&staging, done as u64, piece).unwrap();
                done += piece.len();
            }
            if !orderly {
                // Killed: whatever was not yet in the journal is lost, and nothing written before is.
                upload.sync(&staging).unwrap();
                let known = done;
                let more = (done + 200_000).min(len);
                for piece in data[done..more].chunks(32_768) {
                    upload.write(&staging, done as u64, piece).unwrap();
                    done += piece.len();
                }
                done = known;
            } else {
                upload.sync(&staging).unwrap();
            }
            drop(upload);
            let stated = staging.size(&at).unwrap() as usize;
            prop_assert_eq!(stated, done.saturating_sub(1), "never all that came: it would pass for arrived");
            let part = staging.open(&at).unwrap().unwrap();
            upload = Upload::resume(at.clone(), part, &staging, &fresh, Habits { appends: true, ..Habits::default() }).unwrap();
            prop_assert_eq!(upload.len() as usize, done);
            done = stated;
        }
        upload.write(&staging, done as u64, &data[done..]).unwrap();
        prop_assert_eq!(plain(upload.finish(at.name()).ok().unwrap()), data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Killed at any moment of any writing over and cutting: STAT, resume and the bytes that were sent are one thing.
    #[test]
    fn a_killed_session_leaves_exactly_what_stat_says(
        len in 900_000usize..2_600_000,
        over in proptest::collection::vec((0u8..3, 0usize..2_600_000, 1usize..100_000), 0..6),
        seed: u64,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let staging = staging(dir.path());
        let at = path("/shared/a");
        let mut grant = grant(FolderKind::Shared, 1);
        let mut upload = Upload::begin(at.clone(), staging.create(&at).unwrap(), &grant, Habits::default()).unwrap();
        let mut model = pattern(seed, len);
        for (n, piece) in model.chunks(65_000).enumerate() {
            upload.write(&staging, n as u64 * 65_000, piece).unwrap();
        }
        for (n, (kind, offset, len)) in over.into_iter().enumerate() {
            let offset = offset.min(model.len());
            if kind == 0 {
                upload.truncate(&staging, offset as u64, true).unwrap();
                model.truncate(offset);
            } else {
                let news = pattern(seed ^ (n as u64 + 1), len);
                model.resize(model.len().max(offset + len), 0);
                model[offset..offset + len].copy_from_slice(&news);
                upload.write(&staging, offset as u64, &news).unwrap();
            }
            if kind == 2 {
                upload.sync(&staging).unwrap();
            }
        }
        drop(upload);
        grant.file_key = None;
        let Some(said) = staging.size(&at) else { return Ok(()) };
        let part = staging.open(&at).unwrap().unwrap();
        let mut upload = Upload::resume(at.clone(), part, &staging, &grant, Habits::default()).unwrap();
        prop_assert!(upload.is_stated_as(said));
        let mut there = Vec::new();
        upload.read(0, said as usize, &mut there).unwrap();
        prop_assert!(there == model[..said as usize]);
        upload.write(&staging, said, &model[said as usize..]).unwrap();
        prop_assert!(plain(upload.finish(None).ok().unwrap()) == model);
    }
}

/// A part whose commit was cut short by a crash: complete, with the keeper's envelope.
#[test]
fn a_part_that_was_to_be_committed_is_continued_from_its_journal() {
    let dir = tempfile::tempdir().unwrap();
    let staging = staging(dir.path());
    let at = path("/drop/a");
    let data = pattern(8, 3_000_000);
    let mut staged = grant(FolderKind::Drop, 1);
    let mut upload = Upload::begin(at.clone(), staging.create(&at).unwrap(), &staged, Habits::default()).unwrap();
    for (n, piece) in data.chunks(32_768).enumerate() {
        upload.write(&staging, n as u64 * 32_768, piece).unwrap();
    }
    drop(upload.finish(at.name()).ok().unwrap());
    let part = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().unwrap() == "part");
    let file = OpenOptions::new().write(true).open(part.unwrap()).unwrap();
    file.write_all_at(&[7; crate::seal::ENVELOPE_LEN], crate::seal::HEAD_LEN as u64).unwrap();
    staged.file_key = None;
    let said = staging.size(&at).unwrap();
    assert!(said >= (1 << 20) - 1, "{said}");
    let part = staging.open(&at).unwrap().unwrap();
    let mut upload = Upload::resume(at.clone(), part, &staging, &staged, Habits::default()).unwrap();
    assert!(upload.is_stated_as(said));
    upload.write(&staging, said, &data[said as usize..]).unwrap();
    let finished = upload.finish(at.name()).ok().unwrap();
    let mut envelope = [1; crate::seal::ENVELOPE_LEN];
    finished.part.reader().read_exact_at(&mut envelope, crate::seal::HEAD_LEN as u64).unwrap();
    assert!(envelope.iter().all(|byte| *byte == 0), "the envelope area is the keeper's");
    assert!(plain(finished) == data);
}

#[test]
fn a_part_without_a_journal_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let staging = staging(dir.path());
    let at = path("/drop/a");
    let staged = grant(FolderKind::Drop, 1);
    let mut upload = Upload::begin(at.clone(), staging.create(&at).unwrap(), &staged, Habits::default()).unwrap();
    upload.write(&staging, 0, &pattern(1, 500_000)).unwrap();
    drop(upload);
    assert_eq!(staging.size(&at), None);
}

#[test]
fn a_part_whose_end_the_disk_lost_continues_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let staging = staging(dir.path());
    let at = path("/drop/a");
    let data = pattern(5, 40 * CHUNK + 77);
    let mut staged = grant(FolderKind::Drop, 1);
    let mut upload = Upload::begin(at.clone(), staging.create(&at).unwrap(), &staged, Habits::default()).unwrap();
    upload.write(&staging, 0, &data[..30 * CHUNK + 5]).unwrap();
    drop(upload);
    let part = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().unwrap() == "part");
    let file = OpenOptions::new().write(true).open(part.unwrap()).unwrap();
    file.write_all_at(&[0; 4096], crate::seal::record_offset(20) + 100).unwrap();
    staged.file_key = None;
    let part = staging.open(&at).unwrap().unwrap();
    let mut upload = Upload::resume(at, part, &staging, &staged, Habits::default()).unwrap();
    assert_eq!(upload.len(), 20 * CHUNK as u64);
    upload.write(&staging, 20 * CHUNK as u64, &data[20 * CHUNK..]).unwrap();
    assert_eq!(plain(upload.finish(None).ok().unwrap()), data);
}
