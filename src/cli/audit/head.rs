//! `audit checkpoint`, `audit prove`, `audit consistency`: what others keep, and what convinces them. What is printed
//! is the file itself, so it can be redirected; the formats are those of transparency logs (docs/ledger.md, "Log").

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::ipc::admin::{CheckpointRow, ToCommand, ToKeeper};
use crate::ledger::note::base64;
use crate::ledger::proof::{ConsistencyProof, InclusionProof};

use super::super::Ending;
use super::super::admin::{Daemon, Keeper, unexpected};
use super::super::failure::Failure;
use super::super::say::Say;

/// Show the newest checkpoint: keep it elsewhere, and `audit verify --checkpoint` finds what changed since
#[derive(clap::Args)]
pub struct Checkpoint {
    #[command(flatten)]
    daemon: Daemon,
    /// Write it to FILE, and to FILE.sig what `ssh-keygen -Y verify` checks of its first three lines
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["all", "key"])]
    output: Option<PathBuf>,
    /// Every checkpoint that is kept, as JSON lines
    #[arg(long, conflicts_with = "key")]
    all: bool,
    /// The public key that signs checkpoints, as tools for transparency logs take it
    #[arg(long)]
    key: bool,
}

/// Prove that an event is in the log: a proof that needs no trust in this server but its key
#[derive(clap::Args)]
pub struct Prove {
    #[command(flatten)]
    daemon: Daemon,
    /// The event
    #[arg(value_name = "EVENT")]
    event: u64,
}

/// Prove that the log is the one of OLD events, continued
#[derive(clap::Args)]
pub struct Consistency {
    #[command(flatten)]
    daemon: Daemon,
    /// How many events the earlier log had
    #[arg(value_name = "OLD")]
    old: u64,
    /// How many the later one had, of which a checkpoint must be kept [default: now]
    #[arg(value_name = "NEW")]
    new: Option<u64>,
}

impl Checkpoint {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        if self.all {
            return all(&mut keeper, |row| say.json(&as_json(row)));
        }
        let (row, key) = newest(&mut keeper)?;
        match (&self.output, self.key) {
            (_, true) => {
                let key = key.ok_or_else(|| {
                    Failure::new("the receipt key is not Ed25519, and signs no notes")
                        .hint("checkpoints carry an SSH signature all the same: `--output`")
                })?;
                if say.is_json() { say.json(&json!({ "key": key })) } else { say.line(key) }
            }
            (Some(path), _) => {
                let signature = with_sig(path);
                write(path, &row.note)?;
                write(&signature, &row.signature)?;
                if say.is_json() {
                    say.json(&json!({ "size": row.size, "checkpoint": path, "signature": signature }));
                } else {
                    say.line(format_args!("wrote {} and {}", path.display(), signature.display()));
                }
            }
            (None, _) if say.is_json() => say.json(&as_json(&row)),
            (None, _) => say.raw(row.note),
        }
        Ok(())
    }
}

impl Prove {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        let (row, _) = newest(&mut keeper)?;
        let (leaf, hashes) = match keeper.ask(&ToKeeper::Inclusion { event: self.event, size: row.size })? {
            ToCommand::Hashes { leaf, hashes } => (leaf.unwrap_or_default(), hashes),
            answer => return Err(unexpected(&answer)),
        };
        let proof = InclusionProof { event: self.event, json: None, hashes, checkpoint: row.note };
        // An answer that proves nothing is no answer.
        proof.check(leaf).map_err(|e| Failure::new(format_args!("the daemon's proof does not hold: {e}")))?;
        if say.is_json() {
            let hashes: Vec<String> = proof.hashes.iter().map(|hash| base64(hash)).collect();
            say.json(&json!({
                "event": proof.event, "leaf": base64(&leaf), "size": row.size, "hashes": hashes, "checkpoint": proof.checkpoint,
            }));
        } else {
            say.raw(proof.text());
        }
        Ok(())
    }
}

impl Consistency {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        let proof = consistency(&mut keeper, self.old, self.new)?;
        if say.is_json() {
            let hashes: Vec<String> = proof.hashes.iter().map(|hash| base64(hash)).collect();
            say.json(&json!({ "old": proof.old, "hashes": hashes, "checkpoint": proof.checkpoint }));
        } else {
            say.raw(proof.text());
        }
        Ok(())
    }
}

/// That the log of `old` events is continued by the one of `new`, by default of now.
fn consistency(keeper: &mut Keeper, old: u64, new: Option<u64>) -> Result<ConsistencyProof, Ending> {
    let row = match new {
        None => newest(keeper)?.0,
        Some(new) => kept(keeper, new)?,
    };
    consistency_of(keeper, old, row)
}

/// The same for a checkpoint that is at hand.
pub fn consistency_of(keeper: &mut Keeper, old: u64, row: CheckpointRow) -> Result<ConsistencyProof, Ending> {
    match keeper.ask(&ToKeeper::Consistency { old, new: row.size })? {
        ToCommand::Hashes { hashes, .. } => Ok(ConsistencyProof { old, hashes, checkpoint: row.note }),
        answer => Err(unexpected(&answer)),
    }
}

/// The checkpoint over exactly so many events.
fn kept(keeper: &mut Keeper, size: u64) -> Result<CheckpointRow, Ending> {
    match keeper.ask(&ToKeeper::Checkpoints { after: size.saturating_sub(1) })? {
        ToCommand::Checkpoints { rows } => rows.into_iter().next().filter(|row| row.size == size).ok_or_else(|| {
            Failure::new(format_args!("no checkpoint over exactly {size} events is kept"))
                .hint("`sealdrop audit checkpoint --all` lists them")
                .into()
        }),
        answer => Err(unexpected(&answer)),
    }
}

/// The newest checkpoint of those that are kept.
pub fn last_kept(keeper: &mut Keeper) -> Result<CheckpointRow, Ending> {
    match keeper.ask(&ToKeeper::LastCheckpoint)? {
        ToCommand::Checkpoints { rows } => rows.into_iter().next_back().ok_or_else(|| {
            Failure::new("no checkpoint is kept yet").hint("there is one a second after the first event").into()
        }),
        answer => Err(unexpected(&answer)),
    }
}

/// The newest checkpoint, and the key for notes that signs it.
pub fn newest(keeper: &mut Keeper) -> Result<(CheckpointRow, Option<String>), Ending> {
    match keeper.ask(&ToKeeper::Checkpoint)? {
        ToCommand::Checkpoint { row, key, .. } => Ok((*row, key)),
        answer => Err(unexpected(&answer)),
    }
}

/// Every checkpoint that is kept.
pub fn all(keeper: &mut Keeper, mut show: impl FnMut(&CheckpointRow)) -> Result<(), Ending> {
    let mut after = 0;
    loop {
        match keeper.ask(&ToKeeper::Checkpoints { after })? {
            ToCommand::Checkpoints { rows } => {
                rows.iter().for_each(&mut show);
                match rows.last() {
                    Some(last) if last.size > after => after = last.size,
                    _ => return Ok(()),
                }
            }
            answer => return Err(unexpected(&answer)),
        }
    }
}

pub fn as_json(row: &CheckpointRow) -> serde_json::Value {
    json!({ "size": row.size, "note": row.note, "signature": row.signature })
}

pub fn with_sig(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|e| Failure::new(format_args!("cannot write {}: {e}", path.display())))
}
