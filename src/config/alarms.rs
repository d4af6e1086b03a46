//! `[alarms]`: what the operator is told of, and the program that tells it on. Whether its account exists shows when the
//! server starts.

use std::time::Duration;

use crate::config::settings::{Alarms, Hook, NoticeKind};
use crate::config::table::Table;

/// `sealdrop alarms --test` waits for the program, and a command waits for its answer a minute.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

const NOTICES: [(&str, NoticeKind); 5] = [
    ("raised", NoticeKind::Raised),
    ("cleared", NoticeKind::Cleared),
    ("received", NoticeKind::Received),
    ("picked-up", NoticeKind::PickedUp),
    ("expired", NoticeKind::Expired),
];

/// `gate` is the account of strangers' connections. `None` if the reader has been told of an error.
pub fn read(table: &Table<'_>, gate: Option<&str>) -> Option<Alarms> {
    let hook = hook(table, gate);
    let notices = notices(table);
    let (give_up, unpicked, disk) = (table.span("give_up"), table.span("unpicked"), table.size("disk"));
    let (refusals_within, key_end) = (table.span("refusals_within"), table.span("key_end"));
    let (queue, refusals) = (table.count("queue", 1..=10_000), table.count("refusals", 1..=1_000));
    Some(Alarms {
        hook: hook?,
        notices: notices?,
        queue: queue?,
        give_up: give_up?.value,
        unpicked: unpicked?.value,
        disk: disk?.value,
        refusals: u32::try_from(refusals?).ok()?,
        refusals_within: refusals_within?.value,
        key_end: key_end?.value,
    })
}

/// Inner `None`: there is no hook.
fn hook(table: &Table<'_>, gate: Option<&str>) -> Option<Option<Hook>> {
    let reader = table.reader();
    let timeout = table.span("hook_timeout")?;
    if timeout.value.is_zero() || timeout.value > TIMEOUT_MAX {
        reader.error(timeout.span, "a hook has from 1 s to 30 s", "what takes longer hands its work on and ends");
        return None;
    }
    let user = table.text("hook_user");
    if let Some(text) = &user {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if ["root", "0"].contains(&text.value) {
            reader.error(text.span.clone(), "a hook does not run as root", "make an account for it that owns nothing");
            return None;
        }
        if Some(text.value) == gate {
            let hint = "a program with the gate's id could end the gate: make another account for the hook";
            reader.error(text.span.clone(), "this is the account of the gate", hint);
            return None;
        }
        if text.value.is_empty() || text.value.starts_with('-') || !text.value.bytes().all(plain) {
            reader.error(text.span.clone(), "this cannot be the name of an account", "for example \"sealdrop-hook\"");
            return None;
        }
    }
    if !table.has("hook") {
        return Some(None);
    }
    let words = table.texts("hook")?;
    match words.value.first() {
        None => {
            reader.error(words.span, "an empty hook", "leave the key out for none");
            return None;
        }
        Some(program) if !program.value.starts_with('/') => {
            let hint = "nothing is searched for and no shell is between: [\"/usr/local/bin/tell\", \"ops\"]";
            reader.error(program.span.clone(), "a hook is named by its whole path", hint);
            return None;
        }
        Some(_) => {}
    }
    if let Some(word) = words.value.iter().find(|word| word.value.contains('\0')) {
        reader.error(word.span.clone(), "no argument holds a zero byte", "remove it");
        return None;
    }
    let argv = words.value.iter().map(|word| word.value.to_owned()).collect();
    Some(Some(Hook { argv, user: user.map(|text| text.value.to_owned()), timeout: timeout.value }))
}

fn notices(table: &Table<'_>) -> Option<Vec<NoticeKind>> {
    if !table.has("notices") {
        return Some(vec![NoticeKind::Raised, NoticeKind::Cleared]);
    }
    let texts = table.texts("notices")?;
    let mut kinds = Vec::new();
    for text in &texts.value {
        if let Some(kind) = table.one_of("notices", text, &NOTICES)
            && !kinds.contains(&kind)
        {
            kinds.push(kind);
        }
    }
    Some(kinds)
}
