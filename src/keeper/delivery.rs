//! Names for a committed file: in its sender's folder and in each recipient's inbox, all or none. Nothing that was there
//! is lost: an older file keeps a numbered name (`a.dcm.~1~`) in a drop or an inbox, and in a shared folder is kept aside
//! until the new one is recorded. What was done can be taken back, at once or after a crash (see `recovery`).
//!
//! In a tree only the keeper makes names (sessions write in `.staging` alone), and it prepares them in `.commit`, which
//! no session can enter: nobody can exchange a file between two steps here.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::names::{DropId, FileName, SEALED};
use crate::sys::files::{self, Kind};
use crate::vpath::VirtualPath;

/// Where the keeper prepares names in a user's tree.
pub const COMMIT: &str = ".commit";

/// How the name of a commit's mark in `.commit` ends.
pub const MARK: &str = ".file";

/// How many numbered versions of one name are looked for before giving up.
const VERSIONS_MAX: u32 = 9_999;

/// Why a file got no name.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("the folder is not there")]
    NoFolder,
    #[error("the name is taken by a folder")]
    IsFolder,
    #[error("the name is taken")]
    Taken,
    #[error("the name is too long for a numbered version of the file it replaces")]
    NoRoomForVersion,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What to do with a file that already has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is an error.
    Refuse,
    /// It keeps its bytes under a numbered name.
    Version,
    /// It goes, once the new one is recorded.
    Replace,
}

/// The names one commit has made so far.
#[derive(Default)]
pub struct Names {
    /// `.commit` of the sender's tree, and the name in it that says a commit of this file is under way. There before
    /// the first other name and gone after the last change, in a folder no session can reach: what recovery goes by.
    mark: Option<(OwnedFd, OsString)>,
    made: Vec<Made>,
}

struct Made {
    dir: OwnedFd,
    name: OsString,
    /// `.commit` of the same tree, and the name in it under which the file that was there is kept.
    kept: Option<(OwnedFd, OsString)>,
    /// The numbered name the older file got in `dir`.
    version: Option<OsString>,
}

impl Names {
    /// Begins to name `file`, which is `drop`, from its sender's `tree`: its mark is there, and durable after
    /// [`Self::sync_mark`].
    pub fn begin(file: BorrowedFd<'_>, drop: DropId, tree: BorrowedFd<'_>) -> io::Result<Self> {
        let commit = files::open_dir_beneath(tree, Path::new(COMMIT))?;
        let mark = OsString::from(format!("{drop}{MARK}"));
        remove_if_there(commit.as_fd(), &mark)?;
        files::link_fd(file, commit.as_fd(), &mark)?;
        Ok(Self { mark: Some((commit, mark)), made: Vec::new() })
    }

    /// The mark is durable before the names it stands for: after a power cut nothing else would lead to them. After the file
    /// itself has been synced this costs a journalling file system nothing more.
    pub fn sync_mark(&self) -> io::Result<()> {
        self.mark.as_ref().map_or(Ok(()), |(commit, _)| files::sync(commit.as_fd()))
    }

    /// Names `file` as `path` in `tree`; the parent folder must exist. Answers the numbered name that an older file got.
    ///
    /// A crash after each step leaves: the kept link only (recovery drops it); the kept link and a numbered one (recovery
    /// drops both); the new file in place of the old (recovery moves the kept link back, unless the ledger knows the drop).
    pub fn add(
        &mut self,
        file: BorrowedFd<'_>,
        drop: DropId,
        tree: BorrowedFd<'_>,
        path: &VirtualPath,
        existing: Existing,
    ) -> Result<Option<FileName>, DeliveryError> {
        let (dir, name) = files::open_parent_beneath(tree, path.relative()).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => DeliveryError::NoFolder,
            _ => DeliveryError::Io(e),
        })?;
        match files::link_fd(file, dir.as_fd(), name) {
            Ok(()) => {
                self.made.push(Made { dir, name: name.to_owned(), kept: None, version: None });
                return Ok(None);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e.into()),
        }
        if files::facts_at(dir.as_fd(), name)?.kind != Kind::File {
            return Err(DeliveryError::IsFolder);
        }
        if existing == Existing::Refuse {
            return Err(DeliveryError::Taken);
        }
        let commit = files::open_dir_beneath(tree, Path::new(COMMIT))?;
        // One commit may replace names twice in one tree, when a sender is also a recipient.
        let number = self.made.len();
        let kept = OsString::from(format!("{drop}.{number}.old"));
        let fresh = OsString::from(format!("{drop}.{number}.new"));
        remove_if_there(commit.as_fd(), &kept)?;
        remove_if_there(commit.as_fd(), &fresh)?;
        files::link(dir.as_fd(), name, commit.as_fd(), &kept)?;
        files::sync(commit.as_fd())?;
        let mut made = Made { dir, name: name.to_owned(), kept: Some((commit, kept)), version: None };
        let placed = made.place(file, &fresh, existing);
        let version = made.version.clone();
        if let Err(e) = placed {
            made.take_back_before_rename(&fresh)?;
            return Err(e);
        }
        self.made.push(made);
        Ok(version.and_then(|name| FileName::new(name.as_bytes()).ok()))
    }

    /// Makes the names durable.
    pub fn sync(&self) -> io::Result<()> {
        self.made.iter().try_for_each(|made| files::sync(made.dir.as_fd()))
    }

    /// The commit is recorded: what was kept aside may go.
    pub fn settle(self) -> io::Result<()> {
        for made in &self.made {
            if let Some((commit, kept)) = &made.kept {
                remove_if_there(commit.as_fd(), kept)?;
            }
        }
        self.unmark()
    }

    /// The commit failed: every name is as it was before.
    pub fn take_back(self) -> io::Result<()> {
        for made in self.made.iter().rev() {
            match &made.kept {
                Some((commit, kept)) => {
                    files::rename(commit.as_fd(), kept, made.dir.as_fd(), &made.name, true)?;
                    if let Some(version) = &made.version {
                        remove_if_there(made.dir.as_fd(), version)?;
                    }
                }
                None => remove_if_there(made.dir.as_fd(), &made.name)?,
            }
            files::sync(made.dir.as_fd())?;
        }
        self.unmark()
    }

    fn unmark(&self) -> io::Result<()> {
        self.mark.as_ref().map_or(Ok(()), |(commit, mark)| remove_if_there(commit.as_fd(), mark))
    }
}

impl Made {
    fn place(&mut self, file: BorrowedFd<'_>, fresh: &OsStr, existing: Existing) -> Result<(), DeliveryError> {
        let Some((commit, _)) = &self.kept else { return Ok(()) };
        if existing == Existing::Version {
            self.version = Some(link_numbered(self.dir.as_fd(), &self.name)?);
        }
        files::link_fd(file, commit.as_fd(), fresh)?;
        files::rename(commit.as_fd(), fresh, self.dir.as_fd(), &self.name, true)?;
        Ok(())
    }

    fn take_back_before_rename(self, fresh: &OsStr) -> io::Result<()> {
        if let Some(version) = &self.version {
            remove_if_there(self.dir.as_fd(), version)?;
        }
        if let Some((commit, kept)) = &self.kept {
            remove_if_there(commit.as_fd(), fresh)?;
            remove_if_there(commit.as_fd(), kept)?;
        }
        Ok(())
    }
}

/// Gives `name` a further, numbered name beside it: `name.~1~`, or the next that is free, as GNU backups are called.
fn link_numbered(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OsString, DeliveryError> {
    first_number(name, |numbered| files::link(dir, name, dir, numbered))
}

/// The first numbered name that `take` can take. It leaves room for what a sealed recipient sees after it.
pub fn first_number(name: &OsStr, mut take: impl FnMut(&OsStr) -> io::Result<()>) -> Result<OsString, DeliveryError> {
    for number in 1..=VERSIONS_MAX {
        let mut numbered = name.as_bytes().to_vec();
        numbered.extend_from_slice(format!(".~{number}~").as_bytes());
        if numbered.len() + SEALED.len() > FileName::MAX_BYTES {
            return Err(DeliveryError::NoRoomForVersion);
        }
        let numbered = OsString::from_vec(numbered);
        match take(&numbered) {
            Ok(()) => return Ok(numbered),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(DeliveryError::Taken)
}

/// Of a name that [`link_numbered`] gives, the one it was made of.
pub fn before_number(name: &[u8]) -> Option<&[u8]> {
    let rest = name.strip_suffix(b"~")?;
    let at = rest.windows(2).rposition(|w| w == b".~")?;
    let (base, number) = (&rest[..at], &rest[at + 2..]);
    (!base.is_empty() && !number.is_empty() && number.iter().all(u8::is_ascii_digit)).then_some(base)
}

pub fn remove_if_there(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match files::remove_file(dir, name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    struct Tree {
        dir: tempfile::TempDir,
        fd: OwnedFd,
    }

    fn tree() -> Tree {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["lab", COMMIT] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        let fd = files::open_dir(dir.path()).unwrap();
        Tree { dir, fd }
    }

    impl Tree {
        fn file(&self, text: &str) -> File {
            let path = self.dir.path().join("part");
            let _ = fs::remove_file(&path);
            fs::write(&path, text).unwrap();
            File::open(path).unwrap()
        }

        fn add(&self, names: &mut Names, text: &str, existing: Existing) -> Result<Option<FileName>, DeliveryError> {
            let path = VirtualPath::parse(b"/lab/a.dcm").unwrap();
            names.add(self.file(text).as_fd(), DropId([1; 16]), self.fd.as_fd(), &path, existing)
        }

        fn shows(&self) -> Vec<(String, String)> {
            let mut all: Vec<_> = fs::read_dir(self.dir.path().join("lab"))
                .unwrap()
                .map(|e| e.unwrap())
                .map(|e| (e.file_name().into_string().unwrap(), fs::read_to_string(e.path()).unwrap()))
                .collect();
            all.sort();
            all
        }

        fn commit_is_empty(&self) -> bool {
            fs::read_dir(self.dir.path().join(COMMIT)).unwrap().next().is_none()
        }
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(n, t)| (n.to_string(), t.to_string())).collect()
    }

    #[test]
    fn an_older_file_keeps_its_bytes_under_a_numbered_name() {
        let tree = tree();
        for text in ["one", "two", "three"] {
            let mut names = Names::default();
            tree.add(&mut names, text, Existing::Version).unwrap();
            names.sync().unwrap();
            names.settle().unwrap();
        }
        assert_eq!(tree.shows(), pairs(&[("a.dcm", "three"), ("a.dcm.~1~", "one"), ("a.dcm.~2~", "two")]));
        assert!(tree.commit_is_empty());
    }

    #[test]
    fn taking_back_leaves_every_name_as_it_was() {
        for existing in [Existing::Version, Existing::Replace] {
            let tree = tree();
            let mut names = Names::default();
            tree.add(&mut names, "old", existing).unwrap();
            names.settle().unwrap();
            let mut names = Names::default();
            tree.add(&mut names, "new", existing).unwrap();
            assert_eq!(tree.shows()[0].1, "new");
            names.take_back().unwrap();
            assert_eq!(tree.shows(), pairs(&[("a.dcm", "old")]));
            assert!(tree.commit_is_empty());
        }
    }

    #[test]
    fn a_refused_name_changes_nothing() {
        let tree = tree();
        let mut names = Names::default();
        tree.add(&mut names, "old", Existing::Refuse).unwrap();
        assert!(matches!(tree.add(&mut names, "new", Existing::Refuse), Err(DeliveryError::Taken)));
        assert_eq!(tree.shows(), pairs(&[("a.dcm", "old")]));
    }

    #[test]
    fn numbered_names_are_recognised() {
        for (yes, base) in [("a.~1~", "a"), ("a.dcm.~12~", "a.dcm"), ("~.~3~", "~"), ("a.~1~.~2~", "a.~1~")] {
            assert_eq!(before_number(yes.as_bytes()), Some(base.as_bytes()));
        }
        for no in ["a", "a~", ".~1~", "a.~~", "a.~x~", "a.~1"] {
            assert_eq!(before_number(no.as_bytes()), None, "{no}");
        }
    }
}
