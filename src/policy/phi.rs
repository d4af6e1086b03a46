//! Names that look like they tell who a patient is: a record number, a date, a person's name as DICOM writes it. Each kind is
//! one pass over the bytes of a name, so that none can be made slow. They know forms, not people: what they let through
//! is not thereby anonymous. No I/O here.

use std::fmt;

use crate::vpath::VirtualPath;

/// What a name may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phi {
    /// `MRN-0012345`, `pid_7731`: the word for a record number, and digits.
    Mrn,
    /// `19610423`, `1961-04-23`, `23.04.1961`, `4_23_1961`.
    Date,
    /// `DOE^JOHN`, `Doe, John`: DICOM's person name, or a list's.
    PersonName,
}

/// Words that stand before a record number, in small letters.
const NUMBERED: [&[u8]; 6] = [b"mrn", b"pid", b"patid", b"patientid", b"patient", b"pat"];

/// Fewer digits after such a word are a counter.
const MRN_DIGITS: usize = 3;

impl Phi {
    pub const ALL: [Self; 3] = [Self::Mrn, Self::Date, Self::PersonName];

    /// As it is written in a policy.
    pub fn word(self) -> &'static str {
        match self {
            Self::Mrn => "mrn",
            Self::Date => "date",
            Self::PersonName => "person-name",
        }
    }

    pub fn is_in(self, name: &[u8]) -> bool {
        match self {
            Self::Mrn => has_mrn(name),
            Self::Date => has_date(name),
            Self::PersonName => has_person_name(name),
        }
    }
}

/// The first of `kinds` that any name of the path looks like.
pub fn found(kinds: &[Phi], path: &VirtualPath) -> Option<Phi> {
    path.components().find_map(|name| kinds.iter().copied().find(|kind| kind.is_in(name)))
}

/// A word of [`NUMBERED`] that no letter stands before, at most two signs that are neither letter nor digit, digits.
fn has_mrn(name: &[u8]) -> bool {
    let mut before = b' ';
    for at in 0..name.len() {
        let starts = !before.is_ascii_alphabetic();
        before = name[at];
        let rest = &name[at..];
        if starts && NUMBERED.iter().any(|word| is_numbered(rest, word)) {
            return true;
        }
    }
    false
}

fn is_numbered(text: &[u8], word: &[u8]) -> bool {
    let Some((head, rest)) = text.split_at_checked(word.len()) else { return false };
    let signs = rest.iter().take(2).take_while(|b| !b.is_ascii_alphanumeric()).count();
    head.eq_ignore_ascii_case(word) && digits(&rest[signs..]) >= MRN_DIGITS
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|b| b.is_ascii_digit()).count()
}

/// Eight digits that are a year, month and day; or three numbers between two equal signs that are, in either order.
fn has_date(name: &[u8]) -> bool {
    let mut at = 0;
    while at < name.len() {
        if !name[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let run = digits(&name[at..]);
        let rest = &name[at..];
        if run == 8 && is_date(number(&rest[..4]), number(&rest[4..6]), number(&rest[6..8])) || is_written_date(rest) {
            return true;
        }
        at += run;
    }
    false
}

/// `text` begins with digits, before which there is none.
fn is_written_date(text: &[u8]) -> bool {
    let first = digits(text);
    let Some(sign) = text.get(first).copied().filter(|sign| b"-./_ ".contains(sign)) else { return false };
    let rest = &text[first + 1..];
    let second = digits(rest);
    if !(1..=2).contains(&second) || rest.get(second) != Some(&sign) {
        return false;
    }
    let last = &rest[second + 1..];
    let third = digits(last);
    let [a, b, c] = [&text[..first], &rest[..second], &last[..third]].map(number);
    match (first, third) {
        (4, 1..=2) => is_date(a, b, c),
        // The day or the month first: both are written.
        (1..=2, 4) => is_date(c, b, a) || is_date(c, a, b),
        _ => false,
    }
}

/// Of at most four digits; what is longer is no part of a date.
fn number(digits: &[u8]) -> u32 {
    digits.iter().take(5).fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}

fn is_date(year: u32, month: u32, day: u32) -> bool {
    (1900..=2099).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day)
}

/// Letters, then `^` or a comma (and a space), then a letter. Bytes beyond ASCII are letters of some script.
fn has_person_name(name: &[u8]) -> bool {
    let letter = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphabetic() || !b.is_ascii());
    (1..name.len()).any(|at| {
        let next = match (name[at], name.get(at + 1)) {
            (b'^', _) => at + 1,
            (b',', Some(b' ')) => at + 2,
            (b',', _) => at + 1,
            _ => return false,
        };
        letter(name.get(at - 1)) && letter(name.get(next))
    })
}

impl fmt::Display for Phi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_kind_is_known_by_its_form() {
        for (kind, yes) in [
            (Phi::Mrn, &["MRN0012345.dcm", "scan_mrn-123.zip", "PatientID=4711", "pid_77310.hl7", "x-MRN: 123"][..]),
            (Phi::Date, &["19610423.dcm", "doe-1961-04-23.zip", "23.04.1961", "4_23_1961.pdf", "x19991231y"]),
            (Phi::PersonName, &["DOE^JOHN.dcm", "Doe, John.pdf", "DOE,JOHN", "Müller^Jörg", "DOE^JOHN^^^DR"]),
        ] {
            for name in yes {
                assert!(kind.is_in(name.as_bytes()), "{kind}: {name}");
            }
        }
    }

    #[test]
    fn what_only_resembles_it_is_none() {
        for name in [
            "1.2.840.113619.2.55.3.604688119.971.1192.dcm",
            "CT000017.dcm",
            "rapid123.zip",
            "pid-7.log",
            "19611423.bin",
            "20261150",
            "119610423.dcm",
            "v1.2.2026.1",
            "a^2.txt",
            "x, 1.txt",
            ",",
            "^",
            "",
        ] {
            let like: Vec<Phi> = Phi::ALL.into_iter().filter(|kind| kind.is_in(name.as_bytes())).collect();
            // Two numbers and a year are a date, whatever else they were meant to be.
            let expected = if name == "v1.2.2026.1" { vec![Phi::Date] } else { vec![] };
            assert_eq!(like, expected, "{name}");
        }
    }

    #[test]
    fn every_name_of_a_path_is_looked_at() {
        let path = |text: &str| VirtualPath::parse(text.as_bytes()).unwrap();
        assert_eq!(found(&Phi::ALL, &path("/radiology/DOE^JOHN/a.dcm")), Some(Phi::PersonName));
        assert_eq!(found(&[Phi::Date], &path("/radiology/DOE^JOHN/a.dcm")), None);
        assert_eq!(found(&[], &path("/19610423")), None);
    }

    proptest! {
        #[test]
        fn any_name_is_looked_at_without_a_panic(name in proptest::collection::vec(any::<u8>(), 0..300)) {
            for kind in Phi::ALL {
                let _ = kind.is_in(&name);
            }
        }
    }
}
