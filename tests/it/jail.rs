//! A stranger's session and an admitted one cannot leave their place, tried from inside: the hidden `sealdrop probe` does
//! every forbidden thing there and says what came of it, and the kernel says what a live session is.

use std::fmt::Display;
use std::fs;
use std::process::Command;

use crate::run::run;
use crate::secrecy::{let_it_close, upload_in_progress};
use crate::site::{SEALDROP, Site, have_python, is_root};

#[test]
fn nothing_forbidden_is_possible_from_inside() {
    let mut probe = Command::new(SEALDROP);
    probe.arg("probe");
    run(probe, b"").ok();
}

#[test]
fn nothing_forbidden_is_possible_from_inside_without_root() {
    if !is_root() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(home.path(), Some(65534), Some(65534)).unwrap();
    let program = home.path().join("sealdrop");
    fs::copy(SEALDROP, &program).unwrap();
    let mut probe = Command::new("setpriv");
    probe.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).arg("probe");
    probe.env("TMPDIR", home.path()).current_dir(home.path());
    run(probe, b"").ok();
}

/// One line of /proc/PID/status, or of a thread's.
fn status_line(of: impl Display, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{of}/status")).expect("it is there");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
    line.trim_start_matches(':').split_whitespace().collect::<Vec<_>>().join(" ")
}

fn assert_confined(site: &Site, pid: u64) {
    // Of a large upload the session hashes in a second thread, which is begun in the jail.
    let threads: Vec<_> =
        fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().map(|task| task.file_name()).collect();
    assert!(threads.len() <= 2, "{threads:?}");
    for thread in threads {
        let thread = format!("{pid}/task/{}", thread.display());
        assert_eq!(status_line(&thread, "NoNewPrivs"), "1");
        assert_eq!(status_line(&thread, "Seccomp"), "2");
        assert_eq!(status_line(&thread, "Uid"), status_line(pid, "Uid"));
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(status_line(&thread, set), "0000000000000000", "{set}");
        }
    }
    for namespace in ["user", "mnt", "pid", "net", "ipc"] {
        let of = |pid: String| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).ok();
        assert_ne!(of(pid.to_string()), of(site.keeper().to_string()), "{namespace} is the host's");
    }
}

#[test]
fn an_admitted_session_is_its_users_and_nothing_more() {
    if !is_root() || !have_python("paramiko") {
        return;
    }
    let site = Site::new();
    let client = upload_in_progress(&site, "/radiology/a.dcm", 100_000);
    let sessions = site.sessions();
    assert_eq!(sessions.len(), 1);
    let pid = sessions[0];
    assert_confined(&site, pid);
    let uid = status_line(pid, "Uid");
    let ids: Vec<u32> = uid.split(' ').map(|id| id.parse().unwrap()).collect();
    assert!(ids.iter().all(|&id| id == ids[0] && id >= 200_000), "the session runs as an id of its user's: {uid}");
    let held: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .map(|e| fs::read_link(e.path()).unwrap_or_default())
        .collect();
    let state = site.place().state();
    let own = state.join("jails/partner");
    for path in held.iter().filter(|path| path.starts_with(&state)) {
        assert!(path.starts_with(&own), "{} is open in partner's session", path.display());
    }
    assert!(let_it_close(client));
}

#[test]
fn the_gate_is_confined_and_runs_as_its_own_account() {
    let site = Site::new();
    let gate = site.status()["pids"]["gate"].as_u64().unwrap();
    assert_eq!(status_line(gate, "NoNewPrivs"), "1");
    assert_eq!(status_line(gate, "Seccomp"), "2");
    assert_eq!(status_line(gate, "Threads"), "1");
    if is_root() {
        assert!(!status_line(gate, "Uid").starts_with("0 "), "{}", status_line(gate, "Uid"));
        assert!(fs::read_dir(format!("/proc/{gate}/root")).unwrap().next().is_none(), "the yard is empty");
    }
}

#[test]
fn a_stranger_at_the_door_holds_no_file_and_is_gone_when_it_hangs_up() {
    if !is_root() {
        return;
    }
    let site = Site::new();
    let mut stranger = std::net::TcpStream::connect(site.place().listen()).unwrap();
    // The server's first line: now its session is there.
    let mut first = [0; 8];
    std::io::Read::read_exact(&mut stranger, &mut first).unwrap();
    assert_eq!(&first, b"SSH-2.0-");
    let sessions = site.sessions();
    assert_eq!(sessions.len(), 1);
    assert_confined_stranger(&site, sessions[0]);
}

fn assert_confined_stranger(site: &Site, pid: u64) {
    assert_eq!(status_line(pid, "NoNewPrivs"), "1");
    assert_eq!(status_line(pid, "Seccomp"), "2");
    assert!(fs::read_dir(format!("/proc/{pid}/root")).unwrap().next().is_none(), "the porch is empty");
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let held = fs::read_link(entry.path()).unwrap_or_default();
        assert!(!held.starts_with(site.place().state()), "{} is open at the door", held.display());
    }
}
