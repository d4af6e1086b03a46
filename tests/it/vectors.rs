//! The frozen vectors, opened the way a stranger's reader would: with the public API and what each file's header says,
//! in the order of docs/sealed-file.md §9. Every file must give exactly the answer that it names.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use sealdrop::names::{Digest, DropId, from_hex};
use sealdrop::seal::{
    Envelope, FileKey, HEAD_LEN, HEADER_LEN, Head, Identity, Journal, JournalKey, Midstate, Passphrase, ReadAt,
    ReadError, Reader, Recipient, Saved, SealError, ShredKey, SshFile, SshIdentity, Waiting,
};
use sealdrop::sums::Keeps;

struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|at| self.0.get(at..at + buffer.len()));
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

#[derive(Clone)]
pub struct Vector {
    pub name: String,
    pub header: BTreeMap<String, String>,
    pub bytes: Vec<u8>,
}

pub fn vectors() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some() {
            continue; // README.md
        }
        let bytes = std::fs::read(&path).unwrap();
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").expect("an empty line ends the header");
        let header = std::str::from_utf8(&bytes[..end]).unwrap();
        let header =
            header.lines().map(|line| line.split_once(": ").unwrap()).map(|(k, v)| (k.into(), v.into())).collect();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        out.push(Vector { name, header, bytes: bytes[end + 2..].to_vec() });
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}

impl Vector {
    pub fn get(&self, key: &str) -> &str {
        self.header.get(key).unwrap_or_else(|| panic!("{}: no `{key}`", self.name))
    }

    fn open(&self) -> Result<Vec<u8>, ReadError> {
        let head = Head::parse(&self.bytes)?;
        let area = self.bytes.get(HEAD_LEN..HEADER_LEN).ok_or(SealError::Length)?;
        let mut envelope = Envelope::parse(area)?;
        if let Some(key) = self.header.get("bucket-key") {
            let parts = key.as_bytes().chunks(2 * 49).map(|part| from_hex::<49>(std::str::from_utf8(part).unwrap()));
            let parts: Vec<[u8; 49]> = parts.map(Result::unwrap).collect();
            envelope = envelope.shred_unwrap(&head, &ShredKey::from_bytes(parts.as_flattened())?)?;
        }
        let key = self.unwrap(&head, &envelope)?;
        let mut reader = Reader::open(Bytes(self.bytes.clone()), self.bytes.len() as u64, &key)?;
        reader.verify_whole()?;
        let mut plain = vec![0; usize::try_from(reader.size()).unwrap()];
        assert_eq!(reader.read_at(0, &mut plain)?, plain.len());
        Ok(plain)
    }

    /// By whichever key the header gives.
    fn unwrap(&self, head: &Head, envelope: &Envelope) -> Result<FileKey, SealError> {
        if let Some(words) = self.header.get("passphrase") {
            return envelope.open_passphrase(head, &Passphrase::new(words).unwrap());
        }
        if let Some(file) = self.header.get("ssh-identity") {
            let file = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{file}\n-----END OPENSSH PRIVATE KEY-----\n");
            let Ok(SshFile::Open(identity)) = SshIdentity::parse(&file) else { panic!("{}: no SSH key", self.name) };
            return envelope.open_ssh(head, &identity);
        }
        envelope.open(head, &Identity::parse(self.get("identity")).unwrap())
    }

    /// What this crate says of it.
    pub fn word(&self) -> &'static str {
        match self.get("kind") {
            "sealed" => match self.open() {
                Ok(plain) => {
                    assert_eq!(plain.len().to_string(), self.get("size"), "{}", self.name);
                    let mut digest = Midstate::new();
                    digest.update(&plain);
                    assert_eq!(Digest(digest.finish().0).to_string(), self.get("sha256"), "{}", self.name);
                    "ok"
                }
                Err(ReadError::Seal(error)) => error.word(),
                Err(ReadError::Io(error)) => panic!("{}: {error}", self.name),
            },
            "journal" => {
                let key = JournalKey::from_bytes(from_hex(self.get("journal-key")).unwrap());
                let drop: DropId = self.get("file-id").parse().unwrap();
                Journal::open(drop, &key, &self.bytes).map_or_else(SealError::word, |_| "ok")
            }
            "waiting" => {
                let key = JournalKey::from_bytes(from_hex(self.get("journal-key")).unwrap());
                let drop: DropId = self.get("file-id").parse().unwrap();
                Waiting::open(drop, &key, &self.bytes).map_or_else(SealError::word, |_| "ok")
            }
            "recipient" => {
                let text = std::str::from_utf8(&self.bytes).unwrap();
                text.parse::<Recipient>().map_or("invalid", |r| {
                    match text.strip_prefix(&r.to_string()) {
                        Some(comment) if text.starts_with("ssh-") => {
                            assert!(comment.is_empty() || comment.starts_with(' '))
                        }
                        _ => assert_eq!(r.to_string(), text.to_lowercase()),
                    }
                    "ok"
                })
            }
            "identity" => {
                let text = std::str::from_utf8(&self.bytes).unwrap();
                Identity::parse(text).map_or("invalid", |identity| {
                    assert_eq!(identity.to_recipient().to_string(), self.get("recipient"));
                    "ok"
                })
            }
            "ssh-identity" => match SshIdentity::parse(std::str::from_utf8(&self.bytes).unwrap()) {
                Ok(SshFile::Open(identity)) => {
                    assert_eq!(identity.to_recipient().to_string(), self.get("recipient"));
                    "ok"
                }
                Ok(SshFile::Locked(_)) => "locked",
                Err(_) => "invalid",
            },
            other => panic!("{}: kind {other}", self.name),
        }
    }
}

#[test]
fn every_vector_gives_the_answer_that_it_names() {
    let vectors = vectors();
    assert!(vectors.len() > 180, "only {} vectors found", vectors.len());
    let wrong: Vec<String> = vectors
        .iter()
        .map(|vector| (vector, vector.word()))
        .filter(|(vector, word)| vector.get("expect") != *word)
        .map(|(vector, word)| format!("{}: expected {}, got {word}", vector.name, vector.get("expect")))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_vector_that_opens_is_named_ok_and_no_other_is() {
    for vector in vectors() {
        assert_eq!(vector.get("expect") == "ok", vector.name.starts_with("ok-"), "{}", vector.name);
    }
}

#[test]
#[cfg_attr(feature = "fips", ignore = "the module gives no midstate away")]
fn the_journals_in_the_vectors_continue_their_digests() {
    let both = Keeps { md5: true, sha1: true };
    for (name, keeps) in [("ok-journal", Keeps::default()), ("ok-journal-sums", both)] {
        let vector = vectors().into_iter().find(|vector| vector.name == name).unwrap();
        let key = JournalKey::from_bytes(from_hex(vector.get("journal-key")).unwrap());
        let journal = Journal::open(vector.get("file-id").parse().unwrap(), &key, &vector.bytes).unwrap();
        let saved = Midstate::load(&journal.midstate, keeps).expect("the crates' forms have not changed");
        let mut whole = Midstate::keeping(keeps);
        whole.update(&(0..65536 + 100).map(|at| (at % 251) as u8).collect::<Vec<u8>>());
        assert_eq!(saved.finish(), whole.finish());
        let other = Saved { sha256: vec![2; 105], ..journal.midstate.clone() };
        assert!(Midstate::load(&other, keeps).is_none(), "another form is refused, so that the caller reads back");
        assert_eq!(journal.tail.len(), 100);
    }
}
