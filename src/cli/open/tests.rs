//! What `sealdrop open` promises: it gives back what `seal` wrote, leaves nothing half-done behind, and says what to try.

use std::fs;

use super::*;
use crate::cli::keygen::write_identity;
use crate::cli::seal::tests::seal;
use crate::clock::Time;
use crate::names::hex;
use crate::seal::{ENVELOPE_LEN, Envelope, HEAD_LEN, HEADER_LEN, Head, Identity, Kem, ShredKey};

/// A sealed file with its identity, in a folder of their own.
struct Site {
    folder: tempfile::TempDir,
    identity: Identity,
    plain: Vec<u8>,
    sealed: PathBuf,
}

fn site(size: usize) -> Site {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::generate(Kem::P256).unwrap();
    write_identity(&folder.path().join("id"), &identity, Time(0)).unwrap();
    let plain: Vec<u8> = (0..size).map(|at| (at % 253) as u8).collect();
    fs::write(folder.path().join("scan"), &plain).unwrap();
    let sealed = seal(&folder.path().join("scan"), &identity.to_recipient().to_string()).unwrap();
    Site { folder, identity, plain, sealed }
}

impl Site {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open_with(&self, id: &str, output: Option<&str>, force: bool) -> Result<Vec<u8>, Failure> {
        let output = output.map(|name| self.path(name));
        let command = Open { output, force, ..self.command(id) };
        let mut out = Vec::new();
        command.run(&mut out, false, false).map(|()| out)
    }

    fn command(&self, id: &str) -> Open {
        Open {
            identities: vec![self.path(id)],
            passphrase: false,
            passphrase_file: None,
            output: None,
            force: false,
            range: None,
            page: false,
            files: vec![self.sealed.clone()],
        }
    }

    fn range(&self, range: &str) -> Result<Vec<u8>, Failure> {
        let mut out = Vec::new();
        let range = Some(range.parse().map_err(Failure::new)?);
        Open { range, ..self.command("id") }.run(&mut out, false, false).map(|()| out)
    }

    /// Opens to a file and to a pipe; both must fail alike, and the folder stay as it was.
    fn refused(&self) -> Failure {
        let before = fs::read_dir(&self.folder).unwrap().count();
        let failure = self.open_with("id", Some("out"), false).unwrap_err();
        assert_eq!(self.open_with("id", None, false).unwrap_err(), failure);
        assert_eq!(fs::read_dir(&self.folder).unwrap().count(), before, "something was left behind");
        failure
    }

    fn rewrite(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(&self.sealed).unwrap();
        change(&mut bytes);
        fs::write(&self.sealed, bytes).unwrap();
    }
}

#[test]
fn what_seal_writes_open_gives_back_to_a_file_and_to_a_pipe() {
    for size in [0, 1, 65536, 200_000] {
        let site = site(size);
        let said = site.open_with("id", Some("out"), false).unwrap();
        assert!(String::from_utf8(said).unwrap().contains(&format!("{size} bytes, verified")));
        assert!(fs::read(site.path("out")).unwrap() == site.plain);
        assert!(site.open_with("id", None, false).unwrap() == site.plain);
    }
}

#[test]
fn the_opened_file_is_private_and_replaces_nothing_unasked() {
    let site = site(10);
    fs::write(site.path("out"), b"mine").unwrap();
    assert!(site.open_with("id", Some("out"), false).unwrap_err().hint.unwrap().contains("--force"));
    assert_eq!(fs::read(site.path("out")).unwrap(), b"mine");
    site.open_with("id", Some("out"), true).unwrap();
    assert!(fs::read(site.path("out")).unwrap() == site.plain);
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(site.path("out")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    assert!(site.open_with("id", Some("scan.sealed"), true).unwrap_err().message.contains("the sealed file itself"));
}

#[test]
fn a_wrong_identity_is_told_whom_the_file_is_for() {
    let site = site(10);
    let other = Identity::generate(Kem::X25519).unwrap();
    write_identity(&site.path("other"), &other, Time(0)).unwrap();
    let failure = site.open_with("other", Some("out"), false).unwrap_err();
    assert!(failure.message.ends_with("is not sealed to this identity"));
    let hint = failure.hint.unwrap();
    assert!(
        hint.contains(&hex(&site.identity.to_recipient().key_id()))
            && hint.contains(&hex(&other.to_recipient().key_id()))
    );
    assert!(site.open_with("absent", None, false).unwrap_err().hint.unwrap().contains("keygen"));
    assert!(site.open_with("scan.sealed", None, false).unwrap_err().message.contains("scan.sealed"));
}

#[test]
fn a_damaged_or_cut_file_leaves_nothing_behind() {
    let damaged = site(200_000);
    // The last record: to a pipe, the good ones before it have gone out by then.
    damaged.rewrite(|bytes| bytes[8192 + 3 * 65568 + 20] ^= 1);
    let failure = damaged.open_with("id", Some("out"), false).unwrap_err();
    assert!(failure.message.ends_with("the file is damaged or the key is wrong"));
    assert!(!damaged.path("out").exists());
    let cut = site(10);
    cut.rewrite(|bytes| bytes.truncate(bytes.len() - 1));
    assert!(cut.refused().message.contains("cut short"));
    let short = site(10);
    short.rewrite(|bytes| bytes.truncate(100));
    assert!(short.refused().message.contains("cut short"));
    let other = site(10);
    other.rewrite(|bytes| bytes.fill(b'x'));
    assert!(other.refused().message.ends_with("this is not a sealed file"));
}

#[test]
fn a_copy_from_the_servers_disk_says_where_to_get_a_good_one() {
    let site = site(10);
    site.rewrite(|bytes| {
        let head = Head::parse(bytes).unwrap();
        let envelope = Envelope::parse(&bytes[HEAD_LEN..HEADER_LEN]).unwrap();
        let wrapped = envelope.shred_wrap(&head, 1, &ShredKey::generate().unwrap()).unwrap();
        bytes[HEAD_LEN..HEADER_LEN].copy_from_slice(&wrapped.to_bytes());
    });
    let failure = site.refused();
    assert!(failure.message.contains("shred-wrapped") && failure.hint.unwrap().contains("over SFTP"));
}

#[test]
fn a_part_of_an_upload_says_that_it_was_never_finished() {
    let site = site(70_000);
    site.rewrite(|bytes| {
        bytes[HEAD_LEN..HEADER_LEN].copy_from_slice(&[0; ENVELOPE_LEN]);
        bytes.truncate(8192 + 65568);
    });
    let failure = site.refused();
    assert!(failure.message.contains("never finished") && failure.hint.unwrap().contains(".part"));
}

#[test]
fn plaintext_is_not_poured_into_a_terminal() {
    let site = site(10);
    let command = site.command("id");
    let mut out = Vec::new();
    assert!(command.run(&mut out, false, true).unwrap_err().hint.unwrap().contains("-o"));
    assert!(out.is_empty());
}
#[test]
fn a_range_gives_its_bytes_and_reads_no_other_record() {
    let site = site(200_000);
    for (text, from, to) in [
        ("0-0", 0, 1),
        ("0-65535", 0, 65_536),
        ("65535-65536", 65_535, 65_537),
        ("70000-", 70_000, 200_000),
        ("-500", 199_500, 200_000),
        ("-999999999", 0, 200_000),
        ("199999-18446744073709551615", 199_999, 200_000),
    ] {
        assert!(site.range(text).unwrap() == site.plain[from..to], "{text}");
    }
    // The second of four records: what does not touch it does not mind.
    site.rewrite(|bytes| bytes[8192 + 65568 + 20] ^= 1);
    assert!(site.range("0-65535").is_ok() && site.range("131072-").is_ok());
    assert!(site.range("65536-65536").unwrap_err().message.contains("damaged"));
    assert!(site.range("200000-").unwrap_err().hint.unwrap().contains("200000 bytes"));
    let output = Some(site.path("part"));
    let range = Some("0-9".parse().unwrap());
    let mut said = Vec::new();
    Open { output, range, ..site.command("id") }.run(&mut said, false, false).unwrap();
    assert!(String::from_utf8(said).unwrap().contains("bytes 0-9 of 200000, each verified"));
    assert!(fs::read(site.path("part")).unwrap() == site.plain[..10]);
}

#[test]
fn several_files_open_into_a_folder_and_one_that_fails_does_not_stop_the_others() {
    let site = site(10);
    fs::create_dir(site.path("opened")).unwrap();
    let damaged = site.path("damaged.sealed");
    let mut bytes = fs::read(&site.sealed).unwrap();
    bytes[8192 + 20] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    fs::copy(&site.sealed, site.path("second.sealed")).unwrap();
    let files = vec![site.sealed.clone(), damaged.clone(), site.path("second.sealed")];
    let to_folder =
        |files: &[PathBuf]| Open { output: Some(site.path("opened")), files: files.to_vec(), ..site.command("id") };
    let failure = to_folder(&files).run(&mut Vec::new(), false, false).unwrap_err();
    assert!(failure.message.starts_with("1 of 3 files") && failure.message.contains("damaged.sealed: the file is"));
    for name in ["scan", "second"] {
        assert!(fs::read(site.path("opened").join(name)).unwrap() == site.plain);
    }
    assert_eq!(fs::read_dir(site.path("opened")).unwrap().count(), 2);

    let refused = |command: Open| command.run(&mut Vec::new(), false, false).unwrap_err();
    assert!(refused(Open { files: files.clone(), ..site.command("id") }).hint.unwrap().contains("-o FOLDER"));
    assert!(
        refused(Open { output: Some(site.path("id")), files: files.clone(), ..site.command("id") })
            .message
            .contains("not a folder")
    );
    assert!(refused(to_folder(&[site.sealed.clone(), site.sealed.clone()])).message.contains("two of the files"));
    assert!(refused(to_folder(&[site.path("scan")])).hint.unwrap().contains(".sealed"));
}
