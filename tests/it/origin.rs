//! A sender's own signature, made with its login key, is checked and named in a receipt, whichever of the two files comes
//! first; a wrong one is refused, and nothing it does not hold for is taken in silence.

use std::path::Path;

use sealdrop::names::hex;
use sha2::{Digest, Sha256};

use crate::run::run;
use crate::site::Site;

const HASH: &[&str] = &["-O", "hashalg=sha256"];
const NAMESPACE: &str = "origin@sealdrop";

fn line<'a>(receipt: &'a str, word: &str) -> Option<&'a str> {
    receipt.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
}

fn fingerprint(key: &Path) -> String {
    let mut command = std::process::Command::new("ssh-keygen");
    command.arg("-lf").arg(key);
    run(command, b"").ok().split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn a_signature_beside_a_file_is_checked_and_countersigned() {
    let site = Site::new();
    let partner = site.partner();
    let file = site.file("a.dcm", b"a study");
    let signature = partner.sign(HASH, NAMESPACE, &file);
    partner.sftp("put a.dcm /radiology/\nput a.dcm.sig /radiology/").ok();
    let of_file = partner.verified_receipt("/radiology/a.dcm");
    let of_signature = partner.verified_receipt("/radiology/a.dcm.sig");
    assert_eq!(line(&of_file, "signed"), None, "it came first, and nobody knew");
    let said = [line(&of_file, "receipt").unwrap(), &hex(&Sha256::digest("a study")), &fingerprint(&partner.key())];
    assert_eq!(line(&of_signature, "signs").unwrap(), said.join(" "));
    // The recipient has both, and can check for itself.
    let got = site.recipient("radiology").get("/inbox/partner/a.dcm.sig");
    assert_eq!(got, std::fs::read(signature).unwrap());
    let event = site.events_of("upload-committed", "/radiology/a.dcm.sig").pop().unwrap();
    assert!(event["detail"].as_str().unwrap().contains("its sender's signature with SHA256:"), "{event}");
}

#[test]
fn a_signature_that_comes_before_its_file_is_named_in_the_files_receipt() {
    let site = Site::new();
    let partner = site.partner();
    let signature = partner.sign(HASH, NAMESPACE, &site.file("a.dcm", b"a study"));
    partner.sftp("put a.dcm.sig /radiology/").ok();
    assert_eq!(line(&partner.verified_receipt("/radiology/a.dcm.sig"), "signs"), None);

    // What it is not over is not taken in its place.
    site.file("other", b"another");
    partner.sftp("put other /radiology/a.dcm").fails();
    let notice = String::from_utf8(partner.get("/receipts/radiology/a.dcm.rejected")).unwrap();
    assert!(notice.contains("the signature beside this file is not over it"), "{notice}");
    assert_eq!(site.recipient("radiology").delivered(), ["a.dcm.sig"]);

    partner.sftp("put a.dcm /radiology/a.dcm.part\nrename /radiology/a.dcm.part /radiology/a.dcm").ok();
    let receipt = partner.verified_receipt("/radiology/a.dcm");
    let digest = hex(&Sha256::digest(std::fs::read(signature).unwrap()));
    assert_eq!(line(&receipt, "signed").unwrap(), format!("{} {digest}", fingerprint(&partner.key())));
    // It has found its file: the next version needs one of its own.
    partner.sftp("put other /radiology/a.dcm").ok();
    assert_eq!(line(&partner.verified_receipt("/radiology/a.dcm"), "signed"), None);
}

#[test]
fn a_wrong_signature_is_refused_and_says_why() {
    let site = Site::new();
    let partner = site.partner();
    let file = site.file("a.dcm", b"a study");
    partner.sftp("put a.dcm /radiology/").ok();
    let refused = |why: &str| {
        partner.sftp("put a.dcm.sig /radiology/").fails();
        let notice = String::from_utf8(partner.get("/receipts/radiology/a.dcm.sig.rejected")).unwrap();
        assert!(notice.contains(why), "{notice}");
        assert!(!site.refusals("a.dcm.sig").is_empty());
        assert_eq!(site.recipient("radiology").delivered(), ["a.dcm"]);
    };
    partner.sign(&[], NAMESPACE, &file);
    refused("-O hashalg=sha256");
    site.recipient("radiology").sign(HASH, NAMESPACE, &file);
    refused("not made with a key that you log in with");
    let signature = partner.sign(HASH, NAMESPACE, &file);
    let whole = std::fs::read(&signature).unwrap();
    std::fs::write(&signature, &whole[..whole.len() / 2]).unwrap();
    refused("damaged");
    let other = site.file("other", b"another");
    std::fs::copy(partner.sign(HASH, NAMESPACE, &other), &signature).unwrap();
    refused("not over the file beside it");
    // Of another namespace it was made for somebody else: a file like any other.
    partner.sign(&[], "file", &file);
    partner.sftp("put a.dcm.sig /radiology/").ok();
    assert_eq!(line(&partner.verified_receipt("/radiology/a.dcm.sig"), "signs"), None);
}

#[test]
fn an_old_signature_sent_again_is_no_duplicate_when_its_file_has_changed() {
    let site = Site::new();
    let partner = site.partner();
    let file = site.file("a.dcm", b"a study");
    partner.sign(HASH, NAMESPACE, &file);
    let both = "put a.dcm /radiology/\nput a.dcm.sig /radiology/";
    partner.sftp(both).ok();
    partner.sftp(both).ok();
    assert!(line(&partner.verified_receipt("/radiology/a.dcm.sig"), "duplicate").is_some(), "nothing has changed");
    site.file("a.dcm", b"a newer study");
    partner.sftp(both).fails();
    assert_eq!(site.refusals("a.dcm.sig").len(), 1);
    partner.sign(HASH, NAMESPACE, &file);
    partner.sftp(both).ok();
    let digest = hex(&Sha256::digest("a newer study"));
    assert!(line(&partner.verified_receipt("/radiology/a.dcm.sig"), "signs").unwrap().contains(&digest));
}
