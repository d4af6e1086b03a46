//! What is wrong with a file, for the person who will mend it: where, the line itself with a caret, and what to write
//! instead. All problems of a load are shown at once.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// One thing to mend, or to think about.
#[derive(Clone, Debug)]
pub struct Problem {
    pub severity: Severity,
    pub file: PathBuf,
    /// `None` where the file itself is the problem: missing, unreadable, badly owned.
    pub place: Option<SourcePlace>,
    pub message: String,
    pub hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// Legal but unwise.
    Warning,
}

/// A range of a file's text.
#[derive(Clone, Debug)]
pub struct SourcePlace {
    pub source: Arc<str>,
    /// In bytes.
    pub span: Range<usize>,
}

/// Why a configuration was not loaded: at least one error, and the warnings beside it.
#[derive(Clone, Debug)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{}", problem.message)?;
        }
        Ok(())
    }
}
