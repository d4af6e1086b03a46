//! Where the records of the log are read from: a running daemon, page by page, or an export.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::ipc::admin::{ToCommand, ToKeeper};
use crate::ledger::Checkpoint;
use crate::ledger::merkle::Frontier;
use crate::ledger::note::unbase64;
use crate::ledger::verify::{Logged, Records};
use crate::names::{DropId, ReceiptId};

use super::super::Ending;
use super::super::admin::{Keeper, unexpected};
use super::super::failure::Failure;
use super::tiles::Leaves;

/// Files of an export. `checkpoint` is written last: without it an export is not whole.
pub const CHECKPOINT: &str = "checkpoint";
pub const CHECKPOINTS: &str = "checkpoints.jsonl";
pub const EVENTS: &str = "events.jsonl";
pub const RECEIPTS: &str = "receipts.jsonl";
pub const PAPERS: &str = "papers.jsonl";
/// Only of a log that was pruned.
pub const BEGINNING: &str = "beginning.json";
pub const SIGNERS: &str = "allowed_signers";

/// Records of an export looked at in one go.
const PAGE: usize = 200;

/// The daemon's log, up to where it was when it was first asked: it grows meanwhile.
pub struct Online<'a> {
    pub keeper: &'a mut Keeper,
    pub size: u64,
}

impl Records for Online<'_> {
    type Error = Ending;

    fn beginning(&mut self) -> Result<Frontier, Ending> {
        beginning(self.keeper)
    }

    fn events(&mut self, from: u64) -> Result<Vec<Logged>, Ending> {
        match self.keeper.ask(&ToKeeper::Log { from })? {
            ToCommand::Log { rows } => Ok(rows
                .into_iter()
                .filter(|row| row.number < self.size)
                .map(|row| Logged { number: row.number, leaf: Some(row.leaf), json: Some(row.json) })
                .collect()),
            answer => Err(unexpected(&answer)),
        }
    }

    fn checkpoints(&mut self, after: u64) -> Result<Vec<Checkpoint>, Ending> {
        match self.keeper.ask(&ToKeeper::Checkpoints { after })? {
            ToCommand::Checkpoints { rows } => Ok(rows
                .into_iter()
                .filter(|row| row.size <= self.size)
                .map(|row| Checkpoint { size: row.size, body: row.body, note: row.note, signature: row.signature })
                .collect()),
            answer => Err(unexpected(&answer)),
        }
    }

    fn paper(&mut self, event: u64, certified: Option<DropId>) -> Result<Option<(String, String)>, Ending> {
        paper(self.keeper, event, certified)
    }

    fn receipt(&mut self, id: &ReceiptId) -> Result<Option<(String, String)>, Ending> {
        match self.keeper.ask(&ToKeeper::LogReceipt { id: *id })? {
            ToCommand::LogReceipt { found } => Ok(found.map(|found| (found.text, found.signature))),
            answer => Err(unexpected(&answer)),
        }
    }
}

/// A paper or certificate, which may be longer than a message, and its signature.
pub fn paper(keeper: &mut Keeper, event: u64, certified: Option<DropId>) -> Result<Option<(String, String)>, Ending> {
    let mut text = Vec::new();
    loop {
        let offset = u32::try_from(text.len()).unwrap_or(u32::MAX);
        match keeper.ask(&ToKeeper::LogPaper { event, certified, offset })? {
            ToCommand::LogPaper { found: Some(row) } => {
                text.extend_from_slice(&row.part);
                if !row.more || row.part.is_empty() {
                    return Ok(Some((String::from_utf8_lossy(&text).into_owned(), row.signature)));
                }
            }
            // A newer one may have taken its place meanwhile.
            ToCommand::LogPaper { found: None } => return Ok(None),
            answer => return Err(unexpected(&answer)),
        }
    }
}

/// What pruning left of the daemon's log before its first event.
pub fn beginning(keeper: &mut Keeper) -> Result<Frontier, Ending> {
    match keeper.ask(&ToKeeper::Beginning)? {
        ToCommand::Beginning { size, peaks } => Frontier::of(size, peaks)
            .ok_or_else(|| Failure::new("what the daemon says of its pruned events is not of their number").into()),
        answer => Err(unexpected(&answer)),
    }
}

/// An export, read once from its beginning to its end.
pub struct Export {
    events: Lines,
    checkpoints: Lines,
    receipts: Lines,
    papers: Lines,
    /// A paper of a later event than the one that was looked for.
    paper_ahead: Option<(u64, Value)>,
    leaves: Leaves,
    /// A line that comes later than what is looked for.
    ahead: Option<(u64, String)>,
    ended: bool,
    next: u64,
    beginning: Frontier,
}

struct Lines {
    path: PathBuf,
    file: BufReader<File>,
}

impl Lines {
    fn open(path: PathBuf) -> Result<Self, Failure> {
        let file = File::open(&path).map_err(|e| Failure::new(format_args!("cannot read {}: {e}", path.display())))?;
        Ok(Self { path, file: BufReader::new(file) })
    }

    fn next(&mut self) -> Result<Option<String>, Failure> {
        let mut bytes = Vec::new();
        match self.file.read_until(b'\n', &mut bytes) {
            Ok(0) => Ok(None),
            Ok(_) => {
                bytes.pop_if(|last| *last == b'\n');
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            Err(e) => Err(self.failed(&e)),
        }
    }

    fn place(&mut self) -> Result<u64, Failure> {
        self.file.stream_position().map_err(|e| self.failed(&e))
    }

    fn seek(&mut self, place: u64) -> Result<(), Failure> {
        self.file.seek(SeekFrom::Start(place)).map(drop).map_err(|e| self.failed(&e))
    }

    fn failed(&self, e: &io::Error) -> Failure {
        Failure::new(format_args!("cannot read {}: {e}", self.path.display()))
    }
}

impl Export {
    /// `size` is what its checkpoint says.
    pub fn open(dir: &Path, size: u64) -> Result<Self, Failure> {
        let beginning = read_beginning(&dir.join(BEGINNING))?;
        Ok(Self {
            events: Lines::open(dir.join(EVENTS))?,
            checkpoints: Lines::open(dir.join(CHECKPOINTS))?,
            receipts: Lines::open(dir.join(RECEIPTS))?,
            papers: Lines::open(dir.join(PAPERS))?,
            paper_ahead: None,
            leaves: Leaves::new(dir, size),
            ahead: None,
            ended: false,
            next: beginning.size(),
            beginning,
        })
    }

    /// The event in this place: its line, or only its leaf where the line is missing. A line that is out of its order is
    /// given with the number that it says.
    fn event(&mut self) -> Result<Option<Logged>, Failure> {
        if self.ahead.is_none() && !self.ended {
            match self.events.next()? {
                Some(line) => self.ahead = Some((said_number(&line).unwrap_or(self.next), line)),
                None => self.ended = true,
            }
        }
        let leaf = self.leaves.get(self.next);
        match self.ahead.take() {
            Some((number, line)) if number > self.next && leaf.is_some() => {
                self.ahead = Some((number, line));
                self.next += 1;
                Ok(Some(Logged { number: self.next - 1, leaf, json: None }))
            }
            Some((number, line)) if number < self.next => Ok(Some(Logged { number, leaf: None, json: Some(line) })),
            Some((number, line)) => {
                self.next = number.saturating_add(1);
                Ok(Some(Logged { number, leaf: self.leaves.get(number), json: Some(line) }))
            }
            None if leaf.is_some() => {
                self.next += 1;
                Ok(Some(Logged { number: self.next - 1, leaf, json: None }))
            }
            None => Ok(None),
        }
    }
}

/// An export without such a file is of a log that was not pruned.
fn read_beginning(path: &Path) -> Result<Frontier, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Frontier::empty()),
        Err(e) => return Err(Failure::new(format_args!("cannot read {}: {e}", path.display()))),
    };
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    let peaks = value.get("peaks").and_then(Value::as_array).map(|peaks| {
        let hash = |peak: &Value| unbase64(peak.as_str()?)?.try_into().ok();
        peaks.iter().map(hash).collect::<Option<Vec<_>>>()
    });
    let size = value.get("pruned").and_then(Value::as_u64);
    size.zip(peaks.flatten())
        .and_then(|(size, peaks)| Frontier::of(size, peaks))
        .ok_or_else(|| Failure::new(format_args!("{} cannot be read", path.display())))
}

/// What a line of canonical JSON says its number is.
fn said_number(line: &str) -> Option<u64> {
    let digits = line.strip_prefix("{\"n\":")?;
    digits.get(..digits.find(',')?)?.parse().ok()
}

impl Records for Export {
    type Error = Ending;

    fn beginning(&mut self) -> Result<Frontier, Ending> {
        Ok(self.beginning.clone())
    }

    fn events(&mut self, _from: u64) -> Result<Vec<Logged>, Ending> {
        let mut page = Vec::new();
        while page.len() < PAGE {
            match self.event()? {
                Some(event) => page.push(event),
                None => break,
            }
        }
        Ok(page)
    }

    fn checkpoints(&mut self, _after: u64) -> Result<Vec<Checkpoint>, Ending> {
        let mut page = Vec::new();
        while page.len() < PAGE {
            let Some(line) = self.checkpoints.next()? else { break };
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let note = word("note");
            let body = note.split_once("\n\n").map(|(body, _)| format!("{body}\n")).unwrap_or_default();
            let size = value.get("size").and_then(Value::as_u64);
            let size = size.ok_or_else(|| Failure::new(format_args!("a line of {CHECKPOINTS} cannot be read")))?;
            page.push(Checkpoint { size, body, note, signature: word("signature") });
        }
        Ok(page)
    }

    /// They are in the order of their events.
    fn paper(&mut self, event: u64, _certified: Option<DropId>) -> Result<Option<(String, String)>, Ending> {
        loop {
            let ahead = match self.paper_ahead.take() {
                Some(ahead) => Some(ahead),
                None => self.papers.next()?.map(|line| {
                    let value: Value = serde_json::from_str(&line).unwrap_or_default();
                    (value.get("event").and_then(Value::as_u64).unwrap_or_default(), value)
                }),
            };
            match ahead {
                Some((number, _)) if number < event => {}
                Some((number, value)) if number == event => {
                    let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                    return Ok(Some((word("text"), word("signature"))));
                }
                later => {
                    self.paper_ahead = later;
                    return Ok(None);
                }
            }
        }
    }

    /// They are in the order of their events; only what was moved by somebody is looked for.
    fn receipt(&mut self, id: &ReceiptId) -> Result<Option<(String, String)>, Ending> {
        let id = id.to_string();
        let place = self.receipts.place()?;
        let mut first = true;
        loop {
            let found = self.receipts.next()?.map(|line| serde_json::from_str::<Value>(&line).unwrap_or_default());
            match found {
                Some(value) if value.get("receipt").and_then(Value::as_str) == Some(&*id) => {
                    let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                    return Ok(Some((word("text"), word("signature"))));
                }
                _ if first => {
                    first = false;
                    self.receipts.seek(0)?;
                }
                Some(_) => {}
                None => {
                    self.receipts.seek(place)?;
                    return Ok(None);
                }
            }
        }
    }
}
