//! What every command says, whole: each `--help`, and what people see of a small site. What differs from run to run is masked.
//! `SEALDROP_BLESS=1` writes the transcripts; a review reads what changed.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::commands::COMMANDS;
use crate::run::{Ran, run};
use crate::site::{SEALDROP, Site};

/// Compares with the transcript, or writes it.
#[track_caller]
fn agrees(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(name);
    if std::env::var_os("SEALDROP_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if kept != text {
        let differs = kept.lines().zip(text.lines()).find(|(kept, now)| kept != now);
        panic!("{} is not what is said now (SEALDROP_BLESS=1 writes it): {differs:?}\n{text}", path.display());
    }
}

#[test]
fn help_is_as_it_was_read() {
    for command in COMMANDS.iter().map(|command| vec![*command, "--help"]).chain([vec!["--help"]]) {
        let mut program = Command::new(SEALDROP);
        let name = if command.len() == 1 { "sealdrop" } else { command[0] };
        program.args(&command);
        agrees(&format!("help-{name}.txt"), &run(program, b"").ok());
    }
}

/// Words that differ from run to run, as what they are.
fn masked(site: &Site, text: &str) -> String {
    let dir = site.place().dir().display().to_string();
    let listen = site.place().listen().to_string();
    let text = text.replace(&dir, "<dir>").replace(&listen, "<address>");
    text.lines().map(masked_line).collect()
}

fn masked_line(line: &str) -> String {
    // Columns are as wide as what stands in them, which is masked.
    let indent: String = line.chars().take_while(|c| *c == ' ').collect();
    let words = line.split_whitespace().map(|word| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let hex = bare.len() >= 16 && bare.bytes().all(|b| b.is_ascii_hexdigit());
        let time = bare.len() >= 20 && bare.ends_with('Z') && bare.as_bytes()[10] == b'T';
        let key = bare.starts_with("SHA256:");
        match (hex, time, key) {
            (true, _, _) => word.replace(bare, "<hex>"),
            (_, true, _) => word.replace(bare, "<time>"),
            (_, _, true) => word.replace(bare, "<key>"),
            _ => word.to_owned(),
        }
    });
    format!("{indent}{}\n", words.collect::<Vec<_>>().join(" "))
}

/// A command line, and all that came of it.
fn told(site: &Site, words: &[&str]) -> String {
    let ran = site.sealdrop(words);
    let mut text = format!("$ sealdrop {}\n{}", words.join(" "), String::from_utf8_lossy(&ran.stdout));
    for line in ran.stderr.lines() {
        text.push_str(&format!("2> {line}\n"));
    }
    let code = ran.status.code().unwrap_or(-1);
    if code != 0 {
        text.push_str(&format!("exit code {code}\n"));
    }
    masked(site, &text)
}

#[test]
fn a_small_site_is_told_of_as_it_was_read() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", &[b'x'; 2048]), "/radiology/a.dcm");
    let mut text = String::new();
    for words in [
        &["check"][..],
        &["drops"],
        &["drops", "--user", "lab"],
        &["receipts"],
        &["audit", "--kind", "upload-committed"],
        &["sweep", "--plan"],
        &["explain", "partner", "put", "/radiology/b.dcm"],
        &["explain", "partner", "get", "/radiology/a.dcm"],
        &["explain", "partner", "put", "/elsewhere/b.dcm"],
        &["explain", "lab", "login"],
        &["plan"],
        &["reload"],
    ] {
        text.push_str(&told(&site, words));
        text.push('\n');
    }
    let path = site.place().policy("partner");
    let policy = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, policy.replace("/shared", "/common")).unwrap();
    text.push_str(&told(&site, &["plan"]));
    std::fs::write(&path, policy.replace("/shared", "shared")).unwrap();
    for words in [&["plan"][..], &["reload"]] {
        text.push('\n');
        text.push_str(&told(&site, words));
    }
    agrees("site.txt", &text);
}

#[test]
fn a_daemon_that_is_not_there_is_told_of_as_it_was_read() {
    let site = Site::prepared();
    let text: Vec<String> = ["status", "drops", "plan"].map(|command| told(&site, &[command])).to_vec();
    agrees("no-daemon.txt", &text.join("\n"));
}

/// Runs with a standard output that nobody reads any more.
fn unread(site: &Site, words: &[&str]) -> Ran {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(SEALDROP);
    command.args(words).arg("--config").arg(site.place().config()).stdin(Stdio::null()).stdout(writer);
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ran { line: format!("{command:?}"), status: output.status, stdout: output.stdout, stderr }
}

#[test]
fn a_reader_that_has_gone_hears_no_complaint() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", b"x"), "/radiology/a.dcm");
    let commands = [
        &["audit"][..],
        &["audit", "--json"],
        &["status"],
        &["drops"],
        &["receipts"],
        &["sweep", "--plan"],
        &["check"],
        &["check", "--json"],
        &["explain", "partner", "list", "/"],
        &["plan"],
    ];
    for words in commands {
        let ran = unread(&site, words);
        assert!(ran.status.success() && ran.stderr.is_empty(), "{}", ran.told());
    }
    std::fs::write(site.place().policy("partner"), "nonsense").unwrap();
    let ran = unread(&site, &["check"]);
    assert_eq!(ran.status.code(), Some(1), "the exit code is told all the same: {}", ran.told());
}
