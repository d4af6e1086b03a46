//! A file keeps the name its sender gave it, byte for byte, whatever bytes those are.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sealdrop::cli::demo::place::RADIOLOGY;

use crate::site::{Site, content, have_python};
use crate::user::quoted;

const NAMES: [&str; 9] = [
    "with some spaces.dcm",
    "grün-日本-🩻.dcm",
    "-dash-first.dcm",
    "it's \"quoted\".dcm",
    "semi;colon & $HOME `id`.dcm",
    "percent%41.dcm",
    "trailing dot.",
    " leading space.dcm",
    "UPPER.DCM",
];

#[test]
fn names_people_give_come_back_as_they_were() {
    let site = Site::new();
    for (n, name) in NAMES.iter().enumerate() {
        let bytes = content(&format!("file {n} "), 1000 + n);
        let local = site.file("local.dcm", &bytes);
        let remote = format!("/radiology/{name}");
        site.partner().put(&local, &remote);
        assert!(site.recipient(RADIOLOGY).get(&format!("/inbox/partner/{name}")) == bytes, "{name}");
        site.partner().verified_receipt(&remote);
        assert!(site.on_disk(RADIOLOGY, "/inbox/partner").join(name).exists(), "{name}");
    }
}

#[test]
fn a_name_of_255_bytes_is_taken_and_one_of_256_is_not() {
    let site = Site::new();
    let local = site.file("local.dcm", b"long-named");
    let longest = "n".repeat(251) + ".dcm";
    site.partner().put(&local, &format!("/radiology/{longest}"));
    assert_eq!(site.recipient(RADIOLOGY).get(&format!("/inbox/partner/{longest}")), b"long-named");
    site.partner().sftp(format!("put {} /radiology/n{longest}", quoted(&local))).fails();
    assert_eq!(site.partner().list("/radiology"), [longest]);
}

#[test]
fn bytes_that_are_not_utf_8_are_a_name_like_any_other() {
    let site = Site::new();
    let name = b"r\xf6ntgen-\xff\xfe.dcm";
    let local = site.file(std::ffi::OsStr::from_bytes(name), b"latin-1");
    assert!(local.exists());
    site.partner().sftp([b"put ", &name[..], b" /radiology/", name].concat()).ok();
    site.recipient(RADIOLOGY).sftp([b"get /inbox/partner/", &name[..], b" back"].concat()).ok();
    assert_eq!(std::fs::read(site.work().join("back")).unwrap(), b"latin-1");
    let kept = site.on_disk(RADIOLOGY, "/inbox/partner").join(Path::new(std::ffi::OsStr::from_bytes(name)));
    assert!(kept.exists());
    let event = site.events_of("upload-committed", "").pop().expect("the upload is in the log");
    assert_eq!(event["path"], "/radiology/r\\xf6ntgen-\\xff\\xfe.dcm", "escaped, so that it cannot forge a line");
}

#[test]
fn a_name_cannot_write_a_line_into_log_or_receipt() {
    if !have_python("paramiko") {
        return;
    }
    let site = Site::new();
    let put = "f = sftp.open('/radiology/a\\nsize: 0\\x1b[2J.dcm', 'w'); f.write(b'x'); f.close()";
    let _ = site.partner().paramiko(put);
    for event in site.events() {
        assert!(!event.to_string().contains('\u{1b}'));
    }
    assert!(!site.log().contains('\u{1b}'), "the log would steer a terminal");
    let told = site.sealdrop(&["audit"]).ok();
    assert!(!told.contains('\u{1b}') && !told.lines().any(|line| line.starts_with("size: 0")), "{told}");
}
