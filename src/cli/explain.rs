//! `sealdrop explain`: which rule decides whether a user may do something, and what would happen. It reads the
//! configuration as `check` does, asks `policy` as the daemon does, changes nothing and needs no running server, unless it is
//! asked about the past: then the policy is the one that was in force, from the daemon's ledger.

mod answer;

use std::net::IpAddr;
use std::path::PathBuf;

use crate::clock::{self, Time};
use crate::config;
use crate::config::kept;
use crate::config::places::Places;
use crate::ipc::admin::InForceRow;
use crate::names::UserName;
use crate::policy::Policy;
use crate::vpath::VirtualPath;

use super::admin::Daemon;
use super::failure::Failure;
use super::say::{Say, Tone};
use super::{Ending, config_failure, policy, sweep};
use answer::{Answer, InForce, Question, answer};

/// Tell which rule decides what a user may do, and what would happen
#[derive(Debug, clap::Args)]
#[command(after_help = "Ends with 0 if it would be permitted, with 4 if not.")]
pub struct Explain {
    /// Who
    #[arg(value_name = "USER")]
    user: UserName,
    /// What
    #[arg(value_name = "OPERATION", value_enum)]
    operation: Asked,
    /// Where in the user's view: /radiology/a.dcm (not for `login`)
    #[arg(value_name = "PATH", required_if_eq_any = [
        ("operation", "put"), ("operation", "get"), ("operation", "list"), ("operation", "rename"),
        ("operation", "remove"), ("operation", "mkdir"),
    ])]
    path: Option<String>,
    /// The new name (`rename` alone)
    #[arg(value_name = "NEW", required_if_eq("operation", "rename"))]
    to: Option<String>,
    /// From which address [default: any that is allowed]
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// When: RFC 3339, `02:00` today in UTC, or `+3d` from now [default: now]. A past date and time is asked of the policy
    /// that was in force then, which the daemon has; all else of the files as they are
    #[arg(long, value_name = "TIME", value_parser = parse_at)]
    at: Option<At>,
    /// By the files as they are, also for a past `--at`
    #[arg(long)]
    files: bool,
    /// What is renamed is a folder, to which name patterns do not apply
    #[arg(long)]
    folder: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// What `--at` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// An hour of today: of a rule, not of history.
    Hour(Time),
    Moment(Time),
}

/// What is decided by.
struct Source {
    policy: Policy,
    places: Option<Places>,
    /// When it was in force; `None`: it is the files on the disk.
    kept: Option<InForceRow>,
}

/// What may be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Asked {
    /// Log in
    Login,
    /// Upload a file
    Put,
    /// Download a file
    Get,
    /// List a folder
    List,
    /// Rename a file or folder
    Rename,
    /// Remove a file or folder
    Remove,
    /// Make a folder
    Mkdir,
}

impl Asked {
    /// As it is typed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Put => "put",
            Self::Get => "get",
            Self::List => "list",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::Mkdir => "mkdir",
        }
    }
}

impl Explain {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let at = match self.at {
            Some(At::Hour(at) | At::Moment(at)) => at,
            None => clock::now(),
        };
        let past = matches!(self.at, Some(At::Moment(at)) if at < clock::now()) && !self.files;
        let source = if past { self.kept(at)? } else { self.on_disk()? };
        let question = Question {
            user: self.user,
            operation: self.operation,
            path: self.path.as_deref().map(path).transpose()?.unwrap_or_else(VirtualPath::root),
            to: self.to.as_deref().map(path).transpose()?,
            from: self.from,
            at,
            folder: self.folder,
        };
        let mut answer = answer(&source.policy, source.places.as_ref(), &question);
        answer.in_force = source.kept.map(|row| InForce::of(&row));
        if say.is_json() {
            say.json(&answer);
        } else {
            tell(say, &answer);
        }
        if answer.permitted { Ok(()) } else { Err(Ending::attention()) }
    }
}

impl Explain {
    /// The policy files as they are.
    fn on_disk(&self) -> Result<Source, Ending> {
        let config = &self.daemon.config;
        let loaded = config::load(config).map_err(|problems| config_failure(config, &problems))?;
        let places = Places::of(&self.user, &loaded.policy.texts, &loaded.settings.policies);
        Ok(Source { policy: loaded.policy, places, kept: None })
    }

    /// The policy that was in force then, as the ledger keeps it. Whom the server trusts to certify keys is not a policy's to
    /// say, and is taken from the settings as they are.
    fn kept(&self, at: Time) -> Result<Source, Ending> {
        let config = &self.daemon.config;
        let mut keeper = self.daemon.connect()?;
        let row = policy::in_force_at(&mut keeper, at).map_err(by_files)?;
        let texts = policy::kept(&mut keeper, &row.digest).map_err(by_files)?;
        let trust = config::load_settings(config).and_then(|settings| config::trust_of(&settings));
        let trust = trust.map_err(|problems| config_failure(config, &problems))?;
        let policy = kept::policy_of_kept(row.digest, &texts, &trust).map_err(|problems| {
            Failure::new(format_args!("policy {} cannot be read any more: {}", row.digest, problems.summary()))
                .hint(format_args!("`sealdrop policy show {}` prints it", row.digest))
        })?;
        let digest = row.digest.to_string();
        let directory = PathBuf::from(format!("policy {}", digest.get(..12).unwrap_or_default()));
        let places = Places::of(&self.user, &policy.texts, &directory);
        Ok(Source { policy, places, kept: Some(row) })
    }
}

/// What else might be wanted.
fn by_files(ending: Ending) -> Ending {
    let failure = ending.failure.map(|failure| {
        let hint = "--files decides by the files as they are";
        Failure {
            hint: Some(failure.hint.map_or_else(|| hint.to_owned(), |first| format!("{first}; {hint}"))),
            ..failure
        }
    });
    Ending { failure, ..ending }
}

/// As the server reads a client's path.
fn path(text: &str) -> Result<VirtualPath, Failure> {
    text.parse()
        .map_err(|error| Failure::new(format_args!("no client could name this: {error}")).hint("shorten the path"))
}

fn tell(say: &Say, answer: &Answer) {
    let verdict = if answer.permitted { say.tone(Tone::Good, "permitted:") } else { say.tone(Tone::Bad, "refused:") };
    let to = answer.to.as_ref().map_or_else(String::new, |to| format!(" to {to}"));
    let path = answer.path.as_ref().map_or_else(String::new, |path| format!(" {path}"));
    say.line(format_args!("{verdict} {} {}{path}{to}", answer.user, answer.operation));
    let mut facts = vec![("because", answer.rule.clone())];
    facts.extend(answer.decided.iter().map(|decided| ("decided at", decided.to_string())));
    facts.extend(answer.client.as_ref().map(|client| ("client hears", format!("{}: {}", client.status, client.say))));
    facts.extend(answer.then.iter().map(|then| ("then", then.clone())));
    facts.extend(answer.sealed_to.iter().map(|to| ("sealed to", format!("{} ({})", to.user, to.mode))));
    facts.extend(answer.delivered.iter().map(|to| ("delivered as", format!("{} of {}", to.path, to.user))));
    if let Some(expiry) = &answer.expiry {
        facts.push(("expires", expiry.words()));
    }
    let limits: Vec<String> = answer.limits.iter().map(|(key, value)| format!("{key} {value}")).collect();
    if !limits.is_empty() {
        facts.push(("limits", limits.join(", ")));
    }
    if let Some(login) = &answer.login {
        if answer.path.is_some() {
            facts.push(("login", login.words()));
        }
        facts.extend(login.keys.iter().map(|key| ("key", key.words())));
    }
    facts.push(("at", answer.at.clone()));
    let when = match &answer.in_force {
        Some(InForce { since, until: Some(until) }) => format!("in force from {since} to {until}"),
        Some(InForce { since, until: None }) => format!("in force since {since}"),
        None => "the files as they are".to_owned(),
    };
    facts.push(("policy", format!("{}, {when}", answer.policy)));
    say.facts(&facts);
}

/// `02:00` is today's, whether or not it has passed: a policy's hours know no date.
fn parse_at(text: &str) -> Result<At, String> {
    let hour = text.len() == 5 && text.as_bytes().get(2) == Some(&b':');
    if hour {
        let today = clock::now().rfc3339();
        let day = today.split('T').next().unwrap_or_default();
        if let Some(time) = Time::parse_rfc3339(&format!("{day}T{text}:00Z")) {
            return Ok(At::Hour(time));
        }
    }
    sweep::parse_now(text)
        .map(At::Moment)
        .map_err(|_| "expected 2026-11-22T08:00:00Z, 08:00 (today, UTC) or +3d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_moment_an_hour_of_today_or_a_span_from_now() {
        assert_eq!(parse_at("1970-01-01T00:00:01Z"), Ok(At::Moment(Time(1000))));
        let Ok(At::Hour(two)) = parse_at("02:00") else { panic!() };
        assert_eq!(two.unix_seconds() % 86_400, 7_200);
        assert!(parse_at("+1d").is_ok());
        for wrong in ["25:00", "2:00", "soon", "+soon"] {
            assert!(parse_at(wrong).is_err(), "{wrong}");
        }
    }
}
