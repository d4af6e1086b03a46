//! Every key the two kinds of file may hold, what it takes, and its default: the one table that refuses unknown keys,
//! suggests the right one, supplies the defaults, and from which docs/policy.md is written.

mod server;
mod user;

pub use server::*;
pub use user::*;

/// A table of a file and the keys it may hold.
#[derive(Debug)]
pub struct Section {
    /// As an admin writes it: `[login]`, `[[folder]]`; empty for the top of the file.
    pub header: &'static str,
    pub says: &'static str,
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub takes: Takes,
    /// As it would be written; a word in brackets where there is no value to write. Read by the same code that reads
    /// the file, so it cannot differ from what happens.
    pub default: &'static str,
    pub says: &'static str,
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Text,
    Texts,
    Size,
    Span,
    /// A duration, a number of pickups, both, or `"never"`.
    Expiry,
    /// Public keys, each a text or a table that says when it ends too.
    Keys,
    Count,
    Flag,
    Moment,
    /// One of these.
    Word(&'static [&'static str]),
    Words(&'static [&'static str]),
    /// A list of these, or a list of such lists, which are alternatives.
    Ways(&'static [&'static str]),
    Table,
    Tables,
}

/// There must be one.
pub const REQUIRED: &str = "(required)";
/// No value at all.
pub const NONE: &str = "(none)";

const fn key(name: &'static str, takes: Takes, default: &'static str, says: &'static str) -> Key {
    Key { name, takes, default, says }
}

impl Section {
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Takes {
    /// For a message: "… takes a size such as "10 GiB"".
    pub fn describe(self) -> String {
        match self {
            Self::Text => "text in quotes".to_owned(),
            Self::Texts => "a list of texts: [\"…\", \"…\"]".to_owned(),
            Self::Size => "a size in quotes: \"10 GiB\"".to_owned(),
            Self::Span => "a duration in quotes: \"72h\", \"90 days\"".to_owned(),
            Self::Expiry => "a duration, pickups, or both, in quotes: \"72h\", \"after 1 pickup\", \"72h or after 2 pickups\"; or \"never\"".to_owned(),
            Self::Keys => "a list of texts, or of { key = \"…\", expires = 2027-01-01 }".to_owned(),
            Self::Count => "a whole number, without quotes".to_owned(),
            Self::Flag => "true or false, without quotes".to_owned(),
            Self::Moment => "a date without quotes: 2027-01-01".to_owned(),
            Self::Word(words) => format!("one of {}", quoted(words)),
            Self::Words(words) | Self::Ways(words) => format!("a list of {}", quoted(words)),
            Self::Table => "a table".to_owned(),
            Self::Tables => "tables, one for each".to_owned(),
        }
    }
}

/// `"a", "b" or "c"`.
pub fn quoted(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// The reference tables of docs/policy.md for one kind of file.
pub fn reference(sections: &[&Section]) -> String {
    let mut out = String::new();
    for section in sections {
        let title = if section.header.is_empty() { "The top of the file" } else { section.header };
        out.push_str(&format!(
            "### {}\n\n{}\n\n| key | takes | default | meaning |\n|---|---|---|---|\n",
            code(title),
            section.says
        ));
        for key in section.keys.iter().filter(|key| !matches!(key.takes, Takes::Table | Takes::Tables)) {
            let default = match key.default {
                word if word.starts_with('(') => word.trim_matches(['(', ')']).to_owned(),
                value => format!("`{value}`"),
            };
            out.push_str(&format!("| `{}` | {} | {} | {} |\n", key.name, key.takes.describe(), default, key.says));
        }
        out.push('\n');
    }
    out
}

fn code(title: &str) -> String {
    if title.starts_with('[') { format!("`{title}`") } else { title.to_owned() }
}
