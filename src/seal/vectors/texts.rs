//! The vectors of journals, and of recipients and identities as text.

use super::{Script, Suite, journal};
use crate::names::{DropId, hex};
use crate::seal::*;
use crate::sums::Keeps;

pub(super) fn journals(suite: &mut Suite) {
    let mut entropy = Script::new("journal");
    let drop = DropId([0xd0; 16]);
    let key = JournalKey::draw(&mut entropy).unwrap();
    let bytes = journal(&mut entropy, Keeps::default()).seal_with(&mut entropy, drop, &key).unwrap();
    let mut add = |name, expect: &str, about: &str, id: DropId, bytes: Vec<u8>| {
        let mut header = vec![("kind", "journal".into()), ("expect", expect.into()), ("about", about.into())];
        header.push(("journal-key", hex(key.expose())));
        header.push(("file-id", id.to_string()));
        suite.add(name, header, bytes);
    };
    add("ok-journal", "ok", "one record, 100 bytes of tail", drop, bytes.clone());
    add("journal-of-another-upload", "damaged", "opened as another file id's", DropId([0xd1; 16]), bytes.clone());
    add("journal-cut", "damaged", "the last byte is missing", drop, bytes[..bytes.len() - 1].to_vec());
    let changed = |at: usize, bit: u8| {
        let mut bytes = bytes.clone();
        bytes[at] ^= bit;
        bytes
    };
    add("journal-changed", "damaged", "a bit of ciphertext", drop, changed(40, 1));
    add("journal-magic", "not-sealed", "another magic", drop, changed(0, 1));
    add("journal-version", "version", "version 3", drop, changed(7, 2));
    let mut entropy = Script::new("ok-journal-sums");
    let kept = journal(&mut entropy, Keeps { md5: true, sha1: true }).seal_with(&mut entropy, drop, &key).unwrap();
    add("ok-journal-sums", "ok", "with the midstates of MD5 and SHA-1", drop, kept);
}
pub(super) fn notes(suite: &mut Suite) {
    let mut entropy = Script::new("waiting");
    let drop = DropId([0xd0; 16]);
    let key = JournalKey::draw(&mut entropy).unwrap();
    let note = Waiting {
        path: b"/radiology/scan 07.dcm".to_vec(),
        file_key: FileKey::draw(&mut entropy).unwrap(),
        size: 65_636,
        sha256: [7; 32],
        mtime: Some(1_790_000_000),
        opened_at: 1_795_308_143_000,
        closed_at: 1_795_308_144_000,
        login_key: "SHA256:FcYizeBcGOaXgIJ/GeMA6KMTGTHeSZ1TbsknHBxIMcm".into(),
        address: "203.0.113.9".into(),
        session: 7,
    };
    let bytes = note.seal_with(&mut entropy, drop, &key).unwrap();
    let as_journal = journal(&mut entropy, Keeps::default()).seal_with(&mut entropy, drop, &key).unwrap();
    let mut add = |name, expect: &str, about: &str, id: DropId, bytes: Vec<u8>| {
        let mut header = vec![("kind", "waiting".into()), ("expect", expect.into()), ("about", about.into())];
        header.push(("journal-key", hex(key.expose())));
        header.push(("file-id", id.to_string()));
        suite.add(name, header, bytes);
    };
    add("ok-waiting", "ok", "with every field", drop, bytes.clone());
    add("waiting-of-another-upload", "damaged", "opened as another file id's", DropId([0xd1; 16]), bytes.clone());
    add("waiting-cut", "damaged", "the last byte is missing", drop, bytes[..bytes.len() - 1].to_vec());
    let changed = |at: usize, bit: u8| {
        let mut bytes = bytes.clone();
        bytes[at] ^= bit;
        bytes
    };
    add("waiting-changed", "damaged", "a bit of ciphertext", drop, changed(40, 1));
    add("waiting-magic", "not-sealed", "another magic", drop, changed(0, 1));
    add("waiting-version", "version", "version 3", drop, changed(7, 2));
    let swapped = [&bytes[..8], &as_journal[8..]].concat();
    add("waiting-is-a-journal", "damaged", "a journal of the same upload, with a note's magic", drop, swapped);
}
pub(super) fn texts(suite: &mut Suite) {
    let encode =
        |hrp: &str, data: &[u8]| bech32::encode::<bech32::Bech32>(bech32::Hrp::parse(hrp).unwrap(), data).unwrap();
    let mut entropy = Script::new("texts");
    let p256 = Identity::generate_with(&mut entropy, Kem::P256).unwrap();
    let x25519 = Identity::generate_with(&mut entropy, Kem::X25519).unwrap();
    let text = p256.to_recipient().to_string();
    suite.text("ok-recipient-p256", "recipient", "ok", "P-256, compressed", &text);
    suite.text("ok-recipient-x25519", "recipient", "ok", "X25519", &x25519.to_recipient().to_string());
    suite.text("ok-recipient-upper", "recipient", "ok", "upper case", &text.to_uppercase());
    suite.text("ok-identity-p256", "identity", "ok", "P-256", &p256.to_text());
    suite.text("ok-identity-x25519", "identity", "ok", "X25519", &x25519.to_text());
    let mixed = text.replacen('q', "Q", 1);
    suite.text("recipient-mixed-case", "recipient", "invalid", "one letter in upper case", &mixed);
    let swapped = format!("{}{}", &text[..text.len() - 1], if text.ends_with('q') { 'p' } else { 'q' });
    suite.text("recipient-mistyped", "recipient", "invalid", "the last letter is another", &swapped);
    let m = bech32::encode::<bech32::Bech32m>(bech32::Hrp::parse("sealdrop").unwrap(), &[0, 0x20, 9]).unwrap();
    suite.text("recipient-bech32m", "recipient", "invalid", "Bech32m's checksum", &m);
    let hrp = encode("sealdr0p", &[&[0, 0x20][..], &[9; 32]].concat());
    suite.text("recipient-prefix", "recipient", "invalid", "another prefix", &hrp);
    let kem = encode("sealdrop", &[&[0, 0x21][..], &[9; 32]].concat());
    suite.text("recipient-kem", "recipient", "invalid", "an unknown KEM", &kem);
    let point = encode("sealdrop", &[&[0, 0x10, 2][..], &[0xff; 32]].concat());
    suite.text("recipient-not-a-point", "recipient", "invalid", "x is no coordinate on P-256", &point);
    let short = encode("sealdrop", &[&[0, 0x20][..], &[9; 31]].concat());
    suite.text("recipient-short", "recipient", "invalid", "an X25519 key of 31 bytes", &short);
    suite.text("recipient-is-an-identity", "recipient", "invalid", "the private half", &p256.to_text());
    let zero = encode("sealdrop-identity-", &[&[0, 0x10][..], &[0; 32]].concat()).to_uppercase();
    suite.text("identity-zero", "identity", "invalid", "P-256 scalar 0", &zero);
    let order = encode("sealdrop-identity-", &[&[0, 0x10][..], &[0xff; 32]].concat()).to_uppercase();
    suite.text("identity-beyond-order", "identity", "invalid", "P-256 scalar not below the order", &order);
    let clamp = encode("sealdrop-identity-", &[&[0, 0x20][..], &[0xff; 32]].concat()).to_uppercase();
    suite.text(
        "identity-not-clamped",
        "identity",
        "invalid",
        "X25519 bytes that are not clamped: a key has one text",
        &clamp,
    );
    suite.text("identity-is-a-recipient", "identity", "invalid", "the public half", &text);
}
