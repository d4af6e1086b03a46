//! Files and directories, always relative to a descriptor. What a client named is resolved only beneath a tree, never
//! through a symbolic link, and never by a path that could mean something else a moment later. Also the few file
//! operations whose exact meaning the product's promises rest on: durability, linking what is complete, and knowing
//! that nobody can write any more.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::Once;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OpenHow, RenameFlags, ResolveFlag, fcntl};
use nix::sys::stat::{FileStat, SFlag, UtimensatFlags, fstat, fstatat, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags};

pub use nix::fcntl::OFlag;
pub use nix::sys::stat::Mode;

/// What `fstat` says, in the words the callers use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub kind: Kind,
    pub device: u64,
    pub inode: u64,
    pub links: u64,
    pub uid: u32,
    pub gid: u32,
    /// Permission bits only.
    pub mode: u32,
    pub size: u64,
    /// Unix seconds.
    pub atime: i64,
    pub mtime: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    Other,
}

/// /dev/null, for a standard descriptor that must lead nowhere.
pub fn null() -> io::Result<OwnedFd> {
    Ok(nix::fcntl::open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Opens a directory of the daemon's own by its path.
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    Ok(nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Opens `rel` beneath `dir`. No component may be a symbolic link or a magic link, or lead out of `dir`, or onto
/// another file system; the empty path is `dir` itself. `mode` counts only with `O_CREAT`.
pub fn open_beneath(dir: BorrowedFd<'_>, rel: &Path, flags: OFlag, mode: Mode) -> io::Result<OwnedFd> {
    let creates = flags.intersects(OFlag::O_CREAT | OFlag::O_TMPFILE & !OFlag::O_DIRECTORY);
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(if creates { mode } else { Mode::empty() }).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    );
    let rel = if rel.as_os_str().is_empty() { Path::new(".") } else { rel };
    loop {
        // EAGAIN: a directory on the way was renamed at that moment and the kernel could not be sure; ask again.
        match nix::fcntl::openat2(dir, rel, how) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            other => return Ok(other?),
        }
    }
}

/// Opens the directory `rel` beneath `dir` for reading and for naming things in it.
pub fn open_dir_beneath(dir: BorrowedFd<'_>, rel: &Path) -> io::Result<OwnedFd> {
    open_beneath(dir, rel, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())
}

/// The directory that holds `rel`, opened beneath `dir`, with `rel`'s last name.
pub fn open_parent_beneath<'r>(dir: BorrowedFd<'_>, rel: &'r Path) -> io::Result<(OwnedFd, &'r OsStr)> {
    let name = rel.file_name().ok_or(Errno::EINVAL)?;
    Ok((open_dir_beneath(dir, rel.parent().unwrap_or(Path::new("")))?, name))
}

/// Makes directory `name` in `parent` with exactly this mode and owner, durable in `parent`, and opens it.
/// A crash before the owner is set leaves an empty directory only the daemon can enter.
pub fn make_dir(parent: BorrowedFd<'_>, name: &OsStr, mode: Mode, owner: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    mkdirat(parent, name, Mode::S_IRWXU)?;
    let made = open_dir_beneath(parent, Path::new(name))?;
    if let Some((uid, gid)) = owner {
        set_owner(made.as_fd(), uid, gid)?;
    }
    set_mode(made.as_fd(), mode)?;
    // Before its name: one that is there after a power cut has the owner it should have.
    sync(made.as_fd())?;
    sync(parent)?;
    Ok(made)
}

/// Opens directory `rel` beneath `dir`, making what is missing on the way as [`make_dir`] does.
pub fn make_dirs_beneath(
    dir: BorrowedFd<'_>,
    rel: &Path,
    mode: Mode,
    owner: Option<(u32, u32)>,
) -> io::Result<OwnedFd> {
    let mut at = open_dir_beneath(dir, Path::new(""))?;
    for component in rel.components() {
        let name = match component {
            Component::Normal(name) => name,
            Component::CurDir => continue,
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => return Err(Errno::EXDEV.into()),
        };
        at = match open_dir_beneath(at.as_fd(), Path::new(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match make_dir(at.as_fd(), name, mode, owner) {
                    // Another made it in between.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        open_dir_beneath(at.as_fd(), Path::new(name))?
                    }
                    other => other?,
                }
            }
            other => other?,
        };
    }
    Ok(at)
}

/// Facts about what `fd` is open on.
pub fn facts(fd: BorrowedFd<'_>) -> io::Result<Facts> {
    Ok(Facts::from(fstat(fd)?))
}

/// Facts about `name` in `dir` itself; a symbolic link is `Other`.
pub fn facts_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Facts> {
    Ok(Facts::from(fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?))
}

/// Facts about `rel` beneath `dir`, resolved like [`open_beneath`]; a symbolic link at its end is `Other`.
pub fn facts_beneath(dir: BorrowedFd<'_>, rel: &Path) -> io::Result<Facts> {
    facts(open_beneath(dir, rel, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty())?.as_fd())
}

impl From<FileStat> for Facts {
    #[allow(clippy::unnecessary_cast, reason = "the widths of st_nlink and st_mode differ between architectures")]
    fn from(stat: FileStat) -> Self {
        let kind = match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => Kind::File,
            SFlag::S_IFDIR => Kind::Folder,
            _ => Kind::Other,
        };
        Self {
            kind,
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            links: stat.st_nlink as u64,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode as u32 & 0o7777,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            atime: stat.st_atime,
            mtime: stat.st_mtime,
        }
    }
}

/// Gives the file behind `fd` the further name `name` in `dir`, which must be free. Works by way of /proc, since
/// AT_EMPTY_PATH asks for CAP_DAC_READ_SEARCH; so it is the keeper's, a jail has no /proc.
pub fn link_fd(fd: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    Ok(nix::unistd::linkat(nix::fcntl::AT_FDCWD, &*proc_path(fd), dir, name, AtFlags::AT_SYMLINK_FOLLOW)?)
}

/// A further name for `name` of `from`, as `to_name` in `to`, which must be free.
pub fn link(from: BorrowedFd<'_>, name: &OsStr, to: BorrowedFd<'_>, to_name: &OsStr) -> io::Result<()> {
    Ok(nix::unistd::linkat(from, name, to, to_name, AtFlags::empty())?)
}

/// Moves a name. Without `replace` an existing target is `AlreadyExists`, checked by the kernel in the same step.
pub fn rename(
    from: BorrowedFd<'_>,
    name: &OsStr,
    to: BorrowedFd<'_>,
    to_name: &OsStr,
    replace: bool,
) -> io::Result<()> {
    let flags = if replace { RenameFlags::empty() } else { RenameFlags::RENAME_NOREPLACE };
    Ok(nix::fcntl::renameat2(from, name, to, to_name, flags)?)
}

/// Two names of files change places, in one step.
pub fn exchange(from: BorrowedFd<'_>, name: &OsStr, to: BorrowedFd<'_>, to_name: &OsStr) -> io::Result<()> {
    Ok(nix::fcntl::renameat2(from, name, to, to_name, RenameFlags::RENAME_EXCHANGE)?)
}

pub fn remove_file(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    Ok(nix::unistd::unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?)
}

/// Removes an empty directory.
pub fn remove_dir(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    Ok(nix::unistd::unlinkat(dir, name, UnlinkatFlags::RemoveDir)?)
}

pub fn set_owner(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> io::Result<()> {
    Ok(nix::unistd::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
}

pub fn set_mode(fd: BorrowedFd<'_>, mode: Mode) -> io::Result<()> {
    Ok(nix::sys::stat::fchmod(fd, mode)?)
}

/// Sets what is given, in Unix seconds, and leaves the rest. Works on descriptors opened without `O_PATH`.
pub fn set_times(fd: BorrowedFd<'_>, atime: Option<i64>, mtime: Option<i64>) -> io::Result<()> {
    let spec = |time: Option<i64>| time.map_or(TimeSpec::UTIME_OMIT, |seconds| TimeSpec::new(seconds, 0));
    Ok(nix::sys::stat::futimens(fd, &spec(atime), &spec(mtime))?)
}

/// As [`set_times`], for `name` in `dir` itself.
pub fn set_times_at(dir: BorrowedFd<'_>, name: &OsStr, atime: Option<i64>, mtime: Option<i64>) -> io::Result<()> {
    let spec = |time: Option<i64>| time.map_or(TimeSpec::UTIME_OMIT, |seconds| TimeSpec::new(seconds, 0));
    Ok(utimensat(dir, name, &spec(atime), &spec(mtime), UtimensatFlags::NoFollowSymlink)?)
}

/// Makes contents and metadata of a file, or the names in a directory, survive a power cut.
pub fn sync(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(nix::unistd::fsync(fd)?)
}

/// Makes contents and length of a file survive a power cut.
pub fn sync_data(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(nix::unistd::fdatasync(fd)?)
}

/// Starts writing a file back to disk, from there to its end, and does not wait: so that the sync at the end of an upload
/// finds little left to do. Promises nothing. A raw call, because the C symbol of that name means something else in this
/// program (`sys/durable`).
pub fn write_ahead_from(fd: BorrowedFd<'_>, from: u64) -> io::Result<()> {
    let (from, to_the_end) = (i64::try_from(from).unwrap_or(i64::MAX), 0_i64);
    // SAFETY: sync_file_range takes a descriptor and three numbers, and touches no memory of ours.
    let result = unsafe {
        libc::syscall(libc::SYS_sync_file_range, fd.as_raw_fd(), from, to_the_end, libc::SYNC_FILE_RANGE_WRITE)
    };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

/// Whether nobody, this process included, has the file behind the read-only `fd` open for writing. The kernel answers
/// it: a read lease is granted only then. Needs to own the file, or CAP_LEASE. Whether anybody may open it for writing
/// *afterwards* is for its owner and mode to say, so set those first.
pub fn has_no_writer(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // Whoever tries to open the file for writing while the lease is held has the kernel send its holder SIGIO,
    // whose default is to end the process: a session could end the keeper that way.
    static IGNORE_SIGIO: Once = Once::new();
    IGNORE_SIGIO.call_once(|| {
        // SAFETY: SIG_IGN runs no code of ours.
        let _ = unsafe { nix::sys::signal::signal(nix::sys::signal::SIGIO, nix::sys::signal::SigHandler::SigIgn) };
    });
    let set = |kind: libc::c_int| {
        // SAFETY: F_SETLEASE takes a descriptor and a number.
        Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, kind) })
    };
    match set(libc::F_RDLCK) {
        Ok(_) => {
            set(libc::F_UNLCK)?;
            Ok(true)
        }
        Err(Errno::EAGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Opens again what `fd` is open on, with other flags and a position of its own. By way of /proc, so the keeper's.
pub fn reopen(fd: BorrowedFd<'_>, flags: OFlag) -> io::Result<OwnedFd> {
    Ok(nix::fcntl::open(&*proc_path(fd), flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY, Mode::empty())?)
}

/// Makes `to` (empty) a copy of the first `len` bytes of `from`: sharing blocks where the file system can, else copied
/// in the kernel.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, len: u64) -> io::Result<()> {
    // SAFETY: FICLONE takes two descriptors.
    if unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE as _, from.as_raw_fd()) } == 0 {
        return Ok(nix::unistd::ftruncate(to, i64::try_from(len).map_err(|_| Errno::EFBIG)?)?);
    }
    let (mut at, mut left) = (0i64, len);
    while left > 0 {
        let mut to_at = at;
        let step = usize::try_from(left.min(1 << 30)).unwrap_or(1 << 30);
        // SAFETY: both positions are live for the duration of the call; the kernel advances them.
        let copied = unsafe { libc::copy_file_range(from.as_raw_fd(), &mut at, to.as_raw_fd(), &mut to_at, step, 0) };
        match Errno::result(copied) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(copied) => left = left.saturating_sub(copied as u64),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Takes the whole-file lock (flock) for as long as the open file lives; `false` if another holds it.
pub fn lock_exclusive(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: flock takes a descriptor and a number.
    match Errno::result(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(Errno::EWOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A whole-file lock that ends with the value. Closing the file would not end it while a child that another thread is just
/// starting still has the descriptor (close-on-exec closes it at exec, not at fork); unlocking does (flock(2)).
pub struct Lock(File);

impl Lock {
    /// `None` if another holds it.
    pub fn take(file: File) -> io::Result<Option<Self>> {
        Ok(lock_exclusive(file.as_fd())?.then_some(Self(file)))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Room on the file system behind `fd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub total: u64,
    /// What this process may still use.
    pub free: u64,
    pub files: u64,
    pub files_free: u64,
}

pub fn room(fd: BorrowedFd<'_>) -> io::Result<Room> {
    let fs = nix::sys::statvfs::fstatvfs(fd)?;
    let unit = fs.fragment_size();
    Ok(Room {
        total: fs.blocks().saturating_mul(unit),
        free: fs.blocks_available().saturating_mul(unit),
        files: fs.files(),
        files_free: fs.files_available(),
    })
}

/// The access mode a descriptor was opened with allows writing.
pub fn is_writable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let flags = OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL)?);
    Ok(flags & OFlag::O_ACCMODE != OFlag::O_RDONLY)
}

pub fn set_nonblocking(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let mut flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, on);
    fcntl(fd, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

/// One name of a directory. The kind may be unknown to the file system; then ask [`facts_at`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Vec<u8>,
    pub kind: Option<Kind>,
    pub inode: u64,
}

/// The names in a directory as they come, without `.` and `..`; holds one buffer, however many they are.
#[derive(Debug)]
pub struct Listing(nix::dir::OwningIter);

/// Lists what `dir` is open on (not `O_PATH`), from the beginning; `dir`'s own position stays.
pub fn list(dir: BorrowedFd<'_>) -> io::Result<Listing> {
    let own = open_dir_beneath(dir, Path::new(""))?;
    Ok(Listing(nix::dir::Dir::from_fd(own)?.into_iter()))
}

impl Iterator for Listing {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.0.next()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error.into())),
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = entry.file_type().map(|kind| match kind {
                nix::dir::Type::File => Kind::File,
                nix::dir::Type::Directory => Kind::Folder,
                _ => Kind::Other,
            });
            return Some(Ok(Entry { name: name.to_vec(), kind, inode: entry.ino() }));
        }
    }
}

fn proc_path(fd: BorrowedFd<'_>) -> Box<OsStr> {
    OsStr::from_bytes(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let fd = open_dir(dir.path()).unwrap();
        (dir, fd)
    }

    #[test]
    fn nothing_outside_the_tree_can_be_named() {
        let (dir, fd) = tree();
        fs::create_dir(dir.path().join("a")).unwrap();
        symlink("/etc/passwd", dir.path().join("out")).unwrap();
        symlink("a", dir.path().join("in")).unwrap();
        for bad in ["../x", "/etc/passwd", "a/../../x", "out", "in", "in/x", "a/../out"] {
            let opened = open_beneath(fd.as_fd(), Path::new(bad), OFlag::O_RDONLY, Mode::empty());
            assert!(opened.is_err(), "{bad}");
        }
        assert_eq!(facts_beneath(fd.as_fd(), Path::new("out")).unwrap().kind, Kind::Other);
        assert!(facts_beneath(fd.as_fd(), Path::new("in/x")).is_err());
        assert!(make_dirs_beneath(fd.as_fd(), Path::new("in/deep"), Mode::S_IRWXU, None).is_err());
        assert!(open_dir_beneath(fd.as_fd(), Path::new("a")).is_ok());
    }

    #[test]
    fn directories_are_made_with_their_mode_whatever_the_umask() {
        let (dir, fd) = tree();
        let mode = Mode::from_bits_truncate(0o750);
        make_dirs_beneath(fd.as_fd(), Path::new("a/b/c"), mode, None).unwrap();
        make_dirs_beneath(fd.as_fd(), Path::new("a/b/c"), mode, None).unwrap();
        assert_eq!(facts_beneath(fd.as_fd(), Path::new("a/b/c")).unwrap().mode, 0o750);
        assert!(dir.path().join("a/b/c").is_dir());
    }

    #[test]
    fn a_writer_is_noticed_until_it_is_gone() {
        let (dir, _) = tree();
        let writer = File::create(dir.path().join("f")).unwrap();
        let reader = File::open(dir.path().join("f")).unwrap();
        assert!(!has_no_writer(reader.as_fd()).unwrap());
        drop(writer);
        assert!(has_no_writer(reader.as_fd()).unwrap());
        assert!(!is_writable(reader.as_fd()).unwrap());
    }

    #[test]
    fn a_complete_file_gets_its_name_only_if_that_is_free() {
        let (dir, fd) = tree();
        fs::write(dir.path().join("f"), "x").unwrap();
        let file = File::open(dir.path().join("f")).unwrap();
        link_fd(file.as_fd(), fd.as_fd(), OsStr::new("g")).unwrap();
        let again = link_fd(file.as_fd(), fd.as_fd(), OsStr::new("g")).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(facts(file.as_fd()).unwrap().links, 2);
        fs::write(dir.path().join("h"), "y").unwrap();
        assert!(rename(fd.as_fd(), OsStr::new("h"), fd.as_fd(), OsStr::new("g"), false).is_err());
        rename(fd.as_fd(), OsStr::new("h"), fd.as_fd(), OsStr::new("g"), true).unwrap();
        assert_eq!(fs::read(dir.path().join("g")).unwrap(), b"y");
    }

    #[test]
    fn a_lock_is_held_by_one_open_file_at_a_time() {
        let (dir, _) = tree();
        let one = File::create(dir.path().join("f")).unwrap();
        let two = File::open(dir.path().join("f")).unwrap();
        assert!(lock_exclusive(one.as_fd()).unwrap());
        assert!(!lock_exclusive(two.as_fd()).unwrap());
        drop(one);
        assert!(lock_exclusive(two.as_fd()).unwrap());
    }

    #[test]
    fn a_lock_ends_with_its_value_though_a_child_being_started_has_the_file_open() {
        let (dir, _) = tree();
        let open = || File::options().write(true).create(true).truncate(false).open(dir.path().join("f")).unwrap();
        let one = open();
        // What a fork leaves to the child until its exec.
        let inherited = one.try_clone().unwrap();
        let lock = Lock::take(one).unwrap().expect("nobody has it");
        assert!(Lock::take(open()).unwrap().is_none());
        drop(lock);
        assert!(Lock::take(open()).unwrap().is_some());
        drop(inherited);
    }

    #[test]
    fn a_copy_has_the_bytes_and_the_length_asked_for() {
        let (dir, _) = tree();
        let mut from = File::create_new(dir.path().join("f")).unwrap();
        from.write_all(&[7; 10_000]).unwrap();
        let from = File::open(dir.path().join("f")).unwrap();
        let to = File::create(dir.path().join("g")).unwrap();
        copy(from.as_fd(), to.as_fd(), 9_999).unwrap();
        assert_eq!(fs::read(dir.path().join("g")).unwrap(), vec![7; 9_999]);
        write_ahead_from(to.as_fd(), 0).unwrap();
        sync_data(to.as_fd()).unwrap();
    }

    #[test]
    fn a_listing_names_everything_once_and_may_be_repeated() {
        let (dir, fd) = tree();
        for i in 0..500 {
            fs::write(dir.path().join(format!("f{i}")), "").unwrap();
        }
        fs::create_dir(dir.path().join("d")).unwrap();
        for _ in 0..2 {
            let mut names: Vec<Entry> = list(fd.as_fd()).unwrap().map(Result::unwrap).collect();
            names.sort_by(|a, b| a.name.cmp(&b.name));
            assert_eq!(names.len(), 501);
            assert_eq!((names[0].name.as_slice(), names[0].kind), (&b"d"[..], Some(Kind::Folder)));
        }
    }

    #[test]
    fn times_are_set_one_by_one() {
        let (dir, fd) = tree();
        fs::write(dir.path().join("f"), "").unwrap();
        let file = File::open(dir.path().join("f")).unwrap();
        set_times(file.as_fd(), Some(5), Some(6)).unwrap();
        set_times_at(fd.as_fd(), OsStr::new("f"), None, Some(7)).unwrap();
        let facts = facts(file.as_fd()).unwrap();
        assert_eq!((facts.atime, facts.mtime), (5, 7));
    }
}
