//! The reader in `tests/reader/`, written in Python from docs/sealed-file.md alone, and this crate are held against each
//! other: over the vectors, over files that `sealdrop seal` and the server make, and over files that were spoilt in
//! many ways. Where the two differ, the page is not enough or one of them is wrong.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sealdrop::cli::demo::place::LAB;
use sealdrop::seal::Identity;

use crate::run::{Ran, run};
use crate::site::{SEALDROP, Site, content, have_python};
use crate::vectors::{Vector, vectors};

/// Debian's own Python: another first in PATH has not Debian's modules. It leaves no `__pycache__` in the repository.
fn python(script: &str) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reader").join(script));
    command
}

fn judged(folder: &Path) -> Ran {
    let mut command = python("vectors.py");
    command.arg(folder);
    run(command, b"")
}

fn opened(identity: &Path, sealed: &Path) -> Ran {
    let mut command = python("reader.py");
    command.arg("--identity").arg(identity).arg(sealed);
    run(command, b"")
}

#[test]
fn a_reader_written_from_the_page_gives_every_vectors_answer() {
    if !have_python("cryptography") {
        return;
    }
    let said = judged(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")).ok();
    assert_eq!(said.trim(), format!("{} vectors, 0 wrong", vectors().len()));
}

#[test]
fn two_readers_agree_on_every_spoilt_file() {
    if !have_python("cryptography") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    // The good and short ones: every byte in them matters.
    for vector in
        vectors().into_iter().filter(|v| v.get("kind") == "sealed" && v.get("expect") == "ok" && v.bytes.len() < 20_000)
    {
        // Slow to open, a passphrase for everyone and ML-KEM in Python, so fewer of these.
        let identity = vector.header.get("identity").map(|text| Identity::parse(text).unwrap());
        let quick =
            identity.is_some_and(|identity| !identity.kem().is_post_quantum()) && !vector.name.starts_with("ok-mixed");
        for (how, bytes) in spoilt(&vector).into_iter().step_by(if quick { 1 } else { 24 }) {
            let mut spoilt = Vector { bytes, ..vector.clone() };
            let word = spoilt.word();
            spoilt.header.insert("expect".into(), word.into());
            let mut header = String::new();
            for (key, value) in &spoilt.header {
                writeln!(header, "{key}: {value}").unwrap();
            }
            let whole = [header.as_bytes(), b"\n", &spoilt.bytes].concat();
            fs::write(folder.path().join(format!("{}-{how}", vector.name)), whole).unwrap();
            count += 1;
        }
    }
    assert!(count > 1_500, "only {count} files");
    assert!(judged(folder.path()).ok().contains(&format!("{count} vectors, 0 wrong")));
}

/// One byte changed wherever a rule applies, the file cut at every edge, and a footer put where it was cut.
fn spoilt(vector: &Vector) -> Vec<(String, Vec<u8>)> {
    let whole = &vector.bytes;
    let length = whole.len();
    let stanzas = 96..length.min(8192).min(96 + 8 + 24);
    let edges = [8190..8212, length.saturating_sub(90)..length];
    let places = (0..16).chain(60..66).chain(stanzas).chain(edges.into_iter().flatten());
    let mut out = Vec::new();
    for at in places.filter(|at| *at < length) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        out.push((format!("{at}-changed"), bytes));
    }
    let footer = &whole[length.saturating_sub(32)..];
    for at in [0, 7, 8, 95, 96, 103, 8191, 8192, 8193, 8223, 8224, 8252, 8284, length - 33, length - 1] {
        if at < length {
            out.push((format!("{at}-cut"), whole[..at].to_vec()));
            out.push((format!("{at}-cut-footed"), [&whole[..at], footer].concat()));
        }
    }
    out
}

#[test]
fn a_reader_written_from_the_page_opens_what_seal_writes() {
    if !have_python("cryptography") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for kem in ["p256", "x25519", "mlkem768-p256", "x-wing"] {
        let (identity, recipient) = keys(folder.path(), kem);
        let sizes: &[usize] =
            if kem.len() > 6 || kem == "x-wing" { &[7] } else { &[0, 1, 65_535, 65_536, 65_537, 3 * 1024 * 1024 + 5] };
        for &size in sizes {
            let (plain, sealed) = (folder.path().join("plain"), folder.path().join(format!("{kem}-{size}.sealed")));
            let bytes = content("sealed by hand ", size);
            fs::write(&plain, &bytes).unwrap();
            let mut seal = Command::new(SEALDROP);
            seal.args(["seal", "--recipient", &recipient, "--output"]).arg(&sealed).arg(&plain);
            run(seal, b"").ok();
            let read = opened(&identity, &sealed);
            assert!(read.stdout == bytes, "{kem}, {size} bytes: {}", read.stderr);
            read.ok();
        }
    }
    // One file to an SSH key and with a passphrase, opened by either.
    let at = |name: &str| folder.path().join(name);
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "a@b", "-f"]).arg(at("id_ed25519"));
    run(keygen, b"").ok();
    fs::write(at("words"), "Wüstenfuchs im Nebelmoor zählt Kieselsteine\n").unwrap();
    let mut seal = Command::new(SEALDROP);
    seal.arg("seal").arg("-R").arg(at("id_ed25519.pub")).arg("--passphrase-file").arg(at("words"));
    seal.arg("-o").arg(at("both.sealed")).arg(at("plain"));
    run(seal, b"").ok();
    let by_key = opened(&at("id_ed25519"), &at("both.sealed"));
    let mut command = python("reader.py");
    command.arg("--passphrase-file").arg(at("words")).arg(at("both.sealed"));
    let by_words = run(command, b"");
    let plain = fs::read(at("plain")).unwrap();
    assert!(by_key.stdout == plain && by_words.stdout == plain, "{}{}", by_key.stderr, by_words.stderr);
    let (other, _) = keys(folder.path(), "p256");
    let refusal = opened(&other, &folder.path().join("p256-1.sealed")).fails_with(1);
    assert!(refusal.contains("not-for-this-identity"), "{refusal}");
}

/// A new identity file and its recipient.
fn keys(folder: &Path, kem: &str) -> (PathBuf, String) {
    let identity = folder.join(format!("{}.identity", crate::user::unique()));
    let mut keygen = Command::new(SEALDROP);
    keygen.args(["keygen", "--kind", kem, "--output"]).arg(&identity);
    run(keygen, b"").ok();
    let text = fs::read_to_string(&identity).unwrap();
    let recipient = text.split_whitespace().find(|word| word.starts_with("sealdrop1")).expect("a recipient");
    (identity, recipient.to_owned())
}

#[test]
fn a_reader_written_from_the_page_opens_what_the_server_delivers() {
    if !have_python("cryptography") {
        return;
    }
    let site = Site::new();
    for size in [0, 1, 65_535, 65_536, 65_537, 3 * 1024 * 1024 + 5] {
        let bytes = content("for the lab ", size);
        site.partner().put(&site.file("local", &bytes), &format!("/lab/{size}.dcm"));
        let sealed = site.recipient(LAB).get(&format!("/inbox/partner/{size}.dcm.sealed"));
        let read = opened(&site.place().lab_identity(), &site.file("pulled.sealed", &sealed));
        assert!(read.stdout == bytes, "{size} bytes: {}", read.stderr);
        read.ok();
    }
}
