//! An inbox that changes its mode: whatever was delivered before, under what policy ever, is listed under a name that opens.

use std::fs;

use sealdrop::cli::demo::place::{LAB, PARTNER, RADIOLOGY};

use crate::site::Site;

/// From now on the inbox of `user` is of this mode, which for `sealed` is to the lab's own key.
fn change(site: &Site, user: &str, mode: &str) {
    let lab = fs::read_to_string(site.place().lab_identity()).unwrap();
    let recipient = lab.split_whitespace().find(|word| word.starts_with("sealdrop1")).unwrap();
    let file = site.place().policy(user);
    let text = fs::read_to_string(&file).unwrap();
    let (before, inbox) = text.split_once("[inbox]").unwrap();
    let after = inbox.find("\n[").map_or("", |at| &inbox[at..]);
    let key = if mode == "sealed" { format!("key = \"{recipient}\"\n") } else { String::new() };
    fs::write(&file, format!("{before}[inbox]\nmode = \"{mode}\"\n{key}{after}")).unwrap();
    site.sealdrop(&["reload"]).ok();
}

/// What is listed of the partner's is just this, each name opens to what was sent, and no other name of it is there.
#[track_caller]
fn assert_listed_opens(site: &Site, user: &'static str, names: &[(&str, &[u8])]) {
    let mut listed = site.recipient(user).list("/inbox/partner");
    listed.sort();
    assert_eq!(listed, names.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (name, bytes) in names {
        let path = format!("/inbox/partner/{name}");
        let pulled = site.recipient(user).get(&path);
        let shown = site.recipient(user).sftp(format!("ls -l {path}")).ok();
        let size = shown.lines().last().unwrap().split_whitespace().nth(4).unwrap().to_owned();
        assert_eq!(size, pulled.len().to_string(), "{shown}");
        let other = match name.strip_suffix(".sealed") {
            Some(plain) => {
                let opened = format!("{plain}.opened.{}", crate::user::unique());
                site.file(name, &pulled);
                site.recipient(LAB).open_offline(name, &opened).ok();
                assert!(fs::read(site.work().join(opened)).unwrap() == *bytes, "{name}");
                plain.to_owned()
            }
            None => {
                assert!(pulled == *bytes, "{name}");
                format!("{name}.sealed")
            }
        };
        let no = site.work().join("no");
        site.recipient(user).sftp(format!("get /inbox/partner/{other} {}", no.display())).fails();
    }
    assert_eq!(site.events_of("corrupt", "").len(), 0, "nothing is called damaged");
}

#[test]
fn what_came_to_a_managed_inbox_opens_with_its_own_key_once_it_is_sealed() {
    let site = Site::new();
    site.partner().put(&site.file("old.dcm", b"while managed"), "/radiology/old.dcm");
    change(&site, RADIOLOGY, "sealed");
    site.partner().put(&site.file("young.dcm", b"while sealed"), "/radiology/young.dcm");
    let before = site.snapshot("jails");
    assert_listed_opens(
        &site,
        RADIOLOGY,
        &[("old.dcm.sealed", b"while managed"), ("young.dcm.sealed", b"while sealed")],
    );
    assert!(site.snapshot("jails") == before, "no drop was touched");
    change(&site, RADIOLOGY, "managed");
    assert_listed_opens(&site, RADIOLOGY, &[("old.dcm", b"while managed"), ("young.dcm.sealed", b"while sealed")]);
    // It can be removed under the name that it is listed by.
    site.recipient(RADIOLOGY).sftp("rm /inbox/partner/young.dcm.sealed").ok();
    assert_listed_opens(&site, RADIOLOGY, &[("old.dcm", b"while managed")]);
}

#[test]
fn what_came_to_a_sealed_inbox_stays_sealed_once_it_is_managed() {
    let site = Site::new();
    site.partner().put(&site.file("old.dcm", b"while sealed"), "/lab/old.dcm");
    change(&site, LAB, "managed");
    site.partner().put(&site.file("young.dcm", b"while managed"), "/lab/young.dcm");
    assert_listed_opens(&site, LAB, &[("old.dcm.sealed", b"while sealed"), ("young.dcm", b"while managed")]);
}

#[test]
fn what_two_recipients_got_in_two_ways_opens_for_both_after_both_have_changed() {
    let site = Site::new();
    let file = site.place().policy(PARTNER);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("to = [\"lab\"]", "to = [\"lab\", \"radiology\"]")).unwrap();
    site.sealdrop(&["reload"]).ok();
    site.partner().put(&site.file("both.dcm", b"for both"), "/lab/both.dcm");
    assert_listed_opens(&site, LAB, &[("both.dcm.sealed", b"for both")]);
    assert_listed_opens(&site, RADIOLOGY, &[("both.dcm", b"for both")]);
    change(&site, LAB, "managed");
    change(&site, RADIOLOGY, "sealed");
    assert_listed_opens(&site, LAB, &[("both.dcm", b"for both")]);
    assert_listed_opens(&site, RADIOLOGY, &[("both.dcm.sealed", b"for both")]);
}
