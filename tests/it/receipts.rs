//! OK on CLOSE is a promise: every delivered file has a receipt that stock `ssh-keygen` accepts, and a changed one it
//! does not.

use sealdrop::names::hex;
use sha2::{Digest, Sha256};

use crate::run::run;
use crate::site::{SEALDROP, Site, content};

#[test]
fn ssh_keygen_accepts_the_receipt_and_nothing_else() {
    let site = Site::new();
    let bytes = content("receipted ", 200_000);
    site.partner().put(&site.file("a.dcm", &bytes), "/radiology/a.dcm");
    let text = site.partner().verified_receipt("/radiology/a.dcm");
    assert!(text.contains(&hex(&Sha256::digest(&bytes))), "the receipt names the digest of what was pushed:\n{text}");
    assert!(text.contains("200000") && text.contains("partner") && text.contains("radiology"), "{text}");

    let (_, signature) = site.partner().receipt("/radiology/a.dcm");
    let forged = text.replacen("200000", "200001", 1);
    site.partner().verify("receipt@sealdrop", forged.as_bytes(), &signature).fails();
    site.partner().verify("file", text.as_bytes(), &signature).fails();
}

#[test]
fn sealdrop_verify_checks_receipt_and_file_offline() {
    let mut site = Site::new();
    let bytes = content("receipted ", 70_000);
    let local = site.file("a.dcm", &bytes);
    site.partner().put(&local, "/radiology/a.dcm");
    let (text, signature) = site.partner().receipt("/radiology/a.dcm");
    let receipt = site.file("a.dcm.receipt", text.as_bytes());
    site.signal(nix::sys::signal::Signal::SIGTERM);
    site.wait_for_end();
    let verify = |file: &std::path::Path| {
        let mut command = std::process::Command::new(SEALDROP);
        command.arg("verify").arg("--receipt").arg(&receipt).arg("--signature").arg(&signature);
        command.arg("--signers").arg(site.place().allowed_signers()).arg(file);
        run(command, b"")
    };
    verify(&local).ok();
    let other = site.file("b.dcm", &content("receipted ", 70_001));
    verify(&other).fails();
}

#[test]
fn a_receipt_is_listed_saved_and_verifies_from_the_admins_side_too() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", b"x"), "/radiology/a.dcm");
    let listed = site.ask(&["receipts"]);
    assert_eq!(listed.len(), 1);
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    let work = site.work().display().to_string();
    site.sealdrop(&["receipts", &id, "--save", &work]).ok();
    let text = std::fs::read(site.work().join(format!("{id}.receipt"))).unwrap();
    let signature = site.work().join(format!("{id}.receipt.sig"));
    site.partner().verify("receipt@sealdrop", &text, &signature).ok();
    assert_eq!(site.sealdrop(&["receipts", &id]).ok().into_bytes(), text);
}

#[test]
fn the_proof_of_a_receipt_shows_that_it_is_in_the_log_and_no_other_is() {
    let site = Site::new();
    let partner = site.partner();
    for name in ["a.dcm", "b.dcm"] {
        partner.put(&site.file(name, name.as_bytes()), &format!("/radiology/{name}"));
    }
    // A whole folder dragged out, as WinSCP and FileZilla do: each file has the size that the listing said.
    partner.sftp("get -r /receipts got").ok();
    let listing = partner.sftp("ls -l /receipts/radiology").ok();
    let got = site.work().join("got/radiology");
    for part in [".receipt", ".receipt.sig", ".receipt.proof", ".content.sig"] {
        let name = format!("a.dcm{part}");
        let size = std::fs::metadata(got.join(&name)).unwrap().len().to_string();
        let line = listing.lines().find(|line| line.trim_end().ends_with(&name)).expect("it is listed");
        assert!(line.split_whitespace().any(|word| word == size), "{line}, and it has {size}");
    }
    let proof = partner.ssh(&["-T"], &["receipt --proof /radiology/a.dcm"]).ok();
    assert_eq!(proof, std::fs::read_to_string(got.join("a.dcm.receipt.proof")).unwrap());
    assert!(proof.starts_with("c2sp.org/tlog-proof@v1\nextra ") && proof.contains("/audit\n"), "{proof}");
    let verify = |receipt: &str, proof: &str| {
        let mut command = std::process::Command::new(SEALDROP);
        command.arg("verify").arg("--receipt").arg(got.join(receipt)).arg("--proof").arg(got.join(proof));
        command.arg("--signers").arg(site.place().allowed_signers());
        run(command, b"")
    };
    assert!(verify("a.dcm.receipt", "a.dcm.receipt.proof").ok().contains("In the log: event "));
    verify("b.dcm.receipt", "b.dcm.receipt.proof").ok();
    assert!(verify("a.dcm.receipt", "b.dcm.receipt.proof").fails_with(1).contains("another receipt's"));
    for (name, from, to) in [("x", "index ", "index 1"), ("y", "extra ey", "extra eY"), ("z", "/audit\n", "/audit\n1")]
    {
        std::fs::write(got.join(name), proof.replacen(from, to, 1)).unwrap();
        verify("a.dcm.receipt", name).fails_with(1);
    }
}

#[test]
fn receipts_are_read_only_and_only_ones_own() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", b"x"), "/radiology/a.dcm");
    assert!(site.partner().list("/receipts/radiology").contains(&"a.dcm.receipt".to_owned()));
    site.partner().sftp("rm /receipts/radiology/a.dcm.receipt").fails();
    site.partner().sftp("put a.dcm /receipts/radiology/a.dcm.receipt").fails();
    site.recipient("radiology").sftp("get /receipts/radiology/a.dcm.receipt x").fails();
    site.partner().verified_receipt("/radiology/a.dcm");
}

#[test]
fn an_upload_is_one_audit_event_with_who_what_and_how_much() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", &content("", 12_345)), "/radiology/a.dcm");
    let event = site.events_of("upload-committed", "/radiology/a.dcm").pop().expect("an event");
    assert_eq!(event["user"], "partner");
    assert_eq!(event["bytes"], 12_345);
    assert_eq!(event["sha256"], hex(&Sha256::digest(content("", 12_345))));
    assert!(event["key"].as_str().is_some_and(|key| key.starts_with("SHA256:")), "{event}");
    assert!(!site.events_of("logged-in", "").is_empty());
}

#[test]
fn looking_at_a_receipt_is_not_reading_it() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", b"a"), "/radiology/a.dcm");
    let listed = site.partner().sftp("ls -l /receipts/radiology/a.dcm.receipt").ok();
    let text = site.partner().sftp("ls -l /receipts/radiology").ok();
    assert!(site.events_of("receipt-read", "").is_empty(), "{listed}{text}");
    let read = site.partner().get("/receipts/radiology/a.dcm.receipt");
    assert_eq!(site.events_of("receipt-read", "").len(), 1);
    assert!(listed.contains(&format!(" {} ", read.len())), "the size it has: {listed}");
    site.partner().sftp("ls /receipts/radiology/b.dcm.receipt").fails();
    site.partner().sftp("cd /receipts/radiology/a.dcm.receipt").fails();
}

#[test]
fn looking_for_a_receipt_that_is_not_there_yet_is_no_refusal() {
    let site = Site::new();
    let before = site.events().len();
    for _ in 0..5 {
        site.partner().sftp("ls /receipts/radiology/a.dcm.receipt").fails();
    }
    // Logins and logouts, and nothing else.
    assert!(site.refusals("").is_empty());
    assert!(site.events()[before..].iter().all(|event| event["kind"].as_str().unwrap().starts_with("logged-")));
}
