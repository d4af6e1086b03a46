//! File attributes of SFTP version 3, and the "long name" that version 3 puts beside a name in listings (the line of
//! `ls -l`, which OpenSSH's `ls -l` prints as it comes).

use super::wire::{Reader, WireError, Write};

const SIZE: u32 = 0x1;
const UIDGID: u32 = 0x2;
const PERMISSIONS: u32 = 0x4;
const ACMODTIME: u32 = 0x8;
const EXTENDED: u32 = 0x8000_0000;

pub const S_IFDIR: u32 = 0o040_000;
pub const S_IFREG: u32 = 0o100_000;

/// Each group of fields is there or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    pub size: Option<u64>,
    /// uid, gid
    pub owner: Option<(u32, u32)>,
    /// With the file type bits in replies.
    pub permissions: Option<u32>,
    /// atime, mtime in Unix seconds
    pub times: Option<(u32, u32)>,
}

impl Attrs {
    /// Extended attributes are read and dropped: nothing here has any.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let flags = r.u32()?;
        let mut attrs = Self::default();
        if flags & SIZE != 0 {
            attrs.size = Some(r.u64()?);
        }
        if flags & UIDGID != 0 {
            attrs.owner = Some((r.u32()?, r.u32()?));
        }
        if flags & PERMISSIONS != 0 {
            attrs.permissions = Some(r.u32()?);
        }
        if flags & ACMODTIME != 0 {
            attrs.times = Some((r.u32()?, r.u32()?));
        }
        if flags & EXTENDED != 0 {
            for _ in 0..r.u32()? {
                r.string()?;
                r.string()?;
            }
        }
        Ok(attrs)
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        let mut flags = 0;
        flags |= if self.size.is_some() { SIZE } else { 0 };
        flags |= if self.owner.is_some() { UIDGID } else { 0 };
        flags |= if self.permissions.is_some() { PERMISSIONS } else { 0 };
        flags |= if self.times.is_some() { ACMODTIME } else { 0 };
        out.put_u32(flags);
        if let Some(size) = self.size {
            out.put_u64(size);
        }
        if let Some((uid, gid)) = self.owner {
            out.put_u32(uid);
            out.put_u32(gid);
        }
        if let Some(permissions) = self.permissions {
            out.put_u32(permissions);
        }
        if let Some((atime, mtime)) = self.times {
            out.put_u32(atime);
            out.put_u32(mtime);
        }
    }

    /// The size and nothing else is set: what a client sends to cut a file.
    pub fn only_size(&self) -> bool {
        self.size.is_some() && self.owner.is_none() && self.permissions.is_none() && self.times.is_none()
    }
}

/// `-rw-r-----    1 acme     acme         1234 Nov 22 14:40 a.dcm`, in the columns OpenSSH's server uses. A date more
/// than half a year from `now` shows its year instead of the time of day.
pub fn long_name(out: &mut Vec<u8>, name: &[u8], attrs: &Attrs, owner: &str, now: u64) {
    use std::io::Write as _;
    let permissions = attrs.permissions.unwrap_or(0);
    let mut mode = *b"----------";
    if permissions & S_IFDIR != 0 {
        mode[0] = b'd';
    }
    for (bit, letter) in b"rwxrwxrwx".iter().enumerate() {
        if permissions & (0o400 >> bit) != 0 {
            mode[bit + 1] = *letter;
        }
    }
    out.extend_from_slice(&mode);
    let size = attrs.size.unwrap_or(0);
    let mtime = u64::from(attrs.times.map_or(0, |(_, mtime)| mtime));
    let recent = mtime.abs_diff(now) < 182 * 86_400;
    let form = if recent { "%b %e %H:%M" } else { "%b %e  %Y" };
    let date = i64::try_from(mtime).ok().and_then(|s| jiff::Timestamp::from_second(s).ok()).unwrap_or_default();
    let date = date.to_zoned(jiff::tz::TimeZone::UTC).strftime(form);
    // Writing into a vector does not fail.
    let _ = write!(out, "    1 {owner:<8} {owner:<8} {size:>8} {date} ");
    out.extend_from_slice(name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_long_name_reads_like_ls() {
        let attrs = Attrs {
            size: Some(1234),
            owner: Some((0, 0)),
            permissions: Some(S_IFREG | 0o640),
            times: Some((0, 1_795_308_143)),
        };
        let mut line = Vec::new();
        long_name(&mut line, b"a\xff.dcm", &attrs, "acme", 1_795_308_200);
        assert_eq!(line, b"-rw-r-----    1 acme     acme         1234 Nov 22 00:42 a\xff.dcm");
        line.clear();
        let dir = Attrs { permissions: Some(S_IFDIR | 0o750), times: Some((0, 0)), ..Attrs::default() };
        long_name(&mut line, b"d", &dir, "acme", 1_795_308_200);
        assert_eq!(line, b"drwxr-x---    1 acme     acme            0 Jan  1  1970 d");
    }

    #[test]
    fn a_count_of_extended_attributes_beyond_the_packet_is_refused() {
        let mut bytes = Vec::new();
        bytes.put_u32(EXTENDED);
        bytes.put_u32(u32::MAX);
        assert_eq!(Attrs::read(&mut Reader::new(&bytes)), Err(WireError::Short));
    }

    proptest! {
        #[test]
        fn attributes_come_back(size: Option<u64>, owner: Option<(u32, u32)>, permissions: Option<u32>, times: Option<(u32, u32)>) {
            let attrs = Attrs { size, owner, permissions, times };
            let mut bytes = Vec::new();
            attrs.write(&mut bytes);
            let mut r = Reader::new(&bytes);
            prop_assert_eq!(Attrs::read(&mut r).unwrap(), attrs);
            prop_assert_eq!(r.end(), Ok(()));
        }
    }
}
