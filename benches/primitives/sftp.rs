//! Packets: requests that are read, and replies that are written. Content is not copied out of a WRITE, so eight of them and
//! eight READs take about as long.

use std::hint::black_box;

use sealdrop::sftp::attrs::Attrs;
use sealdrop::sftp::packet::{Request, read_request, split_packet};
use sealdrop::sftp::reply::{self, Names};
use sealdrop::sftp::status::Status;
use sealdrop::sftp::wire::Write;

use crate::Work;

/// What OpenSSH's client writes at a time, and how many of them come in one window's update.
const DATA: usize = 32 * 1024;
const PACKETS: usize = 8;

const HANDLE: [u8; 4] = [0, 0, 0, 1];

pub fn works() -> Vec<Work> {
    vec![
        read_all(
            "sftp/read-8-writes",
            stream(6, |packet, offset| {
                packet.put_u64(offset);
                packet.put_string(&[b'x'; DATA]);
            }),
        ),
        read_all(
            "sftp/read-8-reads",
            stream(5, |packet, offset| {
                packet.put_u64(offset);
                packet.put_u32(DATA as u32);
            }),
        ),
        data(),
        status(),
        names(),
    ]
}

/// A client's bytes: so many requests of one kind, one after the other.
fn stream(kind: u8, rest: impl Fn(&mut Vec<u8>, u64)) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..PACKETS {
        let mut packet = vec![kind];
        packet.put_u32(number as u32);
        packet.put_string(&HANDLE);
        rest(&mut packet, (number * DATA) as u64);
        bytes.put_string(&packet);
    }
    bytes
}

fn read_all(name: &'static str, bytes: Vec<u8>) -> Work {
    Work::new(name, move || {
        let mut rest = black_box(&bytes[..]);
        let mut found = 0;
        while let Some((packet, later)) = split_packet(rest).unwrap() {
            let (_, request) = read_request(packet).unwrap();
            assert!(matches!(black_box(request), Request::Write { .. } | Request::Read { .. }));
            (rest, found) = (later, found + 1);
        }
        assert_eq!((found, rest.len()), (PACKETS, 0));
    })
}

fn data() -> Work {
    let content = vec![b'x'; DATA];
    let mut out = Vec::new();
    Work::of_bytes("sftp/reply-data", DATA, move || {
        out.clear();
        let fill = |out: &mut Vec<u8>| {
            out.extend_from_slice(black_box(&content));
            Ok::<(), ()>(())
        };
        assert_eq!(reply::data(&mut out, 7, fill), Ok(DATA));
        black_box(&out);
    })
}

fn status() -> Work {
    let mut out = Vec::new();
    Work::new("sftp/reply-status", move || {
        out.clear();
        reply::status(&mut out, 7, black_box(Status::Ok), "Success");
        black_box(&out);
    })
}

/// A hundred names, as `ls -l` asks for them.
fn names() -> Work {
    let attrs = Attrs { size: Some(1 << 20), permissions: Some(0o100_440), ..Attrs::default() };
    let mut out = Vec::new();
    Work::new("sftp/reply-100-names", move || {
        out.clear();
        let mut names = Names::begin(&mut out, 7);
        for _ in 0..100 {
            names.push(black_box(b"IM-0001-0042.dcm"), &attrs, "acme-imaging", 1_795_308_143);
        }
        assert!(names.end());
        black_box(&out);
    })
}
