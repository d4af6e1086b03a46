//! An envelope that parses writes back the same bytes, and yields no key: none of these was made by a sealer.
#![no_main]
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sealdrop::names::DropId;
use sealdrop::seal::{ENVELOPE_LEN, Envelope, FileKey, Head, Identity, Kem, Mode, ShredKey};

static FILE: LazyLock<(Head, Vec<Identity>)> = LazyLock::new(|| {
    let head = Head::new(DropId([1; 16]), Mode::Sealed, &FileKey::from_bytes([1; 32])).unwrap();
    (head, Kem::ALL.into_iter().map(|kem| Identity::generate(kem).unwrap()).collect())
});

fuzz_target!(|bytes: &[u8]| {
    let (head, identities) = &*FILE;
    let mut area = bytes.to_vec();
    area.resize(ENVELOPE_LEN, 0);
    // The stanza's key id is made to fit, so that what lies behind it is reached.
    for identity in identities {
        if area.len() > 18 && bytes.first() == Some(&0) {
            area[10..18].copy_from_slice(&identity.to_recipient().key_id());
        }
        if let Ok(envelope) = Envelope::parse(&area) {
            assert_eq!(envelope.to_bytes(), area);
            assert!(envelope.open(head, identity).is_err());
            assert!(envelope.shred_unwrap(head, &ShredKey::from_bytes(&[&[0; 17][..], &[2; 32]].concat()).unwrap()).is_err());
            assert!(envelope.bucket().is_some() || !envelope.stanza_ids().is_empty());
        }
    }
});
