//! What is going on, in numbers that are kept as it goes: for who looks every second. Nothing here decides anything.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Keeper;
use crate::ipc::admin::{Overview, ToCommand};
use crate::sys::files;

/// Counts of this run.
#[derive(Default)]
pub struct Counts {
    /// Connections that have a session, admitted or not.
    connections: AtomicU32,
    turned_away: AtomicU64,
    /// Batches that the ledger has not answered yet.
    committing: AtomicU32,
    /// How long the last answer took, and 1 more: 0 is that there was none.
    commit_ms: AtomicU64,
    /// Drops that end soon, and those of them that nobody has picked up, as of the last look for alarms.
    expiring: AtomicU32,
    unpicked: AtomicU32,
}

impl Counts {
    pub fn born(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub fn died(&self) {
        // Never below nothing, whatever is told.
        let _ = self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    }

    pub fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// A batch is on its way for as long as the answer lives.
    pub fn commit(&self) -> Commit<'_> {
        self.committing.fetch_add(1, Ordering::Relaxed);
        Commit { counts: self, begun: Instant::now() }
    }

    pub fn expire_soon(&self, expiring: usize, unpicked: usize) {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.expiring.store(number(expiring), Ordering::Relaxed);
        self.unpicked.store(number(unpicked), Ordering::Relaxed);
    }
}

pub struct Commit<'a> {
    counts: &'a Counts,
    begun: Instant,
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        self.counts.committing.fetch_sub(1, Ordering::Relaxed);
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.counts.commit_ms.store(ms + 1, Ordering::Relaxed);
    }
}

pub fn overview(keeper: &Keeper) -> Result<ToCommand, String> {
    let counts = &keeper.counts;
    let room = files::room(keeper.state.jails()).map_err(|e| e.to_string())?;
    let (alarms, notices) = keeper.alarms.counts();
    let sessions = keeper.sessions.all();
    let sum = |of: fn(&super::sessions::Activity) -> u64| {
        sessions.iter().fold(0u64, |sum, entry| sum.saturating_add(of(&entry.client.activity)))
    };
    Ok(ToCommand::Overview(Box::new(Overview {
        connections: counts.connections.load(Ordering::Relaxed),
        connections_max: keeper.settings.limits.connections,
        turned_away: counts.turned_away.load(Ordering::Relaxed),
        uploads: u32::try_from(sum(|activity| u64::from(activity.uploads()))).unwrap_or(u32::MAX),
        sending: sum(|activity| activity.rates().0),
        receiving: sum(|activity| activity.rates().1),
        soon: u32::try_from(keeper.settings.alarms.unpicked.as_secs()).unwrap_or(u32::MAX),
        expiring: counts.expiring.load(Ordering::Relaxed),
        unpicked: counts.unpicked.load(Ordering::Relaxed),
        committing: counts.committing.load(Ordering::Relaxed),
        commit_ms: counts.commit_ms.load(Ordering::Relaxed).checked_sub(1),
        disk_bytes: room.total,
        alarms,
        notices,
    })))
}

/// Bytes a second, from two readings of a total.
pub fn rate(before: u64, now: u64, passed: Duration) -> u64 {
    let ms = passed.as_millis().max(1);
    u64::try_from(u128::from(now.saturating_sub(before)) * 1000 / ms).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_up_and_down_and_never_below_nothing() {
        let counts = Counts::default();
        counts.born();
        counts.died();
        counts.died();
        assert_eq!(counts.connections.load(Ordering::Relaxed), 0);
        let commit = counts.commit();
        assert_eq!(counts.committing.load(Ordering::Relaxed), 1);
        drop(commit);
        assert_eq!(counts.committing.load(Ordering::Relaxed), 0);
        assert!(counts.commit_ms.load(Ordering::Relaxed) > 0);
        assert_eq!(rate(1000, 6000, Duration::from_secs(5)), 1000);
        assert_eq!(rate(6000, 1000, Duration::ZERO), 0);
    }
}
