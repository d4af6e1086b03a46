//! TOML in, settings and policy out; or every problem at once, each with its line and a caret. The only module that
//! knows TOML.

pub mod problem;
pub mod schedule;
pub mod settings;

use std::path::Path;

pub use problem::{Problem, Problems, Severity, SourcePlace};
pub use schedule::Schedule;
pub use settings::{HostKey, Log, LogFormat, LogLevel, ServerLimits, Settings};

use crate::policy::Policy;

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub policy: Policy,
    /// Legal but unwise.
    pub warnings: Vec<Problem>,
}

/// Reads `sealdrop.toml` and the policy files it points to. All or nothing.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let message = format!("{}: not read yet", path.display());
    Err(Problems(vec![Problem { severity: Severity::Error, file: path.to_owned(), place: None, message, hint: None }]))
}
