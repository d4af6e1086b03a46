//! One file's text and every complaint about it. Nothing is made from a file that has an error, and what may be a secret
//! in it is never shown. `table` reads the values.

use std::cell::{OnceCell, RefCell};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeTable;

use crate::config::problem::{Problem, Severity, SourcePlace};

/// A file's text and what is wrong with it.
pub struct Reader {
    pub file: PathBuf,
    pub text: Arc<str>,
    problems: RefCell<Vec<Problem>>,
    /// Ranges never to be shown.
    secrets: RefCell<Vec<Range<usize>>>,
    template: OnceCell<Template>,
}

/// A second text that the file takes from. Its spans begin where those of the file end.
struct Template {
    file: PathBuf,
    text: Arc<str>,
    /// With as much before it as the file is long.
    behind: String,
    user: String,
}

impl Reader {
    pub fn new(file: &Path, text: Arc<str>) -> Self {
        Self {
            file: file.to_owned(),
            text,
            problems: RefCell::default(),
            secrets: RefCell::default(),
            template: OnceCell::new(),
        }
    }

    /// The document, or nothing after syntax errors: a guess at what a broken file means would hide its one fault
    /// under many.
    pub fn parse(&self) -> Option<Spanned<DeTable<'_>>> {
        let (document, errors) = DeTable::parse_recoverable(&self.text);
        if !errors.is_empty() {
            self.hide_passwords();
        }
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            self.error(span.clone(), format!("not TOML: {}", error.message()), self.syntax_hint(&span));
        }
        errors.is_empty().then_some(document)
    }

    /// The text of a template for `user`, to be parsed: a complaint about it names its file and the user.
    pub fn goes_on_with(&self, file: &Path, text: &Arc<str>, user: &str) -> &str {
        let made = || Template {
            file: file.to_owned(),
            text: text.clone(),
            behind: format!("{}\n{text}", " ".repeat(self.text.len())),
            user: user.to_owned(),
        };
        &self.template.get_or_init(made).behind
    }

    pub fn error(&self, span: Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.report(Severity::Error, span, message.into(), hint.into());
    }

    pub fn warn(&self, span: Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.report(Severity::Warning, span, message.into(), hint.into());
    }

    fn report(&self, severity: Severity, span: Range<usize>, message: String, hint: String) {
        let start = self.text.len() + 1;
        let hint = Some(hint).filter(|hint| !hint.is_empty());
        let problem = match self.template.get().filter(|_| span.start >= start) {
            None => {
                let place = Some(SourcePlace { source: self.text.clone(), span });
                Problem { severity, file: self.file.clone(), place, message, hint }
            }
            Some(template) => {
                let span = span.start - start..span.end.saturating_sub(start);
                let place = Some(SourcePlace { source: template.text.clone(), span });
                let message = format!("{message} (for user \"{}\")", template.user);
                Problem { severity, file: template.file.clone(), place, message, hint }
            }
        };
        self.problems.borrow_mut().push(problem);
    }

    pub fn has_errors(&self) -> bool {
        self.problems.borrow().iter().any(|problem| problem.severity == Severity::Error)
    }

    /// What stands there is shown to nobody, whatever is wrong near it: problems go to terminals and logs.
    pub fn hide(&self, span: Range<usize>) {
        self.secrets.borrow_mut().push(span);
    }

    /// In the order of the text.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        let at = |problem: &Problem| problem.place.as_ref().map(|place| place.span.start);
        problems.sort_by_key(|problem| (problem.file != self.file, at(problem)));
        let secrets = self.secrets.into_inner();
        if !secrets.is_empty() {
            let start = self.text.len() + 1;
            let (behind, own): (Vec<_>, Vec<_>) = secrets.into_iter().partition(|span| span.start >= start);
            let behind: Vec<_> = behind.into_iter().map(|span| span.start - start..span.end - start).collect();
            let own = masked(&self.text, &own);
            let theirs = self.template.get().map(|template| masked(&template.text, &behind));
            for problem in &mut problems {
                let shown = if problem.file == self.file { Some(&own) } else { theirs.as_ref() };
                if let (Some(place), Some(shown)) = (problem.place.as_mut(), shown) {
                    place.source = shown.clone();
                }
            }
        }
        problems
    }

    /// In a file that cannot be parsed, what stands after `password =` may still be one.
    fn hide_passwords(&self) {
        let mut start = 0;
        for line in self.text.split_inclusive('\n') {
            if line.trim_start().starts_with("password")
                && let Some(at) = line.find('=')
            {
                self.hide(start + at + 1..start + line.len());
            }
            start += line.len();
        }
    }

    /// What people get wrong in TOML itself.
    fn syntax_hint(&self, span: &Range<usize>) -> String {
        let start = self.text.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        let line = self.text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or("").trim();
        match line.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            Some((name, value)) if value.starts_with(|c: char| c.is_alphanumeric()) && !value.contains(['"', '\'']) => {
                format!("text stands in quotes: {name} = \"{value}\"")
            }
            Some((name, "")) => format!("the value is missing: {name} = …"),
            Some((_, value)) if value.matches('"').count() % 2 == 1 => "a quote is opened and not closed".to_owned(),
            None if line.contains(':') && !line.starts_with('[') => "TOML writes name = value, with `=`".to_owned(),
            _ => String::new(),
        }
    }
}

/// Every byte in `secrets` becomes a `*`, so that all other places stay where they are.
fn masked(text: &str, secrets: &[Range<usize>]) -> Arc<str> {
    let mut bytes = text.as_bytes().to_vec();
    for span in secrets {
        for byte in bytes.get_mut(span.clone()).unwrap_or_default().iter_mut().filter(|byte| !b"\r\n\"".contains(byte))
        {
            *byte = b'*';
        }
    }
    Arc::from(String::from_utf8_lossy(&bytes))
}
