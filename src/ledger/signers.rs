//! `allowed_signers`: whose signature counts, for which name and which purpose. The file is OpenSSH's (ssh-keygen(1),
//! ALLOWED SIGNERS), and what is read here is read as `ssh-keygen -Y verify` reads it; certificate authorities are left
//! to it. No I/O here.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use russh::keys::PublicKey;

use crate::clock::Time;

/// The keys of one file.
#[derive(Debug)]
pub struct AllowedSigners(Vec<Line>);

#[derive(Debug)]
struct Line {
    principals: String,
    /// `None`: every purpose.
    namespaces: Option<String>,
    valid_after: Option<Time>,
    valid_before: Option<Time>,
    key: PublicKey,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct SignersError {
    pub line: usize,
    pub why: &'static str,
}

impl AllowedSigners {
    pub fn parse(text: &str) -> Result<Self, SignersError> {
        let mut lines = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                lines.extend(Line::parse(line).map_err(|why| SignersError { line: at + 1, why })?);
            }
        }
        Ok(Self(lines))
    }

    /// The keys that may sign as `principal` in `namespace` at this time.
    pub fn keys_of(&self, principal: &str, namespace: &str, now: Time) -> impl Iterator<Item = &PublicKey> {
        self.0.iter().filter(move |line| line.allows(principal, namespace, now)).map(|line| &line.key)
    }

    /// Whether `key` may sign as `principal` in `namespace` at this time.
    pub fn allow(&self, key: &PublicKey, principal: &str, namespace: &str, now: Time) -> bool {
        self.keys_of(principal, namespace, now).any(|allowed| allowed.key_data() == key.key_data())
    }
}

impl Line {
    fn allows(&self, principal: &str, namespace: &str, now: Time) -> bool {
        matches_list(&self.principals, principal)
            && self.namespaces.as_ref().is_none_or(|list| matches_list(list, namespace))
            && self.valid_after.is_none_or(|after| now >= after)
            && self.valid_before.is_none_or(|before| now < before)
    }

    /// `None` for a line that speaks of certificates.
    fn parse(line: &str) -> Result<Option<Self>, &'static str> {
        let (principals, rest) = word(line).ok_or("names nobody")?;
        let (mut namespaces, mut valid_after, mut valid_before) = (None, None, None);
        let mut key = PublicKey::from_openssh(rest);
        if key.is_err() {
            let (options, rest) = word(rest).ok_or("has no key")?;
            for option in split_unquoted(options) {
                let (name, value) = option.split_once('=').unwrap_or((option, ""));
                let value = value.trim_matches('"');
                match name.to_ascii_lowercase().as_str() {
                    "namespaces" => namespaces = Some(value.to_owned()),
                    "valid-after" => valid_after = Some(timestamp(value).ok_or("has a valid-after that is no time")?),
                    "valid-before" => {
                        valid_before = Some(timestamp(value).ok_or("has a valid-before that is no time")?);
                    }
                    "cert-authority" => return Ok(None),
                    _ => return Err("has an option that is not known here"),
                }
            }
            key = PublicKey::from_openssh(rest);
        }
        let key = key.map_err(|_| "has a key that cannot be read")?;
        let principals = principals.trim_matches('"').to_owned();
        Ok(Some(Self { principals, namespaces, valid_after, valid_before, key }))
    }
}

/// The first blank-separated word and what follows; blanks in double quotes do not separate.
fn word(text: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    let end = text.find(|c: char| {
        quoted ^= c == '"';
        !quoted && c.is_ascii_whitespace()
    })?;
    Some((&text[..end], text[end..].trim_start()))
}

/// Splits at commas outside double quotes.
fn split_unquoted(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '"';
        !quoted && c == ','
    })
}

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`; in UTC with a `Z` behind it, else in the local zone.
fn timestamp(text: &str) -> Option<Time> {
    let (digits, zone) = match text.strip_suffix('Z') {
        Some(digits) => (digits, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) || ![8, 12, 14].contains(&digits.len()) {
        return None;
    }
    let whole = format!("{digits:0<14}");
    let at = DateTime::strptime("%Y%m%d%H%M%S", whole).ok()?.to_zoned(zone).ok()?;
    u64::try_from(at.timestamp().as_second()).ok().map(Time::from_unix_seconds)
}

/// OpenSSH's pattern lists: commas between, `*` and `?` inside, and a match of one with `!` before it ends it all.
fn matches_list(list: &str, text: &str) -> bool {
    let mut found = false;
    for pattern in list.split(',').map(str::trim) {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern.as_bytes(), text.as_bytes()) => return false,
            Some(_) => {}
            None => found |= matches(pattern.as_bytes(), text.as_bytes()),
        }
    }
    found
}

fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
        ([b'?', rest @ ..], [_, text @ ..]) => matches(rest, text),
        ([p, rest @ ..], [t, text @ ..]) => p == t && matches(rest, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOpKbJRwL5dgODs3+fTCHt25HuVqDjJ1LZ2fHmXf5yxs";

    fn allow(line: &str, principal: &str, namespace: &str, at: &str) -> bool {
        let key = PublicKey::from_openssh(KEY).unwrap();
        let at = Time::parse_rfc3339(at).unwrap();
        AllowedSigners::parse(line).unwrap().allow(&key, principal, namespace, at)
    }

    #[test]
    fn a_line_allows_what_it_says_and_no_more() {
        let now = "2026-11-22T00:00:00Z";
        for (line, principal, namespace, allowed) in [
            (format!("drop.example {KEY} note"), "drop.example", "any", true),
            (format!("drop.example {KEY}"), "drop.example.org", "any", false),
            (format!("*.example,!bad.example {KEY}"), "a.example", "x", true),
            (format!("*.example,!bad.example {KEY}"), "bad.example", "x", false),
            (format!("a namespaces=\"receipt@sealdrop,file\" {KEY}"), "a", "receipt@sealdrop", true),
            (format!("a namespaces=\"receipt@sealdrop\" {KEY}"), "a", "file", false),
            (format!("a valid-after=\"20260101Z\",valid-before=\"20270101Z\" {KEY}"), "a", "x", true),
            (format!("a valid-after=\"202611220001Z\" {KEY}"), "a", "x", false),
            (format!("a valid-before=\"20261122000000Z\" {KEY}"), "a", "x", false),
            (format!("a cert-authority {KEY}"), "a", "x", false),
            (format!("# comment\n\n  \"a\" {KEY}"), "a", "x", true),
        ] {
            assert_eq!(allow(&line, principal, namespace, now), allowed, "{line}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        for bad in ["alone", "a key", "a namespaces=\"x\"", &format!("a strange {KEY}"), "a valid-after=\"soon\" x y"] {
            assert_eq!(AllowedSigners::parse(&format!("\n{bad}\n")).unwrap_err().line, 2, "{bad}");
        }
    }
}
