//! Any words are a passphrase or are none, the same ones each time, and counting what they are worth ends.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::seal::{Passphrase, PassphraseError};

fuzz_target!(|words: &str| {
    let passphrase = Passphrase::new(words);
    match Passphrase::chosen(words) {
        Ok(chosen) => assert_eq!(chosen.as_str(), passphrase.unwrap().as_str()),
        Err(PassphraseError::Weak(_)) => {
            let normal = passphrase.unwrap();
            assert_eq!(Passphrase::new(normal.as_str()).unwrap().as_str(), normal.as_str());
        }
        Err(error) => assert_eq!(passphrase.err(), Some(error)),
    }
});
