//! `sealdrop receipts`: the receipts the server has given, as a list, or one of them with its signature.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::ipc::admin::{ReceiptRow, ToCommand, ToKeeper};
use crate::names::{ReceiptId, UserName};

use super::Ending;
use super::admin::{Daemon, Keeper, unexpected};
use super::failure::Failure;
use super::say::{Align, Say, Table, size};

/// List receipts, or show one
#[derive(clap::Args)]
pub struct Receipts {
    #[command(flatten)]
    daemon: Daemon,
    /// Only those given to this user
    #[arg(long, value_name = "USER")]
    user: Option<UserName>,
    /// Show this receipt as it was signed
    #[arg(value_name = "RECEIPT", conflicts_with = "user")]
    id: Option<ReceiptId>,
    /// Write it to DIR/RECEIPT.receipt and its signature to DIR/RECEIPT.receipt.sig instead
    #[arg(long, value_name = "DIR", requires = "id")]
    save: Option<PathBuf>,
    /// Show the certificate of its drop's destruction instead; with --save, DIR/RECEIPT.destroyed and .destroyed.sig
    #[arg(long, requires = "id")]
    destroyed: bool,
}

impl Receipts {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut keeper = self.daemon.connect()?;
        match self.id {
            Some(id) => one(say, &mut keeper, id, self.save.as_deref(), self.destroyed),
            None => list(say, &mut keeper, self.user),
        }
    }
}

fn one(say: &Say, keeper: &mut Keeper, id: ReceiptId, save: Option<&Path>, destroyed: bool) -> Result<(), Ending> {
    let (text, signature) = if destroyed {
        certificate(keeper, id)?
    } else {
        match keeper.ask(&ToKeeper::Receipt { id })? {
            ToCommand::Receipt { text, signature } => (text, signature),
            answer => return Err(unexpected(&answer)),
        }
    };
    let ending = if destroyed { "destroyed" } else { "receipt" };
    match save {
        Some(dir) => {
            let receipt = dir.join(format!("{id}.{ending}"));
            let signed = dir.join(format!("{id}.{ending}.sig"));
            for (path, bytes) in [(&receipt, &text), (&signed, &signature)] {
                std::fs::write(path, bytes)
                    .map_err(|e| Failure::new(format_args!("cannot write {}: {e}", path.display())))?;
            }
            say.line(format_args!("wrote {} and {}", receipt.display(), signed.display()));
            if say.is_json() {
                say.json(&json!({ ending: receipt, "signature": signed }));
            }
        }
        None if say.is_json() => say.json(&json!({ "id": id.to_string(), "text": text, "signature": signature })),
        // Byte for byte: what is printed here verifies.
        None => say.raw(text),
    }
    Ok(())
}

/// Of the drop that the receipt was given for.
fn certificate(keeper: &mut Keeper, id: ReceiptId) -> Result<(String, String), Ending> {
    let drop = match keeper.ask(&ToKeeper::Find { what: id.to_string(), below: false, after: None })? {
        ToCommand::Drops { rows, .. } => rows.first().map(|row| row.drop),
        answer => return Err(unexpected(&answer)),
    };
    let drop = drop.ok_or_else(|| Failure::new(format_args!("there is no drop of receipt {id}")))?;
    match keeper.ask(&ToKeeper::Certificate { drop })? {
        ToCommand::Certificate { text, signature } => Ok((text, signature)),
        answer => Err(unexpected(&answer)),
    }
}

fn list(say: &Say, keeper: &mut Keeper, user: Option<UserName>) -> Result<(), Ending> {
    let mut table = Table::new(&[
        ("RECEIPT", Align::Left),
        ("FROM", Align::Left),
        ("SIZE", Align::Right),
        ("RECEIVED", Align::Left),
        ("SHA-256", Align::Left),
        ("NOTE", Align::Left),
        ("PATH", Align::Left),
    ]);
    keeper.pages(
        |after| ToKeeper::Receipts { user: user.clone(), after },
        |answer| match answer {
            ToCommand::Receipts { rows, next } => {
                for row in rows {
                    if say.is_json() { say.json(&as_json(&row)) } else { table.row(cells(&row)) }
                }
                Ok(next)
            }
            answer => Err(unexpected(&answer)),
        },
    )?;
    if table.is_empty() {
        say.line("no receipts")
    } else {
        say.table(&table)
    }
    Ok(())
}

fn cells(row: &ReceiptRow) -> [String; 7] {
    let digest: String = row.sha256.chars().take(DIGEST_SHOWN).collect();
    [
        row.id.to_string(),
        row.sender.to_string(),
        size(row.size),
        row.received.to_string(),
        digest + "…",
        note(row).to_owned(),
        row.path.clone(),
    ]
}

/// What one has to know of it before all else; by which receipt and when is in `--json`.
fn note(row: &ReceiptRow) -> &'static str {
    match (row.superseded, row.duplicate) {
        (Some(_), _) => "superseded",
        (None, Some(_)) => "duplicate",
        (None, None) => "",
    }
}

/// Enough to recognise a file by; the whole digest is in the receipt and in `--json`.
const DIGEST_SHOWN: usize = 16;

fn as_json(row: &ReceiptRow) -> serde_json::Value {
    json!({
        "id": row.id.to_string(), "drop": row.drop.to_string(), "sender": row.sender, "path": row.path,
        "size": row.size, "sha256": row.sha256, "received": row.received.rfc3339(),
        "replaces": row.replaces.map(|id| id.to_string()), "duplicate": row.duplicate.map(|id| id.to_string()),
        "superseded": row.superseded.map(|(at, _)| at.rfc3339()),
        "superseded_by": row.superseded.map(|(_, by)| by.to_string()),
    })
}
