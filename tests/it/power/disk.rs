//! A disk that forgets what was not synced: a file system in memory with two states, the live one that processes see and
//! the durable one that a power cut is sure to leave. It promises as little as POSIX allows and no file system we know
//! undercuts:
//!
//! * Bytes and length of a file are durable when that file was synced (`fsync`, `fdatasync`); its owner, mode and times
//!   when it was synced with `fsync`. Until then any 4 KiB block may be there as it is, as it was at the last sync, as it
//!   was in between, or torn at 512 bytes; the length may be any it had; what was never written reads as zeros.
//! * A name (new, changed or removed) is durable when its directory was synced, and not by a sync of the file. Until
//!   then any of the changes may be there or not, but of one name never a later without the earlier ones.
//! * A rename is one step in a directory and for directories. A file's rename across directories may be half there: under
//!   both names, never under none.
//!
//! Everything is shared and copied on write, so a copy of the whole state costs little: [`Disk::film`] keeps one after
//! each step.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use nix::errno::Errno;

mod loss;

pub use loss::{Dice, Loss};

pub const BLOCK: usize = 4096;
pub const ROOT: u64 = 1;

/// So many earlier contents of a block are remembered between two syncs.
const VERSIONS_MAX: usize = 8;

type Block = Arc<[u8; BLOCK]>;
/// A block that was never written is all zeros.
type Version = Option<Block>;

#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub atime: SystemTime,
    pub mtime: SystemTime,
}

#[derive(Clone)]
pub struct Inode {
    pub meta: Meta,
    /// What `meta` was at the last sync, then what it was since; empty if it is durable.
    metas: Vec<Meta>,
    pub links: u32,
    pub kind: Kind,
}

#[derive(Clone)]
pub enum Kind {
    File(File),
    Folder(Folder),
}

#[derive(Clone, Default)]
pub struct File {
    pub len: u64,
    blocks: BTreeMap<u64, Block>,
    /// The length at the last sync, then those since; empty if it is durable.
    lens: Vec<u64>,
    /// The same for each block that was changed.
    dirty: BTreeMap<u64, Vec<Version>>,
}

#[derive(Clone, Default)]
pub struct Folder {
    pub names: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
}

/// A change of names that is not durable: for a rename two, the new name first.
#[derive(Clone)]
struct Step {
    changes: Vec<Change>,
    /// All or nothing. Else the first may be there without the others.
    whole: bool,
}

#[derive(Clone)]
struct Change {
    folder: u64,
    name: OsString,
    to: Option<u64>,
}

#[derive(Clone)]
pub struct State {
    inodes: HashMap<u64, Arc<Inode>>,
    next: u64,
    steps: Vec<Step>,
    /// What the world outside has heard by now.
    heard: BTreeSet<String>,
}

/// A disk under power, shared between the file system that serves it and the test that will cut it.
#[derive(Clone)]
pub struct Disk(Arc<(Mutex<Machine>, Condvar)>);

struct Machine {
    state: State,
    /// After so many more changes the power goes.
    fuse: Option<u64>,
    dark: bool,
    film: Option<Vec<State>>,
}

impl Disk {
    pub fn new(state: State) -> Self {
        let machine = Machine { state, fuse: None, dark: false, film: None };
        Self(Arc::new((Mutex::new(machine), Condvar::new())))
    }

    /// The power goes now; what is on the disk at this moment.
    pub fn cut(&self) -> State {
        let mut machine = self.machine();
        machine.dark = true;
        machine.state.clone()
    }

    /// The power goes after so many more changes.
    pub fn cut_after(&self, changes: u64) {
        self.machine().fuse = Some(changes);
    }

    /// Keeps the state after each change from now on.
    pub fn film(&self) {
        let mut machine = self.machine();
        machine.film = Some(vec![machine.state.clone()]);
    }

    /// What was filmed.
    pub fn frames(&self) -> Vec<State> {
        self.machine().film.take().expect("a film was begun")
    }

    /// The world outside heard this, unless the power was gone before.
    pub fn hear(&self, what: &str) {
        let mut machine = self.machine();
        if !machine.dark {
            machine.state.heard.insert(what.to_owned());
            let state = machine.state.clone();
            machine.film.iter_mut().for_each(|film| film.push(state.clone()));
        }
    }

    /// Waits until the power is gone, or `done` at one of the [knocks](Self::knock).
    pub fn wait_until_dark_or(&self, done: impl Fn() -> bool) {
        let mut machine = self.machine();
        while !machine.dark && !done() {
            machine = self.0.1.wait(machine).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn knock(&self) {
        let _machine = self.machine();
        self.0.1.notify_all();
    }

    /// Something that changes nothing.
    pub fn look<T>(&self, what: impl FnOnce(&State) -> Result<T, Errno>) -> Result<T, Errno> {
        let machine = self.machine();
        if machine.dark { Err(Errno::EIO) } else { what(&machine.state) }
    }

    /// Something that changes the live state or, as a sync does, the durable one.
    pub fn change<T>(&self, what: impl FnOnce(&mut State) -> Result<T, Errno>) -> Result<T, Errno> {
        let mut machine = self.machine();
        let machine = &mut *machine;
        if machine.fuse == Some(0) {
            machine.dark = true;
            self.0.1.notify_all();
        }
        if machine.dark {
            return Err(Errno::EIO);
        }
        let done = what(&mut machine.state)?;
        if let Some(left) = &mut machine.fuse {
            *left -= 1;
        }
        if let Some(film) = &mut machine.film {
            film.push(machine.state.clone());
        }
        Ok(done)
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for State {
    /// An empty root directory.
    fn default() -> Self {
        let now = SystemTime::now();
        let root =
            Inode::new(Meta { mode: 0o700, uid: 0, gid: 0, atime: now, mtime: now }, Kind::Folder(Folder::default()));
        Self {
            inodes: HashMap::from([(ROOT, Arc::new(root))]),
            next: ROOT + 1,
            steps: Vec::new(),
            heard: BTreeSet::new(),
        }
    }
}

impl Inode {
    fn new(meta: Meta, kind: Kind) -> Self {
        Self { meta, metas: Vec::new(), links: 0, kind }
    }

    pub fn allocated(&self) -> u64 {
        match &self.kind {
            Kind::File(file) => file.blocks.len() as u64,
            Kind::Folder(_) => 1,
        }
    }
}

// What processes do.
impl State {
    pub fn inode(&self, number: u64) -> Result<&Inode, Errno> {
        self.inodes.get(&number).map(Arc::as_ref).ok_or(Errno::ESTALE)
    }

    fn inode_mut(&mut self, number: u64) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(&number).map(Arc::make_mut).ok_or(Errno::ESTALE)
    }

    pub fn folder(&self, number: u64) -> Result<&Folder, Errno> {
        match &self.inode(number)?.kind {
            Kind::Folder(folder) => Ok(folder),
            Kind::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn file_mut(&mut self, number: u64) -> Result<(&mut File, &mut Meta), Errno> {
        let inode = self.inode_mut(number)?;
        match &mut inode.kind {
            Kind::File(file) => Ok((file, &mut inode.meta)),
            Kind::Folder(_) => Err(Errno::EISDIR),
        }
    }

    pub fn named(&self, folder: u64, name: &OsStr) -> Result<u64, Errno> {
        self.folder(folder)?.names.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// A new file or folder. With its name comes its inode as it was made: empty, with this owner and mode.
    pub fn make(&mut self, folder: u64, name: &OsStr, meta: Meta, kind: Kind) -> Result<u64, Errno> {
        if self.folder(folder)?.names.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let number = self.next;
        self.next += 1;
        self.inodes.insert(number, Arc::new(Inode::new(meta, kind)));
        self.apply(true, vec![Change { folder, name: name.to_owned(), to: Some(number) }])?;
        Ok(number)
    }

    pub fn link(&mut self, number: u64, folder: u64, name: &OsStr) -> Result<(), Errno> {
        if self.folder(folder)?.names.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.apply(true, vec![Change { folder, name: name.to_owned(), to: Some(number) }])
    }

    pub fn remove(&mut self, folder: u64, name: &OsStr, is_folder: bool) -> Result<(), Errno> {
        let number = self.named(folder, name)?;
        match (&self.inode(number)?.kind, is_folder) {
            (Kind::Folder(inner), true) if !inner.names.is_empty() => return Err(Errno::ENOTEMPTY),
            (Kind::File(_), true) => return Err(Errno::ENOTDIR),
            (Kind::Folder(_), false) => return Err(Errno::EISDIR),
            _ => {}
        }
        self.apply(true, vec![Change { folder, name: name.to_owned(), to: None }])
    }

    pub fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), keep: bool, exchange: bool) -> Result<(), Errno> {
        let moved = self.named(from.0, from.1)?;
        let there = self.named(to.0, to.1).ok();
        if keep && there.is_some() {
            return Err(Errno::EEXIST);
        }
        if there == Some(moved) {
            return Ok(());
        }
        if let (Some(there), false) = (there, exchange)
            && let Kind::Folder(folder) = &self.inode(there)?.kind
            && !folder.names.is_empty()
        {
            return Err(Errno::ENOTEMPTY);
        }
        let back = if exchange { Some(there.ok_or(Errno::ENOENT)?) } else { None };
        let is_folder = matches!(self.inode(moved)?.kind, Kind::Folder(_));
        let change = |(folder, name): (u64, &OsStr), to| Change { folder, name: name.to_owned(), to };
        self.apply(is_folder || exchange || from.0 == to.0, vec![change(to, Some(moved)), change(from, back)])
    }

    fn apply(&mut self, whole: bool, changes: Vec<Change>) -> Result<(), Errno> {
        let now = SystemTime::now();
        for Change { folder, name, to } in &changes {
            let inode = self.inode_mut(*folder)?;
            inode.meta.mtime = now;
            let Kind::Folder(folder) = &mut inode.kind else { return Err(Errno::ENOTDIR) };
            let before = match to {
                Some(number) => folder.names.insert(name.clone(), *number),
                None => folder.names.remove(name),
            };
            if let Some(number) = to {
                self.inode_mut(*number)?.links += 1;
            }
            if let Some(number) = before {
                self.inode_mut(number)?.links -= 1;
            }
        }
        self.steps.push(Step { changes, whole });
        Ok(())
    }

    pub fn set_meta(&mut self, number: u64, change: impl FnOnce(&mut Meta)) -> Result<(), Errno> {
        let inode = self.inode_mut(number)?;
        let before = inode.meta.clone();
        change(&mut inode.meta);
        if before != inode.meta {
            inode.metas.push(before);
        }
        Ok(())
    }

    pub fn read(&self, number: u64, offset: u64, size: usize) -> Result<Vec<u8>, Errno> {
        let Kind::File(file) = &self.inode(number)?.kind else { return Err(Errno::EISDIR) };
        let size = usize::try_from(file.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(size);
        let mut bytes = vec![0; size];
        each_block(offset, size, |index, at, range| {
            if let Some(block) = file.blocks.get(&index) {
                bytes[range.clone()].copy_from_slice(&block[at..at + range.len()]);
            }
        });
        Ok(bytes)
    }

    pub fn write(&mut self, number: u64, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let (file, meta) = self.file_mut(number)?;
        each_block(offset, bytes.len(), |index, at, range| {
            file.touch(index);
            let block = file.blocks.entry(index).or_insert_with(|| Arc::new([0; BLOCK]));
            Arc::make_mut(block)[at..at + range.len()].copy_from_slice(&bytes[range]);
        });
        let end = offset + bytes.len() as u64;
        if end > file.len {
            file.lens.push(file.len);
            file.len = end;
        }
        meta.mtime = SystemTime::now();
        Ok(())
    }

    pub fn set_len(&mut self, number: u64, len: u64) -> Result<(), Errno> {
        let (file, meta) = self.file_mut(number)?;
        if len == file.len {
            return Ok(());
        }
        if len < file.len {
            let full = len / BLOCK as u64;
            let rest = (len % BLOCK as u64) as usize;
            let beyond: Vec<u64> = file.blocks.range(full + u64::from(rest > 0)..).map(|(index, _)| *index).collect();
            for index in beyond {
                file.touch(index);
                file.blocks.remove(&index);
            }
            if rest > 0 && file.blocks.contains_key(&full) {
                file.touch(full);
                file.blocks.get_mut(&full).map(Arc::make_mut).into_iter().for_each(|block| block[rest..].fill(0));
            }
        }
        file.lens.push(file.len);
        file.len = len;
        meta.mtime = SystemTime::now();
        Ok(())
    }
}

// What makes things durable.
impl State {
    /// `fsync`, or `fdatasync` if only the bytes and the length are meant.
    pub fn sync_file(&mut self, number: u64, data_only: bool) -> Result<(), Errno> {
        let inode = self.inode_mut(number)?;
        if !data_only {
            inode.metas.clear();
        }
        if let Kind::File(file) = &mut inode.kind {
            file.lens.clear();
            file.dirty.clear();
        }
        Ok(())
    }

    /// `fsync` of a directory: its names, and its own owner and mode.
    pub fn sync_folder(&mut self, number: u64) -> Result<(), Errno> {
        self.inode_mut(number)?.metas.clear();
        // From the newest on: what must be durable, and what came before it under the same names.
        let mut names = HashSet::new();
        let mut durable = vec![0; self.steps.len()];
        for (at, step) in self.steps.iter().enumerate().rev() {
            let wanted =
                |change: &Change| change.folder == number || names.contains(&(change.folder, change.name.clone()));
            durable[at] = match step.changes.iter().rposition(wanted) {
                None => 0,
                Some(_) if step.whole => step.changes.len(),
                Some(last) => last + 1,
            };
            names.extend(step.changes[..durable[at]].iter().map(|change| (change.folder, change.name.clone())));
        }
        let mut left = Vec::new();
        for (mut step, count) in std::mem::take(&mut self.steps).into_iter().zip(durable) {
            for change in step.changes.drain(..count) {
                self.persist(change)?;
            }
            if !step.changes.is_empty() {
                left.push(step);
            }
        }
        self.steps = left;
        Ok(())
    }

    fn persist(&mut self, change: Change) -> Result<(), Errno> {
        let Kind::Folder(folder) = &mut self.inode_mut(change.folder)?.kind else { return Err(Errno::ENOTDIR) };
        match change.to {
            Some(number) => folder.durable.insert(change.name, number),
            None => folder.durable.remove(&change.name),
        };
        Ok(())
    }
}

impl File {
    /// Before a block is changed: remembers what it was.
    fn touch(&mut self, index: u64) {
        let now = self.blocks.get(&index).cloned();
        let versions = self.dirty.entry(index).or_default();
        if versions.len() == VERSIONS_MAX {
            versions.remove(1);
        }
        versions.push(now);
    }
}

/// The blocks that `size` bytes at `offset` touch: each one's index, where in it, and which of the bytes.
fn each_block(offset: u64, size: usize, mut each: impl FnMut(u64, usize, std::ops::Range<usize>)) {
    let mut done = 0;
    while done < size {
        let position = offset + done as u64;
        let at = (position % BLOCK as u64) as usize;
        let count = (BLOCK - at).min(size - done);
        each(position / BLOCK as u64, at, done..done + count);
        done += count;
    }
}
