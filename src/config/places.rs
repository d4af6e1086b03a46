//! Where each key of a policy stands, as file and line: for answers that name the line that decides. It is read from the
//! texts the policy was made of, so it is right even when the files have changed since.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::config::{source, template};
use crate::names::{UserName, escaped};
use crate::policy::PolicyText;
use crate::vpath::VirtualPath;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
}

/// The keys of one user's file.
#[derive(Debug)]
pub struct Places {
    /// By table and key: `login.from`, `/radiology.expire`, `user`; a table by itself is its header.
    lines: BTreeMap<String, Place>,
}

impl Places {
    /// Of the file of `user` among `texts`, which lie in `directory`; `None` if there is none.
    pub fn of(user: &UserName, texts: &[PolicyText], directory: &Path) -> Option<Self> {
        let name = format!("{user}.toml");
        let text = texts.iter().find(|text| text.name == name)?;
        let file = directory.join(&name);
        let text = source::text(&file, &text.bytes).ok()?;
        let mut places = Self { lines: BTreeMap::new() };
        let template = places.read(&file, &text, user, true);
        let name = template.map(|name| format!("{}/{name}.toml", template::DIRECTORY));
        if let Some(text) = name.and_then(|name| texts.iter().find(|text| text.name == name)) {
            let file = directory.join(&text.name);
            places.read(&file, &source::text(&file, &text.bytes).ok()?, user, false);
        }
        Some(places)
    }

    /// Of a user's own file, or after it of its template, which holds where the file says nothing. Answers which template
    /// the file takes.
    fn read(&mut self, file: &Path, text: &Arc<str>, user: &UserName, own: bool) -> Option<String> {
        let (document, _) = DeTable::parse_recoverable(text);
        let line = |at: usize| {
            let line = 1 + text.get(..at).unwrap_or("").matches('\n').count();
            Place { file: file.to_owned(), line }
        };
        // Of a folder or an inbox that the user's file has, nothing is the template's.
        let taken: Vec<String> =
            self.lines.keys().filter(|key| key.starts_with('/') || *key == "inbox").cloned().collect();
        let mut add_all = |name: &str, table: &DeTable<'_>| {
            for (key, _) in table.iter() {
                if !taken.iter().any(|taken| taken == name) {
                    let place = line(key.span().start);
                    self.lines.entry(format!("{name}.{}", key.get_ref())).or_insert(place);
                }
            }
        };
        let mut headers = Vec::new();
        for (key, value) in document.get_ref().iter() {
            match value.get_ref() {
                DeValue::Table(table) => add_all(key.get_ref(), table),
                DeValue::Array(folders) => {
                    for folder in folders.iter() {
                        let DeValue::Table(table) = folder.get_ref() else { continue };
                        let path =
                            table.iter().find(|(key, _)| key.get_ref() == "path").map(|(_, path)| path.get_ref());
                        if let Some(DeValue::String(path)) = path {
                            let path = match own {
                                true => path.to_string(),
                                false => template::expanded(path, user.as_str()).unwrap_or_default(),
                            };
                            add_all(&path, table);
                            headers.push((path, line(folder.span().start)));
                        }
                    }
                }
                _ => {}
            }
            headers.push((key.get_ref().to_string(), line(key.span().start)));
        }
        for (name, place) in headers {
            self.lines.entry(name).or_insert(place);
        }
        document.get_ref().get("template").and_then(|name| name.get_ref().as_str()).map(str::to_owned)
    }

    /// A key of a table, `[login]`; its header if the key is left to its default.
    pub fn key(&self, table: &str, key: &str) -> Option<Place> {
        self.lines.get(&format!("{table}.{key}")).or_else(|| self.lines.get(table)).cloned()
    }

    /// A key of a folder, as [`Self::key`].
    pub fn folder(&self, path: &VirtualPath, key: &str) -> Option<Place> {
        self.key(std::str::from_utf8(path.as_bytes()).ok()?, key)
    }

    /// A table itself.
    pub fn table(&self, table: &str) -> Option<Place> {
        self.key(table, "")
    }
}

/// `policies/acme.toml:12`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", escaped(self.file.as_os_str().as_encoded_bytes()), self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_found_on_its_line_and_a_default_at_its_table() {
        let bytes = b"\xef\xbb\xbfuser = \"acme\"\r\n\r\n[login]\r\nkeys = [\r\n  \"ssh-ed25519 AAAA\",\r\n]\r\nfrom = [\"::1\"]\r\n\r\n[[folder]]\r\nkind = \"drop\"\r\npath = \"/a\"\r\n[[folder]]\r\npath = \"/b\"\r\n".to_vec();
        let texts = [PolicyText { name: "acme.toml".to_owned(), bytes }];
        let places = Places::of(&"acme".parse().unwrap(), &texts, Path::new("policies")).unwrap();
        let line = |table: &str, key: &str| places.key(table, key).map(|place| place.line);
        assert_eq!(line("login", "keys"), Some(4));
        assert_eq!(line("login", "from"), Some(7));
        assert_eq!(line("login", "hours"), Some(3), "the header, for a default");
        assert_eq!((line("/a", "kind"), line("/a", "path"), line("/a", "to")), (Some(10), Some(11), Some(9)));
        assert_eq!((line("/b", "kind"), line("inbox", "mode"), line("user", "")), (Some(12), None, Some(1)));
        assert_eq!(places.table("login").unwrap().to_string(), "policies/acme.toml:3");
        assert!(Places::of(&"lab".parse().unwrap(), &texts, Path::new("policies")).is_none());
    }
}
