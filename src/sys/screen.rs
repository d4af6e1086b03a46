//! A terminal that is drawn on: another screen than the one it had, keys as they are pressed, and all of it given back however this
//! ends: at its drop, at a panic, and before a signal does what it does.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::termios::{self, LocalFlags, SetArg, Termios};

use super::children;
use super::held::Held;

/// ECMA-48 and xterm: the other screen, no cursor, no wrapping of long lines.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J";
const LEAVE: &[u8] = b"\x1b[?7h\x1b[?25h\x1b[?1049l";

const HEARD: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGTSTP, Signal::SIGWINCH];

pub struct Screen {
    terminal: File,
    before: Termios,
    signals: Held,
}

/// What a wait found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    Key(u8),
    /// It has another size, or was given back and taken again: all is to be drawn anew.
    Changed,
    /// Ctrl-C.
    Interrupt,
    /// Another signal that ends a process; to be raised when the screen is given back.
    Ending(Signal),
    /// The terminal is gone.
    Gone,
}

impl Screen {
    /// The terminal that this process was started from.
    pub fn begin() -> io::Result<Self> {
        let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let before = termios::tcgetattr(terminal.as_fd())?;
        // From here on all is put back whatever happens.
        let screen = Self { terminal, before, signals: Held::back(&HEARD)? };
        screen.enter()?;
        say_panics_on_the_first_screen();
        Ok(screen)
    }

    fn enter(&self) -> io::Result<()> {
        let mut plain = self.before.clone();
        // Keys one by one, not shown; Ctrl-C and Ctrl-Z stay signals, and a new line begins at the left.
        plain.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON);
        termios::tcsetattr(self.terminal.as_fd(), SetArg::TCSADRAIN, &plain)?;
        (&self.terminal).write_all(ENTER)
    }

    fn leave(&self) {
        let _ = (&self.terminal).write_all(LEAVE);
        let _ = termios::tcsetattr(self.terminal.as_fd(), SetArg::TCSADRAIN, &self.before);
    }

    /// Rows and columns; of a terminal that does not say, the usual.
    pub fn size(&self) -> (usize, usize) {
        // SAFETY: winsize is plain numbers, for which zeros are values.
        let mut size: libc::winsize = unsafe { std::mem::zeroed() };
        // SAFETY: the call fills the structure it is given, which lives for as long.
        let told = unsafe { libc::ioctl(self.terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
        match Errno::result(told) {
            Ok(_) if size.ws_row > 0 && size.ws_col > 0 => (usize::from(size.ws_row), usize::from(size.ws_col)),
            _ => (24, 80),
        }
    }

    /// Draws lines from the top, and nothing of what was there stays.
    pub fn draw(&self, lines: &[String]) -> io::Result<()> {
        // In one piece, so that no half-drawn screen is seen.
        let mut all = String::from("\x1b[H");
        for (n, line) in lines.iter().enumerate() {
            if n > 0 {
                all.push_str("\r\n");
            }
            all.push_str(line);
            all.push_str("\x1b[K");
        }
        all.push_str("\x1b[J");
        (&self.terminal).write_all(all.as_bytes())
    }

    /// Until a key, a signal, or so long.
    pub fn wait(&self, most: Duration) -> io::Result<Seen> {
        let most = u16::try_from(most.as_millis()).unwrap_or(u16::MAX);
        let ready = children::wait_readable(&[self.signals.as_fd(), self.terminal.as_fd()], Some(most))?;
        if ready.first() == Some(&true) {
            return self.heard();
        }
        if ready.get(1) == Some(&true) {
            let mut key = [0; 1];
            return Ok(match (&self.terminal).read(&mut key) {
                Ok(1) => Seen::Key(key[0]),
                _ => Seen::Gone,
            });
        }
        Ok(Seen::Nothing)
    }

    fn heard(&self) -> io::Result<Seen> {
        let Some(signal) = self.signals.next()? else { return Ok(Seen::Nothing) };
        Ok(match signal {
            Some(Signal::SIGWINCH) | None => Seen::Changed,
            Some(Signal::SIGINT) => Seen::Interrupt,
            Some(Signal::SIGTSTP) => {
                // Stopped with the terminal as it was, and here again when it goes on.
                self.leave();
                self.signals.raise(Signal::SIGTSTP)?;
                self.enter()?;
                Seen::Changed
            }
            Some(signal) => Seen::Ending(signal),
        })
    }
}

/// What a panic has to say is said before anything is dropped: it would go with the screen it is written on.
fn say_panics_on_the_first_screen() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Ok(mut terminal) = OpenOptions::new().write(true).open("/dev/tty") {
            let _ = terminal.write_all(LEAVE);
        }
        usual(panic);
    }));
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Raises a signal that was held back: as a rule this process ends here.
pub fn raise(signal: Signal) {
    let _ = nix::sys::signal::raise(signal);
}
