//! `/receipts`, as a session shows it: pages of names that mirror the sender's paths, and the receipts themselves, from the
//! ledger.

use std::sync::Arc;

use super::desk::{Client, Refusal};
use super::{Keeper, blocking};
use crate::clock::Time;
use crate::ipc::jail::{Answer, ReceiptEntry, ReceiptText};
use crate::ledger::{Kind, ReceiptRecord};
use crate::names::{FileName, UserName};
use crate::policy::{self, Operation};
use crate::vpath::VirtualPath;

/// Entries in one page: the longest names make it 64 KiB at most with room to spare.
const PAGE: usize = 96;

/// Bytes of a paper in one message.
const PIECE: usize = 48 * 1024;

/// `path` is the client's, `/receipts/…`. Of a file, which is asked for when a client looks at it, a page of it alone; that
/// is no reading of it.
pub async fn list(
    keeper: &Arc<Keeper>,
    client: &Client,
    path: VirtualPath,
    after: Option<String>,
) -> Result<Answer, Refusal> {
    let grant = keeper.permit(client, &Operation::List { path: &path })?;
    let dir = below_receipts(&path)?;
    let (worker, user, below) = (Arc::clone(keeper), client.user.clone(), dir.clone());
    let listing = blocking(move || Ok(worker.ledger.receipts_under(&user, &below, after.as_deref(), PAGE)?)).await?;
    // A folder nothing was received in yet has its place here all the same.
    let empty = grant.user().folders.iter().any(|folder| folder.path.below(&dir).is_some());
    let listing = match listing {
        Some(listing) => listing,
        None if dir.is_root() || empty => crate::ledger::ReceiptListing::default(),
        None => {
            let name = dir.name().map(|name| crate::names::escaped(name.as_bytes())).unwrap_or_default();
            let (size, at) = match keeper.ledger.receipt_file(&client.user, &dir)? {
                Some((record, part)) => (part.len_of(&record), record.at),
                None => {
                    let (len, at) =
                        beside(keeper, client, &dir)?.ok_or_else(|| Refusal::not_there("no receipts there"))?;
                    (u32::try_from(len).map_err(Refusal::machine)?, at)
                }
            };
            let entry = ReceiptEntry { name, folder: false, size, at };
            return Ok(Answer::Receipts { page: vec![entry], more: false, file: true });
        }
    };
    let page = listing
        .entries
        .into_iter()
        .map(|e| ReceiptEntry { name: e.name, folder: e.folder, size: e.size, at: e.at })
        .collect();
    Ok(Answer::Receipts { page, more: listing.more, file: false })
}

/// The size and time of what stands beside receipts: a certificate, a paper, a notice.
fn beside(keeper: &Keeper, client: &Client, path: &VirtualPath) -> Result<Option<(usize, Time)>, Refusal> {
    if let Some((record, part)) = keeper.ledger.certificate_file(&client.user, path)? {
        return Ok(Some((part.of(&record).len(), record.at)));
    }
    if let Some((text, at)) = keeper.ledger.paper_file(&client.user, path)? {
        return Ok(Some((text.len(), at)));
    }
    Ok(keeper.ledger.rejection_file(&client.user, path)?.map(|notice| (notice.text.len(), notice.at)))
}

/// `path` is where the file is, or was; its name may be escaped as `list` shows it.
pub async fn read(keeper: &Arc<Keeper>, client: &Client, path: VirtualPath) -> Result<Answer, Refusal> {
    let _checked = keeper.permit(client, &Operation::ReadReceipt { path: &path })?;
    let (worker, user, asked) = (Arc::clone(keeper), client.user.clone(), path.clone());
    let found = blocking(move || {
        let record = match worker.ledger.receipt_at(&user, &asked)? {
            Some(record) => Some(record),
            None => match worker.ledger.receipt_file(&user, &receipt_name(&asked)?)? {
                Some((record, _)) => Some(record),
                None => of_renamed(&worker, &user, &asked)?,
            },
        };
        let record = record.ok_or_else(|| Refusal::not_there("no receipt for this path"))?;
        let proof = worker.ledger.receipt_proof(&record)?;
        Ok((record, proof))
    });
    let (record, proof) = found.await?;
    let mut event = keeper.event(client, Kind::ReceiptRead, Some(&path));
    event.receipt = Some(record.id);
    keeper.record_event(event).await?;
    Ok(Answer::Receipt(Box::new(ReceiptText {
        id: record.id,
        text: record.text,
        signature: record.signature,
        content_signature: record.content_signature,
        proof,
    })))
}

/// `path` is the paper's own below `/receipts`. It is read once, however many pieces it is given in.
pub async fn paper(keeper: &Arc<Keeper>, client: &Client, path: VirtualPath, offset: u32) -> Result<Answer, Refusal> {
    // It may be about what is in the inbox, which has no receipts: it is asked for as what it is.
    let shown = VirtualPath::parse(policy::decide::RECEIPTS.as_bytes()).and_then(|base| base.append(&path));
    let shown = shown.map_err(|_| Refusal::not_there("a path too long to have a paper"))?;
    let _checked = keeper.permit(client, &Operation::ReadReceipt { path: &shown })?;
    let (worker, user, asked) = (Arc::clone(keeper), client.user.clone(), path.clone());
    let found = blocking(move || Ok(worker.ledger.paper_file(&user, &asked)?)).await?;
    let (text, at) = found.ok_or_else(|| Refusal::not_there("no such paper"))?;
    let (part, more) = piece(&text, offset);
    if offset == 0 {
        keeper.record_event(keeper.event(client, Kind::ReceiptRead, Some(&path))).await?;
    }
    Ok(Answer::Paper { part, more, at })
}

/// What of a text goes into one message, and whether there is more behind it.
pub fn piece(text: &str, offset: u32) -> (Vec<u8>, bool) {
    let rest = text.as_bytes().get(offset as usize..).unwrap_or_default();
    let part = rest.get(..PIECE).unwrap_or(rest);
    (part.to_vec(), part.len() < rest.len())
}

/// A receipt has the path that was received; what was renamed since is asked for by the name it has.
fn of_renamed(keeper: &Keeper, user: &UserName, path: &VirtualPath) -> Result<Option<ReceiptRecord>, Refusal> {
    let there = keeper.ledger.drop_at(user, path)?.filter(|there| there.sender == *user);
    Ok(there.map(|there| keeper.ledger.receipt(&there.receipt)).transpose()?.flatten())
}

fn below_receipts(path: &VirtualPath) -> Result<VirtualPath, Refusal> {
    VirtualPath::parse(policy::decide::RECEIPTS.as_bytes())
        .ok()
        .and_then(|base| path.below(&base))
        .ok_or_else(|| Refusal::not_there("not below /receipts"))
}

fn receipt_name(path: &VirtualPath) -> Result<VirtualPath, Refusal> {
    let name = path.name().ok_or_else(|| Refusal::not_there("the root has no receipt"))?;
    let name = [name.as_bytes(), b".receipt"].concat();
    let too_long = || Refusal::not_there("a name too long to have a receipt");
    let name = FileName::new(&name).map_err(|_| too_long())?;
    path.parent().unwrap_or_else(VirtualPath::root).join(&name).map_err(|_| too_long())
}
