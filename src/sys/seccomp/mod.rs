//! System call filters. Three kinds are stacked, and the kernel takes the strictest answer of all that are on:
//! what a place may call (all else is EPERM, logged by the kernel), what no place may ever call (the process dies of
//! SIGSYS, and the gate reports it), and what must look absent (ENOSYS). The tables with a reason for each call are in
//! [`table`]; this file turns them into programs. They are compiled once, before the gate is forked.

pub mod table;

use std::collections::BTreeMap;
use std::io;
use std::sync::OnceLock;

use nix::errno::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use table::{ABSENT, ALLOWED, Arg, Is, NEVER, Row};

/// Where code runs, from the widest to the narrowest. What is allowed in one is allowed in those before it, because
/// filters are inherited: whatever a jailed session needs, the gate's filter must let through, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Gate,
    Porch,
    Jail,
}

/// All programs, compiled.
#[derive(Debug)]
struct Programs {
    gate: BpfProgram,
    porch: BpfProgram,
    jail: BpfProgram,
    never: BpfProgram,
    absent: BpfProgram,
}

static PROGRAMS: OnceLock<Programs> = OnceLock::new();

/// Compiles the filters, so that a session only has to switch its own on. Idempotent.
pub fn prepare() -> io::Result<()> {
    if PROGRAMS.get().is_some() {
        return Ok(());
    }
    let allowed = |place: Place| {
        let rows = ALLOWED.iter().filter(|row| row.until >= place);
        compile(rows, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)
    };
    let programs = Programs {
        gate: allowed(Place::Gate)?,
        porch: allowed(Place::Porch)?,
        jail: allowed(Place::Jail)?,
        never: compile(NEVER.iter(), SeccompAction::Allow, SeccompAction::KillProcess)?,
        absent: compile(ABSENT.iter(), SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?,
    };
    // Losing a race stores equal programs.
    let _ = PROGRAMS.set(programs);
    Ok(())
}

/// Puts this thread, and all it will start, under the filter of `place`. Irrevocable. Sets no_new_privs.
pub fn enter(place: Place) -> io::Result<()> {
    prepare()?;
    let programs = PROGRAMS.get().ok_or(Errno::EINVAL)?;
    nix::sys::prctl::set_no_new_privs()?;
    match place {
        Place::Gate => {
            // The two that stay the same everywhere first: installing them needs what the others take away.
            install(&programs.never, 0)?;
            install(&programs.absent, 0)?;
            install(&programs.gate, libc::SECCOMP_FILTER_FLAG_LOG)
        }
        Place::Porch => install(&programs.porch, libc::SECCOMP_FILTER_FLAG_LOG),
        Place::Jail => install(&programs.jail, libc::SECCOMP_FILTER_FLAG_LOG),
    }
}

/// `flags` with SECCOMP_FILTER_FLAG_LOG: the kernel logs what it refuses (`type=1326` in the audit or kernel log, with
/// the number of the call), which is how an operator finds out what a role wanted.
fn install(program: &BpfProgram, flags: libc::c_ulong) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: `program` points at `len` instructions, which the kernel copies and never writes. seccompiler's
    // sock_filter has the kernel's layout.
    Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &program) })?;
    Ok(())
}

/// Rows become a program that answers `matched` where one applies and `otherwise` where none does. Rows of one call
/// are alternatives; a row without arguments applies always.
fn compile<'t>(
    rows: impl Iterator<Item = &'t Row>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> io::Result<BpfProgram> {
    let invalid = |error: seccompiler::BackendError| io::Error::other(format!("a system call filter: {error}"));
    let mut rules: BTreeMap<i64, Option<Vec<SeccompRule>>> = BTreeMap::new();
    for row in rows {
        let alternatives = rules.entry(row.call).or_insert_with(|| Some(Vec::new()));
        if row.args.is_empty() {
            *alternatives = None;
        } else if let Some(alternatives) = alternatives {
            let conditions: Result<Vec<_>, _> = row.args.iter().map(condition).collect();
            alternatives.push(SeccompRule::new(conditions.map_err(invalid)?).map_err(invalid)?);
        }
    }
    let rules = rules.into_iter().map(|(call, rules)| (call, rules.unwrap_or_default())).collect();
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(invalid)?;
    let filter = SeccompFilter::new(rules, otherwise, matched, arch).map_err(invalid)?;
    BpfProgram::try_from(filter).map_err(invalid)
}

fn condition(arg: &Arg) -> Result<SeccompCondition, seccompiler::BackendError> {
    let (operator, value) = match arg.is {
        Is::Equal(value) => (SeccompCmpOp::Eq, value),
        Is::NotEqual(value) => (SeccompCmpOp::Ne, value),
        Is::Above(value) => (SeccompCmpOp::Gt, value),
        Is::Without(bits) => (SeccompCmpOp::MaskedEq(bits), 0),
        Is::With(bits) => (SeccompCmpOp::MaskedEq(bits), bits),
    };
    // The kernel reads these arguments as 32-bit numbers, or their upper halves are of no meaning; comparing more
    // would let a caller slip by with bits the kernel ignores.
    SeccompCondition::new(arg.index, SeccompCmpArgLen::Dword, operator, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile() {
        prepare().unwrap();
    }

    #[test]
    fn no_call_is_both_allowed_everywhere_and_never() {
        for never in NEVER.iter().filter(|row| row.args.is_empty()) {
            assert!(!ALLOWED.iter().any(|row| row.call == never.call), "{}", never.name);
        }
    }

    #[test]
    fn each_row_says_why() {
        for row in ALLOWED.iter().chain(NEVER).chain(ABSENT) {
            assert!(row.why.len() > 10, "{}", row.name);
        }
    }

    #[test]
    fn a_jail_may_call_nothing_that_starts_connects_or_becomes() {
        let jail = |name: &str| {
            ALLOWED.iter().any(|row| row.name.strip_prefix("SYS_") == Some(name) && row.until == Place::Jail)
        };
        let refused = "execve socket connect bind accept4 socketpair kill wait4 chroot setresuid setresgid setgroups \
                       fchmod fchmodat fchown fchownat mkdirat linkat symlinkat mknodat ptrace prlimit64 seccomp capset \
                       fchdir chdir utimensat setxattr unshare pipe2 memfd_create dup dup3";
        for name in refused.split_whitespace() {
            assert!(!jail(name), "{name}");
        }
        assert!(jail("pwrite64") && jail("recvfrom"));
    }
}
