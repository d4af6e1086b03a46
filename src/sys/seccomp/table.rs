//! Which system calls which place may make, and why. `until` is the last place where a call is allowed: what the jail
//! needs is in every filter, what only the gate needs ends with it. Descriptors 0, 1 and 2 are the daemon's own (its
//! log): a session may append lines there, not move, cut or overwrite what is written.

use super::Place::{self, Gate, Jail, Porch};

/// One call, under conditions on its arguments (all must hold; none means always).
#[derive(Debug)]
pub struct Row {
    /// As libc names it, `SYS_read`.
    pub name: &'static str,
    pub call: libc::c_long,
    pub until: Place,
    pub args: &'static [Arg],
    pub why: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub struct Arg {
    pub index: u8,
    pub is: Is,
}

#[derive(Clone, Copy, Debug)]
pub enum Is {
    Equal(u64),
    NotEqual(u64),
    Above(u64),
    /// None of these bits.
    Without(u64),
    /// All of these bits.
    With(u64),
}

const fn arg(index: u8, is: Is) -> Arg {
    Arg { index, is }
}

/// `rows!(place, "why": call, call(args), …; …)`: rows that share a place and a reason.
macro_rules! rows {
    ($($until:ident $why:literal: [$($call:ident $(($($arg:expr),+))?),+ $(,)?];)*) => {
        &[$($(
            Row { name: stringify!($call), call: number::$call, until: $until, args: &[$($($arg),+)?], why: $why },
        )+)*]
    };
}

/// A descriptor that is not one of the daemon's standard three.
const OWN_FD: Arg = arg(0, Is::Above(2));
const fn eq(index: u8, value: u64) -> Arg {
    arg(index, Is::Equal(value))
}
const fn option(level: i32, name: i32) -> [Arg; 2] {
    [eq(1, level as u64), eq(2, name as u64)]
}
/// What pthread_create asks of clone(2), exactly: a thread of this process and nothing else.
const THREAD: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID) as u64;
/// What fork(3) asks: a child that reports its end, and the C library's bookkeeping of its id.
const FORK: u64 = (libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD) as u64;
const NAMESPACES: [u64; 7] = [
    libc::CLONE_NEWNS as u64,
    libc::CLONE_NEWUSER as u64,
    libc::CLONE_NEWPID as u64,
    libc::CLONE_NEWNET as u64,
    libc::CLONE_NEWIPC as u64,
    libc::CLONE_NEWUTS as u64,
    libc::CLONE_NEWCGROUP as u64,
];

const PROT_EXEC: u64 = libc::PROT_EXEC as u64;
const KEEPALIVE: [Arg; 2] = option(libc::SOL_SOCKET, libc::SO_KEEPALIVE);
const RECEIVE_TIMEOUT: [Arg; 2] = option(libc::SOL_SOCKET, libc::SO_RCVTIMEO);
const SEND_TIMEOUT: [Arg; 2] = option(libc::SOL_SOCKET, libc::SO_SNDTIMEO);
const NODELAY: [Arg; 2] = option(libc::IPPROTO_TCP, libc::TCP_NODELAY);
const KEEPIDLE: [Arg; 2] = option(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE);
const KEEPINTVL: [Arg; 2] = option(libc::IPPROTO_TCP, libc::TCP_KEEPINTVL);
const KEEPCNT: [Arg; 2] = option(libc::IPPROTO_TCP, libc::TCP_KEEPCNT);
const USER_TIMEOUT: [Arg; 2] = option(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT);
const ERROR: [Arg; 2] = option(libc::SOL_SOCKET, libc::SO_ERROR);
const PR_SET_VMA: u64 = 0x5356_4d41;

/// Allowed calls; everything else is refused with EPERM.
pub const ALLOWED: &[Row] = rows! {
    // Bytes of sockets and files already open.
    Jail "bytes in and out of what is already open": [SYS_read, SYS_readv, SYS_write, SYS_writev, SYS_recvfrom, SYS_sendto, SYS_recvmsg, SYS_sendmsg, SYS_close, SYS_shutdown];
    Jail "sealed records are read and written at their offsets; never inside the daemon's log":
        [SYS_pread64, SYS_preadv, SYS_pwrite64(OWN_FD), SYS_pwritev(OWN_FD), SYS_lseek(OWN_FD)];
    Jail "room for an upload is reserved and given back; copying within the kernel keeps a rewrite cheap":
        [SYS_ftruncate(OWN_FD), SYS_fallocate(OWN_FD), SYS_copy_file_range(arg(2, Is::Above(2)))];
    Jail "OK on CLOSE is a promise: staged bytes and journal are made durable": [SYS_fsync, SYS_fdatasync, SYS_sync_file_range];
    Jail "what policy let through is opened, listed and measured below the root of the jail; Landlock has the second say":
        [SYS_openat, SYS_openat2, SYS_getdents64, SYS_statx, SYS_newfstatat, SYS_fstat];
    Jail "staging files are removed and renamed; Landlock confines it to /.staging": [SYS_unlinkat, SYS_unlink, SYS_renameat, SYS_rename, SYS_renameat2];
    Jail "one upload at a time writes a staging file": [SYS_flock];
    Jail "flags of descriptors, and a second descriptor of a socket or file as std and tokio make it; no leases, no owners, no signals":
        [SYS_fcntl(eq(1, libc::F_GETFD as u64)), SYS_fcntl(eq(1, libc::F_SETFD as u64)), SYS_fcntl(eq(1, libc::F_GETFL as u64)),
         SYS_fcntl(OWN_FD, eq(1, libc::F_SETFL as u64)), SYS_fcntl(OWN_FD, eq(1, libc::F_DUPFD_CLOEXEC as u64))];
    Jail "std makes sockets non-blocking this way; a reflink spares copying a file that is rewritten; no terminal, no device":
        [SYS_ioctl(eq(1, libc::FIONBIO)), SYS_ioctl(OWN_FD, eq(1, FICLONE))];

    // The connection's own socket.
    Jail "small replies leave at once, dead clients are noticed; no lingering close, no protocol modules":
        [SYS_setsockopt(NODELAY[0], NODELAY[1]), SYS_setsockopt(KEEPALIVE[0], KEEPALIVE[1]), SYS_setsockopt(KEEPIDLE[0], KEEPIDLE[1]),
         SYS_setsockopt(KEEPINTVL[0], KEEPINTVL[1]), SYS_setsockopt(KEEPCNT[0], KEEPCNT[1]), SYS_setsockopt(USER_TIMEOUT[0], USER_TIMEOUT[1])];
    Jail "a blocking conversation with the keeper has a deadline":
        [SYS_setsockopt(RECEIVE_TIMEOUT[0], RECEIVE_TIMEOUT[1]), SYS_setsockopt(SEND_TIMEOUT[0], SEND_TIMEOUT[1])];
    Jail "why a connection ended, and between whom it is":
        [SYS_getsockopt(ERROR[0], ERROR[1]), SYS_getsockopt(NODELAY[0], NODELAY[1]), SYS_getpeername, SYS_getsockname];

    // Waiting, time, memory, threads.
    Jail "the event loop waits": [SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_epoll_ctl, SYS_ppoll, SYS_poll];
    Jail "threads and tasks wait for each other": [SYS_futex, SYS_sched_yield];
    Jail "time, where the vDSO cannot tell it, and sleeping": [SYS_clock_gettime, SYS_gettimeofday, SYS_clock_nanosleep, SYS_nanosleep, SYS_restart_syscall];
    Jail "keys and nonces come from the kernel's generator": [SYS_getrandom];
    Jail "the allocator's memory, stacks of threads; never executable":
        [SYS_mmap(arg(2, Is::Without(PROT_EXEC))), SYS_mprotect(arg(2, Is::Without(PROT_EXEC))), SYS_munmap, SYS_mremap, SYS_madvise, SYS_brk];
    Jail "the SSH library keeps its keys out of swap, as far as RLIMIT_MEMLOCK lets it": [SYS_mlock, SYS_munlock];
    Jail "a helper thread for hash and seal: threads of this process, no other process":
        [SYS_clone(eq(0, THREAD)), SYS_rseq, SYS_set_robust_list, SYS_sched_getaffinity];
    Jail "looks absent, see ABSENT: the C library then falls back to clone, whose flags can be judged": [SYS_clone3];
    Jail "threads are named; the allocator names its memory":
        [SYS_prctl(eq(0, libc::PR_SET_NAME as u64)), SYS_prctl(eq(0, PR_SET_VMA))];
    Jail "which process and user this is, and that no capability is left": [SYS_capget, SYS_getpid, SYS_gettid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid];
    Jail "signal handling of std and the runtime; an abort raises SIGABRT on its own thread":
        [SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack, SYS_tgkill(eq(2, libc::SIGABRT as u64))];
    Jail "a session ends by itself": [SYS_exit, SYS_exit_group];

    // From the fork to the admission.
    Porch "the runtime is built": [SYS_epoll_create1, SYS_eventfd2, SYS_socketpair(eq(0, libc::AF_UNIX as u64))];
    Porch "into the jail: the user's identity, the root of its tree, no capabilities (sys/confine.rs, in this order)":
        [SYS_setgroups, SYS_setresgid, SYS_setresuid, SYS_getresuid, SYS_getresgid, SYS_fchdir, SYS_chroot, SYS_capset];
    Porch "proves that there is no other thread, which the jail would not bind; every other use kills, see NEVER":
        [SYS_unshare(eq(0, libc::CLONE_THREAD as u64))];
    Porch "Landlock and the jail's own filter": [SYS_landlock_create_ruleset, SYS_landlock_add_rule, SYS_landlock_restrict_self, SYS_seccomp];
    Porch "no new privileges, not dumpable, capabilities kept for one step; then narrower limits, its own only":
        [SYS_prctl(eq(0, libc::PR_SET_NO_NEW_PRIVS as u64)), SYS_prctl(eq(0, libc::PR_SET_DUMPABLE as u64)),
         SYS_prctl(eq(0, libc::PR_SET_KEEPCAPS as u64)), SYS_prlimit64(eq(0, 0))];

    // The gate.
    Gate "takes connections and gives each a process": [SYS_accept4, SYS_clone(eq(0, FORK)), SYS_clone(eq(0, libc::SIGCHLD as u64))];
    Gate "a new session keeps the two sockets it was given and nothing else": [SYS_close_range, SYS_set_robust_list];
    Gate "hears of the end of its sessions, and ends one the keeper names": [SYS_signalfd4, SYS_wait4, SYS_kill(eq(1, libc::SIGKILL as u64))];
};

/// Calls no role makes in any place; whoever does is not our code any more and ends there.
pub const NEVER: &[Row] = rows! {
    Jail "another program": [SYS_execve, SYS_execveat];
    Jail "another process's memory, descriptors or steps": [SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_pidfd_getfd, SYS_kcmp];
    Jail "another view of the file system": [SYS_mount, SYS_umount2, SYS_pivot_root, SYS_move_mount, SYS_open_tree, SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_mount_setattr];
    Jail "a file by its number, past every root": [SYS_open_by_handle_at];
    Jail "other namespaces": [SYS_setns, SYS_unshare(arg(0, Is::NotEqual(libc::CLONE_THREAD as u64))),
        SYS_clone(arg(0, Is::With(NAMESPACES[0]))), SYS_clone(arg(0, Is::With(NAMESPACES[1]))), SYS_clone(arg(0, Is::With(NAMESPACES[2]))),
        SYS_clone(arg(0, Is::With(NAMESPACES[3]))), SYS_clone(arg(0, Is::With(NAMESPACES[4]))), SYS_clone(arg(0, Is::With(NAMESPACES[5]))),
        SYS_clone(arg(0, Is::With(NAMESPACES[6])))];
    Jail "system calls that no filter sees": [SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register];
    Jail "programs in the kernel, and its counters": [SYS_bpf, SYS_perf_event_open, SYS_userfaultfd];
    Jail "the kernel's key rings": [SYS_keyctl, SYS_add_key, SYS_request_key];
    Jail "the kernel itself": [SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_kexec_file_load, SYS_reboot, SYS_swapon, SYS_swapoff,
        SYS_acct, SYS_quotactl, SYS_syslog, SYS_settimeofday, SYS_clock_settime, SYS_sethostname, SYS_setdomainname, SYS_personality, SYS_fanotify_init, SYS_vhangup];
};

/// Calls that must look as if the kernel did not have them.
pub const ABSENT: &[Row] = rows! {
    Jail "its flags are in memory, where a filter cannot look; the C library falls back to clone on ENOSYS": [SYS_clone3];
};

/// FICLONE, `_IOW(0x94, 9, int)`; libc types it differently from one C library to the next.
const FICLONE: u64 = 0x4004_9409;

/// Numbers of the calls. Where an architecture lacks an old call, the C library uses the newer one beside it.
mod number {
    pub use libc::*;

    #[cfg(not(target_arch = "x86_64"))]
    pub const SYS_epoll_wait: c_long = libc::SYS_epoll_pwait;
    #[cfg(not(target_arch = "x86_64"))]
    pub const SYS_poll: c_long = libc::SYS_ppoll;
    #[cfg(not(target_arch = "x86_64"))]
    pub const SYS_unlink: c_long = libc::SYS_unlinkat;
    #[cfg(not(target_arch = "x86_64"))]
    pub const SYS_rename: c_long = libc::SYS_renameat;
}
