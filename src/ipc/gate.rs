//! Gate ↔ keeper. The gate reports what it forked and what died, with the keeper's end of the new session's socket
//! beside `Born`; the keeper lets it begin, and tells it to end one session or to stop taking new ones.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Keeper → gate.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToGate {
    /// The keeper is ready: begin to accept.
    Open { limits: GateLimits },
    /// End this session at once (SIGKILL). `pid` is the one from `Born`.
    Kill { pid: i32 },
    /// Take no more connections; exit when the last session has ended.
    Drain,
}

/// Gate → keeper.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToKeeper {
    /// The gate is in the yard with its filter on. Sent once, before anything else.
    Ready,
    /// A connection was accepted and its session forked. Carries one descriptor: the keeper's end of its socket.
    Born {
        pid: i32,
        peer: SocketAddr,
        local: SocketAddr,
    },
    Died {
        pid: i32,
        how: Death,
    },
    /// A connection was closed at once for `limit`.
    TurnedAway {
        peer: SocketAddr,
        limit: Limit,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Death {
    Exit(i32),
    Signal(i32),
}

/// Which limit turned a connection away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    Connections,
    PerAddress,
    Draining,
    /// The machine gave no process or no descriptor for it.
    Machine,
}

/// What the gate enforces by itself, before a byte of SSH is read.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GateLimits {
    /// Sessions at once, admitted or not.
    pub connections: u32,
    /// Of those, from one address (an IPv6 /64 counts as one).
    pub per_address: u32,
}
