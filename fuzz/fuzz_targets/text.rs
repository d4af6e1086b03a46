//! A text that is a recipient or an identity is the only text of that key, but for its case.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::seal::{Identity, Recipient};

fuzz_target!(|text: &str| {
    if let Ok(recipient) = text.parse::<Recipient>() {
        assert_eq!(recipient.to_string(), text.to_lowercase());
    }
    if let Ok(identity) = Identity::parse(text) {
        assert_eq!(*identity.to_text(), text.to_uppercase());
    }
    let _ = Identity::parse_file(text);
});
