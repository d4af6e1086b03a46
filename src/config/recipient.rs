//! Whether a text is a recipient, `sealdrop1…`: its prefix and its checksum, which a slip of the hand breaks. Pure.

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Bech32m};

/// The message and the hint, if it is none.
pub fn check(text: &str) -> Result<(), (String, String)> {
    let no = |message: &str, hint: &str| Err((message.to_owned(), hint.to_owned()));
    const PASTE: &str = "paste the line that `sealdrop keygen` printed, beginning with sealdrop1";
    if text.to_ascii_lowercase().starts_with("sealdrop-") {
        return no(
            "this is an identity, the private half",
            "treat it as lost: make another with `sealdrop keygen`, and give its sealdrop1… line",
        );
    }
    if text.starts_with("ssh-") || text.starts_with("age1") {
        return no("this is another kind of key", PASTE);
    }
    if !text.starts_with("sealdrop1") {
        return no("this is not a recipient", PASTE);
    }
    let sound = CheckedHrpstring::new::<Bech32>(text).is_ok() || CheckedHrpstring::new::<Bech32m>(text).is_ok();
    if sound {
        Ok(())
    } else {
        no("the checksum of this recipient is wrong", "part of it is missing or changed: copy it again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_letter_is_noticed() {
        let hrp = bech32::Hrp::parse("sealdrop").unwrap();
        let good = bech32::encode::<Bech32>(hrp, &[7; 65]).unwrap();
        assert_eq!(check(&good), Ok(()));
        let changed = if good.ends_with('q') { 'p' } else { 'q' };
        let bad = format!("{}{changed}", &good[..good.len() - 1]);
        assert!(check(&bad).unwrap_err().0.contains("checksum"));
        assert!(check("SEALDROP-IDENTITY-1QQQ").unwrap_err().0.contains("private"));
        assert!(check("ssh-ed25519 AAAA").is_err() && check("").is_err());
    }
}
