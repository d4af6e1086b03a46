//! What the commands ask of the log: its entries as they stand, checkpoints, proofs; and a witness's line to be kept.

use std::sync::Arc;

use super::Keeper;
use super::admin::{PAGE, page, sorry};
use super::who::Who;
use crate::clock;
use crate::ipc::admin::{CheckpointRow, LogPaperRow, LogReceiptRow, LogRow, ToCommand};
use crate::ledger::checkpoint::origin;
use crate::ledger::note::{Note, NoteKey, NoteKind, NoteSignature};
use crate::ledger::{Batch, Checkpoint, Event, Kind, Write};
use crate::names::{DropId, ReceiptId};

/// A command's own words in the log, at most.
const WORDS_MAX: usize = 1024;

/// A witness's line is 200 bytes and its name.
const LINE_MAX: usize = 1024;

/// Witnesses that one checkpoint has room for.
const WITNESSES_MAX: usize = 32;

pub fn log(keeper: &Keeper, from: u64) -> Result<ToCommand, String> {
    let rows = keeper.ledger.logged(from, PAGE).map_err(|e| e.to_string())?;
    let rows = rows.into_iter().map(|(number, leaf, json)| LogRow { number, leaf, json });
    Ok(ToCommand::Log { rows: page(rows, |row| row.json.len() + 48).0 })
}

pub fn beginning(keeper: &Keeper) -> ToCommand {
    let log = keeper.ledger.beginning();
    ToCommand::Beginning { size: log.size(), peaks: log.peaks().into_iter().map(|(_, hash)| hash).collect() }
}

pub fn checkpoint(keeper: &Keeper) -> Result<ToCommand, String> {
    let ledger = &keeper.ledger;
    let kept = ledger.last_checkpoint().map_err(|e| e.to_string())?;
    let newest = match kept.filter(|kept| kept.size == ledger.head().size) {
        Some(kept) => kept,
        None => ledger.checkpoint().map_err(|e| e.to_string())?,
    };
    let signer = ledger.signer();
    let key = NoteKey::of(&origin(signer.server()), NoteKind::Log, signer.public_key());
    Ok(ToCommand::Checkpoint {
        row: Box::new(row(newest)),
        signers: signer.allowed_signer().map_err(|e| e.to_string())?,
        key: key.map(|key| key.to_string()),
    })
}

pub fn checkpoints(keeper: &Keeper, after: u64) -> Result<ToCommand, String> {
    let rows = keeper.ledger.checkpoints(after, PAGE).map_err(|e| e.to_string())?;
    let rows = rows.into_iter().map(row);
    Ok(ToCommand::Checkpoints { rows: page(rows, |row| row.body.len() + row.note.len() + row.signature.len() + 32).0 })
}

pub fn last_checkpoint(keeper: &Keeper) -> Result<ToCommand, String> {
    let last = keeper.ledger.last_checkpoint().map_err(|e| e.to_string())?;
    Ok(ToCommand::Checkpoints { rows: last.into_iter().map(row).collect() })
}

fn row(checkpoint: Checkpoint) -> CheckpointRow {
    let Checkpoint { size, body, note, signature } = checkpoint;
    CheckpointRow { size, body, note, signature }
}

pub fn receipt(keeper: &Keeper, id: &ReceiptId) -> Result<ToCommand, String> {
    let found = keeper.ledger.receipt(id).map_err(|e| e.to_string())?.map(|record| LogReceiptRow {
        text: record.text,
        signature: record.signature,
        content_signature: record.content_signature,
    });
    Ok(ToCommand::LogReceipt { found })
}

pub fn paper(keeper: &Keeper, event: u64, certified: Option<DropId>, offset: u32) -> Result<ToCommand, String> {
    let found = match certified {
        Some(drop) => keeper.ledger.certificate(&drop).map(|found| found.map(|record| (record.text, record.signature))),
        None => keeper.ledger.paper_of_event(event).map(|found| found.map(|paper| (paper.text, paper.signature))),
    };
    let found = found.map_err(|e| e.to_string())?.map(|(text, signature)| {
        let (part, more) = super::receipts::piece(&text, offset);
        LogPaperRow { part, more, signature }
    });
    Ok(ToCommand::LogPaper { found })
}

pub fn inclusion(keeper: &Keeper, event: u64, size: u64) -> Result<ToCommand, String> {
    match keeper.ledger.inclusion(event, size).map_err(|e| e.to_string())? {
        Some(proof) => Ok(ToCommand::Hashes { leaf: Some(proof.leaf), hashes: proof.hashes }),
        None => Ok(sorry(&format!("the log of {size} events has no event {event}"), Some("events count from 0"))),
    }
}

pub fn consistency(keeper: &Keeper, old: u64, new: u64) -> Result<ToCommand, String> {
    // Every log continues the empty one, and it takes no hash to show it.
    let hashes = if old == 0 { Some(Vec::new()) } else { None };
    let hashes = match hashes {
        Some(hashes) => Some(hashes),
        None => keeper.ledger.consistency(old, new).map_err(|e| e.to_string())?,
    };
    match hashes {
        Some(hashes) => Ok(ToCommand::Hashes { leaf: None, hashes }),
        None => Ok(sorry(&format!("there is no log of {old} events that one of {new} could continue"), None)),
    }
}

/// Keeps a witness's line with the checkpoint that it signs, if it does.
pub async fn cosigned(keeper: &Arc<Keeper>, size: u64, line: String, key: &str) -> ToCommand {
    let Some(key) = key.parse::<NoteKey>().ok().filter(|key| key.kind == NoteKind::Witness) else {
        return sorry("this is not a witness's public key", None);
    };
    let worker = Arc::clone(keeper);
    let found = tokio::task::spawn_blocking(move || {
        let before = size.checked_sub(1)?;
        worker.ledger.checkpoints(before, 1).ok()?.into_iter().find(|checkpoint| checkpoint.size == size)
    });
    let Ok(Some(checkpoint)) = found.await else {
        return sorry(&format!("no checkpoint over {size} events is kept"), None);
    };
    let note = Note::parse(&checkpoint.note);
    if note.is_ok_and(|note| note.signed_by(&key).is_some() || note.signatures.len() > WITNESSES_MAX) {
        return ToCommand::Done { say: "this witness's signature is there already".to_owned() };
    }
    let signature = NoteSignature::parse(&line).filter(|_| line.len() <= LINE_MAX);
    if signature.and_then(|signature| key.verify(&checkpoint.body, &signature)).is_none() {
        return sorry("the line is not this witness's signature of that checkpoint", None);
    }
    let writes = vec![Write::Cosigned { size, line }];
    match keeper.record(Batch { writes, ..Batch::default() }).await {
        Ok(_) => ToCommand::Done { say: format!("kept the signature of {}", key.name) },
        Err(refusal) => sorry(&refusal.why, None),
    }
}

/// Records a command that reads much.
pub async fn noted(keeper: &Keeper, command: &str, why: Option<&str>, who: &Who) -> ToCommand {
    let mut event = Event::new(clock::now(), Kind::AdminCommand);
    event.detail = Some(told(command, why, who));
    match keeper.record_event(event).await {
        Ok(()) => ToCommand::Done { say: String::new() },
        Err(refusal) => sorry(&refusal.why, None),
    }
}

/// Records that a backup is made, and says up to where it goes.
pub async fn backup(keeper: &Keeper, why: Option<&str>, who: &Who) -> ToCommand {
    if let sorry @ ToCommand::Sorry { .. } = noted(keeper, "backup", why, who).await {
        return sorry;
    }
    let (head, written) = keeper.ledger.written();
    match keeper.ledger.checkpoint_of(&head) {
        Ok(checkpoint) => ToCommand::Backup {
            state: keeper.state.dir().display().to_string(),
            segment: written.segment,
            end: written.end,
            root: head.root,
            checkpoint: Box::new(row(checkpoint)),
        },
        Err(e) => sorry(&e.to_string(), None),
    }
}

/// Who gave a command, and why, as it stands in the log.
pub fn told(command: &str, why: Option<&str>, who: &Who) -> String {
    let cut = |words: &str| words.chars().take(WORDS_MAX).collect::<String>();
    match why {
        Some(why) => format!("{}, by {who}: {}", cut(command), cut(why)),
        None => format!("{}, by {who}", cut(command)),
    }
}
