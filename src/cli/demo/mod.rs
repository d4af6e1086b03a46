//! `sealdrop demo`: everything the product promises, done for real in one directory, in a minute and as any user.
//! `place` makes the directory, `daemon` runs the server, `client` calls the stock clients, `story` tells what happens.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ipc::admin::{Status, ToCommand, ToKeeper};

use super::Ending;
use super::admin::{self, unexpected};
use super::failure::Failure;
use super::say::{Say, Tone};
use daemon::Daemon;
use place::Place;

pub mod client;
pub mod daemon;
pub mod place;
mod story;

/// Show everything on this machine: push, seal, receipt, pull, expire (no root needed)
#[derive(clap::Args)]
pub struct Demo {
    /// Make everything here and leave it [default: a new directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Listen here [default: 127.0.0.1:2222, or a free port if that is taken]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Tell no story: stay up until Ctrl-C, and print commands to try by hand
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        for program in ["sftp", "ssh-keygen"] {
            look_for(program)?;
        }
        let listen = choose_listen(self.listen)?;
        let temporary = match self.dir {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("sealdrop-demo-")
                    .tempdir()
                    .map_err(|e| Failure::new(format_args!("cannot make a directory for the demo: {e}")))?,
            ),
        };
        let dir = self.dir.as_deref().or(temporary.as_ref().map(tempfile::TempDir::path)).unwrap_or(Path::new("."));
        let place = Place::make(dir, listen)?;
        let mut daemon = start(&place)?;
        let status = status(&place)?;
        if say.is_json() {
            say.json(&place.ready_line(status.pid, status.gate_pid));
        }
        if self.keep {
            story::things_to_try(say, &place);
            wait_for_interrupt(&mut daemon)?;
        } else {
            story::tell(say, &place, &status)?;
        }
        daemon.stop()?;
        match temporary {
            Some(temporary) => {
                let path = temporary.path().to_owned();
                temporary.close().map_err(|e| Failure::new(format_args!("cannot remove {}: {e}", path.display())))?;
                say.line(
                    say.tone(Tone::Quiet, format_args!("\nThe server has stopped and {} is gone.", path.display())),
                );
            }
            None => say.line(say.tone(
                Tone::Quiet,
                format_args!("\nThe server has stopped; everything is still in {}.", place.dir().display()),
            )),
        }
        Ok(())
    }
}

/// Starts this very program as the daemon of `place`.
fn start(place: &Place) -> Result<Daemon, Failure> {
    let mut command = this_program()?;
    command.args(["serve", "--config"]).arg(place.config());
    Daemon::start(command, place.dir(), &place.dir().join("daemon.log"))
}

fn this_program() -> Result<Command, Failure> {
    std::env::current_exe().map(Command::new).map_err(|e| Failure::new(format_args!("cannot find this program: {e}")))
}

fn status(place: &Place) -> Result<Box<Status>, Ending> {
    match admin::connect(&place.admin())?.ask(&ToKeeper::Status)? {
        ToCommand::Status(status) => Ok(status),
        answer => Err(unexpected(&answer)),
    }
}

fn look_for(program: &str) -> Result<(), Failure> {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if found {
        return Ok(());
    }
    Err(Failure::new(format_args!("the demo uses the stock client `{program}`, which is not installed"))
        .hint("install OpenSSH's clients: `apt-get install openssh-client`"))
}

/// An address asked for is taken as it is (`serve` says if it is in use); the default gives way to whoever has it.
fn choose_listen(asked: Option<SocketAddr>) -> Result<SocketAddr, Failure> {
    let free = |address: SocketAddr| TcpListener::bind(address).and_then(|listener| listener.local_addr());
    let default = SocketAddr::from(([127, 0, 0, 1], 2222));
    match asked {
        Some(address) if address.port() != 0 => Ok(address),
        Some(any) => free(any).map_err(|e| Failure::new(format_args!("cannot listen on {any}: {e}"))),
        None => free(default)
            .or_else(|_| free(SocketAddr::from(([127, 0, 0, 1], 0))))
            .map_err(|e| Failure::new(format_args!("no port is free on 127.0.0.1: {e}"))),
    }
}

/// Returns at Ctrl-C or SIGTERM. Should the daemon end by itself, that is a failure.
fn wait_for_interrupt(daemon: &mut Daemon) -> Result<(), Failure> {
    let cannot = |e: std::io::Error| Failure::new(format_args!("cannot wait for Ctrl-C: {e}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let mut child = signal(SignalKind::child()).map_err(cannot)?;
        loop {
            tokio::select! {
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                _ = child.recv() => if let Some(failure) = daemon.has_ended() { return Err(failure) },
            }
        }
    })
}
