//! Keeper ↔ runner. The keeper says what the hook shall read; which program that is, the runner knows from before the
//! keeper had a key, and no message can name another. One at a time: the next when the answer has come.

use serde::{Deserialize, Serialize};

/// What a hook is given to read, at the most. The rest of a message is for its head.
pub const INPUT_MAX: usize = 32 * 1024;

/// What is kept of what a hook says.
pub const SAID_MAX: usize = 2 * 1024;

/// Keeper → runner.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToRunner {
    Run {
        number: u64,
        #[serde(with = "serde_bytes")]
        input: Vec<u8>,
    },
}

/// Runner → keeper.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToKeeper {
    Ran {
        number: u64,
        how: How,
        /// The beginning of what it said.
        #[serde(with = "serde_bytes")]
        said: Vec<u8>,
    },
}

/// How the program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    Exit(i32),
    Signal(i32),
    TimedOut,
    /// In the system's words.
    NotStarted(String),
}
