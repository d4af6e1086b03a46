//! Who is refused again and again: of each user and each address, when it was refused last. Bounded in both: so many of them, and
//! of each no more than make an alarm.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::super::Keeper;
use crate::clock::Time;
use crate::ledger::{Alarm, AlarmKind, Event};
use crate::names::UserName;

/// Users and addresses that are remembered. The one whose last refusal is longest ago goes.
const SOURCES_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    User(UserName),
    /// Of IPv6 the network of 64 bits.
    Address(IpAddr),
}

#[derive(Default)]
pub struct Refusals(BTreeMap<Source, VecDeque<Time>>);

impl Refusals {
    /// Whether it is one too many just now.
    fn count(&mut self, source: Source, at: Time, most: usize) -> bool {
        if !self.0.contains_key(&source) && self.0.len() >= SOURCES_MAX {
            let oldest = self.0.iter().min_by_key(|(_, times)| times.back().copied()).map(|(source, _)| source.clone());
            oldest.and_then(|oldest| self.0.remove(&oldest));
        }
        let times = self.0.entry(source).or_default();
        times.push_back(at);
        while times.len() > most {
            times.pop_front();
        }
        times.len() == most
    }

    /// Alarms for all that were refused so often within the time, and for those that are `open` and were refused in it at all.
    pub fn alarms(&mut self, now: Time, most: usize, within: Duration, open: impl Fn(&str) -> bool) -> Vec<Alarm> {
        self.0.retain(|_, times| times.back().is_some_and(|last| now.since(*last) <= within));
        let mut alarms = Vec::new();
        for (source, times) in &self.0 {
            let (word, whom) = match source {
                Source::User(user) => ("user", user.to_string()),
                Source::Address(address) => ("address", address.to_string()),
            };
            let many = times.len() >= most && times.front().is_some_and(|first| now.since(*first) <= within);
            let span = crate::policy::units::show_span(within);
            let say = format!("{word} {whom} was refused {most} times or more within {span}");
            let hint =
                "`sealdrop audit` has each, with its reason; to keep somebody out: disabled = true, or a firewall";
            let alarm = Alarm::new(AlarmKind::Refusals, format_args!("{word}/{whom}"), now, say, hint);
            if many || open(&alarm.cause) {
                alarms.push(match source {
                    Source::User(user) => Alarm { user: Some(user.clone()), ..alarm },
                    Source::Address(address) => Alarm { address: Some(*address), ..alarm },
                });
            }
        }
        alarms
    }
}

impl Keeper {
    /// One more refusal, of whom and from where the event says.
    pub(super) fn refused(&self, event: &Event) {
        let most = self.settings.alarms.refusals as usize;
        let mut refusals = self.alarms.refusals.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let user = event.user.clone().map(Source::User);
        let address = event.address.map(|address| Source::Address(network(address)));
        let mut many = false;
        for source in user.into_iter().chain(address) {
            many |= refusals.count(source, event.at, most);
        }
        if many {
            self.alarms.look_now.notify_one();
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(600);

    fn user(name: &str) -> Source {
        Source::User(name.parse().unwrap())
    }

    #[test]
    fn so_many_within_the_time_are_an_alarm_until_there_are_none() {
        let mut refusals = Refusals::default();
        for n in 0..2 {
            assert!(!refusals.count(user("acme"), Time(n * 1000), 3));
        }
        assert!(refusals.alarms(Time(2000), 3, WITHIN, |_| false).is_empty());
        assert!(refusals.count(user("acme"), Time(2000), 3));
        let alarms = refusals.alarms(Time(3000), 3, WITHIN, |_| false);
        assert_eq!(alarms[0].cause, "refusals/user/acme");
        // The first is too old by now: it would not be raised, but stays.
        assert!(refusals.alarms(Time(601_500), 3, WITHIN, |_| false).is_empty());
        assert_eq!(refusals.alarms(Time(601_500), 3, WITHIN, |cause| cause == "refusals/user/acme").len(), 1);
        assert!(refusals.alarms(Time(700_000), 3, WITHIN, |_| true).is_empty());
    }

    #[test]
    fn a_flood_of_sources_takes_no_more_than_its_room() {
        let mut refusals = Refusals::default();
        for n in 0..2 * SOURCES_MAX as u32 {
            let address = Source::Address(IpAddr::from(n.to_be_bytes()));
            refusals.count(address, Time(u64::from(n)), 20);
        }
        assert_eq!(refusals.0.len(), SOURCES_MAX);
        let v6: IpAddr = "2001:db8::1:2:3:4".parse().unwrap();
        assert_eq!(network(v6).to_string(), "2001:db8::");
    }
}
