//! `sealdrop backup` and `sealdrop restore`. Of the ledger only the journal is copied, up to a place where the daemon says
//! that it is whole: it only grows, and everything else follows from it. Then the sealed files, with their hard links. So
//! every drop that the copied ledger calls live was there when its file was copied, or had ended by then.
//! Keys are not in it: a backup that holds them opens itself (docs/operations.md, "Backups").

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config;
use crate::ipc::admin::{ToCommand, ToKeeper};
use crate::keeper::who::Who;
use crate::keeper::{audit, names, started};
use crate::sys::durable;

use super::Ending;
use super::admin::{DEFAULT_CONFIG, Daemon, unexpected};
use super::failure::Failure;
use super::say::{Say, count};

/// Written last: without it a backup is not whole.
const MANIFEST: &str = "backup.json";

/// Not in a backup: unfinished uploads and their keys.
const LEFT_OUT: [&str; 2] = [".staging", ".commit"];

/// Copy ledger and sealed files of the running daemon to a directory, consistently
#[derive(clap::Args)]
pub struct Backup {
    #[command(flatten)]
    daemon: Daemon,
    /// Where to: a directory that is empty or not there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Only the ledger: receipts and audit log, without the sealed files
    #[arg(long)]
    ledger_only: bool,
    /// Why, for the audit log
    #[arg(long, alias = "reason", value_name = "WORDS")]
    why: Option<String>,
}

/// Put a backup into a state directory that has no ledger yet
#[derive(clap::Args)]
pub struct Restore {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// The backup
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Why, for the audit log
    #[arg(long, alias = "reason", value_name = "WORDS")]
    why: Option<String>,
}

impl Backup {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        prepare(&self.dir).map_err(|e| failed(&self.dir, &e))?;
        let ToCommand::Backup { state, segment, end, root, checkpoint } =
            (match keeper.ask(&ToKeeper::Backup { why: self.why.clone() })? {
                answer @ ToCommand::Backup { .. } => answer,
                answer => return Err(unexpected(&answer)),
            })
        else {
            return Ok(());
        };
        let events = checkpoint.size;
        let state = PathBuf::from(state);
        let done = self.copy(&state, &segment, end);
        let copied = done.map_err(|e| failed(&self.dir, &e))?;
        let manifest = json!({
            "format": "sealdrop backup 1", "version": env!("CARGO_PKG_VERSION"), "events": events,
            "root": root.to_string(), "files": copied.files, "entries": copied.entries, "ledger_only": self.ledger_only,
        });
        let written = write(&self.dir.join("checkpoint"), checkpoint.note.as_bytes())
            .and_then(|()| write(&self.dir.join("checkpoint.sig"), checkpoint.signature.as_bytes()))
            .and_then(|()| sync(&self.dir))
            .and_then(|()| write(&self.dir.join(MANIFEST), format!("{manifest}\n").as_bytes()))
            .and_then(|()| sync(&self.dir));
        written.map_err(|e| failed(&self.dir, &e))?;
        if say.is_json() {
            say.json(&manifest);
        } else {
            say.line(format_args!(
                "wrote {} and {} to {}; the keys are not in it",
                count(events, "event"),
                count(copied.files, "sealed file"),
                self.dir.display()
            ));
        }
        Ok(())
    }

    fn copy(&self, state: &Path, segment: &str, end: u64) -> io::Result<Copied> {
        let (from, to) = (state.join("ledger"), self.dir.join("ledger"));
        make(&to.join("journal"))?;
        fs::copy(from.join("layout"), to.join("layout"))?;
        copy_if_there(&state.join(names::MARK), &self.dir.join(names::MARK))?;
        let mut segments: Vec<_> = fs::read_dir(from.join("journal"))?.collect::<Result<_, _>>()?;
        segments.sort_by_key(fs::DirEntry::file_name);
        for entry in segments {
            let name = entry.file_name();
            let Some(text) = name.to_str().filter(|name| name.ends_with(".segment") && *name <= segment) else {
                continue;
            };
            let target = to.join("journal").join(text);
            if text == segment {
                let mut part = File::open(entry.path())?.take(end);
                let copied = io::copy(&mut part, &mut File::create(&target)?)?;
                if copied != end {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the journal is shorter than it was"));
                }
            } else {
                fs::copy(entry.path(), &target)?;
            }
        }
        let mut copied = Copied::default();
        if !self.ledger_only {
            copied.tree(&state.join("jails"), &self.dir.join("jails"))?;
        }
        Ok(copied)
    }
}

impl Restore {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let settings = config::load_settings(&self.config).map_err(|e| super::config_failure(&self.config, &e))?;
        let manifest = fs::read_to_string(self.dir.join(MANIFEST)).map_err(|e| {
            Failure::new(format_args!("{} is no backup, or not a whole one: {e}", self.dir.display()))
                .hint(format_args!("its {MANIFEST} is written last"))
        })?;
        let manifest: Value = serde_json::from_str(&manifest).unwrap_or_default();
        if manifest.get("format").and_then(Value::as_str) != Some("sealdrop backup 1") {
            return Err(Failure::new("this backup was written by another sealdrop").into());
        }
        let (state, ledger) = (&settings.state, settings.state.join("ledger"));
        if !state.join("version").exists() {
            return Err(Failure::new(format_args!("{} is no state directory", state.display()))
                .hint("make it with `sealdrop init`, put the keys in their place, then restore")
                .into());
        }
        if ledger.join("journal").exists() || ledger.join("layout").exists() {
            return Err(Failure::new(format_args!("{} holds a ledger already", ledger.display()))
                .hint("stop the daemon and move `ledger` and `jails` aside: nothing is overwritten")
                .into());
        }
        let command = format!("restore of a backup of {} events", manifest["events"]);
        let told = audit::told(&command, self.why.as_deref(), &Who::own());
        let copied = self.copy(state, &ledger, &told).map_err(|e| failed(state, &e))?;
        if say.is_json() {
            say.json(&json!({ "state": state, "events": manifest.get("events"), "files": copied.files }));
        } else {
            say.line(format_args!("restored {} to {}", count(copied.files, "sealed file"), state.display()));
            say.aside("next: `sealdrop fsck` makes the databases anew and holds them against the files, then start the daemon");
        }
        Ok(())
    }

    /// The journal comes last, under another name first: before it, there is no ledger, and this can be begun again.
    fn copy(&self, state: &Path, ledger: &Path, told: &str) -> io::Result<Copied> {
        let mut copied = Copied::default();
        // The daemon records it at its start.
        durable::replace(&state.join(started::RESTORED), told.as_bytes())?;
        copy_if_there(&self.dir.join(names::MARK), &state.join(names::MARK))?;
        let jails = self.dir.join("jails");
        if jails.exists() {
            copied.tree(&jails, &state.join("jails"))?;
        }
        make(ledger)?;
        let passing = ledger.join("journal.restoring");
        if passing.exists() {
            fs::remove_dir_all(&passing)?;
        }
        make(&passing)?;
        for entry in fs::read_dir(self.dir.join("ledger/journal"))? {
            let entry = entry?;
            fs::copy(entry.path(), passing.join(entry.file_name()))?;
        }
        sync(state)?;
        fs::rename(&passing, ledger.join("journal"))?;
        sync(state)?;
        Ok(copied)
    }
}

/// A copy in the making.
#[derive(Default)]
struct Copied {
    /// Files with bytes of their own.
    files: u64,
    /// Their names.
    entries: u64,
    /// Where a file with several names was put first.
    placed: HashMap<(u64, u64), PathBuf>,
}

impl Copied {
    /// Copies users' trees with owners, modes, times and hard links. What goes away meanwhile has ended.
    fn tree(&mut self, jails: &Path, to: &Path) -> io::Result<()> {
        make(to)?;
        let mut folders = vec![(jails.to_owned(), to.to_owned())];
        while let Some((from, to)) = folders.pop() {
            let entries = match fs::read_dir(&from) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            for entry in entries {
                let entry = entry?;
                let (source, target) = (entry.path(), to.join(entry.file_name()));
                let meta = match source.symlink_metadata() {
                    Ok(meta) => meta,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    Err(e) => return Err(e),
                };
                // Further down a folder of that name is a user's own.
                let left_out = from.parent() == Some(jails) && LEFT_OUT.iter().any(|name| entry.file_name() == *name);
                if meta.is_dir() && !left_out {
                    make(&target)?;
                    own(&target, &meta)?;
                    folders.push((source, target));
                } else if meta.is_file() {
                    self.file(&source, &target, &meta)?;
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, to: &Path, meta: &fs::Metadata) -> io::Result<()> {
        let inode = (meta.dev(), meta.ino());
        if let Some(placed) = self.placed.get(&inode) {
            fs::hard_link(placed, to)?;
            self.entries += 1;
            return Ok(());
        }
        match fs::copy(from, to) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        }
        own(to, meta)?;
        let modified = meta.modified()?;
        File::open(to)?.set_times(fs::FileTimes::new().set_modified(modified))?;
        if meta.nlink() > 1 {
            self.placed.insert(inode, to.to_owned());
        }
        (self.files, self.entries) = (self.files + 1, self.entries + 1);
        Ok(())
    }
}

/// Owner and mode; another user's cannot give files away, and restores what will be its own.
fn own(path: &Path, meta: &fs::Metadata) -> io::Result<()> {
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(meta.uid()), Some(meta.gid()))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(meta.mode() & 0o7777))
}

fn make(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn prepare(dir: &Path) -> io::Result<()> {
    make(dir)?;
    match fs::read_dir(dir)?.next() {
        None => Ok(()),
        Some(_) => Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, "it is not empty")),
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Everything that was written to the file system of `dir`.
fn sync(dir: &Path) -> io::Result<()> {
    Ok(nix::unistd::syncfs(File::open(dir)?)?)
}

fn copy_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::read(from) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        read => durable::replace(to, &read?),
    }
}

fn failed(dir: &Path, e: &io::Error) -> Failure {
    Failure::new(format_args!("{}: {e}", dir.display()))
}
