//! Names and attributes, as a client sees them. Everything is looked up by descriptor beneath the root of the jail,
//! and nothing in it follows a link. Sizes are those of the plaintext, from the footer of each sealed file; in the inbox
//! of a user who holds the identity, files show as `<name>.sealed` with the size they have on disk, and so does in any
//! inbox what only its recipients' own identities open.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::reply::{NO_SUCH_FILE, Outcome};
use super::staging::{STAGING, Staging};
use crate::clock;
use crate::ipc::jail::{Admission, FolderKind, FolderView};
use crate::names::{FileName, SEALED};
use crate::seal::{FOOTER_LEN, Footer, HEAD_LEN, Head, Mode};
use crate::sftp::attrs::{Attrs, S_IFDIR, S_IFREG};
use crate::sys::files::{self, Facts, Kind, Listing, OFlag};
use crate::vpath::VirtualPath;

/// The virtual folder of receipts.
const RECEIPTS: &[u8] = b"/receipts";

/// Of what others delivered: it is read, and not written.
const INBOX_PERMISSIONS: u32 = 0o440;

/// One user's tree, and the shape of the view.
pub struct Tree {
    root: OwnedFd,
    pub staging: Staging,
    folders: Vec<FolderView>,
    pub owner: String,
    ids: (u32, u32),
}

/// Where a path is.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// The root, or a name on the way to a folder: nothing can be put here.
    Above,
    In(FolderKind),
    /// In `/receipts`, as the path below it.
    Receipts(VirtualPath),
    Nowhere,
}

/// How files in a folder show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As what the client has put there.
    Own,
    /// As what others delivered.
    Delivered,
    /// As sealed files, with [`SEALED`] after their names.
    Sealed,
}

impl View {
    /// How `file` shows where files show so: one that came to an inbox when that was sealed opens for its recipient's
    /// own identity alone, whatever policy says since. Of all others the keeper makes what policy says.
    fn of(self, file: &File) -> Self {
        if self != Self::Delivered {
            return self;
        }
        let mut head = [0; HEAD_LEN];
        let read = file.read_exact_at(&mut head, 0).is_ok();
        let sealed = read && Head::parse(&head).is_ok_and(|head| head.mode() == Mode::Sealed);
        if sealed { Self::Sealed } else { self }
    }
}

/// An open folder of the view.
pub enum Folder {
    /// Names that are not on disk: the root and what leads to folders.
    Listed(VecDeque<FileName>),
    Disk {
        dir: OwnedFd,
        listing: Box<Listing>,
        view: View,
        /// Uploads that wait to be delivered: they stand for older files of their names, or come last.
        waiting: BTreeMap<FileName, Attrs>,
    },
}

impl Folder {
    pub fn add_waiting(&mut self, name: FileName, attrs: Attrs) {
        if let Self::Disk { waiting, .. } = self {
            waiting.insert(name, attrs);
        }
    }
}

impl Tree {
    /// `root` is the user's tree, open for reading.
    pub fn new(root: OwnedFd, admission: &Admission) -> std::io::Result<Self> {
        let staging = Staging::new(files::open_dir_beneath(root.as_fd(), Path::new(STAGING))?);
        Ok(Self {
            root,
            staging,
            folders: admission.folders.clone(),
            owner: admission.user.to_string(),
            ids: (admission.uid, admission.gid),
        })
    }

    fn folder(&self, path: &VirtualPath) -> Option<&FolderView> {
        let inside = self.folders.iter().filter(|folder| path.below(&folder.path).is_some());
        inside.max_by_key(|folder| folder.path.as_bytes().len())
    }

    /// How files at and below `path` show, as policy has it.
    fn view(&self, path: &VirtualPath) -> View {
        match self.folder(path) {
            Some(FolderView { kind: FolderKind::Inbox, sealed: true, .. }) => View::Sealed,
            Some(FolderView { kind: FolderKind::Inbox, .. }) => View::Delivered,
            _ => View::Own,
        }
    }

    pub fn place(&self, path: &VirtualPath) -> Place {
        if let Some(folder) = self.folder(path) {
            return Place::In(folder.kind);
        }
        if let Ok(receipts) = VirtualPath::parse(RECEIPTS)
            && let Some(below) = path.below(&receipts)
        {
            return Place::Receipts(below);
        }
        let leads = path.is_root() || self.folders.iter().any(|folder| folder.path.below(path).is_some());
        if leads { Place::Above } else { Place::Nowhere }
    }

    /// The path on disk, which is also what the keeper knows, of a path as the client sees it: without the `.sealed`
    /// that an inbox adds.
    pub fn resolve(&self, path: VirtualPath) -> VirtualPath {
        if !matches!(self.place(&path), Place::In(FolderKind::Inbox)) {
            return path;
        }
        let Some(bytes) = path.as_bytes().strip_suffix(SEALED) else { return path };
        match VirtualPath::parse(bytes) {
            Ok(plain) if self.open(&plain).is_ok_and(|file| self.view(&plain).of(&file) == View::Sealed) => plain,
            _ => path,
        }
    }

    /// Opens a file for reading.
    pub fn open(&self, path: &VirtualPath) -> std::io::Result<File> {
        let file = open_beneath(self.root.as_fd(), path.relative())?;
        match files::facts(file.as_fd())?.kind {
            Kind::File => Ok(file),
            Kind::Folder => Err(std::io::ErrorKind::IsADirectory.into()),
            Kind::Other => Err(std::io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether a client gets what is at `disk` as a sealed file.
    pub fn shows_sealed(&self, disk: &VirtualPath) -> bool {
        let view = self.view(disk);
        view == View::Sealed || self.open(disk).is_ok_and(|file| view.of(&file) == View::Sealed)
    }

    /// Where a file at `disk` shows that its client gets as a sealed file.
    pub fn sealed_name(disk: &VirtualPath) -> Outcome<VirtualPath> {
        Ok(VirtualPath::parse(&[disk.as_bytes(), SEALED].concat())?)
    }

    pub fn exists(&self, path: &VirtualPath) -> bool {
        matches!(self.place(path), Place::In(_)) && files::facts_beneath(self.root.as_fd(), path.relative()).is_ok()
    }

    /// STAT and LSTAT, which are the same where there are no links. `path` is as the client gave it.
    pub fn stat(&self, path: &VirtualPath) -> Outcome<Attrs> {
        match self.place(path) {
            Place::Above => return Ok(self.folder_attrs(None)),
            Place::In(_) => {}
            Place::Receipts(below) if below.is_root() => return Ok(self.folder_attrs(None)),
            Place::Receipts(_) | Place::Nowhere => return Err(NO_SUCH_FILE),
        }
        let view = self.view(path);
        let disk = self.resolve(path.clone());
        // What waits to be delivered is the newest version of the file, and what its sender closed.
        if view != View::Sealed && self.staging.is_waiting(path) {
            return self.staged_attrs(path).ok_or(NO_SUCH_FILE);
        }
        match files::facts_beneath(self.root.as_fd(), disk.relative()) {
            Ok(facts) if facts.kind == Kind::Folder => Ok(self.folder_attrs(Some(&facts))),
            Ok(facts) if facts.kind == Kind::File => {
                let file = open_beneath(self.root.as_fd(), disk.relative())?;
                let view = view.of(&file);
                // A sealed file is there under its `.sealed` name alone.
                if view == View::Sealed && disk == *path {
                    return Err(NO_SUCH_FILE);
                }
                Ok(self.file_attrs(&file, &facts, view))
            }
            Ok(_) => Err(NO_SUCH_FILE),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.staged_attrs(path).ok_or(NO_SUCH_FILE),
            Err(error) => Err(error.into()),
        }
    }

    fn staged_attrs(&self, path: &VirtualPath) -> Option<Attrs> {
        self.staging.size(path).map(|size| self.upload_attrs(size, None))
    }

    /// An upload in progress.
    pub fn upload_attrs(&self, size: u64, mtime: Option<u32>) -> Attrs {
        let mtime = mtime.unwrap_or_else(|| seconds(clock::now().unix_seconds()));
        Attrs {
            size: Some(size),
            owner: Some(self.ids),
            permissions: Some(S_IFREG | 0o640),
            times: Some((mtime, mtime)),
        }
    }

    /// A file that is not on disk: a receipt.
    pub fn text_attrs(&self, size: u64, mtime: u64) -> Attrs {
        Attrs {
            size: Some(size),
            owner: Some(self.ids),
            permissions: Some(S_IFREG | 0o440),
            times: Some((seconds(mtime), seconds(mtime))),
        }
    }

    pub fn folder_attrs(&self, facts: Option<&Facts>) -> Attrs {
        let mtime = facts.map_or_else(|| clock::now().unix_seconds(), |facts| u64::try_from(facts.mtime).unwrap_or(0));
        Attrs {
            size: Some(facts.map_or(4096, |facts| facts.size)),
            owner: Some(self.ids),
            permissions: Some(S_IFDIR | 0o750),
            times: Some((seconds(mtime), seconds(mtime))),
        }
    }

    fn file_attrs(&self, file: &File, facts: &Facts, view: View) -> Attrs {
        let (size, permissions) = match view {
            View::Sealed => (facts.size, INBOX_PERMISSIONS),
            // What is no sealed file has no plaintext to have a size; reading it will say that it is damaged.
            View::Delivered => (plain_size(file, facts.size).unwrap_or(0), INBOX_PERMISSIONS),
            View::Own => (plain_size(file, facts.size).unwrap_or(0), 0o640),
        };
        let time = |t: i64| u32::try_from(t).unwrap_or(0);
        Attrs {
            size: Some(size),
            owner: Some(self.ids),
            permissions: Some(S_IFREG | permissions),
            times: Some((time(facts.atime.max(facts.mtime)), time(facts.mtime))),
        }
    }

    /// What a download's handle answers to FSTAT.
    pub fn download_attrs(&self, size: u64, mtime: u32) -> Attrs {
        self.text_attrs(size, u64::from(mtime))
    }

    pub fn open_folder(&self, path: &VirtualPath) -> Outcome<Folder> {
        match self.place(path) {
            Place::Above => {
                let mut names: BTreeSet<FileName> = self
                    .folders
                    .iter()
                    .filter_map(|folder| FileName::new(folder.path.below(path)?.components().next()?).ok())
                    .collect();
                if path.is_root() {
                    names.extend(FileName::new(&RECEIPTS[1..]).ok());
                }
                Ok(Folder::Listed(names.into_iter().collect()))
            }
            Place::In(_) => {
                let dir = files::open_dir_beneath(self.root.as_fd(), path.relative())?;
                let listing = Box::new(files::list(dir.as_fd())?);
                Ok(Folder::Disk { dir, listing, view: self.view(path), waiting: BTreeMap::new() })
            }
            Place::Receipts(_) | Place::Nowhere => Err(NO_SUCH_FILE),
        }
    }

    /// The next name with its attributes; names that vanish while listing are passed over.
    pub fn next(&self, folder: &mut Folder) -> Outcome<Option<(Vec<u8>, Attrs)>> {
        match folder {
            Folder::Listed(names) => {
                Ok(names.pop_front().map(|name| (name.as_bytes().to_vec(), self.folder_attrs(None))))
            }
            Folder::Disk { dir, listing, view, waiting } => {
                for entry in listing {
                    let entry = entry?;
                    if !waiting.is_empty()
                        && let Some((name, attrs)) =
                            FileName::new(&entry.name).ok().and_then(|n| waiting.remove_entry(&n))
                    {
                        return Ok(Some((name.as_bytes().to_vec(), attrs)));
                    }
                    let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(&entry.name);
                    if entry.kind == Some(Kind::Folder) {
                        if let Ok(facts) = files::facts_at(dir.as_fd(), name) {
                            return Ok(Some((entry.name.clone(), self.folder_attrs(Some(&facts)))));
                        }
                        continue;
                    }
                    let Ok(file) = open_beneath(dir.as_fd(), Path::new(name)) else { continue };
                    let Ok(facts) = files::facts(file.as_fd()) else { continue };
                    match facts.kind {
                        Kind::Folder => return Ok(Some((entry.name, self.folder_attrs(Some(&facts))))),
                        Kind::Other => {}
                        Kind::File => {
                            let view = view.of(&file);
                            let attrs = self.file_attrs(&file, &facts, view);
                            let mut name = entry.name;
                            if view == View::Sealed {
                                name.extend_from_slice(SEALED);
                            }
                            return Ok(Some((name, attrs)));
                        }
                    }
                }
                Ok(waiting.pop_first().map(|(name, attrs)| (name.as_bytes().to_vec(), attrs)))
            }
        }
    }
}

/// `O_NONBLOCK`: nothing but files and folders is ever made here, and if something else were, opening must not hang.
fn open_beneath(dir: BorrowedFd<'_>, rel: &Path) -> std::io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    files::open_beneath(dir, rel, flags, files::Mode::empty()).map(File::from)
}

fn plain_size(file: &File, len: u64) -> Option<u64> {
    let mut bytes = [0; FOOTER_LEN];
    file.read_exact_at(&mut bytes, len.checked_sub(FOOTER_LEN as u64)?).ok()?;
    let footer = Footer::parse(&bytes).ok()?;
    footer.check_len(len).ok()?;
    Some(footer.size)
}

fn seconds(unix: u64) -> u32 {
    u32::try_from(unix).unwrap_or(u32::MAX)
}
