//! What is usual for a user, and what is not. For each user: how much it pulled on its busiest day, at which hours it comes, and
//! how often it failed within its worst hour. What is looked at is compared with that; a user without a past has none
//! to be unlike, and is held against the least numbers alone. Memory is bounded by users, never by events. No I/O here.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::clock::Time;
use crate::config::Anomalies;

/// Users told apart; names that strangers make up count together.
const USERS_MAX: usize = 2_000;
const OTHERS: &str = "(others)";

/// Events of a user before its hours say anything.
const HOURS_KNOWN: u64 = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    MassDownload,
    OddHours,
    RepeatedFailures,
}

/// Something to look into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    pub kind: Kind,
    pub user: String,
    /// A day or an hour, in UTC.
    pub when: String,
    pub seen: u64,
    /// The most there was in its past.
    pub usual: u64,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::MassDownload => "mass-download",
            Self::OddHours => "odd-hours",
            Self::RepeatedFailures => "repeated-failures",
        }
    }
}

impl Anomaly {
    pub fn says(&self) -> String {
        match self.kind {
            Kind::MassDownload => {
                format!("pulled {} files on one day; its busiest day before had {}", self.seen, self.usual)
            }
            Kind::OddHours => {
                format!("{} logins and pulls at an hour at which it had {} before", self.seen, self.usual)
            }
            Kind::RepeatedFailures => {
                format!("{} refusals within an hour; its worst hour before had {}", self.seen, self.usual)
            }
        }
    }
}

/// The largest count of the spans that were seen: of the one that is being counted, and of those before.
#[derive(Clone, Debug, Default)]
struct Peak {
    span: String,
    count: u64,
    most: u64,
}

impl Peak {
    fn add(&mut self, span: &str) {
        if self.span != span {
            self.most = self.most();
            (self.span, self.count) = (span.to_owned(), 0);
        }
        self.count += 1;
    }

    fn most(&self) -> u64 {
        self.most.max(self.count)
    }
}

#[derive(Clone, Debug, Default)]
struct Past {
    pulls: Peak,
    failures: Peak,
    hours: [u64; 24],
}

#[derive(Clone, Debug, Default)]
struct Now {
    pulls: BTreeMap<String, u64>,
    failures: BTreeMap<String, u64>,
    hours: BTreeMap<String, u64>,
}

/// See the module. Events are seen in the order of the log.
pub struct Habits {
    thresholds: Anomalies,
    since: Time,
    past: BTreeMap<String, Past>,
    now: BTreeMap<String, Now>,
}

impl Habits {
    pub fn new(thresholds: Anomalies, since: Time) -> Self {
        Self { thresholds, since, past: BTreeMap::new(), now: BTreeMap::new() }
    }

    pub fn see(&mut self, event: &Value) {
        let word = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or("");
        let (at, user) = (word("at"), word("user"));
        let (Some(time), Some(day), Some(hour)) = (Time::parse_rfc3339(at), at.get(..10), at.get(..13)) else { return };
        if user.is_empty() {
            return;
        }
        let refused = word("outcome") == "refused";
        let pulled = word("kind") == "download-ended" && word("outcome") == "done";
        let came = pulled || (word("kind") == "logged-in" && word("outcome") == "done");
        if !(refused || came) {
            return;
        }
        let of_day: usize = hour.get(11..13).and_then(|hour| hour.parse().ok()).unwrap_or(0);
        if time < self.since {
            let past = entry(&mut self.past, user);
            if refused {
                past.failures.add(hour);
            }
            if pulled {
                past.pulls.add(day);
            }
            if let Some(count) = past.hours.get_mut(of_day).filter(|_| came) {
                *count += 1;
            }
            return;
        }
        let now = entry(&mut self.now, user);
        if refused {
            *now.failures.entry(hour.to_owned()).or_default() += 1;
        }
        if pulled {
            *now.pulls.entry(day.to_owned()).or_default() += 1;
        }
        if came {
            *now.hours.entry(hour.to_owned()).or_default() += 1;
        }
    }

    /// What is to be looked into, by user.
    pub fn found(&self) -> Vec<Anomaly> {
        let Anomalies { factor, pulls_min, failures_min, odd_hours_percent, .. } = self.thresholds;
        let mut found = Vec::new();
        let nothing = Past::default();
        for (user, now) in &self.now {
            let past = self.past.get(user).unwrap_or(&nothing);
            let mut tell = |kind, when: &str, seen, usual| {
                found.push(Anomaly { kind, user: user.clone(), when: when.to_owned(), seen, usual });
            };
            let usual = past.pulls.most();
            for (day, seen) in &now.pulls {
                if *seen >= pulls_min && *seen > usual.saturating_mul(factor) {
                    tell(Kind::MassDownload, day, *seen, usual);
                }
            }
            let usual = past.failures.most();
            for (hour, seen) in &now.failures {
                if *seen >= failures_min && *seen > usual.saturating_mul(factor) {
                    tell(Kind::RepeatedFailures, &format!("{hour}:00Z"), *seen, usual);
                }
            }
            let total: u64 = past.hours.iter().sum();
            if total < HOURS_KNOWN {
                continue;
            }
            for (hour, seen) in &now.hours {
                let at: usize = hour.get(11..13).and_then(|hour| hour.parse().ok()).unwrap_or(0);
                let usual = past.hours.get(at).copied().unwrap_or(0);
                if usual.saturating_mul(100) < total.saturating_mul(odd_hours_percent) {
                    tell(Kind::OddHours, &format!("{hour}:00Z"), *seen, usual);
                }
            }
        }
        found.sort_by(|a, b| (&a.user, a.kind, &a.when).cmp(&(&b.user, b.kind, &b.when)));
        found
    }
}

fn entry<'a, T: Default>(users: &'a mut BTreeMap<String, T>, user: &str) -> &'a mut T {
    let known = users.contains_key(user) || users.len() < USERS_MAX;
    users.entry(if known { user } else { OTHERS }.to_owned()).or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SINCE: &str = "2026-11-22T00:00:00Z";

    fn habits() -> Habits {
        Habits::new(Anomalies::default(), Time::parse_rfc3339(SINCE).unwrap())
    }

    fn see(habits: &mut Habits, day: u32, hour: u32, kind: &str, outcome: &str, user: &str, times: u64) {
        let at = format!("2026-11-{day:02}T{hour:02}:10:00.000Z");
        for _ in 0..times {
            habits.see(&json!({ "at": at, "kind": kind, "outcome": outcome, "user": user }));
        }
    }

    fn found(habits: &Habits) -> Vec<(Kind, String, u64, u64)> {
        habits.found().into_iter().map(|one| (one.kind, one.user, one.seen, one.usual)).collect()
    }

    #[test]
    fn a_user_is_held_against_its_own_past() {
        let mut habits = habits();
        for day in 1..22 {
            see(&mut habits, day, 9, "download-ended", "done", "busy", 200);
            see(&mut habits, day, 9, "download-ended", "done", "quiet", 2);
        }
        for user in ["busy", "quiet"] {
            see(&mut habits, 22, 9, "download-ended", "done", user, 300);
        }
        assert_eq!(found(&habits), [(Kind::MassDownload, "quiet".to_owned(), 300, 2)]);
    }

    #[test]
    fn somebody_who_comes_by_day_and_now_by_night_is_told() {
        let mut habits = habits();
        for day in 1..22 {
            for hour in 8..17 {
                see(&mut habits, day, hour, "logged-in", "done", "acme", 1);
            }
        }
        see(&mut habits, 22, 12, "logged-in", "done", "acme", 5);
        assert_eq!(found(&habits), []);
        see(&mut habits, 22, 3, "logged-in", "done", "acme", 1);
        see(&mut habits, 22, 3, "logged-in", "done", "new", 1);
        assert_eq!(found(&habits), [(Kind::OddHours, "acme".to_owned(), 1, 0)], "who has no past is unlike nothing");
    }

    #[test]
    fn failures_count_within_an_hour() {
        let mut habits = habits();
        see(&mut habits, 20, 9, "login-refused", "refused", "acme", 2);
        for hour in 0..24 {
            see(&mut habits, 22, hour, "login-refused", "refused", "acme", 3);
        }
        assert_eq!(found(&habits), []);
        see(&mut habits, 22, 5, "login-refused", "refused", "acme", 30);
        assert_eq!(found(&habits), [(Kind::RepeatedFailures, "acme".to_owned(), 33, 2)]);
    }
}
