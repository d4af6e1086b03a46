//! Reads one TOML table against the table of keys: unknown keys, wrong types and bad units are complained of where they
//! stand. A value that cannot be used reads as absent, so that one problem does not hide the next.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::clock::Time;
use crate::config::keys::{KEY, Key, NONE, REQUIRED, Section, Takes, quoted};
use crate::config::reader::Reader;
use crate::config::suggest::nearest;
use crate::policy::units::{ByteSize, UnitError, parse_span};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct At<T> {
    pub value: T,
    pub span: Range<usize>,
}

/// A list of texts.
pub type Texts<'a> = At<Vec<At<&'a str>>>;

/// A list of lists of texts.
pub type TextLists<'a> = At<Vec<Texts<'a>>>;

/// A public key of a list.
pub struct ListedKey<'a> {
    pub text: At<&'a str>,
    pub expires: Option<Time>,
}

/// One table of the file, and what it may hold.
pub struct Table<'a> {
    reader: &'a Reader,
    section: &'static Section,
    entries: Option<&'a DeTable<'a>>,
    /// Its header, or where it was missed.
    pub span: Range<usize>,
}

impl<'a> Table<'a> {
    /// The top of a file.
    pub fn top(
        reader: &'a Reader,
        document: &'a Spanned<DeTable<'a>>,
        section: &'static Section,
        all: &[&'static Section],
    ) -> Self {
        Self::new(reader, document.get_ref(), 0..0, section, all)
    }

    fn new(
        reader: &'a Reader,
        entries: &'a DeTable<'a>,
        span: Range<usize>,
        section: &'static Section,
        all: &[&'static Section],
    ) -> Self {
        for (name, _) in entries.iter().filter(|(name, _)| section.key(name.get_ref()).is_none()) {
            let typed = name.get_ref().as_ref();
            let hint = unknown_key_hint(typed, section, all);
            reader.error(name.span(), format!("unknown key `{typed}`{}", place_of(section)), hint);
        }
        Self { reader, section, entries: Some(entries), span }
    }

    /// `name` as a table of its own; empty if it is not there.
    pub fn table(&self, name: &str, section: &'static Section, all: &[&'static Section]) -> Table<'a> {
        let absent = Table { reader: self.reader, section, entries: None, span: self.span.clone() };
        let Some((key, value)) = self.entry(name) else { return absent };
        match value.get_ref() {
            DeValue::Table(entries) => Table::new(self.reader, entries, key.span(), section, all),
            DeValue::Array(items) if items.iter().all(|item| item.get_ref().is_table()) => {
                self.reader.error(
                    key.span(),
                    format!("`{name}` is one table, not a list"),
                    format!("write [{name}], once"),
                );
                absent
            }
            other => {
                let message = format!("`{name}` is a table, and this is {}", type_of(other));
                self.reader.error(
                    value.span(),
                    message,
                    format!("write [{name}] on a line of its own and its keys below"),
                );
                absent
            }
        }
    }

    /// `name` as a list of tables.
    pub fn tables(&self, name: &str, section: &'static Section, all: &[&'static Section]) -> Vec<Table<'a>> {
        let Some((key, value)) = self.entry(name) else { return Vec::new() };
        let message = format!("`{name}` is a list of tables");
        match value.get_ref() {
            DeValue::Array(items) => {
                let mut tables = Vec::new();
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::Table(entries) => {
                            tables.push(Table::new(self.reader, entries, item.span(), section, all));
                        }
                        _ => self.reader.error(item.span(), message.clone(), format!("write [[{name}]] for each")),
                    }
                }
                tables
            }
            _ => {
                self.reader.error(key.span(), message, format!("write [[{name}]] with two brackets, once for each"));
                Vec::new()
            }
        }
    }

    pub fn is_there(&self) -> bool {
        self.entries.is_some()
    }

    pub fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// Where `name` stands; where its table does, if it is missing.
    pub fn span_of(&self, name: &str) -> Range<usize> {
        self.entry(name).map_or_else(|| self.span.clone(), |(key, _)| key.span())
    }

    fn entry(&self, name: &str) -> Option<(&'a Spanned<std::borrow::Cow<'a, str>>, &'a Spanned<DeValue<'a>>)> {
        self.entries?.iter().find(|(key, _)| key.get_ref().as_ref() == name)
    }

    /// The value of `name`, or a complaint if it is missing and must not be.
    fn value(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        match self.entry(name) {
            Some((_, value)) => Some(value),
            None => {
                if self.key(name).is_some_and(|key| key.default == REQUIRED) && self.is_there() {
                    self.missing(name);
                }
                None
            }
        }
    }

    /// Complains that `name` is missing.
    pub fn missing(&self, name: &str) {
        if self.key(name).is_some_and(|key| key.takes == Takes::Table) {
            let hint = format!("write [{name}] on a line of its own and its keys below");
            self.reader.error(self.span.clone(), format!("[{name}] is missing"), hint);
            return;
        }
        let takes = self.key(name).map_or_else(String::new, |key| key.takes.describe());
        self.reader.error(
            self.span.clone(),
            format!("`{name}` is missing{}", place_of(self.section)),
            format!("`{name}` takes {takes}"),
        );
    }

    fn key(&self, name: &str) -> Option<&'static Key> {
        self.section.key(name)
    }

    fn wrong_type(&self, name: &str, value: &Spanned<DeValue<'_>>) {
        let takes = self.key(name).map_or_else(String::new, |key| key.takes.describe());
        self.reader.error(
            value.span(),
            format!("`{name}` cannot be {}", type_of(value.get_ref())),
            format!("`{name}` takes {takes}"),
        );
    }

    pub fn text(&self, name: &str) -> Option<At<&'a str>> {
        let value = self.value(name)?;
        match value.get_ref() {
            DeValue::String(text) => Some(At { value: text.as_ref(), span: value.span() }),
            _ => {
                self.wrong_type(name, value);
                None
            }
        }
    }

    /// Each item with its place; `None` if the key is missing or one item is no text.
    pub fn texts(&self, name: &str) -> Option<Texts<'a>> {
        let value = self.value(name)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(name, value);
            return None;
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::String(text) => texts.push(At { value: text.as_ref(), span: item.span() }),
                _ => self.wrong_type(name, item),
            }
        }
        (texts.len() == items.len()).then_some(At { value: texts, span: value.span() })
    }

    /// Each item of a list of texts or tables: the text, or the text `key` of the table, and what it says under `expires`.
    pub fn keys(&self, name: &str) -> Option<At<Vec<ListedKey<'a>>>> {
        let value = self.value(name)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(name, value);
            return None;
        };
        let mut keys = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::String(text) => {
                    let text = At { value: text.as_ref(), span: item.span() };
                    keys.push(ListedKey { text, expires: None });
                }
                DeValue::Table(entries) => {
                    let table = Table::new(self.reader, entries, item.span(), &KEY, &[&KEY]);
                    let expires = table.moment("expires").map(|at| at.value);
                    keys.extend(table.text("key").map(|text| ListedKey { text, expires }));
                }
                _ => self.wrong_type(name, item),
            }
        }
        (keys.len() == items.len()).then_some(At { value: keys, span: value.span() })
    }

    /// A list of texts, or a list of such lists.
    pub fn text_lists(&self, name: &str) -> Option<At<Vec<Texts<'a>>>> {
        let value = self.value(name)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(name, value);
            return None;
        };
        if !items.iter().any(|item| item.get_ref().is_array()) {
            return self.texts(name).map(|texts| At { span: texts.span.clone(), value: vec![texts] });
        }
        let mut lists = Vec::new();
        for item in items.iter() {
            let DeValue::Array(inner) = item.get_ref() else {
                self.reader.error(
                    item.span(),
                    format!("`{name}` mixes texts and lists"),
                    "write a list of lists: [[\"publickey\"], [\"password\"]]",
                );
                return None;
            };
            let mut texts = Vec::new();
            for text in inner.iter() {
                match text.get_ref() {
                    DeValue::String(word) => texts.push(At { value: word.as_ref(), span: text.span() }),
                    _ => self.wrong_type(name, text),
                }
            }
            lists.push(At { value: texts, span: item.span() });
        }
        Some(At { value: lists, span: value.span() })
    }

    pub fn flag(&self, name: &str) -> bool {
        match self.value(name) {
            Some(value) => value.get_ref().as_bool().unwrap_or_else(|| {
                self.wrong_type(name, value);
                false
            }),
            None => self.key(name).is_some_and(|key| key.default == "true"),
        }
    }

    /// A number in `range`; the default if it is missing and there is one.
    pub fn count(&self, name: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let Some(value) = self.value(name) else { return self.default(name)?.parse().ok() };
        let DeValue::Integer(digits) = value.get_ref() else {
            self.wrong_type(name, value);
            return None;
        };
        let number = u64::from_str_radix(digits.as_str(), digits.radix()).ok().filter(|number| range.contains(number));
        if number.is_none() {
            let hint = match (*range.start(), *range.end()) {
                (low, u64::MAX) => format!("the least is {low}"),
                (low, high) => format!("it lies between {low} and {high}"),
            };
            self.reader.error(value.span(), format!("`{name}` is out of its range"), hint);
        }
        number
    }

    /// One of `words`, whose order is that of the table of keys.
    pub fn word<T: Copy>(&self, name: &str, words: &[(&'static str, T)]) -> Option<T> {
        let (typed, span) = match self.text(name) {
            Some(text) => (text.value, text.span),
            None if self.has(name) => return None,
            None => (self.default(name)?, self.span.clone()),
        };
        self.one_of(name, &At { value: typed, span }, words)
    }

    pub fn one_of<T: Copy>(&self, name: &str, typed: &At<&str>, words: &[(&'static str, T)]) -> Option<T> {
        let found = words.iter().find(|(word, _)| *word == typed.value).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let hint = match nearest(typed.value, all.iter().copied()) {
                Some(word) => format!("did you mean \"{word}\"?"),
                None => format!("it is {}", quoted(&all)),
            };
            self.reader.error(typed.span.clone(), format!("\"{}\" is not a word for `{name}`", typed.value), hint);
        }
        found
    }

    pub fn size(&self, name: &str) -> Option<At<ByteSize>> {
        self.measured(name, |text| text.parse::<ByteSize>())
    }

    pub fn span(&self, name: &str) -> Option<At<Duration>> {
        self.measured(name, parse_span)
    }

    fn measured<T>(&self, name: &str, read: impl Fn(&str) -> Result<T, UnitError>) -> Option<At<T>> {
        let text = match self.text(name) {
            Some(text) => text,
            None if self.has(name) => return None,
            None => At { value: self.default(name)?, span: self.span.clone() },
        };
        match read(text.value) {
            Ok(value) => Some(At { value, span: text.span }),
            Err(error) => {
                self.reader.error(text.span, error.message, error.hint);
                None
            }
        }
    }

    /// A date, the first second of it in UTC, or a time with its offset.
    pub fn moment(&self, name: &str) -> Option<At<Time>> {
        let value = self.value(name)?;
        let at = |value_at| Some(At { value: value_at, span: value.span() });
        match value.get_ref() {
            DeValue::Datetime(moment) => match (moment.date, moment.time, moment.offset) {
                (Some(_), None, None) => at(Time::parse_rfc3339(&format!("{moment}T00:00:00Z"))?),
                (Some(_), Some(_), Some(_)) => at(Time::parse_rfc3339(&moment.to_string())?),
                (Some(_), Some(_), None) => {
                    self.reader.error(
                        value.span(),
                        "this time could be in any zone",
                        format!("add the offset: {moment}Z, {moment}+01:00"),
                    );
                    None
                }
                _ => {
                    self.wrong_type(name, value);
                    None
                }
            },
            _ => {
                self.wrong_type(name, value);
                None
            }
        }
    }

    /// What the table of keys says, if that is a value.
    fn default(&self, name: &str) -> Option<&'static str> {
        self.key(name).map(|key| key.default).filter(|default| !default.starts_with('(') && *default != NONE)
    }

    /// The default of a text.
    pub fn text_or_default(&self, name: &str) -> Option<At<&'a str>> {
        match self.text(name) {
            Some(text) => Some(text),
            None if self.has(name) => None,
            None => Some(At { value: self.default(name)?, span: self.span.clone() }),
        }
    }

    pub fn reader(&self) -> &'a Reader {
        self.reader
    }
}

fn place_of(section: &Section) -> String {
    if section.header.is_empty() { String::new() } else { format!(" in {}", section.header) }
}

fn unknown_key_hint(typed: &str, section: &Section, all: &[&'static Section]) -> String {
    let names = section.keys.iter().map(|key| key.name);
    if let Some(name) = nearest(typed, names.clone()) {
        let shown = match section.key(name).map(|key| key.takes) {
            Some(Takes::Table) => format!("[{name}]"),
            Some(Takes::Tables) => format!("[[{name}]]"),
            _ => name.to_owned(),
        };
        return format!("did you mean `{shown}`?");
    }
    if let Some(other) = all.iter().find(|other| other.header != section.header && other.key(typed).is_some()) {
        return match other.header {
            "" => format!("`{typed}` stands at the top of the file, before the first [table]"),
            header => format!("`{typed}` belongs in {header}: a key belongs to the header above it"),
        };
    }
    format!("the keys here are: {}", names.collect::<Vec<_>>().join(", "))
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number without a unit or quotes",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
