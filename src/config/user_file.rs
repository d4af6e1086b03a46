//! One policy file into a [`User`]: everything that can be said by looking at this file alone. Pure: text in; a user,
//! or problems, out. What concerns several files is `cross`.

use std::ops::Range;
use std::sync::Arc;

use crate::config::keys::{DUE, FOLDER, INBOX, LOGIN, POLICY, USER_LIMITS, USER_TOP};
use crate::config::reader::Reader;
use crate::config::table::{At, Table};
use crate::config::template::{self, Shared};
use crate::config::{due, login, recipient};
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
    pub principals: Option<Range<usize>>,
    pub template: Option<String>,
    /// `None` if there is an error.
    pub parsed: Option<User>,
}

impl UserFile {
    pub fn read(reader: Reader, shared: &Shared) -> Self {
        let stem = reader.file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let (to, keys) = (Vec::new(), Vec::new());
        let mut file = Self {
            reader,
            stem,
            user: None,
            has_inbox: None,
            to,
            keys,
            password: None,
            principals: None,
            template: None,
            parsed: None,
        };
        file.parsed = file.parse(shared);
        file
    }

    fn parse(&mut self, shared: &Shared) -> Option<User> {
        let reader = &self.reader;
        let mut document = reader.parse()?;
        if let Ok(name) = self.stem.parse() {
            self.template = template::fill(reader, document.get_mut(), &name, shared);
        }
        let top = Table::top(reader, &document, &USER_TOP, &POLICY);
        self.user = user(&top, &self.stem);
        let login_table = top.table("login", &LOGIN, &POLICY);
        if !top.has("login") {
            top.missing("login");
        }
        self.password = login_table.has("password").then(|| login_table.span_of("password"));
        self.principals = login_table.has("principals").then(|| login_table.span_of("principals"));
        let name = self.user.as_ref().map(|user| &user.value);
        let login = login::login(&login_table, name, &mut self.keys);
        let limits = limits(&top.table("limits", &USER_LIMITS, &POLICY));
        let folders =
            crate::config::folders::folders(top.tables("folder", &FOLDER, &POLICY), &mut self.to, &shared.profiles);
        self.has_inbox = Some(top.has("inbox"));
        let inbox = top.has("inbox").then(|| inbox(&top.table("inbox", &INBOX, &POLICY)));
        let due = due::read(top.tables("due", &DUE, &POLICY), &folders);
        if reader.has_errors() {
            return None;
        }
        Some(User {
            name: self.user.clone()?.value,
            login: login?,
            limits,
            folders: folders.into_iter().map(Arc::new).collect(),
            inbox: inbox.flatten(),
            due,
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
    EndToEnd,
}

fn inbox(table: &Table<'_>) -> Option<Inbox> {
    let reader = table.reader();
    let words = [("managed", InboxMode::Managed), ("sealed", InboxMode::Sealed), ("e2e", InboxMode::EndToEnd)];
    match table.word("mode", &words)? {
        InboxMode::Managed => {
            if table.has("key") {
                let hint = "write mode = \"sealed\" if only the recipient shall open files, or remove `key`";
                reader.error(table.span_of("key"), "in mode \"managed\" the server makes the key itself", hint);
            }
            let words = [
                ("p256", Kem::P256),
                ("x25519", Kem::X25519),
                ("mlkem768-p256", Kem::MlKem768P256),
                ("x-wing", Kem::XWing),
            ];
            let inbox = Inbox::Managed { kem: table.word("kem", &words)? };
            if recipient::of(&inbox).is_some_and(|key| key.post_quantum) {
                warn_of_experiment(table, "kem");
            }
            Some(inbox)
        }
        InboxMode::Sealed => Some(Inbox::Sealed { recipient: recipients_key(table, "sealed")? }),
        InboxMode::EndToEnd => Some(Inbox::EndToEnd { recipient: recipients_key(table, "e2e")? }),
    }
}

/// The `key` of a recipient whose identity is not the server's.
fn recipients_key(table: &Table<'_>, mode: &str) -> Option<String> {
    let reader = table.reader();
    if table.has("kem") {
        let message = format!("in mode \"{mode}\" the kind of key is the recipient's choice");
        reader.error(table.span_of("kem"), message, "remove `kem`");
    }
    let Some(key) = table.text("key") else {
        if !table.has("key") {
            let hint = "key = \"sealdrop1…\", which the recipient makes with `sealdrop keygen`";
            reader.error(table.span.clone(), format!("mode \"{mode}\" needs the recipient's `key`"), hint);
        }
        return None;
    };
    match recipient::check(key.value) {
        Ok(recipient) => {
            if recipient.is_post_quantum() {
                warn_of_experiment(table, "key");
            }
            Some(recipient.to_string())
        }
        Err((message, hint)) => {
            if !key.value.starts_with("sealdrop1") && !key.value.starts_with("ssh-") {
                reader.hide(key.span.clone());
            }
            reader.error(key.span, message, hint);
            None
        }
    }
}

fn warn_of_experiment(table: &Table<'_>, key: &str) {
    let hint = "no standard has its number yet: keep what is sealed to it elsewhere too, or take p256";
    table.reader().warn(table.span_of(key), "post-quantum keys are experimental", hint);
}
