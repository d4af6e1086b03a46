//! The machine by itself: its clock, its randomness, and what of the kernel the confinement is made of.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use super::Finding;
use crate::sys::{confine, files, machine};

pub fn look() -> Vec<Finding> {
    vec![clock(), entropy(), namespaces(), landlock(), filter(), beneath()]
}

fn clock() -> Finding {
    const CHECK: &str = "clock";
    match machine::clock_is_synchronised() {
        Ok(true) => Finding::ok(CHECK, "kept to the time of the world"),
        Ok(false) => Finding::warn(
            CHECK,
            "nothing keeps it to the time of the world: receipts and expiry go by it",
            "run chrony or systemd-timesyncd; in a container the host's counts, if it tells the kernel",
        ),
        Err(e) => Finding::skip(CHECK, format!("the kernel does not say: {e}")),
    }
}

fn entropy() -> Finding {
    const CHECK: &str = "entropy";
    match machine::has_entropy() {
        Ok(true) => Finding::ok(CHECK, "the kernel's generator is seeded"),
        Ok(false) => Finding::fail(
            CHECK,
            "the kernel's generator is not seeded yet: every key waits for it",
            "give the machine a source: a virtual machine wants virtio-rng",
        ),
        Err(e) => Finding::fail(CHECK, format!("getrandom: {e}"), "the kernel must be Linux 5.6 or newer"),
    }
}

fn namespaces() -> Finding {
    const CHECK: &str = "namespaces";
    match machine::can_make_yard() {
        Ok(()) => Finding::ok(CHECK, "user, mount, pid, net and ipc namespaces can be made"),
        Err(e) => Finding::fail(
            CHECK,
            format!("the yard cannot be made by this user: {e}"),
            "see that user.max_user_namespaces is not 0, and kernel.unprivileged_userns_clone or AppArmor do not forbid it",
        ),
    }
}

fn landlock() -> Finding {
    const CHECK: &str = "landlock";
    match confine::landlock() {
        Ok(found) => Finding::ok(CHECK, format!("ABI {}", found.abi)),
        Err(e) => Finding::fail(
            CHECK,
            format!("this kernel has none: {e}"),
            "Linux 5.13 or newer, with landlock among its `lsm=`",
        ),
    }
}

fn filter() -> Finding {
    const CHECK: &str = "seccomp";
    match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.split_whitespace().any(|action| action == "kill_process") => {
            Finding::ok(CHECK, "filters can end a process")
        }
        Ok(actions) => Finding::fail(
            CHECK,
            format!("filters cannot end a process, only: {}", actions.trim()),
            "Linux 4.14 or newer with CONFIG_SECCOMP_FILTER",
        ),
        Err(e) => Finding::fail(CHECK, format!("no filters: {e}"), "a kernel with CONFIG_SECCOMP_FILTER"),
    }
}

fn beneath() -> Finding {
    const CHECK: &str = "openat2";
    let tried = files::open_dir(Path::new("/")).and_then(|root| files::open_dir_beneath(root.as_fd(), Path::new(".")));
    match tried {
        Ok(_) => Finding::ok(CHECK, "names can be resolved beneath a directory"),
        Err(e) => Finding::fail(
            CHECK,
            format!("it is refused: {e}"),
            "Linux 5.6 or newer; an old container runtime may filter the call",
        ),
    }
}
