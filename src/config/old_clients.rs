//! `[[old_clients]]`: from where, until when, and which old algorithms a client may use. Each has an end, since nobody
//! takes such a thing away who is not made to.

use crate::clock::Time;
use crate::config::keys::{OLD_CLIENTS, SERVER};
use crate::config::login;
use crate::config::problem::{Problem, Severity};
use crate::config::settings::{OldAlgorithm, OldClients, Settings};
use crate::config::table::Table;

const WORDS: [(&str, OldAlgorithm); 5] = [
    ("hmac-sha2", OldAlgorithm::HmacSha2),
    ("hmac-sha1", OldAlgorithm::HmacSha1),
    ("dh-group14-sha256", OldAlgorithm::Group14Sha256),
    ("dh-group14-sha1", OldAlgorithm::Group14Sha1),
    ("ssh-rsa", OldAlgorithm::SshRsa),
];

/// `None` for one that the reader has been told of an error in.
pub fn read(top: &Table<'_>) -> Vec<Option<OldClients>> {
    top.tables("old_clients", &OLD_CLIENTS, &SERVER).iter().map(one).collect()
}

fn one(table: &Table<'_>) -> Option<OldClients> {
    if !table.has("from") {
        table.missing("from");
    }
    let from = login::from(table).filter(|nets| !nets.is_empty());
    let until = table.moment("until");
    let texts = table.texts("algorithms")?;
    if texts.value.is_empty() {
        table.reader().error(texts.span.clone(), "an empty list of algorithms", "remove this [[old_clients]]");
    }
    let algorithms = texts.value.iter().filter_map(|word| table.one_of("algorithms", word, &WORDS)).collect();
    Some(OldClients { from: from?, until: until?.value, algorithms })
}

/// Of those that have ended, which nobody needs any more.
pub fn ended(settings: &Settings, path: &std::path::Path, now: Time) -> Vec<Problem> {
    let ended = settings.old_clients.iter().filter(|old| old.until <= now);
    ended
        .map(|old| {
            let message = format!("[[old_clients]] from {} ended on {}", old.from_words(), old.until);
            Problem::of_file(
                Severity::Warning,
                path,
                message,
                "their clients connect no more, or with newer algorithms: remove it",
            )
        })
        .collect()
}
