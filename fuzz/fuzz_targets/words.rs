//! A command line is cut into words or refused, and words put in single quotes come back as they were.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::sftp::words::split;

fuzz_target!(|line: &[u8]| {
    let Ok(words) = split(line) else { return };
    let mut quoted = Vec::new();
    for word in &words {
        quoted.push(b'\'');
        for &byte in &word.bytes {
            if byte == b'\'' { quoted.extend_from_slice(b"'\\''") } else { quoted.push(byte) }
        }
        quoted.extend_from_slice(b"' ");
    }
    if let Ok(again) = split(&quoted) {
        let bytes = |words: &[sealdrop::sftp::words::Word]| words.iter().map(|w| w.bytes.clone()).collect::<Vec<_>>();
        assert_eq!(bytes(&again), bytes(&words));
    }
});
