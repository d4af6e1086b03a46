//! Makes the files in `tests/vectors/`: a fixed stream stands in for the kernel's randomness, so every run makes the same
//! bytes, and the test here fails if they ever differ from the frozen ones. `tests/it/vectors.rs` then opens them as
//! a stranger would. `SEALDROP_WRITE_VECTORS=1 cargo test --lib vectors` writes new ones; existing ones never change.

mod ends;
mod forged;
pub(super) mod kinds;
mod opening;
mod texts;

use sha2::{Digest, Sha256};

use super::aead::enseal;
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
        sums: Default::default(),
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
        let opener = ("identity", identity.to_text().to_string());
        self.opened(name, expect, about, opener, made, bytes, bucket);
    }

    fn opened_with(
        &mut self,
        name: &'static str,
        expect: &str,
        about: &str,
        opener: (&'static str, String),
        made: &Made,
        bytes: Vec<u8>,
    ) {
        self.opened(name, expect, about, opener, Some(made), bytes, None);
    }

    #[expect(clippy::too_many_arguments, reason = "the header's keys in order, once for all kinds of opener")]
    fn opened(
        &mut self,
        name: &'static str,
        expect: &str,
        about: &str,
        opener: (&'static str, String),
        made: Option<&Made>,
        bytes: Vec<u8>,
        bucket: Option<&ShredKey>,
    ) {
        let mut header = vec![("kind", "sealed".into()), ("expect", expect.into()), ("about", about.into()), opener];
        if let Some(key) = bucket {
            header.push(("bucket-key", hex(&key.expose())));
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
    opening::good(&mut suite);
    opening::bad_heads(&mut suite);
    opening::bad_envelopes(&mut suite);
    ends::bad_bodies(&mut suite);
    ends::bad_ends(&mut suite);
    kinds::hybrid(&mut suite);
    kinds::ssh(&mut suite);
    kinds::passphrases(&mut suite);
    kinds::mixed(&mut suite);
    kinds::texts(&mut suite);
    forged::envelopes(&mut suite);
    forged::shred_wraps(&mut suite);
    forged::bodies(&mut suite);
    forged::ends(&mut suite);
    texts::journals(&mut suite);
    texts::notes(&mut suite);
    texts::texts(&mut suite);
    suite.0
}

/// The journal that the vectors and the tests share.
pub(super) fn journal(entropy: &mut dyn Entropy, keeps: crate::sums::Keeps) -> Journal {
    let mut midstate = Midstate::keeping(keeps);
    midstate.update(&plain(CHUNK + 100));
    Journal {
        path: b"/radiology/scan 07.dcm".to_vec(),
        file_key: FileKey::draw(entropy).unwrap(),
        records: 1,
        tail: plain(CHUNK + 100)[CHUNK..].to_vec(),
        midstate: midstate.save(),
        gens: vec![(0, 1)],
        closed: None,
        mtime: Some(1_790_000_000),
        opened_at: 1_795_308_143_000,
        updated_at: 1_795_308_144_000,
        durable: 0,
        anchor: None,
    }
}

#[test]
#[cfg_attr(feature = "fips", ignore = "the module draws its nonces itself")]
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

/// The reference AEAD opens what AWS-LC sealed; that both seal alike is in `tests.rs`.
#[test]
fn the_reference_cipher_opens_the_vectors() {
    let made = made("reference", Kem::P256, CHUNK + 1);
    let mut records = Records::<Reference>::with_backend(&made.head, &made.key);
    let mut first = made.records[0].clone();
    assert_eq!(records.open(0, 0, false, &mut first).unwrap(), &made.plain[..CHUNK]);
}
