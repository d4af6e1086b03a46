//! Promises of the session, tested on its own engine with a keeper that checks what it is given.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use sha2::Digest as _;

use super::testing::{Site, grant, opened, path, pattern, staging};
use super::upload::{Finished, Habits, Upload};
use crate::ipc::jail::FolderKind;
use crate::seal::CHUNK;
use crate::sftp::wire::Write as _;

const READ: u32 = 1;
const WRITE: u32 = 2;
const APPEND: u32 = 4;
const CREAT: u32 = 8;
const TRUNC: u32 = 16;
const EXCL: u32 = 32;

fn on_runtime<F: Future>(test: impl FnOnce() -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { test().await })
}

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
                    upload.truncate(offset, true).unwrap();
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
            let staged = staging.size(&at).unwrap() as usize;
            prop_assert_eq!(staged, done);
            let part = staging.open(&at).unwrap().unwrap();
            upload = Upload::resume(at.clone(), part, &staging, &fresh, Habits { appends: true, ..Habits::default() }).unwrap();
            prop_assert_eq!(upload.len() as usize, done);
        }
        upload.write(&staging, done as u64, &data[done..]).unwrap();
        prop_assert_eq!(plain(upload.finish(at.name()).ok().unwrap()), data);
    }
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
    upload.sync(&staging).unwrap();
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

#[test]
fn a_put_is_committed_listed_and_durable_before_close_is_answered() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client();
        let data = pattern(1, 300_000);
        assert_eq!(client.put("/drop/a b.dcm", &data).await.0, 0);
        assert_eq!(site.content("drop/a b.dcm"), data);
        assert_eq!(site.staged_files(), 0);
        assert_eq!(client.size("/drop/a b.dcm").await, Ok(300_000));
        assert_eq!(client.list("/drop").await.unwrap(), [(b"a b.dcm".to_vec(), 300_000)]);
        assert_eq!(site.log(), ["stage /drop/a b.dcm fresh", "commit /drop/a b.dcm 300000 "]);
    });
}

#[test]
fn a_file_of_no_bytes_and_names_that_are_not_utf8_are_delivered() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client();
        assert_eq!(client.put("/drop/empty", b"").await.0, 0);
        assert_eq!(client.size("/drop/empty").await, Ok(0));
        let id = client.send(3, |p| {
            p.put_string(b"/drop/\xff\xfe");
            p.put_u32(WRITE | CREAT | TRUNC);
            p.put_u32(0);
        });
        let handle = client.handle(id).await.unwrap();
        client.write(&handle, 0, b"x").await;
        assert_eq!(client.close(&handle).await.0, 0);
        assert!(client.list("/drop").await.unwrap().contains(&(b"\xff\xfe".to_vec(), 1)));
    });
}

#[test]
fn a_lost_connection_never_delivers_and_the_next_one_continues() {
    on_runtime(|| async {
        let site = Site::new();
        let data = pattern(2, 500_000);
        let mut first = site.client();
        let handle = first.open("/drop/a", WRITE | CREAT | TRUNC).await.unwrap();
        first.write(&handle, 0, &data[..200_000]).await;
        assert_eq!(first.size("/drop/a").await, Ok(200_000));
        let mut second = site.client();
        let busy = second.open("/drop/a", WRITE | CREAT | APPEND).await.unwrap_err();
        assert_eq!(busy.1, "this file is being uploaded by another session");
        first.sftp.end().await;
        assert!(!site.dir.path().join("drop/a").exists());
        assert!(site.log().contains(&"discard /drop/a 200000 keep=true Disconnected".to_owned()));
        assert_eq!(second.size("/drop/a").await, Ok(200_000));
        let handle = second.open("/drop/a", WRITE | CREAT | APPEND).await.unwrap();
        assert_eq!(second.write(&handle, 200_000, &data[200_000..350_000]).await, 0);
        assert_eq!(second.write(&handle, 350_000, &data[350_000..]).await, 0);
        assert_eq!(second.close(&handle).await.0, 0);
        assert_eq!(site.content("drop/a"), data);
        assert_eq!(site.staged_files(), 0);
    });
}

#[test]
fn an_interrupted_openssh_put_is_kept_and_not_delivered() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client_called("SSH-2.0-OpenSSH_9.2p1");
        let handle = client.open("/drop/a", WRITE | CREAT | TRUNC).await.unwrap();
        client.write(&handle, 0, &pattern(1, 1000)).await;
        let cut = |p: &mut Vec<u8>| {
            p.put_string(&handle);
            p.put_u32(1);
            p.put_u64(1000);
        };
        assert_eq!(client.ask(10, cut).await.0, 0);
        assert_eq!(client.close(&handle).await.0, 0);
        assert!(!site.dir.path().join("drop/a").exists());
        assert!(site.log().contains(&"discard /drop/a 1000 keep=true Interrupted".to_owned()));
        assert_eq!(client.size("/drop/a").await, Ok(1000));
    });
}

#[test]
fn scp_writes_in_place_and_sets_the_size_it_wrote() {
    on_runtime(|| async {
        let site = Site::new();
        // A longer try was cut off before.
        let mut first = site.client();
        let handle = first.open("/drop/a", WRITE | CREAT).await.unwrap();
        first.write(&handle, 0, &pattern(1, 200_000)).await;
        first.sftp.end().await;
        let mut scp = site.client_called("SSH-2.0-OpenSSH_9.2p1");
        let data = pattern(2, 150_000);
        let handle = scp.open("/drop/a", WRITE | CREAT).await.unwrap();
        scp.write(&handle, 0, &data).await;
        let size = |p: &mut Vec<u8>| {
            p.put_string(&handle);
            p.put_u32(1);
            p.put_u64(150_000);
        };
        assert_eq!(scp.ask(10, size).await.0, 0);
        assert_eq!(scp.close(&handle).await.0, 0);
        assert_eq!(site.content("drop/a"), data);
    });
}

#[test]
fn a_refused_upload_fails_on_close_and_does_not_stat() {
    on_runtime(|| async {
        let site = Site::new();
        site.desk.lock().unwrap().refuse_commit = Some("the quota is used up".to_owned());
        let mut client = site.client();
        assert_eq!(client.put("/drop/a", b"data").await, (4, "the quota is used up".to_owned()));
        assert_eq!(client.size("/drop/a").await, Err(2));
        assert_eq!(site.staged_files(), 0);
    });
}

#[test]
fn a_write_over_the_limit_fails_and_so_does_its_close() {
    on_runtime(|| async {
        let site = Site::new();
        site.desk.lock().unwrap().size_max = Some(100);
        let mut client = site.client();
        let handle = client.open("/drop/a", WRITE | CREAT | TRUNC).await.unwrap();
        assert_eq!(client.write(&handle, 0, &[1; 101]).await, 4);
        assert_eq!(client.close(&handle).await.0, 4);
        assert_eq!((client.size("/drop/a").await, site.staged_files()), (Err(2), 0));
        site.told("discard /drop/a 0 keep=false Refused").await;
    });
}

#[test]
fn a_gap_is_refused_in_a_drop_and_zeros_in_a_shared_folder() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client();
        for (name, far) in [("/drop/near", 100), ("/drop/far", 20 << 20)] {
            let handle = client.open(name, WRITE | CREAT | TRUNC).await.unwrap();
            client.write(&handle, far, b"x").await;
            assert_eq!(client.close(&handle).await, (4, "bytes are missing before this offset".to_owned()), "{name}");
        }
        let handle = client.open("/shared/a", WRITE | CREAT | TRUNC).await.unwrap();
        client.write(&handle, 3, b"x").await;
        assert_eq!(client.close(&handle).await.0, 0);
        assert_eq!(site.content("shared/a"), b"\0\0\0x");
    });
}

#[test]
fn a_temp_name_is_delivered_when_it_is_renamed() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client();
        let data = pattern(3, 100_000);
        assert_eq!(client.put("/drop/a.filepart", &data).await.0, 0);
        assert!(!site.dir.path().join("drop/a.filepart").exists());
        assert_eq!(client.size("/drop/a.filepart").await, Ok(100_000));
        let times = |p: &mut Vec<u8>| {
            p.put_string(b"/drop/a.filepart");
            p.put_u32(8);
            p.put_u32(5);
            p.put_u32(1_700_000_000);
        };
        assert_eq!(client.ask(9, times).await.0, 0);
        let rename = |p: &mut Vec<u8>| {
            p.put_string(b"/drop/a.filepart");
            p.put_string(b"/drop/a");
        };
        assert_eq!(client.ask(18, rename).await.0, 0);
        assert_eq!(site.content("drop/a"), data);
        assert!(site.log().contains(&"commit /drop/a 100000 1700000000".to_owned()), "{:?}", site.log());
        assert_eq!((client.size("/drop/a.filepart").await, site.staged_files()), (Err(2), 0));
    });
}

#[test]
fn a_temp_name_that_was_cut_off_cannot_be_renamed_into_a_delivery() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client();
        let handle = client.open("/drop/a.filepart", WRITE | CREAT | TRUNC).await.unwrap();
        client.write(&handle, 0, b"half").await;
        client.sftp.end().await;
        let mut client = site.client();
        let rename = |p: &mut Vec<u8>| {
            p.put_string(b"/drop/a.filepart");
            p.put_string(b"/drop/a");
        };
        assert_eq!(client.ask(18, rename).await, (4, "this upload is not complete".to_owned()));
        assert!(!site.dir.path().join("drop/a").exists());
        assert_eq!(client.size("/drop/a.filepart").await, Ok(4));
    });
}

#[test]
fn exclusive_opens_fail_on_what_stats() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client();
        assert_eq!(client.put("/drop/a", b"1").await.0, 0);
        assert_eq!(client.open("/drop/a", WRITE | CREAT | EXCL).await.unwrap_err().0, 4);
        assert!(client.open("/drop/b", WRITE | CREAT | EXCL).await.is_ok());
        assert_eq!(client.open("/drop/none", WRITE).await.unwrap_err().0, 2);
    });
}

#[test]
fn random_reads_of_a_shared_file_are_right_and_its_end_is_an_end() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client();
        let data = pattern(4, 5 * CHUNK + 1234);
        assert_eq!(client.put("/shared/a", &data).await.0, 0);
        let handle = client.open("/shared/a", READ).await.unwrap();
        for (offset, len) in
            [(0, 32_768), (32_768, 32_768), (65_530, 20), (200_000, 261_120), (328_000, 65_536), (1, 1)]
        {
            let end = (offset + len as usize).min(data.len());
            assert_eq!(client.read(&handle, offset as u64, len).await.unwrap(), &data[offset..end]);
        }
        assert_eq!(client.read(&handle, data.len() as u64, 10).await.unwrap_err().0, 1);
        assert_eq!(client.read(&handle, u64::MAX, 10).await.unwrap_err().0, 1);
        assert_eq!(client.close(&handle).await.0, 0);
        site.told("pulled /shared/a").await;
    });
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_wrong_byte() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client();
        let data = pattern(4, 20 * CHUNK);
        assert_eq!(client.put("/shared/a", &data).await.0, 0);
        let file = OpenOptions::new().write(true).open(site.dir.path().join("shared/a")).unwrap();
        file.write_all_at(&[9], crate::seal::record_offset(12) + 1000).unwrap();
        let handle = client.open("/shared/a", READ).await.unwrap();
        assert_eq!(client.read(&handle, 0, 1000).await.unwrap(), &data[..1000]);
        let damaged = client.read(&handle, 12 * CHUNK as u64 + 5, 10).await.unwrap_err();
        assert_eq!(damaged, (4, "this file is damaged".to_owned()));
        site.told("corrupt /shared/a").await;
    });
}

#[test]
fn writing_into_a_shared_file_keeps_the_rest_of_it() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client();
        let mut data = pattern(4, 4 * CHUNK + 99);
        assert_eq!(client.put("/shared/a", &data).await.0, 0);
        let handle = client.open("/shared/a", READ | WRITE).await.unwrap();
        client.write(&handle, 100_000, b"changed").await;
        data[100_000..100_007].copy_from_slice(b"changed");
        assert_eq!(client.read(&handle, 99_990, 100).await.unwrap(), &data[99_990..100_090]);
        assert_eq!(client.read(&handle, 200_000, 100).await.unwrap(), &data[200_000..200_100]);
        assert_eq!(client.close(&handle).await.0, 0);
        assert_eq!(site.content("shared/a"), data);
        let cut = |p: &mut Vec<u8>| {
            p.put_string(b"/shared/a");
            p.put_u32(1);
            p.put_u64(70_000);
        };
        assert_eq!(client.ask(9, cut).await.0, 0);
        assert_eq!(site.content("shared/a"), &data[..70_000]);
    });
}

#[test]
fn a_drop_is_never_read_back() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client();
        assert_eq!(client.put("/drop/a", b"secret").await.0, 0);
        assert_eq!(client.open("/drop/a", READ).await.unwrap_err().0, 3);
        let handle = client.open("/drop/b", READ | WRITE | CREAT | TRUNC).await.unwrap();
        client.write(&handle, 0, b"secret").await;
        assert_eq!(client.read(&handle, 0, 6).await.unwrap_err().0, 3);
    });
}

#[test]
fn what_is_sealed_to_its_recipient_is_given_out_as_it_stands_with_its_envelope() {
    on_runtime(|| async {
        let site = Site::new();
        site.desk.lock().unwrap().mode = 1;
        let mut client = site.client();
        assert_eq!(client.put("/drop/x", &pattern(1, 1000)).await.0, 0);
        let disk = fs::read(site.dir.path().join("drop/x")).unwrap();
        fs::write(site.dir.path().join("inbox/peer/x"), &disk).unwrap();
        assert_eq!(client.list("/drop").await.unwrap(), [(b"x".to_vec(), 1000)]);
        assert_eq!(client.list("/inbox/peer").await.unwrap(), [(b"x.sealed".to_vec(), disk.len() as u64)]);
        assert_eq!(client.size("/inbox/peer/x").await, Err(2));
        assert_eq!(client.size("/inbox/peer/x.sealed").await, Ok(disk.len() as u64));
        assert_eq!(client.open("/inbox/peer/x", READ).await.unwrap_err().0, 2);
        let handle = client.open("/inbox/peer/x.sealed", READ).await.unwrap();
        let got = client.read(&handle, 0, 261_120).await.unwrap();
        assert_eq!(got[..96], disk[..96]);
        assert!(got[96..8192].iter().all(|b| *b == 0xEE));
        assert_eq!(got[8192..], disk[8192..]);
        client.close(&handle).await;
        site.told(&format!("pulled /inbox/peer/x {} whole=true", disk.len())).await;
        assert_eq!(client.ask(13, |p| p.put_string(b"/inbox/peer/x.sealed")).await.0, 0);
        assert!(!site.dir.path().join("inbox/peer/x").exists());
    });
}

#[test]
fn the_root_shows_the_view_and_nothing_else() {
    on_runtime(|| async {
        let site = Site::new();
        fs::create_dir(site.dir.path().join("gone-from-policy")).unwrap();
        let mut client = site.client();
        let names: Vec<_> = client.list("/").await.unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [&b"drop"[..], b"inbox", b"receipts", b"shared"]);
        for hidden in ["/.staging", "/.staging/x", "/.commit", "/gone-from-policy"] {
            assert_eq!(client.size(hidden).await, Err(2), "{hidden}");
            assert_eq!(client.list(hidden).await.unwrap_err().0, 2, "{hidden}");
        }
        std::os::unix::fs::symlink("/etc", site.dir.path().join("shared/out")).unwrap();
        assert_eq!(client.size("/shared/out").await, Err(2));
        assert_eq!(client.list("/shared/out").await.unwrap_err().0, 2);
        assert_eq!(client.list("/shared").await.unwrap(), []);
    });
}

#[test]
fn receipts_are_listed_page_by_page_and_read_like_files() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client();
        assert!(client.size("/receipts").await.is_ok());
        assert_eq!(client.list("/receipts").await.unwrap().len(), 7);
        let handle = client.open("/receipts/drop/a.receipt", READ).await.unwrap();
        assert_eq!(client.read(&handle, 0, 100).await.unwrap(), b"receipt for /drop/a\n");
        assert_eq!(client.read(&handle, 8, 3).await.unwrap(), b"for");
        assert_eq!(client.size("/receipts/drop/a.receipt.sig").await, Ok(10));
        assert_eq!(client.size("/receipts/drop/a.content.sig").await, Ok(8));
        assert_eq!(client.open("/receipts/x", WRITE | CREAT).await.unwrap_err().0, 3);
    });
}

#[test]
fn five_thousand_names_come_in_pages() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client();
        assert_eq!(client.put("/shared/f0", b"12345").await.0, 0);
        let bytes = fs::read(site.dir.path().join("shared/f0")).unwrap();
        for n in 1..5000 {
            fs::write(site.dir.path().join(format!("shared/f{n}")), &bytes).unwrap();
        }
        let names = client.list("/shared").await.unwrap();
        assert_eq!(names.len(), 5000);
        assert!(names.iter().all(|(_, size)| *size == 5));
    });
}

#[test]
fn other_handles_go_on_while_one_is_being_committed_and_the_next_path_waits() {
    on_runtime(|| async {
        let site = Site::new();
        site.desk.lock().unwrap().hold_commits = true;
        let mut client = site.client();
        let a = client.open("/shared/a", WRITE | CREAT | TRUNC).await.unwrap();
        let b = client.open("/shared/b", WRITE | CREAT | TRUNC).await.unwrap();
        client.write(&a, 0, b"a").await;
        let close = client.send(4, |p| p.put_string(&a));
        let stat = client.send(17, |p| p.put_string(b"/shared/a"));
        assert_eq!(client.write(&b, 0, b"b").await, 0);
        assert!(!client.order.contains(&close) && !client.order.contains(&stat));
        site.release.notify_one();
        assert_eq!(client.reply(stat).await[0], 105);
        let order = |id| client.order.iter().position(|x| *x == id).unwrap();
        assert!(order(close) < order(stat));
    });
}

#[test]
fn a_client_that_does_not_read_is_served_when_it_does_in_order() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client();
        let data = pattern(6, 3 * CHUNK);
        assert_eq!(client.put("/shared/a", &data).await.0, 0);
        let handle = client.open("/shared/a", READ).await.unwrap();
        client.blocked = true;
        let mut ids = Vec::new();
        for n in 0..200u64 {
            ids.push(client.send(5, |p| {
                p.put_string(&handle);
                p.put_u64(n * 900);
                p.put_u32(900);
            }));
        }
        let close = client.send(4, |p| p.put_string(&handle));
        assert!(ids.iter().all(|id| !client.order.contains(id)), "nothing is forced on it");
        ids.push(close);
        let before = client.order.len();
        client.reply(close).await;
        assert_eq!(client.order[before..], ids);
    });
}

#[test]
fn a_flood_of_unread_requests_is_cut_off() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client();
        assert_eq!(client.put("/shared/a", b"x").await.0, 0);
        let handle = client.open("/shared/a", READ).await.unwrap();
        let mut packet = vec![0, 0, 0, 25, 5, 0, 0, 0, 1];
        packet.put_string(&handle);
        packet.put_u64(0);
        packet.put_u32(1);
        let many = packet.repeat(1 << 13);
        let mut out = Vec::new();
        let broken = (0..64).find_map(|_| client.sftp.take(&many, true, &mut out).err());
        assert_eq!(broken.unwrap().to_string(), "more requests wait than any client sends");
    });
}

#[test]
fn handles_are_counted_and_given_back() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client();
        let mut handles = Vec::new();
        for n in 0..64 {
            handles.push(client.open(&format!("/drop/{n}"), WRITE | CREAT | TRUNC).await.unwrap());
        }
        assert_eq!(
            client.open("/drop/more", WRITE | CREAT).await.unwrap_err().1,
            "too many files are open in this session"
        );
        assert_eq!(client.close(&handles[0]).await.0, 0);
        assert!(client.open("/drop/more", WRITE | CREAT).await.is_ok());
        for bad in [&[0u8; 3][..], &[255; 4], &[]] {
            assert_eq!(client.close(bad).await.0, 4);
        }
    });
}

#[test]
fn links_are_refused_and_reported() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client();
        let link = |p: &mut Vec<u8>| {
            p.put_string(b"/etc/passwd");
            p.put_string(b"/drop/link");
        };
        assert_eq!(client.ask(20, link).await.0, 8);
        site.told("refused a symbolic link").await;
        assert_eq!(client.ask(19, |p| p.put_string(b"/drop")).await.0, 4);
        assert_eq!(client.ask(77, |p| p.put_u32(1)).await.0, 8);
    });
}
