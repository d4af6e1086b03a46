//! `sealdrop retain`: what another expiry would have done to the drops there were. It counts deliveries, a drop to two
//! recipients as two: each of them fetches or does not. It changes nothing.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::clock::{self, Time};
use crate::ipc::admin::{DropLife, LifeEnd, ToCommand, ToKeeper};
use crate::names::UserName;
use crate::policy::units::{parse_span, show_span};

use super::Ending;
use super::admin::{Daemon, unexpected};
use super::say::{Align, Say, Table, size};
use super::sweep;

/// Tell which drops would have expired unfetched with another expiry
///
/// It asks the ledger of every drop that it keeps: when it was received, when each recipient first fetched it whole, and how
/// it ended. Nothing is changed.
#[derive(clap::Args)]
pub struct Retain {
    #[command(flatten)]
    daemon: Daemon,
    /// The expiry to try: 48h, 3 days
    #[arg(long, value_name = "SPAN", value_parser = span)]
    what_if: Duration,
    /// Only what this user sent or was sent
    #[arg(long, value_name = "USER")]
    user: Option<UserName>,
    /// Only what came in through this folder of its sender's
    #[arg(long, value_name = "PATH")]
    folder: Option<String>,
    /// Only what was received since: RFC 3339
    #[arg(long, value_name = "TIME", value_parser = sweep::parse_now)]
    since: Option<Time>,
    /// List each drop that would have expired unfetched
    #[arg(long)]
    drops: bool,
}

/// What would have become of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Fetched in time.
    Fetched,
    /// Gone before anybody fetched it; `missed`: in truth it was fetched, later.
    Unfetched { missed: bool },
    /// Removed or shredded before it would have expired.
    Withdrawn,
    /// It would still be there.
    Open,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    deliveries: u64,
    fetched: u64,
    unfetched: u64,
    missed: u64,
    withdrawn: u64,
    open: u64,
    /// Of what would have been missed.
    missed_bytes: u64,
}

/// Sender, its folder, recipient.
type Row = (UserName, String, UserName);

impl Retain {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let (mut rows, mut total, now): (BTreeMap<Row, Counts>, Counts, _) =
            (BTreeMap::new(), Counts::default(), clock::now());
        let progress = progress();
        let mut keeper = self.daemon.connect()?;
        keeper.pages(
            |after| ToKeeper::Lives { after },
            |answer| match answer {
                ToCommand::Lives { rows: lives, next } => {
                    progress.inc(lives.len() as u64);
                    for life in &lives {
                        self.count(say, life, now, &mut rows, &mut total);
                    }
                    Ok(next)
                }
                answer => Err(unexpected(&answer)),
            },
        )?;
        progress.finish_and_clear();
        self.tell(say, &rows, &total);
        Ok(())
    }

    fn count(&self, say: &Say, life: &DropLife, now: Time, rows: &mut BTreeMap<Row, Counts>, total: &mut Counts) {
        let asked = self.folder.as_ref().is_none_or(|folder| *folder == life.folder)
            && self.since.is_none_or(|since| life.received >= since);
        if !asked {
            return;
        }
        for (recipient, fetched, end) in &life.deliveries {
            if self.user.as_ref().is_some_and(|user| *user != life.sender && user != recipient) {
                continue;
            }
            let fate = fate(life.received.plus(self.what_if), now, *fetched, *end);
            let row = (life.sender.clone(), life.folder.clone(), recipient.clone());
            for counts in [rows.entry(row).or_default(), &mut *total] {
                counts.add(fate, life.size);
            }
            if let Fate::Unfetched { missed } = fate
                && self.drops
            {
                show(say, life, recipient, *fetched, missed);
            }
        }
    }

    fn tell(&self, say: &Say, rows: &BTreeMap<Row, Counts>, total: &Counts) {
        if say.is_json() {
            for ((sender, folder, recipient), counts) in rows {
                let mut row = counts.json();
                row["sender"] = sender.as_str().into();
                row["folder"] = folder.as_str().into();
                row["recipient"] = recipient.as_str().into();
                say.json(&row);
            }
            let mut whole = total.json();
            whole["what_if"] = show_span(self.what_if).into();
            say.json(&whole);
            return;
        }
        let mut table = Table::new(&[
            ("FROM", Align::Left),
            ("FOLDER", Align::Left),
            ("TO", Align::Left),
            ("DELIVERIES", Align::Right),
            ("FETCHED", Align::Right),
            ("UNFETCHED", Align::Right),
            ("MISSED", Align::Right),
            ("MISSED SIZE", Align::Right),
            ("WITHDRAWN", Align::Right),
            ("OPEN", Align::Right),
        ]);
        for ((sender, folder, recipient), counts) in rows {
            table.row([
                sender.to_string(),
                folder.clone(),
                recipient.to_string(),
                counts.deliveries.to_string(),
                counts.fetched.to_string(),
                counts.unfetched.to_string(),
                counts.missed.to_string(),
                size(counts.missed_bytes),
                counts.withdrawn.to_string(),
                counts.open.to_string(),
            ]);
        }
        if !table.is_empty() {
            say.table(&table);
        }
        say.line(format_args!(
            "with an expiry of {}: of {}, {} would have expired unfetched, and {} of those would have been missed",
            show_span(self.what_if),
            deliveries(total.deliveries),
            total.unfetched,
            total.missed,
        ));
    }
}

fn deliveries(n: u64) -> String {
    if n == 1 { "1 delivery".to_owned() } else { format!("{n} deliveries") }
}

/// One that would have expired.
fn show(say: &Say, life: &DropLife, recipient: &UserName, fetched: Option<Time>, missed: bool) {
    if say.is_json() {
        say.json(&json!({
            "drop": life.drop.to_string(), "sender": life.sender.as_str(), "recipient": recipient.as_str(),
            "path": life.path, "size": life.size, "received": life.received.rfc3339(),
            "fetched": fetched.map(Time::rfc3339), "missed": missed,
        }));
        return;
    }
    let fetched = fetched.map_or_else(
        || "never fetched".to_owned(),
        |at| format!("fetched {} later", show_span(Duration::from_secs(at.since(life.received).as_secs()))),
    );
    say.line(format_args!("{}  {}  {}{} to {recipient}: {fetched}", life.drop, life.received, life.sender, life.path));
}

/// What would have become of a delivery that expired at `cut`.
fn fate(cut: Time, now: Time, fetched: Option<Time>, end: LifeEnd) -> Fate {
    match (fetched, end) {
        (Some(at), _) if at <= cut => Fate::Fetched,
        (_, LifeEnd::Withdrawn(at)) if at <= cut => Fate::Withdrawn,
        _ if cut > now => Fate::Open,
        (fetched, _) => Fate::Unfetched { missed: fetched.is_some() },
    }
}

impl Counts {
    fn add(&mut self, fate: Fate, size: u64) {
        self.deliveries += 1;
        match fate {
            Fate::Fetched => self.fetched += 1,
            Fate::Unfetched { missed } => {
                self.unfetched += 1;
                self.missed += u64::from(missed);
                self.missed_bytes = self.missed_bytes.saturating_add(if missed { size } else { 0 });
            }
            Fate::Withdrawn => self.withdrawn += 1,
            Fate::Open => self.open += 1,
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "deliveries": self.deliveries, "fetched": self.fetched, "unfetched": self.unfetched, "missed": self.missed,
            "missed_bytes": self.missed_bytes, "withdrawn": self.withdrawn, "open": self.open,
        })
    }
}

fn span(text: &str) -> Result<Duration, String> {
    // A policy's own words, and nothing at all, which no policy takes.
    if text == "0s" { Ok(Duration::ZERO) } else { parse_span(text).map_err(|e| format!("{e}; {}", e.hint)) }
}

/// How many drops were looked at; nothing off a terminal.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("looked at {pos} drops, {per_sec}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_delivery_has_the_fate_that_the_other_expiry_gives_it() {
        let (cut, now) = (Time(100), Time(1_000));
        let (early, late) = (Some(Time(100)), Some(Time(101)));
        for (fetched, end, fate_of_it) in [
            (early, LifeEnd::None, Fate::Fetched),
            (early, LifeEnd::Withdrawn(Time(50)), Fate::Fetched),
            (late, LifeEnd::None, Fate::Unfetched { missed: true }),
            (late, LifeEnd::Expired(Time(200)), Fate::Unfetched { missed: true }),
            (None, LifeEnd::None, Fate::Unfetched { missed: false }),
            (None, LifeEnd::Withdrawn(Time(99)), Fate::Withdrawn),
            (None, LifeEnd::Withdrawn(Time(101)), Fate::Unfetched { missed: false }),
            (None, LifeEnd::Expired(Time(50)), Fate::Unfetched { missed: false }),
        ] {
            assert_eq!(fate(cut, now, fetched, end), fate_of_it, "{fetched:?} {end:?}");
        }
        assert_eq!(fate(Time(2_000), now, None, LifeEnd::None), Fate::Open);
        assert_eq!(fate(Time(2_000), now, None, LifeEnd::Withdrawn(Time(5))), Fate::Withdrawn);
    }
}
