//! `[[due]]`: which deliveries of a user are waited for.

use crate::config::folders;
use crate::config::table::Table;
use crate::policy::due::BY_HINT;
use crate::policy::{By, Due, Folder};

/// Those that can be used; of the others the reader has been told.
pub fn read(tables: Vec<Table<'_>>, of_user: &[Folder]) -> Vec<Due> {
    tables.iter().filter_map(|table| one(table, of_user)).collect()
}

fn one(table: &Table<'_>, of_user: &[Folder]) -> Option<Due> {
    let reader = table.reader();
    let (folder, by) = (table.text("folder"), table.text("by"));
    let by = by.and_then(|text| match By::parse(text.value) {
        Ok(by) => Some(by),
        Err(_) => {
            reader.error(text.span, "this is not a time that something is due by", BY_HINT);
            None
        }
    });
    let folder = folder.and_then(|text| {
        let found = of_user.iter().find(|folder| folder.path.as_bytes() == text.value.as_bytes());
        if found.is_none() {
            let paths: Vec<String> = of_user.iter().map(|folder| format!("`{}`", folder.path)).collect();
            let hint = match paths.is_empty() {
                true => "the user has none: write [[folder]] first".to_owned(),
                false => format!("the folders of this user are {}", paths.join(", ")),
            };
            reader.error(text.span, "this is not a folder of the user", hint);
        }
        found.map(|folder| folder.path.clone())
    });
    let within = table.span("within");
    if let Some(within) = within.as_ref().filter(|within| within.value.is_zero()) {
        reader.error(within.span.clone(), "nothing can come within no time", "within = \"24h\"");
    }
    let files = table.count("files", 1..=1_000_000);
    let names = folders::patterns(table, "names", false);
    Some(Due { folder: folder?, by: by?, within: within?.value, files: files?, names: names? })
}
