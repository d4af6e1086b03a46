//! A committed file gets another envelope in place: the body is not touched, and whatever crashes in between, it has the old
//! envelope or the new one. 8 KiB are not written at once by any disk, so the new envelope is first noted, durably, under the
//! drop's name in `rewrap/`; a start that finds the note writes it again.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use super::delivery::COMMIT;
use super::desk::Refusal;
use super::expiry::drop_of;
use super::state::STAGING;
use super::{Keeper, crash};
use crate::ledger::DropRecord;
use crate::names::DropId;
use crate::seal::{Envelope, HEAD_LEN, HEADER_LEN, Head};
use crate::sys::durable;
use crate::sys::files::{self, Mode, OFlag};

const DIR: &str = "rewrap";
/// As a commit leaves a file, and as its owner may open it for writing.
const COMMITTED: Mode = Mode::from_bits_truncate(0o444);
const WRITABLE: Mode = Mode::from_bits_truncate(0o644);

/// Gives the drop the envelope that `change` makes of the present one; `None` leaves it. Whether it was changed. The caller
/// has the sender's turn: so the ledger's paths stay true, and whoever read half of an envelope looks again after it.
pub fn replace(
    keeper: &Keeper,
    record: &DropRecord,
    change: impl FnOnce(&Head, &Envelope) -> Result<Option<Envelope>, Refusal>,
) -> Result<bool, Refusal> {
    let (file, head, envelope) = open(keeper, record)?;
    let Some(changed) = change(&head, &envelope)? else { return Ok(false) };
    let bytes = changed.to_bytes();

    // 1. The note, durable. A crash: the file is as it was, and the next start gives it the new envelope.
    let note = note(keeper, record.drop, &bytes)?;
    crash::point("rewrap-noted");

    // 2. The envelope. A crash, while it is written or before it is durable: the same.
    write(&file, &bytes)?;
    crash::point("rewrap-written");

    // 3. The note goes. A crash before that is durable: what is there is written once more.
    fs::remove_file(&note)?;
    crash::point("rewrap-ended");
    Ok(true)
}

/// At start, before anybody is let in: what a crash cut in two is finished.
pub fn mend(keeper: &Keeper) -> Result<u32, Refusal> {
    let dir = keeper.state.dir().join(DIR);
    let entries = match fs::read_dir(&dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut mended = 0;
    for entry in entries {
        let path = entry?.path();
        let drop: Option<DropId> = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        if let Some(drop) = drop
            && let Some(record) = keeper.ledger.drop_record(&drop)?
            && record.state.holds_bytes()
            && let Some(file) = find(keeper, &record)?
        {
            let bytes = fs::read(&path)?;
            Envelope::parse(&bytes)?;
            write(&file, &bytes)?;
            mended += 1;
        }
        // One that never got its name, or of a drop that is gone.
        fs::remove_file(&path)?;
    }
    durable::sync_dir(&dir)?;
    Ok(mended)
}

fn note(keeper: &Keeper, drop: DropId, bytes: &[u8]) -> Result<PathBuf, Refusal> {
    let dir = keeper.state.dir().join(DIR);
    if !dir.is_dir() {
        fs::DirBuilder::new().mode(0o700).create(&dir)?;
        durable::sync_dir(keeper.state.dir())?;
    }
    let path = dir.join(drop.to_string());
    durable::replace(&path, bytes)?;
    Ok(path)
}

/// Durable when it returns. The time that the file shows is its sender's, and stays.
fn write(file: &File, envelope: &[u8]) -> Result<(), Refusal> {
    let mtime = files::facts(file.as_fd())?.mtime;
    let writer = File::from(writable(file)?);
    writer.write_all_at(envelope, HEAD_LEN as u64)?;
    files::set_times(writer.as_fd(), None, Some(mtime))?;
    Ok(files::sync(writer.as_fd())?)
}

/// Root may write what nobody may; another account opens its own file by a mode that it has for that moment.
fn writable(file: &File) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK;
    match files::reopen(file.as_fd(), flags) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            files::set_mode(file.as_fd(), WRITABLE)?;
            let opened = files::reopen(file.as_fd(), flags);
            files::set_mode(file.as_fd(), COMMITTED)?;
            opened
        }
        opened => opened,
    }
}

/// A drop's file, with what it begins with.
pub fn open(keeper: &Keeper, record: &DropRecord) -> Result<(File, Head, Envelope), Refusal> {
    let file = find(keeper, record)?;
    let file = file.ok_or_else(|| Refusal::machine(format!("the file of drop {} is not there", record.drop)))?;
    let mut header = vec![0; HEADER_LEN];
    file.read_exact_at(&mut header, 0)?;
    let (head, envelope) = header.split_at(HEAD_LEN);
    let (head, envelope) = (Head::parse(head)?, Envelope::parse(envelope)?);
    if head.drop_id() != record.drop {
        return Err(Refusal::machine("the file is another drop's"));
    }
    Ok((file, head, envelope))
}

/// Any of a drop's names leads to its file. A crash between a rename and its record leaves it elsewhere than the ledger
/// says: then it is looked for.
fn find(keeper: &Keeper, record: &DropRecord) -> Result<Option<File>, Refusal> {
    let own = record.unlinked.is_none().then_some((&record.sender, &record.path));
    let delivered = record.deliveries.iter().filter(|d| d.unlinked.is_none()).map(|d| (&d.user, &d.path));
    let names = own.into_iter().chain(delivered);
    let mut trees = Vec::new();
    for (user, path) in names {
        match keeper.state.tree(user) {
            Ok(tree) => trees.push((tree, path)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e.into()),
        }
    }
    for (tree, path) in &trees {
        if let Some(file) = open_if(tree.as_fd(), path.relative(), record.drop)? {
            return Ok(Some(file));
        }
    }
    for (tree, _) in &trees {
        if let Some(file) = find_below(tree.as_fd(), Path::new(""), record.drop)? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// The file below `dir`, if it is this drop's.
pub fn open_if(dir: BorrowedFd<'_>, rel: &Path, drop: DropId) -> Result<Option<File>, Refusal> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    match files::open_beneath(dir, rel, flags, Mode::empty()) {
        Ok(file) => {
            let file = File::from(file);
            Ok((drop_of(&file).ok().flatten() == Some(drop)).then_some(file))
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The depth is bounded by `VirtualPath::MAX_DEPTH`.
fn find_below(dir: BorrowedFd<'_>, rel: &Path, drop: DropId) -> Result<Option<File>, Refusal> {
    let dir: OwnedFd = files::open_dir_beneath(dir, rel)?;
    for entry in files::list(dir.as_fd())? {
        let name = OsString::from_vec(entry?.name);
        if name == STAGING || name == COMMIT {
            continue;
        }
        let found = match files::facts_at(dir.as_fd(), &name).map(|facts| facts.kind) {
            Ok(files::Kind::Folder) => find_below(dir.as_fd(), Path::new(&name), drop)?,
            Ok(files::Kind::File) => open_if(dir.as_fd(), Path::new(&name), drop)?,
            _ => None,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
