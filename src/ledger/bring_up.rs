//! Bringing one database up to the journal: look what is there, hold what it claims against the journal, replay what it
//! lacks, or move it aside and make it anew. `recovery` decides in which order, and when not to.

use std::fs;
use std::io;
use std::path::Path;

use super::database::{Applied, Database, Fault, Plan};
use super::frame::{Frame, FrameError};
use super::journal::{JournalError, Scan};
use super::live;
use super::merkle::leaf_hash;
use super::month::{self, Month};
use super::recovery::{OpenError, ROOM_BYTES, Recovery, has_room};
use super::snapshot;
use super::store::Options;
use super::veil::Hiding;
use crate::sys::durable;

/// Caches: the live database is asked all the time, a month's hardly.
const LIVE_CACHE: u64 = 64 << 20;
const MONTH_CACHE: u64 = 32 << 20;

/// How many frames one transaction takes when a database catches up.
const REPLAY_STEP: usize = 256;

/// Which database.
#[derive(Clone, Copy)]
pub enum Part {
    Live,
    Month(Month),
}

impl Part {
    pub fn name(self) -> String {
        match self {
            Self::Live => "live".to_owned(),
            Self::Month(month) => month.database(),
        }
    }

    pub fn trees(self) -> &'static [&'static str] {
        match self {
            Self::Live => live::TREES,
            Self::Month(_) => month::TREES,
        }
    }

    pub fn cache(self) -> u64 {
        match self {
            Self::Live => LIVE_CACHE,
            Self::Month(_) => MONTH_CACHE,
        }
    }

    /// What an empty database of this part has applied.
    fn beginning(self, scan: &Scan) -> Result<Applied, OpenError> {
        let first = scan.segments.first().ok_or(OpenError::JournalMissing)?;
        let (log, hash, frames) = match self {
            // Of a journal that was pruned the snapshot stands for what is before it.
            Self::Live => (&first.head.log, &first.head.previous, first.head.first),
            Self::Month(month) => {
                let (frames, _) = scan.frames_of(month.0).ok_or(OpenError::JournalMissing)?;
                let (log, hash) = scan.log_before(month.0).ok_or(OpenError::JournalMissing)?;
                (log, hash, frames)
            }
        };
        Ok(Applied { ledger: first.head.ledger, frames, hash: *hash, log: log.clone() })
    }
}

impl Part {
    /// What an empty database begins with, put into it.
    fn start(self, dir: &Path, scan: &Scan, database: &Database) -> Result<Applied, OpenError> {
        match self {
            Self::Live => start_of_live(&dir.join("journal"), scan, database),
            Self::Month(_) => self.beginning(scan),
        }
    }
}

/// The live database before the first frame there is: empty, or as the snapshot says.
pub fn start_of_live(journal: &Path, scan: &Scan, database: &Database) -> Result<Applied, OpenError> {
    let beginning = Part::Live.beginning(scan)?;
    if beginning.frames == 0 {
        return Ok(beginning);
    }
    let mut snapshots = snapshot::list(journal)?.into_iter();
    match snapshots.find(|snapshot| snapshot.head.applied == beginning) {
        Some(snapshot) => Ok(snapshot.load(database)?),
        None => Err(JournalError::Pruned { first: beginning.frames, wanted: 0 }.into()),
    }
}

/// What stands where a database should be.
pub enum Probe {
    /// It opened; what it holds, if it ever held anything.
    Ready(Box<(Database, Option<Applied>)>),
    Absent,
    Broken(String),
}

impl Probe {
    pub fn applied(&self) -> Option<&Applied> {
        match self {
            Self::Ready(ready) => ready.1.as_ref(),
            _ => None,
        }
    }
}

pub fn probe(dir: &Path, part: Part, scan: &Scan, options: &Options) -> Result<Probe, OpenError> {
    let path = dir.join(part.name());
    if !path.join("db").exists() {
        // A database that was never made, or whose making a crash cut short.
        return Ok(if part.beginning(scan).is_ok_and(|beginning| beginning.frames == scan.next) {
            Probe::Ready(Box::new((open_or_fail(&path, part, dir, options)?, None)))
        } else {
            Probe::Absent
        });
    }
    match Database::open(&path, part.trees(), part.cache()) {
        Ok(database) => match database.applied() {
            Ok(applied) => Ok(Probe::Ready(Box::new((database, applied)))),
            Err(e) => Ok(Probe::Broken(e.to_string())),
        },
        // On a full disk sled fails in many ways; none of them says that the files are bad.
        Err(Fault::Broken(_)) if !has_room(dir, options, ROOM_BYTES / 4) => Err(OpenError::Full),
        Err(Fault::Broken(why)) => Ok(Probe::Broken(why)),
        Err(Fault::Io(e)) if e.kind() == io::ErrorKind::StorageFull => Err(OpenError::Full),
        Err(Fault::Io(source)) => Err(OpenError::Io { path, source }),
    }
}

fn open_or_fail(path: &Path, part: Part, dir: &Path, options: &Options) -> Result<Database, OpenError> {
    Database::open(path, part.trees(), part.cache()).map_err(|fault| match fault {
        _ if !has_room(dir, options, ROOM_BYTES / 4) => OpenError::Full,
        Fault::Broken(why) => OpenError::Io { path: path.to_owned(), source: io::Error::other(why) },
        Fault::Io(source) => OpenError::Io { path: path.to_owned(), source },
    })
}

/// Holds what a database says it applied against the journal, of which `until` frames are its.
pub fn check(name: &str, applied: &Applied, scan: &Scan, until: u64) -> Result<(), OpenError> {
    if scan.segments.first().is_some_and(|segment| segment.head.ledger != applied.ledger) {
        return Err(OpenError::Foreign(name.to_owned()));
    }
    if applied.frames > until {
        let (database, held, written) = (name.to_owned(), applied.frames, until);
        return Err(OpenError::Ahead { database, held, written });
    }
    if scan.hash_before(applied.frames)? == applied.hash { Ok(()) } else { Err(OpenError::Disagree(name.to_owned())) }
}

/// Brings a database to `until` frames: replays what it lacks, makes it anew if need be.
pub fn bring_up(
    dir: &Path,
    part: Part,
    probe: Probe,
    scan: &Scan,
    until: u64,
    found: &mut Vec<Recovery>,
    names: Option<&Hiding>,
) -> Result<(Database, Applied), OpenError> {
    let path = dir.join(part.name());
    let (database, mut applied, broken) = match probe {
        Probe::Ready(ready) => {
            let (database, applied) = *ready;
            let applied = match applied {
                Some(applied) => applied,
                None => part.start(dir, scan, &database)?,
            };
            (database, applied, None)
        }
        Probe::Absent => {
            let database = open_or_fail(&path, part, dir, &Options::default())?;
            let applied = part.start(dir, scan, &database)?;
            (database, applied, Some(("its files were gone".to_owned(), None)))
        }
        Probe::Broken(why) => {
            let aside = move_aside(dir, &part.name()).map_err(|source| OpenError::Io { path: path.clone(), source })?;
            let database = open_or_fail(&path, part, dir, &Options::default())?;
            let applied = part.start(dir, scan, &database)?;
            (database, applied, Some((why, Some(aside))))
        }
    };
    let batches = until.saturating_sub(applied.frames);
    replay(&database, part, scan, &mut applied, until, names)?;
    match broken {
        Some((why, aside)) => found.push(Recovery::Rebuilt { database: part.name(), why, aside, batches }),
        None if batches > 0 => found.push(Recovery::Replayed { database: part.name(), batches }),
        None => {}
    }
    Ok((database, applied))
}

/// Applies the frames from `applied.frames` up to `until`, durably.
pub fn replay(
    database: &Database,
    part: Part,
    scan: &Scan,
    applied: &mut Applied,
    until: u64,
    names: Option<&Hiding>,
) -> Result<(), OpenError> {
    let mut step = Vec::with_capacity(REPLAY_STEP);
    scan.read(applied.frames, until, |head, frame| {
        step.push((Month(head.month), frame));
        if step.len() == REPLAY_STEP { replay_step(database, part, applied, &mut step, names) } else { Ok(()) }
    })?;
    replay_step(database, part, applied, &mut step, names)?;
    Ok(database.flush()?)
}

fn replay_step(
    database: &Database,
    part: Part,
    applied: &mut Applied,
    step: &mut Vec<(Month, Frame)>,
    names: Option<&Hiding>,
) -> Result<(), OpenError> {
    let mut plan = Plan::on(database);
    for (month, frame) in step.drain(..) {
        if frame.entry.first_event != applied.log.size() {
            return Err(OpenError::JournalDamaged { frame: frame.number, why: FrameError::Unlinked });
        }
        match part {
            Part::Live => {
                live::apply(&mut plan, &frame.entry, month.0, names)
                    .map_err(|source| OpenError::Replay { frame: frame.number, source: Box::new(source) })?;
                for event in &frame.entry.events {
                    applied.log.push(leaf_hash(event.as_bytes()));
                }
            }
            Part::Month(_) => month::apply(&mut plan, &frame.entry, &mut applied.log)?,
        }
        plan.keep();
        (applied.frames, applied.hash) = (frame.number + 1, frame.hash);
    }
    database.apply(&plan.finish(applied)?);
    Ok(database.write()?)
}

/// Out of the way, and kept for whoever wants to look.
fn move_aside(dir: &Path, name: &str) -> io::Result<String> {
    for number in 1.. {
        let aside = format!("{name}.broken-{number}");
        if !dir.join(&aside).exists() {
            fs::rename(dir.join(name), dir.join(&aside))?;
            durable::sync_dir(dir)?;
            return Ok(aside);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
