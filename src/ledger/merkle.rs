//! The Merkle tree of RFC 6962 over canonical events: the frontier that grows with each event, and the proofs that an
//! event is in a tree and that one tree continues another. Complete nodes are kept beside the events; everything else
//! follows from them. No I/O here: nodes are read through a function the caller gives.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub type Hash = [u8; 32];

/// What the log is, without the events: its size and the roots of the complete subtrees it is made of, largest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

/// A complete subtree: the events `index << level` up to, not including, `(index + 1) << level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    pub level: u8,
    pub index: u64,
}

impl Node {
    /// The event that completed it, and with which it is stored.
    pub fn completed_by(self) -> u64 {
        ((self.index + 1) << self.level) - 1
    }
}

pub fn leaf_hash(event: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(event).finalize().into()
}

pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

impl Frontier {
    pub fn empty() -> Self {
        Self { size: 0, peaks: Vec::new() }
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds an event by its leaf hash. Returns the nodes above it that are complete now, lowest first.
    pub fn push(&mut self, leaf: Hash) -> Vec<(Node, Hash)> {
        let number = self.size;
        let mut complete = Vec::new();
        let mut hash = leaf;
        // One peak for each 1 in the size; a new event carries through the trailing ones.
        for level in 1..=number.trailing_ones() as u8 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            complete.push((Node { level, index: number >> level }, hash));
        }
        self.peaks.push(hash);
        self.size += 1;
        complete
    }

    /// The complete subtrees that the log is made of, the largest first.
    pub fn peaks(&self) -> Vec<(Node, Hash)> {
        let mut begin = 0;
        let levels = (0..u64::BITS as u8).rev().filter(|level| self.size >> level & 1 == 1);
        let nodes = levels.map(|level| {
            let node = Node { level, index: begin >> level };
            begin += 1 << level;
            node
        });
        nodes.zip(self.peaks.iter().copied()).collect()
    }

    /// A log of which only this is known. `None` if the peaks are not those of such a size.
    pub fn of(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (peaks.len() as u32 == size.count_ones()).then_some(Self { size, peaks })
    }

    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => Sha256::digest([]).into(),
            Some(last) => peaks.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

/// The root of the tree over the first `size` events.
pub fn root<E>(size: u64, node: &mut impl FnMut(Node) -> Result<Hash, E>) -> Result<Hash, E> {
    if size == 0 { Ok(Sha256::digest([]).into()) } else { range(0, size, node) }
}

/// That event `number` is in the tree over the first `size` events (RFC 6962 §2.1.1). `None` if it is not.
pub fn inclusion<E>(
    number: u64,
    size: u64,
    node: &mut impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Option<Vec<Hash>>, E> {
    if number >= size {
        return Ok(None);
    }
    let (mut start, mut len) = (0, size);
    let mut proof = Vec::new();
    while len > 1 {
        let half = split(len);
        if number < start + half {
            proof.push(range(start + half, len - half, node)?);
            len = half;
        } else {
            proof.push(range(start, half, node)?);
            (start, len) = (start + half, len - half);
        }
    }
    proof.reverse();
    Ok(Some(proof))
}

/// That the tree over `old` events is the beginning of the one over `new` (RFC 6962 §2.1.2). `None` if `old` is 0 or
/// greater than `new`.
pub fn consistency<E>(
    old: u64,
    new: u64,
    node: &mut impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Option<Vec<Hash>>, E> {
    if old == 0 || old > new {
        return Ok(None);
    }
    let (mut start, mut len) = (0, new);
    let mut proof = Vec::new();
    while start + len != old {
        let half = split(len);
        if old <= start + half {
            proof.push(range(start + half, len - half, node)?);
            len = half;
        } else {
            proof.push(range(start, half, node)?);
            (start, len) = (start + half, len - half);
        }
    }
    if start != 0 {
        proof.push(range(start, len, node)?);
    }
    proof.reverse();
    Ok(Some(proof))
}

/// The root that `proof` leads to from the leaf of event `number` in a tree of `size`. `None` if the proof has the wrong
/// length for that place.
pub fn root_from_inclusion(leaf: Hash, number: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    if number >= size {
        return None;
    }
    let (mut node, mut last) = (number, size - 1);
    let mut hash = leaf;
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if node % 2 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node % 2 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    (last == 0).then_some(hash)
}

/// Whether `proof` shows that the tree of `new` leaves and `new_root` begins with that of `old` (RFC 9162 §2.1.4.2).
/// Every log continues the empty one.
pub fn continues(old: u64, new: u64, old_root: Hash, new_root: Hash, proof: &[Hash]) -> bool {
    if old == 0 {
        return proof.is_empty() && old_root == <Hash>::from(Sha256::digest([]));
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old > new {
        return false;
    }
    let mut path = if old.is_power_of_two() { vec![old_root] } else { Vec::new() };
    path.extend_from_slice(proof);
    let (mut f, mut s) = (old - 1, new - 1);
    while f % 2 == 1 {
        (f, s) = (f >> 1, s >> 1);
    }
    let Some((first, rest)) = path.split_first() else { return false };
    let (mut fr, mut sr) = (*first, *first);
    for c in rest {
        if s == 0 {
            return false;
        }
        if f % 2 == 1 || f == s {
            (fr, sr) = (node_hash(c, &fr), node_hash(c, &sr));
            while f % 2 == 0 && f != 0 {
                (f, s) = (f >> 1, s >> 1);
            }
        } else {
            sr = node_hash(&sr, c);
        }
        (f, s) = (f >> 1, s >> 1);
    }
    fr == old_root && sr == new_root && s == 0
}

/// The largest power of two below `len`, for `len` > 1.
fn split(len: u64) -> u64 {
    1 << (len - 1).ilog2()
}

/// The root over `len` > 0 events from `start`, where `start` is a multiple of every power of two in the split.
fn range<E>(start: u64, len: u64, node: &mut impl FnMut(Node) -> Result<Hash, E>) -> Result<Hash, E> {
    if len.is_power_of_two() {
        let level = len.ilog2() as u8;
        return node(Node { level, index: start >> level });
    }
    let half = split(len);
    Ok(node_hash(&range(start, half, node)?, &range(start + half, len - half, node)?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;
    use crate::names::hex;

    /// RFC 6962 §2.1, word for word, over the leaves themselves.
    fn plain_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            many => {
                let half = split(many.len() as u64) as usize;
                node_hash(&plain_root(&many[..half]), &plain_root(&many[half..]))
            }
        }
    }

    fn tree(size: u64) -> (Frontier, Vec<Hash>, BTreeMap<Node, Hash>) {
        let (mut frontier, mut leaves, mut nodes) = (Frontier::empty(), Vec::new(), BTreeMap::new());
        for number in 0..size {
            let leaf = leaf_hash(&number.to_be_bytes());
            leaves.push(leaf);
            nodes.insert(Node { level: 0, index: number }, leaf);
            for (node, hash) in frontier.push(leaf) {
                assert_eq!(node.completed_by(), number);
                nodes.insert(node, hash);
            }
        }
        (frontier, leaves, nodes)
    }

    /// The reference vectors of Certificate Transparency (merkletree tests of the RFC's authors).
    #[test]
    fn roots_are_those_of_certificate_transparency() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let mut frontier = Frontier::empty();
        assert_eq!(hex(&frontier.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let mut roots = Vec::new();
        for leaf in leaves {
            frontier.push(leaf_hash(leaf));
            roots.push(hex(&frontier.root()));
        }
        assert_eq!(roots[0], "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert_eq!(roots[1], "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
        assert_eq!(roots[7], "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }

    #[test]
    fn the_frontier_and_the_nodes_give_the_root_of_every_size() {
        let (_, leaves, nodes) = tree(70);
        let mut frontier = Frontier::empty();
        for size in 0..=70 {
            let expected = plain_root(&leaves[..size as usize]);
            assert_eq!(frontier.root(), expected);
            assert_eq!(root(size, &mut |node| Ok::<_, Infallible>(nodes[&node])), Ok(expected));
            leaves.get(size as usize).map(|leaf| frontier.push(*leaf));
        }
    }

    #[test]
    fn every_event_of_every_tree_has_a_proof_and_no_other_leaf_fits_it() {
        let (_, leaves, nodes) = tree(40);
        let mut node = |node| Ok::<_, Infallible>(nodes[&node]);
        for size in 1..=40 {
            let top = plain_root(&leaves[..size as usize]);
            for number in 0..size {
                let Ok(Some(proof)) = inclusion(number, size, &mut node) else { panic!() };
                assert_eq!(root_from_inclusion(leaves[number as usize], number, size, &proof), Some(top));
                assert_ne!(root_from_inclusion([9; 32], number, size, &proof), Some(top));
                let longer = [&proof[..], &[[0; 32]]].concat();
                assert_eq!(root_from_inclusion(leaves[number as usize], number, size, &longer), None);
            }
            assert_eq!(inclusion(size, size, &mut node), Ok(None));
        }
    }

    /// An implementation that is not ours gives the same roots and the same proofs.
    #[test]
    fn another_implementation_agrees() {
        let (_, leaves, nodes) = tree(65);
        let mut node = |node| Ok::<_, Infallible>(nodes[&node]);
        let mut theirs = ct_merkle::mem_backed_tree::MemoryBackedTree::<Sha256, Vec<u8>>::new();
        let joined = |proof: Option<Vec<Hash>>| proof.unwrap().concat();
        for size in 1..=65_u64 {
            theirs.push((size - 1).to_be_bytes().to_vec());
            assert_eq!(theirs.root().as_bytes()[..], plain_root(&leaves[..size as usize]));
            for number in 0..size {
                let Ok(proof) = inclusion(number, size, &mut node);
                assert_eq!(theirs.prove_inclusion(number as usize).as_bytes(), joined(proof));
            }
            for old in 1..size {
                let Ok(proof) = consistency(old, size, &mut node);
                assert_eq!(theirs.prove_consistency((size - old) as usize).as_bytes(), joined(proof));
            }
        }
    }

    #[test]
    fn every_tree_is_shown_to_continue_every_earlier_one() {
        let (_, leaves, nodes) = tree(33);
        let mut node = |node| Ok::<_, Infallible>(nodes[&node]);
        for new in 1..=33_u64 {
            for old in 1..=new {
                let Ok(Some(proof)) = consistency(old, new, &mut node) else { panic!() };
                let (old_root, new_root) = (plain_root(&leaves[..old as usize]), plain_root(&leaves[..new as usize]));
                assert!(continues(old, new, old_root, new_root, &proof), "{old} → {new}");
                assert!(old == new || !continues(old, new, [1; 32], new_root, &proof));
            }
        }
        assert_eq!(consistency(0, 3, &mut node), Ok(None));
        assert_eq!(consistency(4, 3, &mut node), Ok(None));
    }
}
