//! Which events are shown: by who, what, where, when and how it ended. All that are given must hold.

use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use serde_json::Value;

use super::super::failure::Failure;
use crate::clock::{self, Time};
use crate::ledger::Kind;
use crate::names::{DropId, UserName};

/// As it is typed.
#[derive(clap::Args)]
pub struct Filter {
    /// Only this user's
    #[arg(long, value_name = "USER")]
    user: Option<UserName>,
    /// Only events of this kind, such as `upload-committed`; may be given again
    #[arg(long, value_name = "KIND", value_parser = parse_kind)]
    kind: Vec<Kind>,
    /// Only events at or below this path, or at paths that match a pattern such as `/radiology/*.dcm`
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Only events of this outcome
    #[arg(long, value_enum)]
    outcome: Option<OutcomeWord>,
    /// Only events of this drop
    #[arg(long, value_name = "DROP")]
    drop: Option<DropId>,
    /// Only events of this session
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// Only events from this time on: RFC 3339, a date, or how long ago (`2h`, `7d`)
    #[arg(long, value_name = "TIME", value_parser = parse_when)]
    since: Option<Time>,
    /// Only events before this time
    #[arg(long, value_name = "TIME", value_parser = parse_when)]
    until: Option<Time>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum OutcomeWord {
    Done,
    Refused,
    Failed,
}

/// Ready to choose.
pub struct Ready {
    filter: Filter,
    path: Option<Place>,
}

enum Place {
    Prefix(String),
    Pattern(Box<GlobMatcher>),
}

impl Filter {
    pub fn ready(self) -> Result<Ready, Failure> {
        let path = match &self.path {
            Some(path) if path.contains(['*', '?', '[', '{']) => {
                let glob = GlobBuilder::new(path).literal_separator(true).build();
                let glob = glob.map_err(|e| Failure::new(format_args!("`{path}` is not a pattern: {}", e.kind())))?;
                Some(Place::Pattern(Box::new(glob.compile_matcher())))
            }
            Some(path) => Some(Place::Prefix(path.clone())),
            None => None,
        };
        Ok(Ready { filter: self, path })
    }
}

impl Ready {
    pub fn wants(&self, event: &Value) -> bool {
        let filter = &self.filter;
        let word = |key: &str| event.get(key).and_then(Value::as_str);
        let is = |key: &str, wanted: Option<&str>| wanted.is_none_or(|wanted| word(key) == Some(wanted));
        let outcome = filter.outcome.map(|outcome| match outcome {
            OutcomeWord::Done => "done",
            OutcomeWord::Refused => "refused",
            OutcomeWord::Failed => "failed",
        });
        is("user", filter.user.as_ref().map(UserName::as_str))
            && (filter.kind.is_empty() || filter.kind.iter().any(|kind| word("kind") == Some(kind.word())))
            && is("outcome", outcome)
            && is("drop", filter.drop.map(|drop| drop.to_string()).as_deref())
            && is("session", filter.session.as_deref())
            && self
                .path
                .as_ref()
                .is_none_or(|place| [word("path"), word("to")].into_iter().flatten().any(|p| place.holds(p)))
            && self.in_time(word("at").and_then(Time::parse_rfc3339))
    }

    fn in_time(&self, at: Option<Time>) -> bool {
        let Filter { since, until, .. } = &self.filter;
        since.is_none_or(|since| at.is_some_and(|at| at >= since))
            && until.is_none_or(|until| at.is_some_and(|at| at < until))
    }
}

impl Place {
    fn holds(&self, path: &str) -> bool {
        match self {
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Self::Pattern(pattern) => pattern.is_match(path),
        }
    }
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    Kind::from_word(text).ok_or_else(|| {
        let near = Kind::ALL.iter().map(|kind| kind.word()).filter(|word| word.contains(text.trim_end_matches('s')));
        let near: Vec<_> = near.take(4).collect();
        match near.is_empty() {
            true => "there is no such kind of event; docs/ledger.md lists them".to_owned(),
            false => format!("there is no such kind of event; is it {}?", near.join(" or ")),
        }
    })
}

/// RFC 3339, a date (UTC), or a span before now.
pub fn parse_when(text: &str) -> Result<Time, String> {
    let date = || Time::parse_rfc3339(&format!("{text}T00:00:00Z"));
    let ago = || {
        let span: Duration = humantime::parse_duration(text).ok()?;
        let ms = u64::try_from(span.as_millis()).ok()?;
        Some(Time(clock::now().0.saturating_sub(ms)))
    };
    Time::parse_rfc3339(text)
        .or_else(date)
        .or_else(ago)
        .ok_or_else(|| "not a time: 2026-11-22T08:00:00Z, 2026-11-22, or how long ago, such as 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        filter: Filter,
    }

    fn wants(words: &[&str]) -> bool {
        let event = json!({
            "n": 4, "at": "2026-11-22T08:00:00.000Z", "kind": "upload-committed", "outcome": "done", "user": "acme",
            "path": "/radiology/ct/a.dcm", "drop": "01010101010101010101010101010101", "session": "0000000000000005",
        });
        let line = Line::try_parse_from([&["x"], words].concat()).map_err(|e| e.to_string()).unwrap();
        line.filter.ready().unwrap().wants(&event)
    }

    #[test]
    fn an_event_is_chosen_by_all_that_is_asked() {
        for words in [
            &[][..],
            &["--user", "acme", "--kind", "upload-committed", "--kind", "removed", "--outcome", "done"],
            &["--path", "/radiology"],
            &["--path", "/radiology/*/*.dcm"],
            &["--path", "**/*.dcm"],
            &["--drop", "01010101010101010101010101010101", "--session", "0000000000000005"],
            &["--since", "2026-11-22", "--until", "2026-11-23T00:00:00+01:00"],
        ] {
            assert!(wants(words), "{words:?}");
        }
        for words in [
            &["--user", "acm"][..],
            &["--kind", "removed"],
            &["--outcome", "refused"],
            &["--path", "/radiology/*.dcm"],
            &["--drop", "02010101010101010101010101010101"],
            &["--since", "2026-11-22T08:00:01Z"],
            &["--until", "2026-11-22T08:00:00Z"],
        ] {
            assert!(!wants(words), "{words:?}");
        }
    }

    #[test]
    fn how_long_ago_is_a_time() {
        let ago = parse_when("2h").unwrap();
        let now = clock::now();
        assert!((7_199_000..7_300_000).contains(&(now.0 - ago.0)));
        assert!(parse_when("soon").is_err());
        assert!(parse_kind("uploads").unwrap_err().contains("upload-committed"));
    }
}
