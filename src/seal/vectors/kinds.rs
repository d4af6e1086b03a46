//! The vectors of the kinds of recipient beside P-256 and X25519: hybrid keys, SSH keys, passphrases, and their mixtures.

use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{LineEnding, PrivateKey};

use super::forged::{Dh, hpke_seal};
use super::{Made, Script, Suite, made};
use crate::names::DropId;
use crate::seal::stanza::{HPKE, SSH, Stanza, hpke_info, stanza_aad};
use crate::seal::*;

/// As few as a reader takes: vectors are opened often.
const ITERATIONS: u32 = 100_000;
pub(super) const WORDS: &str = "walnut ferry oblique tundra";

/// An SSH key, and the base64 of its file.
pub(in crate::seal) fn ssh_key(seed: [u8; 32]) -> (SshIdentity, String) {
    let pair = Ed25519Keypair::from_seed(&seed);
    let identity = SshIdentity::from_seed(&seed, pair.public.0).unwrap();
    let file = PrivateKey::from(pair).to_openssh(LineEnding::LF).unwrap();
    let body: String = file.lines().filter(|line| !line.starts_with("-----")).collect();
    (identity, body)
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(*chunk.get(at).unwrap_or(&0)));
        let letter = |at: usize| if at > chunk.len() { '=' } else { char::from(LETTERS[bits >> (18 - 6 * at) & 63]) };
        (0..4).map(letter).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

fn ssh_opener(seed: [u8; 32]) -> (&'static str, String) {
    ("ssh-identity", ssh_key(seed).1)
}

/// A small file with this stanza alone.
fn with_stanza(made: &mut Made, stanza: Stanza) {
    let envelope = Envelope::holding(vec![stanza]).unwrap();
    made.set_envelope(&envelope);
}

fn locked(made: &mut Made, words: &str) -> Stanza {
    let passphrase = Passphrase::new(words).unwrap();
    passphrase.lock_in(&mut made.entropy, &made.head, &made.key, ITERATIONS).unwrap()
}

pub(super) fn hybrid(suite: &mut Suite) {
    for (name, kem) in [("ok-mlkem768-p256", Kem::MlKem768P256), ("ok-x-wing", Kem::XWing)] {
        let made = made(name, kem, 20);
        suite.sealed(name, "ok", "a hybrid key, experimental", &made, made.bytes());
    }
    let at = 104 + 14 + 6;
    let mut changed = |name, kem, expect: &str, about: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let made = made(name, kem, 20);
        let mut bytes = made.bytes();
        change(&mut bytes);
        suite.sealed(name, expect, about, &made, bytes);
    };
    let about = "a bit of ML-KEM's ciphertext, which is rejected without a word: another secret";
    changed("hybrid-p256-ciphertext-changed", Kem::MlKem768P256, "damaged", about, &|bytes| bytes[at + 5] ^= 1);
    changed("hybrid-x25519-ciphertext-changed", Kem::XWing, "damaged", about, &|bytes| bytes[at + 5] ^= 1);
    let about = "a bit of the ephemeral point: off the curve, or another";
    changed("hybrid-p256-point-changed", Kem::MlKem768P256, "damaged", about, &|bytes| bytes[at + 1088 + 9] ^= 1);
    let about = "a bit of the ephemeral X25519 key";
    changed("hybrid-x25519-share-changed", Kem::XWing, "damaged", about, &|bytes| bytes[at + 1088] ^= 1);
    let about = "a hybrid stanza that is a byte longer than its KEM has it";
    changed("hybrid-long", Kem::XWing, "malformed", about, &|bytes| {
        // The byte is one of padding; neither number carries.
        bytes[99] += 1;
        bytes[104 + 13] += 1;
    });
    let about = "the number of the other hybrid KEM, whose stanzas are longer";
    changed("hybrid-other-number", Kem::XWing, "malformed", about, &|bytes| {
        bytes[at - 6..at - 4].copy_from_slice(&(Kem::MlKem768P256 as u16).to_be_bytes());
    });
    let good = made("hybrid-other-identity", Kem::XWing, 20);
    let other = Identity::generate_with(&mut Script::new("another hybrid"), Kem::XWing).unwrap();
    let about = "sealed to another X-Wing key";
    suite.sealed_for("hybrid-other-identity", "not-for-this-identity", about, &other, None, good.bytes(), None);
}

pub(super) fn ssh(suite: &mut Suite) {
    let seed = [0x53; 32];
    let identity = ssh_key(seed).0;
    let recipient = identity.to_recipient();
    let key_id = recipient.key_id();
    let mut add = |name: &'static str, expect: &str, about: &str, change: &dyn Fn(&mut Made)| {
        let mut made = made(name, Kem::P256, 20);
        let stanza = recipient.wrap(&mut made.entropy, &made.head, &made.key).unwrap();
        with_stanza(&mut made, stanza);
        change(&mut made);
        suite.opened_with(name, expect, about, ssh_opener(seed), &made, made.bytes());
    };
    add("ok-ssh", "ok", "an SSH key, ed25519", &|_| {});
    add("ssh-encapsulation-changed", "damaged", "a bit of enc", &|made| made.header[104 + 14 + 3] ^= 1);
    add("ssh-wrapped-changed", "damaged", "a bit of the wrapped key", &|made| made.header[104 + 14 + 32] ^= 1);
    add("ssh-short", "malformed", "a wrapped key of 47 bytes", &|made| {
        let mut stanzas = made.stanzas();
        stanzas.pop();
        stanzas[13] -= 1;
        made.set_stanzas(&stanzas);
    });
    add("ssh-from-another-file", "damaged", "this key's stanza, taken from another file", &|made| {
        let key = FileKey::draw(&mut made.entropy).unwrap();
        let head = Head::new_with(&mut made.entropy, DropId([9; 16]), Mode::Sealed, &key).unwrap();
        let stanza = recipient.wrap(&mut made.entropy, &head, &key).unwrap();
        with_stanza(made, stanza);
    });
    let montgomery = ssh_montgomery(&identity);
    add("ssh-is-an-x25519-stanza", "damaged", "wrapped to the same X25519 key as type 1 would", &|made| {
        let aad = stanza_aad(&made.head, SSH, &key_id);
        let body = wrapped_to(made, &montgomery, &hpke_info(&made.head), &aad);
        with_stanza(made, Stanza { kind: SSH, key_id, body });
    });
    add(
        "ssh-of-the-mirror-key",
        "damaged",
        "wrapped for the key of the other sign, which has the same X25519 key",
        &|made| {
            let mut blob = ssh_blob(&identity);
            *blob.last_mut().unwrap() ^= 0x80;
            let info = [b"sealdrop/v1/ssh-ed25519\0", &blob[..], made.head.core()].concat();
            let aad = stanza_aad(&made.head, SSH, &key_id);
            let body = wrapped_to(made, &montgomery, &info, &aad);
            with_stanza(made, Stanza { kind: SSH, key_id, body });
        },
    );
    add("ssh-secret-of-zeros", "damaged", "enc is 0, and all else fits a shared secret of zeros", &|made| {
        let info = [b"sealdrop/v1/ssh-ed25519\0", &ssh_blob(&identity)[..], made.head.core()].concat();
        let dh = Dh { kem: Kem::X25519, enc: &[0; 32], public: &montgomery, secret: &[0; 32] };
        let wrapped = hpke_seal(&dh, &info, &stanza_aad(&made.head, SSH, &key_id), made.key.expose());
        with_stanza(made, Stanza { kind: SSH, key_id, body: [&[0; 32], &wrapped[..]].concat() });
    });
    add("ssh-for-a-recipient", "not-for-this-identity", "a type 1 stanza of the same X25519 key", &|made| {
        let other = Recipient::hpke(Kem::X25519, montgomery.to_vec());
        let stanza = other.wrap(&mut made.entropy, &made.head, &made.key).unwrap();
        assert_eq!(stanza.kind, HPKE);
        with_stanza(made, stanza);
    });
    let made = made("ssh-other-key", Kem::P256, 20);
    suite.opened_with(
        "ssh-other-key",
        "not-for-this-identity",
        "sealed to a P-256 key",
        ssh_opener(seed),
        &made,
        made.bytes(),
    );
}

fn ssh_blob(identity: &SshIdentity) -> Vec<u8> {
    identity.key().blob()
}

fn ssh_montgomery(identity: &SshIdentity) -> [u8; 32] {
    *identity.key().montgomery()
}

/// Encapsulated and wrapped key, for any `info`.
fn wrapped_to(made: &mut Made, public: &[u8; 32], info: &[u8], aad: &[u8]) -> Vec<u8> {
    let key = made.key.clone();
    let (enc, wrapped) =
        crate::seal::wrap::wrap::<hpke::kem::X25519HkdfSha256>(public, &mut made.entropy, info, aad, key.expose())
            .unwrap();
    [&enc[..], &wrapped].concat()
}

pub(super) fn passphrases(suite: &mut Suite) {
    let mut add = |name: &'static str, expect: &str, about: &str, words: &str, change: &dyn Fn(&mut Made)| {
        let mut made = made(name, Kem::P256, 20);
        let stanza = locked(&mut made, WORDS);
        with_stanza(&mut made, stanza);
        change(&mut made);
        suite.opened_with(name, expect, about, ("passphrase", words.into()), &made, made.bytes());
    };
    let iterations = |count: u32| move |made: &mut Made| made.header[119..123].copy_from_slice(&count.to_be_bytes());
    add("ok-passphrase", "ok", "a passphrase", WORDS, &|_| {});
    add(
        "ok-passphrase-composed",
        "ok",
        "sealed as u and a diaeresis, opened as one letter",
        "\u{fc}bermorgen",
        &|made| {
            let stanza = locked(made, "u\u{308}bermorgen");
            with_stanza(made, stanza);
        },
    );
    add("passphrase-wrong", "damaged", "another passphrase", "walnut ferry oblique tundrA", &|_| {});
    add(
        "passphrase-with-a-space",
        "damaged",
        "the passphrase with a space behind it: nothing is trimmed",
        "walnut ferry oblique tundra ",
        &|_| {},
    );
    add("passphrase-iterations-few", "malformed", "99,999 iterations", WORDS, &iterations(99_999));
    add("passphrase-iterations-none", "malformed", "no iteration", WORDS, &iterations(0));
    add("passphrase-iterations-many", "malformed", "10,000,001 iterations", WORDS, &iterations(10_000_001));
    add(
        "passphrase-iterations-changed",
        "damaged",
        "one iteration more than it was made with",
        WORDS,
        &iterations(100_001),
    );
    add("passphrase-salt-changed", "damaged", "a bit of the salt", WORDS, &|made| made.header[123] ^= 1);
    add("passphrase-wrapped-changed", "damaged", "a bit of the wrapped key", WORDS, &|made| made.header[170] ^= 1);
    add("passphrase-key-id", "malformed", "a key id that is not zeros", WORDS, &|made| made.header[106] = 1);
    add("passphrase-short", "malformed", "a wrapped key of 47 bytes", WORDS, &|made| {
        let mut stanzas = made.stanzas();
        stanzas.pop();
        stanzas[13] -= 1;
        made.set_stanzas(&stanzas);
    });
    add("passphrase-two", "malformed", "two passphrase stanzas", WORDS, &|made| {
        let stanzas = made.stanzas().repeat(2);
        made.set_stanzas(&stanzas);
    });
    add(
        "passphrase-two-functions",
        "malformed",
        "two passphrase stanzas, one by an unknown function",
        WORDS,
        &|made| {
            let mut stanzas = made.stanzas().repeat(2);
            stanzas[14] = 9;
            made.set_stanzas(&stanzas);
        },
    );
    let about = "the only passphrase stanza is by an unknown function, and skipped";
    add("passphrase-function", "not-for-this-identity", about, WORDS, &|made| made.header[118] = 9);
    add(
        "passphrase-from-another-file",
        "damaged",
        "the stanza of another file with the same passphrase",
        WORDS,
        &|made| {
            let key = FileKey::draw(&mut made.entropy).unwrap();
            let head = Head::new_with(&mut made.entropy, DropId([9; 16]), Mode::Sealed, &key).unwrap();
            let passphrase = Passphrase::new(WORDS).unwrap();
            let stanza = passphrase.lock_in(&mut made.entropy, &head, &key, ITERATIONS).unwrap();
            with_stanza(made, stanza);
        },
    );
    let made = made("passphrase-none", Kem::P256, 20);
    let about = "sealed to a P-256 key only";
    suite.opened_with(
        "passphrase-none",
        "not-for-this-identity",
        about,
        ("passphrase", WORDS.into()),
        &made,
        made.bytes(),
    );
}

pub(super) fn mixed(suite: &mut Suite) {
    let seed = [0x4d; 32];
    let mut made = made("mixed", Kem::P256, 20);
    let [wing, pq] =
        [Kem::XWing, Kem::MlKem768P256].map(|kem| Identity::generate_with(&mut made.entropy, kem).unwrap());
    let ssh = ssh_key(seed).0.to_recipient();
    let mut stanzas = Vec::new();
    for recipient in [wing.to_recipient(), ssh, made.identity.to_recipient(), pq.to_recipient()] {
        stanzas.push(recipient.wrap(&mut made.entropy, &made.head, &made.key).unwrap());
    }
    let passphrase = locked(&mut made, WORDS);
    stanzas.insert(2, passphrase);
    made.set_envelope(&Envelope::holding(stanzas).unwrap());
    let identity = |identity: &Identity| ("identity", identity.to_text().to_string());
    let p256 = identity(&made.identity);
    for (name, opener) in [
        ("ok-mixed-p256", p256),
        ("ok-mixed-mlkem768-p256", identity(&pq)),
        ("ok-mixed-x-wing", identity(&wing)),
        ("ok-mixed-ssh", ssh_opener(seed)),
        ("ok-mixed-passphrase", ("passphrase", WORDS.into())),
    ] {
        suite.opened_with(name, "ok", "five kinds of stanza in one envelope", opener, &made, made.bytes());
    }
}

pub(super) fn texts(suite: &mut Suite) {
    let encode = |data: &[u8]| Recipient::hpke_text(data);
    let mut entropy = Script::new("texts of kinds");
    for (kem, recipient, identity) in [
        (Kem::MlKem768P256, "ok-recipient-mlkem768-p256", "ok-identity-mlkem768-p256"),
        (Kem::XWing, "ok-recipient-x-wing", "ok-identity-x-wing"),
    ] {
        let made = Identity::generate_with(&mut entropy, kem).unwrap();
        suite.text(recipient, "recipient", "ok", "a hybrid key", &made.to_recipient().to_string());
        suite.text(identity, "identity", "ok", "a hybrid key: a seed", &made.to_text());
    }
    let wing = &[&[0x64, 0x7a][..], &[0xff; 1184], &[9; 32]].concat();
    suite.text(
        "recipient-x-wing-modulus",
        "recipient",
        "invalid",
        "ML-KEM numbers that are not below 3329",
        &encode(wing),
    );
    let point = &[&[0, 0x50][..], &[0; 1184], &[4], &[0xff; 64]].concat();
    suite.text("recipient-mlkem768-p256-not-a-point", "recipient", "invalid", "a point off the curve", &encode(point));
    suite.text("recipient-x-wing-short", "recipient", "invalid", "a byte is missing", &encode(&wing[..1217]));

    let (identity, file) = ssh_key([0x54; 32]);
    let text = identity.to_recipient().to_string();
    let ssh = |name: &[u8], data: &[u8], rest: &[u8]| {
        let string = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat();
        format!("ssh-ed25519 {}", base64(&[string(name), string(data), rest.to_vec()].concat()))
    };
    suite.text("ok-recipient-ssh", "recipient", "ok", "an SSH key", &text);
    suite.text(
        "ok-recipient-ssh-comment",
        "recipient",
        "ok",
        "with a comment, as in authorized_keys",
        &format!("{text} nightly@acme two"),
    );
    let options = format!("no-pty {text}");
    suite.text("recipient-ssh-options", "recipient", "invalid", "options before the key", &options);
    let upper = text.to_uppercase();
    suite.text("recipient-ssh-upper", "recipient", "invalid", "upper case: base64 is not bech32", &upper);
    let unpadded = ssh(b"ssh-ed25519", &[9; 32], b"more");
    suite.text("recipient-ssh-trailing", "recipient", "invalid", "four bytes behind the key", &unpadded);
    let short = ssh(b"ssh-ed25519", &[9; 31], b"");
    suite.text("recipient-ssh-short", "recipient", "invalid", "a key of 31 bytes", &short);
    let other = ssh(b"ssh-ed448", &[9; 32], b"");
    suite.text("recipient-ssh-other-type", "recipient", "invalid", "another type inside than outside", &other);
    let mut off = [0; 32];
    off[0] = 2;
    let point = ssh(b"ssh-ed25519", &off, b"");
    suite.text("recipient-ssh-not-a-point", "recipient", "invalid", "y = 2 is no coordinate of a point", &point);
    let mut one = [0; 32];
    one[0] = 1;
    suite.text(
        "recipient-ssh-identity-point",
        "recipient",
        "invalid",
        "the point of order 1",
        &ssh(b"ssh-ed25519", &one, b""),
    );
    suite.text(
        "recipient-ssh-small-order",
        "recipient",
        "invalid",
        "y = 0: a point of order 4",
        &ssh(b"ssh-ed25519", &[0; 32], b""),
    );
    let mut high = [0xff; 32];
    high[0] = 0xf0; // y = 3 + 2^255 - 19
    high[31] = 0x7f;
    suite.text(
        "recipient-ssh-not-canonical",
        "recipient",
        "invalid",
        "y = 3, written as 3 + p",
        &ssh(b"ssh-ed25519", &high, b""),
    );
    let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAQA=";
    suite.text("recipient-ssh-rsa", "recipient", "invalid", "an RSA key", rsa);

    let mut add = |name, expect: &str, about: &str, body: &str| {
        let mut header = vec![("kind", "ssh-identity".into()), ("expect", expect.into()), ("about", about.into())];
        if expect == "ok" {
            header.push(("recipient", text.clone()));
        }
        let lines: Vec<&str> = body.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let file =
            format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n", lines.join("\n"));
        suite.add(name, header, file.into_bytes());
    };
    add("ok-ssh-identity", "ok", "not encrypted", &file);
    add("ssh-identity-cut", "invalid", "the last four letters are missing", &file[..file.len() - 4]);
    // The private key's own copy of the public one is made another's.
    let seed = [0x54; 32];
    let mut bytes = PrivateKey::from(Ed25519Keypair::from_seed(&seed)).to_bytes().unwrap().to_vec();
    let other = Ed25519Keypair::from_seed(&[0x55; 32]).public.0;
    let mine = Ed25519Keypair::from_seed(&seed).public.0;
    while let Some(at) = bytes.windows(32).position(|window| window == mine) {
        bytes[at..at + 32].copy_from_slice(&other);
    }
    add("ssh-identity-of-another-key", "invalid", "its public key is not that of its seed", &base64(&bytes));
}
