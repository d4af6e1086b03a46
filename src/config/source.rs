//! Files from the disk: what may be read, who else may write it, and its bytes as text. Everything below works on text
//! in memory.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::problem::{Problem, Severity, SourcePlace};

/// A policy of a thousand keys is a tenth of this; what is larger is another file.
const FILE_MAX: u64 = 1024 * 1024;

/// A file as it was read.
pub struct Source {
    pub file: PathBuf,
    /// As on the disk, for the digest.
    pub bytes: Vec<u8>,
    /// By every user of the machine.
    pub world_readable: bool,
}

/// Reads a file that only root or this process's own user may change.
pub fn read(path: &Path) -> Result<Source, Problem> {
    let wrong = |message: String, hint: String| Problem::of_file(Severity::Error, path, message, hint);
    let shown = path.display();
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => wrong(
            "there is no such file".to_owned(),
            "name another with --config FILE, or make one with `sealdrop init`".to_owned(),
        ),
        _ => wrong(format!("it cannot be read: {error}"), format!("see who may: ls -l {shown}")),
    })?;
    let about =
        file.metadata().map_err(|error| wrong(format!("it cannot be read: {error}"), format!("try: ls -l {shown}")))?;
    if !about.is_file() {
        return Err(wrong("it is not a file".to_owned(), format!("see what it is: ls -ld {shown}")));
    }
    if let Some((message, hint)) = others_may_write(&about, path, false) {
        return Err(wrong(message, hint));
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| wrong(format!("it cannot be read: {error}"), String::new()))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(wrong(
            "it is larger than 1 MiB".to_owned(),
            "a policy is a short text: is this the right file?".to_owned(),
        ));
    }
    Ok(Source { file: path.to_owned(), bytes, world_readable: about.mode() & 0o004 != 0 })
}

/// The names of `*.toml` in a directory, sorted; and what there is beside them that looks like one but is not read.
pub fn list(directory: &Path) -> Result<(Vec<PathBuf>, Vec<Problem>), Problem> {
    let wrong = |message: String, hint: String| Problem::of_file(Severity::Error, directory, message, hint);
    let shown = directory.display();
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => wrong(
            "there is no such directory of policies".to_owned(),
            format!("make it, and one <user>.toml in it for each user: mkdir -m 755 {shown}"),
        ),
        _ => wrong(format!("it cannot be read: {error}"), format!("see who may: ls -ld {shown}")),
    };
    let about = fs::metadata(directory).map_err(unreadable)?;
    if let Some((message, hint)) = others_may_write(&about, directory, false) {
        return Err(wrong(message, hint));
    }
    let (mut files, mut notes) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        // Editors' backups, samples and hidden files are meant not to be read; signatures are read with what they sign.
        if name.starts_with(['.', '#'])
            || name.ends_with(['~'])
            || name.ends_with(".sample")
            || name.ends_with(".toml.sig")
            || name.starts_with("README")
        {
            continue;
        }
        if name == super::template::DIRECTORY && path.is_dir() {
            continue;
        }
        if name.ends_with(".toml") {
            files.push(path);
        } else {
            let hint = "policies are named <user>.toml; begin other files with a dot to keep them here";
            notes.push(Problem::of_file(Severity::Warning, path, "this is not read", hint));
        }
    }
    files.sort();
    notes.sort_by(|a, b| a.file.cmp(&b.file));
    Ok((files, notes))
}

/// The directory of a file: whoever may write there may replace the file. One with the sticky bit (`/tmp`) lets each
/// replace only what is theirs.
pub fn check_directory_of(path: &Path) -> Option<Problem> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let about = fs::metadata(directory).ok()?;
    let (message, hint) = others_may_write(&about, directory, true)?;
    Some(Problem::of_file(Severity::Error, directory, message, hint))
}

/// The message and the hint, if a stranger could have written it.
fn others_may_write(about: &fs::Metadata, path: &Path, sticky_is_fine: bool) -> Option<(String, String)> {
    const WORLD_WRITABLE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let own = nix::unistd::Uid::effective().as_raw();
    let shown = path.display();
    let sticky = sticky_is_fine && about.mode() & STICKY != 0;
    if about.mode() & WORLD_WRITABLE != 0 && !sticky {
        return Some((
            "everyone may write it, and so decide who gets in".to_owned(),
            format!("run: chmod o-w {shown}"),
        ));
    }
    if about.uid() != 0 && about.uid() != own && !sticky {
        let who = if own == 0 { "root".to_owned() } else { format!("root or by user id {own}, which runs this") };
        let message = format!("it is owned by user id {}, who may write it; it must be owned by {who}", about.uid());
        return Some((message, format!("run: chown root {shown}")));
    }
    None
}

/// UTF-8 without its byte order mark. Line ends of either kind are TOML's own business.
pub fn text(file: &Path, bytes: &[u8]) -> Result<Arc<str>, Problem> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Arc::from(text)),
        Err(error) => {
            let hint = if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
                "it was saved as UTF-16: save it as UTF-8"
            } else {
                "save it as UTF-8; this byte is of another encoding"
            };
            // Shown with each bad byte as one replacement character; the first stands right after what was valid.
            let source: Arc<str> = Arc::from(String::from_utf8_lossy(bytes));
            let place = SourcePlace { source, span: error.valid_up_to()..error.valid_up_to() + '\u{fffd}'.len_utf8() };
            let message = "this is not UTF-8 text".to_owned();
            Err(Problem {
                severity: Severity::Error,
                file: file.to_owned(),
                place: Some(place),
                message,
                hint: Some(hint.to_owned()),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_taken_and_another_encoding_is_shown_where_it_begins() {
        assert_eq!(&*text(Path::new("a"), b"\xef\xbb\xbfa = 1\r\n").unwrap(), "a = 1\r\n");
        let problem = text(Path::new("a"), b"a = 1\nb = \"M\xfcller\"\n").unwrap_err();
        assert_eq!((problem.line(), problem.column()), (Some(2), Some(7)));
        assert!(text(Path::new("a"), b"\xff\xfea\0").unwrap_err().hint.unwrap().contains("UTF-16"));
    }
}
