//! `[approval]`: which acts need a second person. Only what the daemon itself carries out can: whoever may write its files
//! does the rest without asking it, and a setting that pretends otherwise would be believed.

use std::time::Duration;

use crate::config::settings::{Approval, Dangerous};
use crate::config::table::{At, Table};

const ACTS: [(&str, Dangerous); 9] = [
    ("shred", Dangerous::Shred),
    ("release", Dangerous::Release),
    ("hold", Dangerous::Hold),
    ("rotate", Dangerous::Rotate),
    ("kick", Dangerous::Kick),
    ("sweep", Dangerous::Sweep),
    ("reload", Dangerous::Reload),
    ("backup", Dangerous::Backup),
    ("break-glass", Dangerous::BreakGlass),
];

/// Commands that change files by themselves, the daemon running or not.
const UNASKED: [&str; 18] = [
    "audit prune",
    "prune",
    "rewrap",
    "user",
    "user add",
    "user disable",
    "user enable",
    "user keys",
    "disable",
    "onboard",
    "init",
    "fsck",
    "restore",
    "passwd",
    "totp",
    "export",
    "serve",
    "keygen",
];

/// Shorter nobody can answer, and what was approved last month is about another server.
const WITHIN: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 86_400);

/// `None` if the reader has been told of an error.
pub fn read(table: &Table<'_>) -> Option<Approval> {
    let within = table.span("within").filter(|within| {
        let holds = WITHIN.contains(&within.value);
        if !holds {
            table.reader().error(within.span.clone(), "this is no time to find a second person in", "1min to 30 days");
        }
        holds
    });
    let mut acts = Vec::new();
    for text in table.has("acts").then(|| table.texts("acts")).flatten().map(|texts| texts.value).unwrap_or_default() {
        if let Some(act) = act(table, &text)
            && !acts.contains(&act)
        {
            acts.push(act);
        }
    }
    Some(Approval { acts, within: within?.value })
}

fn act(table: &Table<'_>, text: &At<&str>) -> Option<Dangerous> {
    let known = ACTS.iter().any(|(word, _)| *word == text.value);
    if !known && UNASKED.contains(&text.value) {
        let words: Vec<&str> = ACTS.iter().map(|(word, _)| *word).collect();
        table.reader().error(
            text.span.clone(),
            format!("`{}` does not ask the daemon, so no approval can hold it up", text.value),
            format!(
                "it is done by whoever may write the files: guard those. `acts` takes {}",
                super::keys::quoted(&words)
            ),
        );
        return None;
    }
    table.one_of("acts", text, &ACTS)
}
