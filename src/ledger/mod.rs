//! The ledger: receipts and the audit log, kept so that they survive a power cut and cannot be quietly rewritten. The
//! keeper owns it alone. What is handed in as one [`Batch`] is in it whole or not at all, and is acknowledged only when
//! it is on the disk twice: in an append-only journal and in sled. The bytes are described in docs/ledger.md.
//!
//! | file | what |
//! |---|---|
//! | [`event`], [`record`], [`receipt`] | what is kept, as values; the receipt's text and signatures |
//! | [`rejection`] | why an upload was refused, for its sender |
//! | [`signers`] | whose signatures count, for whoever checks a receipt |
//! | [`store`], [`listing`] | [`Ledger`], the handle: submit, read, list |
//! | `committer` | the one writer, and the order of its steps |
//! | `frame`, `journal` | the journal: its bytes, its files |
//! | `database`, `live`, `month` | sled: one database, the live one, the months' |
//! | [`merkle`], [`checkpoint`] | the log's tree and its proofs; its head, signed |
//! | `recovery`, `bring_up`, `ballast` | opening, after whatever happened |

mod ballast;
mod bring_up;
pub mod checkpoint;
mod committer;
mod database;
pub mod event;
mod frame;
mod journal;
pub mod listing;
mod live;
pub mod merkle;
mod month;
pub mod receipt;
pub mod record;
mod recovery;
pub mod rejection;
pub mod signers;
pub mod store;
#[cfg(test)]
mod tests;

pub use checkpoint::Checkpoint;
pub use event::{Event, Kind, Outcome};
pub use listing::{ReceiptFile, ReceiptListing, ReceiptPart};
pub use live::Refusal;
pub use receipt::{Receipt, ReceiptFacts, ReceiptRecipient, Signer};
pub use record::{
    Batch, Committed, Delivery, DropKind, DropRecord, DropState, Earlier, ReceiptRecord, Superseded, Usage, Write,
};
pub use recovery::{OpenError, Recovery};
pub use rejection::Rejection;
pub use store::{Head, Inclusion, Ledger, LedgerError, Options};
