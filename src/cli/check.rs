//! `sealdrop check`: reads the configuration as `serve` would and says everything that is wrong or unwise with it. It
//! changes nothing, needs no running server, and ends with 1 if the configuration cannot be used.

use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;

use crate::cli::failure::Failure;
use crate::config::{self, Loaded, Problem, Severity};
use crate::policy::{FolderKind, Inbox};

/// Check the settings and every policy file; change nothing
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The server's settings; policies are found from there
    #[arg(long, value_name = "FILE", default_value_os_t = config::default_path())]
    pub config: PathBuf,
}

/// The shape of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    usable: bool,
    /// SHA-256 over the policy files, as in receipts and audit events.
    policy: Option<String>,
    users: usize,
    folders: usize,
    recipients: usize,
    next_sweep: Option<String>,
    problems: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    severity: &'static str,
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    message: &'a str,
    hint: Option<&'a str>,
}

impl Check {
    pub fn run(self, out: &mut dyn Write, json: bool, terminal: bool) -> Result<(), Failure> {
        let (loaded, problems) = match config::load(&self.config) {
            Ok(loaded) => {
                let warnings = loaded.warnings.clone();
                (Some(loaded), warnings)
            }
            Err(problems) => (None, problems.0),
        };
        let written = if json {
            write_json(out, loaded.as_ref(), &problems)
        } else {
            write_text(out, loaded.as_ref(), &problems, terminal)
        };
        written.map_err(|error| Failure::new(format!("the result could not be written: {error}")))?;
        if loaded.is_some() {
            return Ok(());
        }
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        let hint = "a running server keeps the policy it has until this is mended";
        Err(Failure::new(format!("this configuration cannot be used: {}", count(errors, "error"))).hint(hint))
    }
}

fn write_text(
    out: &mut dyn Write,
    loaded: Option<&Loaded>,
    problems: &[Problem],
    terminal: bool,
) -> std::io::Result<()> {
    for problem in problems {
        writeln!(out, "{}\n", problem.render(terminal))?;
    }
    let Some(loaded) = loaded else { return Ok(()) };
    let (users, folders, recipients) = totals(loaded);
    writeln!(
        out,
        "good: {}, {}, {}; {}",
        count(users, "user"),
        count(folders, "folder"),
        count(recipients, "recipient"),
        count(problems.len(), "warning")
    )?;
    for user in loaded.policy.users() {
        let mut sees: Vec<String> = user
            .folders
            .iter()
            .map(|folder| match folder.kind {
                FolderKind::Shared => format!("{} (shared)", folder.path),
                FolderKind::Drop => {
                    let to: Vec<&str> = folder.to.iter().map(|name| name.as_str()).collect();
                    format!("{} -> {}", folder.path, to.join(", "))
                }
            })
            .collect();
        sees.extend(user.inbox.as_ref().map(|inbox| match inbox {
            Inbox::Managed { .. } => "/inbox (managed)".to_owned(),
            Inbox::Sealed { .. } => "/inbox (sealed)".to_owned(),
        }));
        let disabled = if user.login.disabled { "  [disabled]" } else { "" };
        writeln!(out, "  {:<20} {}{disabled}", user.name, sees.join("; "))?;
    }
    writeln!(out, "policy {}", loaded.policy.digest)?;
    match loaded.settings.sweep.next_after(crate::clock::now()) {
        Some(next) => writeln!(out, "next sweep {next}  ({})", loaded.settings.sweep),
        None => Ok(()),
    }
}

fn write_json(out: &mut dyn Write, loaded: Option<&Loaded>, problems: &[Problem]) -> std::io::Result<()> {
    let (users, folders, recipients) = loaded.map_or((0, 0, 0), totals);
    let next = loaded.and_then(|loaded| loaded.settings.sweep.next_after(crate::clock::now()));
    let report = Report {
        usable: loaded.is_some(),
        policy: loaded.map(|loaded| loaded.policy.digest.to_string()),
        users,
        folders,
        recipients,
        next_sweep: next.map(|time| time.rfc3339()),
        problems: problems.iter().map(entry).collect(),
    };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}

fn entry(problem: &Problem) -> Entry<'_> {
    Entry {
        severity: match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        file: crate::names::escaped(problem.file.as_os_str().as_encoded_bytes()),
        line: problem.line(),
        column: problem.column(),
        message: &problem.message,
        hint: problem.hint.as_deref(),
    }
}

/// Users, folders, recipients.
fn totals(loaded: &Loaded) -> (usize, usize, usize) {
    let folders = loaded.policy.users().map(|user| user.folders.len()).sum();
    let recipients = loaded.policy.users().filter(|user| user.inbox.is_some()).count();
    (loaded.policy.users().len(), folders, recipients)
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
