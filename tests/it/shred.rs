//! Shredded is gone, before its time or at it: with every key that is left, no copy of the server's disk that was taken
//! earlier opens, nor the end of an upload that was in it. What was not shredded opens as before, from the copies too.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use sealdrop::cli::demo::place::{LAB, RADIOLOGY};
use sealdrop::keeper::keys::Keys;
use sealdrop::names::{DropId, UserName};
use sealdrop::seal::{Envelope, HEAD_LEN, HEADER_LEN, Head, Identity, Journal};

use crate::secrecy::upload_in_progress;
use crate::site::{Site, content, have_python};

/// Places of a shredding and of a hold, in order; a shredding passes those of a sweep too.
pub const SHRED: [&str; 2] = ["shred-ordered", "shred-forgotten"];
pub const HOLD: [&str; 6] =
    ["hold-moving", "rewrap-noted", "rewrap-written", "rewrap-ended", "hold-rewrapped", "hold-recorded"];

type Copy = BTreeMap<PathBuf, Vec<u8>>;

/// Which of the sealed files in a copy of the state open with the keys that the server has now, and the lab's identity: by
/// any bucket, for any user. Answers their drops.
pub fn opens(site: &Site, copy: &Copy) -> Vec<String> {
    let keys = Keys::open(&site.place().state().join("keys")).expect("the server's keys");
    let lab = Identity::parse(lab_identity(site).trim()).expect("an identity");
    let mut opened = Vec::new();
    for bytes in copy.values().filter(|bytes| bytes.len() >= HEADER_LEN) {
        let Ok(head) = Head::parse(bytes) else { continue };
        let Ok(envelope) = Envelope::parse(&bytes[HEAD_LEN..HEADER_LEN]) else { continue };
        let inner = keys.without_shred(&head, &envelope);
        let by_lab = inner.ok().is_some_and(|inner| inner.open(&head, &lab).is_ok());
        let users = [RADIOLOGY, LAB, "partner"].map(|user| user.parse::<UserName>().unwrap());
        let by_server = users.iter().any(|user| keys.open_envelope(user, &head, &envelope).is_ok());
        if by_lab || by_server || envelope.open(&head, &lab).is_ok() {
            opened.push(head.drop_id().to_string());
        }
    }
    opened.sort();
    opened.dedup();
    opened
}

fn lab_identity(site: &Site) -> String {
    let text = fs::read_to_string(site.place().lab_identity()).expect("the lab's identity");
    text.lines().find(|line| !line.starts_with('#')).expect("a line").to_owned()
}

/// The plaintext in the journals of a copy that open with the keys the server has now, whatever bucket is tried.
fn tails(site: &Site, copy: &Copy) -> Vec<Vec<u8>> {
    let keys = Keys::open(&site.place().state().join("keys")).expect("the server's keys");
    let user: UserName = "partner".parse().unwrap();
    let mut tails = Vec::new();
    for (path, bytes) in copy.iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "jrn")) {
        let head = Head::parse(&copy[&path.with_extension("part")]).expect("a part beside it");
        let said = u64::from_be_bytes(bytes[9..17].try_into().unwrap());
        for bucket in keys.buckets().unwrap().into_iter().chain([said]) {
            let key = keys.journal_key(&user, head.drop_id(), bucket).unwrap();
            let journal = key.and_then(|key| Journal::open(head.drop_id(), &key, &bytes[17..]).ok());
            tails.extend(journal.map(|journal| journal.tail));
        }
    }
    tails
}

pub fn drop_of(site: &Site, path: &str) -> String {
    let drops = site.ask(&["drops"]);
    let row = drops.iter().find(|row| row["path"] == path).unwrap_or_else(|| panic!("no drop at {path}"));
    row["drop"].as_str().unwrap().to_owned()
}

pub fn state_of(site: &Site, drop: &str) -> String {
    let drops = site.ask(&["drops"]);
    drops.iter().find(|row| row["drop"] == drop).unwrap()["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_copy_of_the_state_from_before_opens_with_no_key_that_is_left() {
    if !have_python("paramiko") {
        return;
    }
    let mut site = Site::new();
    let local = site.file("a.dcm", &content("to expire ", 100_000));
    site.partner().put(&local, "/radiology/a.dcm");
    site.partner().put(&local, "/lab/a.dcm");
    let mut half = upload_in_progress(&site, "/radiology/half.dcm", 1_500_000);
    let _ = half.kill();
    let _ = half.wait();
    site.wait_for_event("upload-abandoned", 1);

    let copy = site.snapshot("");
    let of_drops = copy.iter().filter(|(path, _)| !path.starts_with(site.place().state().join("keys")));
    let without_keys: Copy = of_drops.map(|(path, bytes)| (path.clone(), bytes.clone())).collect();
    assert_eq!(opens(&site, &without_keys).len(), 2, "before, the copy is a good backup");
    assert!(tails(&site, &without_keys).iter().any(|tail| !tail.is_empty()), "of the upload too");

    site.age();
    assert_eq!(opens(&site, &without_keys), [""; 0]);
    assert_eq!(tails(&site, &without_keys), [[0; 0]; 0]);

    // Put back whole, with today's keys, it is served by nobody either.
    site.signal(nix::sys::signal::Signal::SIGTERM);
    site.wait_for_end();
    for (path, bytes) in &without_keys {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(path);
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(opens(&site, &without_keys), [""; 0]);
}

#[test]
fn one_drop_is_shredded_and_no_other() {
    let site = Site::new();
    let local = site.file("a.dcm", &content("secret ", 100_000));
    for path in ["/lab/a.dcm", "/lab/b.dcm", "/radiology/a.dcm"] {
        site.partner().put(&local, path);
    }
    let (gone, kept) = (drop_of(&site, "/lab/a.dcm"), drop_of(&site, "/lab/b.dcm"));
    let copy = site.snapshot("jails");
    assert_eq!(opens(&site, &copy).len(), 3);

    site.sealdrop(&["shred", "partner:/lab/a.dcm"]).fails_with(2);
    site.sealdrop(&["shred", "partner:/lab/a.dcm", "--plan", "--reason", "wrong patient"]).ok();
    assert_eq!(state_of(&site, &gone), "live");
    site.sealdrop(&["shred", "partner:/lab/a.dcm", "--reason", "wrong patient"]).ok();

    assert_eq!(state_of(&site, &gone), "shredded");
    let still = opens(&site, &copy);
    assert!(still.len() == 2 && !still.contains(&gone) && still.contains(&kept), "the copy opens but for that one");
    assert!(!site.on_disk("partner", "/lab/a.dcm").exists());
    site.recipient(LAB).sftp("get /inbox/partner/a.dcm.sealed x").fails();
    site.recipient(LAB).sftp("get /inbox/partner/b.dcm.sealed b.sealed").ok();
    site.recipient(LAB).open_offline("b.sealed", "b").ok();
    site.sealdrop(&["shred", &gone, "--reason", "again"]).fails_with(1);

    let event = &site.events_of("shredding", "/lab/a.dcm")[0];
    assert!(event["detail"].as_str().unwrap().contains("wrong patient"), "{event}");
    assert_eq!(site.events_of("shredded", "/lab/a.dcm").len(), 1);
    // Its certificate is there at once, and stock ssh-keygen verifies it.
    let text = certificate(&site, "/lab/a.dcm");
    for line in [format!("drop {gone}"), "rule shred".into(), "reason wrong patient".into()] {
        assert!(text.lines().any(|there| there == line), "{line} in {text}");
    }
    assert_eq!(site.age()["expired"].as_array().unwrap().len(), 2, "the sweep finds the others");
    assert_eq!(site.events_of("destruction-certified", "").len(), 3);
}

/// The certificate for `path`, verified, and the same by each way to read it.
fn certificate(site: &Site, path: &str) -> String {
    let partner = site.partner();
    let text = String::from_utf8(partner.get(&format!("/receipts{path}.destroyed"))).unwrap();
    let signature = partner.get(&format!("/receipts{path}.destroyed.sig"));
    let signature = site.file("destroyed-sig", &signature);
    partner.verify("destroyed@sealdrop", text.as_bytes(), &signature).ok();
    partner.verify("receipt@sealdrop", text.as_bytes(), &signature).fails();
    partner.verify("destroyed@sealdrop", text.replace("size ", "size 1").as_bytes(), &signature).fails();
    assert_eq!(partner.ssh(&["-T"], &[&format!("receipt --destroyed {path}")]).ok(), text);
    let (folder, name) = path.rsplit_once('/').unwrap();
    let listed = partner.list(&format!("/receipts{folder}"));
    for ending in [".receipt", ".receipt.sig", ".content.sig", ".destroyed", ".destroyed.sig"] {
        assert!(listed.iter().any(|there| there.ends_with(&format!("{name}{ending}"))), "{ending} in {listed:?}");
    }
    let receipt = text.lines().find_map(|line| line.strip_prefix("receipt ")).expect("its receipt").to_owned();
    assert_eq!(site.sealdrop(&["receipts", "--destroyed", &receipt]).ok(), text);
    text
}

#[test]
fn what_expired_is_certified_when_its_key_is_destroyed() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", b"to expire"), "/radiology/a.dcm");
    let partner = site.partner();
    partner.sftp("get /receipts/radiology/a.dcm.destroyed x").fails();
    site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm");
    site.age();
    let text = certificate(&site, "/radiology/a.dcm");
    assert!(text.contains("\nrule expiry\n") && text.contains(" pulled 1\n"), "{text}");
    assert!(text.contains("\nexcept copies that recipients pulled"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("key-destroyed 2")), "{text}");
    site.age();
    assert_eq!(site.events_of("destruction-certified", "").len(), 1);
}

#[test]
fn a_shredding_that_a_crash_cut_goes_on_and_is_certified_once() {
    for place in SHRED.into_iter().chain(["sweep-unlinked", "sweep-recorded"]) {
        let mut site = Site::new();
        site.partner().put(&site.file("a.dcm", b"secret"), "/lab/a.dcm");
        let copy = site.snapshot("jails");
        site.crash_at(place);
        site.sealdrop(&["shred", "partner:/lab/a.dcm", "--reason", "now"]).fails();
        site.wait_for_end();
        site.start().unwrap();
        site.ask(&["sweep"]);
        assert_eq!(opens(&site, &copy), [""; 0], "{place}");
        assert_eq!(site.events_of("shredded", "").len(), 1, "{place}");
        assert!(certificate(&site, "/lab/a.dcm").contains("\nrule shred\n"));
    }
}

#[test]
fn a_held_drop_outlives_its_expiry_and_a_released_one_does_not() {
    let site = Site::new();
    let bytes = content("evidence ", 100_000);
    let local = site.file("a.dcm", &bytes);
    for path in ["/radiology/a.dcm", "/radiology/b.dcm", "/radiology/c.dcm", "/lab/a.dcm"] {
        site.partner().put(&local, path);
    }
    let before = site.snapshot("jails");
    let told = site.ask(&["hold", "--below", "partner:/radiology", "--reason", "case 4711"]);
    assert_eq!(told.len(), 3, "{told:?}");
    let held = site.snapshot("jails");
    site.partner().sftp("rm /radiology/a.dcm").fails();
    site.recipient(RADIOLOGY).sftp("rm /inbox/partner/a.dcm").fails();
    site.sealdrop(&["shred", "partner:/radiology/a.dcm", "--reason", "now"]).fails_with(1);

    assert_eq!(site.age()["expired"].as_array().unwrap().len(), 1, "the lab's");
    assert!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm") == bytes, "held, it is read as before");
    assert_eq!(opens(&site, &before), [""; 0], "where it was before the hold the key is gone");
    let drops = site.ask(&["drops", "--user", RADIOLOGY]);
    assert!(
        drops.iter().all(|row| row["state"] == "held" && row["order"] == "uid 0: case 4711"
            || row["order"].as_str().is_some_and(|order| order.ends_with("case 4711"))),
        "{drops:?}"
    );

    let a = drop_of(&site, "/radiology/a.dcm");
    site.sealdrop(&["release", "partner:/radiology/a.dcm", "--reason", "settled"]).ok();
    assert_eq!(state_of(&site, &a), "live");
    assert!(!opens(&site, &held).contains(&a), "nor is there one where it was held");
    assert_eq!(opens(&site, &held).len(), 2);
    assert_eq!(site.age()["expired"].as_array().unwrap().len(), 1);
    assert_eq!(state_of(&site, &a), "expired");
    assert_eq!(site.events_of("held", "").len(), 3);
    assert_eq!(site.events_of("released", "").len(), 1);
    site.sealdrop(&["release", "--below", "partner:/", "--reason", "settled"]).ok();
    assert_eq!(site.age()["expired"].as_array().unwrap().len(), 2);
    assert_eq!(opens(&site, &site.snapshot("jails")), [""; 0]);
}

#[test]
fn a_hold_that_a_crash_cut_loses_nothing_and_can_be_given_again() {
    for place in HOLD {
        let mut site = Site::new();
        site.partner().put(&site.file("a.dcm", b"evidence"), "/radiology/a.dcm");
        site.crash_at(place);
        site.sealdrop(&["hold", "partner:/radiology/a.dcm", "--reason", "case"]).fails();
        site.wait_for_end();
        site.start().unwrap();
        site.ask(&["sweep"]);
        assert_eq!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm"), b"evidence", "{place}");
        let drop: DropId = drop_of(&site, "/radiology/a.dcm").parse().unwrap();
        if state_of(&site, &drop.to_string()) == "live" {
            site.sealdrop(&["hold", &drop.to_string(), "--reason", "case"]).ok();
        }
        site.age();
        assert_eq!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm"), b"evidence", "{place}");
        site.sealdrop(&["release", &drop.to_string(), "--reason", "settled"]).ok();
        assert_eq!(site.age()["expired"].as_array().unwrap().len(), 1, "{place}");
        assert_eq!(opens(&site, &site.snapshot("jails")), [""; 0], "{place}");
    }
}

#[test]
fn a_bucket_of_a_day_is_destroyed_when_the_day_is_over() {
    let mut site = Site::prepared();
    let config = fs::read_to_string(site.place().config()).unwrap();
    fs::write(site.place().config(), format!("{config}\n[sweep]\nbuckets = \"day\"\n")).unwrap();
    site.start().unwrap();
    site.partner().put(&site.file("a.dcm", b"to expire"), "/lab/a.dcm");
    let copy = site.snapshot("jails");
    let keys = Keys::open(&site.place().state().join("keys")).unwrap();
    let of_drops: Vec<u64> = keys.buckets().unwrap().into_iter().filter(|bucket| *bucket < 1 << 62).collect();
    assert!(of_drops.len() == 1 && of_drops[0].is_multiple_of(24), "{of_drops:?}");
    assert_eq!(opens(&site, &copy).len(), 1);
    site.age();
    assert_eq!(opens(&site, &copy), [""; 0]);
    assert!(certificate(&site, "/lab/a.dcm").contains("\nrule expiry\n"));
}

#[test]
fn a_senders_removal_shreds_where_its_folder_says_so() {
    let mut site = Site::prepared();
    let policy = site.place().policy("partner");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.replacen("path = \"/lab\"", "path = \"/lab\"\nsender_delete = \"shred\"", 1)).unwrap();
    site.start().unwrap();
    let local = site.file("a.dcm", b"sent to the wrong one");
    site.partner().put(&local, "/lab/a.dcm");
    site.partner().put(&local, "/radiology/a.dcm");
    let copy = site.snapshot("jails");
    site.partner().sftp("rm /lab/a.dcm\nrm /radiology/a.dcm").ok();
    site.recipient(LAB).sftp("get /inbox/partner/a.dcm.sealed x").fails();
    assert_eq!(site.recipient(RADIOLOGY).get("/inbox/partner/a.dcm"), b"sent to the wrong one", "there it stays");
    assert_eq!(opens(&site, &copy).len(), 1);
    let text = certificate(&site, "/lab/a.dcm");
    assert!(text.contains("\nby partner\n"), "{text}");
}
