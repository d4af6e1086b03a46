//! No plaintext on disk, ever: not after a transfer that ended well, nor one that was cut off, nor after `kill -9` of
//! any process; not in a name, a temp file, a log or a core.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;

use crate::root_key::assert_secret;
use crate::site::{SEALDROP, Site, content, have, have_python};

const MARKER: &str = "MARKER^DOE^JANE^1984-02-29";

/// The marker on every 4 KiB, so that each record of a part holds one.
fn marked(size: usize) -> Vec<u8> {
    let mut bytes = content("", size);
    for at in (0..size.saturating_sub(MARKER.len())).step_by(4096) {
        bytes[at..at + MARKER.len()].copy_from_slice(MARKER.as_bytes());
    }
    bytes
}

#[track_caller]
fn assert_nothing_leaked(site: &Site) {
    let found = site.state_contains(MARKER.as_bytes());
    assert!(found.is_empty(), "plaintext in {found:?}");
    assert!(!site.log().contains(MARKER), "plaintext in the log");
}

#[test]
fn nothing_that_any_client_pushed_is_on_disk_in_clear() {
    let site = Site::new();
    let local = site.file("m.dcm", &marked(400_000));
    site.partner().put(&local, "/radiology/by-sftp.dcm");
    site.partner().put(&local, "/lab/by-sftp.dcm");
    site.partner().put(&local, "/shared/by-sftp.dcm");
    site.partner().scp(&["m.dcm", &site.partner().remote("/radiology/by-scp.dcm")]).ok();
    if have("lftp") {
        site.partner().lftp("put m.dcm -o /radiology/by-lftp.dcm").ok();
    }
    if have("rclone") {
        site.partner().rclone(&["copyto", "m.dcm", ":sftp:/radiology/by-rclone.dcm"]).ok();
    }
    if have("psftp") {
        site.partner().psftp("put m.dcm /radiology/by-psftp.dcm").ok();
    }
    if have_python("paramiko") {
        site.partner().paramiko("sftp.put('m.dcm', '/radiology/by-paramiko.dcm')").ok();
    }
    site.recipient("radiology").get("/inbox/partner/by-sftp.dcm");
    assert_nothing_leaked(&site);
    site.assert_private();
}

/// A paramiko client in the middle of an upload: the server has acknowledged `bytes` of them.
pub fn upload_in_progress(site: &Site, path: &str, bytes: usize) -> Child {
    let local = site.file(format!("half-{}", path.replace('/', "-")), &marked(bytes));
    let script = format!(
        "import sys, paramiko\n\
         ssh = paramiko.SSHClient()\n\
         ssh.load_host_keys({known:?})\n\
         ssh.connect({host:?}, port={port}, username='partner', key_filename={key:?}, allow_agent=False, look_for_keys=False)\n\
         sftp = ssh.open_sftp()\n\
         out = sftp.open({path:?}, 'w')\n\
         out.write(open({local:?}, 'rb').read())\n\
         out.flush()\n\
         print('ready', flush=True)\n\
         sys.stdin.readline()\n\
         sftp._request(paramiko.sftp.CMD_CLOSE, out.handle)\n\
         print('closed', flush=True)\n",
        known = site.place().known_hosts(),
        host = site.place().listen().ip().to_string(),
        port = site.place().listen().port(),
        key = site.place().key("partner"),
    );
    let mut child = Command::new("/usr/bin/python3")
        .args(["-W", "ignore", "-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("python");
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("a pipe");
    // One byte at a time: what follows the line stays in the pipe.
    BufReader::with_capacity(1, stdout).read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n", "the upload began");
    child
}

/// Lets the client close its file; whether it heard OK.
pub fn let_it_close(mut child: Child) -> bool {
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(b"go\n");
    }
    let output = child.wait_with_output().expect("the client ends");
    String::from_utf8_lossy(&output.stdout).contains("closed")
}

#[test]
fn an_upload_in_progress_is_sealed_and_one_cut_off_is_not_delivered() {
    if !have_python("paramiko") {
        return;
    }
    let site = Site::new();
    let mut client = upload_in_progress(&site, "/radiology/half.dcm", 3_000_000);
    assert_nothing_leaked(&site);
    client.kill().unwrap();
    client.wait().unwrap();
    assert_nothing_leaked(&site);
    assert!(site.recipient("radiology").delivered().is_empty());
    assert!(site.events_of("upload-committed", "half.dcm").is_empty());
}

#[test]
fn kill_9_of_session_gate_and_keeper_leaves_no_plaintext() {
    if !have_python("paramiko") {
        return;
    }
    let mut site = Site::new();
    let client = upload_in_progress(&site, "/radiology/one.dcm", 3_000_000);
    site.kill_sessions();
    assert!(!let_it_close(client), "a client whose session was killed hears no OK");
    assert_nothing_leaked(&site);
    let client = upload_in_progress(&site, "/lab/two.dcm", 3_000_000);
    site.crash_gate();
    assert!(!let_it_close(client));
    assert_nothing_leaked(&site);
    let client = upload_in_progress(&site, "/shared/three.dcm", 3_000_000);
    site.crash_keeper();
    assert!(!let_it_close(client));
    assert_nothing_leaked(&site);
}

#[test]
fn the_processes_that_hold_keys_leave_no_core_and_let_nobody_look() {
    let site = Site::new();
    let pids = site.status()["pids"].clone();
    for role in ["keeper", "gate"] {
        let pid = pids[role].as_u64().unwrap();
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or("");
        assert!(core.split_whitespace().nth(4) == Some("0"), "{role}: {core}");
    }
    // A process that is not dumpable belongs to root in /proc, whoever runs it.
    if !crate::site::is_root() {
        let keeper = pids["keeper"].as_u64().unwrap();
        assert!(std::fs::read(format!("/proc/{keeper}/environ")).is_err());
    }
}

#[test]
fn keys_are_private_and_no_command_prints_one() {
    let site = Site::new();
    let root = std::fs::read_to_string(site.place().state().join("keys/root")).unwrap();
    let root = root.trim();
    for words in [&["status"][..], &["drops"], &["receipts"], &["audit"]] {
        let told = site.sealdrop(words).ok();
        assert!(!told.contains(root), "{words:?} prints the root key");
    }
    assert!(!site.log().contains(root) && !site.log().contains("PRIVATE KEY"));
    let keys = site.place().state().join("keys");
    let raw = sealdrop::names::from_hex::<32>(root).unwrap();
    assert_secret(&site, root.as_bytes(), Some(&keys.join("root")));
    assert_secret(&site, &raw, None);
    for name in ["receipt", "host_ed25519", "host_ecdsa"] {
        let text = std::fs::read_to_string(keys.join(name)).unwrap();
        // What of the base64 is secret stands towards its end.
        let line = text.lines().rev().find(|line| !line.starts_with('-') && line.len() > 40).unwrap();
        assert_secret(&site, line.as_bytes(), Some(&keys.join(name)));
    }
    let strings = Command::new(SEALDROP).arg("--version").output().unwrap();
    assert!(strings.status.success());
    site.assert_private();
}

/// What a wrapped file holds, by the page that describes it (docs/keys.md, "Wrapped files"); `None` for any other file.
fn unwrapped(root: &[u8; 32], file: &[u8]) -> Option<Vec<u8>> {
    let rest = file.strip_prefix(b"SDKEY\x01\r\n")?.get(8..)?;
    let counted = |rest: &'_ [u8]| -> Option<(Vec<u8>, usize)> {
        let len = usize::from(*rest.first()?);
        Some((rest.get(1..1 + len)?.to_vec(), 1 + len))
    };
    let (kind, after_kind) = counted(rest)?;
    let (_, after_place) = counted(&rest[after_kind..])?;
    let (nonce, sealed) = rest[after_kind + after_place..].split_first_chunk::<12>()?;
    let header = &file[..file.len() - sealed.len() - nonce.len()];
    let mut key = [0; 32];
    let info = [b"sealdrop/v1/keys/", &kind[..], b"\0wrap"].concat();
    Hkdf::<Sha256>::from_prk(root).unwrap().expand(&info, &mut key).unwrap();
    let payload = Payload { msg: sealed, aad: header };
    Some(Aes256Gcm::new(&key.into()).decrypt(&Nonce::from(*nonce), payload).expect("it opens with the root key"))
}

#[test]
fn what_hangs_on_the_root_key_is_wrapped_as_described_and_nowhere_in_clear() {
    let site = Site::new();
    let local = site.file("a.dcm", b"a");
    for path in ["/radiology/a.dcm", "/lab/a.dcm", "/shared/a.dcm"] {
        site.partner().put(&local, path);
    }
    site.recipient("radiology").get("/inbox/partner/a.dcm");
    let keys = site.place().state().join("keys");
    let root = std::fs::read_to_string(keys.join("root")).unwrap();
    let root = sealdrop::names::from_hex::<32>(root.trim()).unwrap();
    let mut kinds = BTreeSet::new();
    for (path, file) in site.snapshot("keys") {
        let Some(secret) = unwrapped(&root, &file) else { continue };
        assert!(secret.len() >= 32, "{}", path.display());
        assert_secret(&site, &secret, None);
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_secret(&site, hex.as_bytes(), None);
        kinds.insert(path.strip_prefix(&keys).unwrap().components().next().unwrap().as_os_str().to_owned());
    }
    assert!(["identities", "shred"].iter().all(|kind| kinds.contains(OsStr::new(kind))), "{kinds:?}");
}
