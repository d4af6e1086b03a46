//! `sealdrop status`: is the daemon up, what does it hold, what does it do next.

use serde_json::json;

use crate::ipc::admin::{Status as State, ToCommand, ToKeeper};

use super::Ending;
use super::admin::{Daemon, unexpected};
use super::say::{Say, count, size};

/// Tell how the running daemon is
#[derive(clap::Args)]
pub struct Status {
    #[command(flatten)]
    daemon: Daemon,
}

impl Status {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        match self.daemon.connect()?.ask(&ToKeeper::Status)? {
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
        "next_sweep": state.next_sweep.map(|at| at.rfc3339()),
    })
}
