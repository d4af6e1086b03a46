//! An upload that was cut off in the middle goes on where it stopped: whichever way it ended, by whichever client's habit.
//! What arrives is what was sent, once, under one receipt; and little is sent twice.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Child;

use sealdrop::cli::demo::place::RADIOLOGY;

use crate::secrecy::upload_in_progress;
use crate::site::{Site, content, have, have_python};
use crate::wire::{Wire, handle, status, string};

/// Cut off after so many bytes: past the journal that a session renews after 8 MiB, in the middle of a record.
const HALF: usize = (10 << 20) + 12_345;
const WHOLE: usize = HALF + 2_000_003;

/// What a killed process loses at the most.
const JOURNAL_EVERY: usize = 8 << 20;

/// Offsets and lengths of the requests, and what goes on beside them: a twentieth, and some.
fn sent_at_most(bytes: usize) -> u64 {
    (bytes + bytes / 20 + (64 << 10)) as u64
}

/// How a client goes on.
struct Way {
    name: &'static str,
    /// Where it begins, and where the file is in the end.
    begins: &'static str,
    ends: &'static str,
    goes_on: fn(&Site, &Path, &Way),
}

/// What of `local` is not there yet, sent at its offset through a handle opened without TRUNC and without APPEND.
fn by_offset(site: &Site, local: &Path, way: &Way, size: usize) {
    let mut wire = Wire::open(site.partner());
    let file = handle(wire.ask(3, &[string(way.begins.as_bytes()), vec![0, 0, 0, 0x0a], vec![0; 4]].concat()));
    let bytes = fs::read(local).unwrap();
    for (n, piece) in bytes[size..].chunks(32_000).enumerate() {
        let at = (size + n * 32_000) as u64;
        assert_eq!(status(wire.ask(6, &[&file[..], &at.to_be_bytes(), &string(piece)].concat())), 0);
    }
    assert_eq!(status(wire.ask(4, &file)), 0);
    if way.begins != way.ends {
        let rename = [string(way.begins.as_bytes()), string(way.ends.as_bytes())].concat();
        assert_eq!(status(wire.ask(18, &rename)), 0);
    }
}

fn ways() -> Vec<Way> {
    let way = |name, goes_on| Way { name, begins: "", ends: "", goes_on };
    let mut ways = vec![
        Way {
            begins: "/radiology/reput.dcm",
            ..way("OpenSSH reput", |site, local, way| {
                site.partner().sftp(format!("reput {} {}", local.display(), way.begins)).ok();
            })
        },
        Way {
            begins: "/radiology/put-a.dcm",
            ..way("OpenSSH put -a", |site, local, way| {
                site.partner().sftp(format!("put -a {} {}", local.display(), way.begins)).ok();
            })
        },
        Way {
            begins: "/radiology/winscp.dcm.filepart",
            ends: "/radiology/winscp.dcm",
            ..way("WinSCP, a temp name at an offset", |site, local, way| {
                by_offset(site, local, way, size_of(site, way.begins));
            })
        },
        Way {
            begins: "/radiology/jsch.dcm",
            ..way("JSch RESUME", |site, local, way| by_offset(site, local, way, size_of(site, way.begins)))
        },
        Way {
            begins: "/radiology/paramiko-a.dcm",
            ..way("paramiko, append", |site, local, way| {
                let script = format!(
                    "size = sftp.stat({path:?}).st_size; out = sftp.open({path:?}, 'a'); src = open({local:?}, 'rb'); \
                     src.seek(size); out.write(src.read()); out.close()",
                    path = way.begins
                );
                site.partner().paramiko(&script).ok();
            })
        },
        Way {
            begins: "/radiology/paramiko-r.dcm",
            ..way("paramiko, r+ and seek", |site, local, way| {
                let script = format!(
                    "size = sftp.stat({path:?}).st_size; out = sftp.open({path:?}, 'r+'); out.seek(size); \
                     src = open({local:?}, 'rb'); src.seek(size); out.write(src.read()); out.close()",
                    path = way.begins
                );
                site.partner().paramiko(&script).ok();
            })
        },
    ];
    if have("lftp") {
        ways.push(Way {
            begins: "/radiology/lftp.dcm",
            ..way("lftp put -c", |site, local, way| {
                site.partner().lftp(&format!("put -c {} -o {}", local.display(), way.begins)).ok();
            })
        });
    }
    if have("sshfs") && have("fusermount3") {
        ways.push(Way {
            begins: "/shared/sshfs.bin",
            ..way("sshfs, append", |site, local, _| {
                let bytes = fs::read(local).unwrap();
                site.partner().mounted("/shared", |at| {
                    let path = at.join("sshfs.bin");
                    let size = fs::metadata(&path).unwrap().len() as usize;
                    let mut out = OpenOptions::new().append(true).open(path).unwrap();
                    out.write_all(&bytes[size..]).unwrap();
                });
            })
        });
    }
    for way in &mut ways {
        way.ends = if way.ends.is_empty() { way.begins } else { way.ends };
    }
    ways
}

#[track_caller]
fn size_of(site: &Site, path: &str) -> usize {
    let listed = site.partner().sftp(format!("ls -l {path}")).ok();
    let size = listed.lines().last().and_then(|line| line.split_whitespace().nth(4)?.parse().ok());
    size.unwrap_or_else(|| panic!("no size in {listed}"))
}

/// All uploads are cut off by `end` at once, and go on each in its way. `lost`: as much may be missing of each.
fn after(end: impl FnOnce(&mut Site, &mut Vec<Child>), lost: usize) {
    if !have_python("paramiko") {
        return;
    }
    let mut site = Site::prepared();
    let config = site.place().config();
    let text = fs::read_to_string(&config).unwrap();
    // A stop waits so long for the clients, which send nothing more.
    fs::write(&config, text.replacen("[limits]", "[limits]\ndrain = \"1s\"", 1)).unwrap();
    site.start().expect("the daemon starts");
    let ways = ways();
    let mut clients: Vec<Child> = ways.iter().map(|way| upload_in_progress(&site, way.begins, HALF)).collect();
    end(&mut site, &mut clients);
    for client in &mut clients {
        let _ = client.kill();
        client.wait().expect("the client ends");
    }
    for way in &ways {
        let half = fs::read(site.work().join(format!("half-{}", way.begins.replace('/', "-")))).unwrap();
        let whole = [half, content("and the rest ", WHOLE - HALF)].concat();
        let local = site.file("whole", &whole);
        assert!(site.events_of("upload-committed", way.ends).is_empty(), "{}: half a file is no delivery", way.name);
        let size = size_of(&site, way.begins);
        // The last byte is not shown before CLOSE.
        assert!((HALF - lost - 1..HALF).contains(&size), "{}: {size} bytes are left", way.name);
        let sessions = received(&site).len();
        (way.goes_on)(&site, &local, way);
        site.wait_for_event("logged-out", sessions + 1);
        let sent: u64 = received(&site).iter().skip(sessions).sum();
        assert!(sent <= sent_at_most(WHOLE - size), "{}: sent {sent} bytes for {}", way.name, WHOLE - size);
        let there = match way.ends.strip_prefix("/radiology/") {
            Some(name) => site.recipient(RADIOLOGY).get(&format!("/inbox/partner/{name}")),
            None => site.partner().get(way.ends),
        };
        assert!(there == whole, "{}", way.name);
        assert_eq!(site.events_of("upload-committed", way.ends).len(), 1, "{}: one delivery", way.name);
        let receipt = site.partner().verified_receipt(way.ends);
        let sha256 = sealdrop::names::hex(&<sha2::Sha256 as sha2::Digest>::digest(&whole));
        assert!(receipt.contains(&format!("sha256 {sha256}\nsize {WHOLE}\n")), "{}: {receipt}", way.name);
    }
}

/// Of each session that has ended, how many bytes of SFTP it received.
fn received(site: &Site) -> Vec<u64> {
    let said = |event: &serde_json::Value| {
        let detail = event["detail"].as_str().unwrap_or_default();
        detail.rsplit_once(' ').and_then(|(_, bytes)| bytes.parse().ok()).unwrap_or(0)
    };
    site.events_of("logged-out", "").iter().map(said).collect()
}

#[test]
fn after_kill_9_of_the_client() {
    let end = |site: &mut Site, clients: &mut Vec<Child>| {
        for client in clients.iter_mut() {
            client.kill().unwrap();
        }
        site.wait_for_event("upload-abandoned", clients.len());
        site.wait_for_event("logged-out", clients.len());
    };
    after(end, 0);
}

#[test]
fn after_kill_9_of_the_sessions() {
    after(
        |site, clients| {
            site.kill_sessions();
            site.wait_for_event("logged-out", clients.len());
        },
        JOURNAL_EVERY,
    );
}

#[test]
fn after_kill_9_of_the_gate() {
    after(|site, _| site.crash_gate(), JOURNAL_EVERY);
}

#[test]
fn after_kill_9_of_the_keeper() {
    after(|site, _| site.crash_keeper(), JOURNAL_EVERY);
}

#[test]
fn after_an_orderly_restart() {
    after(|site, _| site.restart(), 0);
}
