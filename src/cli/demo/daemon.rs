//! A daemon as a child process of the demo or of a test: started, known to be ready because it said so (sd_notify, as
//! to systemd), stopped in order, or killed. It ends with its parent however the parent ends, because it watches its
//! standard input. Nothing here waits by sleeping.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cli::failure::Failure;

/// A running `sealdrop serve`. Dropped, it is killed.
pub struct Daemon {
    child: Child,
    /// Where the daemon reports, and the thread below reports its end.
    reports: UnixDatagram,
    reports_at: PathBuf,
    log: PathBuf,
}

/// A start lays out directories, recovers the ledger and makes a namespace: seconds on a slow machine under load.
const START_MAX: Duration = Duration::from_secs(120);
/// Sessions in flight are drained first.
const STOP_MAX: Duration = Duration::from_secs(60);
/// What the watching thread reports in systemd's place: the daemon's standard output is closed, so it has ended.
const GONE: &[u8] = b"GONE=1";

impl Daemon {
    /// Starts `command` (a `sealdrop serve …`) and returns when it is ready. Its log goes to `log`, appended; the
    /// socket for its reports lies in `dir`.
    pub fn start(mut command: Command, dir: &Path, log: &Path) -> Result<Self, Failure> {
        let cannot = |e: io::Error| Failure::new(format_args!("cannot start the daemon: {e}"));
        let reports_at = dir.join("notify.sock");
        match fs::remove_file(&reports_at) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(cannot(e)),
            _ => {}
        }
        let reports = UnixDatagram::bind(&reports_at).map_err(cannot)?;
        // Connected now: by then somebody may have removed the directory, and the path with it.
        let gone = UnixDatagram::unbound().map_err(cannot)?;
        gone.connect(&reports_at).map_err(cannot)?;
        // The daemon may run as another account than this process; `dir` says who gets near.
        fs::set_permissions(&reports_at, fs::Permissions::from_mode(0o666)).map_err(cannot)?;
        reports.set_read_timeout(Some(START_MAX)).map_err(cannot)?;
        let log_file = File::options().create(true).append(true).open(log).map_err(cannot)?;
        let log_start = log_file.metadata().map_err(cannot)?.len();
        let mut child = command
            .arg("--while-stdin")
            .env("NOTIFY_SOCKET", &reports_at)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()
            .map_err(cannot)?;
        if let Some(mut stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                // It prints nothing there: the read returns when the last holder of the pipe has ended.
                let _ = io::copy(&mut stdout, &mut io::sink());
                let _ = gone.send(GONE);
            });
        }
        let mut daemon = Self { child, reports, reports_at, log: log.to_owned() };
        loop {
            match daemon.next_report() {
                Some(report) if report.starts_with(GONE) => return Err(daemon.why_it_ended(log_start)),
                Some(report) if report.split(|&b| b == b'\n').any(|line| line == b"READY=1") => return Ok(daemon),
                Some(_) => {}
                None => {
                    return Err(Failure::new("the daemon did not get ready in two minutes")
                        .hint(format_args!("its log is {}", daemon.log.display())));
                }
            }
        }
    }

    /// The keeper's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends the keeper a signal: SIGTERM drains, SIGHUP reloads.
    pub fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = i32::try_from(self.pid()).map_err(Failure::new)?;
        kill(Pid::from_raw(pid), signal).map_err(|e| Failure::new(format_args!("cannot signal the daemon: {e}")))
    }

    /// Asks the daemon to end and waits until it has.
    pub fn stop(mut self) -> Result<ExitStatus, Failure> {
        self.signal(Signal::SIGTERM)?;
        self.wait_for_end()
    }

    /// Waits until the daemon has ended, whoever ended it.
    pub fn wait_for_end(&mut self) -> Result<ExitStatus, Failure> {
        let cannot = |e: io::Error| Failure::new(format_args!("cannot wait for the daemon: {e}"));
        self.reports.set_read_timeout(Some(STOP_MAX)).map_err(cannot)?;
        loop {
            match self.next_report() {
                Some(report) if report.starts_with(GONE) => return self.child.wait().map_err(cannot),
                Some(_) => {}
                None => {
                    return Err(Failure::new("the daemon did not end in a minute after it was asked to")
                        .hint(format_args!("its log is {}", self.log.display())));
                }
            }
        }
    }

    /// A failure if the daemon has ended by itself.
    pub fn has_ended(&mut self) -> Option<Failure> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(
            Failure::new(format_args!("the daemon has ended by itself: {status}"))
                .hint(format_args!("its log is {}", self.log.display())),
        )
    }

    /// `None` after the time-out.
    fn next_report(&self) -> Option<Vec<u8>> {
        let mut report = vec![0; 4096];
        loop {
            match self.reports.recv(&mut report) {
                Ok(length) => {
                    report.truncate(length);
                    return Some(report);
                }
                // A signal that came meanwhile, the daemon's own end among them.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    /// The daemon's own words, from the part of the log that this start wrote.
    fn why_it_ended(&mut self, log_start: u64) -> Failure {
        let _ = self.child.wait();
        let mut text = String::new();
        let read = File::open(&self.log).and_then(|mut log| {
            io::Seek::seek(&mut log, io::SeekFrom::Start(log_start))?;
            log.read_to_string(&mut text)
        });
        if read.is_err() || text.trim().is_empty() {
            return Failure::new("the daemon ended at once and said nothing");
        }
        let says = |prefix: &str| text.lines().rev().find_map(|line| line.strip_prefix(prefix)).map(str::to_owned);
        let failure = Failure::new(format_args!(
            "the daemon did not start: {}",
            says("error: ").unwrap_or_else(|| text.trim().to_owned())
        ));
        match says("hint: ") {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its own kernel-side end follows: the gate and every session die with the keeper's socket.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.reports_at);
    }
}
