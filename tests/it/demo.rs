//! The README's first command: the demo tells its story from nothing to expiry, and its contract (docs/cli.md) holds for
//! the scripts that stand on it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::run::run;
use crate::site::{SEALDROP, everything_below, is_root};

/// A demo that stays up in `dir`, and the line that it prints when it is ready.
fn kept(dir: &Path) -> (Child, String) {
    let mut demo = Command::new(SEALDROP)
        .args(["demo", "--keep", "--json", "--listen", "127.0.0.1:0", "--dir"])
        .arg(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(demo.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (demo, line)
}

#[test]
fn the_demo_tells_everything_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut demo = Command::new(SEALDROP);
    demo.args(["demo", "--listen", "127.0.0.1:0"]).env("TMPDIR", home.path());
    let story = run(demo, b"").ok();
    for told in
        ["SEALDRP", "Good \"receipt@sealdrop\" signature", "expired 2 drops", "$ sftp partner@", "upload-committed"]
    {
        assert!(story.contains(told), "`{told}` is not in the story:\n{story}");
    }
    assert_eq!(everything_below(home.path()).len(), 1, "the demo's directory is gone");
}

#[test]
fn the_demo_runs_for_an_ordinary_user() {
    if !is_root() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(home.path(), Some(65534), Some(65534)).unwrap();
    let program = home.path().join("sealdrop");
    std::fs::copy(SEALDROP, &program).unwrap();
    let mut demo = Command::new("setpriv");
    demo.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    demo.args(["demo", "--listen", "127.0.0.1:0"]).env("TMPDIR", home.path()).env("HOME", home.path());
    assert!(run(demo, b"").ok().contains("Expired is gone"));
}

#[test]
fn a_kept_demo_prints_its_contract_when_it_is_ready() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("d");
    let (mut demo, line) = kept(&dir);
    let ready: Value = serde_json::from_str(&line).unwrap();
    let dir = dir.canonicalize().unwrap();
    for (key, place) in [
        ("state", "state"),
        ("config", "config/sealdrop.toml"),
        ("known_hosts", "known_hosts"),
        ("allowed_signers", "allowed_signers"),
        ("admin", "admin.sock"),
    ] {
        assert_eq!(ready[key], dir.join(place).display().to_string());
        assert!(dir.join(place).exists(), "{place}");
    }
    let users = ready["users"].as_array().unwrap();
    assert_eq!(users[0]["folders"]["/radiology"], "drop");
    assert_eq!(users[0]["folders"]["/shared"], "shared");
    assert_eq!(users[1]["folders"]["/inbox"], "inbox");
    assert_eq!(users[2]["identity"], dir.join("keys/lab.identity").display().to_string());
    for user in users {
        assert!(std::fs::read_to_string(user["key"].as_str().unwrap()).unwrap().contains("OPENSSH PRIVATE KEY"));
    }
    let mut status = Command::new(SEALDROP);
    status.args(["status", "--json", "--config"]).arg(dir.join("config/sealdrop.toml"));
    let status: Value = serde_json::from_str(&run(status, b"").ok()).unwrap();
    assert_eq!(status["pids"], ready["pids"]);
    assert_eq!(status["listen"][0], ready["listen"]);

    kill(Pid::from_raw(i32::try_from(demo.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert!(demo.wait().unwrap().success());
    assert!(dir.join("state").exists(), "a directory that was asked for stays");
}

#[test]
fn a_kept_demo_whose_directory_was_removed_ends_when_it_is_asked_to() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("d");
    let (demo, _) = kept(&dir);
    std::fs::remove_dir_all(&dir).unwrap();
    kill(Pid::from_raw(i32::try_from(demo.id()).unwrap()), Signal::SIGTERM).unwrap();
    let ended = demo.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!said.contains("did not end"), "its daemon had ended, and it waited for word of it: {said}");
}

#[test]
fn a_demo_without_the_stock_client_says_what_to_install() {
    let mut demo = Command::new(SEALDROP);
    demo.arg("demo").env("PATH", "/nonexistent");
    let output = demo.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.starts_with("error: ")
            && said.contains("`sftp`")
            && said.contains("hint: ")
            && said.contains("openssh-client"),
        "{said}"
    );
}

#[test]
fn a_demo_does_not_take_a_port_that_was_asked_for_and_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut demo = Command::new(SEALDROP);
    demo.args(["demo", "--listen", &taken.local_addr().unwrap().to_string()]);
    let said = run(demo, b"").fails_with(1);
    assert!(said.contains("cannot listen on") && said.contains("hint: "), "{said}");
}
