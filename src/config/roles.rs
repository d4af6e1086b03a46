//! `[roles]`: which Unix group has which role, and which are root's.

use crate::config::keys::{ROLES, SERVER};
use crate::config::settings::RoleGroups;
use crate::config::table::Table;
use crate::names::Role;

/// `None` if the reader has been told of an error.
pub fn read(top: &Table<'_>) -> Option<RoleGroups> {
    let table = top.table("roles", &ROLES, &SERVER);
    let mut groups = Vec::new();
    for role in Role::ALL.into_iter().filter(|role| table.has(role.word())) {
        let name = table.text(role.word())?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if name.value.is_empty() || name.value.starts_with('-') || !name.value.bytes().all(plain) {
            table.reader().error(name.span, "this cannot be the name of a group", "for example \"sealdrop-admin\"");
            return None;
        }
        groups.push((role, name.value.to_owned()));
    }
    let root = if table.has("root") {
        let words: Vec<_> = Role::ALL.into_iter().map(|role| (role.word(), role)).collect();
        let texts = table.texts("root")?;
        if texts.value.is_empty() {
            let hint = "root reads every file here as it is: leave it `auditor` at the least";
            table.reader().error(texts.span, "root is something on its own machine", hint);
            return None;
        }
        texts.value.iter().map(|text| table.one_of("root", text, &words)).collect::<Option<Vec<_>>>()?
    } else {
        Role::ALL.to_vec()
    };
    for role in Role::ALL {
        if !root.contains(&role) && !groups.iter().any(|(of, _)| *of == role) {
            let message = format!("nobody is {role}: what is for that role alone cannot be done");
            let hint = format!("name a group, {role} = \"sealdrop-{role}\", or give it to root");
            table.reader().warn(table.span_of("root"), message, hint);
        }
    }
    Some(RoleGroups { groups, root })
}
