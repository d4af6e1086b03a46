//! No journal opens that was not sealed with the key; `unlock` alike.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::names::DropId;
use sealdrop::seal::{Journal, JournalKey, Midstate, unlock};

fuzz_target!(|bytes: &[u8]| {
    assert!(Journal::open(DropId([1; 16]), &JournalKey::from_bytes([1; 32]), bytes).is_err());
    assert!(unlock(&[1; 32], "identity", b"", bytes).is_err());
    // A midstate comes out of an opened journal only, and still must not crash.
    if let Some(midstate) = Midstate::load(bytes, 0) {
        midstate.finish();
    }
});
