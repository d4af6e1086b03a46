//! The operating system: the only folder with `unsafe`, and the only one that makes raw system calls.

pub mod attempt;
pub mod children;
pub mod confine;
pub mod durable;
pub mod files;
pub mod packet;
mod privileges;
pub mod process;
pub mod seccomp;
pub mod yard;
