//! The vectors whose fault is in the body, the trailer or the footer.

use sha2::{Digest, Sha256};

use super::{Made, Suite, made};
use crate::names::DropId;
use crate::seal::fields::Fields;
use crate::seal::*;

pub(super) fn bad_bodies(suite: &mut Suite) {
    suite.changed("record-generation-changed", "damaged", "the clear generation is 1, the trailer says 0", |bytes| {
        bytes[8195] = 1;
    });
    suite.changed("record-nonce-changed", "damaged", "a bit of a nonce", |bytes| bytes[8196] ^= 1);
    suite.changed("record-ciphertext-changed", "damaged", "a bit of ciphertext", |bytes| bytes[8192 + 16 + 50] ^= 0x80);
    suite.changed("record-tag-changed", "damaged", "a bit of a tag", |bytes| bytes[8192 + 16 + 100 + 15] ^= 1);
    suite.rebuilt("records-swapped", "damaged", "records 0 and 1 changed places", 2 * CHUNK, |made| {
        made.records.swap(0, 1)
    });
    suite.rebuilt("record-repeated", "damaged", "record 0 stands in the place of record 1 too", 2 * CHUNK, |made| {
        made.records[1] = made.records[0].clone();
    });
    suite.rebuilt(
        "record-from-another-file",
        "damaged",
        "record 0 of another file of the same recipient",
        20,
        |made| {
            let key = FileKey::draw(&mut made.entropy).unwrap();
            let head = Head::new_with(&mut made.entropy, DropId([9; 16]), Mode::Sealed, &key).unwrap();
            made.records[0].clear();
            let mut records = Records::new(&head, &key);
            records.seal_with(&mut made.entropy, 0, 0, true, &made.plain, &mut made.records[0]).unwrap();
        },
    );
    suite.rebuilt(
        "record-stale-generation",
        "damaged",
        "generation 1 of record 0 where the trailer says 2",
        CHUNK,
        |made| {
            let chunk = made.plain.clone();
            made.records[0] = made.seal_record(0, 1, 0, &chunk);
            made.trailer.gens = vec![(0, 2)];
            made.seal_trailer();
        },
    );
    suite.rebuilt("record-final-flag-missing", "damaged", "the last record was sealed with final = 0", 20, |made| {
        let chunk = made.plain.clone();
        made.records[0] = made.seal_record(0, 0, 0, &chunk);
    });
    suite.rebuilt("record-final-flag-early", "damaged", "record 0 of two was sealed with final = 1", CHUNK, |made| {
        let chunk = made.plain.clone();
        made.records[0] = made.seal_record(0, 0, 1, &chunk);
    });
    suite.rebuilt("record-missing", "length", "the full record was taken out", CHUNK, |made| {
        made.records.remove(0);
    });
    suite.rebuilt(
        "record-missing-size-fitted",
        "damaged",
        "the full record was taken out and the footer's size fitted",
        CHUNK,
        |made| {
            made.records.remove(0);
            let footer_at = made.end.len() - FOOTER_LEN;
            made.end[footer_at..footer_at + 8].copy_from_slice(&0u64.to_be_bytes());
        },
    );
    suite.rebuilt(
        "digest-wrong",
        "damaged",
        "every record is authentic, the trailer's sha256 is of other bytes",
        20,
        |made| {
            made.trailer.sha256 = Sha256::digest(b"something else").into();
            made.seal_trailer();
        },
    );
}
pub(super) fn trailer_fields(trailer: &Trailer) -> Fields {
    let mut fields = Fields::with_capacity(512);
    fields.put(1, &trailer.name);
    fields.put(5, &trailer.sha256);
    fields.put_u64(6, trailer.opened_at);
    fields.put_u64(7, trailer.sealed_at);
    fields
}
pub(super) fn bad_ends(suite: &mut Suite) {
    suite.changed("cut-in-body", "length", "ends in the middle of a record", |bytes| bytes.truncate(8192 + 60));
    suite.changed("cut-after-body", "length", "ends after the final record", |bytes| bytes.truncate(8192 + 132));
    suite.changed("cut-one-byte", "length", "the last byte is missing", |bytes| {
        bytes.pop();
    });
    suite.changed("extended-one-byte", "length", "a byte was appended", |bytes| bytes.push(0));
    suite.changed("footer-magic", "length", "another magic at the end", |bytes| *bytes.last_mut().unwrap() ^= 1);
    suite.changed("footer-zero", "malformed", "a reserved byte of the footer is not zero", |bytes| {
        let at = bytes.len() - 20;
        bytes[at] = 1;
    });
    suite.changed("footer-size-too-large", "malformed", "size 2^46", |bytes| {
        let at = bytes.len() - 32;
        bytes[at..at + 8].copy_from_slice(&(1u64 << 46).to_be_bytes());
    });
    suite.changed("footer-trailer-too-long", "malformed", "trailer_len 1 MiB and a byte", |bytes| {
        let at = bytes.len() - 24;
        bytes[at..at + 4].copy_from_slice(&((1u32 << 20) + 1).to_be_bytes());
    });
    suite.changed("footer-size-changed", "length", "size is one more", |bytes| {
        let at = bytes.len() - 25;
        bytes[at] += 1;
    });
    suite.changed(
        "footer-size-moved",
        "damaged",
        "size is one more, trailer_len one less: the equation holds",
        |bytes| {
            let at = bytes.len() - 32;
            bytes[at + 7] += 1;
            bytes[at + 11] -= 1;
        },
    );
    suite.changed("trailer-changed", "damaged", "a bit of the trailer", |bytes| {
        let at = bytes.len() - 60;
        bytes[at] ^= 1;
    });
    suite.rebuilt(
        "trailer-from-another-file",
        "damaged",
        "trailer and footer of another file of the same size",
        20,
        |made_here| {
            made_here.end = made("trailer-from-another-file, the other", Kem::P256, 20).end;
        },
    );
    let fields = |change: fn(&mut Fields, &Trailer)| {
        move |made: &mut Made| {
            let mut fields = Fields::with_capacity(512);
            change(&mut fields, &made.trailer);
            let bytes = fields.as_bytes().to_vec();
            made.seal_fields(&bytes);
        }
    };
    suite.rebuilt(
        "trailer-field-missing",
        "damaged",
        "no sha256",
        20,
        fields(|fields, trailer| {
            fields.put(1, &trailer.name);
            fields.put_u64(6, 0);
            fields.put_u64(7, 0);
        }),
    );
    suite.rebuilt(
        "trailer-fields-unordered",
        "damaged",
        "sealed_at before opened_at",
        20,
        fields(|fields, trailer| {
            fields.put(1, &trailer.name);
            fields.put(5, &trailer.sha256);
            fields.put_u64(7, 0);
            fields.put_u64(6, 0);
        }),
    );
    suite.rebuilt(
        "trailer-field-twice",
        "damaged",
        "two names",
        20,
        fields(|fields, trailer| {
            fields.put(1, &trailer.name);
            fields.put(1, &trailer.name);
            fields.put(5, &trailer.sha256);
            fields.put_u64(6, 0);
            fields.put_u64(7, 0);
        }),
    );
    suite.rebuilt(
        "trailer-text-not-utf8",
        "damaged",
        "a sender that is not UTF-8",
        20,
        fields(|fields, trailer| {
            fields.put(1, &trailer.name);
            fields.put(3, &[0xff]);
            fields.put(5, &trailer.sha256);
            fields.put_u64(6, 0);
            fields.put_u64(7, 0);
        }),
    );
    suite.rebuilt(
        "trailer-sum-short",
        "damaged",
        "an MD5 of 15 bytes",
        20,
        fields(|fields, trailer| {
            fields.put(1, &trailer.name);
            fields.put(5, &trailer.sha256);
            fields.put_u64(6, 0);
            fields.put_u64(7, 0);
            fields.put(10, &[0; 15]);
        }),
    );
    suite.rebuilt(
        "trailer-generation-zero",
        "damaged",
        "a listed generation of 0",
        20,
        fields(|fields, trailer| {
            fields.put(1, &trailer.name);
            fields.put(5, &trailer.sha256);
            fields.put_u64(6, 0);
            fields.put_u64(7, 0);
            fields.put_generations(9, &[(0, 0)]);
        }),
    );
}
