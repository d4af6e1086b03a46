//! What one admin alone cannot do: another person has to approve exactly that act, and it is done once. People are logins
//! here, set as a login sets them, whatever account they became after.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::run::{Ran, run};
use crate::site::{SEALDROP, Site, is_root};

/// Logins of two people, and of a third.
const ANNA: u32 = 1001;
const BEN: u32 = 1002;
const CARA: u32 = 1003;

/// Groups that every Debian has.
const ADMIN: &str = "games";
const CUSTODIAN: &str = "video";

struct Guarded(Site);

/// `None` where this process cannot be two people.
fn guarded(acts: &str, more: &str) -> Option<Guarded> {
    let mut login = Command::new("/bin/sh");
    login.args(["-c", "echo 1001 > /proc/self/loginuid"]);
    let kept = run(login, b"").status.success();
    if !is_root() || !kept {
        let in_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        assert!(!is_root() || !in_ci, "this kernel does not keep who has logged in");
        eprintln!("only root can be two people who have logged in, and where the kernel keeps that");
        return None;
    }
    let mut site = Site::prepared();
    let config = fs::read_to_string(site.place().config()).unwrap();
    let roles = format!("[roles]\nadmin = \"{ADMIN}\"\ncustodian = \"{CUSTODIAN}\"\n");
    fs::write(site.place().config(), format!("{config}\n{roles}\n[approval]\nacts = [{acts}]\n{more}\n")).unwrap();
    site.start().unwrap();
    site.let_others_pass();
    Some(Guarded(site))
}

impl Guarded {
    /// A command of who logged in as `login` and became this account: with the groups of both roles, if it is not root.
    fn became(&self, login: u32, uid: u32, words: &[&str]) -> Ran {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $0 > /proc/self/loginuid && exec \"$@\"", &login.to_string()]);
        if uid != 0 {
            command.args(["setpriv", &format!("--reuid={uid}"), &format!("--regid={uid}")]);
            command.arg(format!("--groups={ADMIN},{CUSTODIAN}"));
        }
        command.arg(self.0.place().dir().join("sealdrop")).args(words).arg("--admin").arg(self.0.place().admin());
        run(command, b"")
    }

    /// By `sudo`.
    fn by(&self, login: u32, words: &[&str]) -> Ran {
        self.became(login, 0, words)
    }

    /// A command that is not done: the request that it made.
    #[track_caller]
    fn asks(&self, login: u32, words: &[&str]) -> String {
        let ran = self.by(login, &[words, &["--json"]].concat());
        assert_eq!(ran.status.code(), Some(5), "{}", ran.told());
        let row: Value = serde_json::from_slice(&ran.stdout).unwrap();
        assert_eq!(row["approved"], Value::Null);
        row["request"].as_str().unwrap().to_owned()
    }

    fn approves(&self, login: u32, request: &str) -> Ran {
        self.by(login, &["approve", request, "--reason", "seen the ticket"])
    }

    fn put(&self, name: &str) -> String {
        self.0.partner().put(&self.0.file(name, name.as_bytes()), &format!("/radiology/{name}"));
        format!("partner:/radiology/{name}")
    }

    fn details(&self, kind: &str) -> Vec<String> {
        self.0.events_of(kind, "").iter().map(|event| event["detail"].as_str().unwrap().to_owned()).collect()
    }

    fn state(&self, name: &str) -> String {
        let rows = self.0.ask(&["drops"]);
        let row = rows.iter().find(|row| row["path"] == format!("/radiology/{name}")).expect("a drop");
        row["state"].as_str().unwrap().to_owned()
    }
}

#[test]
fn one_admin_cannot_do_it_alone_whoever_they_become() {
    let Some(at) = guarded("\"shred\"", "") else { return };
    let drop = at.put("a.dcm");
    let shred = ["shred", &drop, "--reason", "sent by mistake"];
    let request = at.asks(ANNA, &shred);
    let approve = ["approve", &request, "--reason", "why not"];
    let told = at.by(ANNA, &approve).fails_with(1);
    assert!(told.contains("you asked for it yourself"), "{told}");
    let told = at.became(ANNA, 54321, &approve).fails_with(1);
    assert!(told.contains("you asked for it yourself"), "{told}");
    // A login that somebody gave themselves, from the account that the other logged in with.
    let told = at.became(BEN, ANNA, &approve).fails_with(1);
    assert!(told.contains("the account that the other has logged in with"), "{told}");
    assert_eq!(at.asks(ANNA, &shred), request, "it is one request, however often it is asked for");
    assert_eq!(at.state("a.dcm"), "live");
    let refused = at.0.refusals("");
    assert_eq!(refused.iter().filter(|event| event["kind"] == "approval-given").count(), 3);

    // Two people who share an account that is not root's are one.
    let ran = at.became(CARA, 54321, &[&shred[..], &["--json"]].concat());
    let row: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let told = at.became(BEN, 54321, &["approve", row["request"].as_str().unwrap(), "--reason", "x"]).fails_with(1);
    assert!(told.contains("counts as one person"), "{told}");
}

#[test]
fn who_has_not_logged_in_neither_asks_nor_approves() {
    let Some(at) = guarded("\"shred\"", "") else { return };
    if fs::read_to_string("/proc/self/loginuid").unwrap().trim() != u32::MAX.to_string() {
        eprintln!("this test has a login itself");
        return;
    }
    let drop = at.put("a.dcm");
    let shred = ["shred", &drop, "--reason", "sent by mistake"];
    let told = at.0.sealdrop(&shred).fails_with(1);
    assert!(told.contains("who has logged in") && told.contains("hint: ") && told.contains("Linux 6.5"), "{told}");
    let request = at.asks(ANNA, &shred);
    let told = at.0.sealdrop(&["approve", &request, "--reason", "x"]).fails_with(1);
    assert!(told.contains("who has logged in"), "{told}");
    assert_eq!(at.state("a.dcm"), "live");
}

#[test]
fn two_can_and_the_log_says_who_and_why() {
    let Some(at) = guarded("\"shred\"", "") else { return };
    let drop = at.put("a.dcm");
    let shred = ["shred", &drop, "--reason", "sent by mistake"];
    let ran = at.by(ANNA, &shred);
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(said.starts_with("not done yet, it awaits approval: shred drop "), "{said}");
    let told = ran.fails_with(5);
    assert!(told.contains("sealdrop approve ") && told.contains("the very same command again"), "{told}");
    assert_eq!(at.0.status()["awaiting"], 1);
    let doctor = at.by(CARA, &["doctor", "--json", "--config", at.0.place().config().to_str().unwrap()]);
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        doctor.contains("you are uid 1003 by login") && doctor.contains("1 request for a second person"),
        "{doctor}"
    );

    let rows = at.0.ask(&["approvals"]);
    let row = &rows[0];
    assert_eq!(row["by"], format!("uid 0 (root), logged in as uid {ANNA}"));
    assert_eq!(row["reason"], "sent by mistake");
    assert_eq!(row["drops"], 1);
    let request = row["request"].as_str().unwrap();
    let of = at.0.ask(&["approvals", request]);
    assert_eq!(of[0]["path"], "/radiology/a.dcm");
    at.by(BEN, &["approve", request, "--reason", " "]).fails_with(1);
    at.approves(BEN, request).ok();
    assert_eq!(at.0.status()["awaiting"], 0);
    // It is anna's: neither ben nor anybody else does it by that.
    assert_ne!(at.asks(BEN, &shred), request);
    assert_ne!(at.asks(CARA, &shred), request);
    at.by(ANNA, &shred).ok();
    assert_eq!(at.state("a.dcm"), "shredded");
    // Once.
    assert_ne!(at.asks(ANNA, &shred), request);

    for (kind, words) in
        [("approval-asked", ["uid 1001", "sent by mistake"]), ("approval-given", ["uid 1002", "seen the ticket"])]
    {
        let details = at.details(kind);
        assert!(details[0].contains(request) && words.iter().all(|word| details[0].contains(word)), "{details:?}");
    }
    let used = at.details("approval-used");
    assert_eq!(used.len(), 1, "{used:?}");
    for word in ["uid 1001", "sent by mistake", "uid 1002", "seen the ticket"] {
        assert!(used[0].contains(word), "{word}: {used:?}");
    }
    let events = at.0.events();
    let place = |kind: &str| events.iter().position(|event| event["kind"] == kind).unwrap();
    assert!(place("approval-used") < place("shredding"), "it is used before anything is done");
}

#[test]
fn approval_of_one_act_is_for_no_other() {
    let Some(at) = guarded("\"shred\", \"hold\"", "") else { return };
    let (a, b) = (at.put("a.dcm"), at.put("b.dcm"));
    let shred = |drop: &str, reason: &str| at.asks(ANNA, &["shred", drop, "--reason", reason]);
    let request = shred(&a, "first");
    at.approves(BEN, &request).ok();
    let others = [
        shred(&b, "first"),
        shred(&a, "second"),
        at.asks(ANNA, &["shred", &a, &b, "--reason", "first"]),
        at.asks(ANNA, &["hold", &a, "--reason", "first"]),
    ];
    assert!(!others.contains(&request));
    for name in ["a.dcm", "b.dcm"] {
        assert_eq!(at.state(name), "live");
    }
    // What is not named needs nobody.
    at.0.sealdrop(&["sweep"]).ok();
    at.0.sealdrop(&["reload"]).ok();
    at.by(ANNA, &["shred", &a, "--reason", "first"]).ok();
    assert_eq!((at.state("a.dcm"), at.state("b.dcm")), ("shredded".to_owned(), "live".to_owned()));
}

#[test]
fn a_request_is_over_in_time_approved_or_not() {
    let Some(at) = guarded("\"shred\"", "within = \"2h\"") else { return };
    let (a, b) = (at.put("a.dcm"), at.put("b.dcm"));
    let shred = ["shred", &a, "--reason", "x"];
    let request = at.asks(ANNA, &shred);
    at.approves(BEN, &request).ok();
    let unanswered = at.asks(ANNA, &["shred", &b, "--reason", "x"]);
    at.0.sealdrop(&["alarms", "--look", "--now", "+1h"]);
    assert_eq!(at.0.ask(&["approvals"]).len(), 2);
    at.0.sealdrop(&["alarms", "--look", "--now", "+3h"]);
    assert!(at.0.ask(&["approvals"]).is_empty());
    at.approves(BEN, &unanswered).fails_with(1);
    assert_ne!(at.asks(ANNA, &shred), request);
    assert_eq!(at.state("a.dcm"), "live");
    let over = at.details("approval-expired");
    assert_eq!(over.len(), 2, "{over:?}");
    assert!(
        over.iter().any(|detail| detail.contains(&request) && detail.ends_with("approved and not used")),
        "{over:?}"
    );
}

#[test]
fn an_approval_outlives_a_crash_and_is_used_once_whatever_crashes() {
    let Some(at) = guarded("\"shred\"", "") else { return };
    let mut at = at;
    let (a, b) = (at.put("a.dcm"), at.put("b.dcm"));
    let (first, second) = (["shred", &a, "--reason", "x"], ["shred", &b, "--reason", "x"]);
    let request = at.asks(ANNA, &first);
    at.0.crash_keeper();
    assert_eq!(at.asks(ANNA, &first), request, "the request is still there");
    at.approves(BEN, &request).ok();
    at.0.crash_keeper();
    at.by(ANNA, &first).ok();
    at.0.crash_keeper();
    assert_ne!(at.asks(ANNA, &first), request);

    // Between its use and the act: it is not used again.
    let request = at.asks(ANNA, &second);
    at.approves(BEN, &request).ok();
    at.0.crash_at("approval-used");
    at.by(ANNA, &second).fails_with(3);
    at.0.wait_for_end();
    at.0.start().unwrap();
    assert_eq!(at.state("b.dcm"), "live");
    assert_ne!(at.asks(ANNA, &second), request);
    assert_eq!(at.details("approval-used").len(), 2);
}

#[test]
fn a_second_person_can_say_no_and_who_asked_can_take_it_back() {
    let Some(at) = guarded("\"shred\"", "") else { return };
    let drop = at.put("a.dcm");
    let shred = ["shred", &drop, "--reason", "x"];
    let request = at.asks(ANNA, &shred);
    let said = at.by(BEN, &["refuse", &request, "--reason", "the clinic wants it"]).ok();
    assert!(said.starts_with("refused: shred drop "), "{said}");
    at.approves(CARA, &request).fails_with(1);
    let again = at.asks(ANNA, &shred);
    assert_ne!(again, request);
    at.approves(BEN, &again).ok();
    at.by(ANNA, &["refuse", &again, "--reason", "changed my mind"]).ok();
    at.by(BEN, &["refuse", &again, "--reason", "twice"]).fails_with(1);
    assert_ne!(at.asks(ANNA, &shred), again);
    assert_eq!(at.state("a.dcm"), "live");
    let refused = at.details("approval-refused");
    assert!(refused[0].contains("refused by uid 0 (root), logged in as uid 1002"), "{refused:?}");
    assert!(refused[0].ends_with(": the clinic wants it") && refused[1].contains("changed my mind"), "{refused:?}");
}

#[test]
fn many_drops_are_one_act_with_one_approval() {
    let Some(at) = guarded("\"shred\"", "") else { return };
    let folder = at.0.work().join("many");
    fs::create_dir(&folder).unwrap();
    for n in 0..120 {
        fs::write(folder.join(format!("{n:03}.dcm")), format!("{n}")).unwrap();
    }
    at.0.partner().sftp("put -r many /radiology").ok();
    let other = at.put("other.dcm");
    let shred = ["shred", "--below", "partner:/radiology/many", "--reason", "the study was withdrawn"];
    let request = at.asks(ANNA, &shred);
    let rows = at.0.ask(&["approvals"]);
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["what"], &rows[0]["drops"]), (&Value::from("shred 120 drops"), &Value::from(120)));
    assert_eq!(at.0.ask(&["approvals", &request]).len(), 120);
    at.approves(BEN, &request).ok();
    // One drop more is another act.
    let more = ["shred", "--below", "partner:/radiology", "--reason", "the study was withdrawn"];
    assert_ne!(at.asks(ANNA, &more), request);
    let said = at.by(ANNA, &shred).ok();
    assert!(said.contains("shredded 120 drops"), "{said}");
    assert_eq!(at.state("other.dcm"), "live");
    assert_eq!(at.details("approval-used").len(), 1);
    assert!(at.0.sealdrop(&["drops"]).ok().contains(other.rsplit('/').next().unwrap()));
}

#[test]
fn a_reload_is_approved_for_the_files_as_they_are() {
    let Some(at) = guarded("\"reload\"", "") else { return };
    let path = at.0.place().policy("partner");
    let policy = fs::read_to_string(&path).unwrap();
    let before = at.0.status()["policy"].clone();
    let approved = policy.replace("/shared", "/common");
    fs::write(&path, &approved).unwrap();
    let request = at.asks(ANNA, &["reload"]);
    at.approves(BEN, &request).ok();
    fs::write(&path, policy.replace("/shared", "/secret")).unwrap();
    assert_ne!(at.asks(ANNA, &["reload"]), request);
    at.0.signal(nix::sys::signal::Signal::SIGHUP);
    at.0.wait_for_event("policy-refused", 1);
    assert_eq!(at.0.status()["policy"], before);
    fs::write(&path, &approved).unwrap();
    at.by(ANNA, &["reload", "--why", "as agreed"]).ok();
    assert_ne!(at.0.status()["policy"], before);
    assert!(at.0.partner().list("/").contains(&"common".to_owned()));
    // What could not be loaded is told to who asks, and nobody is asked about it.
    fs::write(&path, "nonsense").unwrap();
    at.by(ANNA, &["reload"]).fails_with(1);
}

#[test]
fn an_account_that_is_changed_with_a_reload_waits_for_that_alone() {
    let Some(at) = guarded("\"reload\"", "") else { return };
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "echo $0 > /proc/self/loginuid && exec \"$@\"", &ANNA.to_string(), SEALDROP]);
    command.args(["user", "disable", "partner", "--reload", "--config"]).arg(at.0.place().config());
    let ran = run(command, b"");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(said.contains("awaits approval: reload of policy "), "{said}");
    let told = ran.fails_with(5);
    assert!(told.contains("then you: sealdrop reload\n"), "{told}");
    let request = at.0.ask(&["approvals"])[0]["request"].as_str().unwrap().to_owned();
    at.approves(BEN, &request).ok();
    at.by(ANNA, &["reload"]).ok();
    at.0.partner().sftp("ls /").fails();
}

#[test]
fn each_act_that_is_named_waits() {
    let acts = "\"rotate\", \"kick\", \"sweep\", \"backup\", \"release\", \"hold\"";
    let Some(at) = guarded(acts, "") else { return };
    let drop = at.put("a.dcm");
    let dir = at.0.work().join("backup");
    let dir = dir.to_str().unwrap();
    for words in [
        &["rotate", "receipt", "--reason", "x"][..],
        &["kick", "partner", "--reason", "x"],
        &["sweep"],
        &["backup", "--ledger-only", dir],
        &["hold", &drop, "--reason", "x"],
        &["release", &drop, "--reason", "x"],
    ] {
        let request = at.asks(ANNA, words);
        at.by(ANNA, words).fails_with(5);
        at.approves(BEN, &request).ok();
        let done = at.by(ANNA, words);
        match words[0] {
            // It was done, and nobody was on.
            "kick" => assert!(done.fails_with(1).contains("partner is not on")),
            _ => assert!(!done.ok().is_empty()),
        }
        // Once: `backup` would not ask for a folder that is not empty.
        let _ = fs::remove_dir_all(dir);
        at.by(ANNA, words).fails_with(5);
    }
    assert_eq!(at.details("approval-used").len(), 6);
    // To see what would be done is free.
    at.0.sealdrop(&["sweep", "--plan"]).ok();
}

#[test]
fn what_is_wrong_in_the_settings_is_told_with_its_line() {
    let site = Site::prepared();
    let config = fs::read_to_string(site.place().config()).unwrap();
    fs::write(site.place().config(), format!("{config}\n[approval]\nacts = [\"shred\", \"relase\", \"rewrap\"]\n"))
        .unwrap();
    let ran = site.sealdrop(&["check"]);
    let told = format!("{}{}", String::from_utf8_lossy(&ran.stdout), ran.stderr);
    ran.fails_with(1);
    let line = config.lines().count() + 3;
    for word in [
        &format!("sealdrop.toml:{line}:18"),
        "^^^^^^^^",
        "did you mean \"release\"?",
        &format!("sealdrop.toml:{line}:28"),
        "`rewrap` does not ask the daemon",
    ] {
        assert!(told.contains(word), "`{word}` is not in:\n{told}");
    }
}
