//! Limits that hold in mid-transfer, with the clients people use: what is too much fails and is nowhere, what is not goes on,
//! and when room is made the next push works.

use std::fs;

use sealdrop::cli::demo::place::RADIOLOGY;

use crate::rejected::narrow;
use crate::run::Ran;
use crate::site::{Site, content, have, have_python};
use crate::user::User;

/// The partner's limits.
fn limited(limits: &str) -> Site {
    let mut site = Site::prepared();
    let path = site.place().policy("partner");
    let policy = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{policy}\n[limits]\n{limits}\n")).unwrap();
    site.start().unwrap();
    site
}

/// Nothing of `name` is there: not in the view, not staged, not delivered; and the log and the notice say why.
#[track_caller]
fn refused(site: &Site, name: &str, why: &str) {
    let partner = site.partner();
    partner.sftp(format!("ls /radiology/{name}")).fails();
    assert!(site.on_disk("partner", ".staging").read_dir().unwrap().next().is_none(), "{name} is staged");
    assert!(!site.recipient(RADIOLOGY).delivered().contains(&name.to_owned()), "{name} is delivered");
    let events = site.refusals(name);
    assert!(!events.is_empty(), "{name} is not in the log");
    let notice = String::from_utf8(partner.get(&format!("/receipts/radiology/{name}.rejected"))).unwrap();
    assert!(notice.contains(why), "{name}: {notice}");
}

type Push = fn(&User<'_>, &str, &str) -> Ran;

/// Each pushes a large file and a small one in one run, in that order.
fn pushers() -> Vec<(&'static str, Push)> {
    let mut all: Vec<(&'static str, Push)> = vec![
        ("scp", |user, large, small| user.scp(&[large, small, &user.remote("/radiology/")])),
        ("scp-O", |user, large, small| user.scp(&["-O", large, small, &user.remote("/radiology/")])),
    ];
    if have("lftp") {
        all.push(("lftp", |user, large, small| {
            user.lftp(&format!("set cmd:fail-exit false; mput -O /radiology {large} {small}"))
        }));
    }
    if have("psftp") {
        // It ends at the first WRITE that fails, whatever else it was to send.
        all.push(("pscp", |user, large, small| {
            let ran = user.pscp(&["-sftp", large, &user.remote("/radiology/")]);
            user.pscp(&["-sftp", small, &user.remote("/radiology/")]).ok();
            ran
        }));
    }
    if have("curl") {
        all.push(("curl", |user, large, small| {
            let large_ran = user.curl(&["-T", large], &format!("/radiology/{large}"));
            user.curl(&["-T", small], &format!("/radiology/{small}")).ok();
            large_ran
        }));
    }
    if have("rclone") {
        all.push(("rclone", |user, large, small| {
            let (large, small) = (format!("/{large}"), format!("/{small}"));
            user.rclone(&["copy", ".", ":sftp:/radiology", "--include", &large, "--include", &small])
        }));
    }
    if have_python("paramiko") {
        all.push(("paramiko", |user, large, small| {
            user.paramiko(&format!(
                "failed = 0\nfor name in [{large:?}, {small:?}]:\n    try:\n        sftp.put(name, '/radiology/' + name)\n    except IOError as e:\n        failed = 1\n        print(e)\nssh.close()\nos._exit(failed)"
            ))
        }));
    }
    all
}

#[test]
fn a_file_larger_than_the_folder_takes_fails_in_every_client_and_the_others_go_on() {
    let site = narrow();
    for (client, push) in pushers() {
        let (large, small) = (format!("{client}-large.dcm"), format!("{client}-small.dcm"));
        site.file(&large, &content("too large ", 3 << 20));
        site.file(&small, b"fine");
        let ran = push(&site.partner(), &large, &small);
        assert!(!ran.status.success(), "{client} noticed nothing: {}", ran.told());
        assert!(site.partner().list("/radiology").contains(&small), "{client}: {}", ran.told());
        refused(&site, &large, "the file is larger than this folder takes");
    }
    assert!(site.state_contains(b"too large").is_empty());
}

#[test]
fn what_the_quota_has_no_room_for_is_refused_and_goes_when_room_is_made() {
    let site = limited("bytes = \"2 MiB\"");
    let partner = site.partner();
    let large = site.file("large.dcm", &content("large ", 1_500_000));
    partner.put(&large, "/radiology/first.dcm");
    let said = partner.scp(&["-O", "large.dcm", &partner.remote("/radiology/second.dcm")]).fails();
    assert!(said.contains("the file is larger than the space left for your files"), "{said}");
    refused(&site, "second.dcm", "the space left for your files");
    partner.sftp(format!("put {} /radiology/third.dcm", large.display())).fails();
    refused(&site, "third.dcm", "the space left for your files");
    partner.put(&site.file("rest.dcm", &content("rest ", (2 << 20) - 1_500_000)), "/radiology/rest.dcm");
    // Nothing is left: refused at OPEN, before a byte.
    let said = partner.scp(&["-O", "large.dcm", &partner.remote("/radiology/fourth.dcm")]).fails();
    assert!(said.contains("the space for your files is used up"), "{said}");
    refused(&site, "fourth.dcm", "the space for your files is used up");
    site.age();
    partner.put(&large, "/radiology/fourth.dcm");
    partner.sftp("get /receipts/radiology/fourth.dcm.rejected").fails();
}

#[test]
fn the_number_of_files_is_limited_at_open() {
    let site = limited("files = 2");
    let partner = site.partner();
    let local = site.file("a.dcm", b"a");
    for name in ["1.dcm", "2.dcm"] {
        partner.put(&local, &format!("/radiology/{name}"));
    }
    partner.sftp(format!("put {} /radiology/3.dcm", local.display())).fails();
    refused(&site, "3.dcm", "the number of your files is at its limit");
    site.age();
    partner.put(&local, "/radiology/3.dcm");
}

#[test]
fn sessions_side_by_side_never_exceed_the_quota_together() {
    let site = limited("bytes = \"1 MiB\"");
    let local = site.file("a.dcm", &content("raced ", 400_000));
    let ran: Vec<bool> = std::thread::scope(|scope| {
        let pushes: Vec<_> = (0..6)
            .map(|n| {
                let (site, local) = (&site, &local);
                let batch = format!("put {} /radiology/r{n}.dcm", local.display());
                scope.spawn(move || site.partner().sftp(batch).status.success())
            })
            .collect();
        pushes.into_iter().map(|push| push.join().expect("a push")).collect()
    });
    assert_eq!(ran.iter().filter(|ok| **ok).count(), 2, "two fit");
    assert_eq!(site.recipient(RADIOLOGY).delivered().len(), 2);
    for (n, _) in ran.iter().enumerate().filter(|(_, ok)| !**ok) {
        refused(&site, &format!("r{n}.dcm"), "the space");
    }
}

/// Refused at CLOSE: there was room at OPEN, and another session has taken it since.
#[test]
fn an_upload_whose_room_was_taken_meanwhile_is_refused_at_its_end() {
    if !have_python("paramiko") {
        return;
    }
    let site = limited("bytes = \"1 MiB\"");
    let script = "f = sftp.open('/radiology/slow.dcm', 'wb')\nf.write(b's' * 700000)\n\
                  g = sftp.open('/radiology/quick.dcm', 'wb')\ng.write(b'q' * 700000)\ng.close()\n\
                  try:\n    f.close()\n    raise SystemExit('committed')\nexcept IOError as e:\n    \
                  assert 'the space left for your files' in str(e), e";
    let ran = site.partner().paramiko(script);
    // paramiko swallows what CLOSE answers; then the notice is all there is.
    if !ran.status.success() {
        assert!(ran.told().contains("committed"), "{}", ran.told());
    }
    refused(&site, "slow.dcm", "the file is larger than the space left for your files");
    assert_eq!(site.recipient(RADIOLOGY).delivered(), ["quick.dcm"]);
}

#[test]
fn one_session_more_than_the_limit_is_refused_and_the_others_go_on() {
    let site = limited("sessions = 1");
    let mut held = crate::wire::Wire::open(site.partner());
    site.partner().sftp("ls").fails();
    let refused = site.events_of("login-refused", "");
    assert!(
        refused.iter().any(|event| event["why"].as_str().is_some_and(|why| why.contains("session"))),
        "{refused:?}"
    );
    assert_eq!(held.ask(crate::wire::STAT, &crate::wire::string(b"/radiology")).0, 105);
    drop(held);
    site.wait_for_event("logged-out", 1);
    site.partner().sftp("ls").ok();
}
