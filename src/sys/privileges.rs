//! Identity and capabilities: who a role becomes, and the proof that nothing of what it was is left. Every change is
//! read back from the kernel before anybody relies on it.

use std::io;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

/// The four capabilities a yard's roles ever hold, all of them only inside the yard's user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// CAP_KILL
    Kill = 5,
    /// CAP_SETGID
    SetGid = 6,
    /// CAP_SETUID
    SetUid = 7,
    /// CAP_SYS_CHROOT
    Chroot = 18,
}

/// Makes `capabilities` all this thread has, in effect and to keep, and leaves none to inherit.
pub fn keep_only(capabilities: &[Capability]) -> io::Result<()> {
    let bits = capabilities.iter().fold(0u32, |bits, &capability| bits | 1 << capability as u32);
    set_to(bits)
}

fn set_to(bits: u32) -> io::Result<()> {
    let words = [Word { effective: bits, permitted: bits, inheritable: 0 }, Word::default()];
    // SAFETY: header and the two words are laid out as capset(2) asks for version 3, and live for the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &Header::this_thread(), &words) })?;
    if held()? == words { Ok(()) } else { Err(Errno::EPERM.into()) }
}

/// One capability less than now.
pub fn give_up(capability: Capability) -> io::Result<()> {
    let bits = held()?[0].permitted & !(1 << capability as u32);
    set_to(bits)
}

/// No capability can ever come back by way of a program that is executed.
pub fn empty_bounding_set() -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: these prctl operations take numbers.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
            Ok(_) => {}
            // The first number past the last capability this kernel knows.
            Err(Errno::EINVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    // SAFETY: as above.
    Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) })?;
    Ok(())
}

/// Becomes `uid` and `gid` with no further groups, really, effectively and savedly: there is no way back but by
/// capability.
pub fn take_ids(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    nix::unistd::setgroups(&[])?;
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    let (u, g) = (nix::unistd::getresuid()?, nix::unistd::getresgid()?);
    let there = [u.real, u.effective, u.saved] == [uid; 3] && [g.real, g.effective, g.saved] == [gid; 3];
    if there { Ok(()) } else { Err(Errno::EPERM.into()) }
}

/// Becomes a user. `keeping` capabilities survive, for the one step that follows; the ones that lead back do not.
pub fn become_user(uid: u32, gid: u32, keeping: &[Capability]) -> io::Result<()> {
    nix::sys::prctl::set_keepcaps(true)?;
    take_ids(uid, gid)?;
    nix::sys::prctl::set_keepcaps(false)?;
    keep_only(keeping)
}

/// Whether this thread holds no capability at all.
pub fn has_none() -> io::Result<bool> {
    Ok(held()? == [Word::default(); 2])
}

fn held() -> io::Result<[Word; 2]> {
    let mut words = [Word::default(); 2];
    // SAFETY: as in `keep_only`; the kernel fills both words.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &Header::this_thread(), &mut words) })?;
    Ok(words)
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

impl Header {
    fn this_thread() -> Self {
        // _LINUX_CAPABILITY_VERSION_3; libc has no name for it.
        Self { version: 0x2008_0522, pid: 0 }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Word {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}
