//! SFTP version 3 on the wire: packets, attributes, statuses, extensions. Pure functions of bytes, strict in what they
//! read: every field is bounded by its packet, and a byte left over is an error. Beside it the two forms that come by
//! exec: a command's words, and the protocol of `scp -O`. What the requests mean is `session`'s; what is served is in
//! docs/sftp.md.

pub mod attrs;
pub mod extension;
pub mod packet;
pub mod reply;
pub mod scp;
pub mod status;
pub mod wire;
pub mod words;

/// The version we answer to every client that offers 3 or more (draft-ietf-secsh-filexfer-02).
pub const VERSION: u32 = 3;

/// The longest packet we read, without its own length field: OpenSSH's limit, which every client keeps.
pub const PACKET_MAX: usize = 256 * 1024;

/// The most data in one READ reply or WRITE: OpenSSH's 255 KiB, so that the packet around it stays below
/// [`PACKET_MAX`].
pub const DATA_MAX: usize = 255 * 1024;

/// Our handles are four bytes; a client's may be up to 256 by the draft, and any other length is no handle of ours.
pub const HANDLE_LEN: usize = 4;
