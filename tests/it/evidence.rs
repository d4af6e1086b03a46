//! The evidence folder convinces somebody who has a shell, `ssh-keygen` and `sha256sum`, and no reason to trust it: in every
//! shell, and not when anything in it was changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Ran, run};
use crate::site::{SEALDROP, Site, have};
use crate::user::unique;

/// A folder of evidence about what the partner sent, with its signature over it, and the file.
fn evidence(site: &Site) -> (PathBuf, PathBuf) {
    let partner = site.partner();
    let file = site.file("a b.dcm", b"a study");
    partner.sign(&["-O", "hashalg=sha256"], "origin@sealdrop", &file);
    partner.sftp("put \"a b.dcm\" /radiology/\nput \"a b.dcm.sig\" /radiology/").ok();
    site.recipient("radiology").get("/inbox/partner/a b.dcm");
    (of(site, "/radiology/a b.dcm"), file)
}

fn of(site: &Site, path: &str) -> PathBuf {
    let all = site.ask(&["receipts"]);
    let id = all.iter().find(|receipt| receipt["path"] == path).expect("a receipt")["id"].as_str().unwrap().to_owned();
    let dir = site.work().join(format!("evidence-{}", unique()));
    site.sealdrop(&["evidence", &id, "--out", dir.to_str().unwrap()]).ok();
    dir
}

/// `verify.sh` in a shell that finds nothing but the two programs it may use.
fn verify(shell: &[&str], dir: &Path, file: Option<&Path>) -> Ran {
    let programs = dir.with_extension("programs");
    if !programs.exists() {
        fs::create_dir(&programs).unwrap();
        for program in ["ssh-keygen", "sha256sum"] {
            std::os::unix::fs::symlink(Path::new("/usr/bin").join(program), programs.join(program)).unwrap();
        }
    }
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).arg(dir.join("verify.sh")).args(file).env_clear().env("PATH", &programs);
    command.current_dir(dir.parent().unwrap());
    // The time limit is run around it, and is found by its own path.
    let mut clean = Command::new("/usr/bin/env");
    clean.args(["-i", &format!("PATH={}", programs.display())]).arg(command.get_program()).args(command.get_args());
    clean.current_dir(dir.parent().unwrap());
    run(clean, b"")
}

const DASH: &[&str] = &["/bin/dash"];

#[test]
fn every_shell_finds_the_evidence_good_and_the_file_the_one_that_was_sent() {
    let site = Site::new();
    let (dir, file) = evidence(&site);
    for shell in [DASH, &["/bin/busybox", "sh"], &["/bin/bash", "--posix"]] {
        if !have(shell[0].rsplit('/').next().unwrap()) {
            continue;
        }
        let said = verify(shell, &dir, Some(&file)).ok();
        assert!(said.contains("GOOD: ") && said.contains("SHA256:"), "{said}");
        let without = verify(shell, &dir, None).ok();
        assert!(without.contains("Not checked: a file."), "{without}");
    }
    let other = site.file("other", b"another study");
    assert!(verify(DASH, &dir, Some(&other)).fails_with(1).contains("BAD: "));
    let events: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok().filter(|text| text.starts_with("{\"n\":")))
        .collect();
    for kind in ["upload-committed", "download-opened", "download-ended"] {
        assert!(events.iter().any(|event| event.contains(kind)), "{kind} is not in {events:?}");
    }
    // `sealdrop verify` says the same of the receipt's own proof.
    let mut command = Command::new(SEALDROP);
    command.arg("verify").arg("--receipt").arg(dir.join("receipt")).arg("--proof").arg(dir.join("receipt.proof"));
    command.arg("--signers").arg(dir.join("allowed_signers")).arg(&file);
    run(command, b"").ok();
    // It is never mixed with what is there.
    let id = fs::read_to_string(dir.join("receipt")).unwrap();
    let id = id.lines().find_map(|line| line.strip_prefix("receipt ")).unwrap().to_owned();
    site.sealdrop(&["evidence", &id, "--out", dir.to_str().unwrap()]).fails_with(1);
    site.sealdrop(&["evidence", &"0".repeat(32)]).fails_with(1);
}

#[test]
fn a_change_of_any_file_in_the_evidence_is_found() {
    let site = Site::new();
    let (dir, file) = evidence(&site);
    let names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        let path = dir.join(&name);
        let before = fs::read(&path).unwrap();
        let mut changed = before.clone();
        // A letter in the middle of a line, and never one that only changes how a number is written.
        let at = changed.iter().rposition(u8::is_ascii_alphabetic).unwrap();
        changed[at] = if changed[at] == b'e' { b'a' } else { b'e' };
        fs::write(&path, &changed).unwrap();
        let said = verify(DASH, &dir, Some(&file)).fails();
        assert!(said.contains("BAD: ") || name == "verify.sh", "{name:?}: {said}");
        fs::remove_file(&path).unwrap();
        verify(DASH, &dir, Some(&file)).fails();
        fs::write(&path, &before).unwrap();
    }
    fs::write(dir.join("event-0.json"), "{}").unwrap();
    assert!(verify(DASH, &dir, None).fails_with(1).contains("does not belong here"));
    fs::remove_file(dir.join("event-0.json")).unwrap();
    verify(DASH, &dir, Some(&file)).ok();
}

#[test]
fn of_what_is_destroyed_the_evidence_has_the_certificate() {
    let site = Site::new();
    let (before, file) = evidence(&site);
    assert!(!before.join("destroyed").exists());
    site.sealdrop(&["shred", "partner:/radiology/a b.dcm", "--reason", "wrong patient"]).ok();
    let dir = of(&site, "/radiology/a b.dcm");
    let said = verify(DASH, &dir, Some(&file)).ok();
    assert!(said.contains("Destroyed on 2"), "{said}");
    for kind in ["shredded", "destruction-certified"] {
        assert!(
            fs::read_dir(&dir).unwrap().any(|entry| {
                fs::read_to_string(entry.unwrap().path()).is_ok_and(|text| text.contains(&format!("\"{kind}\"")))
            }),
            "{kind}"
        );
    }
    let text = fs::read_to_string(dir.join("destroyed")).unwrap();
    fs::write(dir.join("destroyed"), text.replace("wrong patient", "right patient")).unwrap();
    rewrite_sums(&dir);
    assert!(verify(DASH, &dir, None).fails_with(1).contains("BAD: destroyed is not what"));
}

/// Whoever changes a file changes SHA256SUMS with it: what is signed must not need those.
#[test]
fn what_is_signed_stands_without_the_list_of_digests() {
    let site = Site::new();
    let (dir, file) = evidence(&site);
    let own: Vec<_> = ["README.txt", "verify.sh", "SHA256SUMS", "receipt.proof"].map(PathBuf::from).into();
    for entry in fs::read_dir(&dir).unwrap() {
        let name = PathBuf::from(entry.unwrap().file_name());
        if own.contains(&name) {
            continue;
        }
        let before = fs::read(dir.join(&name)).unwrap();
        let sums = fs::read(dir.join("SHA256SUMS")).unwrap();
        let mut changed = before.clone();
        // Of a proof: in its first hash. What comes behind the hashes is signed by the note's key, which is not asked here.
        let at = if name.extension().is_some_and(|ending| ending == "proof") { 40 } else { changed.len() / 2 };
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        fs::write(dir.join(&name), &changed).unwrap();
        rewrite_sums(&dir);
        let said = verify(DASH, &dir, Some(&file)).fails();
        assert!(said.contains("BAD: "), "{name:?}: {said}");
        fs::write(dir.join(&name), &before).unwrap();
        fs::write(dir.join("SHA256SUMS"), &sums).unwrap();
    }
    verify(DASH, &dir, Some(&file)).ok();
}

fn rewrite_sums(dir: &Path) {
    let command = "rm SHA256SUMS; sha256sum -- * > ../sums; mv ../sums SHA256SUMS";
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(dir);
    run(shell, b"").ok();
}
