//! TOML in, settings and policy out; or every problem at once, each with its line and a caret. The only module that
//! knows TOML. `source` reads files; everything beside it works on text in memory.

pub mod keys;
pub mod problem;
pub mod schedule;
pub mod settings;

mod cross;
mod finalize;
mod folders;
mod login;
mod reader;
mod recipient;
mod server;
mod source;
mod sshkey;
mod suggest;
mod table;
mod user_file;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

pub use problem::{Problem, Problems, Severity, SourcePlace};
pub use schedule::Schedule;
pub use server::default_path;
pub use settings::{HostKey, Log, LogFormat, LogLevel, ServerLimits, Settings};

use crate::clock::{self, Time};
use crate::names::Digest;
use crate::policy::Policy;
use reader::Reader;
use user_file::UserFile;

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub policy: Policy,
    /// Legal but unwise.
    pub warnings: Vec<Problem>,
}

/// Reads `sealdrop.toml` and the policy files it points to. All or nothing, and all problems at once.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let (settings, mut problems) = settings_of(path);
    // With the server's file broken, the policies are looked for where they usually are: their problems belong into the
    // same list, and a second round for them helps nobody.
    let base = path.parent().unwrap_or(Path::new(""));
    let usual = Some(base.join("policies")).filter(|usual| usual.is_dir());
    let directory = settings.as_ref().map(|settings| settings.policies.clone()).or(usual);
    let (mut files, mut open_files) = (Vec::new(), Vec::new());
    if let Some(directory) = &directory {
        match source::list(directory) {
            Ok((paths, notes)) => {
                if paths.is_empty() {
                    let hint = "add one <user>.toml for each user";
                    problems.push(Problem::of_file(
                        Severity::Warning,
                        directory,
                        "there is no policy here: nobody can log in",
                        hint,
                    ));
                }
                problems.extend(notes);
                for path in paths {
                    match source::read(&path) {
                        Ok(source) => {
                            if source.world_readable {
                                open_files.push(path.clone());
                            }
                            files.push((path, source.bytes));
                        }
                        Err(problem) => problems.push(problem),
                    }
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    let unread = problems.iter().any(|problem| problem.severity == Severity::Error && problem.place.is_none());
    let (policy, more) = policy_from(&files, clock::now(), unread);
    problems.extend(more);
    if let Some(policy) = &policy {
        problems.extend(open_files.iter().filter_map(|path| readable_password(policy, path)));
    }
    match (settings, policy) {
        (Some(settings), Some(policy)) if !any_error(&problems) => Ok(Loaded { settings, policy, warnings: problems }),
        _ => Err(Problems(problems)),
    }
}

/// The server's settings alone, for commands that look for the running daemon: a policy that is being edited must not
/// keep anyone from asking how the daemon is.
pub fn load_settings(path: &Path) -> Result<Settings, Problems> {
    let (settings, problems) = settings_of(path);
    settings.filter(|_| !any_error(&problems)).ok_or(Problems(problems))
}

fn settings_of(path: &Path) -> (Option<Settings>, Vec<Problem>) {
    let mut problems = Vec::new();
    problems.extend(source::check_directory_of(path));
    let settings = source::read(path).and_then(|source| {
        let reader = Reader::new(&source.file, source::text(&source.file, &source.bytes)?);
        let settings = server::settings(&reader);
        problems.extend(reader.into_problems());
        Ok(settings)
    });
    let settings = settings.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    (settings, problems)
}

/// The policy of these files, by name and content, in the order of their names; `None` if there is an error among the
/// problems. `unread`: a file is missing from the list, so that it cannot be said who does not exist.
fn policy_from(files: &[(PathBuf, Vec<u8>)], now: Time, unread: bool) -> (Option<Policy>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut parsed = Vec::new();
    for (path, bytes) in files {
        match source::text(path, bytes) {
            Ok(text) => parsed.push(UserFile::read(Reader::new(path, text))),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() && !unread {
        cross::check(&parsed, now);
    }
    let digest = digest(files);
    let mut users = Vec::new();
    for file in parsed {
        users.extend(file.parsed);
        problems.extend(file.reader.into_problems());
    }
    ((!any_error(&problems)).then(|| Policy::new(digest, users)), problems)
}

/// A hash that every user of the machine can read is one that they can guess at.
fn readable_password(policy: &Policy, path: &Path) -> Option<Problem> {
    let name = path.file_stem()?.to_str()?.parse().ok()?;
    policy.user(&name)?.login.password.as_ref()?;
    let hint = format!("run: chmod o-r {}", path.display());
    Some(Problem::of_file(Severity::Warning, path, "everyone on this machine can read this file's password hash", hint))
}

/// As [`Policy::digest`] says.
fn digest(files: &[(PathBuf, Vec<u8>)]) -> Digest {
    let mut named: Vec<(&[u8], &[u8])> = files
        .iter()
        .map(|(path, bytes)| (path.file_name().unwrap_or_default().as_encoded_bytes(), bytes.as_slice()))
        .collect();
    named.sort();
    let mut hash = Sha256::new();
    for part in named.iter().flat_map(|(name, content)| [name, content]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Digest(hash.finalize().into())
}

fn any_error(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}
