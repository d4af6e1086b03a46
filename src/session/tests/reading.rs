//! Reading through a channel: files, folders, receipts, and what is not there to be read.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use super::{CREAT, READ, TRUNC, WRITE, on_runtime};
use crate::seal::CHUNK;
use crate::session::testing::{Site, pattern};
use crate::sftp::wire::Write as _;

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
        let file = OpenOptions::new().read(true).write(true).open(site.dir.path().join("shared/a")).unwrap();
        let (at, mut byte) = (crate::seal::record_offset(12) + 1000, [0]);
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[!byte[0]], at).unwrap();
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
        assert_eq!(client.read(&handle, 0, 6).await.unwrap_err().0, 3);
        site.told("refused reading a file that is being sent to others").await;
        assert_eq!(site.log().iter().filter(|line| line.starts_with("refused")).count(), 1);
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
        let readings = site.log().len();
        assert_eq!(client.size("/receipts/drop/a.receipt.sig").await, Ok(10));
        assert_eq!(client.list("/receipts/drop/a.receipt").await.unwrap_err().1, "this is not a folder");
        assert_eq!(site.log().len(), readings, "looking at a receipt is not reading it");
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
