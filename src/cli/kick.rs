//! `sealdrop kick`: end a session, or all of a user's, with a reason for the audit log.

use serde_json::json;

use crate::ipc::admin::{ToCommand, ToKeeper};
use crate::names::{SessionId, UserName};

use super::Ending;
use super::admin::{Daemon, unexpected};
use super::failure::Failure;
use super::say::{Say, count};

/// End a session, or all sessions of a user
///
/// Uploads that were under way can be resumed, and the user can log in again: to keep somebody out, write
/// `disabled = true` under `[login]` and reload.
#[derive(clap::Args)]
pub struct Kick {
    /// All sessions of this user
    #[arg(value_name = "USER", required_unless_present = "session", conflicts_with = "session")]
    user: Option<UserName>,
    /// This one, as `sealdrop sessions` lists it
    #[arg(long, value_name = "SESSION")]
    session: Option<SessionId>,
    /// Why; it goes into the audit log
    #[arg(long, alias = "why", value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    daemon: Daemon,
}

impl Kick {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let question = ToKeeper::Kick { user: self.user.clone(), session: self.session, reason: self.reason };
        match self.daemon.connect()?.ask(&question)? {
            ToCommand::Kicked { sessions } if sessions.is_empty() => {
                let whom = match (&self.user, self.session) {
                    (Some(user), _) => format!("{user} is not on"),
                    (None, Some(session)) => format!("there is no session {session}"),
                    (None, None) => "nobody was meant".to_owned(),
                };
                Err(Failure::new(whom).hint("`sealdrop sessions` lists who is").into())
            }
            ToCommand::Kicked { sessions } => {
                if say.is_json() {
                    let ended: Vec<String> = sessions.iter().map(ToString::to_string).collect();
                    say.json(&json!({ "ended": ended }));
                } else {
                    say.line(format_args!("{} ended", count(sessions.len() as u64, "session")));
                }
                Ok(())
            }
            answer => Err(unexpected(&answer)),
        }
    }
}
