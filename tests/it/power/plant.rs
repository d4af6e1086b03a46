//! A server on a forgetful disk, with clients that push to it, and what has to be true of it after each power cut. What a
//! file has to contain follows from its name, so whatever is found can be judged without knowing its history.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use sealdrop::cli::demo::place::RADIOLOGY;
use serde_json::Value;

use super::cuts::EXPIRING;
use super::disk::{Disk, Loss, State};
use crate::site::{Site, content, everything_below};
use crate::user::quoted;

/// In every file that is pushed, and nowhere on the server's disk.
const MARKER: &str = "MARKER^POWER^1984";

pub struct Plant {
    pub site: Site,
    pub disk: Disk,
    /// Audit lines that were read: nobody may unsay them.
    witnessed: Vec<String>,
    /// Paths whose receipt was verified after a cut.
    verified: BTreeSet<String>,
}

/// A file's name, `word-SIZE.dcm`, and by it its content. Versions of one file differ in the number before the dash.
pub fn bytes_of(name: &str) -> Vec<u8> {
    let name = name.split(".~").next().expect("a first part");
    let size = name.split(['-', '.']).nth(1).and_then(|size| size.parse().ok());
    content(&format!("{MARKER} {name} "), size.expect("a name that says its size"))
}

/// What a newer version of the file called `name` holds.
pub fn newer_than(name: &str) -> Vec<u8> {
    content(&format!("{MARKER} newer {name} "), bytes_of(name).len())
}

impl Plant {
    /// The machine is new: nothing was synced but by `init` and the daemon itself.
    pub fn new() -> Self {
        Self::on(Disk::new(State::default()))
    }

    pub fn on(disk: Disk) -> Self {
        Self { site: Site::on(&disk), disk, witnessed: Vec::new(), verified: BTreeSet::new() }
    }

    pub fn local(&self, name: &str) -> PathBuf {
        self.site.file(name, &bytes_of(name))
    }

    /// Pushes a file into a folder; if the client hears OK, the world has heard its path.
    pub fn push(&self, folder: &str, name: &str) -> bool {
        let path = format!("{folder}/{name}");
        let ran = self.site.partner().sftp(format!("put {} {path}", quoted(&self.local(name))));
        if ran.status.success() {
            self.disk.hear(&path);
        }
        ran.status.success()
    }

    /// The power goes, at the latest, when all of `work` is done; with it goes everything that runs.
    pub fn cut_during<T: Send>(&mut self, work: Vec<impl FnOnce(&Self) -> T + Send>) -> State {
        let this = &*self;
        let left = AtomicUsize::new(work.len());
        std::thread::scope(|scope| {
            for one in work {
                let left = &left;
                scope.spawn(move || {
                    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one(this)));
                    left.fetch_sub(1, Ordering::Relaxed);
                    this.disk.knock();
                    done.map(drop).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                });
            }
            this.disk.wait_until_dark_or(|| left.load(Ordering::Relaxed) == 0);
            let state = this.disk.cut();
            this.site.signal(nix::sys::signal::Signal::SIGKILL);
            state
        })
    }

    /// The power goes as soon as the keeper has stopped itself where it was told to (`Site::stop_at`), while `work` waits
    /// for an answer that never comes.
    pub fn cut_while<T: Send>(&mut self, work: impl FnOnce(&Self) -> T + Send) -> State {
        let this = &*self;
        std::thread::scope(|scope| {
            let working = scope.spawn(|| work(this));
            this.site.wait_until_stopped();
            let state = this.disk.cut();
            this.site.signal(nix::sys::signal::Signal::SIGKILL);
            working.join().expect("the client ends");
            state
        })
    }

    /// What follows is another future than the one that was looked at.
    pub fn forget(&mut self) {
        self.witnessed.clear();
        self.verified.clear();
    }

    /// The machine comes up again with what the cut left.
    #[track_caller]
    pub fn come_up(&mut self, state: &State, loss: Loss) {
        self.replace_disk(state, loss);
        self.site.start().expect("the daemon starts after a power cut");
    }

    /// The same, and nothing is started.
    pub fn replace_disk(&mut self, state: &State, loss: Loss) {
        self.disk = Disk::new(state.after(loss));
        self.site.change_disk(&self.disk);
    }

    /// Everything that must be true after a cut that left `state`.
    #[track_caller]
    pub fn check(&mut self, state: &State) {
        let events = self.audit();
        assert!(events.iter().any(|event| event["kind"] == "crash-found"), "the restart says that it found a crash");
        let committed = paths_of(&events, "upload-committed");
        let heard: Vec<&str> = state.heard().iter().map(String::as_str).collect();
        for path in &heard {
            assert!(committed.contains_key(*path), "{path} was acknowledged and is not in the log");
        }
        // What is delivered opens, is whole, and is in the log. What was acknowledged is delivered.
        let inbox = self.pull("/inbox/partner");
        for (name, bytes) in &inbox {
            let base = name.split(".~").next().expect("a first part");
            let pushed = [bytes_of(base), newer_than(base)];
            assert!(pushed.contains(bytes), "{name} is delivered and is not what was pushed");
            let path = format!("/radiology/{base}");
            assert!(committed.contains_key(&path), "{path} is delivered and not in the log");
        }
        let delivered = |name: &str| inbox.keys().filter(|found| found.split(".~").next() == Some(name)).count();
        for (path, count) in &committed {
            let Some(name) = path.strip_prefix("/radiology/") else { continue };
            assert_eq!(delivered(name), *count, "{path} is in the log so often, and delivered: {:?}", inbox.keys());
        }
        for path in heard {
            self.check_receipt(path);
        }
        for user in ["partner", RADIOLOGY] {
            let left = everything_below(&self.site.on_disk(user, "/.commit")).split_off(1);
            assert!(left.is_empty(), "left of a commit: {left:?}");
        }
        self.site.assert_private();
    }

    /// After a power cut in a sweep, which had `begun` in the ledger, and then another.
    #[track_caller]
    pub fn check_expired(&mut self, begun: bool) {
        let site = &self.site;
        if begun {
            // Whatever the clock says now: what began to expire is nobody's any more.
            for name in site.recipient(RADIOLOGY).delivered() {
                site.recipient(RADIOLOGY).sftp(format!("get /inbox/partner/{name} late")).fails();
            }
        }
        site.age();
        assert!(site.recipient(RADIOLOGY).delivered().is_empty(), "something is left");
        for name in EXPIRING {
            assert_eq!(site.events_of("expired", name).len(), 1, "{name} expires once in the log");
        }
        let made = site.events_of("shred-key-made", "").len();
        assert_eq!(site.events_of("shred-key-destroyed", "").len(), made, "each key is destroyed once in the log");
        let state = self.disk.cut();
        self.come_up(&state, Loss::Everything);
        assert!(self.site.recipient(RADIOLOGY).delivered().is_empty(), "expired and back");
        let keys = std::fs::read_dir(self.site.place().state().join("keys/shred")).expect("the keys");
        assert_eq!(keys.count(), 0, "a shred key is left");
        assert!(self.site.partner().get("/shared/stays-70000.dcm") == bytes_of("stays-70000.dcm"));
    }

    /// The log goes on where it was: what was read of it before stands, and the numbers have no gap.
    fn audit(&mut self) -> Vec<Value> {
        let text = self.site.sealdrop(&["audit", "--json"]).ok();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let common = lines.iter().zip(&self.witnessed).take_while(|(now, before)| now == before).count();
        assert_eq!(common, self.witnessed.len(), "a line of the audit log that was read is gone or another");
        let events: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert!(events.iter().zip(0..).all(|(event, n)| event["n"].as_u64() == Some(n)), "a gap in the audit log");
        self.witnessed = lines;
        events
    }

    /// Everything in a folder of the recipient's, by name.
    fn pull(&self, remote: &str) -> BTreeMap<String, Vec<u8>> {
        let to = self.site.work().join(format!("pulled-{}", crate::user::unique()));
        std::fs::create_dir(&to).expect("a directory");
        let names = self.site.recipient(RADIOLOGY).delivered();
        let lines: Vec<String> = names.iter().map(|name| format!("get {remote}/{name} {}/", quoted(&to))).collect();
        self.site.recipient(RADIOLOGY).sftp(lines.join("\n")).ok();
        let read = |name: String| (name.clone(), std::fs::read(to.join(&name)).expect("what was pulled"));
        let pulled = names.into_iter().map(read).collect();
        std::fs::remove_dir_all(&to).expect("removed");
        pulled
    }

    /// It has a receipt that `ssh-keygen` verifies, and which names the content. Once: that a receipt stays needs no more
    /// than that the ledger does.
    fn check_receipt(&mut self, path: &str) {
        if !self.verified.insert(path.to_owned()) {
            return;
        }
        let receipt = self.site.partner().verified_receipt(path);
        let size = bytes_of(path.rsplit('/').next().expect("a name")).len();
        // In a shared folder a name is what was put there last.
        let shared = path.starts_with("/shared/");
        assert!(shared || receipt.contains(&format!("\nsize {size}\n")), "{path}: {receipt}");
    }

    /// Uploads that were not acknowledged: delivered all the same, or continued, or sent anew, as the client finds it.
    #[track_caller]
    pub fn complete(&self, folder: &str, names: &[&str]) {
        let delivered = self.site.recipient(RADIOLOGY).delivered();
        for name in names.iter().filter(|name| !delivered.iter().any(|there| there == *name)) {
            let local = self.local(name);
            let path = format!("{folder}/{name}");
            // A client that finds part of its file goes on; one that finds nothing, or all of it, begins anew. What the power
            // cut took of an upload shows when somebody goes on with it: then that fails, and STAT says what is left.
            let size = bytes_of(name).len();
            let attempt = || {
                let word = if self.listed_size(&path).is_some_and(|there| there < size) { "reput" } else { "put" };
                self.site.partner().sftp(format!("{word} {} {path}", quoted(&local)))
            };
            let first = attempt();
            if !first.status.success() {
                attempt().ok();
            }
            let bytes = self.site.recipient(RADIOLOGY).get(&format!("/inbox/partner/{name}"));
            assert!(bytes == bytes_of(name), "{path} was completed, and is not what was pushed");
        }
    }

    fn listed_size(&self, path: &str) -> Option<usize> {
        let ran = self.site.partner().sftp(format!("ls -l {path}"));
        let listed = String::from_utf8_lossy(&ran.stdout).into_owned();
        listed.lines().last().filter(|_| ran.status.success())?.split_whitespace().nth(4)?.parse().ok()
    }

    /// Reads all of the disk, so once at the end of a story.
    pub fn assert_no_plaintext(&self) {
        let found = self.site.state_contains(MARKER.as_bytes());
        assert!(found.is_empty(), "plaintext on disk: {found:?}");
    }
}

fn paths_of(events: &[Value], kind: &str) -> BTreeMap<String, usize> {
    let mut paths = BTreeMap::new();
    for event in events.iter().filter(|event| event["kind"] == kind && event["outcome"] == "done") {
        *paths.entry(event["path"].as_str().expect("a path").to_owned()).or_default() += 1;
    }
    paths
}
