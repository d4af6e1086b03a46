//! Sizes and durations as an admin writes them: a number and a unit, `"10 GiB"`, `"72h"`. Each is read once into a
//! value that cannot be mistaken for a bare number; what could mean two things is refused, never guessed. No I/O here.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// Why a text is not a size or a duration, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UnitError {
    pub message: String,
    pub hint: String,
}

impl UnitError {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// Binary and decimal units; both are exact, so both are taken.
const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Every accepted spelling and its length in seconds. Months and years are left out: they have no one length.
const SPANS: [(&[&str], u64); 5] = [
    (&["s", "sec", "second", "seconds"], 1),
    (&["min", "minute", "minutes"], 60),
    (&["h", "hour", "hours"], 3_600),
    (&["d", "day", "days"], 86_400),
    (&["w", "week", "weeks"], 604_800),
];

/// A hundred years: longer than any rule about records, and far from where adding it to a time could overflow.
const SPAN_MAX: u64 = 100 * 366 * 86_400;

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) =
            number_and_unit(text, "a size is a whole number and a unit", "write for example \"10 GiB\"")?;
        if let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) {
            let bytes = number.checked_mul(*factor);
            return bytes
                .map(Self)
                .ok_or_else(|| UnitError::new("this size is too large", "the largest is 16777215 TiB"));
        }
        let hint = match unit.to_ascii_lowercase().as_str() {
            "" => format!("give the unit: \"{number} MiB\", or \"{number} B\" for bytes"),
            "k" | "kb" | "kib" => format!("write \"{number} KiB\" (× 1024) or \"{number} kB\" (× 1000)"),
            "m" | "mb" | "mib" => format!("write \"{number} MiB\" (× 1024²) or \"{number} MB\" (× 1000²)"),
            "g" | "gb" | "gib" => format!("write \"{number} GiB\" (× 1024³) or \"{number} GB\" (× 1000³)"),
            "t" | "tb" | "tib" => format!("write \"{number} TiB\" (× 1024⁴) or \"{number} TB\" (× 1000⁴)"),
            _ => "the units are B, KiB, MiB, GiB, TiB, kB, MB, GB, TB".to_owned(),
        };
        Err(match unit {
            "" => UnitError::new("this size has no unit", hint),
            _ => UnitError::new(format!("`{unit}` is not a unit of size"), hint),
        })
    }
}

/// In the largest binary unit that divides it, so that what is shown can be pasted back.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = SIZES[..5].iter().rev().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match whole {
            Some((unit, factor)) => f.pad(&format!("{} {unit}", self.0 / factor)),
            None => f.pad(&format!("{} B", self.0)),
        }
    }
}

/// Reads `"72h"`, `"90 days"`, `"1d 12h"`.
pub fn parse_span(text: &str) -> Result<Duration, UnitError> {
    const WHAT: &str = "a duration is a whole number and a unit";
    const HOW: &str = "write for example \"72h\", \"90 days\" or \"1d 12h\"";
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(UnitError::new(WHAT, HOW));
    }
    let (mut total, mut smallest) = (0u64, u64::MAX);
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let after_number = rest[unit_at..].trim_start();
        let unit_len =
            after_number.find(|c: char| c.is_ascii_digit() || c.is_whitespace()).unwrap_or(after_number.len());
        let pair = format!("{} {}", &rest[..unit_at], &after_number[..unit_len]);
        let (number, unit) = number_and_unit(&pair, WHAT, HOW)?;
        rest = after_number[unit_len..].trim_start();
        let seconds = seconds_in(number, unit)?;
        if seconds >= smallest {
            return Err(UnitError::new("the units of a duration go from large to small, each once", HOW));
        }
        smallest = seconds;
        total = number
            .checked_mul(seconds)
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= SPAN_MAX)
            .ok_or_else(|| {
                UnitError::new("this duration is longer than a hundred years", "write \"never\" where never is meant")
            })?;
    }
    Ok(Duration::from_secs(total))
}

/// A duration as [`parse_span`] reads it: `72h`, `90s`, `14 days` stays `336h`.
pub fn show_span(span: Duration) -> String {
    match span.as_secs() {
        s if s > 0 && s.is_multiple_of(3_600) => format!("{}h", s / 3_600),
        s if s > 0 && s.is_multiple_of(60) => format!("{}min", s / 60),
        s => format!("{s}s"),
    }
}

/// When a drop expires, as it is written in a policy.
pub fn show_expiry(after: Option<Duration>, pickups: Option<u32>) -> String {
    match (after, pickups.map(show_pickups)) {
        (None, None) => "never".to_owned(),
        (Some(span), None) => show_span(span),
        (None, Some(pickups)) => format!("after {pickups}"),
        (Some(span), Some(pickups)) => format!("{} or after {pickups}", show_span(span)),
    }
}

/// `1 pickup`, `2 pickups`.
pub fn show_pickups(count: u32) -> String {
    format!("{count} pickup{}", if count == 1 { "" } else { "s" })
}

fn seconds_in(number: u64, unit: &str) -> Result<u64, UnitError> {
    if let Some((_, seconds)) = SPANS.iter().find(|(names, _)| names.contains(&unit)) {
        return Ok(*seconds);
    }
    let hint = match unit {
        "" => format!("give the unit: \"{number}s\", \"{number} min\", \"{number}h\", \"{number} days\""),
        "m" | "M" => format!(
            "`{unit}` could be minutes or months: write \"{number} min\" or \"{} days\"",
            number.saturating_mul(30)
        ),
        "month" | "months" | "mo" => format!("months differ in length: write \"{} days\"", number.saturating_mul(30)),
        "y" | "Y" | "year" | "years" => {
            format!("years differ in length: write \"{} days\"", number.saturating_mul(365))
        }
        "H" | "D" | "W" | "S" => format!("units are in lower case: \"{number}{}\"", unit.to_ascii_lowercase()),
        "ms" | "us" | "ns" => "the shortest unit is one second".to_owned(),
        _ => "the units are s, min, h, d, w, or the words: seconds, minutes, hours, days, weeks".to_owned(),
    };
    Err(match unit {
        "" => UnitError::new("this duration has no unit", hint),
        "m" | "M" | "month" | "months" | "mo" | "y" | "Y" | "year" | "years" => {
            UnitError::new(format!("`{unit}` is ambiguous as a unit of time"), hint)
        }
        _ => UnitError::new(format!("`{unit}` is not a unit of time"), hint),
    })
}

/// Splits `10 GiB`; fractions, signs and exponents are refused, as their rounding would be a guess.
fn number_and_unit<'a>(text: &'a str, what: &str, how: &str) -> Result<(u64, &'a str), UnitError> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if unit_at == 0 {
        return Err(UnitError::new(what, how));
    }
    let unit = text[unit_at..].trim();
    if unit.starts_with(['.', ',', '_']) {
        return Err(UnitError::new(
            "fractions and separators are not taken",
            "use a smaller unit: \"1536 MiB\", \"90 min\"",
        ));
    }
    let number = text[..unit_at].parse().map_err(|_| UnitError::new("this number is too large", how))?;
    Ok((number, unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_and_durations_are_read_exactly() {
        for (text, bytes) in [("10 GiB", 10 << 30), ("512MB", 512_000_000), (" 0 B ", 0), ("3 TiB", 3 << 40)] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for (text, seconds) in
            [("72h", 259_200), ("90 days", 7_776_000), ("1d 12h", 129_600), ("5min", 300), ("2 weeks", 1_209_600)]
        {
            assert_eq!(parse_span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_could_mean_two_things_is_refused_with_both_spellings() {
        for (text, hint) in
            [("1M", "MiB"), ("1 k", "kB"), ("10", "10 MiB"), ("10 gb", "10 GB"), ("1.5 GiB", "smaller unit")]
        {
            assert!(text.parse::<ByteSize>().unwrap_err().hint.contains(hint), "{text}");
        }
        for (text, hint) in
            [("1M", "min"), ("1y", "365 days"), ("2m", "60 days"), ("72", "72h"), ("72H", "72h"), ("1h 1d", "72h")]
        {
            assert!(parse_span(text).unwrap_err().hint.contains(hint), "{text}");
        }
        for text in ["", "h", "-1h", "99999999999999999999h", "9999999999h", "1h1h", "1e3h"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
        for text in ["", "GiB", "-1 B", "99999999999999 TiB", "99999999999999999999 B"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read_back(bytes: u64, seconds in 0..SPAN_MAX) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
            let span = Duration::from_secs(seconds);
            prop_assert_eq!(parse_span(&show_span(span)), Ok(span));
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text: String) {
            let _ = text.parse::<ByteSize>();
            let _ = parse_span(&text);
        }
    }
}
