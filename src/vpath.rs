//! `VirtualPath`: where something is in a user's view. Absolute, normalised, bounded; made once from what the client
//! sent and never re-checked. Because a user's tree holds no symbolic links, resolving `..` by its text alone is
//! exact, and a path can never climb above the user's root. No I/O here.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::names::{FileName, escaped, hex};

/// A normalised absolute path: `/` or `/name/name…`, no empty, `.` or `..` component.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "serde_bytes::ByteBuf", into = "serde_bytes::ByteBuf")]
pub struct VirtualPath(Vec<u8>);

/// Why bytes are not a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("a path has a NUL byte")]
    Nul,
    #[error("a path is longer than {} bytes", VirtualPath::MAX_BYTES)]
    TooLong,
    #[error("a path is deeper than {} names", VirtualPath::MAX_DEPTH)]
    TooDeep,
    #[error("a name in a path is longer than {} bytes", FileName::MAX_BYTES)]
    NameTooLong,
}

impl VirtualPath {
    /// Linux's PATH_MAX less the room for the prefix of a jail and for the suffixes the server adds.
    pub const MAX_BYTES: usize = 3072;
    /// Deeper trees than clients make; bounds recursion and the number of directories one request can touch.
    pub const MAX_DEPTH: usize = 128;

    pub fn root() -> Self {
        Self(b"/".to_vec())
    }

    /// Reads a path as a client sends it: relative ones start at the root, empty and `.` components vanish,
    /// `..` takes one away and stays at the root.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.contains(&0) {
            return Err(PathError::Nul);
        }
        let mut names: Vec<&[u8]> = Vec::new();
        for name in bytes.split(|&b| b == b'/') {
            match name {
                b"" | b"." => {}
                b".." => {
                    names.pop();
                }
                _ if name.len() > FileName::MAX_BYTES => return Err(PathError::NameTooLong),
                _ => names.push(name),
            }
        }
        if names.len() > Self::MAX_DEPTH {
            return Err(PathError::TooDeep);
        }
        let mut path = Vec::with_capacity(bytes.len() + 1);
        for name in names {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        if path.len() > Self::MAX_BYTES { Err(PathError::TooLong) } else { Ok(Self(path)) }
    }

    pub fn is_root(&self) -> bool {
        self.0 == b"/"
    }

    /// With its leading `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Without the leading `/`; `.` for the root. What the `*at` system calls take beside a tree's descriptor.
    pub fn relative(&self) -> &std::path::Path {
        let bytes: &[u8] = if self.is_root() { b"." } else { &self.0[1..] };
        std::path::Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes))
    }

    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0[1..].split(|&b| b == b'/').filter(|name| !name.is_empty())
    }

    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// The last name; `None` for the root.
    pub fn name(&self) -> Option<FileName> {
        FileName::new(self.components().next_back()?).ok()
    }

    /// The folder it is in; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let cut = self.0.iter().rposition(|&b| b == b'/')?;
        match (self.is_root(), cut) {
            (true, _) => None,
            (false, 0) => Some(Self::root()),
            (false, _) => Some(Self(self.0[..cut].to_vec())),
        }
    }

    pub fn join(&self, name: &FileName) -> Result<Self, PathError> {
        let mut path = if self.is_root() { Vec::new() } else { self.0.clone() };
        path.push(b'/');
        path.extend_from_slice(name.as_bytes());
        let joined = Self(path);
        if joined.0.len() > Self::MAX_BYTES {
            Err(PathError::TooLong)
        } else if joined.depth() > Self::MAX_DEPTH {
            Err(PathError::TooDeep)
        } else {
            Ok(joined)
        }
    }

    /// What an upload to this path is called in `.staging`, before the ending of each of its files. A digest, since a name
    /// may be as long as a file's may.
    pub fn staging_stem(&self) -> String {
        hex(&Sha256::digest(&self.0)[..16])
    }

    /// What remains below `base`, as a path of its own: `/a/b/c` below `/a` is `/b/c`, and `/a` below itself `/`.
    /// Whole names only: `/ab` is not below `/a`.
    pub fn below(&self, base: &Self) -> Option<Self> {
        if base.is_root() {
            return Some(self.clone());
        }
        match self.0.strip_prefix(base.0.as_slice())? {
            [] => Some(Self::root()),
            rest @ [b'/', ..] => Some(Self(rest.to_vec())),
            _ => None,
        }
    }

    /// `self` with all of `tail` after it.
    pub fn append(&self, tail: &Self) -> Result<Self, PathError> {
        let mut path = if self.is_root() { Vec::new() } else { self.0.clone() };
        path.extend_from_slice(&tail.0);
        Self::parse(&path)
    }
}

impl std::str::FromStr for VirtualPath {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::parse(text.as_bytes())
    }
}

impl TryFrom<serde_bytes::ByteBuf> for VirtualPath {
    type Error = PathError;
    fn try_from(bytes: serde_bytes::ByteBuf) -> Result<Self, PathError> {
        Self::parse(&bytes)
    }
}

impl From<VirtualPath> for serde_bytes::ByteBuf {
    fn from(path: VirtualPath) -> Self {
        serde_bytes::ByteBuf::from(path.0)
    }
}

impl fmt::Display for VirtualPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escaped(&self.0))
    }
}

impl fmt::Debug for VirtualPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", escaped(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> VirtualPath {
        VirtualPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_spelling_of_a_place_is_one_path() {
        for (spelling, place) in [
            ("", "/"),
            (".", "/"),
            ("/..", "/"),
            ("../../etc/passwd", "/etc/passwd"),
            ("a//b/./c/", "/a/b/c"),
            ("/a/b/../c", "/a/c"),
            ("/a/../../b", "/b"),
        ] {
            assert_eq!(path(spelling).as_bytes(), place.as_bytes(), "{spelling}");
        }
    }

    #[test]
    fn below_compares_whole_names() {
        assert_eq!(path("/a/b/c").below(&path("/a")), Some(path("/b/c")));
        assert_eq!(path("/a").below(&path("/a")), Some(path("/")));
        assert_eq!(path("/ab").below(&path("/a")), None);
        assert_eq!(path("/a").below(&path("/a/b")), None);
    }

    #[test]
    fn limits_are_errors() {
        assert_eq!(VirtualPath::parse(b"a\0b"), Err(PathError::Nul));
        assert_eq!(VirtualPath::parse(&[b'x'; 256]), Err(PathError::NameTooLong));
        assert_eq!(VirtualPath::parse(&b"a/".repeat(129)), Err(PathError::TooDeep));
    }

    proptest! {
        #[test]
        fn a_path_stays_inside_and_is_its_own_normal_form(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(p) = VirtualPath::parse(&bytes) {
                prop_assert!(p.as_bytes().starts_with(b"/"));
                prop_assert!(p.components().all(|n| FileName::new(n).is_ok()));
                prop_assert_eq!(VirtualPath::parse(p.as_bytes()).unwrap(), p.clone());
                match (p.parent(), p.name()) {
                    (Some(parent), Some(name)) => prop_assert_eq!(parent.join(&name).unwrap(), p),
                    (parent, name) => prop_assert!(p.is_root() && parent.is_none() && name.is_none()),
                }
            }
        }
    }
}
