//! The types SSH and SFTP are made of (RFC 4251 §5): integers in network order and strings with a length before them.
//! The reader never allocates and never reads past its packet; the writer appends to a buffer its caller reuses.

/// Why bytes are not what they should be. The peer's fault, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("a packet ends before its last field")]
    Short,
    #[error("a packet goes on after its last field")]
    Trailing,
    #[error("a packet is empty")]
    Empty,
    #[error("a packet of {0} bytes is longer than the limit of {max}", max = super::PACKET_MAX)]
    TooLong(u32),
    #[error("packet type {0} is not a request")]
    NotARequest(u8),
}

/// Reads fields off the front of one packet.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (field, rest) = self.rest.split_at_checked(len).ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (field, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(*field)
    }

    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[b]| b)
    }

    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A string: any bytes, by reference into the packet.
    pub fn string(&mut self) -> Result<&'a [u8], WireError> {
        let len = self.u32()?;
        self.take(usize::try_from(len).map_err(|_| WireError::Short)?)
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read; ends the reading.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Every field has been read and nothing is left.
    pub fn end(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing) }
    }
}

/// Appends fields to a buffer.
pub trait Write {
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put_string(&mut self, bytes: &[u8]);
}

impl Write for Vec<u8> {
    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_string(&mut self, bytes: &[u8]) {
        // Every caller's strings are names, texts and pages far below 4 GiB.
        self.put_u32(bytes.len() as u32);
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_string_longer_than_its_packet_is_refused() {
        assert_eq!(Reader::new(&[0, 0, 0, 2, b'x']).string(), Err(WireError::Short));
        assert_eq!(Reader::new(&[255, 255, 255, 255]).string(), Err(WireError::Short));
        assert_eq!(Reader::new(&[0, 0, 0]).u32(), Err(WireError::Short));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(a: u32, b: u64, s: Vec<u8>) {
            let mut bytes = Vec::new();
            bytes.put_u32(a);
            bytes.put_u64(b);
            bytes.put_string(&s);
            let mut r = Reader::new(&bytes);
            prop_assert_eq!((r.u32().unwrap(), r.u64().unwrap(), r.string().unwrap()), (a, b, s.as_slice()));
            prop_assert_eq!(r.end(), Ok(()));
        }
    }
}
