//! `/receipts` as clients see it: a folder tree that mirrors the paths things were sent to, with what there is for each.
//! Nothing of it is on disk; a listing is a walk over the keys of one tree, and a page can end and go on anywhere.

use super::certificate::CertificatePart;
use super::live::{self, ReceiptPlace};
use super::paper::{self, PaperKind};
use super::record::ReceiptRecord;
use super::rejection::Rejection;
use super::store::{Ledger, LedgerError};
use crate::clock::Time;
use crate::names::{FileName, UserName, escaped, unescaped};
use crate::vpath::VirtualPath;

/// A page of a folder of receipts, in the order clients list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiptListing {
    pub entries: Vec<ReceiptFile>,
    pub more: bool,
}

/// One name in a folder of receipts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptFile {
    /// `a.dcm.receipt` or a folder's name; escaped, so always one printable line.
    pub name: String,
    pub folder: bool,
    pub size: u32,
    pub at: Time,
}

/// Which of a receipt's four files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptPart {
    /// `NAME.receipt`
    Text,
    /// `NAME.receipt.sig`
    Signature,
    /// `NAME.receipt.proof`
    Proof,
    /// `NAME.content.sig`
    ContentSignature,
}

/// What the notice of a refused upload to `NAME` is called.
const REJECTED_SUFFIX: &str = ".rejected";

/// Everything there can be for one path, in the order of a listing; none ends like another.
const SUFFIXES: [&str; 11] = [
    ReceiptPart::Text.suffix(),
    ReceiptPart::Signature.suffix(),
    ReceiptPart::Proof.suffix(),
    ReceiptPart::ContentSignature.suffix(),
    CertificatePart::Text.suffix(),
    CertificatePart::Signature.suffix(),
    PaperKind::Consignment.suffix(),
    ".consignment.sig",
    PaperKind::Disclosure.suffix(),
    ".disclosure.sig",
    REJECTED_SUFFIX,
];

/// Where the certificate's files begin in [`SUFFIXES`], and those of papers.
const CERTIFICATES_AT: usize = ReceiptPart::ALL.len();
const PAPERS_AT: usize = CERTIFICATES_AT + CertificatePart::ALL.len();

impl ReceiptPart {
    /// In the order of a listing.
    pub const ALL: [Self; 4] = [Self::Text, Self::Signature, Self::Proof, Self::ContentSignature];

    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Text => ".receipt",
            Self::Signature => ".receipt.sig",
            Self::Proof => ".receipt.proof",
            Self::ContentSignature => ".content.sig",
        }
    }

    /// The size of this file.
    pub fn len_of(self, receipt: &ReceiptRecord) -> u32 {
        let len = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX);
        match self {
            Self::Text => len(&receipt.text),
            Self::Signature => len(&receipt.signature),
            Self::Proof => receipt.proof_len,
            Self::ContentSignature => len(&receipt.content_signature),
        }
    }

    fn len(self, place: &ReceiptPlace) -> u32 {
        match self {
            Self::Text => place.text_len,
            Self::Signature => place.signature_len,
            Self::Proof => place.proof_len,
            Self::ContentSignature => place.content_signature_len,
        }
    }

    /// The name of what was received, and which of its files `name` is.
    fn split(name: &[u8]) -> Option<(&[u8], Self)> {
        Self::ALL
            .into_iter()
            .find_map(|part| Some((name.strip_suffix(part.suffix().as_bytes())?, part)))
            .filter(|(received, _)| !received.is_empty())
    }
}

impl Ledger {
    /// The file `path` below `/receipts` stands for: `/radiology/a.dcm.receipt.sig`. Names may be as they are or escaped
    /// as a listing shows them.
    pub fn receipt_file(
        &self,
        user: &UserName,
        path: &VirtualPath,
    ) -> Result<Option<(ReceiptRecord, ReceiptPart)>, LedgerError> {
        for path in spellings(path) {
            let (Some(dir), Some(name)) = (path.parent(), path.name()) else { continue };
            let Some((received, part)) = ReceiptPart::split(name.as_bytes()) else { continue };
            let Some(received) = FileName::new(received).ok().and_then(|name| dir.join(&name).ok()) else { continue };
            if let Some(receipt) = self.receipt_at(user, &received)? {
                return Ok(Some((receipt, part)));
            }
        }
        Ok(None)
    }

    /// A page of the folder `dir` below `/receipts`: `None` if there is no such folder. `after` is the last name of the
    /// page before, with a `/` after it if it was a folder. The page may have as many entries more than `limit` as a path can have.
    pub fn receipts_under(
        &self,
        user: &UserName,
        dir: &VirtualPath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<ReceiptListing>, LedgerError> {
        for dir in spellings(dir) {
            let prefix = live::below(user, &dir);
            if dir.is_root() || self.next_below(&prefix, &prefix)?.is_some() {
                return self.page(&prefix, after, limit).map(Some);
            }
        }
        Ok(None)
    }

    /// The key of the first path from `start` on that has anything below `prefix`.
    fn next_below(&self, prefix: &[u8], start: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        let mut least: Option<Vec<u8>> = None;
        for tree in [live::RECEIPT_PATHS, live::REJECTED, live::PAPERS] {
            let first = self.core.live.range(tree, start).next().transpose()?;
            let found = first.map(|(key, _)| key.to_vec()).filter(|key| key.starts_with(prefix));
            let found = found.map(|key| paper::path_key(&key).to_vec());
            least = [least, found].into_iter().flatten().min();
        }
        Ok(least)
    }

    fn page(&self, prefix: &[u8], after: Option<&str>, limit: usize) -> Result<ReceiptListing, LedgerError> {
        let (mut start, mut skip) = after.map_or_else(|| (prefix.to_vec(), 0), |name| resume(prefix, name));
        let mut page = ReceiptListing::default();
        while let Some(key) = self.next_below(prefix, &start)? {
            if page.entries.len() >= limit {
                page.more = true;
                break;
            }
            let rest = key.strip_prefix(prefix).unwrap_or_default();
            let files = self.files_at(&key)?;
            if let Some(slash) = rest.iter().position(|&b| b == b'/') {
                let name = &rest[..slash];
                let at = files.first().map_or(Time(0), |(.., at)| *at);
                page.entries.push(ReceiptFile { name: escaped(name), folder: true, size: 0, at });
                start = behind_folder(prefix, name);
            } else {
                let skip = if key == start { skip } else { 0 };
                for (order, size, at) in files.into_iter().filter(|(order, ..)| *order >= skip) {
                    let name = escaped(rest) + SUFFIXES[order];
                    page.entries.push(ReceiptFile { name, folder: false, size, at });
                }
                start = behind_path(&key);
            }
            skip = 0;
        }
        Ok(page)
    }

    /// What there is for a path, in the order of a listing: where in [`SUFFIXES`], its size, its time.
    fn files_at(&self, path_key: &[u8]) -> Result<Vec<(usize, u32, Time)>, LedgerError> {
        let db = &self.core.live;
        let receipt: Option<ReceiptPlace> = db.get_record(live::RECEIPT_PATHS, path_key)?;
        let notice: Option<Rejection> = db.get_record(live::REJECTED, path_key)?;
        let len = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX);
        let mut files = Vec::new();
        if let Some(place) = receipt {
            files.extend(ReceiptPart::ALL.iter().enumerate().map(|(order, part)| (order, part.len(&place), place.at)));
            if let Some(certificate) = self.certificate(&place.drop)? {
                let parts = CertificatePart::ALL.iter().enumerate();
                files.extend(
                    parts.map(|(order, part)| (CERTIFICATES_AT + order, len(part.of(&certificate)), certificate.at)),
                );
            }
        }
        for paper in self.papers_at(path_key)? {
            let order = PAPERS_AT + 2 * paper.kind as usize;
            files.push((order, len(&paper.text), paper.at));
            files.push((order + 1, len(&paper.signature), paper.at));
        }
        files.extend(notice.map(|notice| (SUFFIXES.len() - 1, len(&notice.text), notice.at)));
        Ok(files)
    }

    /// The file `path` below `/receipts` stands for, if it is a paper or its signature: its bytes and its time.
    pub fn paper_file(&self, user: &UserName, path: &VirtualPath) -> Result<Option<(String, Time)>, LedgerError> {
        for kind in PaperKind::ALL {
            let bytes = path.as_bytes();
            let (bytes, signature) = bytes.strip_suffix(b".sig").map_or((bytes, false), |bytes| (bytes, true));
            let of = bytes.strip_suffix(kind.suffix().as_bytes()).filter(|of| !of.ends_with(b"/"));
            let Some(of) = of.and_then(|of| VirtualPath::parse(of).ok()) else { continue };
            if let Some(paper) = self.paper(user, &of, kind)? {
                return Ok(Some((if signature { paper.signature } else { paper.text }, paper.at)));
            }
        }
        Ok(None)
    }

    /// The notice that `path` below `/receipts` stands for: `/radiology/a.exe.rejected`.
    pub fn rejection_file(&self, user: &UserName, path: &VirtualPath) -> Result<Option<Rejection>, LedgerError> {
        let of = path.as_bytes().strip_suffix(REJECTED_SUFFIX.as_bytes());
        match of.filter(|of| !of.ends_with(b"/")).and_then(|of| VirtualPath::parse(of).ok()) {
            Some(of) => self.rejection(user, &of),
            None => Ok(None),
        }
    }
}

/// Where a listing goes on after `name`, and at which of the files of the first path there.
fn resume(prefix: &[u8], name: &str) -> (Vec<u8>, usize) {
    let bytes = |name: &str| unescaped(name).unwrap_or_else(|| name.as_bytes().to_vec());
    if let Some(folder) = name.strip_suffix('/') {
        return (behind_folder(prefix, &bytes(folder)), 0);
    }
    let name = bytes(name);
    let split = SUFFIXES.iter().enumerate().find_map(|(order, suffix)| {
        Some((name.strip_suffix(suffix.as_bytes())?, order)).filter(|(of, _)| !of.is_empty())
    });
    match split {
        // More may follow for the same path.
        Some((of, order)) => ([prefix, of].concat(), order + 1),
        None => (behind_folder(prefix, &name), 0),
    }
}

/// Behind a path's key and those of its papers, and before every longer name.
fn behind_path(key: &[u8]) -> Vec<u8> {
    [key, b"\x01"].concat()
}

/// Behind every key of a folder: `0` follows `/`.
fn behind_folder(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    [prefix, name, b"0"].concat()
}

/// The path as it is, then as what a listing's escapes stand for.
pub(super) fn spellings(path: &VirtualPath) -> Vec<VirtualPath> {
    let text = std::str::from_utf8(path.as_bytes()).ok();
    let meant = text.and_then(unescaped).and_then(|bytes| VirtualPath::parse(&bytes).ok());
    [Some(path.clone()), meant.filter(|meant| meant != path)].into_iter().flatten().collect()
}
