//! The names of things: users, file names, drops, receipts, sessions. Each is parsed once, at the door, and
//! cannot be wrong once it exists; nothing inside checks one again. No I/O here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the names of files end in that their recipient gets as sealed files.
pub const SEALED: &[u8] = b".sealed";

/// An account that logs in, and the name of a recipient (a recipient is a user who has an inbox).
///
/// 1 to 32 bytes of `a-z 0-9 _ . -`, beginning with a letter or digit: safe as a directory name, in a log line
/// and in a receipt without quoting.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName(String);

/// One component of a path as the client gave it: 1 to 255 bytes, no `/`, no NUL, neither `.` nor `..`.
/// Any other byte is kept, UTF-8 or not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "serde_bytes::ByteBuf", into = "serde_bytes::ByteBuf")]
pub struct FileName(Vec<u8>);

/// The identity of a drop for ever: the `file_id` in its sealed file. Written as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DropId(pub [u8; 16]);

/// The identity of a receipt. Written as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReceiptId(pub [u8; 16]);

/// The identity of a request that waits for a second person. Written as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub [u8; 16]);

/// One SSH connection, from admission to its end. Written as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// A SHA-256 digest. Written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a user name is 1 to 32 of a-z 0-9 _ . - and begins with a letter or digit")]
    User,
    #[error("a file name is 1 to 255 bytes without `/` or NUL, and neither `.` nor `..`")]
    File,
    #[error("expected {0} hex digits")]
    Hex(usize),
}

impl UserName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let bytes = text.as_bytes();
        let first_ok = bytes.first().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let rest_ok = bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(b));
        if first_ok && rest_ok && bytes.len() <= 32 { Ok(Self(text.to_owned())) } else { Err(NameError::User) }
    }
}

impl TryFrom<String> for UserName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> String {
        name.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FileName {
    pub const MAX_BYTES: usize = 255;

    pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
        let ok = !bytes.is_empty()
            && bytes.len() <= Self::MAX_BYTES
            && bytes != b"."
            && bytes != b".."
            && !bytes.iter().any(|&b| b == b'/' || b == 0);
        if ok { Ok(Self(bytes.to_vec())) } else { Err(NameError::File) }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same bytes as the operating system takes them.
    pub fn as_os_str(&self) -> &std::ffi::OsStr {
        std::os::unix::ffi::OsStrExt::from_bytes(&self.0)
    }
}

impl TryFrom<serde_bytes::ByteBuf> for FileName {
    type Error = NameError;
    fn try_from(bytes: serde_bytes::ByteBuf) -> Result<Self, NameError> {
        Self::new(&bytes)
    }
}

impl From<FileName> for serde_bytes::ByteBuf {
    fn from(name: FileName) -> Self {
        serde_bytes::ByteBuf::from(name.0)
    }
}

/// Printable as itself; control characters and bytes that are not UTF-8 as `\xNN`, so that a name can never
/// write a second line into a log or a receipt, nor steer a terminal.
pub fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                out.push_str("\\\\");
            } else if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c)
            {
                let mut utf8 = [0; 4];
                c.encode_utf8(&mut utf8).bytes().for_each(|b| out.push_str(&format!("\\x{b:02x}")));
            } else {
                out.push(c);
            }
        }
        chunk.invalid().iter().for_each(|b| out.push_str(&format!("\\x{b:02x}")));
    }
    out
}

/// The inverse of [`escaped`]; `None` if the text is not of that form.
pub fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&b, tail)) = rest.split_first() {
        if b != b'\\' {
            out.push(b);
            rest = tail;
        } else if let [b'\\', tail @ ..] = tail {
            out.push(b'\\');
            rest = tail;
        } else if let [b'x', high, low, tail @ ..] = tail {
            let digits = [*high, *low];
            out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            rest = tail;
        } else {
            return None;
        }
    }
    Some(out)
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escaped(&self.0))
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", escaped(&self.0))
    }
}

/// Lower-case hex of any bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Exactly `N` bytes from `2 × N` hex digits of either case.
pub fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], NameError> {
    let mut out = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return Err(NameError::Hex(2 * N));
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |b: u8| char::from(b).to_digit(16).ok_or(NameError::Hex(2 * N));
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Ok(out)
}

/// Names that are fixed-length bytes written as hex share their text form.
macro_rules! hex_name {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&hex(&self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                from_hex(text).map(Self)
            }
        }
    )*};
}
hex_name!(DropId, ReceiptId, RequestId, Digest);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:016x}", self.0))
    }
}

impl FromStr for SessionId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        from_hex::<8>(text).map(|bytes| Self(u64::from_be_bytes(bytes)))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a person is to the keeper. One person may be several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs the server: accounts, sessions, sweeps, backups.
    Admin,
    /// Reads what happened, and changes nothing.
    Auditor,
    /// Answers for keys, and so for what destroys content or gives it out.
    Custodian,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Admin, Self::Auditor, Self::Custodian];

    pub fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Auditor => "auditor",
            Self::Custodian => "custodian",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_user_name_is_safe_as_a_directory_name() {
        for good in ["a", "acme-imaging", "7.lab_x"] {
            assert_eq!(good.parse::<UserName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", ".a", "-a", "A", "a/b", "a b", "ä", "a\n", &"a".repeat(33)] {
            assert_eq!(bad.parse::<UserName>(), Err(NameError::User), "{bad:?}");
        }
    }

    #[test]
    fn a_file_name_can_never_leave_its_directory() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0", &[b'x'; 256]] {
            assert_eq!(FileName::new(bad), Err(NameError::File));
        }
        assert!(FileName::new(&[0xff, 0xfe, b'\n']).is_ok());
        assert!(FileName::new(&[b'x'; 255]).is_ok());
    }

    proptest! {
        #[test]
        fn an_escaped_name_is_one_printable_line_and_comes_back(bytes: Vec<u8>) {
            let text = escaped(&bytes);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(unescaped(&text), Some(bytes));
        }

        #[test]
        fn hex_comes_back(bytes: [u8; 16]) {
            prop_assert_eq!(DropId(bytes).to_string().parse::<DropId>().unwrap(), DropId(bytes));
        }
    }
}
