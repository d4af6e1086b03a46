//! `sealdrop audit`: the audit log, oldest first. Events come from the daemon as their canonical JSON, and `--json`
//! prints them so; for people each is one line. Filters choose what is shown, never what is recorded.

use serde_json::Value;

use crate::ipc::admin::{ToCommand, ToKeeper};

use super::Ending;
use super::admin::{Daemon, unexpected};
use super::say::{Say, Tone, size};

/// Read the audit log
#[derive(clap::Args)]
pub struct Audit {
    #[command(flatten)]
    daemon: Daemon,
    /// Begin at this event
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    from: u64,
    /// Only this user's
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Only events of this kind, such as `upload-committed`
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only events whose path begins so
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
}

impl Audit {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        let mut from = self.from;
        loop {
            match keeper.ask(&ToKeeper::Audit { from })? {
                ToCommand::Audit { rows, next } => {
                    for row in &rows {
                        self.show(say, row);
                    }
                    if rows.is_empty() || next <= from {
                        return Ok(());
                    }
                    from = next;
                }
                answer => return Err(unexpected(&answer)),
            }
        }
    }

    fn show(&self, say: &Say, row: &str) {
        match serde_json::from_str::<Value>(row) {
            Ok(event) if !self.wants(&event) => {}
            Ok(event) if !say.is_json() => say.line(line(say, &event)),
            // As it was recorded, byte for byte: an auditor hashes these lines.
            _ => say.raw(format_args!("{row}\n")),
        }
    }

    fn wants(&self, event: &Value) -> bool {
        let is = |key: &str, wanted: &Option<String>| {
            wanted.as_deref().is_none_or(|wanted| event.get(key).and_then(Value::as_str) == Some(wanted))
        };
        let below = self.path.as_deref().is_none_or(|prefix| {
            ["path", "to"]
                .iter()
                .any(|key| event.get(key).and_then(Value::as_str).is_some_and(|p| p.starts_with(prefix)))
        });
        is("user", &self.user) && is("kind", &self.kind) && below
    }
}

/// `2026-11-22T08:00:00Z  upload-committed  partner  /radiology/a.dcm  1.0 MiB`, refusals with their reason.
fn line(say: &Say, event: &Value) -> String {
    let word = |key: &str| event.get(key).and_then(Value::as_str);
    let kind = format!("{:<20}", word("kind").unwrap_or("?"));
    let (outcome, reason) = outcome(event);
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
    for part in [word("detail").map(str::to_owned), (outcome != "done").then(|| format!("{outcome}: {reason}"))]
        .into_iter()
        .flatten()
    {
        line.push_str("  ");
        line.push_str(&say.tone(Tone::Quiet, part));
    }
    line.truncate(line.trim_end().len());
    line
}

/// `done`, `refused` or `failed`, and why.
fn outcome(event: &Value) -> (&str, &str) {
    let word = |key: &str, otherwise| event.get(key).and_then(Value::as_str).unwrap_or(otherwise);
    (word("outcome", "done"), word("why", ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refusal_is_one_line_with_its_reason() {
        let event = json!({
            "at": "2026-11-22T08:00:00Z", "kind": "upload-refused", "user": "partner", "path": "/radiology/a.exe",
            "outcome": "refused", "why": "not accepted here",
        });
        assert_eq!(
            line(&Say::new(true), &event),
            "2026-11-22T08:00:00Z  upload-refused        partner       /radiology/a.exe  refused: not accepted here"
        );
    }
}
