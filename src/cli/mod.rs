//! What people type. One definition (this one) feeds the parser and every `--help`; one file per command; `say` sets
//! the voice. Commands that ask the running daemon go through [`admin`]; `serve` puts the daemon together.
//!
//! Exit codes, the same for every command: 0 done, 1 failed, 2 the command line was wrong, 3 the daemon cannot be
//! reached, 4 done and the answer wants attention, 5 not done until a second person approves it.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod admin;
pub mod alarms;
pub mod anomalies;
pub mod approvals;
pub mod ask;
pub mod audit;
pub mod backup;
pub mod break_glass;
pub mod check;
pub mod demo;
pub mod doctor;
pub mod drops;
pub mod evidence;
pub mod explain;
pub mod export;
pub mod failure;
pub mod fsck;
pub mod hold;
pub mod init;
pub mod keygen;
pub mod kick;
pub mod manual;
pub mod onboard;
pub mod open;
pub mod order;
pub mod output;
pub mod passphrase;
pub mod passwd;
pub mod plan;
pub mod policy;
pub mod probe;
pub mod receipts;
pub mod release;
pub mod reload;
pub mod report;
pub mod retain;
pub mod rewrap;
pub mod rotate;
pub mod say;
pub mod schema;
pub mod seal;
pub mod serve;
pub mod sessions;
pub mod shred;
pub mod status;
pub mod sweep;
pub mod top;
pub mod totp;
pub mod user;
pub mod verify;
pub mod witness;

use crate::config::Problems;
use crate::ipc::admin::ApprovalRow;
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
    Explain(explain::Explain),
    Plan(plan::Plan),
    Policy(policy::PolicyCommand),
    Retain(retain::Retain),
    Doctor(doctor::Doctor),
    Serve(serve::Serve),
    Status(status::Status),
    Drops(drops::Drops),
    Receipts(receipts::Receipts),
    Evidence(evidence::Evidence),
    Audit(Box<audit::Audit>),
    Report(report::Report),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Fsck(fsck::Fsck),
    Sweep(sweep::Sweep),
    Shred(shred::Shred),
    Hold(hold::Hold),
    Release(release::Release),
    BreakGlass(break_glass::BreakGlass),
    Reload(reload::Reload),
    Sessions(sessions::Sessions),
    Top(top::Top),
    Alarms(alarms::Alarms),
    Kick(kick::Kick),
    Approvals(approvals::Approvals),
    Approve(approvals::Approve),
    Refuse(approvals::Refuse),
    Rotate(rotate::Rotate),
    User(user::User),
    Onboard(onboard::Onboard),
    Schema(schema::Schema),
    Passwd(passwd::Passwd),
    Totp(totp::Totp),
    Keygen(keygen::Keygen),
    Seal(seal::Seal),
    Open(open::Open),
    Rewrap(rewrap::Rewrap),
    Export(export::Export),
    Verify(verify::Verify),
    Witness(witness::Witness),
    Completions(manual::Completions),
    Man(manual::Man),
    #[command(hide = true)]
    Probe(probe::Probe),
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 the command line was wrong, 3 the daemon cannot be reached, \
4 done and the answer wants attention, 5 not done until a second person approves it.";

/// Why a command did not end with 0: in words, unless its answer has said it, and as the exit code for scripts.
#[derive(Debug)]
pub struct Ending {
    pub failure: Option<Failure>,
    pub code: u8,
    /// What was asked for instead of done, and what to do when it is approved.
    pub awaits: Option<(Box<ApprovalRow>, &'static str)>,
}

impl Ending {
    /// The daemon is not there or does not answer.
    pub fn unreachable(failure: Failure) -> Self {
        Self { failure: Some(failure), code: 3, awaits: None }
    }

    /// It did not go well, and the answer has said what.
    pub fn failed() -> Self {
        Self { failure: None, code: 1, awaits: None }
    }

    /// The command did what was asked, and what it answered is a no, a change or a warning.
    pub fn attention() -> Self {
        Self { failure: None, code: 4, awaits: None }
    }

    /// Nothing was done: a second person has to approve it.
    pub fn awaits(row: Box<ApprovalRow>) -> Self {
        Self { failure: None, code: 5, awaits: Some((row, "the very same command again")) }
    }
}

impl From<Failure> for Ending {
    fn from(failure: Failure) -> Self {
        Self { failure: Some(failure), code: 1, awaits: None }
    }
}

/// A configuration that cannot be used, with all of its problems.
pub fn config_failure(path: &Path, problems: &Problems) -> Failure {
    // A file that is missing or not to be read is one sentence, and its hint is the only one.
    if let [problem] = problems.0.as_slice()
        && problem.place.is_none()
        && let Some(hint) = &problem.hint
    {
        return Failure::new(problem.one_line_of_path()).hint(hint);
    }
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
        Command::Explain(command) => command.run(&say),
        Command::Plan(command) => command.run(&say),
        Command::Policy(command) => command.run(&say),
        Command::Retain(command) => command.run(&say),
        Command::Doctor(command) => command.run(&say),
        Command::Schema(command) => command.run(&say),
        Command::Completions(command) => command.run(&say),
        Command::Man(command) => command.run(&say),
        Command::Serve(command) => command.run(&say),
        Command::Status(command) => command.run(&say),
        Command::Drops(command) => command.run(&say),
        Command::Receipts(command) => command.run(&say),
        Command::Evidence(command) => command.run(&say),
        Command::Audit(command) => command.run(&say),
        Command::Report(command) => command.run(&say),
        Command::Backup(command) => command.run(&say),
        Command::Restore(command) => command.run(&say),
        Command::Fsck(command) => command.run(&say),
        Command::Witness(command) => command.run(&say),
        Command::Sweep(command) => command.run(&say),
        Command::Shred(command) => command.run(&say),
        Command::Hold(command) => command.run(&say),
        Command::Release(command) => command.run(&say),
        Command::BreakGlass(command) => command.run(&say),
        Command::Reload(command) => command.run(&say),
        Command::Sessions(command) => command.run(&say),
        Command::Top(command) => command.run(&say),
        Command::Alarms(command) => command.run(&say),
        Command::Kick(command) => command.run(&say),
        Command::Approvals(command) => command.run(&say),
        Command::Approve(command) => command.run(&say),
        Command::Refuse(command) => command.run(&say),
        Command::Totp(command) => command.run(&say),
        Command::Rotate(command) => command.run(&say),
        Command::User(command) => command.run(&say),
        Command::Onboard(command) => command.run(&say),
        // These print for themselves, so that they also work on a plain writer, as their tests use them.
        Command::Check(command) => apart(|out| command.run(out, cli.json, say.has_colour())),
        Command::Passwd(command) => apart(|out| command.run(out, cli.json)),
        Command::Keygen(command) => apart(|out| command.run(out, cli.json, terminal)),
        Command::Rewrap(command) => apart(|out| command.run(out, cli.json)),
        Command::Verify(command) => apart(|out| command.run(out, cli.json, terminal)),
        Command::Probe(command) => apart(|out| command.run(out, cli.json, terminal)),
        // What these write is the file itself: whoever stops reading it has not got it.
        Command::Seal(command) => command.run(&mut io::stdout().lock(), cli.json, terminal).map_err(Ending::from),
        Command::Open(command) => command.run(&mut io::stdout().lock(), cli.json, terminal).map_err(Ending::from),
        Command::Export(command) => command.run(&mut io::stdout().lock(), cli.json, terminal).map_err(Ending::from),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ending { failure, code, awaits }) => {
            if let Some((row, then)) = &awaits {
                approvals::awaits(&say, row, then);
            }
            if let Some(failure) = &failure {
                say.failure(failure);
            }
            ExitCode::from(code)
        }
    }
}

fn apart(run: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Ending> {
    Ok(run(&mut say::WhileRead::new(io::stdout().lock()))?)
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
