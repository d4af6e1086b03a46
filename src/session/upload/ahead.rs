//! Writes that came before their turn, in bounded memory: so many bytes for one upload, and so many for the whole session,
//! whatever number of handles it has open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

/// How far ahead of its turn a write may be, and how many bytes of one upload may wait so.
pub const AHEAD_MAX: u64 = 8 << 20;

/// How many bytes may wait in all uploads of a session. Clients that write out of order have a few files open at once.
const SESSION_MAX: u64 = 64 << 20;

/// How many bytes wait in all uploads of one session.
pub type SessionCount = Arc<AtomicU64>;

/// Pieces by their offset. What is dropped without its turn leaves the session's count as well.
pub struct Ahead {
    pieces: BTreeMap<u64, Zeroizing<Vec<u8>>>,
    bytes: u64,
    session: SessionCount,
}

impl Ahead {
    pub fn new(session: SessionCount) -> Self {
        Self { pieces: BTreeMap::new(), bytes: 0, session }
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub fn has_room_for(&self, len: u64) -> bool {
        self.bytes + len <= AHEAD_MAX && self.session.load(Ordering::Relaxed) + len <= SESSION_MAX
    }

    /// The end of the last piece.
    pub fn end(&self) -> Option<u64> {
        self.pieces.last_key_value().map(|(offset, data)| offset + data.len() as u64)
    }

    /// Where the first piece begins.
    pub fn first(&self) -> Option<u64> {
        self.pieces.first_key_value().map(|(offset, _)| *offset)
    }

    /// What overlaps with bytes already waiting is newer, and replaces them there too.
    pub fn keep(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        for (at, waiting) in self.pieces.range_mut(..end) {
            let (from, to) = (offset.max(*at), end.min(at + waiting.len() as u64));
            if from < to {
                let (into, of) = ((from - at) as usize, (from - offset) as usize);
                let len = (to - from) as usize;
                waiting[into..into + len].copy_from_slice(&data[of..of + len]);
            }
        }
        if self.pieces.get(&offset).is_none_or(|waiting| waiting.len() < data.len()) {
            self.count(data.len() as u64);
            if let Some(shorter) = self.pieces.insert(offset, Zeroizing::new(data.to_vec())) {
                self.uncount(shorter.len() as u64);
            }
        }
    }

    /// The first piece.
    pub fn pop_first(&mut self) -> Option<(u64, Zeroizing<Vec<u8>>)> {
        let (offset, data) = self.pieces.pop_first()?;
        self.uncount(data.len() as u64);
        Some((offset, data))
    }

    pub fn clear(&mut self) {
        self.pieces.clear();
        self.uncount(self.bytes);
    }

    fn count(&mut self, len: u64) {
        self.bytes += len;
        self.session.fetch_add(len, Ordering::Relaxed);
    }

    fn uncount(&mut self, len: u64) {
        self.bytes -= len;
        self.session.fetch_sub(len, Ordering::Relaxed);
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_counted_for_the_whole_session_until_it_goes() {
        let session = SessionCount::default();
        let mut all: Vec<Ahead> = Vec::new();
        let piece = vec![7; AHEAD_MAX as usize];
        while Ahead::new(session.clone()).has_room_for(AHEAD_MAX) {
            let mut ahead = Ahead::new(session.clone());
            ahead.keep(0, &piece);
            assert!(!ahead.has_room_for(1), "one upload is full");
            all.push(ahead);
            assert!(all.len() as u64 <= SESSION_MAX / AHEAD_MAX);
        }
        all.clear();
        assert!(Ahead::new(session).has_room_for(AHEAD_MAX), "all of it is free again");
    }

    #[test]
    fn the_newest_bytes_win_where_pieces_overlap() {
        let mut ahead = Ahead::new(SessionCount::default());
        ahead.keep(10, b"aaaa");
        ahead.keep(12, b"bbbb");
        assert_eq!((ahead.first(), ahead.end()), (Some(10), Some(16)));
        assert_eq!(ahead.pop_first().map(|(at, data)| (at, data.to_vec())), Some((10, b"aabb".to_vec())));
    }
}
