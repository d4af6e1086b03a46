//! Whether the wall clock was set: it is held against the one that cannot be. Expiry and receipts go by the wall clock,
//! so a step of it is an event, with by how much.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Keeper;
use crate::clock::{self, Time};
use crate::ledger::{Event, Kind};

/// How often the two are compared.
const EVERY: Duration = Duration::from_secs(10);

/// What a time service corrects by slewing, and what a busy machine takes between two readings, is no step.
const STEP_MIN_MS: i64 = 2_000;

/// Both clocks, read together.
#[derive(Clone, Copy)]
struct Reading {
    wall: Time,
    steady: Instant,
}

impl Reading {
    fn now() -> Self {
        Self { wall: clock::now(), steady: Instant::now() }
    }
}

/// Compares for as long as the daemon runs.
pub async fn watch(keeper: Arc<Keeper>) {
    let mut before = Reading::now();
    loop {
        tokio::time::sleep(EVERY).await;
        let now = Reading::now();
        if let Some(step) = step(before, now) {
            tracing::warn!(milliseconds = step, "the clock was set");
            let event = stepped(now.wall, step, "while the daemon was running");
            if let Err(refusal) = keeper.record_event(event).await {
                tracing::error!(why = refusal.why, "a step of the clock is not in the ledger");
            }
        }
        before = now;
    }
}

/// At start: the log must not be ahead of the clock.
pub fn at_start(last: Time, now: Time) -> Option<Event> {
    let behind = signed(now, last);
    (behind <= -STEP_MIN_MS).then(|| stepped(now, behind, "before the start: the log has later events"))
}

/// By how many milliseconds the wall clock moved more, or less, than time went by.
fn step(before: Reading, now: Reading) -> Option<i64> {
    let passed = i64::try_from(now.steady.duration_since(before.steady).as_millis()).unwrap_or(i64::MAX);
    let step = signed(now.wall, before.wall).saturating_sub(passed);
    (step.abs() >= STEP_MIN_MS).then_some(step)
}

fn signed(later: Time, earlier: Time) -> i64 {
    let ms = |time: Time| i64::try_from(time.0).unwrap_or(i64::MAX);
    ms(later) - ms(earlier)
}

fn stepped(now: Time, step: i64, when: &str) -> Event {
    let mut event = Event::new(now, Kind::ClockStepped);
    let way = if step < 0 { "back" } else { "forward" };
    event.detail = Some(format!("{way} by {}.{:03} s, {when}", step.abs() / 1000, step.abs() % 1000));
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_told_from_one_that_runs() {
        let begin = Reading { wall: Time(1_000_000_000), steady: Instant::now() };
        let after = |wall: i64, steady: u64| Reading {
            wall: Time(u64::try_from(1_000_000_000 + wall).unwrap()),
            steady: begin.steady + Duration::from_millis(steady),
        };
        assert_eq!(step(begin, after(10_000, 10_000)), None);
        assert_eq!(step(begin, after(10_900, 10_000)), None, "slewed");
        assert_eq!(step(begin, after(3_610_000, 10_000)), Some(3_600_000));
        assert_eq!(step(begin, after(-60_000, 10_000)), Some(-70_000));
        let event = at_start(Time(90_000), Time(30_000)).unwrap();
        assert_eq!(event.detail.unwrap(), "back by 60.000 s, before the start: the log has later events");
        assert!(at_start(Time(30_000), Time(30_500)).is_none());
    }
}
