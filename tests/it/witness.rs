//! A witness on another machine: it signs a log that grows, and neither one that was put back nor one that was forked.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use sealdrop::ledger::note::{Note, NoteKey};
use serde_json::Value;

use crate::site::{SEALDROP, Site};

/// A running witness for one log.
struct Witness {
    child: Child,
    url: String,
    key: String,
}

impl Witness {
    fn start(state: &Path, log: &str) -> Self {
        let mut command = Command::new(SEALDROP);
        command.args(["witness", "--json", "--name", "witness.example", "--listen", "127.0.0.1:0", "--log", log]);
        command.arg("--state").arg(state).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let word = |key: &str| said[key].as_str().unwrap().to_owned();
        Self { child, url: format!("http://{}", word("listen")), key: word("key") }
    }

    fn cosign(&self, site: &Site) -> crate::run::Ran {
        site.sealdrop(&["audit", "cosign", &self.url, "--key", &self.key])
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_key(site: &Site) -> String {
    site.sealdrop(&["audit", "checkpoint", "--key"]).ok().trim().to_owned()
}

fn cosigned(site: &Site, key: &str) -> Vec<u64> {
    let key: NoteKey = key.parse().unwrap();
    let rows = site.ask(&["audit", "checkpoint", "--all"]);
    let signed =
        rows.iter().filter(|row| Note::parse(row["note"].as_str().unwrap()).unwrap().signed_by(&key).is_some());
    signed.map(|row| row["size"].as_u64().unwrap()).collect()
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

fn stopped_copy(site: &mut Site, name: &str) -> PathBuf {
    site.signal(Signal::SIGTERM);
    site.wait_for_end();
    let older = site.work().join(name);
    copy(&site.place().state().join("ledger"), &older);
    site.start().unwrap();
    older
}

#[test]
fn a_witness_signs_what_grows_and_refuses_what_was_put_back_or_forked() {
    let mut site = Site::new();
    let memory = site.work().join("witness");
    let witness = Witness::start(&memory, &log_key(&site));
    witness.cosign(&site).ok();
    let older = stopped_copy(&mut site, "older");
    site.partner().put(&site.file("a.dcm", b"a"), "/radiology/a.dcm");
    site.restart();
    witness.cosign(&site).ok();
    witness.cosign(&site).ok();
    let signed = cosigned(&site, &witness.key);
    assert_eq!(signed.len(), 2, "kept with their checkpoints, once each");
    let export = site.work().join("export");
    site.sealdrop(&["audit", "export", export.to_str().unwrap()]).ok();
    assert!(fs::read_to_string(export.join("checkpoints.jsonl")).unwrap().contains("witness.example"));
    site.sealdrop(&["audit", "verify"]).ok();

    // Put back to before that, also for a witness that was started again.
    site.signal(Signal::SIGTERM);
    site.wait_for_end();
    let ledger = site.place().state().join("ledger");
    fs::remove_dir_all(&ledger).unwrap();
    copy(&older, &ledger);
    site.start().unwrap();
    drop(witness);
    let witness = Witness::start(&memory, &log_key(&site));
    let refused = witness.cosign(&site);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("older copy") || refused.stderr.contains("history was changed"), "{refused:?}");

    // And when it has grown past what it was.
    for n in 0..20 {
        site.partner().sftp(format!("ls -1 /radiology/{n}\nls -1 /radiology"));
    }
    site.restart();
    assert!(witness.cosign(&site).fails_with(1).contains("history was changed"));
    assert!(cosigned(&site, &witness.key).iter().all(|size| *size <= signed[0]), "nothing of the fork is signed");
}

#[test]
fn a_witness_that_does_not_answer_stops_nothing() {
    let site = Site::new();
    let witness = Witness::start(&site.work().join("witness"), &log_key(&site));
    let key = witness.key.clone();
    let url = witness.url.clone();
    drop(witness);
    assert!(site.sealdrop(&["audit", "cosign", &url, "--key", &key]).fails_with(1).contains("does not answer"));
    site.partner().put(&site.file("a.dcm", b"a"), "/radiology/a.dcm");
    assert!(site.sealdrop(&["audit", "cosign", "https://w.example", "--key", &key]).fails_with(1).contains("http://"));
}
