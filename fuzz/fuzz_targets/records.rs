//! What was sealed opens to the same bytes, and a record that was changed in any way does not open at all.
#![no_main]
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sealdrop::names::DropId;
use sealdrop::seal::{CHUNK, FileKey, Head, Mode, Records};

static KEY: LazyLock<FileKey> = LazyLock::new(|| FileKey::from_bytes([1; 32]));
static HEAD: LazyLock<Head> = LazyLock::new(|| Head::new(DropId([1; 16]), Mode::Sealed, &KEY).unwrap());

fuzz_target!(|input: (u32, u16, Vec<u8>, Vec<u8>, u32, u8)| {
    let (index, generation, plain, junk, at, bit) = input;
    let (index, generation) = (u64::from(index) >> 2, u32::from(generation));
    let mut records = Records::new(&HEAD, &KEY);
    let mut junk = junk;
    assert!(records.open(index, generation, true, &mut junk).is_err());
    if plain.len() >= CHUNK {
        return;
    }
    let mut record = Vec::new();
    records.seal(index, generation, true, &plain, &mut record).unwrap();
    let mut changed = record.clone();
    let at = at as usize % changed.len();
    changed[at] ^= 1 << (bit % 8);
    assert!(records.open(index, generation, true, &mut changed).is_err());
    assert_eq!(records.open(index, generation, true, &mut record).unwrap(), &plain[..]);
});
