//! Requests: cutting a channel's byte stream into packets, and reading one packet into a [`Request`] whose strings
//! still lie in the packet. A packet that breaks the format ends the channel, as in OpenSSH: after it nothing in the
//! stream can be trusted to be where it should.

use super::PACKET_MAX;
use super::attrs::Attrs;
use super::extension::Extended;
use super::wire::{Reader, WireError};

/// How a file is to be opened (SSH_FXF_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFlags(pub u32);

impl OpenFlags {
    pub fn read(self) -> bool {
        self.0 & 0x01 != 0
    }
    /// APPEND without WRITE is a writer's too; some old clients send it so.
    pub fn write(self) -> bool {
        self.0 & (0x02 | 0x04) != 0
    }
    pub fn append(self) -> bool {
        self.0 & 0x04 != 0
    }
    pub fn create(self) -> bool {
        self.0 & 0x08 != 0
    }
    pub fn truncate(self) -> bool {
        self.0 & 0x10 != 0
    }
    pub fn exclusive(self) -> bool {
        self.0 & 0x20 != 0
    }
}

/// One request after INIT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    Open {
        path: &'a [u8],
        flags: OpenFlags,
        attrs: Attrs,
    },
    Close {
        handle: &'a [u8],
    },
    Read {
        handle: &'a [u8],
        offset: u64,
        len: u32,
    },
    Write {
        handle: &'a [u8],
        offset: u64,
        data: &'a [u8],
    },
    LStat {
        path: &'a [u8],
    },
    FStat {
        handle: &'a [u8],
    },
    SetStat {
        path: &'a [u8],
        attrs: Attrs,
    },
    FSetStat {
        handle: &'a [u8],
        attrs: Attrs,
    },
    OpenDir {
        path: &'a [u8],
    },
    ReadDir {
        handle: &'a [u8],
    },
    Remove {
        path: &'a [u8],
    },
    MkDir {
        path: &'a [u8],
        attrs: Attrs,
    },
    RmDir {
        path: &'a [u8],
    },
    RealPath {
        path: &'a [u8],
    },
    Stat {
        path: &'a [u8],
    },
    Rename {
        from: &'a [u8],
        to: &'a [u8],
    },
    ReadLink {
        path: &'a [u8],
    },
    Symlink {
        target: &'a [u8],
        path: &'a [u8],
    },
    Extended(Extended<'a>),
    /// A request type version 3 does not have: answered, not punished.
    Unknown {
        kind: u8,
    },
}

/// The first packet of a client. Extension data in it is ours to ignore.
pub fn read_init(packet: &[u8]) -> Result<u32, WireError> {
    let mut r = Reader::new(packet);
    match r.u8()? {
        1 => r.u32(),
        kind => Err(WireError::NotARequest(kind)),
    }
}

/// One packet without its length: the request's number and the request.
pub fn read_request(packet: &[u8]) -> Result<(u32, Request<'_>), WireError> {
    let mut r = Reader::new(packet);
    let kind = r.u8()?;
    if kind < 3 || (100..200).contains(&kind) {
        return Err(WireError::NotARequest(kind));
    }
    let id = r.u32()?;
    let request = match kind {
        3 => Request::Open { path: r.string()?, flags: OpenFlags(r.u32()?), attrs: Attrs::read(&mut r)? },
        4 => Request::Close { handle: r.string()? },
        5 => Request::Read { handle: r.string()?, offset: r.u64()?, len: r.u32()? },
        6 => Request::Write { handle: r.string()?, offset: r.u64()?, data: r.string()? },
        7 => Request::LStat { path: r.string()? },
        8 => Request::FStat { handle: r.string()? },
        9 => Request::SetStat { path: r.string()?, attrs: Attrs::read(&mut r)? },
        10 => Request::FSetStat { handle: r.string()?, attrs: Attrs::read(&mut r)? },
        11 => Request::OpenDir { path: r.string()? },
        12 => Request::ReadDir { handle: r.string()? },
        13 => Request::Remove { path: r.string()? },
        14 => Request::MkDir { path: r.string()?, attrs: Attrs::read(&mut r)? },
        15 => Request::RmDir { path: r.string()? },
        16 => Request::RealPath { path: r.string()? },
        17 => Request::Stat { path: r.string()? },
        18 => Request::Rename { from: r.string()?, to: r.string()? },
        19 => Request::ReadLink { path: r.string()? },
        // OpenSSH's order, the reverse of the draft's; every client has followed OpenSSH.
        20 => Request::Symlink { target: r.string()?, path: r.string()? },
        200 => {
            let name = r.string()?;
            Request::Extended(Extended::read(name, &mut r)?)
        }
        kind => {
            r.rest();
            Request::Unknown { kind }
        }
    };
    // REALPATH may carry fields of later drafts that version 3 servers ignore. WRITE may carry the unused rest of the
    // sender's buffer: pkg/sftp up to 1.13.5, and with it rclone 1.60 of Debian 12, sends a whole buffer whatever the
    // length of the data in it. For all else, the end is the end.
    if !matches!(request, Request::RealPath { .. } | Request::Write { .. }) {
        r.end()?;
    }
    Ok((id, request))
}

/// The length of the packet whose stream begins with `bytes`, once its length field is there.
pub fn packet_len(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let Some(field) = bytes.first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_be_bytes(*field);
    match usize::try_from(len) {
        Ok(0) => Err(WireError::Empty),
        Ok(len) if len <= PACKET_MAX => Ok(Some(len)),
        _ => Err(WireError::TooLong(len)),
    }
}

/// A packet without its length field, and what comes after it.
pub type Split<'a> = (&'a [u8], &'a [u8]);

/// Cuts the next whole packet off `bytes`, without its length field; `None` until it is all there.
pub fn split_packet(bytes: &[u8]) -> Result<Option<Split<'_>>, WireError> {
    let Some(len) = packet_len(bytes)? else { return Ok(None) };
    Ok(bytes[4..].split_at_checked(len))
}

#[cfg(test)]
mod tests {
    use super::super::wire::Write;
    use super::*;
    use proptest::prelude::*;

    fn packet(kind: u8, id: u32, rest: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut p = vec![kind];
        p.put_u32(id);
        rest(&mut p);
        p
    }

    #[test]
    fn a_write_is_read_without_copying() {
        let p = packet(6, 7, |p| {
            p.put_string(&[0, 0, 0, 1]);
            p.put_u64(1 << 40);
            p.put_string(b"data");
        });
        let (id, request) = read_request(&p).unwrap();
        assert_eq!(id, 7);
        assert_eq!(request, Request::Write { handle: &[0, 0, 0, 1], offset: 1 << 40, data: b"data" });
    }

    #[test]
    fn a_write_with_the_rest_of_its_buffer_is_only_its_data() {
        let p = packet(6, 7, |p| {
            p.put_string(&[0, 0, 0, 1]);
            p.put_u64(0);
            p.put_string(b"data");
            p.extend_from_slice(&[0; 100]);
        });
        assert!(matches!(read_request(&p), Ok((7, Request::Write { data: b"data", .. }))));
    }

    #[test]
    fn a_byte_after_the_last_field_is_an_error() {
        let p = packet(4, 1, |p| {
            p.put_string(b"1234");
            p.push(0);
        });
        assert_eq!(read_request(&p), Err(WireError::Trailing));
    }

    #[test]
    fn replies_and_a_second_init_are_not_requests() {
        for kind in [0, 1, 2, 101, 105, 199] {
            assert_eq!(read_request(&packet(kind, 1, |_| ())), Err(WireError::NotARequest(kind)));
        }
        assert!(matches!(read_request(&packet(21, 1, |p| p.put_u32(9))), Ok((1, Request::Unknown { kind: 21 }))));
    }

    #[test]
    fn a_packet_of_no_or_too_many_bytes_ends_the_stream() {
        assert_eq!(split_packet(&[0, 0, 0, 0]), Err(WireError::Empty));
        assert_eq!(split_packet(&[0, 4, 0, 1]), Err(WireError::TooLong(PACKET_MAX as u32 + 1)));
        assert_eq!(split_packet(&[255; 4]), Err(WireError::TooLong(u32::MAX)));
        assert_eq!(split_packet(&[0, 0]), Ok(None));
        assert_eq!(split_packet(&[0, 0, 0, 2, 9]), Ok(None));
        assert_eq!(split_packet(&[0, 0, 0, 1, 9, 8]), Ok(Some((&[9][..], &[8][..]))));
    }

    #[test]
    fn init_of_any_version_is_read_with_its_extensions() {
        assert_eq!(read_init(&[1, 0, 0, 0, 6, 1, 2, 3]), Ok(6));
        assert_eq!(read_init(&[1, 0, 0]), Err(WireError::Short));
        assert_eq!(read_init(&[5, 0, 0, 0, 3]), Err(WireError::NotARequest(5)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_request(&bytes);
            let _ = read_init(&bytes);
            let _ = split_packet(&bytes);
        }

        #[test]
        fn every_prefix_of_a_request_is_refused(kind in 3u8..=20, path in proptest::collection::vec(any::<u8>(), 0..40)) {
            let p = packet(kind, 1, |p| {
                p.put_string(&path);
                match kind {
                    3 => { p.put_u32(1); p.put_u32(0) }
                    5 => { p.put_u64(1); p.put_u32(2) }
                    6 => { p.put_u64(1); p.put_string(b"abc") }
                    9 | 10 | 14 => p.put_u32(0),
                    18 | 20 => p.put_string(&path),
                    _ => {}
                }
            });
            prop_assert!(read_request(&p).is_ok());
            for cut in 0..p.len() {
                prop_assert_eq!(read_request(&p[..cut]), Err(WireError::Short));
            }
        }
    }
}
