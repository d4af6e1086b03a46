//! With `phi_names` a file's name is nowhere but where the file is, and with the auditor: not in the log, not in what is
//! signed, exported or reported, not in the server's own log. The auditor's identity brings the names back until they expire.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use sealdrop::ledger::NamesText;
use serde_json::Value;

use crate::run::run;
use crate::site::{SEALDROP, Site, contains, everything_below};

/// In every name that a client gives.
const SECRET: &str = "doe-jane";

/// A site that hides names for so long, and its auditor's identity.
fn hiding(expire: &str) -> (Site, PathBuf) {
    let mut site = Site::prepared();
    let identity = site.work().join("auditor.identity");
    let mut command = Command::new(SEALDROP);
    command.args(["--json", "keygen", "-o"]).arg(&identity);
    let made: Value = serde_json::from_str(&run(command, b"").ok()).unwrap();
    let config = fs::read_to_string(site.place().config()).unwrap();
    let audit = format!("[audit]\nphi_names = true\nauditor = {}\nnames_expire = \"{expire}\"\n", made["recipient"]);
    fs::write(site.place().config(), format!("{config}\n{audit}")).unwrap();
    site.start().unwrap();
    (site, identity)
}

/// What clients do with such names: most of what there is to be recorded.
fn use_names(site: &Site) {
    let partner = site.partner();
    let file = site.file("doe-jane.dcm", b"a study");
    partner.sign(&["-O", "hashalg=sha256"], "origin@sealdrop", &file);
    let mut sum = Command::new("sha256sum");
    sum.arg(&file);
    let sums = site.file("SHA256SUMS", format!("{}  doe-jane.dcm\n", &run(sum, b"").ok()[..64]).as_bytes());
    partner.sftp(format!("put {} /radiology/", sums.display())).ok();
    partner.sftp("put doe-jane.dcm /radiology/\nput doe-jane.dcm.sig /radiology/\nput doe-jane.dcm /radiology/").ok();
    partner.sftp("mkdir /shared/doe-jane\nput doe-jane.dcm /shared/doe-jane/a\nls /shared/doe-jane").ok();
    partner.sftp("rename /shared/doe-jane /shared/doe-jane-2\nrm /shared/doe-jane-2/a\nrmdir /shared/doe-jane-2").ok();
    partner.sftp("get /radiology/doe-jane.not-there x").fails();
    partner.sftp("put doe-jane.dcm /radiology/no/doe-jane/folder").fails();
    partner.ssh(&["-T"], &["status /radiology/doe-jane.dcm"]).ok();
    partner.ssh(&["-T"], &["sha256sum /radiology/doe-jane.dcm"]).ok();
    assert_eq!(site.recipient("radiology").get("/inbox/partner/doe-jane.dcm"), b"a study");
    partner.sftp("put doe-jane.dcm /lab/doe-jane.dcm\nput doe-jane.dcm /lab/doe-jane.exe").ok();
    for (command, of) in [("hold", "doe-jane.exe"), ("release", "doe-jane.exe"), ("shred", "doe-jane.dcm")] {
        site.sealdrop(&[command, &format!("partner:/lab/{of}"), "--reason", "asked for"]).ok();
    }
    site.sealdrop(&["explain", "partner", "put", "/lab/doe-jane"]).ok();
    site.sealdrop(&["status", "/lab/doe-jane.dcm"]).ok();
}

/// The files below a folder that have the secret in their name or their content.
fn betrays(dir: &Path) -> Vec<PathBuf> {
    let mut found = everything_below(dir);
    found.retain(|path| {
        let content = if path.is_file() { fs::read(path).unwrap() } else { Vec::new() };
        contains(path.strip_prefix(dir).unwrap().as_os_str().as_encoded_bytes(), SECRET.as_bytes())
            || contains(&content, SECRET.as_bytes())
    });
    found
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_hidden_name_is_in_nothing_that_leaves_the_server() {
    let (mut site, _) = hiding("30 days");
    use_names(&site);
    let out = site.work().join("out");
    fs::create_dir(&out).unwrap();
    let write = |name: &str, said: String| fs::write(out.join(name), said).unwrap();
    // A receipt for the sender, whom stock ssh-keygen tells that it is good, and everything that goes with it.
    let receipt = site.partner().verified_receipt("/radiology/doe-jane.dcm.~1~");
    assert!(receipt.contains("\nfolder /radiology\npath sha256:"), "{receipt}");
    write("receipt", receipt.clone());
    for name in ["doe-jane.dcm.receipt.proof", "SHA256SUMS.consignment"] {
        let bytes = site.partner().get(&format!("/receipts/radiology/{name}"));
        write(&format!("{name}-read").replace(SECRET, "it"), String::from_utf8(bytes).unwrap());
    }
    let disclosed = site.recipient("radiology").get("/receipts/inbox/partner/doe-jane.dcm.disclosure");
    write("disclosure", String::from_utf8(disclosed).unwrap());
    // What an admin hands on.
    site.sealdrop(&["audit", "export", &text(&out.join("export"))]).ok();
    let id = receipt.lines().find_map(|line| line.strip_prefix("receipt ")).unwrap();
    site.sealdrop(&["evidence", id, "--out", &text(&out.join("evidence"))]).ok();
    assert!(out.join("evidence/origin.sig").exists(), "the sender's signature is found all the same");
    let destroyed = site.partner().get("/receipts/lab/doe-jane.dcm.destroyed");
    write("certificate", String::from_utf8(destroyed).unwrap());
    let (page, csv) = (out.join("page.html"), out.join("disclosures.csv"));
    write("report", site.sealdrop(&["report", "--html", &text(&page), "--disclosures", &text(&csv)]).ok());
    write("receipts", site.sealdrop(&["receipts"]).ok());
    for format in ["text", "jsonl", "csv", "cef", "syslog"] {
        write(format, site.sealdrop(&["audit", "--format", format]).ok());
    }
    write("tail", site.sealdrop(&["audit", "tail", "-n", "100"]).ok());
    assert!(betrays(&out).is_empty(), "{:?}", betrays(&out));
    assert!(fs::read_to_string(out.join("text")).unwrap().contains("sha256:"), "a hash is in its place");
    // It proves what it proved before.
    let mut verify = Command::new("sh");
    verify.arg(out.join("evidence/verify.sh")).arg(site.work().join("doe-jane.dcm"));
    assert!(run(verify, b"").ok().contains("GOOD: "));
    site.sealdrop(&["audit", "verify"]).ok();
    site.sealdrop(&["audit", "verify", "--export", &text(&out.join("export"))]).ok();

    // A backup has them as names of files alone.
    let backup = site.work().join("backup");
    site.sealdrop(&["backup", &text(&backup)]).ok();
    let mut copied = betrays(&backup);
    copied.retain(|path| !path.starts_with(backup.join("jails")));
    assert!(copied.is_empty(), "{copied:?}");

    // What the server keeps: names where the files are, and in the live database.
    site.signal(Signal::SIGTERM);
    site.wait_for_end();
    let state = site.place().state();
    let mut kept = betrays(&state);
    kept.retain(|path| !["jails", "ledger/live"].iter().any(|dir| path.starts_with(state.join(dir))));
    assert!(kept.is_empty(), "{kept:?}");
    assert!(!site.log().contains(SECRET), "{}", site.log());
}

#[test]
fn the_auditor_reads_the_names_and_can_prove_them() {
    let (site, identity) = hiding("30 days");
    use_names(&site);
    let identity = text(&identity);
    let shown = site.sealdrop(&["audit", "--identity", &identity, "--path", "/radiology/doe-jane.dcm"]).ok();
    assert!(shown.contains("upload-committed") && shown.contains("/radiology/doe-jane.dcm"), "{shown}");
    assert_eq!(site.sealdrop(&["audit", "--path", "/radiology/doe-jane.dcm"]).ok(), "", "nobody else finds it");
    let out = site.work().join("export");
    site.sealdrop(&["audit", "export", "--identity", &identity, &text(&out)]).ok();
    let events = fs::read_to_string(out.join("events.jsonl")).unwrap();
    let mut proven = 0;
    for line in fs::read_to_string(out.join("names.jsonl")).unwrap().lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        let names: NamesText = serde_json::from_str(line).unwrap();
        let number = usize::try_from(value["event"].as_u64().unwrap()).unwrap();
        let event: Value = serde_json::from_str(events.lines().nth(number).unwrap()).unwrap();
        for member in ["path", "to"] {
            let Some(hidden) = event[member].as_str() else { continue };
            proven += usize::from(names.find(hidden).is_some_and(|name| name.contains(SECRET)));
        }
    }
    assert!(proven > 10, "{proven}");
    // Another's identity opens none.
    let other = site.work().join("other.identity");
    let mut command = Command::new(SEALDROP);
    command.args(["keygen", "-o"]).arg(&other);
    run(command, b"").ok();
    site.sealdrop(&["audit", "--identity", &text(&other)]).fails();
}

#[test]
fn what_has_expired_the_auditor_cannot_read_either() {
    let (mut site, identity) = hiding("2h");
    use_names(&site);
    let receipts = site.ask(&["receipts"]).len();
    let identity = text(&identity);
    assert!(site.sealdrop(&["audit", "--identity", &identity]).ok().contains(SECRET));
    site.age();
    let destroyed = site.events_of("shred-key-destroyed", "");
    assert!(destroyed.iter().any(|event| event["detail"].as_str().unwrap().contains("of names")), "{destroyed:?}");
    let shown = site.sealdrop(&["audit", "--identity", &identity]).ok();
    assert!(!shown.contains(SECRET) && shown.contains("sha256:"), "{shown}");
    // Drops that are over have lost their names too, and come back without them from the journal.
    for _ in 0..2 {
        for folder in ["radiology", "lab", "shared", ""] {
            let listed = site.partner().list(&format!("/receipts/{folder}"));
            assert!(!listed.iter().any(|name| name.contains(SECRET)), "{listed:?}");
        }
        for command in [&["drops"][..], &["receipts"], &["status", "/lab/doe-jane.dcm"]] {
            let said = site.sealdrop(command).told();
            assert!(!said.replace("/lab/doe-jane.dcm", "").contains(SECRET), "{command:?}: {said}");
        }
        assert_eq!(site.ask(&["receipts"]).len(), receipts, "their receipts are there by their ids");
        site.sealdrop(&["audit", "verify"]).ok();
        site.signal(Signal::SIGTERM);
        site.wait_for_end();
        fs::remove_dir_all(site.place().state().join("ledger/live")).unwrap();
        site.start().unwrap();
    }
    // It goes on.
    site.partner().sftp("put doe-jane.dcm /radiology/doe-jane-3.dcm").ok();
    site.sealdrop(&["audit", "verify"]).ok();
}

#[test]
fn the_live_database_comes_back_from_the_journal_with_the_servers_keys_and_not_without() {
    let (mut site, _) = hiding("30 days");
    site.partner().put(&site.file("doe-jane.dcm", b"a study"), "/radiology/doe-jane.dcm");
    site.signal(Signal::SIGTERM);
    site.wait_for_end();
    let live = site.place().state().join("ledger/live");
    fs::remove_dir_all(&live).unwrap();
    let key = site.place().state().join("keys/names");
    let aside = key.with_extension("aside");
    fs::rename(&key, &aside).unwrap();
    let said = site.start().unwrap_err().to_string();
    assert!(said.contains("names is missing"), "{said}");
    fs::rename(&aside, &key).unwrap();
    site.start().unwrap();
    assert_eq!(site.recipient("radiology").get("/inbox/partner/doe-jane.dcm"), b"a study");
    site.partner().verified_receipt("/radiology/doe-jane.dcm");
}

#[test]
fn a_backup_says_that_names_are_hidden_and_is_not_opened_with_a_new_key() {
    let (mut site, _) = hiding("30 days");
    site.partner().put(&site.file("doe-jane.dcm", b"a study"), "/radiology/doe-jane.dcm");
    let dir = site.work().join("backup");
    site.sealdrop(&["backup", &text(&dir)]).ok();
    site.signal(Signal::SIGTERM);
    site.wait_for_end();
    let state = site.place().state();
    for gone in ["ledger", "jails"] {
        fs::remove_dir_all(state.join(gone)).unwrap();
        fs::create_dir(state.join(gone)).unwrap();
    }
    fs::remove_file(state.join("names-hidden")).unwrap();
    let (key, aside) = (state.join("keys/names"), site.work().join("aside"));
    fs::rename(&key, &aside).unwrap();
    site.sealdrop(&["restore", &text(&dir)]).ok();
    let said = site.start().unwrap_err().to_string();
    assert!(said.contains("names is missing, and names were hidden with it"), "{said}");
    assert!(!key.exists());
    fs::rename(&aside, &key).unwrap();
    site.start().unwrap();
    assert_eq!(site.recipient("radiology").get("/inbox/partner/doe-jane.dcm"), b"a study");
}

#[test]
fn what_is_rebuilt_from_the_sealed_files_keeps_its_names_hidden_and_the_auditor_reads_them() {
    let (mut site, identity) = hiding("30 days");
    for name in ["doe-jane.dcm", "doe-jane-2.dcm"] {
        site.partner().put(&site.file(name, b"a study"), &format!("/radiology/{name}"));
    }
    site.signal(Signal::SIGTERM);
    site.wait_for_end();
    let state = site.place().state();
    fs::remove_dir_all(state.join("ledger")).unwrap();
    fs::create_dir(state.join("ledger")).unwrap();
    site.sealdrop(&["fsck", "--repair"]).ok();
    let mut kept = betrays(&state);
    kept.retain(|path| !["jails", "ledger/live"].iter().any(|dir| path.starts_with(state.join(dir))));
    assert!(kept.is_empty(), "{kept:?}");
    site.start().unwrap();
    let recovered = site.events_of("drop-recovered", "");
    assert_eq!(recovered.len(), 2);
    assert!(recovered.iter().all(|event| event["path"].as_str().unwrap().starts_with("sha256:")), "{recovered:?}");
    assert!(!site.sealdrop(&["audit", "--json"]).ok().contains(SECRET));
    let read = site.sealdrop(&["audit", "--identity", &text(&identity), "--path", "/radiology/doe-jane.dcm"]).ok();
    assert!(read.contains("drop-recovered"), "{read}");
    let out = site.work().join("export");
    site.sealdrop(&["audit", "export", &text(&out)]).ok();
    assert!(betrays(&out).is_empty(), "{:?}", betrays(&out));
    site.sealdrop(&["audit", "verify"]).ok();
    assert_eq!(site.recipient("radiology").get("/inbox/partner/doe-jane.dcm"), b"a study");
}

#[test]
fn a_lost_key_of_hidden_names_is_never_made_anew() {
    let (mut site, _) = hiding("30 days");
    site.partner().put(&site.file("doe-jane.dcm", b"a study"), "/radiology/doe-jane.dcm");
    site.signal(Signal::SIGTERM);
    site.wait_for_end();
    // As when all names have expired since: there is no bucket of names left.
    let keys = site.place().state().join("keys");
    for path in everything_below(&keys.join("shred")).into_iter().filter(|path| path.is_file()) {
        let bucket: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        if (1 << 61..1 << 62).contains(&bucket) {
            fs::remove_file(path).unwrap();
        }
    }
    let (key, aside) = (keys.join("names"), site.work().join("aside"));
    fs::rename(&key, &aside).unwrap();
    let before = site.snapshot("keys");
    let said = site.start().unwrap_err().to_string();
    assert!(said.contains("names is missing, and names were hidden with it"), "{said}");
    let fsck = site.sealdrop(&["fsck"]).fails_with(1);
    assert!(fsck.contains("names is missing, and names were hidden with it"), "{fsck}");
    assert!(site.snapshot("keys") == before, "no key was made");
    // Where names need not be hidden any more, the drops are served without it.
    let config = fs::read_to_string(site.place().config()).unwrap();
    fs::write(site.place().config(), config.replace("phi_names = true", "phi_names = false")).unwrap();
    site.start().unwrap();
    assert_eq!(site.recipient("radiology").get("/inbox/partner/doe-jane.dcm"), b"a study");
    site.signal(Signal::SIGTERM);
    site.wait_for_end();
    assert!(!key.exists(), "no key was made");
    fs::rename(&aside, &key).unwrap();
    fs::write(site.place().config(), config).unwrap();
    site.start().unwrap();
    site.partner().verified_receipt("/radiology/doe-jane.dcm");
}

#[test]
fn names_are_not_hidden_from_everybody() {
    let mut site = Site::prepared();
    let config = fs::read_to_string(site.place().config()).unwrap();
    fs::write(site.place().config(), format!("{config}\n[audit]\nphi_names = true\n")).unwrap();
    let said = site.start().unwrap_err().to_string();
    assert!(said.contains("auditor"), "{said}");
}
