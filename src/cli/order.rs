//! What `hold`, `release` and `shred` have in common: which drops are meant, some at a time with a bar, and what became of
//! each. A drop of which the order was not done is told, and the command ends with 1; the others are done all the same.

use serde_json::json;

use super::Ending;
use super::admin::{Daemon, Keeper, unexpected};
use super::failure::Failure;
use super::output;
use super::say::{Align, Say, Table, count, size};
use crate::ipc::admin::{ANNOUNCE_MAX, DropRow, ORDER_MAX, Ordered, ToCommand, ToKeeper};

/// Which drops, and why
#[derive(clap::Args)]
pub struct Order {
    #[command(flatten)]
    daemon: Daemon,
    /// A drop's or receipt's id, or USER:PATH as that user sees or saw it
    #[arg(value_name = "DROP", required = true)]
    what: Vec<String>,
    /// Why: for the audit log, and of shredding for the certificate that the sender reads
    #[arg(long, alias = "why", value_name = "TEXT")]
    reason: String,
    /// Of each USER:PATH all live and held drops below it; `USER:/` is all of a user's
    #[arg(long)]
    below: bool,
    /// Change nothing: say which drops are meant
    #[arg(long)]
    plan: bool,
}

impl Order {
    pub fn run(self, say: &Say, what: Ordered) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        let mut meant: Vec<DropRow> = Vec::new();
        for word in &self.what {
            self.find(&mut keeper, word, &mut meant)?;
        }
        if self.plan {
            return plan(say, what, &meant);
        }
        self.announce(&mut keeper, what, &meant)?;
        let bar = output::steps(meant.len() as u64, say.is_json());
        let (mut done, mut failed) = (0, 0);
        for some in meant.chunks(ORDER_MAX) {
            let drops = some.iter().map(|row| row.drop).collect();
            let rows = match keeper.ask(&ToKeeper::Order { what, drops, reason: self.reason.clone() })? {
                ToCommand::Ordered { rows } => rows,
                answer => return Err(unexpected(&answer)),
            };
            bar.inc(some.len() as u64);
            for row in rows {
                match &row.failed {
                    None => done += 1,
                    Some(why) => {
                        failed += 1;
                        if !say.is_json() {
                            bar.suspend(|| say.warn(format_args!("drop {}: {why}", row.drop)));
                        }
                    }
                }
                if say.is_json() {
                    say.json(&json!({
                        "drop": row.drop.to_string(), "done": row.failed.is_none(), "why": row.failed,
                    }));
                }
            }
        }
        drop(bar);
        say.line(format_args!("{} {}", did(what), count(done, "drop")));
        if failed > 0 {
            return Err(Failure::new(format_args!("{} not {}", count(failed, "drop"), did(what)))
                .hint("the reason of each is above; `sealdrop drops` shows how they stand")
                .into());
        }
        Ok(())
    }

    /// What goes in several orders is one act, and is approved as one if it has to be.
    fn announce(&self, keeper: &mut Keeper, what: Ordered, meant: &[DropRow]) -> Result<(), Ending> {
        if meant.len() <= ORDER_MAX {
            return Ok(());
        }
        let mut parts = meant.chunks(ANNOUNCE_MAX).peekable();
        while let Some(some) = parts.next() {
            let drops = some.iter().map(|row| row.drop).collect();
            let last = parts.peek().is_none();
            match keeper.ask(&ToKeeper::Announce { what, drops, reason: self.reason.clone(), last })? {
                ToCommand::Done { .. } => {}
                answer => return Err(unexpected(&answer)),
            }
        }
        Ok(())
    }

    fn find(&self, keeper: &mut Keeper, what: &str, meant: &mut Vec<DropRow>) -> Result<(), Ending> {
        let before = meant.len();
        keeper.pages(
            |after| ToKeeper::Find { what: what.to_owned(), below: self.below, after },
            |answer| match answer {
                ToCommand::Drops { rows, next } => {
                    for row in rows {
                        if !meant.iter().any(|known| known.drop == row.drop) {
                            meant.push(row);
                        }
                    }
                    Ok(next)
                }
                answer => Err(unexpected(&answer)),
            },
        )?;
        if meant.len() == before && self.below {
            return Err(Failure::new(format_args!("there is no live or held drop below {what}")).into());
        }
        Ok(())
    }
}

fn plan(say: &Say, what: Ordered, meant: &[DropRow]) -> Result<(), Ending> {
    if say.is_json() {
        meant.iter().for_each(|row| say.json(&super::drops::as_json(row)));
        return Ok(());
    }
    let heads = [
        ("DROP", Align::Left),
        ("STATE", Align::Left),
        ("FROM", Align::Left),
        ("SIZE", Align::Right),
        ("PATH", Align::Left),
    ];
    let mut table = Table::new(&heads);
    for row in meant {
        let cells = [row.drop.to_string(), row.state.clone(), row.sender.to_string(), size(row.size), row.path.clone()];
        table.row(cells);
    }
    say.table(&table);
    say.line(format_args!("{} would be {}; nothing was changed", count(meant.len() as u64, "drop"), did(what)));
    Ok(())
}

fn did(what: Ordered) -> &'static str {
    match what {
        Ordered::Hold => "held",
        Ordered::Release => "released",
        Ordered::Shred => "shredded",
    }
}
