//! A sealed file opens without a server: in a browser, with the page of `sealdrop open --page`, which loads and sends
//! nothing; a wrong, damaged or cut file is told in words and saves nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sealdrop::seal::Identity;

use crate::browser::Browser;
use crate::run::run;
use crate::site::{SEALDROP, content, have};

/// What a person has: a sealed file, an identity, the page.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        let page = run(desk.sealdrop(&["open", "--page"]), b"").ok();
        fs::write(desk.path("open.html"), page).unwrap();
        for (name, kind) in [("p256", "p256"), ("x25519", "x25519"), ("other", "p256")] {
            run(desk.sealdrop(&["keygen", "--kind", kind, "--output", name]), b"").ok();
        }
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sealdrop(&self, words: &[&str]) -> Command {
        let mut command = Command::new(SEALDROP);
        command.args(words).current_dir(&self.folder);
        command
    }

    /// Seals what lies under `name` to an identity's recipient; the sealed file.
    fn seal(&self, name: &str, identity: &str) -> PathBuf {
        let text = fs::read_to_string(self.path(identity)).unwrap();
        let recipient = text.split_whitespace().find(|word| word.starts_with("sealdrop1")).unwrap();
        let sealed = format!("{name}.{identity}.sealed");
        run(self.sealdrop(&["seal", "--recipient", recipient, "--output", &sealed, name]), b"").ok();
        self.path(&sealed)
    }

    /// The page, in a browser that saves by downloading.
    fn browser(&self) -> Browser {
        Browser::watched(&self.path("open.html"), NO_PICKER)
    }
}

const NO_PICKER: &str = "delete window.showSaveFilePicker";
const SETTLED: &str = "!document.getElementById('problem').hidden || !document.getElementById('ready').hidden";
const ENDED: &str = "!document.getElementById('problem').hidden || !document.getElementById('done').hidden";

impl Browser {
    fn word(&mut self) -> String {
        let word = self
            .value("document.getElementById('problem').hidden ? '' : document.getElementById('problem').dataset.word");
        word.as_str().unwrap_or_default().to_owned()
    }

    fn text(&mut self, id: &str) -> String {
        self.value(&format!("document.getElementById('{id}').textContent")).as_str().unwrap_or_default().to_owned()
    }

    fn save(&mut self) -> PathBuf {
        self.until(SETTLED);
        assert_eq!(self.word(), "");
        self.value("document.getElementById('save').click()");
        self.until(ENDED);
        assert_eq!(self.word(), "");
        self.downloaded()
    }
}

fn same_bytes(a: &Path, b: &Path) {
    let mut command = Command::new("cmp");
    command.arg(a).arg(b);
    run(command, b"").ok();
}

#[test]
fn the_page_opens_a_sealed_file_in_a_browser_and_talks_to_no_one() {
    if !have("chromium") {
        return;
    }
    let desk = Desk::new();
    let mut browser = desk.browser();
    for (identity, size) in [("p256", 0), ("x25519", 1), ("p256", 65_535), ("x25519", 65_536), ("p256", 9_000_001)] {
        let plain = desk.path(&format!("scan-{size}.dcm"));
        fs::write(&plain, content("in a browser ", size)).unwrap();
        let sealed = desk.seal(&format!("scan-{size}.dcm"), identity);
        browser.value("forget()");
        browser.choose("file", &sealed);
        browser.choose("identity-file", &desk.path(identity));
        let opened = browser.save();
        assert_eq!(opened.file_name(), plain.file_name(), "the name that it was sealed under is offered");
        same_bytes(&plain, &opened);
        let mut digest = sealdrop::seal::Midstate::new();
        digest.update(&fs::read(&plain).unwrap());
        let digest = digest.finish();
        assert_eq!(browser.text("done-digest"), sealdrop::names::Digest(digest.0).to_string());
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn files_can_be_dropped_on_the_page_and_an_identity_pasted() {
    if !have("chromium") {
        return;
    }
    let desk = Desk::new();
    fs::write(desk.path("a.txt"), b"dropped").unwrap();
    let sealed = desk.seal("a.txt", "p256");
    let mut browser = desk.browser();
    browser.drop_files(&[&sealed, &desk.path("p256")]);
    same_bytes(&desk.path("a.txt"), &browser.save());

    browser.value("forget()");
    let text = fs::read_to_string(desk.path("p256")).unwrap();
    let secret = text.lines().find(|line| !line.starts_with('#')).unwrap();
    browser.value("document.getElementById('identity').focus()");
    browser.ask("Input.insertText", serde_json::json!({"text": secret}));
    browser.value("document.getElementById('identity').blur()");
    same_bytes(&desk.path("a.txt"), &browser.save());
    let shown = browser.value("document.documentElement.outerHTML + document.getElementById('identity').value");
    assert!(!shown.as_str().unwrap().contains(secret), "the page shows an identity no longer than it must");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn the_page_tells_what_is_wrong_and_saves_nothing() {
    if !have("chromium") {
        return;
    }
    let desk = Desk::new();
    fs::write(desk.path("a"), content("to be spoilt ", 300_000)).unwrap();
    let sealed = desk.seal("a", "p256");
    let whole = fs::read(&sealed).unwrap();
    let mut browser = desk.browser();
    browser.choose("file", &sealed);
    browser.choose("identity-file", &desk.path("other"));
    browser.until(SETTLED);
    assert_eq!(browser.word(), "not-for-this-identity");
    browser.value("forget()");
    for (text, word) in [
        ("sealdrop1qqgq", "identity-public"),
        ("SEALDROP-IDENTITY-1QQGQQQQQQQQQ", "identity-mistyped"),
        ("hello", "identity"),
    ] {
        browser.value(&format!("takeIdentity('{text}')"));
        assert_eq!(browser.word(), word);
    }
    browser.choose("identity-file", &desk.path("p256"));
    browser.until("!document.getElementById('ready').hidden");

    let cut = |at: usize| whole[..at].to_vec();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    for (name, bytes, word) in [
        ("empty", cut(0), "not-sealed"),
        ("cut-head", cut(5000), "length"),
        ("cut-body", cut(100_000), "length"),
        ("cut-end", cut(whole.len() - 1), "length"),
        ("flipped-commit", flipped(70), "damaged"),
        ("flipped-trailer", flipped(whole.len() - 50), "damaged"),
    ] {
        fs::write(desk.path(name), bytes).unwrap();
        browser.choose("file", &desk.path(name));
        browser.until(SETTLED);
        assert_eq!(browser.word(), word, "{name}");
        assert_eq!(browser.value("document.getElementById('ready').hidden"), true, "{name}: nothing to save");
    }
    // In the body, it shows only when its records are read.
    fs::write(desk.path("flipped-last"), flipped(8192 + 4 * 65_568 + 20)).unwrap();
    browser.choose("file", &desk.path("flipped-last"));
    browser.until(SETTLED);
    browser.value("document.getElementById('save').click()");
    browser.until(ENDED);
    assert_eq!(browser.word(), "damaged");
    assert!(fs::read_dir(browser.downloads()).is_ok_and(|files| files.count() == 0) || !browser.downloads().exists());
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_passphrase_and_an_ssh_key_open_in_a_browser_and_what_it_cannot_do_it_says() {
    if !have("chromium") || !have("ssh-keygen") {
        return;
    }
    let desk = Desk::new();
    fs::write(desk.path("a.txt"), b"for whom it is").unwrap();
    run(desk.sealdrop(&["keygen", "--kind", "passphrase", "--output", "words"]), b"").ok();
    run(desk.sealdrop(&["keygen", "--kind", "x-wing", "--output", "hybrid"]), b"").ok();
    for (name, secret) in [("id_ed25519", ""), ("locked", "a passphrase")] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-a", "1", "-N", secret, "-C", "a@b", "-f"]).arg(desk.path(name));
        run(keygen, b"").ok();
    }
    let words = ["seal", "-R", "id_ed25519.pub", "--passphrase-file", "words", "-o", "a.sealed", "a.txt"];
    run(desk.sealdrop(&words), b"").ok();
    let mut browser = desk.browser();
    browser.choose("file", &desk.path("a.sealed"));
    browser.choose("identity-file", &desk.path("id_ed25519"));
    same_bytes(&desk.path("a.txt"), &browser.save());

    browser.value("forget()");
    browser.value("takePassphrase('wrong')");
    assert_eq!(browser.word(), "damaged");
    assert!(browser.text("problem-title").contains("passphrase does not open"));
    browser.value("forget()");
    browser.value("document.getElementById('passphrase').focus()");
    let passphrase = fs::read_to_string(desk.path("words")).unwrap();
    browser.ask("Input.insertText", serde_json::json!({"text": passphrase.trim_end()}));
    browser.value("document.getElementById('passphrase-take').click()");
    same_bytes(&desk.path("a.txt"), &browser.save());
    assert_eq!(browser.value("document.getElementById('passphrase').value"), "");

    for (name, word) in [("locked", "identity-ssh-locked"), ("hybrid", "identity-hybrid"), ("a.txt", "identity")] {
        browser.value("forget()");
        browser.choose("identity-file", &desk.path(name));
        browser.until("!document.getElementById('problem').hidden");
        assert_eq!(browser.word(), word);
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// The page's reader is a third one: it has to give the vectors' answers, too.
#[test]
fn the_page_gives_every_vectors_answer() {
    if !have("chromium") {
        return;
    }
    let desk = Desk::new();
    let mut browser = desk.browser();
    let mut wrong = Vec::new();
    for vector in crate::vectors::vectors() {
        // A shred wrap comes off at the server.
        let expression = match vector.get("kind") {
            // No browser has ML-KEM; its sentence is tested above.
            _ if is_hybrid(&vector) => continue,
            "sealed" if !vector.header.contains_key("bucket-key") => {
                fs::write(desk.path(&vector.name), &vector.bytes).unwrap();
                browser.value("file = null");
                browser.choose("file", &desk.path(&vector.name));
                browser.until("file");
                let opener = match (vector.header.get("passphrase"), vector.header.get("ssh-identity")) {
                    (Some(words), _) => format!("passphraseIdentity('{words}')"),
                    (_, Some(key)) => format!("await sshIdentity('{}')", armoured(key)),
                    _ => format!("await parseIdentity('{}')", vector.get("identity")),
                };
                format!(
                    "(async () => {{ const found = await openSealed(file, [{opener}]); let size = 0;
                      await stream(found, chunks => chunks.forEach(chunk => size += chunk.length), () => false);
                      return String(size) === '{}' ? 'ok' : 'size'; }})()",
                    vector.header.get("size").map_or("", String::as_str),
                )
            }
            "identity" => {
                let recipient = vector.header.get("recipient").map_or("", String::as_str);
                let text = String::from_utf8(vector.bytes.clone()).unwrap();
                format!("parseIdentity('{text}').then(found => found.recipient === '{recipient}' ? 'ok' : 'other')")
            }
            "ssh-identity" => {
                let recipient = vector.header.get("recipient").map_or("", String::as_str);
                let text = String::from_utf8(vector.bytes.clone()).unwrap().replace('\n', "\\n");
                format!("sshIdentity('{text}').then(found => found.recipient === '{recipient}' ? 'ok' : 'other')")
            }
            _ => continue,
        };
        let word = browser.value(&format!("{expression}.catch(error => error.word ?? String(error))"));
        let word = word.as_str().unwrap_or_default();
        let word = if word.starts_with("identity") { "invalid" } else { word };
        if word != vector.get("expect") {
            wrong.push(format!("{}: expected {}, got {word}", vector.name, vector.get("expect")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn is_hybrid(vector: &crate::vectors::Vector) -> bool {
    let text = match vector.get("kind") {
        "identity" => String::from_utf8(vector.bytes.clone()).unwrap(),
        _ => vector.header.get("identity").cloned().unwrap_or_default(),
    };
    Identity::parse(&text).is_ok_and(|identity| identity.kem().is_post_quantum())
}

/// In one line of JavaScript.
fn armoured(key: &str) -> String {
    format!("-----BEGIN OPENSSH PRIVATE KEY-----\\n{key}\\n-----END OPENSSH PRIVATE KEY-----\\n")
}

/// A place to save to that counts, in the stead of the one behind a dialog that no test can answer.
const PICKER: &str = "window.taken = 0; window.ended = '';
    window.showSaveFilePicker = async ({ suggestedName }) => ({ name: suggestedName, createWritable: async () => ({
        write: async bytes => { taken += bytes.length }, close: async () => { ended = 'closed' },
        abort: async () => { ended = 'aborted' } }) })";

/// 64 MiB, or what SEALDROP_TEST_PAGE says, in bytes: 1 GiB takes a minute.
#[test]
fn a_large_file_is_streamed_to_where_it_is_saved_and_closed_only_when_it_was_good() {
    if !have("chromium") {
        return;
    }
    let size = std::env::var("SEALDROP_TEST_PAGE").ok().and_then(|size| size.parse().ok()).unwrap_or(64 << 20);
    let desk = Desk::new();
    write_large(&desk.path("large"), size);
    let sealed = desk.seal("large", "p256");
    let mut browser = Browser::unwatched(&desk.path("open.html"), PICKER);
    browser.choose("identity-file", &desk.path("p256"));
    for (ended, word) in [("closed", ""), ("aborted", "damaged")] {
        browser.choose("file", &sealed);
        browser.until(SETTLED);
        browser.value("document.getElementById('save').click()");
        browser.until(ENDED);
        assert_eq!(browser.word(), word);
        assert_eq!(browser.value("ended"), ended);
        if ended == "closed" {
            assert_eq!(browser.value("taken"), size);
            // A bit of the last full record, for the second time.
            let file = fs::File::options().write(true).open(&sealed).unwrap();
            let last = 8192 + (size as u64 / 65_536 - 1) * 65_568;
            std::os::unix::fs::FileExt::write_all_at(&file, &[0; 16], last + 100).unwrap();
        }
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_browser_without_a_picker_downloads_what_it_opened() {
    if !have("chromium") {
        return;
    }
    let desk = Desk::new();
    write_large(&desk.path("large"), 64 << 20);
    let sealed = desk.seal("large", "p256");
    let mut browser = Browser::unwatched(&desk.path("open.html"), NO_PICKER);
    browser.choose("file", &sealed);
    browser.choose("identity-file", &desk.path("p256"));
    same_bytes(&desk.path("large"), &browser.save());
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

fn write_large(path: &Path, size: usize) {
    use std::io::Write;
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    for (number, at) in (0..size).step_by(1 << 20).enumerate() {
        file.write_all(&content(&format!("block {number} "), (size - at).min(1 << 20))).unwrap();
    }
    file.into_inner().unwrap();
}
