//! Receipts and the stock `ssh-keygen`: what it must accept, what it must refuse.

use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::ledger::receipt::{CONTENT_NAMESPACE, RECEIPT_NAMESPACE};

/// Runs `ssh-keygen -Y verify` as a partner would.
fn accepts(dir: &Path, principal: &str, namespace: &str, signature: &str, message: &[u8]) -> bool {
    std::fs::write(dir.join("allowed_signers"), signer().allowed_signer().unwrap()).unwrap();
    std::fs::write(dir.join("sig"), signature).unwrap();
    std::fs::write(dir.join("message"), message).unwrap();
    let output = Command::new("ssh-keygen")
        .args(["-Y", "verify", "-f", "allowed_signers", "-I", principal, "-n", namespace, "-s", "sig"])
        .current_dir(dir)
        .stdin(Stdio::from(std::fs::File::open(dir.join("message")).unwrap()))
        .output()
        .unwrap();
    output.status.success()
}

#[test]
fn stock_ssh_keygen_accepts_a_receipt_and_nothing_near_it() {
    let site = Site::new();
    let ledger = site.open();
    ledger.commit(upload(drop_number(4))).unwrap();
    let receipt = ledger.receipt(&ReceiptId([4; 16])).unwrap().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let check = |principal: &str, namespace: &str, text: &str| {
        accepts(dir.path(), principal, namespace, &receipt.signature, text.as_bytes())
    };
    assert!(check("drop.example", RECEIPT_NAMESPACE, &receipt.text));
    assert!(!check("drop.example", RECEIPT_NAMESPACE, &receipt.text.replace("size 4", "size 5")), "tampered");
    assert!(!check("drop.example", CONTENT_NAMESPACE, &receipt.text), "wrong namespace");
    assert!(!check("other.example", RECEIPT_NAMESPACE, &receipt.text), "wrong principal");
}

#[test]
fn stock_ssh_keygen_accepts_the_original_file_by_the_content_signature() {
    let site = Site::new();
    let ledger = site.open();
    ledger.commit(upload(drop_number(200))).unwrap();
    let receipt = ledger.receipt(&ReceiptId([200; 16])).unwrap().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let check =
        |bytes: &[u8]| accepts(dir.path(), "drop.example", CONTENT_NAMESPACE, &receipt.content_signature, bytes);
    assert!(check(&content(200)));
    assert!(!check(&content(199)));
    let mut changed = content(200);
    changed[100] ^= 1;
    assert!(!check(&changed));
}

#[test]
fn an_ecdsa_key_signs_receipts_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ecdsa", "-b", "256", "-N", "", "-f"])
        .arg(dir.path().join("key"))
        .status();
    assert!(made.unwrap().success());
    let key = PrivateKey::read_openssh_file(dir.path().join("key")).unwrap();
    let signer = Signer::new("drop.example", key).unwrap();
    std::fs::write(dir.path().join("allowed_signers"), signer.allowed_signer().unwrap()).unwrap();
    std::fs::write(dir.path().join("sig"), signer.sign(RECEIPT_NAMESPACE, b"text").unwrap()).unwrap();
    std::fs::write(dir.path().join("message"), b"text").unwrap();
    let output = Command::new("ssh-keygen")
        .args(["-Y", "verify", "-f", "allowed_signers", "-I", "drop.example", "-n", RECEIPT_NAMESPACE, "-s", "sig"])
        .current_dir(dir.path())
        .stdin(Stdio::from(std::fs::File::open(dir.path().join("message")).unwrap()))
        .output();
    assert!(output.unwrap().status.success());
}

#[test]
fn signatures_of_ssh_keygen_are_read_with_every_kind_of_login_key() {
    use crate::ledger::origin::{ORIGIN_NAMESPACE, OriginSignature};
    for (kind, bits) in [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "384"), ("rsa", "3072")] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x"), b"content").unwrap();
        for words in [
            &["-q", "-t", kind, "-b", bits, "-N", "", "-f", "key"][..],
            &["-q", "-Y", "sign", "-O", "hashalg=sha256", "-f", "key", "-n", ORIGIN_NAMESPACE, "x"],
        ] {
            let done = Command::new("ssh-keygen").args(words).current_dir(dir.path()).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        }
        let armour = std::fs::read(dir.path().join("x.sig")).unwrap();
        let signature = OriginSignature::parse(&armour).unwrap().unwrap();
        assert!(signature.holds(&Digest(Sha256::digest(b"content").into())), "{kind} {bits}");
        assert!(!signature.holds(&Digest(Sha256::digest(b"another").into())), "{kind} {bits}");
    }
}

#[test]
fn a_name_that_would_mean_more_in_allowed_signers_is_refused() {
    let key = || PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[1; 32])), "").unwrap();
    for name in ["", "a b", "*", "a,b", "!a", "a\nb", "ä"] {
        assert!(Signer::new(name, key()).is_err(), "{name:?}");
    }
    assert!(Signer::new("drop-1.hospital.example", key()).is_ok());
}
