//! Name patterns: `*.dcm`, `.in.*`. Matched on the file name alone, bytes and all, whole name or not at all.
//! Compiled once when the policy is loaded. No I/O here.

use std::fmt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::names::FileName;

/// A list of patterns, any of which may match.
#[derive(Clone)]
pub struct Patterns {
    texts: Vec<String>,
    any_case: bool,
    set: GlobSet,
}

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("a pattern is matched against the file name alone and cannot hold `/`")]
    Slash,
    #[error("an empty pattern matches nothing")]
    Empty,
    #[error("{0}")]
    Syntax(String),
}

/// The names under which WinSCP, rclone, lftp, browsers, rsync and office programs write before they rename.
pub const TEMP_NAMES: [&str; 8] = ["*.filepart", "*.partial", "*.part", "*.tmp", "*.temp", "*.upload", ".in.*", "~*"];

impl Patterns {
    /// `Err` names the index of the first bad pattern.
    pub fn new<T: AsRef<str>>(texts: &[T], any_case: bool) -> Result<Self, (usize, PatternError)> {
        let mut set = GlobSetBuilder::new();
        for (index, text) in texts.iter().enumerate() {
            set.add(Self::compile(text.as_ref(), any_case).map_err(|error| (index, error))?);
        }
        let set = set.build().map_err(|error| (0, PatternError::Syntax(error.kind().to_string())))?;
        Ok(Self { texts: texts.iter().map(|text| text.as_ref().to_owned()).collect(), any_case, set })
    }

    /// Matches nothing.
    pub fn none() -> Self {
        Self { texts: Vec::new(), any_case: false, set: GlobSet::empty() }
    }

    /// [`TEMP_NAMES`].
    pub fn temp_names() -> Self {
        Self::new(&TEMP_NAMES, true).unwrap_or_else(|_| Self::none())
    }

    fn compile(text: &str, any_case: bool) -> Result<globset::Glob, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.contains('/') {
            return Err(PatternError::Slash);
        }
        let mut glob = GlobBuilder::new(text);
        // A backslash quotes the next character on every platform; `{a,b}` is a choice.
        glob.case_insensitive(any_case).backslash_escape(true).literal_separator(false);
        glob.build().map_err(|error| PatternError::Syntax(error.kind().to_string()))
    }

    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    pub fn matches(&self, name: &FileName) -> bool {
        self.first(name).is_some()
    }

    /// The text of the first pattern that matches.
    pub fn first(&self, name: &FileName) -> Option<&str> {
        let hit = self.set.matches(name.as_os_str()).into_iter().min()?;
        self.texts.get(hit).map(String::as_str)
    }

    /// Whether `A.DCM` is taken for `a.dcm`.
    pub fn any_case(&self) -> bool {
        self.any_case
    }

    pub fn texts(&self) -> &[String] {
        &self.texts
    }
}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.texts).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(bytes: &[u8]) -> FileName {
        FileName::new(bytes).unwrap()
    }

    #[test]
    fn a_pattern_matches_the_whole_name_whatever_its_bytes() {
        let dcm = Patterns::new(&["*.dcm", "scan-[0-9].zip"], false).unwrap();
        for yes in [&b"a.dcm"[..], b".dcm", b"\xff\xfe.dcm", b"a\n.dcm", b"scan-7.zip"] {
            assert!(dcm.matches(&name(yes)), "{yes:?}");
        }
        for no in [&b"a.dcm.exe"[..], b"a.DCM", b"dcm", b"scan-77.zip"] {
            assert!(!dcm.matches(&name(no)), "{no:?}");
        }
        assert!(Patterns::new(&["*.dcm"], true).unwrap().matches(&name(b"A.DCM")));
        assert_eq!(dcm.first(&name(b"scan-1.zip")), Some("scan-[0-9].zip"));
        assert!(!Patterns::none().matches(&name(b"a")));
    }

    #[test]
    fn a_bad_pattern_is_named() {
        assert_eq!(Patterns::new(&["*", "in/*"], false).unwrap_err(), (1, PatternError::Slash));
        assert_eq!(Patterns::new(&[""], false).unwrap_err(), (0, PatternError::Empty));
        assert!(matches!(Patterns::new(&["a", "[z"], false), Err((1, PatternError::Syntax(_)))));
    }

    #[test]
    fn the_temp_names_of_common_clients_are_known() {
        let temp = Patterns::temp_names();
        for yes in ["a.dcm.filepart", "a.1a2b3c4d.partial", ".in.a.dcm", "~a.docx", "A.TMP", "a.upload"] {
            assert!(temp.matches(&name(yes.as_bytes())), "{yes}");
        }
        assert!(!temp.matches(&name(b"a.dcm")) && !temp.matches(&name(b"partial.zip")));
    }
}
