//! Secrets are asked for on the terminal, whatever standard input is: the passphrase of a file, and that of an SSH key. They are not
//! shown, and where there is no terminal that is said.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::run::{Ran, run};
use crate::site::{SEALDROP, have, have_python};

/// Runs the program after `--` on a terminal of its own, waits for each prompt, answers it, and prints what the terminal showed.
const TERMINAL: &str = r#"
import os, pty, sys
at = sys.argv.index("--")
talk, command = sys.argv[1:at], sys.argv[at + 1:]
pid, fd = pty.fork()
if pid == 0:
    os.execv(command[0], command)
shown = b""
def more():
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""
for prompt, answer in zip(talk[::2], talk[1::2]):
    seen = 0
    while prompt.encode() not in shown[seen:]:
        chunk = more()
        if not chunk:
            break
        shown += chunk
    seen = len(shown)
    os.write(fd, answer.encode() + b"\n")
    sys.stdout.buffer.write(shown)
    shown = b""
while chunk := more():
    shown += chunk
sys.stdout.buffer.write(shown)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

fn at_terminal(folder: &Path, talk: &[&str], words: &[&str]) -> Ran {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", TERMINAL]).args(talk).args(["--", SEALDROP]).args(words).current_dir(folder);
    run(command, b"")
}

#[test]
fn a_passphrase_is_made_or_chosen_at_the_terminal_and_never_shown_again() {
    if !have_python("pty") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a"), "what is sealed").unwrap();
    let shown = at_terminal(folder.path(), &["makes one", ""], &["seal", "-p", "a"]).ok();
    let made = shown.split("shown this once: ").nth(1).unwrap().split_whitespace().next().unwrap();
    let shown = at_terminal(folder.path(), &["Passphrase", made], &["open", "-p", "-o", "b", "a.sealed"]).ok();
    assert!(!shown.contains(made) && fs::read(path("b")).unwrap() == b"what is sealed", "{shown}");
    let refused = at_terminal(folder.path(), &["Passphrase", "other words"], &["open", "-p", "-o", "c", "a.sealed"]);
    let shown = String::from_utf8_lossy(&refused.stdout).into_owned();
    refused.fails();
    assert!(shown.contains("mistyped passphrase") && !shown.contains("other words") && !path("c").exists(), "{shown}");

    let chosen = "walnut ferry oblique tundra sand quiver";
    at_terminal(folder.path(), &["makes one", chosen, "Again", chosen], &["seal", "-p", "--force", "a"]).ok();
    let unlike = at_terminal(folder.path(), &["makes one", chosen, "Again", "x"], &["seal", "-p", "--force", "a"]);
    assert!(String::from_utf8_lossy(&unlike.stdout).contains("not the same"));
    let easy = at_terminal(folder.path(), &["makes one", "Summer2026!"], &["seal", "-p", "--force", "a"]);
    assert!(String::from_utf8_lossy(&easy.stdout).contains("easy to guess"));
    fs::write(path("words"), format!("{chosen}\n")).unwrap();
    let mut open = Command::new(SEALDROP);
    open.args(["open", "--passphrase-file", "words", "a.sealed"]).current_dir(&folder);
    assert_eq!(run(open, b"").ok(), "what is sealed", "what was refused has replaced nothing");
}

#[test]
fn the_passphrase_of_an_ssh_key_is_asked_for_once_and_only_if_a_file_needs_it() {
    if !have_python("pty") || !have("ssh-keygen") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-a", "1", "-N", "of the key", "-C", "a@b", "-f"]).arg(path("id"));
    run(keygen, b"").ok();
    let sealdrop = |words: &[&str]| {
        let mut command = Command::new("setsid");
        command.args(["--wait", SEALDROP]).args(words).current_dir(&folder);
        run(command, b"")
    };
    sealdrop(&["keygen", "-o", "other"]).ok();
    for name in ["a", "b"] {
        fs::write(path(name), name).unwrap();
        sealdrop(&["seal", "-R", "id.pub", name]).ok();
    }
    let without = sealdrop(&["open", "-i", "id", "a.sealed"]).fails_with(1);
    assert!(without.contains("no terminal to ask on"), "{without}");
    let other = fs::read_to_string(path("other")).unwrap();
    let other = other.split_whitespace().find(|word| word.starts_with("sealdrop1")).unwrap();
    fs::write(path("c"), "c").unwrap();
    sealdrop(&["seal", "-r", other, "c"]).ok();
    let said = sealdrop(&["open", "-i", "id", "c.sealed"]).fails_with(1);
    assert!(said.contains("not sealed to this identity") && said.contains("you gave SSH key"), "{said}");
    let said = sealdrop(&["open", "-i", "id", "-i", "other", "c.sealed"]).ok();
    assert_eq!(said, "c", "no question was asked");

    fs::create_dir(path("opened")).unwrap();
    let talk = ["SSH key id", "of the key"];
    at_terminal(folder.path(), &talk, &["open", "-i", "id", "-o", "opened", "a.sealed", "b.sealed"]).ok();
    assert_eq!(
        (fs::read(path("opened/a")).unwrap(), fs::read(path("opened/b")).unwrap()),
        (b"a".to_vec(), b"b".to_vec())
    );
    let wrong = at_terminal(folder.path(), &["SSH key id", "wrong"], &["open", "-i", "id", "-o", "d", "a.sealed"]);
    assert!(String::from_utf8_lossy(&wrong.stdout).contains("not its passphrase") && !path("d").exists());
}

/// Starts the program after the first two words on a terminal of its own, and when it asks types the one key or sends the signal; then
/// prints whether the terminal shows what is typed, before and after, and what ended the program.
const INTERRUPTED: &str = r#"
import os, pty, signal, sys, termios
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[3], sys.argv[3:])
shown = b""
while sys.argv[1].encode() not in shown:
    shown += os.read(fd, 65536)
echo = lambda: "shown" if termios.tcgetattr(fd)[3] & termios.ECHO else "hidden"
before = echo()
if sys.argv[2] == "Ctrl-C":
    os.write(fd, b"\x03")
else:
    os.kill(pid, getattr(signal, sys.argv[2]))
status = os.waitpid(pid, 0)[1]
print(before, echo(), signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else status)
"#;

#[test]
fn a_question_that_is_interrupted_leaves_the_terminal_as_it_was() {
    if !have_python("pty") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "x").unwrap();
    let interrupted = |prompt: &str, how: &str, words: &[&str]| {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", INTERRUPTED, prompt, how, SEALDROP]).args(words).current_dir(folder.path());
        run(command, b"").ok().trim().to_owned()
    };
    assert_eq!(interrupted("Password: ", "Ctrl-C", &["passwd"]), "hidden shown SIGINT");
    assert_eq!(interrupted("Password: ", "SIGTERM", &["passwd"]), "hidden shown SIGTERM");
    assert_eq!(interrupted("makes one", "SIGHUP", &["seal", "-p", "a"]), "hidden shown SIGHUP");
    let config = folder.path().join("sealdrop.toml");
    let mut init = Command::new(SEALDROP);
    let state = folder.path().join("state");
    init.arg("init").arg("--config").arg(&config).arg("--state").arg(&state).args(["--root-key", "passphrase"]);
    init.arg("--passphrase-fd").arg("0");
    run(init, b"a long passphrase of ours\n").ok();
    let words = ["serve", "--config", config.to_str().unwrap()];
    fs::write(&config, fs::read_to_string(&config).unwrap().replace("[::]:2222", "127.0.0.1:0")).unwrap();
    if crate::site::is_root() {
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("user = \"nobody\"\n{}", text.replace("\nuser ", "\n# user "))).unwrap();
    }
    assert_eq!(interrupted("Passphrase", "Ctrl-C", &words), "hidden shown SIGINT");
}
