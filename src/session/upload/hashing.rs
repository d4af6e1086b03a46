//! The digest of an upload's full records, made beside their sealing: from some bytes on by a thread of its own, where the
//! machine has a core for it. SHA-256 is the dearest thing that happens to a byte here, and all the rest of an upload, from
//! the socket to the disk, takes little longer; side by side they are done in the time of one.
//!
//! Records wait in order in a short line, and whoever takes the next holds the digest: the thread as a rule, the session
//! itself when the line is full or the digest is asked for. So a machine that has no core to spare hashes in the session as
//! if there were no thread, and nothing waits for one that is not scheduled.

use std::collections::VecDeque;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use zeroize::Zeroizing;

use crate::seal::{CHUNK, Midstate};

/// Up to here it is hashed at once: for a small file a change of threads costs more than it gives.
const ALONE: u64 = 128 << 10;

/// Chunks that are worth waking the thread for; waking it for each would cost a tenth of what hashing it does.
const BATCH: usize = 2;

/// Chunks that wait for the thread: with the one that fills and the one being hashed, 640 KiB for an upload.
const LINE_MAX: usize = 8;

/// The plaintext of a full record.
type Chunk = Zeroizing<Vec<u8>>;

pub struct Hashing {
    line: Arc<Line>,
    /// Bytes under the digest or on their way to it.
    taken: u64,
}

#[derive(Default)]
struct Line {
    digest: Mutex<Midstate>,
    waiting: Mutex<VecDeque<Chunk>>,
    /// Buffers to be used again.
    spare: Mutex<Vec<Chunk>>,
}

impl From<Midstate> for Hashing {
    fn from(digest: Midstate) -> Self {
        let taken = digest.hashed();
        Self { line: Arc::new(Line { digest: Mutex::new(digest), ..Line::default() }), taken }
    }
}

impl Hashing {
    /// Takes the next chunk, and gives an empty buffer for it: bytes are handed over, not copied.
    pub fn update(&mut self, mut chunk: Chunk) -> Chunk {
        let begins = self.taken < ALONE;
        self.taken += chunk.len() as u64;
        let Some(hasher) = hasher().filter(|_| !begins) else {
            lock(&self.line.digest).update(&chunk);
            chunk.clear();
            return chunk;
        };
        let mut waiting = lock(&self.line.waiting);
        waiting.push_back(chunk);
        let waits = waiting.len();
        std::mem::drop(waiting);
        // A thread that has ended leaves all to us.
        let sent = waits < BATCH || hasher.send(Arc::clone(&self.line)).is_ok();
        if waits > LINE_MAX || !sent {
            self.line.take_one();
        }
        lock(&self.line.spare).pop().unwrap_or_else(|| Zeroizing::new(Vec::with_capacity(CHUNK)))
    }

    /// The digest of everything so far.
    pub fn midstate(&mut self) -> Midstate {
        while self.line.take_one() {}
        lock(&self.line.digest).clone()
    }
}

impl Line {
    /// Hashes the chunk whose turn it is; `false` if there is none.
    fn take_one(&self) -> bool {
        // In this order: who takes the first of the line has the digest already, so nobody hashes the second before it.
        let mut digest = lock(&self.digest);
        let Some(mut chunk) = lock(&self.waiting).pop_front() else { return false };
        digest.update(&chunk);
        std::mem::drop(digest);
        chunk.clear();
        lock(&self.spare).push(chunk);
        true
    }
}

/// The one thread of this process, which begins when it is first wanted. `None`: there is no second core, or no thread to
/// be had.
fn hasher() -> Option<&'static Sender<Arc<Line>>> {
    static HASHER: OnceLock<Option<Sender<Arc<Line>>>> = OnceLock::new();
    HASHER
        .get_or_init(|| {
            if std::thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
                return None;
            }
            let (sender, lines) = channel::<Arc<Line>>();
            let work = move || {
                for line in lines {
                    while line.take_one() {}
                }
            };
            std::thread::Builder::new().name("hasher".to_owned()).stack_size(STACK).spawn(work).ok()?;
            Some(sender)
        })
        .as_ref()
}

/// Hashing needs little more than the states.
const STACK: usize = 64 << 10;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// However the bytes come and whoever hashes them, and whenever it is asked for meanwhile.
        #[test]
        fn the_digest_is_that_of_all_bytes_in_order(pieces in proptest::collection::vec((1usize..300_000, any::<bool>()), 1..24)) {
            let (mut hashing, mut plain) = (Hashing::from(Midstate::new()), Midstate::new());
            for (number, (len, ask)) in pieces.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..len).map(|at| (at * 7 + number) as u8).collect();
                plain.update(&bytes);
                prop_assert!(hashing.update(Zeroizing::new(bytes)).is_empty());
                if ask {
                    let so_far = hashing.midstate();
                    prop_assert_eq!(so_far.hashed(), plain.hashed());
                    prop_assert_eq!(so_far.finish().0, plain.clone().finish().0);
                }
            }
            prop_assert_eq!(hashing.midstate().finish().0, plain.finish().0);
        }
    }
}
