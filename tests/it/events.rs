//! Every logical operation is one event, whichever way it ends, with what an auditor asks of it. A table: what somebody
//! does, and what the log says of it then.

use std::fs;

use sealdrop::ledger::Kind;
use serde_json::Value;

use crate::site::Site;
use crate::user::User;

/// Who it was, from where, in which session, under which policy.
const SESSION: [&str; 5] = ["user", "key", "address", "session", "policy"];

struct Row {
    what: &'static str,
    does: fn(&Site),
    /// Kind, outcome, and members beside those of the session.
    says: &'static [(&'static str, &'static str, &'static [&'static str])],
}

fn partner(site: &Site) -> User<'_> {
    site.partner()
}

fn recipient(site: &Site) -> User<'_> {
    site.recipient("radiology")
}

/// In this order: each row stands on what the ones before it left.
const ROWS: &[Row] = &[
    Row {
        what: "an upload",
        does: |site| partner(site).put(&site.file("a.dcm", b"content"), "/radiology/a.dcm"),
        says: &[
            ("logged-in", "done", &[]),
            ("upload-committed", "done", &["path", "drop", "receipt", "receipt_sha256", "bytes", "sha256", "ms"]),
            ("logged-out", "done", &["ms"]),
        ],
    },
    Row {
        what: "an upload outside every folder",
        does: |site| drop(partner(site).sftp(format!("put {} /nowhere.dcm", site.file("n", b"x").display()))),
        says: &[("upload-refused", "refused", &["path", "why"])],
    },
    Row {
        what: "an upload under a temporary name, and its rename",
        does: |site| {
            let local = site.file("p", b"parked");
            let lines =
                format!("put {} /radiology/p.dcm.part\nrename /radiology/p.dcm.part /radiology/p.dcm", local.display());
            partner(site).sftp(lines).ok();
        },
        says: &[("upload-parked", "done", &["path", "drop", "bytes"]), ("upload-committed", "done", &["path", "ms"])],
    },
    Row {
        what: "a download",
        does: |site| drop(recipient(site).get("/inbox/partner/a.dcm")),
        says: &[
            ("download-opened", "done", &["path", "drop", "bytes"]),
            ("download-ended", "done", &["path", "drop", "bytes", "ms"]),
        ],
    },
    Row {
        what: "a download from a drop folder",
        does: |site| drop(partner(site).sftp("get /radiology/a.dcm")),
        says: &[("download-opened", "refused", &["path", "why"])],
    },
    Row {
        what: "a listing",
        does: |site| drop(partner(site).sftp("ls -1 /radiology").ok()),
        says: &[("listed", "done", &["path"])],
    },
    Row { what: "a listing of what is not there", does: |site| drop(partner(site).sftp("ls -1 /nothing")), says: &[] },
    Row {
        what: "a folder made and removed",
        does: |site| drop(partner(site).sftp("mkdir /shared/d\nrmdir /shared/d").ok()),
        says: &[("folder-made", "done", &["path"]), ("folder-removed", "done", &["path"])],
    },
    Row {
        what: "a folder where none may be",
        does: |site| drop(partner(site).sftp("mkdir /d")),
        says: &[("folder-made", "refused", &["path", "why"])],
    },
    Row {
        what: "a rename, and one to where it may not go",
        does: |site| {
            partner(site).put(&site.file("s", b"shared"), "/shared/s.txt");
            drop(partner(site).sftp("rename /shared/s.txt /shared/t.txt\n-rename /shared/t.txt /radiology/t.txt"));
        },
        says: &[("renamed", "done", &["path", "to"]), ("renamed", "refused", &["path", "to", "why"])],
    },
    Row {
        what: "a removal, and one of what is not there",
        does: |site| drop(partner(site).sftp("rm /shared/t.txt\n-rm /shared/t.txt")),
        says: &[("removed", "done", &["path", "drop"])],
    },
    Row {
        what: "a receipt read",
        does: |site| drop(partner(site).get("/receipts/radiology/a.dcm.receipt")),
        says: &[("receipt-read", "done", &["path"])],
    },
    Row {
        what: "a digest and a status",
        does: |site| {
            partner(site).ssh(&[], &["sha256sum", "/radiology/a.dcm"]).ok();
            partner(site).ssh(&[], &["status", "/radiology/a.dcm"]).ok();
        },
        says: &[("digest-read", "done", &["path"]), ("status-read", "done", &["path"])],
    },
    Row {
        what: "a command that there is not",
        does: |site| drop(partner(site).ssh(&[], &["reboot"])),
        says: &[("operation-refused", "refused", &["why"])],
    },
];

#[test]
fn every_operation_is_one_event_with_what_an_auditor_asks() {
    let site = Site::new();
    let mut wrong = Vec::new();
    let mut seen = site.events().len();
    for row in ROWS {
        let sessions = count(&site.events(), "logged-out") + usize::from(row.what.contains("digest")) + 1;
        (row.does)(&site);
        site.wait_for_event("logged-out", sessions.min(count(&site.events(), "logged-in")));
        let events = site.events();
        for (kind, outcome, members) in row.says {
            let new = events[seen..].iter().filter(|event| event["kind"] == *kind && event["outcome"] == *outcome);
            let found: Vec<&Value> = new.collect();
            if found.len() != 1 {
                wrong.push(format!("{}: {} times {kind} {outcome}", row.what, found.len()));
            }
            for event in found {
                let missing = SESSION.iter().chain(*members).filter(|member| event.get(**member).is_none());
                wrong.extend(missing.map(|member| format!("{}: {kind} {outcome} has no {member}", row.what)));
            }
        }
        seen = events.len();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["kind"] == kind).count()
}

#[test]
fn what_the_daemon_and_its_admins_do_is_in_the_log() {
    let mut site = Site::new();
    let first = site.events();
    let started = &first[0];
    assert_eq!((&started["kind"], &started["outcome"]), (&"daemon-started".into(), &"done".into()));
    assert!(started["detail"].as_str().unwrap().contains("settings "), "{started}");
    assert!(
        first.iter().any(|e| e["kind"] == "keys-loaded" && e["detail"].as_str().unwrap().contains("receipt SHA256:"))
    );
    let before = started["policy"].as_str().unwrap().to_owned();

    // Who, why, and what it was before.
    let path = site.place().policy("partner");
    let policy = fs::read_to_string(&path).unwrap();
    fs::write(&path, policy.replace("72h", "48h")).unwrap();
    site.sealdrop(&["reload", "--why", "ticket 17"]).ok();
    let loaded = &site.events_of("policy-loaded", "")[0];
    let uid = nix::unistd::geteuid();
    let name = nix::unistd::User::from_uid(uid).unwrap().unwrap().name;
    let login = fs::read_to_string("/proc/self/loginuid").ok().filter(|login| login.trim() != "4294967295");
    let login = login.map(|login| login.trim().parse::<u32>().unwrap()).filter(|login| *login != uid.as_raw());
    let by = match login {
        None => format!("by uid {uid} ({name})"),
        Some(login) => {
            let name = nix::unistd::User::from_uid(login.into()).unwrap().map_or_else(String::new, |user| user.name);
            format!("by uid {uid} (root), logged in as uid {login} ({name})")
        }
    };
    assert_eq!(loaded["detail"], format!("reload, {by}: ticket 17; before it was {before}"));
    assert_ne!(loaded["policy"], before);
    fs::write(&path, "user = 1").unwrap();
    site.sealdrop(&["reload"]).fails_with(1);
    assert_eq!(site.events_of("policy-refused", "")[0]["outcome"], "refused");
    fs::write(&path, policy).unwrap();
    site.sealdrop(&["sweep", "--why", "by hand"]).ok();
    let swept = site.events_of("admin-command", "");
    assert!(swept[0]["detail"].as_str().unwrap().ends_with(&format!("{by}: by hand")), "{swept:?}");

    // A stop, a policy and settings that are others at the next start, a crash.
    site.set("test_clock = true # as before, said otherwise");
    site.restart();
    let settings = |event: &Value| event["detail"].as_str().unwrap().split("settings ").nth(1).unwrap().to_owned();
    let again = settings(&site.events_of("daemon-started", "")[1]);
    assert!(again.ends_with(&format!("; before they were {}", settings(started))), "{again}");
    assert_eq!(settings(&site.events_of("daemon-stopped", "")[0]), settings(started));
    assert_eq!(site.events_of("daemon-stopped", "").len(), 1);
    let at_start = &site.events_of("policy-loaded", "")[1];
    let after = loaded["policy"].as_str().unwrap();
    assert_eq!(at_start["detail"], format!("at start; before it was {after}"));
    assert_eq!(site.events_of("crash-found", "").len(), 0);
    site.crash_keeper();
    assert_eq!(site.events_of("crash-found", "").len(), 1);
    assert!(!settings(&site.events_of("daemon-started", "")[2]).contains("before"), "they are the same");
}

#[test]
fn a_refused_login_says_who_from_where_and_why() {
    let site = Site::new();
    let stranger = site.work().join("stranger");
    let made =
        std::process::Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&stranger).status();
    assert!(made.unwrap().success());
    let mut ssh = std::process::Command::new("ssh");
    let options = site.partner().ssh_options();
    let key = site.place().key("partner").display().to_string();
    ssh.args(options.iter().map(|word| word.replace(&key, stranger.to_str().unwrap())));
    ssh.arg(site.partner().target()).arg("help");
    assert!(!crate::run::run(ssh, b"").status.success());
    site.wait_for_event("login-refused", 1);
    let refused = &site.events_of("login-refused", "")[0];
    for member in ["user", "address", "why", "policy"] {
        assert!(refused.get(member).is_some(), "no {member} in {refused}");
    }
}

/// The page names every kind there is, and none that there is not.
#[test]
fn the_ledgers_page_lists_every_kind_of_event() {
    let page = include_str!("../../docs/ledger.md");
    let (_, list) = page.split_once("### Kinds").expect("a list of kinds");
    let list = list.split("\n## ").next().unwrap();
    let told: Vec<&str> = list
        .lines()
        .filter(|line| line.starts_with("| `"))
        .flat_map(|line| line.split('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect::<Vec<_>>())
        .collect();
    for kind in Kind::ALL {
        assert!(told.contains(&kind.word()), "docs/ledger.md does not say what `{}` is", kind.word());
    }
    for word in told {
        assert!(Kind::from_word(word).is_some(), "docs/ledger.md tells of `{word}`, which is no kind of event");
    }
}
