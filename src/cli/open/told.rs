//! What `sealdrop open` says: of a file that opened, and of one that did not, with what to try.

use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use crate::cli::failure::Failure;
use crate::cli::output::cannot_read;
use crate::clock::Time;
use crate::names::{Digest, escaped, hex};
use crate::seal::{Envelope, Head, ReadError, SealError, StanzaId, StanzaKind, Trailer};

use super::keys::Key;

pub fn tell(
    out: &mut dyn Write,
    json: bool,
    path: &Path,
    head: &Head,
    trailer: &Trailer,
    range: Option<Range<u64>>,
) -> io::Result<()> {
    let range = range.map(|range| format!("{}-{}", range.start, range.end - 1));
    if json {
        let mut told = serde_json::json!({
            "output": path.to_string_lossy(),
            "drop": head.drop_id().to_string(),
            "name": escaped(&trailer.name),
            "size": trailer.size,
            "sha256": Digest(trailer.sha256).to_string(),
            "sender": trailer.sender,
            "server": trailer.server,
            "recipients": trailer.recipients,
            "sealed_at": Time(trailer.sealed_at).rfc3339(),
        });
        if let Some(range) = range {
            told["range"] = range.into();
        }
        return writeln!(out, "{told}");
    }
    // Names come from whoever sealed the file: they are shown escaped, and never used as a path.
    let mut from = String::new();
    for (word, name) in [("from", &trailer.sender), ("by way of", &trailer.server)] {
        if !name.is_empty() {
            from.push_str(&format!(", {word} {}", escaped(name.as_bytes())));
        }
    }
    let sealed = Time(trailer.sealed_at).rfc3339();
    if let Some(range) = range {
        return writeln!(
            out,
            "{}: bytes {range} of {}, each verified{from}, sealed {sealed}",
            path.display(),
            trailer.size
        );
    }
    writeln!(out, "{}: {} bytes, verified{from}, sealed {sealed}", path.display(), trailer.size)?;
    writeln!(out, "sha256 {}", Digest(trailer.sha256))
}

/// What to tell the person, and what to try. `tried` is there when no identity fitted.
pub fn explain(path: &Path, error: ReadError, tried: Option<(&Envelope, &[Key])>) -> Failure {
    let name = if path == Path::new("-") { "standard input".into() } else { path.display().to_string() };
    let error = match error {
        ReadError::Io(error) => return cannot_read(Path::new(&name), &error),
        ReadError::Seal(error) => error,
    };
    let failure = Failure::new(format_args!("{name}: {error}"));
    match error {
        SealError::NotSealed => {
            failure.hint("a sealed file begins with SEALDRP; is this the original, or another tool's?")
        }
        SealError::Version => failure.hint("a newer sealdrop may open it"),
        SealError::NotForThisIdentity => match tried {
            Some((envelope, keys)) => {
                let said = |ids: &mut dyn Iterator<Item = StanzaId>| ids.map(named).collect::<Vec<_>>().join(", ");
                let to = said(&mut envelope.stanza_ids().into_iter());
                failure.hint(format_args!("it is sealed to {to}; you gave {}", said(&mut keys.iter().map(Key::id))))
            }
            None => failure,
        },
        SealError::ShredWrapped => failure.hint(
            "this copy is from the server's disk or a backup of it; fetch the file over SFTP while it has not expired",
        ),
        SealError::Unfinished => {
            failure.hint("this is the .part of an upload; the sender can continue it, or send the file again")
        }
        SealError::Length => failure.hint("compare its length with the server's listing and fetch it again"),
        SealError::Damaged if tried.is_some_and(|(_, keys)| keys.iter().all(Key::is_passphrase)) => {
            failure.hint("nobody can tell a mistyped passphrase from damage: try it again, then fetch the file again")
        }
        SealError::Damaged | SealError::Malformed(_) => {
            failure.hint("fetch it again and check it against its receipt with `sealdrop verify`")
        }
        _ => failure,
    }
}

/// One of those who can open a file, as far as its envelope tells.
fn named(id: StanzaId) -> String {
    let key = hex(&id.key_id);
    match id.kind {
        StanzaKind::Hpke(kem) => format!("{} key {key}", kem.word()),
        StanzaKind::Ssh => format!("SSH key {key}"),
        StanzaKind::Passphrase => "a passphrase".to_owned(),
        StanzaKind::Shred | StanzaKind::Unknown => format!("a key of an unknown kind, {key}"),
    }
}
