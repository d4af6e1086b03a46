//! The table in docs/clients.md: read, held against a row that was found out, and written where that was asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::{ALL, COLUMNS};

const BEGIN: &str = "<!-- the table: written by SEALDROP_WRITE_DOCS=1 scripts/test matrix:: -->";
const END: &str = "<!-- its end -->";

/// Rows are found out at the same time; one is written at a time.
static WRITING: Mutex<()> = Mutex::new(());

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md")
}

/// What is before the rows, the rows, and what is after them.
fn parts() -> (String, Vec<Vec<String>>, String) {
    let text = fs::read_to_string(page()).expect("docs/clients.md");
    let (before, rest) = text.split_once(BEGIN).expect("the table's beginning");
    let (table, after) = rest.split_once(END).expect("the table's end");
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    (before.to_owned(), rows.map(cells).collect(), after.to_owned())
}

/// The clients of the document, in its order.
pub fn names() -> Vec<String> {
    let _one = WRITING.lock();
    parts().1.into_iter().filter_map(|row| row.into_iter().next()).collect()
}

/// Holds a row against the document, or writes it there.
pub fn hold(name: &str, version: &str, cells: &[String]) {
    assert!(!version.is_empty(), "{name} says its version");
    let _one = WRITING.lock();
    let (before, mut rows, after) = parts();
    if std::env::var_os("SEALDROP_WRITE_DOCS").is_none() {
        let row = rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("docs/clients.md has no {name}"));
        assert_eq!(&row[2..], cells, "docs/clients.md says otherwise of {name}");
        return;
    }
    rows.retain(|row| row[0] != name);
    rows.push([&[name.to_owned(), version.to_owned()], cells].concat());
    rows.sort_by_key(|row| ALL.iter().position(|client| client.name == row[0]));
    let mut text = format!("{before}{BEGIN}\n| client | version tested | {} |\n", COLUMNS.join(" | "));
    text.push_str(&format!("|---|---{}|\n", "|---".repeat(COLUMNS.len())));
    for row in rows {
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    fs::write(page(), text + END + &after).expect("docs/clients.md can be written");
}
