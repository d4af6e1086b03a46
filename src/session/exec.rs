//! The commands that `ssh HOST COMMAND` may give: one table, nothing executed, and no other. Each asks the keeper what an
//! SFTP request could ask, and answers in the words that scripts and clients expect of the program of that name.

use std::sync::Arc;

use russh::ChannelId;
use russh::server::Handle;

use super::channel::Shared;
use super::operations;
use super::reply::{KEEPER_GONE, NO_SUCH_FILE, NOT_KEPT, Outcome};
use crate::ipc::jail::{Answer, DropStatus, Standing, ToKeeper};
use crate::names::{escaped, hex};
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

/// The three files that a receipt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Text,
    Signature,
    Content,
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
        "receipt [--sig | --content-sig] PATH",
        "the receipt of a file you sent, or its signatures",
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

/// The channel of one command.
#[derive(Clone)]
pub struct Terminal {
    pub ssh: Handle,
    pub id: ChannelId,
}

impl Terminal {
    pub async fn print(&self, bytes: impl Into<bytes::Bytes>) {
        let _ = self.ssh.data(self.id, bytes).await;
    }

    pub async fn complain(&self, line: String) {
        let _ = self.ssh.extended_data(self.id, 1, format!("{line}\r\n").into_bytes()).await;
    }

    pub async fn exit(&self, status: u32) {
        let _ = self.ssh.exit_status_request(self.id, status).await;
        let _ = self.ssh.eof(self.id).await;
        let _ = self.ssh.close(self.id).await;
    }
}

/// Does a command whose whole input is its line, and ends its channel.
pub async fn run(shared: Arc<Shared>, terminal: Terminal, command: Command) {
    let failures = match command {
        Command::Help => {
            terminal.print(help(shared.admission.keeps)).await;
            0
        }
        Command::ShellProbe => {
            terminal.print(SHELL_PROBE_ANSWER).await;
            0
        }
        Command::Receipt { path, part } => {
            let text = receipt_text(&shared, path.clone(), part).await;
            answer(&terminal, "receipt", path.as_bytes(), text).await
        }
        Command::Status { paths } => {
            let mut failures = 0;
            for path in paths {
                let text = status_text(&shared, path.clone()).await;
                failures += answer(&terminal, "status", path.as_bytes(), text).await;
            }
            failures
        }
        Command::Hash { style, files } => {
            let mut failures = 0;
            for (written, path) in files {
                let whole = operations::digest(&shared, &path).await;
                let hash = whole.map(|whole| whole.hash(style.algorithm).map(hex).unwrap_or_default());
                // A line without a hash and no failure is how rclone takes it that a file has none. Told of a failure it
                // says that the file was corrupted on its way, and removes what it has just delivered.
                if hash.as_ref().is_ok_and(String::is_empty) {
                    let say = format!("{}: {}: {}", style.program(), escaped(&written), NOT_KEPT.say);
                    terminal.complain(say).await;
                }
                let line = hash.map(|hash| sum_line(&hash, &written, style));
                failures += answer(&terminal, style.program(), &written, line).await;
            }
            failures
        }
        // Both have input of their own, and are begun by their channel.
        Command::HashInput { .. } | Command::Scp { .. } => 1,
    };
    terminal.exit(if failures == 0 { 0 } else { FAILED }).await;
}

/// The end of standard input, for [`Command::HashInput`].
pub async fn hash_input(terminal: Terminal, style: Style, empty: bool) {
    if empty {
        let line = if style.bsd { format!("{}\n", style.of_nothing()) } else { format!("{}  -\n", style.of_nothing()) };
        terminal.print(line.into_bytes()).await;
        return terminal.exit(0).await;
    }
    terminal.complain(format!("{}: standard input is not hashed here: name a file", style.program())).await;
    terminal.exit(FAILED).await;
}

/// A line that was meant for one of the commands and is none.
pub async fn usage(terminal: Terminal, say: String) {
    terminal.complain(say).await;
    terminal.exit(USAGE).await;
}

async fn answer(terminal: &Terminal, command: &str, subject: &[u8], text: Outcome<Vec<u8>>) -> u32 {
    match text {
        Ok(text) => {
            terminal.print(text).await;
            0
        }
        Err(refusal) => {
            terminal.complain(format!("{command}: {}: {}", escaped(subject), refusal.say)).await;
            1
        }
    }
}

/// As coreutils print it: a name that would break the line is escaped, and a backslash before the hash says so.
fn sum_line(hash: &str, written: &[u8], style: Style) -> Vec<u8> {
    let mut line = Vec::new();
    if written.iter().any(|byte| b"\\\n\r".contains(byte)) {
        line.push(b'\\');
    }
    line.extend_from_slice(hash.as_bytes());
    line.extend_from_slice(if style.bsd { b" " } else { b"  " });
    for &byte in written {
        match byte {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            _ => line.push(byte),
        }
    }
    line.push(b'\n');
    line
}

fn help(keeps: Keeps) -> Vec<u8> {
    let mut text = String::new();
    for served in SERVED.iter().filter(|served| !served.what.is_empty() && served.is_for(keeps)) {
        text.push_str(&format!("{:<38} {}\n", served.usage, served.what));
    }
    text.into_bytes()
}

async fn receipt_text(shared: &Shared, path: VirtualPath, part: Part) -> Outcome<Vec<u8>> {
    match shared.keeper.ask(ToKeeper::Receipt { path }).await? {
        Answer::Receipt(receipt) => Ok(match part {
            Part::Text => receipt.text,
            Part::Signature => receipt.signature,
            Part::Content => receipt.content_signature,
        }
        .into_bytes()),
        _ => Err(KEEPER_GONE),
    }
}

async fn status_text(shared: &Shared, path: VirtualPath) -> Outcome<Vec<u8>> {
    let tree = &shared.tree;
    let disk = tree.resolve(path.clone());
    if tree.shows_sealed(&path) && disk == path {
        return Err(NO_SUCH_FILE);
    }
    let staged = if tree.exists(&disk) { None } else { tree.staging.size(&disk).filter(|_| tree.stat(&disk).is_ok()) };
    // Of what is staged it knows whether that waits to be delivered; all else it says is of a file that was there before.
    let told = shared.keeper.ask(ToKeeper::DropStatus { path: disk }).await;
    match (told, staged) {
        (Ok(Answer::DropStatus(status)), staged)
            if staged.is_none() || matches!(status.standing, Standing::Waiting { .. }) =>
        {
            Ok(table(status_lines(&path, &status, shared.admission.user.as_str())))
        }
        (Err(refusal), _) if refusal != NO_SUCH_FILE => Err(refusal),
        (Err(refusal), None) => Err(refusal),
        (Ok(_), None) => Err(KEEPER_GONE),
        (_, Some(size)) => {
            let lines = [("path", escaped(path.as_bytes())), ("state", "not complete: it can be continued".to_owned())];
            Ok(table(lines.into_iter().chain([("size", format!("{size} so far"))])))
        }
    }
}

fn table<'a>(lines: impl IntoIterator<Item = (&'a str, String)>) -> Vec<u8> {
    lines.into_iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect::<String>().into_bytes()
}

fn status_lines(path: &VirtualPath, status: &DropStatus, user: &str) -> Vec<(&'static str, String)> {
    let standing = match status.standing {
        Standing::Waiting { until } => format!("waiting until {until}"),
        Standing::Live => "delivered".to_owned(),
        Standing::Held => "held: kept past its expiry until it is released".to_owned(),
        Standing::Expired => "expired: nobody can read it any more".to_owned(),
        Standing::Destroyed { at } => format!("destroyed {at}"),
        Standing::Removed { at } => format!("removed {at}"),
        Standing::Superseded { at } => format!("superseded {at}"),
    };
    let mut lines = vec![
        ("path", escaped(path.as_bytes())),
        ("state", standing),
        ("received", status.received.to_string()),
        ("size", status.size.to_string()),
        ("sha256", status.sha256.to_string()),
    ];
    lines.extend(status.sums.md5.map(|md5| ("md5", hex(&md5))));
    lines.extend(status.sums.sha1.map(|sha1| ("sha1", hex(&sha1))));
    lines.push(("expires", status.expires.map_or_else(|| "never".to_owned(), |end| end.to_string())));
    if let Some(newer) = status.superseded {
        let by = newer.by.map_or_else(String::new, |receipt| format!(" by receipt {receipt}"));
        lines.push(("superseded", format!("{}{by}", newer.at)));
    }
    if matches!(status.standing, Standing::Waiting { .. }) {
        lines.retain(|(name, _)| !["received", "expires"].contains(name));
    }
    if status.sender.as_str() != user {
        lines.push(("from", status.sender.to_string()));
    }
    for to in &status.deliveries {
        let mut said = match (to.count, to.last) {
            (0, _) => "not picked up".to_owned(),
            (1, Some(last)) => format!("picked up {last}"),
            (count, Some(last)) => format!("picked up {count} times, last {last}"),
            (count, None) => format!("picked up {count} times"),
        };
        if let Some(at) = to.removed {
            said.push_str(&format!(", removed from the inbox {at}"));
        }
        lines.push(("to", format!("{}: {said}", to.user)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

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
