//! Promises of the session, tested on its own engine with a keeper that checks what it is given. Here: order, flow and
//! handles; the rest by what a client does.

mod reading;
mod resume;
mod staged;
mod uploads;

use super::testing::{Site, pattern};
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
