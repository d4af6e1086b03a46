//! Children of a process that forks: born, ended, heard of by a descriptor. Only the gate has any.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};

use super::process::End;
use super::{packet, process};

/// Readable when a child has ended.
#[derive(Debug)]
pub struct Ends(SignalFd);

impl Ends {
    /// From now on SIGCHLD is heard here and nowhere else.
    pub fn watch() -> io::Result<Self> {
        process::block_signals(&[Signal::SIGCHLD])?;
        let set: SigSet = [Signal::SIGCHLD].into_iter().collect();
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// The children that ended since the last call.
    pub fn collect(&self) -> io::Result<Vec<(i32, End)>> {
        // One signal stands for any number of ends, so all are asked for.
        while self.0.read_signal()?.is_some() {}
        let mut ended = Vec::new();
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => ended.push((pid.as_raw(), End::Exit(code))),
                Ok(WaitStatus::Signaled(pid, signal, _)) => ended.push((pid.as_raw(), End::Signal(signal as i32))),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(ended),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Ends {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Forks. In the child, closes every descriptor but the standard three and `keep`, lets signals through again, and
/// calls `run`, which must not come back: whatever the parent owned must not be dropped there. Gives the parent the
/// child's pid. Only for a process of one thread.
pub fn fork_to(keep: &[RawFd], run: impl FnOnce() -> std::convert::Infallible) -> io::Result<i32> {
    // SAFETY: the gate never starts a thread (its filter forbids none, but nothing in it does), so the child is whole.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            if process::close_all_but(keep).and_then(|()| process::unblock_signals()).is_err() {
                // SAFETY: _exit takes a number and does not return.
                unsafe { libc::_exit(70) }
            }
            #[allow(unreachable_code, reason = "this match is how an `Infallible` becomes a `!`")]
            match run() {}
        }
    }
}

/// Waits until one of `fds` is readable or gone; says which. `timeout` in milliseconds, `None` for ever.
pub fn wait_readable(fds: &[BorrowedFd<'_>], timeout: Option<u16>) -> io::Result<Vec<bool>> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut polled: Vec<_> = fds.iter().map(|&fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match poll(&mut polled, timeout.map_or(PollTimeout::NONE, PollTimeout::from)) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(vec![false; fds.len()]),
        Err(error) => return Err(error.into()),
    }
    Ok(polled.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty())).collect())
}

/// Two connected ends, for a child and whoever it talks to.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    packet::pair()
}
