//! What is not complete is not delivered as if it were. Each client people have is stopped in the middle of an upload, the
//! way it is stopped in life, in a folder of each kind; what then arrives is the table in docs/sftp.md, "Interrupted".

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sealdrop::vpath::VirtualPath;

use crate::finalize::{delivered, later, site_with};
use crate::site::{Site, have, have_python};
use crate::user::User;
use crate::wire::{Wire, handle, status, string};

/// No client sends this much before it is stopped.
const ENDLESS: u64 = 8 << 30;

/// So much is in staging when it is stopped.
const SOME: u64 = 3 << 20;

/// What is left of an upload that was stopped.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    /// Closed as if it were whole: the protocol does not tell.
    Closed,
    /// Cut off: kept, to be continued.
    CutOff,
}

/// A client at work on an endless file.
fn start(user: User<'_>, client: &str, remote: &str) -> Child {
    let site = user.site;
    let local = site.work().join("endless.dcm");
    if !local.exists() {
        File::create(&local).and_then(|file| file.set_len(ENDLESS)).expect("a sparse file");
    }
    let command = match client {
        "sftp" => user.sftp_batch(&site.file("batch", format!("put endless.dcm {remote}\n").as_bytes())),
        "scp" => {
            let mut command = Command::new("scp");
            command.args(user.ssh_options()).args(["endless.dcm", &user.remote(remote)]);
            command
        }
        "lftp" => user.lftp_command(&format!("put endless.dcm -o {remote}")),
        "psftp" => user.psftp_command(&format!("put endless.dcm {remote}")),
        "rclone" => user.rclone_command(&["copyto", "endless.dcm", &format!(":sftp:{remote}")]),
        "paramiko" => user.paramiko_command(&format!("sftp.put('endless.dcm', {remote:?}, confirm=False)")),
        other => panic!("no client {other}"),
    };
    // A suite that is run in the background may have SIGINT ignored, which a client would inherit.
    let mut reached = Command::new("env");
    reached.arg("--default-signal=INT").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        value.map(|value| reached.env(name, value));
    }
    reached.current_dir(site.work()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    reached.spawn().expect("the client starts")
}

/// Stops `client` by `signal` when it has sent some.
fn stopped(site: &Site, client: &str, signal: Signal, remote: &str) -> Left {
    let user = site.partner();
    let sessions = site.events_of("logged-out", "").len();
    let mut child = start(user, client, remote);
    let stem = VirtualPath::parse(remote.as_bytes()).expect("a path").staging_stem();
    let part = site.on_disk("partner", "/.staging").join(format!("{stem}.part"));
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs::metadata(&part).map_or(0, |meta| meta.len()) < SOME {
        assert!(Instant::now() < deadline, "{client} sends nothing");
        assert!(child.try_wait().expect("a child").is_none(), "{client} ended by itself");
        std::thread::yield_now();
    }
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a process id")), signal).expect("the client is there");
    child.wait().expect("the client ends");
    // Whatever the session had to do with it is done when it has said its last word.
    site.wait_for_event("logged-out", sessions + 1);
    let events = site.events();
    let about = |kind: &str| events.iter().filter(|event| event["kind"] == kind && event["path"] == remote).count();
    match (about("upload-committed") + about("upload-parked"), about("upload-abandoned")) {
        (1, 0) => Left::Closed,
        (0, 1) => Left::CutOff,
        other => panic!("{client}, {signal}: closed and abandoned {other:?}"),
    }
}

/// Every client that is here, each way it is stopped, and what the server can know of that.
fn ways() -> Vec<(&'static str, Signal, Left)> {
    use Signal::{SIGINT, SIGKILL};
    // Versions before 10 send CLOSE and nothing else; 9.2 of Debian 12 is the one that CI has.
    let said = Command::new("ssh").arg("-V").output().expect("ssh").stderr;
    let older = String::from_utf8_lossy(&said).starts_with("OpenSSH_9.");
    let mut ways = vec![
        ("sftp", SIGINT, if older { Left::Closed } else { Left::CutOff }),
        ("sftp", SIGKILL, Left::CutOff),
        ("scp", SIGINT, Left::CutOff),
    ];
    for client in ["lftp", "psftp", "rclone"] {
        if have(client) {
            ways.extend([(client, SIGINT, Left::CutOff), (client, SIGKILL, Left::CutOff)]);
        }
    }
    if have_python("paramiko") {
        ways.push(("paramiko", SIGKILL, Left::CutOff));
    }
    ways
}

/// Stops every client in the folder `/radiology` of `site`; the names of those that only closed.
fn all_stopped(site: &Site, ending: &str) -> Vec<String> {
    let mut closed = Vec::new();
    for (client, signal, left) in ways() {
        let name = format!("{client}-{signal}.dcm");
        let remote = format!("/radiology/{name}{ending}");
        assert_eq!(stopped(site, client, signal, &remote), left, "{client} {signal}");
        if left == Left::Closed {
            closed.push(name);
        }
    }
    closed
}

#[test]
fn on_close_what_was_cut_off_is_not_delivered_and_what_was_closed_is() {
    let site = site_with("close");
    let closed = all_stopped(&site, "");
    assert_eq!(delivered(&site), closed);
}

#[test]
fn on_rename_no_client_that_was_stopped_delivers_anything() {
    let site = site_with("rename");
    let closed = all_stopped(&site, ".part");
    assert!(delivered(&site).is_empty());
    for (client, signal, left) in ways() {
        let name = format!("/radiology/{client}-{signal}.dcm");
        let renamed = site.partner().sftp(format!("rename {name}.part {name}"));
        // What was cut off cannot be renamed into a delivery either.
        assert_eq!(renamed.status.success(), left == Left::Closed, "{client} {signal}: {}", renamed.told());
    }
    assert_eq!(delivered(&site), closed);
}

#[test]
fn after_a_quiet_period_what_was_cut_off_is_not_delivered_and_what_was_closed_can_be_continued_until_then() {
    let site = site_with("quiet 5min");
    all_stopped(&site, "");
    assert!(delivered(&site).is_empty());
    // Who pressed Ctrl-C goes on: what is delivered is what that ends in.
    let whole = site.file("whole.dcm", &vec![0; 48 << 20]);
    let remote = "/radiology/sftp-SIGINT.dcm";
    site.partner().sftp(format!("reput {} {remote}", whole.display())).ok();
    later(&site, "+6min");
    assert_eq!(delivered(&site), ["sftp-SIGINT.dcm"]);
    assert!(site.recipient("radiology").get("/inbox/partner/sftp-SIGINT.dcm") == vec![0; 48 << 20]);
}

/// By hand, what OpenSSH's `sftp` of today does: a size that is the acknowledged one, then CLOSE.
#[test]
fn a_client_that_says_where_it_was_interrupted_is_believed_in_every_folder() {
    for finalize in ["close", "rename", "quiet 5min"] {
        let site = site_with(finalize);
        let remote = if finalize == "rename" { "/radiology/a.dcm.part" } else { "/radiology/a.dcm" };
        let mut wire = Wire::open(site.partner());
        let file = handle(wire.ask(3, &[string(remote.as_bytes()), vec![0, 0, 0, 0x1a], vec![0; 4]].concat()));
        assert_eq!(status(wire.ask(6, &[&file[..], &0u64.to_be_bytes(), &string(&[7; 30_000])].concat())), 0);
        let size = [&file[..], &1u32.to_be_bytes(), &30_000u64.to_be_bytes()].concat();
        assert_eq!(status(wire.ask(10, &size)), 0, "FSETSTAT");
        assert_eq!(status(wire.ask(4, &file)), 0, "CLOSE");
        drop(wire);
        later(&site, "+6min");
        assert!(delivered(&site).is_empty(), "{finalize}");
        assert_eq!(site.events_of("upload-abandoned", remote).len(), 1, "{finalize}");
        let local = site.file("whole", &[7; 50_000]);
        site.partner().sftp(format!("reput {} {remote}", local.display())).ok();
        if finalize == "rename" {
            site.partner().sftp(format!("rename {remote} /radiology/a.dcm")).ok();
        }
        later(&site, "+6min");
        assert!(site.recipient("radiology").get("/inbox/partner/a.dcm") == [7; 50_000], "{finalize}");
    }
}

#[test]
fn an_upload_of_which_a_write_was_refused_is_delivered_nowhere() {
    for finalize in ["close", "rename", "quiet 5min"] {
        let site = site_with(finalize);
        let remote = if finalize == "rename" { "/radiology/a.dcm.part" } else { "/radiology/a.dcm" };
        let mut wire = Wire::open(site.partner());
        let file = handle(wire.ask(3, &[string(remote.as_bytes()), vec![0, 0, 0, 0x1a], vec![0; 4]].concat()));
        assert_eq!(status(wire.ask(6, &[&file[..], &0u64.to_be_bytes(), &string(b"begun")].concat())), 0);
        let far = [&file[..], &(1u64 << 30).to_be_bytes(), &string(b"far ahead")].concat();
        assert_eq!(status(wire.ask(6, &far)), 4, "{finalize}");
        assert_eq!(status(wire.ask(4, &file)), 4, "{finalize}");
        assert_eq!(status(wire.ask(17, &string(remote.as_bytes()))), 2, "it does not stat");
        drop(wire);
        later(&site, "+6min");
        assert!(delivered(&site).is_empty(), "{finalize}");
    }
}

/// A program that fails between `open` and `close` closes on its way out, and the protocol does not say why.
#[test]
fn a_program_that_closes_what_it_did_not_finish_is_told_apart_by_a_rename_alone() {
    if !have_python("paramiko") {
        return;
    }
    for (finalize, remote) in [("close", "/radiology/a.dcm"), ("rename", "/radiology/a.dcm.part")] {
        let site = site_with(finalize);
        let script = format!(
            "with sftp.open({remote:?}, 'w') as out:\n    out.write(b'half')\n    raise OSError('the source is gone')"
        );
        site.partner().paramiko(&script).fails();
        assert_eq!(delivered(&site).is_empty(), finalize == "rename");
    }
}
