//! Uploads through a channel: delivered, refused, cut off, continued, parked.

use super::{APPEND, CREAT, EXCL, READ, TRUNC, WRITE, on_runtime};
use crate::session::testing::{Client, Site, pattern};
use crate::sftp::wire::Write as _;

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

/// asyncssh numbers the bytes it appends from 0, as OpenSSH's server lets it.
#[test]
fn what_is_written_to_append_goes_to_the_end() {
    on_runtime(|| async {
        let site = Site::new();
        let data = pattern(5, 400_000);
        let mut first = site.client();
        let handle = first.open("/drop/a", WRITE | CREAT | TRUNC).await.unwrap();
        first.write(&handle, 0, &data[..150_000]).await;
        first.sftp.end().await;
        let mut client = site.client();
        client.put("/shared/a", &data[..150_000]).await;
        for path in ["/drop/a", "/shared/a"] {
            let handle = client.open(path, WRITE | APPEND).await.unwrap();
            assert_eq!(client.write(&handle, 0, &data[150_000..200_000]).await, 0);
            assert_eq!(client.write(&handle, 50_000, &data[200_000..]).await, 0);
            assert_eq!(client.close(&handle).await.0, 0);
            assert!(site.content(&path[1..]) == data, "{path}");
        }
        let handle = client.open("/drop/b", WRITE | CREAT | APPEND).await.unwrap();
        client.write(&handle, 10, b"there is a gap before this").await;
        assert_ne!(client.close(&handle).await.0, 0);
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
        assert_eq!(second.size("/drop/a").await, Ok(199_999), "the last byte is not shown before CLOSE");
        let handle = second.open("/drop/a", WRITE | CREAT | APPEND).await.unwrap();
        assert_eq!(second.write(&handle, 199_999, &data[199_999..350_000]).await, 0);
        assert_eq!(second.write(&handle, 350_000, &data[350_000..]).await, 0);
        assert_eq!(second.close(&handle).await.0, 0);
        assert_eq!(site.content("drop/a"), data);
        assert_eq!(site.staged_files(), 0);
    });
}

/// A client takes a file of its size for arrived: `reput` refuses it, `put -c` has nothing to do.
#[test]
fn a_connection_lost_before_close_shows_less_than_the_file_and_the_rest_delivers_it() {
    on_runtime(|| async {
        for (n, size) in [1, 65_536, 65_537, 200_000].into_iter().enumerate() {
            for flags in [WRITE | CREAT, WRITE | CREAT | APPEND] {
                let site = Site::new();
                let (data, name) = (pattern(n as u64, size), "/drop/a");
                for _ in 0..2 {
                    let mut lost = site.client();
                    let handle = lost.open(name, flags).await.unwrap();
                    let from = lost.size(name).await.map_or(0, |size| size as usize);
                    let from = from.min(size - 1);
                    lost.write(&handle, from as u64, &data[from..]).await;
                    lost.sftp.end().await;
                    assert_eq!(site.client().size(name).await, Ok(size as u64 - 1));
                }
                let mut client = site.client();
                let handle = client.open(name, flags).await.unwrap();
                assert_eq!(client.write(&handle, size as u64 - 1, &data[size - 1..]).await, 0);
                assert_eq!(client.close(&handle).await.0, 0);
                assert!(site.content("drop/a") == data, "{size} {flags}");
            }
        }
    });
}

/// sshfs closes when the kernel says so, which may be after a program has gone on with the file.
#[test]
fn what_comes_before_the_close_of_the_file_it_names_waits_for_it() {
    on_runtime(|| async {
        let site = Site::new();
        let data = pattern(7, 100_000);
        let mut client = site.client();
        let half_closed = async |client: &mut Client, kind: u8, fill: &dyn Fn(&mut Vec<u8>)| {
            let handle = client.open("/shared/a", WRITE | CREAT | TRUNC).await.unwrap();
            client.write(&handle, 0, &data).await;
            let early = client.send(kind, fill);
            let late = client.send(4, |p| p.put_string(&handle));
            assert_eq!(client.status(late).await.0, 0);
            early
        };
        let early = half_closed(&mut client, 3, &|p| {
            p.put_string(b"/shared/a");
            p.put_u32(READ);
            p.put_u32(0);
        })
        .await;
        let handle = client.handle(early).await.unwrap();
        assert_eq!(client.read(&handle, 0, 100).await.unwrap(), data[..100]);
        client.close(&handle).await;
        let early = half_closed(&mut client, 18, &|p| {
            p.put_string(b"/shared/a");
            p.put_string(b"/shared/b");
        })
        .await;
        assert_eq!(client.status(early).await.0, 0);
        assert_eq!(site.content("shared/b"), data);
        let early = half_closed(&mut client, 13, &|p| p.put_string(b"/shared/a")).await;
        assert_eq!(client.status(early).await.0, 0);
        assert!(!site.dir.path().join("shared/a").exists());
        assert_eq!(site.staged_files(), 0);
        // Who does not close is told after a while what it would have been told at once.
        let _held = client.open("/shared/a", WRITE | CREAT | TRUNC).await.unwrap();
        let refused = client.ask(18, |p| {
            p.put_string(b"/shared/a");
            p.put_string(b"/shared/c");
        });
        assert_eq!(refused.await.1, "this file is still being written");
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
        assert_eq!(client.size("/drop/a").await, Ok(999));
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
        assert_eq!(client.size("/drop/a.filepart").await, Ok(3));
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
fn what_waits_is_a_file_to_its_client_and_can_be_continued() {
    on_runtime(|| async {
        let site = Site::new();
        let mut client = site.client();
        let data = pattern(3, 300_000);
        assert_eq!(client.put("/drop/quiet", &data[..200_000]).await.0, 0);
        assert_eq!(client.size("/drop/quiet").await, Ok(200_000));
        let handle = client.open("/drop/quiet", WRITE | CREAT | APPEND).await.unwrap();
        assert_eq!(client.write(&handle, 200_000, &data[200_000..]).await, 0);
        assert_eq!(client.close(&handle).await.0, 0);
        assert_eq!(client.size("/drop/quiet").await, Ok(300_000));
        assert!(site.log().contains(&"wait /drop/quiet 300000".to_owned()), "{:?}", site.log());
        assert_eq!(client.open("/drop/quiet", WRITE | CREAT | EXCL).await.unwrap_err().0, 4, "it exists");
        // REMOVE: nothing of it is left, and the keeper knows.
        assert_eq!(client.ask(13, |p| p.put_string(b"/drop/quiet")).await.0, 0);
        assert_eq!(client.size("/drop/quiet").await, Err(2));
        assert!(site.log().iter().any(|line| line.starts_with("discard /drop/quiet 300000 keep=false")));
        assert_eq!(site.staged_files(), 0);
    });
}
