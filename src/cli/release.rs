//! `sealdrop release`: ends a hold. What has passed its expiry meanwhile goes with the next sweep.

use super::Ending;
use super::order::Order;
use super::say::Say;
use crate::ipc::admin::Ordered;

/// Let held drops expire again: at their time, or at the next sweep if that is past
#[derive(clap::Args)]
pub struct Release {
    #[command(flatten)]
    order: Order,
}

impl Release {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        self.order.run(say, Ordered::Release)
    }
}
