//! A drop is written and never read back; a shared folder is an ordinary one; nobody sees what is another's.

use sealdrop::cli::demo::place::{LAB, RADIOLOGY};

use crate::site::{Site, content, have_python};

#[test]
fn a_drop_cannot_be_read_back() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", b"secret"), "/radiology/a.dcm");
    site.partner().sftp("get /radiology/a.dcm back").fails();
    assert!(!site.work().join("back").exists());
    assert!(!site.refusals("/radiology/a.dcm").is_empty(), "a refusal is in the log");
}

#[test]
fn a_shared_folder_reads_writes_renames_and_removes() {
    let site = Site::new();
    let bytes = content("shared ", 300_000);
    let local = site.file("a.bin", &bytes);
    site.partner().sftp("mkdir /shared/d").ok();
    site.partner().put(&local, "/shared/d/a.bin");
    site.partner().sftp("rename /shared/d/a.bin /shared/b.bin").ok();
    assert!(site.partner().get("/shared/b.bin") == bytes);
    let again = content("shared, second ", 100_000);
    site.partner().put(&site.file("b.bin", &again), "/shared/b.bin");
    assert!(site.partner().get("/shared/b.bin") == again, "an overwritten file is the new one");
    site.partner().sftp("rm /shared/b.bin\nrmdir /shared/d").ok();
    assert!(site.partner().list("/shared").is_empty());
}

#[test]
fn a_shared_file_is_read_and_changed_anywhere() {
    if !have_python("paramiko") {
        return;
    }
    let site = Site::new();
    let mut bytes = content("random access ", 400_000);
    site.partner().put(&site.file("r.bin", &bytes), "/shared/r.bin");
    let script = "f = sftp.open('/shared/r.bin', 'r+'); f.seek(65530); f.write(b'across the edge'); f.close()\n\
                  f = sftp.open('/shared/r.bin'); f.seek(65520); print(f.read(40).hex()); f.close()";
    bytes[65_530..65_545].copy_from_slice(b"across the edge");
    let told = site.partner().paramiko(script).ok();
    assert_eq!(told.trim(), sealdrop::names::hex(&bytes[65_520..65_560]));
    assert!(site.partner().get("/shared/r.bin") == bytes);
}

#[test]
fn nobody_sees_what_is_anothers() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", b"for the lab"), "/lab/a.dcm");
    let inbox = site.recipient(RADIOLOGY).sftp("ls -R /").stdout;
    assert!(!String::from_utf8_lossy(&inbox).contains("a.dcm"));
    site.recipient(RADIOLOGY).sftp("get /inbox/lab/a.dcm x").fails();
    assert_eq!(site.recipient(LAB).list("/inbox/partner"), ["a.dcm.sealed"]);
    for path in ["/.staging", "/.staging/x", "/inbox/../.staging"] {
        site.partner().sftp(format!("ls {path}")).fails();
    }
    assert!(!site.partner().list("/").iter().any(|name| name.starts_with(".staging")));
}

#[test]
fn an_inbox_is_read_and_cleared_but_not_written() {
    let site = Site::new();
    let local = site.file("a.dcm", b"delivered");
    site.partner().put(&local, "/radiology/a.dcm");
    let radiology = site.recipient(RADIOLOGY);
    radiology.sftp(format!("put {} /inbox/partner/b.dcm", local.display())).fails();
    radiology.sftp("rename /inbox/partner/a.dcm /inbox/partner/c.dcm").fails();
    assert_eq!(radiology.get("/inbox/partner/a.dcm"), b"delivered");
    radiology.sftp("rm /inbox/partner/a.dcm").ok();
    radiology.sftp("get /inbox/partner/a.dcm x").fails();
    site.partner().verified_receipt("/radiology/a.dcm");
}

#[test]
fn times_and_modes_never_fail_a_good_upload() {
    let site = Site::new();
    let local = site.file("a.dcm", b"dated");
    site.partner().sftp(format!("put -pf {} /radiology/a.dcm\nchmod 600 /radiology/a.dcm", local.display())).ok();
    assert_eq!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm"), b"dated");
}

#[test]
fn five_thousand_entries_are_listed_once_each() {
    if !have_python("paramiko") {
        return;
    }
    let site = Site::new();
    site.partner()
        .paramiko("for n in range(5000):\n    sftp.mkdir('/shared/d%04d' % n)\nprint(len(set(sftp.listdir('/shared'))), len(sftp.listdir('/shared')))")
        .ok();
    let mut names = site.partner().list("/shared");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 5000);
}

#[test]
fn a_quota_is_told_by_df_and_every_home_is_the_root() {
    let site = Site::new();
    assert!(site.partner().sftp("df -h").ok().contains('%'));
    assert!(site.partner().sftp("pwd").ok().contains("/\n"));
    site.partner().sftp("cd ..\ncd ../../..\npwd\nls").ok();
}
