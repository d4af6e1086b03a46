//! The yard: namespaces with no file, no network and nobody else in them, and the gate as their first process. The
//! keeper spawns it before it has a thread of its own. Two forks: the first process takes the namespaces and gets its
//! id map from the keeper, the second is pid 1 in there, builds the empty root, gives up what it does not need, and
//! becomes the gate. When it ends the kernel ends every process of the yard. If anything here fails, there is no yard
//! and nothing is served: sealdrop never runs unjailed.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{ForkResult, Pid, fork};
use serde::{Deserialize, Serialize};

use super::files;
use super::packet;
use super::privileges::{self, Capability};
use super::process::{self, End};
use super::{confine, seccomp};

/// The ids that exist in a yard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YardConfig(Ids);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ids {
    /// The daemon is an ordinary user: its own id is 0 inside, and the only one.
    One,
    /// The daemon is root: the gate's account is 0 inside, users keep their ids.
    Range { gate: (u32, u32), users: Range<u32> },
}

impl YardConfig {
    /// Of a daemon that is an ordinary user: users are told apart by their jails alone.
    pub fn one_id() -> Self {
        Self(Ids::One)
    }

    /// Of a daemon that is root: the gate runs as `uid` and `gid`, each user as an id of its own out of `users`.
    pub fn as_root(uid: u32, gid: u32, users: Range<u32>) -> Self {
        Self(Ids::Range { gate: (uid, gid), users })
    }
}

/// A running yard. Its end is its gate's: watch the gate's socket.
#[derive(Debug)]
pub struct Yard {
    /// The gate, a child of this process.
    pub pid: i32,
}

/// A namespace the kernel does not give, a step it refuses.
#[derive(Debug, thiserror::Error)]
#[error("the yard cannot be built: {step}: {error}")]
pub struct YardError {
    step: String,
    #[source]
    error: io::Error,
}

impl YardError {
    fn new(step: impl Into<String>, error: impl Into<io::Error>) -> Self {
        Self { step: step.into(), error: error.into() }
    }

    /// What the operator may try, from what this machine says about itself.
    pub fn hint(&self) -> String {
        let said = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let refusals = [libc::EPERM, libc::EACCES, libc::ENOSPC, libc::ENOSYS, libc::EINVAL, libc::EUSERS];
        if self.step == LANDLOCK {
            return "sealdrop needs Landlock: Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK, and `landlock` among the \
                    `lsm=` of the kernel's command line if that is given"
                .into();
        }
        if !self.error.raw_os_error().is_some_and(|number| refusals.contains(&number)) {
            return "`sealdrop probe` tries this machine's confinement step by step".into();
        }
        if !Path::new("/proc/self/ns/user").exists() {
            return "this kernel has no user namespaces (CONFIG_USER_NS); sealdrop needs them".into();
        }
        if said("/proc/sys/user/max_user_namespaces").as_deref() == Some("0") {
            return "user namespaces are switched off; `sysctl user.max_user_namespaces=15000` allows them".into();
        }
        if !process::is_root() {
            if said("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") {
                return "only root may make user namespaces here; `sysctl kernel.unprivileged_userns_clone=1` allows them \
                     to all, or run the daemon as root".into();
            }
            if said("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
                return "AppArmor restricts user namespaces of ordinary users; give sealdrop a profile with `userns,`, or \
                     `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or run the daemon as root".into();
            }
        }
        if self.step == WRITING_MAPS && process::is_root() {
            return "this root cannot hand out the configured ids (is it root of a container with fewer of them?): set \
                 `ids` to a range that /proc/self/uid_map has, or run the daemon as an ordinary user".into();
        }
        "if this is a container, its system call filter forbids namespaces: allow unshare and mount \
             (for example `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`)"
            .into()
    }
}

const WRITING_MAPS: &str = "giving it its ids";
const LANDLOCK: &str = "restricting files (Landlock)";

/// The gate's own bound on descriptors: listeners, the keeper, and two per connection it is just handing on. Sessions
/// start with it and lower it to what their handles need.
const DESCRIPTORS_MAX: u64 = 4096;

/// Builds a yard and runs `child` in it as the gate. `child` owns what it needs, and closes what it does not
/// ([`process::close_all_but`] is the gate's first act); in this process it is dropped with the descriptors it owns.
/// The gate's stdin is /dev/null, its stdout and stderr are this process's.
///
/// Needs a process of one thread: of more, only the forking one would exist in the child, and with it locks that
/// nobody ever opens.
pub fn spawn(config: YardConfig, child: impl FnOnce() -> Infallible) -> Result<Yard, YardError> {
    let YardConfig(ids) = &config;
    if process::threads().is_some_and(|threads| threads > 1) {
        let error = io::Error::other("this process already has threads");
        return Err(YardError::new("forking the gate", error));
    }
    seccomp::prepare().map_err(|error| YardError::new("compiling its filters", error))?;
    confine::landlock()
        .map_err(|error| YardError::new(LANDLOCK, io::Error::new(io::ErrorKind::Unsupported, error.to_string())))?;
    // The gate's parent ends early; this makes the keeper its next.
    process::become_subreaper().map_err(|error| YardError::new("adopting the gate", error))?;
    let (ours, theirs) = packet::pair().map_err(|error| YardError::new("making a socket", error))?;

    // SAFETY: one thread, checked above, so the child may do whatever a fresh process may.
    match unsafe { fork() }.map_err(|error| YardError::new("forking", error))? {
        ForkResult::Child => {
            drop(ours);
            match first_process(ids, &theirs) {
                // Only the second process, the gate, comes back from there.
                Ok(()) => {
                    drop(theirs);
                    #[allow(unreachable_code, reason = "this match is how an `Infallible` becomes a `!`")]
                    match child() {}
                }
                Err((step, error)) => {
                    report(&theirs, &Report::Failed(step, error.raw_os_error().unwrap_or(libc::EIO)));
                    exit_now(1)
                }
            }
        }
        ForkResult::Parent { child: middle } => {
            drop(theirs);
            supervise(ids, &ours, middle)
        }
    }
}

/// The keeper's side of the construction. Whatever it returns, no process is left that is not in the answer.
fn supervise(ids: &Ids, building: &OwnedFd, middle: Pid) -> Result<Yard, YardError> {
    let forked = supervise_first(ids, building, middle);
    if forked.is_err() {
        process::kill(middle.as_raw()).ok();
    }
    // Its end makes the gate our child, which may then tie its life to ours.
    let ended = process::wait_for(middle.as_raw());
    let pid = forked?;
    let built = match ended {
        Ok(End::Exit(0)) => {
            report(building, &Report::Adopted);
            expect(building, &Report::Ready)
        }
        other => Err(YardError::new("adopting the gate", io::Error::other(format!("{other:?}")))),
    };
    if built.is_err() {
        process::kill(pid).ok();
        process::wait_for(pid).ok();
    }
    built.map(|()| Yard { pid })
}

/// Until the first process has forked the gate; gives the gate's pid.
fn supervise_first(ids: &Ids, building: &OwnedFd, first: Pid) -> Result<i32, YardError> {
    expect(building, &Report::Unshared)?;
    write_maps(ids, first).map_err(|error| YardError::new(WRITING_MAPS, error))?;
    report(building, &Report::Mapped);
    match hear(building)? {
        Report::Forked(pid) => Ok(pid),
        other => Err(YardError::new("building it", io::Error::other(format!("{other:?}")))),
    }
}

/// The process that takes the namespaces. It forks the gate and ends; the gate returns.
fn first_process(ids: &Ids, building: &OwnedFd) -> Result<(), (Step, io::Error)> {
    // If the keeper dies while this is going on, so does the construction. Namespaces make this process's /proc files
    // the keeper's to write only while it may be dumped.
    process::die_with_parent().map_err(failed(Step::Parent))?;
    nix::sys::prctl::set_dumpable(true).map_err(failed(Step::Parent))?;
    let namespaces = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(namespaces).map_err(failed(Step::Namespaces))?;
    report(building, &Report::Unshared);
    if !matches!(hear(building), Ok(Report::Mapped)) {
        // The keeper knows why.
        exit_now(1)
    }
    // The namespace of processes takes our children, not us: the gate is one, and pid 1 there.
    // SAFETY: still one thread.
    match unsafe { fork() }.map_err(failed(Step::Gate))? {
        ForkResult::Parent { child } => {
            report(building, &Report::Forked(child.as_raw()));
            exit_now(0)
        }
        ForkResult::Child => {}
    }
    if !matches!(hear(building), Ok(Report::Adopted)) {
        exit_now(1)
    }
    gate_process(ids)?;
    report(building, &Report::Ready);
    Ok(())
}

/// The gate, from its birth to its first connection.
fn gate_process(ids: &Ids) -> Result<(), (Step, io::Error)> {
    // Away from the keeper's terminal and its process group: Ctrl-C is for the keeper, which then drains us.
    nix::unistd::setsid().map_err(failed(Step::Session))?;
    if let Ids::Range { .. } = ids {
        privileges::take_ids(0, 0).map_err(failed(Step::Identity))?;
    }
    let null = files::null().map_err(failed(Step::Descriptors))?;
    process::put_at(null.as_fd(), 0).map_err(failed(Step::Descriptors))?;
    drop(null);
    process::bound_descriptors(DESCRIPTORS_MAX).map_err(failed(Step::Descriptors))?;
    process::set_umask(0o077);
    empty_root().map_err(failed(Step::Root))?;
    // Identity is settled, so this stays: should the keeper be killed, the yard is gone even if the gate hangs.
    process::die_with_parent().map_err(failed(Step::Parent))?;
    let keeping: &[Capability] = match ids {
        Ids::One => &[Capability::Chroot],
        Ids::Range { .. } => {
            // An admitted session has another id than the gate, which must be able to end it all the same.
            &[Capability::Kill, Capability::SetGid, Capability::SetUid, Capability::Chroot]
        }
    };
    confine::gate(keeping).map_err(|error| (Step::Confinement, error.into()))
}

/// A 4 KiB file system with room for its own root and nothing else, read-only, in place of the host's.
fn empty_root() -> nix::Result<()> {
    const NOTHING: Option<&str> = None;
    let still = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // What is mounted here from now on stays here.
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
    // Any directory would do as the place to build it; /proc is there, since the keeper has just used it.
    let options = Some("size=4k,nr_inodes=1,mode=555");
    mount(Some("yard"), "/proc", Some("tmpfs"), still, options)?;
    nix::unistd::chdir("/proc")?;
    // The old root lands on top of the new one and is taken away with everything mounted below it.
    nix::unistd::pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")?;
    let remount = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(NOTHING, "/", NOTHING, remount | still, NOTHING)
}

/// Tells the kernel which ids exist in the namespace that process `pid` has just made.
fn write_maps(ids: &Ids, pid: Pid) -> io::Result<()> {
    let file = |name: &str, text: &str| fs::write(format!("/proc/{pid}/{name}"), text);
    match ids {
        Ids::One => {
            // Without this the kernel lets nobody but root map a group: dropping one can be a gain.
            file("setgroups", "deny")?;
            file("uid_map", &format!("0 {} 1\n", process::uid()))?;
            file("gid_map", &format!("0 {} 1\n", process::gid()))
        }
        Ids::Range { gate: (uid, gid), users } => {
            let line = |id: &u32| format!("0 {id} 1\n{} {} {}\n", users.start, users.start, users.len());
            file("uid_map", &line(uid))?;
            file("gid_map", &line(gid))
        }
    }
}

/// What the keeper and the two processes say to each other while they build.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Report {
    Unshared,
    Mapped,
    Forked(i32),
    Adopted,
    Ready,
    /// The step, and the kernel's error number.
    Failed(Step, i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Step {
    Parent,
    Namespaces,
    Gate,
    Session,
    Identity,
    Descriptors,
    Root,
    Confinement,
}

impl Step {
    fn say(self) -> &'static str {
        match self {
            Self::Parent => "tying it to the daemon",
            Self::Namespaces => "making namespaces",
            Self::Gate => "forking the gate",
            Self::Session => "leaving the terminal",
            Self::Identity => "taking the gate's ids",
            Self::Descriptors => "bounding descriptors",
            Self::Root => "building its empty root",
            Self::Confinement => "confining the gate",
        }
    }
}

fn failed<E: Into<io::Error>>(step: Step) -> impl FnOnce(E) -> (Step, io::Error) {
    move |error| (step, error.into())
}

/// Lost words are noticed by who waits for them.
fn report(building: &OwnedFd, report: &Report) {
    let mut room = [0; 16];
    if let Ok(bytes) = postcard::to_slice(report, &mut room) {
        let _ = packet::send(building.as_fd(), bytes, &[]);
    }
}

fn hear(building: &OwnedFd) -> Result<Report, YardError> {
    let broken = |why: &str| YardError::new("building it", io::Error::other(why.to_owned()));
    let mut room = [0; 16];
    let packet = packet::receive(building.as_fd(), &mut room).map_err(|error| YardError::new("building it", error))?;
    let packet = packet.ok_or_else(|| broken("its first process ended without a word"))?;
    match postcard::from_bytes(&room[..packet.len]) {
        Ok(Report::Failed(step, number)) => Err(YardError::new(step.say(), io::Error::from_raw_os_error(number))),
        Ok(report) => Ok(report),
        Err(_) => Err(broken("its first process said something unknown")),
    }
}

fn expect(building: &OwnedFd, expected: &Report) -> Result<(), YardError> {
    let heard = hear(building)?;
    if heard == *expected { Ok(()) } else { Err(YardError::new("building it", io::Error::other(format!("{heard:?}")))) }
}

/// Ends this process without running anything that belongs to the one it was forked from.
fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(code) }
}
