//! `sealdrop user`: who has an account, and the small changes an admin makes to one. The policy file stays the admin's own:
//! only the lines that change are changed, and nothing is written that `check` would refuse.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use crate::clock;
use crate::config::edit::Edit;
use crate::config::{self, Loaded};
use crate::ledger::note::base64;
use crate::names::UserName;
use crate::policy::{self, Inbox, PolicyText};

use super::Ending;
use super::admin::{self, DEFAULT_CONFIG, unexpected};
use super::failure::Failure;
use super::say::{Align, Say, Table};
use crate::ipc::admin::{ToCommand, ToKeeper};

mod add;

pub(super) use add::Add;

/// Show, add, disable users and change their keys, in their policy files
#[derive(clap::Args)]
pub struct User {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    List(List),
    Add(Box<add::Add>),
    Disable(Disable),
    Enable(Enable),
    Keys(Keys),
}

/// Show everybody who has an account
#[derive(clap::Args)]
struct List {
    /// The server's settings; policies are found from there
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

/// Let a user log in no more; what was delivered stays
#[derive(clap::Args)]
struct Disable {
    /// Who
    user: UserName,
    #[command(flatten)]
    way: Way,
}

/// Let a disabled user log in again
#[derive(clap::Args)]
struct Enable {
    /// Who
    user: UserName,
    #[command(flatten)]
    way: Way,
}

/// Show a user's public keys, or change them
#[derive(clap::Args)]
struct Keys {
    /// Whose
    user: UserName,
    /// Add this public key: a line as in id_ed25519.pub, or the file
    #[arg(long, value_name = "KEY")]
    add: Vec<String>,
    /// Take this key away: its fingerprint, `SHA256:…`, or its comment
    #[arg(long, value_name = "KEY")]
    remove: Vec<String>,
    #[command(flatten)]
    way: Way,
}

/// How a change is made.
#[derive(clap::Args)]
pub(super) struct Way {
    /// The server's settings; policies are found from there
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Make the running daemon read the change at once
    #[arg(long, conflicts_with = "dry_run")]
    reload: bool,
    /// Why, for the audit log, which has it when the daemon reads the change
    #[arg(long, alias = "reason", value_name = "WORDS", requires = "reload")]
    why: Option<String>,
    /// Show the file as it would be, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Of a server that is being made: no daemon runs that could read it, and what is unwise is said when all is there.
    #[arg(skip)]
    unborn: bool,
}

impl User {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        match self.what {
            What::List(List { config }) => list(say, &load(&config)?),
            What::Add(add) => add.run(say),
            What::Disable(Disable { user, way }) => {
                let text = way.edited(&user, |edit| edit.set_disabled(true).map_err(no_edit))?;
                way.write(say, &user, &text, &format!("{user} can log in no more; open sessions end when it is read"))
            }
            What::Enable(Enable { user, way }) => {
                let text = way.edited(&user, |edit| edit.set_disabled(false).map_err(no_edit))?;
                way.write(say, &user, &text, &format!("{user} can log in"))
            }
            What::Keys(keys) => keys.run(say),
        }
    }
}

fn list(say: &Say, loaded: &Loaded) -> Result<(), Ending> {
    let mut table = Table::new(&[
        ("USER", Align::Left),
        ("STATE", Align::Left),
        ("KEYS", Align::Right),
        ("PASSWORD", Align::Left),
        ("FOLDERS", Align::Left),
        ("INBOX", Align::Left),
    ]);
    for user in loaded.policy.users() {
        let state = user.barred(None, clock::now()).map_or("good", |barred| match barred {
            policy::Barred::Disabled => "disabled",
            policy::Barred::Expired => "expired",
            policy::Barred::Address => "barred",
        });
        let folders: Vec<String> = user.folders.iter().map(|folder| folder.path.to_string()).collect();
        let inbox = user.inbox.as_ref().map(|inbox| match inbox {
            Inbox::Managed { .. } => "managed",
            Inbox::Sealed { .. } => "sealed",
            Inbox::EndToEnd { .. } => "e2e",
        });
        if say.is_json() {
            say.json(&json!({
                "user": user.name, "state": state, "keys": user.login.keys.len(),
                "password": user.login.password.is_some(), "folders": folders, "inbox": inbox,
            }));
        }
        table.row([
            user.name.to_string(),
            state.to_owned(),
            user.login.keys.len().to_string(),
            if user.login.password.is_some() { "yes" } else { "-" }.to_owned(),
            if folders.is_empty() { "-".to_owned() } else { folders.join(" ") },
            inbox.unwrap_or("-").to_owned(),
        ]);
    }
    if table.is_empty() {
        say.line("there is no user: add one with `sealdrop user add`");
    } else {
        say.table(&table);
    }
    Ok(())
}

impl Keys {
    fn run(self, say: &Say) -> Result<(), Ending> {
        let Self { user, add, remove, way } = self;
        let loaded = load(&way.config)?;
        let account = loaded.policy.user(&user).ok_or_else(|| nobody(&loaded, &user))?;
        if add.is_empty() && remove.is_empty() {
            let mut table =
                Table::new(&[("FINGERPRINT", Align::Left), ("TYPE", Align::Left), ("COMMENT", Align::Left)]);
            for key in &account.login.keys {
                if say.is_json() {
                    let (fingerprint, algorithm, comment) = (&key.fingerprint, &key.algorithm, &key.comment);
                    say.json(&json!({ "fingerprint": fingerprint, "type": algorithm, "comment": comment }));
                }
                table.row([key.fingerprint.clone(), key.algorithm.clone(), key.comment.clone()]);
            }
            say.table(&table);
            return Ok(());
        }
        // Keys are told apart by what they are, whatever stands around them in the file.
        let mut gone = Vec::new();
        for name in &remove {
            let found: Vec<_> =
                account.login.keys.iter().filter(|key| key.fingerprint == *name || key.comment == *name).collect();
            match found.as_slice() {
                [key] => gone.push(base64(&key.blob)),
                [] => {
                    let hint = format!("`sealdrop user keys {user}` shows what it has");
                    return Err(Failure::new(format_args!("{user} has no key `{name}`")).hint(hint).into());
                }
                _ => {
                    let message = format!("{user} has {} keys with the comment `{name}`", found.len());
                    return Err(Failure::new(message).hint("give the fingerprint, SHA256:…").into());
                }
            }
        }
        let added = add.iter().map(|key| public_key(key)).collect::<Result<Vec<_>, _>>()?;
        let text = way.edited(&user, |edit| {
            edit.remove_keys(|key| gone.iter().any(|blob| key.split_whitespace().any(|word| word == blob)))
                .map_err(no_edit)?;
            added.iter().try_for_each(|line| edit.add_key(line)).map_err(no_edit)?;
            Ok(())
        })?;
        let done = format!("{user}: {} added, {} removed", keys(added.len()), keys(gone.len()));
        way.write(say, &user, &text, &done)
    }
}

fn keys(number: usize) -> String {
    super::say::count(number as u64, "key")
}

/// A line of `id_….pub`, or the file that it stands in.
pub(super) fn public_key(given: &str) -> Result<String, Failure> {
    let path = Path::new(given);
    if given.split_whitespace().nth(1).is_some() || !path.exists() {
        return Ok(given.trim().to_owned());
    }
    let text = fs::read_to_string(path).map_err(|e| cannot("read", path, &e))?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    line.map(str::to_owned).ok_or_else(|| Failure::new(format_args!("there is no key in {}", path.display())))
}

impl Way {
    /// A change of the files of a server that is being made.
    fn unborn(config: &Path) -> Self {
        Self { config: config.to_owned(), reload: false, why: None, dry_run: false, unborn: true }
    }

    /// The user's file with the change made.
    fn edited(&self, user: &UserName, change: impl FnOnce(&mut Edit) -> Result<(), Failure>) -> Result<String, Ending> {
        let path = self.path(user)?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(nobody(&load(&self.config)?, user).into()),
            Err(e) => return Err(cannot("read", &path, &e).into()),
        };
        let mut edit = Edit::of(&text).map_err(no_edit)?;
        change(&mut edit)?;
        Ok(edit.text())
    }

    pub(super) fn path(&self, user: &UserName) -> Result<PathBuf, Failure> {
        let settings = config::load_settings(&self.config).map_err(|e| super::config_failure(&self.config, &e))?;
        Ok(settings.policies.join(format!("{user}.toml")))
    }

    /// Writes the file if all files together can be used with it, and makes the daemon read it if that was asked for.
    pub(super) fn write(&self, say: &Say, user: &UserName, text: &str, done: &str) -> Result<(), Ending> {
        let path = self.path(user)?;
        let would_be = PolicyText { name: format!("{user}.toml"), bytes: text.as_bytes().to_vec() };
        let loaded = config::load_with(&self.config, Some(&would_be)).map_err(|problems| {
            let message = format!("nothing was changed, for this could not be used:\n{}", problems.render(false));
            Failure::new(message).hint("mend it, and try again")
        })?;
        for warning in loaded.warnings.iter().filter(|warning| warning.file == path && !self.unborn) {
            say.warn(&warning.message);
        }
        if self.dry_run {
            say.raw(text);
            return Ok(());
        }
        let signed = !loaded.settings.policy_signers.is_empty();
        if signed && self.reload {
            return Err(Failure::new("nothing was changed: the file must be signed before it can be read")
                .hint("run it without --reload, sign the file, then `sealdrop reload`")
                .into());
        }
        replace(&path, text).map_err(|e| cannot("write", &path, &e))?;
        let (reloaded, ended) = match self.reload.then(|| self.reload(&loaded.settings.admin, user)) {
            None => (None, Ok(())),
            Some(Ok(answer)) => (Some(answer), Ok(())),
            // The file is written, and this command would write it no second time.
            Some(Err(Ending { failure, code, awaits: Some((row, _)) })) => {
                (None, Err(Ending { failure, code, awaits: Some((row, "sealdrop reload")) }))
            }
            Some(Err(ending)) => return Err(ending),
        };
        if say.is_json() {
            say.json(
                &json!({ "file": path, "policy": loaded.policy.digest.to_string(), "reloaded": reloaded.is_some() }),
            );
            return ended;
        }
        say.line(format_args!("{done} ({})", path.display()));
        match reloaded {
            Some(answer) => say.line(answer),
            None if signed => {
                say.aside(format_args!("Its signature is void: {}, then: sealdrop reload", config::signed::how(&path)));
            }
            None if self.unborn || ended.is_err() => {}
            None => say.aside("A running daemon reads it when it is told to: sealdrop reload"),
        }
        ended
    }

    fn reload(&self, socket: &Path, user: &UserName) -> Result<String, Ending> {
        let mut why = format!("the account {user} was changed by command");
        if let Some(given) = &self.why {
            why = format!("{why}: {given}");
        }
        match admin::connect(socket)?.ask(&ToKeeper::Reload { why: Some(why) })? {
            ToCommand::Done { say } => Ok(say),
            answer => Err(unexpected(&answer)),
        }
    }
}

/// The new file is there whole or the old one is, of the same owner, group and mode; hidden files in `policies` are not read.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut fresh = tempfile::Builder::new().prefix(".").suffix(".new").tempfile_in(folder)?;
    fresh.write_all(text.as_bytes())?;
    let mode = match fs::metadata(path) {
        Ok(old) => {
            chown(fresh.path(), Some(old.uid()), Some(old.gid()))?;
            old.mode() & 0o7777
        }
        // A policy may hold password hashes: it is for the daemon and its group alone.
        Err(_) => 0o640,
    };
    fresh.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    fresh.as_file().sync_all()?;
    fresh.persist(path).map_err(|e| e.error)?;
    File::open(folder)?.sync_all()
}

pub fn load(config: &Path) -> Result<Loaded, Failure> {
    config::load(config).map_err(|e| super::config_failure(config, &e))
}

pub fn nobody(loaded: &Loaded, user: &UserName) -> Failure {
    let names: Vec<&str> = loaded.policy.users().map(|user| user.name.as_str()).collect();
    let hint = match names.as_slice() {
        [] => "there is no user yet: `sealdrop user add`".to_owned(),
        names => format!("there are: {}", names.join(", ")),
    };
    Failure::new(format_args!("there is no user {user}")).hint(hint)
}

fn no_edit(error: config::edit::EditError) -> Failure {
    Failure::new(format_args!("the policy file was not changed: {error}")).hint("`sealdrop check` says what is wrong")
}

pub fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format_args!("cannot {what} {}: {error}", path.display()))
}
