//! Names in the server's own log: as they are, or not at all. Set once, before anything is forked that logs; whoever writes a
//! line with a name in it asks here. What the audit log does with names is the ledger's.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::vpath::VirtualPath;

static HIDDEN: AtomicBool = AtomicBool::new(false);

/// From now on no name is shown.
pub fn hide_names() {
    HIDDEN.store(true, Ordering::SeqCst);
}

fn hidden() -> bool {
    HIDDEN.load(Ordering::SeqCst)
}

/// A name for a line of the log.
pub struct Shown<'a, T: ?Sized>(pub &'a T);

impl<T: fmt::Display + ?Sized> fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if hidden() { f.write_str("(hidden)") } else { self.0.fmt(f) }
    }
}

/// Words that may repeat the name of what they are about.
pub fn about<'a>(words: &'a str, path: Option<&VirtualPath>) -> Cow<'a, str> {
    match path.filter(|path| hidden() && !path.is_root()) {
        Some(path) => without(words, path).into(),
        None => words.into(),
    }
}

fn without(words: &str, path: &VirtualPath) -> String {
    let words = words.replace(&path.to_string(), "(hidden)");
    match path.name().map(|name| crate::names::escaped(name.as_bytes())).filter(|name| name.len() > 2) {
        Some(name) => words.replace(&name, "(hidden)"),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lose_the_path_and_the_name() {
        let path = VirtualPath::parse(b"/lab/doe.dcm").unwrap();
        assert_eq!(without("no /lab/doe.dcm: doe.dcm is gone", &path), "no (hidden): (hidden) is gone");
        assert_eq!(without("nothing of the sort", &path), "nothing of the sort");
    }
}
