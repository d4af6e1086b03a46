//! This process and its relatives: who connects, who it runs as, what it may use up, and how it talks to the service
//! manager. Small calls with their reasons; nothing here decides anything.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Group, Pid, Uid, User};

/// Who is at the other end of a unix socket, as the kernel saw it when the connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
}

pub fn peer(fd: BorrowedFd<'_>) -> io::Result<Peer> {
    let creds = getsockopt(&fd, sockopt::PeerCredentials)?;
    Ok(Peer { pid: creds.pid(), uid: creds.uid(), gid: creds.gid() })
}

/// The supplementary groups of who is at the other end, as of the connection.
pub fn peer_groups(fd: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0u32; 64];
    loop {
        let room = size_of_val(groups.as_slice());
        let mut length = libc::socklen_t::try_from(room).map_err(io::Error::other)?;
        // SAFETY: the buffer is `groups`, of `length` bytes; the kernel writes whole gids and how many bytes they take, or
        // nothing but that number if there is no room.
        let done = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let needed = usize::try_from(length).map_err(io::Error::other)?.div_ceil(size_of::<u32>());
        match Errno::result(done) {
            Ok(_) => {
                groups.truncate(needed);
                return Ok(groups);
            }
            Err(Errno::ERANGE) if needed > groups.len() => groups.resize(needed, 0),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The account that `pid`'s login was made with, which `su` and `sudo` leave alone (pam_loginuid(8)); `None` where there was
/// no login, or the kernel keeps none.
pub fn login_uid(pid: i32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

/// The login of whoever is at the other end, for what depends on it: `None` where [`login_uid`] is, where the process that
/// connected has ended, and before Linux 6.5. A process id may be somebody else's by the time it is looked up; that its
/// process is there still, by the socket's own handle, says that it was not.
pub fn peer_login(fd: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let Ok(handle) = getsockopt(&fd, sockopt::PeerPidfd) else { return Ok(None) };
    let login = login_uid(peer(fd)?.pid);
    let mut ended = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
    let ended = poll(&mut ended, PollTimeout::ZERO)? != 0;
    Ok(login.filter(|_| !ended))
}

/// The name of an account, if it has one.
pub fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

/// The number of a group, `None` if there is none of that name.
pub fn group_id(name: &str) -> io::Result<Option<u32>> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

/// The effective user id.
pub fn uid() -> u32 {
    Uid::effective().as_raw()
}

pub fn gid() -> u32 {
    nix::unistd::Gid::effective().as_raw()
}

pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Uid and gid of an account, `None` if there is none of that name.
pub fn user_ids(name: &str) -> io::Result<Option<(u32, u32)>> {
    Ok(User::from_name(name)?.map(|user| (user.uid.as_raw(), user.gid.as_raw())))
}

/// No core dumps, and no other process of this uid may attach or read the memory: it holds keys and plaintext.
pub fn harden() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}

/// Memory in pages of 4 KiB only, for this process and all that it forks. A session touches a few hundred KiB of an
/// allocator's large area; in huge pages (2 MiB each, where the machine gives them unasked) an idle session took 4.5 MiB
/// instead of 0.6. Old kernels that do not know the call give what they give.
pub fn small_pages() {
    let _ = nix::sys::prctl::set_thp_disable(true);
}

/// At most `files` descriptors, for good: the hard limit comes down too.
pub fn bound_descriptors(files: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let bound = files.min(hard);
    Ok(setrlimit(Resource::RLIMIT_NOFILE, bound, bound)?)
}

/// As many descriptors as the hard limit allows; for the keeper, which holds one socket per session.
pub fn raise_descriptors() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Orphaned descendants become this process's children instead of init's: so the gate becomes the keeper's.
pub fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// SIGKILL for this process when the thread that is its parent ends. A change of uid or capabilities clears it.
pub fn die_with_parent() -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// Nothing this process makes is readable by others unless it says so.
pub fn set_umask(mask: u32) {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
}

/// Ends process `pid` at once. A process that is already gone is fine.
pub fn kill(pid: i32) -> io::Result<()> {
    match nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exit(i32),
    Signal(i32),
}

/// Waits for the end of child `pid`.
pub fn wait_for(pid: i32) -> io::Result<End> {
    use nix::sys::wait::{WaitStatus, waitpid};
    loop {
        match waitpid(Pid::from_raw(pid), None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(End::Exit(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(End::Signal(signal as i32)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// How many threads this process has; `None` where /proc does not tell.
pub fn threads() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

/// Closes every descriptor but stdin, stdout, stderr and `keep`. For a process that has just been forked to be
/// something else: what its parent owned under the closed descriptors must never be dropped in it.
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|&fd| u32::try_from(fd).ok()).filter(|&fd| fd > 2).collect();
    keep.sort_unstable();
    keep.dedup();
    let mut from = 3;
    for last in keep.iter().map(|&fd| fd - 1).chain([u32::MAX]) {
        if from <= last {
            // SAFETY: close_range takes three numbers. That nobody uses the closed descriptors again is the contract
            // of this function; it is only called in children that own nothing else.
            Errno::result(unsafe { libc::syscall(libc::SYS_close_range, from, last, 0) })?;
        }
        from = last.saturating_add(2);
    }
    Ok(())
}

/// Every descriptor but stdin, stdout and stderr is closed when this process executes a program, and not before.
pub(crate) fn close_at_exec() -> io::Result<()> {
    // SAFETY: close_range takes three numbers, and with this flag closes nothing.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })?;
    Ok(())
}

/// The listening TCP sockets a service manager handed over (sd_listen_fds(3)), none if it handed over none, or
/// meant another process. To be called once, before descriptors are opened.
pub fn inherited_listeners() -> io::Result<Vec<TcpListener>> {
    let variable = |name: &str| std::env::var(name).ok();
    if variable("LISTEN_PID") != Some(std::process::id().to_string()) {
        return Ok(Vec::new());
    }
    let count: RawFd = variable("LISTEN_FDS").and_then(|count| count.parse().ok()).unwrap_or(0);
    (3..3 + count.clamp(0, 64)).map(inherited_listener).collect()
}

fn inherited_listener(fd: RawFd) -> io::Result<TcpListener> {
    let not = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("descriptor {fd} {what}"));
    // SAFETY: only borrowed to ask what it is; the kernel answers EBADF for one that is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    if !getsockopt(&borrowed, sockopt::AcceptConn).map_err(|_| not("is not a socket"))? {
        return Err(not("is not listening"));
    }
    let family = nix::sys::socket::getsockname::<nix::sys::socket::SockaddrStorage>(fd)?.family();
    use nix::sys::socket::{AddressFamily, SockaddrLike};
    if !matches!(family, Some(AddressFamily::Inet | AddressFamily::Inet6)) {
        return Err(not("is not a TCP socket"));
    }
    nix::fcntl::fcntl(borrowed, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    // SAFETY: the service manager passed it to this process, where nothing else knows it.
    Ok(TcpListener::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Puts `fd` in the place of descriptor `at`.
pub(crate) fn put_at(fd: BorrowedFd<'_>, at: RawFd) -> io::Result<()> {
    // SAFETY: dup2 takes two numbers; `at` is one of the standard descriptors, which std never closes.
    Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), at) }).map(drop).map_err(io::Error::from)
}

/// Blocks `signals` for this thread, and threads it starts.
pub fn block_signals(signals: &[Signal]) -> io::Result<()> {
    Ok(sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals.iter().copied().collect::<SigSet>()), None)?)
}

/// Lets all signals through again, as a fresh process has it.
pub fn unblock_signals() -> io::Result<()> {
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}

/// The service manager, if there is one that wants to hear (sd_notify(3)).
#[derive(Debug)]
pub struct ServiceManager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl ServiceManager {
    /// From `NOTIFY_SOCKET`; `None` without one. The address may be a path or an abstract name (`@…`).
    pub fn from_environment() -> Option<Self> {
        Self::at(&std::env::var("NOTIFY_SOCKET").ok()?)
    }

    fn at(address: &str) -> Option<Self> {
        let address = match address.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok()?,
            None => SocketAddr::from_pathname(address).ok()?,
        };
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Self { socket, address })
    }

    pub fn ready(&self) {
        self.say("READY=1");
    }

    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    pub fn watchdog(&self) {
        self.say("WATCHDOG=1");
    }

    /// One line for `systemctl status`.
    pub fn status(&self, line: &str) {
        self.say(&format!("STATUS={}", line.replace('\n', " ")));
    }

    /// A service manager that does not listen is its own loss: never an error, never a wait.
    fn say(&self, state: &str) {
        let _ = self.socket.send_to_addr(state.as_bytes(), &self.address);
    }
}

/// How often the service manager wants to hear `watchdog`: half of its patience, as sd_watchdog_enabled(3) advises.
/// `None` if it does not watch, or watches another process.
pub fn watchdog_interval() -> Option<std::time::Duration> {
    if let Ok(pid) = std::env::var("WATCHDOG_PID")
        && pid != std::process::id().to_string()
    {
        return None;
    }
    let micros: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (micros > 0).then(|| std::time::Duration::from_micros(micros / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_known_by_its_uid() {
        let (a, _b) = crate::sys::packet::pair().unwrap();
        assert_eq!(peer(a.as_fd()).unwrap(), Peer { pid: std::process::id() as i32, uid: uid(), gid: gid() });
    }

    #[test]
    fn a_login_is_known_of_a_process_that_is_there() {
        let (a, _b) = crate::sys::packet::pair().unwrap();
        let own = login_uid(std::process::id() as i32);
        let known = getsockopt(&a, sockopt::PeerPidfd).is_ok();
        assert_eq!(peer_login(a.as_fd()).unwrap(), own.filter(|_| known));
    }

    #[test]
    fn a_peers_groups_are_those_of_this_process() {
        let (a, _b) = crate::sys::packet::pair().unwrap();
        let own: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        assert_eq!(peer_groups(a.as_fd()).unwrap(), own);
    }

    #[test]
    fn the_service_manager_hears_of_readiness() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let daemon = ServiceManager::at(path.to_str().unwrap()).unwrap();
        daemon.ready();
        daemon.status("two\nlines");
        let mut said = [0; 64];
        let len = manager.recv(&mut said).unwrap();
        assert_eq!(&said[..len], b"READY=1");
        let len = manager.recv(&mut said).unwrap();
        assert_eq!(&said[..len], b"STATUS=two lines");
    }

    #[test]
    fn an_account_is_found_by_its_name() {
        assert_eq!(user_ids("root").unwrap(), Some((0, 0)));
        assert_eq!(user_ids("no-such-account").unwrap(), None);
    }
}
