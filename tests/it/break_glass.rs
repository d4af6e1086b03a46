//! Break-glass: a drop that only its escrow identity can still open is given out after two people have wanted it, with their
//! names in the log; and never otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sealdrop::cli::demo::place::{LAB, RADIOLOGY};

use crate::run::run;
use crate::site::{SEALDROP, Site, content, is_root};

/// An escrow identity, a folder that is sealed to it, and an approver with an SSH key.
struct Guarded {
    site: Site,
    identity: PathBuf,
    recipient: String,
}

fn guarded() -> Guarded {
    guarded_with("")
}

/// The same with more settings.
fn guarded_with(settings: &str) -> Guarded {
    let mut site = Site::prepared();
    let identity = site.work().join("escrow.identity");
    let mut keygen = Command::new(SEALDROP);
    keygen.args(["--json", "keygen", "-o"]).arg(&identity);
    let made: serde_json::Value = serde_json::from_str(&run(keygen, b"").ok()).unwrap();
    let recipient = made["recipient"].as_str().unwrap().to_owned();
    for name in ["approver", "stranger"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "officer", "-f"]).arg(site.work().join(name));
        run(keygen, b"").ok();
    }
    let approver = fs::read_to_string(site.work().join("approver.pub")).unwrap();
    let config = fs::read_to_string(site.place().config()).unwrap();
    fs::write(
        site.place().config(),
        format!("{config}\n[break_glass]\napprovers = [\"{}\"]\n{settings}", approver.trim()),
    )
    .unwrap();
    let policy = site.place().policy("partner");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.replacen("path = \"/lab\"", &format!("path = \"/lab\"\nescrow = \"{recipient}\""), 1))
        .unwrap();
    site.start().unwrap();
    Guarded { site, identity, recipient }
}

impl Guarded {
    fn request(&self, drop: &str) -> (String, PathBuf) {
        let text = self.site.work().join("request");
        let _ = fs::remove_file(&text);
        let words = ["--json", "break-glass", "request", drop, "--reason", "lab is gone", "-o"];
        let mut words: Vec<&str> = words.to_vec();
        words.push(text.to_str().unwrap());
        let made: serde_json::Value = serde_json::from_str(&self.site.sealdrop(&words).ok()).unwrap();
        (made["request"].as_str().unwrap().to_owned(), text)
    }

    fn sign(&self, key: &str, text: &Path) -> PathBuf {
        let signature = text.with_extension("sig");
        let _ = fs::remove_file(&signature);
        let mut sign = Command::new("ssh-keygen");
        sign.args(["-q", "-Y", "sign", "-n", "break-glass@sealdrop", "-f"]).arg(self.site.work().join(key)).arg(text);
        run(sign, b"").ok();
        signature
    }

    fn approve(&self, id: &str, signature: &Path) -> crate::run::Ran {
        self.site.sealdrop(&["break-glass", "approve", id, "--signature", signature.to_str().unwrap()])
    }

    fn open(&self, id: &str, name: &str) -> crate::run::Ran {
        self.site.sealdrop(&["break-glass", "open", id, "-o", self.site.work().join(name).to_str().unwrap()])
    }
}

#[test]
fn two_people_and_a_reason_give_a_drop_out_for_its_escrow_identity() {
    let guarded = guarded();
    let site = &guarded.site;
    let bytes = content("only for the lab ", 300_000);
    site.partner().put(&site.file("a.dcm", &bytes), "/lab/a.dcm");
    // Its sender sees who can open it.
    let receipt = site.partner().verified_receipt("/lab/a.dcm");
    assert!(receipt.lines().any(|line| line.starts_with("escrow ")), "{receipt}");

    let (id, text) = guarded.request("partner:/lab/a.dcm");
    let asked = fs::read_to_string(&text).unwrap();
    assert!(
        asked.contains("reason lab is gone\n") && asked.contains(&format!("escrow {}\n", guarded.recipient)),
        "{asked}"
    );
    guarded.open(&id, "early").fails_with(1);
    guarded.approve(&id, &guarded.sign("stranger", &text)).fails_with(1);
    guarded.open(&id, "early").fails_with(1);

    // Another text, or another request, is not what was approved.
    let other = site.work().join("other");
    fs::write(&other, asked.replace("lab is gone", "curious")).unwrap();
    guarded.approve(&id, &guarded.sign("approver", &other)).fails_with(1);
    guarded.approve(&id, &guarded.sign("approver", &text)).ok();
    guarded.open(&id, "a.sealed").ok();
    guarded.open(&id, "twice").fails_with(1);
    assert!(!site.work().join("early").exists() && !site.work().join("twice").exists());

    let mut open = Command::new(SEALDROP);
    open.arg("open").arg("-i").arg(&guarded.identity).args(["-o", "opened", "a.sealed"]).current_dir(site.work());
    run(open, b"").ok();
    assert!(fs::read(site.work().join("opened")).unwrap() == bytes);

    let told = |kind: &str| site.events_of(kind, "/lab/a.dcm");
    assert!(told("break-glass-requested")[0]["detail"].as_str().unwrap().contains("lab is gone"));
    let approvals = told("break-glass-approved");
    let outcomes: Vec<&str> = approvals.iter().map(|event| event["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["refused", "refused", "done"]);
    assert!(told("break-glass-opened")[0]["detail"].as_str().unwrap().contains("officer"));
    // The lab's own copy is as it was.
    site.recipient(LAB).sftp("get /inbox/partner/a.dcm.sealed lab.sealed").ok();
    site.recipient(LAB).open_offline("lab.sealed", "lab").ok();
}

#[test]
fn with_approval_it_takes_another_admin_too() {
    let mut login = Command::new("/bin/sh");
    login.args(["-c", "echo 1001 > /proc/self/loginuid"]);
    if !is_root() || !run(login, b"").status.success() {
        eprintln!("only root can be two people who have logged in, and where the kernel keeps that");
        return;
    }
    let guarded = guarded_with("[approval]\nacts = [\"break-glass\"]\n");
    let site = &guarded.site;
    let by = |login: &str, words: &[&str]| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $0 > /proc/self/loginuid && exec \"$@\"", login, SEALDROP]);
        command.args(words).arg("--config").arg(site.place().config());
        run(command, b"")
    };
    site.partner().put(&site.file("a.dcm", b"x"), "/lab/a.dcm");
    let (id, text) = guarded.request("partner:/lab/a.dcm");
    let out = site.work().join("a.sealed");
    let open = ["break-glass", "open", &id, "-o", out.to_str().unwrap()];
    // Before the approver has signed, nobody is asked.
    by("1001", &open).fails_with(1);
    assert!(site.ask(&["approvals"]).is_empty());
    guarded.approve(&id, &guarded.sign("approver", &text)).ok();
    by("1001", &open).fails_with(5);
    assert!(!out.exists());
    let request = site.ask(&["approvals"])[0]["request"].as_str().unwrap().to_owned();
    by("1002", &["approve", &request, "--reason", "seen the signature"]).ok();
    by("1001", &open).ok();
    assert!(out.exists());
}

#[test]
fn what_could_not_be_given_out_can_be_tried_again() {
    let guarded = guarded();
    let site = &guarded.site;
    site.partner().put(&site.file("a.dcm", b"x"), "/lab/a.dcm");
    let (id, text) = guarded.request("partner:/lab/a.dcm");
    guarded.approve(&id, &guarded.sign("approver", &text)).ok();
    let places = [("partner", "/lab"), ("lab", "/inbox/partner")].map(|(user, folder)| site.on_disk(user, folder));
    for (n, place) in places.iter().enumerate() {
        fs::rename(place, site.place().state().join(format!("aside-{n}"))).unwrap();
    }
    guarded.open(&id, "early").fails_with(1);
    for (n, place) in places.iter().enumerate() {
        fs::rename(site.place().state().join(format!("aside-{n}")), place).unwrap();
    }
    guarded.open(&id, "a.sealed").ok();
    guarded.open(&id, "twice").fails_with(1);
    assert_eq!(site.events_of("break-glass-opened", "/lab/a.dcm").len(), 1);
}

#[test]
fn what_has_no_escrow_recipient_or_is_gone_is_not_given_out() {
    let guarded = guarded();
    let site = &guarded.site;
    let local = site.file("a.dcm", b"x");
    site.partner().put(&local, "/radiology/a.dcm");
    site.partner().put(&local, "/lab/a.dcm");
    let reason = ["--reason", "want it"];
    site.sealdrop(&[&["break-glass", "request", "partner:/radiology/a.dcm"], &reason[..]].concat()).fails_with(1);
    let (id, text) = guarded.request("partner:/lab/a.dcm");
    guarded.approve(&id, &guarded.sign("approver", &text)).ok();
    site.sealdrop(&["shred", "partner:/lab/a.dcm", "--reason", "now"]).ok();
    guarded.open(&id, "late").fails_with(1);
    assert_eq!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm"), b"x");
    let plain = Site::new();
    plain.partner().put(&local, "/lab/a.dcm");
    let told = plain.sealdrop(&[&["break-glass", "request", "partner:/lab/a.dcm"], &reason[..]].concat()).fails_with(1);
    assert!(told.contains("approvers"), "{told}");
}
