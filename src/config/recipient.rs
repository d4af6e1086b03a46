//! Whether a text is a recipient, `sealdrop1…` or an SSH key, that files can be sealed to; if not, what to do about it; and
//! what a recipient's stanza takes of an envelope. Pure.

use crate::policy::{self, Inbox};
use crate::seal::{Kem, KeyTextError, Recipient};

/// The recipient; or the message and the hint, if it is none.
pub fn check(text: &str) -> Result<Recipient, (String, String)> {
    const PASTE: &str =
        "paste the line that `sealdrop keygen` printed, beginning with sealdrop1, or that of an id_ed25519.pub";
    let error = match text.parse::<Recipient>() {
        Ok(recipient) => return Ok(recipient),
        Err(error) => error,
    };
    let ssh = text.starts_with("ssh-");
    let (message, hint) = match error {
        KeyTextError::IdentityForRecipient => (
            "this is an identity, the private half",
            "treat it as lost: make another with `sealdrop keygen`, and give its sealdrop1… line",
        ),
        KeyTextError::Checksum => {
            ("the checksum of this recipient is wrong", "part of it is missing or changed: copy it again")
        }
        KeyTextError::Kind => (
            "this recipient is of a kind unknown here",
            "was it made by a later release? make it with this one's `sealdrop keygen`",
        ),
        KeyTextError::Key if ssh => (
            "this is not an SSH key",
            "part of it is missing or changed: copy the one line of the id_ed25519.pub again",
        ),
        KeyTextError::Key => ("this recipient is not a valid key", "make another with `sealdrop keygen`"),
        KeyTextError::SshKind => (
            "of SSH keys, only ssh-ed25519 can be sealed to",
            "give the line of an id_ed25519.pub without options before it, or make a key with `sealdrop keygen`",
        ),
        _ if text.starts_with("age1") => ("this is another kind of key", PASTE),
        _ => ("this is not a recipient", PASTE),
    };
    Err((message.to_owned(), hint.to_owned()))
}

/// What a user's inbox means for an envelope.
pub struct Stanza {
    pub length: usize,
    pub post_quantum: bool,
}

/// `None` for a text that [`check`] has refused.
pub fn of(inbox: &Inbox) -> Option<Stanza> {
    match inbox {
        Inbox::Managed { kem } => {
            let kem = match kem {
                policy::Kem::P256 => Kem::P256,
                policy::Kem::X25519 => Kem::X25519,
                policy::Kem::MlKem768P256 => Kem::MlKem768P256,
                policy::Kem::XWing => Kem::XWing,
            };
            Some(Stanza { length: kem.stanza_len(), post_quantum: kem.is_post_quantum() })
        }
        Inbox::Sealed { recipient } => {
            let recipient: Recipient = recipient.parse().ok()?;
            Some(Stanza { length: recipient.stanza_len(), post_quantum: recipient.is_post_quantum() })
        }
        // The server's own stanza goes around what the sender sealed; how strong that is, the key inside says.
        Inbox::EndToEnd { recipient } => {
            let recipient: Recipient = recipient.parse().ok()?;
            Some(Stanza { length: Kem::P256.stanza_len(), post_quantum: recipient.is_post_quantum() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Identity;

    #[test]
    fn one_changed_letter_is_noticed_and_an_identity_never_taken() {
        for kem in Kem::ALL {
            let identity = Identity::generate(kem).unwrap();
            let good = identity.to_recipient().to_string();
            assert_eq!(check(&good).unwrap().to_string(), good);
            let changed = if good.ends_with('q') { 'p' } else { 'q' };
            let bad = format!("{}{changed}", &good[..good.len() - 1]);
            assert!(check(&bad).unwrap_err().0.contains("checksum"));
        }
        assert!(check("ssh-ed25519 AAAA").unwrap_err().0.contains("not an SSH key"));
        assert!(check("ssh-rsa AAAA").unwrap_err().0.contains("only ssh-ed25519"));
        assert!(check("age1qqqq").unwrap_err().0.contains("another kind"));
        let ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFcYizeBcGOaXgIJ/GeMA6KMTGTHeSZ1TbsknHBxIMcm";
        assert_eq!(check(&format!("{ssh} nightly@acme")).unwrap().to_string(), ssh, "the comment is no part of it");
        assert!(check("").is_err() && check("sealdrop1").is_err());
    }
}
