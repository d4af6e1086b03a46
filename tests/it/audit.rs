//! The audit log as an auditor meets it: read with filters and in other formats, taken away whole, proven, and checked
//! after somebody had a hand in it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::run::Ran;
use crate::site::Site;

/// Two uploads, a refusal, and who keeps what elsewhere.
fn site() -> Site {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", b"one"), "/radiology/a.dcm");
    site.partner().put(&site.file("b.dcm", b"two"), "/radiology/b.dcm");
    site.partner().sftp("get /radiology/nothing.dcm");
    // The last words of each session are in it.
    site.wait_for_event("logged-out", 3);
    site
}

fn exported(site: &Site) -> PathBuf {
    let dir = site.work().join("export");
    site.sealdrop(&["audit", "export", dir.to_str().unwrap(), "--why", "the yearly audit"]).ok();
    dir
}

fn verify(site: &Site, export: &Path, more: &[&str]) -> Ran {
    site.sealdrop(&[&["audit", "verify", "--json", "--export", export.to_str().unwrap()][..], more].concat())
}

/// The problems that are found, as words and events.
fn problems(ran: &Ran) -> Vec<(String, u64)> {
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    let answer: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(answer["verified"], false);
    let problems = answer["problems"].as_array().unwrap().iter();
    problems.map(|p| (p["problem"].as_str().unwrap().to_owned(), p["event"].as_u64().unwrap_or(u64::MAX))).collect()
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn save(path: &Path, lines: &[String]) {
    fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

#[test]
fn a_log_is_checked_where_it_is_and_where_it_was_taken() {
    let site = site();
    let kept = site.work().join("kept");
    let kept = kept.to_str().unwrap();
    site.sealdrop(&["audit", "checkpoint", "-o", kept]).ok();
    site.partner().put(&site.file("c.dcm", b"three"), "/radiology/c.dcm");
    let online = site.ask(&["audit", "verify", "--checkpoint", kept]).pop().unwrap();
    assert_eq!((&online["verified"], &online["outside"]), (&Value::Bool(true), &Value::from(1)));
    assert_eq!(online["receipts"], 3);
    assert!(online["checkpoints"].as_u64().unwrap() > 0);

    let export = exported(&site);
    let signers = site.place().dir().join("allowed_signers");
    let offline = verify(&site, &export, &["--checkpoint", kept, "--signers", signers.to_str().unwrap()]).ok();
    let offline: Value = serde_json::from_str(&offline).unwrap();
    assert_eq!(offline["events"], lines(&export.join("events.jsonl")).len());
    let noted = site.events_of("admin-command", "");
    assert!(noted.iter().any(|event| event["detail"].as_str().unwrap().ends_with(": the yearly audit")));

    // Whoever has only OpenSSH checks the head.
    let note = fs::read_to_string(export.join("checkpoint")).unwrap();
    let body = note.split_inclusive('\n').take(3).collect::<String>();
    site.partner().verify("checkpoint@sealdrop", body.as_bytes(), &export.join("checkpoint.sig")).ok();
}

#[test]
fn whatever_is_done_to_an_export_is_named() {
    let site = site();
    let export = exported(&site);
    let events = export.join("events.jsonl");
    let whole = lines(&events);
    let uploads: Vec<usize> = (0..whole.len()).filter(|&at| whole[at].contains("\"upload-committed\"")).collect();
    let (first, last) = (uploads[0], uploads[1]);
    verify(&site, &export, &[]).ok();

    let mut changed = whole.clone();
    changed[first] = changed[first].replace("\"user\":\"partner\"", "\"user\":\"parsner\"");
    save(&events, &changed);
    assert_eq!(problems(&verify(&site, &export, &[])), [("changed".to_owned(), first as u64)]);

    let mut dropped = whole.clone();
    dropped.remove(last);
    save(&events, &dropped);
    assert_eq!(problems(&verify(&site, &export, &[])), [("missing".to_owned(), last as u64)]);

    let mut swapped = whole.clone();
    swapped.swap(first, last);
    save(&events, &swapped);
    let found = problems(&verify(&site, &export, &[]));
    assert!(found.iter().any(|(word, _)| word == "misplaced") && !found.is_empty(), "{found:?}");

    save(&events, &whole[..last]);
    assert_eq!(problems(&verify(&site, &export, &[])), [("missing".to_owned(), last as u64)]);
    save(&events, &whole);

    let receipts = export.join("receipts.jsonl");
    let kept = lines(&receipts);
    save(&receipts, &kept[1..]);
    assert_eq!(problems(&verify(&site, &export, &[])), [("receipt-missing".to_owned(), first as u64)]);
    save(&receipts, &[kept[1].clone(), kept[0].replace("size 3", "size 4")]);
    assert_eq!(problems(&verify(&site, &export, &[])), [("receipt-changed".to_owned(), first as u64)]);
    save(&receipts, &kept);

    fs::remove_file(export.join("checkpoint")).unwrap();
    assert!(verify(&site, &export, &[]).fails_with(1).contains("not whole"));
}

#[test]
fn a_certificate_that_is_removed_from_an_export_changed_or_swapped_is_named() {
    let site = site();
    site.age();
    let export = exported(&site);
    let certified: Vec<u64> = (0..)
        .zip(lines(&export.join("events.jsonl")))
        .filter(|(_, line)| line.contains("\"destruction-certified\""))
        .map(|(event, _)| event)
        .collect();
    let &[first, last] = &certified[..] else { panic!("{certified:?}") };
    let path = export.join("papers.jsonl");
    let kept = lines(&path);
    let mut papers: Vec<Value> = kept.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(papers.len(), 2);
    verify(&site, &export, &[]).ok();
    let found = || problems(&verify(&site, &export, &[]));
    let named = |word: &str, event: u64| (word.to_owned(), event);

    for (at, event) in [(0, first), (1, last)] {
        let mut removed = kept.clone();
        removed.remove(at);
        save(&path, &removed);
        assert_eq!(found(), [named("certificate-missing", event)]);
        let mut changed = kept.clone();
        changed[at] = changed[at].replace("rule expiry", "rule shred");
        save(&path, &changed);
        assert_eq!(found(), [named("paper-changed", event)]);
    }
    save(&path, &[]);
    assert_eq!(found(), [named("certificate-missing", first), named("certificate-missing", last)]);

    (papers[0]["event"], papers[1]["event"]) = (last.into(), first.into());
    papers.reverse();
    save(&path, &papers.iter().map(Value::to_string).collect::<Vec<_>>());
    assert_eq!(found(), [named("paper-changed", first), named("paper-changed", last)]);

    save(&path, &kept);
    verify(&site, &export, &[]).ok();
}

/// A server that was put back to an earlier time and went on from there.
#[test]
fn a_checkpoint_kept_elsewhere_tells_an_older_copy_that_went_on() {
    let mut site = site();
    let kept = site.work().join("kept");
    site.signal(nix::sys::signal::Signal::SIGTERM);
    site.wait_for_end();
    let (ledger, older) = (site.place().state().join("ledger"), site.work().join("older"));
    copy(&ledger, &older);
    site.start().unwrap();
    site.partner().put(&site.file("c.dcm", b"three"), "/radiology/c.dcm");
    site.sealdrop(&["audit", "checkpoint", "-o", kept.to_str().unwrap()]).ok();
    site.signal(nix::sys::signal::Signal::SIGTERM);
    site.wait_for_end();
    fs::remove_dir_all(&ledger).unwrap();
    copy(&older, &ledger);
    site.start().unwrap();
    let said = site.sealdrop(&["audit", "verify", "--checkpoint", kept.to_str().unwrap()]);
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.contains("kept") && said.contains("older copy") || said.contains("not those that were signed"),
        "{said}"
    );
}

fn copy(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

#[test]
fn an_event_is_proven_and_a_later_log_is_shown_to_continue_an_earlier_one() {
    let site = site();
    let before = site.sealdrop(&["audit", "checkpoint"]).ok();
    let old = before.lines().nth(1).unwrap().to_owned();
    let upload = &site.events_of("upload-committed", "a.dcm")[0];
    let proof = site.sealdrop(&["audit", "prove", &upload["n"].to_string()]).ok();
    assert!(proof.starts_with(&format!("c2sp.org/tlog-proof@v1\nindex {}\n", upload["n"])), "{proof}");
    let row = site.sealdrop(&["audit", "--json", "--kind", "upload-committed", "--path", "/radiology/a.dcm"]).ok();
    let leaf = sealdrop::ledger::merkle::leaf_hash(row.trim_end().as_bytes());
    sealdrop::ledger::proof::InclusionProof::parse(&proof).unwrap().check(leaf).unwrap();

    let said = site.sealdrop(&["audit", "consistency", &old]).ok();
    let proof = sealdrop::ledger::proof::ConsistencyProof::parse(&said).unwrap();
    let note = sealdrop::ledger::note::Note::parse(&before).unwrap();
    let claim = sealdrop::ledger::checkpoint::Claim::of_note(&note).unwrap();
    proof.check(claim.head.root.0).unwrap();
    site.sealdrop(&["audit", "prove", "99999"]).fails_with(1);
}

#[test]
fn the_last_events_are_shown_and_those_that_come() {
    let site = site();
    let all = site.sealdrop(&["audit", "--json"]).ok();
    let tail = site.sealdrop(&["audit", "tail", "-n", "3", "--json"]).ok();
    assert!(all.ends_with(&tail) && tail.lines().count() == 3, "{tail}");
    let one = site.ask(&["audit", "tail", "-n", "1", "--kind", "upload-committed"]);
    assert_eq!((one.len(), &one[0]["path"]), (1, &Value::from("/radiology/b.dcm")));

    let mut follow = std::process::Command::new(crate::site::SEALDROP);
    follow.args(["audit", "tail", "-f", "-n", "0", "--json", "--kind", "upload-committed", "--config"]);
    follow.arg(site.place().config()).stdout(std::process::Stdio::piped());
    let mut follow = follow.spawn().unwrap();
    let mut told = std::io::BufReader::new(follow.stdout.take().unwrap());
    // Whenever it has begun to look, there is an upload after that.
    let told_of = std::sync::atomic::AtomicBool::new(false);
    let line = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !told_of.load(std::sync::atomic::Ordering::SeqCst) && n < 100 {
                n += 1;
                site.partner().put(&site.file("x.dcm", b"x"), &format!("/radiology/x{n}.dcm"));
            }
        });
        let mut line = String::new();
        std::io::BufRead::read_line(&mut told, &mut line).unwrap();
        told_of.store(true, std::sync::atomic::Ordering::SeqCst);
        line
    });
    follow.kill().unwrap();
    follow.wait().unwrap();
    assert!(line.contains("/radiology/x"), "{line}");
}

#[test]
fn events_are_written_in_the_formats_of_others() {
    let site = site();
    let csv = site.sealdrop(&["audit", "--format", "csv", "--kind", "upload-committed"]).ok();
    assert_eq!(csv.split("\r\n").count(), 4, "a head line, two uploads and the end");
    assert!(csv.starts_with("n,at,kind,outcome,why,user,"));
    let cef = site.sealdrop(&["audit", "--format", "cef", "--outcome", "done"]).ok();
    assert!(cef.lines().all(|line| line.starts_with("CEF:0|sealdrop|sealdrop|")), "{cef}");
    let syslog = site.sealdrop(&["audit", "--format", "syslog", "--since", "1h"]).ok();
    assert!(syslog.lines().all(|line| line.starts_with("<1") && line.contains(">1 20")), "{syslog}");
    assert_eq!(site.sealdrop(&["audit", "--until", "2020-01-01"]).ok(), "");
}
