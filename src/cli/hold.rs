//! `sealdrop hold`: keeps drops past their expiry, a legal hold for one. Nobody who has one can remove it meanwhile, and it is read as before.

use super::Ending;
use super::order::Order;
use super::say::Say;
use crate::ipc::admin::Ordered;

/// Keep drops past their expiry until they are released
#[derive(clap::Args)]
pub struct Hold {
    #[command(flatten)]
    order: Order,
}

impl Hold {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        self.order.run(say, Ordered::Hold)
    }
}
