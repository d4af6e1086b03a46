//! Whatever a client sends after login is a request or an error, never a panic, and a packet ends where it says.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::sftp::packet::{read_init, read_request, split_packet};

fuzz_target!(|bytes: &[u8]| {
    let _ = read_init(bytes);
    let _ = read_request(bytes);
    if let Ok(Some((packet, rest))) = split_packet(bytes) {
        assert_eq!(4 + packet.len() + rest.len(), bytes.len());
        let _ = read_request(packet);
    }
});
