//! Sockets that a service manager opened and hands over at start (sd_listen_fds(3)): so the port is open before the
//! server is, and the server needs no right to open it.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{getsockopt, sockopt};

/// The first descriptor handed over: a constant of that protocol.
const FIRST: RawFd = 3;

/// The listening sockets meant for this process; none where nobody handed any over.
///
/// To be called once, before anything else opens a descriptor: what has these numbers then is what was handed over.
pub fn inherited_listeners() -> io::Result<Vec<TcpListener>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == nix::unistd::getpid().as_raw() => {
            (FIRST..FIRST.saturating_add(count.clamp(0, 64))).map(adopt).collect()
        }
        _ => Ok(Vec::new()),
    }
}

fn adopt(fd: RawFd) -> io::Result<TcpListener> {
    // SAFETY: the descriptor is only looked at; a number that is not open is an error.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    if !getsockopt(&borrowed, sockopt::AcceptConn)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("descriptor {fd} is not a listening socket")));
    }
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, checked above, and by the protocol nobody else in this process owns it.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    debug_assert_eq!(owned.as_fd().as_raw_fd(), fd);
    Ok(TcpListener::from(owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_adopted_that_was_meant_for_another_process() {
        // The test runner was not started by a socket unit.
        assert!(inherited_listeners().unwrap().is_empty());
    }
}
