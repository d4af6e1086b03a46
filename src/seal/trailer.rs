//! The end of a sealed file: a sealed trailer that says what the file is, and a clear footer that says how long. The
//! footer is authenticated with the trailer, so the size that a listing shows is proven by the first thing a reader
//! opens, and the length of the whole file must follow from it exactly.

use super::aead::{NONCE_LEN, TAG_LEN, enseal, unseal};
use super::fields::{Fields, Parsed, generations_fit};
use super::keys::{Entropy, Kernel, expand};
use super::record::body_len;
use super::{CHUNK, FOOTER_LEN, FileKey, HEADER_LEN, Head, SIZE_MAX, SealError, TRAILER_MAX};
use crate::sums::Sums;

const MAGIC: &[u8; 8] = b"SEALDEND";

const NAME: u16 = 1;
const MTIME: u16 = 2;
const SENDER: u16 = 3;
const RECIPIENT: u16 = 4;
const SHA256: u16 = 5;
const OPENED_AT: u16 = 6;
const SEALED_AT: u16 = 7;
const SERVER: u16 = 8;
const GENERATIONS: u16 = 9;
const MD5: u16 = 10;
const SHA1: u16 = 11;

/// The last 32 bytes. Readable without a key, and authentic only once the trailer has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Plaintext bytes.
    pub size: u64,
    pub trailer_len: u32,
}

/// What the sender and the server said about the file. Sealed with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trailer {
    /// The file's name as the client gave it, any bytes; empty if it had none.
    pub name: Vec<u8>,
    /// Unix seconds, the client's word.
    pub mtime: Option<u64>,
    /// The account that sent it; empty if sealed without a server.
    pub sender: String,
    /// Who was meant to open it, so that a swapped envelope shows. Names, or `sealdrop1…` texts.
    pub recipients: Vec<String>,
    /// Plaintext bytes; stands in the footer.
    pub size: u64,
    /// Of the plaintext.
    pub sha256: [u8; 32],
    /// Milliseconds since 1970, by the clock of whoever sealed it.
    pub opened_at: u64,
    pub sealed_at: u64,
    /// The server's name; empty if sealed without one.
    pub server: String,
    /// The records that were rewritten, and how often: index and generation, ascending. Absent ones are 0.
    pub gens: Vec<(u64, u32)>,
    /// Of the plaintext, where the folder keeps them. For comparison only.
    pub sums: Sums,
}

impl Footer {
    pub fn parse(bytes: &[u8; FOOTER_LEN]) -> Result<Self, SealError> {
        let (size, rest) = bytes.split_first_chunk().ok_or(SealError::Length)?;
        let (trailer_len, rest) = rest.split_first_chunk().ok_or(SealError::Length)?;
        // Another magic is what a cut or an unfinished file ends with; zeros elsewhere are for a later version.
        if &rest[12..] != MAGIC {
            return Err(SealError::Length);
        }
        let footer = Self { size: u64::from_be_bytes(*size), trailer_len: u32::from_be_bytes(*trailer_len) };
        let trailer_ok = (NONCE_LEN + TAG_LEN..=TRAILER_MAX).contains(&(footer.trailer_len as usize));
        if rest[..12] != [0; 12] || footer.size > SIZE_MAX || !trailer_ok {
            return Err(SealError::Malformed("footer"));
        }
        Ok(footer)
    }

    pub fn to_bytes(&self) -> [u8; FOOTER_LEN] {
        let mut out = [0; FOOTER_LEN];
        out[..8].copy_from_slice(&self.size.to_be_bytes());
        out[8..12].copy_from_slice(&self.trailer_len.to_be_bytes());
        out[24..].copy_from_slice(MAGIC);
        out
    }

    /// The length equation: every byte of the file is accounted for.
    pub fn check_len(&self, file_len: u64) -> Result<(), SealError> {
        let after = u64::from(self.trailer_len) + FOOTER_LEN as u64;
        if self.trailer_offset().saturating_add(after) == file_len { Ok(()) } else { Err(SealError::Length) }
    }

    /// Where the trailer begins: just after the final record.
    pub fn trailer_offset(&self) -> u64 {
        body_len(self.size).saturating_add(HEADER_LEN as u64)
    }

    /// The index of the final record.
    pub fn last_index(&self) -> u64 {
        self.size / CHUNK as u64
    }
}

impl Trailer {
    /// Trailer and footer, as they are appended to the final record.
    pub fn seal(&self, head: &Head, key: &FileKey) -> Result<Vec<u8>, SealError> {
        self.seal_with(&mut Kernel, head, key)
    }

    pub(super) fn seal_with(
        &self,
        entropy: &mut dyn Entropy,
        head: &Head,
        key: &FileKey,
    ) -> Result<Vec<u8>, SealError> {
        let last = self.size / CHUNK as u64;
        if !generations_fit(&self.gens) || self.gens.last().is_some_and(|(index, _)| *index > last) {
            return Err(SealError::Limit("the list of rewritten records"));
        }
        let fields = self.fields();
        let length = NONCE_LEN + fields.as_bytes().len() + TAG_LEN;
        if length > TRAILER_MAX {
            return Err(SealError::Limit("a trailer"));
        }
        if self.size > SIZE_MAX {
            return Err(SealError::Limit("a file"));
        }
        let footer = Footer { size: self.size, trailer_len: length as u32 }.to_bytes();
        let mut out = enseal(entropy, &*trailer_key(head, key)?, &aad(head, &footer), fields.as_bytes())?;
        out.extend_from_slice(&footer);
        Ok(out)
    }

    pub fn open(head: &Head, key: &FileKey, footer: &[u8; FOOTER_LEN], trailer: &[u8]) -> Result<Self, SealError> {
        let Footer { size, trailer_len } = Footer::parse(footer)?;
        if trailer.len() != trailer_len as usize {
            return Err(SealError::Length);
        }
        let plain = unseal(&*trailer_key(head, key)?, &aad(head, footer), trailer)?;
        Self::from_fields(&plain, size).ok_or(SealError::Damaged)
    }

    /// The generation that record `index` must have.
    pub fn generation(&self, index: u64) -> u32 {
        match self.gens.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(at) => self.gens[at].1,
            Err(_) => 0,
        }
    }

    fn fields(&self) -> Fields {
        let texts = self.name.len() + self.sender.len() + self.server.len();
        let recipients: usize = self.recipients.iter().map(|r| r.len() + 6).sum();
        let mut fields = Fields::with_capacity(256 + texts + recipients + 12 * self.gens.len());
        fields.put(NAME, &self.name);
        if let Some(mtime) = self.mtime {
            fields.put_u64(MTIME, mtime);
        }
        fields.put_text(SENDER, &self.sender);
        self.recipients.iter().for_each(|recipient| fields.put_text(RECIPIENT, recipient));
        fields.put(SHA256, &self.sha256);
        fields.put_u64(OPENED_AT, self.opened_at);
        fields.put_u64(SEALED_AT, self.sealed_at);
        fields.put_text(SERVER, &self.server);
        fields.put_generations(GENERATIONS, &self.gens);
        if let Some(md5) = &self.sums.md5 {
            fields.put(MD5, md5);
        }
        if let Some(sha1) = &self.sums.sha1 {
            fields.put(SHA1, sha1);
        }
        fields
    }

    pub(super) fn from_fields(bytes: &[u8], size: u64) -> Option<Self> {
        let fields = Parsed::parse(bytes, Some(RECIPIENT))?;
        let recipients: Result<Vec<String>, _> = fields.all(RECIPIENT).map(|r| String::from_utf8(r.to_vec())).collect();
        let trailer = Self {
            name: fields.get(NAME)?.to_vec(),
            mtime: fields.optional(MTIME)?.map(u64::from_be_bytes),
            sender: fields.text(SENDER)?,
            recipients: recipients.ok()?,
            size,
            sha256: fields.array(SHA256)?,
            opened_at: fields.u64(OPENED_AT)?,
            sealed_at: fields.u64(SEALED_AT)?,
            server: fields.text(SERVER)?,
            gens: fields.generations(GENERATIONS)?,
            sums: Sums { md5: fields.optional(MD5)?, sha1: fields.optional(SHA1)? },
        };
        let in_file = trailer.gens.last().is_none_or(|(index, _)| *index <= size / CHUNK as u64);
        in_file.then_some(trailer)
    }
}

fn trailer_key(head: &Head, key: &FileKey) -> Result<zeroize::Zeroizing<[u8; 32]>, SealError> {
    expand(key.expose(), "trailer", &[head.core()])
}

fn aad(head: &Head, footer: &[u8; FOOTER_LEN]) -> Vec<u8> {
    [&head.to_bytes()[..], footer].concat()
}
