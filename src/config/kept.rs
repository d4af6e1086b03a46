//! Policy texts as the ledger keeps them: every password hash and one-time secret replaced by its SHA-256, all else as it was,
//! to the line and the comment. So what was in force can be read and decided by, and nobody can guess at a password that it
//! no longer has. The digest tells whether two policies had the same secret.

use std::ops::Range;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use toml::de::{DeTable, DeValue};

use crate::config::problem::Problems;
use crate::config::source;
use crate::names::{Digest, hex};
use crate::policy::{Policy, PolicyText, Trust};

/// What stands in a secret's place, before its SHA-256.
const WITHHELD: &str = "withheld-sha256:";

/// How a secret begins, wherever it stands: in a value, or in a line that was commented out.
const SECRETS: [&str; 2] = ["$argon2", "totp1-"];

/// What a kept policy is read with in a secret's place: of the right form, and opened by nothing that is known.
const NO_PASSWORD: &str =
    "$argon2id$v=19$m=65536,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The text of each file, without its secrets.
pub fn without_secrets(texts: &[PolicyText]) -> Vec<(String, String)> {
    let kept = |text: &PolicyText| match source::text(Path::new(&text.name), &text.bytes) {
        Ok(read) => withheld(&read),
        // Of a policy that is in force there is none such.
        Err(_) => String::new(),
    };
    texts.iter().map(|text| (text.name.clone(), kept(text))).collect()
}

/// The policy that these texts were, by the name it had. Nobody logs in under it: it is asked what it would have decided.
pub fn policy_of_kept(digest: Digest, texts: &[(String, String)], trust: &Trust) -> Result<Policy, Problems> {
    let readable: Vec<_> = texts
        .iter()
        .map(|(name, text)| PolicyText { name: name.clone(), bytes: stand_ins(text).into_bytes() })
        .collect();
    let mut policy = super::policy_of(&readable)?.trusting(trust.clone());
    policy.digest = digest;
    Ok(policy)
}

fn withheld(text: &str) -> String {
    let named = |value: &str| format!("{WITHHELD}{}", hex(&Sha256::digest(value)));
    let values = replaced(text, |key, value| {
        let secret = ["password", "totp"].contains(&key) || SECRETS.iter().any(|begins| value.starts_with(begins));
        secret.then(|| named(value))
    });
    // What is left stands in comments.
    let (mut out, mut rest) = (String::with_capacity(values.len()), values.as_str());
    while let Some(at) = SECRETS.iter().filter_map(|begins| rest.find(begins)).min() {
        let (before, from) = rest.split_at(at);
        let end = from.find(|c: char| c.is_whitespace() || ['"', '\''].contains(&c)).unwrap_or(from.len());
        let (secret, after) = from.split_at(end);
        out.push_str(before);
        out.push_str(&named(secret));
        rest = after;
    }
    out + rest
}

fn stand_ins(text: &str) -> String {
    replaced(text, |key, value| {
        let stand_in = || if key == "totp" { format!("totp1-{}", "00".repeat(48)) } else { NO_PASSWORD.to_owned() };
        value.starts_with(WITHHELD).then(stand_in)
    })
}

/// The text with some of its string values replaced; `with` is asked of each, by its key.
fn replaced(text: &str, with: impl Fn(&str, &str) -> Option<String>) -> String {
    let (document, _) = DeTable::parse_recoverable(text);
    let mut found: Vec<(Range<usize>, String)> = Vec::new();
    let mut left: Vec<(String, &toml::Spanned<DeValue<'_>>)> = Vec::new();
    left.extend(document.get_ref().iter().map(|(key, value)| (key.get_ref().to_string(), value)));
    while let Some((name, value)) = left.pop() {
        match value.get_ref() {
            DeValue::String(string) => found.extend(with(&name, string).map(|new| (value.span(), new))),
            DeValue::Array(values) => left.extend(values.iter().map(|value| (name.clone(), value))),
            DeValue::Table(table) => {
                left.extend(table.iter().map(|(key, value)| (key.get_ref().to_string(), value)));
            }
            _ => {}
        }
    }
    found.sort_by_key(|(span, _)| span.start);
    let (mut out, mut from) = (String::with_capacity(text.len()), 0);
    for (span, new) in found {
        let quoted = super::edit::quoted(&new);
        // As many lines as before: places are told by them.
        let lines = text.get(span.clone()).unwrap_or_default().matches('\n').count();
        out.push_str(text.get(from..span.start).unwrap_or_default());
        out.push_str(&if lines == 0 { quoted } else { format!("\"\"\"{}{new}\"\"\"", "\\\n".repeat(lines)) });
        from = span.end;
    }
    out + text.get(from..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::UserName;

    const HASH: &str = "$argon2id$v=19$m=65536,t=3,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g";
    const TOTP: &str = "totp1-a1b2c3";

    fn kept(text: &str) -> String {
        let texts = [PolicyText { name: "acme.toml".to_owned(), bytes: text.as_bytes().to_vec() }];
        without_secrets(&texts).pop().unwrap().1
    }

    #[test]
    fn no_secret_is_kept_however_it_is_written() {
        let escaped = HASH.replacen('$', "\\u0024", 1);
        for text in [
            format!("user = \"acme\"\n[login]\npassword = \"{HASH}\" # since may\ntotp = '{TOTP}'\n"),
            format!("login = {{ password = \"{escaped}\", totp = \"{TOTP}\" }}\n"),
            format!("login.password = \"\"\"\n{HASH}\"\"\"\n# was: password = \"{HASH}\" and {TOTP}\n"),
            format!("[[template]]\nother = [\"{HASH}\", \"{TOTP}\"]\n"),
        ] {
            let kept = kept(&text);
            assert!(!kept.contains("c2FsdHNhbHRzYWx0") && !kept.contains("aGFzaGh") && !kept.contains(TOTP), "{kept}");
            assert!(kept.contains(WITHHELD), "{kept}");
            assert_eq!(kept.lines().count(), text.lines().count(), "{kept}");
            assert_eq!(super::super::edit::Edit::of(&kept).map(|_| ()), Ok(()), "{kept}");
        }
    }

    #[test]
    fn all_else_is_kept_as_it_was_and_the_same_secret_is_told_again() {
        let text = format!("# acme\nuser = \"acme\"\n[login]\nkeys = []  # ä\npassword = \"{HASH}\"\n");
        let expected = text.replace(HASH, &format!("{WITHHELD}{}", hex(&Sha256::digest(HASH))));
        assert_eq!(kept(&text), expected);
    }

    #[test]
    fn a_kept_policy_is_read_and_has_the_name_it_had() {
        let totp = format!("totp1-{}", "ab".repeat(48));
        let text = format!(
            "user = \"acme\"\n[login]\npassword = \"{HASH}\"\ntotp = \"{totp}\"\nrequire = [\"password\", \"totp\"]\nfrom = [\"192.0.2.0/24\"]\n"
        );
        let texts = [PolicyText { name: "acme.toml".to_owned(), bytes: text.into_bytes() }];
        let policy = policy_of_kept(Digest([7; 32]), &without_secrets(&texts), &Trust::default()).unwrap();
        assert_eq!(policy.digest, Digest([7; 32]));
        let acme: UserName = "acme".parse().unwrap();
        let login = &policy.user(&acme).unwrap().login;
        assert!(login.password.is_some() && login.totp.is_some());
        let mended = policy.texts[0].bytes.clone();
        assert!(!String::from_utf8(mended).unwrap().contains("c2FsdHNhbHRzYWx0"));
    }
}
