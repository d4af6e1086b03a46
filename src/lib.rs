//! sealdrop: a managed-file-transfer server. This file is the map.
//!
//! Arrows point down the list only (a test refuses the rest); roles never import each other and meet in `ipc`.

pub mod names;
pub mod clock;
pub mod vpath;
pub mod sys;
pub mod seal;
pub mod sftp;
pub mod policy;
pub mod config;
pub mod ipc;
pub mod ledger;
pub mod keeper;
pub mod gate;
pub mod session;
pub mod cli;
