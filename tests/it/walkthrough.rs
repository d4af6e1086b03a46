//! README's way from nothing to a partner's first verified drop, done as it is written there: the commands are taken from the page.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use sealdrop::cli::demo::daemon::Daemon;

use crate::run::run;
use crate::site::{SEALDROP, Site, have};

/// The commands between the fences of README's "A real server", without what is said about them.
fn commands() -> Vec<String> {
    let page = include_str!("../../README.md");
    let (_, section) = page.split_once("## A real server, in five minutes").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let blocks = section.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(|block| block.lines().skip(1));
    lines.map(|line| line.split(" # ").next().unwrap().trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn readme_leads_from_nothing_to_a_verified_drop_as_it_is_written() {
    if !have("ssh-keygen") || !have("sftp") {
        return;
    }
    let other = Site::prepared();
    let work = other.work();
    let (dir, bin) = (work.join("server"), work.join("bin"));
    let config = dir.join("sealdrop.toml");
    fs::create_dir(&bin).unwrap();
    // What differs from a machine of one's own: where files are, the account, and which machine `server` is.
    let program = |name: &str, text: &str| {
        fs::write(bin.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    let (place, here) = (dir.display(), work.display());
    let listen = other.place().listen();
    program(
        "sealdrop",
        &format!(
            "case $1 in init) set -- \"$@\" --state {place}/state --listen {listen} --name server.example;; esac\n\
             exec {SEALDROP} \"$@\" --config {place}/sealdrop.toml"
        ),
    );
    program("sftp", &format!("exec /usr/bin/sftp -F {here}/ssh_config \"$@\""));
    let ssh_config = format!(
        "Host server\nHostName {}\nHostKeyAlias server\nUserKnownHostsFile {here}/known_hosts\nBatchMode yes\n\
         IdentitiesOnly yes\nIdentityAgent none\nIdentityFile {here}/private/%r\n",
        listen.ip()
    );
    fs::write(work.join("ssh_config"), ssh_config).unwrap();
    fs::create_dir(work.join("private")).unwrap();
    for name in ["st-mary", "acme"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(work.join("private").join(name));
        run(keygen, b"").ok();
        fs::rename(work.join(format!("private/{name}.pub")), work.join(format!("{name}.pub"))).unwrap();
    }
    let study = b"a study".repeat(10_000);
    fs::write(work.join("study.dcm"), &study).unwrap();

    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let shell = |line: &str| {
        let mut command = Command::new("bash");
        command.args(["-ec", line]).env("PATH", &path).env("HOME", &work).current_dir(&work);
        run(command, b"")
    };
    let mut daemon = None;
    let mut done = Vec::new();
    for line in commands() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            // The program under test is the one that was built, and is not installed.
            ["cargo", ..] | ["install", ..] => continue,
            ["systemctl", "enable", "--now", "sealdrop"] => {
                let mut serve = Command::new(SEALDROP);
                serve.args(["serve", "--config"]).arg(&config);
                daemon = Some(Daemon::start(serve, &dir, &dir.join("log")).unwrap_or_else(|e| panic!("{}", e.message)));
            }
            ["sealdrop", "init"] => {
                let said = shell(&line).ok();

                let signers = said.lines().map(str::trim).find(|line| line.contains("namespaces=")).unwrap();
                fs::write(work.join("allowed_signers"), format!("{signers}\n")).unwrap();
                // Its words are to be replaced by the name that is connected to.
                let host = said.lines().map(str::trim).find(|line| line.contains(" ssh-ed25519 ") && *line != signers);
                let (_, key) = host.unwrap().split_once(' ').unwrap();
                fs::write(work.join("known_hosts"), format!("server {key}\n")).unwrap();

                // The account that the package makes is not on every machine that tests.
                let text = fs::read_to_string(&config).unwrap();
                fs::write(&config, text.replace("user = \"sealdrop\"", "user = \"nobody\"")).unwrap();
            }
            // It says what is wrong with this machine.
            ["sealdrop", "doctor"] => drop(shell(&line)),
            ["sealdrop", "onboard", ..] => drop(shell(&line.replace("SERVER", "server")).ok()),
            ["ssh-keygen", ..] => {
                let said = shell(&line.replace("NAME", "server.example")).ok();
                assert!(said.contains("Good \"receipt@sealdrop\" signature for server.example"), "{said}");
            }
            // The recipient's machine is another than the partner's.
            [.., "st-mary@server"] => {
                fs::rename(work.join("study.dcm"), work.join("sent.dcm")).unwrap();
                shell(&line).ok();
                assert!(fs::read(work.join("study.dcm")).unwrap() == study);
            }
            _ => drop(shell(&line).ok()),
        }
        done.push(words.into_iter().take(2).collect::<Vec<_>>().join(" "));
    }
    assert!(done.first().is_some_and(|first| first == "sealdrop init") && daemon.is_some(), "{done:?}");
    assert!(done.last().is_some_and(|last| last.starts_with("ssh-keygen")) && done.len() >= 11, "{done:?}");
    // The templates that an admin may begin with are beside the policies, and are not read.
    let templates = fs::read_dir(dir.join("policies/templates")).unwrap();
    let names = templates.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.ends_with(".toml.sample")).count(), 4);
}
