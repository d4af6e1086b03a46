//! `sealdrop drops`: what was delivered, what state it is in, who fetched it, when it ends.

use serde_json::json;

use crate::ipc::admin::{DropRow, ToCommand, ToKeeper};
use crate::names::UserName;

use super::Ending;
use super::admin::{Daemon, Keeper, unexpected};
use super::say::{Align, Say, Table, size};

/// List the drops the server knows
#[derive(clap::Args)]
pub struct Drops {
    #[command(flatten)]
    daemon: Daemon,
    /// Only those this user sent or is sent
    #[arg(long, value_name = "USER")]
    user: Option<UserName>,
}

impl Drops {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        list(say, &mut keeper, |after| ToKeeper::Drops { user: self.user.clone(), after })
    }
}

/// Lists the drops that are asked for, whichever they are.
pub(super) fn list(
    say: &Say,
    keeper: &mut Keeper,
    question: impl Fn(Option<String>) -> ToKeeper,
) -> Result<(), Ending> {
    let mut table = Table::new(&[
        ("DROP", Align::Left),
        ("STATE", Align::Left),
        ("FROM", Align::Left),
        ("TO", Align::Left),
        ("SIZE", Align::Right),
        ("RECEIVED", Align::Left),
        ("EXPIRES", Align::Left),
        ("FETCHED", Align::Right),
        ("SUPERSEDED", Align::Left),
        ("ORDER", Align::Left),
        ("PATH", Align::Left),
    ]);
    keeper.pages(question, |answer| match answer {
        ToCommand::Drops { rows, next } => {
            for row in rows {
                if say.is_json() { say.json(&as_json(&row)) } else { table.row(cells(&row)) }
            }
            Ok(next)
        }
        answer => Err(unexpected(&answer)),
    })?;
    if table.is_empty() {
        say.line("no drops")
    } else {
        say.table(&table)
    }
    Ok(())
}

fn cells(row: &DropRow) -> [String; 11] {
    [
        row.drop.to_string(),
        row.state.clone(),
        row.sender.to_string(),
        names(&row.recipients),
        size(row.size),
        row.received.to_string(),
        row.expires.map_or_else(|| "never".to_owned(), |at| at.to_string()),
        row.pickups.map_or_else(|| row.picked_up.to_string(), |most| format!("{} of {most} each", row.picked_up)),
        row.superseded.map_or_else(|| "no".to_owned(), |(at, _)| at.to_string()),
        row.order.clone().unwrap_or_else(|| "none".to_owned()),
        row.path.clone(),
    ]
}

fn names(users: &[UserName]) -> String {
    users.iter().map(UserName::as_str).collect::<Vec<_>>().join(",")
}

pub(super) fn as_json(row: &DropRow) -> serde_json::Value {
    json!({
        "drop": row.drop.to_string(), "state": row.state, "sender": row.sender, "recipients": row.recipients,
        "path": row.path, "size": row.size, "received": row.received.rfc3339(),
        "expires": row.expires.map(|at| at.rfc3339()), "pickups": row.pickups, "picked_up": row.picked_up,
        "superseded": row.superseded.map(|(at, _)| at.rfc3339()),
        "superseded_by": row.superseded.map(|(_, by)| by.to_string()),
        "order": row.order, "certified": row.certified.map(|at| at.rfc3339()),
    })
}
