//! Running a program of somebody else's: a process of its own that is forked before there is a key in memory and gives up
//! all it could do, and in it one program at a time, with nothing of ours but its standard streams, for so long and no
//! longer. What it says is kept up to a bound and thrown away beyond.

use std::convert::Infallible;
use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{AccessFlags, ForkResult, Pid};

use super::process::{self, End};
use super::{files, privileges};

/// Forks the process that programs are run in, and calls `run` there, which must not come back. It keeps the descriptors
/// `keep` and what this process writes its log to; as root it becomes `ids`; it gains nothing by what it executes. It ends
/// with this process.
///
/// Only for a process of one thread, and one that has read no key yet.
pub fn fork_aside(keep: &[RawFd], ids: Option<(u32, u32)>, run: impl FnOnce() -> Infallible) -> io::Result<i32> {
    if process::threads().is_some_and(|threads| threads > 1) {
        return Err(io::Error::other("this process already has threads"));
    }
    let parent = Pid::this();
    // SAFETY: one thread, checked above, so the child may do whatever a fresh process may.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            if step_aside(keep, ids, parent).is_err() {
                // SAFETY: _exit takes a number and does not return.
                unsafe { libc::_exit(70) }
            }
            #[allow(unreachable_code, reason = "this match is how an `Infallible` becomes a `!`")]
            match run() {}
        }
    }
}

fn step_aside(keep: &[RawFd], ids: Option<(u32, u32)>, parent: Pid) -> io::Result<()> {
    // Away from the terminal: Ctrl-C is for the keeper.
    nix::unistd::setsid()?;
    process::close_all_but(keep)?;
    process::unblock_signals()?;
    process::put_at(files::null()?.as_fd(), 0)?;
    process::bound_descriptors(64)?;
    nix::unistd::chdir("/")?;
    nix::sys::prctl::set_no_new_privs()?;
    if let Some((uid, gid)) = ids {
        // The bounding set goes while there is a capability that may empty it, where there is one.
        let _ = privileges::empty_bounding_set();
        privileges::take_ids(uid, gid)?;
        privileges::keep_only(&[])?;
    }
    // Identity is settled, so this stays. The parent may have gone before.
    process::die_with_parent()?;
    if nix::unistd::getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
}

/// Whether an account may execute a file, as far as modes say; for who wants to know before it is needed.
pub fn is_executable(path: &str) -> io::Result<()> {
    let path = CString::new(path)?;
    Ok(nix::unistd::access(path.as_c_str(), AccessFlags::X_OK)?)
}

/// What became of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ended(End),
    /// It took too long, and was killed with the processes of its group.
    TimedOut,
}

/// How a program ended, and the beginning of what it said on both of its outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    pub outcome: Outcome,
    pub said: Vec<u8>,
}

/// Runs one program to its end: no shell, an environment of nothing but `PATH`, `/` as its directory, `input` on its standard input, and
/// no other descriptor. An error: it did not start.
pub fn run(argv: &[String], input: &[u8], timeout: Duration, said_max: usize) -> io::Result<Ran> {
    let deadline = Instant::now() + timeout;
    let (program, words) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let (ours, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let mut command = Command::new(program);
    command.args(words).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::from(theirs.try_clone()?)).stderr(Stdio::from(theirs));
    // SAFETY: two system calls between fork and exec, which take no lock and allocate nothing.
    unsafe {
        command.pre_exec(|| process::die_with_parent().and_then(|()| process::close_at_exec()));
    }
    let mut child = command.spawn()?;
    // Its copies of the pipe's end.
    drop(command);
    let talked = talk(&mut child, input, ours, deadline, said_max);
    let outcome = match &talked {
        Ok((true, _)) => Outcome::TimedOut,
        _ => Outcome::Ended(End::Exit(0)),
    };
    if outcome == Outcome::TimedOut || talked.is_err() {
        // Not reaped yet: the group is still its own.
        let _ = nix::sys::signal::killpg(Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)), Signal::SIGKILL);
    }
    let status = child.wait()?;
    let (_, said) = talked?;
    let ended = match (status.code(), status.signal()) {
        (Some(code), _) => End::Exit(code),
        (None, signal) => End::Signal(signal.unwrap_or(0)),
    };
    Ok(Ran { outcome: if outcome == Outcome::TimedOut { outcome } else { Outcome::Ended(ended) }, said })
}

/// Until the child has ended (`false`) or its time is over (`true`). What it leaves running may hold the pipe open: that is
/// not waited for.
fn talk(
    child: &mut Child,
    mut input: &[u8],
    from: OwnedFd,
    deadline: Instant,
    said_max: usize,
) -> io::Result<(bool, Vec<u8>)> {
    let ended = pidfd(child.id())?;
    let mut to = child.stdin.take();
    if let Some(to) = &to {
        files::set_nonblocking(to.as_fd(), true)?;
    }
    files::set_nonblocking(from.as_fd(), true)?;
    let mut from = Some(std::fs::File::from(from));
    let mut said = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok((true, said));
        }
        if input.is_empty() {
            // Closed: it reads to the end.
            to = None;
        }
        let mut fds = vec![PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        let reads = from.as_ref().map(|from| fds.push(PollFd::new(from.as_fd(), PollFlags::POLLIN))).is_some();
        let writes = to.as_ref().map(|to| fds.push(PollFd::new(to.as_fd(), PollFlags::POLLOUT))).is_some();
        let timeout = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
        match poll(&mut fds, PollTimeout::from(timeout)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready = |at: usize| fds.get(at).and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
        let (over, readable, writable) = (ready(0), reads && ready(1), writes && ready(1 + usize::from(reads)));
        drop(fds);
        if writable && let Some(pipe) = &mut to {
            match pipe.write(input) {
                Ok(n) => input = input.get(n..).unwrap_or_default(),
                Err(e) if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&e.kind()) => {}
                // It does not want to know: its end says whether that was meant.
                Err(_) => input = &[],
            }
        }
        if (readable || over)
            && let Some(pipe) = &mut from
            && !keep_what_is_there(pipe, &mut said, said_max)?
        {
            from = None;
        }
        if over {
            return Ok((false, said));
        }
    }
}

/// Takes what can be read now. `false`: nobody has the other end any more.
fn keep_what_is_there(pipe: &mut std::fs::File, said: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    let mut room = [0; 4096];
    // So much at once and no more: one that never stops must not keep us from looking at the time.
    for _ in 0..16 {
        match pipe.read(&mut room) {
            Ok(0) => return Ok(false),
            Ok(n) => {
                let left = most.saturating_sub(said.len());
                said.extend_from_slice(room.get(..n.min(left)).unwrap_or_default());
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

/// Readable when process `pid`, a child of this one that is not reaped, has ended.
fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers. The descriptor it makes is new and nobody else's.
    unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0))?;
        Ok(OwnedFd::from_raw_fd(i32::try_from(fd).map_err(|_| Errno::EBADF)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, input: &[u8], timeout: Duration) -> Ran {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned);
        run(&argv, input, timeout, 100).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_program_gets_its_input_and_what_it_says_is_kept_with_its_end() {
        let ran = sh("cat; echo over >&2; exit 3", b"in", LONG);
        assert_eq!(ran, Ran { outcome: Outcome::Ended(End::Exit(3)), said: b"inover\n".to_vec() });
        let ran = sh("kill -9 $$", &[b'x'; 1 << 20], LONG);
        assert_eq!(ran.outcome, Outcome::Ended(End::Signal(9)), "one that does not read is no error of ours");
        assert!(run(&["/no/such/program".to_owned()], b"", LONG, 100).is_err());
    }

    #[test]
    fn a_program_has_no_environment_and_no_descriptor_but_its_own() {
        let _open = std::fs::File::open("/").unwrap();
        let ran = sh("env | cut -d= -f1 | sort | tr '\\n' ' '; ls /proc/self/fd | wc -l; pwd", b"", LONG);
        let said = String::from_utf8(ran.said).unwrap();
        // `ls` has the directory it lists open too; the shell sets PWD and the like for itself.
        assert!(said.contains("PATH ") && said.ends_with("4\n/\n"), "{said}");
        assert!(!said.contains("CARGO") && !said.contains("HOME"), "{said}");
    }

    #[test]
    fn one_that_does_not_end_is_killed_and_one_that_never_stops_talking_is_bounded() {
        let ran = sh("echo on; exec sleep 1000", b"", Duration::from_millis(300));
        assert_eq!(ran, Ran { outcome: Outcome::TimedOut, said: b"on\n".to_vec() });
        let ran = sh("yes", b"", Duration::from_millis(300));
        assert_eq!((ran.outcome, ran.said.len()), (Outcome::TimedOut, 100));
        let ran = sh("sleep 1000 & echo left", b"", LONG);
        assert_eq!(ran, Ran { outcome: Outcome::Ended(End::Exit(0)), said: b"left\n".to_vec() });
    }
}
