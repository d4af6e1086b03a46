//! The vectors of journals, and of recipients and identities as text.

use super::{Script, Suite, journal};
use crate::names::{DropId, hex};
use crate::seal::aead::enseal;
use crate::seal::fields::Fields;
use crate::seal::keys::expand;
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
    // Sealed well, by one who breaks a rule of §12.
    let mut forged = |name, about: &str, change: &dyn Fn(&mut List)| {
        let mut entropy = Script::new(name);
        let mut fields = list(journal(&mut entropy, Keeps::default()).fields().as_bytes());
        change(&mut fields);
        let mut plain = Fields::with_capacity(70_000);
        fields.iter().for_each(|(tag, value)| plain.put(*tag, value));
        let sealing = expand(key.expose(), "journal", &[&drop.0]).unwrap();
        let aad = [&b"SEALJNL\x01"[..], &drop.0].concat();
        let sealed = enseal(&mut entropy, &sealing, &aad, plain.as_bytes()).unwrap();
        add(name, "damaged", about, drop, [&b"SEALJNL\x01"[..], &sealed].concat());
    };
    let set = |tag: u16, value: Vec<u8>| {
        move |fields: &mut List| {
            fields.retain(|(other, _)| *other != tag);
            fields.push((tag, value.clone()));
            fields.sort_by_key(|(tag, _)| *tag);
        }
    };
    let without = |tag: u16| move |fields: &mut List| fields.retain(|(other, _)| *other != tag);
    forged("journal-without-a-key", "no file key", &without(2));
    forged("journal-tail-full", "a tail of a whole chunk", &set(4, vec![0; CHUNK]));
    let hashed = (CHUNK as u64 + 101).to_be_bytes().to_vec();
    forged("journal-hashed-beyond", "more hashed than there is", &set(6, hashed));
    forged("journal-generation-zero", "a listed generation of 0", &set(7, vec![0; 12]));
    let closed = [&(CHUNK as u64 + 99).to_be_bytes()[..], &[7; 32]].concat();
    forged("journal-closed-other-size", "closed with another size than it has", &set(8, closed));
    forged("journal-mtime-long", "an mtime of eight bytes", &set(9, vec![0; 8]));
    forged("journal-durable-beyond", "two durable records of one", &set(16, 2u64.to_be_bytes().to_vec()));
    let anchor = [&1u64.to_be_bytes()[..], &[1, 9]].concat();
    forged("journal-anchor-beyond", "an anchor beyond the durable records", &set(17, anchor));
    let mut entropy = Script::new("ok-journal-sums");
    let kept = journal(&mut entropy, Keeps { md5: true, sha1: true }).seal_with(&mut entropy, drop, &key).unwrap();
    add("ok-journal-sums", "ok", "with the midstates of MD5 and SHA-1", drop, kept);
}
/// Fields by tag, to be changed and put together again.
type List = Vec<(u16, Vec<u8>)>;

fn list(mut bytes: &[u8]) -> List {
    let mut fields = Vec::new();
    while let Some((tag, rest)) = bytes.split_first_chunk() {
        let (length, rest) = rest.split_first_chunk().unwrap();
        let (value, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        fields.push((u16::from_be_bytes(*tag), value.to_vec()));
        bytes = rest;
    }
    fields
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
    use bech32::primitives::iter::Fe32IterExt;

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
    // 272 bits in 55 letters leave three over: two more letters of the alphabet say the same 34 bytes.
    let leftover = |hrp: &str, text: &str| {
        let hrp = bech32::Hrp::parse(hrp).unwrap();
        let (_, data) = text.rsplit_once('1').unwrap();
        let mut letters: Vec<bech32::Fe32> =
            data[..data.len() - 6].chars().map(|letter| bech32::Fe32::from_char(letter).unwrap()).collect();
        let last = letters.pop().unwrap();
        letters.push(bech32::Fe32::try_from(last.to_u8() | 1).unwrap());
        letters.into_iter().with_checksum::<bech32::Bech32>(&hrp).chars().collect::<String>()
    };
    let text32 = x25519.to_recipient().to_string();
    let bits = leftover("sealdrop", &text32);
    suite.text("recipient-leftover-bits", "recipient", "invalid", "a bit left over is not zero", &bits);
    let bits = leftover("sealdrop-identity-", &x25519.to_text().to_lowercase()).to_uppercase();
    suite.text("identity-leftover-bits", "identity", "invalid", "a bit left over is not zero", &bits);
    let point = encode("sealdrop", &[&[0, 0x10][..], p256.to_recipient().public_bytes()].concat());
    suite.text("recipient-uncompressed", "recipient", "invalid", "a P-256 point that is not compressed", &point);
    suite.text("recipient-space-before", "recipient", "invalid", "a space before it", &format!(" {text}"));
    let empty = encode("sealdrop", &[0, 0x20]);
    suite.text("recipient-empty", "recipient", "invalid", "a KEM and no key", &empty);
    let short = encode("sealdrop-identity-", &[&[0, 0x10][..], &[9; 31]].concat()).to_uppercase();
    suite.text("identity-short", "identity", "invalid", "a P-256 scalar of 31 bytes", &short);
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
