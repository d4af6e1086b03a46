//! `--range`: which bytes of a plaintext are asked for, in the notation of HTTP and of `curl --range`.

use std::ops::Range;
use std::str::FromStr;

use crate::cli::failure::Failure;

/// Part of a plaintext, as in HTTP: `FIRST-LAST`, `FIRST-`, `-COUNT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    From(u64, Option<u64>),
    Last(u64),
}

impl FromStr for ByteRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "a range is FIRST-LAST, FIRST- or -COUNT, in bytes";
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<u64>().ok()).flatten().ok_or(WRONG)
        };
        match text.split_once('-').ok_or(WRONG)? {
            ("", count) => Ok(Self::Last(number(count)?)),
            (first, "") => Ok(Self::From(number(first)?, None)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last { Err("a range ends after it begins") } else { Ok(Self::From(first, Some(last))) }
            }
        }
    }
}

impl ByteRange {
    /// The bytes meant in a file of this size, which has at least one of them.
    pub fn of(self, size: u64) -> Result<Range<u64>, Failure> {
        let range = match self {
            Self::From(first, last) => first..last.map_or(size, |last| size.min(last.saturating_add(1))),
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        if range.start < range.end {
            return Ok(range);
        }
        Err(Failure::new("no byte of the file is in the range").hint(format_args!("it has {size} bytes")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_what_http_means_by_it_and_nothing_else() {
        let of = |text: &str| text.parse::<ByteRange>().ok().and_then(|range| range.of(10).ok());
        assert_eq!(of("0-0"), Some(0..1));
        assert_eq!(of("3-99"), Some(3..10));
        assert_eq!(of("3-"), Some(3..10));
        assert_eq!(of("-4"), Some(6..10));
        assert_eq!(of("-99"), Some(0..10));
        for nothing in ["10-", "-0", "11-12", "", "-", "5", "5-4", "a-b", "+1-2", "1-2-3", "99999999999999999999-"] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
    }
}
