//! Places where a test makes the keeper die. Each durable step of a commit and of a sweep has a name here; a debug build
//! started with `SEALDROP_CRASH_AT=<name>` kills itself with SIGKILL when it gets there, and with `SEALDROP_STOP_AT=<name>`
//! stops itself with SIGSTOP, so that a test can cut the power at that very moment. A release build has none of this.

/// Every place, in the order a commit, one of a duplicate, a sweep, orders and a last pickup pass them.
pub const PLACES: &[&str] = &[
    "commit-taken-over",
    "commit-envelope",
    "commit-bytes",
    "commit-names",
    "commit-names-durable",
    "commit-recorded",
    "commit-settled",
    "duplicate-named",
    "duplicate-recorded",
    "duplicate-settled",
    "wait-noted",
    "wait-recorded",
    "wait-reopened",
    "wait-delivered",
    "sweep-begun",
    "sweep-unlinked",
    "sweep-recorded",
    "sweep-key-destroyed",
    "sweep-key-recorded",
    "sweep-key-certified",
    "removal-recorded",
    "shred-ordered",
    "shred-forgotten",
    "hold-moving",
    "rewrap-noted",
    "rewrap-written",
    "rewrap-ended",
    "hold-rewrapped",
    "hold-recorded",
    "pickup-recorded",
];

/// Those of a rotation, in the order in which one of the root key, of an identity and of the receipt key pass them.
pub const ROTATION_PLACES: &[&str] = &[
    "rotate-root-made",
    "rotate-root-older",
    "rotate-root-placed",
    "rotate-root-rewrapped",
    "rotate-root-ended",
    "rotate-identity-retired",
    "rotate-identity-made",
    "rewrap-noted",
    "rewrap-written",
    "rewrap-ended",
    "rotate-identity-ended",
    "readdress-noted",
    "readdress-left",
    "readdress-linked",
    "readdress-delivered",
    "readdress-rewrapped",
    "readdress-recorded",
    "rotate-receipt-made",
    "rotate-receipt-noted",
    "rotate-receipt-placed",
    "rotate-host-made",
    "rotate-host-placed",
    "rotate-host-told",
];

/// That of a notice: the hook has taken it, and that is not in the ledger yet.
pub const NOTICE_PLACES: &[&str] = &["notice-told"];

/// That of an approval: it is used, and what it was for is not done yet.
pub const APPROVAL_PLACES: &[&str] = &["approval-used"];

/// Dies or stops here if a test asked for it.
#[cfg(debug_assertions)]
pub fn point(place: &str) {
    use nix::sys::signal::{Signal, raise};

    let lists = [PLACES, ROTATION_PLACES, NOTICE_PLACES, APPROVAL_PLACES];
    debug_assert!(lists.iter().any(|list| list.contains(&place)), "{place} is not in the lists");
    for (variable, signal) in [("SEALDROP_CRASH_AT", Signal::SIGKILL), ("SEALDROP_STOP_AT", Signal::SIGSTOP)] {
        if std::env::var_os(variable).is_some_and(|wanted| wanted == place) {
            // To this thread: one that is sent to the process stops another thread first, and this one goes on for a while.
            let _ = raise(signal);
        }
    }
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub fn point(_place: &str) {}
