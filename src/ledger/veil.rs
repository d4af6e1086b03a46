//! Names that may say who somebody is. Where the settings say so, what is hashed, signed and exported has the salted hash of
//! a path in its place; the path itself is in a record beside the event, sealed under a key that only the auditor's identity
//! and a shred bucket lead to, and in the journal under a key of the server's. docs/ledger.md, "Hidden names". No I/O here.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::event::Event;
use super::record::Stored;
use crate::names::{Digest, DropId, escaped, hex};
use crate::seal;
use crate::vpath::VirtualPath;

/// What stands before the hash of a hidden name. No path begins so.
const MARK: &str = "sha256:";

const LABEL: &[u8] = b"sealdrop name\0";

/// A name so short stands in too many words to be looked for in them.
const SCRUBBED_MIN: usize = 3;

/// A path as a signed text has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Clear(VirtualPath),
    /// [`Veil::digest`] of it.
    Hidden(Digest),
}

impl Name {
    /// What [`fmt::Display`] writes, and nothing else.
    pub fn parse(text: &str, path: impl FnOnce(&str) -> Option<VirtualPath>) -> Option<Self> {
        match text.strip_prefix(MARK) {
            Some(digest) => digest.parse().ok().map(Self::Hidden),
            None => path(text).map(Self::Clear),
        }
    }

    pub fn clear(&self) -> Option<&VirtualPath> {
        match self {
            Self::Clear(path) => Some(path),
            Self::Hidden(_) => None,
        }
    }
}

impl From<VirtualPath> for Name {
    fn from(path: VirtualPath) -> Self {
        Self::Clear(path)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clear(path) => write!(f, "{path}"),
            Self::Hidden(digest) => write!(f, "{MARK}{digest}"),
        }
    }
}

/// Hides the names of one event, and of what is signed about it. Its salt is nowhere but in the record beside the event.
pub struct Veil {
    salt: [u8; 16],
    /// Escaped as a text has them.
    names: Vec<String>,
}

impl Veil {
    pub fn new(salt: [u8; 16]) -> Self {
        Self { salt, names: Vec::new() }
    }

    pub fn digest(salt: &[u8; 16], escaped_path: &str) -> Digest {
        let hash = Sha256::new().chain_update(LABEL).chain_update(salt).chain_update(escaped_path);
        Digest(hash.finalize().into())
    }

    /// The path's hash. The root has no name.
    pub fn hide(&mut self, path: &VirtualPath) -> Name {
        if path.is_root() {
            return path.clone().into();
        }
        let shown = path.to_string();
        let digest = Self::digest(&self.salt, &shown);
        if !self.names.contains(&shown) {
            self.names.push(shown);
        }
        Name::Hidden(digest)
    }

    /// The event's paths hidden, also in what it says in words. They are returned, as the event's members shall have them.
    pub fn cover(&mut self, event: &mut Event) -> (Option<Name>, Option<Name>) {
        let paths: Vec<VirtualPath> = event.path.iter().chain(&event.to).cloned().collect();
        let hidden = (event.path.as_ref().map(|path| self.hide(path)), event.to.as_ref().map(|path| self.hide(path)));
        let mut scrub = |text: &mut String| {
            for path in &paths {
                *text = self.scrub(text, path);
            }
        };
        event.detail.iter_mut().for_each(&mut scrub);
        event.outcome.why_mut().into_iter().for_each(&mut scrub);
        hidden
    }

    fn scrub(&mut self, text: &str, path: &VirtualPath) -> String {
        let hidden = self.hide(path).to_string();
        let text = if path.is_root() { text.to_owned() } else { text.replace(&path.to_string(), &hidden) };
        match path.name().map(|name| escaped(name.as_bytes())).filter(|name| name.len() >= SCRUBBED_MIN) {
            Some(name) => text.replace(&name, "…"),
            None => text,
        }
    }

    /// The record for the auditor: what was hidden, and the salt that proves it.
    fn sealed(&self, event: u64, key: &NamesKey) -> Option<HiddenNames> {
        let record = NamesText { salt: hex(&self.salt), names: self.names.clone() };
        let json = Zeroizing::new(serde_json::to_vec(&record).ok()?);
        let sealed = seal::lock(&key.key, RECORD, &event.to_be_bytes(), &json).ok()?;
        Some(HiddenNames { event, key: key.id, sealed })
    }
}

/// In seal's sense: what a record beside an event is, and what a write in the journal is.
const RECORD: &str = "names";
const WRITE: &str = "journal-names";

/// What a record says once it is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesText {
    pub salt: String,
    pub names: Vec<String>,
}

impl NamesText {
    /// The name that a hash in the event, or in a text about it, stands for.
    pub fn find(&self, shown: &str) -> Option<&str> {
        let digest: Digest = shown.strip_prefix(MARK)?.parse().ok()?;
        let salt: [u8; 16] = crate::names::from_hex(&self.salt).ok()?;
        self.names.iter().map(String::as_str).find(|name| Veil::digest(&salt, name) == digest)
    }
}

/// The names of one event, sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiddenNames {
    pub event: u64,
    /// Of the key's record.
    pub key: DropId,
    #[serde(with = "serde_bytes")]
    pub sealed: Vec<u8>,
}

impl HiddenNames {
    /// `None` under any other key.
    pub fn open(&self, key: &[u8; 32]) -> Option<NamesText> {
        let json = seal::unlock(key, RECORD, &self.event.to_be_bytes(), &self.sealed).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

/// A key of a day's names, as it is kept: an envelope to the auditor, under a shred bucket's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesKeyRecord {
    pub id: DropId,
    pub bucket: u64,
    #[serde(with = "serde_bytes")]
    pub head: Vec<u8>,
    #[serde(with = "serde_bytes")]
    pub envelope: Vec<u8>,
}

/// The same, to seal with.
pub struct NamesKey {
    pub id: DropId,
    pub key: Zeroizing<[u8; 32]>,
}

/// What hides names in a ledger.
pub struct Hiding {
    /// Seals what has names in the journal.
    journal: Zeroizing<[u8; 32]>,
    /// Whether names are hidden from now on; if not, only what was sealed before is opened.
    hides: bool,
    day: RwLock<Option<Arc<NamesKey>>>,
}

/// A write that the journal has sealed does not open.
#[derive(Debug, thiserror::Error)]
#[error("a name in the journal does not open: is `keys/names` there, and of this ledger?")]
pub struct NamesSealed;

impl Hiding {
    pub fn new(journal: Zeroizing<[u8; 32]>, hides: bool) -> Self {
        Self { journal, hides, day: RwLock::default() }
    }

    pub fn hides(&self) -> bool {
        self.hides
    }

    /// From now on records for the auditor are sealed with this. Its own record is durable by then.
    pub fn seal_with(&self, key: NamesKey) {
        *self.day.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key));
    }

    /// The record that goes with an event. Without a key the name is gone: it is never shown for want of one.
    pub fn record(&self, veil: &Veil, event: u64) -> Option<HiddenNames> {
        let day = self.day.read().unwrap_or_else(PoisonError::into_inner).clone();
        day.filter(|_| !veil.names.is_empty()).and_then(|day| veil.sealed(event, &day))
    }

    /// The write as the journal keeps it. What has no name in it stays as it is.
    pub fn seal(&self, write: Stored, into: &mut Vec<Stored>) -> Result<(), seal::SealError> {
        if let Stored::Receipt(receipt) = &write {
            // The month has it without its path, and the live database finds it by that.
            let mut hidden = receipt.clone();
            hidden.path = VirtualPath::root();
            into.push(Stored::HiddenReceipt(hidden));
        }
        into.push(if has_names(&write) {
            let bytes = Zeroizing::new(postcard::to_allocvec(&write).map_err(|_| seal::SealError::Damaged)?);
            Stored::Sealed(seal::lock(&self.journal, WRITE, &[], &bytes)?)
        } else {
            write
        });
        Ok(())
    }

    pub fn open(&self, sealed: &[u8]) -> Result<Stored, NamesSealed> {
        let bytes = seal::unlock(&self.journal, WRITE, &[], sealed).map_err(|_| NamesSealed)?;
        postcard::from_bytes(&bytes).map_err(|_| NamesSealed)
    }
}

fn has_names(write: &Stored) -> bool {
    match write {
        Stored::Drop(_)
        | Stored::Moved { .. }
        | Stored::FolderMoved { .. }
        | Stored::Unlinked { .. }
        | Stored::Readdressed { .. }
        | Stored::Receipt(_)
        | Stored::Rejected(_)
        | Stored::RejectionOver { .. }
        | Stored::Paper(_)
        | Stored::Consignment(_)
        | Stored::Alarm(_)
        | Stored::AlarmOver { .. }
        | Stored::Notice(_)
        | Stored::Request(_)
        | Stored::NamesOver(_) => true,
        Stored::State { .. }
        | Stored::PickedUp { .. }
        | Stored::Expires { .. }
        | Stored::Order { .. }
        | Stored::Moving { .. }
        | Stored::Rewrapped { .. }
        | Stored::Certificate(_)
        | Stored::Superseded { .. }
        | Stored::Duplicate { .. }
        | Stored::Checkpoint(_)
        | Stored::Cosigned { .. }
        | Stored::Matched { .. }
        | Stored::ConsignmentClosed { .. }
        | Stored::PolicyText(_)
        | Stored::Policy(_)
        | Stored::InForce(_)
        | Stored::NoticeOver { .. }
        | Stored::RequestOver { .. }
        | Stored::Sealed(_)
        | Stored::HiddenReceipt(_)
        | Stored::Names(_)
        | Stored::NamesKey(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use crate::ledger::{Event, Kind};

    fn path(text: &str) -> VirtualPath {
        VirtualPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_hidden_event_reads_like_this() {
        let mut event =
            Event::new(Time(1_763_770_943_007), Kind::Renamed).refused("there is a /lab/doe.dcm, or a doe.dcm");
        (event.path, event.to) = (Some(path("/lab/doe.dcm")), Some(path("/lab/b")));
        event.detail = Some("doe.dcm to /lab/b".to_owned());
        let mut veil = Veil::new([7; 16]);
        let json = event.hidden(5, &[9; 16], &mut veil);
        assert_eq!(
            json,
            "{\"n\":5,\"at\":\"2025-11-22T00:22:23.007Z\",\"kind\":\"renamed\",\"outcome\":\"refused\",\
             \"why\":\"there is a sha256:FIRST, or a …\",\"path\":\"sha256:FIRST\",\"to\":\"sha256:SECOND\",\
             \"detail\":\"… to sha256:SECOND\",\"salt\":\"09090909090909090909090909090909\"}"
                .replace("FIRST", "5d1a295b4b96f1531cb765e35fbadc96ea26eb49f4774393723170940f7d0e41")
                .replace("SECOND", "85926b911a05ddb42339af248a73014904d86014e06660b0f34307a4807c5a1e")
        );
        let key = NamesKey { id: DropId([1; 16]), key: Zeroizing::new([2; 32]) };
        let sealed = veil.sealed(5, &key).unwrap();
        let text = sealed.open(&[2; 32]).unwrap();
        assert_eq!(text.names, ["/lab/doe.dcm", "/lab/b"]);
        let shown = json.split('"').find(|word| word.starts_with(MARK)).unwrap();
        assert_eq!(text.find(shown), Some("/lab/doe.dcm"));
        assert_eq!(sealed.open(&[3; 32]), None);
        assert_eq!(HiddenNames { event: 6, ..sealed }.open(&[2; 32]), None, "it is that event's");
    }

    /// Made by another program, from docs/ledger.md and docs/sealed-file.md.
    #[test]
    fn a_record_is_these_bytes() {
        let sealed = concat!(
            "060606060606060606060606a3a4d5d10b31e73dde797a3b0573cdd3d8623425587aa856f977da67a5ccd36c12953636",
            "2ae2003888fab602c014f212fe6b6f775756721811d7185b4233fbaf22bfd2d62c88af66db84cd886462fb4a9bba8381",
            "4406f2dc836780daa6",
        );
        let sealed =
            (0..sealed.len()).step_by(2).map(|at| u8::from_str_radix(&sealed[at..at + 2], 16).unwrap()).collect();
        let record = HiddenNames { event: 5, key: DropId([1; 16]), sealed };
        let text = record.open(&[2; 32]).unwrap();
        assert_eq!(
            (&*text.salt, &text.names[..]),
            (&*"07".repeat(16), &["/lab/doe.dcm".to_owned(), "/lab/b".into()][..])
        );
        let bytes = postcard::to_allocvec(&record).unwrap();
        assert_eq!(bytes[..18], [&[5][..], &[1; 16], &[105]].concat());
    }

    #[test]
    fn a_write_that_names_something_is_sealed_in_the_journal_and_opens_again() {
        let hiding = Hiding::new(Zeroizing::new([4; 32]), true);
        let write = Stored::RejectionOver { user: "acme".parse().unwrap(), path: path("/lab/doe.dcm") };
        let mut sealed = Vec::new();
        hiding.seal(write.clone(), &mut sealed).unwrap();
        let [Stored::Sealed(bytes)] = &sealed[..] else { panic!("{sealed:?}") };
        assert!(!bytes.windows(7).any(|window| window == b"doe.dcm"));
        assert_eq!(hiding.open(bytes).unwrap(), write);
        assert!(Hiding::new(Zeroizing::new([5; 32]), true).open(bytes).is_err());
        let clear = Stored::Matched { signature: DropId([1; 16]) };
        let mut kept = Vec::new();
        hiding.seal(clear.clone(), &mut kept).unwrap();
        assert_eq!(kept, [clear]);
    }

    #[test]
    fn a_name_is_a_path_or_a_hash_and_nothing_else() {
        let clear = |text: &str| VirtualPath::parse(text.as_bytes()).ok();
        for text in ["/a/b", &format!("sha256:{}", "ab".repeat(32))] {
            assert_eq!(Name::parse(text, clear).unwrap().to_string(), text);
        }
        assert_eq!(Name::parse("sha256:xyz", clear), None);
        let root = Veil::new([0; 16]).hide(&VirtualPath::root());
        assert_eq!(root.to_string(), "/", "it has no name");
    }
}
