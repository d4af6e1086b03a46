//! `sealdrop.toml` into [`Settings`]. Pure: text in, settings or problems out.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::keys::{
    ALARMS, ANOMALIES, APPROVAL, AUDIT, BREAK_GLASS, CERTIFICATES, EXTERNAL, LOG, SERVER, SERVER_LIMITS, SERVER_TOP,
    SSH, SWEEP,
};
use crate::config::reader::Reader;
use crate::config::root_key::RootKey;
use crate::config::schedule::Schedule;
use crate::config::settings::{
    Anomalies, Audit, BreakGlass, BucketSpan, External, HostKey, Log, LogFormat, LogLevel, ServerLimits, Settings,
};
use crate::config::sshkey;
use crate::config::table::{At, Table};
use crate::config::{alarms, approval, login, old_clients, profiles, recipient, roles, signed};

/// `None` if the reader has been told of an error.
pub fn settings(reader: &Reader) -> Option<Settings> {
    let document = reader.parse()?;
    let top = Table::top(reader, &document, &SERVER_TOP, &SERVER);
    let base = reader.file.parent().unwrap_or(Path::new(""));
    let path = |name: &str| top.text_or_default(name).map(|text| base.join(text.value));

    let name = name(&top);
    let listen = listen(&top);
    let state = path("state");
    let in_state = |name: &str, file: &str| match top.text(name) {
        Some(text) => Some(base.join(text.value)),
        None => state.as_ref().map(|state| state.join(file)),
    };
    let (keys, admin, policies) = (in_state("keys", "keys"), in_state("admin", "admin.sock"), path("policies"));
    for name in ["state", "keys", "admin", "policies"] {
        if let Some(text) = top.text(name).filter(|text| text.value.trim().is_empty()) {
            reader.error(text.span, format!("`{name}` is empty"), "leave the key out for its default");
        }
    }
    if let Some(admin) = &admin {
        socket_path_fits(&top, admin);
    }
    let root_key = root_key(&top, base, keys.as_deref());
    let user = account(&top);
    let ids = ids(&top);
    let host_keys = host_keys(&top);
    let test_clock = top.flag("test_clock");
    if test_clock {
        reader.warn(
            top.span_of("test_clock"),
            "anyone who may use the admin socket can make drops expire early",
            "for trying out only: remove it where drops matter",
        );
    }
    let limits = limits(&top.table("limits", &SERVER_LIMITS, &SERVER));
    let old_macs = top.table("ssh", &SSH, &SERVER).flag("old_macs");
    let sweep_table = top.table("sweep", &SWEEP, &SERVER);
    let sweep = sweep(&sweep_table);
    let buckets = sweep_table.word("buckets", &[("hour", BucketSpan::Hour), ("day", BucketSpan::Day)]);
    let policy_signers = signed::signers(&top);
    let roles = roles::read(&top);
    let break_glass = break_glass(&top.table("break_glass", &BREAK_GLASS, &SERVER));
    let approval = approval::read(&top.table("approval", &APPROVAL, &SERVER));
    let alarms = alarms::read(&top.table("alarms", &ALARMS, &SERVER), user.as_deref());
    let old_clients: Option<Vec<_>> = old_clients::read(&top).into_iter().collect();
    let profiles = profiles::read(&top);
    let certificates = top.table("certificates", &CERTIFICATES, &SERVER);
    let authorities = login::authorities(&certificates);
    let revoked = certificates.text("revoked").map(|text| base.join(text.value));
    let audit = audit(&top.table("audit", &AUDIT, &SERVER));
    let anomalies = anomalies(&top.table("anomalies", &ANOMALIES, &SERVER));
    let external_table = top.table("external", &EXTERNAL, &SERVER);
    let external = external(&external_table, base);
    let log = log(&top.table("log", &LOG, &SERVER));
    if reader.has_errors() {
        return None;
    }
    Some(Settings {
        name: name?,
        listen: listen?,
        state: state?,
        keys: keys?,
        root_key: root_key?,
        admin: admin?,
        policies: policies?,
        user: user?,
        ids: ids?,
        host_keys: host_keys?,
        limits: limits?,
        old_macs,
        old_clients: old_clients?,
        profiles,
        authorities: authorities?,
        revoked,
        external,
        policy_signers: policy_signers?,
        sweep: sweep?,
        buckets: buckets?,
        roles: roles?,
        break_glass: break_glass?,
        approval: approval?,
        alarms: alarms?,
        test_clock,
        audit: audit?,
        anomalies: anomalies?,
        log: log?,
    })
}

/// If nothing is said, a file with the other keys.
fn root_key(top: &Table<'_>, base: &Path, keys: Option<&Path>) -> Option<RootKey> {
    if !top.has("root_key") {
        return Some(RootKey::File(keys?.join("root")));
    }
    let text = top.text("root_key")?;
    match RootKey::parse(text.value, base) {
        Ok(root_key) => Some(root_key),
        Err(error) => {
            top.reader().error(text.span, error.message, error.hint);
            None
        }
    }
}

/// `None` if it is not there, or after an error.
fn external(table: &Table<'_>, base: &Path) -> Option<External> {
    const TIMES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(20);
    let (socket, timeout) = (table.text("socket"), table.span("timeout").map(|at| at.value));
    if !table.is_there() {
        return None;
    }
    let (socket, timeout) = (socket?, timeout?);
    if socket.value.trim().is_empty() {
        table.reader().error(socket.span, "`socket` is empty", "for example socket = \"/run/sealdrop-auth.sock\"");
        return None;
    }
    if !TIMES.contains(&timeout) {
        let hint = "1s to 20s: a login has 30 seconds for everything";
        table.reader().error(table.span_of("timeout"), "this is no time to answer", hint);
        return None;
    }
    Some(External { socket: base.join(socket.value), timeout })
}

/// The name of an account of the system; whether there is one shows when the server starts.
fn account(top: &Table<'_>) -> Option<String> {
    let user = top.text_or_default("user")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if user.value == "root" || user.value == "0" {
        let hint = "make an account that owns nothing: useradd --system --shell /usr/sbin/nologin sealdrop";
        top.reader().error(user.span, "strangers are not served as root", hint);
    } else if user.value.is_empty() || user.value.starts_with('-') || !user.value.bytes().all(plain) {
        top.reader().error(user.span, "this cannot be the name of an account", "for example \"sealdrop\"");
    } else {
        return Some(user.value.to_owned());
    }
    None
}

/// It stands in receipts, one line each, and is compared by people: plain letters only.
fn name(top: &Table<'_>) -> Option<String> {
    let name = top.text_or_default("name")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
    if (1..=64).contains(&name.value.len()) && name.value.bytes().all(plain) {
        return Some(name.value.to_owned());
    }
    top.reader().error(
        name.span,
        "this cannot be a server's name",
        "1 to 64 letters, digits, `.` and `-`: files.st-mary.example",
    );
    None
}

fn listen(top: &Table<'_>) -> Option<Vec<SocketAddr>> {
    if !top.has("listen") {
        return Some(vec![SocketAddr::from(([0u16; 8], 2222))]);
    }
    let texts = top.texts("listen")?;
    if texts.value.is_empty() {
        top.reader().error(texts.span, "no address to listen on", "for example: listen = [\"[::]:2222\"]");
        return None;
    }
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for text in &texts.value {
        match text.value.parse::<SocketAddr>() {
            Ok(address) if addresses.contains(&address) => {
                top.reader().error(text.span.clone(), "this address is given twice", "remove one of the two");
            }
            Ok(address) => addresses.push(address),
            Err(_) => {
                top.reader().error(text.span.clone(), "this is not an address with a port", listen_hint(text.value))
            }
        }
    }
    (addresses.len() == texts.value.len()).then_some(addresses)
}

fn listen_hint(text: &str) -> String {
    match text.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(address)) => format!("add the port: \"{address}:2222\""),
        Ok(std::net::IpAddr::V6(address)) => format!("add the port: \"[{address}]:2222\""),
        Err(_) => match text.trim_start_matches([':', '*']).parse::<u16>() {
            Ok(port) => {
                format!("give the address too: \"[::]:{port}\" is every one, \"127.0.0.1:{port}\" this machine only")
            }
            Err(_) => {
                "an IP address and a port: \"192.0.2.1:22\", \"[2001:db8::1]:22\"; names are not looked up".to_owned()
            }
        },
    }
}

/// unix(7): `sun_path` holds 108 bytes, the last of them zero.
fn socket_path_fits(top: &Table<'_>, admin: &Path) {
    const SUN_PATH: usize = 107;
    if admin.as_os_str().len() > SUN_PATH {
        let span = top.span_of(if top.has("admin") { "admin" } else { "state" });
        let message = format!("the admin socket's path is longer than the {SUN_PATH} bytes the system takes");
        top.reader().error(span, message, "put it elsewhere: admin = \"/run/sealdrop/admin.sock\"");
    }
}

fn ids(top: &Table<'_>) -> Option<std::ops::Range<u32>> {
    const HOW: &str = "first and last, as in \"200000-265535\"";
    let text = top.text_or_default("ids")?;
    let ends = text
        .value
        .split_once('-')
        .and_then(|(first, last)| Some((first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?)));
    let problem = match ends {
        None => ("this is not a range of user ids", HOW),
        Some((first, last)) if first > last => ("this range of user ids is empty", HOW),
        Some((first, _)) if first < 1000 => {
            ("these user ids belong to the system", "begin well above the ids of people and services: 200000")
        }
        // 65534 is nobody; the highest ids are taken for errors by some calls.
        Some((first, last)) if (first..=last).contains(&65_534) || last >= u32::MAX - 1 => {
            ("this range holds ids with a meaning of their own (65534, 4294967295)", HOW)
        }
        Some((first, last)) => return Some(first..last + 1),
    };
    top.reader().error(text.span, problem.0, problem.1);
    None
}

fn host_keys(top: &Table<'_>) -> Option<Vec<HostKey>> {
    const WORDS: [(&str, HostKey); 2] = [("ed25519", HostKey::Ed25519), ("ecdsa-p256", HostKey::EcdsaP256)];
    if !top.has("host_keys") {
        return Some(WORDS.map(|(_, key)| key).to_vec());
    }
    let texts = top.texts("host_keys")?;
    let mut keys = Vec::new();
    for text in &texts.value {
        if text.value.contains("rsa") {
            let hint = "signing with RSA leaks timing here (RUSTSEC-2023-0071); every client takes ecdsa-p256";
            top.reader().error(text.span.clone(), "RSA host keys are not offered", hint);
        } else if let Some(key) = top.one_of("host_keys", text, &WORDS)
            && !keys.contains(&key)
        {
            keys.push(key);
        }
    }
    if texts.value.is_empty() {
        top.reader().error(texts.span, "a server has at least one host key", "leave the key out for its default");
    }
    Some(keys)
}

fn limits(table: &Table<'_>) -> Option<ServerLimits> {
    let count = |name: &str, range| table.count(name, range).and_then(|number| u32::try_from(number).ok());
    let (connections, per_address) = (count("connections", 1..=65_536), count("per_address", 1..=65_536));
    let (strangers, login_attempts) = (count("strangers", 1..=65_536), count("login_attempts", 1..=100));
    let handles = count("handles", 1..=4096);
    let (login_grace, idle, drain) = (table.span("login_grace"), table.span("idle"), table.span("drain"));
    for (name, span) in [("login_grace", &login_grace), ("idle", &idle)] {
        if let Some(At { span, .. }) = span.as_ref().filter(|span| span.value.is_zero()) {
            table.reader().error(
                span.clone(),
                format!("`{name}` of nothing would close every connection at once"),
                "give a duration: \"30s\"",
            );
        }
    }
    Some(ServerLimits {
        connections: connections?,
        per_address: per_address?,
        strangers: strangers?,
        login_grace: login_grace?.value,
        login_attempts: login_attempts?,
        idle: idle?.value,
        handles: handles?,
        drain: drain?.value,
    })
}

fn sweep(table: &Table<'_>) -> Option<Schedule> {
    let schedule = table.text_or_default("schedule")?;
    let zone = table.text_or_default("zone")?;
    const ZONES: &str = "a name such as \"Europe/Berlin\", \"America/New_York\" or \"UTC\"";
    const FIELDS: &str =
        "minute, hour, day of month, month, day of week: \"0 * * * *\" is every hour, \"30 2 * * *\" is 02:30";
    // Each by itself, so that both are shown.
    let zone_only = Schedule::parse("0 * * * *", zone.value).map_err(|error| (&zone, error, ZONES));
    let text_only = Schedule::parse(schedule.value, "UTC").map_err(|error| (&schedule, error, FIELDS));
    for (place, error, hint) in [zone_only.err(), text_only.err()].into_iter().flatten() {
        table.reader().error(place.span.clone(), error.to_string(), hint);
    }
    Schedule::parse(schedule.value, zone.value).ok()
}

fn audit(table: &Table<'_>) -> Option<Audit> {
    let (hides, names_expire) = (table.flag("phi_names"), table.span("names_expire"));
    let auditor = table.has("auditor").then(|| table.text("auditor")).flatten();
    if let Some(text) = &auditor
        && let Err((message, hint)) = recipient::check(text.value.trim())
    {
        table.reader().error(text.span.clone(), message, hint);
    }
    if hides && auditor.is_none() {
        table.reader().error(
            table.span_of("phi_names"),
            "names would be hidden from everybody: there is no `auditor`",
            "`sealdrop keygen -o auditor.identity` on another machine, and its recipient here",
        );
    }
    let auditor = auditor.filter(|_| hides).map(|text| text.value.trim().to_owned());
    Some(Audit { auditor, names_expire: names_expire?.value })
}

fn anomalies(table: &Table<'_>) -> Option<Anomalies> {
    let (factor, odd_hours_percent) = (table.count("factor", 1..=1000), table.count("odd_hours_percent", 0..=100));
    let (pulls_min, failures_min) =
        (table.count("pulls_min", 1..=1_000_000), table.count("failures_min", 1..=1_000_000));
    let history = table.span("history");
    Some(Anomalies {
        history: history?.value,
        factor: factor?,
        pulls_min: pulls_min?,
        failures_min: failures_min?,
        odd_hours_percent: odd_hours_percent?,
    })
}

fn break_glass(table: &Table<'_>) -> Option<BreakGlass> {
    let within = table.span("within");
    let mut approvers = Vec::new();
    for text in table.has("approvers").then(|| table.texts("approvers")).flatten().map(|t| t.value).unwrap_or_default()
    {
        match sshkey::parse(text.value) {
            Ok(_) => approvers.push(text.value.trim().to_owned()),
            Err((message, hint)) => table.reader().error(text.span, message, hint),
        }
    }
    Some(BreakGlass { approvers, within: within?.value })
}

fn log(table: &Table<'_>) -> Option<Log> {
    let format = table.word("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let level = table.word(
        "level",
        &[
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ],
    );
    Some(Log { format: format?, level: level? })
}

/// Where a server's file is if nobody says.
pub fn default_path() -> PathBuf {
    PathBuf::from("/etc/sealdrop/sealdrop.toml")
}
