//! What sealdrop promises, tried from outside with the clients people use. One binary; each module is one area of
//! promises, each test one promise. `site`, `user` and `run` make the tests read as sentences.

mod browser;
mod reference;
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
mod digests;
mod exec;
mod expiry;
mod finalize;
mod folders;
mod handshake;
mod interrupts;
mod jail;
mod limits;
mod many;
mod matrix;
mod mistakes;
mod names;
mod opening;
mod places;
mod power;
mod quotas;
mod random;
mod reader;
mod receipts;
mod refusals;
mod rejected;
mod resume;
mod scp;
mod secrecy;
mod tidy;
mod units;
mod vectors;
mod versions;
