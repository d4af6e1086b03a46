//! The field list inside trailer and journal: `tag u16 ‖ length u32 ‖ value`, tags ascending. A reader skips tags that
//! it does not know, so a field can be added without a new version; what must not be skipped takes a new suite.

use zeroize::Zeroizing;

/// Writes fields in the order of their tags. What it holds is wiped when it goes.
pub(super) struct Fields(Zeroizing<Vec<u8>>);

/// Reads them back. Every read is bounds-checked; `None` means malformed.
pub(super) struct Parsed<'a>(Vec<(u16, &'a [u8])>);

impl Fields {
    /// `capacity` must hold all that will be put, or a buffer with secrets in it is moved and its old place not wiped.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(capacity)))
    }

    pub fn put(&mut self, tag: u16, value: &[u8]) {
        // Callers' limits keep every value far below 4 GiB.
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&tag.to_be_bytes());
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(value);
    }

    pub fn put_u64(&mut self, tag: u16, value: u64) {
        self.put(tag, &value.to_be_bytes());
    }

    pub fn put_text(&mut self, tag: u16, text: &str) {
        if !text.is_empty() {
            self.put(tag, text.as_bytes());
        }
    }

    /// Pairs of index and generation, 12 bytes each.
    pub fn put_generations(&mut self, tag: u16, generations: &[(u64, u32)]) {
        if generations.is_empty() {
            return;
        }
        let mut out = Vec::with_capacity(generations.len() * 12);
        for (index, generation) in generations {
            out.extend_from_slice(&index.to_be_bytes());
            out.extend_from_slice(&generation.to_be_bytes());
        }
        self.put(tag, &out);
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<'a> Parsed<'a> {
    /// `repeated` is the one tag that may stand more than once.
    pub fn parse(mut bytes: &'a [u8], repeated: Option<u16>) -> Option<Self> {
        let mut fields: Vec<(u16, &[u8])> = Vec::new();
        while !bytes.is_empty() {
            let (tag, rest) = bytes.split_first_chunk()?;
            let (length, rest) = rest.split_first_chunk()?;
            let tag = u16::from_be_bytes(*tag);
            let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
            let ascending =
                fields.last().is_none_or(|(last, _)| *last < tag || (*last == tag && repeated == Some(tag)));
            if !ascending {
                return None;
            }
            fields.push((tag, value));
            bytes = rest;
        }
        Some(Self(fields))
    }

    pub fn get(&self, tag: u16) -> Option<&'a [u8]> {
        self.all(tag).next()
    }

    pub fn all(&self, tag: u16) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(t, _)| *t == tag).map(|(_, value)| *value)
    }

    pub fn array<const N: usize>(&self, tag: u16) -> Option<[u8; N]> {
        self.get(tag)?.try_into().ok()
    }

    pub fn u64(&self, tag: u16) -> Option<u64> {
        self.array(tag).map(u64::from_be_bytes)
    }

    /// An absent field is `Some(None)`, a malformed one `None`.
    pub fn optional<const N: usize>(&self, tag: u16) -> Option<Option<[u8; N]>> {
        match self.get(tag) {
            None => Some(None),
            Some(value) => value.try_into().ok().map(Some),
        }
    }

    /// Absent is empty; not UTF-8 is malformed.
    pub fn text(&self, tag: u16) -> Option<String> {
        String::from_utf8(self.get(tag).unwrap_or_default().to_vec()).ok()
    }

    /// Indices ascend, generations are at least 1: one way to write each map.
    pub fn generations(&self, tag: u16) -> Option<Vec<(u64, u32)>> {
        let (pairs, rest) = self.get(tag).unwrap_or_default().as_chunks::<12>();
        let mut out: Vec<(u64, u32)> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let (index, generation) = pair.split_first_chunk()?;
            out.push((u64::from_be_bytes(*index), u32::from_be_bytes(generation.try_into().ok()?)));
        }
        (rest.is_empty() && generations_fit(&out)).then_some(out)
    }
}

pub(super) fn generations_fit(generations: &[(u64, u32)]) -> bool {
    generations.len() <= super::GENERATIONS_MAX
        && generations.windows(2).all(|pair| pair[0].0 < pair[1].0)
        && generations.iter().all(|(_, generation)| (1..=super::GENERATION_MAX).contains(generation))
}
