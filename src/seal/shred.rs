//! A bucket's shred key: the root of a binary tree of keys, whose leaves are the drops' (docs/sealed-file.md §6.5). Of one
//! drop it can be made to forget the leaf alone: the root is replaced by the keys of the subtrees beside the way to
//! that leaf, from which every other leaf can still be derived and that one never again. Nothing about the other drops
//! changes, neither their envelopes nor the copies of them that a backup has.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::keys::{Entropy, Kernel, expand};
use super::{Head, JournalKey, SealError};
use crate::names::DropId;

/// Levels below the root: one for each bit of a drop's id.
const DEPTH: u8 = 128;

/// Depth, prefix and key.
const PART_LEN: usize = 1 + 16 + 32;

/// What a bucket may come to hold: 6 MiB. A thousand drops shredded early, about; each takes up to 128 parts.
pub const SHRED_PARTS_MAX: usize = 1 << 17;

/// One expiry bucket's key, or what is left of it. Destroying it destroys every envelope wrapped under it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ShredKey {
    /// Disjoint subtrees, ascending.
    parts: Vec<Part>,
}

/// The subtree of all drops whose id begins with `depth` bits of `prefix`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
struct Part {
    depth: u8,
    /// Zero after its first `depth` bits.
    prefix: [u8; 16],
    key: [u8; 32],
}

impl ShredKey {
    /// A fresh, whole key from the kernel.
    pub fn generate() -> Result<Self, SealError> {
        Self::draw(&mut Kernel)
    }

    pub(super) fn draw(entropy: &mut dyn Entropy) -> Result<Self, SealError> {
        let mut root = Part { depth: 0, prefix: [0; 16], key: [0; 32] };
        entropy.fill(&mut root.key)?;
        Ok(Self { parts: vec![root] })
    }

    /// From what [`Self::expose`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let (parts, rest) = bytes.as_chunks::<PART_LEN>();
        let parts: Vec<Part> = parts.iter().filter_map(Part::parse).collect();
        let whole = rest.is_empty() && parts.len() * PART_LEN == bytes.len() && parts.len() <= SHRED_PARTS_MAX;
        let ascending = parts.windows(2).all(|pair| pair[0].last() < pair[1].prefix);
        if whole && ascending { Ok(Self { parts }) } else { Err(SealError::Damaged) }
    }

    /// For the file that keeps it; wipe the copy.
    pub fn expose(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(self.parts.len() * PART_LEN));
        for part in &self.parts {
            out.push(part.depth);
            out.extend_from_slice(&part.prefix);
            out.extend_from_slice(&part.key);
        }
        out
    }

    /// Whether `drop` was not forgotten.
    pub fn covers(&self, drop: &DropId) -> bool {
        self.part_of(drop).is_some()
    }

    /// Forgets one drop. Answers whether it was known; a file that keeps this key must then be replaced.
    pub fn forget(&mut self, drop: &DropId) -> Result<bool, SealError> {
        let Some(at) = self.part_of(drop) else { return Ok(false) };
        if self.parts.len() + usize::from(DEPTH) > SHRED_PARTS_MAX {
            return Err(SealError::Limit("a bucket of which so many drops were shredded"));
        }
        let mut way = self.parts.remove(at);
        let mut beside = Vec::with_capacity(usize::from(DEPTH - way.depth));
        while way.depth < DEPTH {
            let bit = bit(drop, way.depth);
            beside.push(way.child(!bit)?);
            way = way.child(bit)?;
        }
        beside.sort_unstable_by_key(|part| part.prefix);
        self.parts.splice(at..at, beside);
        Ok(true)
    }

    /// The key of one file's shred wrap.
    pub(super) fn of(&self, head: &Head) -> Result<Zeroizing<[u8; 32]>, SealError> {
        let drop = head.drop_id();
        let at = self.part_of(&drop).ok_or(SealError::Damaged)?;
        let mut way = self.parts.get(at).cloned().ok_or(SealError::Damaged)?;
        while way.depth < DEPTH {
            way = way.child(bit(&drop, way.depth))?;
        }
        expand(&way.key, "shred", &[head.core()])
    }

    /// The key of the journal and the note of `user`'s upload of `drop`, if this is the whole key of a bucket for uploads.
    pub fn journal_key(&self, drop: &DropId, user: &str) -> Result<JournalKey, SealError> {
        match self.parts.as_slice() {
            [Part { depth: 0, key, .. }] => {
                Ok(JournalKey::from_bytes(*expand(key, "upload", &[&drop.0, user.as_bytes()])?))
            }
            _ => Err(SealError::Damaged),
        }
    }

    fn part_of(&self, drop: &DropId) -> Option<usize> {
        // The last that begins at or before it, if it reaches that far.
        let after = self.parts.partition_point(|part| part.prefix <= drop.0);
        let at = after.checked_sub(1)?;
        self.parts.get(at).is_some_and(|part| drop.0 <= part.last()).then_some(at)
    }
}

impl Part {
    fn parse(bytes: &[u8; PART_LEN]) -> Option<Self> {
        let mut part = Self { depth: bytes[0], prefix: [0; 16], key: [0; 32] };
        part.prefix.copy_from_slice(&bytes[1..17]);
        part.key.copy_from_slice(&bytes[17..]);
        let own = part.depth <= DEPTH && u128::from_be_bytes(part.prefix) & part.below() == 0;
        own.then_some(part)
    }

    /// The bits that the subtree leaves open.
    fn below(&self) -> u128 {
        u128::MAX.checked_shr(u32::from(self.depth)).unwrap_or(0)
    }

    /// The last id of the subtree.
    fn last(&self) -> [u8; 16] {
        (u128::from_be_bytes(self.prefix) | self.below()).to_be_bytes()
    }

    /// One level down. Never called at the last.
    fn child(&self, bit: bool) -> Result<Self, SealError> {
        let mut child = Self { depth: self.depth + 1, prefix: self.prefix, key: [0; 32] };
        if bit {
            let place = usize::from(self.depth);
            child.prefix[place / 8] |= 0x80 >> (place % 8);
        }
        child.key = *expand(&self.key, "shred-tree", &[&[u8::from(bit)]])?;
        Ok(child)
    }
}

/// The bit of an id after `depth` others, the most significant first.
fn bit(drop: &DropId, depth: u8) -> bool {
    let place = usize::from(depth);
    drop.0[place / 8] & (0x80 >> (place % 8)) != 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::seal::{FileKey, Mode};

    fn head(id: [u8; 16]) -> Head {
        Head::new(DropId(id), Mode::Managed, &FileKey::from_bytes([1; 32])).unwrap()
    }

    #[test]
    fn a_forgotten_drop_is_gone_and_every_other_keeps_its_key() {
        let whole = ShredKey::generate().unwrap();
        let ids = [[0; 16], [0xff; 16], [7; 16], *b"\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x06"];
        let heads = ids.map(head);
        let before = heads.each_ref().map(|head| *whole.of(head).unwrap());
        let mut left = whole.clone();
        assert!(left.forget(&DropId(ids[2])).unwrap());
        assert!(!left.forget(&DropId(ids[2])).unwrap(), "once");
        let left = ShredKey::from_bytes(&left.expose()).unwrap();
        assert!(left.of(&heads[2]).is_err() && !left.covers(&DropId(ids[2])));
        for other in [0, 1, 3] {
            assert_eq!(*left.of(&heads[other]).unwrap(), before[other]);
        }
        let root = &whole.expose()[17..];
        assert!(!left.expose().windows(32).any(|window| window == root), "nothing leads back up");
        assert_eq!(left.parts.len(), 128);
        assert!(left.journal_key(&DropId(ids[0]), "acme").is_err(), "what is left of a key opens no journal");
    }

    #[test]
    fn a_key_that_is_not_one_is_refused() {
        let mut key = ShredKey::generate().unwrap();
        key.forget(&DropId([5; 16])).unwrap();
        let good = key.expose();
        let swapped = [&good[PART_LEN..2 * PART_LEN], &good[..PART_LEN]].concat();
        let mut beyond = good.to_vec();
        beyond[0] = 129;
        let twice = [&good[..PART_LEN], &good[..PART_LEN]].concat();
        for bad in [&good[..good.len() - 1], &swapped[..], &beyond[..], &twice[..]] {
            assert!(ShredKey::from_bytes(bad).is_err());
        }
        assert!(ShredKey::from_bytes(&[]).is_ok_and(|none| !none.covers(&DropId([0; 16]))), "all of it forgotten");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn what_is_forgotten_is_exactly_what_was_asked(ids in proptest::collection::vec(any::<[u8; 16]>(), 2..8)) {
            let whole = ShredKey::generate().unwrap();
            let mut left = whole.clone();
            let (gone, kept) = ids.split_at(ids.len() / 2);
            for id in gone {
                left.forget(&DropId(*id)).unwrap();
            }
            let left = ShredKey::from_bytes(&left.expose()).unwrap();
            for id in kept.iter().filter(|id| !gone.contains(id)) {
                let head = head(*id);
                prop_assert_eq!(*left.of(&head).unwrap(), *whole.of(&head).unwrap());
            }
            prop_assert!(gone.iter().all(|id| left.of(&head(*id)).is_err()));
        }
    }
}
