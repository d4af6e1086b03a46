//! The ledger: receipts and the audit log, kept so that they survive a power cut and cannot be quietly rewritten. The
//! keeper owns it alone. What is handed in as one [`Batch`] is in it whole or not at all, and is acknowledged only when
//! it is on the disk in an append-only journal; sled answers questions about it, and has it on the disk a second later. The
//! bytes are described in docs/ledger.md.
//!
//! | file | what |
//! |---|---|
//! | [`event`], [`record`], [`receipt`] | what is kept, as values; the receipt's text and signatures |
//! | [`origin`] | the sender's own signature |
//! | [`paper`], [`manifest`], [`consignment`] | what is given besides receipts; a list of files, and the receipt over them |
//! | [`rejection`] | why an upload was refused, for its sender |
//! | [`policies`] | policies as they were in force |
//! | [`alarm`], [`approval`] | what is wrong, and who is told; what waits for a second person |
//! | [`signers`] | whose signatures count, for whoever checks a receipt |
//! | [`store`], [`listing`] | [`Ledger`], the handle: submit, read, list |
//! | `queue`, `committer`, `settler` | what waits to be committed; the one writer, and the order of its steps; the databases' way to the disk |
//! | `frame`, `journal` | the journal: its bytes, its files |
//! | `database`, `live`, `month` | sled: one database, the live one, the months' |
//! | [`merkle`], [`checkpoint`], [`note`], [`proof`] | the log's tree and its proofs; its head, signed |
//! | [`verify`] | whether the log is what was signed, and which entry is not |
//! | `recovery`, `bring_up`, `ballast` | opening, after whatever happened |
//! | `prune`, `snapshot` | months whose time is over |

pub mod alarm;
pub mod approval;
mod ballast;
mod bring_up;
pub mod certificate;
pub mod checkpoint;
mod committer;
pub mod consignment;
mod database;
pub mod event;
pub mod forget;
mod frame;
#[cfg(fuzzing)]
pub mod fuzz;
mod journal;
pub mod listing;
mod live;
pub mod manifest;
pub mod merkle;
mod month;
pub mod note;
pub mod origin;
pub mod paper;
pub mod policies;
pub mod proof;
mod prune;
mod queue;
pub mod receipt;
pub mod record;
mod recovery;
pub mod rejection;
mod settler;
pub mod signers;
mod snapshot;
pub mod store;
#[cfg(test)]
mod tests;
mod unsettled;
pub mod veil;
pub mod verify;

pub use alarm::{About, Alarm, AlarmKind, Delivered, Notice, NoticeId};
pub use approval::{Approval, Person, Request};
pub use ballast::Ballast;
pub use certificate::{CertificateFacts, CertificateRecord, CertifiedRecipient};
pub use checkpoint::Checkpoint;
pub use consignment::{ConsignmentFacts, ConsignmentRecord};
pub use event::{Event, Kind, Outcome};
pub use journal::Written;
pub use listing::{ReceiptFile, ReceiptListing, ReceiptPart};
pub use live::Refusal;
pub use month::Month;
pub use origin::Origin;
pub use paper::{DisclosureFacts, Paper, PaperFacts, PaperKind};
pub use prune::{Pruned, prune};
pub use receipt::{Receipt, ReceiptFacts, ReceiptRecipient, Signer};
pub use record::{
    Batch, Committed, Delivery, DropKind, DropRecord, DropState, Earlier, Order, Ordered, ReceiptRecord, Superseded,
    Usage, Write,
};
pub use recovery::{OpenError, Recovery};
pub use rejection::Rejection;
pub use store::{Head, Inclusion, Ledger, LedgerError, Options};
pub use veil::{HiddenNames, Hiding, Name, NamesKey, NamesKeyRecord, NamesText};
