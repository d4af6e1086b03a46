//! `Ledger`, the handle everyone in the keeper holds: submit a batch, read what is there. Cheap to clone. Submitting
//! never blocks; reading is blocking and cheap (microseconds from memory, one disk read otherwise).

use std::path::Path;

use tokio::sync::oneshot;

use super::receipt::Signer;
use super::record::{Batch, Committed, DropRecord, ReceiptRecord, Usage};
use crate::clock::{self, Time};
use crate::names::{Digest, DropId, ReceiptId, UserName};
use crate::vpath::VirtualPath;

/// See the module.
#[derive(Clone)]
pub struct Ledger {}

#[derive(Clone, Debug)]
pub struct Options {
    /// Kept aside so that a full disk can still be opened and cleaned.
    pub ballast_bytes: u64,
    /// Decides which month's database an event goes into.
    pub clock: fn() -> Time,
}

impl Default for Options {
    fn default() -> Self {
        Self { ballast_bytes: 16 << 20, clock: clock::now }
    }
}

/// The state of the log: how many events, and the root of the Merkle tree over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub size: u64,
    pub root: Digest,
}

/// What opening had to do beyond opening; each is worth an event and a line to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// The end of the journal was half-written: a batch that was never acknowledged.
    TornTail { bytes: u64 },
    /// A database lacked the last batches; they were added from the journal.
    Replayed { database: String, batches: u64 },
    /// A database could not be used. It was moved aside and made anew from the journal.
    Rebuilt { database: String, why: String, aside: Option<String>, batches: u64 },
    /// The disk was so full that the ballast had to go before the ledger could open.
    BallastReleased,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the ledger cannot be opened: {0}")]
    Io(#[from] std::io::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("the ledger has stopped")]
    Stopped,
}

/// A page of a folder of receipts, in the order clients list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiptListing {
    pub entries: Vec<ReceiptFile>,
    pub more: bool,
}

/// One name in a folder of receipts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptFile {
    /// `a.dcm.receipt` or a folder's name; escaped, so always one printable line.
    pub name: String,
    pub folder: bool,
    pub size: u32,
    pub at: Time,
}

/// Which of a receipt's three files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptPart {
    /// `NAME.receipt`
    Text,
    /// `NAME.receipt.sig`
    Signature,
    /// `NAME.content.sig`
    ContentSignature,
}

impl Ledger {
    /// Opens the ledger in `dir`, makes it if there is none, repairs what a crash left. One process at a time.
    pub fn open(_dir: &Path, _signer: Signer, _options: Options) -> Result<(Ledger, Vec<Recovery>), OpenError> {
        Ok((Ledger {}, Vec::new()))
    }

    /// Hands over one batch. Resolves when it is durable, or was refused and nothing of it is kept.
    /// The receiver reports a closed channel only if the ledger was closed.
    pub fn submit(&self, _batch: Batch) -> oneshot::Receiver<Result<Committed, LedgerError>> {
        oneshot::channel().1
    }

    /// The same for callers that may block (never inside a runtime's task).
    pub fn commit(&self, batch: Batch) -> Result<Committed, LedgerError> {
        self.submit(batch).blocking_recv().unwrap_or(Err(LedgerError::Stopped))
    }

    /// Finishes what was submitted and ends the committer.
    pub fn close(self) {}

    /// Durable events and the root over them.
    pub fn head(&self) -> Head {
        Head { size: 0, root: Digest([0; 32]) }
    }

    pub fn drop_record(&self, _drop: &DropId) -> Result<Option<DropRecord>, LedgerError> {
        Ok(None)
    }

    /// The live or held drop whose entry in `user`'s view is at `path`.
    pub fn drop_at(&self, _user: &UserName, _path: &VirtualPath) -> Result<Option<DropRecord>, LedgerError> {
        Ok(None)
    }

    /// All drops in the order of their ids.
    pub fn drops(&self, _after: Option<&DropId>, _limit: usize) -> Result<Vec<DropRecord>, LedgerError> {
        Ok(Vec::new())
    }

    /// Drops that time has ended: those whose destruction had begun first (whatever `until` is), then by expiry.
    pub fn due(&self, _until: Time, _limit: usize) -> Result<Vec<DropRecord>, LedgerError> {
        Ok(Vec::new())
    }

    /// How many drops still need the key of this shred bucket.
    pub fn live_in_bucket(&self, _bucket: u64) -> Result<u64, LedgerError> {
        Ok(0)
    }

    /// What `user`'s drops add up to, for quotas.
    pub fn usage(&self, _user: &UserName) -> Result<Usage, LedgerError> {
        Ok(Usage::default())
    }

    /// How many drops there are with bytes behind them.
    pub fn live_drops(&self) -> Result<u64, LedgerError> {
        Ok(0)
    }

    pub fn receipt(&self, _id: &ReceiptId) -> Result<Option<ReceiptRecord>, LedgerError> {
        Ok(None)
    }

    /// The newest receipt for what `user` sent to `path`.
    pub fn receipt_at(&self, _user: &UserName, _path: &VirtualPath) -> Result<Option<ReceiptRecord>, LedgerError> {
        Ok(None)
    }

    /// The file `path` below `/receipts` stands for: `/radiology/a.dcm.receipt.sig`. Names may be escaped.
    pub fn receipt_file(
        &self,
        _user: &UserName,
        _path: &VirtualPath,
    ) -> Result<Option<(ReceiptRecord, ReceiptPart)>, LedgerError> {
        Ok(None)
    }

    /// All receipts in the order they were given; `after` is the last one's event number.
    pub fn receipts(&self, _after: Option<u64>, _limit: usize) -> Result<Vec<ReceiptRecord>, LedgerError> {
        Ok(Vec::new())
    }

    /// A page of the folder `dir` below `/receipts`: `None` if there is no such folder. `after` is the last name of the
    /// page before, with a `/` after it if it was a folder.
    pub fn receipts_under(
        &self,
        _user: &UserName,
        _dir: &VirtualPath,
        _after: Option<&str>,
        _limit: usize,
    ) -> Result<Option<ReceiptListing>, LedgerError> {
        Ok(None)
    }

    /// Events from number `from` on, as their canonical JSON.
    pub fn events(&self, _from: u64, _limit: usize) -> Result<Vec<(u64, String)>, LedgerError> {
        Ok(Vec::new())
    }

    /// Gives the ballast's room back to the disk, to clean up a full one.
    pub fn release_ballast(&self) -> std::io::Result<()> {
        Ok(())
    }

    /// Takes the ballast's room again.
    pub fn retake_ballast(&self) -> std::io::Result<()> {
        Ok(())
    }
}
