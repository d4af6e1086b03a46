//! What people type. One definition (this one) feeds the parser and every `--help`; one file per command; `say` sets
//! the voice. Commands that ask the running daemon go through [`admin`]; `serve` puts the daemon together.
//!
//! Exit codes, the same for every command: 0 done, 1 failed, 2 the command line was wrong, 3 the daemon cannot be
//! reached.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod admin;
pub mod audit;
pub mod check;
pub mod demo;
pub mod drops;
pub mod failure;
pub mod init;
pub mod keygen;
pub mod open;
pub mod output;
pub mod passwd;
pub mod probe;
pub mod receipts;
pub mod reload;
pub mod say;
pub mod seal;
pub mod serve;
pub mod status;
pub mod sweep;
pub mod verify;

use crate::config::Problems;
use failure::Failure;
use say::Say;

/// A managed-file-transfer server: every byte sealed before it touches disk, every delivery receipted, every expiry
/// real.
#[derive(Parser)]
#[command(name = "sealdrop", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    /// Answer in JSON, one document a line (shapes: docs/cli.md)
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Demo),
    Init(init::Init),
    Check(check::Check),
    Serve(serve::Serve),
    Status(status::Status),
    Drops(drops::Drops),
    Receipts(receipts::Receipts),
    Audit(audit::Audit),
    Sweep(sweep::Sweep),
    Reload(reload::Reload),
    Passwd(passwd::Passwd),
    Keygen(keygen::Keygen),
    Seal(seal::Seal),
    Open(open::Open),
    Verify(verify::Verify),
    #[command(hide = true)]
    Probe(probe::Probe),
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 the command line was wrong, 3 the daemon cannot be reached.";

/// Why a command ended without success: in words, and as the exit code for scripts.
#[derive(Debug)]
pub struct Ending {
    pub failure: Failure,
    pub code: u8,
}

impl Ending {
    /// The daemon is not there or does not answer.
    pub fn unreachable(failure: Failure) -> Self {
        Self { failure, code: 3 }
    }
}

impl From<Failure> for Ending {
    fn from(failure: Failure) -> Self {
        Self { failure, code: 1 }
    }
}

/// A configuration that cannot be used, with all of its problems.
pub fn config_failure(path: &Path, problems: &Problems) -> Failure {
    Failure::new(format_args!("{} cannot be used:\n{}", path.display(), problems.render(false)))
        .hint(format_args!("mend it, and see with `sealdrop check --config {}`", path.display()))
}

/// The whole program: what `main` calls.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let say = Say::new(cli.json);
    let terminal = io::stdout().is_terminal();
    let done = match cli.command {
        Command::Demo(command) => command.run(&say),
        Command::Init(command) => command.run(&say),
        Command::Serve(command) => command.run(&say),
        Command::Status(command) => command.run(&say),
        Command::Drops(command) => command.run(&say),
        Command::Receipts(command) => command.run(&say),
        Command::Audit(command) => command.run(&say),
        Command::Sweep(command) => command.run(&say),
        Command::Reload(command) => command.run(&say),
        // These print for themselves, so that they also work on a plain writer, as their tests use them.
        Command::Check(command) => apart(|out| command.run(out, cli.json, say.has_colour())),
        Command::Passwd(command) => apart(|out| command.run(out, cli.json)),
        Command::Keygen(command) => apart(|out| command.run(out, cli.json, terminal)),
        Command::Seal(command) => apart(|out| command.run(out, cli.json, terminal)),
        Command::Open(command) => apart(|out| command.run(out, cli.json, terminal)),
        Command::Verify(command) => apart(|out| command.run(out, cli.json, terminal)),
        Command::Probe(command) => apart(|out| command.run(out, cli.json, terminal)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ending { failure, code }) => {
            say.failure(&failure);
            ExitCode::from(code)
        }
    }
}

fn apart(run: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Ending> {
    Ok(run(&mut io::stdout().lock())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_says_what_it_is_for() {
        fn walk(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no description", command.get_name());
            for arg in command.get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str())) {
                assert!(arg.get_help().is_some(), "{} {} has no description", command.get_name(), arg.get_id());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
