//! Power cuts: the state directory lies on a disk that forgets what was not synced ([`disk`]), clients push, the power
//! goes, the machine comes up again. What a client was told is then so, whatever else was lost.
//!
//! Each test takes its chances from fixed seeds and says on failure which. `SEALDROP_TEST_SEEDS=200` tries so many
//! instead of a few, `SEALDROP_TEST_SEED=1000` begins at another.

mod cuts;
mod disk;
mod model;
mod mount;
mod orders;
mod plant;
mod rotations;

pub use disk::Disk;
pub use mount::Mounted;

/// Only root may mount a file system that other accounts use.
fn may_mount() -> bool {
    let root = crate::site::is_root();
    if !root {
        eprintln!("skipped: only root may mount the disk");
    }
    root
}
