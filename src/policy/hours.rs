//! When a user may log in: `Mon-Fri 18:00-06:00 Europe/Berlin`. Read once; asked with `now`. A window gates logins only:
//! a transfer that began inside it may end outside. No I/O here.

use std::fmt;

use jiff::civil::Weekday;
use jiff::tz::TimeZone;

use crate::clock::Time;

/// Days, a span of the clock, and the zone both are read in. A span over midnight belongs to the day it begins on.
#[derive(Clone)]
pub struct Window {
    text: String,
    /// From Monday.
    days: [bool; 7],
    /// Minutes of the day; `to` is not in it. `to` below `from`: over midnight.
    from: u16,
    to: u16,
    zone: TimeZone,
}

/// Why a text is not a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    #[error("a window is days, hours and a time zone")]
    Parts,
    #[error("these are not days")]
    Days,
    #[error("these are not hours")]
    Hours,
    #[error("this window is empty")]
    Empty,
    #[error("no time zone has this name")]
    Zone,
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// In minutes.
pub(super) const DAY_END: u16 = 24 * 60;

impl WindowError {
    pub fn hint(self) -> &'static str {
        match self {
            Self::Parts => "for example \"Mon-Fri 18:00-06:00 Europe/Berlin\"",
            Self::Days => "Mon Tue Wed Thu Fri Sat Sun: \"Mon-Fri\", \"Sat\", \"Mon,Wed,Fri\"",
            Self::Hours => {
                "two times of the day: \"08:00-17:30\"; over midnight \"18:00-06:00\"; all day \"00:00-24:00\""
            }
            Self::Empty => "it begins when it ends; all day is \"00:00-24:00\"",
            Self::Zone => "a name such as \"Europe/Berlin\", \"America/New_York\" or \"UTC\"",
        }
    }
}

impl Window {
    pub fn parse(text: &str) -> Result<Self, WindowError> {
        let mut parts = text.split_whitespace();
        let (Some(days), Some(hours), Some(zone), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(WindowError::Parts);
        };
        let days = parse_days(days).ok_or(WindowError::Days)?;
        let (from, to) = hours.split_once('-').ok_or(WindowError::Hours)?;
        let (from, to) = (minute(from).ok_or(WindowError::Hours)?, minute(to).ok_or(WindowError::Hours)?);
        if from == to || from == DAY_END || to == 0 {
            return Err(WindowError::Empty);
        }
        let zone = TimeZone::get(zone).map_err(|_| WindowError::Zone)?;
        Ok(Self { text: text.to_owned(), days, from, to, zone })
    }

    pub fn holds(&self, now: Time) -> bool {
        let Ok(seconds) = i64::try_from(now.unix_seconds()) else { return false };
        let Ok(stamp) = jiff::Timestamp::from_second(seconds) else { return false };
        let local = stamp.to_zoned(self.zone.clone());
        let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        let on = |day: Weekday| is_on(&self.days, day);
        let today = local.weekday();
        if self.from < self.to {
            on(today) && (self.from..self.to).contains(&minute)
        } else {
            (on(today) && minute >= self.from) || (on(today.previous()) && minute < self.to)
        }
    }
}

pub(super) fn is_on(days: &[bool; 7], day: Weekday) -> bool {
    days.get(usize::from(day.to_monday_zero_offset().unsigned_abs())).copied().unwrap_or(false)
}

/// `Mon-Fri`, `Sat`, `Mon,Wed`, `Fri-Mon`; letters of either case.
pub(super) fn parse_days(text: &str) -> Option<[bool; 7]> {
    let day = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        for step in 0..=(last + 7 - first) % 7 {
            *days.get_mut((first + step) % 7)? = true;
        }
    }
    Some(days)
}

/// `18:00`; `24:00` is the end of the day.
pub(super) fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let digits =
        |part: &str| (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<u16>().ok())?;
    let (hour, minute) = (digits(hour)?, digits(minute)?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= DAY_END).then_some(total)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(window: &str, at: &str) -> bool {
        Window::parse(window).unwrap().holds(Time::parse_rfc3339(at).unwrap())
    }

    #[test]
    fn a_night_belongs_to_the_day_it_begins_on() {
        // 2026-11-20 is a Friday.
        let nights = "Mon-Fri 18:00-06:00 UTC";
        for (at, expected) in [
            ("2026-11-20T17:59:59Z", false),
            ("2026-11-20T18:00:00Z", true),
            ("2026-11-21T05:59:59Z", true),
            ("2026-11-21T06:00:00Z", false),
            ("2026-11-21T18:00:00Z", false),
            ("2026-11-23T05:00:00Z", false),
            ("2026-11-23T18:00:00Z", true),
        ] {
            assert_eq!(holds(nights, at), expected, "{at}");
        }
    }

    #[test]
    fn hours_are_those_of_the_zone() {
        assert!(holds("Mon-Sun 08:00-17:30 Europe/Berlin", "2026-11-22T07:00:00Z"));
        assert!(!holds("Mon-Sun 08:00-17:30 Europe/Berlin", "2026-11-22T16:30:00Z"));
        assert!(holds("Mon-Sun 08:00-17:30 Europe/Berlin", "2026-07-22T06:00:00Z"));
        assert!(holds("sat,SUN 00:00-24:00 UTC", "2026-11-22T23:59:59Z"));
        assert!(holds("Fri-Mon 00:00-24:00 UTC", "2026-11-23T00:00:00Z"));
    }

    #[test]
    fn what_is_not_a_window_says_which_part() {
        for (text, error) in [
            ("", WindowError::Parts),
            ("Mon-Fri 18:00-06:00", WindowError::Parts),
            ("Mo-Fr 18:00-06:00 UTC", WindowError::Days),
            ("Mon- 18:00-06:00 UTC", WindowError::Days),
            ("Mon 18-6 UTC", WindowError::Hours),
            ("Mon 6pm-6am UTC", WindowError::Hours),
            ("Mon 08:60-09:00 UTC", WindowError::Hours),
            ("Mon 08:00-24:01 UTC", WindowError::Hours),
            ("Mon +8:00-09:00 UTC", WindowError::Hours),
            ("Mon 08:00-08:00 UTC", WindowError::Empty),
            ("Mon 08:00-00:00 UTC", WindowError::Empty),
            ("Mon 08:00-09:00 CET/Berlin", WindowError::Zone),
        ] {
            assert_eq!(Window::parse(text).unwrap_err(), error, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_and_time_are_answered(text: String, now: u64) {
            let _ = Window::parse(&text);
            let _ = Window::parse("Mon-Fri 18:00-06:00 UTC").unwrap().holds(Time(now));
        }
    }
}
