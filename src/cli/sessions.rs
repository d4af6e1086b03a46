//! `sealdrop sessions`: who is on, from where, since when, and what they do.

use serde_json::json;

use crate::ipc::admin::{SessionRow, ToCommand, ToKeeper};

use super::Ending;
use super::admin::{Daemon, unexpected};
use super::say::{Align, Say, Table, size};

/// List who is on
///
/// Bytes are as of a few seconds ago. `sealdrop kick` ends a session.
#[derive(clap::Args)]
pub struct Sessions {
    #[command(flatten)]
    daemon: Daemon,
}

impl Sessions {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        let mut table = Table::new(&[
            ("SESSION", Align::Left),
            ("USER", Align::Left),
            ("FROM", Align::Left),
            ("SINCE", Align::Left),
            ("SENT", Align::Right),
            ("RECEIVED", Align::Right),
            ("LAST", Align::Left),
        ]);
        keeper.pages(
            |after| ToKeeper::Sessions { after },
            |answer| match answer {
                ToCommand::Sessions { rows, next } => {
                    for row in rows {
                        if say.is_json() { say.json(&as_json(&row)) } else { table.row(cells(&row)) }
                    }
                    Ok(next)
                }
                answer => Err(unexpected(&answer)),
            },
        )?;
        if table.is_empty() {
            say.line("nobody is on")
        } else {
            say.table(&table)
        }
        Ok(())
    }
}

fn cells(row: &SessionRow) -> [String; 7] {
    [
        row.session.to_string(),
        row.user.to_string(),
        row.address.to_string(),
        row.since.to_string(),
        size(row.sent),
        size(row.received),
        row.last.as_ref().map_or_else(|| "nothing yet".to_owned(), |(words, at)| format!("{at} {words}")),
    ]
}

pub(super) fn as_json(row: &SessionRow) -> serde_json::Value {
    json!({
        "session": row.session.to_string(), "user": row.user.as_str(), "address": row.address.to_string(),
        "key": row.key, "certificate": row.certificate, "since": row.since.rfc3339(),
        "sent": row.sent, "received": row.received, "sending": row.sending, "receiving": row.receiving, "uploads": row.uploads,
        "last": row.last.as_ref().map(|(words, _)| words), "last_at": row.last.as_ref().map(|(_, at)| at.rfc3339()),
    })
}
