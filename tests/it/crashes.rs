//! `kill -9` of any process at any moment: nothing that was acknowledged is missing, nothing half-done is delivered, and
//! where one session dies the others go on.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use sealdrop::cli::demo::place::RADIOLOGY;

use crate::secrecy::{let_it_close, upload_in_progress};
use crate::site::{Site, content, have_python};

#[test]
fn a_killed_session_takes_no_other_along() {
    if !have_python("paramiko") {
        return;
    }
    let site = Site::new();
    let victim = upload_in_progress(&site, "/radiology/victim.dcm", 1_000_000);
    let before = site.sessions();
    let other = upload_in_progress(&site, "/radiology/other.dcm", 1_000_000);
    let victims: Vec<u64> = before.clone();
    victims.into_iter().for_each(crate::site::kill_hard);
    assert!(!let_it_close(victim));
    assert!(let_it_close(other), "the other session heard OK");
    assert_eq!(site.recipient(RADIOLOGY).delivered(), ["other.dcm"]);
    site.partner().put(&site.file("next.dcm", b"next"), "/radiology/next.dcm");
}

/// Pushes small files for ever, sets the time of each, and prints its name once the server has said OK to both; the caller kills
/// what it likes.
fn acknowledged_before(site: &Site, kill: impl FnOnce(&Site), wanted: usize) -> Vec<String> {
    let script = format!(
        "import paramiko\n\
         ssh = paramiko.SSHClient()\n\
         ssh.load_host_keys({known:?})\n\
         ssh.connect({host:?}, port={port}, username='partner', key_filename={key:?}, allow_agent=False, look_for_keys=False)\n\
         sftp = ssh.open_sftp()\n\
         n = 0\n\
         while True:\n    \
             name = 'ack%05d.dcm' % n\n    \
             out = sftp.file('/radiology/' + name, 'w')\n    \
             out.write(name.encode() * 1000)\n    \
             sftp._request(paramiko.sftp.CMD_CLOSE, out.handle)\n    \
             sftp.utime('/radiology/' + name, (1, 1))\n    \
             print(name, flush=True)\n    \
             n += 1\n",
        known = site.place().known_hosts(),
        host = site.place().listen().ip().to_string(),
        port = site.place().listen().port(),
        key = site.place().key("partner"),
    );
    let mut client = Command::new("/usr/bin/python3")
        .args(["-W", "ignore", "-c", &script])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("python");
    let mut lines = BufReader::new(client.stdout.take().expect("a pipe")).lines();
    let mut names: Vec<String> = lines.by_ref().take(wanted).map(|line| line.expect("a name")).collect();
    assert_eq!(names.len(), wanted, "the client pushes");
    kill(site);
    // What it heard until the connection broke.
    names.extend(lines.map_while(Result::ok));
    let _ = client.kill();
    let _ = client.wait();
    names
}

#[track_caller]
fn assert_all_there(site: &Site, names: &[String]) {
    let delivered = site.recipient(RADIOLOGY).delivered();
    let logged = |kind: &str| -> HashSet<String> {
        let events = site.events_of(kind, "").into_iter().filter_map(|event| Some(event["path"].as_str()?.to_owned()));
        events.collect()
    };
    let (committed, times_set) = (logged("upload-committed"), logged("times-set"));
    for name in names {
        assert!(delivered.contains(name), "{name} was acknowledged and is not delivered");
        let path = format!("/radiology/{name}");
        assert!(committed.contains(&path), "{name} was acknowledged and is not in the log");
        assert!(times_set.contains(&path), "the time of {name} was acknowledged and is not in the log");
    }
    for name in names.iter().rev().take(3) {
        let bytes = site.recipient(RADIOLOGY).get(&format!("/inbox/partner/{name}"));
        assert!(bytes == name.as_bytes().repeat(1000), "{name}");
        site.partner().verified_receipt(&format!("/radiology/{name}"));
    }
    for name in &delivered {
        let bytes = site.recipient(RADIOLOGY).get(&format!("/inbox/partner/{name}"));
        assert!(bytes == name.as_bytes().repeat(1000), "{name} is delivered and torn");
    }
}

#[test]
fn nothing_acknowledged_is_missing_after_kill_9_of_the_keeper() {
    if !have_python("paramiko") {
        return;
    }
    let mut site = Site::new();
    let names = acknowledged_before(&site, |site| site.signal(nix::sys::signal::Signal::SIGKILL), 25);
    site.wait_for_end();
    site.start().expect("the daemon starts after a crash");
    assert_all_there(&site, &names);
    assert!(!site.events_of("crash-found", "").is_empty(), "the restart says that it found a crash");
}

#[test]
fn nothing_acknowledged_is_missing_after_kill_9_of_the_gate() {
    if !have_python("paramiko") {
        return;
    }
    let mut site = Site::new();
    let gate = site.status()["pids"]["gate"].as_u64().unwrap();
    let names = acknowledged_before(&site, |_| crate::site::kill_hard(gate), 25);
    assert!(!site.wait_for_end().success());
    site.start().expect("the daemon starts after a crash");
    assert_all_there(&site, &names);
}

#[test]
fn nothing_acknowledged_is_missing_after_kill_9_of_the_session() {
    if !have_python("paramiko") {
        return;
    }
    let site = Site::new();
    let names = acknowledged_before(&site, Site::kill_sessions, 25);
    assert_all_there(&site, &names);
}

#[test]
fn an_upload_cut_off_by_a_crash_of_the_keeper_is_resumed() {
    if !have_python("paramiko") {
        return;
    }
    let mut site = Site::new();
    let client = upload_in_progress(&site, "/radiology/resumed.dcm", 2_000_000);
    site.crash_keeper();
    assert!(!let_it_close(client));
    let whole = std::fs::read(site.work().join("half--radiology-resumed.dcm")).unwrap();
    let longer = [whole, content("and the rest ", 500_000)].concat();
    let local = site.file("longer.dcm", &longer);
    site.partner().sftp(format!("reput {} /radiology/resumed.dcm", local.display())).ok();
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/resumed.dcm") == longer);
}

/// From the journal, if there is one: the part is complete by then, and has the keeper's envelope.
#[test]
fn an_upload_whose_commit_was_cut_by_a_crash_is_continued_or_begun_anew() {
    let mut site = Site::new();
    let (long, short) = (content("long ", 3_000_000), content("short ", 100_000));
    for place in ["commit-taken-over", "commit-bytes", "commit-names-durable"] {
        let local = site.file("long.dcm", &long);
        site.crash_at(place);
        site.partner().sftp(format!("put {} /radiology/{place}.dcm", local.display())).fails();
        site.wait_for_end();
        site.start().expect("the daemon starts after a crash");
        let listed = site.partner().sftp(format!("ls -l /radiology/{place}.dcm")).ok();
        let size = listed.lines().last().and_then(|line| line.split_whitespace().nth(4)?.parse::<usize>().ok());
        assert!(size.is_some_and(|size| size >= 1 << 20 && size < long.len()), "{place}: {listed}");
        site.partner().sftp(format!("reput {} /radiology/{place}.dcm", local.display())).ok();
        assert!(site.recipient(RADIOLOGY).get(&format!("/inbox/partner/{place}.dcm")) == long, "{place}");

        let local = site.file("short.dcm", &short);
        site.crash_at(place);
        site.partner().sftp(format!("put {} /radiology/{place}.short", local.display())).fails();
        site.wait_for_end();
        site.start().expect("the daemon starts after a crash");
        site.partner().sftp(format!("ls /radiology/{place}.short")).fails();
        // Without TRUNC, as a client that would resume.
        site.partner().scp(&["short.dcm", &site.partner().remote(&format!("/radiology/{place}.short"))]).ok();
        assert!(site.recipient(RADIOLOGY).get(&format!("/inbox/partner/{place}.short")) == short, "{place}");
    }
}

#[test]
fn a_delivery_by_rename_that_a_crash_cut_is_still_there_under_its_temp_name() {
    let mut site = Site::new();
    let bytes = content("renamed ", 200_000);
    let local = site.file("a.dcm", &bytes);
    site.partner().put(&local, "/radiology/a.dcm.filepart");
    site.crash_at("commit-bytes");
    site.partner().sftp("rename /radiology/a.dcm.filepart /radiology/a.dcm").fails();
    site.wait_for_end();
    site.start().expect("the daemon starts after a crash");
    assert!(site.recipient(RADIOLOGY).delivered().is_empty());
    site.partner().sftp("ls /radiology/a.dcm").fails();
    site.partner().sftp("rename /radiology/a.dcm.filepart /radiology/a.dcm").ok();
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm") == bytes);
}

#[test]
fn an_orderly_stop_lets_a_transfer_finish() {
    if !have_python("paramiko") {
        return;
    }
    let mut site = Site::new();
    let client = upload_in_progress(&site, "/radiology/last.dcm", 500_000);
    site.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(let_it_close(client), "what was being pushed when the stop came is finished");
    assert!(site.wait_for_end().success());
    site.start().unwrap();
    assert_eq!(site.recipient(RADIOLOGY).delivered(), ["last.dcm"]);
}

#[test]
fn everything_is_there_after_an_orderly_restart() {
    let mut site = Site::new();
    let bytes = content("kept ", 100_000);
    site.partner().put(&site.file("a.dcm", &bytes), "/radiology/a.dcm");
    let events = site.events().len();
    site.restart();
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm") == bytes);
    site.partner().verified_receipt("/radiology/a.dcm");
    assert!(site.events().len() > events);
}
