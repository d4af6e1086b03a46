//! argv → command → exit code. Everything else is in the library; see `src/lib.rs` for the map.

use std::process::ExitCode;

/// Replies of more than 128 KiB are not mapped and unmapped each time, as glibc's allocator does it: measured, that
/// was 18 % of a download.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sealdrop::cli::main()
}
