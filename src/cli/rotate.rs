//! `sealdrop rotate`: keys are replaced while the server serves. The daemon does it, step by step, and goes on whatever
//! becomes of this command; here is shown how far it is.

use std::time::Duration;

use serde_json::json;

use crate::config::{self, RootKey};
use crate::ipc::admin::{self, Rotation, RotationState, ToCommand, ToKeeper};
use crate::keeper::keys;
use crate::names::UserName;
use crate::vpath::VirtualPath;

use super::Ending;
use super::admin::{Daemon, Keeper, unexpected};
use super::failure::Failure;
use super::output::steps;
use super::passphrase::Passphrase;
use super::say::Say;

/// Replace keys; no content is written anew
#[derive(clap::Args)]
#[command(after_help = "An interrupted rotation goes on at the daemon's next start.")]
pub struct Rotate {
    /// Which keys
    #[arg(value_enum)]
    what: What,
    /// Whose identity; of `recipients`, whose drops
    #[arg(required_if_eq_any = [("what", "identity"), ("what", "recipients")])]
    user: Option<UserName>,
    /// Of `recipients`: drops in this folder of USER's alone
    #[arg(long, value_name = "PATH")]
    folder: Option<VirtualPath>,
    #[command(flatten)]
    daemon: Daemon,
    /// Why, for the audit log
    #[arg(long, alias = "why", value_name = "TEXT", required_if_eq_any = REASONED)]
    reason: Option<String>,
    /// Of host keys: put those that were made before in the place of the present ones
    #[arg(long)]
    place: bool,
    #[command(flatten)]
    passphrase: Passphrase,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// The root key, by a new one where `root_key` in the settings says; every key under it is rewrapped
    Root,
    /// A managed recipient's identity; every drop that it opens is rewrapped
    Identity,
    /// The recipients of drops that USER has sent: those that the policy names now, where the server can open the drop
    Recipients,
    /// The key that signs receipts; those it has signed verify as before
    Receipt,
    /// The host keys: makes new ones to tell partners of; with --place they are shown from the next start on
    Host,
    /// Nothing: how the rotation under way goes, or how the last one ended
    Status,
}

/// What is done only for a reason.
const REASONED: [(&str, &str); 5] =
    [("what", "root"), ("what", "identity"), ("what", "recipients"), ("what", "receipt"), ("what", "host")];

/// How often the daemon is asked how far it is.
const PATIENCE: Duration = Duration::from_millis(100);

impl Rotate {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let rotation = match (self.what, &self.user) {
            (What::Root, _) => Some(Rotation::Root { passphrase: self.passphrase()? }),
            (What::Identity, Some(user)) => Some(Rotation::Identity { user: user.clone() }),
            (What::Recipients, Some(sender)) => {
                Some(Rotation::Recipients { sender: sender.clone(), folder: self.folder.clone() })
            }
            (What::Receipt, _) => Some(Rotation::Receipt),
            (What::Host, _) => Some(Rotation::Host { place: self.place }),
            (What::Identity | What::Recipients, None) | (What::Status, _) => None,
        };
        let mut keeper = self.daemon.connect()?;
        let state = match rotation {
            Some(rotation) => {
                ask(&mut keeper, &ToKeeper::Rotate { rotation, reason: self.reason.clone().unwrap_or_default() })?
            }
            None => ask(&mut keeper, &ToKeeper::RotationState)?,
        };
        let Some(mut state) = state else {
            tell(say, &json!({ "what": null }), "no rotation since the daemon was started");
            return Ok(());
        };
        let bar = steps(0, say.is_json());
        while state.ended.is_none() && self.what != What::Status {
            bar.set_length(state.total);
            bar.set_position(state.done);
            std::thread::sleep(PATIENCE);
            state = ask(&mut keeper, &ToKeeper::RotationState)?.unwrap_or(state);
        }
        bar.finish_and_clear();
        let RotationState { what, done, total, ended } = state;
        match ended {
            None => {
                tell(
                    say,
                    &json!({ "what": what, "done": done, "total": total, "ended": null }),
                    &format!("{what}: {done} of {total}"),
                );
                Ok(())
            }
            Some(Ok(how)) => {
                let (signers, hosts) = (self.signers()?, self.known_hosts()?);
                tell(
                    say,
                    &json!({ "what": what, "done": done, "total": total, "ended": how, "allowed_signers": signers, "known_hosts": hosts }),
                    &format!("{what}: {how}"),
                );
                if let Some(signers) = signers.filter(|_| !say.is_json()) {
                    say.line(format_args!(
                        "For partners, the lines of allowed_signers from now on:\n{}",
                        signers.trim_end()
                    ));
                }
                if let Some(hosts) = hosts.filter(|_| !say.is_json()) {
                    say.line(format_args!("For partners, the lines of known_hosts from now on:\n{}", hosts.trim_end()));
                }
                Ok(())
            }
            Some(Err(why)) => Err(Failure::new(format_args!("{what}: {why}"))
                .hint("nothing is lost: old keys are kept until nothing needs them; mend it and run this again")
                .into()),
        }
    }

    /// Asked for here, where the terminal is, if the settings say that it is needed.
    fn passphrase(&self) -> Result<Option<admin::Passphrase>, Ending> {
        // Without the settings the daemon, which reads them too, says what is wrong.
        let settings = config::load_settings(&self.daemon.config);
        if !settings.is_ok_and(|settings| settings.root_key == RootKey::Passphrase) {
            return Ok(None);
        }
        let chosen = self.passphrase.choose().map_err(|e| Failure::new(&e).hint(e.hint()))?;
        Ok(Some(admin::Passphrase(chosen)))
    }

    /// Of host keys, the lines for partners: the present ones and those to come.
    fn known_hosts(&self) -> Result<Option<String>, Ending> {
        if self.what != What::Host {
            return Ok(None);
        }
        let Ok(settings) = config::load_settings(&self.daemon.config) else { return Ok(None) };
        let host = super::init::known_host(&settings);
        let lines = keys::known_hosts(&settings.keys, &host, &settings.host_keys);
        Ok(Some(lines.map_err(|e| Failure::new(&e).hint(e.hint()))?))
    }

    /// After a rotation of the receipt key, what partners need.
    fn signers(&self) -> Result<Option<String>, Ending> {
        if self.what != What::Receipt {
            return Ok(None);
        }
        let Ok(settings) = config::load_settings(&self.daemon.config) else { return Ok(None) };
        let lines = keys::allowed_signers(&settings.keys, &settings.name);
        Ok(Some(lines.map_err(|e| Failure::new(&e).hint(e.hint()))?))
    }
}

fn tell(say: &Say, json: &serde_json::Value, words: &str) {
    if say.is_json() { say.json(json) } else { say.line(words) }
}

fn ask(keeper: &mut Keeper, question: &ToKeeper) -> Result<Option<RotationState>, Ending> {
    match keeper.ask(question)? {
        ToCommand::Rotation(state) => Ok(state),
        answer => Err(unexpected(&answer)),
    }
}
