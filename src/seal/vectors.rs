//! Makes the files in `tests/vectors/`: a fixed stream stands in for the kernel's randomness, so every run makes the same
//! bytes, and the test here fails if they ever differ from the frozen ones. `tests/it/vectors.rs` then opens them as
//! a stranger would. `SEALDROP_WRITE_VECTORS=1 cargo test --lib vectors` writes new ones; existing ones never change.

use sha2::{Digest, Sha256};

use super::aead::{Aead, Reference, enseal};
use super::fields::Fields;
use super::keys::{Entropy, expand};
use super::*;
use crate::names::{DropId, hex};

/// SHA-256 in counter mode: not random, only always the same.
pub(super) struct Script {
    seed: String,
    block: u64,
}

impl Script {
    pub(super) fn new(seed: &str) -> Self {
        Self { seed: seed.to_owned(), block: 0 }
    }
}

impl Entropy for Script {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SealError> {
        for chunk in bytes.chunks_mut(32) {
            let block = Sha256::new().chain_update(&self.seed).chain_update(self.block.to_be_bytes()).finalize();
            chunk.copy_from_slice(&block[..chunk.len()]);
            self.block += 1;
        }
        Ok(())
    }
}

/// A sealed file taken apart, so that one thing about it can be made wrong.
pub(super) struct Made {
    pub entropy: Script,
    pub head: Head,
    pub key: FileKey,
    pub identity: Identity,
    pub plain: Vec<u8>,
    pub header: Vec<u8>,
    pub records: Vec<Vec<u8>>,
    pub trailer: Trailer,
    /// Trailer and footer.
    pub end: Vec<u8>,
}

pub(super) fn plain(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

pub(super) fn made(seed: &str, kem: Kem, size: usize) -> Made {
    let mut entropy = Script::new(seed);
    let mut drop = [0; 16];
    entropy.fill(&mut drop).unwrap();
    let identity = Identity::generate_with(&mut entropy, kem).unwrap();
    let key = FileKey::draw(&mut entropy).unwrap();
    let head = Head::new_with(&mut entropy, DropId(drop), Mode::Sealed, &key).unwrap();
    let recipient = identity.to_recipient();
    let envelope = Envelope::wrap_with(&mut entropy, &head, &key, std::slice::from_ref(&recipient)).unwrap();
    let plain = plain(size);
    let mut opener = Records::new(&head, &key);
    let last = size / CHUNK;
    let mut records = Vec::new();
    for index in 0..=last {
        let chunk = &plain[index * CHUNK..size.min((index + 1) * CHUNK)];
        let mut record = Vec::new();
        opener.seal_with(&mut entropy, index as u64, 0, index == last, chunk, &mut record).unwrap();
        records.push(record);
    }
    let trailer = Trailer {
        name: b"scan 07.dcm".to_vec(),
        mtime: Some(1_790_000_000),
        sender: "acme-imaging".into(),
        recipients: vec!["radiology".into()],
        size: size as u64,
        sha256: Sha256::digest(&plain).into(),
        opened_at: 1_795_308_143_000,
        sealed_at: 1_795_308_143_250,
        server: "drop.hospital.example".into(),
        gens: Vec::new(),
    };
    let end = trailer.seal_with(&mut entropy, &head, &key).unwrap();
    let mut header = head.to_bytes().to_vec();
    header.extend_from_slice(&envelope.to_bytes());
    Made { entropy, head, key, identity, plain, header, records, trailer, end }
}

impl Made {
    pub fn bytes(&self) -> Vec<u8> {
        [&self.header[..], &self.records.concat(), &self.end].concat()
    }

    fn envelope(&self) -> Envelope {
        Envelope::parse(&self.header[HEAD_LEN..]).unwrap()
    }

    fn set_envelope(&mut self, envelope: &Envelope) {
        self.header.truncate(HEAD_LEN);
        self.header.extend_from_slice(&envelope.to_bytes());
    }

    /// Stanzas written by hand.
    fn set_stanzas(&mut self, stanzas: &[u8]) {
        self.header.truncate(HEAD_LEN);
        self.header.extend_from_slice(&(stanzas.len() as u32).to_be_bytes());
        self.header.extend_from_slice(&[0; 4]);
        self.header.extend_from_slice(stanzas);
        self.header.resize(HEADER_LEN, 0);
    }

    fn stanzas(&self) -> Vec<u8> {
        let length = u32::from_be_bytes(self.header[96..100].try_into().unwrap()) as usize;
        self.header[104..104 + length].to_vec()
    }

    /// A record that no correct writer makes.
    fn seal_record(&mut self, index: u64, generation: u32, last: u8, plain: &[u8]) -> Vec<u8> {
        let region = expand(self.key.expose(), "gcm", &[self.head.core(), &(index >> 12).to_be_bytes()]).unwrap();
        let aad = [&index.to_be_bytes()[..], &generation.to_be_bytes(), &[last]].concat();
        let sealed = enseal(&mut self.entropy, &region, &aad, plain).unwrap();
        [&generation.to_be_bytes()[..], &sealed].concat()
    }

    fn seal_trailer(&mut self) {
        self.end = self.trailer.seal_with(&mut self.entropy, &self.head, &self.key).unwrap();
    }

    /// A trailer with these fields and the right footer.
    fn seal_fields(&mut self, fields: &[u8]) {
        let trailer_len = (fields.len() + 28) as u32;
        let footer = Footer { size: self.trailer.size, trailer_len }.to_bytes();
        let key = expand(self.key.expose(), "trailer", &[self.head.core()]).unwrap();
        let aad = [&self.head.to_bytes()[..], &footer].concat();
        self.end = enseal(&mut self.entropy, &key, &aad, fields).unwrap();
        self.end.extend_from_slice(&footer);
    }
}

struct Vector {
    name: &'static str,
    header: Vec<(&'static str, String)>,
    bytes: Vec<u8>,
}

impl Vector {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out: Vec<u8> = Vec::new();
        for (key, value) in &self.header {
            out.extend_from_slice(format!("{key}: {value}\n").as_bytes());
        }
        out.push(b'\n');
        out.extend_from_slice(&self.bytes);
        out
    }
}

#[derive(Default)]
struct Suite(Vec<Vector>);

impl Suite {
    fn add(&mut self, name: &'static str, header: Vec<(&'static str, String)>, bytes: Vec<u8>) {
        assert!(self.0.iter().all(|vector| vector.name != name), "{name} twice");
        self.0.push(Vector { name, header, bytes });
    }

    fn sealed(&mut self, name: &'static str, expect: &str, about: &str, made: &Made, bytes: Vec<u8>) {
        self.sealed_for(name, expect, about, &made.identity, Some(made), bytes, None);
    }

    #[expect(clippy::too_many_arguments, reason = "one call site for each kind of vector; the header's keys in order")]
    fn sealed_for(
        &mut self,
        name: &'static str,
        expect: &str,
        about: &str,
        identity: &Identity,
        made: Option<&Made>,
        bytes: Vec<u8>,
        bucket: Option<&ShredKey>,
    ) {
        let mut header = vec![("kind", "sealed".into()), ("expect", expect.into()), ("about", about.into())];
        header.push(("identity", identity.to_text().to_string()));
        if let Some(key) = bucket {
            header.push(("bucket-key", hex(key.expose())));
        }
        if let Some(made) = made.filter(|_| expect == "ok") {
            header.push(("size", made.plain.len().to_string()));
            header.push(("sha256", hex(&Sha256::digest(&made.plain))));
        }
        self.add(name, header, bytes);
    }

    /// A good small file with one change to its bytes.
    fn changed(&mut self, name: &'static str, expect: &str, about: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let made = made(name, Kem::P256, 100);
        let mut bytes = made.bytes();
        change(&mut bytes);
        self.sealed(name, expect, about, &made, bytes);
    }

    /// A good file with one change to its parts.
    fn rebuilt(&mut self, name: &'static str, expect: &str, about: &str, size: usize, change: impl FnOnce(&mut Made)) {
        let mut made = made(name, Kem::P256, size);
        change(&mut made);
        let bytes = made.bytes();
        self.sealed(name, expect, about, &made, bytes);
    }

    fn text(&mut self, name: &'static str, kind: &str, expect: &str, about: &str, text: &str) {
        let mut header = vec![("kind", kind.into()), ("expect", expect.into()), ("about", about.into())];
        if let (true, Ok(identity)) = (kind == "identity", Identity::parse(text)) {
            header.push(("recipient", identity.to_recipient().to_string()));
        }
        self.add(name, header, text.as_bytes().to_vec());
    }
}

fn all() -> Vec<Vector> {
    let mut suite = Suite::default();
    good(&mut suite);
    bad_heads(&mut suite);
    bad_envelopes(&mut suite);
    bad_bodies(&mut suite);
    bad_ends(&mut suite);
    journals(&mut suite);
    texts(&mut suite);
    suite.0
}

fn good(suite: &mut Suite) {
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
            let kem = [&[0, 1][..], &made.identity.to_recipient().key_id(), &[0, 0, 0, 7, 0x64, 0x7a, 0, 1, 0, 2, 9]]
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
}

fn bad_heads(suite: &mut Suite) {
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

fn bad_envelopes(suite: &mut Suite) {
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

fn bad_bodies(suite: &mut Suite) {
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

fn trailer_fields(trailer: &Trailer) -> Fields {
    let mut fields = Fields::with_capacity(512);
    fields.put(1, &trailer.name);
    fields.put(5, &trailer.sha256);
    fields.put_u64(6, trailer.opened_at);
    fields.put_u64(7, trailer.sealed_at);
    fields
}

fn bad_ends(suite: &mut Suite) {
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

/// The journal that the vectors and the tests share.
pub(super) fn journal(entropy: &mut dyn Entropy) -> Journal {
    let mut midstate = Midstate::new();
    midstate.update(&plain(CHUNK + 100));
    Journal {
        path: b"/radiology/scan 07.dcm".to_vec(),
        file_key: FileKey::draw(entropy).unwrap(),
        records: 1,
        tail: plain(CHUNK + 100)[CHUNK..].to_vec(),
        sha256: midstate.save(),
        hashed: CHUNK as u64 + 100,
        gens: vec![(0, 1)],
        closed: None,
        mtime: Some(1_790_000_000),
        opened_at: 1_795_308_143_000,
        updated_at: 1_795_308_144_000,
    }
}

fn journals(suite: &mut Suite) {
    let mut entropy = Script::new("journal");
    let drop = DropId([0xd0; 16]);
    let key = JournalKey::draw(&mut entropy).unwrap();
    let bytes = journal(&mut entropy).seal_with(&mut entropy, drop, &key).unwrap();
    let mut add = |name, expect: &str, about: &str, id: DropId, bytes: Vec<u8>| {
        let mut header = vec![("kind", "journal".into()), ("expect", expect.into()), ("about", about.into())];
        header.push(("journal-key", hex(key.expose())));
        header.push(("file-id", id.to_string()));
        suite.add(name, header, bytes);
    };
    add("ok-journal", "ok", "one record, 100 bytes of tail", drop, bytes.clone());
    add("journal-of-another-upload", "damaged", "opened as another file id's", DropId([0xd1; 16]), bytes.clone());
    add("journal-cut", "damaged", "the last byte is missing", drop, bytes[..bytes.len() - 1].to_vec());
    let changed = |at: usize, bit: u8| {
        let mut bytes = bytes.clone();
        bytes[at] ^= bit;
        bytes
    };
    add("journal-changed", "damaged", "a bit of ciphertext", drop, changed(40, 1));
    add("journal-magic", "not-sealed", "another magic", drop, changed(0, 1));
    add("journal-version", "version", "version 3", drop, changed(7, 2));
}

fn texts(suite: &mut Suite) {
    let encode =
        |hrp: &str, data: &[u8]| bech32::encode::<bech32::Bech32>(bech32::Hrp::parse(hrp).unwrap(), data).unwrap();
    let mut entropy = Script::new("texts");
    let p256 = Identity::generate_with(&mut entropy, Kem::P256).unwrap();
    let x25519 = Identity::generate_with(&mut entropy, Kem::X25519).unwrap();
    let text = p256.to_recipient().to_string();
    suite.text("ok-recipient-p256", "recipient", "ok", "P-256, compressed", &text);
    suite.text("ok-recipient-x25519", "recipient", "ok", "X25519", &x25519.to_recipient().to_string());
    suite.text("ok-recipient-upper", "recipient", "ok", "upper case", &text.to_uppercase());
    suite.text("ok-identity-p256", "identity", "ok", "P-256", &p256.to_text());
    suite.text("ok-identity-x25519", "identity", "ok", "X25519", &x25519.to_text());
    let mixed = text.replacen('q', "Q", 1);
    suite.text("recipient-mixed-case", "recipient", "invalid", "one letter in upper case", &mixed);
    let swapped = format!("{}{}", &text[..text.len() - 1], if text.ends_with('q') { 'p' } else { 'q' });
    suite.text("recipient-mistyped", "recipient", "invalid", "the last letter is another", &swapped);
    let m = bech32::encode::<bech32::Bech32m>(bech32::Hrp::parse("sealdrop").unwrap(), &[0, 0x20, 9]).unwrap();
    suite.text("recipient-bech32m", "recipient", "invalid", "Bech32m's checksum", &m);
    let hrp = encode("sealdr0p", &[&[0, 0x20][..], &[9; 32]].concat());
    suite.text("recipient-prefix", "recipient", "invalid", "another prefix", &hrp);
    let kem = encode("sealdrop", &[&[0, 0x21][..], &[9; 32]].concat());
    suite.text("recipient-kem", "recipient", "invalid", "an unknown KEM", &kem);
    let point = encode("sealdrop", &[&[0, 0x10, 2][..], &[0xff; 32]].concat());
    suite.text("recipient-not-a-point", "recipient", "invalid", "x is no coordinate on P-256", &point);
    let short = encode("sealdrop", &[&[0, 0x20][..], &[9; 31]].concat());
    suite.text("recipient-short", "recipient", "invalid", "an X25519 key of 31 bytes", &short);
    suite.text("recipient-is-an-identity", "recipient", "invalid", "the private half", &p256.to_text());
    let zero = encode("sealdrop-identity-", &[&[0, 0x10][..], &[0; 32]].concat()).to_uppercase();
    suite.text("identity-zero", "identity", "invalid", "P-256 scalar 0", &zero);
    let order = encode("sealdrop-identity-", &[&[0, 0x10][..], &[0xff; 32]].concat()).to_uppercase();
    suite.text("identity-beyond-order", "identity", "invalid", "P-256 scalar not below the order", &order);
    let clamp = encode("sealdrop-identity-", &[&[0, 0x20][..], &[0xff; 32]].concat()).to_uppercase();
    suite.text(
        "identity-not-clamped",
        "identity",
        "invalid",
        "X25519 bytes that are not clamped: a key has one text",
        &clamp,
    );
    suite.text("identity-is-a-recipient", "identity", "invalid", "the public half", &text);
}

#[test]
fn the_frozen_vectors_are_what_this_code_writes() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let vectors = all();
    if std::env::var_os("SEALDROP_WRITE_VECTORS").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for vector in &vectors {
            std::fs::write(folder.join(vector.name), vector.to_bytes()).unwrap();
        }
    }
    for vector in &vectors {
        let frozen = std::fs::read(folder.join(vector.name)).unwrap_or_default();
        assert!(frozen == vector.to_bytes(), "{} differs from the frozen file", vector.name);
    }
    let there = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(there, vectors.len() + 1, "a file in tests/vectors that nothing makes (README.md is the one more)");
}

/// The reference AEAD opens what ring sealed; that both seal alike is tested in `aead`.
#[test]
fn the_reference_cipher_opens_the_vectors() {
    let made = made("reference", Kem::P256, CHUNK + 1);
    let mut records = Records::<Reference>::with_backend(&made.head, &made.key);
    let mut first = made.records[0].clone();
    assert_eq!(records.open(0, 0, false, &mut first).unwrap(), &made.plain[..CHUNK]);
    let _ = <Reference as Aead>::new(&[0; 32]);
}
