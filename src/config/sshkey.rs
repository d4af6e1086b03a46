//! A line of `id_….pub` into a public key of the policy, or why not. Pure.

use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{self, HashAlg};

use crate::policy::PublicKey;

/// NIST SP 800-131A: RSA below this is not to be used at all.
const RSA_BITS_MIN: u32 = 2048;
/// NIST SP 800-57: 128 bits of strength, what every other key here has.
const RSA_BITS_GOOD: u32 = 3072;
/// OpenSSH's own limit; a larger one is work a stranger could order.
const RSA_BITS_MAX: u32 = 16384;

/// A key that can be used, and what is unwise about it.
#[derive(Debug)]
pub struct Parsed {
    pub key: PublicKey,
    pub unwise: Option<(String, String)>,
}

/// The message and the hint of a refusal.
pub type Refused = (String, String);

/// Reads one key in the form of `id_ed25519.pub`.
pub fn parse(text: &str) -> Result<Parsed, Refused> {
    let text = text.trim();
    if text.contains("PRIVATE KEY") {
        let hint =
            "treat this key as lost: make another with `ssh-keygen -t ed25519`, and give the content of its .pub file";
        return Err(("this is a private key".to_owned(), hint.to_owned()));
    }
    if text.starts_with("---- BEGIN") || text.starts_with("-----BEGIN") {
        let hint = "convert it with `ssh-keygen -i -f FILE` and give the one line that prints";
        return Err(("this key is not in OpenSSH's form".to_owned(), hint.to_owned()));
    }
    let first = text.split_whitespace().next().unwrap_or("");
    if first.contains("-cert-v01@openssh.com") {
        return Err((
            "certificates are not taken".to_owned(),
            "give the public key itself, from the .pub file; the key of who signs certificates goes into `authorities`"
                .to_owned(),
        ));
    }
    // Options of authorized_keys that only sk- keys have. What the server cannot demand must not look demanded.
    match first.split(',').find(|option| ["verify-required", "no-touch-required"].contains(option)) {
        Some("verify-required") => {
            return Err((
                "the server cannot demand a token's PIN".to_owned(),
                "leave `verify-required` out, and make the key so that its token asks: `ssh-keygen -t ed25519-sk -O \
                 verify-required`; docs/logins.md, \"Keys\""
                    .to_owned(),
            ));
        }
        Some(_) => {
            let hint = "leave `no-touch-required` out: a token that asks for no touch is taken as it is";
            return Err(("options before a key are not taken".to_owned(), hint.to_owned()));
        }
        None => {}
    }
    if first == "ssh-dss" {
        return Err(("DSA keys are not taken".to_owned(), "make another with `ssh-keygen -t ed25519`".to_owned()));
    }
    if first.contains('=') || (text.contains(" ssh-") && !is_algorithm(first)) {
        let hint = "the key begins with its type, ssh-ed25519 or the like; limits on addresses go into `from`";
        return Err(("options before a key are not taken".to_owned(), hint.to_owned()));
    }
    let key = ssh_key::PublicKey::from_openssh(text).map_err(|_| broken(text, first))?;
    let unwise = match key.key_data() {
        KeyData::Rsa(rsa) => match rsa.key_size() {
            bits @ (..RSA_BITS_MIN | RSA_BITS_MAX..) if bits != RSA_BITS_MAX => {
                let message = format!("an RSA key of {bits} bits is not taken");
                return Err((message, "from 2048 bits on; better, `ssh-keygen -t ed25519`".to_owned()));
            }
            bits @ ..RSA_BITS_GOOD => Some((
                format!("an RSA key of {bits} bits is at the end of its time"),
                "ask for a new one: `ssh-keygen -t ed25519`, or RSA of 3072 bits".to_owned(),
            )),
            _ => None,
        },
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) | KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => None,
        _ => {
            return Err((
                format!("keys of type `{first}` are not taken"),
                "taken are ed25519, ecdsa, rsa, and their sk- kinds".to_owned(),
            ));
        }
    };
    let blob = key.to_bytes().map_err(|_| broken(text, first))?;
    let comment = String::from_utf8_lossy(key.comment().as_bytes()).into_owned();
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    Ok(Parsed {
        key: PublicKey { algorithm: key.algorithm().to_string(), blob, fingerprint, comment, expires: None },
        unwise,
    })
}

fn is_algorithm(word: &str) -> bool {
    ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|start| word.starts_with(start))
}

fn broken(text: &str, first: &str) -> Refused {
    let hint = if !is_algorithm(first) {
        "give the whole line of the .pub file: ssh-ed25519 AAAA… comment"
    } else if text.split_whitespace().count() < 2 {
        "the part after the type is missing: give the whole line of the .pub file"
    } else {
        "part of it is missing or changed: copy the .pub file again, as one line; check it with `ssh-keygen -lf FILE`"
    };
    ("this is not a public key".to_owned(), hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFcYizeBcGOaXgIJ/GeMA6KMTGTHeSZ1TbsknHBxIMcm nightly@acme imaging";

    #[test]
    fn what_a_token_cannot_be_made_to_do_is_not_taken_for_done() {
        let token = "sk-ssh-ed25519@openssh.com AAAA token";
        let refused = parse(&format!("verify-required {token}")).unwrap_err();
        assert!(refused.0.contains("cannot demand") && refused.1.contains("ed25519-sk"), "{refused:?}");
        assert!(parse(&format!("no-touch-required,verify-required {token}")).unwrap_err().0.contains("options"));
    }

    #[test]
    fn a_key_is_known_by_what_ssh_keygen_prints() {
        let key = parse(ED25519).unwrap().key;
        assert_eq!(key.algorithm, "ssh-ed25519");
        assert_eq!(key.comment, "nightly@acme imaging");
        assert_eq!(key.fingerprint, "SHA256:roAZCcBP6OrxN7m1Sctbwa5Z7xawOdbRzeeNZyPSTLA");
        assert!(key.blob.starts_with(b"\0\0\0\x0bssh-ed25519"));
    }

    #[test]
    fn a_key_on_a_token_is_taken() {
        let text = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fAAAABHNzaDo= token";
        let key = parse(text).unwrap().key;
        assert_eq!(key.algorithm, "sk-ssh-ed25519@openssh.com");
        assert_eq!(key.fingerprint, "SHA256:/p0CbeE3dk2SyW1OXXsThGc12ezDVD8eGw2/vtztDfk");
        assert!(key.blob.ends_with(b"\0\0\0\x04ssh:"));
    }

    #[test]
    fn rsa_is_taken_by_its_length() {
        let short = include_str!("../../tests/mistakes/rsa-1024.pub");
        let old = include_str!("../../tests/mistakes/rsa-2048.pub");
        assert!(parse(short).unwrap_err().0.contains("1024 bits"));
        assert!(parse(old).unwrap().unwise.unwrap().0.contains("2048 bits"));
        assert_eq!(parse(old).unwrap().key.fingerprint, "SHA256:TfS8Lc8mLwy++zrAZlRUJ/+bWj5M7G89k1AbpHPDPVA");
    }

    #[test]
    fn what_is_not_a_usable_key_is_refused_with_what_to_do() {
        for (text, message) in [
            ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
            ("---- BEGIN SSH2 PUBLIC KEY ----", "OpenSSH's form"),
            ("ssh-ed25519", "not a public key"),
            ("ssh-ed25519 AAAAC3Nza", "not a public key"),
            ("AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ", "not a public key"),
            ("ssh-dss AAAA", "DSA"),
            ("ssh-ed25519-cert-v01@openssh.com AAAA", "certificates"),
            (&format!("from=\"10.0.0.1\" {ED25519}"), "options"),
            (&format!("no-pty {ED25519}"), "options"),
            ("", "not a public key"),
        ] {
            assert!(parse(text).unwrap_err().0.contains(message), "{text}");
        }
    }
}
