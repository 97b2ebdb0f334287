//! When providers were called about attempts whose outcome is not certain.
//!
//! How long ago that was decides whether a call may be made again, and whether "no trace of it" can be believed. The
//! machine's clock may be set while we wait, so both are also measured by one that nobody can set. It is only as old as
//! the process: what was called before that is at least so long ago.

use super::attempts::call_of;
use crate::{
    clock::Clock,
    domain::{
        id::DerivedId,
        payment::{Attempt, Payment},
    },
    provider::{Answer, Line, Terms},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long is remembered when an attempt was called for: until long after the last call that may be made of it.
const REMEMBERED: Duration = Duration::from_secs(48 * 60 * 60);

/// See the module.
#[derive(Debug)]
pub struct Calls {
    clock: Arc<dyn Clock>,
    of: Mutex<HashMap<DerivedId, Called>>,
}

/// Times are [`Clock::steady`].
#[derive(Clone, Copy, Debug)]
struct Called {
    first: Duration,
    last: Duration,
    under_way: usize,
    /// The provider said that a further call would tell nothing new.
    is_useless: bool,
}

impl Calls {
    /// No calls yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, of: Mutex::default() }
    }

    fn of(&self) -> MutexGuard<'_, HashMap<DerivedId, Called>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the provider for the attempt, and remembers when.
    pub(super) async fn ask(&self, line: &Line, payment: &Payment, attempt: &Attempt) -> Answer {
        let call = call_of(payment, attempt, Duration::ZERO);
        let now = self.clock.steady();
        let first = Called { first: now, last: now, under_way: 0, is_useless: false };
        self.of().entry(call.attempt).or_insert(first).under_way += 1;
        let _ends = Ends { calls: self, attempt: call.attempt };
        let answer = line.ask(&call).await;
        if let Answer::Unknown { repeat: false, .. } = answer {
            self.is_useless(call.attempt);
        }
        answer
    }

    fn is_useless(&self, attempt: DerivedId) {
        self.of().entry(attempt).and_modify(|called| called.is_useless = true);
    }

    /// The outcome is certain: no call will be made again.
    pub(super) fn forget(&self, attempt: DerivedId) {
        self.of().remove(&attempt);
    }

    /// Forgets what was called for so long ago that it makes no difference.
    pub(super) fn forget_the_old(&self) {
        let now = self.clock.steady();
        let is_young = |called: &Called| now.saturating_sub(called.last) < REMEMBERED;
        self.of().retain(|_, called| called.under_way > 0 || is_young(called));
    }

    /// Whether the provider has been called for it and has not answered yet.
    pub(super) fn is_under_way(&self, attempt: DerivedId) -> bool {
        self.of().get(&attempt).is_some_and(|called| called.under_way > 0)
    }

    /// How long ago the last call ended.
    pub(super) fn quiet_for(&self, attempt: DerivedId) -> Duration {
        let now = self.clock.steady();
        match self.of().get(&attempt) {
            Some(Called { under_way: 1.., .. }) => Duration::ZERO,
            Some(called) => now.saturating_sub(called.last),
            None => now,
        }
    }

    /// How old the attempt is at least: by what the machine's clock says, or by what we have waited.
    fn age(&self, attempt: &Attempt) -> Duration {
        let told = Duration::from_millis(self.clock.now().millis_since(attempt.created_at));
        let waited =
            self.of().get(&attempt.id()).map(|it| self.clock.steady().saturating_sub(it.first));
        told.max(waited.unwrap_or_default())
    }

    /// Whether the provider would do the attempt at most once if it was called for again, and may tell more then.
    pub(super) fn may_repeat(&self, attempt: &Attempt, terms: Terms) -> bool {
        let is_useless = self.of().get(&attempt.id()).is_some_and(|called| called.is_useless);
        // While the clock stands still, nobody knows how old it is.
        !is_useless && self.age(attempt) < terms.repeats_for() && !self.clock.stands_still()
    }

    /// Whether the provider has had all the time there is: what it has no trace of now it never will, and what it can't
    /// say now a person has to find out.
    pub(super) fn is_over(&self, attempt: &Attempt, terms: Terms) -> bool {
        self.age(attempt) >= terms.key_window
            && self.quiet_for(attempt.id()) >= terms.is_on_record_after()
    }
}

/// Notes the end of a call, also if nobody waits for it any more.
struct Ends<'a> {
    calls: &'a Calls,
    attempt: DerivedId,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let now = self.calls.clock.steady();
        if let Some(called) = self.calls.of().get_mut(&self.attempt) {
            called.last = now;
            called.under_way = called.under_way.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        event::{Action, Ask, Standing},
        time::Timestamp,
    };

    #[derive(Debug, Default)]
    struct TwoClocks(Mutex<(u64, u64, bool)>);

    impl Clock for TwoClocks {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.lock().unwrap().0)
        }

        fn not_before(&self, _: Timestamp) {}

        fn steady(&self) -> Duration {
            Duration::from_millis(self.0.lock().unwrap().1)
        }

        fn stands_still(&self) -> bool {
            self.0.lock().unwrap().2
        }
    }

    const HOUR: u64 = 3_600_000;

    #[test]
    fn neither_a_clock_that_jumps_nor_one_that_stands_changes_how_long_ago_a_call_was() {
        let terms = Terms { key_window: Duration::from_millis(24 * HOUR), looks_up: true };
        let clock = Arc::new(TwoClocks::default());
        let calls = Calls::new(clock.clone());
        let set = |told, steady, stands| *clock.0.lock().unwrap() = (told, steady, stands);
        let ask = Ask { provider: "stripe".into(), action: Action::Void };
        let (at, standing) = (Timestamp::default(), Standing::Out);
        let attempt = Attempt {
            sequence: 7,
            ask,
            standing,
            is_booked: true,
            reference: None,
            failure: None,
            created_at: at,
            updated_at: at,
        };
        let zero = Duration::ZERO;
        let called = Called { first: zero, last: zero, under_way: 1, is_useless: false };
        calls.of().insert(attempt.id(), called);
        assert!(calls.may_repeat(&attempt, terms) && calls.is_under_way(attempt.id()));
        // The clock jumps while the call is out.
        set(25 * HOUR, 1000, false);
        assert!(!calls.may_repeat(&attempt, terms));
        assert!(!calls.is_over(&attempt, terms), "it is under way");
        drop(Ends { calls: &calls, attempt: attempt.id() });
        assert!(!calls.is_over(&attempt, terms), "it has only just ended");
        set(25 * HOUR, 1000 + HOUR, false);
        assert!(calls.is_over(&attempt, terms));
        // The clock was set back: by it, it is not old yet.
        set(22 * HOUR, 24 * HOUR, false);
        assert!(!calls.may_repeat(&attempt, terms) && calls.is_over(&attempt, terms));
        set(HOUR, HOUR, true);
        assert!(!calls.may_repeat(&attempt, terms), "nobody knows how old it is");
        set(HOUR, HOUR, false);
        assert!(calls.may_repeat(&attempt, terms));
        calls.is_useless(attempt.id());
        assert!(!calls.may_repeat(&attempt, terms), "it would tell nothing new");
        set(0, 100 * HOUR, false);
        calls.forget_the_old();
        assert_eq!(calls.quiet_for(attempt.id()), Duration::from_millis(100 * HOUR));
        assert!(calls.of().is_empty());
    }
}
