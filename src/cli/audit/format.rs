//! Events in the formats that others read: lines for people, JSON lines, CSV (RFC 4180), CEF and syslog (RFC 5424) for
//! collectors. Only JSON lines are the events themselves, byte for byte; the others say the same in their own words.

use serde_json::Value;

use crate::clock::Time;
use crate::ipc::admin::{ToCommand, ToKeeper};

use super::super::Ending;
use super::super::admin::{Keeper, unexpected};
use super::super::say::{Say, Tone, size};

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A line each, for people; JSON lines with --json
    Text,
    /// As they were recorded, byte for byte
    Jsonl,
    /// RFC 4180, with a head line
    Csv,
    /// ArcSight's Common Event Format
    Cef,
    /// RFC 5424, with structured data
    Syslog,
}

/// All members that an event may have, in their order.
pub const MEMBERS: [&str; 22] = [
    "n",
    "at",
    "kind",
    "outcome",
    "why",
    "user",
    "key",
    "address",
    "session",
    "path",
    "to",
    "drop",
    "receipt",
    "receipt_sha256",
    "bytes",
    "sha256",
    "ms",
    "detail",
    "policy",
    "replaces",
    "duplicate",
    "salt",
];

pub struct Writer<'a> {
    say: &'a Say,
    format: Format,
    /// The name of the server, where a format wants it.
    server: String,
}

impl<'a> Writer<'a> {
    pub fn new(say: &'a Say, format: Format, keeper: &mut Keeper) -> Result<Self, Ending> {
        let format = if say.is_json() && format == Format::Text { Format::Jsonl } else { format };
        let server = match format {
            Format::Syslog | Format::Cef => match keeper.ask(&ToKeeper::Status)? {
                ToCommand::Status(status) => status.server,
                answer => return Err(unexpected(&answer)),
            },
            _ => String::new(),
        };
        if format == Format::Csv {
            say.raw(format_args!("{}\r\n", MEMBERS.join(",")));
        }
        Ok(Self { say, format, server })
    }

    pub fn write(&self, row: &str, event: &Value) {
        match self.format {
            Format::Text if event.is_object() => self.say.line(line(self.say, event)),
            // As it was recorded, byte for byte: an auditor hashes these lines.
            Format::Text | Format::Jsonl => self.say.raw(format_args!("{row}\n")),
            Format::Csv => self.say.raw(format_args!("{}\r\n", csv(event))),
            Format::Cef => self.say.raw(format_args!("{}\n", cef(&self.server, event))),
            Format::Syslog => self.say.raw(format_args!("{}\n", syslog(&self.server, event))),
        }
    }
}

fn word<'a>(event: &'a Value, key: &str) -> Option<&'a str> {
    event.get(key).and_then(Value::as_str)
}

/// A member as text, whatever it is.
fn shown(event: &Value, key: &str) -> Option<String> {
    match event.get(key)? {
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// `2026-11-22T08:00:00Z  upload-committed  partner  /radiology/a.dcm  1.0 MiB`, refusals with their reason.
fn line(say: &Say, event: &Value) -> String {
    let word = |key: &str| word(event, key);
    let kind = format!("{:<21}", word("kind").unwrap_or("?"));
    let outcome = word("outcome").unwrap_or("done");
    let kind = match outcome {
        "done" => kind,
        _ => say.tone(Tone::Bad, kind),
    };
    let mut line = format!("{}  {kind}  {:<12}", word("at").unwrap_or("?"), word("user").unwrap_or("-"));
    if let Some(path) = word("path") {
        line.push_str(&format!("  {path}"));
    }
    if let Some(to) = word("to") {
        line.push_str(&format!(" → {to}"));
    }
    if let Some(bytes) = event.get("bytes").and_then(Value::as_u64) {
        line.push_str(&format!("  {}", size(bytes)));
    }
    let reason = (outcome != "done").then(|| format!("{outcome}: {}", word("why").unwrap_or_default()));
    for part in [word("detail").map(str::to_owned), reason].into_iter().flatten() {
        line.push_str("  ");
        line.push_str(&say.tone(Tone::Quiet, part));
    }
    line.truncate(line.trim_end().len());
    line
}

fn csv(event: &Value) -> String {
    let cell = |key: &&str| {
        let text = shown(event, key).unwrap_or_default();
        if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
    };
    MEMBERS.iter().map(cell).collect::<Vec<_>>().join(",")
}

/// `CEF:0|vendor|product|version|kind|name|severity|extension`.
fn cef(server: &str, event: &Value) -> String {
    let head = |text: &str| text.replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ");
    let value = |text: &str| text.replace('\\', "\\\\").replace('=', "\\=").replace('\n', "\\n").replace('\r', "\\r");
    let kind = word(event, "kind").unwrap_or("?");
    let severity = match (kind, word(event, "outcome")) {
        ("corrupt" | "session-broken", _) => 9,
        (_, Some("failed")) => 7,
        (_, Some("refused")) => 5,
        _ => 3,
    };
    let at = word(event, "at").and_then(Time::parse_rfc3339).map(|at| at.0.to_string());
    let mut pairs = vec![("dvchost", Some(server.to_owned())), ("rt", at)];
    for (key, member) in [
        ("externalId", "n"),
        ("outcome", "outcome"),
        ("reason", "why"),
        ("suser", "user"),
        ("src", "address"),
        ("filePath", "path"),
        ("fsize", "bytes"),
        ("fileHash", "sha256"),
        ("fileId", "drop"),
        ("msg", "detail"),
    ] {
        pairs.push((key, shown(event, member)));
    }
    for (number, label, member) in [
        ("cs1", "key", "key"),
        ("cs2", "session", "session"),
        ("cs3", "policy", "policy"),
        ("cs4", "receipt", "receipt"),
        ("cs5", "renamedTo", "to"),
    ] {
        if let Some(text) = shown(event, member) {
            let label_key: &str = match number {
                "cs1" => "cs1Label",
                "cs2" => "cs2Label",
                "cs3" => "cs3Label",
                "cs4" => "cs4Label",
                _ => "cs5Label",
            };
            pairs.push((label_key, Some(label.to_owned())));
            pairs.push((number, Some(text)));
        }
    }
    if let Some(ms) = shown(event, "ms") {
        pairs.push(("cn1Label", Some("milliseconds".to_owned())));
        pairs.push(("cn1", Some(ms)));
    }
    let extension: Vec<String> =
        pairs.into_iter().filter_map(|(key, text)| Some(format!("{key}={}", value(&text?)))).collect();
    format!(
        "CEF:0|sealdrop|sealdrop|{}|{}|{}|{severity}|{}",
        head(env!("CARGO_PKG_VERSION")),
        head(kind),
        head(&kind.replace('-', " ")),
        extension.join(" ")
    )
}

/// Facility 13, log audit. The number behind the `@` is the one that RFC 5612 keeps for examples: we have none.
fn syslog(server: &str, event: &Value) -> String {
    let severity = match word(event, "outcome") {
        Some("failed") => 4,
        Some("refused") => 5,
        _ => 6,
    };
    let value = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
    let members = MEMBERS.iter().filter(|key| !["at", "kind", "salt"].contains(key));
    let data: String = members.filter_map(|key| Some(format!(" {}=\"{}\"", key, value(&shown(event, key)?)))).collect();
    let kind = word(event, "kind").unwrap_or("-");
    let server = if server.is_empty() { "-" } else { server };
    format!(
        "<{}>1 {} {server} sealdrop - {kind} [sealdrop@32473{data}]",
        13 * 8 + severity,
        word(event, "at").unwrap_or("-")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal() -> Value {
        json!({
            "n": 7, "at": "2026-11-22T08:00:00.000Z", "kind": "upload-refused", "outcome": "refused",
            "why": "a \"b\"=|c]", "user": "acme", "address": "203.0.113.9", "path": "/r/a,b.dcm", "bytes": 3,
        })
    }

    #[test]
    fn a_refusal_is_one_line_with_its_reason() {
        let event = json!({
            "at": "2026-11-22T08:00:00Z", "kind": "upload-refused", "user": "partner", "path": "/radiology/a.exe",
            "outcome": "refused", "why": "not accepted here",
        });
        assert_eq!(
            line(&Say::new(true), &event),
            "2026-11-22T08:00:00Z  upload-refused         partner       /radiology/a.exe  refused: not accepted here"
        );
    }

    #[test]
    fn what_would_end_a_cell_is_escaped_in_each_format() {
        assert_eq!(
            csv(&refusal()),
            "7,2026-11-22T08:00:00.000Z,upload-refused,refused,\"a \"\"b\"\"=|c]\",acme,,203.0.113.9,,\"/r/a,b.dcm\",,,,,3,,,,,,,"
        );
        assert_eq!(
            cef("drop.example", &refusal()),
            format!(
                "CEF:0|sealdrop|sealdrop|{}|upload-refused|upload refused|5|dvchost=drop.example rt=1795334400000 \
                 externalId=7 outcome=refused reason=a \"b\"\\=|c] suser=acme src=203.0.113.9 filePath=/r/a,b.dcm fsize=3",
                env!("CARGO_PKG_VERSION")
            )
        );
        assert_eq!(
            syslog("drop.example", &refusal()),
            "<109>1 2026-11-22T08:00:00.000Z drop.example sealdrop - upload-refused [sealdrop@32473 n=\"7\" \
             outcome=\"refused\" why=\"a \\\"b\\\"=|c\\]\" user=\"acme\" address=\"203.0.113.9\" path=\"/r/a,b.dcm\" bytes=\"3\"]"
        );
    }
}
