//! A stranger's certificate is read or refused, and what is read can be told of and is signed by nobody we know.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sealdrop::policy::{Certificate, Revoked};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(certificate) = Certificate::parse(bytes) {
        let words = certificate.holding().certified.expect("it is a certificate").words();
        assert!(words.chars().count() < 400);
        assert!(certificate.verify([].iter()).is_err());
    }
    let _ = Revoked::parse(bytes, |_| None);
});
