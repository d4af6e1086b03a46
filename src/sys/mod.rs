//! The operating system: the only folder with `unsafe`, and the only one that makes raw system calls.

pub mod files;
pub mod packet;
