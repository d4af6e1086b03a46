//! The conversations between processes: one file per edge, one enum per direction, one SOCK_SEQPACKET packet per
//! message (postcard), a size cap, descriptors beside the message. A message that does not decode, is too large, or
//! is not allowed in the peer's phase ends that peer: loudly in the log, silently on the wire.
//!
//! | edge | file | who asks |
//! |---|---|---|
//! | gate ↔ keeper | [`gate`] | the gate reports births and deaths; the keeper steers it |
//! | session → keeper, before admission | [`porch`] | a stranger: `Attempt`, nothing else |
//! | session ↔ keeper, after admission | [`jail`] | one user's session |
//! | command → keeper | [`admin`] | the CLI |
//! | keeper → runner | [`runner`] | the keeper: run the hook with this on its input |

pub mod admin;
pub mod channel;
pub mod gate;
pub mod jail;
pub mod phase;
pub mod porch;
pub mod role;
pub mod runner;

/// The largest message either way, in bytes. The longest are an envelope (8,096) and pages of lists, which their
/// senders cut to fit.
pub const MESSAGE_MAX: usize = 64 * 1024;

/// How many descriptors one message may carry.
pub const DESCRIPTORS_MAX: usize = 2;
