//! TOML in, settings and policy out; or every problem at once, each with its line and a caret. The only module that
//! knows TOML. `source` reads files; everything beside it works on text in memory.

pub mod edit;
pub mod kept;
pub mod keys;
pub mod places;
pub mod problem;
pub mod root_key;
pub mod schedule;
pub mod schema;
pub mod settings;
pub mod signed;

mod alarms;
mod approval;
mod cross;
mod due;
mod expire;
mod finalize;
mod folders;
mod login;
mod old_clients;
mod profiles;
mod reader;
mod recipient;
mod roles;
mod server;
mod source;
mod sshkey;
mod suggest;
mod table;
mod template;
mod trust;
mod user_file;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

pub use problem::{Problem, Problems, Severity, SourcePlace};
pub use root_key::RootKey;
pub use schedule::Schedule;
pub use server::default_path;
pub use settings::{
    Alarms, Anomalies, Approval, Audit, BreakGlass, BucketSpan, Dangerous, Hook, HostKey, Log, LogFormat, LogLevel,
    NoticeKind, RoleGroups, ServerLimits, Settings,
};
pub use template::DIRECTORY as TEMPLATES;

use crate::clock::{self, Time};
use crate::names::Digest;
use crate::policy::{Policy, PolicyText, Trust};
use profiles::Profiles;
use reader::Reader;
use template::{Shared, Template};
use user_file::UserFile;

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub policy: Policy,
    /// Whose signatures the files have, if the settings want any.
    pub signed: Vec<String>,
    /// Legal but unwise.
    pub warnings: Vec<Problem>,
}

/// Reads `sealdrop.toml` and the policy files it points to. All or nothing, and all problems at once.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    load_as(path, None, None)
}

/// The same, as if one policy file had this content, whether it is there or not. It has no signature yet.
pub fn load_with(path: &Path, changed: Option<&PolicyText>) -> Result<Loaded, Problems> {
    load_as(path, changed, None)
}

/// The same as `load`, but the signatures that count are those of these signers, whatever the file says now: who runs is who
/// was trusted at the start.
pub fn load_signed(path: &Path, signers: &[String]) -> Result<Loaded, Problems> {
    load_as(path, None, Some(signers))
}

fn load_as(path: &Path, changed: Option<&PolicyText>, signers: Option<&[String]>) -> Result<Loaded, Problems> {
    let (settings, mut problems, text) = settings_of(path);
    // With the server's file broken, the policies are looked for where they usually are: their problems belong into the
    // same list, and a second round for them helps nobody.
    let base = path.parent().unwrap_or(Path::new(""));
    let usual = Some(base.join("policies")).filter(|usual| usual.is_dir());
    let directory = settings.as_ref().map(|settings| settings.policies.clone()).or(usual);
    let mut files = directory.as_deref().map(read_policies).unwrap_or_default();
    if let (Some(changed), Some(directory)) = (changed, &directory) {
        let at = directory.join(&changed.name);
        files.files.retain(|(path, _)| *path != at);
        // "There is no policy here" is true no more.
        files.problems.retain(|problem| problem.file != *directory || problem.severity == Severity::Error);
        files.files.push((at, changed.bytes.clone()));
        files.files.sort();
    }
    let signers = signers.or(settings.as_ref().map(|settings| settings.policy_signers.as_slice())).unwrap_or_default();
    let unsigned = changed.zip(directory.as_ref()).map(|(changed, directory)| directory.join(&changed.name));
    let all = text.iter().map(|text| (path, text.as_slice()));
    let all = all.chain(files.files.iter().map(|(path, bytes)| (path.as_path(), bytes.as_slice())));
    let all: Vec<_> = all.filter(|(path, _)| unsigned.as_deref() != Some(*path)).collect();
    let signed = signed::check(&all, signers, &mut problems);
    problems.extend(files.problems);
    let unread = problems.iter().any(|problem| problem.severity == Severity::Error && problem.place.is_none());
    if let Some(settings) = &settings {
        problems.extend(old_clients::ended(settings, path, clock::now()));
    }
    let trust = settings.as_ref().and_then(|settings| trust::read(settings, &mut problems));
    let profiles = settings.as_ref().map(|settings| settings.profiles.clone()).unwrap_or_default();
    // Without the server's file nobody knows its profiles.
    let unread = unread || settings.is_none();
    let (policy, more) = policy_from(&files.files, clock::now(), unread, trust.as_ref(), profiles);
    problems.extend(more);
    if let Some(policy) = &policy {
        problems.extend(files.world_readable.iter().filter_map(|path| readable_password(policy, path)));
    }
    if let (Some(settings), Some(policy)) = (&settings, &policy)
        && settings.external.is_none()
        && let Some(user) = policy.users().find(|user| user.asks_outside())
    {
        let message = format!("`{}` is to be asked about outside, and there is nobody to ask", user.name);
        let hint = "add [external] with `socket` to it; docs/logins.md, \"An authenticator of the site's\"";
        problems.push(Problem::of_file(Severity::Error, path, message, hint));
    }
    match (settings, policy) {
        (Some(settings), Some(policy)) if !any_error(&problems) => {
            Ok(Loaded { settings, policy, signed, warnings: problems })
        }
        _ => Err(Problems(problems)),
    }
}

/// The policy of another directory, with the expiry profiles of these settings.
pub fn load_policies(directory: &Path, settings: &Settings) -> Result<Policy, Problems> {
    let files = read_policies(directory);
    let mut problems = files.problems;
    let (policy, more) = policy_from(&files.files, clock::now(), any_error(&problems), None, settings.profiles.clone());
    problems.extend(more);
    policy.filter(|_| !any_error(&problems)).ok_or(Problems(problems))
}

/// A policy from texts that were read elsewhere, such as those of the one in force.
pub fn policy_of(texts: &[PolicyText]) -> Result<Policy, Problems> {
    let files = texts.iter().filter(|text| text.name != profiles::TEXT);
    let files: Vec<_> = files.map(|text| (PathBuf::from(&text.name), text.bytes.clone())).collect();
    let (policy, problems) = policy_from(&files, clock::now(), false, None, profiles::of_texts(texts));
    policy.ok_or(Problems(problems))
}

/// Whether a policy takes this public key; if not, why, in one line.
pub fn check_public_key(text: &str) -> Result<(), String> {
    sshkey::parse(text).map(drop).map_err(|(message, hint)| format!("{message}: {hint}"))
}

/// Whether files can be sealed to this recipient; if not, why, in one line.
pub fn check_recipient(text: &str) -> Result<(), String> {
    recipient::check(text).map(drop).map_err(|(message, hint)| format!("{message}: {hint}"))
}

/// Whom the server's settings trust, for a policy that was read elsewhere.
pub fn trust_of(settings: &Settings) -> Result<Trust, Problems> {
    let mut problems = Vec::new();
    trust::read(settings, &mut problems).ok_or(Problems(problems))
}

/// What a directory of policies holds.
#[derive(Default)]
struct PolicyFiles {
    files: Vec<(PathBuf, Vec<u8>)>,
    /// Those that every user of the machine can read.
    world_readable: Vec<PathBuf>,
    problems: Vec<Problem>,
}

fn read_policies(directory: &Path) -> PolicyFiles {
    let mut found = PolicyFiles::default();
    let paths = match source::list(directory) {
        Ok((paths, notes)) => {
            if paths.is_empty() {
                let (message, hint) =
                    ("there is no policy here: nobody can log in", "add one <user>.toml for each user");
                found.problems.push(Problem::of_file(Severity::Warning, directory, message, hint));
            }
            found.problems.extend(notes);
            paths
        }
        Err(problem) => {
            found.problems.push(problem);
            return found;
        }
    };
    let templates = directory.join(template::DIRECTORY);
    let templates = if templates.is_dir() { source::list(&templates) } else { Ok((Vec::new(), Vec::new())) };
    let (templates, notes) = templates.unwrap_or_else(|problem| (Vec::new(), vec![problem]));
    found.problems.extend(notes);
    for path in paths.into_iter().chain(templates) {
        match source::read(&path) {
            Ok(source) => {
                if source.world_readable {
                    found.world_readable.push(path.clone());
                }
                found.files.push((path, source.bytes));
            }
            Err(problem) => found.problems.push(problem),
        }
    }
    found
}

/// The server's settings alone, for commands that look for the running daemon: a policy that is being edited must not
/// keep anyone from asking how the daemon is.
pub fn load_settings(path: &Path) -> Result<Settings, Problems> {
    let (settings, problems, _) = settings_of(path);
    settings.filter(|_| !any_error(&problems)).ok_or(Problems(problems))
}

/// With the bytes that they were read from.
fn settings_of(path: &Path) -> (Option<Settings>, Vec<Problem>, Option<Vec<u8>>) {
    let (mut problems, mut bytes) = (Vec::new(), None);
    problems.extend(source::check_directory_of(path));
    let settings = source::read(path).and_then(|source| {
        let reader = Reader::new(&source.file, source::text(&source.file, &source.bytes)?);
        let settings = server::settings(&reader);
        problems.extend(reader.into_problems());
        bytes = Some(source.bytes);
        Ok(settings)
    });
    let settings = settings.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    (settings, problems, bytes)
}

/// The server's settings from a text, for the fuzz target alone.
#[cfg(fuzzing)]
pub fn settings_of_text(bytes: &[u8]) -> Result<Settings, Problems> {
    let file = Path::new("sealdrop.toml");
    let reader = Reader::new(file, source::text(file, bytes).map_err(|problem| Problems(vec![problem]))?);
    let settings = server::settings(&reader);
    settings.ok_or_else(|| Problems(reader.into_problems()))
}

/// The policy of these files, by name and content, in the order of their names; `None` if there is an error among the
/// problems. `unread`: a file is missing from the list, so that it cannot be said who does not exist. `trust` is the
/// server's; `None` where it is not known, and then nothing is said of it.
fn policy_from(
    files: &[(PathBuf, Vec<u8>)],
    now: Time,
    unread: bool,
    trust: Option<&Trust>,
    profiles: Profiles,
) -> (Option<Policy>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut parsed = Vec::new();
    let mut shared = Shared { profiles, ..Shared::default() };
    let (templates, users): (Vec<_>, Vec<_>) = files.iter().partition(|(path, _)| template::is_template(path));
    let mut readers = Vec::new();
    for (path, bytes) in templates {
        match source::text(path, bytes) {
            Ok(text) => {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                shared.templates.insert(name.clone(), Template { file: path.clone(), text: text.clone() });
                readers.push((name, Reader::new(path, text)));
            }
            Err(problem) => problems.push(problem),
        }
    }
    for (path, bytes) in users {
        match source::text(path, bytes) {
            Ok(text) => parsed.push(UserFile::read(Reader::new(path, text), &shared)),
            Err(problem) => problems.push(problem),
        }
    }
    for (name, reader) in readers {
        template::check(&reader);
        if !parsed.iter().any(|file: &UserFile| file.template.as_ref() == Some(&name)) {
            reader.warn(
                0..0,
                "no user takes this template",
                format!("name it in a user's file: template = \"{name}\""),
            );
        }
        problems.extend(reader.into_problems());
    }
    if !any_error(&problems) && !unread {
        cross::check(&parsed, now);
        if let Some(trust) = trust {
            cross::certificates(&parsed, trust);
        }
    }
    let profiles = profiles::as_text(&shared.profiles);
    let texts = files.iter().map(|(path, bytes)| PolicyText { name: text_name(path), bytes: bytes.clone() });
    let texts: Vec<PolicyText> = texts.chain(profiles).collect();
    let digest = digest(&texts);
    let mut users = Vec::new();
    for file in parsed {
        users.extend(file.parsed);
        problems.extend(file.reader.into_problems());
    }
    let trust = || trust.cloned().unwrap_or_default();
    let whole = || Policy::new(digest, users).read_from(texts.clone()).trusting(trust());
    let policy = (!any_error(&problems)).then(whole);
    (policy, problems)
}

/// A hash that every user of the machine can read is one that they can guess at.
fn readable_password(policy: &Policy, path: &Path) -> Option<Problem> {
    let name = path.file_stem()?.to_str()?.parse().ok()?;
    policy.user(&name)?.login.password.as_ref()?;
    let hint = format!("run: chmod o-r {}", path.display());
    Some(Problem::of_file(Severity::Warning, path, "everyone on this machine can read this file's password hash", hint))
}

/// As [`Policy::digest`] says.
fn digest(texts: &[PolicyText]) -> Digest {
    let mut named: Vec<(&[u8], &[u8])> = texts.iter().map(|text| (text.name.as_bytes(), &text.bytes[..])).collect();
    named.sort();
    let mut hash = Sha256::new();
    for part in named.iter().flat_map(|(name, content)| [name, content]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Digest(hash.finalize().into())
}

/// `acme.toml`, `templates/partner.toml`.
fn text_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if template::is_template(path) { format!("{}/{name}", template::DIRECTORY) } else { name.into_owned() }
}

fn any_error(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}
