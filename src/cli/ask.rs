//! Asking for a secret: on the terminal itself, whatever standard input is, and without showing what is typed; or from the
//! first line of a file.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use zeroize::Zeroizing;

use super::failure::Failure;
use super::output::cannot_read;
use crate::sys::terminal::Silence;

/// No secret that is taken is longer; what is longer is refused by whoever asked.
const BYTES_MAX: usize = 4096;

/// What is typed, without the end of its line. May be nothing.
pub fn ask(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let terminal = terminal()?;
    let mut said = terminal.try_clone().map_err(Failure::new)?;
    // Before the question: what is typed early is neither shown nor taken for the answer, and what comes after it is not lost.
    let mut silence = Silence::begin(&terminal)
        .map_err(|error| Failure::new(format_args!("the terminal cannot be silenced: {error}")))?;
    let _ = write!(said, "{prompt}").and_then(|()| said.flush());
    let answer = line(&mut BufReader::with_capacity(1, &mut silence), "typed");
    drop(silence);
    let _ = writeln!(said);
    answer
}

/// Says something on the terminal that is for nobody's log.
pub fn show(text: &str) -> Result<(), Failure> {
    writeln!(terminal()?, "{text}")
        .map_err(|error| Failure::new(format_args!("the terminal cannot be written: {error}")))
}

/// The first line of a file.
pub fn from_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let file = File::open(path).map_err(|error| cannot_read(path, &error))?;
    line(&mut BufReader::with_capacity(1, file), "read")
        .map_err(|failure| Failure { message: format!("{}: {}", path.display(), failure.message), ..failure })
}

/// One line without its end; `None` of bytes is an error.
pub fn line(from: &mut dyn BufRead, how: &str) -> Result<Zeroizing<String>, Failure> {
    // Room for the longest, so that no half-read copy is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(BYTES_MAX + 2));
    let read = Read::take(from, BYTES_MAX as u64 + 2).read_line(&mut text);
    let length = read.map_err(|error| Failure::new(format_args!("nothing could be {how}: {error}")))?;
    if length == 0 {
        return Err(Failure::new(format_args!("nothing was {how}")));
    }
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    Ok(text)
}

fn terminal() -> Result<File, Failure> {
    File::options().read(true).write(true).open("/dev/tty").map_err(|_| {
        Failure::new("there is no terminal to ask on")
            .hint("run it at a terminal; for a passphrase, --passphrase-file FILE takes the first line of a file")
    })
}
