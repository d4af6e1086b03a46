//! How a command asks the running daemon: where its admin socket is, one question and its answer, a list page by page.
//! What may be asked is `ipc::admin`; who asks, the keeper knows from the kernel.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::config;
use crate::ipc::admin::{ToCommand, ToKeeper};
use crate::ipc::channel::{self, Socket};

use super::Ending;
use super::failure::Failure;
use super::say::Say;

/// Which daemon: by its configuration, or by its socket.
#[derive(Clone, Debug, clap::Args)]
pub struct Daemon {
    /// The daemon's configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// The daemon's admin socket [default: as the configuration says]
    #[arg(long, value_name = "SOCKET")]
    pub admin: Option<PathBuf>,
}

/// Where the Debian package, the unit file and `sealdrop init` put it.
pub const DEFAULT_CONFIG: &str = "/etc/sealdrop/sealdrop.toml";

/// Longer than a sweep of a full page takes on a slow disk; a daemon that says nothing for so long is stuck.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// An open conversation with the keeper.
pub struct Keeper {
    socket: Socket,
}

impl Daemon {
    pub fn connect(&self) -> Result<Keeper, Ending> {
        let path = match &self.admin {
            Some(path) => path.clone(),
            None => {
                config::load_settings(&self.config)
                    .map_err(|problems| Ending::unreachable(super::config_failure(&self.config, &problems)))?
                    .admin
            }
        };
        connect(&path)
    }
}

/// The daemon whose admin socket is at `path`.
pub fn connect(path: &Path) -> Result<Keeper, Ending> {
    let socket = channel::connect(path)
        .and_then(|socket| socket.set_deadline(Some(ANSWER_MAX)).map(|()| socket))
        .map_err(|e| unreachable(path, &e))?;
    Ok(Keeper { socket })
}

impl Keeper {
    /// One question. The keeper's refusals come back as failures with its words, and what awaits approval as such an end.
    pub fn ask(&mut self, question: &ToKeeper) -> Result<ToCommand, Ending> {
        self.ask_for_file(question).map(|(answer, _)| answer)
    }

    /// The same, with the descriptor that may come with the answer.
    pub fn ask_for_file(&mut self, question: &ToKeeper) -> Result<(ToCommand, Option<OwnedFd>), Ending> {
        self.socket.send(question, &[]).map_err(|e| gone(&e))?;
        match self.socket.recv::<ToCommand>() {
            Ok(Some((ToCommand::Sorry { say, hint }, _))) => Err(Failure { message: say, hint }.into()),
            Ok(Some((ToCommand::Awaits(row), _))) => Err(Ending::awaits(row)),
            Ok(Some((answer, mut descriptors))) => Ok((answer, descriptors.pop())),
            Ok(None) => Err(gone(&"it closed the connection")),
            Err(e) => Err(gone(&e)),
        }
    }

    /// A list, page by page: `question` is asked with where the page before ended, `take` shows a page and says where
    /// it ends, `None` if it was the last.
    pub fn pages<Place>(
        &mut self,
        question: impl Fn(Option<Place>) -> ToKeeper,
        mut take: impl FnMut(ToCommand) -> Result<Option<Place>, Ending>,
    ) -> Result<(), Ending> {
        let mut after = None;
        loop {
            after = take(self.ask(&question(after))?)?;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

/// What the keeper says that it has done, in its words.
pub fn done(say: &Say, answer: ToCommand) -> Result<(), Ending> {
    match answer {
        ToCommand::Done { say: words } if say.is_json() => say.json(&json!({ "done": words })),
        ToCommand::Done { say: words } => say.line(words),
        answer => return Err(unexpected(&answer)),
    }
    Ok(())
}

/// The keeper answered another question than the one asked: two versions speak past each other.
pub fn unexpected(answer: &ToCommand) -> Ending {
    let kind = match answer {
        ToCommand::Status(_) => "status",
        ToCommand::Drops { .. } => "drops",
        ToCommand::Receipts { .. } => "receipts",
        ToCommand::Receipt { .. } => "a receipt",
        ToCommand::DropStatus { .. } => "what became of a drop",
        ToCommand::Evidence { .. } | ToCommand::EvidenceFile { .. } | ToCommand::EvidenceEvents { .. } => "evidence",
        ToCommand::Proof { .. } => "a proof",
        ToCommand::FirstEvent { .. } => "the number of an event",
        ToCommand::Audit { .. } => "audit events",
        ToCommand::Log { .. } => "the log",
        ToCommand::Beginning { .. } => "where the log begins",
        ToCommand::Checkpoint { .. } => "a checkpoint",
        ToCommand::Checkpoints { .. } => "checkpoints",
        ToCommand::LogPaper { .. } => "a paper",
        ToCommand::Names { .. } => "hidden names",
        ToCommand::NamesKey { .. } => "a key of names",
        ToCommand::LogReceipt { .. } => "a receipt of the log",
        ToCommand::Hashes { .. } => "the hashes of a proof",
        ToCommand::Backup { .. } => "a backup",
        ToCommand::Sweep { .. } => "a sweep",
        ToCommand::Ordered { .. } => "an order",
        ToCommand::BreakGlass { .. } => "break-glass requests",
        ToCommand::SealedFile { .. } => "a sealed file",
        ToCommand::Certificate { .. } => "a certificate",
        ToCommand::Policy { .. } => "a policy",
        ToCommand::Lives { .. } => "what became of drops",
        ToCommand::PoliciesInForce { .. } => "policies that were in force",
        ToCommand::Sessions { .. } => "sessions",
        ToCommand::Kicked { .. } => "a kick",
        ToCommand::Rotation(_) => "a rotation",
        ToCommand::Alarms { .. } => "alarms",
        ToCommand::Notices { .. } => "notices",
        ToCommand::Overview(_) => "an overview",
        ToCommand::Approvals { .. } | ToCommand::Awaits(_) => "requests for approval",
        ToCommand::Done { .. } => "done",
        ToCommand::Sorry { .. } => "sorry",
    };
    Failure::new(format_args!("the daemon answered with {kind}, which was not the question"))
        .hint("is the running daemon of the same version as this command? (`sealdrop status`, `sealdrop --version`)")
        .into()
}

fn unreachable(path: &Path, e: &io::Error) -> Ending {
    let failure = Failure::new(format_args!("no daemon answers at {}: {e}", path.display()));
    Ending::unreachable(match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => failure.hint(
            "start it with `sealdrop serve` or `systemctl start sealdrop`, or say where it is with --config or --admin",
        ),
        io::ErrorKind::PermissionDenied => failure
            .hint("admin commands are for root, the account the daemon runs as and the groups of [roles]: try sudo"),
        _ => failure,
    })
}

fn gone(why: &dyn std::fmt::Display) -> Ending {
    Ending::unreachable(
        Failure::new(format_args!("the daemon went away before it answered: {why}"))
            .hint("its log says more: `journalctl -u sealdrop`"),
    )
}
