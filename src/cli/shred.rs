//! `sealdrop shred`: destroys drops before their time. Their keys are forgotten, so that no copy of the server's disk opens any
//! more; the sender finds a signed certificate beside its receipt.

use super::Ending;
use super::order::Order;
use super::say::Say;
use crate::ipc::admin::Ordered;

/// Destroy drops now, with every copy and backup of them; nothing brings them back
#[derive(clap::Args)]
pub struct Shred {
    #[command(flatten)]
    order: Order,
}

impl Shred {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        self.order.run(say, Ordered::Shred)
    }
}
