//! What `sealdrop evidence` asks for: everything this server can show about one receipt, as files. Each is asked for by its
//! name, so that none has to fit into one message with others. Nothing here changes anything.

use super::origin::signature_of;
use super::{Keeper, keys};
use crate::clock::Time;
use crate::ipc::admin::ToCommand;
use crate::ledger::origin::{ORIGIN_NAMESPACE, OriginSignature};
use crate::ledger::{Origin, Receipt, ReceiptRecord};
use crate::names::ReceiptId;

/// Events looked at for one answer.
const SCAN: usize = 20_000;

/// Bytes of events in one answer.
const SCAN_BYTES: usize = 32 * 1024;

/// Which files there are, and of what log they are: the answer to `Evidence`.
pub fn contents(keeper: &Keeper, id: &ReceiptId) -> Result<Option<ToCommand>, String> {
    let Some(record) = receipt(keeper, id)? else { return Ok(None) };
    let mut files: Vec<_> = ALWAYS.iter().map(|name| (*name).to_owned()).collect();
    match own_signature(keeper, &record)? {
        Some((_, None)) => files.push("origin.sig".to_owned()),
        Some((_, Some(_))) => files.extend(ORIGIN.iter().map(|name| (*name).to_owned())),
        None => {}
    }
    if keeper.ledger.certificate(&record.drop).map_err(|e| e.to_string())?.is_some() {
        files.extend(DESTROYED.iter().map(|name| (*name).to_owned()));
    }
    Ok(Some(ToCommand::Evidence { drop: record.drop, log_size: keeper.ledger.head().size, files }))
}

const ALWAYS: &[&str] =
    &["allowed_signers", "receipt", "receipt.sig", "receipt.proof", "content.sig", "checkpoint", "checkpoint.sig"];

/// When the sender's signature has a receipt of its own.
const ORIGIN: &[&str] = &["origin.sig", "origin.receipt", "origin.receipt.sig"];

/// When the drop is destroyed.
const DESTROYED: &[&str] = &["destroyed", "destroyed.sig"];

/// The bytes of one of them, the log being the one that had `log_size` events.
pub fn file(keeper: &Keeper, id: &ReceiptId, log_size: u64, name: &str) -> Result<Option<String>, String> {
    let Some(record) = receipt(keeper, id)? else { return Ok(None) };
    let checkpoint = || keeper.ledger.checkpoint_at(log_size).map_err(|e| e.to_string());
    let own = || own_signature(keeper, &record);
    let certificate = || keeper.ledger.certificate(&record.drop).map_err(|e| e.to_string());
    Ok(match name {
        "receipt" => Some(record.text),
        "receipt.sig" => Some(record.signature),
        "content.sig" => Some(record.content_signature),
        "receipt.proof" => Some(keeper.ledger.receipt_proof(&record).map_err(|e| e.to_string())?),
        "checkpoint" => checkpoint()?.map(|checkpoint| checkpoint.body),
        "checkpoint.sig" => checkpoint()?.map(|checkpoint| checkpoint.signature),
        "allowed_signers" => Some(allowed_signers(keeper, &record)?),
        "origin.sig" => own()?.map(|(armour, _)| armour),
        "origin.receipt" => own()?.and_then(|(_, receipt)| receipt).map(|receipt| receipt.text),
        "origin.receipt.sig" => own()?.and_then(|(_, receipt)| receipt).map(|receipt| receipt.signature),
        "destroyed" => certificate()?.map(|certificate| certificate.text),
        "destroyed.sig" => certificate()?.map(|certificate| certificate.signature),
        _ => None,
    })
}

/// The events that name the receipt or its drop, from number `from` on, in the log of `log_size` events.
pub fn events(keeper: &Keeper, id: &ReceiptId, from: Option<u64>, log_size: u64) -> Result<Option<ToCommand>, String> {
    let Some(record) = receipt(keeper, id)? else { return Ok(None) };
    let from = match from {
        Some(from) => from,
        None => keeper.ledger.first_event_since(begun(keeper, &record)?),
    };
    let names = [
        format!("\"drop\":\"{}\"", record.drop),
        format!("\"receipt\":\"{id}\""),
        format!("\"replaces\":\"{id}\""),
        format!("\"duplicate\":\"{id}\""),
    ];
    let events = keeper.ledger.events(from, SCAN).map_err(|e| e.to_string())?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    let mut next = (events.len() == SCAN).then(|| from + SCAN as u64);
    for (number, json) in events.into_iter().take_while(|(number, _)| *number < log_size) {
        if !names.iter().any(|name| json.contains(name)) {
            continue;
        }
        bytes += json.len();
        if bytes > SCAN_BYTES && !rows.is_empty() {
            next = Some(number);
            break;
        }
        rows.push((number, json));
    }
    Ok(Some(ToCommand::EvidenceEvents { rows, next: next.filter(|next| *next < log_size) }))
}

/// When its upload began: the event says how long it took.
fn begun(keeper: &Keeper, record: &ReceiptRecord) -> Result<Time, String> {
    let event = keeper.ledger.events(record.event, 1).map_err(|e| e.to_string())?.pop();
    let fields = event.and_then(|(_, json)| serde_json::from_str::<serde_json::Value>(&json).ok());
    let ms = fields.and_then(|fields| fields.get("ms").and_then(serde_json::Value::as_u64)).unwrap_or(0);
    Ok(Time(record.at.0.saturating_sub(ms)))
}

/// The sender's signature over what the receipt is for, and the receipt that names it, if that is another.
fn own_signature(keeper: &Keeper, record: &ReceiptRecord) -> Result<Option<(String, Option<ReceiptRecord>)>, String> {
    if let Some(armour) = &record.origin_signature {
        return Ok(Some((armour.clone(), None)));
    }
    // Where names are hidden only its drop knows where it was.
    let of = keeper.ledger.drop_record(&record.drop).map_err(|e| e.to_string())?;
    let path = of.filter(|_| record.path.is_root()).map_or_else(|| record.path.clone(), |of| of.path);
    let beside = signature_of(&path);
    let beside = beside.map(|beside| keeper.ledger.receipt_at(&record.user, &beside)).transpose();
    let beside = beside.map_err(|e| e.to_string())?.flatten();
    Ok(beside.and_then(|beside| {
        let named = matches!(Receipt::parse(&beside.text).ok()?.facts.origin,
            Some(Origin::Signs { receipt, .. }) if receipt == record.id);
        Some((beside.origin_signature.clone().filter(|_| named)?, Some(beside)))
    }))
}

/// The server's lines, of the keys it had too, and one for the sender's key if it has signed.
fn allowed_signers(keeper: &Keeper, record: &ReceiptRecord) -> Result<String, String> {
    let settings = &keeper.settings;
    let mut text = keys::allowed_signers(&settings.keys, &settings.name).map_err(|e| e.to_string())?;
    if let Some((armour, _)) = own_signature(keeper, record)?
        && let Ok(Some(signature)) = OriginSignature::parse(armour.as_bytes())
    {
        let key = signature.key().to_openssh().map_err(|e| e.to_string())?;
        text.push_str(&format!("{} namespaces=\"{ORIGIN_NAMESPACE}\" {}\n", record.user, key.trim_end()));
    }
    Ok(text)
}

fn receipt(keeper: &Keeper, id: &ReceiptId) -> Result<Option<ReceiptRecord>, String> {
    keeper.ledger.receipt(id).map_err(|e| e.to_string())
}
