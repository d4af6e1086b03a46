//! The `[[folder]]` tables of a policy file. A folder is what a typo must not open: each is refused unless its place,
//! its kind and, for a drop, its recipients and its end are said.

use crate::config::expire::{self, Expire};
use crate::config::finalize::finalize;
use crate::config::profiles::Profiles;
use crate::config::reader::Reader;
use crate::config::recipient;
use crate::config::table::{At, Table};
use crate::names::UserName;
use crate::policy::decide::{INBOX, RECEIPTS, STAGING};
use crate::policy::patterns::TEMP_NAMES;
use crate::policy::units::show_span;
use crate::policy::{Act, Folder, FolderKind, Mtime, Overwrite, Patterns, Phi, SenderDelete};
use crate::seal::RECIPIENTS_MAX;
use crate::sums::{Algorithm, Keeps};
use crate::vpath::VirtualPath;

/// The folders without an error of their own; names of recipients go to `to_all`.
pub fn folders(tables: Vec<Table<'_>>, to_all: &mut Vec<At<UserName>>, profiles: &Profiles) -> Vec<Folder> {
    let mut places: Vec<At<VirtualPath>> = Vec::new();
    let mut folders = Vec::new();
    for table in tables {
        let path = path(&table);
        if let Some(path) = &path {
            overlaps(table.reader(), path, &places);
            places.push(path.clone());
        }
        folders.extend(folder(&table, path, to_all, profiles));
    }
    folders
}

fn folder(
    table: &Table<'_>,
    path: Option<At<VirtualPath>>,
    to_all: &mut Vec<At<UserName>>,
    profiles: &Profiles,
) -> Option<Folder> {
    let reader = table.reader();
    let kind = table.word("kind", &[("drop", FolderKind::Drop), ("shared", FolderKind::Shared)]);
    let to = recipients(table, kind);
    to_all.extend(to.iter().cloned());
    let expire = expire::of_folder(table, kind, profiles);
    let ignore_case = table.flag("ignore_case");
    let accept = patterns(table, "accept", ignore_case);
    let refuse = patterns(table, "refuse", ignore_case);
    let refuse_phi = words(table, "refuse_phi", &Phi::ALL.map(|kind| (kind.word(), kind)));
    let deny = deny(table, kind);
    let temp_names =
        if table.has("temp_names") { patterns(table, "temp_names", true) } else { Some(Patterns::temp_names()) };
    let max_size = table.size("max_size");
    if let Some(size) = max_size.as_ref().filter(|size| size.value.0 == 0) {
        reader.error(size.span.clone(), "no file is that small", "leave `max_size` out for no limit");
    }
    let resume_window = table.span("resume_window");
    if let (Some(window), Some(expire)) = (&resume_window, expire.and_then(|expire| expire.after))
        && window.value > expire
        && table.has("resume_window")
    {
        reader.warn(
            window.span.clone(),
            "an unfinished upload lives longer than a finished one",
            format!("`expire` is {}", show_span(expire)),
        );
    }
    let finalize = finalize(table, kind, temp_names.as_ref(), resume_window.as_ref().map(|window| window.value));
    let overwrite = table.word("overwrite", &[("version", Overwrite::Version), ("refuse", Overwrite::Refuse)]);
    let sender_delete = table.word("sender_delete", &[("keep", SenderDelete::Keep), ("shred", SenderDelete::Shred)]);
    if (sender_delete, expire) == (Some(SenderDelete::Shred), Some(Expire::default())) {
        let message = "what never expires has no shred key: its sender's removal reaches no backup";
        reader.warn(table.span_of("sender_delete"), message, "give the folder an `expire`, as long as it may be");
    }
    let escrow = table.text("escrow");
    if let Some(text) = &escrow
        && let Err((message, hint)) = recipient::check(text.value)
    {
        reader.error(text.span.clone(), message, hint);
    }
    let mtime = table.word("mtime", &[("client", Mtime::Client), ("received", Mtime::Received)]);
    let digests = digests(table);
    let end_to_end = match table.has("require") {
        true => table.word("require", &[("e2e", true)]),
        false => Some(false),
    };
    if let (Some(text), Some(true)) = (&escrow, end_to_end) {
        let message = "the server cannot seal to an escrow recipient what its sender has sealed already";
        reader.error(text.span.clone(), message, "leave one of `escrow` and `require` out");
    }
    if kind == Some(FolderKind::Shared) && table.has("require") {
        let hint = "remove `require`; what is sealed with `sealdrop seal` can be kept in any folder";
        reader.error(
            table.span_of("require"),
            "a shared folder has no recipients that a file could be sealed to",
            hint,
        );
    }
    Some(Folder {
        path: path?.value,
        kind: kind?,
        to: to.into_iter().map(|at| at.value).collect(),
        expire: expire?.after,
        pickups: expire?.pickups,
        accept: accept?,
        refuse: refuse?,
        refuse_phi: refuse_phi?,
        deny: deny?,
        max_size: max_size.map(|at| at.value),
        resume_window: resume_window?.value,
        finalize: finalize?,
        overwrite: overwrite?,
        sender_delete: sender_delete?,
        escrow: escrow.map(|text| text.value.to_owned()),
        end_to_end: end_to_end?,
        mtime: mtime?,
        digests: digests?,
        temp_names: temp_names?,
    })
}

fn path(table: &Table<'_>) -> Option<At<VirtualPath>> {
    let reader = table.reader();
    let text = table.text("path")?;
    let refuse = |message: String, hint: String| {
        reader.error(text.span.clone(), message, hint);
        None
    };
    let Ok(path) = VirtualPath::parse(text.value.as_bytes()) else {
        return refuse("this path is too long or too deep".to_owned(), "a few names will do: /radiology".to_owned());
    };
    if !text.value.starts_with('/') {
        return refuse("a folder's path begins with `/`".to_owned(), format!("write \"{path}\""));
    }
    if path.is_root() {
        return refuse("the top itself cannot be a folder".to_owned(), "give it a name: /radiology".to_owned());
    }
    // What normalising would change was not meant as it stands.
    if path.as_bytes() != text.value.as_bytes() {
        return refuse("this path is not in its plain form".to_owned(), format!("write \"{path}\""));
    }
    if text.value.chars().any(char::is_control) || text.value.contains('\\') {
        return refuse(
            "this path holds a backslash or a control character".to_owned(),
            "separate names with `/`".to_owned(),
        );
    }
    if text.value.split('/').any(|name| name.trim() != name) {
        return refuse("a name in this path begins or ends with a space".to_owned(), "remove the space".to_owned());
    }
    let first = path.components().next().unwrap_or_default();
    if [INBOX, RECEIPTS].iter().any(|name| first == name.as_bytes()) {
        let own = String::from_utf8_lossy(first).into_owned();
        let hint = match own == INBOX {
            true => "for files delivered to this user write [inbox]; otherwise take another name".to_owned(),
            false => "take another name".to_owned(),
        };
        return refuse(format!("`/{own}` is the server's own folder"), hint);
    }
    if first.starts_with(STAGING.as_bytes()) {
        return refuse(
            format!("names that begin with `/{STAGING}` are the server's own"),
            "take another name".to_owned(),
        );
    }
    Some(At { value: path, span: text.span })
}

fn overlaps(reader: &Reader, path: &At<VirtualPath>, others: &[At<VirtualPath>]) {
    if others.iter().any(|other| other.value == path.value) {
        reader.error(path.span.clone(), "this folder is given twice", "remove one, or change its path");
        return;
    }
    let nested =
        |other: &&At<VirtualPath>| path.value.below(&other.value).is_some() || other.value.below(&path.value).is_some();
    if let Some(other) = others.iter().find(nested) {
        let message = format!("this folder and `{}` lie one within the other", other.value);
        reader.error(path.span.clone(), message, "which rules would hold there? put them side by side");
        return;
    }
    let alike = |other: &&At<VirtualPath>| other.value.as_bytes().eq_ignore_ascii_case(path.value.as_bytes());
    if let Some(other) = others.iter().find(alike) {
        let message = format!("this folder and `{}` differ in the case of letters only", other.value);
        reader.warn(path.span.clone(), message, "people and some clients will take one for the other");
    }
}

fn recipients(table: &Table<'_>, kind: Option<FolderKind>) -> Vec<At<UserName>> {
    let reader = table.reader();
    let mut names: Vec<At<UserName>> = Vec::new();
    match (kind, table.has("to")) {
        (Some(FolderKind::Shared), true) => {
            let hint = "write kind = \"drop\" to deliver files to others, or remove `to`";
            reader.error(table.span_of("to"), "a shared folder is its owner's alone and has no `to`", hint);
            return names;
        }
        (Some(FolderKind::Drop), false) => {
            let hint = "to = [\"st-mary-radiology\"], a user with an [inbox]";
            reader.error(table.span.clone(), "`to` is missing: a drop is delivered to someone", hint);
            return names;
        }
        (_, false) => return names,
        (_, true) => {}
    }
    let Some(texts) = table.texts("to") else { return names };
    if texts.value.is_empty() {
        reader.error(texts.span.clone(), "nobody could read this drop", "name a user with an [inbox]");
    }
    // One place less where there is an escrow recipient.
    if texts.value.len() + usize::from(table.has("escrow")) > RECIPIENTS_MAX {
        let hint = format!("at most {RECIPIENTS_MAX} fit into a sealed file: make another folder for the rest");
        reader.error(texts.span.clone(), "too many recipients for one drop", hint);
    }
    for text in texts.value {
        match text.value.parse::<UserName>() {
            Ok(name) if names.iter().any(|other| other.value == name) => {
                reader.error(text.span, "this recipient is named twice", "remove one of the two");
            }
            Ok(name) => names.push(At { value: name, span: text.span }),
            Err(error) => reader.error(text.span, "this cannot be a user's name", error.to_string()),
        }
    }
    names
}

pub fn patterns(table: &Table<'_>, name: &str, ignore_case: bool) -> Option<Patterns> {
    let reader = table.reader();
    if !table.has(name) {
        return Some(Patterns::none());
    }
    let texts = table.texts(name)?;
    if texts.value.is_empty() && name == "accept" {
        reader.error(texts.span, "does an empty `accept` take every name or none?", "leave the key out for every name");
        return None;
    }
    let words: Vec<&str> = texts.value.iter().map(|text| text.value).collect();
    // Each by itself, so that all the bad ones are shown.
    for text in &texts.value {
        if let Err((_, error)) = Patterns::new(&[text.value], ignore_case) {
            let hint = "for example \"*.dcm\", \"scan-[0-9]*.zip\", \"*.{dcm,zip}\"; a backslash takes a sign as it is";
            reader.error(text.span.clone(), error.to_string(), hint);
        }
    }
    if name == "accept" && !table.has("temp_names") {
        for text in texts.value.iter().filter(|text| TEMP_NAMES.contains(&text.value)) {
            let hint = "such a file is delivered when it is renamed; set `temp_names` if this is its final name";
            reader.warn(text.span.clone(), "this is also a temp name, and those are never delivered", hint);
        }
    }
    if name == "refuse" {
        let accepted: Vec<&str> =
            table.texts("accept").map(|list| list.value.iter().map(|text| text.value).collect()).unwrap_or_default();
        let shut = |text: &&At<&str>| text.value == "*" || (accepted.len() == 1 && accepted.contains(&text.value));
        for text in texts.value.iter().filter(shut) {
            reader.warn(
                text.span.clone(),
                "no file name is left that this folder takes",
                "`refuse` holds even for names that `accept` takes",
            );
        }
    }
    Patterns::new(&words, ignore_case).ok()
}

fn deny(table: &Table<'_>, kind: Option<FolderKind>) -> Option<Vec<Act>> {
    let acts = words(table, "deny", &Act::ALL.map(|act| (act.word(), act)))?;
    let has = |act| acts.contains(&act);
    if kind == Some(FolderKind::Drop) && has(Act::Get) {
        table.reader().warn(table.span_of("deny"), "a drop is never read back", "leave \"get\" out of `deny`");
    }
    if kind == Some(FolderKind::Drop) && has(Act::Put) {
        let hint = "to stop one for a while, this is right; otherwise remove the folder";
        table.reader().warn(table.span_of("deny"), "nothing can be sent to this drop", hint);
    }
    Some(acts)
}

/// A list of words, each once; `None` if one is none.
fn words<T: Copy + PartialEq>(table: &Table<'_>, name: &str, all: &[(&'static str, T)]) -> Option<Vec<T>> {
    if !table.has(name) {
        return Some(Vec::new());
    }
    let texts = table.texts(name)?;
    let mut found = Vec::new();
    for text in &texts.value {
        match table.one_of(name, text, all) {
            Some(word) if found.contains(&word) => {
                table.reader().error(text.span.clone(), "this word is there twice", "remove one of the two");
            }
            word => found.extend(word),
        }
    }
    (found.len() == texts.value.len()).then_some(found)
}

fn digests(table: &Table<'_>) -> Option<Keeps> {
    let reader = table.reader();
    if !table.has("digests") {
        return Some(Keeps::default());
    }
    let texts = table.texts("digests")?;
    let mut keeps = Keeps::default();
    for text in &texts.value {
        if text.value == Algorithm::Sha256.word() {
            reader.error(text.span.clone(), "SHA-256 is kept of every file", "`digests` names what is kept beside it");
            continue;
        }
        let words = [Algorithm::Md5, Algorithm::Sha1].map(|algorithm| (algorithm.word(), algorithm));
        match table.one_of("digests", text, &words) {
            Some(Algorithm::Md5) => keeps.md5 = true,
            Some(Algorithm::Sha1) => keeps.sha1 = true,
            Some(Algorithm::Sha256) | None => {}
        }
    }
    Some(keeps)
}
