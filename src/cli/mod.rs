//! One file per command.

pub mod check;
pub mod failure;
pub mod keygen;
pub mod open;
pub mod output;
pub mod passwd;
pub mod seal;
