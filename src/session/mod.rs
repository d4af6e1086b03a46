//! One SSH connection, from its first byte to its last, in a process of its own: a stranger in the porch until the
//! keeper admits it, then one user in that user's jail. It parses what the client sends, seals and opens the bytes of
//! files, and asks the keeper for everything that changes a name or needs a key. It never returns to the gate.
//!
//! | file | what it is for |
//! |---|---|
//! | `transport` | the TCP stream and the SSH settings |
//! | `porch` | logging in |
//! | `serve` | channels: what is served, and everything else refused |
//! | `exec` | the commands that `ssh HOST COMMAND` may give |
//! | `scp` | files by the protocol of `scp -O` |
//! | `keeper` | the conversation with the keeper |
//! | `channel` | one SFTP channel: order, flow, handles |
//! | `operations` | the requests that wait for the keeper |
//! | `namespace` | names and attributes in the jail |
//! | `upload`, `staging` | the staged upload and its files |
//! | `download` | reading a sealed file |
//! | `reply` | how each failure is told to a client |

mod channel;
mod download;
pub mod exec;
mod keeper;
mod namespace;
mod operations;
mod porch;
mod reply;
mod scp;
mod serve;
mod staging;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod transport;
mod upload;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use russh::keys::PrivateKey;

use crate::clock::Time;
use crate::config::settings::{OldAlgorithm, OldClients};

/// A connection as the gate hands it over, in the process forked for it.
#[derive(Debug)]
pub struct Newborn {
    pub stream: std::net::TcpStream,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// This session's end of its socket to the keeper.
    pub keeper: OwnedFd,
}

/// What a session needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// After `SSH-2.0-` in the identification line; no spaces.
    pub server_id: String,
    /// From the first byte to admission; then the connection ends.
    pub login_grace: Duration,
    /// Also offer MACs that are not encrypt-then-MAC, last and for AES-CTR alone: libssh2 before 1.11, and with it curl
    /// of Debian 12, knows neither those nor an AEAD cipher.
    pub old_macs: bool,
    /// Who may use more of that kind.
    pub old_clients: Vec<OldClients>,
}

impl SessionSettings {
    /// What a client from `address` may use now beside what everybody may.
    pub fn old_algorithms(&self, address: IpAddr, now: Time) -> Vec<OldAlgorithm> {
        let mut old: Vec<OldAlgorithm> = self.old_macs.then_some(OldAlgorithm::HmacSha2).into_iter().collect();
        let held = self.old_clients.iter().filter(|clients| clients.holds(address, now));
        old.extend(held.flat_map(|clients| &clients.algorithms));
        old
    }
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            server_id: concat!("sealdrop_", env!("CARGO_PKG_VERSION")).to_owned(),
            login_grace: Duration::from_secs(120),
            old_macs: false,
            old_clients: Vec::new(),
        }
    }
}

/// Serves the connection and ends the process. No thread is started before the jail is entered, nor after.
pub fn run(newborn: Newborn, host_keys: Vec<PrivateKey>, settings: SessionSettings) -> ! {
    if let Err(error) = crate::sys::confine::porch() {
        tracing::error!(%error, "a session could not enter the porch");
        std::process::exit(71);
    }
    // The generator that russh draws from lives in this thread's memory. The gate never draws, so there is nothing to
    // inherit; reseeding makes that not matter, should it ever.
    if rand::rng().reseed().is_err() {
        std::process::exit(71);
    }
    let code = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime.block_on(serve::live(newborn, host_keys, settings)),
        Err(error) => {
            tracing::error!(%error, "a session could not start");
            71
        }
    };
    std::process::exit(code)
}
