//! The command line as people and scripts meet it: help, exit codes, JSON of a documented shape, one voice for errors, no
//! colour off a terminal.

use std::process::Command;

use crate::run::{Ran, run};
use crate::site::{SEALDROP, Site, content};

pub const COMMANDS: &[&str] = &[
    "completions",
    "man",
    "schema",
    "serve",
    "demo",
    "init",
    "check",
    "explain",
    "plan",
    "policy",
    "retain",
    "doctor",
    "status",
    "drops",
    "receipts",
    "audit",
    "evidence",
    "report",
    "backup",
    "restore",
    "fsck",
    "witness",
    "sweep",
    "passwd",
    "totp",
    "keygen",
    "seal",
    "open",
    "export",
    "verify",
    "reload",
    "sessions",
    "top",
    "kick",
    "approvals",
    "approve",
    "refuse",
    "alarms",
    "user",
    "onboard",
];

fn sealdrop(words: &[&str]) -> Ran {
    let mut command = Command::new(SEALDROP);
    command.args(words);
    run(command, b"")
}

#[test]
fn every_command_is_in_the_help_and_in_the_documentation() {
    let help = sealdrop(&["--help"]).ok();
    let page = include_str!("../../docs/cli.md");
    for &command in COMMANDS {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{command} is not in\n{help}");
        assert!(sealdrop(&[command, "--help"]).ok().contains("Usage: sealdrop"), "{command}");
        assert!(page.contains(&format!("`sealdrop {command}")), "docs/cli.md does not tell of {command}");
    }
    assert!(!help.contains("probe"), "what is for tests only is not shown");
    assert!(help.contains("Exit codes"));
}

#[test]
fn exit_codes_tell_a_failure_a_wrong_command_line_and_an_absent_daemon_apart() {
    let site = Site::prepared();
    assert_eq!(sealdrop(&["--version"]).status.code(), Some(0));
    sealdrop(&["nonsense"]).fails_with(2);
    sealdrop(&["sweep", "--now", "yesterday"]).fails_with(2);
    sealdrop(&["check", "--config", "/nonexistent.toml"]).fails_with(1);
    for command in ["status", "drops", "receipts", "audit", "sweep", "reload", "sessions", "top", "alarms"] {
        // Without a configuration there is no saying where the daemon is.
        let said = sealdrop(&[command, "--config", "/nonexistent.toml"]).fails_with(3);
        assert!(said.starts_with("error: /nonexistent.toml: there is no such file\nhint: "), "{said}");
        assert_eq!(said.matches("hint:").count(), 1, "{said}");
        let said = site.sealdrop(&[command]).fails_with(3);
        assert!(said.starts_with("error: no daemon answers at ") && said.contains("\nhint: "), "{said}");
    }
}

#[test]
fn a_command_finds_the_daemon_by_its_socket_too() {
    let site = Site::new();
    let admin = site.place().admin().display().to_string();
    let told = sealdrop(&["status", "--json", "--admin", &admin]).ok();
    let status: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(status["pids"]["keeper"], site.keeper());
}

#[test]
fn json_has_the_documented_keys() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", b"x"), "/radiology/a.dcm");
    let keys = |value: &serde_json::Value| {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    let page = include_str!("../../docs/cli.md");
    for words in [&["status"][..], &["drops"], &["receipts"], &["sweep", "--plan"]] {
        let rows = site.ask(words);
        assert!(!rows.is_empty(), "{words:?}");
        for key in keys(&rows[0]) {
            assert!(page.contains(&format!("\"{key}\"")), "docs/cli.md does not tell of `{key}` of {words:?}");
        }
    }
    let status = site.status();
    assert_eq!(status["users"], 3);
    assert_eq!(status["drops"], 1);
    assert_eq!(status["listen"][0], site.place().listen().to_string());
    let drops = site.ask(&["drops"]);
    assert_eq!(drops[0]["sender"], "partner");
    assert_eq!(drops[0]["recipients"][0], "radiology");
    assert_eq!(drops[0]["path"], "/radiology/a.dcm");
    assert_eq!(drops[0]["size"], 1);
    assert_eq!(drops[0]["picked_up"], 0);
    assert_eq!(site.ask(&["drops", "--user", "lab"]).len(), 0);
    site.recipient("radiology").get("/inbox/partner/a.dcm");
    // The client does not wait for the record of its pick-up.
    site.wait_for_event("download-ended", 1);
    assert_eq!(site.ask(&["drops"])[0]["picked_up"], 1);
}

#[test]
fn people_get_tables_without_colour_off_a_terminal() {
    let site = Site::new();
    assert_eq!(site.sealdrop(&["drops"]).ok(), "no drops\n");
    assert_eq!(site.sealdrop(&["receipts"]).ok(), "no receipts\n");
    site.partner().put(&site.file("a.dcm", &content("", 2048)), "/radiology/a.dcm");
    let table = site.sealdrop(&["drops"]).ok();
    let mut lines = table.lines();
    let heads: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(
        heads,
        ["DROP", "STATE", "FROM", "TO", "SIZE", "RECEIVED", "EXPIRES", "FETCHED", "SUPERSEDED", "ORDER", "PATH"]
    );
    let row = lines.next().unwrap();
    assert!(row.contains("2.0 KiB") && row.ends_with("/radiology/a.dcm"), "{row}");
    for words in [&["status"][..], &["drops"], &["audit"], &["sweep", "--plan"]] {
        assert!(!site.sealdrop(words).ok().contains('\u{1b}'), "{words:?}");
    }
}

#[test]
fn explain_answers_as_the_server_does_and_names_the_line() {
    let site = Site::new();
    let explain = |words: &[&str]| site.sealdrop(&[&["explain"], words].concat());
    let told = explain(&["partner", "put", "/radiology/a.dcm"]).ok();
    let line = format!("{}:", site.place().policy("partner").display());
    assert!(told.starts_with("permitted: partner put /radiology/a.dcm\n") && told.contains(&line), "{told}");
    assert!(told.contains("/inbox/partner/a.dcm of radiology"), "{told}");
    site.partner().put(&site.file("a.dcm", b"x"), "/radiology/a.dcm");

    let ran = explain(&["partner", "get", "/radiology/a.dcm", "--json"]);
    assert_eq!(ran.status.code(), Some(4), "{}", ran.told());
    assert_eq!(ran.stderr, "");
    let answer: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let heard = site.partner().sftp("get /radiology/a.dcm back").fails();
    let (status, say) = (answer["client"]["status"].as_str().unwrap(), answer["client"]["say"].as_str().unwrap());
    assert!(heard.contains(say) || heard.to_lowercase().contains(status), "{answer} {heard}");
    let page = include_str!("../../docs/cli.md");
    for key in answer.as_object().unwrap().keys() {
        assert!(page.contains(&format!("\"{key}\"")), "docs/cli.md does not tell of `{key}`");
    }
    explain(&["partner", "login", "--from", "198.51.100.1", "--at", "02:00"]).ok();
    explain(&["partner", "put"]).fails_with(2);
    explain(&["partner", "rename", "/radiology/a"]).fails_with(2);
    explain(&["nobody-here", "list", "/"]).fails_with(4);
}

#[test]
fn plan_says_what_a_reload_would_change_and_then_nothing_does() {
    let site = Site::new();
    assert!(site.sealdrop(&["plan"]).ok().starts_with("nothing changes: the files are the same\n"));
    let path = site.place().policy("partner");
    let policy = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("# Friday\n{policy}")).unwrap();
    assert!(site.sealdrop(&["plan"]).ok().starts_with("nobody's rights change: "));

    let kept = site.work().join("kept");
    std::fs::create_dir(&kept).unwrap();
    for user in ["partner", "radiology", "lab"] {
        std::fs::copy(site.place().policy(user), kept.join(format!("{user}.toml"))).unwrap();
    }
    std::fs::write(&path, policy.replace("/shared", "/common").replace("[login]", "[login]\ndisabled = true")).unwrap();
    let against = kept.display().to_string();
    for words in [&["plan"][..], &["plan", "--against", &against]] {
        let ran = site.sealdrop(words);
        assert_eq!((ran.status.code(), ran.stderr.as_str()), (Some(4), ""), "{}", ran.told());
        let told = String::from_utf8(ran.stdout).unwrap();
        assert!(told.starts_with("partner\n  - the account is disabled"), "{told}");
        assert!(
            told.contains("\n  ! /common: a new shared folder") && told.contains("\n3 changes, 1 of them giving more"),
            "{told}"
        );
    }
    let ran = site.sealdrop(&["plan", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((&told["wider"], told["changes"].as_array().unwrap().len()), (&1.into(), 3));
    assert_eq!(told["before"]["policy"], site.status()["policy"]);
    let page = include_str!("../../docs/cli.md");
    let keys = told.as_object().unwrap().keys().chain(told["changes"][0].as_object().unwrap().keys());
    for key in keys {
        assert!(page.contains(&format!("\"{key}\"")), "docs/cli.md does not tell of `{key}`");
    }
    site.sealdrop(&["reload"]).ok();
    site.sealdrop(&["plan"]).ok();

    std::fs::write(&path, "user = 1").unwrap();
    assert!(site.sealdrop(&["plan"]).fails_with(1).contains("partner.toml"));
}

#[test]
fn the_audit_log_is_filtered_for_reading_only() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", b"x"), "/radiology/a.dcm");
    let all = site.events();
    assert!(all.len() > 2);
    assert!(site.ask(&["audit", "--user", "partner"]).iter().all(|event| event["user"] == "partner"));
    assert_eq!(site.ask(&["audit", "--kind", "upload-committed"]).len(), 1);
    assert_eq!(site.ask(&["audit", "--path", "/radiology", "--kind", "upload-committed"]).len(), 1);
    let told = site.sealdrop(&["audit", "--kind", "upload-committed"]).ok();
    assert!(
        told.contains("upload-committed") && told.contains("/radiology/a.dcm") && told.lines().count() == 1,
        "{told}"
    );
}

#[test]
fn init_makes_what_is_missing_and_says_so_once() {
    let dir = tempfile::tempdir().unwrap();
    let (config, state) = (dir.path().join("etc/sealdrop.toml"), dir.path().join("state"));
    let init = || {
        let mut command = Command::new(SEALDROP);
        command.args(["init", "--listen", "127.0.0.1:2022", "--config"]).arg(&config).arg("--state").arg(&state);
        run(command, b"").ok()
    };
    let first = init();
    for made in [&config, &state, &state.join("version"), &state.join("keys/root"), &state.join("keys/host_ed25519")] {
        assert!(first.contains(&format!("made {}\n", made.display())), "{} is not in\n{first}", made.display());
        assert!(made.exists());
    }
    let keys = std::fs::read(state.join("keys/root")).unwrap();
    assert!(init().contains("nothing was changed"));
    assert_eq!(std::fs::read(state.join("keys/root")).unwrap(), keys);
    let mut check = Command::new(SEALDROP);
    check.args(["check", "--config"]).arg(&config);
    run(check, b"").ok();
}

#[test]
fn a_reload_takes_a_good_policy_at_once_and_leaves_a_bad_one() {
    let site = Site::new();
    let path = site.place().policy("partner");
    let policy = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{policy}\nnonsense = 1\n")).unwrap();
    let said = site.sealdrop(&["reload"]).fails_with(1);
    assert!(said.starts_with("error: "), "{said}");
    site.partner().put(&site.file("a.dcm", b"x"), "/radiology/a.dcm");
    let before = site.status()["policy"].clone();
    std::fs::write(&path, policy.replace("/shared", "/common")).unwrap();
    site.sealdrop(&["reload"]).ok();
    assert_ne!(site.status()["policy"], before);
    assert!(site.partner().list("/").contains(&"common".to_owned()));
    for kind in ["policy-refused", "policy-loaded"] {
        assert!(!site.events_of(kind, "").is_empty(), "{kind}");
    }
}

#[test]
fn a_user_who_is_taken_out_of_the_policy_is_cut_off() {
    let site = Site::new();
    site.partner().sftp("ls").ok();
    std::fs::remove_file(site.place().policy("partner")).unwrap();
    site.sealdrop(&["reload"]).ok();
    site.partner().sftp("ls").fails();
}

#[test]
fn keys_sealed_files_and_identities_are_made_and_opened_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let at = |words: &[&str]| {
        let mut command = Command::new(SEALDROP);
        command.args(words).current_dir(dir.path());
        run(command, b"")
    };
    let told = at(&["keygen", "--output", "me.identity"]).ok();
    let text = std::fs::read_to_string(dir.path().join("me.identity")).unwrap();
    let recipient = [&told, &text]
        .into_iter()
        .flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric()))
        .find(|word| word.starts_with("sealdrop1"))
        .expect("the recipient is printed");
    let plain = content("sealed by its sender ", 150_000);
    std::fs::write(dir.path().join("plain"), &plain).unwrap();
    at(&["seal", "--recipient", recipient, "--output", "sealed", "plain"]).ok();
    let sealed = std::fs::read(dir.path().join("sealed")).unwrap();
    assert!(!crate::site::contains(&sealed, b"sealed by its sender"));
    at(&["open", "--identity", "me.identity", "--output", "opened", "sealed"]).ok();
    assert!(std::fs::read(dir.path().join("opened")).unwrap() == plain);
}

#[test]
fn completions_and_man_pages_are_of_every_command_and_sound() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    let told = sealdrop(&["man", &pages.display().to_string()]).ok();
    for &command in COMMANDS {
        let page = pages.join(format!("sealdrop-{command}.1"));
        let text = std::fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
        assert!(text.contains(".SH SYNOPSIS") && told.contains(&format!("{}\n", page.display())), "{command}");
    }
    assert!(!pages.join("sealdrop-probe.1").exists(), "what is for tests only has no page");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = sealdrop(&["completions", shell]).ok();
        for &command in COMMANDS {
            assert!(script.contains(command), "{command} in {shell}");
        }
    }
    // Bash is on every machine that runs the tests: it reads its own, and completes.
    let script = dir.path().join("sealdrop.bash");
    std::fs::write(&script, sealdrop(&["completions", "bash"]).ok()).unwrap();
    let mut bash = Command::new("bash");
    let words = "source \"$1\"; COMP_WORDS=(sealdrop expl); COMP_CWORD=1; _sealdrop sealdrop expl sealdrop; echo \"${COMPREPLY[@]}\"";
    bash.args(["--norc", "-c", words, "bash"]).arg(&script);
    assert_eq!(run(bash, b"").ok(), "explain\n");
}
