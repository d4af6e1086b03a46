//! What this machine offers, asked and never changed: for `sealdrop doctor`.

use std::io;

use nix::errno::Errno;

/// Whether something keeps the clock to the time of the world (the kernel knows it of NTP, PTP and chrony alike).
pub fn clock_is_synchronised() -> io::Result<bool> {
    // SAFETY: timex is plain numbers, for which zeros are values.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: with `modes` of 0 the call changes nothing and fills the structure it is given.
    let state = Errno::result(unsafe { libc::adjtimex(&raw mut clock) })?;
    Ok(state != libc::TIME_ERROR && clock.status & libc::STA_UNSYNC == 0)
}

/// Whether the kernel's generator has been seeded; before, every key waits.
pub fn has_entropy() -> io::Result<bool> {
    let mut byte = 0u8;
    // SAFETY: the call writes at most the one byte it is given.
    let got = unsafe { libc::getrandom((&raw mut byte).cast(), 1, libc::GRND_NONBLOCK) };
    match Errno::result(got) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether this process may make the namespaces of the yard; a child tries.
pub fn can_make_yard() -> io::Result<()> {
    const YARD: libc::c_int =
        libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC;
    // SAFETY: the child makes two system calls and ends: it takes no lock and allocates nothing, so it does not matter
    // what other threads of this process were doing.
    let child = Errno::result(unsafe { libc::fork() })?;
    if child == 0 {
        // SAFETY: as above; `_exit` runs no code of ours. Error numbers of these calls are below 256.
        unsafe {
            let code = if libc::unshare(YARD) == 0 { 0 } else { *libc::__errno_location() };
            libc::_exit(code)
        }
    }
    let mut status = 0;
    // SAFETY: waits for the child made above and writes the integer it is given.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
        let error = Errno::last();
        if error != Errno::EINTR {
            return Err(error.into());
        }
    }
    match libc::WEXITSTATUS(status) {
        0 if libc::WIFEXITED(status) => Ok(()),
        code if libc::WIFEXITED(status) => Err(io::Error::from_raw_os_error(code)),
        _ => Err(io::Error::other("the trial was killed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_runs_the_tests_has_entropy_and_namespaces() {
        assert!(has_entropy().unwrap());
        can_make_yard().unwrap();
        clock_is_synchronised().unwrap();
    }
}
