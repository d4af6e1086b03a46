//! The keys of `sealdrop.toml`.

use super::{NONE, REQUIRED, Section, Takes, key};

/// Of `sealdrop.toml`.
pub const SERVER: [&Section; 16] = [
    &SERVER_TOP,
    &SERVER_LIMITS,
    &SSH,
    &OLD_CLIENTS,
    &CERTIFICATES,
    &EXTERNAL,
    &EXPIRY,
    &POLICY_SIGNATURES,
    &SWEEP,
    &ROLES,
    &BREAK_GLASS,
    &APPROVAL,
    &ALARMS,
    &AUDIT,
    &ANOMALIES,
    &LOG,
];

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
            "root_key",
            Takes::Text,
            "(`file:root` in `keys`)",
            "Where the key that wraps all others comes from: `file:PATH`, `credential:NAME` (systemd), `passphrase` or a `pkcs11:` URI ([keys.md](keys.md)).",
        ),
        key(
            "admin",
            Takes::Text,
            "(`admin.sock` in `state`)",
            "The socket that `sealdrop status` and the like talk to. Groups of `[roles]` must be able to reach it: `/run/sealdrop/admin.sock`.",
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
        key("old_clients", Takes::Tables, NONE, "Old algorithms for some addresses, until a day."),
        key("certificates", Takes::Table, NONE, "Whom the server trusts to certify users' keys, and what is revoked."),
        key("external", Takes::Table, NONE, "The site's own authenticator, for users who `require` `external`."),
        key("expiry", Takes::Tables, NONE, "Names for what folders' `expire` says."),
        key("policy_signatures", Takes::Table, NONE, "Whose signatures policy files need."),
        key("sweep", Takes::Table, NONE, "When what has expired is destroyed."),
        key("roles", Takes::Table, NONE, "Which Unix group may do what over the admin socket."),
        key("break_glass", Takes::Table, NONE, "Who lets a drop be given out for its escrow identity."),
        key("approval", Takes::Table, NONE, "What one admin alone cannot do."),
        key("alarms", Takes::Table, NONE, "What the operator is told of, and the program that tells it on."),
        key("audit", Takes::Table, NONE, "What the audit log shows of names."),
        key("anomalies", Takes::Table, NONE, "What `sealdrop audit anomalies` finds unusual."),
        key("log", Takes::Table, NONE, "What the server writes to its standard error."),
    ],
};

pub static SERVER_LIMITS: Section = Section {
    header: "[limits]",
    says: "What the server takes on at the most.",
    keys: &[
        key("connections", Takes::Count, "1024", "Connections at once."),
        key("per_address", Takes::Count, "64", "Connections at once from one address (of IPv6, from one /64)."),
        key(
            "strangers",
            Takes::Count,
            "128",
            "Connections at once that have not logged in yet; from half of them on, the more there are the more of the new ones are turned away.",
        ),
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

pub static OLD_CLIENTS: Section = Section {
    header: "[[old_clients]]",
    says: "Algorithms that only old clients need, for some addresses and until a day; repeat for each. They are offered last.",
    keys: &[
        key("from", Takes::Texts, REQUIRED, "Networks or addresses: `203.0.113.0/24`, `2001:db8::/32`."),
        key("until", Takes::Moment, REQUIRED, "When it ends; `check` warns of what has ended."),
        key(
            "algorithms",
            Takes::Words(&["hmac-sha2", "hmac-sha1", "dh-group14-sha256", "dh-group14-sha1", "ssh-rsa"]),
            REQUIRED,
            "`hmac-sha2`: as `old_macs`. `hmac-sha1`: the same with SHA-1. `dh-group14-…`: key exchange over 2048 bits. `ssh-rsa`: users' RSA signatures over SHA-1.",
        ),
    ],
};

pub static CERTIFICATES: Section = Section {
    header: "[certificates]",
    says: "Whom the server trusts to certify users' keys, and what is revoked. Read again by a reload, as policies are.",
    keys: &[
        key(
            "authorities",
            Takes::Texts,
            NONE,
            "Public keys that may certify a key of any user whose policy has `principals` and no `authorities` of its own.",
        ),
        key(
            "revoked",
            Takes::Text,
            NONE,
            "A file of what no longer counts: a key revocation list of `ssh-keygen -k`, or public keys, one a line. Of plain keys, certified ones, authorities, serial numbers and key ids.",
        ),
    ],
};

pub static EXTERNAL: Section = Section {
    header: "[external]",
    says: "The site's own authenticator, which decides on the password of users who `require` `external`: [logins.md](logins.md#an-authenticator-of-the-sites).",
    keys: &[
        key("socket", Takes::Text, REQUIRED, "The Unix socket it listens on, as root or as the daemon's account."),
        key(
            "timeout",
            Takes::Span,
            "5s",
            "Time to answer, 1 to 20 seconds. Every refused password takes as long then, whoever's it is.",
        ),
    ],
};

pub static EXPIRY: Section = Section {
    header: "[[expiry]]",
    says: "An expiry profile: a name that folders' `expire` can say instead; repeat for each. Part of the policy and its digest, and read again by a reload.",
    keys: &[
        key("name", Takes::Text, REQUIRED, "Letters, digits and `-`: `standard`."),
        key("expire", Takes::Expiry, REQUIRED, "What it stands for."),
    ],
};

pub static SWEEP: Section = Section {
    header: "[sweep]",
    says: "When what has expired is destroyed. Between sweeps it is refused to the minute all the same.",
    keys: &[
        key("schedule", Takes::Text, "0 * * * *", "Five cron fields: minute, hour, day of month, month, day of week."),
        key("zone", Takes::Text, "UTC", "The time zone of `schedule`: `Europe/Berlin`, `America/New_York`, `UTC`."),
        key(
            "buckets",
            Takes::Word(&["hour", "day"]),
            "hour",
            "The drops that expire in one UTC hour, or on one UTC day, share a shred key. It is destroyed when that is over and the drops are.",
        ),
    ],
};

pub static POLICY_SIGNATURES: Section = Section {
    header: "[policy_signatures]",
    says: "With this table, `sealdrop.toml` and each policy file need a good signature beside them, `FILE.sig`: `ssh-keygen -Y sign -n policy@sealdrop -f KEY FILE` ([operations.md](operations.md#signed-policies)).",
    keys: &[key("signers", Takes::Texts, REQUIRED, "Public keys as in `id_ed25519.pub`; one of them signs each file.")],
};

pub static ROLES: Section = Section {
    header: "[roles]",
    says: "Which Unix group may do what over the admin socket ([operations.md](operations.md#roles)). Each must exist.",
    keys: &[
        key("admin", Takes::Text, NONE, "The group of those who run the server."),
        key("auditor", Takes::Text, NONE, "The group of those who read what happened, and change nothing."),
        key(
            "custodian",
            Takes::Text,
            NONE,
            "The group of those who answer for keys: rotate, release, shred, break-glass.",
        ),
        key(
            "root",
            Takes::Words(&["admin", "auditor", "custodian"]),
            "[\"admin\", \"auditor\", \"custodian\"]",
            "The roles of root, and of the account that the server runs as. Whoever is root can do all the same to the files themselves.",
        ),
    ],
};

pub static BREAK_GLASS: Section = Section {
    header: "[break_glass]",
    says: "Who lets a drop be given out for its escrow identity, when nobody else can open it and somebody must.",
    keys: &[
        key(
            "approvers",
            Takes::Texts,
            NONE,
            "Public keys as in `id_ed25519.pub`. A request takes effect when one of them has signed it. Without any there is no break-glass.",
        ),
        key("within", Takes::Span, "1h", "How long after a request it can be approved and carried out."),
    ],
};

pub static APPROVAL: Section = Section {
    header: "[approval]",
    says: "What one admin alone cannot do: a second person has to approve it first ([operations.md](operations.md#a-second-admin)). Without it nothing needs that.",
    keys: &[
        key(
            "acts",
            Takes::Words(&["shred", "release", "hold", "rotate", "kick", "sweep", "reload", "backup", "break-glass"]),
            NONE,
            "The commands that wait for a second person. `break-glass` is `break-glass open`; `sweep` one that is ordered, and not the schedule's; with `reload` SIGHUP loads nothing.",
        ),
        key(
            "within",
            Takes::Span,
            "24h",
            "How long after it was asked for it can be approved and done; 1 minute to 30 days.",
        ),
    ],
};

pub static ALARMS: Section = Section {
    header: "[alarms]",
    says: "What the operator is told of, and the program that tells it on ([alarms.md](alarms.md)).",
    keys: &[
        key(
            "hook",
            Takes::Texts,
            NONE,
            "A program with its arguments, `[\"/usr/local/bin/tell\", \"ops\"]`, run for each notice with JSON on its standard input. No shell is between. Without it alarms are in the log, and `sealdrop alarms` lists them.",
        ),
        key(
            "hook_user",
            Takes::Text,
            "(required when started as root, if there is a `hook`)",
            "The account the program runs as: neither root nor that of `user`.",
        ),
        key("hook_timeout", Takes::Span, "10s", "How long the program may take before it is ended; at most 30 s."),
        key(
            "notices",
            Takes::Words(&["raised", "cleared", "received", "picked-up", "expired"]),
            "[\"raised\", \"cleared\"]",
            "What the program is told: alarms that are `raised` and `cleared`, and drops that were `received`, `picked-up` or `expired`.",
        ),
        key(
            "queue",
            Takes::Count,
            "1000",
            "Notices that may wait for the program at most; what is more is in the log only.",
        ),
        key("give_up", Takes::Span, "3d", "How long a notice is tried again before it is given up."),
        key("unpicked", Takes::Span, "6h", "A drop that nobody has picked up is told of so long before it expires."),
        key("disk", Takes::Size, "2 GiB", "Less room than this where drops or keys are kept is an alarm."),
        key(
            "refusals",
            Takes::Count,
            "20",
            "So many refused logins or operations of one user, or from one address, within `refusals_within` are an alarm.",
        ),
        key("refusals_within", Takes::Span, "10min", "See `refusals`."),
        key("key_end", Takes::Span, "14d", "A key or an account with an end is told of so long before it."),
    ],
};

pub static AUDIT: Section = Section {
    header: "[audit]",
    says: "Whether paths stand in the audit log, or hashes of them that the auditor alone can resolve: for names that say who a patient is.",
    keys: &[
        key(
            "phi_names",
            Takes::Flag,
            "false",
            "Names are hidden in events, receipts, evidence, exports, reports and the server's own log. It cannot hide what was recorded before.",
        ),
        key(
            "auditor",
            Takes::Text,
            NONE,
            "Who can read hidden names: a recipient, `sealdrop1…`, whose identity is not on the server. With `phi_names` it is required.",
        ),
        key(
            "names_expire",
            Takes::Span,
            "2190d",
            "How long hidden names can be read, by the auditor too; 2190 days are six years.",
        ),
    ],
};

pub static ANOMALIES: Section = Section {
    header: "[anomalies]",
    says: "What `sealdrop audit anomalies` finds unusual, each user held against its own past.",
    keys: &[
        key("history", Takes::Span, "90d", "How far back that past goes."),
        key("factor", Takes::Count, "3", "How many times the most there was in it is unusual."),
        key("pulls_min", Takes::Count, "50", "Files pulled on one day, below which no number is."),
        key("failures_min", Takes::Count, "10", "Refusals within an hour, below which no number is."),
        key(
            "odd_hours_percent",
            Takes::Count,
            "1",
            "An hour of the day at which less of a user's logins and pulls were is odd.",
        ),
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
