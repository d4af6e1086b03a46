//! A path that parses stays inside, is its own normal form, and its names come back from their escaped form.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::names::{FileName, escaped, unescaped};
use sealdrop::vpath::VirtualPath;

fuzz_target!(|bytes: &[u8]| {
    assert_eq!(unescaped(&escaped(bytes)).as_deref(), Some(bytes));
    if let Ok(path) = VirtualPath::parse(bytes) {
        assert!(path.components().all(|name| FileName::new(name).is_ok()));
        assert_eq!(VirtualPath::parse(path.as_bytes()).as_ref(), Ok(&path));
    }
});
