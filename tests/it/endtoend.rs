//! A folder that takes only what its sender sealed: nothing else gets past its first bytes, nothing cut gets through, and
//! what arrives is what was sent, for the holder of the identity alone, until it expires.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use sealdrop::cli::demo::place::LAB;
use serde_json::Value;

use crate::run::run;
use crate::site::{SEALDROP, Site, content, have, have_python};
use crate::user::User;
use crate::wire::{Wire, handle, status, string};

/// `/lab` takes what is sealed to the lab's identity.
fn site() -> Site {
    site_with("")
}

/// The same with another line for the folder.
fn site_with(line: &str) -> Site {
    let mut site = Site::prepared();
    let folder = format!("to = [\"lab\"]\nrequire = \"e2e\"\n{line}");
    for (user, old, new) in
        [(LAB, "mode = \"sealed\"", "mode = \"e2e\""), ("partner", "to = [\"lab\"]", folder.as_str())]
    {
        let path = site.place().policy(user);
        let policy = fs::read_to_string(&path).unwrap();
        assert!(policy.contains(old), "{policy}");
        fs::write(&path, policy.replace(old, new)).unwrap();
    }
    site.start().unwrap();
    site
}

fn recipient_of(site: &Site, identity: PathBuf) -> String {
    let text = fs::read_to_string(identity).unwrap_or_else(|_| panic!("an identity in {}", site.work().display()));
    text.split_whitespace().find(|word| word.starts_with("sealdrop1")).unwrap().to_owned()
}

/// Somebody else's recipient.
fn stranger(site: &Site) -> String {
    let identity = site.work().join("stranger.identity");
    if !identity.exists() {
        let mut keygen = Command::new(SEALDROP);
        keygen.args(["keygen", "--output"]).arg(&identity);
        run(keygen, b"").ok();
    }
    recipient_of(site, identity)
}

fn lab(site: &Site) -> String {
    recipient_of(site, site.place().lab_identity())
}

/// `NAME.sealed`, as its sender makes it.
fn sealed(site: &Site, name: &str, bytes: &[u8], recipients: &[String]) -> PathBuf {
    let mut seal = Command::new(SEALDROP);
    seal.arg("seal").args(recipients.iter().flat_map(|recipient| ["--recipient", recipient]));
    seal.arg("--force").arg(site.file(name, bytes));
    run(seal, b"").ok();
    site.work().join(format!("{name}.sealed"))
}

fn for_lab(site: &Site, name: &str, size: usize) -> PathBuf {
    sealed(site, name, &content("for the lab ", size), &[lab(site)])
}

fn why(events: &[Value]) -> String {
    events.last().map(|event| event["why"].to_string()).unwrap_or_default()
}

/// Nothing of it is there, for anybody.
fn is_nowhere(site: &Site, name: &str) {
    assert!(site.partner().list("/lab").iter().all(|there| !there.starts_with(name)), "{name}");
    assert!(site.recipient(LAB).delivered().iter().all(|there| !there.starts_with(name)), "{name}");
}

#[test]
fn what_its_sender_sealed_arrives_byte_for_byte_and_says_so() {
    let site = site();
    let local = for_lab(&site, "a.dcm", 300_000);
    let pushed = fs::read(&local).unwrap();
    site.partner().put(&local, "/lab/a.dcm.sealed");
    assert_eq!(site.recipient(LAB).delivered(), ["a.dcm.sealed"]);
    assert!(site.recipient(LAB).get("/inbox/partner/a.dcm.sealed") == pushed);
    site.file("pulled", &site.recipient(LAB).get("/inbox/partner/a.dcm.sealed"));
    site.recipient(LAB).open_offline("pulled", "opened").ok();
    assert!(fs::read(site.work().join("opened")).unwrap() == content("for the lab ", 300_000));

    let receipt = site.partner().verified_receipt("/lab/a.dcm.sealed");
    assert!(receipt.contains("\nsealed end-to-end\n"), "{receipt}");
    assert!(receipt.contains(&format!("\nsize {}\n", pushed.len())), "{receipt}");
    let mut sum = Command::new("sha256sum");
    sum.arg(&local);
    let sum = run(sum, b"").ok();
    assert!(receipt.contains(&format!("\nsha256 {}\n", &sum[..64])), "of what was pushed: {receipt}");
    let fingerprint = lab(&site).parse::<sealdrop::seal::Recipient>().unwrap().fingerprint();
    assert!(receipt.contains(&format!("\nrecipient lab {fingerprint}\n")), "the key it was sealed to: {receipt}");
}

#[test]
fn on_the_servers_disk_it_is_sealed_once_more_and_dead_when_it_has_expired() {
    let site = site();
    let local = for_lab(&site, "a.dcm", 100_000);
    site.partner().put(&local, "/lab/a.dcm.sealed");
    let pushed = fs::read(&local).unwrap();
    assert!(site.state_contains(&pushed[16..64]).is_empty(), "not even the head of what was pushed");
    let backup = site.snapshot("");
    site.age();
    let mut opened = 0;
    for (path, bytes) in backup.iter().filter(|(path, _)| path.ends_with("a.dcm.sealed")) {
        site.file("backup", bytes);
        let said = site.recipient(LAB).open_offline("backup", "opened").fails();
        assert!(!site.work().join("opened").exists(), "{}: {said}", path.display());
        opened += 1;
    }
    assert!(opened >= 2, "the sender's entry and the recipient's");
}

#[test]
fn plaintext_is_refused_with_its_first_bytes() {
    let site = site();
    let large = site.file("large", &content("patient ", 48 << 20));
    site.partner().sftp(format!("put {} /lab/large.dcm", large.display())).fails();
    let abandoned = site.events_of("upload-abandoned", "/lab/large.dcm");
    assert_eq!(abandoned.len(), 1);
    assert_eq!(abandoned[0]["outcome"], "refused");
    assert!(abandoned[0]["bytes"].as_u64().unwrap() <= 256 << 10, "{}", abandoned[0]);
    is_nowhere(&site, "large.dcm");
    let told = String::from_utf8(site.partner().get("/receipts/lab/large.dcm.rejected")).unwrap();
    assert!(told.contains("`sealdrop seal`"), "{told}");
    assert!(site.state_contains(b"patient ").is_empty());
    if have_python("paramiko") {
        let script = "
f = sftp.open('/lab/b.dcm', 'wb')
f.set_pipelined(False)
try:
    f.write(b'not a sealed file')
    print('taken')
except (IOError, PermissionError) as e:
    print('refused:', e)
";
        let said = site.partner().paramiko(script).ok();
        assert!(said.contains("refused:") && said.contains("`sealdrop seal`"), "{said}");
    }
}

#[test]
fn what_is_sealed_to_others_or_by_a_server_is_refused() {
    let site = site();
    let (lab, stranger) = (lab(&site), stranger(&site));
    for (name, recipients, reason) in [
        ("missing", vec![stranger.clone()], "not sealed to every recipient"),
        ("more", vec![lab.clone(), stranger], "sealed to others than the recipients"),
    ] {
        let local = sealed(&site, name, b"content", &recipients);
        site.partner().sftp(format!("put {} /lab/{name}", local.display())).fails();
        let abandoned = site.events_of("upload-abandoned", &format!("/lab/{name}"));
        assert!(why(&abandoned).contains(reason), "{name}: {abandoned:?}");
        is_nowhere(&site, name);
    }
    // Every bit of what makes it a file for the lab counts: version, mode, the stanza's key id, its padding.
    let good = fs::read(for_lab(&site, "good", 1000)).unwrap();
    for at in [0, 7, 9, 10, 11, 12, 96 + 8 + 3, 8000] {
        let mut bent = good.clone();
        bent[at] ^= 1;
        let local = site.file("bent", &bent);
        site.partner().sftp(format!("put {} /lab/bent-{at}", local.display())).fails();
        is_nowhere(&site, "bent");
    }
    site.partner().put(&site.file("good", &good), "/lab/good");
}

#[test]
fn a_file_whose_end_is_missing_is_not_delivered_and_can_be_continued() {
    let site = site();
    let local = for_lab(&site, "a.dcm", 700_000);
    let whole = fs::read(&local).unwrap();
    for (n, len) in [0, 100, 8192, 8192 + 65_568, whole.len() - 1].into_iter().enumerate() {
        let name = format!("cut-{n}");
        let cut = site.file(&name, &whole[..len]);
        let said = site.partner().sftp(format!("put {} /lab/{name}", cut.display())).fails();
        assert!(!said.is_empty());
        assert!(site.recipient(LAB).delivered().iter().all(|there| !there.starts_with(&name)), "{len} bytes");
        // The rest of it comes.
        site.partner().sftp(format!("reput {} /lab/{name}", local.display())).ok();
        assert!(site.recipient(LAB).get(&format!("/inbox/partner/{name}")) == whole, "{len} bytes");
    }
    for (name, spoilt) in [("longer", [&whole[..], &[0]].concat()), ("twice", [&whole[..], &whole[..]].concat())] {
        let local = site.file(name, &spoilt);
        let ran = site.partner().sftp(format!("put {} /lab/{name}", local.display()));
        // Two sealed files in a row end in a footer that fits neither.
        ran.fails();
        assert!(site.recipient(LAB).delivered().iter().all(|there| !there.starts_with(name)), "{name}");
    }
}

#[test]
fn every_client_and_habit_that_can_send_can_send_this() {
    let site = site();
    let local = for_lab(&site, "a.dcm", 900_000);
    let (whole, path) = (fs::read(&local).unwrap(), local.display());
    let arrives = |name: &str| {
        assert!(site.recipient(LAB).get(&format!("/inbox/partner/{name}")) == whole, "{name}");
    };
    let partner = site.partner();
    partner.put(&local, "/lab/sftp");
    partner.scp(&[&path.to_string(), &partner.remote("/lab/scp")]).ok();
    partner.scp(&["-O", &path.to_string(), &partner.remote("/lab/old-scp")]).ok();
    partner.sftp(format!("put {path} /lab/renamed.filepart\nrename /lab/renamed.filepart /lab/renamed")).ok();
    let mut names = vec!["sftp", "scp", "old-scp", "renamed"];
    if have("lftp") {
        partner.lftp(&format!("put {path} -o /lab/lftp")).ok();
        names.push("lftp");
    }
    if have("rclone") {
        partner.rclone(&["copyto", "--ignore-checksum", &path.to_string(), ":sftp:/lab/rclone"]).ok();
        names.push("rclone");
    }
    if have_python("paramiko") {
        partner.paramiko(&OUT_OF_ORDER.replace("LOCAL", &path.to_string())).ok();
        names.push("out-of-order");
    }
    if have("sshfs") && have("fusermount3") {
        partner.mounted("/lab", |at| {
            fs::copy(&local, at.join("sshfs")).unwrap();
        });
        names.push("sshfs");
    }
    names.into_iter().for_each(arrives);
}

/// Odd pieces first, then the even ones from the last to the first.
const OUT_OF_ORDER: &str = "
data = open('LOCAL', 'rb').read()
f = sftp.open('/lab/out-of-order', 'wb')
pieces = [(at, data[at:at + 5000]) for at in range(0, len(data), 5000)]
for at, piece in pieces[1::2] + pieces[0::2][::-1]:
    f.seek(at)
    f.write(piece)
f.close()
";

#[test]
fn plaintext_is_refused_by_every_way_in() {
    let site = site();
    let local = site.file("plain", &content("patient ", 500_000));
    let (path, partner) = (local.display(), site.partner());
    partner.scp(&[&path.to_string(), &partner.remote("/lab/plain")]).fails();
    partner.scp(&["-O", &path.to_string(), &partner.remote("/lab/plain")]).fails();
    let ran = partner.sftp(format!("put {path} /lab/plain.filepart\nrename /lab/plain.filepart /lab/plain"));
    ran.fails();
    if have_python("paramiko") {
        let ran = partner.paramiko(&OUT_OF_ORDER.replace("LOCAL", &path.to_string()).replace("out-of-order", "plain"));
        ran.fails();
    }
    if have("sshfs") && have("fusermount3") {
        // `cp` hears what close(2) says, and `fs::copy` does not: sshfs writes behind.
        partner.mounted("/lab", |at| {
            let copied = Command::new("cp").arg(&local).arg(at.join("plain")).status();
            assert!(!copied.expect("cp").success());
        });
    }
    is_nowhere(&site, "plain");
    assert!(site.state_contains(b"patient ").is_empty());
}

#[test]
fn a_cut_file_under_a_temp_name_stays_there_until_its_rest_has_come() {
    let site = site();
    let local = for_lab(&site, "a.dcm", 300_000);
    let whole = fs::read(&local).unwrap();
    let cut = site.file("cut", &whole[..200_000]);
    let partner: User<'_> = site.partner();
    partner.put(&cut, "/lab/a.filepart");
    partner.sftp("rename /lab/a.filepart /lab/a").fails();
    assert!(site.recipient(LAB).delivered().is_empty());
    partner.sftp(format!("reput {} /lab/a.filepart\nrename /lab/a.filepart /lab/a", local.display())).ok();
    assert!(site.recipient(LAB).get("/inbox/partner/a") == whole);
}

#[test]
fn a_lost_connection_is_continued_and_the_beginning_is_held_against_the_keys_again() {
    let site = site();
    let local = for_lab(&site, "a.dcm", 900_000);
    let whole = fs::read(&local).unwrap();
    for (n, name) in ["a", "b"].into_iter().enumerate() {
        let mut wire = Wire::open(site.partner());
        let path = string(format!("/lab/{name}").as_bytes());
        let file = handle(wire.ask(3, &[&path[..], &[0, 0, 0, 0x1a], &[0; 4]].concat()));
        for (piece, at) in whole[..600_000].chunks(30_000).zip((0u64..).step_by(30_000)) {
            assert_eq!(status(wire.ask(6, &[&file[..], &at.to_be_bytes(), &string(piece)].concat())), 0);
        }
        drop(wire);
        site.wait_for_event("upload-abandoned", n + 1);
    }
    site.partner().sftp(format!("reput {} /lab/a", local.display())).ok();
    assert!(site.recipient(LAB).get("/inbox/partner/a") == whole);
    // The other one goes on when the recipient has another key.
    let path = site.place().policy(LAB);
    let policy = fs::read_to_string(&path).unwrap();
    fs::write(&path, policy.replace(&lab(&site), &stranger(&site))).unwrap();
    site.sealdrop(&["reload"]).ok();
    site.partner().sftp(format!("reput {} /lab/b", local.display())).fails();
    is_nowhere(&site, "b");
    assert!(why(&site.events_of("upload-abandoned", "/lab/b")).contains("not sealed to every recipient"));
}

#[test]
fn a_change_of_recipients_on_the_way_is_told_and_nothing_is_delivered() {
    let site = site();
    let local = for_lab(&site, "a.dcm", 300_000);
    let partner = site.partner();
    partner.put(&local, "/lab/a.filepart");
    let path = site.place().policy(LAB);
    let policy = fs::read_to_string(&path).unwrap();
    fs::write(&path, policy.replace(&lab(&site), &stranger(&site))).unwrap();
    site.sealdrop(&["reload"]).ok();
    partner.sftp("rename /lab/a.filepart /lab/a").fails();
    is_nowhere(&site, "a");
}

#[test]
fn what_waits_is_delivered_if_it_is_still_sealed_to_whom_the_policy_says() {
    let site = site_with("finalize = \"quiet 5min\"");
    let local = for_lab(&site, "a.dcm", 300_000);
    let whole = fs::read(&local).unwrap();
    let partner = site.partner();
    let cut = site.file("cut", &whole[..200_000]);
    partner.sftp(format!("put {} /lab/cut", cut.display())).fails();
    partner.put(&local, "/lab/first");
    assert!(site.recipient(LAB).delivered().is_empty());
    site.sealdrop(&["sweep", "--now", "+10min"]).ok();
    assert_eq!(site.recipient(LAB).delivered(), ["first"]);
    partner.put(&local, "/lab/second");
    let path = site.place().policy(LAB);
    let policy = fs::read_to_string(&path).unwrap();
    fs::write(&path, policy.replace(&lab(&site), &stranger(&site))).unwrap();
    site.sealdrop(&["reload"]).ok();
    site.sealdrop(&["sweep", "--now", "+10min"]).ok();
    assert_eq!(site.recipient(LAB).delivered(), ["first"]);
    let refused = site.events_of("upload-refused", "/lab/second");
    assert!(why(&refused).contains("not sealed to the keys"), "{refused:?}");
}

#[test]
fn what_explain_says_makes_what_the_folder_takes() {
    let site = site();
    site.file("a.dcm", b"content");
    let told = site.sealdrop(&["explain", "partner", "put", "/lab/a.dcm.sealed"]).ok();
    let words = told.split("sealdrop seal ").last().and_then(|rest| rest.lines().next()).expect("a command");
    let mut seal = Command::new(SEALDROP);
    seal.arg("seal").args(words.split_whitespace().map(|word| word.replace("FILE", "a.dcm"))).current_dir(site.work());
    run(seal, b"").ok();
    site.partner().put(&site.work().join("a.dcm.sealed"), "/lab/a.dcm.sealed");
    assert_eq!(site.recipient(LAB).delivered(), ["a.dcm.sealed"]);
}
