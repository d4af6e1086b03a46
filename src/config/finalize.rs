//! `finalize` of a `[[folder]]`: a word, or a word and a duration. What could leave every file undelivered is refused.

use std::time::Duration;

use crate::config::suggest::nearest;
use crate::config::table::Table;
use crate::names::FileName;
use crate::policy::units::{parse_span, show_span};
use crate::policy::{Finalize, FolderKind, Patterns};

/// What the key takes, for messages.
const WORDS: &str = "it is \"close\", \"rename\", or \"quiet\" and a duration: \"quiet 5min\"";

/// Shorter than a client takes between two requests: nothing that is quiet for less means anything.
const QUIET_MIN: Duration = Duration::from_secs(1);

/// What clients that are refused a final name are told to use.
const ADVISED: &[u8] = b"NAME.part";

pub fn finalize(
    table: &Table<'_>,
    kind: Option<FolderKind>,
    temp_names: Option<&Patterns>,
    resume_window: Option<Duration>,
) -> Option<Finalize> {
    let reader = table.reader();
    let text = table.text_or_default("finalize")?;
    let refuse = |message: String, hint: String| {
        reader.error(text.span.clone(), message, hint);
        None
    };
    let (word, rest) = text.value.split_once(' ').unwrap_or((text.value, ""));
    let finalize = match (word, rest.trim()) {
        ("close", "") => return Some(Finalize::Close),
        ("rename", "") => Finalize::Rename,
        ("quiet", "") => {
            return refuse("quiet for how long?".to_owned(), "write for example \"quiet 5min\"".to_owned());
        }
        ("quiet", span) => match parse_span(span) {
            Ok(span) if span < QUIET_MIN => {
                return refuse("this is no quiet period".to_owned(), "\"close\" waits for nothing".to_owned());
            }
            Ok(span) => Finalize::Quiet(span),
            Err(error) => return refuse(error.message, error.hint),
        },
        ("close" | "rename", _) => {
            return refuse(format!("\"{word}\" has no duration"), WORDS.to_owned());
        }
        _ => {
            let hint = match nearest(word, ["close", "rename", "quiet"]) {
                Some(near) => format!("did you mean \"{near}\"? {WORDS}"),
                None => WORDS.to_owned(),
            };
            return refuse(format!("\"{}\" is not a word for `finalize`", text.value), hint);
        }
    };
    if kind == Some(FolderKind::Shared) {
        let hint = "a shared file is its owner's as soon as it is closed: leave `finalize` out";
        return refuse("only a drop is delivered later than it is closed".to_owned(), hint.to_owned());
    }
    match finalize {
        Finalize::Rename => {
            let temp_names = temp_names?;
            if temp_names.is_empty() {
                let hint = "name temp names in `temp_names`, or leave it out for those of common clients";
                return refuse(
                    "nothing could be sent: without temp names there is nothing to rename".to_owned(),
                    hint.to_owned(),
                );
            }
            if !FileName::new(ADVISED).is_ok_and(|name| temp_names.matches(&name)) {
                let hint = "add \"*.part\" to `temp_names`, or tell the partner which name to use";
                reader.warn(
                    text.span.clone(),
                    "who sends a final name is told to use NAME.part, which is no temp name here",
                    hint,
                );
            }
        }
        Finalize::Quiet(span) if resume_window.is_some_and(|window| span > window) => {
            let window = show_span(resume_window.unwrap_or_default());
            let hint = format!("an upload can be continued for `resume_window`, {window}: quiet is at most that");
            return refuse("the quiet period is longer than an upload is kept".to_owned(), hint);
        }
        _ => {}
    }
    Some(finalize)
}
