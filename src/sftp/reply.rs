//! Replies: each function appends one whole packet to a buffer that is reused and sent when a batch is done.

use super::VERSION;
use super::attrs::{self, Attrs};
use super::extension::ANNOUNCED;
use super::status::Status;
use super::wire::Write;

const VERSION_REPLY: u8 = 2;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const DATA: u8 = 103;
const NAME: u8 = 104;
const ATTRS: u8 = 105;
const EXTENDED_REPLY: u8 = 201;

/// Bytes of a DATA packet before its data: length, type, id, length of the data.
pub const DATA_HEAD: usize = 4 + 1 + 4 + 4;

/// A packet begins with its length, known when `fill` is done.
fn packet(out: &mut Vec<u8>, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u32(0);
    out.push(kind);
    fill(out);
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

pub fn version(out: &mut Vec<u8>) {
    packet(out, VERSION_REPLY, |out| {
        out.put_u32(VERSION);
        for (name, version) in ANNOUNCED {
            out.put_string(name.as_bytes());
            out.put_string(version.as_bytes());
        }
    });
}

pub fn status(out: &mut Vec<u8>, id: u32, status: Status, say: &str) {
    packet(out, STATUS, |out| {
        out.put_u32(id);
        out.put_u32(status.code());
        out.put_string(say.as_bytes());
        out.put_string(b"en");
    });
}

pub fn handle(out: &mut Vec<u8>, id: u32, handle: u32) {
    packet(out, HANDLE, |out| {
        out.put_u32(id);
        out.put_string(&handle.to_be_bytes());
    });
}

/// A DATA packet whose data `fill` appends; when it fails, or there is none, the packet is taken back.
pub fn data<E>(out: &mut Vec<u8>, id: u32, fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<usize, E> {
    let start = out.len();
    out.put_u32(0);
    out.push(DATA);
    out.put_u32(id);
    out.put_u32(0);
    if let Err(e) = fill(out) {
        out.truncate(start);
        return Err(e);
    }
    let len = out.len() - start - DATA_HEAD;
    if len == 0 {
        out.truncate(start);
        return Ok(0);
    }
    out[start..start + 4].copy_from_slice(&((len + DATA_HEAD - 4) as u32).to_be_bytes());
    out[start + DATA_HEAD - 4..start + DATA_HEAD].copy_from_slice(&(len as u32).to_be_bytes());
    Ok(len)
}

pub fn attrs(out: &mut Vec<u8>, id: u32, attrs: &Attrs) {
    packet(out, ATTRS, |out| {
        out.put_u32(id);
        attrs.write(out);
    });
}

/// A NAME reply with one name and no attributes: REALPATH's, home-directory's, expand-path's.
pub fn name(out: &mut Vec<u8>, id: u32, name: &[u8]) {
    packet(out, NAME, |out| {
        out.put_u32(id);
        out.put_u32(1);
        out.put_string(name);
        out.put_string(name);
        Attrs::default().write(out);
    });
}

pub fn extended(out: &mut Vec<u8>, id: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    packet(out, EXTENDED_REPLY, |out| {
        out.put_u32(id);
        fill(out);
    });
}

/// A NAME reply of a directory, filled name by name up to [`Names::PAGE`] bytes.
pub struct Names<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    count: u32,
}

impl<'a> Names<'a> {
    /// A page is sent when it is this long. Clients accept 256 KiB at the most; smaller pages reach the screen sooner.
    pub const PAGE: usize = 56 * 1024;

    pub fn begin(out: &'a mut Vec<u8>, id: u32) -> Self {
        let start = out.len();
        out.put_u32(0);
        out.push(NAME);
        out.put_u32(id);
        out.put_u32(0);
        Self { out, start, count: 0 }
    }

    pub fn is_full(&self) -> bool {
        self.out.len() - self.start >= Self::PAGE
    }

    pub fn push(&mut self, name: &[u8], attrs: &Attrs, owner: &str, now: u64) {
        self.out.put_string(name);
        let at = self.out.len();
        self.out.put_u32(0);
        attrs::long_name(self.out, name, attrs, owner, now);
        let len = (self.out.len() - at - 4) as u32;
        self.out[at..at + 4].copy_from_slice(&len.to_be_bytes());
        attrs.write(self.out);
        self.count += 1;
    }

    /// Takes the packet back.
    pub fn give_up(self) {
        self.out.truncate(self.start);
    }

    /// Completes the packet; `false`, and no packet, if it has no name.
    pub fn end(self) -> bool {
        if self.count == 0 {
            self.out.truncate(self.start);
            return false;
        }
        let len = (self.out.len() - self.start - 4) as u32;
        self.out[self.start..self.start + 4].copy_from_slice(&len.to_be_bytes());
        self.out[self.start + 9..self.start + 13].copy_from_slice(&self.count.to_be_bytes());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::split_packet;
    use super::super::wire::Reader;
    use super::*;

    fn only_packet(out: &[u8]) -> &[u8] {
        let (packet, rest) = split_packet(out).unwrap().unwrap();
        assert!(rest.is_empty());
        packet
    }

    #[test]
    fn a_status_has_the_fields_openssh_sends() {
        let mut out = Vec::new();
        status(&mut out, 9, Status::NoSuchFile, "No such file");
        let mut r = Reader::new(only_packet(&out));
        assert_eq!((r.u8(), r.u32(), r.u32()), (Ok(101), Ok(9), Ok(2)));
        assert_eq!((r.string(), r.string()), (Ok(&b"No such file"[..]), Ok(&b"en"[..])));
        assert!(r.end().is_ok());
    }

    #[test]
    fn data_that_fails_or_is_empty_leaves_no_packet() {
        let mut out = vec![1];
        assert_eq!(data(&mut out, 1, |_| Ok::<(), ()>(())), Ok(0));
        let failed = data(&mut out, 1, |out| {
            out.push(0);
            Err(())
        });
        assert_eq!(failed, Err(()));
        assert_eq!(out, [1]);
        out.clear();
        let fill = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"abc");
            Ok::<(), ()>(())
        };
        assert_eq!(data(&mut out, 1, fill), Ok(3));
        let mut r = Reader::new(only_packet(&out));
        assert_eq!((r.u8(), r.u32(), r.string()), (Ok(103), Ok(1), Ok(&b"abc"[..])));
    }

    #[test]
    fn a_page_of_names_stays_below_what_clients_accept() {
        let mut out = Vec::new();
        let mut names = Names::begin(&mut out, 3);
        let mut pushed = 0;
        while !names.is_full() {
            names.push(&[b'x'; 255], &Attrs { size: Some(1), ..Attrs::default() }, "u", 0);
            pushed += 1;
        }
        assert!(names.end());
        assert!(out.len() < 64 * 1024);
        let mut r = Reader::new(only_packet(&out));
        assert_eq!((r.u8(), r.u32(), r.u32()), (Ok(104), Ok(3), Ok(pushed)));
        for _ in 0..pushed {
            assert_eq!(r.string().unwrap(), [b'x'; 255]);
            r.string().unwrap();
            Attrs::read(&mut r).unwrap();
        }
        assert!(r.end().is_ok());
        let mut none = Vec::new();
        assert!(!Names::begin(&mut none, 3).end());
        assert!(none.is_empty());
    }
}
