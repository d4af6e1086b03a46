//! Asking for a secret: on the terminal, which does not show what is typed, or from a descriptor that somebody handed over.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::Signal;
use nix::sys::termios::{self, LocalFlags, SetArg, Termios};
use zeroize::Zeroizing;

use super::children;
use super::held::Held;

/// Longer than any passphrase a person types.
const LINE_MAX: usize = 1024;

/// Asks on the terminal this process was started from, whatever its standard streams are.
pub fn ask(prompt: &str) -> io::Result<Zeroizing<String>> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    // Before the question: what is typed early is neither shown nor taken for the answer.
    let mut silence = Silence::begin(&terminal)?;
    (&terminal).write_all(prompt.as_bytes())?;
    let answer = line(&mut silence);
    drop(silence);
    terminal.write_all(b"\n")?;
    answer
}

/// The first line of what comes from `descriptor`.
pub fn read(descriptor: OwnedFd) -> io::Result<Zeroizing<String>> {
    line(&mut File::from(descriptor))
}

/// One line without its end. A byte at a time: what follows it is left for others.
fn line(from: &mut dyn Read) -> io::Result<Zeroizing<String>> {
    // Room for the longest, so that no half-read copy is left behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(LINE_MAX));
    let mut byte = Zeroizing::new([0; 1]);
    loop {
        match from.read(&mut byte[..]) {
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) if text.len() == LINE_MAX => return Err(io::ErrorKind::FileTooLarge.into()),
            Ok(_) => text.push(byte[0]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    if text.last() == Some(&b'\r') {
        text.pop();
    }
    if text.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let text = std::str::from_utf8(&text).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// A terminal that does not show what is typed, until this is dropped: read it through this. A signal that would end or stop the
/// process meanwhile finds the terminal as it was before, and does what it does then.
pub struct Silence<'a> {
    terminal: &'a File,
    before: Termios,
    signals: Held,
}

/// What a terminal's keys, its hang-up and a supervisor send.
const ENDING: [Signal; 5] = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGTSTP];

impl<'a> Silence<'a> {
    pub fn begin(terminal: &'a File) -> nix::Result<Self> {
        let before = termios::tcgetattr(terminal.as_fd())?;
        let silence = Self { terminal, before, signals: Held::back(&ENDING)? };
        silence.be_quiet()?;
        Ok(silence)
    }

    fn be_quiet(&self) -> nix::Result<()> {
        let mut quiet = self.before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        termios::tcsetattr(self.terminal.as_fd(), SetArg::TCSAFLUSH, &quiet)
    }

    fn speak_again(&self) {
        let _ = termios::tcsetattr(self.terminal.as_fd(), SetArg::TCSAFLUSH, &self.before);
    }

    /// Lets a signal that came do what it does.
    fn give_way(&self) -> io::Result<()> {
        let Some(came) = self.signals.next()? else { return Ok(()) };
        self.speak_again();
        came.map_or(Ok(()), |signal| self.signals.raise(signal))?;
        Ok(self.be_quiet()?)
    }
}

impl Read for Silence<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            let ready = children::wait_readable(&[self.signals.as_fd(), self.terminal.as_fd()], None)?;
            if ready.first() == Some(&true) {
                self.give_way()?;
            } else if ready.get(1) == Some(&true) {
                return self.terminal.read(room);
            }
        }
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.speak_again();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_read_and_what_is_none_is_refused() {
        let mut two = &b"one two\r\nthree"[..];
        assert_eq!(*line(&mut two).unwrap(), "one two");
        assert_eq!(two, b"three");
        assert!(line(&mut &b"\n"[..]).is_err() && line(&mut &b""[..]).is_err() && line(&mut &b"\xff\n"[..]).is_err());
        assert!(line(&mut &[b'x'; LINE_MAX + 1][..]).is_err());
    }
}
