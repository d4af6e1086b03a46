//! `sealdrop status`: is the daemon up, what does it hold, what does it do next; with a path, what became of a file.

use serde_json::json;

use crate::clock::Time;
use crate::ipc::admin::{Status as State, ToCommand, ToKeeper};
use crate::ipc::jail::{DropStatus, Standing};
use crate::names::UserName;
use crate::session::exec::status::{status_lines, table};
use crate::vpath::VirtualPath;

use super::Ending;
use super::admin::{Daemon, Keeper, unexpected};
use super::failure::Failure;
use super::say::{Say, count, size};

/// Tell how the running daemon is
#[derive(clap::Args)]
pub struct Status {
    #[command(flatten)]
    daemon: Daemon,
    /// Tell of the file that is, or was, at this path in a user's view instead
    #[arg(value_name = "PATH")]
    path: Option<VirtualPath>,
    /// In whose view [default: in everybody's]
    #[arg(long, value_name = "USER", requires = "path")]
    user: Option<UserName>,
}

impl Status {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        if let Some(path) = self.path {
            return of_file(say, &mut keeper, path, self.user);
        }
        match keeper.ask(&ToKeeper::Status)? {
            ToCommand::Status(state) => {
                if say.is_json() {
                    say.json(&as_json(&state))
                } else {
                    tell(say, &state)
                }
                Ok(())
            }
            answer => Err(unexpected(&answer)),
        }
    }
}

fn of_file(say: &Say, keeper: &mut Keeper, path: VirtualPath, user: Option<UserName>) -> Result<(), Ending> {
    let rows = match keeper.ask(&ToKeeper::DropStatus { user, path: path.clone() })? {
        ToCommand::DropStatus { rows } => rows,
        answer => return Err(unexpected(&answer)),
    };
    if rows.is_empty() {
        return Err(Failure::new(format_args!("nobody has, or sent, a file at {path}"))
            .hint("the path is that of a user's view: `/radiology/a.dcm` of its sender, `/inbox/SENDER/a.dcm` of a recipient")
            .into());
    }
    for (at, (user, told)) in rows.iter().enumerate() {
        if say.is_json() {
            say.json(&file_json(&path, user, told));
            continue;
        }
        if at > 0 {
            say.line("");
        }
        let mut lines = vec![("user", user.to_string())];
        lines.extend(status_lines(&path, told, user.as_str()));
        say.line(String::from_utf8_lossy(&table(lines)).trim_end());
    }
    Ok(())
}

fn file_json(path: &VirtualPath, user: &UserName, told: &DropStatus) -> serde_json::Value {
    let time = |at: Option<Time>| at.map(Time::rfc3339);
    let (state, since) = match told.standing {
        Standing::Waiting { until } => ("waiting", Some(until)),
        Standing::Live => ("delivered", None),
        Standing::Held => ("held", None),
        Standing::Expired => ("expired", None),
        Standing::Destroyed { at } => ("destroyed", Some(at)),
        Standing::Removed { at } => ("removed", Some(at)),
        Standing::Superseded { at } => ("superseded", Some(at)),
    };
    let to: Vec<_> = told
        .deliveries
        .iter()
        .map(|to| {
            json!({ "user": to.user, "picked_up": to.count, "last": time(to.last), "in_part": time(to.part),
                    "removed": time(to.removed) })
        })
        .collect();
    json!({
        "user": user, "path": path.to_string(), "drop": told.drop.to_string(), "sender": told.sender,
        "state": state, "since": time(since), "received": told.received.rfc3339(), "size": told.size,
        "sha256": told.sha256.to_string(), "expires": time(told.expires), "to": to,
        "consignment": told.consignment.map(|consignment| json!({
            "files": consignment.files, "open": consignment.open, "until": consignment.until.rfc3339(),
            "closed": consignment.closed.map(|(at, ..)| at.rfc3339()),
            "missing": consignment.closed.map(|(_, missing, _)| missing),
            "different": consignment.closed.map(|(.., different)| different) })),
    })
}

fn tell(say: &Say, state: &State) {
    say.facts(&[
        ("server", format!("{}, sealdrop {}", state.server, state.version)),
        ("up since", format!("{} (keeper {}, gate {})", state.since, state.pid, state.gate_pid)),
        ("listening", state.listen.join(", ")),
        ("confinement", state.confinement.clone()),
        ("sessions", format!("{} admitted, {} at the door", state.sessions, state.strangers)),
        ("users", state.users.to_string()),
        ("policy", state.policy.clone()),
        (
            "holding",
            format!(
                "{}, {} waiting to be left alone, {} free",
                count(state.drops, "drop"),
                state.waiting,
                size(state.free_bytes)
            ),
        ),
        ("audit log", format!("{}, root {}", count(state.events, "event"), state.log_root)),
        ("awaiting", count(u64::from(state.awaiting), "request") + " for approval"),
        ("next sweep", state.next_sweep.map_or_else(|| "none is planned".to_owned(), |at| at.to_string())),
    ]);
}

fn as_json(state: &State) -> serde_json::Value {
    json!({
        "version": state.version, "server": state.server, "since": state.since.rfc3339(),
        "pids": { "keeper": state.pid, "gate": state.gate_pid },
        "listen": state.listen, "confinement": state.confinement,
        "sessions": state.sessions, "strangers": state.strangers, "users": state.users, "policy": state.policy,
        "drops": state.drops, "waiting": state.waiting, "free_bytes": state.free_bytes,
        "events": state.events, "log_root": state.log_root,
        "awaiting": state.awaiting, "next_sweep": state.next_sweep.map(|at| at.rfc3339()),
    })
}
