//! Fields off the front of a certificate or a list of revoked keys (RFC 4251 §5). Never allocates, never reads past the
//! end; whatever is not there is `None`.

/// What has not been read yet.
#[derive(Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn u32(&mut self) -> Option<u32> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*field))
    }

    pub fn u64(&mut self) -> Option<u64> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*field))
    }

    /// Any bytes, after their length.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }

    /// The strings of a list that is itself a string.
    pub fn strings(&mut self, most: usize) -> Option<Vec<&'a [u8]>> {
        let mut list = Fields(self.string()?);
        let mut strings = Vec::new();
        while !list.is_empty() {
            strings.push(list.string().filter(|_| strings.len() < most)?);
        }
        Some(strings)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
