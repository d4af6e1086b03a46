//! Logging in with OpenSSH certificates, made by stock ssh-keygen and shown by stock clients: who is let in, what the
//! audit log says of it, and that whatever is taken back ends who is in.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::run::{Ran, run};
use crate::site::{Site, have};

/// A site with an authority of its own, whose key the clients' side holds.
struct Certified {
    site: Site,
}

impl Certified {
    /// `login` is the partner's `[login]`, `server` what is added to the server's settings. `[CA]` in either is the
    /// authority's public key.
    fn new(login: &str, server: &str) -> Self {
        let this = Self { site: Site::prepared() };
        this.keygen(&["-t", "ed25519", "-N", "", "-C", "ca", "-f", "ca"]);
        this.policy(login);
        let config = this.site.place().config();
        let text = fs::read_to_string(&config).unwrap() + "\n" + &this.with_ca(server);
        fs::write(&config, text).unwrap();
        this
    }

    fn started(mut self) -> Self {
        self.site.start().unwrap();
        self
    }

    fn keygen(&self, words: &[&str]) {
        let mut command = Command::new("ssh-keygen");
        command.arg("-q").args(words).current_dir(self.site.work());
        run(command, b"").ok();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.site.work().join(name)
    }

    fn with_ca(&self, text: &str) -> String {
        let ca = fs::read_to_string(self.path("ca.pub")).unwrap();
        text.replace("[CA]", &format!("[\"{}\"]", ca.trim()))
    }

    /// Another `[login]` for the partner.
    fn policy(&self, login: &str) {
        let path = self.site.place().policy("partner");
        let text = fs::read_to_string(&path).unwrap();
        let (head, rest) = text.split_once("[login]").unwrap();
        let (_, folders) = rest.split_once("\n[").unwrap();
        fs::write(&path, format!("{head}[login]\n{}\n[{folders}", self.with_ca(login))).unwrap();
    }

    /// A new key with a certificate; `words` are for ssh-keygen.
    fn certify(&self, name: &str, words: &[&str]) {
        self.keygen(&["-t", "ed25519", "-N", "", "-C", name, "-f", name]);
        self.keygen(&[&["-s", "ca"], words, &[&format!("{name}.pub")]].concat());
    }

    /// For OpenSSH's clients: that key with its certificate.
    fn options(&self, name: &str) -> Vec<String> {
        let certificate = self.path(&format!("{name}-cert.pub"));
        let mut options = vec!["-o".to_owned(), format!("CertificateFile={}", certificate.display())];
        options.extend(self.site.place().ssh_options("partner").into_iter().map(|option| {
            match option.starts_with("IdentityFile=") {
                true => format!("IdentityFile={}", self.path(name).display()),
                false => option,
            }
        }));
        options
    }

    fn client(&self, name: &str, user: &str) -> Command {
        let mut command = Command::new("sftp");
        command.args(["-v", "-b", "-"]).args(self.options(name)).arg(self.site.place().target(user));
        command.current_dir(self.site.work());
        command
    }

    fn log_in(&self, name: &str) -> Ran {
        run(self.client(name, "partner"), b"ls /\n")
    }

    /// Somebody who is in and stays.
    fn stay(&self, name: &str) -> Child {
        let before = self.site.events_of("logged-in", "").len();
        let mut command = Command::new("ssh");
        command.args(self.options(name)).args(["-s", &self.site.place().target("partner"), "sftp"]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.site.wait_for_event("logged-in", before + 1);
        child
    }

    /// Why the last connections were refused: a client with a certificate shows its plain key too.
    fn refusals(&self) -> Vec<serde_json::Value> {
        self.site.events_of("login-refused", "").into_iter().rev().take(2).collect()
    }

    fn last(&self, kind: &str) -> serde_json::Value {
        self.site.events_of(kind, "").pop().unwrap()
    }
}

#[test]
fn a_certificate_of_the_users_authority_logs_in_and_the_audit_log_says_which() {
    if !have("ssh-keygen") {
        return;
    }
    let at = Certified::new("authorities = [CA]\nprincipals = [\"acme\"]", "").started();
    at.certify("nightly", &["-I", "nightly of acme", "-z", "42", "-n", "acme,ops"]);
    at.log_in("nightly").ok();
    let event = at.last("logged-in");
    let detail = event["detail"].as_str().unwrap();
    assert!(detail.starts_with("certificate \"nightly of acme\" serial 42 of authority SHA256:"), "{detail}");
    assert!(event["key"].as_str().unwrap().starts_with("SHA256:"));

    for (name, words, why) in [
        ("nobody", &["-I", "x"][..], "principals"),
        ("other", &["-I", "x", "-n", "partner"], "principals"),
        ("elsewhere", &["-I", "x", "-n", "acme", "-O", "source-address=198.51.100.0/24"], "address"),
        ("forced", &["-I", "x", "-n", "acme", "-O", "force-command=internal-sftp"], "critical option"),
    ] {
        at.certify(name, words);
        at.log_in(name).fails();
        let events = at.refusals();
        let said = |event: &&serde_json::Value| event["why"].as_str().unwrap().contains(why);
        let event = events.iter().find(said).unwrap_or_else(|| panic!("{name}: {events:?}"));
        assert!(event["detail"].as_str().unwrap().contains("certificate"), "{event}");
    }
    at.certify("near", &["-I", "x", "-n", "acme", "-O", "source-address=127.0.0.0/8"]);
    at.log_in("near").ok();
    // The plain key of a certified one is nobody's.
    fs::remove_file(at.path("near-cert.pub")).unwrap();
    at.log_in("near").fails();
    assert_eq!(at.last("login-refused")["why"], "the key is not one of the user's");
}

#[test]
fn the_servers_authority_serves_who_names_principals_and_nobody_else() {
    if !have("ssh-keygen") {
        return;
    }
    let at = Certified::new("principals = [\"partner\"]", "[certificates]\nauthorities = [CA]\n").started();
    at.certify("nightly", &["-I", "n", "-n", "partner,radiology"]);
    at.log_in("nightly").ok();
    // `radiology` has a key and names no principal.
    run(at.client("nightly", "radiology"), b"ls /\n").fails();
    assert!(at.refusals().iter().any(|event| event["why"] == "the user does not log in with certificates"));
}

#[test]
fn where_certificates_are_taken_a_strange_key_and_a_strange_name_still_look_alike() {
    if !have("ssh-keygen") {
        return;
    }
    let at = Certified::new("authorities = [CA]", "").started();
    at.certify("nightly", &["-I", "n", "-n", "nobody"]);
    let refusal = |user: &str| {
        let said = run(at.client("nightly", user), b"ls\n").fails().replace(user, "USER");
        // What the server said: methods, offers that would do, refusals.
        let told = |line: &&str| {
            ["Server accepts", "Authentications that can", "Offering", "denied"].iter().any(|word| line.contains(word))
        };
        said.lines().filter(told).map(str::to_owned).collect::<Vec<_>>()
    };
    let known = refusal("partner");
    assert!(known.iter().any(|line| line.contains("Server accepts")), "{known:?}");
    assert_eq!(known, refusal("stranger"));
    assert_eq!(known, refusal("radiology"));
}

#[test]
fn what_is_taken_back_ends_who_is_in() {
    if !have("ssh-keygen") {
        return;
    }
    let at = Certified::new("authorities = [CA]\nprincipals = [\"acme\"]", "[certificates]\nrevoked = \"revoked\"\n");
    let list = at.site.place().config().with_file_name("revoked");
    fs::write(&list, "# nothing yet\n").unwrap();
    let at = at.started();
    at.certify("nightly", &["-I", "nightly of acme", "-z", "42", "-n", "acme"]);
    at.keygen(&["-t", "ed25519", "-N", "", "-C", "other", "-f", "other"]);
    let other = fs::read_to_string(at.path("other.pub")).unwrap();
    let usual = "authorities = [CA]\nprincipals = [\"acme\"]";
    let mut ended = 0;
    let mut ends_it = |change: &dyn Fn(), why: &str| {
        let mut child = at.stay("nightly");
        change();
        at.site.sealdrop(&["reload"]).ok();
        at.site.wait_for_event("revoked", ended + 1);
        ended += 1;
        assert!(!child.wait().unwrap().success());
        let detail = at.last("revoked")["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(why), "{detail}");
        at.log_in("nightly").fails();
        at.policy(usual);
        fs::write(&list, "# nothing\n").unwrap();
        at.site.sealdrop(&["reload"]).ok();
    };
    ends_it(&|| at.policy(&format!("authorities = [\"{}\"]\nprincipals = [\"acme\"]", other.trim())), "authority");
    ends_it(&|| at.policy("authorities = [CA]\nprincipals = [\"ops\"]"), "principals");
    ends_it(&|| at.policy(&format!("keys = [\"{}\"]", other.trim())), "authority");
    let revoke = |spec: &str| {
        fs::write(at.path("spec"), spec).unwrap();
        at.keygen(&["-k", "-f", list.to_str().unwrap(), "-s", "ca.pub", "spec"]);
    };
    ends_it(&|| revoke("serial: 40-44\n"), "revoked");
    ends_it(&|| revoke("id: nightly of acme\n"), "revoked");
    ends_it(&|| assert!(fs::copy(at.path("nightly.pub"), &list).is_ok()), "revoked");
    ends_it(&|| assert!(fs::copy(at.path("ca.pub"), &list).is_ok()), "revoked");
    // A list that cannot be read keeps the one in force, and the policy with it.
    fs::remove_file(&list).unwrap();
    at.site.sealdrop(&["reload"]).fails();
    at.log_in("nightly").ok();
}

/// docs/logins.md, line by line: what is between the fences after this heading.
fn commands_of_the_page(heading: &str) -> Vec<String> {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/logins.md")).unwrap();
    let (_, section) = page.split_once(heading).unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    block.lines().map(str::to_owned).collect()
}

#[test]
fn the_page_on_logins_works_as_it_is_written() {
    if !have("ssh-keygen") {
        return;
    }
    let mut at = Certified { site: Site::prepared() };
    let commands = commands_of_the_page("### With stock tools");
    let shell = |line: &str| {
        let mut command = Command::new("bash");
        // Who is asked for a passphrase gives none.
        command.args(["-c", line]).env("SSH_ASKPASS", "true").env("SSH_ASKPASS_REQUIRE", "force");
        command.current_dir(at.site.work());
        run(command, b"").ok();
    };
    let [authority, person, machine, taken_back] = commands.as_slice() else { panic!("{commands:#?}") };
    for key in ["id_ed25519", "nightly"] {
        at.keygen(&["-t", "ed25519", "-N", "", "-f", key]);
    }
    [authority, person, machine].into_iter().for_each(|line| shell(line));
    at.policy("principals = [\"sealdrop-acme\"]");
    let config = at.site.place().config();
    let revoked = at.site.file("revoked", b"");
    let server = format!("\n[certificates]\nauthorities = [CA]\nrevoked = {revoked:?}\n");
    fs::write(&config, fs::read_to_string(&config).unwrap() + &at.with_ca(&server)).unwrap();
    at.site.start().unwrap();

    at.log_in("id_ed25519").ok();
    let detail = at.last("logged-in")["detail"].to_string();
    assert!(detail.contains("j.doe, ticket 4711") && detail.contains("serial 42"), "{detail}");
    at.log_in("nightly").fails();
    assert!(at.refusals().iter().any(|event| event.to_string().contains("nightly of acme")), "{:?}", at.refusals());
    let mut command = Command::new("bash");
    command.args(["-c", taken_back]).current_dir(at.site.work());
    run(command, b"").ok();
    at.site.sealdrop(&["reload"]).ok();
    at.log_in("id_ed25519").fails();
    assert!(at.refusals().iter().any(|event| event.to_string().contains("revoked")), "{:?}", at.refusals());
}
