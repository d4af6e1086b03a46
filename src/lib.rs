//! sealdrop: a managed-file-transfer server. This file is the map.
//!
//! Arrows point down the list only (a test refuses the rest); roles never import each other and meet in `ipc`.

pub mod cli;
pub mod clock;
pub mod config;
pub mod gate;
pub mod ipc;
pub mod keeper;
pub mod ledger;
pub mod names;
pub mod policy;
pub mod runner;
pub mod seal;
pub mod session;
pub mod sftp;
pub mod shown;
pub mod sums;
pub mod sys;
pub mod vpath;
pub mod witness;
