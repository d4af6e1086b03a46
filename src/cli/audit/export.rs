//! `audit export`: the log as files, whole: every event as it was hashed, every receipt, every checkpoint, and the tree
//! as tiles. What an auditor takes away; `audit verify --export` needs nothing else.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::ipc::admin::{ToCommand, ToKeeper};
use crate::ledger::note::base64;
use crate::ledger::verify::{paper_of, receipt_of};
use crate::names::{DropId, ReceiptId};

use super::super::Ending;
use super::super::admin::{Daemon, Keeper, unexpected};
use super::super::failure::Failure;
use super::super::say::{Say, count};
use super::head;
use super::names::{Auditor, Opener};
use super::source::{BEGINNING, CHECKPOINT, CHECKPOINTS, EVENTS, PAPERS, RECEIPTS, SIGNERS, beginning, paper};
use super::tiles::TileWriter;

/// Write the log to a directory: events, receipts, checkpoints and the tree that proves them
#[derive(clap::Args)]
pub struct Export {
    #[command(flatten)]
    daemon: Daemon,
    /// Where to: a directory that is empty or not there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    auditor: Auditor,
    /// Why, for the log
    #[arg(long, alias = "reason", value_name = "WORDS")]
    why: Option<String>,
}

/// What only an export with an identity has.
const NAMES: &str = "names.jsonl";

/// Events whose names are read in one go.
const NAMES_STEP: u64 = 10_000;

/// What was written.
#[derive(Default)]
struct Written {
    events: u64,
    receipts: u64,
    papers: u64,
    names: u64,
    checkpoints: u64,
}

impl Export {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        let opener = self.auditor.opener()?;
        prepare(&self.dir).map_err(|e| self.failed(&e))?;
        // First it is recorded, so that the export says of itself that it was made.
        let command = if opener.is_some() { "audit export, with hidden names" } else { "audit export" };
        keeper.ask(&ToKeeper::Noted { command: command.to_owned(), why: self.why.clone() })?;
        let (row, signers) = match keeper.ask(&ToKeeper::Checkpoint)? {
            ToCommand::Checkpoint { row, signers, .. } => (row, signers),
            answer => return Err(unexpected(&answer)),
        };
        let mut written = Written::default();
        self.events(&mut keeper, row.size, &mut written)?;
        if let Some(mut opener) = opener {
            written.names = self.names(&mut keeper, &mut opener, row.size)?;
        }

        let mut checkpoints = self.create(CHECKPOINTS)?;
        let mut last = 0;
        let mut failed = None;
        head::all(&mut keeper, |kept| {
            if kept.size <= row.size && failed.is_none() {
                failed = writeln!(checkpoints, "{}", head::as_json(kept)).err();
                (written.checkpoints, last) = (written.checkpoints + 1, kept.size);
            }
        })?;
        if last < row.size && failed.is_none() {
            failed = writeln!(checkpoints, "{}", head::as_json(&row)).err();
            written.checkpoints += 1;
        }
        failed.map_or(Ok(()), |e| Err(self.failed(&e)))?;
        finish(checkpoints).map_err(|e| self.failed(&e))?;

        for (name, text) in [(SIGNERS, &signers), ("checkpoint.sig", &row.signature), (CHECKPOINT, &row.note)] {
            let mut file = self.create(name)?;
            file.write_all(text.as_bytes()).map_err(|e| self.failed(&e))?;
            finish(file).map_err(|e| self.failed(&e))?;
        }
        if say.is_json() {
            say.json(&json!({
                "dir": self.dir, "events": written.events, "receipts": written.receipts,
                "papers": written.papers, "names": written.names, "checkpoints": written.checkpoints, "size": row.size,
            }));
        } else {
            say.line(format_args!(
                "wrote {}, {} and {} to {}",
                count(written.events, "event"),
                count(written.receipts, "receipt"),
                count(written.checkpoints, "checkpoint"),
                self.dir.display()
            ));
        }
        Ok(())
    }

    fn events(&self, keeper: &mut Keeper, size: u64, written: &mut Written) -> Result<(), Ending> {
        let (mut events, mut receipts) = (self.create(EVENTS)?, self.create(RECEIPTS)?);
        let mut papers = self.create(PAPERS)?;
        let beginning = beginning(keeper)?;
        let mut from = beginning.size();
        if from > 0 {
            let peaks: Vec<String> = beginning.peaks().iter().map(|(_, hash)| base64(hash)).collect();
            let mut file = self.create(BEGINNING)?;
            writeln!(file, "{}", json!({ "pruned": from, "peaks": peaks })).map_err(|e| self.failed(&e))?;
            finish(file).map_err(|e| self.failed(&e))?;
        }
        let mut tiles = TileWriter::new(&self.dir, beginning);
        while from < size {
            let rows = match keeper.ask(&ToKeeper::Log { from })? {
                ToCommand::Log { rows } => rows,
                answer => return Err(unexpected(&answer)),
            };
            let Some(last) = rows.last().map(|row| row.number) else { break };
            for row in rows.into_iter().filter(|row| row.number < size) {
                writeln!(events, "{}", row.json).map_err(|e| self.failed(&e))?;
                tiles.push(row.leaf).map_err(|e| self.failed(&e))?;
                written.events += 1;
                let (receipt, certified) = given(&row.json);
                if let Some(certified) = certified
                    && let Some((text, signature)) = paper(keeper, row.number, certified)?
                {
                    let line = json!({ "event": row.number, "text": text, "signature": signature });
                    writeln!(papers, "{line}").map_err(|e| self.failed(&e))?;
                    written.papers += 1;
                }
                if let Some(id) = receipt
                    && let ToCommand::LogReceipt { found: Some(found) } = keeper.ask(&ToKeeper::LogReceipt { id })?
                {
                    let line = json!({
                        "receipt": id.to_string(), "event": row.number, "text": found.text,
                        "signature": found.signature, "content_signature": found.content_signature,
                    });
                    writeln!(receipts, "{line}").map_err(|e| self.failed(&e))?;
                    written.receipts += 1;
                }
            }
            from = last + 1;
        }
        tiles.finish().map_err(|e| self.failed(&e))?;
        finish(events).map_err(|e| self.failed(&e))?;
        finish(papers).map_err(|e| self.failed(&e))?;
        Ok(finish(receipts).map_err(|e| self.failed(&e))?)
    }

    /// What hidden names stand for, with the salts that prove it.
    fn names(&self, keeper: &mut Keeper, opener: &mut Opener, size: u64) -> Result<u64, Ending> {
        let mut file = self.create(NAMES)?;
        let (mut from, mut count) = (0, 0);
        while from < size {
            let until = size.min(from + NAMES_STEP);
            for (event, text) in opener.open(keeper, from, until)? {
                let line = json!({ "event": event, "salt": text.salt, "names": text.names });
                writeln!(file, "{line}").map_err(|e| self.failed(&e))?;
                count += 1;
            }
            from = until;
        }
        finish(file).map_err(|e| self.failed(&e))?;
        Ok(count)
    }

    fn create(&self, name: &str) -> Result<BufWriter<File>, Failure> {
        let path = self.dir.join(name);
        let file = File::options().write(true).create_new(true).open(&path);
        file.map(BufWriter::new).map_err(|e| Failure::new(format_args!("cannot write {}: {e}", path.display())))
    }

    fn failed(&self, e: &io::Error) -> Failure {
        Failure::new(format_args!("cannot write to {}: {e}", self.dir.display()))
    }
}

/// The receipt that an event commits to; whether it commits to a paper, and if that is a certificate, of which drop.
fn given(json: &str) -> (Option<ReceiptId>, Option<Option<DropId>>) {
    let event: Value = serde_json::from_str(json).unwrap_or_default();
    (receipt_of(&event).map(|(receipt, _)| receipt), paper_of(&event).map(|paper| paper.certified))
}

fn prepare(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    match fs::read_dir(dir)?.next() {
        None => Ok(()),
        Some(_) => Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, "it is not empty")),
    }
}

fn finish(file: BufWriter<File>) -> io::Result<()> {
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}
