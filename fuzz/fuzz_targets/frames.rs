//! The ledger's journal and records: any bytes are a frame, a head, a record, or not; a frame reads back as it was written.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::ledger::fuzz::{frames, records};

fuzz_target!(|bytes: &[u8]| {
    frames(bytes);
    records(bytes);
});
