//! How long a drop lives: `"72h"`, `"never"`, `"after 1 pickup"`, `"72h or after 2 pickups"`. Read for a folder's
//! `expire`; whichever comes first ends the drop.

use std::time::Duration;

use crate::config::profiles::Profiles;
use crate::config::suggest::nearest;
use crate::config::table::Table;
use crate::policy::FolderKind;
use crate::policy::units::parse_span;

/// The sweep's grain: what lives shorter could not be pulled by anyone.
const SPAN_MIN: Duration = Duration::from_secs(60);

/// Beyond it nobody counts any more, and means no limit.
const PICKUPS_MAX: u32 = 1_000;

/// When a drop expires; neither: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expire {
    /// Counted from receipt.
    pub after: Option<Duration>,
    /// Of each recipient.
    pub pickups: Option<u32>,
}

/// Of a folder; `None`: it cannot be used.
pub fn of_folder(table: &Table<'_>, kind: Option<FolderKind>, profiles: &Profiles) -> Option<Expire> {
    let reader = table.reader();
    if !table.has("expire") {
        return match kind {
            Some(FolderKind::Shared) => Some(Expire::default()),
            Some(FolderKind::Drop) => {
                let hint = "expire = \"72h\", counted from receipt; or expire = \"never\"";
                reader.error(table.span.clone(), "`expire` is missing: say how long a drop lives", hint);
                None
            }
            None => None,
        };
    }
    let text = table.text("expire")?;
    let expire = match read(text.value, profiles) {
        Ok(expire) => expire,
        Err((message, hint)) => {
            reader.error(text.span, message, hint);
            return None;
        }
    };
    if expire.pickups.is_some() && kind == Some(FolderKind::Shared) {
        let hint = "give a duration, or leave `expire` out";
        reader.error(text.span, "a shared folder is its owner's: nobody picks anything up there", hint);
        return None;
    }
    if expire.pickups.is_some() && expire.after.is_none() {
        let hint = format!("say by when it ends in any case: \"30 days or {}\"", text.value);
        reader.warn(text.span, "what one of its recipients never picks up is kept for ever", hint);
    }
    Some(expire)
}

/// Reads the value; the error is a message and a hint.
pub fn read(text: &str, profiles: &Profiles) -> Result<Expire, (String, String)> {
    if let Some(profile) = profiles.get(text) {
        return Ok(*profile);
    }
    if text != "never" && text.starts_with(|c: char| c.is_ascii_alphabetic()) && !text.contains(' ') {
        let hint = match nearest(text, profiles.keys().map(String::as_str).chain(["never"])) {
            Some(name) => format!("did you mean \"{name}\"?"),
            None => {
                "a profile is an [[expiry]] in sealdrop.toml; a duration begins with its number: \"72h\"".to_owned()
            }
        };
        return Err((format!("there is no expiry profile \"{text}\""), hint));
    }
    const HOW: &str = "write for example \"72h\", \"after 1 pickup\" or \"72h or after 2 pickups\"";
    let mut expire = Expire::default();
    let terms: Vec<&str> = text.split(" or ").map(str::trim).collect();
    for term in &terms {
        if let Some(count) = term.strip_prefix("after ") {
            if expire.pickups.is_some() {
                return Err(("pickups are limited twice".to_owned(), HOW.to_owned()));
            }
            expire.pickups = Some(pickups(count.trim())?);
        } else if *term == "never" {
            if terms.len() > 1 {
                let hint = "leave \"never or\" out: \"after 1 pickup\" has no end by time";
                return Err(("\"never\" stands alone".to_owned(), hint.to_owned()));
            }
        } else if expire.after.is_some() {
            return Err(("two durations, and only the shorter could count".to_owned(), HOW.to_owned()));
        } else {
            expire.after = Some(span(term)?);
        }
    }
    Ok(expire)
}

fn span(text: &str) -> Result<Duration, (String, String)> {
    if text.contains("pickup") {
        return Err(("pickups are counted".to_owned(), format!("write \"after {text}\"")));
    }
    let span = parse_span(text).map_err(|error| (error.message, error.hint))?;
    if span < SPAN_MIN {
        let hint = "write \"never\" if it shall not expire";
        return Err(("a drop lives for a minute at least".to_owned(), hint.to_owned()));
    }
    Ok(span)
}

/// `1 pickup`, `2 pickups`.
fn pickups(text: &str) -> Result<u32, (String, String)> {
    let how = || "write \"after 1 pickup\" or \"after 2 pickups\"".to_owned();
    let (number, word) = text.split_once(' ').unwrap_or((text, ""));
    let count = number.parse::<u32>().ok().filter(|_| number.bytes().all(|b| b.is_ascii_digit()));
    match (count, word.trim()) {
        (Some(count @ 1..=PICKUPS_MAX), "pickup" | "pickups") => Ok(count),
        (Some(_), "pickup" | "pickups") => Err((
            format!("pickups are limited to between 1 and {PICKUPS_MAX}"),
            "leave them out for no limit".to_owned(),
        )),
        (None, "pickup" | "pickups") => Err((format!("`{number}` is no number of pickups"), how())),
        _ => Err((format!("after what? `{text}` is no number of pickups"), how())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::units::show_expiry;

    #[test]
    fn an_expiry_is_a_time_a_number_of_pickups_or_both() {
        let expire =
            |hours: Option<u64>, pickups| Expire { after: hours.map(|h| Duration::from_secs(h * 3_600)), pickups };
        for (text, means) in [
            ("72h", expire(Some(72), None)),
            ("never", expire(None, None)),
            ("after 1 pickup", expire(None, Some(1))),
            ("72h or after 2 pickups", expire(Some(72), Some(2))),
            ("after 2 pickups or 3 days", expire(Some(72), Some(2))),
        ] {
            assert_eq!(read(text, &Profiles::new()), Ok(means), "{text}");
            assert_eq!(read(&show_expiry(means.after, means.pickups), &Profiles::new()), Ok(means), "{text}");
        }
    }

    #[test]
    fn what_could_be_meant_otherwise_is_refused_with_the_way_to_write_it() {
        for (text, hint) in [
            ("never or after 1 pickup", "after 1 pickup"),
            ("1 pickup", "after 1 pickup"),
            ("after one pickup", "after 1 pickup"),
            ("after 0 pickups", "no limit"),
            ("after 1001 pickups", "no limit"),
            ("after +1 pickups", "after 1 pickup"),
            ("after 72h", "after 1 pickup"),
            ("after 1 pickup or after 2 pickups", "72h or after"),
            ("72h or 24h", "72h or after"),
            ("standard", "[[expiry]]"),
            ("72", "72h"),
            ("30s", "never"),
        ] {
            assert!(
                read(text, &Profiles::new()).unwrap_err().1.contains(hint),
                "{text}: {:?}",
                read(text, &Profiles::new())
            );
        }
        for text in ["", " or ", "after ", "or after 1 pickup", "72h or"] {
            assert!(read(text, &Profiles::new()).is_err(), "{text}");
        }
    }
}
