//! The vectors of files that only one who knows the format makes, most of them with the file key at hand: each breaks one rule
//! of the page that no change of a byte would.

use aes_gcm::aead::{Aead as _, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hmac::{Hmac, Mac};
use p256::elliptic_curve::sec1::ToSec1Point;
use sha2::Sha256;

use super::ends::trailer_fields;
use super::{Made, Suite, made};
use crate::seal::aead::enseal;
use crate::seal::fields::Fields;
use crate::seal::keys::Entropy;
use crate::seal::stanza::{HPKE, hpke_info, stanza_aad};
use crate::seal::*;

/// A Diffie-Hellman that has taken place.
pub(super) struct Dh<'a> {
    pub kem: Kem,
    pub enc: &'a [u8],
    pub public: &'a [u8],
    pub secret: &'a [u8],
}

/// RFC 9180's single-shot SealBase from there on, for encapsulations that no library makes.
pub(super) fn hpke_seal(dh: &Dh<'_>, info: &[u8], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let mac = |key: &[u8], parts: &[&[u8]]| -> Vec<u8> {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).unwrap();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().to_vec()
    };
    let extract = |suite: &[u8], salt: &[u8], label: &[u8], ikm: &[u8]| mac(salt, &[b"HPKE-v1", suite, label, ikm]);
    let expand = |suite: &[u8], key: &[u8], label: &[u8], context: &[u8], length: u16| {
        let mut out = mac(key, &[&length.to_be_bytes(), b"HPKE-v1", suite, label, context, &[1]]);
        out.truncate(length.into());
        out
    };
    let kem = (dh.kem as u16).to_be_bytes();
    let suite = [&b"KEM"[..], &kem].concat();
    let key = extract(&suite, b"", b"eae_prk", dh.secret);
    let shared = expand(&suite, &key, b"shared_secret", &[dh.enc, dh.public].concat(), 32);
    let suite = [&b"HPKE"[..], &kem, &[0, 1, 0, 2]].concat();
    let psk_id = extract(&suite, b"", b"psk_id_hash", b"");
    let context = [&[0][..], &psk_id, &extract(&suite, b"", b"info_hash", info)].concat();
    let key = extract(&suite, &shared, b"secret", b"");
    let cipher = Aes256Gcm::new_from_slice(&expand(&suite, &key, b"key", &context, 32)).unwrap();
    let nonce = Nonce::try_from(&expand(&suite, &key, b"base_nonce", &context, 12)[..]).unwrap();
    cipher.encrypt(&nonce, Payload { msg: plain, aad }).unwrap()
}

fn hpke_stanza(made: &Made, kem: Kem, enc: &[u8], secret: &[u8]) -> Vec<u8> {
    let recipient = made.identity.to_recipient();
    let public = recipient.public_bytes();
    let aad = stanza_aad(&made.head, HPKE, &recipient.key_id());
    let wrapped = hpke_seal(&Dh { kem, enc, public, secret }, &hpke_info(&made.head), &aad, made.key.expose());
    let body = [&(kem as u16).to_be_bytes()[..], &[0, 1, 0, 2], enc, &wrapped].concat();
    stanza(HPKE, &recipient.key_id(), &body)
}

fn stanza(kind: u16, key_id: &[u8; 8], body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], key_id, &(body.len() as u32).to_be_bytes(), body].concat()
}

pub(super) fn envelopes(suite: &mut Suite) {
    suite.rebuilt("envelope-stanza-head-cut", "malformed", "13 bytes behind the last stanza", 20, |made| {
        let stanzas = [made.stanzas(), vec![0x7f; 13]].concat();
        made.set_stanzas(&stanzas);
    });
    suite.rebuilt("envelope-wrapped-long", "malformed", "a wrapped key of 49 bytes", 20, |made| {
        let mut stanzas = [made.stanzas(), vec![0]].concat();
        stanzas[13] += 1;
        made.set_stanzas(&stanzas);
    });
    suite.changed("envelope-kdf", "malformed", "a known KEM with another KDF", |bytes| bytes[104 + 14 + 3] = 2);
    suite.changed("envelope-aead", "malformed", "a known KEM with another AEAD", |bytes| bytes[104 + 14 + 5] = 1);
    suite.rebuilt("envelope-malformed-for-another", "malformed", "somebody else's stanza is too short", 20, |made| {
        let other = stanza(HPKE, &[7; 8], &[0, 0x20, 0, 1, 0, 2, 9]);
        let stanzas = [made.stanzas(), other].concat();
        made.set_stanzas(&stanzas);
    });
    suite.rebuilt("ok-stanza-without-a-kem", "ok", "a stanza of type 1 with one byte of body is skipped", 20, |made| {
        let stanzas = [stanza(HPKE, &made.identity.to_recipient().key_id(), &[0]), made.stanzas()].concat();
        made.set_stanzas(&stanzas);
    });
    suite.rebuilt("ok-64-stanzas", "ok", "63 unknown stanzas and the good one", 20, |made| {
        let stanzas = [stanza(0x7ffe, &[0; 8], &[]).repeat(63), made.stanzas()].concat();
        made.set_stanzas(&stanzas);
    });
    suite.rebuilt("ok-recipient-added", "ok", "a stanza for someone whom the trailer does not list", 20, |made| {
        let other = Identity::generate_with(&mut made.entropy, Kem::P256).unwrap().to_recipient();
        let both = [other, made.identity.to_recipient()];
        let envelope = Envelope::wrap_with(&mut made.entropy, &made.head, &made.key, &both).unwrap();
        made.set_envelope(&envelope);
    });
    suite.rebuilt(
        "envelope-recipient-removed",
        "not-for-this-identity",
        "the other recipient's stanza is left",
        20,
        |made| {
            let other = Identity::generate_with(&mut made.entropy, Kem::P256).unwrap().to_recipient();
            let envelope = Envelope::wrap_with(&mut made.entropy, &made.head, &made.key, &[other]).unwrap();
            made.set_envelope(&envelope);
        },
    );
    suite.rebuilt(
        "envelope-point-hybrid-form",
        "damaged",
        "enc is the right point in the form 06 or 07, and all else fits",
        20,
        |made| {
            let mut scalar = [0; 32];
            made.entropy.fill(&mut scalar).unwrap();
            let ephemeral = p256::SecretKey::from_slice(&scalar).unwrap();
            let recipient = made.identity.to_recipient();
            let other = p256::PublicKey::from_sec1_bytes(recipient.public_bytes()).unwrap();
            let secret = p256::ecdh::diffie_hellman(ephemeral.to_nonzero_scalar(), other.as_affine());
            let mut enc = ephemeral.public_key().to_sec1_point(false).as_bytes().to_vec();
            enc[0] = 6 + (enc[64] & 1);
            let stanzas = hpke_stanza(made, Kem::P256, &enc, secret.raw_secret_bytes());
            made.set_stanzas(&stanzas);
        },
    );
    for (name, enc, about) in [
        ("envelope-x25519-zero", [0; 32], "enc is 0, and all else fits a shared secret of zeros"),
        ("envelope-x25519-one", one(), "enc is 1, a point of order 4, and all else fits a shared secret of zeros"),
    ] {
        let mut made = made(name, Kem::X25519, 20);
        let stanzas = hpke_stanza(&made, Kem::X25519, &enc, &[0; 32]);
        made.set_stanzas(&stanzas);
        let bytes = made.bytes();
        suite.sealed(name, "damaged", about, &made, bytes);
    }
    suite.rebuilt(
        "commitment-of-another-key",
        "damaged",
        "stanza, records and trailer are of one key, the commitment is of another",
        20,
        |made| {
            // What would let one file open differently for two recipients.
            let second = FileKey::draw(&mut made.entropy).unwrap();
            let chunk = made.plain.clone();
            made.key = second;
            let to = [made.identity.to_recipient()];
            let envelope = Envelope::wrap_with(&mut made.entropy, &made.head, &made.key, &to).unwrap();
            made.set_envelope(&envelope);
            made.records[0] = made.seal_record(0, 0, 1, &chunk);
            made.seal_trailer();
        },
    );
}

fn one() -> [u8; 32] {
    let mut one = [0; 32];
    one[0] = 1;
    one
}

pub(super) fn shred_wraps(suite: &mut Suite) {
    suite.rebuilt(
        "envelope-shred-empty",
        "malformed",
        "a shred wrap of 28 bytes, with room for no stanza",
        20,
        |made| {
            made.set_stanzas(&stanza(0xff, &[0; 8], &[7; 28]));
        },
    );
    for (name, about) in [
        ("shred-nested", "a shred wrap inside the shred wrap"),
        ("shred-inner-malformed", "a stanza inside the shred wrap is too short"),
        ("shred-inner-two-passphrases", "two passphrase stanzas inside the shred wrap"),
        ("shred-from-another-file", "the shred wrap of another file, under the same bucket"),
    ] {
        let mut made = made(name, Kem::P256, 20);
        let bucket = ShredKey::draw(&mut made.entropy).unwrap();
        let inner = match name {
            "shred-nested" => stanza(0xff, &[0; 8], &[7; 40]),
            "shred-inner-malformed" => stanza(HPKE, &[7; 8], &[0, 0x20, 0, 1, 0, 2, 9]),
            "shred-inner-two-passphrases" => {
                let words = Passphrase::new("two").unwrap();
                let locked = words.lock_in(&mut made.entropy, &made.head, &made.key, 100_000).unwrap();
                stanza(locked.kind, &locked.key_id, &locked.body).repeat(2)
            }
            _ => made.stanzas(),
        };
        let head = if name == "shred-from-another-file" {
            super::made("another", Kem::P256, 20).head
        } else {
            made.head.clone()
        };
        let key_id = 498_697u64.to_be_bytes();
        let key = bucket.of(&head).unwrap();
        let aad = [&head.to_bytes()[..], &[0, 0xff], &key_id].concat();
        let body = enseal(&mut made.entropy, &key, &aad, &inner).unwrap();
        made.set_stanzas(&stanza(0xff, &key_id, &body));
        let bytes = made.bytes();
        suite.sealed_for(name, "damaged", about, &made.identity, None, bytes, Some(&bucket));
    }
}

pub(super) fn bodies(suite: &mut Suite) {
    suite.rebuilt(
        "part-with-a-stanza",
        "length",
        "an upload in progress, given a stanza: full records and nothing else",
        CHUNK,
        |made| {
            made.records.truncate(1);
            made.end.clear();
        },
    );
    suite.rebuilt(
        "part-with-an-end",
        "length",
        "an upload in progress, given a stanza, a trailer and a footer",
        CHUNK,
        |made| {
            made.records.truncate(1);
        },
    );
    suite.rebuilt("record-final-full", "length", "the last record is full, and sealed as final", CHUNK, |made| {
        let chunk = made.plain.clone();
        made.records = vec![made.seal_record(0, 0, 1, &chunk)];
    });
    suite.rebuilt(
        "record-final-twice",
        "damaged",
        "record 0 of two was sealed as final, and so was the last",
        CHUNK + 7,
        |made| {
            let chunk = made.plain[..CHUNK].to_vec();
            made.records[0] = made.seal_record(0, 0, 1, &chunk);
        },
    );
    suite.rebuilt(
        "record-under-another-region",
        "damaged",
        "record 0 was sealed under the key of region 1",
        20,
        |made| {
            let chunk = made.plain.clone();
            let record = made.seal_record(4096, 0, 1, &chunk);
            made.records[0] = record;
        },
    );
}

/// The required fields with what follows them, sealed well.
fn ended(suite: &mut Suite, name: &'static str, about: &str, more: impl Fn(&mut Fields, &Trailer)) {
    suite.rebuilt(name, "damaged", about, 20, |made| {
        let mut fields = trailer_fields(&made.trailer);
        more(&mut fields, &made.trailer);
        let bytes = fields.as_bytes().to_vec();
        made.seal_fields(&bytes);
    });
}

pub(super) fn ends(suite: &mut Suite) {
    ended(suite, "trailer-generation-beyond-the-end", "a generation of record 1 of one", |f, _| {
        f.put_generations(9, &[(1, 1)])
    });
    ended(suite, "trailer-generation-too-large", "a generation of 65,537", |f, _| f.put_generations(9, &[(0, 65_537)]));
    ended(suite, "trailer-generation-twice", "record 0 is listed twice", |f, _| {
        f.put_generations(9, &[(0, 1), (0, 1)])
    });
    ended(suite, "trailer-generations-cut", "eleven bytes of generations", |f, _| f.put(9, &[0; 11]));
    ended(suite, "trailer-sha1-long", "a SHA-1 of 21 bytes", |f, _| f.put(11, &[0; 21]));
    ended(suite, "trailer-unknown-unordered", "a field of unknown tag before one of a known", |f, _| {
        f.put(300, b"later");
        f.put(10, &[0; 16]);
    });
    ended(suite, "trailer-unknown-twice", "two fields of the same unknown tag", |f, _| {
        f.put(300, b"later");
        f.put(300, b"later");
    });
    let bare = |suite: &mut Suite, name, about: &str, write: fn(&mut Fields, &Trailer)| {
        suite.rebuilt(name, "damaged", about, 20, |made: &mut Made| {
            let mut fields = Fields::with_capacity(512);
            write(&mut fields, &made.trailer);
            let bytes = fields.as_bytes().to_vec();
            made.seal_fields(&bytes);
        });
    };
    bare(suite, "trailer-empty", "no field at all", |_, _| {});
    bare(suite, "trailer-sha256-short", "a SHA-256 of 31 bytes", |f, trailer| {
        f.put(1, &trailer.name);
        f.put(5, &trailer.sha256[..31]);
        f.put_u64(6, 0);
        f.put_u64(7, 0);
    });
    bare(suite, "trailer-time-short", "a time of seven bytes", |f, trailer| {
        f.put(1, &trailer.name);
        f.put(5, &trailer.sha256);
        f.put_u64(6, 0);
        f.put(7, &[0; 7]);
    });
    bare(suite, "trailer-mtime-short", "an mtime of four bytes", |f, trailer| {
        f.put(1, &trailer.name);
        f.put(2, &[0; 4]);
        f.put(5, &trailer.sha256);
        f.put_u64(6, 0);
        f.put_u64(7, 0);
    });
    bare(suite, "trailer-recipient-not-utf8", "a recipient that is not UTF-8", |f, trailer| {
        f.put(1, &trailer.name);
        f.put(4, b"lab");
        f.put(4, &[0xc3]);
        f.put(5, &trailer.sha256);
        f.put_u64(6, 0);
        f.put_u64(7, 0);
    });
    suite.rebuilt("trailer-field-cut", "damaged", "the last field is longer than what is left", 20, |made| {
        let mut bytes = trailer_fields(&made.trailer).as_bytes().to_vec();
        let at = bytes.len() - 9;
        bytes[at] = 9;
        made.seal_fields(&bytes);
    });
    suite.rebuilt("trailer-field-head-cut", "damaged", "five bytes behind the last field", 20, |made| {
        let bytes = [trailer_fields(&made.trailer).as_bytes(), &[1, 44, 0, 0, 0]].concat();
        made.seal_fields(&bytes);
    });
    suite.rebuilt("ok-three-recipients-named", "ok", "three recipients in the trailer", 20, |made| {
        made.trailer.recipients = vec!["radiology".into(), "lab".into(), "passphrase".into()];
        made.seal_trailer();
    });
    suite.changed("footer-trailer-too-short", "malformed", "trailer_len 27", |bytes| {
        let at = bytes.len() - 24;
        bytes[at..at + 4].copy_from_slice(&27u32.to_be_bytes());
    });
    suite.rebuilt(
        "trailer-under-another-footer",
        "damaged",
        "the trailer was sealed beside a footer of another size",
        20,
        |made| {
            let size = made.trailer.size;
            made.trailer.size = size + 1;
            made.seal_trailer();
            let footer_at = made.end.len() - FOOTER_LEN;
            made.end[footer_at..footer_at + 8].copy_from_slice(&size.to_be_bytes());
        },
    );
}
