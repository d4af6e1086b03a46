//! A file that appears under its name only when it is complete: until then it has no name at all, so neither a failure
//! nor Ctrl-C nor `kill -9` leaves a part of it behind. What `seal` and `open` write to with `-o`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};

use super::failure::Failure;

/// An output in the making.
pub struct Output {
    path: PathBuf,
    folder: PathBuf,
    overwrite: bool,
    state: State,
}

enum State {
    /// O_TMPFILE: an inode without a name.
    Nameless(File),
    /// File systems without O_TMPFILE (NFS, some FUSE): a temporary name, removed when this is dropped.
    Named(tempfile::NamedTempFile),
}

impl Output {
    /// Prepares to write `path`. Fails now, not after the work, if it exists and may not be replaced.
    pub fn create(path: &Path, mode: u32, overwrite: bool) -> Result<Self, Failure> {
        if !overwrite && path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if path.file_name().is_none() {
            return Err(Failure::new(format_args!("{} is not a file name", path.display())));
        }
        let nameless = OpenOptions::new().write(true).mode(mode).custom_flags(OFlag::O_TMPFILE.bits()).open(&folder);
        let state = match nameless {
            Ok(file) => State::Nameless(file),
            Err(error) if matches!(error.raw_os_error(), Some(EISDIR | EOPNOTSUPP)) => {
                let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o600);
                let named = tempfile::Builder::new().prefix(".sealdrop-").permissions(permissions).tempfile_in(&folder);
                State::Named(named.map_err(|error| cannot_write(path, &error))?)
            }
            Err(error) => return Err(cannot_write(path, &error)),
        };
        Ok(Self { path: path.to_owned(), folder, overwrite, state })
    }

    /// Makes the bytes durable and gives them their name. Before this returns there is no file, or the former one.
    pub fn commit(self) -> Result<(), Failure> {
        let failed = |error: io::Error| cannot_write(&self.path, &error);
        match self.state {
            State::Nameless(file) => {
                file.sync_all().map_err(failed)?;
                match link(&file, &self.path) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.overwrite => {
                        replace(&file, &self.folder, &self.path).map_err(failed)?;
                    }
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(exists(&self.path)),
                    linked => linked.map_err(failed)?,
                }
            }
            State::Named(named) => {
                named.as_file().sync_all().map_err(failed)?;
                if self.overwrite {
                    named.persist(&self.path).map_err(|error| failed(error.error))?;
                } else {
                    named.persist_noclobber(&self.path).map_err(|error| failed(error.error))?;
                }
            }
        }
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

/// What open(2) says of a file system without O_TMPFILE.
const EISDIR: i32 = nix::errno::Errno::EISDIR as i32;
const EOPNOTSUPP: i32 = nix::errno::Errno::EOPNOTSUPP as i32;

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.state {
            State::Nameless(file) => file.write(bytes),
            State::Named(named) => named.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Through /proc, as open(2) describes: linking the descriptor itself would need a capability.
fn link(file: &File, path: &Path) -> io::Result<()> {
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(nix::unistd::linkat(AT_FDCWD, from.as_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)?)
}

/// A name beside it first, then over it: readers see the former file or the new one.
fn replace(file: &File, folder: &Path, path: &Path) -> io::Result<()> {
    let temporary = tempfile::Builder::new().prefix(".sealdrop-").make_in(folder, |name| link(file, name))?;
    temporary.into_temp_path().persist(path).map_err(|error| error.error)
}

/// A bar on standard error, where that is a terminal; `None` for a length that is not known.
pub fn progress(total: Option<u64>, quiet: bool) -> ProgressBar {
    let bar = if let Some(total) = total { ProgressBar::new(total) } else { ProgressBar::new_spinner() };
    // Gone when it ends, however that is: the next line is the answer or an error.
    let bar = bar.with_finish(ProgressFinish::AndClear);
    bar.set_draw_target(if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() });
    let shape = match total {
        Some(_) => "{bar:32} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        None => "{spinner} {bytes}, {bytes_per_sec}",
    };
    // The templates are right: a test draws both. If one were not, the plain bar does.
    bar.set_style(ProgressStyle::with_template(shape).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

const STEPS: &str = "{bar:32} {pos} of {len}, {eta} left";

/// A bar for work that is counted, on standard error where that is a terminal. How much it is may be said later.
pub fn steps(total: u64, quiet: bool) -> ProgressBar {
    let bar = ProgressBar::new(total).with_finish(ProgressFinish::AndClear);
    bar.set_draw_target(if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() });
    let shape = ProgressStyle::with_template(STEPS);
    bar.set_style(shape.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

pub fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format_args!("cannot read {}: {}", path.display(), plainly(error)))
}

pub fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(format_args!("cannot write {}: {}", path.display(), plainly(error)));
    match error.kind() {
        io::ErrorKind::NotFound => failure.hint("make its folder first"),
        io::ErrorKind::StorageFull => failure.hint("nothing was left behind; free some space and try again"),
        _ => failure,
    }
}

/// The system's words without "(os error 2)".
fn plainly(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn exists(path: &Path) -> Failure {
    Failure::new(format_args!("{} exists already", path.display()))
        .hint("choose another name with -o, or replace it with --force")
}

/// Whether two paths are the same existing file, so that nothing is written over what is being read.
pub fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_has_no_name_until_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut output = Output::create(&path, 0o600, false).unwrap();
        output.write_all(b"part").unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        drop(output);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        let mut output = Output::create(&path, 0o600, false).unwrap();
        output.write_all(b"whole").unwrap();
        output.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn an_output_replaces_a_file_only_when_told_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut early = Output::create(&path, 0o600, false).unwrap();
        early.write_all(b"late").unwrap();
        fs::write(&path, b"first").unwrap();
        assert!(Output::create(&path, 0o600, false).is_err());
        assert!(early.commit().unwrap_err().message.ends_with("exists already"), "also if it came meanwhile");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        let mut output = Output::create(&path, 0o600, true).unwrap();
        output.write_all(b"second").unwrap();
        output.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn both_progress_templates_are_well_formed() {
        for shape in [
            "{bar:32} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            "{spinner} {bytes}, {bytes_per_sec}",
            STEPS,
        ] {
            assert!(ProgressStyle::with_template(shape).is_ok());
        }
    }
}
