//! `sealdrop top`: drawn on a terminal, which is given back however it ends; told once where nobody watches.

use std::process::Command;

use crate::run::run;
use crate::site::{SEALDROP, Site, have_python};
use crate::wire::{Wire, handle, status, string};

/// What the scripts below begin with: reads what the terminal `fd` shows until these words, and goes on after them.
const UNTIL: &str = r#"
import os
shown = b""
def until(words):
    global shown
    while words not in shown:
        shown += os.read(fd, 65536)
    shown = shown.split(words, 1)[1]
"#;

/// Starts the program after the first word on a terminal of its own, when that was looked at; has it sort otherwise and the terminal change its size; ends it as
/// the first word says; prints how it ended, whether the terminal is as it was, and what was asked for and not seen.
const WATCHED: &str = r#"
import fcntl, os, pty, signal, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    sys.stdin.readline()
    os.execv(sys.argv[2], sys.argv[2:])
before = termios.tcgetattr(fd)
os.write(fd, b"\n")
def resize(rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
resize(24, 100)
until(b"\x1b[?1049h")
until(b"sorted by rate")
raw = not termios.tcgetattr(fd)[3] & (termios.ECHO | termios.ICANON)
os.write(fd, b"s")
until(b"sorted by in")
os.write(fd, b"r")
until(b"reversed")
# Two lines of it fit now, and nothing more is drawn than that.
resize(2, 20)
until(b"\x1b[H")
until(b"\x1b[J")
how = sys.argv[1]
if how == "Ctrl-C":
    os.write(fd, b"\x03")
elif how == "q":
    os.write(fd, b"q")
else:
    os.kill(pid, getattr(signal, how))
try:
    until(b"\x1b[?1049l")
except OSError:
    pass
status = os.waitpid(pid, 0)[1]
ended = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
print(ended, "raw" if raw else "cooked", "restored" if termios.tcgetattr(fd) == before else "changed")
"#;

#[test]
fn the_terminal_is_given_back_however_it_ends() {
    if !have_python("pty") {
        return;
    }
    let site = Site::new();
    for (how, expected) in [("q", "0"), ("Ctrl-C", "0"), ("SIGTERM", "SIGTERM"), ("SIGHUP", "SIGHUP")] {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", &[UNTIL, WATCHED].concat(), how, SEALDROP, "top", "--config"]).arg(site.place().config());
        assert_eq!(run(command, b"").ok().trim(), format!("{expected} raw restored"), "{how}");
    }
}

/// Starts a program in the foreground of a terminal, as a shell does; stops it with Ctrl-Z, looks at the terminal, has it go on and ends it.
const STOPPED: &str = r#"
import os, pty, signal, sys, termios
pid, fd = pty.fork()
if pid == 0:
    sys.stdin.readline()
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execv(sys.argv[1], sys.argv[1:])
    stopped = os.WIFSTOPPED(os.waitpid(job, os.WUNTRACED)[1])
    os.tcsetpgrp(0, os.getpgrp())
    print("has stopped" if stopped else "has ended", flush=True)
    sys.stdin.readline()
    os.tcsetpgrp(0, job)
    os.kill(job, signal.SIGCONT)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(job, 0)[1]))
before = termios.tcgetattr(fd)
os.write(fd, b"\n")
until(b"\x1b[?1049h")
until(b"sorted by rate")
os.write(fd, b"\x1a")
until(b"\x1b[?1049l")
until(b"has stopped")
stopped = termios.tcgetattr(fd) == before
os.write(fd, b"fg\n")
until(b"\x1b[?1049h")
until(b"sorted by rate")
raw = not termios.tcgetattr(fd)[3] & (termios.ECHO | termios.ICANON)
os.write(fd, b"q")
until(b"\x1b[?1049l")
ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(ended, "raw" if raw else "cooked", "restored" if stopped and termios.tcgetattr(fd) == before else "changed")
"#;

#[test]
fn the_terminal_is_given_back_while_it_is_stopped_and_taken_again() {
    if !have_python("pty") {
        return;
    }
    let site = Site::new();
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", &[UNTIL, STOPPED].concat(), SEALDROP, "top", "--config"]).arg(site.place().config());
    assert_eq!(run(command, b"").ok().trim(), "0 raw restored");
}

/// Runs a program on a terminal of its own until it has ended; prints whether the terminal is as it was, and whether the words after
/// the first were said where they stay.
const PANICKED: &str = r#"
import os, pty, sys, termios
pid, fd = pty.fork()
if pid == 0:
    sys.stdin.readline()
    os.execv(sys.argv[2], sys.argv[2:])
before = termios.tcgetattr(fd)
os.write(fd, b"\n")
shown = b""
try:
    while piece := os.read(fd, 65536):
        shown += piece
except OSError:
    pass
ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
drawn = shown.split(b"\x1b[?1049h", 1)[1]
said = sys.argv[1].encode() in drawn.split(b"\x1b[?1049l", 1)[1]
print(ended, "said" if said else "lost", "restored" if termios.tcgetattr(fd) == before else "changed")
"#;

/// This test's other half is itself, on that terminal.
#[test]
fn a_panic_gives_the_terminal_back_and_is_read() {
    const WORDS: &str = "a panic with the terminal taken";
    const TAKES: &str = "SEALDROP_TEST_TAKES_TERMINAL";
    if std::env::var_os(TAKES).is_some() {
        let _screen = sealdrop::sys::screen::Screen::begin().unwrap();
        panic!("{WORDS}");
    }
    if !have_python("pty") {
        return;
    }
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", PANICKED, WORDS]).arg(std::env::current_exe().unwrap()).env(TAKES, "1");
    command.args(["--exact", "top::a_panic_gives_the_terminal_back_and_is_read", "--nocapture"]);
    assert_eq!(run(command, b"").ok().trim(), "101 said restored");
}

#[test]
fn where_nobody_watches_it_tells_once() {
    let site = Site::new();
    site.partner().put(&site.file("a.dcm", &[b'x'; 2048]), "/radiology/a.dcm");
    let told = site.sealdrop(&["top"]).ok();
    assert!(told.contains("door     ") && told.contains("kept     1 drop;") && !told.contains('\x1b'), "{told}");
    let told = &site.ask(&["top"])[0];
    let page = include_str!("../../docs/cli.md");
    for key in told.as_object().unwrap().keys() {
        assert!(page.contains(&format!("\"{key}\":")), "docs/cli.md does not name `{key}` of top");
    }
    assert_eq!((&told["drops"], &told["uploads"], &told["queue"]), (&1.into(), &0.into(), &0.into()));
    site.sealdrop(&["top", "--sort", "nothing"]).fails_with(2);
}

#[test]
fn who_is_on_and_what_it_does_is_seen() {
    let site = Site::new();
    let mut partner = Wire::open(site.partner());
    let told = &site.ask(&["top"])[0];
    assert_eq!((&told["sessions"][0]["user"], &told["connections"]), (&"partner".into(), &1.into()));
    // OPEN, to write what is made anew, no attributes.
    let open = [&string(b"/radiology/a.dcm")[..], &[0, 0, 0, 0x1a], &[0; 4]].concat();
    let handle = handle(partner.ask(3, &open));
    let told = &site.ask(&["top"])[0];
    assert_eq!(told["sessions"][0]["last"], "uploads /radiology/a.dcm");
    assert_eq!((&told["uploads"], &told["sessions"][0]["uploads"]), (&1.into(), &1.into()));
    assert_eq!(status(partner.ask(4, &handle)), 0);
    let told = site.sealdrop(&["top", "--once"]).ok();
    assert!(told.contains("has sent /radiology/a.dcm") && told.contains("0 uploads in progress"), "{told}");
    drop(partner);
}
