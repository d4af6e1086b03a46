//! A drop moves to another bucket: its envelope is wrapped under another shred key. The ledger knows of both buckets while
//! that lasts, so that neither key is destroyed.

use std::fs::File;

use super::desk::Refusal;
use super::{Keeper, rewrap};
use crate::ledger::{Batch, DropRecord, Write};
use crate::seal::Envelope;

/// Drops looked at in one batch at a start.
const PAGE: usize = 200;

/// Wraps the envelope of a drop under `bucket`, whose key exists when this returns. The caller has the sender's turn, and
/// the ledger knows that the drop is moving. Done again, it changes nothing.
pub fn put_under(keeper: &Keeper, record: &DropRecord, bucket: u64) -> Result<(), Refusal> {
    rewrap::replace(keeper, record, |head, envelope| {
        if envelope.bucket() == Some(bucket) {
            return Ok(None);
        }
        let inner = keeper.keys.without_shred(head, envelope)?;
        Ok(Some(keeper.keys.with_shred(head, &inner, bucket)?.0))
    })?;
    Ok(())
}

/// A sealed file of the drop for reading, with its inner envelope in place of the one on disk.
pub fn inner(keeper: &Keeper, record: &DropRecord) -> Result<(File, Envelope), Refusal> {
    let (file, head, envelope) = rewrap::open(keeper, record)?;
    Ok((file, keeper.keys.without_shred(&head, &envelope)?))
}

/// At start, when envelopes are whole again (`rewrap`): the ledger learns under which key each drop is now that was moving.
pub fn settle(keeper: &Keeper) -> Result<u32, Refusal> {
    let mut settled = 0;
    loop {
        let moving = keeper.ledger.moving(PAGE)?;
        if moving.is_empty() {
            return Ok(settled);
        }
        let mut writes = Vec::new();
        for record in moving {
            let bucket = match rewrap::open(keeper, &record) {
                Ok((_, _, envelope)) => envelope.bucket().or(record.bucket),
                Err(refusal) => {
                    tracing::error!(drop = %record.drop, why = refusal.why, "a drop that was moving to another bucket is not readable");
                    record.bucket
                }
            };
            settled += 1;
            writes.extend(bucket.map(|bucket| Write::Rewrapped { drop: record.drop, bucket }));
        }
        if writes.is_empty() {
            return Ok(settled);
        }
        keeper.ledger.commit(Batch { writes, urgent: true, ..Batch::default() })?;
    }
}
