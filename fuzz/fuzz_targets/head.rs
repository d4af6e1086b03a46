//! A head that parses writes back the same bytes, and fits no key that it was not made with.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::seal::{FileKey, HEAD_LEN, Head};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(head) = Head::parse(bytes) {
        assert_eq!(head.to_bytes(), bytes[..HEAD_LEN]);
        assert!(head.check(&FileKey::from_bytes([7; 32])).is_err());
    }
});
