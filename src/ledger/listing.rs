//! `/receipts` as clients see it: a folder tree that mirrors the paths things were sent to, with three files for each.
//! Nothing of it is on disk; a listing is a walk over the keys of one tree, and a page can end and go on anywhere.

use super::live::{self, ReceiptPlace};
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

/// What the notice of a refused upload to `NAME` is called.
const REJECTED_SUFFIX: &str = ".rejected";

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
    /// page before, with a `/` after it if it was a folder. The page may have three entries more than `limit`.
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

    /// The first key from `start` on that has a receipt or a notice below `prefix`.
    fn next_below(&self, prefix: &[u8], start: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        let mut least: Option<Vec<u8>> = None;
        for tree in [live::RECEIPT_PATHS, live::REJECTED] {
            let first = self.core.live.range(tree, start).next().transpose()?;
            let found = first.map(|(key, _)| key.to_vec()).filter(|key| key.starts_with(prefix));
            least = [least, found].into_iter().flatten().min();
        }
        Ok(least)
    }

    fn page(&self, prefix: &[u8], after: Option<&str>, limit: usize) -> Result<ReceiptListing, LedgerError> {
        let db = &self.core.live;
        let (mut start, mut skip) = after.map_or_else(|| (prefix.to_vec(), 0), |name| resume(prefix, name));
        let mut page = ReceiptListing::default();
        while let Some(key) = self.next_below(prefix, &start)? {
            if page.entries.len() >= limit {
                page.more = true;
                break;
            }
            let rest = key.strip_prefix(prefix).unwrap_or_default();
            let receipt: Option<ReceiptPlace> = db.get_record(live::RECEIPT_PATHS, &key)?;
            let notice: Option<Rejection> = db.get_record(live::REJECTED, &key)?;
            let at = receipt.as_ref().map(|place| place.at).or(notice.as_ref().map(|notice| notice.at));
            if let Some(slash) = rest.iter().position(|&b| b == b'/') {
                let name = &rest[..slash];
                let at = at.unwrap_or(Time(0));
                page.entries.push(ReceiptFile { name: escaped(name), folder: true, size: 0, at });
                start = behind_folder(prefix, name);
            } else {
                let skip = if key == start { skip } else { 0 };
                let parts = receipt.iter().flat_map(|place| ReceiptPart::ALL.map(|part| (part, place)));
                for (part, place) in parts.skip(skip) {
                    let name = escaped(rest) + part.suffix();
                    page.entries.push(ReceiptFile { name, folder: false, size: part.len(place), at: place.at });
                }
                if let Some(notice) = notice {
                    let size = u32::try_from(notice.text.len()).unwrap_or(u32::MAX);
                    let name = escaped(rest) + REJECTED_SUFFIX;
                    page.entries.push(ReceiptFile { name, folder: false, size, at: notice.at });
                }
                start = [&key[..], b"\0"].concat();
            }
            skip = 0;
        }
        Ok(page)
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

/// Where a listing goes on after `name`, and how many files of the first receipt there were listed already.
fn resume(prefix: &[u8], name: &str) -> (Vec<u8>, usize) {
    let bytes = |name: &str| unescaped(name).unwrap_or_else(|| name.as_bytes().to_vec());
    if let Some(folder) = name.strip_suffix('/') {
        return (behind_folder(prefix, &bytes(folder)), 0);
    }
    let name = bytes(name);
    if let Some(refused) = name.strip_suffix(REJECTED_SUFFIX.as_bytes()) {
        // The last of its path.
        return ([prefix, refused, b"\0"].concat(), 0);
    }
    match ReceiptPart::split(&name) {
        Some((received, part)) => {
            // A notice may follow the last of them.
            let listed = ReceiptPart::ALL.iter().position(|one| *one == part).map_or(0, |at| at + 1);
            ([prefix, received].concat(), listed)
        }
        None => (behind_folder(prefix, &name), 0),
    }
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
