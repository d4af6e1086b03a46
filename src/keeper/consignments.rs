//! Consignments at the keeper: a manifest is read when it is committed, and its consignment receipt is given when all it
//! names has come, or when its time is over: as long after it as its folder lets an upload be continued. The keeper reads
//! the content of a manifest, which is addressed to it.

use std::sync::Arc;
use std::time::Duration;

use super::commit::Upload;
use super::desk::Refusal;
use super::takeover::Part;
use super::{Keeper, blocking};
use crate::clock::Time;
use crate::ledger::manifest::{self, Listed};
use crate::ledger::{Batch, ConsignmentRecord, DropRecord, Event, Kind, PaperFacts, Write};
use crate::policy::FolderKind;

/// Closed in one go; the rest with the next.
const PAGE: usize = 16;

/// What a new drop is, if its name is a manifest's.
pub(super) enum Manifest {
    No,
    /// What it names.
    Lists(Vec<Listed>),
    /// Why it is a file like any other.
    Unreadable(String),
}

/// Open ones of one user: each is in the ledger with all that it names.
const OPEN_MAX: u64 = 64;

pub(super) fn manifest_of(keeper: &Keeper, upload: &Upload, part: &Part) -> Result<Manifest, Refusal> {
    let path = &upload.request.path;
    if upload.folder.kind != FolderKind::Drop || !manifest::is_manifest(path) {
        return Ok(Manifest::No);
    }
    if keeper.ledger.open_consignments(&upload.user)? >= OPEN_MAX {
        return Ok(Manifest::Unreadable(format!("its sender has {OPEN_MAX} open consignments")));
    }
    if upload.request.size > manifest::BYTES_MAX as u64 {
        return Ok(Manifest::Unreadable(format!("longer than {} bytes", manifest::BYTES_MAX)));
    }
    Ok(match manifest::parse(path, &part.content(manifest::BYTES_MAX)?) {
        Ok(files) => Manifest::Lists(files),
        Err(error) => Manifest::Unreadable(error.to_string()),
    })
}

/// What a manifest that is being delivered opens.
pub fn opened(record: &DropRecord, files: Vec<Listed>, patience: Duration) -> ConsignmentRecord {
    ConsignmentRecord {
        manifest: record.drop,
        receipt: record.receipt,
        sha256: record.sha256,
        sender: record.sender.clone(),
        path: record.path.clone(),
        received: record.received,
        due: record.received.plus(patience),
        listed: u32::try_from(files.len()).unwrap_or(u32::MAX),
        files,
        closed: None,
    }
}

/// Gives the consignment receipts that are due. A crash before one is recorded: it is due still, and the next commit or sweep gives
/// it.
pub async fn close_due(keeper: &Arc<Keeper>, now: Time) -> Result<(), Refusal> {
    loop {
        let worker = Arc::clone(keeper);
        let due = blocking(move || {
            let mut facts = Vec::new();
            for manifest in worker.ledger.consignments_due(now, PAGE)? {
                if let Some(consignment) =
                    worker.ledger.consignment(&manifest)?.filter(|consignment| consignment.closed.is_none())
                {
                    facts.push((manifest, worker.ledger.consignment_facts(&consignment, now)?));
                }
            }
            Ok(facts)
        });
        let due = due.await?;
        if due.is_empty() {
            return Ok(());
        }
        for (manifest, facts) in due {
            let closed = facts.count();
            let mut event = Event::new(crate::clock::now(), Kind::ConsignmentClosed);
            event.user = Some(facts.sender.clone());
            event.path = Some(facts.path.clone());
            event.drop = Some(manifest);
            event.receipt = Some(facts.manifest);
            event.policy = Some(keeper.policy().digest);
            event.detail = Some(format!(
                "{} files, {} missing, {} different",
                facts.files.len(),
                closed.missing,
                closed.different
            ));
            let writes = vec![
                Write::ConsignmentClosed { manifest, closed },
                Write::Paper { event: 0, facts: PaperFacts::Consignment(facts) },
            ];
            match keeper.ledger.record(Batch { events: vec![event], writes, ..Batch::default() }).await {
                // Another commit was faster.
                Ok(_) | Err(crate::ledger::LedgerError::Refused(crate::ledger::Refusal::Closed(_))) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// After a commit, which is done whatever becomes of this.
pub async fn close_complete(keeper: &Arc<Keeper>, now: Time) {
    // Looked at first, since nearly always there is none: one read from memory.
    if keeper.ledger.consignments_due(now, 1).is_ok_and(|due| due.is_empty()) {
        return;
    }
    if let Err(refusal) = close_due(keeper, now).await {
        tracing::error!(why = refusal.why, "a consignment receipt was not given; it is tried again");
    }
}
