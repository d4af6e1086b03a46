//! What sealdrop promises, tried from outside with the clients people use. One binary; each module is one area of
//! promises, each test one promise. `site`, `user` and `run` make the tests read as sentences.

mod browser;
mod run;
mod site;
mod user;
mod wire;

mod clients;
mod commands;
mod confinement;
mod crashes;
mod delivery;
mod demo;
mod exec;
mod expiry;
mod folders;
mod handshake;
mod jail;
mod limits;
mod mistakes;
mod names;
mod opening;
mod places;
mod reader;
mod receipts;
mod refusals;
mod scp;
mod secrecy;
mod tidy;
mod units;
mod vectors;
