//! Audit events: one for every logical operation, the refused ones too. An event is a value until the committer gives
//! it a number and a salt; from then on it is its canonical JSON, byte for byte, and that is what the log hashes
//! (docs/ledger.md, "Canonical event"). No I/O here.

use std::net::IpAddr;

use super::record::Earlier;
use super::veil::{Name, Veil};
use crate::clock::Time;
use crate::names::{Digest, DropId, ReceiptId, SessionId, UserName, hex};
use crate::vpath::VirtualPath;

/// What happened, to whom, and how it ended. Whatever does not apply stays `None` and is left out of the JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Time,
    pub kind: Kind,
    pub outcome: Outcome,
    pub user: Option<UserName>,
    /// Fingerprint of the key that logged in: `SHA256:…`.
    pub key: Option<String>,
    pub address: Option<IpAddr>,
    pub session: Option<SessionId>,
    pub path: Option<VirtualPath>,
    /// Where a rename went.
    pub to: Option<VirtualPath>,
    pub drop: Option<DropId>,
    pub receipt: Option<ReceiptId>,
    /// SHA-256 of the receipt's text. The committer fills it in, so that the log commits to what the sender was given.
    pub receipt_sha256: Option<Digest>,
    pub bytes: Option<u64>,
    /// SHA-256 of the content.
    pub sha256: Option<Digest>,
    /// How long it took.
    pub ms: Option<u64>,
    pub detail: Option<String>,
    /// The policy in force.
    pub policy: Option<Digest>,
    /// The earlier receipt that this upload, or this rename, has to do with.
    pub earlier: Option<Earlier>,
    /// SHA-256 of the certificate's text, as of a receipt's.
    pub certificate_sha256: Option<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// A rule said no; which one.
    Refused(String),
    /// It should have worked; what went wrong.
    Failed(String),
}

impl Outcome {
    pub(super) fn why_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Done => None,
            Self::Refused(why) | Self::Failed(why) => Some(why),
        }
    }
}

impl Event {
    /// An event that was done, with nothing known yet but when and what; the caller sets the fields that apply.
    pub fn new(at: Time, kind: Kind) -> Self {
        Self {
            at,
            kind,
            outcome: Outcome::Done,
            user: None,
            key: None,
            address: None,
            session: None,
            path: None,
            to: None,
            drop: None,
            receipt: None,
            receipt_sha256: None,
            bytes: None,
            sha256: None,
            ms: None,
            detail: None,
            policy: None,
            earlier: None,
            certificate_sha256: None,
        }
    }

    #[must_use]
    pub fn refused(mut self, why: impl Into<String>) -> Self {
        self.outcome = Outcome::Refused(why.into());
        self
    }

    #[must_use]
    pub fn failed(mut self, why: impl Into<String>) -> Self {
        self.outcome = Outcome::Failed(why.into());
        self
    }

    /// The canonical JSON of this event as number `number` of the log. The salt keeps a leaf hash in somebody else's
    /// proof from confirming a guess of what the event says.
    pub fn canonical(&self, number: u64, salt: &[u8; 16]) -> String {
        let clear = |path: &Option<VirtualPath>| path.clone().map(Name::Clear);
        self.canonical_of(number, salt, &clear(&self.path), &clear(&self.to))
    }

    /// The same with its names hidden, in its members and in its words.
    pub fn hidden(mut self, number: u64, salt: &[u8; 16], veil: &mut Veil) -> String {
        let (path, to) = veil.cover(&mut self);
        self.canonical_of(number, salt, &path, &to)
    }

    fn canonical_of(&self, number: u64, salt: &[u8; 16], path: &Option<Name>, to: &Option<Name>) -> String {
        let mut json = Json::begin(number);
        json.text("at", &milliseconds(self.at));
        json.text("kind", self.kind.word());
        match &self.outcome {
            Outcome::Done => json.text("outcome", "done"),
            Outcome::Refused(why) => {
                json.text("outcome", "refused");
                json.text("why", why);
            }
            Outcome::Failed(why) => {
                json.text("outcome", "failed");
                json.text("why", why);
            }
        }
        json.shown("user", &self.user);
        json.shown("key", &self.key);
        json.shown("address", &self.address);
        json.shown("session", &self.session);
        json.shown("path", path);
        json.shown("to", to);
        json.shown("drop", &self.drop);
        json.shown("receipt", &self.receipt);
        json.shown("receipt_sha256", &self.receipt_sha256);
        json.number("bytes", self.bytes);
        json.shown("sha256", &self.sha256);
        json.number("ms", self.ms);
        json.shown("detail", &self.detail);
        json.shown("policy", &self.policy);
        if let Some((word, receipt)) = self.earlier.map(Earlier::told) {
            json.text(word, &receipt.to_string());
        }
        json.shown("certificate_sha256", &self.certificate_sha256);
        json.text("salt", &hex(salt));
        json.end()
    }
}

/// RFC 3339 in UTC with exactly three decimals.
fn milliseconds(at: Time) -> String {
    let seconds = at.rfc3339();
    format!("{}.{:03}Z", seconds.strip_suffix('Z').unwrap_or(&seconds), at.0 % 1000)
}

/// Members in the order they are given, no white space, strings escaped as serde_json does.
struct Json(String);

impl Json {
    fn begin(number: u64) -> Self {
        Self(format!("{{\"n\":{number}"))
    }

    fn text(&mut self, key: &str, value: &str) {
        self.0.push_str(&format!(",\"{key}\":{}", serde_json::Value::from(value)));
    }

    fn shown(&mut self, key: &str, value: &Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.text(key, &value.to_string());
        }
    }

    fn number(&mut self, key: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.0.push_str(&format!(",\"{key}\":{value}"));
        }
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// Each kind of event with its word in the JSON, in one table.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            pub const ALL: &[Kind] = &[$(Kind::$kind,)*];

            /// As it is written in canonical JSON, in filters and in tables.
            pub fn word(self) -> &'static str {
                match self { $(Kind::$kind => $word,)* }
            }

            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Kind::$kind),)* _ => None }
            }
        }
    };
}

kinds! {
    DaemonStarted = "daemon-started",
    DaemonStopped = "daemon-stopped",
    /// The last run did not end in order.
    CrashFound = "crash-found",
    /// The ledger had to repair itself at start; the detail says how.
    LedgerRecovered = "ledger-recovered",
    ClockStepped = "clock-stepped",
    LoggedIn = "logged-in",
    LoginRefused = "login-refused",
    LoggedOut = "logged-out",
    /// A session was ended from this side: rights withdrawn, or an admin said so.
    Revoked = "revoked",
    /// A session broke the rules of its conversation with the keeper and was ended.
    SessionBroken = "session-broken",
    UploadResumed = "upload-resumed",
    UploadCommitted = "upload-committed",
    UploadParked = "upload-parked",
    UploadAbandoned = "upload-abandoned",
    UploadRefused = "upload-refused",
    DownloadOpened = "download-opened",
    DownloadEnded = "download-ended",
    Listed = "listed",
    FolderMade = "folder-made",
    FolderRemoved = "folder-removed",
    Removed = "removed",
    Renamed = "renamed",
    TimesSet = "times-set",
    ReceiptRead = "receipt-read",
    OperationRefused = "operation-refused",
    Corrupt = "corrupt",
    SweepEnded = "sweep-ended",
    Expiring = "expiring",
    Expired = "expired",
    /// A drop is being destroyed before its time: who wanted it and why is the detail.
    Shredding = "shredding",
    Shredded = "shredded",
    /// A certificate was signed: the drop is destroyed, and the key that its copies need.
    DestructionCertified = "destruction-certified",
    /// Who asks for a drop to be given out for its escrow identity, and why.
    BreakGlassRequested = "break-glass-requested",
    BreakGlassApproved = "break-glass-approved",
    BreakGlassOpened = "break-glass-opened",
    /// Something that needs a second person was asked for: what, who and why is the detail.
    ApprovalAsked = "approval-asked",
    ApprovalGiven = "approval-given",
    /// A second person said no, or who asked took it back.
    ApprovalRefused = "approval-refused",
    /// What was approved is about to be done; the approval is for nothing else.
    ApprovalUsed = "approval-used",
    ApprovalExpired = "approval-expired",
    Held = "held",
    Released = "released",
    /// A drop that the ledger had lost, made known again from its sealed file.
    DropRecovered = "drop-recovered",
    ShredKeyMade = "shred-key-made",
    ShredKeyDestroyed = "shred-key-destroyed",
    /// A user's identity: somebody is sealed to who was not before.
    KeyMade = "key-made",
    /// Which keys this run signs with and shows to clients.
    KeysLoaded = "keys-loaded",
    /// Keys are being replaced; the detail says which, who asked, and why.
    RotationBegun = "rotation-begun",
    RotationEnded = "rotation-ended",
    /// A drop that was there already has other recipients, or other keys of theirs; the detail says which.
    Readdressed = "readdressed",
    PolicyLoaded = "policy-loaded",
    PolicyRefused = "policy-refused",
    AdminCommand = "admin-command",
    /// Something is wrong, or soon will be; the detail says what.
    AlarmRaised = "alarm-raised",
    /// It is not so any more, or an admin has seen it.
    AlarmCleared = "alarm-cleared",
    /// The hook took an alarm, or its end.
    NoticeTold = "notice-told",
    /// A notice did not reach the hook, and is not tried again.
    NoticeLost = "notice-lost",
    /// A digest was given out of the ledger.
    DigestRead = "digest-read",
    /// What became of a drop was told.
    StatusRead = "status-read",
    /// What was uploaded is there already, delivered to the same recipients: receipted, and not delivered again.
    UploadDuplicate = "upload-duplicate",
    /// A list of files was received, and is compared with what comes.
    ConsignmentOpened = "consignment-opened",
    /// All it names has come, or its time is over: receipted as it stands.
    ConsignmentClosed = "consignment-closed",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_is_these_bytes_for_ever() {
        let mut least = Event::new(Time(1_795_308_143_007), Kind::DaemonStarted);
        assert_eq!(
            least.canonical(0, &[0; 16]),
            r#"{"n":0,"at":"2026-11-22T00:42:23.007Z","kind":"daemon-started","outcome":"done","salt":"00000000000000000000000000000000"}"#
        );
        least.outcome = Outcome::Failed("the \"disk\"\nis full".to_owned());
        assert_eq!(
            least.canonical(1, &[0xab; 16]),
            r#"{"n":1,"at":"2026-11-22T00:42:23.007Z","kind":"daemon-started","outcome":"failed","why":"the \"disk\"\nis full","salt":"abababababababababababababababab"}"#
        );
        let whole = Event {
            at: Time(1_795_308_143_120),
            kind: Kind::UploadCommitted,
            outcome: Outcome::Done,
            user: Some("acme".parse().unwrap()),
            key: Some("SHA256:abc".to_owned()),
            address: Some("203.0.113.9".parse().unwrap()),
            session: Some(SessionId(5)),
            path: Some(VirtualPath::parse(b"/radiology/a\xff.dcm").unwrap()),
            to: Some(VirtualPath::parse("/ü".as_bytes()).unwrap()),
            drop: Some(DropId([1; 16])),
            receipt: Some(ReceiptId([2; 16])),
            receipt_sha256: Some(Digest([3; 32])),
            bytes: Some(3),
            sha256: Some(Digest([4; 32])),
            ms: Some(12),
            detail: Some("x".to_owned()),
            policy: Some(Digest([5; 32])),
            earlier: Some(Earlier::Replaces(ReceiptId([7; 16]))),
            certificate_sha256: Some(Digest([8; 32])),
        };
        assert_eq!(
            whole.canonical(u64::MAX, &[6; 16]),
            concat!(
                r#"{"n":18446744073709551615,"at":"2026-11-22T00:42:23.120Z","kind":"upload-committed","outcome":"done","#,
                r#""user":"acme","key":"SHA256:abc","address":"203.0.113.9","session":"0000000000000005","#,
                r#""path":"/radiology/a\\xff.dcm","to":"/ü","drop":"01010101010101010101010101010101","#,
                r#""receipt":"02020202020202020202020202020202","#,
                r#""receipt_sha256":"0303030303030303030303030303030303030303030303030303030303030303","bytes":3,"#,
                r#""sha256":"0404040404040404040404040404040404040404040404040404040404040404","ms":12,"detail":"x","#,
                r#""policy":"0505050505050505050505050505050505050505050505050505050505050505","#,
                r#""replaces":"07070707070707070707070707070707","#,
                r#""certificate_sha256":"0808080808080808080808080808080808080808080808080808080808080808","#,
                r#""salt":"06060606060606060606060606060606"}"#
            )
        );
    }

    #[test]
    fn every_kind_has_its_own_word() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_word(kind.word()), Some(*kind));
            assert!(kind.word().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
        }
    }
}
