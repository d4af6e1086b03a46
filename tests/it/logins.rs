//! Passwords and one-time codes with the clients that send them: at the end of a password, by keyboard-interactive after
//! a password or a key; that a code counts once, across a restart; that guessing is slowed and a key never is; and who is on and is
//! shown the door.

use std::fs;
use std::process::{Child, Command, Stdio};

use sealdrop::clock::{self, Time};
use totp_rs::{Builder, Secret, Totp};

use crate::run::{Ran, run};
use crate::site::{Site, have, have_python};

const PASSWORD: &str = "correct horse battery";

/// A site whose partner has a password, one-time codes and its key.
struct Coded {
    site: Site,
    app: Totp,
}

impl Coded {
    fn new(require: &str) -> Self {
        let mut site = Site::prepared();
        let made = site.sealdrop(&["totp", "partner", "--json"]).ok();
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        let uri = made["uri"].as_str().unwrap();
        let secret = uri.split_once("secret=").unwrap().1.split('&').next().unwrap();
        let app = Builder::new().with_secret(Secret::try_from_base32(secret).unwrap()).build().unwrap();
        let mut passwd = Command::new(crate::site::SEALDROP);
        passwd.arg("passwd");
        let password = run(passwd, format!("{PASSWORD}\n").as_bytes()).ok();
        let path = site.place().policy("partner");
        let lines = format!("{password}totp = {}\nrequire = {require}\n\n[[folder]]", made["totp"]);
        let policy = fs::read_to_string(&path).unwrap().replacen("\n[[folder]]", &lines, 1);
        fs::write(&path, policy).unwrap();
        site.start().unwrap();
        Self { site, app }
    }

    /// The code of the next half minute, which does already, and for at least a minute more: no test takes that long
    /// between here and showing it. Of one site it counts once.
    fn code(&self) -> String {
        self.app.generate(clock::now().unix_seconds() + 30).to_string()
    }

    /// paramiko with a password: one that asks for nothing else.
    fn paramiko(&self, password: &str) -> Ran {
        let (host, port) = (self.site.place().listen().ip(), self.site.place().listen().port());
        let script = format!(
            "import paramiko\nt = paramiko.Transport(({:?}, {port}))\nt.connect(username='partner', password={password:?})\n\
             print(paramiko.SFTPClient.from_transport(t).listdir('/'))\nt.close()",
            host.to_string()
        );
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-W", "ignore", "-c", &script]);
        run(command, b"")
    }

    /// asyncssh with a key or a password, and then a code, each shown once.
    fn interactive(&self, password: Option<&str>, code: &str) -> Ran {
        let place = self.site.place();
        let keys = if password.is_none() { format!("[{:?}]", place.key("partner")) } else { "None".to_owned() };
        let script = format!(
            "import asyncio, asyncssh\n\
             class Client(asyncssh.SSHClient):\n    \
                 passwords, rounds = iter([{password}]), iter([''])\n    \
                 def password_auth_requested(self): return next(self.passwords, None)\n    \
                 def kbdint_auth_requested(self): return next(self.rounds, None)\n    \
                 def kbdint_challenge_received(self, name, instructions, lang, prompts):\n        \
                     print([prompt for prompt, echo in prompts])\n        \
                     return [{code:?}]\n\
             async def main():\n    \
                 c, _ = await asyncssh.create_connection(Client, {host:?}, port={port}, username='partner', client_keys={keys}, \
                 known_hosts={known:?}, agent_path=None)\n    \
                 async with c, c.start_sftp_client() as sftp: print(await sftp.listdir('/'))\n\
             asyncio.run(main())\n",
            password = password.map_or_else(String::new, |password| format!("{password:?}")),
            host = place.listen().ip().to_string(),
            port = place.listen().port(),
            known = place.known_hosts(),
        );
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-W", "ignore", "-c", &script]);
        run(command, b"")
    }

    fn why(&self) -> String {
        let event = self.site.events_of("login-refused", "").pop().unwrap();
        event["why"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_code_at_the_end_of_the_password_serves_clients_that_ask_for_nothing_else_and_counts_once() {
    if !have_python("paramiko") || !have("lftp") || !have("psftp") {
        return;
    }
    const BOTH: &str = "[\"password\", \"totp\"]";
    let mut at = Coded::new(BOTH);
    let whole = format!("{PASSWORD}{}", at.code());
    at.paramiko(&whole).ok();
    at.paramiko(&whole).fails();
    assert_eq!(at.why(), "the code was used before");
    // A restart forgets no code.
    at.site.restart();
    at.paramiko(&whole).fails();
    assert_eq!(at.why(), "the code was used before");
    for wrong in [PASSWORD, "correct horse battery000000"] {
        at.paramiko(wrong).fails();
    }

    let at = Coded::new(BOTH);
    let usual = at.site.partner().psftp_command("ls /");
    let mut psftp = Command::new("psftp");
    // Without the partner's key.
    let key = usual.get_args().position(|word| word == "-i").unwrap();
    psftp.args(usual.get_args().enumerate().filter(|(n, _)| *n != key && *n != key + 1).map(|(_, word)| word));
    psftp.args(["-pw", &format!("{PASSWORD}{}", at.code())]);
    psftp.env("HOME", at.site.work()).current_dir(at.site.work());
    run(psftp, b"").ok();

    let at = Coded::new(BOTH);
    let script = format!(
        "set cmd:fail-exit true; set net:max-retries 1; set sftp:auto-confirm yes; set sftp:connect-program \"ssh -a -x \
         -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o PubkeyAuthentication=no -o PreferredAuthentications=password\"; \
         open -u partner,\"{PASSWORD}{}\" sftp://{}; ls /",
        at.code(),
        at.site.place().listen()
    );
    let mut lftp = Command::new("lftp");
    lftp.args(["--norc", "-c", &script]).env("LFTP_HOME", at.site.work());
    run(lftp, b"").ok();
}

#[test]
fn keyboard_interactive_asks_for_what_is_still_to_be_passed() {
    if !have_python("asyncssh") {
        return;
    }
    const EITHER: &str = "[[\"publickey\", \"totp\"], [\"password\", \"totp\"]]";
    let at = Coded::new(EITHER);
    let said = at.interactive(None, &at.code()).ok();
    assert!(said.starts_with("['Code: ']"), "{said}");
    let event = at.site.events_of("logged-in", "").pop().unwrap();
    assert!(event["key"].as_str().unwrap().starts_with("SHA256:"), "{event}");

    let at = Coded::new(EITHER);
    let said = at.interactive(Some(PASSWORD), &at.code()).ok();
    assert!(said.starts_with("['Code: ']"), "{said}");
    at.interactive(Some("wrong"), "000000").fails();
    assert_eq!(at.why(), "wrong password");
    at.interactive(None, "000000").fails();
    assert_eq!(at.why(), "wrong code");
    // The key alone is half of it.
    at.site.partner().sftp("ls /").fails();
}

#[test]
fn who_guesses_is_slowed_across_a_restart_and_a_key_from_there_is_let_in_at_once() {
    if !have_python("paramiko") {
        return;
    }
    let mut at = Coded::new("[[\"publickey\"], [\"password\", \"totp\"]]");
    // Each further one is heard later than the one before; beyond ten seconds it is not heard.
    let slowed = "too many wrong passwords or codes before, from this address or for this name";
    let mut tries = 0;
    loop {
        at.paramiko("not the password").fails();
        if at.why() == slowed {
            break;
        }
        tries += 1;
        assert!(tries < 20);
    }
    at.site.restart();
    at.paramiko(&format!("{PASSWORD}{}", at.code())).fails();
    assert_eq!(at.why(), slowed);
    at.site.partner().sftp("ls /").ok();
    let penalties = fs::read(at.site.place().state().join("penalties")).unwrap();
    assert!(!crate::site::contains(&penalties, b"partner"));
}

/// Somebody who is in and stays.
fn stay(site: &Site, name: &'static str) -> Child {
    let before = site.events_of("logged-in", "").len();
    let mut command = Command::new("ssh");
    command.args(site.recipient(name).ssh_options()).args(["-s", &site.place().target(name), "sftp"]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    site.wait_for_event("logged-in", before + 1);
    child
}

#[test]
fn sessions_tells_who_is_on_and_kick_ends_them_with_a_reason_that_is_kept() {
    let site = Site::new();
    assert_eq!(site.sealdrop(&["sessions"]).ok(), "nobody is on\n");
    site.sealdrop(&["kick", "partner", "--reason", "x"]).fails_with(1);
    site.sealdrop(&["kick", "partner"]).fails_with(2);
    let (mut partner, mut radiology) = (stay(&site, "partner"), stay(&site, "radiology"));
    let on = site.ask(&["sessions"]);
    let users: Vec<&str> = on.iter().map(|row| row["user"].as_str().unwrap()).collect();
    assert!(on.len() == 2 && users.contains(&"partner") && users.contains(&"radiology"), "{on:?}");
    assert!(Time::parse_rfc3339(on[0]["since"].as_str().unwrap()).is_some());
    assert!(on.iter().all(|row| row["address"].as_str().unwrap().starts_with("127.")));
    assert!(site.sealdrop(&["sessions"]).ok().starts_with("SESSION "));

    let kicked = site.ask(&["kick", "partner", "--reason", "the partner asked"]);
    assert_eq!(kicked[0]["ended"].as_array().unwrap().len(), 1);
    assert!(!partner.wait().unwrap().success());
    let event = site.events_of("revoked", "").pop().unwrap();
    assert_eq!(event["user"], "partner");
    assert!(event["detail"].as_str().unwrap().ends_with(": the partner asked"), "{event}");
    let command = site.events_of("admin-command", "").pop().unwrap();
    assert!(command["detail"].as_str().unwrap().starts_with("kick user partner, by uid "), "{command}");

    let session = on.iter().find(|row| row["user"] == "radiology").unwrap()["session"].as_str().unwrap().to_owned();
    site.sealdrop(&["kick", "--session", &session, "--reason", "tidying up"]).ok();
    assert!(!radiology.wait().unwrap().success());
    // Nobody is barred.
    site.partner().sftp("ls /").ok();
}

#[test]
fn a_removed_user_address_or_key_ends_who_is_in() {
    let site = Site::new();
    let path = site.place().policy("partner");
    let usual = fs::read_to_string(&path).unwrap();
    let other = fs::read_to_string(site.place().key("radiology").with_extension("pub"));
    let other = other.unwrap_or_else(|_| {
        let policy = fs::read_to_string(site.place().policy("radiology")).unwrap();
        policy.split('"').find(|part| part.starts_with("ssh-ed25519 ")).unwrap().to_owned()
    });
    let own = usual.split('"').find(|part| part.starts_with("ssh-ed25519 ")).unwrap();
    let changes: [(Option<String>, &str); 4] = [
        (Some(usual.replace("[login]", "[login]\nfrom = [\"203.0.113.0/24\"]")), "address"),
        (Some(usual.replace(own, other.trim())), "key"),
        (Some(usual.replace("[login]", "[login]\ndisabled = true")), "disabled"),
        (None, "no longer in the policy"),
    ];
    for (n, (text, why)) in changes.into_iter().enumerate() {
        let mut child = stay(&site, "partner");
        match text {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        site.sealdrop(&["reload"]).ok();
        assert!(!child.wait().unwrap().success());
        let events = site.events_of("revoked", "");
        assert_eq!(events.len(), n + 1);
        assert!(events[n]["detail"].as_str().unwrap().contains(why), "{}", events[n]);
        fs::write(&path, &usual).unwrap();
        site.sealdrop(&["reload"]).ok();
    }
}
