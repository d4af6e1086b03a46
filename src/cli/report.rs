//! `sealdrop report`: what happened in a period, for those who answer for it. It reads the log once, in order, and keeps
//! sums; the page needs nothing but a browser. What is counted is `tally`, the page is `page`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::{self, Time};
use crate::ipc::admin::{DropRow, ToCommand, ToKeeper};

use super::Ending;
use super::admin::{Daemon, Keeper, unexpected};
use super::failure::Failure;
use super::output::cannot_write;
use super::say::{Align, Say, Table, count, size};
use tally::Tally;

mod page;
pub mod tally;

/// Drops that nobody picked up, told one by one.
const TOLD_MAX: usize = 500;

const DEFAULT_SPAN: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Tell what happened in a period: transfers, disclosures, refusals, safeguards
#[derive(clap::Args)]
pub struct Report {
    #[command(flatten)]
    daemon: Daemon,
    /// From this day or moment on (`2026-11-01`, or RFC 3339) [default: 30 days ago]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Time>,
    /// Up to this day or moment, which is not in it [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<Time>,
    /// Write one HTML page, with charts, that needs no other file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write every disclosure as a line of CSV (45 CFR 164.528)
    #[arg(long, value_name = "FILE")]
    disclosures: Option<PathBuf>,
}

/// What the report is of.
pub struct Facts {
    pub server: String,
    pub from: Time,
    pub to: Time,
    pub made: Time,
    pub log_size: u64,
    pub log_root: String,
}

/// What was received in the period, and picked up by nobody until now.
#[derive(Default)]
pub struct Unpicked {
    pub count: u64,
    pub first: Vec<DropRow>,
}

/// A day begins at midnight, UTC.
pub fn moment(text: &str) -> Result<Time, String> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    Time::parse_rfc3339(&whole).ok_or_else(|| "write a day, `2026-11-01`, or a time, `2026-11-01T18:00:00Z`".to_owned())
}

impl Report {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let made = clock::now();
        let to = self.to.unwrap_or(made);
        let from = self.from.unwrap_or(Time(to.0.saturating_sub(DEFAULT_SPAN.as_millis() as u64)));
        if from >= to {
            return Err(Failure::new(format!("the period from {from} up to {to} has no length")).into());
        }
        let mut keeper = self.daemon.connect()?;
        let state = match keeper.ask(&ToKeeper::Status)? {
            ToCommand::Status(state) => state,
            answer => return Err(unexpected(&answer)),
        };
        let facts = Facts { server: state.server, from, to, made, log_size: state.events, log_root: state.log_root };
        let mut list = self.disclosures.as_deref().map(Disclosures::begin).transpose()?;
        let mut tally = Tally::default();
        for_each_event(&mut keeper, from, to, |event| {
            tally.add(event);
            list.as_mut().map_or(Ok(()), |list| list.add(event))
        })?;
        if let Some(list) = list {
            list.end()?;
        }
        let mut unpicked = unpicked(&mut keeper, from, to)?;
        if state.names_hidden {
            unpicked.first.iter_mut().for_each(|row| "(hidden)".clone_into(&mut row.path));
        }
        if let Some(path) = &self.html {
            std::fs::write(path, page::page(&facts, &tally, &unpicked)).map_err(|e| cannot_write(path, &e))?;
        }
        if say.is_json() {
            say.json(&as_json(&facts, &tally, &unpicked));
        } else if let Some(path) = &self.html {
            say.line(format_args!("wrote {}", path.display()));
        } else {
            tell(say, &facts, &tally, &unpicked);
        }
        Ok(())
    }
}

/// Gives every event of the period to `each`, in order, a page at a time.
pub fn for_each_event(
    keeper: &mut Keeper,
    from: Time,
    to: Time,
    mut each: impl FnMut(&Value) -> Result<(), Failure>,
) -> Result<(), Ending> {
    let mut next = match keeper.ask(&ToKeeper::FirstEvent { since: from })? {
        ToCommand::FirstEvent { number } => number,
        answer => return Err(unexpected(&answer)),
    };
    loop {
        let (rows, after) = match keeper.ask(&ToKeeper::Audit { from: next })? {
            ToCommand::Audit { rows, next } => (rows, next),
            answer => return Err(unexpected(&answer)),
        };
        for row in &rows {
            let event: Value =
                serde_json::from_str(row).map_err(|e| Failure::new(format!("an event cannot be read: {e}")))?;
            let at = event.get("at").and_then(Value::as_str).and_then(Time::parse_rfc3339);
            // A clock that went back puts events of the period behind others that are not: each is looked at.
            if at.is_some_and(|at| at >= from && at < to) {
                each(&event)?;
            }
        }
        if rows.is_empty() || after <= next {
            return Ok(());
        }
        next = after;
    }
}

fn unpicked(keeper: &mut Keeper, from: Time, to: Time) -> Result<Unpicked, Ending> {
    let mut unpicked = Unpicked::default();
    keeper.pages(
        |after| ToKeeper::Drops { user: None, after },
        |answer| match answer {
            ToCommand::Drops { rows, next } => {
                for row in rows {
                    let waits = row.picked_up == 0 && !row.recipients.is_empty();
                    if waits && row.received >= from && row.received < to {
                        unpicked.count += 1;
                        if unpicked.first.len() < TOLD_MAX {
                            unpicked.first.push(row);
                        }
                    }
                }
                Ok(next)
            }
            answer => Err(unexpected(&answer)),
        },
    )?;
    unpicked.first.sort_by_key(|row| row.received);
    Ok(unpicked)
}

/// The list of disclosures, written as it is read.
struct Disclosures {
    path: PathBuf,
    file: std::io::BufWriter<std::fs::File>,
}

impl Disclosures {
    fn begin(path: &Path) -> Result<Self, Failure> {
        let file = std::fs::File::create(path).map_err(|e| cannot_write(path, &e))?;
        let mut list = Self { path: path.to_owned(), file: std::io::BufWriter::new(file) };
        list.line(&["at", "recipient", "key", "address", "path", "drop", "bytes", "whole", "event"])?;
        Ok(list)
    }

    fn add(&mut self, event: &Value) -> Result<(), Failure> {
        let word = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or("");
        if word("kind") != "download-ended" || word("outcome") != "done" || word("receipt_sha256").is_empty() {
            return Ok(());
        }
        let number = |key: &str| event.get(key).and_then(Value::as_u64).unwrap_or(0).to_string();
        let whole = if word("detail").is_empty() { "yes" } else { "no" };
        let words = [word("at"), word("user"), word("key"), word("address"), word("path"), word("drop")];
        self.line(&[&words[..], &[&number("bytes"), whole, &number("n")]].concat())
    }

    fn line(&mut self, cells: &[&str]) -> Result<(), Failure> {
        let cells: Vec<_> = cells.iter().map(|cell| csv(cell)).collect();
        writeln!(self.file, "{}", cells.join(",")).map_err(|e| cannot_write(&self.path, &e))
    }

    fn end(mut self) -> Result<(), Failure> {
        self.file.flush().map_err(|e| cannot_write(&self.path, &e))
    }
}

/// RFC 4180; and a cell that a spreadsheet would take for a formula begins with a quote, so that a file's name runs nothing.
fn csv(cell: &str) -> String {
    let cell = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

fn as_json(facts: &Facts, tally: &Tally, unpicked: &Unpicked) -> Value {
    let mut report = tally.as_json();
    if let Some(report) = report.as_object_mut() {
        report.insert("server".to_owned(), json!(facts.server));
        report.insert("from".to_owned(), json!(facts.from.rfc3339()));
        report.insert("to".to_owned(), json!(facts.to.rfc3339()));
        report.insert("made".to_owned(), json!(facts.made.rfc3339()));
        report.insert("log_size".to_owned(), json!(facts.log_size));
        report.insert("log_root".to_owned(), json!(facts.log_root));
        report.insert("not_picked_up".to_owned(), json!(unpicked.count));
        let rows = unpicked.first.iter().map(|row| {
            json!({ "drop": row.drop.to_string(), "sender": row.sender, "recipients": row.recipients, "path": row.path,
                    "size": row.size, "received": row.received.rfc3339(), "state": row.state })
        });
        report.insert("not_picked_up_drops".to_owned(), json!(rows.collect::<Vec<_>>()));
    }
    report
}

fn tell(say: &Say, facts: &Facts, tally: &Tally, unpicked: &Unpicked) {
    let total = tally.total();
    say.facts(&[
        ("server", facts.server.clone()),
        ("period", format!("{} up to {}", facts.from, facts.to)),
        (
            "log",
            format!("{} in the period; {} with root {}", count(tally.events, "event"), facts.log_size, facts.log_root),
        ),
        ("received", format!("{}, {}", count(total.received, "file"), size(total.received_bytes))),
        ("disclosed", count(total.picked_up, "time")),
        ("expired", count(total.expired, "drop")),
        ("refused", count(total.refused, "time")),
        ("not picked up", count(unpicked.count, "drop")),
    ]);
    let number = |n: u64| n.to_string();
    let mut days = Table::new(&[
        ("DAY", Align::Left),
        ("RECEIVED", Align::Right),
        ("BYTES", Align::Right),
        ("DISCLOSED", Align::Right),
        ("EXPIRED", Align::Right),
        ("REFUSED", Align::Right),
    ]);
    for (day, of) in &tally.days {
        let bytes = size(of.received_bytes);
        days.row([
            day.clone(),
            number(of.received),
            bytes,
            number(of.picked_up),
            number(of.expired),
            number(of.refused),
        ]);
    }
    let mut users = Table::new(&[
        ("USER", Align::Left),
        ("SENT", Align::Right),
        ("BYTES", Align::Right),
        ("DISCLOSED TO", Align::Right),
        ("REFUSED", Align::Right),
        ("LOGINS", Align::Right),
        ("LOGINS REFUSED", Align::Right),
    ]);
    for (name, of) in &tally.users {
        users.row([
            name.clone(),
            number(of.sent),
            size(of.sent_bytes),
            number(of.pulled),
            number(of.refused),
            number(of.logins),
            number(of.logins_refused),
        ]);
    }
    let mut safeguards = Table::new(&[("45 CFR", Align::Left), ("SAFEGUARD", Align::Left), ("SHOWN", Align::Left)]);
    for (rule, name, shown) in tally.safeguards() {
        safeguards.row([rule.to_owned(), name.to_owned(), shown]);
    }
    for table in [&days, &users, &safeguards] {
        if !table.is_empty() {
            say.line("");
            say.table(table);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_cell_and_no_formula() {
        assert_eq!(csv("/a b"), "/a b");
        assert_eq!(csv("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(csv("=cmd()"), "'=cmd()");
    }

    #[test]
    fn a_period_is_said_in_days_or_moments() {
        assert_eq!(moment("2026-11-01"), Ok(Time::parse_rfc3339("2026-11-01T00:00:00Z").unwrap()));
        assert!(moment("2026-11-01T10:00:00+01:00").is_ok());
        assert!(moment("yesterday").is_err());
    }
}
