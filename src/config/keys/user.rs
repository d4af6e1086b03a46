//! The keys of `policies/<user>.toml`, and of templates.

use super::{NONE, REQUIRED, Section, Takes, key};

/// Of `policies/<user>.toml`.
pub const POLICY: [&Section; 6] = [&USER_TOP, &LOGIN, &USER_LIMITS, &FOLDER, &INBOX, &DUE];

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
        key(
            "template",
            Takes::Text,
            NONE,
            "A file in `templates/` beside this one, without its `.toml`: what it says and this file does not holds here too.",
        ),
        key("login", Takes::Table, REQUIRED, "How the user logs in."),
        key("limits", Takes::Table, NONE, "What the user may use at the most."),
        key("folder", Takes::Tables, NONE, "A folder of the user's view; repeat for each."),
        key("inbox", Takes::Table, NONE, "Makes the user a recipient."),
        key("due", Takes::Tables, NONE, "A delivery that is waited for; repeat for each."),
    ],
};

pub static LOGIN: Section = Section {
    header: "[login]",
    says: "How the user logs in.",
    keys: &[
        key(
            "keys",
            Takes::Keys,
            NONE,
            "Public keys as in `id_ed25519.pub`: ed25519, ecdsa, rsa of 2048 bits or more, and their `sk-` kinds. One that ends by itself: `{ key = \"ssh-ed25519 …\", expires = 2027-01-01 }`; `check` and `doctor` warn 30 days before.",
        ),
        key(
            "authorities",
            Takes::Texts,
            "(those of the server, if there are `principals`)",
            "Public keys that may certify a key of this user, in an OpenSSH certificate.",
        ),
        key(
            "principals",
            Takes::Texts,
            "(the user's name, if there are `authorities`)",
            "A certificate must be for one of these. Without `principals` and `authorities` the user logs in with no certificate.",
        ),
        key(
            "password",
            Takes::Text,
            NONE,
            "An argon2id hash in PHC form, `$argon2id$v=19$m=…`; never the password itself.",
        ),
        key(
            "totp",
            Takes::Text,
            NONE,
            "The secret of one-time codes (RFC 6238) as `sealdrop totp USER` prints it: sealed, of use to this server alone.",
        ),
        key(
            "require",
            Takes::Ways(&["publickey", "password", "totp", "external"]),
            "(the one of `keys` and `password` that is set; required if both are, or `totp`)",
            "Methods to pass, in this order: `[\"publickey\", \"totp\"]` is both. A list of lists gives alternatives. `publickey` is a key or a certificate; `totp` comes after another; `external` is a password that the server's `[external]` authenticator decides on.",
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

/// One of `keys`, where it is a table.
pub static KEY: Section = Section {
    header: "{ key = … }",
    says: "A public key that ends.",
    keys: &[
        key("key", Takes::Text, REQUIRED, "The public key."),
        key("expires", Takes::Moment, NONE, "From when on it does not log in; open sessions end at the next reload."),
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
            Takes::Expiry,
            "(required for a drop; `never` for shared)",
            "When a file ceases to exist: so long after its receipt, by the server's clock; when each recipient has picked it up so often; whichever comes first; or `\"never\"`. Or an expiry profile by its name.",
        ),
        key(
            "accept",
            Takes::Texts,
            "(every name)",
            "Patterns a file name must match: `*.dcm`. `*`, `?`, `[a-z]`, `{a,b}`.",
        ),
        key("refuse", Takes::Texts, NONE, "Patterns a file name must not match."),
        key(
            "refuse_phi",
            Takes::Words(&["mrn", "date", "person-name"]),
            NONE,
            "No name may look like this, of a file or a folder, final or not: `mrn`, the word for a record number and digits; `date`; `person-name`, `DOE^JOHN` or `Doe, John`. A refused name is in no log.",
        ),
        key(
            "deny",
            Takes::Words(&["put", "get", "list", "rename", "remove", "mkdir"]),
            NONE,
            "What the user may not do here of what the kind permits.",
        ),
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
        key(
            "sender_delete",
            Takes::Word(&["keep", "shred"]),
            "keep",
            "What a sender's removal of its own entry does. `keep`: what was delivered stays. `shred`: the drop is destroyed at once, for its recipients and in every backup.",
        ),
        key(
            "escrow",
            Takes::Text,
            "(nobody)",
            "A recipient, `sealdrop1…`, whose identity is kept offline: each file is sealed to it too, and its sender's receipt says so. For break-glass.",
        ),
        key(
            "require",
            Takes::Word(&["e2e"]),
            NONE,
            "`e2e`: takes only files that their sender sealed with `sealdrop seal` to the keys of just these recipients, whose inboxes are of mode `e2e` too.",
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
            Takes::Word(&["managed", "sealed", "e2e"]),
            REQUIRED,
            "`managed`: the server keeps the key and opens files as they are read. `sealed`: the recipient opens them with `sealdrop open`. `e2e`: the same, and only what its sender sealed to `key` comes in.",
        ),
        key(
            "kem",
            Takes::Word(&["p256", "x25519", "mlkem768-p256", "x-wing"]),
            "p256",
            "The kind of key the server makes, if managed. The last two are post-quantum, and experimental.",
        ),
        key(
            "key",
            Takes::Text,
            "(required if sealed or e2e)",
            "The recipient that `sealdrop keygen` printed: `sealdrop1…`. Or an SSH key, `ssh-ed25519 AAAA…`, as in `authorized_keys`.",
        ),
    ],
};

pub static DUE: Section = Section {
    header: "[[due]]",
    says: "A delivery that is waited for: that it did not come is an alarm ([alarms.md](alarms.md)). Repeat for each.",
    keys: &[
        key("folder", Takes::Text, REQUIRED, "One of the user's folders."),
        key("by", Takes::Text, REQUIRED, "Days, a time of the day and its zone: `Mon-Fri 03:00 Europe/Berlin`."),
        key(
            "within",
            Takes::Span,
            "24h",
            "How long before `by` the delivery may have come: what is older was an earlier one.",
        ),
        key("files", Takes::Count, "1", "So many files at the least."),
        key("names", Takes::Texts, "(every name)", "Patterns for the names of files that count: `*.dcm`."),
    ],
};
