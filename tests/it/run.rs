//! Running a program to its end, with input, a time limit and its output kept: `ok` and `fails` say what was expected and
//! show everything when it was not so.

use std::cell::RefCell;
use std::io::Write;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;

/// What a program did.
#[derive(Debug)]
pub struct Ran {
    pub line: String,
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// No client needs longer for what the tests ask, on a machine of 2 slow cores; one that hangs is ended so that its test
/// fails with its name.
const SECONDS_MAX: &str = "300";

/// Runs `command` with `input` on its standard input.
pub fn run(command: Command, input: &[u8]) -> Ran {
    let line = format!("{command:?}");
    let mut child = start(command);
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read everything says so by its exit status.
        let _ = stdin.write_all(input);
    }
    finish(line, child)
}

thread_local! {
    /// Who wants to know what this thread starts.
    static TOLD: RefCell<Option<Sender<u32>>> = const { RefCell::new(None) };
}

/// Tells the process group of every program that `work` runs, for somebody to kill.
pub fn telling<T>(to: Sender<u32>, work: impl FnOnce() -> T) -> T {
    TOLD.set(Some(to));
    let done = work();
    TOLD.set(None);
    done
}

/// Starts `command` under the time limit, with all three streams piped.
fn start(command: Command) -> Child {
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after=5", SECONDS_MAX]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        limited.current_dir(dir);
    }
    let child = limited
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    // `timeout` leads a group of its own, with the program in it.
    if let Some(told) = TOLD.with_borrow(Clone::clone) {
        // Who does not listen any more has heard enough.
        let _ = told.send(child.id());
    }
    child
}

fn finish(line: String, child: Child) -> Ran {
    let output = child.wait_with_output().expect("the program's output");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ran { line, status: output.status, stdout: output.stdout, stderr }
}

impl Ran {
    /// It must have succeeded; what it printed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "{}", self.told());
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// It must have failed; what it said about that.
    #[track_caller]
    pub fn fails(self) -> String {
        assert!(!self.status.success(), "this should have failed: {}", self.told());
        self.stderr
    }

    /// It must have ended with this exit code; what it said.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> String {
        assert_eq!(self.status.code(), Some(code), "{}", self.told());
        self.stderr
    }

    pub fn told(&self) -> String {
        format!(
            "{}\n{}\n--- stdout\n{}\n--- stderr\n{}",
            self.line,
            self.status,
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        )
    }
}
