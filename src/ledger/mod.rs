//! The ledger: receipts and the audit log, kept so that they survive a power cut and cannot be quietly rewritten. The
//! keeper owns it alone. What is handed in as one [`Batch`] is in it whole or not at all, and is acknowledged only when
//! it is on the disk twice: in an append-only journal and in sled. The bytes are described in docs/ledger.md.
//!
//! | file | what |
//! |---|---|
//! | [`event`], [`record`], [`receipt`] | what is kept, as values |
//! | [`store`] | [`Ledger`], the handle: submit, read |

pub mod event;
pub mod receipt;
pub mod record;
pub mod store;

pub use event::{Event, Kind, Outcome};
pub use receipt::{Receipt, ReceiptFacts, ReceiptRecipient, Signer};
pub use record::{Batch, Committed, Delivery, DropKind, DropRecord, DropState, ReceiptRecord, Usage, Write};
pub use store::{Head, Ledger, LedgerError, OpenError, Options, ReceiptFile, ReceiptListing, ReceiptPart, Recovery};
