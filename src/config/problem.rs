//! What is wrong with a file, for the person who will mend it: where, the line itself with a caret, and what to write
//! instead. All problems of a load are shown at once.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use crate::names::escaped;

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

/// How long a line of hint or source may get off a terminal, where nothing wraps it.
const WIDTH: usize = 120;

impl Problem {
    /// Of the file as a whole.
    pub fn of_file(
        severity: Severity,
        file: impl Into<PathBuf>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { severity, file: file.into(), place: None, message: message.into(), hint: Some(hint.into()) }
    }

    /// Several lines: the message, `file:line:column`, the line with a caret, the hint. Colours on a terminal only.
    pub fn render(&self, terminal: bool) -> String {
        let renderer = if terminal { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(WIDTH);
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        // What a file holds may be quoted in a message; it must not steer the reader's terminal.
        let message = printable(&self.message);
        let path = escaped(self.file.as_os_str().as_encoded_bytes());
        let title = level.primary_title(message);
        let mut report = match &self.place {
            Some(place) => {
                let annotation = AnnotationKind::Primary.span(place.clamped());
                title.element(Snippet::source(place.source.as_ref()).path(path).annotation(annotation))
            }
            None => title.element(Origin::path(path)),
        };
        if let Some(hint) = &self.hint {
            report = report.element(Level::HELP.with_name("hint").message(printable(hint)));
        }
        renderer.render(&[report])
    }

    /// For a log or an audit event: `acme.toml:10:1: unknown key …`.
    pub fn one_line(&self) -> String {
        let file = escaped(self.file.file_name().unwrap_or(self.file.as_os_str()).as_encoded_bytes());
        let message = escaped(self.message.as_bytes());
        match (self.line(), self.column()) {
            (Some(line), Some(column)) => format!("{file}:{line}:{column}: {message}"),
            _ => format!("{file}: {message}"),
        }
    }

    /// Of the file as a whole, for a terminal: its path and the message.
    pub fn one_line_of_path(&self) -> String {
        format!("{}: {}", escaped(self.file.as_os_str().as_encoded_bytes()), printable(&self.message))
    }

    /// From 1; `None` for a problem of the file as a whole.
    pub fn line(&self) -> Option<usize> {
        self.place.as_ref().map(|place| 1 + place.before().matches('\n').count())
    }

    /// In characters, from 1.
    pub fn column(&self) -> Option<usize> {
        self.place.as_ref().map(|place| 1 + place.before().rsplit('\n').next().unwrap_or("").chars().count())
    }

    /// The line it is on.
    pub fn line_text(&self) -> Option<&str> {
        let place = self.place.as_ref()?;
        place.source.lines().nth(place.before().matches('\n').count())
    }
}

impl SourcePlace {
    /// The span, moved onto characters and into the text: whatever a parser says, showing it must not fail.
    fn clamped(&self) -> Range<usize> {
        let floor = |mut at: usize| {
            at = at.min(self.source.len());
            while !self.source.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = floor(self.span.start);
        start..floor(self.span.end).max(start)
    }

    fn before(&self) -> &str {
        self.source.get(..self.clamped().start).unwrap_or("")
    }
}

impl Problems {
    /// The first error in one line, and how many more there are.
    pub fn summary(&self) -> String {
        let mut errors = self.0.iter().filter(|problem| problem.severity == Severity::Error);
        let first = errors.next().map_or_else(String::new, Problem::one_line);
        match errors.count() {
            0 => first,
            more => format!("{first} (and {more} more)"),
        }
    }

    pub fn render(&self, terminal: bool) -> String {
        self.0.iter().map(|problem| problem.render(terminal)).collect::<Vec<_>>().join("\n\n")
    }
}

/// Without control characters, line ends aside.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

impl std::error::Error for Problems {}

/// Plain, as for a log.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}
