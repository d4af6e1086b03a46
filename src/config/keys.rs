//! Every key the two kinds of file may hold, what it takes, and its default: the one table that refuses unknown keys,
//! suggests the right one, supplies the defaults, and from which docs/policy.md is written.

/// A table of a file and the keys it may hold.
#[derive(Debug)]
pub struct Section {
    /// As an admin writes it: `[login]`, `[[folder]]`; empty for the top of the file.
    pub header: &'static str,
    pub says: &'static str,
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub takes: Takes,
    /// As it would be written; a word in brackets where there is no value to write. Read by the same code that reads
    /// the file, so it cannot differ from what happens.
    pub default: &'static str,
    pub says: &'static str,
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Text,
    Texts,
    Size,
    Span,
    Count,
    Flag,
    Moment,
    /// One of these.
    Word(&'static [&'static str]),
    Words(&'static [&'static str]),
    Table,
    Tables,
}

/// There must be one.
pub const REQUIRED: &str = "(required)";
/// No value at all.
pub const NONE: &str = "(none)";

const fn key(name: &'static str, takes: Takes, default: &'static str, says: &'static str) -> Key {
    Key { name, takes, default, says }
}

/// Of `sealdrop.toml`.
pub const SERVER: [&Section; 5] = [&SERVER_TOP, &SERVER_LIMITS, &SSH, &SWEEP, &LOG];
/// Of `policies/<user>.toml`.
pub const POLICY: [&Section; 5] = [&USER_TOP, &LOGIN, &USER_LIMITS, &FOLDER, &INBOX];

pub static SERVER_TOP: Section = Section {
    header: "",
    says: "The server itself. Relative paths start at the directory of the file.",
    keys: &[
        key(
            "name",
            Takes::Text,
            "sealdrop",
            "The server's name in receipts and sealed files: 1 to 64 letters, digits, `.`, `-`.",
        ),
        key(
            "listen",
            Takes::Texts,
            "[\"[::]:2222\"]",
            "Addresses with ports to accept connections on. `[::]` is IPv4 as well.",
        ),
        key("state", Takes::Text, "/var/lib/sealdrop", "Where the server keeps users' trees and its ledger."),
        key(
            "keys",
            Takes::Text,
            "(`keys` in `state`)",
            "Where keys are kept: host, receipt, root and shred keys. Leave it out of the backups of `state`.",
        ),
        key(
            "admin",
            Takes::Text,
            "(`admin.sock` in `state`)",
            "The socket that `sealdrop status` and the like talk to.",
        ),
        key("policies", Takes::Text, "policies", "The directory of policy files, one `<user>.toml` for each user."),
        key(
            "user",
            Takes::Text,
            "sealdrop",
            "The account connections are served under before login. Used when started as root.",
        ),
        key(
            "ids",
            Takes::Text,
            "200000-265535",
            "User ids, first and last, that are given to users, one each. Used when started as root.",
        ),
        key(
            "host_keys",
            Takes::Words(&["ed25519", "ecdsa-p256"]),
            "[\"ed25519\", \"ecdsa-p256\"]",
            "Host keys the server makes and shows.",
        ),
        key(
            "test_clock",
            Takes::Flag,
            "false",
            "Lets `sealdrop sweep --now` pretend another time. For trying out; never where drops matter.",
        ),
        key("limits", Takes::Table, NONE, "What the server takes on at the most."),
        key("ssh", Takes::Table, NONE, "What old clients need."),
        key("sweep", Takes::Table, NONE, "When what has expired is destroyed."),
        key("log", Takes::Table, NONE, "What the server writes to its standard error."),
    ],
};

pub static SERVER_LIMITS: Section = Section {
    header: "[limits]",
    says: "What the server takes on at the most.",
    keys: &[
        key("connections", Takes::Count, "1024", "Connections at once."),
        key("per_address", Takes::Count, "64", "Connections at once from one address (of IPv6, from one /64)."),
        key("strangers", Takes::Count, "128", "Connections at once that have not logged in yet."),
        key("login_grace", Takes::Span, "30s", "Time to log in."),
        key("login_attempts", Takes::Count, "6", "Failed attempts on one connection before it is closed."),
        key("idle", Takes::Span, "15min", "A connection on which nothing moves for so long is closed."),
        key("handles", Takes::Count, "128", "Files and listings one session may have open."),
        key("drain", Takes::Span, "30s", "How long a stopping server lets transfers finish."),
    ],
};

pub static SSH: Section = Section {
    header: "[ssh]",
    says: "What old clients need. Everything else about SSH is in sftp.md, and is no setting.",
    keys: &[key(
        "old_macs",
        Takes::Flag,
        "false",
        "Plain HMAC-SHA2 last, for clients whose library knows neither AEAD nor ETM, as libssh2 before 1.11, which is Debian 12's curl.",
    )],
};

pub static SWEEP: Section = Section {
    header: "[sweep]",
    says: "When what has expired is destroyed. Between sweeps it is refused to the minute all the same.",
    keys: &[
        key("schedule", Takes::Text, "0 * * * *", "Five cron fields: minute, hour, day of month, month, day of week."),
        key("zone", Takes::Text, "UTC", "The time zone of `schedule`: `Europe/Berlin`, `America/New_York`, `UTC`."),
    ],
};

pub static LOG: Section = Section {
    header: "[log]",
    says: "What the server writes to its standard error.",
    keys: &[
        key("format", Takes::Word(&["text", "json"]), "text", "Lines for people, or one JSON object each."),
        key("level", Takes::Word(&["error", "warn", "info", "debug", "trace"]), "info", "How much."),
    ],
};

pub static USER_TOP: Section = Section {
    header: "",
    says: "One file for each user, named `<user>.toml`.",
    keys: &[
        key(
            "user",
            Takes::Text,
            REQUIRED,
            "The name to log in with, and the name of the file: 1 to 32 of `a-z 0-9 _ . -`, first a letter or digit.",
        ),
        key("login", Takes::Table, REQUIRED, "How the user logs in."),
        key("limits", Takes::Table, NONE, "What the user may use at the most."),
        key("folder", Takes::Tables, NONE, "A folder of the user's view; repeat for each."),
        key("inbox", Takes::Table, NONE, "Makes the user a recipient."),
    ],
};

pub static LOGIN: Section = Section {
    header: "[login]",
    says: "How the user logs in.",
    keys: &[
        key(
            "keys",
            Takes::Texts,
            NONE,
            "Public keys as in `id_ed25519.pub`: ed25519, ecdsa, rsa of 2048 bits or more, and their `sk-` kinds.",
        ),
        key(
            "password",
            Takes::Text,
            NONE,
            "An argon2id hash in PHC form, `$argon2id$v=19$m=…`; never the password itself.",
        ),
        key(
            "require",
            Takes::Words(&["publickey", "password"]),
            "(the one of `keys` and `password` that is set; required if both are)",
            "Methods to pass, in this order: `[\"publickey\", \"password\"]` is both. A list of lists gives alternatives.",
        ),
        key(
            "from",
            Takes::Texts,
            "(anywhere)",
            "Networks or addresses logins may come from: `203.0.113.0/24`, `2001:db8::/32`.",
        ),
        key(
            "hours",
            Takes::Texts,
            "(at any time)",
            "When a login may begin: `Mon-Fri 18:00-06:00 Europe/Berlin`. A night belongs to the day it begins on; open sessions go on.",
        ),
        key("disabled", Takes::Flag, "false", "Nobody logs in; open sessions end. What was delivered stays."),
        key(
            "expires",
            Takes::Moment,
            "(never)",
            "The moment the account ends: `2027-01-01`, which is its first second in UTC, or `2027-01-01T18:00:00+01:00`.",
        ),
    ],
};

pub static USER_LIMITS: Section = Section {
    header: "[limits]",
    says: "What the user may use at the most.",
    keys: &[
        key("bytes", Takes::Size, NONE, "Of all live files the user has sent."),
        key("files", Takes::Count, NONE, "Live files the user has sent."),
        key("sessions", Takes::Count, "256", "Sessions at once."),
    ],
};

pub static FOLDER: Section = Section {
    header: "[[folder]]",
    says: "A folder of the user's view; repeat for each.",
    keys: &[
        key(
            "path",
            Takes::Text,
            REQUIRED,
            "Where it is in the user's view: `/radiology`. Not within another folder, `/inbox` or `/receipts`.",
        ),
        key(
            "kind",
            Takes::Word(&["drop", "shared"]),
            REQUIRED,
            "`drop`: write, list, never read back; delivered to `to`. `shared`: read and write, for this user only.",
        ),
        key(
            "to",
            Takes::Texts,
            "(required for a drop)",
            "Users with an `[inbox]` that each file is delivered and sealed to.",
        ),
        key(
            "expire",
            Takes::Span,
            "(required for a drop; `never` for shared)",
            "How long after its receipt a file ceases to exist, by the server's clock; or `\"never\"`.",
        ),
        key(
            "accept",
            Takes::Texts,
            "(every name)",
            "Patterns a file name must match: `*.dcm`. `*`, `?`, `[a-z]`, `{a,b}`.",
        ),
        key("refuse", Takes::Texts, NONE, "Patterns a file name must not match."),
        key("ignore_case", Takes::Flag, "false", "Whether `accept` and `refuse` take `A.DCM` for `a.dcm`."),
        key("max_size", Takes::Size, "(no limit)", "The largest file."),
        key(
            "resume_window",
            Takes::Span,
            "24h",
            "How long an interrupted upload can be continued before it is destroyed.",
        ),
        key(
            "finalize",
            Takes::Text,
            "close",
            "When an upload to a drop is finished. `close`: when its client closes it. `rename`: when it is renamed from a temp name, and nothing can be sent under a final one. `quiet 5min`: when it was closed and nobody came back to it for so long.",
        ),
        key(
            "overwrite",
            Takes::Word(&["version", "refuse"]),
            "version",
            "A second file of a name: a new version (what was delivered stays), or refused. With the same content it is a duplicate.",
        ),
        key("mtime", Takes::Word(&["client", "received"]), "client", "The modification time that listings show."),
        key(
            "digests",
            Takes::Words(&["md5", "sha1"]),
            NONE,
            "Kept of each file beside SHA-256, for rclone and partners that compare nothing else; not for security.",
        ),
        key(
            "temp_names",
            Takes::Texts,
            "[\"*.filepart\", \"*.partial\", \"*.part\", \"*.tmp\", \"*.temp\", \"*.upload\", \".in.*\", \"~*\"]",
            "Names that clients upload under before they rename: never delivered, and in either case of letters. `[]`: none.",
        ),
    ],
};

pub static INBOX: Section = Section {
    header: "[inbox]",
    says: "Makes the user a recipient: others may name it in `to`. What is delivered appears under `/inbox/<sender>/`, and expires as the sender's folder says.",
    keys: &[
        key(
            "mode",
            Takes::Word(&["managed", "sealed"]),
            REQUIRED,
            "`managed`: the server keeps the key and opens files as they are read. `sealed`: the recipient opens them with `sealdrop open`.",
        ),
        key("kem", Takes::Word(&["p256", "x25519"]), "p256", "The kind of key the server makes, if managed."),
        key("key", Takes::Text, "(required if sealed)", "The recipient that `sealdrop keygen` printed: `sealdrop1…`."),
    ],
};

impl Section {
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Takes {
    /// For a message: "… takes a size such as "10 GiB"".
    pub fn describe(self) -> String {
        match self {
            Self::Text => "text in quotes".to_owned(),
            Self::Texts => "a list of texts: [\"…\", \"…\"]".to_owned(),
            Self::Size => "a size in quotes: \"10 GiB\"".to_owned(),
            Self::Span => "a duration in quotes: \"72h\", \"90 days\"".to_owned(),
            Self::Count => "a whole number, without quotes".to_owned(),
            Self::Flag => "true or false, without quotes".to_owned(),
            Self::Moment => "a date without quotes: 2027-01-01".to_owned(),
            Self::Word(words) => format!("one of {}", quoted(words)),
            Self::Words(words) => format!("a list of {}", quoted(words)),
            Self::Table => "a table".to_owned(),
            Self::Tables => "tables, one for each".to_owned(),
        }
    }
}

/// `"a", "b" or "c"`.
pub fn quoted(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// The reference tables of docs/policy.md for one kind of file.
pub fn reference(sections: &[&Section]) -> String {
    let mut out = String::new();
    for section in sections {
        let title = if section.header.is_empty() { "The top of the file" } else { section.header };
        out.push_str(&format!(
            "### {}\n\n{}\n\n| key | takes | default | meaning |\n|---|---|---|---|\n",
            code(title),
            section.says
        ));
        for key in section.keys.iter().filter(|key| !matches!(key.takes, Takes::Table | Takes::Tables)) {
            let default = match key.default {
                word if word.starts_with('(') => word.trim_matches(['(', ')']).to_owned(),
                value => format!("`{value}`"),
            };
            out.push_str(&format!("| `{}` | {} | {} | {} |\n", key.name, key.takes.describe(), default, key.says));
        }
        out.push('\n');
    }
    out
}

fn code(title: &str) -> String {
    if title.starts_with('[') { format!("`{title}`") } else { title.to_owned() }
}
