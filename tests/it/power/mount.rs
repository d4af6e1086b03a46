//! A [`Disk`] as a mounted file system, by FUSE: the kernel translates the system calls, and keeps no write back. Locks,
//! leases and permissions are the kernel's own work (`default_permissions`), as on any disk.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, SessionACL, TimeOrNow, WriteFlags,
};
use nix::mount::MntFlags;

use super::disk::{BLOCK, Disk, File, Folder, Kind, Meta, State};

/// Nobody but the kernel changes anything, so it may remember.
const REMEMBERED: Duration = Duration::from_secs(1);

/// Room on the disk: more than anything here needs.
const BLOCKS: u64 = 1 << 21;

/// A disk that is mounted as long as this lives.
pub struct Mounted {
    at: PathBuf,
    session: Option<BackgroundSession>,
}

impl Mounted {
    pub fn new(disk: &Disk, at: &Path) -> Self {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("forgetful".to_owned()), MountOption::DefaultPermissions];
        config.acl = SessionACL::All;
        let served = Served { disk: disk.clone(), listings: Mutex::default() };
        let session = fuser::spawn_mount(served, at, &config).expect("root may mount a FUSE file system");
        Self { at: at.to_owned(), session: Some(session) }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Who has it open still, as a process that is just being killed, does not keep it.
        if let Err(e) = nix::mount::umount2(&self.at, MntFlags::MNT_DETACH) {
            eprintln!("{} stays mounted: {e}", self.at.display());
        }
        drop(self.session.take());
    }
}

struct Served {
    disk: Disk,
    /// What the open directories had when they were opened.
    listings: Mutex<(u64, HashMap<u64, Vec<Listed>>)>,
}

type Listed = (u64, FileType, OsString);

fn errno(e: nix::errno::Errno) -> Errno {
    Errno::from_i32(e as i32)
}

fn attr(state: &State, number: u64) -> Result<FileAttr, nix::errno::Errno> {
    let inode = state.inode(number)?;
    let (kind, size) = match &inode.kind {
        Kind::File(file) => (FileType::RegularFile, file.len),
        Kind::Folder(_) => (FileType::Directory, BLOCK as u64),
    };
    Ok(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: inode.allocated() * (BLOCK as u64 / 512),
        atime: inode.meta.atime,
        mtime: inode.meta.mtime,
        ctime: inode.meta.mtime,
        crtime: inode.meta.mtime,
        kind,
        perm: inode.meta.mode,
        nlink: inode.links + u32::from(kind == FileType::Directory),
        uid: inode.meta.uid,
        gid: inode.meta.gid,
        rdev: 0,
        blksize: BLOCK as u32,
        flags: 0,
    })
}

fn made(request: &Request, mode: u32) -> Meta {
    let now = SystemTime::now();
    Meta { mode: (mode & 0o7777) as u16, uid: request.uid(), gid: request.gid(), atime: now, mtime: now }
}

fn time(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

fn answer_entry(reply: ReplyEntry, found: Result<FileAttr, nix::errno::Errno>) {
    match found {
        Ok(attr) => reply.entry(&REMEMBERED, &attr, Generation(0)),
        Err(e) => reply.error(errno(e)),
    }
}

fn answer_attr(reply: ReplyAttr, found: Result<FileAttr, nix::errno::Errno>) {
    match found {
        Ok(attr) => reply.attr(&REMEMBERED, &attr),
        Err(e) => reply.error(errno(e)),
    }
}

fn answer(reply: ReplyEmpty, done: Result<(), nix::errno::Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(errno(e)),
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer_entry(reply, self.disk.look(|state| attr(state, state.named(parent.0, name)?)));
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer_attr(reply, self.disk.look(|state| attr(state, number.0)));
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let done = self.disk.change(|state| {
            if let Some(size) = size {
                state.set_len(number.0, size)?;
            }
            state.set_meta(number.0, |meta| {
                meta.mode = mode.map_or(meta.mode, |mode| (mode & 0o7777) as u16);
                meta.uid = uid.unwrap_or(meta.uid);
                meta.gid = gid.unwrap_or(meta.gid);
                meta.atime = atime.map_or(meta.atime, time);
                meta.mtime = mtime.map_or(meta.mtime, time);
            })?;
            attr(state, number.0)
        });
        answer_attr(reply, done);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let meta = made(request, mode);
        let done = self.disk.change(|state| {
            let number = state.make(parent.0, name, meta, Kind::Folder(Folder::default()))?;
            attr(state, number)
        });
        answer_entry(reply, done);
    }

    fn create(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        let meta = made(request, mode);
        let done = self.disk.change(|state| {
            let number = state.make(parent.0, name, meta, Kind::File(File::default()))?;
            attr(state, number)
        });
        match done {
            Ok(attr) => reply.created(&REMEMBERED, &attr, Generation(0), FileHandle(0), FopenFlags::empty()),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn link(&self, _: &Request, number: INodeNo, folder: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let done = self.disk.change(|state| {
            state.link(number.0, folder.0, name)?;
            attr(state, number.0)
        });
        answer_entry(reply, done);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.disk.change(|state| state.remove(parent.0, name, false)));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.disk.change(|state| state.remove(parent.0, name, true)));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let keep = flags.contains(RenameFlags::RENAME_NOREPLACE);
        let exchange = flags.contains(RenameFlags::RENAME_EXCHANGE);
        let (from, to) = ((parent.0, name), (to_parent.0, to_name));
        answer(reply, self.disk.change(|state| state.rename(from, to, keep, exchange)));
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk.look(|state| state.read(number.0, offset, size as usize)) {
            Ok(bytes) => reply.data(&bytes),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.disk.change(|state| state.write(number.0, offset, bytes)) {
            Ok(()) => reply.written(bytes.len() as u32),
            Err(e) => reply.error(errno(e)),
        }
    }

    /// Room is not counted here: what `posix_fallocate` promises is kept, and the length is what it changes, unless it is to stay.
    fn fallocate(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        match mode {
            0 => {}
            libc::FALLOC_FL_KEEP_SIZE => return reply.ok(),
            _ => return reply.error(Errno::EOPNOTSUPP),
        }
        let done = self.disk.change(|state| match &state.inode(number.0)?.kind {
            Kind::File(file) if file.len < offset + length => state.set_len(number.0, offset + length),
            _ => Ok(()),
        });
        answer(reply, done);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, data_only: bool, reply: ReplyEmpty) {
        answer(reply, self.disk.change(|state| state.sync_file(number.0, data_only)));
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.disk.change(|state| state.sync_folder(number.0)));
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let listed = self.disk.look(|state| {
            let folder = state.folder(number.0)?;
            let one = |(name, number): (&OsString, &u64)| Ok((*number, attr(state, *number)?.kind, name.clone()));
            folder.names.iter().map(one).collect::<Result<Vec<Listed>, nix::errno::Errno>>()
        });
        match listed {
            Ok(mut listed) => {
                let dots = [".", ".."].map(|name| (number.0, FileType::Directory, name.into()));
                listed.splice(0..0, dots);
                let mut listings = self.listings.lock().expect("no panic while it was held");
                listings.0 += 1;
                let handle = listings.0;
                listings.1.insert(handle, listed);
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(e) => reply.error(errno(e)),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listings = self.listings.lock().expect("no panic while it was held");
        let listed = listings.1.get(&handle.0).map_or(&[][..], Vec::as_slice);
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(listed.len());
        for (at, (number, kind, name)) in listed.iter().enumerate().skip(begin) {
            if reply.add(INodeNo(*number), at as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.listings.lock().expect("no panic while it was held").1.remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(BLOCKS, BLOCKS / 2, BLOCKS / 2, 1 << 20, 1 << 19, BLOCK as u32, 255, BLOCK as u32);
    }
}
