//! The confinement as it is from inside, tried by `sealdrop probe` on this kernel: as whoever runs the tests, as an
//! ordinary user, and on machines that give no yard.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SEALDROP: &str = env!("CARGO_BIN_EXE_sealdrop");

/// An account that owns nothing.
const NOBODY: u32 = 65534;

fn running_as_root() -> bool {
    // The owner of what a process has just made is the process's user.
    let made = tempfile::tempfile().unwrap();
    std::os::unix::fs::MetadataExt::uid(&made.metadata().unwrap()) == 0
}

/// The binary where everybody can run it; the target directory may be behind closed ones.
fn public_binary(dir: &Path) -> PathBuf {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = dir.join("sealdrop");
    fs::copy(SEALDROP, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

/// The probe's rows, after checking that each is as it must be.
fn attempts(output: &Output) -> Vec<serde_json::Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let whole: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rows = whole["attempts"].as_array().unwrap().clone();
    let bad: Vec<_> = rows.iter().filter(|row| row["ok"] != true).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    rows
}

fn outcome<'r>(rows: &'r [serde_json::Value], place: &str, attempt: &str) -> &'r str {
    let row = rows.iter().find(|row| row["place"] == place && row["attempt"] == attempt);
    row.and_then(|row| row["outcome"].as_str()).unwrap_or("not tried")
}

#[test]
pub fn a_stranger_reaches_nothing_and_a_user_only_its_own_tree() {
    let rows = attempts(&Command::new(SEALDROP).args(["probe", "--json"]).output().unwrap());
    assert!(rows.len() > 150, "only {} attempts", rows.len());
    for place in ["porch", "jail"] {
        assert_eq!(outcome(&rows, place, "open /etc/passwd"), "refused, ENOENT");
        assert_eq!(outcome(&rows, place, "run a program"), "killed, SIGSYS");
    }
    assert_eq!(outcome(&rows, "jail", "rename a staged file into a folder"), "refused, EACCES");
    assert_eq!(outcome(&rows, "jail", "follow a symbolic link to another user"), "refused, ENOENT");
}

#[test]
pub fn without_root_the_walls_are_the_same() {
    if !running_as_root() {
        // The other test has just shown it.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut probe = Command::new(public_binary(dir.path()));
    let output = probe.args(["probe", "--json"]).current_dir("/").uid(NOBODY).gid(NOBODY).output().unwrap();
    let rows = attempts(&output);
    assert_eq!(outcome(&rows, "jail", "remove a delivered file"), "refused, EACCES");
    assert_eq!(outcome(&rows, "porch", "limit another session"), "refused, EPERM");
}

#[test]
pub fn the_gate_keeps_its_limits_and_nobody_outlives_the_keeper() {
    let rows = attempts(&Command::new(SEALDROP).args(["probe", "--json"]).output().unwrap());
    for duty in [
        "turn away a connection over the limit of all",
        "turn away a connection over the limit of one address",
        "end the session the keeper names",
        "take none when draining, end after the last session",
        "end with the keeper, and every session with it",
    ] {
        assert_eq!(outcome(&rows, "gate", duty), "works", "{duty}");
    }
}

/// Runs the probe where `prepare` has changed the machine, inside a user namespace of the test's own.
fn refusal(prepare: &str) -> String {
    let script = format!("{prepare} exec \"$0\" probe");
    let output = Command::new("unshare").args(["-r", "sh", "-c", &script, SEALDROP]).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
pub fn a_machine_without_user_namespaces_is_told_what_to_enable() {
    let said = refusal("echo 0 > /proc/sys/user/max_user_namespaces;");
    assert!(said.contains("user.max_user_namespaces=15000"), "{said}");
}

#[test]
pub fn a_root_that_has_not_the_ids_is_told_so() {
    let said = refusal("");
    assert!(said.contains("cannot hand out the configured ids"), "{said}");
}
