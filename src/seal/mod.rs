//! The sealed file, version 1: what `docs/sealed-file.md` describes, and nothing else. Layout and words follow that
//! page section by section: keys, head, records, trailer, recipients and identities, envelope, journal, and a reader over the whole.
//!
//! This module is pure: bytes, keys and times come in as arguments and bytes go out; there is no file, no clock and no
//! setting here. The one thing it takes from outside is randomness, and that straight from the kernel.

mod aead;
mod dhkem;
mod digest;
mod envelope;
mod error;
mod fields;
#[cfg(fuzzing)]
pub mod fuzz;
mod head;
mod identity;
mod inspect;
mod journal;
mod keys;
#[cfg(feature = "fips")]
mod module;
mod passphrase;
mod reader;
mod recipient;
mod record;
mod shred;
mod ssh;
mod stanza;
#[cfg(test)]
mod tests;
mod trailer;
#[cfg(test)]
mod vectors;
mod waiting;
mod wrap;
mod writer;

pub use aead::{Aead, AwsLc, Bulk, GivenNonce, Reference, lock, unlock};
pub use dhkem::DhP256;
pub use digest::{Midstate, Saved, rehash};
pub use envelope::{Envelope, RECIPIENTS_MAX, STANZAS_LEN_MAX};
pub use error::SealError;
pub use head::{Head, Mode};
pub use identity::Identity;
pub use inspect::{SAYS_TO_WHOM, Unfit, beginning, ending};
pub use journal::Journal;
pub use keys::{FileKey, JournalKey};
pub use passphrase::{Passphrase, PassphraseError};
pub use reader::{ReadAt, ReadError, Reader};
pub use recipient::{Kem, KeyTextError, Recipient};
pub use record::{Records, body_len, record_generation, record_offset};
pub use shred::{SHRED_PARTS_MAX, ShredKey};
pub use ssh::{LockedSshIdentity, SshFile, SshIdentity};
pub use stanza::{StanzaId, StanzaKind};
pub use trailer::{Footer, Trailer};
pub use waiting::Waiting;
pub use writer::Sealer;

/// Head and envelope together: where the body begins.
pub const HEADER_LEN: usize = HEAD_LEN + ENVELOPE_LEN;
/// Core and commitment.
pub const HEAD_LEN: usize = 96;
/// A fixed area, so that recipients can be added and the shred wrap changed without moving the body.
pub const ENVELOPE_LEN: usize = 8096;
/// Plaintext bytes in a full record. Twice the usual SFTP write; 32 bytes of overhead are 0.05 % of it.
pub const CHUNK: usize = 65536;
/// Generation, nonce and tag.
pub const RECORD_OVERHEAD: usize = 4 + 12 + 16;
/// A full record on disk.
pub const RECORD_LEN: usize = CHUNK + RECORD_OVERHEAD;
pub const FOOTER_LEN: usize = 32;
/// Bounds what a reader must take into memory before it has authenticated anything.
pub const TRAILER_MAX: usize = 1 << 20;
/// 64 TiB less one byte: 2^30 records, the last of them short.
pub const SIZE_MAX: u64 = ((CHUNK as u64) << 30) - 1;
/// Rewritten records that one file's trailer can list.
pub const GENERATIONS_MAX: usize = 4096;
/// How often one record may be rewritten: keeps a region key far below the 2^32 random nonces of SP 800-38D.
pub const GENERATION_MAX: u32 = 1 << 16;

const _: () = assert!(HEADER_LEN == 8192 && RECORD_LEN == 65568);
