//! Receipts: the text a sender keeps, and the two signatures that make it evidence. The text is fixed in order and one
//! fact to a line, so that a person and `grep` read it alike; the signatures are SSHSIG, so that checking them needs
//! nothing of ours: `ssh-keygen -Y verify`. The layout is docs/ledger.md, "Receipt text". No I/O here.

use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::signature::Ed25519KeyPair;
use russh::keys::signature::{self, Signer as Signs};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{self, LineEnding, Signature, SshSig};
use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey};

use super::certificate::CERTIFICATE_NAMESPACE;
use super::origin::Origin;
use super::record::Earlier;
use super::veil::Name;
use crate::clock::Time;
use crate::names::{Digest, DropId, ReceiptId, UserName, escaped, unescaped};
use crate::vpath::VirtualPath;

/// What the signature over a receipt's text is for, in SSHSIG's sense.
pub const RECEIPT_NAMESPACE: &str = "receipt@sealdrop";
/// The signature over the content itself.
pub const CONTENT_NAMESPACE: &str = "content@sealdrop";
/// The signature over a checkpoint of the log.
pub const CHECKPOINT_NAMESPACE: &str = "checkpoint@sealdrop";

/// The first line: what this is and how to read the rest.
const FIRST_LINE: &str = "sealdrop-receipt/v1";

/// What the keeper knows when an upload is committed; the ledger adds the event's number and its own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptFacts {
    pub id: ReceiptId,
    pub drop: DropId,
    pub sender: UserName,
    /// Fingerprint of the key the sender logged in with: `SHA256:…`. `None` after a password login.
    pub sender_key: Option<String>,
    pub recipients: Vec<ReceiptRecipient>,
    /// The key of the offline recipient that it was sealed to as well.
    pub escrow: Option<String>,
    /// The sender had sealed it to these keys: size and digest are those of the sealed file.
    pub end_to_end: bool,
    /// The folder whose policy applied.
    pub folder: VirtualPath,
    /// The file, in the sender's view.
    pub path: Name,
    pub earlier: Option<Earlier>,
    /// What was checked of the sender's own signature.
    pub origin: Option<Origin>,
    pub size: u64,
    pub sha256: Digest,
    pub received: Time,
    /// Of a duplicate: when what was delivered before does.
    pub expires: Option<Time>,
    /// How often each recipient may pick it up; when none may any more, it expires.
    pub pickups: Option<u32>,
    pub policy: Digest,
}

/// One recipient and the public key the file was sealed to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReceiptRecipient {
    pub user: UserName,
    pub key: Option<String>,
}

/// A receipt's text, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub server: String,
    pub facts: ReceiptFacts,
    /// The number of its event in the log.
    pub event: u64,
    /// Of the software that wrote it.
    pub version: String,
}

/// Why a text is not a receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    #[error("this is not a receipt: its first line is not `{FIRST_LINE}`")]
    NotAReceipt,
    #[error("the receipt's line {line} should be `{expected} …`")]
    Line { line: usize, expected: &'static str },
    #[error("the receipt is not in the one form a receipt has")]
    NotCanonical,
}

/// The key receipts are signed with, and the name of the server they are signed for.
#[derive(Clone)]
pub struct Signer {
    server: String,
    key: PrivateKey,
    /// The same, where it is of Ed25519: ssh-key computes its public half again for each signature, which is half of the work,
    /// and a receipt has two signatures that its sender waits for.
    pair: Option<Arc<Ed25519KeyPair>>,
}

/// What SSHSIG wants of a key that signs.
impl Signs<Signature> for Signer {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, signature::Error> {
        let Some(pair) = &self.pair else { return self.key.try_sign(message) };
        let signature = pair.try_sign(message).map_err(|_| signature::Error::new())?;
        Signature::new(Algorithm::Ed25519, signature.as_ref()).map_err(|_| signature::Error::new())
    }
}

impl From<&Signer> for KeyData {
    fn from(signer: &Signer) -> Self {
        signer.public_key().key_data().clone()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("`{0}` cannot be the server's name in receipts: it must be 1 to 253 of a-z A-Z 0-9 . _ -")]
    ServerName(String),
    #[error("the receipt key is encrypted; it must be readable without a passphrase")]
    Encrypted,
    #[error("the receipt key cannot sign: {0}")]
    Key(#[from] ssh_key::Error),
}

impl Signer {
    /// The name becomes the principal in `allowed_signers`, where blanks, commas and wildcards mean something else.
    pub fn new(server: &str, key: PrivateKey) -> Result<Self, SignError> {
        let plain = server.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if server.is_empty() || server.len() > 253 || !plain {
            return Err(SignError::ServerName(escaped(server.as_bytes())));
        }
        if key.is_encrypted() {
            return Err(SignError::Encrypted);
        }
        let pair = key.key_data().ed25519().and_then(|both| {
            Ed25519KeyPair::from_seed_and_public_key(both.private.as_ref(), both.public.as_ref()).ok()
        });
        Ok(Self { server: server.to_owned(), key, pair: pair.map(Arc::new) })
    }

    pub fn server(&self) -> &str {
        &self.server
    }

    pub fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    pub(super) fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The line for an `allowed_signers` file that accepts this server's receipts and nothing else from its key.
    pub fn allowed_signer(&self) -> Result<String, SignError> {
        let mut key = self.key.public_key().clone();
        key.set_comment("");
        Ok(format!(
            "{} namespaces=\"{RECEIPT_NAMESPACE},{CONTENT_NAMESPACE},{CHECKPOINT_NAMESPACE},{CERTIFICATE_NAMESPACE}\" {}\n",
            self.server,
            key.to_openssh()?.trim_end()
        ))
    }

    /// Signs bytes as `ssh-keygen -Y sign -n NAMESPACE` does.
    pub fn sign(&self, namespace: &str, bytes: &[u8]) -> Result<String, SignError> {
        self.sign_digest(namespace, HashAlg::Sha512, &HashAlg::Sha512.digest(bytes))
    }

    /// Signs content that is known by its SHA-256 alone. SSHSIG signs the digest of the message, and SHA-256 is one of
    /// the two digests it allows, so the result is exactly what signing the content itself would have given.
    pub fn sign_content(&self, sha256: &Digest) -> Result<String, SignError> {
        self.sign_digest(CONTENT_NAMESPACE, HashAlg::Sha256, &sha256.0)
    }

    fn sign_digest(&self, namespace: &str, hash: HashAlg, digest: &[u8]) -> Result<String, SignError> {
        Ok(SshSig::sign_prehash(self, namespace, hash, digest)?.to_pem(LineEnding::LF)?)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({}, {})", self.server, self.key.fingerprint(HashAlg::Sha256))
    }
}

/// Whether `signature` is `key`'s over `bytes` in `namespace`.
pub fn signature_holds(key: &PublicKey, namespace: &str, bytes: &[u8], signature: &SshSig) -> bool {
    key.verify(namespace, bytes, signature).is_ok()
}

impl Receipt {
    pub fn new(server: &str, event: u64, mut facts: ReceiptFacts) -> Self {
        facts.recipients.sort();
        // A receipt speaks in whole seconds, so what is parsed back is what was written.
        facts.received = Time::from_unix_seconds(facts.received.unix_seconds());
        facts.expires = facts.expires.map(|at| Time::from_unix_seconds(at.unix_seconds()));
        Self { server: server.to_owned(), facts, event, version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    /// The bytes that are signed.
    pub fn text(&self) -> String {
        let facts = &self.facts;
        let mut text = format!("{FIRST_LINE}\n");
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "{key} {value}");
        };
        line("server", &self.server);
        line("receipt", &facts.id);
        line("drop", &facts.drop);
        line("sha256", &facts.sha256);
        line("size", &facts.size);
        line("sender", &with_key(&facts.sender, facts.sender_key.as_deref()));
        for recipient in &facts.recipients {
            line("recipient", &with_key(&recipient.user, recipient.key.as_deref()));
        }
        if let Some(key) = &facts.escrow {
            line("escrow", key);
        }
        if facts.end_to_end {
            line("sealed", &"end-to-end");
        }
        line("folder", &facts.folder);
        line("path", &facts.path);
        if let Some((word, receipt)) = facts.earlier.map(Earlier::told) {
            line(word, &receipt);
        }
        match &facts.origin {
            Some(Origin::Signed { key, signature }) => line("signed", &format_args!("{} {signature}", graphic(key))),
            Some(Origin::Signs { receipt, sha256, key }) => {
                line("signs", &format_args!("{receipt} {sha256} {}", graphic(key)));
            }
            None => {}
        }
        line("received", &facts.received);
        match &facts.expires {
            Some(at) => line("expires", at),
            None => line("expires", &"never"),
        }
        if let Some(most) = &facts.pickups {
            line("pickups", most);
        }
        line("policy", &facts.policy);
        line("event", &self.event);
        line("version", &self.version);
        text
    }

    /// Reads a receipt back, and refuses any text that is not exactly what [`Receipt::text`] writes.
    pub fn parse(text: &str) -> Result<Self, ReceiptError> {
        let mut lines = text.split('\n').enumerate().skip(1).peekable();
        if text.split('\n').next() != Some(FIRST_LINE) {
            return Err(ReceiptError::NotAReceipt);
        }
        macro_rules! take {
            ($key:literal, $read:expr) => {{
                let (at, line) = lines.next().unwrap_or_default();
                let wrong = ReceiptError::Line { line: at + 1, expected: $key };
                line.strip_prefix(concat!($key, " ")).and_then($read).ok_or(wrong)?
            }};
        }
        let server = take!("server", |v| Some(v.to_owned()));
        let id = take!("receipt", |v| v.parse().ok());
        let drop = take!("drop", |v| v.parse().ok());
        let sha256 = take!("sha256", |v| v.parse().ok());
        let size = take!("size", |v| v.parse().ok());
        let (sender, sender_key) = take!("sender", user_and_key);
        let mut recipients = Vec::new();
        while lines.peek().is_some_and(|(_, line)| line.starts_with("recipient ")) {
            let (user, key) = take!("recipient", user_and_key);
            recipients.push(ReceiptRecipient { user, key });
        }
        let has_escrow = lines.peek().is_some_and(|(_, line)| line.starts_with("escrow "));
        let escrow = if has_escrow { Some(take!("escrow", |v| Some(v.to_owned()))) } else { None };
        let end_to_end = lines.next_if(|(_, line)| *line == "sealed end-to-end").is_some();
        let folder = take!("folder", path);
        let path = take!("path", |v| Name::parse(v, path));
        let earlier = match lines.peek().and_then(|(_, line)| line.split(' ').next()) {
            Some("replaces") => Some(Earlier::Replaces(take!("replaces", |v| v.parse().ok()))),
            Some("duplicate") => Some(Earlier::Duplicate(take!("duplicate", |v| v.parse().ok()))),
            _ => None,
        };
        let origin = match lines.peek().and_then(|(_, line)| line.split(' ').next()) {
            Some("signed") => Some(take!("signed", signed)),
            Some("signs") => Some(take!("signs", signs)),
            _ => None,
        };
        let received = take!("received", Time::parse_rfc3339);
        let expires = take!("expires", |v| if v == "never" { Some(None) } else { Time::parse_rfc3339(v).map(Some) });
        let has_pickups = lines.peek().is_some_and(|(_, line)| line.starts_with("pickups "));
        let pickups = if has_pickups { Some(take!("pickups", |v| v.parse().ok())) } else { None };
        let policy = take!("policy", |v| v.parse().ok());
        let event = take!("event", |v| v.parse().ok());
        let version = take!("version", |v| Some(v.to_owned()));
        let facts = ReceiptFacts {
            id,
            drop,
            sender,
            sender_key,
            recipients,
            escrow,
            end_to_end,
            folder,
            path,
            earlier,
            origin,
            size,
            sha256,
            received,
            expires,
            pickups,
            policy,
        };
        let receipt = Self { server, facts, event, version };
        if receipt.text() == text { Ok(receipt) } else { Err(ReceiptError::NotCanonical) }
    }
}

/// A fingerprint has no blank and no line end; what has is none, and must not write a line of its own.
fn graphic(key: &str) -> &str {
    if !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic()) { key } else { "-" }
}

pub(super) fn with_key(user: &UserName, key: Option<&str>) -> String {
    format!("{user} {}", key.map_or("-", graphic))
}

fn signed(value: &str) -> Option<Origin> {
    let (key, signature) = value.split_once(' ')?;
    Some(Origin::Signed { key: key.to_owned(), signature: signature.parse().ok()? })
}

fn signs(value: &str) -> Option<Origin> {
    let (receipt, rest) = value.split_once(' ')?;
    let (sha256, key) = rest.split_once(' ')?;
    Some(Origin::Signs { receipt: receipt.parse().ok()?, sha256: sha256.parse().ok()?, key: key.to_owned() })
}

fn user_and_key(value: &str) -> Option<(UserName, Option<String>)> {
    let (user, key) = value.split_once(' ')?;
    Some((user.parse().ok()?, (key != "-").then(|| key.to_owned())))
}

fn path(value: &str) -> Option<VirtualPath> {
    VirtualPath::parse(&unescaped(value)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn receipt() -> Receipt {
        let fact = |user: &str, key: &str| ReceiptRecipient { user: user.parse().unwrap(), key: Some(key.to_owned()) };
        let facts = ReceiptFacts {
            id: ReceiptId([1; 16]),
            drop: DropId([2; 16]),
            sender: "acme".parse().unwrap(),
            sender_key: Some("SHA256:abc".to_owned()),
            recipients: vec![fact("st-mary", "SHA256:def"), fact("lab", "SHA256:ghi")],
            escrow: Some("SHA256:esc".to_owned()),
            end_to_end: false,
            folder: VirtualPath::parse(b"/radiology").unwrap(),
            path: VirtualPath::parse(b"/radiology/a b\xff\n.dcm").unwrap().into(),
            earlier: Some(Earlier::Replaces(ReceiptId([5; 16]))),
            origin: None,
            size: 3,
            sha256: Digest([3; 32]),
            received: Time(1_795_308_143_999),
            expires: Some(Time(1_795_567_343_999)),
            pickups: None,
            policy: Digest([4; 32]),
        };
        Receipt::new("drop.example", 1234, facts)
    }

    #[test]
    fn a_receipt_reads_like_this() {
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            "sealdrop-receipt/v1\n\
             server drop.example\n\
             receipt 01010101010101010101010101010101\n\
             drop 02020202020202020202020202020202\n\
             sha256 0303030303030303030303030303030303030303030303030303030303030303\n\
             size 3\n\
             sender acme SHA256:abc\n\
             recipient lab SHA256:ghi\n\
             recipient st-mary SHA256:def\n\
             escrow SHA256:esc\n\
             folder /radiology\n\
             path /radiology/a b\\xff\\x0a.dcm\n\
             replaces 05050505050505050505050505050505\n\
             received 2026-11-22T00:42:23Z\n\
             expires 2026-11-25T00:42:23Z\n\
             policy 0404040404040404040404040404040404040404040404040404040404040404\n\
             event 1234\n\
             version {version}\n"
        );
        assert_eq!(receipt().text(), expected);
        assert_eq!(Receipt::parse(&expected), Ok(receipt()));
    }

    #[test]
    fn what_was_sealed_end_to_end_is_called_so() {
        let mut made = receipt();
        (made.facts.end_to_end, made.facts.escrow) = (true, None);
        let text = made.text();
        assert!(text.contains("\nrecipient st-mary SHA256:def\nsealed end-to-end\nfolder "), "{text}");
        assert_eq!(Receipt::parse(&text), Ok(made));
        assert!(Receipt::parse(&text.replace("end-to-end", "sealed")).is_err());
    }

    #[test]
    fn a_receipt_says_how_often_the_drop_may_be_picked_up() {
        let mut made = receipt();
        (made.facts.pickups, made.facts.expires) = (Some(2), None);
        let text = made.text();
        assert!(text.contains("\nexpires never\npickups 2\npolicy "), "{text}");
        assert_eq!(Receipt::parse(&text), Ok(made));
        assert!(Receipt::parse(&text.replace("pickups 2", "pickups 02")).is_err());
    }

    #[test]
    fn a_receipt_names_at_most_one_earlier_one() {
        let mut made = receipt();
        made.facts.earlier = Some(Earlier::Duplicate(ReceiptId([5; 16])));
        let text = made.text();
        assert!(text.contains("\nduplicate 05050505050505050505050505050505\nreceived "), "{text}");
        assert_eq!(Receipt::parse(&text), Ok(made.clone()));
        let both = text.replace("\nduplicate ", "\nreplaces 05050505050505050505050505050505\nduplicate ");
        assert!(Receipt::parse(&both).is_err());
        made.facts.earlier = None;
        assert_eq!(Receipt::parse(&made.text()), Ok(made));
    }

    #[test]
    fn a_receipt_names_its_senders_signature_or_what_that_is_over() {
        let (key, hash) = ("SHA256:abc".to_owned(), Digest([6; 32]));
        let mut made = receipt();
        made.facts.origin = Some(Origin::Signed { key: key.clone(), signature: hash });
        assert!(made.text().contains(&format!("\nsigned SHA256:abc {hash}\nreceived ")), "{}", made.text());
        assert_eq!(Receipt::parse(&made.text()), Ok(made.clone()));
        made.facts.origin = Some(Origin::Signs { receipt: ReceiptId([7; 16]), sha256: hash, key });
        assert!(made.text().contains(&format!("\nsigns {} {hash} SHA256:abc\nreceived ", ReceiptId([7; 16]))));
        assert_eq!(Receipt::parse(&made.text()), Ok(made.clone()));
        assert!(Receipt::parse(&made.text().replace("\nsigns ", "\nsigns x")).is_err());
    }

    #[test]
    fn a_text_that_is_not_exactly_a_receipt_is_none() {
        let text = receipt().text();
        assert_eq!(Receipt::parse(""), Err(ReceiptError::NotAReceipt));
        assert_eq!(Receipt::parse(&text.replace("v1", "v2")), Err(ReceiptError::NotAReceipt));
        assert_eq!(
            Receipt::parse(&text.replace("size 3", "size x")),
            Err(ReceiptError::Line { line: 6, expected: "size" })
        );
        for changed in [
            text.replace("size 3", "size 03"),
            text.replace("0101", "0A01"),
            text.replace("Z\n", "+00:00\n"),
            format!("{text}more\n"),
            text.trim_end().to_owned(),
        ] {
            assert!(Receipt::parse(&changed).is_err(), "{changed}");
        }
        for (at, _) in text.match_indices('\n') {
            assert!(Receipt::parse(&text[..at]).is_err());
        }
    }

    proptest! {
        #[test]
        fn a_receipt_for_any_path_comes_back(path in proptest::collection::vec(any::<u8>(), 0..60), size: u64, at in 0..4_000_000_000_000_u64) {
            let mut made = receipt();
            if let Ok(path) = VirtualPath::parse(&path) {
                made.facts.path = path.into();
            }
            made.facts.size = size;
            made.facts.received = Time(at);
            let made = Receipt::new(&made.server, made.event, made.facts);
            prop_assert_eq!(Receipt::parse(&made.text()), Ok(made));
        }

        #[test]
        fn any_text_is_read_without_panic(text: String) {
            let _ = Receipt::parse(&text);
            let _ = Receipt::parse(&format!("{FIRST_LINE}\n{text}"));
        }
    }
}
