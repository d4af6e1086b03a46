//! Where the server's log goes: to standard error, which under systemd is the journal. Each line has its priority there, as
//! sd-daemon(3) has it, so that `journalctl -p warning` and what forwards the journal can tell an alarm from the rest.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogFormat};

/// From here on what the server has to say is written.
pub fn begin(settings: &Log) {
    let filter = EnvFilter::try_from_env("SEALDROP_LOG").unwrap_or_else(|_| EnvFilter::new(settings.level.as_str()));
    let stream = std::env::var("JOURNAL_STREAM").ok();
    let to = Lines { priorities: stream.is_some_and(|stream| is_stderr(&stream)) };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(to).with_target(false);
    match (settings.format, to.priorities) {
        (LogFormat::Json, _) => log.json().init(),
        // The journal has a time of its own for each line.
        (LogFormat::Text, true) => log.with_ansi(false).without_time().init(),
        (LogFormat::Text, false) => log.with_ansi(io::stderr().is_terminal()).init(),
    }
}

/// Whether standard error is the stream that systemd named: `device:inode`. The variable is inherited by who has redirected it.
fn is_stderr(stream: &str) -> bool {
    let about = io::stderr().as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    about.is_ok_and(|about| stream == format!("{}:{}", about.dev(), about.ino()))
}

#[derive(Clone, Copy)]
struct Lines {
    priorities: bool,
}

/// One event's line.
struct Line<W> {
    priority: &'static str,
    to: W,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<io::Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { priority: "", to: io::stderr() }
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Self::Writer {
        let priority = if self.priorities { priority(*about.level()) } else { "" };
        Line { priority, to: io::stderr() }
    }
}

/// syslog(3): 3 error, 4 warning, 6 informational, 7 debug.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

impl<W: Write> Write for Line<W> {
    /// In one piece, so that no other process's words get between.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.priority.is_empty() {
            return self.to.write(line);
        }
        self.to.write_all(&[self.priority.as_bytes(), line].concat())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_the_journal_begins_with_its_priority() {
        let mut written = Vec::new();
        Line { priority: priority(Level::WARN), to: &mut written }.write_all(b"alarm: x\n").unwrap();
        Line { priority: "", to: &mut written }.write_all(b"plain\n").unwrap();
        assert_eq!(written, b"<4>alarm: x\nplain\n");
        assert!(!is_stderr("0:0"));
    }
}
