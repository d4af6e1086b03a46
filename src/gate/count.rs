//! How many sessions there are, and how many of them from where. Memory is bounded by the sessions themselves: an
//! address is forgotten with its last one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::ipc::gate::{GateLimits, Limit};

#[derive(Debug, Default)]
pub struct Count {
    all: u32,
    by_source: BTreeMap<Source, u32>,
}

/// Whom the limit per address counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    V4(Ipv4Addr),
    /// The first 64 bits: one customer's network as a rule, whose hosts pick the rest as they like.
    V6([u16; 4]),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

impl Count {
    /// The limit that a further session from `address` would go over.
    pub fn over(&self, address: IpAddr, limits: &GateLimits) -> Option<Limit> {
        if self.all >= limits.connections {
            Some(Limit::Connections)
        } else if self.by_source.get(&address.into()).is_some_and(|&n| n >= limits.per_address) {
            Some(Limit::PerAddress)
        } else {
            None
        }
    }

    pub fn enter(&mut self, address: IpAddr) {
        self.all += 1;
        *self.by_source.entry(address.into()).or_default() += 1;
    }

    pub fn leave(&mut self, address: IpAddr) {
        self.all = self.all.saturating_sub(1);
        let source = address.into();
        if let Some(n) = self.by_source.get_mut(&source) {
            *n -= 1;
            if *n == 0 {
                self.by_source.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: GateLimits = GateLimits { connections: 3, per_address: 2 };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_and_all_together_have_their_limits() {
        let mut count = Count::default();
        count.enter(ip("192.0.2.1"));
        count.enter(ip("::ffff:192.0.2.1"));
        assert_eq!(count.over(ip("192.0.2.1"), &LIMITS), Some(Limit::PerAddress));
        assert_eq!(count.over(ip("192.0.2.2"), &LIMITS), None);
        count.enter(ip("192.0.2.2"));
        assert_eq!(count.over(ip("192.0.2.3"), &LIMITS), Some(Limit::Connections));
        count.leave(ip("192.0.2.1"));
        assert_eq!(count.over(ip("192.0.2.1"), &LIMITS), None);
    }

    #[test]
    fn hosts_of_one_v6_network_count_together() {
        let mut count = Count::default();
        count.enter(ip("2001:db8::1"));
        count.enter(ip("2001:db8::ffff:2"));
        assert_eq!(count.over(ip("2001:db8:0:0:9::9"), &LIMITS), Some(Limit::PerAddress));
        assert_eq!(count.over(ip("2001:db8:0:1::1"), &LIMITS), None);
    }

    #[test]
    fn an_address_is_forgotten_with_its_last_session() {
        let mut count = Count::default();
        count.enter(ip("192.0.2.1"));
        count.leave(ip("192.0.2.1"));
        assert!(count.by_source.is_empty());
    }
}
