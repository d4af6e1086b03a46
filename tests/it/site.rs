//! A place to test at: the demo's directory with a daemon of its own, on a loopback address of its own, and methods that
//! read as sentences. Every daemon is a child that is killed by its process id when its `Site` is dropped, and that ends
//! by itself when this process does.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU8, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sealdrop::cli::demo::daemon::Daemon;
use sealdrop::cli::demo::place::{PARTNER, Place};
use serde_json::Value;

use crate::power::{Disk, Mounted};
use crate::run::{Ran, run};
use crate::user::User;

/// The program under test.
pub const SEALDROP: &str = env!("CARGO_BIN_EXE_sealdrop");
/// `nobody` and `nogroup`, on Debian and wherever else the kernel's overflow ids are the accounts'.
const NOBODY: u32 = 65534;

pub struct Site {
    place: Place,
    daemon: Option<Daemon>,
    /// The daemon runs as an ordinary user though this process is root.
    demoted: bool,
    /// What runs the daemon, such as `setpriv` with its options; empty: nothing between.
    under: Vec<String>,
    /// What is mounted at the state directory, if it lies on a file system of its own.
    mounted: Option<Mounted>,
    dir: tempfile::TempDir,
}

impl Site {
    /// A running server with a partner, a managed recipient `radiology` and a sealed one, `lab`.
    pub fn new() -> Self {
        Self::prepared().started()
    }

    /// The same, run by an ordinary user; by this process's own if that is not root.
    pub fn unprivileged() -> Self {
        let mut site = Self::prepared();
        if nix::unistd::geteuid().is_root() {
            site.demoted = true;
            site.under = ["setpriv", &format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]
                .map(str::to_owned)
                .to_vec();
            site.give_to_nobody();
            // The build directory need not be open to others. The link comes last: the program stays whose it is.
            let program = site.dir.path().join("sealdrop");
            if fs::hard_link(SEALDROP, &program).is_err() {
                fs::copy(SEALDROP, &program).expect("a copy of the program");
            }
        }
        site.started()
    }

    /// The same, run by another program that executes it.
    pub fn under(words: &[&str]) -> Self {
        let mut site = Self::prepared();
        site.under = words.iter().map(|word| (*word).to_owned()).collect();
        site.started()
    }

    /// From the next start on, the daemon is run by another program that executes it.
    pub fn run_under(&mut self, words: &[&str]) {
        self.under = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Puts a line at the top of the settings.
    pub fn set(&self, line: &str) {
        let path = self.place.config();
        let text = fs::read_to_string(&path).expect("the settings");
        let key = line.split('=').next().unwrap_or_default();
        let others: Vec<&str> = text.lines().filter(|line| !line.starts_with(key)).collect();
        fs::write(&path, format!("{line}\n{}\n", others.join("\n"))).expect("the settings can be written");
    }

    /// Everything made, nothing started.
    pub fn prepared() -> Self {
        Self::made(|_| None)
    }

    /// A running server whose state directory is this disk from the beginning.
    pub fn on(disk: &Disk) -> Self {
        Self::made(|state| {
            fs::create_dir(state).expect("a mount point");
            Some(Mounted::new(disk, state))
        })
        .started()
    }

    fn made(mount: impl FnOnce(&Path) -> Option<Mounted>) -> Self {
        let dir = tempfile::Builder::new().prefix("sealdrop-it-").tempdir().expect("a temporary directory");
        let mounted = mount(&dir.path().join("state"));
        let place = Place::make(dir.path(), own_address()).expect("the demo's place");
        fs::create_dir(dir.path().join("work")).expect("a work directory");
        Self { place, daemon: None, demoted: false, under: Vec::new(), mounted, dir }
    }

    /// The machine stops, as when the power goes, and stands there with another disk. Nothing is started.
    pub fn change_disk(&mut self, disk: &Disk) {
        self.signal(Signal::SIGKILL);
        self.wait_for_end();
        // First the old one must go.
        self.mounted = None;
        self.mounted = Some(Mounted::new(disk, &self.place.state()));
    }

    fn started(mut self) -> Self {
        self.start().expect("the daemon starts");
        self
    }

    /// Starts the daemon; an error is what it said.
    pub fn start(&mut self) -> Result<(), sealdrop::cli::failure::Failure> {
        let program = if self.demoted { self.dir.path().join("sealdrop") } else { PathBuf::from(SEALDROP) };
        let mut command = match self.under.split_first() {
            None => Command::new(program),
            Some((runner, words)) => {
                let mut command = Command::new(runner);
                command.args(words).arg(program);
                command
            }
        };
        command.args(["serve", "--config"]).arg(self.place.config());
        self.daemon = Some(Daemon::start(command, self.place.dir(), &self.log_file())?);
        Ok(())
    }

    /// Other accounts may pass, to the socket and to a program of their own beside it.
    pub fn let_others_pass(&self) {
        fs::set_permissions(self.place.dir(), fs::Permissions::from_mode(0o711)).expect("root's own directory");
        let program = self.place.dir().join("sealdrop");
        fs::copy(SEALDROP, &program).expect("a copy of the program");
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("root's own file");
    }

    fn give_to_nobody(&self) {
        for path in everything_below(self.dir.path()) {
            std::os::unix::fs::lchown(&path, Some(NOBODY), Some(NOBODY)).expect("root may give files away");
        }
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Who pushes.
    pub fn partner(&self) -> User<'_> {
        User::new(self, PARTNER)
    }

    pub fn recipient(&self, name: &'static str) -> User<'_> {
        User::new(self, name)
    }

    /// A new file on the client's side, outside the server's state.
    pub fn file(&self, name: impl AsRef<OsStr>, content: &[u8]) -> PathBuf {
        let path = self.work().join(name.as_ref());
        fs::write(&path, content).expect("a local file");
        path
    }

    /// The clients' own directory.
    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Runs an admin command against this server.
    pub fn sealdrop(&self, words: &[&str]) -> Ran {
        let mut command = Command::new(SEALDROP);
        command.args(words).arg("--config").arg(self.place.config());
        run(command, b"")
    }

    /// Runs an admin command with `--json` and reads what it says, a document a line.
    pub fn ask(&self, words: &[&str]) -> Vec<Value> {
        let said = self.sealdrop(&[words, &["--json"]].concat()).ok();
        said.lines().map(|line| serde_json::from_str(line).expect("a JSON document a line")).collect()
    }

    pub fn status(&self) -> Value {
        self.ask(&["status"]).pop().expect("a status")
    }

    /// The audit log.
    pub fn events(&self) -> Vec<Value> {
        self.ask(&["audit"])
    }

    /// Events of one kind whose path ends so.
    pub fn events_of(&self, kind: &str, path: &str) -> Vec<Value> {
        let mut events = self.events();
        events.retain(|event| {
            event["kind"] == kind && (path.is_empty() || event["path"].as_str().is_some_and(|p| p.ends_with(path)))
        });
        events
    }

    /// Waits until the audit log has so many events of a kind.
    pub fn wait_for_event(&self, kind: &str, count: usize) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        // Each question is a process and a conversation with the daemon: there is nothing to wait for in between.
        while self.events_of(kind, "").len() < count {
            assert!(std::time::Instant::now() < deadline, "no {kind} in a minute");
        }
    }

    /// Refused operations whose path ends so.
    pub fn refusals(&self, path: &str) -> Vec<Value> {
        let mut events = self.events();
        events.retain(|event| {
            event["outcome"] == "refused"
                && (path.is_empty() || event["path"].as_str().is_some_and(|p| p.ends_with(path)))
        });
        events
    }

    /// Expires everything, as if a long time had passed.
    pub fn age(&self) -> Value {
        self.ask(&["sweep", "--now", "+400d"]).pop().expect("what was swept")
    }

    /// Where in the state directory these bytes are, in a name or in a file's content.
    pub fn state_contains(&self, marker: &[u8]) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for path in everything_below(&self.place.state()) {
            let in_name = contains(path.as_os_str().as_bytes(), marker);
            let in_content = path.is_file() && fs::read(&path).is_ok_and(|content| contains(&content, marker));
            if in_name || in_content {
                found.push(path);
            }
        }
        found
    }

    /// Where the server keeps `user`'s `path`.
    pub fn on_disk(&self, user: &str, path: &str) -> PathBuf {
        self.place.state().join("jails").join(user).join(path.trim_start_matches('/'))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.place.dir().join("daemon.log")
    }

    pub fn is_running(&self) -> bool {
        self.daemon.is_some()
    }

    pub fn keeper(&self) -> u32 {
        self.daemon.as_ref().expect("a running daemon").pid()
    }

    /// SIGHUP, SIGTERM and others, to the keeper.
    pub fn signal(&self, signal: Signal) {
        self.daemon.as_ref().expect("a running daemon").signal(signal).expect("the daemon is there");
    }

    /// Waits until the daemon has ended.
    pub fn wait_for_end(&mut self) -> std::process::ExitStatus {
        let status = self.daemon.take().expect("a running daemon").wait_for_end().expect("the daemon ends");
        self.wait_until_the_port_is_free();
        status
    }

    /// The kernel ends the gate of a killed keeper when it gets to it; the port is the last that goes.
    fn wait_until_the_port_is_free(&self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while let Err(e) = std::net::TcpListener::bind(self.place.listen()) {
            assert!(std::time::Instant::now() < deadline, "the port stays taken: {e}");
            std::thread::yield_now();
        }
    }

    /// An orderly stop and a start.
    pub fn restart(&mut self) {
        let status = self.daemon.take().expect("a running daemon").stop().expect("the daemon ends");
        assert!(status.success(), "the daemon ended with {status}\n{}", self.log());
        self.start().expect("the daemon starts again");
    }

    /// An orderly stop, and a start of a daemon that kills itself at this place (`keeper::crash`). The start after that
    /// is an ordinary one again.
    pub fn crash_at(&mut self, place: &str) {
        self.restart_with(&format!("SEALDROP_CRASH_AT={place}"));
    }

    /// The same, but there it stops and stays, so that a test can see the state it is in.
    pub fn stop_at(&mut self, place: &str) {
        self.restart_with(&format!("SEALDROP_STOP_AT={place}"));
    }

    fn restart_with(&mut self, variable: &str) {
        self.signal(Signal::SIGTERM);
        self.wait_for_end();
        let usual = std::mem::replace(&mut self.under, vec!["env".to_owned(), variable.to_owned()]);
        let started = self.start();
        self.under = usual;
        started.expect("the daemon starts");
    }

    /// Waits until the keeper has stopped itself.
    pub fn wait_until_stopped(&self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let stat = format!("/proc/{}/stat", self.keeper());
        // The state follows the name in parentheses (proc(5)).
        while !fs::read_to_string(&stat).expect("the daemon is there").contains(") T ") {
            assert!(std::time::Instant::now() < deadline, "the daemon goes on");
            std::thread::yield_now();
        }
    }

    /// `kill -9` of the keeper, and a start.
    pub fn crash_keeper(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_for_end();
        self.start().expect("the daemon starts after a crash");
    }

    /// `kill -9` of the gate: the daemon ends. And a start.
    pub fn crash_gate(&mut self) {
        let gate = self.status()["pids"]["gate"].as_u64().expect("the gate's process id");
        kill_hard(gate);
        let status = self.wait_for_end();
        assert!(!status.success(), "a daemon without a gate has failed");
        self.start().expect("the daemon starts after a crash");
    }

    /// The sessions of this server: the children of its gate.
    pub fn sessions(&self) -> Vec<u64> {
        let gate = self.status()["pids"]["gate"].as_u64().expect("the gate's process id");
        children(gate)
    }

    /// Waits until these sessions have ended.
    pub fn wait_for_end_of(&self, sessions: &[u64]) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while self.sessions().iter().any(|session| sessions.contains(session)) {
            assert!(std::time::Instant::now() < deadline, "a session is still there after a minute");
        }
    }

    /// `kill -9` of every session.
    pub fn kill_sessions(&self) {
        let sessions = self.sessions();
        assert!(!sessions.is_empty(), "there is a session to kill");
        sessions.into_iter().for_each(kill_hard);
    }

    /// Every file below the state directory with its content, but those that change by themselves.
    pub fn snapshot(&self, below: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        everything_below(&self.place.state().join(below))
            .into_iter()
            .filter(|path| path.is_file())
            .map(|path| (path.clone(), fs::read(&path).expect("a readable file")))
            .collect()
    }

    /// Nothing that outsiders may read or write, nothing that the sessions' ids own outside their staging.
    pub fn assert_private(&self) {
        for path in everything_below(&self.place.state()) {
            let meta = path.symlink_metadata().expect("metadata");
            if meta.is_symlink() {
                panic!("{} is a symbolic link", path.display());
            }
            // What init publishes on purpose, and sealed files: one inode in the trees of its sender and its recipients,
            // who have no group in common. The directories above are closed.
            let jails = self.place.state().join("jails");
            let public = path.extension() == Some(OsStr::new("pub")) || meta.is_file() && path.starts_with(jails);
            assert!(public || meta.permissions().mode() & 0o007 == 0, "{} is open to others", path.display());
            let staged = path.components().any(|part| part.as_os_str() == ".staging");
            assert!(staged || meta.uid() == self.owner(), "{} belongs to {}", path.display(), meta.uid());
        }
    }

    fn owner(&self) -> u32 {
        if self.demoted { NOBODY } else { nix::unistd::geteuid().as_raw() }
    }
}

/// A test that failed shows what the server had to say.
impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}", self.log());
        }
    }
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

pub fn kill_hard(pid: u64) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
    kill(pid, Signal::SIGKILL).expect("the process is there");
}

/// Direct children of a process, as the kernel lists them.
pub fn children(pid: u64) -> Vec<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().expect("a process id")).collect()
}

pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The directory itself and all it holds.
pub fn everything_below(dir: &Path) -> Vec<PathBuf> {
    let mut all = vec![dir.to_owned()];
    let mut next = 0;
    while let Some(path) = all.get(next).cloned() {
        next += 1;
        if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            // What goes away while we look is not there.
            all.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    all
}

/// Content of `size` bytes that repeats nowhere within reach, begins with a readable marker and is the same each time.
pub fn content(marker: &str, size: usize) -> Vec<u8> {
    let mut bytes = marker.as_bytes().to_vec();
    let mut state = 0x243f_6a88_85a3_08d3_u64;
    while bytes.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_be_bytes()[..4]);
    }
    bytes.truncate(size);
    bytes
}

/// An address in 127.0.0.0/8 that no other site has, in this process or beside it: so tests run at the same time on one
/// port number, and a restart finds its port free.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [low, high, ..] = std::process::id().to_le_bytes();
    let third = NEXT.fetch_add(1, Ordering::Relaxed);
    // 127.0.0.x is for others on this machine.
    SocketAddr::from((Ipv4Addr::new(127, (high & 0x7f) | 0x80, low, third.max(1)), 2222))
}

/// Whether the stock client is here. In CI a missing one is a failure; elsewhere the test is skipped and says so.
pub fn have(program: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .any(|dir| dir.join(program).is_file());
    missing_unless(found, program)
}

/// The same for a module of Debian's python3.
pub fn have_python(module: &str) -> bool {
    let found = Path::new("/usr/bin/python3").exists() && {
        let output = Command::new("/usr/bin/python3").args(["-c", &format!("import {module}")]).output();
        output.is_ok_and(|output: Output| output.status.success())
    };
    missing_unless(found, &format!("python3-{module}"))
}

/// The same for a client from npm, which scripts/test installs.
pub fn have_node(module: &str) -> bool {
    have("node") && missing_unless(node_modules().join(module).is_dir(), module)
}

/// Where scripts/test puts what tests/node/package.json names: below the build directory.
pub fn node_modules() -> PathBuf {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR"));
    built.parent().expect("the build directory").join("node/node_modules")
}

fn missing_unless(found: bool, what: &str) -> bool {
    assert!(found || std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{what} is not installed: run scripts/test");
    if !found {
        eprintln!("skipped: {what} is not installed (scripts/test installs it)");
    }
    found
}
