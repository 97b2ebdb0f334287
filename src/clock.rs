//! The clock door: the only place that asks what time it is.
//!
//! The shell asks once per command and hands the answer on; the domain never asks. How long something took is measured
//! with [`std::time::Instant`], never with this clock.

#[cfg(feature = "fault-injection")]
mod moved;

#[cfg(feature = "fault-injection")]
pub use moved::MovedClock;

use crate::domain::time::Timestamp;
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use uuid::Uuid;

/// What the time is.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now; never before one that this clock has told already.
    fn now(&self) -> Timestamp;

    /// From now on tells no time before `time`, which stands in the journal already.
    fn not_before(&self, time: Timestamp);

    /// How long this clock has run, by one that nobody can set.
    fn steady(&self) -> Duration;

    /// Whether the time stands still: the machine's clock was set back, and how long ago anything was can't be told.
    fn stands_still(&self) -> bool;
}

/// The machine's clock. While that stands behind what was told already, the time stands still.
#[derive(Debug)]
pub struct SystemClock {
    /// Milliseconds since the epoch, as last told.
    last: AtomicU64,
    began: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { last: AtomicU64::default(), began: Instant::now() }
    }
}

impl SystemClock {
    fn machine() -> u64 {
        // Before 1970 counts as 1970, and an overflow as the last instant there is.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        since_epoch.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Whether what was told last is later than `machine` milliseconds. Less than a second is how clocks are kept right.
    fn is_ahead_of(&self, machine: u64) -> bool {
        self.last.load(Ordering::Relaxed) > machine.saturating_add(1000)
    }

    /// `machine` milliseconds, or the last told if that is later.
    fn at_least_last(&self, machine: u64) -> Timestamp {
        // One variable with one order of changes: no reader can see it go back, whatever the other memory does.
        let last = self.last.fetch_max(machine, Ordering::Relaxed);
        Timestamp::from_millis(last.max(machine))
    }
}

impl Clock for SystemClock {
    fn not_before(&self, time: Timestamp) {
        self.last.fetch_max(time.millis(), Ordering::Relaxed);
    }

    fn now(&self) -> Timestamp {
        self.at_least_last(Self::machine())
    }

    fn steady(&self) -> Duration {
        self.began.elapsed()
    }

    fn stands_still(&self) -> bool {
        self.is_ahead_of(Self::machine())
    }
}

/// A clock that stands still, for books that do.
#[derive(Debug)]
pub struct StoppedClock(pub Timestamp);

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn not_before(&self, _: Timestamp) {}

    fn steady(&self) -> Duration {
        Duration::ZERO
    }

    fn stands_still(&self) -> bool {
        false
    }
}

/// A new UUIDv7 of time `at`: the door to randomness, since an id is made of both.
#[must_use]
pub fn new_uuid(at: Timestamp) -> Uuid {
    let (seconds, millis) = (at.millis() / 1000, at.millis() % 1000);
    let nanos = u32::try_from(millis * 1_000_000).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos))
}

/// A clock that a test moves by hand. Unlike the machine's it can also be set back.
#[cfg(any(test, feature = "fault-injection"))]
#[derive(Debug)]
pub struct ManualClock {
    millis: AtomicU64,
}

#[cfg(any(test, feature = "fault-injection"))]
impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { millis: AtomicU64::new(now.millis()) }
    }

    /// Puts the clock to `now`.
    pub fn set(&self, now: Timestamp) {
        self.millis.store(now.millis(), Ordering::SeqCst);
    }

    /// Moves the clock on by `millis`.
    pub fn advance(&self, millis: u64) {
        self.millis.fetch_add(millis, Ordering::SeqCst);
    }
}

#[cfg(any(test, feature = "fault-injection"))]
impl Clock for ManualClock {
    fn not_before(&self, time: Timestamp) {
        self.millis.fetch_max(time.millis(), Ordering::SeqCst);
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.millis.load(Ordering::SeqCst))
    }

    fn steady(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::SeqCst))
    }

    fn stands_still(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_clock_that_steps_back_never_takes_the_time_back() {
        let clock = SystemClock::default();
        assert_eq!(clock.at_least_last(2_000).millis(), 2_000);
        assert_eq!(clock.at_least_last(1_500).millis(), 2_000);
        assert_eq!(clock.at_least_last(2_001).millis(), 2_001);
    }

    #[test]
    fn a_journal_that_is_ahead_of_the_machine_holds_the_time_until_the_machine_catches_up() {
        let clock = SystemClock::default();
        assert!(!clock.stands_still());
        let ahead = clock.now().plus_millis(3_600_000);
        clock.not_before(ahead);
        assert_eq!(clock.now(), ahead);
        assert!(clock.stands_still());
    }

    #[test]
    fn the_system_clock_tells_the_time_of_the_machine() {
        let machine = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let before = machine();
        let told = u128::from(SystemClock::default().now().millis());
        assert!((before..=machine()).contains(&told));
    }

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = ManualClock::new(Timestamp::from_millis(10));
        clock.advance(5);
        assert_eq!(clock.now().millis(), 15);
        clock.set(Timestamp::from_millis(3));
        assert_eq!(clock.now().millis(), 3);
    }
}
