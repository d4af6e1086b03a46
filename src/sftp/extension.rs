//! The extensions we announce and read (OpenSSH's PROTOCOL, section 4, and draft-ietf-secsh-filexfer-extensions).

use super::wire::{Reader, WireError, Write};

/// Name and version of each, in the order announced. `hardlink@openssh.com` is not among them: there are no links.
pub const ANNOUNCED: &[(&str, &str)] = &[
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("home-directory", "1"),
    ("users-groups-by-id@openssh.com", "1"),
    // The draft announces the algorithms; WinSCP looks for the name alone.
    ("check-file", "sha256,md5,sha1"),
];

/// An EXTENDED request, its fields read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extended<'a> {
    PosixRename {
        from: &'a [u8],
        to: &'a [u8],
    },
    StatVfs {
        path: &'a [u8],
    },
    FStatVfs {
        handle: &'a [u8],
    },
    Fsync {
        handle: &'a [u8],
    },
    LSetStat {
        path: &'a [u8],
        attrs: super::attrs::Attrs,
    },
    Limits,
    ExpandPath {
        path: &'a [u8],
    },
    HomeDirectory {
        user: &'a [u8],
    },
    UsersGroupsById {
        users: &'a [u8],
        groups: &'a [u8],
    },
    HardLink {
        from: &'a [u8],
        to: &'a [u8],
    },
    /// `check-file-name`: WinSCP's.
    CheckFileName {
        path: &'a [u8],
        check: CheckFile<'a>,
    },
    /// `check-file-handle`, and paramiko's `check-file`.
    CheckFileHandle {
        handle: &'a [u8],
        check: CheckFile<'a>,
    },
    /// One we do not know; its data is not looked at.
    Other {
        name: &'a [u8],
    },
}

impl<'a> Extended<'a> {
    pub fn read(name: &'a [u8], r: &mut Reader<'a>) -> Result<Self, WireError> {
        Ok(match name {
            b"posix-rename@openssh.com" => Self::PosixRename { from: r.string()?, to: r.string()? },
            b"statvfs@openssh.com" => Self::StatVfs { path: r.string()? },
            b"fstatvfs@openssh.com" => Self::FStatVfs { handle: r.string()? },
            b"fsync@openssh.com" => Self::Fsync { handle: r.string()? },
            b"lsetstat@openssh.com" => Self::LSetStat { path: r.string()?, attrs: super::attrs::Attrs::read(r)? },
            b"limits@openssh.com" => Self::Limits,
            b"expand-path@openssh.com" => Self::ExpandPath { path: r.string()? },
            b"home-directory" => Self::HomeDirectory { user: r.string()? },
            b"users-groups-by-id@openssh.com" => Self::UsersGroupsById { users: r.string()?, groups: r.string()? },
            b"hardlink@openssh.com" => Self::HardLink { from: r.string()?, to: r.string()? },
            b"check-file-name" => Self::CheckFileName { path: r.string()?, check: CheckFile::read(r, false)? },
            b"check-file-handle" => Self::CheckFileHandle { handle: r.string()?, check: CheckFile::read(r, false)? },
            b"check-file" => Self::CheckFileHandle { handle: r.string()?, check: CheckFile::read(r, true)? },
            name => {
                r.rest();
                Self::Other { name }
            }
        })
    }
}

/// Which hashes are wanted (draft-ietf-secsh-filexfer-extensions-00, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckFile<'a> {
    /// Names with commas between them, best first.
    pub algorithms: &'a [u8],
    pub start: u64,
    /// 0: to the end.
    pub length: u64,
    /// 0: one hash over all.
    pub block: u32,
    /// The reply begins with the request's name, as paramiko reads it; the draft's begins with the algorithm's.
    pub named: bool,
}

impl<'a> CheckFile<'a> {
    fn read(r: &mut Reader<'a>, named: bool) -> Result<Self, WireError> {
        Ok(Self { algorithms: r.string()?, start: r.u64()?, length: r.u64()?, block: r.u32()?, named })
    }
}

/// What `statvfs@openssh.com` answers, in blocks of [`BLOCK`] bytes.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    pub total: u64,
    pub free: u64,
    pub files: u64,
    pub files_free: u64,
}

const BLOCK: u64 = 4096;

impl Space {
    pub fn write(&self, out: &mut Vec<u8>) {
        let (total, free) = (self.total / BLOCK, self.free / BLOCK);
        // f_bsize f_frsize f_blocks f_bfree f_bavail f_files f_ffree f_favail f_fsid f_flag(ST_NOSUID) f_namemax
        for field in [BLOCK, BLOCK, total, free, free, self.files, self.files_free, self.files_free, 0, 2, 255] {
            out.put_u64(field);
        }
    }
}

/// What `limits@openssh.com` answers.
pub fn write_limits(out: &mut Vec<u8>, handles_max: u32) {
    for field in [super::PACKET_MAX as u64, super::DATA_MAX as u64, super::DATA_MAX as u64, u64::from(handles_max)] {
        out.put_u64(field);
    }
}
