//! `sealdrop witness`: signs the checkpoints of other servers' logs, on a machine that they do not hold.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use serde_json::json;

use crate::ledger::note::{NoteKey, NoteKind};
use crate::witness::memory::Memory;
use crate::witness::{self, Witness as Role};

use super::Ending;
use super::failure::Failure;
use super::say::Say;

/// Witness other servers' audit logs: sign their checkpoints, each only if it continues the last
#[derive(clap::Args)]
pub struct Witness {
    /// The name in its signatures, such as `witness.example.org`
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Where its key and what it signed last are; made if it is not there
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Where it listens, HTTP; put a proxy before it where that must be HTTPS
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7380")]
    listen: SocketAddr,
    /// The key of a log to sign for (`sealdrop audit checkpoint --key` there prints it); may be given again
    #[arg(long, value_name = "KEY", required = true)]
    log: Vec<NoteKey>,
}

impl Witness {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        if let Some(other) = self.log.iter().find(|key| key.kind != NoteKind::Log) {
            return Err(Failure::new(format_args!("{other} is not the key of a log")).into());
        }
        let memory = Memory::open(&self.state, &self.name).map_err(Failure::new)?;
        let listener = TcpListener::bind(self.listen)
            .map_err(|e| Failure::new(format_args!("cannot listen on {}: {e}", self.listen)))?;
        let listen = listener.local_addr().map_or(self.listen, |address| address);
        if say.is_json() {
            say.json(&json!({ "listen": listen.to_string(), "key": memory.key().to_string() }));
        } else {
            say.line(format_args!("listening on {listen}"));
            say.line(format_args!("its key: {}", memory.key()));
        }
        witness::serve(Role { memory, logs: self.log }, &listener);
        Ok(())
    }
}
