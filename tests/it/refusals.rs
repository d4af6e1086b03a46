//! What is not served is refused, cleanly and alike: shells, commands, terminals, forwarding, strangers; the sessions of
//! others go on.

use crate::site::{Site, content, have_python};
use crate::user::User;

#[test]
fn there_is_no_shell_and_no_command() {
    let site = Site::new();
    for words in [&[][..], &["id"], &["/bin/sh", "-c", "id"], &["scp"], &["receipt /a; id"], &["sftp-server"]] {
        let ran = site.partner().ssh(&["-T"], words);
        assert!(!String::from_utf8_lossy(&ran.stdout).contains("uid="), "{}", ran.told());
        ran.fails();
    }
    site.partner().ssh(&["-tt"], &[]).fails();
    site.partner().ssh(&["-s"], &["netconf"]).fails();
    assert!(!site.refusals("").is_empty(), "a refusal is in the log");
}

#[test]
fn nothing_is_forwarded() {
    let site = Site::new();
    site.partner().ssh(&["-W", "127.0.0.1:22"], &[]).fails();
    site.partner().ssh(&["-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1"], &[]).fails();
    site.partner()
        .ssh(&["-N", "-o", "ExitOnForwardFailure=yes", "-R", "/tmp/sealdrop-no.sock:127.0.0.1:1"], &[])
        .fails();
    assert!(!std::path::Path::new("/tmp/sealdrop-no.sock").exists());
    site.partner().sftp("ls /").ok();
}

#[test]
fn a_wrong_key_and_an_unknown_user_are_refused_alike() {
    let site = Site::new();
    let refusal = |user: &str, key_of: &str| {
        let mut command = std::process::Command::new("sftp");
        command.args(["-b", "-"]).args(site.place().ssh_options(key_of)).arg(site.place().target(user));
        crate::run::run(command, b"ls\n").fails().replace(user, "USER")
    };
    assert_eq!(refusal("radiology", "partner"), refusal("stranger", "partner"));
    assert_eq!(refusal("radiology", "partner"), refusal("..", "partner").replace("..", "USER"));
    assert!(!site.events_of("login-refused", "").is_empty());
}

#[test]
fn paths_lead_nowhere_outside() {
    let site = Site::new();
    let local = site.file("a.dcm", b"x");
    for path in
        ["/etc/passwd", "../../../../etc/passwd", "/inbox/../../etc/passwd", "/proc/self/environ", "/../etc/shadow"]
    {
        site.partner().sftp(format!("get {path} stolen")).fails();
        assert!(!site.work().join("stolen").exists(), "{path}");
    }
    for path in ["/x", "/../x", "/etc/x", "/radiology/../x", "/receipts/x", "/inbox/x"] {
        site.partner().sftp(format!("put {} {path}", local.display())).fails();
    }
    site.partner().sftp("ls -la /").ok();
}

#[test]
fn links_of_either_kind_are_refused() {
    let site = Site::new();
    site.partner().put(&site.file("a.bin", b"x"), "/shared/a.bin");
    site.partner().sftp("ln -s /etc/passwd /shared/link").fails();
    site.partner().sftp("ln -s ../../state /shared/link").fails();
    site.partner().sftp("ln /shared/a.bin /radiology/hard").fails();
    assert_eq!(site.partner().list("/shared"), ["a.bin"]);
    assert!(site.partner().list("/radiology").is_empty());
}

#[test]
fn what_policy_does_not_accept_is_refused_and_not_there() {
    let mut site = Site::prepared();
    let path = site.place().policy("partner");
    let policy = std::fs::read_to_string(&path).unwrap();
    let narrow =
        policy.replacen("expire = \"72h\"\n", "expire = \"72h\"\naccept = [\"*.dcm\"]\nmax_size = \"1 MiB\"\n", 1);
    assert_ne!(policy, narrow);
    std::fs::write(&path, narrow).unwrap();
    site.start().unwrap();
    let partner: User<'_> = site.partner();
    partner.sftp(format!("put {} /radiology/virus.exe", site.file("v", b"MZ").display())).fails();
    let large = site.file("large.dcm", &content("too large ", 3 << 20));
    partner.sftp(format!("put {} /radiology/large.dcm", large.display())).fails();
    assert!(partner.list("/radiology").is_empty(), "what was refused does not stat");
    assert!(site.recipient("radiology").sftp("ls /inbox/partner/large.dcm").status.code() != Some(0));
    assert!(site.state_contains(b"too large").is_empty());
    partner.put(&site.file("ok.dcm", b"fine"), "/radiology/ok.dcm");
    assert!(!site.refusals("/radiology/virus.exe").is_empty());
}

#[test]
fn a_flood_of_handles_ends_in_a_refusal_and_others_are_served() {
    if !have_python("paramiko") {
        return;
    }
    let site = Site::new();
    let script = "n = 0\n\
                  held = []\n\
                  try:\n    for n in range(100000):\n        held.append(sftp.open('/shared/f%d' % n, 'w'))\n\
                  except IOError as e:\n    print('refused at', n)\n\
                  os._exit(0)";
    let told = site.partner().paramiko(script).ok();
    assert!(told.contains("refused at"), "{told}");
    site.partner().put(&site.file("a.dcm", b"still served"), "/radiology/a.dcm");
}

#[test]
fn a_refused_read_of_a_drop_is_in_the_log() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", b"a"), "/radiology/a.dcm");
    site.partner().sftp("get /radiology/a.dcm back").fails();
    let refused = site.refusals("/radiology/a.dcm");
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0]["kind"], "download-opened", "{refused:?}");
}
