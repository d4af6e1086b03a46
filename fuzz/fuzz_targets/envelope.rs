//! An envelope that parses writes back the same bytes, and yields no key: none of these was made by a sealer.
#![no_main]
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sealdrop::names::DropId;
use sealdrop::seal::{ENVELOPE_LEN, Envelope, FileKey, Head, Identity, Kem, Mode, ShredKey};

static FILE: LazyLock<(Head, Identity, Identity)> = LazyLock::new(|| {
    let head = Head::new(DropId([1; 16]), Mode::Sealed, &FileKey::from_bytes([1; 32])).unwrap();
    (head, Identity::generate(Kem::P256).unwrap(), Identity::generate(Kem::X25519).unwrap())
});

fuzz_target!(|bytes: &[u8]| {
    let (head, p256, x25519) = &*FILE;
    let mut area = bytes.to_vec();
    area.resize(ENVELOPE_LEN, 0);
    // The stanza's key id is made to fit, so that what lies behind it is reached.
    for identity in [p256, x25519] {
        if area.len() > 18 && bytes.first() == Some(&0) {
            area[10..18].copy_from_slice(&identity.to_recipient().key_id());
        }
        if let Ok(envelope) = Envelope::parse(&area) {
            assert_eq!(envelope.to_bytes(), area);
            assert!(envelope.open(head, identity).is_err());
            assert!(envelope.shred_unwrap(head, &ShredKey::from_bytes([2; 32])).is_err());
        }
    }
});
