//! Power cuts: the state directory lies on a disk that forgets what was not synced ([`disk`]), clients push, the power
//! goes, the machine comes up again. What a client was told is then so, whatever else was lost.
//!
//! Each test takes its chances from fixed seeds and says on failure which. `SEALDROP_TEST_SEEDS=200` tries so many
//! instead of a few, `SEALDROP_TEST_SEED=1000` begins at another.

mod disk;
mod mount;
mod plant;
mod tests;

pub use disk::Disk;
pub use mount::Mounted;
