//! The vectors that open, and those whose fault is in head or envelope: where a reader stops before the body.

use sha2::Digest;

use super::ends::trailer_fields;
use super::{Script, Suite, made};
use crate::names::DropId;
use crate::seal::*;
use crate::sums::Sums;

pub(super) fn good(suite: &mut Suite) {
    for (name, kem, size, about) in [
        ("ok-empty", Kem::P256, 0, "no plaintext: one empty final record"),
        ("ok-one-byte", Kem::X25519, 1, "one byte, X25519"),
        ("ok-p256", Kem::P256, 1000, "P-256"),
        ("ok-full-chunk", Kem::P256, CHUNK, "a full chunk, then an empty final record"),
        ("ok-two-records", Kem::X25519, CHUNK + 5, "a full chunk and five bytes"),
    ] {
        let made = made(name, kem, size);
        suite.sealed(name, "ok", about, &made, made.bytes());
    }
    suite.rebuilt("ok-two-recipients", "ok", "the second of two stanzas, of another KEM than the first", 20, |made| {
        let other = Identity::generate_with(&mut made.entropy, Kem::X25519).unwrap();
        let both = [other.to_recipient(), made.identity.to_recipient()];
        let envelope = Envelope::wrap_with(&mut made.entropy, &made.head, &made.key, &both).unwrap();
        made.set_envelope(&envelope);
    });
    suite.rebuilt(
        "ok-unknown-stanza",
        "ok",
        "a stanza of unknown type, and one of an unknown KEM, are skipped",
        20,
        |made| {
            let known = made.stanzas();
            let unknown = [&[0x7f, 0xfe][..], &[1; 8], &[0, 0, 0, 3], b"new"].concat();
            let kem = [&[0, 1][..], &made.identity.to_recipient().key_id(), &[0, 0, 0, 7, 0x7a, 0xbc, 0, 1, 0, 2, 9]]
                .concat();
            made.set_stanzas(&[unknown, kem, known].concat());
        },
    );
    suite.rebuilt(
        "ok-first-stanza-of-two-fails",
        "ok",
        "a stanza with the right key id that does not unwrap, then a good one",
        20,
        |made| {
            let stanzas = made.stanzas();
            let mut bad = stanzas.clone();
            *bad.last_mut().unwrap() ^= 1;
            made.set_stanzas(&[bad, stanzas].concat());
        },
    );
    suite.rebuilt("ok-unknown-field", "ok", "a trailer field of unknown tag is skipped", 20, |made| {
        let mut fields = trailer_fields(&made.trailer);
        fields.put(300, b"later");
        let bytes = fields.as_bytes().to_vec();
        made.seal_fields(&bytes);
    });
    suite.rebuilt("ok-rewritten-record", "ok", "record 0 was rewritten twice: generation 2", CHUNK + 9, |made| {
        let chunk = made.plain[..CHUNK].to_vec();
        made.records[0] = made.seal_record(0, 2, 0, &chunk);
        made.trailer.gens = vec![(0, 2)];
        made.seal_trailer();
    });
    suite.rebuilt(
        "ok-odd-name",
        "ok",
        "a name that is not UTF-8, no sender, no server, no recipients, no mtime",
        20,
        |made| {
            made.trailer.name = vec![0xff, b'\n', 0xfe];
            made.trailer.mtime = None;
            made.trailer.sender = String::new();
            made.trailer.server = String::new();
            made.trailer.recipients = Vec::new();
            made.seal_trailer();
        },
    );
    suite.rebuilt("ok-sums", "ok", "with MD5 and SHA-1 in the trailer", 20, |made| {
        made.trailer.sums = Sums {
            md5: Some(md5::Md5::digest(&made.plain).into()),
            sha1: Some(sha1::Sha1::digest(&made.plain).into()),
        };
        made.seal_trailer();
    });
    let mut made = made("ok-shred-wrapped", Kem::P256, 20);
    let bucket = ShredKey::draw(&mut made.entropy).unwrap();
    let wrapped = made.envelope().shred_wrap_with(&mut made.entropy, &made.head, 498_697, &bucket).unwrap();
    made.set_envelope(&wrapped);
    let about = "under the key of bucket 498697, which is given";
    suite.sealed_for("ok-shred-wrapped", "ok", about, &made.identity, Some(&made), made.bytes(), Some(&bucket));
    suite.sealed("shred-wrapped", "shred-wrapped", "under a shred wrap, without the bucket's key", &made, made.bytes());
    let other = ShredKey::draw(&mut made.entropy).unwrap();
    let about = "under a shred wrap, with another bucket's key";
    suite.sealed_for("shred-wrong-key", "damaged", about, &made.identity, None, made.bytes(), Some(&other));
    let mut bytes = made.bytes();
    bytes[104 + 9] ^= 1;
    let about = "the shred wrap's bucket number was changed";
    suite.sealed_for("shred-bucket-changed", "damaged", about, &made.identity, None, bytes, Some(&bucket));
    let mut left = bucket.clone();
    left.forget(&DropId([0x5a; 16])).unwrap();
    let about = "under the key of a bucket from which another drop was shredded: what is left of it is given";
    suite.sealed_for("ok-shred-another", "ok", about, &made.identity, Some(&made), made.bytes(), Some(&left));
    left.forget(&made.head.drop_id()).unwrap();
    let about = "under the key of a bucket from which this very drop was shredded";
    suite.sealed_for("shred-forgotten", "damaged", about, &made.identity, None, made.bytes(), Some(&left));
}
pub(super) fn bad_heads(suite: &mut Suite) {
    suite.changed("head-cut", "not-sealed", "95 bytes", |bytes| bytes.truncate(95));
    suite.changed("head-magic", "not-sealed", "another magic", |bytes| bytes[0] = b's');
    suite.changed("head-version", "version", "version 2", |bytes| bytes[7] = 2);
    suite.changed("head-suite", "version", "suite 2", |bytes| bytes[9] = 2);
    suite.changed("head-chunk-size", "version", "chunks of 128 KiB", |bytes| bytes[10] = 17);
    suite.changed("head-mode-unknown", "malformed", "mode 3", |bytes| bytes[11] = 3);
    suite.changed("head-zero", "malformed", "a reserved byte is not zero", |bytes| bytes[12] = 1);
    suite.changed("head-mode-changed", "damaged", "mode was 1, is 0", |bytes| bytes[11] = 0);
    suite.changed("head-file-id-changed", "damaged", "a bit of the file id", |bytes| bytes[16] ^= 1);
    suite.changed("head-salt-changed", "damaged", "a bit of the salt", |bytes| bytes[32] ^= 1);
    suite.changed("head-commitment-changed", "damaged", "a bit of the commitment", |bytes| bytes[64] ^= 1);
}
pub(super) fn bad_envelopes(suite: &mut Suite) {
    suite.changed("envelope-too-long", "malformed", "env_len 8089", |bytes| {
        bytes[96..100].copy_from_slice(&8089u32.to_be_bytes());
    });
    suite.changed("envelope-padding", "malformed", "the last byte of padding is not zero", |bytes| bytes[8191] = 1);
    suite.changed("envelope-stanza-cut", "malformed", "env_len ends inside the stanza", |bytes| {
        bytes[96..100].copy_from_slice(&132u32.to_be_bytes());
        bytes[104 + 132] = 0;
    });
    suite.rebuilt("envelope-wrapped-short", "malformed", "a wrapped key of 47 bytes", 20, |made| {
        let mut stanzas = made.stanzas();
        stanzas.pop();
        stanzas[13] -= 1;
        made.set_stanzas(&stanzas);
    });
    suite.rebuilt("envelope-65-stanzas", "malformed", "64 unknown stanzas and the good one", 20, |made| {
        let unknown = [&[0x7f, 0xfe][..], &[0; 12]].concat().repeat(64);
        let stanzas = [unknown, made.stanzas()].concat();
        made.set_stanzas(&stanzas);
    });
    suite.rebuilt("envelope-shred-beside-another", "malformed", "a shred wrap that is not alone", 20, |made| {
        let shred = [&[0, 0xff][..], &[0; 8], &[0, 0, 0, 40], &[7; 40]].concat();
        let stanzas = [made.stanzas(), shred].concat();
        made.set_stanzas(&stanzas);
    });
    suite.rebuilt("envelope-unfinished", "unfinished", "no stanza: as in an upload that never ended", 20, |made| {
        made.set_stanzas(&[]);
    });
    let good = made("envelope-other-identity", Kem::P256, 20);
    let other = Identity::generate_with(&mut Script::new("other"), Kem::P256).unwrap();
    let about = "sealed to another P-256 key";
    suite.sealed_for("envelope-other-identity", "not-for-this-identity", about, &other, None, good.bytes(), None);
    suite.changed(
        "envelope-encapsulation-changed",
        "damaged",
        "a bit of x in enc: no point of the curve, or another",
        |bytes| {
            bytes[104 + 14 + 6 + 3] ^= 1;
        },
    );
    suite.changed("envelope-wrapped-changed", "damaged", "a bit of the wrapped key", |bytes| {
        bytes[104 + 14 + 6 + 65] ^= 1
    });
    suite.rebuilt("envelope-key-id-changed", "damaged", "another recipient's stanza under this key id", 20, |made| {
        let other = Identity::generate_with(&mut made.entropy, Kem::P256).unwrap().to_recipient();
        let envelope = Envelope::wrap_with(&mut made.entropy, &made.head, &made.key, &[other]).unwrap();
        made.set_envelope(&envelope);
        made.header[106..114].copy_from_slice(&made.identity.to_recipient().key_id());
    });
    suite.rebuilt(
        "envelope-from-another-file",
        "damaged",
        "this recipient's stanza, taken from another file",
        20,
        |made| {
            let key = FileKey::draw(&mut made.entropy).unwrap();
            let head = Head::new_with(&mut made.entropy, DropId([9; 16]), Mode::Sealed, &key).unwrap();
            let recipient = made.identity.to_recipient();
            let envelope = Envelope::wrap_with(&mut made.entropy, &head, &key, &[recipient]).unwrap();
            made.set_envelope(&envelope);
        },
    );
    suite.rebuilt(
        "envelope-second-key",
        "damaged",
        "a well-made stanza that wraps a key which is not the file's",
        20,
        |made| {
            let key = FileKey::draw(&mut made.entropy).unwrap();
            let recipient = made.identity.to_recipient();
            let envelope = Envelope::wrap_with(&mut made.entropy, &made.head, &key, &[recipient]).unwrap();
            made.set_envelope(&envelope);
        },
    );
}
