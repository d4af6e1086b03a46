//! The bytes of the journal: frames, each linked to the one before by its hash, and the head of a segment. Parsing
//! is total: any bytes give a frame or say why not. The layout is docs/ledger.md, "Journal". No I/O here.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::merkle::{Frontier, Hash};
use super::record::Stored;

const FRAME_MAGIC: [u8; 4] = *b"SJF1";
const SEGMENT_MAGIC: [u8; 8] = *b"SDJOURN\x01";
/// Magic, length, number, settled, previous hash.
const FRAME_HEAD: usize = 4 + 4 + 8 + 8 + 32;
const HASH: usize = 32;

/// The largest payload; a batch that would need more is refused.
pub const PAYLOAD_MAX: usize = 8 << 20;

/// One batch as it was committed: what a database needs to apply it, and nothing it could work out by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The number of the first of `events`.
    pub first_event: u64,
    /// Canonical JSON.
    pub events: Vec<String>,
    pub writes: Vec<Stored>,
}

/// A frame that was read, its hash checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub number: u64,
    /// How many frames were in the databases, durably, when this one was written: none of those can be half-written.
    pub settled: u64,
    pub entry: Entry,
    pub hash: Hash,
    /// With head and hash.
    pub len: usize,
}

/// Why there is no frame at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("the bytes end inside it")]
    Short,
    #[error("its hash is not that of its bytes")]
    Damaged,
    #[error("it does not follow the one before")]
    Unlinked,
    #[error("its content cannot be read")]
    Content,
}

impl Entry {
    pub fn to_bytes(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_allocvec(self)
    }
}

/// Appends a frame to `out` and returns its hash.
pub fn write_frame(out: &mut Vec<u8>, number: u64, settled: u64, previous: &Hash, payload: &[u8]) -> Hash {
    let start = out.len();
    out.extend_from_slice(&FRAME_MAGIC);
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&settled.to_be_bytes());
    out.extend_from_slice(previous);
    out.extend_from_slice(payload);
    let hash: Hash = Sha256::digest(&out[start..]).into();
    out.extend_from_slice(&hash);
    hash
}

/// Reads the frame at the beginning of `bytes`, which must be number `number` and follow the frame of hash `previous`.
pub fn read_frame(bytes: &[u8], number: u64, previous: &Hash) -> Result<Frame, FrameError> {
    let frame = read_any(bytes)?;
    if frame.number != number || bytes[24..FRAME_HEAD] != *previous {
        return Err(FrameError::Unlinked);
    }
    Ok(frame)
}

/// The largest `settled` of the whole frames that stand anywhere in `bytes`: the witness against a damage before them.
/// Nothing a client names can pass for a frame here: a frame's length begins with a NUL byte, and no name holds one.
pub fn settled_in(bytes: &[u8]) -> u64 {
    let starts = bytes.windows(4).enumerate().filter(|(_, magic)| *magic == FRAME_MAGIC);
    starts.filter_map(|(at, _)| read_any(&bytes[at..]).ok()).map(|frame| frame.settled).max().unwrap_or(0)
}

fn read_any(bytes: &[u8]) -> Result<Frame, FrameError> {
    let head = bytes.first_chunk::<FRAME_HEAD>().ok_or(FrameError::Short)?;
    let number_at = |at: usize| head[at..].first_chunk().map_or(0, |b: &[u8; 8]| u64::from_be_bytes(*b));
    let payload_len = head[4..].first_chunk().map_or(0, |b: &[u8; 4]| u32::from_be_bytes(*b)) as usize;
    if head[..4] != FRAME_MAGIC || payload_len > PAYLOAD_MAX {
        return Err(FrameError::Damaged);
    }
    let end = FRAME_HEAD + payload_len;
    let hash = bytes.get(end..end + HASH).ok_or(FrameError::Short)?;
    let digest: Hash = Sha256::digest(&bytes[..end]).into();
    if digest != hash {
        return Err(FrameError::Damaged);
    }
    let entry = postcard::from_bytes(&bytes[FRAME_HEAD..end]).map_err(|_| FrameError::Content)?;
    Ok(Frame { number: number_at(8), settled: number_at(16), entry, hash: digest, len: end + HASH })
}

/// The beginning of a segment file: where in the ledger it continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentHead {
    /// Which ledger this is: random, made once.
    pub ledger: [u8; 16],
    /// The month whose database its events go into.
    pub month: u32,
    /// The number of its first frame.
    pub first: u64,
    /// The hash of the frame before that.
    pub previous: Hash,
    /// The log before that frame.
    pub log: Frontier,
}

impl SegmentHead {
    pub fn to_bytes(&self) -> Result<Vec<u8>, postcard::Error> {
        let head = postcard::to_allocvec(self)?;
        let mut out = SEGMENT_MAGIC.to_vec();
        out.extend_from_slice(&(head.len() as u32).to_be_bytes());
        out.extend_from_slice(&head);
        let hash = Sha256::digest(&out);
        out.extend_from_slice(&hash);
        Ok(out)
    }

    /// The head, and where the frames begin.
    pub fn read(bytes: &[u8]) -> Result<(Self, usize), FrameError> {
        let fixed = bytes.first_chunk::<12>().ok_or(FrameError::Short)?;
        let len = u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]) as usize;
        if fixed[..8] != SEGMENT_MAGIC || len > 4096 {
            return Err(FrameError::Damaged);
        }
        let hash = bytes.get(12 + len..12 + len + HASH).ok_or(FrameError::Short)?;
        if Sha256::digest(&bytes[..12 + len])[..] != *hash {
            return Err(FrameError::Damaged);
        }
        let head = postcard::from_bytes(&bytes[12..12 + len]).map_err(|_| FrameError::Content)?;
        Ok((head, 12 + len + HASH))
    }
}

/// What the first frame of all names as the hash before it.
pub fn genesis(ledger: &[u8; 16]) -> Hash {
    Sha256::new().chain_update(b"sealdrop ledger\0").chain_update(ledger).finalize().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(text: &str) -> Entry {
        Entry { first_event: 7, events: vec![text.to_owned()], writes: Vec::new() }
    }

    fn two_frames() -> (Vec<u8>, usize, Hash) {
        let mut bytes = Vec::new();
        let first = write_frame(&mut bytes, 0, 0, &[0; 32], &entry("one").to_bytes().unwrap());
        let cut = bytes.len();
        write_frame(&mut bytes, 1, 1, &first, &entry("two").to_bytes().unwrap());
        (bytes, cut, first)
    }

    #[test]
    fn a_frame_comes_back_and_only_in_its_place() {
        let (bytes, cut, first) = two_frames();
        let one = read_frame(&bytes, 0, &[0; 32]).unwrap();
        assert_eq!((one.entry, one.len, one.hash), (entry("one"), cut, first));
        let two = read_frame(&bytes[cut..], 1, &first).unwrap();
        assert_eq!((two.entry, two.settled), (entry("two"), 1));
        assert_eq!(read_frame(&bytes[cut..], 1, &[0; 32]), Err(FrameError::Unlinked));
        assert_eq!(read_frame(&bytes[cut..], 2, &first), Err(FrameError::Unlinked));
        assert_eq!(settled_in(&bytes), 1);
    }

    #[test]
    fn no_byte_of_a_frame_can_change_and_no_end_be_missing() {
        let (bytes, cut, _) = two_frames();
        for at in 0..cut {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            assert!(read_frame(&flipped, 0, &[0; 32]).is_err(), "byte {at}");
            assert!(read_frame(&bytes[..at], 0, &[0; 32]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_segment_head_comes_back() {
        let head = SegmentHead { ledger: [1; 16], month: 24_322, first: 9, previous: [2; 32], log: Frontier::empty() };
        let mut bytes = head.to_bytes().unwrap();
        let begin = bytes.len();
        bytes.extend_from_slice(b"frames");
        assert_eq!(SegmentHead::read(&bytes), Ok((head, begin)));
        for at in 0..begin {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(SegmentHead::read(&flipped).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, magic: bool) {
            let mut bytes = bytes;
            if magic {
                bytes.splice(0..0, FRAME_MAGIC);
            }
            let _ = read_frame(&bytes, 0, &[0; 32]);
            let _ = SegmentHead::read(&bytes);
            settled_in(&bytes);
        }

        #[test]
        fn content_with_a_right_hash_is_still_not_trusted(payload: Vec<u8>) {
            let mut bytes = Vec::new();
            write_frame(&mut bytes, 0, 0, &[0; 32], &payload);
            if let Ok(frame) = read_frame(&bytes, 0, &[0; 32]) {
                prop_assert_eq!(frame.len, bytes.len());
            }
        }
    }
}
