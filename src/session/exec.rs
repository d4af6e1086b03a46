//! The commands that `ssh HOST COMMAND` may give: one table, nothing executed, and no other. Each asks the keeper what an
//! SFTP request could ask, and answers in the words that scripts and clients expect of the program of that name.

mod answer;
pub mod status;

pub use answer::{Terminal, hash_input, run, usage};

use crate::sftp::scp::Options;
use crate::sftp::words::{self, Word};
use crate::sums::{Algorithm, Keeps};
use crate::vpath::VirtualPath;

/// What a shell or a foreign command is told on standard error.
pub const NO_SHELL: &str = "This server has no shell: use sftp or scp, or one of the commands that `help` lists.";

/// Exit statuses as shells and coreutils have them.
const FAILED: u32 = 1;
const USAGE: u32 = 2;
pub const NO_COMMAND: u32 = 127;

/// rclone asks this once to learn what shell it talks to. A POSIX shell, which has no such variable, prints the rest.
const SHELL_PROBE: &[u8] = b"echo ${ShellId}%ComSpec%";
const SHELL_PROBE_ANSWER: &[u8] = b"%ComSpec%\n";

/// A command that can be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Help,
    ShellProbe,
    Receipt {
        path: VirtualPath,
        part: Part,
    },
    Status {
        paths: Vec<VirtualPath>,
    },
    /// Each as it was written, and what that means.
    Hash {
        style: Style,
        files: Vec<(Vec<u8>, VirtualPath)>,
    },
    /// Of standard input: known only of an empty one.
    HashInput {
        style: Style,
    },
    Scp {
        options: Options,
        paths: Vec<Word>,
    },
}

/// The four files that a receipt is, and the two of the certificate beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Text,
    Signature,
    Content,
    Proof,
    Destroyed,
    DestroyedSignature,
}

/// Why a command line is not done.
#[derive(Debug, PartialEq, Eq)]
pub enum NoCommand {
    /// There is no such command here: refused like a shell.
    Unknown,
    /// There is, but not so.
    Usage(String),
}

/// One row: the words a command begins with, and what reads the rest.
struct Served {
    words: &'static [&'static str],
    usage: &'static str,
    what: &'static str,
    rest: Rest,
}

/// What the words after those are.
enum Rest {
    Words(fn(&[Word]) -> Option<Command>),
    /// Files to print digests of. Only those have the command whose files may have such a digest.
    Files(Style),
}

/// A command that prints digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    algorithm: Algorithm,
    /// BSD's: one blank before the path, and nothing in the place of the name of standard input.
    bsd: bool,
}

/// Everything that is served. `help` prints the rows that say what they are for; the others are names that clients know
/// the same command by.
const SERVED: &[Served] = &[
    served(&["help"], "help", "this list", |rest| rest.is_empty().then_some(Command::Help)),
    served(
        &["receipt"],
        "receipt [--sig | --content-sig | --proof | --destroyed | --destroyed-sig] PATH",
        "the receipt of a file you sent, its signatures, its proof, the certificate of its destruction",
        receipt,
    ),
    served(&["status"], "status PATH...", "what became of a file you sent, or that was sent to you", status),
    sum(&["sha256sum"], "sha256sum PATH...", "the SHA-256 of files, from the ledger", SHA256),
    sum(&["rclone", "hashsum", "sha256"], "rclone hashsum sha256 PATH...", "", SHA256),
    sum(&["rclone", "hashsum", "SHA-256"], "rclone hashsum SHA-256 PATH...", "", SHA256),
    sum(&["md5sum"], "md5sum PATH...", "their MD5, where it is kept", MD5),
    sum(&["md5", "-r"], "md5 -r PATH...", "", MD5_BSD),
    sum(&["rclone", "md5sum"], "rclone md5sum PATH...", "", MD5),
    sum(&["rclone", "hashsum", "md5"], "rclone hashsum md5 PATH...", "", MD5),
    sum(&["rclone", "hashsum", "MD5"], "rclone hashsum MD5 PATH...", "", MD5),
    sum(&["sha1sum"], "sha1sum PATH...", "their SHA-1, where it is kept", SHA1),
    sum(&["sha1", "-r"], "sha1 -r PATH...", "", SHA1_BSD),
    sum(&["rclone", "sha1sum"], "rclone sha1sum PATH...", "", SHA1),
    sum(&["rclone", "hashsum", "sha1"], "rclone hashsum sha1 PATH...", "", SHA1),
    sum(&["rclone", "hashsum", "SHA-1"], "rclone hashsum SHA-1 PATH...", "", SHA1),
    served(&["scp"], "scp {-t | -f} [-dprqv] PATH...", "the other side of `scp -O`", scp),
];

const SHA256: Style = Style { algorithm: Algorithm::Sha256, bsd: false };
const MD5: Style = Style { algorithm: Algorithm::Md5, bsd: false };
const MD5_BSD: Style = Style { bsd: true, ..MD5 };
const SHA1: Style = Style { algorithm: Algorithm::Sha1, bsd: false };
const SHA1_BSD: Style = Style { bsd: true, ..SHA1 };

const fn served(
    words: &'static [&'static str],
    usage: &'static str,
    what: &'static str,
    read: fn(&[Word]) -> Option<Command>,
) -> Served {
    Served { words, usage, what, rest: Rest::Words(read) }
}

const fn sum(words: &'static [&'static str], usage: &'static str, what: &'static str, style: Style) -> Served {
    Served { words, usage, what, rest: Rest::Files(style) }
}

impl Style {
    /// The name its complaints begin with.
    fn program(self) -> &'static str {
        match self.algorithm {
            Algorithm::Sha256 => "sha256sum",
            Algorithm::Md5 => "md5sum",
            Algorithm::Sha1 => "sha1sum",
        }
    }

    /// The digest of nothing: what a client without a file to name asks for to see whether there is such a command.
    fn of_nothing(self) -> &'static str {
        match self.algorithm {
            Algorithm::Sha256 => "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            Algorithm::Md5 => "d41d8cd98f00b204e9800998ecf8427e",
            Algorithm::Sha1 => "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        }
    }
}

impl Served {
    fn is_for(&self, keeps: Keeps) -> bool {
        match self.rest {
            Rest::Words(_) => true,
            Rest::Files(style) => keeps.has(style.algorithm),
        }
    }

    fn read(&self, rest: &[Word]) -> Option<Command> {
        match self.rest {
            Rest::Words(read) => read(rest),
            Rest::Files(style) => hash(style, rest),
        }
    }
}

/// Reads the line of an exec request of one whose files may have these digests.
pub fn parse(line: &[u8], keeps: Keeps) -> Result<Command, NoCommand> {
    if line == SHELL_PROBE {
        return Ok(Command::ShellProbe);
    }
    let begins = |served: &&Served| line.trim_ascii_start().starts_with(served.words[0].as_bytes());
    let words = match words::split(line) {
        Ok(words) => words,
        // Whether a broken line was meant for one of these is a guess that only words the answer.
        Err(error) if SERVED.iter().any(|served| served.is_for(keeps) && begins(&served)) => {
            return Err(NoCommand::Usage(format!("{error}")));
        }
        Err(_) => return Err(NoCommand::Unknown),
    };
    let served = SERVED.iter().filter(|served| served.is_for(keeps)).find(|served| {
        words.len() >= served.words.len() && served.words.iter().zip(&words).all(|(a, b)| a.as_bytes() == b.bytes)
    });
    let served = served.ok_or(NoCommand::Unknown)?;
    served.read(&words[served.words.len()..]).ok_or_else(|| NoCommand::Usage(format!("usage: {}", served.usage)))
}

fn receipt(rest: &[Word]) -> Option<Command> {
    let (part, word) = match rest {
        [option, word] => match option.bytes.as_slice() {
            b"--sig" | b"--signature" => (Part::Signature, word),
            b"--content-sig" => (Part::Content, word),
            b"--destroyed" => (Part::Destroyed, word),
            b"--destroyed-sig" => (Part::DestroyedSignature, word),
            b"--proof" => (Part::Proof, word),
            b"--" => (Part::Text, word),
            _ => return None,
        },
        [word] if !word.bytes.starts_with(b"-") => (Part::Text, word),
        _ => return None,
    };
    path(&word.bytes).map(|path| Command::Receipt { path, part })
}

fn status(rest: &[Word]) -> Option<Command> {
    let paths: Vec<_> = operands(rest)?.iter().map(|word| path(&word.bytes)).collect::<Option<_>>()?;
    (!paths.is_empty()).then_some(Command::Status { paths })
}

fn hash(style: Style, rest: &[Word]) -> Option<Command> {
    // `-b` and `-t` say how to read a file, which is not read.
    let options = rest.iter().take_while(|word| matches!(word.bytes.as_slice(), b"-b" | b"-t")).count();
    let operands = operands(&rest[options..])?;
    if operands.is_empty() {
        return Some(Command::HashInput { style });
    }
    let files: Option<_> =
        operands.iter().map(|word| path(&word.bytes).map(|path| (word.bytes.clone(), path))).collect();
    files.map(|files| Command::Hash { style, files })
}

fn scp(rest: &[Word]) -> Option<Command> {
    let (options, count) = Options::read(rest.iter().map(|word| word.bytes.as_slice()))?;
    let paths = rest[count..].to_vec();
    (!paths.is_empty() && (options.from || paths.len() == 1)).then_some(Command::Scp { options, paths })
}

/// The words after the options, of which there are none but `--`.
fn operands(rest: &[Word]) -> Option<&[Word]> {
    match rest {
        [first, rest @ ..] if first.bytes == b"--" => Some(rest),
        _ if rest.iter().any(|word| word.bytes.starts_with(b"-")) => None,
        _ => Some(rest),
    }
}

/// `~` is the root, which is everybody's home.
pub fn path(word: &[u8]) -> Option<VirtualPath> {
    let bytes = match word {
        b"" => return None,
        [b'~'] => b"/",
        [b'~', b'/', ..] => &word[1..],
        bytes => bytes,
    };
    VirtualPath::parse(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::answer::sum_line;
    use super::*;
    use crate::names::hex;

    const NONE: Keeps = Keeps { md5: false, sha1: false };
    const BOTH: Keeps = Keeps { md5: true, sha1: true };

    fn at(text: &str) -> VirtualPath {
        VirtualPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_commands_of_the_table_are_read() {
        let receipt = |path: &str, part| Command::Receipt { path: at(path), part };
        for (line, command) in [
            ("help", Command::Help),
            ("echo ${ShellId}%ComSpec%", Command::ShellProbe),
            ("receipt /a/b", receipt("/a/b", Part::Text)),
            ("receipt --sig '/a/b c'", receipt("/a/b c", Part::Signature)),
            ("receipt --signature /a\\ b", receipt("/a b", Part::Signature)),
            ("receipt --content-sig /a", receipt("/a", Part::Content)),
            ("receipt --proof /a", receipt("/a", Part::Proof)),
            ("receipt -- -a", receipt("/-a", Part::Text)),
            ("status /a ~/b", Command::Status { paths: vec![at("/a"), at("/b")] }),
            ("sha256sum", Command::HashInput { style: SHA256 }),
            ("rclone hashsum sha256", Command::HashInput { style: SHA256 }),
            ("sha256sum -b -- a\\'b", Command::Hash { style: SHA256, files: vec![(b"a'b".to_vec(), at("/a'b"))] }),
            ("rclone hashsum sha256 /x", Command::Hash { style: SHA256, files: vec![(b"/x".to_vec(), at("/x"))] }),
        ] {
            assert_eq!(parse(line.as_bytes(), NONE), Ok(command), "{line}");
        }
        assert!(matches!(parse(b"scp -r -p -d -t /x", NONE), Ok(Command::Scp { .. })));
        assert!(matches!(parse(b"scp -f /x /y", NONE), Ok(Command::Scp { .. })));
    }

    #[test]
    fn what_is_not_in_the_table_is_no_command() {
        for line in [
            "",
            "id",
            "/bin/sh -c 'receipt /a'",
            "receipts /a",
            "md5sum",
            "sha1sum /a",
            "rclone hashsum md5",
            "rclone",
            "'' receipt",
            "echo $HOME",
            "cat /etc/passwd; id",
            "md5 -r",
        ] {
            assert_eq!(parse(line.as_bytes(), NONE), Err(NoCommand::Unknown), "{line}");
        }
    }

    #[test]
    fn a_command_said_wrongly_is_told_so_and_not_done() {
        for line in [
            "receipt",
            "receipt ''",
            "receipt -x /a",
            "receipt /a b",
            "receipt --sig",
            "status",
            "sha256sum -c sums",
            "scp /a",
            "scp -t /a /b",
            "scp -t",
            "receipt /a; id",
            "receipt /a && rm -r /",
            "receipt $(id)",
            "sha256sum 'a",
            "help me",
        ] {
            assert!(matches!(parse(line.as_bytes(), NONE), Err(NoCommand::Usage(_))), "{line}");
        }
    }

    #[test]
    fn a_name_that_would_break_the_line_is_escaped_as_coreutils_do() {
        assert_eq!(sum_line("ab", b"/a b", SHA256), b"ab  /a b\n");
        assert_eq!(sum_line("ab", b"/a\n\\b", SHA256), b"\\ab  /a\\n\\\\b\n");
    }

    #[test]
    fn sums_are_commands_for_those_whose_files_may_have_them() {
        for (line, style) in [
            ("md5sum", MD5),
            ("md5 -r", MD5_BSD),
            ("rclone md5sum", MD5),
            ("rclone hashsum md5", MD5),
            ("rclone hashsum MD5", MD5),
            ("sha1sum", SHA1),
            ("sha1 -r", SHA1_BSD),
            ("rclone sha1sum", SHA1),
            ("rclone hashsum sha1", SHA1),
            ("rclone hashsum SHA-1", SHA1),
        ] {
            assert_eq!(parse(line.as_bytes(), BOTH), Ok(Command::HashInput { style }), "{line}");
            let files = vec![(b"/x".to_vec(), at("/x"))];
            let named = format!("{line} /x");
            assert_eq!(parse(named.as_bytes(), BOTH), Ok(Command::Hash { style, files }), "{line}");
            assert_eq!(parse(named.as_bytes(), NONE), Err(NoCommand::Unknown), "{line}");
        }
        assert_eq!(sum_line("ab", b"/a b", MD5_BSD), b"ab /a b\n");
    }

    #[test]
    fn nothing_has_the_digest_that_clients_know() {
        use sha2::Digest as _;
        assert_eq!(hex(&sha2::Sha256::digest(b"")), SHA256.of_nothing());
        assert_eq!(hex(&md5::Md5::digest(b"")), MD5.of_nothing());
        assert_eq!(hex(&sha1::Sha1::digest(b"")), SHA1.of_nothing());
    }
}
