//! A manifest: the list that `sha256sum` writes, pushed beside or above the files it names. Its lines are read as
//! `sha256sum -c` reads them: text, binary and escaped names, and the form of `--tag`. No I/O here.

use serde::{Deserialize, Serialize};

use crate::names::Digest;
use crate::vpath::VirtualPath;

/// Longer lists are files like any other.
pub const BYTES_MAX: usize = 1 << 20;
pub const FILES_MAX: usize = 10_000;

/// Bytes of all paths together: a short list in a deep folder must fit into one frame of the journal, and its receipt too,
/// where a byte of a path may take four.
const PATHS_MAX: usize = 1 << 20;

/// One file that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// In the sender's view.
    pub path: VirtualPath,
    pub sha256: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("line {0} is not one that sha256sum writes")]
    Line(usize),
    #[error("line {0} names a file outside the manifest's folder")]
    Outside(usize),
    #[error("it names no file")]
    Empty,
    #[error("it names more than {FILES_MAX} files, or their paths are longer than {PATHS_MAX} bytes together")]
    TooMany,
}

/// Whether a file of this name is a manifest.
pub fn is_manifest(path: &VirtualPath) -> bool {
    path.name().is_some_and(|name| {
        let name = name.as_bytes().to_ascii_lowercase();
        name == b"sha256sums" || name == b"sha256sums.txt" || name.ends_with(b".sha256sums")
    })
}

/// Reads the manifest at `path`. A file that is named twice counts once, with what is said of it last.
pub fn parse(path: &VirtualPath, bytes: &[u8]) -> Result<Vec<Listed>, ManifestError> {
    let folder = path.parent().unwrap_or_else(VirtualPath::root);
    let (mut listed, mut length) = (std::collections::BTreeMap::new(), 0);
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let (sha256, name) = entry(line).ok_or(ManifestError::Line(at + 1))?;
        let path = below(&folder, &name).ok_or(ManifestError::Outside(at + 1))?;
        length += path.as_bytes().len();
        listed.insert(path, sha256);
        if listed.len() > FILES_MAX || length > PATHS_MAX {
            return Err(ManifestError::TooMany);
        }
    }
    if listed.is_empty() {
        return Err(ManifestError::Empty);
    }
    Ok(listed.into_iter().map(|(path, sha256)| Listed { path, sha256 }).collect())
}

fn entry(line: &[u8]) -> Option<(Digest, Vec<u8>)> {
    let (line, escaped) = match line.strip_prefix(b"\\") {
        Some(line) => (line, true),
        None => (line, false),
    };
    let (digits, name) = match line.strip_prefix(b"SHA256 (") {
        Some(tagged) => {
            // The name may have anything in it, the digest not.
            let end = tagged.len().checked_sub(4 + 64)?;
            (tagged[end..].strip_prefix(b") = ")?, &tagged[..end])
        }
        None => {
            let (digits, rest) = line.split_at_checked(64)?;
            (digits, rest.strip_prefix(b"  ").or_else(|| rest.strip_prefix(b" *"))?)
        }
    };
    let sha256 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let name = if escaped { unescape(name)? } else { name.to_vec() };
    (!name.is_empty()).then_some((sha256, name))
}

/// What stands for a backslash, a line feed and a carriage return in a line that begins with a backslash.
fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name.iter();
    while let Some(&byte) = rest.next() {
        out.push(match byte {
            b'\\' => match rest.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(out)
}

/// A manifest speaks of what is below its folder: of names that lead elsewhere it can promise nothing.
fn below(folder: &VirtualPath, name: &[u8]) -> Option<VirtualPath> {
    if name.starts_with(b"/") || name.split(|byte| *byte == b'/').any(|part| part == b"..") {
        return None;
    }
    let path = VirtualPath::parse(&[folder.as_bytes(), b"/", name].concat()).ok()?;
    path.below(folder).filter(|rest| !rest.is_root()).map(|_| path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> VirtualPath {
        VirtualPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_lines_of_sha256sum_are_read() {
        let hash = "ab".repeat(32);
        let text = format!(
            "# a study\n{hash}  a.dcm\n{hash} *sub/b.dcm\r\n\\{hash}  new\\nline\\\\\nSHA256 (c (1) = x.dcm) = {hash}\n\n\
             {hash}  ./d.dcm\n"
        );
        let read = parse(&path("/radiology/s/SHA256SUMS"), text.as_bytes()).unwrap();
        let mut names: Vec<_> = read.iter().map(|one| one.path.to_string()).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "/radiology/s/a.dcm",
                "/radiology/s/c (1) = x.dcm",
                "/radiology/s/d.dcm",
                "/radiology/s/new\\x0aline\\\\",
                "/radiology/s/sub/b.dcm"
            ]
        );
        assert!(read.iter().all(|one| one.sha256 == Digest([0xab; 32])));
    }

    #[test]
    fn what_is_no_list_or_leads_elsewhere_is_named_by_its_line() {
        let hash = "ab".repeat(32);
        let at = path("/radiology/SHA256SUMS");
        let error = |text: String| parse(&at, text.as_bytes()).unwrap_err();
        assert_eq!(error(format!("{hash}  a\nhello\n")), ManifestError::Line(2));
        assert_eq!(error(format!("{hash} a\n")), ManifestError::Line(1));
        assert_eq!(error(format!("\\{hash}  a\\x\n")), ManifestError::Line(1));
        assert_eq!(error(format!("{hash}  ../a\n")), ManifestError::Outside(1));
        assert_eq!(error(format!("{hash}  /etc/a\n")), ManifestError::Outside(1));
        assert_eq!(error("\n\n".to_owned()), ManifestError::Empty);
        let many: String = (0..=FILES_MAX).map(|n| format!("{hash}  {n}\n")).collect();
        assert_eq!(error(many), ManifestError::TooMany);
        let deep = path(&format!("/{}SHA256SUMS", format!("{}/", "d".repeat(250)).repeat(10)));
        let few: String = (0..500).map(|n| format!("{hash}  {n}\n")).collect();
        assert_eq!(parse(&deep, few.as_bytes()), Err(ManifestError::TooMany));
    }

    #[test]
    fn manifests_go_by_their_names() {
        for (name, is) in
            [("SHA256SUMS", true), ("study.sha256sums", true), ("sha256sums.txt", true), ("a.sha256", false)]
        {
            assert_eq!(is_manifest(&path(&format!("/radiology/{name}"))), is, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = parse(&path("/r/SHA256SUMS"), &bytes);
            let _ = parse(&path("/r/SHA256SUMS"), &[b"SHA256 (", &bytes[..]].concat());
        }
    }
}
