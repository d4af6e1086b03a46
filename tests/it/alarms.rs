//! Alarms from outside: what the hook is given and as whom it runs, that it is told at least once whatever crashes, that nobody waits
//! for it, and what `sealdrop alarms` says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::run::run;
use crate::site::{Site, have_python, is_root};

/// A site whose hook is a line of shell, with the settings of `[alarms]` that come with it; and where that may write.
fn site(hook: &str, settings: &str) -> (Site, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let hook = hook.replace("DIR", dir.path().to_str().unwrap());
    let site = Site::prepared();
    let user = if is_root() { "hook_user = \"daemon\"\n" } else { "" };
    let text = fs::read_to_string(site.place().config()).unwrap();
    let text = format!("{text}[alarms]\nhook = [\"/bin/sh\", \"-c\", '''{hook}''']\n{user}{settings}\n");
    fs::write(site.place().config(), text).unwrap();
    (site, dir)
}

/// An alarm that is there from the start to the end.
const FULL: &str = "disk = \"100000000 GiB\"\n";

fn lines(dir: &tempfile::TempDir, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Asks until it is so. Each question is a process and a conversation: there is nothing to wait for in between.
fn until(site: &Site, what: &str, so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let said = site.sealdrop(&["alarms", "--json"]);
        let told: Value = serde_json::from_slice(&said.stdout).unwrap();
        if so(&told) {
            return told;
        }
        assert!(Instant::now() < deadline, "not in a minute: {what}: {told}");
    }
}

fn told_of_all(told: &Value) -> bool {
    told["waiting"].as_array().unwrap().is_empty() && !told["alarms"].as_array().unwrap().is_empty()
}

#[test]
fn the_hook_is_given_json_and_nothing_else() {
    let notices = "notices = [\"raised\", \"cleared\", \"received\", \"picked-up\", \"expired\"]\n";
    let hook = "cat >> DIR/told; id -u > DIR/id; ls /proc/self/fd | wc -l > DIR/fds; env > DIR/env; pwd > DIR/pwd";
    let (mut site, dir) = site(hook, &format!("{FULL}{notices}"));
    // As under systemd, which names the stream that is the journal.
    site.run_under(&["/bin/sh", "-c", r#"JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) exec "$0" "$@""#]);
    site.start().unwrap();
    until(&site, "the disk is told of", told_of_all);
    let log = site.log();
    assert!(log.lines().any(|line| line.starts_with("<3>") && line.contains("alarm: ")), "{log}");
    assert!(log.lines().any(|line| line.starts_with("<6>") && line.contains(" ready ")), "{log}");
    site.partner().put(&site.file("a.dcm", b"x"), "/radiology/a.dcm");
    site.recipient("radiology").get("/inbox/partner/a.dcm");
    site.age();
    until(&site, "deliveries are told of", told_of_all);
    let told = lines(&dir, "told");
    let words: Vec<&str> = told.iter().map(|notice| notice["notice"].as_str().unwrap()).collect();
    for word in ["raised", "received", "picked-up", "expired"] {
        assert!(words.contains(&word), "{words:?}");
    }
    let received = told.iter().find(|notice| notice["notice"] == "received").unwrap();
    assert_eq!(received["delivery"]["path"], "/radiology/a.dcm");
    assert_eq!(received["delivery"]["receipt"], site.ask(&["receipts"])[0]["id"]);
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("pwd").trim(), "/");
    // `ls` has the folder that it lists open, and its three streams.
    assert_eq!(read("fds").trim(), "4");
    let names: Vec<String> = read("env").lines().map(|line| line.split('=').next().unwrap().to_owned()).collect();
    assert!(names.iter().all(|name| ["PATH", "PWD", "_", "SHLVL", "OLDPWD"].contains(&name.as_str())), "{names:?}");
    if is_root() {
        assert_eq!(read("id").trim(), "1", "the account of `hook_user`");
    }
    if have_python("jsonschema") {
        let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/config/schema/notice.schema.json");
        let script = "import json, sys, jsonschema\nschema = json.load(open(sys.argv[1]))\n\
                      jsonschema.Draft7Validator.check_schema(schema)\n\
                      for line in sys.stdin: jsonschema.Draft7Validator(schema).validate(json.loads(line))\n";
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", script, schema]);
        run(command, read("told").as_bytes()).ok();
    }
}

#[test]
fn a_notice_is_told_at_least_once_whatever_crashes_and_keeps_its_id() {
    let (mut site, dir) = site("cat >> DIR/told", FULL);
    // The hook has taken it, and the keeper dies before that is in the ledger.
    site.run_under(&["env", "SEALDROP_CRASH_AT=notice-told"]);
    site.start().unwrap();
    site.wait_for_end();
    site.run_under(&[]);
    site.start().unwrap();
    until(&site, "all are told", told_of_all);
    let told = lines(&dir, "told");
    let disk = |notice: &&Value| notice["alarm"]["cause"] == "disk/state";
    let ids: Vec<&Value> = told.iter().filter(disk).map(|notice| &notice["id"]).collect();
    assert!(
        ids.len() == 2 && ids[0] == ids[1] || told.iter().filter(|n| n["alarm"]["cause"] == "disk/keys").count() == 2,
        "{told:?}"
    );
    let causes = |word: &str| {
        site.events_of(word, "").iter().map(|e| e["detail"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let raised = causes("alarm-raised");
    assert_eq!(
        raised.iter().filter(|detail| detail.starts_with("disk/state")).count(),
        1,
        "raised once over two lives: {raised:?}"
    );
    assert!(raised.iter().any(|detail| detail.starts_with("damage/crash")), "that it died is an alarm too");
    assert_eq!(causes("notice-told").len(), raised.len());
}

#[test]
fn a_hook_that_hangs_or_fails_keeps_nobody_waiting_and_is_tried_again() {
    let (mut site, _dir) = site("echo no room; exit 3", FULL);
    site.start().unwrap();
    let told = until(&site, "it was tried", |told| told["waiting"][0]["tries"].as_u64() > Some(0));
    assert_eq!(told["waiting"][0]["last"], "it ended with 3: no room");
    let said = site.sealdrop(&["alarms", "--test"]).fails_with(1);
    assert!(said.contains("it ended with 3: no room"), "{said}");
    assert_eq!(site.events_of("notice-lost", "").len(), 1, "a test is tried once");

    let text = fs::read_to_string(site.place().config()).unwrap();
    fs::write(site.place().config(), text.replace("echo no room; exit 3", "exec sleep 1000")).unwrap();
    site.restart();
    site.partner().put(&site.file("a.dcm", b"x"), "/radiology/a.dcm");
    assert_eq!(site.status()["drops"], 1);

    // Without a hook nothing waits for one.
    let lines = text.lines().filter(|line| !line.starts_with("hook"));
    fs::write(site.place().config(), lines.collect::<Vec<_>>().join("\n")).unwrap();
    site.restart();
    let told = until(&site, "it is put away", |told| told["waiting"].as_array().unwrap().is_empty());
    assert_eq!(told["hook"], "none");
    assert!(site.events_of("notice-lost", "").len() >= 2);
}

#[test]
fn without_its_runner_all_else_goes_on() {
    let (mut site, dir) = site("cat >> DIR/told", "");
    site.start().unwrap();
    site.sealdrop(&["alarms", "--test"]).ok();
    assert_eq!(lines(&dir, "told")[0]["notice"], "test");
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", site.keeper())).unwrap();
    let gate = site.status()["pids"]["gate"].to_string();
    let runner = children.split_whitespace().find(|pid| **pid != gate).unwrap();
    kill(Pid::from_raw(runner.parse().unwrap()), Signal::SIGKILL).unwrap();
    let told =
        until(&site, "it is gone", |told| told["hook"] == "gone" && !told["alarms"].as_array().unwrap().is_empty());
    assert_eq!(told["alarms"][0]["cause"], "hook/gone");
    site.partner().put(&site.file("a.dcm", b"x"), "/radiology/a.dcm");
    let said = site.sealdrop(&["alarms"]).fails_with(4);
    assert_eq!(said, "");
    site.restart();
    until(&site, "a start makes another", |told| {
        told["hook"] == "ready" && told["alarms"].as_array().unwrap().is_empty()
    });
}

#[test]
fn a_hook_of_root_has_an_account_of_its_own() {
    if !is_root() {
        return;
    }
    let (mut site, _dir) = site("true", "");
    let text = fs::read_to_string(site.place().config()).unwrap();
    let mut told = Vec::new();
    for user in ["", "hook_user = \"root\"", "hook_user = \"nobody\"", "hook_user = \"no-such-account\""] {
        fs::write(site.place().config(), text.replace("hook_user = \"daemon\"", user)).unwrap();
        told.push(site.start().unwrap_err().message);
        assert!(!site.is_running());
    }
    for (said, word) in told.iter().zip(["no account", "root", "the gate", "does not exist"]) {
        assert!(said.contains(word), "{word}: {said}");
    }
}
