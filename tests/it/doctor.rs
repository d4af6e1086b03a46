//! `sealdrop doctor` finds what was broken on purpose, says what to do, and touches nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::site::{Site, everything_below};

/// What it says of one check, with its exit code.
fn look(site: &Site) -> (Vec<Value>, Option<i32>) {
    let ran = site.sealdrop(&["doctor", "--json"]);
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.told()));
    let findings = told["findings"].as_array().unwrap().clone();
    for state in ["ok", "warn", "fail", "skip"] {
        let number = findings.iter().filter(|finding| finding["state"] == state).count();
        assert_eq!(told[state], number, "{state}");
    }
    let expected = if told["fail"] != 0 {
        1
    } else if told["warn"] != 0 {
        4
    } else {
        0
    };
    assert_eq!(ran.status.code(), Some(expected), "{}", ran.told());
    (findings, ran.status.code())
}

#[track_caller]
fn assert_found(site: &Site, check: &str, state: &str, words: &str) {
    let (findings, _) = look(site);
    let found = findings.iter().any(|finding| {
        finding["check"] == check && finding["state"] == state && finding["say"].as_str().unwrap().contains(words)
    });
    assert!(found, "no {state} of `{check}` with `{words}` in {findings:#?}");
    for finding in findings.iter().filter(|finding| finding["state"] == "warn" || finding["state"] == "fail") {
        assert!(finding["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "no hint: {finding}");
    }
}

#[test]
fn a_sound_site_has_no_failure_and_is_left_as_it_was() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", b"x"), "/radiology/a.dcm");
    let before = everything_below(&site.place().state());
    let (findings, code) = look(&site);
    assert_ne!(code, Some(1), "{findings:#?}");
    for check in [
        "entropy",
        "namespaces",
        "landlock",
        "seccomp",
        "openat2",
        "state",
        "keys",
        "host keys",
        "file system",
        "ballast",
        "daemon",
        "policy",
        "sweep",
        "ledger",
        "ledger lag",
        "recipients",
        "hook",
    ] {
        let state = findings.iter().find(|finding| finding["check"] == check).map(|finding| &finding["state"]);
        assert_eq!(state, Some(&Value::from("ok")), "{check}: {findings:#?}");
    }
    assert_eq!(everything_below(&site.place().state()), before);
    assert!(
        site.sealdrop(&["doctor"]).stdout.starts_with(b"ok") || site.sealdrop(&["doctor"]).stdout.starts_with(b"warn")
    );
}

#[test]
fn what_is_broken_is_found() {
    let site = Site::new();
    let root = site.place().state().join("keys/root");
    let root = if root.exists() { root } else { find(&site, "root") };
    fs::set_permissions(&root, fs::Permissions::from_mode(0o644)).unwrap();
    assert_found(&site, "keys", "fail", "is open to others");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o600)).unwrap();

    let host = find(&site, "host_ecdsa");
    fs::rename(&host, host.with_extension("away")).unwrap();
    assert_found(&site, "host keys", "fail", "host_ecdsa");
    fs::rename(host.with_extension("away"), &host).unwrap();

    let path = site.place().policy("partner");
    let policy = fs::read_to_string(&path).unwrap();
    fs::write(&path, policy.replace("[login]", "[login]\nexpires = 2020-01-01")).unwrap();
    assert_found(&site, "policy", "warn", "not in force");
    assert_found(&site, "accounts", "warn", "ended: partner");
    fs::write(&path, "nonsense").unwrap();
    assert_found(&site, "configuration", "fail", "partner.toml");
    fs::write(&path, policy).unwrap();
    assert_found(&site, "policy", "ok", "");
}

#[test]
fn a_hook_that_cannot_run_and_a_recipient_without_a_key_are_found() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", b"x"), "/radiology/a.dcm");
    let text = fs::read_to_string(site.place().config()).unwrap();
    let program = site.place().dir().join("tell");
    let set = |user: &str| {
        let text = format!("{text}[alarms]\nhook = [{program:?}]\n{user}");
        fs::write(site.place().config(), text).unwrap();
    };
    let account = if crate::site::is_root() { "hook_user = \"daemon\"\n" } else { "" };
    set(account);
    assert_found(&site, "hook", "fail", "No such file");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o600)).unwrap();
    assert_found(&site, "hook", "fail", "nobody may execute it");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o777)).unwrap();
    assert_found(&site, "hook", "fail", "others may change it");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    assert_found(&site, "hook", "ok", "tell");
    if crate::site::is_root() {
        set("hook_user = \"no-such-account\"\n");
        assert_found(&site, "hook", "fail", "no-such-account");
        set("");
        assert_found(&site, "hook", "fail", "hook_user");
    }
    let key = site.place().state().join("keys/identities/radiology");
    fs::rename(&key, site.place().dir().join("away")).unwrap();
    assert_found(&site, "recipients", "fail", "radiology");
}

#[test]
fn without_a_daemon_it_looks_at_the_rest() {
    let site = Site::prepared();
    assert_found(&site, "daemon", "warn", "no daemon answers");
    assert_found(&site, "state", "ok", "closed to others");
}

fn find(site: &Site, name: &str) -> std::path::PathBuf {
    let mut all = everything_below(site.place().dir());
    all.retain(|path| path.file_name().is_some_and(|file| file == name) && path.is_file());
    all.pop().unwrap_or_else(|| panic!("no {name}"))
}
