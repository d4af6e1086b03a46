//! What a session might try if it were not ours any more, one attempt per function, made with the bare calls an
//! attacker would use; and what a session must be able to do. `sealdrop probe` runs them from the places where
//! sessions live. Nothing here is reached by a connection.

use std::ffi::{CString, c_long};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::files::{self, Mode, OFlag};

/// What an attempt needs to know about its surroundings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Surroundings {
    /// Another session, in the same yard.
    pub sibling: i32,
    /// Another user's id.
    pub other_uid: u32,
    /// The daemon's own port.
    pub port: u16,
    /// The session's connection.
    pub connection: RawFd,
}

/// An attempt: `Ok` if it worked.
pub type Attempt = fn(&Surroundings) -> io::Result<()>;

/// What nobody may do, wherever.
pub const NOWHERE: &[(&str, Attempt)] = &[
    ("open /etc/passwd", |_| open("/etc/passwd")),
    ("open ../../../../etc/passwd", |_| open("../../../../etc/passwd")),
    ("open /proc/self/status", |_| open("/proc/self/status")),
    ("open /dev/null", |_| open("/dev/null")),
    ("open /sys/kernel", |_| open("/sys/kernel")),
    ("create a file in /", |_| create("/x")),
    ("make a folder in /", |_| Ok(nix::unistd::mkdir("/d", Mode::S_IRWXU)?)),
    ("change the mode of /", |_| Ok(nix::sys::stat::fchmodat(nix::fcntl::AT_FDCWD, "/", Mode::all(), NOFOLLOW)?)),
    ("change the owner of /", |s| chown("/", s.other_uid)),
    ("run a program", |_| exec()),
    ("fork", |_| fork()),
    ("make a TCP socket", |_| call(libc::SYS_socket, &[libc::AF_INET as c_long, libc::SOCK_STREAM as c_long, 0])),
    ("make a unix socket", |_| call(libc::SYS_socket, &[libc::AF_UNIX as c_long, libc::SOCK_STREAM as c_long, 0])),
    ("make a netlink socket", |_| call(libc::SYS_socket, &[libc::AF_NETLINK as c_long, libc::SOCK_RAW as c_long, 0])),
    ("connect to the daemon", |s| std::net::TcpStream::connect(("127.0.0.1", s.port)).map(drop)),
    ("connect its connection elsewhere", |s| connect(s.connection)),
    ("listen on its connection", |s| call(libc::SYS_listen, &[s.connection.into(), 1])),
    ("accept connections", |s| call(libc::SYS_accept4, &[s.connection.into(), 0, 0, 0])),
    ("let its connection linger at close", |s| linger(s.connection)),
    ("trace another session", |s| call(libc::SYS_ptrace, &[libc::PTRACE_ATTACH as c_long, s.sibling.into(), 0, 0])),
    ("read another session's memory", |s| call(libc::SYS_process_vm_readv, &[s.sibling.into(), 0, 0, 0, 0, 0])),
    ("take another session's descriptor", |s| call(libc::SYS_pidfd_getfd, &[s.sibling.into(), 0, 0])),
    ("hold another session's pidfd", |s| call(libc::SYS_pidfd_open, &[s.sibling.into(), 0])),
    ("kill another session", |s| call(libc::SYS_kill, &[s.sibling.into(), libc::SIGKILL.into()])),
    ("stop another session", |s| call(libc::SYS_tgkill, &[s.sibling.into(), s.sibling.into(), libc::SIGSTOP.into()])),
    ("kill the gate", |_| call(libc::SYS_kill, &[1, libc::SIGKILL.into()])),
    ("limit another session", |s| limit(s.sibling)),
    ("become root of the host's files", |_| open("/proc/1/root/etc/passwd")),
    ("mount", |_| mount()),
    ("unmount", |_| call(libc::SYS_umount2, &[c"/".as_ptr() as c_long, libc::MNT_DETACH.into()])),
    ("pivot the root", |_| call(libc::SYS_pivot_root, &[c"/".as_ptr() as c_long, c"/".as_ptr() as c_long])),
    ("open a mount tree", |_| call(libc::SYS_open_tree, &[libc::AT_FDCWD.into(), c"/".as_ptr() as c_long, 1])),
    ("make a user namespace", |_| call(libc::SYS_unshare, &[libc::CLONE_NEWUSER.into()])),
    ("make a mount namespace", |_| call(libc::SYS_unshare, &[libc::CLONE_NEWNS.into()])),
    ("fork into a user namespace", |_| {
        call(libc::SYS_clone, &[(libc::CLONE_NEWUSER | libc::SIGCHLD).into(), 0, 0, 0, 0])
    }),
    ("fork by clone3", |_| clone3()),
    ("join a namespace", |s| call(libc::SYS_setns, &[s.connection.into(), 0])),
    ("open a file by its handle", |_| call(libc::SYS_open_by_handle_at, &[libc::AT_FDCWD.into(), 0, 0])),
    ("set up io_uring", |_| call(libc::SYS_io_uring_setup, &[1, 0])),
    ("load a BPF program", |_| call(libc::SYS_bpf, &[0, 0, 0])),
    ("open a performance counter", |_| call(libc::SYS_perf_event_open, &[0, 0, -1, -1, 0])),
    ("handle page faults itself", |_| call(libc::SYS_userfaultfd, &[0])),
    ("use the kernel's key rings", |_| call(libc::SYS_keyctl, &[0, -3, 0, 0, 0])),
    ("load a module", |_| call(libc::SYS_init_module, &[0, 0, 0])),
    ("name the host", |_| call(libc::SYS_sethostname, &[c"x".as_ptr() as c_long, 1])),
    ("change its personality", |_| call(libc::SYS_personality, &[0x0004_0000])),
    ("map executable memory", |_| executable()),
    ("make a file in memory to run", |_| call(libc::SYS_memfd_create, &[c"x".as_ptr() as c_long, 0])),
    ("type into the daemon's terminal", |_| {
        call(libc::SYS_ioctl, &[2, libc::TIOCSTI as c_long, c"x".as_ptr() as c_long])
    }),
    ("cut the daemon's log", |_| call(libc::SYS_ftruncate, &[2, 0])),
    ("rewind the daemon's log", |_| call(libc::SYS_lseek, &[2, 0, 0])),
    ("duplicate the daemon's log descriptor", |_| call(libc::SYS_dup, &[2])),
    ("have signals sent for a descriptor", |s| {
        call(libc::SYS_fcntl, &[s.connection.into(), libc::F_SETOWN.into(), s.sibling.into()])
    }),
];

/// What an admitted user may not do, beyond that. The tree holds `drop/sealed`, `leak` → /etc/passwd, `across` → the
/// other user's secret, and `.staging/old`.
pub const NOT_IN_JAIL: &[(&str, Attempt)] = &[
    ("have any capability", |_| if super::confine::holds_no_capability()? { Err(Errno::EPERM.into()) } else { Ok(()) }),
    ("follow a symbolic link to outside", |_| open("/leak")),
    ("follow a symbolic link to another user", |_| open("/across")),
    ("open another user's file by ..", |_| open("/../bob/drop/secret")),
    ("open another user's file by .. from its folder", |_| open("drop/../../bob/drop/secret")),
    ("create a file in a folder", |_| create("/drop/x")),
    ("open a delivered file for writing", |_| open_for(OFlag::O_WRONLY, "/drop/sealed")),
    ("open a delivered file, cutting it", |_| open_for(OFlag::O_RDONLY | OFlag::O_TRUNC, "/drop/sealed")),
    ("remove a delivered file", |_| Ok(nix::unistd::unlink("/drop/sealed")?)),
    ("rename a delivered file", |_| fs::rename("/drop/sealed", "/drop/other")),
    ("move a delivered file to staging", |_| fs::rename("/drop/sealed", "/.staging/taken")),
    ("link a delivered file into staging", |_| fs::hard_link("/drop/sealed", "/.staging/linked")),
    ("link a staged file into a folder", |_| fs::hard_link("/.staging/old", "/drop/linked")),
    ("rename a staged file into a folder", |_| fs::rename("/.staging/old", "/drop/moved")),
    ("make a folder in a folder", |_| fs::create_dir("/drop/d")),
    ("make a folder in staging", |_| fs::create_dir("/.staging/d")),
    ("make a symbolic link in staging", |_| std::os::unix::fs::symlink("/etc", "/.staging/s")),
    ("make a pipe in staging", |_| Ok(nix::unistd::mkfifo("/.staging/p", Mode::S_IRWXU)?)),
    ("remove staging", |_| fs::remove_dir("/.staging")),
    ("change the mode of a staged file", |_| {
        fs::set_permissions("/.staging/old", std::os::unix::fs::PermissionsExt::from_mode(0o777))
    }),
    ("change the owner of a staged file", |s| chown("/.staging/old", s.other_uid)),
    ("set the times of a delivered file", |_| {
        files::set_times_at(files::open_dir(Path::new("/drop"))?.as_fd(), "sealed".as_ref(), None, Some(0))
    }),
    ("set an attribute of a staged file", |_| attribute()),
    ("become the other user", |s| {
        call(libc::SYS_setresuid, &[s.other_uid.into(), s.other_uid.into(), s.other_uid.into()])
    }),
    ("become root of the yard", |_| call(libc::SYS_setresuid, &[0, 0, 0])),
    ("take another group", |s| {
        call(libc::SYS_setresgid, &[s.other_uid.into(), s.other_uid.into(), s.other_uid.into()])
    }),
    ("drop its groups", |_| call(libc::SYS_setgroups, &[0, 0])),
    ("chroot below and climb out", |_| climb()),
    ("change its folder", |_| Ok(nix::unistd::chdir("/drop")?)),
    ("lift its own limits", |_| limit(0)),
    ("be dumpable", |_| call(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE.into(), 1, 0, 0, 0])),
    ("make a socket pair", |_| super::packet::pair().map(drop)),
    ("take a lease on a delivered file", |_| lease()),
];

/// What a stranger needs.
pub const NEEDED_ON_PORCH: &[(&str, Attempt)] = &[
    ("talk to its client", talk),
    ("draw randomness", |_| random()),
    ("build an event loop", |_| event_loop()),
    ("set its connection's options", options),
    ("keep keys out of swap", |_| lock_memory()),
];

/// What an admitted session needs.
pub const NEEDED_IN_JAIL: &[(&str, Attempt)] = &[
    ("talk to its client", talk),
    ("draw randomness", |_| random()),
    ("read a delivered file", |_| File::open("/drop/sealed")?.read_exact(&mut [0; 6])),
    ("list its folders", |_| list()),
    ("resolve a path beneath its root", |_| beneath()),
    ("stage a file: create, write, rewrite, cut, lock, sync, rename, remove", |_| stage()),
    ("run a helper thread", |_| thread()),
    ("keep keys out of swap", |_| lock_memory()),
    ("use much memory", |_| memory()),
];

const NOFOLLOW: nix::sys::stat::FchmodatFlags = nix::sys::stat::FchmodatFlags::FollowSymlink;

/// A bare system call with up to six arguments.
fn call(number: c_long, arguments: &[c_long]) -> io::Result<()> {
    let mut a = [0; 6];
    a[..arguments.len()].copy_from_slice(arguments);
    // SAFETY: none: these are an attacker's calls. They run in a process made for the one attempt; pointers are null or
    // to constants, and a call that succeeds has refuted the confinement, which is all its caller reports.
    Errno::result(unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) })
        .map(drop)
        .map_err(io::Error::from)
}

fn open(path: &str) -> io::Result<()> {
    open_for(OFlag::O_RDONLY, path)
}

fn open_for(flags: OFlag, path: &str) -> io::Result<()> {
    Ok(nix::fcntl::open(path, flags | OFlag::O_CLOEXEC, Mode::empty()).map(drop)?)
}

fn create(path: &str) -> io::Result<()> {
    File::create_new(path).map(drop)
}

fn chown(path: &str, uid: u32) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(uid), None)
}

fn exec() -> io::Result<()> {
    let program = CString::new("/bin/sh")?;
    match nix::unistd::execve(&program, &[&program], &[] as &[&CString])? {}
}

fn fork() -> io::Result<()> {
    // SAFETY: a process with one thread; the child ends at once.
    match unsafe { nix::unistd::fork() }? {
        // SAFETY: _exit takes a number and does not return.
        nix::unistd::ForkResult::Child => unsafe { libc::_exit(0) },
        nix::unistd::ForkResult::Parent { .. } => Ok(()),
    }
}

fn clone3() -> io::Result<()> {
    let mut how = [0u64; 11];
    how[4] = libc::SIGCHLD as u64;
    // SAFETY: `how` is a clone_args of zeros with an exit signal, so this is a fork; a child ends at once.
    match Errno::result(unsafe { libc::syscall(libc::SYS_clone3, how.as_ptr(), size_of_val(&how)) })? {
        // SAFETY: as in `fork`.
        0 => unsafe { libc::_exit(0) },
        _ => Ok(()),
    }
}

fn connect(fd: RawFd) -> io::Result<()> {
    // A sockaddr of family AF_UNSPEC, which takes a TCP connection apart so that another can be made.
    let to = [0u8; 16];
    call(libc::SYS_connect, &[fd.into(), to.as_ptr() as c_long, 16])
}

fn linger(fd: RawFd) -> io::Result<()> {
    let long = libc::linger { l_onoff: 1, l_linger: 600 };
    let (level, name, len) = (libc::SOL_SOCKET.into(), libc::SO_LINGER.into(), size_of_val(&long) as c_long);
    call(libc::SYS_setsockopt, &[fd.into(), level, name, (&raw const long) as c_long, len])
}

fn limit(pid: i32) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: 8, rlim_max: 8 };
    call(libc::SYS_prlimit64, &[pid.into(), libc::RLIMIT_NOFILE as c_long, (&raw const limit) as c_long, 0])
}

fn mount() -> io::Result<()> {
    use nix::mount::{MsFlags, mount};
    Ok(mount(Some("x"), "/", Some("tmpfs"), MsFlags::empty(), None::<&str>)?)
}

fn executable() -> io::Result<()> {
    let (prot, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    call(libc::SYS_mmap, &[0, 4096, prot.into(), flags.into(), -1, 0])
}

fn attribute() -> io::Result<()> {
    let (path, name) = (c"/.staging/old".as_ptr() as c_long, c"user.x".as_ptr() as c_long);
    call(libc::SYS_setxattr, &[path, name, name, 1, 0])
}

/// The classic: with the root moved below the working directory, `..` never meets it.
fn climb() -> io::Result<()> {
    nix::unistd::chroot("/.staging")?;
    open("../../../../../etc/passwd")
}

fn lease() -> io::Result<()> {
    let file = File::open("/drop/sealed")?;
    call(libc::SYS_fcntl, &[file.as_raw_fd().into(), libc::F_SETLEASE.into(), libc::F_RDLCK.into()])
}

fn talk(surroundings: &Surroundings) -> io::Result<()> {
    let word = b"hello";
    // SAFETY: the descriptor is the session's connection, which stays open for the life of the process.
    let sent = unsafe { libc::send(surroundings.connection, word.as_ptr().cast(), word.len(), libc::MSG_NOSIGNAL) };
    Ok(Errno::result(sent).map(drop)?)
}

fn random() -> io::Result<()> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)
}

fn options(surroundings: &Surroundings) -> io::Result<()> {
    let (tcp, value) = (libc::IPPROTO_TCP, 20u32);
    let options = [(libc::SOL_SOCKET, libc::SO_KEEPALIVE), (tcp, libc::TCP_NODELAY), (tcp, libc::TCP_KEEPIDLE)]
        .into_iter()
        .chain([(tcp, libc::TCP_KEEPINTVL), (tcp, libc::TCP_KEEPCNT), (tcp, libc::TCP_USER_TIMEOUT)]);
    for (level, name) in options {
        let value = (&raw const value) as c_long;
        call(libc::SYS_setsockopt, &[surroundings.connection.into(), level.into(), name.into(), value, 4])?;
    }
    Ok(())
}

/// The SSH library locks each buffer that holds keys, and unlocks it before it is freed.
fn lock_memory() -> io::Result<()> {
    let page = vec![1u8; 4096];
    let at = page.as_ptr() as c_long;
    call(libc::SYS_mlock, &[at, 4096])?;
    call(libc::SYS_munlock, &[at, 4096])
}

fn event_loop() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::sleep(std::time::Duration::from_millis(1)).await });
    Ok(())
}

fn list() -> io::Result<()> {
    let names = |path: &str| -> io::Result<Vec<Vec<u8>>> {
        let folder = files::open_dir(Path::new(path))?;
        let mut names: Vec<_> =
            files::list(folder.as_fd())?.map(|entry| entry.map(|e| e.name)).collect::<Result<_, _>>()?;
        names.sort();
        Ok(names)
    };
    let own: [&[u8]; 4] = [b".staging", b"across", b"drop", b"leak"];
    if names("/")? == own && names("/..")? == own {
        Ok(())
    } else {
        Err(io::Error::other("not the names of its own tree"))
    }
}

fn beneath() -> io::Result<()> {
    let root = files::open_dir(Path::new("/"))?;
    let file = files::open_beneath(root.as_fd(), Path::new("drop/sealed"), OFlag::O_RDONLY, Mode::empty())?;
    files::facts(file.as_fd())?;
    files::facts_beneath(root.as_fd(), Path::new("drop")).map(drop)
}

fn stage() -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let staging = files::open_dir(Path::new(super::confine::STAGING))?;
    let file = File::options().read(true).write(true).create_new(true).open("/.staging/new.part")?;
    if !files::lock_exclusive(file.as_fd())? {
        return Err(Errno::EWOULDBLOCK.into());
    }
    nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 65536)?;
    file.write_all_at(&[7; 8192], 65536)?;
    (&file).write_all(b"head")?;
    file.set_len(10_000)?;
    file.read_exact_at(&mut [0; 4], 0)?;
    files::write_ahead_from(file.as_fd(), 0)?;
    file.sync_all()?;
    files::sync_data(file.as_fd())?;
    fs::write("/.staging/new.jrn.tmp", b"journal")?;
    fs::rename("/.staging/new.jrn.tmp", "/.staging/new.jrn")?;
    files::sync(staging.as_fd())?;
    let copy = File::create_new("/.staging/copy.part")?;
    files::copy(file.as_fd(), copy.as_fd(), 10_000)?;
    let again = file.try_clone()?;
    drop(file);
    again.metadata()?;
    for name in ["new.part", "new.jrn", "copy.part"] {
        files::remove_file(staging.as_fd(), name.as_ref())?;
    }
    Ok(())
}

fn thread() -> io::Result<()> {
    let helper =
        std::thread::Builder::new().name("seal".into()).spawn(|| std::hint::black_box(vec![1u8; 1 << 20]).len())?;
    match helper.join() {
        Ok(len) if len == 1 << 20 => Ok(()),
        _ => Err(io::Error::other("the thread did not do its work")),
    }
}

fn memory() -> io::Result<()> {
    let mut kept = Vec::new();
    for _ in 0..64 {
        kept.push(std::hint::black_box(vec![1u8; 300_000]));
    }
    std::hint::black_box(&kept);
    Ok(())
}
