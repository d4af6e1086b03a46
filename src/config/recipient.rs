//! Whether a text is a recipient, `sealdrop1…`, that files can be sealed to; and if not, what to do about it. Pure.

use crate::seal::{KeyTextError, Recipient};

/// The message and the hint, if it is none.
pub fn check(text: &str) -> Result<(), (String, String)> {
    const PASTE: &str = "paste the line that `sealdrop keygen` printed, beginning with sealdrop1";
    let Err(error) = text.parse::<Recipient>() else { return Ok(()) };
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
        KeyTextError::Key => ("this recipient is not a valid key", "make another with `sealdrop keygen`"),
        _ if text.starts_with("ssh-") || text.starts_with("age1") => ("this is another kind of key", PASTE),
        _ => ("this is not a recipient", PASTE),
    };
    Err((message.to_owned(), hint.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::{Identity, Kem};

    #[test]
    fn one_changed_letter_is_noticed_and_an_identity_never_taken() {
        for kem in [Kem::P256, Kem::X25519] {
            let identity = Identity::generate(kem).unwrap();
            let good = identity.to_recipient().to_string();
            assert_eq!(check(&good), Ok(()));
            let changed = if good.ends_with('q') { 'p' } else { 'q' };
            let bad = format!("{}{changed}", &good[..good.len() - 1]);
            assert!(check(&bad).unwrap_err().0.contains("checksum"));
        }
        assert!(check("ssh-ed25519 AAAA").unwrap_err().0.contains("another kind"));
        assert!(check("").is_err() && check("sealdrop1").is_err());
    }
}
