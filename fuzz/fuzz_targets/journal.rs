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
    let Some((hashed, state)) = bytes.split_first_chunk() else { return };
    let hashed = u64::from_le_bytes(*hashed);
    let saved = Saved { sha256: state.to_vec(), md5: state.to_vec(), sha1: state.to_vec(), hashed };
    for keeps in [Keeps::default(), Keeps { md5: true, sha1: false }, Keeps { md5: false, sha1: true }] {
        let Some(mut midstate) = Midstate::load(&saved, keeps) else { continue };
        midstate.update(state);
        midstate.finish();
    }
});
