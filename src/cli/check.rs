//! `sealdrop check`: reads the configuration as `serve` would and says everything that is wrong or unwise with it. It
//! changes nothing, needs no running server, and ends with 1 if the configuration cannot be used.

pub mod keys;

use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::passphrase::Passphrase;
use crate::config::{self, Loaded, Problem, Severity};
use crate::policy::{FolderKind, Inbox};

/// Check the settings and every policy file; change nothing
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The server's settings; policies are found from there
    #[arg(long, value_name = "FILE", default_value_os_t = config::default_path())]
    pub config: PathBuf,
    #[command(flatten)]
    pub passphrase: Passphrase,
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
        let passphrase = self.passphrase.descriptor()?;
        let (loaded, problems) = match config::load(&self.config) {
            Ok(loaded) => {
                let mut warnings = loaded.warnings.clone();
                warnings.extend(keys::missing(&loaded, passphrase));
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
            Inbox::EndToEnd { .. } => "/inbox (e2e)".to_owned(),
        }));
        let disabled = if user.login.disabled { "  [disabled]" } else { "" };
        writeln!(out, "  {:<20} {}{disabled}", user.name, sees.join("; "))?;
    }
    writeln!(out, "policy {}", loaded.policy.digest)?;
    match loaded.settings.sweep.next_after(crate::clock::now()) {
        Some(next) => writeln!(out, "next sweep {next}, by {}", loaded.settings.sweep),
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
    serde_json::to_writer(&mut *out, &report)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The shipped files, owned by this process.
    fn shipped() -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        let policies = place.path().join("policies");
        fs::create_dir(&policies).unwrap();
        let samples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        fs::write(place.path().join("sealdrop.toml"), fs::read(samples.join("sealdrop.toml")).unwrap()).unwrap();
        for entry in fs::read_dir(samples.join("policies")).unwrap() {
            let entry = entry.unwrap();
            // Templates are no policy until somebody copies them here.
            if entry.path().is_dir() {
                continue;
            }
            fs::write(policies.join(entry.file_name()), fs::read(entry.path()).unwrap()).unwrap();
        }
        place
    }

    fn check(place: &std::path::Path, json: bool) -> (Result<(), Failure>, String) {
        let mut out = Vec::new();
        let check = Check { config: place.join("sealdrop.toml"), passphrase: Passphrase::default() };
        let result = check.run(&mut out, json, false);
        (result, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_good_configuration_is_summed_up_in_words() {
        let place = shipped();
        let (result, said) = check(place.path(), false);
        assert!(result.is_ok(), "{said}");
        assert!(said.starts_with("good: 4 users, 3 folders, 2 recipients; 0 warnings\n"), "{said}");
        assert!(said.contains("acme-imaging         /radiology -> st-mary-radiology; /lab -> city-lab\n"), "{said}");
        assert!(said.contains("\npolicy ") && said.contains("\nnext sweep "), "{said}");
    }

    #[test]
    fn a_bad_one_is_shown_whole_and_fails() {
        let place = shipped();
        let policy = place.path().join("policies/ward-seven.toml");
        let text = fs::read_to_string(&policy).unwrap().replace("kind   = \"shared\"", "knid = \"shared\"");
        fs::write(&policy, text).unwrap();
        let (result, said) = check(place.path(), false);
        let failure = result.unwrap_err();
        assert_eq!(failure.message, "this configuration cannot be used: 2 errors");
        assert!(failure.hint.is_some());
        assert!(said.contains("did you mean `kind`?") && said.contains("ward-seven.toml:14:1"), "{said}");

        let (result, said) = check(place.path(), true);
        assert!(result.is_err());
        let report: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(report["usable"], false);
        let unknown = report["problems"].as_array().unwrap().iter().find(|problem| problem["line"] == 14).unwrap();
        assert_eq!((&unknown["severity"], &unknown["column"]), (&"error".into(), &1.into()));
    }

    #[test]
    fn json_tells_scripts_the_digest_and_the_counts() {
        let place = shipped();
        let (result, said) = check(place.path(), true);
        assert!(result.is_ok());
        let report: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!((&report["usable"], &report["users"]), (&true.into(), &4.into()));
        assert_eq!(report["policy"].as_str().unwrap().len(), 64);
        assert_eq!(report["problems"].as_array().unwrap().len(), 0);
    }
}
