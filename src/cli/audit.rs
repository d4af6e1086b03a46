//! `sealdrop audit`: the audit log, oldest first, and what proves it. Events come from the daemon as their canonical
//! JSON, and `--json` prints them so; for people each is one line. Filters choose what is shown, never what is recorded.
//!
//! | file | what |
//! |---|---|
//! | `filter`, `format` | which events, and in whose format |
//! | `head`, `cosign` | checkpoints and proofs; a witness's signature |
//! | `names` | names that the log hides, for the auditor |
//! | `export`, `source`, `tiles` | the log in files, and where records are read from |
//! | `verify` | whether it is what was signed |
//! | `prune` | months whose time is over |

mod cosign;
mod export;
mod filter;
mod format;
mod head;
mod names;
mod prune;
mod source;
mod tiles;
mod verify;

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;

use crate::ipc::admin::{ToCommand, ToKeeper};

use super::Ending;
use super::admin::{Daemon, Keeper, unexpected};
use super::anomalies::Anomalies;
use super::say::Say;
use filter::Filter;
use format::{Format, Writer};
use names::{Auditor, Opener, reveal};

/// How often `tail -f` asks for more: often enough to look immediate, and nothing to a daemon.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// `tail` reads the log backwards in pieces of so many, which is at most one page.
const PIECE: u64 = 100;

/// Read the audit log, and prove it
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Audit {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(clap::Subcommand)]
enum Command {
    Anomalies(Anomalies),
    Tail(Tail),
    Checkpoint(head::Checkpoint),
    Prove(head::Prove),
    Consistency(head::Consistency),
    Verify(verify::Verify),
    Export(export::Export),
    Cosign(cosign::Cosign),
    Prune(prune::Prune),
}

#[derive(clap::Args)]
struct List {
    #[command(flatten)]
    daemon: Daemon,
    /// Begin at this event
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    from: u64,
    #[command(flatten)]
    auditor: Auditor,
    #[command(flatten)]
    filter: Filter,
    /// How events are written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// The last events, and with -f those that come
#[derive(clap::Args)]
struct Tail {
    #[command(flatten)]
    daemon: Daemon,
    /// So many of the last
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
    lines: usize,
    /// Go on with what comes, until interrupted
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    auditor: Auditor,
    #[command(flatten)]
    filter: Filter,
    /// How events are written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Audit {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        match self.command {
            Some(Command::Anomalies(command)) => command.run(say),
            None => self.list.run(say),
            Some(Command::Tail(command)) => command.run(say),
            Some(Command::Checkpoint(command)) => command.run(say),
            Some(Command::Prove(command)) => command.run(say),
            Some(Command::Consistency(command)) => command.run(say),
            Some(Command::Verify(command)) => command.run(say),
            Some(Command::Export(command)) => command.run(say),
            Some(Command::Cosign(command)) => command.run(say),
            Some(Command::Prune(command)) => command.run(say),
        }
    }
}

impl List {
    fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        let mut opener = self.auditor.opener()?;
        let filter = self.filter.ready()?;
        let writer = Writer::new(say, self.format, &mut keeper)?;
        let mut from = self.from;
        while let Some(next) = page(&mut keeper, opener.as_mut(), from, |row, event| {
            if filter.wants(event) {
                writer.write(row, event);
            }
        })? {
            from = next;
        }
        Ok(())
    }
}

impl Tail {
    fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        let mut opener = self.auditor.opener()?;
        let filter = self.filter.ready()?;
        let writer = Writer::new(say, self.format, &mut keeper)?;
        let ToCommand::Status(status) = keeper.ask(&ToKeeper::Status)? else {
            return Err(super::failure::Failure::new("the daemon does not say how long its log is").into());
        };
        let mut last: VecDeque<(String, Value)> = VecDeque::new();
        let mut end = status.events;
        while end > 0 && last.len() < self.lines {
            let begin = end.saturating_sub(PIECE);
            let mut piece = Vec::new();
            let mut from = begin;
            while from < end {
                let next = page(&mut keeper, opener.as_mut(), from, |row, event| {
                    if filter.wants(event) && number(event).is_some_and(|number| number < end) {
                        piece.push((row.to_owned(), event.clone()));
                    }
                })?;
                from = next.unwrap_or(end);
            }
            piece.into_iter().rev().for_each(|event| last.push_front(event));
            end = begin;
        }
        let shown = last.len().saturating_sub(self.lines);
        last.into_iter().skip(shown).for_each(|(row, event)| writer.write(&row, &event));
        let mut from = status.events;
        if !self.follow {
            return Ok(());
        }
        loop {
            match page(&mut keeper, opener.as_mut(), from, |row, event| {
                if filter.wants(event) {
                    writer.write(row, event);
                }
            })? {
                Some(next) => from = next,
                None => std::thread::sleep(ASK_AGAIN),
            }
        }
    }
}

/// Shows a page of events; where the next begins, `None` at the end.
fn page(
    keeper: &mut Keeper,
    opener: Option<&mut Opener>,
    from: u64,
    mut show: impl FnMut(&str, &Value),
) -> Result<Option<u64>, Ending> {
    match keeper.ask(&ToKeeper::Audit { from })? {
        ToCommand::Audit { rows, next } => {
            let any = !rows.is_empty();
            let hidden = opener.map(|opener| opener.open(keeper, from, next)).transpose()?.unwrap_or_default();
            for row in rows {
                // What cannot be read is shown all the same.
                let mut event = serde_json::from_str(&row).unwrap_or(Value::Null);
                let names = number(&event).and_then(|number| hidden.get(&number));
                let row = names.map_or(row.clone(), |names| reveal(&row, names));
                if names.is_some() {
                    event = serde_json::from_str(&row).unwrap_or(event);
                }
                show(&row, &event);
            }
            Ok((any && next > from).then_some(next))
        }
        answer => Err(unexpected(&answer)),
    }
}

fn number(event: &Value) -> Option<u64> {
    event.get("n").and_then(Value::as_u64)
}
