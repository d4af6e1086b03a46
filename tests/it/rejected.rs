//! `/receipts/PATH.rejected`: whoever was refused finds why, until the file arrives; nobody else does, and no stranger's
//! garbage is kept.

use std::fs;

use sealdrop::cli::demo::place::RADIOLOGY;

use crate::site::{Site, content, have_python};

/// `/radiology` takes `*.dcm` of a MiB at the most, each name once.
pub fn narrow() -> Site {
    let mut site = Site::prepared();
    let path = site.place().policy("partner");
    let policy = fs::read_to_string(&path).unwrap();
    let rules = "expire = \"72h\"\naccept = [\"*.dcm\"]\nmax_size = \"1 MiB\"\noverwrite = \"refuse\"\n";
    let narrow = policy.replacen("expire = \"72h\"\n", rules, 1);
    assert_ne!(policy, narrow);
    fs::write(&path, narrow).unwrap();
    site.start().unwrap();
    site
}

#[test]
fn a_refused_upload_is_explained_to_its_sender() {
    let site = narrow();
    let partner = site.partner();
    let (small, large) = (site.file("s", b"fine"), site.file("l", &content("large ", 3 << 20)));
    partner.sftp(format!("put {} /radiology/virus.exe", small.display())).fails();
    partner.sftp(format!("put {} /radiology/deep.dcm/a.dcm", small.display())).fails();
    partner.sftp(format!("put {} /radiology/large.dcm", large.display())).fails();
    partner.put(&small, "/radiology/once.dcm");
    partner.sftp(format!("put {} /radiology/once.dcm", small.display())).fails();
    for (name, why, to_do) in [
        ("virus.exe", "files of this name are not taken here", "give it a name"),
        ("large.dcm", "the file is larger than this folder takes", "smaller files"),
        ("once.dcm", "a file of this name is already there and may not be replaced", "another name"),
    ] {
        let text = String::from_utf8(partner.get(&format!("/receipts/radiology/{name}.rejected"))).unwrap();
        for part in [&format!("path       /radiology/{name}\n"), why, to_do, "nothing was delivered"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let refused = site.refusals(name);
        assert!(!refused.is_empty(), "{name}");
    }
    let large = String::from_utf8(partner.get("/receipts/radiology/large.dcm.rejected")).unwrap();
    assert!(large.contains("received   ") && large.contains(" bytes, none of them kept"), "{large}");
    let expected = [
        "large.dcm.rejected",
        "once.dcm.content.sig",
        "once.dcm.receipt",
        "once.dcm.receipt.proof",
        "once.dcm.receipt.sig",
        "once.dcm.rejected",
        "virus.exe.rejected",
    ];
    let mut names = partner.list("/receipts/radiology");
    names.sort();
    assert_eq!(names, expected);
    partner.sftp("rm /receipts/radiology/virus.exe.rejected").fails();
    partner.verified_receipt("/radiology/once.dcm");
    site.recipient(RADIOLOGY).sftp("get /receipts/radiology/virus.exe.rejected").fails();
    site.sealdrop(&["check"]).ok();
}

#[test]
fn a_notice_goes_when_the_file_arrives_and_when_it_is_old() {
    let mut site = narrow();
    let large = site.file("l", &content("large ", 3 << 20));
    for name in ["a.dcm", "b.dcm"] {
        site.partner().sftp(format!("put {} /radiology/{name}", large.display())).fails();
    }
    assert_eq!(site.partner().list("/receipts/radiology"), ["a.dcm.rejected", "b.dcm.rejected"]);
    site.partner().put(&site.file("s", b"fine"), "/radiology/a.dcm");
    assert!(!site.partner().list("/receipts/radiology").contains(&"a.dcm.rejected".to_owned()));
    site.crash_keeper();
    assert!(site.partner().list("/receipts/radiology").contains(&"b.dcm.rejected".to_owned()));
    site.age();
    assert!(!site.partner().list("/receipts/radiology").contains(&"b.dcm.rejected".to_owned()));
}

#[test]
fn a_folder_of_one_notice_is_a_folder() {
    let site = narrow();
    site.partner().sftp(format!("put {} /radiology/virus.exe", site.file("v", b"MZ").display())).fails();
    assert_eq!(site.partner().list("/receipts/radiology"), ["virus.exe.rejected"]);
    site.partner().scp(&["-O", "-r", &site.partner().remote("/receipts/radiology"), "back"]).ok();
    assert!(fs::read_to_string(site.work().join("back/virus.exe.rejected")).unwrap().contains("not taken here"));
}

#[test]
fn paths_outside_the_folders_have_no_notice() {
    let site = narrow();
    let local = site.file("x", b"x");
    for path in ["/x", "/nowhere/x", "/inbox/x", "/receipts/x", "/radiology/none/x.dcm", "/../x"] {
        site.partner().sftp(format!("put {} {path}", local.display())).fails();
    }
    assert!(site.partner().list("/receipts").is_empty());
}

/// As FileZilla does: the same OPEN again and again.
#[test]
fn whoever_is_refused_again_and_again_has_one_notice() {
    if !have_python("paramiko") {
        return;
    }
    let site = narrow();
    let script = "for n in range(300):\n    try:\n        sftp.open('/radiology/virus.exe', 'w')\n        raise SystemExit('opened')\n    except IOError as e:\n        assert 'not taken here' in str(e), e";
    site.partner().paramiko(script).ok();
    assert_eq!(site.partner().list("/receipts/radiology"), ["virus.exe.rejected"]);
    assert!(site.on_disk("partner", ".staging").read_dir().unwrap().next().is_none());
}
