//! The voice of every command: lines and aligned tables for people on standard output, one JSON document for scripts
//! with `--json`, `error:`, `hint:` and `warning:` on standard error. Colour only where a terminal shows it and
//! `NO_COLOR` is not set. No other file of the program prints.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::failure::Failure;

/// Where and how a command speaks.
#[derive(Clone, Copy, Debug)]
pub struct Say {
    json: bool,
    out_colour: bool,
    err_colour: bool,
}

/// Rows under a heading, each column as wide as its widest cell.
pub struct Table {
    heads: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// The few ways a text may stand out. The numbers are ECMA-48 SGR codes.
#[derive(Clone, Copy, Debug)]
pub enum Tone {
    Strong = 1,
    Quiet = 2,
    Bad = 31,
    Good = 32,
    Unsure = 33,
    Tip = 36,
}

impl Say {
    pub fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            json,
            out_colour: wanted && !json && io::stdout().is_terminal(),
            err_colour: wanted && io::stderr().is_terminal(),
        }
    }

    /// Whether the caller asked for JSON: then people's lines are not printed.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether standard output shows colour.
    pub fn has_colour(&self) -> bool {
        self.out_colour
    }

    /// Whether standard error shows colour.
    pub fn err_has_colour(&self) -> bool {
        self.err_colour
    }

    /// A line for people. Silent with `--json`.
    pub fn line(&self, text: impl Display) {
        if !self.json {
            self.raw(format_args!("{text}\n"));
        }
    }

    /// Text as it is, whatever the flags: a receipt, an exported event.
    pub fn raw(&self, text: impl Display) {
        put(&mut io::stdout().lock(), text);
    }

    /// One JSON document on one line.
    pub fn json(&self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(text) => self.raw(format_args!("{text}\n")),
            Err(e) => self.warn(format_args!("this answer does not fit into JSON: {e}")),
        }
    }

    /// `text` in a tone, where standard output shows one.
    pub fn tone(&self, tone: Tone, text: impl Display) -> String {
        painted(self.out_colour, tone, text)
    }

    pub fn table(&self, table: &Table) {
        for line in table.lines(self.out_colour) {
            self.line(line);
        }
    }

    /// Two columns without a heading: what a thing is, and its value.
    pub fn facts(&self, facts: &[(&str, String)]) {
        let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in facts {
            let name = format!("{name:width$}");
            self.line(format_args!("{}  {value}", self.tone(Tone::Quiet, name)));
        }
    }

    pub fn warn(&self, text: impl Display) {
        put(&mut io::stderr().lock(), format_args!("{} {text}\n", painted(self.err_colour, Tone::Unsure, "warning:")));
    }

    /// Progress and asides for people, on standard error so that a pipe stays clean.
    pub fn aside(&self, text: impl Display) {
        put(&mut io::stderr().lock(), format_args!("{text}\n"));
    }

    pub fn failure(&self, failure: &Failure) {
        let mut text = format!("{} {}\n", painted(self.err_colour, Tone::Bad, "error:"), failure.message);
        if let Some(hint) = &failure.hint {
            text.push_str(&format!("{} {hint}\n", painted(self.err_colour, Tone::Tip, "hint:")));
        }
        put(&mut io::stderr().lock(), text);
    }
}

impl Table {
    pub fn new(heads: &[(&'static str, Align)]) -> Self {
        Self { heads: heads.to_vec(), rows: Vec::new() }
    }

    /// Cells beyond the heads are dropped, missing ones are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().take(self.heads.len()).collect());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Its lines without colour.
    pub fn plain(&self) -> Vec<String> {
        self.lines(false)
    }

    fn lines(&self, colour: bool) -> Vec<String> {
        let widths: Vec<usize> = self
            .heads
            .iter()
            .enumerate()
            .map(|(i, (head, _))| {
                let cells = self.rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count());
                cells.chain([head.chars().count()]).max().unwrap_or(0)
            })
            .collect();
        let heads: Vec<String> = self.heads.iter().map(|(head, _)| (*head).to_owned()).collect();
        let mut lines = vec![painted(colour, Tone::Quiet, self.aligned(&heads, &widths))];
        lines.extend(self.rows.iter().map(|row| self.aligned(row, &widths)));
        lines
    }

    fn aligned(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (i, ((_, align), &width)) in self.heads.iter().zip(widths).enumerate() {
            let cell = cells.get(i).map_or("", String::as_str);
            match align {
                Align::Left => line.push_str(&format!("{cell:<width$}")),
                Align::Right => line.push_str(&format!("{cell:>width$}")),
            }
            line.push_str("  ");
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// `17 B`, `1.5 KiB`, `2.0 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = UNITS[0];
    for name in UNITS {
        value /= 1024.0;
        unit = name;
        // 1023.95 would be printed as 1024.0.
        if value < 1023.95 {
            break;
        }
    }
    format!("{value:.1} {unit}")
}

/// `1 drop`, `2 drops`.
pub fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

fn painted(colour: bool, tone: Tone, text: impl Display) -> String {
    if colour { format!("\u{1b}[{}m{text}\u{1b}[0m", tone as u8) } else { text.to_string() }
}

/// Words for a reader that may go (`sealdrop check | head`): from then on they are not written, and the exit code still
/// says how the command ended.
pub struct WhileRead<W> {
    out: W,
    gone: bool,
}

impl<W: Write> WhileRead<W> {
    pub fn new(out: W) -> Self {
        Self { out, gone: false }
    }

    fn unless_gone<T>(&mut self, done: T, write: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        if self.gone {
            return Ok(done);
        }
        match write(&mut self.out) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(done)
            }
            written => written,
        }
    }
}

impl<W: Write> Write for WhileRead<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_gone(bytes.len(), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_gone((), |out| out.flush())
    }
}

/// A reader that has gone (`sealdrop audit | head`) leaves nobody to tell: the command ends as if it were done.
fn put(out: &mut impl Write, text: impl Display) {
    // In one piece, so that no other process's words get between.
    if let Err(e) = out.write_all(text.to_string().as_bytes()).and_then(|()| out.flush())
        && e.kind() == io::ErrorKind::BrokenPipe
    {
        std::process::exit(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_no_line_ends_in_blanks() {
        let mut table = Table::new(&[("PATH", Align::Left), ("SIZE", Align::Right), ("TO", Align::Left)]);
        table.row(["/a/längeres.dcm".to_owned(), size(17), "lab".to_owned()]);
        table.row(["/b".to_owned(), size(1536), String::new()]);
        assert_eq!(
            table.lines(false),
            ["PATH                SIZE  TO", "/a/längeres.dcm     17 B  lab", "/b               1.5 KiB"]
        );
    }

    #[test]
    fn sizes_are_short_and_carry_their_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn colour_is_added_only_where_it_shows() {
        assert_eq!(painted(false, Tone::Bad, "error:"), "error:");
        assert_eq!(painted(true, Tone::Bad, "error:"), "\u{1b}[31merror:\u{1b}[0m");
    }
}
