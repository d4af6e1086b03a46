//! The server's settings, checked: what `sealdrop.toml` says, with every default filled in. Made by `config::load` alone;
//! right once it exists.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::schedule::Schedule;

/// Everything `sealdrop.toml` decides. Relative paths in the file are taken from the file's own directory.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server's name in receipts and in sealed files.
    pub name: String,
    pub listen: Vec<SocketAddr>,
    /// Jails, ledger, version file.
    pub state: PathBuf,
    pub keys: PathBuf,
    /// The admin socket.
    pub admin: PathBuf,
    /// The directory of `<user>.toml` files.
    pub policies: PathBuf,
    /// The account of the gate; of use to root only.
    pub user: String,
    /// User ids handed out to users; of use to root only.
    pub ids: Range<u32>,
    pub host_keys: Vec<HostKey>,
    pub limits: ServerLimits,
    /// Also offer MACs that are not encrypt-then-MAC, last.
    pub old_macs: bool,
    /// When the sweep runs. Between sweeps, what has expired is refused to the minute all the same.
    pub sweep: Schedule,
    /// Lets `sealdrop sweep --now` pretend another time. For the demo and tests.
    pub test_clock: bool,
    pub log: Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKey {
    Ed25519,
    EcdsaP256,
}

/// What the server takes on at the most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Connections at once.
    pub connections: u32,
    /// Connections at once from one address (IPv6: one /64).
    pub per_address: u32,
    /// Connections at once that have not logged in.
    pub strangers: u32,
    /// From the connection to the admission.
    pub login_grace: Duration,
    /// Failed attempts on one connection.
    pub login_attempts: u32,
    /// Without a byte in either direction.
    pub idle: Duration,
    /// Open files and listings of one session.
    pub handles: u32,
    /// How long a stopping server lets transfers finish.
    pub drain: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// As tracing-subscriber's filter takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl HostKey {
    /// The algorithm's name in SSH.
    pub fn algorithm(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
        }
    }
}
