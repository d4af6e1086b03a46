//! `/receipts` as clients see it: a folder tree that mirrors the paths things were sent to, with three files for each.
//! Nothing of it is on disk; a listing is a walk over the keys of one tree, and a page can end and go on anywhere.

use super::live::{self, ReceiptPlace};
use super::record::ReceiptRecord;
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

/// Which of a receipt's three files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptPart {
    /// `NAME.receipt`
    Text,
    /// `NAME.receipt.sig`
    Signature,
    /// `NAME.content.sig`
    ContentSignature,
}

impl ReceiptPart {
    /// In the order of a listing.
    pub const ALL: [Self; 3] = [Self::Text, Self::Signature, Self::ContentSignature];

    pub fn suffix(self) -> &'static str {
        match self {
            Self::Text => ".receipt",
            Self::Signature => ".receipt.sig",
            Self::ContentSignature => ".content.sig",
        }
    }

    /// The bytes of this file.
    pub fn of(self, receipt: &ReceiptRecord) -> &str {
        match self {
            Self::Text => &receipt.text,
            Self::Signature => &receipt.signature,
            Self::ContentSignature => &receipt.content_signature,
        }
    }

    fn len(self, place: &ReceiptPlace) -> u32 {
        match self {
            Self::Text => place.text_len,
            Self::Signature => place.signature_len,
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
    /// page before, with a `/` after it if it was a folder. The page may have two entries more than `limit`.
    pub fn receipts_under(
        &self,
        user: &UserName,
        dir: &VirtualPath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<ReceiptListing>, LedgerError> {
        for dir in spellings(dir) {
            let prefix = live::below(user, &dir);
            let first = self.core.live.range(live::RECEIPT_PATHS, &prefix).next().transpose()?;
            if dir.is_root() || first.is_some_and(|(key, _)| key.starts_with(&prefix)) {
                return self.page(&prefix, after, limit).map(Some);
            }
        }
        Ok(None)
    }

    fn page(&self, prefix: &[u8], after: Option<&str>, limit: usize) -> Result<ReceiptListing, LedgerError> {
        let db = &self.core.live;
        let (mut start, mut skip) = after.map_or_else(|| (prefix.to_vec(), 0), |name| resume(prefix, name));
        let mut page = ReceiptListing::default();
        loop {
            let Some((key, value)) = db.range(live::RECEIPT_PATHS, &start).next().transpose()? else { break };
            let Some(rest) = key.strip_prefix(prefix) else { break };
            if page.entries.len() >= limit {
                page.more = true;
                break;
            }
            let place: ReceiptPlace = db.record(live::RECEIPT_PATHS, &value)?;
            if let Some(slash) = rest.iter().position(|&b| b == b'/') {
                let name = &rest[..slash];
                page.entries.push(ReceiptFile { name: escaped(name), folder: true, size: 0, at: place.at });
                start = behind_folder(prefix, name);
            } else {
                let same = key.as_ref() == start.as_slice();
                for part in ReceiptPart::ALL.into_iter().skip(if same { skip } else { 0 }) {
                    let name = escaped(rest) + part.suffix();
                    page.entries.push(ReceiptFile { name, folder: false, size: part.len(&place), at: place.at });
                }
                start = [key.as_ref(), b"\0"].concat();
            }
            skip = 0;
        }
        Ok(page)
    }
}

/// Where a listing goes on after `name`, and how many files of the first receipt there were listed already.
fn resume(prefix: &[u8], name: &str) -> (Vec<u8>, usize) {
    let bytes = |name: &str| unescaped(name).unwrap_or_else(|| name.as_bytes().to_vec());
    if let Some(folder) = name.strip_suffix('/') {
        return (behind_folder(prefix, &bytes(folder)), 0);
    }
    let name = bytes(name);
    match ReceiptPart::split(&name) {
        Some((received, part)) => {
            let listed = ReceiptPart::ALL.iter().position(|one| *one == part).map_or(0, |at| at + 1);
            let key = [prefix, received].concat();
            if listed == ReceiptPart::ALL.len() { ([&key[..], b"\0"].concat(), 0) } else { (key, listed) }
        }
        None => (behind_folder(prefix, &name), 0),
    }
}

/// Behind every key of a folder: `0` follows `/`.
fn behind_folder(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    [prefix, name, b"0"].concat()
}

/// The path as it is, then as what a listing's escapes stand for.
fn spellings(path: &VirtualPath) -> Vec<VirtualPath> {
    let text = std::str::from_utf8(path.as_bytes()).ok();
    let meant = text.and_then(unescaped).and_then(|bytes| VirtualPath::parse(&bytes).ok());
    [Some(path.clone()), meant.filter(|meant| meant != path)].into_iter().flatten().collect()
}
