//! `sealdrop top`: what is going on, drawn anew every few seconds: sessions and what they do, throughput, the door, uploads, what
//! expires soon, the ledger, the disk. Once and as text where nobody watches.

mod door;
mod picture;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use crate::clock;
use crate::ipc::admin::{SessionRow, ToCommand, ToKeeper};
use crate::sys::screen::{self, Screen, Seen};

use super::Ending;
use super::admin::{Daemon, Keeper, unexpected};
use super::failure::Failure;
use super::say::Say;
use picture::{Order, Picture};

/// Watch what is going on
///
/// Keys: q ends; s sorts by the next column, r the other way round; any other draws anew. Off a terminal, with --once and with
/// --json it tells once and ends.
#[derive(clap::Args)]
pub struct Top {
    #[command(flatten)]
    daemon: Daemon,
    /// Tell once, as text
    #[arg(long)]
    once: bool,
    /// Seconds from one look to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=60))]
    every: u16,
    /// What sessions are sorted by
    #[arg(long, value_name = "COLUMN", value_enum, default_value_t = Order::Rate)]
    sort: Order,
}

impl Top {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        if say.is_json() {
            say.json(&look(&mut keeper)?.as_json());
            return Ok(());
        }
        if self.once || !io::stdout().is_terminal() {
            let picture = look(&mut keeper)?;
            picture.lines(self.sort, false, usize::MAX).iter().for_each(|line| say.line(line));
            return Ok(());
        }
        let ended = self.watch(&mut keeper, say);
        // The screen is given back by now.
        match ended? {
            Some(signal) => {
                screen::raise(signal);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Until somebody ends it; says by which signal, if one is to be passed on.
    fn watch(&self, keeper: &mut Keeper, say: &Say) -> Result<Option<nix::sys::signal::Signal>, Ending> {
        // Before the screen changes: if there is no answer, that is all there is to see.
        let mut picture = look(keeper)?;
        let screen = Screen::begin().map_err(|e| Failure::new(format_args!("the terminal cannot be drawn on: {e}")))?;
        let (mut order, mut reverse) = (self.sort, false);
        let every = Duration::from_secs(u64::from(self.every));
        let mut next = Instant::now() + every;
        loop {
            let (rows, columns) = screen.size();
            let lines = picture.lines(order, reverse, rows);
            let lines: Vec<String> = lines.iter().enumerate().map(|(n, line)| shown(say, n, line, columns)).collect();
            screen.draw(&lines).map_err(Failure::new)?;
            match screen.wait(next.saturating_duration_since(Instant::now())).map_err(Failure::new)? {
                Seen::Key(b'q' | b'Q') | Seen::Interrupt | Seen::Gone => return Ok(None),
                Seen::Ending(signal) => return Ok(Some(signal)),
                Seen::Key(b's') => order = order.next(),
                Seen::Key(b'r') => reverse = !reverse,
                Seen::Changed => {}
                Seen::Nothing | Seen::Key(_) => {
                    picture = look(keeper)?;
                    next = Instant::now() + every;
                }
            }
        }
    }
}

/// The head of the list stands out.
fn shown(say: &Say, n: usize, line: &str, columns: usize) -> String {
    let line: String = line.chars().take(columns).collect();
    if n == picture::HEAD { say.tone(super::say::Tone::Strong, line) } else { line }
}

fn look(keeper: &mut Keeper) -> Result<Picture, Ending> {
    let status = match keeper.ask(&ToKeeper::Status)? {
        ToCommand::Status(status) => status,
        answer => return Err(unexpected(&answer)),
    };
    let overview = match keeper.ask(&ToKeeper::Overview)? {
        ToCommand::Overview(overview) => overview,
        answer => return Err(unexpected(&answer)),
    };
    let queue = door::queue(&status.listen);
    Ok(Picture { now: clock::now(), status, overview, sessions: sessions(keeper)?, queue })
}

fn sessions(keeper: &mut Keeper) -> Result<Vec<SessionRow>, Ending> {
    let mut all = Vec::new();
    keeper.pages(
        |after| ToKeeper::Sessions { after },
        |answer| match answer {
            ToCommand::Sessions { rows, next } => {
                all.extend(rows);
                Ok(next)
            }
            answer => Err(unexpected(&answer)),
        },
    )?;
    Ok(all)
}
