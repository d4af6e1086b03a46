//! Doing a command and saying what came of it: on standard output, on standard error, and as the exit status. Each asks the
//! keeper; what a file's standing is, is said by `status`.

use std::sync::Arc;

use russh::ChannelId;
use russh::server::Handle;

use super::status::status_text;
use super::{Command, FAILED, Part, SERVED, SHELL_PROBE_ANSWER, Style, USAGE};
use crate::ipc::jail::{Answer, ToKeeper};
use crate::names::{escaped, hex};
use crate::session::channel::Shared;
use crate::session::operations;
use crate::session::reply::{KEEPER_GONE, NOT_KEPT, Outcome};
use crate::sums::Keeps;
use crate::vpath::VirtualPath;

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
pub(super) fn sum_line(hash: &str, written: &[u8], style: Style) -> Vec<u8> {
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
        // What is too long has its line to itself.
        let gap = if served.usage.len() > 38 { format!("\n{:38}", "") } else { String::new() };
        text.push_str(&format!("{:<38}{gap} {}\n", served.usage, served.what));
    }
    text.into_bytes()
}

async fn receipt_text(shared: &Shared, path: VirtualPath, part: Part) -> Outcome<Vec<u8>> {
    if matches!(part, Part::Destroyed | Part::DestroyedSignature) {
        return match shared.keeper.ask(ToKeeper::Certificate { path }).await? {
            Answer::Certificate { text, .. } if part == Part::Destroyed => Ok(text.into_bytes()),
            Answer::Certificate { signature, .. } => Ok(signature.into_bytes()),
            _ => Err(KEEPER_GONE),
        };
    }
    match shared.keeper.ask(ToKeeper::Receipt { path }).await? {
        Answer::Receipt(receipt) => Ok(match part {
            Part::Text => receipt.text,
            Part::Signature => receipt.signature,
            Part::Content | Part::Destroyed | Part::DestroyedSignature => receipt.content_signature,
            Part::Proof => receipt.proof,
        }
        .into_bytes()),
        _ => Err(KEEPER_GONE),
    }
}
