//! A footer that parses writes back the same bytes; no trailer opens under a key that it was not sealed with.
#![no_main]
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sealdrop::names::DropId;
use sealdrop::seal::{FOOTER_LEN, FileKey, Footer, Head, Mode, Trailer};

static KEY: LazyLock<FileKey> = LazyLock::new(|| FileKey::from_bytes([1; 32]));
static HEAD: LazyLock<Head> = LazyLock::new(|| Head::new(DropId([1; 16]), Mode::Sealed, &KEY).unwrap());

fuzz_target!(|bytes: &[u8]| {
    let Some((trailer, footer)) = bytes.split_last_chunk::<FOOTER_LEN>() else { return };
    if let Ok(parsed) = Footer::parse(footer) {
        assert_eq!(&parsed.to_bytes(), footer);
        let _ = parsed.check_len(bytes.len() as u64);
        assert!(Trailer::open(&HEAD, &KEY, footer, trailer).is_err());
    }
});
