//! The operating system: the only folder with `unsafe`, and the only one that makes raw system calls.

pub mod acl;
pub mod attempt;
pub mod children;
pub mod confine;
pub mod durable;
pub mod files;
mod held;
pub mod machine;
pub mod memory;
pub mod packet;
mod privileges;
pub mod process;
pub mod program;
pub mod screen;
pub mod seccomp;
pub mod terminal;
pub mod yard;
