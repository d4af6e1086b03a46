//! A text that is a recipient or an identity is the only text of that key, but for its case.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::seal::{Identity, Recipient};

fuzz_target!(|text: &str| {
    if let Ok(recipient) = text.parse::<Recipient>() {
        // An SSH key may have a comment behind it.
        let canonical = recipient.to_string();
        assert!(canonical == text.to_lowercase() || canonical.starts_with("ssh-") && text.starts_with(&canonical));
    }
    if let Ok(identity) = Identity::parse(text) {
        assert_eq!(*identity.to_text(), text.to_uppercase());
    }
    let _ = Identity::parse_file(text);
});
