//! Certificates of destruction: a signed text that says of one drop when it was destroyed, by what rule or whose order, when
//! the key that its copies need was destroyed, and what that does not reach. Laid out like a receipt, signed like one
//! (docs/ledger.md, "Certificate text"). Given when both are done, and once.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::live::CERTIFICATES;
use super::receipt::with_key;
use super::record::{DropRecord, Order};
use super::store::{Ledger, LedgerError};
use super::veil::Name;
use crate::clock::Time;
use crate::names::{Digest, DropId, FileName, ReceiptId, UserName, escaped};
use crate::vpath::VirtualPath;

/// What the signature over a certificate is for, in SSHSIG's sense.
pub const CERTIFICATE_NAMESPACE: &str = "destroyed@sealdrop";

const FIRST_LINE: &str = "sealdrop-destroyed/v1";

/// Of a drop that had a shred key.
const COVERS_ALL: &str = "the server's copy, and every copy and backup of it as it was kept there";
/// Of one that had none, since it would never have expired.
const COVERS_SERVER: &str = "the server's copy; not backups of it, since what never expires has no shred key";
const EXCEPT: &str = "copies that recipients pulled, and copies of the shred key, if any were made";

/// What the keeper knows of a destruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    pub drop: DropId,
    pub receipt: ReceiptId,
    pub sha256: Digest,
    pub size: u64,
    pub sender: UserName,
    pub sender_key: Option<String>,
    pub recipients: Vec<CertifiedRecipient>,
    /// As in the receipt.
    pub path: Name,
    pub received: Time,
    pub expires: Option<Time>,
    /// The order to shred it; `None`: it expired.
    pub order: Option<Order>,
    /// When the server's own names of it were gone.
    pub destroyed: Time,
    /// `None`: it had no shred key.
    pub key_destroyed: Option<Time>,
}

/// A recipient, and how often it pulled the whole drop.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertifiedRecipient {
    pub user: UserName,
    /// The key it was sealed to, if that is known.
    pub key: Option<String>,
    pub pulled: u32,
}

/// A certificate as it was given: never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRecord {
    pub drop: DropId,
    pub at: Time,
    pub text: String,
    /// SSHSIG over `text`, namespace `destroyed@sealdrop`.
    pub signature: String,
}

/// Which of a certificate's two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificatePart {
    /// `NAME.destroyed`
    Text,
    /// `NAME.destroyed.sig`
    Signature,
}

impl CertificatePart {
    /// In the order of a listing.
    pub const ALL: [Self; 2] = [Self::Text, Self::Signature];

    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Text => ".destroyed",
            Self::Signature => ".destroyed.sig",
        }
    }

    pub fn of(self, record: &CertificateRecord) -> &str {
        match self {
            Self::Text => &record.text,
            Self::Signature => &record.signature,
        }
    }

    /// What the certificate is of, and which of its files `name` is.
    pub(super) fn split(name: &[u8]) -> Option<(&[u8], Self)> {
        let found = Self::ALL.into_iter().find_map(|part| Some((name.strip_suffix(part.suffix().as_bytes())?, part)));
        found.filter(|(of, _)| !of.is_empty())
    }
}

impl CertificateFacts {
    /// The bytes that are signed. Times are whole seconds.
    pub fn text(&self, server: &str, event: u64) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "{key} {value}");
        };
        line("server", &server);
        line("receipt", &self.receipt);
        line("drop", &self.drop);
        line("sha256", &self.sha256);
        line("size", &self.size);
        line("sender", &with_key(&self.sender, self.sender_key.as_deref()));
        let mut recipients = self.recipients.clone();
        recipients.sort();
        for CertifiedRecipient { user, key, pulled } in &recipients {
            line("recipient", &format_args!("{} pulled {pulled}", with_key(user, key.as_deref())));
        }
        line("path", &self.path);
        line("received", &self.received);
        match &self.expires {
            Some(at) => line("expires", at),
            None => line("expires", &"never"),
        }
        match &self.order {
            Some(order) => {
                line("rule", &"shred");
                line("by", &escaped(order.by.as_bytes()));
                line("reason", &escaped(order.reason.as_bytes()));
                line("ordered", &order.at);
            }
            None => line("rule", &"expiry"),
        }
        line("destroyed", &self.destroyed);
        match &self.key_destroyed {
            Some(at) => line("key-destroyed", at),
            None => line("key-destroyed", &"none"),
        }
        line("covers", &if self.key_destroyed.is_some() { COVERS_ALL } else { COVERS_SERVER });
        line("except", &EXCEPT);
        line("event", &event);
        line("version", &env!("CARGO_PKG_VERSION"));
        text
    }
}

impl Ledger {
    pub fn certificate(&self, drop: &DropId) -> Result<Option<CertificateRecord>, LedgerError> {
        Ok(self.core.live.get_record(CERTIFICATES, &drop.0)?)
    }

    /// The file that `path` below `/receipts` stands for: `/radiology/a.dcm.destroyed.sig`.
    pub fn certificate_file(
        &self,
        user: &UserName,
        path: &VirtualPath,
    ) -> Result<Option<(CertificateRecord, CertificatePart)>, LedgerError> {
        for path in super::listing::spellings(path) {
            let (Some(dir), Some(name)) = (path.parent(), path.name()) else { continue };
            let Some((of, part)) = CertificatePart::split(name.as_bytes()) else { continue };
            let Some(of) = FileName::new(of).ok().and_then(|name| dir.join(&name).ok()) else { continue };
            let Some(receipt) = self.receipt_at(user, &of)? else { continue };
            if let Some(certificate) = self.certificate(&receipt.drop)? {
                return Ok(Some((certificate, part)));
            }
        }
        Ok(None)
    }

    /// Drops of a bucket that have expired and have no certificate yet.
    pub fn uncertified(&self, bucket: u64, limit: usize) -> Result<Vec<DropRecord>, LedgerError> {
        let prefix = bucket.to_be_bytes();
        self.drops_in(super::live::UNCERTIFIED, &prefix, &prefix, limit)
    }

    /// Drops whose envelopes are being wrapped under another bucket, or were when a crash came.
    pub fn moving(&self, limit: usize) -> Result<Vec<DropRecord>, LedgerError> {
        self.drops_in(super::live::MOVING, &[], &[], limit)
    }

    /// The drops at the ends of the keys of an index.
    fn drops_in(&self, tree: usize, prefix: &[u8], start: &[u8], limit: usize) -> Result<Vec<DropRecord>, LedgerError> {
        let db = &self.core.live;
        let mut found = Vec::new();
        for pair in db.range(tree, start).take(limit) {
            let (key, _) = pair?;
            if !key.starts_with(prefix) {
                break;
            }
            let id = key.last_chunk::<16>().map(|id| DropId(*id)).ok_or_else(|| db.unreadable(tree))?;
            found.extend(self.drop_record(&id)?);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ordered;

    fn facts() -> CertificateFacts {
        CertificateFacts {
            drop: DropId([2; 16]),
            receipt: ReceiptId([1; 16]),
            sha256: Digest([3; 32]),
            size: 3,
            sender: "acme".parse().unwrap(),
            sender_key: Some("SHA256:abc".to_owned()),
            recipients: vec![
                CertifiedRecipient { user: "st-mary".parse().unwrap(), key: None, pulled: 2 },
                CertifiedRecipient { user: "lab".parse().unwrap(), key: Some("SHA256:def".to_owned()), pulled: 0 },
            ],
            path: VirtualPath::parse(b"/radiology/a b\xff\n.dcm").unwrap().into(),
            received: Time(1_795_308_143_999),
            expires: Some(Time(1_795_567_343_999)),
            order: None,
            destroyed: Time(1_795_567_343_999),
            key_destroyed: Some(Time(1_795_568_400_000)),
        }
    }

    #[test]
    fn a_certificate_reads_like_this() {
        let version = env!("CARGO_PKG_VERSION");
        let zeros = "03".repeat(32);
        let expected = format!(
            "sealdrop-destroyed/v1\n\
             server drop.example\n\
             receipt 01010101010101010101010101010101\n\
             drop 02020202020202020202020202020202\n\
             sha256 {zeros}\n\
             size 3\n\
             sender acme SHA256:abc\n\
             recipient lab SHA256:def pulled 0\n\
             recipient st-mary - pulled 2\n\
             path /radiology/a b\\xff\\x0a.dcm\n\
             received 2026-11-22T00:42:23Z\n\
             expires 2026-11-25T00:42:23Z\n\
             rule expiry\n\
             destroyed 2026-11-25T00:42:23Z\n\
             key-destroyed 2026-11-25T01:00:00Z\n\
             covers the server's copy, and every copy and backup of it as it was kept there\n\
             except copies that recipients pulled, and copies of the shred key, if any were made\n\
             event 1234\n\
             version {version}\n"
        );
        assert_eq!(facts().text("drop.example", 1234), expected);
    }

    #[test]
    fn what_a_person_wrote_makes_no_line_of_its_own() {
        let order = Order {
            what: Ordered::Shred,
            by: "uid 0".to_owned(),
            reason: "sent\nevent 9".to_owned(),
            at: Time(1_795_308_144_000),
        };
        let text = CertificateFacts { order: Some(order), key_destroyed: None, ..facts() }.text("drop.example", 1);
        assert!(
            text.contains("\nrule shred\nby uid 0\nreason sent\\x0aevent 9\nordered 2026-11-22T00:42:24Z\n"),
            "{text}"
        );
        assert!(text.contains("\nkey-destroyed none\ncovers the server's copy; not backups"), "{text}");
        assert_eq!(text.matches("\nevent ").count(), 1);
    }
}
