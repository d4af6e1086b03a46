//! Passwords that the site's own authenticator decides on: asked on a local socket, for users who are asked about outside and
//! nobody else; what is not a plain yes is a no, in the same words and after the same time.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::run::{Ran, run};
use crate::site::{Site, have_python};

const TIMEOUT: Duration = Duration::from_secs(1);

/// A site whose partner's password is decided on outside, and what was asked there.
struct Outside {
    site: Site,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Outside {
    /// `answer` is what is said to a password; nothing closes the connection, `None` leaves it open.
    fn new(require: &str, answer: fn(&str) -> Option<String>) -> Self {
        let mut site = Site::prepared();
        let socket = site.work().join("auth.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let config = site.place().config();
        let settings = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("{settings}\n[external]\nsocket = {socket:?}\ntimeout = \"1s\"\n")).unwrap();
        let policy = site.place().policy("partner");
        let text = fs::read_to_string(&policy).unwrap();
        fs::write(&policy, text.replacen("\n[[folder]]", &format!("require = {require}\n\n[[folder]]"), 1)).unwrap();
        site.start().unwrap();
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut line = String::new();
                BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
                let question: Value = serde_json::from_str(&line).unwrap();
                let answer = answer(question["password"].as_str().unwrap());
                heard.lock().unwrap().push(question);
                match answer {
                    Some(answer) => drop(stream.write_all(answer.as_bytes())),
                    None => open.push(stream),
                }
            }
        });
        Self { site, asked }
    }

    fn login(&self, user: &str, password: &str) -> Ran {
        let listen = self.site.place().listen();
        let script = format!(
            "import paramiko\nt = paramiko.Transport(({:?}, {}))\nt.connect(username={user:?}, password={password:?})\n\
             print(paramiko.SFTPClient.from_transport(t).listdir('/'))\nt.close()",
            listen.ip().to_string(),
            listen.port()
        );
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-W", "ignore", "-c", &script]);
        run(command, b"")
    }

    fn refused(&self) -> Value {
        self.site.events_of("login-refused", "").pop().unwrap()
    }
}

fn by_password(password: &str) -> Option<String> {
    Some(match password {
        "right" => "{\"accept\":true}\n".to_owned(),
        "odd" => "yes\n".to_owned(),
        "gone" => String::new(),
        "late" => return None,
        _ => "{\"accept\":false,\"reason\":\"locked since Monday\"}\n".to_owned(),
    })
}

#[test]
fn the_sites_authenticator_lets_in_whom_it_knows_and_only_with_a_plain_yes() {
    if !have_python("paramiko") {
        return;
    }
    let at = Outside::new("[\"external\"]", by_password);
    let listed = at.login("partner", "right").ok();
    assert!(listed.contains("radiology"), "{listed}");
    let question = at.asked.lock().unwrap()[0].clone();
    assert_eq!((&question["version"], &question["user"]), (&1.into(), &"partner".into()));
    assert_eq!((&question["method"], question["address"].is_string()), (&"password".into(), true));
    let mut words = Vec::new();
    for (password, why, detail) in [
        ("wrong", "the site's authenticator said no", "locked since Monday"),
        ("odd", "the site's authenticator could not be asked", "accept"),
        ("gone", "the site's authenticator could not be asked", "accept"),
        ("late", "the site's authenticator could not be asked", "in time"),
    ] {
        let begun = Instant::now();
        let said = at.login("partner", password).fails();
        assert!(begun.elapsed() >= TIMEOUT, "{password}");
        words.push(said.lines().last().unwrap_or_default().to_owned());
        let event = at.refused();
        assert_eq!(event["why"], why, "{password}");
        assert!(event["detail"].as_str().unwrap().contains(detail), "{event}");
    }
    // Others are refused in the same words and time, and nobody is asked about them.
    let asked = at.asked.lock().unwrap().len();
    for name in ["nobody-here", "lab"] {
        let begun = Instant::now();
        words.push(at.login(name, "right").fails().lines().last().unwrap_or_default().to_owned());
        assert!(begun.elapsed() >= TIMEOUT, "{name}");
    }
    words.dedup();
    assert_eq!(words.len(), 1, "{words:?}");
    assert_eq!(at.asked.lock().unwrap().len(), asked);
    let log = at.site.log();
    assert!(!log.contains("\"right\"") && !log.contains("password\":"), "{log}");
    // The right one once more: nothing is remembered, and it is asked again.
    at.login("partner", "right").ok();
    assert_eq!(at.asked.lock().unwrap().len(), asked + 1);
}

#[test]
fn a_policy_that_asks_outside_needs_somebody_to_ask() {
    let site = Site::prepared();
    let policy = site.place().policy("partner");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.replacen("\n[[folder]]", "require = [\"external\"]\n\n[[folder]]", 1)).unwrap();
    let checked = site.sealdrop(&["check"]);
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("nobody to ask") && said.contains("[external]"), "{said}");
}

#[test]
fn a_reload_says_that_another_authenticator_waits_for_a_restart() {
    let at = Outside::new("[\"external\"]", by_password);
    let config = at.site.place().config();
    let text = fs::read_to_string(&config).unwrap();
    let said = at.site.sealdrop(&["reload"]).ok();
    assert!(!said.contains("[external]"), "{said}");
    fs::write(&config, text.replace("timeout = \"1s\"", "timeout = \"2s\"")).unwrap();
    let said = at.site.sealdrop(&["reload"]).ok();
    assert!(said.contains("`[external]` has changed and is not in force"), "{said}");
    fs::write(&config, text).unwrap();
    let said = at.site.sealdrop(&["reload"]).ok();
    assert!(!said.contains("[external]"), "{said}");
}

/// The example as systemd runs it, with a directory that is a script.
#[test]
fn the_example_for_ldap_answers_as_the_contract_says() {
    let site = Site::prepared();
    let fake = site.file(
        "ldapwhoami",
        b"#!/bin/sh\nread -r password\n[ \"$5 $password\" = 'uid=acme,dc=x right' ] && exit 0\nexit 49\n",
    );
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/sealdrop-auth-ldap");
    let ask = |question: &str| {
        let mut command = Command::new(script);
        command.env("PATH", format!("{}:/usr/bin:/bin", site.work().display()));
        command.env("LDAP_URI", "ldapi:///").env("LDAP_DN", "uid=%s,dc=x").stderr(Stdio::piped());
        serde_json::from_str::<Value>(&run(command, format!("{question}\n").as_bytes()).ok()).unwrap()
    };
    let with = |user: &str, password: &str| {
        ask(&serde_json::json!({
            "version": 1, "server": "s", "user": user, "address": "::1", "method": "password", "password": password,
        })
        .to_string())
    };
    assert_eq!(with("acme", "right"), serde_json::json!({ "accept": true }));
    assert_eq!(with("acme", "wrong"), serde_json::json!({ "accept": false, "reason": "wrong password" }));
    assert_eq!(with("acme", "")["accept"], false);
    assert_eq!(with("acme,dc=x", "right")["reason"], "ValueError");
    for question in ["", "{}", "{\"version\":2}"] {
        assert_eq!(ask(question)["accept"], false, "{question}");
    }
}
