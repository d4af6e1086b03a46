//! The root key comes from a file, a credential, a passphrase or a token; it moves from one to the other while the server
//! serves; whatever is wrong with it is said, and never answered by new keys. No log, ledger, answer or environment has it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sealdrop::cli::demo::place::RADIOLOGY;

use crate::run::{Ran, run};
use crate::site::{SEALDROP, Site, contains, content, everything_below, have, is_root};

const PASSPHRASE: &str = "correct horse battery staple";

/// A daemon with a drop in it, and what that drop is.
fn with_a_drop(site: &Site) -> Vec<u8> {
    let bytes = content("under the root key ", 100_000);
    site.partner().put(&site.file("a.dcm", &bytes), "/radiology/a.dcm");
    bytes
}

#[track_caller]
fn assert_opens(site: &Site, bytes: &[u8]) {
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm") == bytes);
}

/// Not in clear anywhere but in the one file that is meant to have it.
#[track_caller]
pub fn assert_secret(site: &Site, secret: &[u8], but: Option<&Path>) {
    let keeper = site.keeper();
    for path in everything_below(site.place().dir()).into_iter().filter(|path| path.is_file()) {
        let held = fs::read(&path).is_ok_and(|bytes| contains(&bytes, secret));
        assert!(!held || Some(path.as_path()) == but, "a secret is in {}", path.display());
    }
    for words in [&["status"][..], &["drops"], &["receipts"], &["audit"], &["rotate", "status"], &["doctor"]] {
        let told = site.sealdrop(words);
        assert!(
            !contains(&told.stdout, secret) && !contains(told.stderr.as_bytes(), secret),
            "{words:?} tells a secret"
        );
    }
    for file in ["environ", "cmdline"] {
        let seen = fs::read(format!("/proc/{keeper}/{file}")).unwrap_or_default();
        assert!(!contains(&seen, secret), "a secret is in the keeper's {file}");
    }
}

fn hex_of_root(site: &Site) -> String {
    fs::read_to_string(site.place().state().join("keys/root")).unwrap().trim().to_owned()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    sealdrop::names::from_hex::<32>(hex).unwrap().to_vec()
}

fn private_file(path: PathBuf, text: &str) -> PathBuf {
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Rotates to wherever the settings say now.
fn move_root(site: &Site, input: &str) {
    let mut command = Command::new(SEALDROP);
    command.args(["rotate", "root", "--reason", "test", "--passphrase-fd", "0", "--config"]).arg(site.place().config());
    run(command, input.as_bytes()).ok();
    assert!(!site.place().state().join("keys/root").exists(), "the old root key is gone from its place");
    assert_eq!(site.events_of("rotation-ended", "").last().unwrap()["outcome"], "done");
}

#[test]
fn a_passphrase_opens_the_keys_and_a_wrong_one_makes_none() {
    let mut site = Site::new();
    let bytes = with_a_drop(&site);
    let old = hex_of_root(&site);
    site.set("root_key = \"passphrase\"");
    move_root(&site, PASSPHRASE);
    assert_opens(&site, &bytes);
    for secret in [PASSPHRASE.as_bytes(), old.as_bytes(), &bytes_of(&old)] {
        assert_secret(&site, secret, None);
    }
    site.signal(nix::sys::signal::Signal::SIGTERM);
    site.wait_for_end();

    let right = private_file(site.work().join("right"), PASSPHRASE);
    let wrong = private_file(site.work().join("wrong"), "incorrect horse battery staple");
    let before = site.snapshot("keys");
    let script = |file: &Path| format!("exec 9<{}; exec \"$@\" --passphrase-fd 9", file.display());
    site.run_under(&["sh", "-c", &script(&wrong), "sh"]);
    let failure = site.start().unwrap_err();
    assert!(failure.to_string().contains("the passphrase does not open"), "{failure}");
    assert!(site.snapshot("keys") == before, "nothing was made or changed");

    site.run_under(&["sh", "-c", &script(&right), "sh"]);
    site.start().unwrap();
    assert_opens(&site, &bytes);
}

/// `fsck` and `audit prune`, with no daemon and `input` for a passphrase: each by itself.
fn offline(site: &Site, input: &str) -> Vec<Ran> {
    let commands = [&["fsck", "--json"][..], &["audit", "prune", "--keep", "6y", "--json"]];
    let ran = commands.map(|words| {
        let mut command = Command::new(SEALDROP);
        command.args(words).args(["--passphrase-fd", "0", "--config"]).arg(site.place().config());
        run(command, input.as_bytes())
    });
    ran.into()
}

/// Makes a secret for one-time codes and checks the configuration, with this environment and `input` for a passphrase.
fn beside_the_daemon(site: &Site, variable: Option<&str>, input: &str) -> [Ran; 2] {
    [&["totp", "partner"][..], &["check"]].map(|words| {
        let mut command = Command::new("env");
        command.args(variable).arg(SEALDROP).args(words);
        command.args(["--json", "--passphrase-fd", "0", "--config"]).arg(site.place().config());
        run(command, input.as_bytes())
    })
}

/// A secret is made, and nothing is wrong with any recipient's key.
fn assert_they_open(site: &Site, variable: Option<&str>, input: &str) {
    let [totp, check] = beside_the_daemon(site, variable, input);
    let totp: serde_json::Value = serde_json::from_str(&totp.ok()).unwrap();
    assert!(totp["totp"].as_str().unwrap().starts_with("totp1-"), "{totp}");
    assert_eq!(warnings(check), [""; 0]);
}

/// What `check` warns of that has to do with keys.
fn warnings(check: Ran) -> Vec<String> {
    let report: serde_json::Value = serde_json::from_str(&check.ok()).unwrap();
    let problems = report["problems"].as_array().unwrap().iter();
    let messages = problems.map(|problem| problem["message"].as_str().unwrap().to_owned());
    messages.filter(|message| message.starts_with("nothing can be sent")).collect()
}

#[test]
fn what_works_without_the_daemon_takes_the_passphrase_too_and_a_wrong_one_changes_nothing() {
    let mut site = Site::new();
    let bytes = with_a_drop(&site);
    site.set("root_key = \"passphrase\"");
    move_root(&site, PASSPHRASE);
    site.signal(nix::sys::signal::Signal::SIGTERM);
    site.wait_for_end();

    let before = (site.snapshot("keys"), site.snapshot("ledger"));
    for ran in offline(&site, "incorrect horse battery staple") {
        assert!(ran.fails_with(1).contains("the passphrase does not open"));
    }
    assert!((site.snapshot("keys"), site.snapshot("ledger")) == before, "nothing was made or changed");
    let said: Vec<serde_json::Value> =
        offline(&site, PASSPHRASE).into_iter().map(|ran| serde_json::from_str(&ran.ok()).unwrap()).collect();
    assert_eq!(said[0]["files"], 1);
    assert_eq!(said[0]["open"], 0);
    assert_eq!(said[1]["months"], 0);

    let [totp, check] = beside_the_daemon(&site, None, "incorrect horse battery staple");
    assert!(totp.fails_with(1).contains("the passphrase does not open"));
    let warned = warnings(check);
    assert!(warned.len() == 1 && warned[0].contains("the passphrase does not open"), "{warned:?}");
    assert_they_open(&site, None, PASSPHRASE);
    // Nobody is asked for a passphrase by `check`, and what it cannot look at it does not warn of.
    assert_eq!(warnings(site.sealdrop(&["check", "--json"])), [""; 0]);

    let right = private_file(site.work().join("right"), PASSPHRASE);
    site.run_under(&["sh", "-c", &format!("exec 9<{}; exec \"$@\" --passphrase-fd 9", right.display()), "sh"]);
    site.start().unwrap();
    assert_opens(&site, &bytes);
}

fn has_no_core(pid: u32) -> bool {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    core.is_some_and(|core| core.split_whitespace().take(2).eq(["0", "0"]))
}

/// It is waiting for the passphrase when it is looked at.
fn assert_leaves_no_core(mut command: Command) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !has_no_core(child.id()) {
        let goes_on = Instant::now() < deadline && child.try_wait().unwrap().is_none();
        assert!(goes_on, "{command:?} may leave a core");
        std::thread::yield_now();
    }
    // A process that is not dumpable belongs to root in /proc, whoever runs it.
    assert!(is_root() || fs::read(format!("/proc/{}/environ", child.id())).is_err(), "{command:?}");
    child.stdin.take().unwrap().write_all(PASSPHRASE.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{command:?}");
}

#[test]
fn a_command_that_opens_the_root_key_leaves_no_core_and_lets_nobody_look() {
    let mut site = Site::new();
    site.set("root_key = \"passphrase\"");
    move_root(&site, PASSPHRASE);
    site.signal(nix::sys::signal::Signal::SIGTERM);
    site.wait_for_end();
    for words in [&["fsck"][..], &["audit", "prune", "--keep", "6y"], &["totp", "partner"], &["check"]] {
        let mut command = Command::new(SEALDROP);
        command.args(words).args(["--passphrase-fd", "0", "--config"]).arg(site.place().config());
        assert_leaves_no_core(command);
    }
    let new = tempfile::tempdir().unwrap();
    let mut command = Command::new(SEALDROP);
    command.args(["init", "--root-key", "passphrase", "--passphrase-fd", "0", "--config"]);
    command.arg(new.path().join("etc/sealdrop.toml")).arg("--state").arg(new.path().join("state"));
    assert_leaves_no_core(command);
}

#[test]
fn a_credential_of_the_service_manager_is_the_root_key() {
    let mut site = Site::prepared();
    let dir = site.work().join("credentials");
    fs::create_dir(&dir).unwrap();
    let secret = "5a".repeat(32);
    private_file(dir.join("sealdrop-root"), &format!("{secret}\n"));
    let variable = format!("CREDENTIALS_DIRECTORY={}", dir.display());
    site.run_under(&["env", &variable]);
    site.start().unwrap();
    let bytes = with_a_drop(&site);
    site.set("root_key = \"credential:sealdrop-root\"");
    move_root(&site, "");
    site.restart();
    assert_opens(&site, &bytes);
    assert_secret(&site, secret.as_bytes(), Some(&dir.join("sealdrop-root")));
    assert_they_open(&site, Some(&variable), "");
    let [totp, check] = beside_the_daemon(&site, None, "");
    assert!(totp.fails_with(1).contains("no credential sealdrop-root"));
    assert_eq!(warnings(check), [""; 0], "what only the service manager hands over is closed to others");

    site.signal(nix::sys::signal::Signal::SIGTERM);
    site.wait_for_end();
    site.run_under(&["env", "-u", "CREDENTIALS_DIRECTORY"]);
    let failure = site.start().unwrap_err().to_string();
    assert!(failure.contains("no credential sealdrop-root"), "{failure}");
    // Another one is no reason to make new keys, nor to say that these are damaged.
    private_file(dir.join("sealdrop-root"), &"a5".repeat(32));
    site.run_under(&["env", &variable]);
    let failure = site.start().unwrap_err().to_string();
    assert!(failure.contains("is wrapped by root key"), "{failure}");
}

#[test]
fn a_token_unwraps_the_root_key_and_a_wrong_pin_is_said_to_be_one() {
    let module = "/usr/lib/softhsm/libsofthsm2.so";
    if !have("softhsm2-util") {
        return;
    }
    let mut site = Site::prepared();
    let tokens = site.place().dir().join("tokens");
    fs::create_dir(&tokens).unwrap();
    let config = site.work().join("softhsm2.conf");
    fs::write(&config, format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display())).unwrap();
    let variable = format!("SOFTHSM2_CONF={}", config.display());
    let mut init = Command::new("softhsm2-util");
    init.env("SOFTHSM2_CONF", &config);
    init.args(["--init-token", "--free", "--label", "St Mary", "--so-pin", "87654321", "--pin", "24681357"]);
    run(init, b"").ok();

    site.run_under(&["env", &variable]);
    site.start().unwrap();
    let bytes = with_a_drop(&site);
    let pin = private_file(site.work().join("pin"), "24681357\n");
    site.set(&format!(
        "root_key = \"pkcs11:token=St%20Mary;object=sealdrop?module-path={module}&pin-source=file:{}\"",
        pin.display()
    ));
    move_root(&site, "");
    site.restart();
    assert_opens(&site, &bytes);
    // Within the token another new root key is wrapped by the same key.
    site.sealdrop(&["rotate", "root", "--reason", "test"]).ok();
    site.restart();
    assert_opens(&site, &bytes);
    assert_secret(&site, b"24681357", Some(&pin));
    assert_they_open(&site, Some(&variable), "");

    site.signal(nix::sys::signal::Signal::SIGTERM);
    site.wait_for_end();
    private_file(pin.clone(), "11111111\n");
    let failure = site.start().unwrap_err().to_string();
    assert!(failure.contains("does not take this PIN"), "{failure}");
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o644)).unwrap();
    let failure = site.start().unwrap_err().to_string();
    assert!(failure.contains("can be read by others"), "{failure}");
    private_file(pin.clone(), "24681357\n");
    fs::rename(&tokens, site.place().dir().join("pulled")).unwrap();
    fs::create_dir(&tokens).unwrap();
    let failure = site.start().unwrap_err().to_string();
    assert!(failure.contains("no token is there"), "{failure}");
}

#[test]
fn init_sets_up_a_root_key_under_a_passphrase_and_never_a_second_one() {
    let dir = tempfile::tempdir().unwrap();
    let (config, state) = (dir.path().join("etc/sealdrop.toml"), dir.path().join("state"));
    let init = |source: &str, passphrase: &str| {
        let mut command = Command::new(SEALDROP);
        command.args(["init", "--root-key", source, "--passphrase-fd", "0", "--config"]).arg(&config);
        command.arg("--state").arg(&state);
        run(command, passphrase.as_bytes())
    };
    let short = init("passphrase", "too short");
    assert!(short.stderr.contains("at least 16 characters"), "{}", short.stderr);
    init("passphrase", PASSPHRASE).ok();
    let made = fs::read_to_string(state.join("keys/root.passphrase")).unwrap();
    assert!(made.starts_with("sealdrop root key, wrapped by a passphrase, v1\nkdf pbkdf2-hmac-sha512 600000 "));
    assert!(!state.join("keys/root").exists());
    init("passphrase", "another passphrase, typed later").ok();
    assert_eq!(fs::read_to_string(state.join("keys/root.passphrase")).unwrap(), made);
}

#[test]
fn init_makes_a_credential_that_systemd_decrypts() {
    if !have("systemd-creds") || !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("credstore.encrypted");
    let mut command = Command::new(SEALDROP);
    command.args(["init", "--root-key", "credential:sealdrop-root", "--credstore"]).arg(&store);
    command.arg("--config").arg(dir.path().join("etc/sealdrop.toml")).arg("--state").arg(dir.path().join("state"));
    run(command, b"").ok();
    let mut decrypt = Command::new("systemd-creds");
    decrypt.args(["decrypt", "--name=sealdrop-root"]).arg(store.join("sealdrop-root")).arg("-");
    let text = run(decrypt, b"").ok();
    assert_eq!(bytes_of(text.trim()).len(), 32);
    assert!(!dir.path().join("state/keys/root").exists());
}
