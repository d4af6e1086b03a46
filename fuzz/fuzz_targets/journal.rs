//! No journal opens that was not sealed with the key; `unlock` alike.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::names::DropId;
use sealdrop::seal::{Journal, JournalKey, Midstate, Saved, unlock};
use sealdrop::sums::Keeps;

fuzz_target!(|bytes: &[u8]| {
    assert!(Journal::open(DropId([1; 16]), &JournalKey::from_bytes([1; 32]), bytes).is_err());
    assert!(unlock(&[1; 32], "identity", b"", bytes).is_err());
    // A midstate comes out of an opened journal only, and still must not crash.
    let saved = Saved { sha256: bytes.to_vec(), md5: bytes.to_vec(), sha1: bytes.to_vec(), hashed: 0 };
    for keeps in [Keeps::default(), Keeps { md5: true, sha1: false }, Keeps { md5: false, sha1: true }] {
        let Some(midstate) = Midstate::load(&saved, keeps) else { continue };
        midstate.finish();
    }
});
