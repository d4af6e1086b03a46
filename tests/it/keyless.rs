//! Nobody can push to a recipient for whom there is no key: the upload is refused when it is opened, not when all of it has
//! come, and `check` says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use sealdrop::cli::demo::place::RADIOLOGY;

use crate::site::{Site, content};

fn identity(site: &Site) -> PathBuf {
    site.place().state().join("keys/identities").join(RADIOLOGY)
}

fn delivered() -> Site {
    let site = Site::new();
    site.partner().put(&site.file("first", b"first"), "/radiology/first");
    site
}

fn is_refused_at_open(site: &Site, why: &str) {
    let large = site.file("large", &content("", 8 << 20));
    site.partner().sftp(format!("put {} /radiology/large", large.display())).fails();
    let refused = site.events_of("upload-refused", "/radiology/large");
    let last = refused.last().expect("it is in the log");
    assert!(last["why"].as_str().unwrap().contains(why), "{last}");
    assert_eq!(last["bytes"], serde_json::Value::Null, "not one byte came");
    assert!(site.events_of("upload-abandoned", "/radiology/large").is_empty());
    let check = site.sealdrop(&["check"]).ok();
    assert!(check.contains("nothing can be sent to `/radiology`: there is no key for radiology"), "{check}");
}

#[test]
fn an_identity_that_is_gone_is_not_made_anew_while_something_is_sealed_to_it() {
    let mut site = delivered();
    fs::rename(identity(&site), site.work().join("kept")).unwrap();
    is_refused_at_open(&site, "is gone");
    // A start does not know it any more either.
    site.restart();
    is_refused_at_open(&site, "is gone");
    assert!(!identity(&site).exists());
    fs::copy(site.work().join("kept"), identity(&site)).unwrap();
    site.partner().put(&site.file("again", b"again"), "/radiology/again");
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/first") == b"first");
    assert!(!site.sealdrop(&["check"]).ok().contains("no key"));
}

#[test]
fn an_identity_that_nothing_is_sealed_to_any_more_is_made_anew() {
    let site = delivered();
    site.recipient(RADIOLOGY).sftp("rm /inbox/partner/first").ok();
    fs::remove_file(identity(&site)).unwrap();
    site.partner().put(&site.file("second", b"second"), "/radiology/second");
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/second") == b"second");
    assert!(identity(&site).exists());
}

#[test]
fn an_identity_that_does_not_open_is_no_key() {
    let site = delivered();
    let path = identity(&site);
    let good = fs::read(&path).unwrap();
    let mut bent = good.clone();
    bent[20] ^= 1;
    fs::write(&path, bent).unwrap();
    is_refused_at_open(&site, "does not open");
    fs::write(&path, good).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    is_refused_at_open(&site, "can be read by others");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    site.partner().put(&site.file("again", b"again"), "/radiology/again");
}
