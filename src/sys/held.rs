//! Signals that are held back while a terminal is not as it was: whoever changed it hears of them, puts it back, and lets them do
//! what they do.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Of the thread that made it; until it is dropped.
pub struct Held {
    which: SigSet,
    came: SignalFd,
    mask: SigSet,
}

impl Held {
    pub fn back(which: &[Signal]) -> nix::Result<Self> {
        let which: SigSet = which.iter().copied().collect();
        let came = SignalFd::with_flags(&which, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let mask = which.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Self { which, came, mask })
    }

    /// One that came, whatever number the kernel says; `None`: none did.
    pub fn next(&self) -> io::Result<Option<Option<Signal>>> {
        let came = self.came.read_signal()?;
        Ok(came.map(|came| i32::try_from(came.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok())))
    }

    /// Lets one do what it does. What comes back from it was stopped and goes on, or it is one that is ignored.
    pub fn raise(&self, signal: Signal) -> nix::Result<()> {
        self.mask.thread_set_mask()?;
        nix::sys::signal::raise(signal)?;
        self.which.thread_block()
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.came.as_fd()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.mask.thread_set_mask();
    }
}
