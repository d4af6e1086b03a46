//! A new admin at a terminal: from nothing to a partner's first verified drop by answering questions and doing what is printed.

use std::fs;
use std::process::Command;

use sealdrop::cli::demo::daemon::Daemon;

use crate::run::run;
use crate::site::{SEALDROP, Site, have_python};

/// Runs a program on a terminal of its own and answers it: each question when it has been asked.
const AT_A_TERMINAL: &str = r#"
import os, pty, sys
answers = sys.argv[1].split("|")
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
said, asked = b"", 0
while True:
    try:
        more = os.read(terminal, 4096)
    except OSError:
        break
    if not more:
        break
    said += more
    # A question ends with `? ` or `] `, and waits.
    if asked < len(answers) and said.endswith((b"? ", b"] ")):
        os.write(terminal, answers[asked].encode() + b"\n")
        asked += 1
        said += b"\n"
sys.stdout.buffer.write(said)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"#;

#[test]
fn answered_questions_make_a_server_that_takes_a_partners_first_drop() {
    if !have_python("pty") {
        return;
    }
    let other = Site::prepared();
    let dir = other.work().join("new");
    let config = dir.join("sealdrop.toml");
    for name in ["clerk", "acme"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(other.work().join(name));
        run(keygen, b"").ok();
    }
    let key = |name: &str| other.work().join(format!("{name}.pub")).display().to_string();
    let address = other.place().listen().to_string();
    let answers = [
        "new.example",
        &address,
        "No Name",
        "clerk",
        "nonsense",
        &key("clerk"),
        "",
        "acme",
        &key("acme"),
        "/scans",
        "",
    ];
    let mut guided = Command::new("/usr/bin/python3");
    guided.args(["-c", AT_A_TERMINAL, &answers.join("|"), SEALDROP, "init", "--state"]).arg(dir.join("state"));
    guided.arg("--config").arg(&config);
    let said = run(guided, b"").ok();
    assert!(said.contains("clerk has an account") && said.contains("acme has an account"), "{said}");
    assert!(said.contains("onboard acme --host"), "{said}");
    // Nothing is said twice, of a daemon that is not there, or of a partner who is only about to be made.
    let (_, after) = said.split_once("\nmade ").expect("what was made");
    let lines: Vec<&str> = after.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for line in &lines {
        assert_eq!(lines.iter().filter(|other| *other == line).count(), 1, "{line:?} in {after}");
    }
    assert!(!after.contains("running daemon") && !after.contains("nobody delivers"), "{after}");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("name = \"new.example\"") && text.contains(&format!("[\"{address}\"]")), "{text}");
    let policy = fs::read_to_string(dir.join("policies/acme.toml")).unwrap();
    assert!(policy.contains("/scans") && policy.contains("\"clerk\"") && policy.contains("72h"), "{policy}");
    let mut check = Command::new(SEALDROP);
    check.args(["check", "--config"]).arg(&config);
    run(check, b"").ok();

    // The account that the package makes is not on every machine that tests.
    fs::write(&config, text.replace("user = \"sealdrop\"", "user = \"nobody\"")).unwrap();
    let mut serve = Command::new(SEALDROP);
    serve.args(["serve", "--config"]).arg(&config);
    let _daemon = Daemon::start(serve, &dir, &dir.join("log")).unwrap_or_else(|e| panic!("{}", e.message));
    let folder = other.work().join("for-acme");
    let mut onboard = Command::new(SEALDROP);
    onboard.args(["onboard", "acme", "--host", &address, "--out"]).arg(&folder).arg("--config").arg(&config);
    run(onboard, b"").ok();
    let in_folder = |program: &str, words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words).current_dir(&folder).env("HOME", &folder);
        run(command, b"").ok()
    };
    let identity = format!("IdentityFile={}", other.work().join("acme").display());
    in_folder("sftp", &["-F", "ssh_config", "-o", &identity, "-b", "try.sftp", "sealdrop"]);
    let receipts = "get /receipts/scans/sealdrop-test.txt.receipt\nget /receipts/scans/sealdrop-test.txt.receipt.sig\n";
    fs::write(folder.join("receipts.sftp"), receipts).unwrap();
    in_folder("sftp", &["-F", "ssh_config", "-o", &identity, "-b", "receipts.sftp", "sealdrop"]);
    let verify = "ssh-keygen -Y verify -f allowed_signers -I new.example -n receipt@sealdrop \
                  -s sealdrop-test.txt.receipt.sig < sealdrop-test.txt.receipt";
    assert!(in_folder("sh", &["-c", verify]).contains("Good"));

    // Asked once: what is there is not asked about again.
    let mut again = Command::new("/usr/bin/python3");
    again.args(["-c", AT_A_TERMINAL, "", SEALDROP, "init", "--config"]).arg(&config);
    assert!(run(again, b"").ok().contains("everything is there already"));
}
