//! Settling: what was applied gets into the databases and to their disk, in a thread of its own and after the
//! acknowledgement. The journal alone makes a batch durable; a crash before this is what opening replays. Waiting for
//! it would cost several more syncs for each group of batches, and a client all of them for every file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::committer::{Core, Step, die};
use super::database::{Database, DatabaseError};

/// So many bytes of frames may wait: what sled makes of them fits into the room that each database keeps for its next flush.
const BYTES_MAX: u64 = 512 << 10;

/// From here on the thread begins: at [`BYTES_MAX`] who commits settles, which takes tens of milliseconds, and a client waits
/// for them.
const BYTES_DUE: u64 = BYTES_MAX / 2;

/// The committer's end.
pub struct Settler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The month of what is not settled yet, and since when and how many bytes of frames that are.
    month: Option<Arc<Database>>,
    since: Option<Instant>,
    bytes: u64,
    ended: bool,
}

/// Why it stopped before it was told to.
enum Stopped {
    Failed(DatabaseError),
    #[cfg(test)]
    Test,
}

impl Settler {
    pub fn start(core: Arc<Core>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("ledger-settler".to_owned()).spawn(move || run(&core, &theirs))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Frames of `bytes` were applied, to `live` and to this month. Where they cannot wait, they are settled at once.
    pub fn applied(&self, core: &Core, month: &Arc<Database>, bytes: u64) -> Result<(), DatabaseError> {
        let mut state = self.shared.lock();
        state.month.get_or_insert_with(|| Arc::clone(month));
        let begins = state.since.is_none();
        state.since.get_or_insert_with(Instant::now);
        state.bytes += bytes;
        if state.bytes > BYTES_MAX || !(month.has_room() && core.live.has_room()) {
            drop(state);
            return self.settle(core);
        }
        if begins || state.bytes >= BYTES_DUE {
            self.shared.changed.notify_one();
        }
        Ok(())
    }

    /// Everything applied is on the disk when this returns. Before a month begins: the one that ends is not written again.
    pub fn settle(&self, core: &Core) -> Result<(), DatabaseError> {
        let month = self.shared.lock().month.clone();
        if let Some(month) = month {
            month.flush()?;
            core.live.flush()?;
        }
        // What the thread does meanwhile it does twice, which is no harm.
        self.shared.lock().take();
        Ok(())
    }
}

impl Drop for Settler {
    /// Settles what is left and ends the thread.
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self) -> Option<Arc<Database>> {
        (self.since, self.bytes) = (None, 0);
        self.month.take()
    }
}

fn run(core: &Core, shared: &Shared) {
    let after = core.options.settle_after;
    let mut state = shared.lock();
    loop {
        let waited = state.since.map(|since| since.elapsed());
        let due = state.bytes >= BYTES_DUE || waited.is_some_and(|waited| waited >= after);
        if due || state.ended {
            let ended = state.ended;
            let month = state.take();
            drop(state);
            if let Some(month) = month {
                // sled panics where it should return; that is no better than an error.
                match catch_unwind(AssertUnwindSafe(|| flush(core, &month))) {
                    Ok(Ok(())) => {}
                    Ok(Err(Stopped::Failed(error))) => die(&error.to_string()),
                    #[cfg(test)]
                    Ok(Err(Stopped::Test)) => return,
                    Err(_) => die("the settler panicked"),
                }
            }
            if ended {
                return;
            }
            state = shared.lock();
            continue;
        }
        state = match waited {
            None => shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(waited) => {
                let rest = after.saturating_sub(waited);
                shared.changed.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0
            }
        };
    }
}

/// The month first: what the live database points to must be there.
fn flush(core: &Core, month: &Database) -> Result<(), Stopped> {
    month.flush().map_err(Stopped::Failed)?;
    reached(core, Step::MonthFlushed)?;
    core.live.flush().map_err(Stopped::Failed)?;
    reached(core, Step::LiveFlushed)
}

#[cfg(test)]
fn reached(core: &Core, step: Step) -> Result<(), Stopped> {
    match &core.options.stop_at {
        Some(stop_at) if stop_at(step) => Err(Stopped::Test),
        _ => Ok(()),
    }
}

#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "the tests' twin uses it")]
fn reached(_core: &Core, _step: Step) -> Result<(), Stopped> {
    Ok(())
}
