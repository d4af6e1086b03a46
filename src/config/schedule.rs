//! When the sweep runs: five cron fields read in a named time zone. Across a change of clocks each planned time still
//! happens once.

use std::fmt;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;

use crate::clock::Time;

/// A cron expression and its zone.
#[derive(Clone)]
pub struct Schedule {
    text: String,
    zone: String,
    cron: Cron,
    time_zone: TimeZone,
}

/// Why a text is not a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("a schedule has five fields, and this has {0}")]
    Fields(usize),
    #[error("this is not a schedule: {0}")]
    Cron(String),
    #[error("no time zone has this name")]
    Zone,
    #[error("this schedule never comes due")]
    Never,
}

impl Schedule {
    /// `text`: minute, hour, day of month, month, day of week. `zone`: an IANA name, `Europe/Berlin`, or `UTC`.
    pub fn parse(text: &str, zone: &str) -> Result<Self, ScheduleError> {
        // `@hourly` and the like are whole schedules.
        let fields = text.split_whitespace().count();
        if fields != 5 && !text.trim_start().starts_with('@') {
            return Err(ScheduleError::Fields(fields));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| ScheduleError::Cron(error.to_string()))?;
        let time_zone = TimeZone::get(zone).map_err(|_| ScheduleError::Zone)?;
        let schedule = Self { text: text.to_owned(), zone: zone.to_owned(), cron, time_zone };
        // Any leap day comes within eight years; `0 0 31 2 *` never does.
        schedule.next_after(Time::from_unix_seconds(0)).ok_or(ScheduleError::Never)?;
        Ok(schedule)
    }

    /// The first moment later than `after`; `None` beyond the calendar.
    pub fn next_after(&self, after: Time) -> Option<Time> {
        let seconds = i64::try_from(after.unix_seconds()).ok()?;
        let from = jiff::Timestamp::from_second(seconds).ok()?.to_zoned(self.time_zone.clone());
        let next = self.cron.find_next_occurrence(&from, false).ok()?;
        u64::try_from(next.timestamp().as_second()).ok().map(Time::from_unix_seconds)
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn zone(&self) -> &str {
        &self.zone
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.zone)
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(text: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(text, zone).unwrap();
        let from = Time::parse_rfc3339(from).unwrap();
        let next = |time: &Time| schedule.next_after(*time);
        std::iter::successors(Some(from), next).skip(1).take(count).map(Time::rfc3339).collect()
    }

    #[test]
    fn the_next_time_is_always_later_and_in_its_zone() {
        assert_eq!(
            times("0 * * * *", "UTC", "2026-11-22T15:00:00Z", 2),
            ["2026-11-22T16:00:00Z", "2026-11-22T17:00:00Z"]
        );
        assert_eq!(times("30 2 * * *", "Europe/Berlin", "2026-11-22T15:00:00Z", 1), ["2026-11-23T01:30:00Z"]);
        assert_eq!(times("0 0 29 2 *", "UTC", "2026-11-22T15:00:00Z", 1), ["2028-02-29T00:00:00Z"]);
        let hourly = Schedule::parse("@hourly", "UTC").unwrap();
        assert_eq!(hourly.next_after(Time(3_599_999)), Some(Time(3_600_000)));
        assert_eq!(hourly.next_after(Time(3_600_000)), Some(Time(7_200_000)));
        assert_eq!(hourly.next_after(Time(u64::MAX)), None);
    }

    #[test]
    fn an_hourly_sweep_is_hourly_through_a_change_of_clocks() {
        // Europe/Berlin goes back on 2026-10-25 at 01:00 UTC and forward on 2027-03-28 at 01:00 UTC.
        let autumn = times("0 * * * *", "Europe/Berlin", "2026-10-24T23:00:00Z", 4);
        assert_eq!(
            autumn,
            ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"]
        );
        let spring = times("0 * * * *", "Europe/Berlin", "2027-03-27T23:00:00Z", 3);
        assert_eq!(spring, ["2027-03-28T00:00:00Z", "2027-03-28T01:00:00Z", "2027-03-28T02:00:00Z"]);
    }

    #[test]
    fn a_nightly_sweep_happens_every_night() {
        // 02:30 is there twice in one night and not at all in another: never is a night left out.
        for start in ["2026-10-23T12:00:00Z", "2027-03-26T12:00:00Z"] {
            let nights = times("30 2 * * *", "Europe/Berlin", start, 4);
            let days: std::collections::BTreeSet<&str> = nights.iter().map(|time| &time[..10]).collect();
            assert!(days.len() >= 3, "{nights:?}");
        }
    }

    #[test]
    fn what_never_comes_due_is_refused() {
        assert_eq!(Schedule::parse("0 0 31 2 *", "UTC").unwrap_err(), ScheduleError::Never);
        assert_eq!(Schedule::parse("0 * * *", "UTC").unwrap_err(), ScheduleError::Fields(4));
        assert!(matches!(Schedule::parse("61 * * * *", "UTC"), Err(ScheduleError::Cron(_))));
        assert_eq!(Schedule::parse("0 * * * *", "Mars/Olympus").unwrap_err(), ScheduleError::Zone);
    }
}
