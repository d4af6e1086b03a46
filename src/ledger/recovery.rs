//! Opening: what a crash, a power cut, a full disk or a hand in the files may have left, and what is done about it.
//! The journal says what is acknowledged; a database that lacks some of it is brought up to it, one that cannot be read
//! is made anew from it, and one that claims more than it, or something else, is not believed: the ledger then refuses
//! to open. The cases are a table in docs/ledger.md, "Opening".

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::ballast::Ballast;
use super::bring_up::{Part, Probe, bring_up, check, probe};
use super::database::{Applied, Database, DatabaseError, Fault, PATIENCE};
use super::frame::{FrameError, SegmentHead, genesis};
use super::journal::{Journal, JournalError, Scan};
use super::live::Refusal;
use super::merkle::Frontier;
use super::month::{Month, Start};
use super::prune;
use super::snapshot::SnapshotError;
use super::store::Options;
use crate::sys::durable;
use crate::sys::files::Lock;

/// The layout this daemon writes and the newest it reads. One number for the whole directory.
const LAYOUT: &str = "sealdrop ledger 1\n";

/// What sled and the journal may need to open and to commit a few times.
pub const ROOM_BYTES: u64 = 8 << 20;

/// What opening had to do beyond opening; each is worth an event and a line to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// The end of the journal was half-written: a batch that was never acknowledged.
    TornTail { bytes: u64 },
    /// A database lacked the last batches; they were added from the journal.
    Replayed { database: String, batches: u64 },
    /// A database could not be used. It was moved aside and made anew from the journal.
    Rebuilt { database: String, why: String, aside: Option<String>, batches: u64 },
    /// The disk was so full that the ballast had to go before the ledger could open.
    BallastReleased,
}

impl std::fmt::Display for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TornTail { bytes } => {
                write!(f, "cut {bytes} bytes of an unacknowledged batch off the end of the journal")
            }
            Self::Replayed { database, batches } => {
                write!(f, "added {batches} batches from the journal to the database `{database}`")
            }
            Self::Rebuilt { database, why, aside, batches } => {
                write!(f, "rebuilt the database `{database}` from {batches} batches of the journal: {why}")?;
                aside.as_ref().map_or(Ok(()), |aside| write!(f, "; the old files are in `{aside}`"))
            }
            Self::BallastReleased => write!(f, "released the ballast: the disk is full"),
        }
    }
}

/// Why the ledger does not open. What was acknowledged is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the ledger's files: {path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("another process has the ledger open")]
    InUse,
    #[error("this build cannot keep its promise to survive a power cut: {0}")]
    Guard(io::Error),
    #[error("the ledger was written by a newer sealdrop (layout `{0}`)")]
    Layout(String),
    #[error("the disk is too full to open the ledger")]
    Full,
    #[error("the journal is gone, but the databases are there")]
    JournalMissing,
    #[error("the journal: {0}")]
    Journal(#[from] JournalError),
    #[error("the journal is damaged at batch {frame}, which was acknowledged: {why}")]
    JournalDamaged { frame: u64, why: FrameError },
    #[error("the database `{database}` holds {held} batches, the journal only {written}")]
    Ahead { database: String, held: u64, written: u64 },
    #[error("the database `{0}` and the journal tell different stories")]
    Disagree(String),
    #[error("the database `{0}` belongs to another ledger")]
    Foreign(String),
    #[error("what stands for the pruned months: {0}")]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("the journal's batch {frame} does not apply: {source}")]
    Replay { frame: u64, source: Box<Refusal> },
}

impl OpenError {
    /// What the operator can do.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::InUse => "is another `sealdrop serve` running on this state directory?",
            Self::Guard(_) => "use a build in which `sync_file_range` is sealdrop's own (docs/ledger.md)",
            Self::Layout(_) => "start the newer version again, or restore the backup made before the upgrade",
            Self::Full => "free some megabytes on the file system of the ledger, then start again",
            Self::JournalMissing
            | Self::JournalDamaged { .. }
            | Self::Ahead { .. }
            | Self::Disagree(_)
            | Self::Foreign(_)
            | Self::Snapshot(SnapshotError::Damaged { .. })
            | Self::Journal(JournalError::Damaged { .. } | JournalError::Gap { .. }) => {
                "files of the ledger were changed, lost or mixed from different times; keep a copy of the directory as \
                 evidence and restore the whole of it from one backup"
            }
            _ => return None,
        })
    }
}

/// An open ledger, all of its parts at the same batch.
pub struct Opened {
    pub lock: Lock,
    pub ballast: Ballast,
    pub journal: Journal,
    pub live: Database,
    pub month: Month,
    pub current: Database,
    pub starts: BTreeMap<Month, Start>,
    pub applied: Applied,
    /// The log before the first event that is kept.
    pub pruned: Frontier,
    pub found: Vec<Recovery>,
}

/// Opens the ledger in `dir`, makes it if there is none.
pub fn open(dir: &Path, options: &Options) -> Result<Opened, OpenError> {
    durable::check_guard().map_err(OpenError::Guard)?;
    let failed = |source| OpenError::Io { path: dir.to_owned(), source };
    let is_new = make_dir(dir).map_err(failed)?;
    let lock = lock(dir)?;
    let known_layout = check_layout(dir)?;
    let mut found = Vec::new();

    let ballast = Ballast::in_dir(dir, options.ballast_bytes);
    if !has_room(dir, options, ROOM_BYTES) && ballast.is_held() {
        ballast.release().map_err(failed)?;
        found.push(Recovery::BallastReleased);
    }
    // sled writes while it opens, and what it leaves when it cannot keeps it from opening later.
    if !has_room(dir, options, ROOM_BYTES / 4) {
        return Err(OpenError::Full);
    }

    let journal_dir = dir.join("journal");
    prune::finish_begun(dir)?;
    let mut scan = Scan::of(&journal_dir)?;
    if scan.segments.is_empty() {
        if known_layout || (!is_new && dir.join("live").exists()) {
            return Err(OpenError::JournalMissing);
        }
        let mut ledger = [0; 16];
        getrandom::fill(&mut ledger).map_err(|e| failed(io::Error::other(e)))?;
        let month = Month::of((options.clock)()).0;
        let head = SegmentHead { ledger, month, first: 0, previous: genesis(&ledger), log: Frontier::empty() };
        Journal::create(&journal_dir, &head)?;
        scan = Scan::of(&journal_dir)?;
    }
    let (Some(first), Some(last)) = (scan.segments.first(), scan.segments.last()) else {
        return Err(OpenError::JournalMissing);
    };

    let month = Month(last.head.month);
    let parts = [Part::Live, Part::Month(month)];
    let mut probes = Vec::new();
    for part in parts {
        probes.push(probe(dir, part, &scan, options)?);
    }

    // Frames below this number were acknowledged, or at least durable: they must be there.
    let held = probes.iter().filter_map(Probe::applied).map(|applied| applied.frames).max().unwrap_or(0);
    match &scan.tail {
        Some(tail) if held.max(tail.settled) > scan.next => {
            return Err(OpenError::JournalDamaged { frame: scan.next, why: tail.why });
        }
        Some(tail) => found.push(Recovery::TornTail { bytes: tail.bytes }),
        None => {}
    }
    for (part, probe) in parts.iter().zip(&probes) {
        if let Some(applied) = probe.applied() {
            check(&part.name(), applied, &scan, scan.next)?;
        }
    }

    let journal = Journal::resume(&journal_dir, &scan, last)?;
    let mut ready = Vec::new();
    for (part, probe) in parts.iter().zip(probes) {
        ready.push(bring_up(dir, *part, probe, &scan, scan.next, &mut found, options.names.as_deref())?);
    }
    let (Some((current, month_applied)), Some((live, applied))) = (ready.pop(), ready.pop()) else {
        return Err(OpenError::JournalMissing);
    };
    if month_applied != applied {
        return Err(OpenError::Disagree(current.name));
    }

    if !live.flush_is_guarded()? {
        return Err(OpenError::Guard(io::Error::other("sled's flush does not come through sys/durable")));
    }
    if !known_layout {
        write_layout(dir).map_err(failed)?;
    }
    // Without room for it the ledger still works; the committer tries again.
    if has_room(dir, options, ROOM_BYTES + ballast.bytes()) {
        let _ = ballast.take();
    }
    let mut starts = BTreeMap::new();
    starts.insert(Month(first.head.month), Start { frame: first.head.first, event: first.head.log.size() });
    for head in scan.segments.iter().map(|segment| &segment.head) {
        let start = Start { frame: head.first, event: head.log.size() };
        starts.entry(Month(head.month)).or_insert(start);
    }
    let pruned = first.head.log.clone();
    Ok(Opened { lock, ballast, journal, live, month, current, starts, applied, pruned, found })
}

/// Opens a month that is over. Its part of the journal does not change any more.
pub fn open_past(dir: &Path, month: Month) -> Result<Database, OpenError> {
    let scan = Scan::of(&dir.join("journal"))?;
    let part = Part::Month(month);
    let (_, until) = scan.frames_of(month.0).ok_or(OpenError::JournalMissing)?;
    let probe = probe(dir, part, &scan, &Options::default())?;
    if let Some(applied) = probe.applied() {
        check(&part.name(), applied, &scan, until)?;
    }
    let mut found = Vec::new();
    // Nothing that a month keeps is sealed.
    let (database, _) = bring_up(dir, part, probe, &scan, until, &mut found, None)?;
    for recovery in found {
        tracing::warn!("ledger: {recovery}");
    }
    Ok(database)
}

/// Makes the database of a month that begins now.
pub fn open_new(dir: &Path, month: Month) -> Result<Database, OpenError> {
    let part = Part::Month(month);
    Database::open(&dir.join(part.name()), part.trees(), part.cache()).map_err(|fault| match fault {
        Fault::Broken(why) => OpenError::Io { path: dir.join(part.name()), source: io::Error::other(why) },
        Fault::Io(source) => OpenError::Io { path: dir.join(part.name()), source },
    })
}

/// Whether the directory was made just now.
fn make_dir(dir: &Path) -> io::Result<bool> {
    let is_new = !dir.exists();
    if is_new {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        dir.parent().map_or(Ok(()), durable::sync_dir)?;
    }
    Ok(is_new)
}

fn lock(dir: &Path) -> Result<Lock, OpenError> {
    let path = dir.join("lock");
    let failed = |source| OpenError::Io { path: path.clone(), source };
    let begun = Instant::now();
    loop {
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        match file.and_then(Lock::take).map_err(failed)? {
            Some(lock) => return Ok(lock),
            None if begun.elapsed() < PATIENCE => std::thread::sleep(PATIENCE / 200),
            None => return Err(OpenError::InUse),
        }
    }
}

/// Whether the layout file is there; an error if it is of a layout this daemon does not know.
fn check_layout(dir: &Path) -> Result<bool, OpenError> {
    let path = dir.join("layout");
    match fs::read_to_string(&path) {
        Ok(text) if text == LAYOUT => Ok(true),
        Ok(text) => Err(OpenError::Layout(crate::names::escaped(text.trim_end().as_bytes()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(OpenError::Io { path, source }),
    }
}

/// The last step of making a ledger: before it, a crash leaves something that is simply made again.
fn write_layout(dir: &Path) -> io::Result<()> {
    let passing = dir.join("layout.new");
    fs::write(&passing, LAYOUT)?;
    File::open(&passing)?.sync_all()?;
    fs::rename(&passing, dir.join("layout"))?;
    durable::sync_dir(dir)
}

/// An unknown amount of room is taken for enough: what needs it will say.
pub fn has_room(dir: &Path, options: &Options, bytes: u64) -> bool {
    (options.free_bytes)(dir).map_or(true, |free| free >= bytes)
}
