//! Fields behind a tag that no fuzzer can forge: of a trailer, a journal, a note. Whatever they are, they are read or refused.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sealdrop::seal::fuzz::fields(bytes));
