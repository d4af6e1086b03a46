//! One look at the server, and how it is told: in lines for a screen of so many rows, and in JSON.

use std::cmp::Reverse;

use serde_json::{Value, json};

use super::super::say::{Align, Table, count, size};
use super::super::sessions::as_json;
use crate::clock::Time;
use crate::ipc::admin::{Overview, SessionRow, Status};

pub struct Picture {
    pub now: Time,
    pub status: Box<Status>,
    pub overview: Box<Overview>,
    pub sessions: Vec<SessionRow>,
    /// At the listeners.
    pub queue: Option<u64>,
}

/// The line of the list's head.
pub const HEAD: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    /// Bytes a second, both ways
    Rate,
    /// Bytes received
    In,
    /// Bytes sent
    Out,
    User,
    /// The newest first
    Since,
}

impl Order {
    pub fn next(self) -> Self {
        match self {
            Self::Rate => Self::In,
            Self::In => Self::Out,
            Self::Out => Self::User,
            Self::User => Self::Since,
            Self::Since => Self::Rate,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::In => "in",
            Self::Out => "out",
            Self::User => "user",
            Self::Since => "since",
        }
    }

    fn sort(self, rows: &mut [&SessionRow]) {
        // What is equal stays in the order of its session, so that lines do not jump.
        rows.sort_by_key(|row| row.session);
        match self {
            Self::Rate => rows.sort_by_key(|row| Reverse(row.sending.saturating_add(row.receiving))),
            Self::In => rows.sort_by_key(|row| Reverse(row.received)),
            Self::Out => rows.sort_by_key(|row| Reverse(row.sent)),
            Self::User => rows.sort_by(|one, other| one.user.cmp(&other.user)),
            Self::Since => rows.sort_by_key(|row| Reverse(row.since)),
        }
    }
}

impl Picture {
    /// At most `rows` lines; the sessions that do not fit are counted in the last.
    pub fn lines(&self, order: Order, reverse: bool, rows: usize) -> Vec<String> {
        let mut lines = self.facts(order, reverse);
        let mut shown: Vec<&SessionRow> = self.sessions.iter().collect();
        order.sort(&mut shown);
        if reverse {
            shown.reverse();
        }
        let mut table = Table::new(&[
            ("USER", Align::Left),
            ("FROM", Align::Left),
            ("FOR", Align::Right),
            ("IN", Align::Right),
            ("OUT", Align::Right),
            ("IN/s", Align::Right),
            ("OUT/s", Align::Right),
            ("DOES", Align::Left),
        ]);
        // The head takes one line, and what is left out one.
        let room = rows.saturating_sub(lines.len() + 1);
        let fit = if shown.len() > room { room.saturating_sub(1) } else { shown.len() };
        for row in shown.iter().take(fit) {
            table.row(self.cells(row));
        }
        lines.extend(table.plain());
        if fit < shown.len() {
            lines.push(format!("… and {}", count((shown.len() - fit) as u64, "more session")));
        }
        lines.truncate(rows);
        lines
    }

    fn facts(&self, order: Order, reverse: bool) -> Vec<String> {
        let (status, overview) = (&self.status, &self.overview);
        let queue = self.queue.map_or_else(String::new, |queue| format!(", {queue} waiting to be accepted"));
        let soon = span(u64::from(overview.soon));
        let took = overview.commit_ms.map_or_else(|| "none yet".to_owned(), |ms| format!("the last took {ms} ms"));
        let backwards = if reverse { ", reversed" } else { "" };
        let free = match overview.disk_bytes {
            0 => 0,
            all => status.free_bytes.saturating_mul(100) / all,
        };
        vec![
            format!(
                "{}  {}  up {}  sorted by {}{backwards}",
                status.server,
                self.now,
                span(self.now.since(status.since).as_secs()),
                order.word()
            ),
            format!(
                "door     {} of {} connections, {} not logged in{queue}, {} turned away",
                overview.connections, overview.connections_max, status.strangers, overview.turned_away
            ),
            format!(
                "moving   in {}/s, out {}/s, {}; {} in progress, {} waiting for their time",
                size(overview.receiving),
                size(overview.sending),
                count(u64::from(status.sessions), "session"),
                count(u64::from(overview.uploads), "upload"),
                status.waiting
            ),
            format!(
                "kept     {}; {} end within {soon}, {} of them not picked up",
                count(status.drops, "drop"),
                overview.expiring,
                overview.unpicked
            ),
            format!(
                "ledger   {}, {} on their way, {took}; disk {} free ({free} %); {}, {} for the hook",
                count(status.events, "event"),
                overview.committing,
                size(status.free_bytes),
                count(u64::from(overview.alarms), "alarm"),
                count(u64::from(overview.notices), "notice"),
            ),
            String::new(),
        ]
    }

    fn cells(&self, row: &SessionRow) -> [String; 8] {
        let rate = |bytes: u64| if bytes == 0 { "-".to_owned() } else { size(bytes) };
        [
            row.user.to_string(),
            row.address.to_string(),
            span(self.now.since(row.since).as_secs()),
            size(row.received),
            size(row.sent),
            rate(row.receiving),
            rate(row.sending),
            row.last.as_ref().map_or_else(|| "nothing yet".to_owned(), |(words, _)| words.clone()),
        ]
    }

    pub fn as_json(&self) -> Value {
        let (status, overview) = (&self.status, &self.overview);
        json!({
            "at": self.now.rfc3339(), "server": status.server, "since": status.since.rfc3339(),
            "connections": overview.connections, "connections_max": overview.connections_max,
            "strangers": status.strangers, "queue": self.queue, "turned_away": overview.turned_away,
            "receiving": overview.receiving, "sending": overview.sending,
            "uploads": overview.uploads, "waiting": status.waiting, "drops": status.drops,
            "soon_seconds": overview.soon, "expiring": overview.expiring, "unpicked": overview.unpicked,
            "events": status.events, "committing": overview.committing, "commit_ms": overview.commit_ms,
            "free_bytes": status.free_bytes, "disk_bytes": overview.disk_bytes,
            "alarms": overview.alarms, "notices": overview.notices,
            "sessions": self.sessions.iter().map(as_json).collect::<Vec<_>>(),
        })
    }
}

/// The two largest units: `3d 4h`, `12min 5s`, `9s`.
fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let at = units.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(units.len() - 1);
    let mut rest = seconds;
    let mut words = Vec::new();
    for (unit, word) in units.iter().skip(at).take(2) {
        if rest / unit > 0 || words.is_empty() {
            words.push(format!("{}{word}", rest / unit));
        }
        rest %= unit;
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::SessionId;

    fn session(number: u64, user: &str, receiving: u64) -> SessionRow {
        SessionRow {
            session: SessionId(number),
            user: user.parse().unwrap(),
            address: [192, 0, 2, 1].into(),
            key: None,
            certificate: None,
            since: Time(number * 1000),
            sent: 0,
            received: 10 * receiving,
            sending: 0,
            receiving,
            uploads: 1,
            last: Some(("uploads /in/a".to_owned(), Time(0))),
        }
    }

    fn picture() -> Picture {
        let status = Status {
            version: String::new(),
            server: "files.example".to_owned(),
            pid: 1,
            gate_pid: 2,
            since: Time(0),
            listen: Vec::new(),
            policy: String::new(),
            users: 3,
            sessions: 3,
            strangers: 1,
            drops: 41,
            waiting: 0,
            events: 90,
            log_root: String::new(),
            next_sweep: None,
            confinement: String::new(),
            free_bytes: 1 << 30,
            names_hidden: false,
            awaiting: 0,
        };
        let overview = Overview {
            connections: 4,
            connections_max: 1024,
            turned_away: 0,
            uploads: 3,
            sending: 0,
            receiving: 4096,
            soon: 6 * 3600,
            expiring: 2,
            unpicked: 1,
            committing: 0,
            commit_ms: Some(8),
            disk_bytes: 4 << 30,
            alarms: 1,
            notices: 0,
        };
        Picture {
            now: Time(100_000_000),
            status: Box::new(status),
            overview: Box::new(overview),
            sessions: vec![session(1, "acme", 100), session(2, "lab", 3000), session(3, "ward", 7)],
            queue: Some(0),
        }
    }

    #[test]
    fn the_busiest_come_first_and_what_does_not_fit_is_counted() {
        let picture = picture();
        let users = |lines: &[String]| -> Vec<String> {
            lines.iter().skip(HEAD + 1).map(|line| line.split(' ').next().unwrap().to_owned()).collect()
        };
        assert_eq!(users(&picture.lines(Order::Rate, false, usize::MAX)), ["lab", "acme", "ward"]);
        assert_eq!(users(&picture.lines(Order::User, true, usize::MAX)), ["ward", "lab", "acme"]);
        assert_eq!(users(&picture.lines(Order::Since, false, usize::MAX)), ["ward", "lab", "acme"]);
        let lines = picture.lines(Order::Rate, false, HEAD + 3);
        assert_eq!(lines.len(), HEAD + 3);
        assert_eq!(lines.last().unwrap(), "… and 2 more sessions");
        for rows in 0..12 {
            assert!(picture.lines(Order::In, false, rows).len() <= rows);
        }
    }

    #[test]
    fn the_numbers_are_told_with_their_words() {
        let lines = picture().lines(Order::Rate, false, usize::MAX);
        assert_eq!(lines[HEAD].split_whitespace().next(), Some("USER"));
        assert!(lines[0].starts_with("files.example  1970-01-02T03:46:40Z  up 1d 3h  sorted by rate"), "{}", lines[0]);
        assert!(lines[1].ends_with("4 of 1024 connections, 1 not logged in, 0 waiting to be accepted, 0 turned away"));
        assert!(lines[3].ends_with("41 drops; 2 end within 6h, 1 of them not picked up"), "{}", lines[3]);
        assert!(lines[4].contains("the last took 8 ms; disk 1.0 GiB free (25 %); 1 alarm, 0 notices"), "{}", lines[4]);
    }

    #[test]
    fn spans_are_their_two_largest_units() {
        for (seconds, told) in
            [(0, "0s"), (59, "59s"), (60, "1min"), (725, "12min 5s"), (90_000, "1d 1h"), (86_460, "1d")]
        {
            assert_eq!(span(seconds), told);
        }
    }
}
