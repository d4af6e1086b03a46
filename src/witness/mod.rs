//! The witness: this program on somebody else's machine, a partner's or an auditor's. It signs the checkpoints of logs it
//! was told of, each only if it continues the last one that it signed, and remembers that durably before it answers. A log
//! that was put back or told two stories finds no witness. The protocol is c2sp.org/tlog-witness, the signature
//! cosignature/v1, so witnesses and logs of others serve as well.
//!
//! | file | what |
//! |---|---|
//! | [`memory`] | what was signed last, on the disk; the key |
//! | [`judge`] | which answer a request gets |
//! | [`http`] | as much HTTP/1.1 as that takes |

pub mod http;
pub mod judge;
pub mod memory;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock;
use crate::ledger::note::NoteKey;
use http::{Reply, Request};
use memory::Memory;

/// Connections at once; more are closed. Each has seconds, not minutes.
const CONNECTIONS_MAX: usize = 32;

/// What a witness is.
pub struct Witness {
    pub memory: Memory,
    /// The logs it signs for.
    pub logs: Vec<NoteKey>,
}

/// Answers until the process ends. One thread for a connection.
pub fn serve(witness: Witness, listener: &TcpListener) {
    let witness = Arc::new(witness);
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        if open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (witness, counted) = (Arc::clone(&witness), Arc::clone(&open));
        let begun = std::thread::Builder::new().name("asked".to_owned()).spawn(move || {
            let reply = match http::read(&mut stream) {
                Ok(request) => witness.answer(&request),
                Err(reply) => reply,
            };
            // Whoever has gone will ask again.
            let _ = http::write(&mut stream, &reply);
            counted.fetch_sub(1, Ordering::SeqCst);
        });
        if begun.is_err() {
            open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Witness {
    fn answer(&self, request: &Request) -> Reply {
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/add-checkpoint") => self.add_checkpoint(&request.body, clock::now()),
            (_, "/add-checkpoint") => Reply::text(405, "only POST\n"),
            _ => Reply::text(404, "only /add-checkpoint\n"),
        }
    }
}
