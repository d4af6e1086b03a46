//! Expiry profiles: names for what folders' `expire` says again and again, `[[expiry]]` in `sealdrop.toml`. They decide over
//! policies, so they are part of the policy's digest and texts, in the one form that [`as_text`] writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::config::expire::{self, Expire};
use crate::config::keys::{EXPIRY, SERVER};
use crate::config::reader::Reader;
use crate::config::table::Table;
use crate::policy::PolicyText;
use crate::policy::units::show_expiry;

/// By their names.
pub type Profiles = BTreeMap<String, Expire>;

/// Among the texts of a policy. No file of a user has it, since it ends otherwise.
pub const TEXT: &str = "[[expiry]]";

/// Those of a document; what is wrong with one is said where it stands.
pub fn read(top: &Table<'_>) -> Profiles {
    let mut profiles = Profiles::new();
    for table in top.tables("expiry", &EXPIRY, &SERVER) {
        let (name, text) = (table.text("name"), table.text("expire"));
        let (Some(name), Some(text)) = (name, text) else { continue };
        let reader = table.reader();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let starts = name.value.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts || !name.value.bytes().all(plain) || ["never", "after"].contains(&name.value) {
            let hint = "letters a-z first, then a-z, 0-9 and `-`: \"standard\"";
            reader.error(name.span, "this cannot be the name of an expiry profile", hint);
            continue;
        }
        match expire::read(text.value, &Profiles::new()) {
            Ok(expire) if profiles.insert(name.value.to_owned(), expire).is_some() => {
                reader.error(name.span, "this profile is given twice", "remove one of the two");
            }
            Ok(_) => {}
            Err((message, hint)) => reader.error(text.span, message, hint),
        }
    }
    profiles
}

/// Nothing if there are none.
pub fn as_text(profiles: &Profiles) -> Option<PolicyText> {
    let one = |(name, expire): (&String, &Expire)| {
        format!("[[expiry]]\nname = \"{name}\"\nexpire = \"{}\"\n", show_expiry(expire.after, expire.pickups))
    };
    let text: String = profiles.iter().map(one).collect();
    (!profiles.is_empty()).then(|| PolicyText { name: TEXT.to_owned(), bytes: text.into_bytes() })
}

/// Those among the texts of a policy.
pub fn of_texts(texts: &[PolicyText]) -> Profiles {
    let Some(text) = texts.iter().find(|text| text.name == TEXT) else { return Profiles::new() };
    let reader = Reader::new(Path::new(TEXT), Arc::from(String::from_utf8_lossy(&text.bytes)));
    let Some(document) = reader.parse() else { return Profiles::new() };
    read(&Table::top(&reader, &document, &crate::config::keys::SERVER_TOP, &SERVER))
}
