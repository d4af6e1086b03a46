//! What happened in a period, added up event by event: by day, by user, by recipient, by safeguard. Its size depends on the
//! length of the period and the number of users, never on the number of events. No I/O here.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Users told apart; names of strangers, who may make up as many as they like, count together.
const USERS_MAX: usize = 2_000;

/// Where those beyond it are.
const OTHERS: &str = "(others)";

/// One day, in UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Day {
    pub received: u64,
    pub received_bytes: u64,
    pub picked_up: u64,
    pub expired: u64,
    pub refused: u64,
}

/// One user, as a sender and as a recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub sent: u64,
    pub sent_bytes: u64,
    pub duplicates: u64,
    pub pulled: u64,
    pub pulled_bytes: u64,
    pub pulled_in_part: u64,
    pub refused: u64,
    pub logins: u64,
    pub logins_refused: u64,
    /// When it was first and last sent something.
    pub first_pull: Option<String>,
    pub last_pull: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub events: u64,
    pub days: BTreeMap<String, Day>,
    pub users: BTreeMap<String, User>,
    pub refusals: BTreeMap<String, u64>,
    pub kinds: BTreeMap<String, u64>,
    pub failed: u64,
}

impl Tally {
    /// `event` is one of the period's.
    pub fn add(&mut self, event: &Value) {
        let word = |key: &str| event.get(key).and_then(Value::as_str);
        let (Some(at), Some(kind)) = (word("at"), word("kind")) else { return };
        let outcome = word("outcome").unwrap_or("done");
        let bytes = event.get("bytes").and_then(Value::as_u64).unwrap_or(0);
        self.events += 1;
        *self.kinds.entry(kind.to_owned()).or_default() += 1;
        self.failed += u64::from(outcome == "failed");
        let day = self.days.entry(at.get(..10).unwrap_or(at).to_owned()).or_default();
        let refused = outcome == "refused";
        if refused {
            day.refused += 1;
            *self.refusals.entry(kind.to_owned()).or_default() += 1;
        }
        // A day belongs to the machine as well, a user only to somebody.
        if kind == "expired" && outcome == "done" {
            day.expired += 1;
        }
        let Some(name) = word("user") else { return };
        let known = self.users.contains_key(name) || self.users.len() < USERS_MAX;
        let user = self.users.entry(if known { name } else { OTHERS }.to_owned()).or_default();
        if refused {
            match kind {
                "login-refused" => user.logins_refused += 1,
                _ => user.refused += 1,
            }
            return;
        }
        if outcome != "done" {
            return;
        }
        match kind {
            "logged-in" => user.logins += 1,
            "upload-committed" => {
                day.received += 1;
                day.received_bytes += bytes;
                user.sent += 1;
                user.sent_bytes += bytes;
            }
            "upload-duplicate" => user.duplicates += 1,
            // Of one's own shared file there is no receipt, and it is no disclosure.
            "download-ended" if word("receipt_sha256").is_some() => {
                day.picked_up += 1;
                user.pulled += 1;
                user.pulled_bytes += bytes;
                user.pulled_in_part += u64::from(word("detail").is_some());
                user.first_pull.get_or_insert_with(|| at.to_owned());
                user.last_pull = Some(at.to_owned());
            }
            _ => {}
        }
    }

    pub fn kind(&self, kind: &str) -> u64 {
        self.kinds.get(kind).copied().unwrap_or(0)
    }

    pub fn total(&self) -> Day {
        self.days.values().fold(Day::default(), |sum, day| Day {
            received: sum.received + day.received,
            received_bytes: sum.received_bytes + day.received_bytes,
            picked_up: sum.picked_up + day.picked_up,
            expired: sum.expired + day.expired,
            refused: sum.refused + day.refused,
        })
    }

    /// The technical safeguards of 45 CFR 164.312, and what the log shows of each in the period.
    pub fn safeguards(&self) -> Vec<(&'static str, &'static str, String)> {
        let count = |kinds: &[&str]| kinds.iter().map(|kind| self.kind(kind)).sum::<u64>();
        let refused: u64 = self.refusals.values().sum();
        vec![
            (
                "164.312(a)(1)",
                "Access control",
                format!("{refused} refusals by rule; {} sessions ended by withdrawal", count(&["revoked"])),
            ),
            ("164.312(a)(2)(i)", "Unique user identification", format!("{} users acted by name", self.users.len())),
            (
                "164.312(a)(2)(iii)",
                "Automatic logoff",
                format!("{} sessions began, {} ended", count(&["logged-in"]), count(&["logged-out"])),
            ),
            (
                "164.312(a)(2)(iv)",
                "Encryption and decryption",
                format!(
                    "{} files sealed, {} expired, {} shred keys destroyed",
                    count(&["upload-committed"]),
                    count(&["expired"]),
                    count(&["shred-key-destroyed"])
                ),
            ),
            (
                "164.312(b)",
                "Audit controls",
                format!("{} events in the log, {} admin commands", self.events, count(&["admin-command"])),
            ),
            (
                "164.312(c)(1)",
                "Integrity",
                format!(
                    "{} receipts given, {} damaged files found",
                    count(&["upload-committed", "upload-duplicate"]),
                    count(&["corrupt"])
                ),
            ),
            (
                "164.312(d)",
                "Person or entity authentication",
                format!("{} logins, {} refused", count(&["logged-in"]), count(&["login-refused"])),
            ),
            (
                "164.312(e)(1)",
                "Transmission security",
                format!("{} transfers, all of them over SSH", count(&["upload-committed", "download-ended"])),
            ),
        ]
    }

    pub fn as_json(&self) -> Value {
        let total = self.total();
        let days = self.days.iter().map(|(day, of)| {
            json!({ "day": day, "received": of.received, "received_bytes": of.received_bytes, "picked_up": of.picked_up,
                    "expired": of.expired, "refused": of.refused })
        });
        let days: Vec<_> = days.into_iter().collect();
        let users: Vec<_> = self
            .users
            .iter()
            .map(|(name, of)| {
                json!({ "user": name, "sent": of.sent, "sent_bytes": of.sent_bytes, "duplicates": of.duplicates,
                        "refused": of.refused, "logins": of.logins, "logins_refused": of.logins_refused })
            })
            .collect();
        let safeguards: Vec<_> = self
            .safeguards()
            .into_iter()
            .map(|(rule, name, shown)| json!({ "rule": rule, "name": name, "shown": shown }))
            .collect();
        json!({
            "events": self.events, "failed": self.failed, "received": total.received,
            "received_bytes": total.received_bytes, "picked_up": total.picked_up, "expired": total.expired,
            "refused": total.refused, "days": days, "users": users, "refusals": self.refusals,
            "disclosures": self.disclosures().map(|(name, of)| json!({
                "recipient": name, "disclosures": of.pulled, "in_part": of.pulled_in_part, "bytes": of.pulled_bytes,
                "first": of.first_pull, "last": of.last_pull })).collect::<Vec<_>>(),
            "safeguards": safeguards,
        })
    }

    /// Who was sent anything.
    pub fn disclosures(&self) -> impl Iterator<Item = (&String, &User)> {
        self.users.iter().filter(|(_, user)| user.pulled > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, outcome: &str, user: &str, bytes: u64) -> Value {
        json!({ "at": "2026-11-22T08:00:00.000Z", "kind": kind, "outcome": outcome, "user": user, "bytes": bytes,
                "receipt_sha256": "x" })
    }

    #[test]
    fn a_day_and_its_users_are_added_up() {
        let mut tally = Tally::default();
        for (kind, outcome, user, bytes) in [
            ("upload-committed", "done", "acme", 10),
            ("upload-committed", "failed", "acme", 99),
            ("upload-refused", "refused", "acme", 7),
            ("download-ended", "done", "lab", 10),
            ("login-refused", "refused", "lab", 0),
        ] {
            tally.add(&event(kind, outcome, user, bytes));
        }
        tally.add(&json!({ "at": "2026-11-23T08:00:00.000Z", "kind": "expired", "outcome": "done" }));
        tally.add(
            &json!({ "at": "2026-11-23T08:00:00.000Z", "kind": "download-ended", "outcome": "done", "user": "acme" }),
        );
        let day = &tally.days["2026-11-22"];
        assert_eq!(*day, Day { received: 1, received_bytes: 10, picked_up: 1, expired: 0, refused: 2 });
        assert_eq!(tally.total().expired, 1);
        assert_eq!((tally.users["acme"].sent, tally.users["acme"].refused, tally.users["acme"].pulled), (1, 1, 0));
        assert_eq!((tally.users["lab"].pulled, tally.users["lab"].logins_refused), (1, 1));
        assert_eq!(tally.disclosures().count(), 1);
    }

    #[test]
    fn names_that_strangers_make_up_do_not_grow_it() {
        let mut tally = Tally::default();
        for n in 0..5 * USERS_MAX {
            tally.add(&event("login-refused", "refused", &format!("user{n}"), 0));
        }
        assert_eq!(tally.users.len(), USERS_MAX + 1);
        assert_eq!(tally.users[OTHERS].logins_refused, 4 * USERS_MAX as u64);
    }
}
