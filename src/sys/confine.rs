//! How a session becomes less, step by step in one visible order: first a stranger on the porch of an empty yard, then
//! one user in the jail of its own tree. Each step is irrevocable and is checked; if one fails, the session ends.
//! Serving takes the [`Confined`] token that only [`jail`] makes. docs/confinement.md says what each step takes away.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};

use super::files::{Mode, OFlag};
use super::privileges::{self, Capability};
use super::process;
use super::seccomp::{self, Place};

/// The one place below a jail's root where a session may create, write, rename and remove.
pub const STAGING: &str = "/.staging";

/// The newest Landlock whose rights we know the meaning of; an older kernel enforces those it has.
const LANDLOCK: ABI = ABI::V6;

/// Threads and processes of one user at once, where each user has an id of its own: a bound on a broken session that
/// starts threads, far above what sessions of one user need (three threads each).
const USER_THREADS_MAX: u64 = 1024;

/// Descriptors a session needs beside its open handles: the connection, the keeper, the runtime's, standard three,
/// a journal and a directory per operation in hand.
const DESCRIPTORS_SPARE: u64 = 64;

/// Proof that this process is in its jail: made only by [`jail`], taken by everything that serves a user.
#[derive(Debug)]
pub struct Confined(());

/// Which step failed, and how.
#[derive(Debug, thiserror::Error)]
#[error("confinement failed: {step}: {error}")]
pub struct ConfineError {
    step: &'static str,
    error: io::Error,
}

impl From<ConfineError> for io::Error {
    fn from(error: ConfineError) -> Self {
        error.error
    }
}

/// For `map_err` at each step.
fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> ConfineError {
    move |error| ConfineError { step, error: error.into() }
}

/// What the yard's gate gives up before it looks at its first connection. For [`super::yard`] only.
pub(super) fn gate(keeping: &[Capability]) -> Result<(), ConfineError> {
    privileges::empty_bounding_set().map_err(at("emptying the bounding set"))?;
    privileges::keep_only(keeping).map_err(at("dropping capabilities"))?;
    process::harden().map_err(at("forbidding core dumps"))?;
    seccomp::enter(Place::Gate).map_err(at("filtering the gate's system calls"))
}

/// A session's first act: no more forks, no more accepting, and nobody else's end to bring about or to wait for. The
/// filter still has what admission needs. Before any thread or runtime.
pub fn porch() -> Result<(), ConfineError> {
    privileges::give_up(Capability::Kill).map_err(at("giving up the way to end others"))?;
    seccomp::enter(Place::Porch).map_err(at("filtering a stranger's system calls"))
}

/// Into the jail, for good: `tree` becomes the root, `uid` and `gid` all there is (0 where the yard has one id only,
/// and then identity stays), with `handles` files open at the most. Only a session's single thread may call it: the
/// kernel binds the calling thread, and step one proves there is no other.
pub fn jail(tree: OwnedFd, uid: u32, gid: u32, handles: u32) -> Result<Confined, ConfineError> {
    // Others would stay outside. The kernel allows this no-op only to a process of one thread.
    // SAFETY: unshare takes a number, and with this one changes nothing.
    Errno::result(unsafe { libc::unshare(libc::CLONE_THREAD) }).map_err(at("being a single thread"))?;

    // Identity comes before chroot: a user's tree belongs to ids that the gate's own may not even look into, and its
    // capabilities do not reach (the keeper's ids are unknown in the yard). One capability outlives the change, until
    // the next step.
    if uid != 0 {
        privileges::become_user(uid, gid, &[Capability::Chroot]).map_err(at("becoming the user"))?;
        setrlimit(Resource::RLIMIT_NPROC, USER_THREADS_MAX, USER_THREADS_MAX).map_err(at("bounding threads"))?;
    }
    nix::unistd::fchdir(&tree).map_err(at("entering the user's tree"))?;
    nix::unistd::chroot(".").map_err(at("making the user's tree the root"))?;
    drop(tree);
    privileges::keep_only(&[]).map_err(at("dropping the last capabilities"))?;

    // A change of uid had the kernel put these back to the system's default.
    process::harden().map_err(at("forbidding core dumps"))?;
    process::bound_descriptors(u64::from(handles) + DESCRIPTORS_SPARE).map_err(at("bounding descriptors"))?;

    restrict_files().map_err(at("restricting files (Landlock)"))?;
    // Last, because it takes away the calls that the steps above are made of.
    seccomp::enter(Place::Jail).map_err(at("filtering the user's system calls"))?;
    Ok(Confined(()))
}

/// Landlock as [`jail`] uses it: read everywhere below the root; create, write, rename and remove only in `.staging`;
/// no program, no device, no new folder, no port, no signal to anybody outside.
fn restrict_files() -> io::Result<()> {
    let look = AccessFs::ReadFile | AccessFs::ReadDir;
    let stage: BitFlags<AccessFs> =
        look | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::Refer;
    let folder = |path: &str| {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        nix::fcntl::open(Path::new(path), flags, Mode::empty()).map_err(io::Error::from)
    };
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(LANDLOCK)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(LANDLOCK)))
        .and_then(|ruleset| ruleset.create())
        .map_err(io::Error::other)?
        .add_rule(PathBeneath::new(folder("/")?, look))
        .map_err(io::Error::other)?
        .add_rule(PathBeneath::new(folder(STAGING)?, stage))
        .and_then(|ruleset| ruleset.restrict_self())
        .map_err(io::Error::other)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err(io::Error::new(io::ErrorKind::Unsupported, "this kernel has no Landlock")),
    }
}

/// Landlock as this kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landlock {
    /// Its ABI; 1 came with Linux 5.13.
    pub abi: i64,
}

/// Whether this kernel can confine a session as [`jail`] demands. The daemon asks before it takes a connection.
/// Any version of Landlock will do; docs/confinement.md says what stands in for the rights an old one lacks.
pub fn landlock() -> Result<Landlock, ConfineError> {
    const VERSION: libc::c_uint = 1; // LANDLOCK_CREATE_RULESET_VERSION
    // SAFETY: with this flag the call takes a null attribute and makes nothing.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) };
    Errno::result(abi).map(|abi| Landlock { abi }).map_err(at("asking for Landlock"))
}

/// Whether this process could still do anything as somebody else. For the test from inside.
pub fn holds_no_capability() -> io::Result<bool> {
    privileges::has_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_landlock() {
        assert!(landlock().unwrap().abi >= 1);
    }

    #[test]
    fn a_process_with_threads_cannot_enter_a_jail() {
        let dir = tempfile::tempdir().unwrap();
        let tree = super::super::files::open_dir(dir.path()).unwrap();
        // The harness runs each test on a thread of its own, so this must fail at its first step.
        let refused = jail(tree, 1, 1, 10).unwrap_err().to_string();
        assert!(refused.contains("being a single thread"), "{refused}");
    }
}
