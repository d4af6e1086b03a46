//! What is expected of a user: so many files in a folder by a time of the day, `Mon-Fri 03:00 Europe/Berlin`. Read once;
//! asked with `now`. That nothing came is an alarm; nothing is refused for it. No I/O here.

use std::fmt;
use std::time::Duration;

use jiff::ToSpan;
use jiff::civil::Time as OfDay;
use jiff::tz::TimeZone;

use crate::clock::Time;
use crate::policy::hours::{DAY_END, WindowError, is_on, minute, parse_days};
use crate::policy::patterns::Patterns;
use crate::policy::units::show_span;
use crate::vpath::VirtualPath;

/// One delivery that is waited for.
#[derive(Clone, Debug)]
pub struct Due {
    /// One of the user's folders.
    pub folder: VirtualPath,
    pub by: By,
    /// What came longer before `by` than this was for an earlier day.
    pub within: Duration,
    /// So many at the least.
    pub files: u64,
    /// What counts; none: every name does.
    pub names: Patterns,
}

impl Due {
    /// Whether a file that came for `path` at `received` is of the delivery that was due at `due`, also if it came late.
    pub fn counts(&self, due: Time, path: &VirtualPath, received: Time) -> bool {
        let begins = Time(due.0.saturating_sub(u64::try_from(self.within.as_millis()).unwrap_or(u64::MAX)));
        let name = path.name();
        received > begins
            && path.below(&self.folder).is_some()
            && (self.names.is_empty() || name.is_some_and(|name| self.names.matches(&name)))
    }
}

impl fmt::Display for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.files == 1 { "file" } else { "files" };
        let names = self.names.texts().join(", ");
        let of = if names.is_empty() { String::new() } else { format!(" of {names}") };
        write!(f, "{} {noun}{of} in {} by {}, within {}", self.files, self.folder, self.by, show_span(self.within))
    }
}

/// A time of the day, on some days, in a zone.
#[derive(Clone)]
pub struct By {
    text: String,
    days: [bool; 7],
    of_day: OfDay,
    zone: TimeZone,
}

/// What a `by` looks like.
pub const BY_HINT: &str = "days, a time and a zone: \"Mon-Fri 03:00 Europe/Berlin\"";

impl By {
    pub fn parse(text: &str) -> Result<Self, WindowError> {
        let mut parts = text.split_whitespace();
        let (Some(days), Some(time), Some(zone), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(WindowError::Parts);
        };
        let days = parse_days(days).ok_or(WindowError::Days)?;
        let minute = minute(time).filter(|minute| *minute < DAY_END).ok_or(WindowError::Hours)?;
        let (hour, minute) = (i8::try_from(minute / 60), i8::try_from(minute % 60));
        let (Ok(hour), Ok(minute)) = (hour, minute) else { return Err(WindowError::Hours) };
        let of_day = OfDay::new(hour, minute, 0, 0).map_err(|_| WindowError::Hours)?;
        let zone = TimeZone::get(zone).map_err(|_| WindowError::Zone)?;
        Ok(Self { text: text.to_owned(), days, of_day, zone })
    }

    /// The last of these times that is not later than `now`. One that a change of clocks leaves out is an hour later.
    pub fn last(&self, now: Time) -> Option<Time> {
        let now = jiff::Timestamp::from_second(i64::try_from(now.unix_seconds()).ok()?).ok()?;
        let today = now.to_zoned(self.zone.clone()).date();
        (0..=7).find_map(|back| {
            let day = today.checked_sub(back.days()).ok()?;
            let at = day.to_datetime(self.of_day).to_zoned(self.zone.clone()).ok()?.timestamp();
            let seconds = u64::try_from(at.as_second()).ok()?;
            (is_on(&self.days, day.weekday()) && at <= now).then(|| Time::from_unix_seconds(seconds))
        })
    }
}

impl PartialEq for By {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(by: &str, now: &str) -> String {
        By::parse(by).unwrap().last(Time::parse_rfc3339(now).unwrap()).unwrap().rfc3339()
    }

    #[test]
    fn the_last_time_is_of_its_days_and_zone() {
        // 2026-11-25 is a Wednesday.
        assert_eq!(last("Mon-Sun 03:00 UTC", "2026-11-25T03:00:00Z"), "2026-11-25T03:00:00Z");
        assert_eq!(last("Mon-Sun 03:00 UTC", "2026-11-25T02:59:59Z"), "2026-11-24T03:00:00Z");
        assert_eq!(last("Mon-Fri 03:00 Europe/Berlin", "2026-11-23T01:00:00Z"), "2026-11-20T02:00:00Z");
        assert_eq!(last("Wed 03:00 UTC", "2026-11-25T01:00:00Z"), "2026-11-18T03:00:00Z");
        // 02:30 is not there on 2027-03-28 in Berlin, and twice on 2026-10-25.
        assert_eq!(last("Sun 02:30 Europe/Berlin", "2027-03-28T12:00:00Z"), "2027-03-28T01:30:00Z");
        assert_eq!(last("Sun 02:30 Europe/Berlin", "2026-10-25T12:00:00Z"), "2026-10-25T00:30:00Z");
    }

    #[test]
    fn what_counts_is_in_the_folder_of_the_name_and_not_of_an_earlier_day() {
        let due = Due {
            folder: VirtualPath::parse(b"/in").unwrap(),
            by: By::parse("Mon-Sun 03:00 UTC").unwrap(),
            within: Duration::from_secs(12 * 3600),
            files: 1,
            names: Patterns::new(&["*.dcm"], false).unwrap(),
        };
        let at = |text: &str| Time::parse_rfc3339(text).unwrap();
        let counts = |path: &str, received| {
            due.counts(at("2026-11-25T03:00:00Z"), &VirtualPath::parse(path.as_bytes()).unwrap(), at(received))
        };
        assert!(counts("/in/a.dcm", "2026-11-25T02:00:00Z") && counts("/in/sub/a.dcm", "2026-11-24T15:00:01Z"));
        assert!(counts("/in/a.dcm", "2026-11-25T05:00:00Z"), "late is better than never");
        assert!(!counts("/in/a.dcm", "2026-11-24T15:00:00Z"), "that was for the day before");
        assert!(!counts("/in/a.txt", "2026-11-25T02:00:00Z") && !counts("/other/a.dcm", "2026-11-25T02:00:00Z"));
    }

    #[test]
    fn what_is_no_time_says_which_part() {
        for (text, error) in [
            ("03:00", WindowError::Parts),
            ("Mo 03:00 UTC", WindowError::Days),
            ("Mon 24:00 UTC", WindowError::Hours),
            ("Mon 3am UTC", WindowError::Hours),
            ("Mon 03:00 Mars", WindowError::Zone),
        ] {
            assert_eq!(By::parse(text).unwrap_err(), error, "{text}");
        }
    }
}
