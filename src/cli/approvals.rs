//! `sealdrop approvals`, `approve` and `refuse`: what waits for a second person, and their yes or no. A command that needs one
//! ends with 5 and is told of in the words of here, whichever command it was.

use serde_json::json;

use super::Ending;
use super::admin::{Daemon, Keeper, done, unexpected};
use super::say::{Say, Tone, count};
use crate::ipc::admin::{ApprovalRow, ToCommand, ToKeeper};
use crate::names::RequestId;

/// List what waits for a second person, or for who asked to do it
#[derive(clap::Args)]
pub struct Approvals {
    #[command(flatten)]
    daemon: Daemon,
    /// Instead, the drops that this request is for
    #[arg(value_name = "REQUEST")]
    request: Option<RequestId>,
}

/// Approve what another person asked for: then they can do it, once
///
/// Read first what it is: `sealdrop approvals`, and of drops `sealdrop approvals REQUEST`.
#[derive(clap::Args)]
pub struct Approve {
    #[command(flatten)]
    answer: Answer,
}

/// Refuse what another person asked for, or take back what you asked for
#[derive(clap::Args)]
pub struct Refuse {
    #[command(flatten)]
    answer: Answer,
}

/// To what, and why
#[derive(clap::Args)]
struct Answer {
    #[command(flatten)]
    daemon: Daemon,
    /// The request's id, as `sealdrop approvals` lists it
    #[arg(value_name = "REQUEST")]
    request: RequestId,
    /// Why; it goes into the audit log
    #[arg(long, alias = "why", value_name = "TEXT")]
    reason: String,
}

impl Approvals {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        if let Some(request) = self.request {
            return super::drops::list(say, &mut keeper, |after| ToKeeper::ApprovalDrops { request, after });
        }
        let rows = all(&mut keeper)?;
        if say.is_json() {
            rows.iter().for_each(|row| say.json(&as_json(row)));
            return Ok(());
        }
        if rows.is_empty() {
            say.line("nothing awaits approval");
        }
        for row in &rows {
            tell(say, row);
        }
        Ok(())
    }
}

impl Approve {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let Answer { daemon, request, reason } = self.answer;
        match daemon.connect()?.ask(&ToKeeper::Approve { request, reason })? {
            ToCommand::Approvals { rows, .. } => {
                for row in &rows {
                    if say.is_json() {
                        say.json(&as_json(row));
                    } else {
                        say.line(format_args!("approved: {}", row.what));
                        say.line(format_args!(
                            "who asked gives the same command again, until {}: {}",
                            row.until, row.by
                        ));
                    }
                }
                Ok(())
            }
            answer => Err(unexpected(&answer)),
        }
    }
}

impl Refuse {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let Answer { daemon, request, reason } = self.answer;
        done(say, daemon.connect()?.ask(&ToKeeper::Refuse { request, reason })?)
    }
}

/// What a command says that was not done because a second person has to approve it.
pub fn awaits(say: &Say, row: &ApprovalRow, then: &str) {
    if say.is_json() {
        say.json(&as_json(row));
        return;
    }
    say.line(format_args!("not done yet, it awaits approval: {}", row.what));
    say.line(format_args!("request {}, until {}", row.request, row.until));
    say.aside(format_args!("another person: sealdrop approve {} --reason TEXT", row.request));
    say.aside(format_args!("then you: {then}"));
}

fn all(keeper: &mut Keeper) -> Result<Vec<ApprovalRow>, Ending> {
    let mut all = Vec::new();
    keeper.pages(
        |after| ToKeeper::Approvals { after },
        |answer| match answer {
            ToCommand::Approvals { rows, next } => {
                all.extend(rows);
                Ok(next)
            }
            answer => Err(unexpected(&answer)),
        },
    )?;
    Ok(all)
}

fn tell(say: &Say, row: &ApprovalRow) {
    let state = match row.approved {
        None => say.tone(Tone::Unsure, "awaits approval"),
        Some(_) => say.tone(Tone::Good, "approved"),
    };
    say.line(format_args!("{}  {state}  {}", row.request, row.what));
    let why = row.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    say.line(format_args!("    asked {}, by {}{why}", row.asked, row.by));
    if let Some(approved) = &row.approved {
        say.line(format_args!("    approved {}, by {}: {}", approved.at, approved.by, approved.reason));
    }
    if row.drops > 0 {
        let drops = count(u64::from(row.drops), "drop");
        say.line(format_args!("    for {drops}: sealdrop approvals {}", row.request));
    }
    say.line(format_args!("    until {}", row.until));
}

fn as_json(row: &ApprovalRow) -> serde_json::Value {
    json!({
        "request": row.request.to_string(), "what": row.what, "drops": row.drops, "by": row.by, "reason": row.reason,
        "asked": row.asked.rfc3339(), "until": row.until.rfc3339(),
        "approved": row.approved.as_ref().map(|approved| json!({
            "by": approved.by, "reason": approved.reason, "at": approved.at.rfc3339(),
        })),
    })
}
