//! What operators get wrong is told with what happened and what to do: nothing starts half, nothing is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use sealdrop::cli::failure::Failure;

use crate::run::run;
use crate::site::{SEALDROP, Site, content, is_root};

/// `serve` as a person starts it, its words on standard error.
fn serve(site: &Site) -> String {
    let mut command = Command::new(SEALDROP);
    command.args(["serve", "--config"]).arg(site.place().config());
    run(command, b"").fails_with(1)
}

#[track_caller]
fn assert_told(said: &str, words: &[&str]) {
    assert!(said.contains("error: "), "{said}");
    assert!(said.contains("hint: ") || said.contains("help: "), "no hint in:\n{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in:\n{said}");
    }
    assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{said}");
}

#[track_caller]
fn assert_failure(failure: &Failure, words: &[&str]) {
    assert!(failure.hint.is_some(), "{failure:?} has no hint");
    for word in words {
        assert!(failure.message.contains(word), "`{word}` is not in {failure:?}");
    }
}

#[test]
fn a_bad_policy_is_shown_with_its_line_and_stops_the_start() {
    let mut site = Site::prepared();
    let path = site.place().policy("partner");
    let policy = fs::read_to_string(&path).unwrap();
    fs::write(&path, policy.replacen("kind = \"drop\"", "kind = \"dorp\"", 1)).unwrap();
    let mut check = Command::new(SEALDROP);
    check.args(["check", "--config"]).arg(site.place().config());
    let ran = run(check, b"");
    let told = format!("{}{}", String::from_utf8_lossy(&ran.stdout), ran.stderr);
    ran.fails_with(1);
    for word in ["partner.toml", "dorp", "^"] {
        assert!(told.contains(word), "`{word}` is not in:\n{told}");
    }
    assert!(site.start().is_err());
    fs::write(&path, policy).unwrap();
    site.start().expect("mended, it starts");
}

#[test]
fn an_unknown_key_is_refused_with_a_suggestion() {
    let site = Site::prepared();
    let path = site.place().policy("partner");
    let policy = fs::read_to_string(&path).unwrap();
    fs::write(&path, policy.replacen("expire = ", "expires = ", 1)).unwrap();
    let said = serve(&site);
    assert!(said.contains("expires") && said.contains("expire"), "{said}");
}

#[test]
fn a_missing_configuration_is_named() {
    let mut command = Command::new(SEALDROP);
    command.args(["serve", "--config", "/nonexistent/sealdrop.toml"]);
    let said = run(command, b"").fails_with(1);
    assert!(said.contains("/nonexistent/sealdrop.toml"), "{said}");
}

#[test]
fn a_missing_key_is_named_and_none_is_made_in_its_place() {
    for key in ["root", "receipt", "host_ed25519"] {
        let site = Site::prepared();
        let path = site.place().state().join("keys").join(key);
        fs::remove_file(&path).unwrap();
        assert_told(&serve(&site), &[&path.display().to_string()]);
        assert!(!path.exists(), "a new {key} key would open nothing");
    }
}

#[test]
fn a_key_that_others_can_read_stops_the_start() {
    let site = Site::prepared();
    let path = site.place().state().join("keys/root");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_told(&serve(&site), &[&path.display().to_string()]);
}

#[test]
fn a_key_of_another_owner_stops_the_start() {
    if !is_root() {
        eprintln!("skipped: only root can give a file away");
        return;
    }
    let site = Site::prepared();
    let path = site.place().state().join("keys/root");
    std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
    assert_told(&serve(&site), &[&path.display().to_string(), "uid 65534"]);
}

#[test]
fn a_state_directory_that_lost_its_drops_is_not_begun_anew() {
    let site = Site::prepared();
    let jails = site.place().state().join("jails");
    fs::rename(&jails, site.work().join("jails")).unwrap();
    assert_told(&serve(&site), &[&jails.display().to_string(), "restore"]);
    assert!(!jails.exists());
}

#[test]
fn a_folder_that_was_removed_from_the_disk_is_made_again_at_the_start() {
    let mut site = Site::new();
    let local = site.file("a.dcm", b"before and after");
    fs::remove_dir_all(site.on_disk("partner", "/radiology")).unwrap();
    site.partner().sftp(format!("put {} /radiology/a.dcm", local.display())).fails();
    site.partner().put(&local, "/lab/a.dcm");
    site.restart();
    site.partner().put(&local, "/radiology/a.dcm");
    assert_eq!(site.recipient("radiology").get("/inbox/partner/a.dcm"), b"before and after");
}

/// SIGHUP as an init script sends it: the answer is in the log and the audit log.
#[test]
fn a_hangup_with_a_broken_policy_keeps_the_one_in_force() {
    let site = Site::new();
    let path = site.place().policy("partner");
    let policy = fs::read_to_string(&path).unwrap();
    let before = site.status()["policy"].clone();
    fs::write(&path, policy.replacen("kind = \"drop\"", "kind = \"dorp\"", 1)).unwrap();
    site.signal(nix::sys::signal::Signal::SIGHUP);
    site.wait_for_event("policy-refused", 1);
    assert_eq!(site.status()["policy"], before);
    assert!(site.log().contains("dorp"), "the line is in the log:\n{}", site.log());
    site.partner().put(&site.file("a.dcm", b"x"), "/radiology/a.dcm");
    fs::write(&path, policy.replace("/shared", "/common")).unwrap();
    site.signal(nix::sys::signal::Signal::SIGHUP);
    site.wait_for_event("policy-loaded", 1);
    assert!(site.partner().list("/").contains(&"common".to_owned()));
}

#[test]
fn a_taken_port_is_named_and_nothing_is_changed() {
    let mut site = Site::prepared();
    let before = site.snapshot("");
    let taken = std::net::TcpListener::bind(site.place().listen()).unwrap();
    let said = serve(&site);
    assert_told(&said, &[&site.place().listen().to_string(), "ss -tlnp"]);
    assert!(site.snapshot("") == before);
    drop(taken);
    site.start().expect("with the port free, it starts");
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let site = Site::new();
    let config = fs::read_to_string(site.place().config()).unwrap();
    let other_port = config.replace(":2222", ":2223").replace("admin.sock", "admin2.sock");
    let other = site.place().dir().join("config/other.toml");
    fs::write(&other, other_port).unwrap();
    let mut command = Command::new(SEALDROP);
    command.args(["serve", "--config"]).arg(&other);
    assert_told(&run(command, b"").fails_with(1), &[&site.place().state().display().to_string()]);
    site.partner().put(&site.file("a.dcm", b"the first goes on"), "/radiology/a.dcm");
}

#[test]
fn a_state_directory_of_another_owner_is_refused() {
    if !is_root() {
        eprintln!("skipped: only root can give a directory away");
        return;
    }
    let site = Site::prepared();
    std::os::unix::fs::chown(site.place().state(), Some(65534), Some(65534)).unwrap();
    assert_told(&serve(&site), &[&site.place().state().display().to_string()]);
}

#[test]
fn a_state_directory_that_was_never_made_or_is_newer_is_refused() {
    let mut site = Site::prepared();
    let version = site.place().state().join("version");
    let text = fs::read_to_string(&version).unwrap();
    fs::write(&version, "sealdrop state 999\n").unwrap();
    assert_told(&serve(&site), &["999"]);
    fs::rename(site.place().state(), site.work().join("away")).unwrap();
    assert_told(&serve(&site), &["init"]);
    fs::rename(site.work().join("away"), site.place().state()).unwrap();
    fs::write(&version, text).unwrap();
    let failure = site.start();
    assert!(failure.is_ok(), "{failure:?}");
}

#[test]
fn a_daemon_that_does_not_start_says_why_to_whoever_started_it() {
    let mut site = Site::prepared();
    fs::remove_file(site.place().state().join("keys/root")).unwrap();
    assert_failure(&site.start().unwrap_err(), &["keys/root"]);
}

#[test]
fn a_full_disk_refuses_uploads_and_loses_nothing() {
    if !is_root() {
        eprintln!("skipped: only root can mount a small file system");
        return;
    }
    let mut site = Site::prepared();
    let Some(small) = SmallDisk::under(&site) else { return };
    site.start().expect("the daemon starts on a small disk");
    let kept = content("kept ", 300_000);
    site.partner().put(&site.file("kept.dcm", &kept), "/radiology/kept.dcm");
    let large = site.file("large.dcm", &content("too large for this disk ", 64 << 20));
    site.partner().sftp(format!("put {} /radiology/large.dcm", large.display())).fails();
    assert!(!site.recipient("radiology").delivered().contains(&"large.dcm".to_owned()));
    assert!(site.recipient("radiology").get("/inbox/partner/kept.dcm") == kept);
    site.partner().verified_receipt("/radiology/kept.dcm");
    site.partner().sftp("rm /radiology/large.dcm");
    site.restart();
    assert!(site.recipient("radiology").get("/inbox/partner/kept.dcm") == kept);
    site.signal(nix::sys::signal::Signal::SIGTERM);
    site.wait_for_end();
    drop(small);
}

/// A file system of 40 MiB in memory, in the state directory's place; unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn under(site: &Site) -> Option<Self> {
        let state = site.place().state();
        let away = site.work().join("state");
        fs::rename(&state, &away).unwrap();
        fs::create_dir(&state).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=40m,mode=0700", "sealdrop-it"]).arg(&state).status();
        let mounted = mounted.is_ok_and(|status| status.success());
        if mounted {
            let mut copy = Command::new("cp");
            copy.arg("-a").arg(away.join(".")).arg(&state);
            run(copy, b"").ok();
            fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
            return Some(Self(state));
        }
        eprintln!("skipped: this machine lets nobody mount a file system");
        fs::remove_dir(&state).unwrap();
        fs::rename(&away, &state).unwrap();
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
