//! Papers: what the server gives besides receipts, signed as they are and found beside them under `/receipts`. A recipient has
//! a disclosure receipt for what it read; a sender a consignment receipt for a manifest. Of each kind there is the newest
//! for a path; every one is in the log, by its hash. docs/ledger.md, "Papers".

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::consignment::ConsignmentFacts;
use super::database::{DatabaseError, Plan};
use super::live;
use super::store::{Ledger, LedgerError};
use super::veil::Name;
use crate::clock::Time;
use crate::names::{Digest, DropId, UserName};
use crate::vpath::VirtualPath;

/// Which paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PaperKind {
    /// Of a manifest: `SHA256SUMS.consignment`.
    Consignment,
    /// Of a file in an inbox: `a.dcm.disclosure`.
    Disclosure,
}

impl PaperKind {
    pub const ALL: [Self; 2] = [Self::Consignment, Self::Disclosure];

    /// Behind the name of what it is about; its signature has `.sig` behind that.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Consignment => ".consignment",
            Self::Disclosure => ".disclosure",
        }
    }
}

/// As it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paper {
    pub kind: PaperKind,
    /// Whose it is, and what it is about, in that user's view.
    pub user: UserName,
    pub path: VirtualPath,
    pub at: Time,
    pub event: u64,
    pub text: String,
    /// SSHSIG over `text`, namespace `receipt@sealdrop`.
    pub signature: String,
}

/// What a paper says; the ledger adds the number of its event, its own name, and signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaperFacts {
    Consignment(ConsignmentFacts),
    Disclosure(DisclosureFacts),
}

/// Somebody was sent what is in a drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisclosureFacts {
    pub drop: DropId,
    pub sha256: Digest,
    pub size: u64,
    pub sender: UserName,
    pub recipient: UserName,
    /// Of the key the recipient logged in with.
    pub key: Option<String>,
    pub address: std::net::IpAddr,
    /// In the recipient's view.
    pub path: VirtualPath,
    /// Bytes that went out, and whether that was every byte at least once.
    pub bytes: u64,
    pub whole: bool,
    pub at: Time,
    pub policy: Digest,
}

/// How a paper writes a path.
pub type Show<'a> = &'a mut dyn FnMut(&VirtualPath) -> Name;

impl PaperFacts {
    pub fn kind(&self) -> PaperKind {
        match self {
            Self::Consignment(_) => PaperKind::Consignment,
            Self::Disclosure(_) => PaperKind::Disclosure,
        }
    }

    /// The bytes that are signed.
    pub fn text(&self, server: &str, event: u64, show: Show<'_>) -> String {
        match self {
            Self::Consignment(facts) => facts.text(server, event, show),
            Self::Disclosure(facts) => facts.text(server, event, show),
        }
    }

    /// Whose it is, about what, and when.
    pub fn place(&self) -> (&UserName, &VirtualPath, Time) {
        match self {
            Self::Consignment(facts) => (&facts.sender, &facts.path, facts.closed),
            Self::Disclosure(facts) => (&facts.recipient, &facts.path, facts.at),
        }
    }
}

impl DisclosureFacts {
    fn text(&self, server: &str, event: u64, show: Show<'_>) -> String {
        let mut text = "sealdrop-disclosure/v1\n".to_owned();
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "{key} {value}");
        };
        line("server", &server);
        line("drop", &self.drop);
        line("sha256", &self.sha256);
        line("size", &self.size);
        line("sender", &self.sender);
        line("recipient", &format_args!("{} {}", self.recipient, self.key.as_deref().unwrap_or("-")));
        line("address", &self.address);
        line("path", &show(&self.path));
        line("disclosed", &if self.whole { "whole" } else { "part" });
        line("bytes", &self.bytes);
        line("at", &self.at);
        line("policy", &self.policy);
        line("event", &event);
        line("version", &env!("CARGO_PKG_VERSION"));
        text
    }
}

/// The key of a paper: behind its path, before every other one.
pub fn key(user: &UserName, path: &VirtualPath, kind: PaperKind) -> Vec<u8> {
    [&live::at(user, path)[..], &[0, kind as u8]].concat()
}

/// The key of a user's path of which this is the key, or that of a paper.
pub fn path_key(key: &[u8]) -> &[u8] {
    match key {
        [path @ .., 0, _] if path.contains(&0) => path,
        path => path,
    }
}

/// It takes the place of the one before.
pub fn put(plan: &mut Plan<'_>, paper: &Paper) -> Result<(), DatabaseError> {
    let key = key(&paper.user, &paper.path, paper.kind);
    if let Some(before) = plan.get_record::<Paper>(live::PAPERS, &key)? {
        plan.remove(live::PAPER_EVENTS, before.event.to_be_bytes().to_vec());
    }
    plan.put(live::PAPER_EVENTS, paper.event.to_be_bytes().to_vec(), key.clone());
    plan.put_record(live::PAPERS, key, paper)
}

impl Ledger {
    /// The paper that an event is about, if no newer one has taken its place.
    pub fn paper_of_event(&self, event: u64) -> Result<Option<Paper>, LedgerError> {
        let db = &self.core.live;
        let Some(key) = db.get(live::PAPER_EVENTS, &event.to_be_bytes())? else { return Ok(None) };
        Ok(db.get_record(live::PAPERS, &key)?)
    }

    /// The newest paper of a kind for a path, which may be as it is or escaped as a listing shows it.
    pub fn paper(&self, user: &UserName, path: &VirtualPath, kind: PaperKind) -> Result<Option<Paper>, LedgerError> {
        for path in super::listing::spellings(path) {
            let found: Option<Paper> = self.core.live.get_record(live::PAPERS, &key(user, &path, kind))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Of a path's key in any of the trees of paths.
    pub(super) fn papers_at(&self, path_key: &[u8]) -> Result<Vec<Paper>, DatabaseError> {
        let keys = PaperKind::ALL.map(|kind| [path_key, &[0, kind as u8]].concat());
        let found = keys.iter().map(|key| self.core.live.get_record(live::PAPERS, key));
        found.filter_map(Result::transpose).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disclosure_reads_like_this() {
        let facts = DisclosureFacts {
            drop: DropId([2; 16]),
            sha256: Digest([3; 32]),
            size: 10,
            sender: "acme".parse().unwrap(),
            recipient: "st-mary".parse().unwrap(),
            key: Some("SHA256:abc".to_owned()),
            address: [203, 0, 113, 9].into(),
            path: VirtualPath::parse(b"/inbox/acme/a\n.dcm").unwrap(),
            bytes: 4,
            whole: false,
            at: Time::parse_rfc3339("2026-11-22T01:03:11Z").unwrap(),
            policy: Digest([4; 32]),
        };
        let expected = format!(
            "sealdrop-disclosure/v1\nserver drop.example\ndrop 02020202020202020202020202020202\nsha256 {}\nsize 10\n\
             sender acme\nrecipient st-mary SHA256:abc\naddress 203.0.113.9\npath /inbox/acme/a\\x0a.dcm\n\
             disclosed part\nbytes 4\nat 2026-11-22T01:03:11Z\npolicy {}\nevent 9\nversion {}\n",
            Digest([3; 32]),
            Digest([4; 32]),
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(PaperFacts::Disclosure(facts).text("drop.example", 9, &mut |path| path.clone().into()), expected);
    }

    #[test]
    fn a_papers_key_leads_to_its_path() {
        let (user, path) = ("a".parse().unwrap(), VirtualPath::parse(b"/x").unwrap());
        assert_eq!(path_key(&key(&user, &path, PaperKind::Disclosure)), live::at(&user, &path));
        assert_eq!(path_key(&live::at(&user, &path)), live::at(&user, &path));
    }
}
