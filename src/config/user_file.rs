//! One policy file into a [`User`]: everything that can be said by looking at this file alone. Pure: text in; a user,
//! or problems, out. What concerns several files is `cross`.

use std::ops::Range;
use std::sync::Arc;

use crate::config::keys::{FOLDER, INBOX, LOGIN, POLICY, USER_LIMITS, USER_TOP};
use crate::config::reader::Reader;
use crate::config::table::{At, Table};
use crate::config::{login, recipient};
use crate::names::UserName;
use crate::policy::{Inbox, Kem, Limits, PublicKey, User};

/// What the other files need to know of this one.
pub struct UserFile {
    pub reader: Reader,
    /// From the file's name, which a broken file has too.
    pub stem: String,
    /// The name it claims.
    pub user: Option<At<UserName>>,
    /// `None` where the file does not say, being broken.
    pub has_inbox: Option<bool>,
    /// Every name in every `to`.
    pub to: Vec<At<UserName>>,
    pub keys: Vec<At<PublicKey>>,
    pub password: Option<Range<usize>>,
    /// `None` if there is an error.
    pub parsed: Option<User>,
}

impl UserFile {
    pub fn read(reader: Reader) -> Self {
        let stem = reader.file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let (to, keys) = (Vec::new(), Vec::new());
        let mut file = Self { reader, stem, user: None, has_inbox: None, to, keys, password: None, parsed: None };
        file.parsed = file.parse();
        file
    }

    fn parse(&mut self) -> Option<User> {
        let reader = &self.reader;
        let document = reader.parse()?;
        let top = Table::top(reader, &document, &USER_TOP, &POLICY);
        self.user = user(&top, &self.stem);
        let login_table = top.table("login", &LOGIN, &POLICY);
        if !top.has("login") {
            top.missing("login");
        }
        self.password = login_table.has("password").then(|| login_table.span_of("password"));
        let login = login::login(&login_table, &mut self.keys);
        let limits = limits(&top.table("limits", &USER_LIMITS, &POLICY));
        let folders = crate::config::folders::folders(top.tables("folder", &FOLDER, &POLICY), &mut self.to);
        self.has_inbox = Some(top.has("inbox"));
        let inbox = top.has("inbox").then(|| inbox(&top.table("inbox", &INBOX, &POLICY)));
        if reader.has_errors() {
            return None;
        }
        Some(User {
            name: self.user.clone()?.value,
            login: login?,
            limits,
            folders: folders.into_iter().map(Arc::new).collect(),
            inbox: inbox.flatten(),
        })
    }
}

fn user(top: &Table<'_>, stem: &str) -> Option<At<UserName>> {
    let text = top.text("user")?;
    match text.value.parse::<UserName>() {
        Ok(name) => {
            if name.as_str() != stem {
                let hint = format!("rename the file to {name}.toml, or write user = \"{stem}\"");
                top.reader().error(text.span.clone(), "the user's name is not the file's name", hint);
            }
            Some(At { value: name, span: text.span })
        }
        Err(error) => {
            top.reader().error(text.span, "this cannot be a user's name", error.to_string());
            None
        }
    }
}

fn limits(table: &Table<'_>) -> Limits {
    let bytes = table.size("bytes");
    if let Some(At { span, .. }) = bytes.as_ref().filter(|bytes| bytes.value.0 == 0) {
        table.reader().error(
            span.clone(),
            "a limit of nothing",
            "to stop uploads remove the folders; to lock the account write disabled = true",
        );
    }
    Limits {
        bytes: bytes.map(|at| at.value),
        files: table.count("files", 1..=u64::MAX),
        sessions: table.count("sessions", 1..=10_000).and_then(|number| u32::try_from(number).ok()),
    }
}

#[derive(Clone, Copy)]
enum InboxMode {
    Managed,
    Sealed,
}

fn inbox(table: &Table<'_>) -> Option<Inbox> {
    let reader = table.reader();
    let mode = table.word("mode", &[("managed", InboxMode::Managed), ("sealed", InboxMode::Sealed)])?;
    match mode {
        InboxMode::Managed => {
            if table.has("key") {
                let hint = "write mode = \"sealed\" if only the recipient shall open files, or remove `key`";
                reader.error(table.span_of("key"), "in mode \"managed\" the server makes the key itself", hint);
            }
            Some(Inbox::Managed { kem: table.word("kem", &[("p256", Kem::P256), ("x25519", Kem::X25519)])? })
        }
        InboxMode::Sealed => {
            if table.has("kem") {
                reader.error(
                    table.span_of("kem"),
                    "in mode \"sealed\" the kind of key is the recipient's choice",
                    "remove `kem`",
                );
            }
            let Some(key) = table.text("key") else {
                if !table.has("key") {
                    let hint = "key = \"sealdrop1…\", which the recipient makes with `sealdrop keygen`";
                    reader.error(table.span.clone(), "mode \"sealed\" needs the recipient's `key`", hint);
                }
                return None;
            };
            match recipient::check(key.value) {
                Ok(()) => Some(Inbox::Sealed { recipient: key.value.to_owned() }),
                Err((message, hint)) => {
                    if !key.value.starts_with("sealdrop1") {
                        reader.hide(key.span.clone());
                    }
                    reader.error(key.span, message, hint);
                    None
                }
            }
        }
    }
}
