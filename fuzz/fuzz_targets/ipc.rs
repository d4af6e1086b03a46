//! Whatever a broken session, gate or command sends the keeper decodes to one message of its edge, or does not.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::ipc::{admin, gate, jail, porch};

fuzz_target!(|bytes: &[u8]| {
    let Some((edge, message)) = bytes.split_first() else { return };
    match edge % 4 {
        0 => drop(postcard::from_bytes::<porch::ToKeeper>(message)),
        1 => drop(postcard::from_bytes::<jail::Ask>(message)),
        2 => drop(postcard::from_bytes::<gate::ToKeeper>(message)),
        _ => drop(postcard::from_bytes::<admin::ToKeeper>(message)),
    }
});
