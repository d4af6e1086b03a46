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
    #[error("{0}")]
    Cron(String),
    #[error("no time zone has this name")]
    Zone,
    #[error("this schedule never comes due")]
    Never,
}

impl Schedule {
    /// `text`: minute, hour, day of month, month, day of week. `zone`: an IANA name, `Europe/Berlin`, or `UTC`.
    pub fn parse(text: &str, zone: &str) -> Result<Self, ScheduleError> {
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
