//! `sealdrop reload`: read the configuration again, all or nothing. A bad file leaves the running policy in place.

use crate::ipc::admin::ToKeeper;

use super::Ending;
use super::admin::{Daemon, done};
use super::say::Say;

/// Make the daemon read its policies again (as SIGHUP does)
#[derive(clap::Args)]
pub struct Reload {
    #[command(flatten)]
    daemon: Daemon,
    /// Why, for the audit log
    #[arg(long, alias = "reason", value_name = "WORDS")]
    why: Option<String>,
}

impl Reload {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        done(say, self.daemon.connect()?.ask(&ToKeeper::Reload { why: self.why })?)
    }
}
