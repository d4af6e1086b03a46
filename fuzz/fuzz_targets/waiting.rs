//! No note of a waiting upload opens that was not sealed with the key.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::names::DropId;
use sealdrop::seal::{JournalKey, Waiting};

fuzz_target!(|bytes: &[u8]| {
    assert!(Waiting::open(DropId([1; 16]), &JournalKey::from_bytes([1; 32]), bytes).is_err());
});
