//! What is wrong right now, for whoever has to do something about it: shown by `/ready` and `/metrics`, and told to the
//! operator's webhook when it is raised.
//!
//! An alarm stands until what raised it sees that all is well again. Codes are fixed in the program, so there are never
//! more alarms than codes.

use super::alerts::{Alert, Alerts};
use crate::{clock::Clock, domain::time::Timestamp};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The most characters of an alarm's detail.
const DETAIL_CHARS_MAX: usize = 1000;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What kind of thing, such as `reconciliation.failed`.
    pub code: &'static str,
    /// What happened, which money, what to do. Never a secret.
    pub detail: String,
    /// Since when.
    pub since: Timestamp,
}

/// The alarms that stand.
pub struct Alarms {
    clock: Arc<dyn Clock>,
    alerts: Option<Alerts>,
    standing: Mutex<BTreeMap<&'static str, Alarm>>,
}

impl Alarms {
    /// None yet. Those that are raised are told by way of `alerts`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, alerts: Option<Alerts>) -> Self {
        Self { clock, alerts, standing: Mutex::default() }
    }

    /// Says that something is wrong, or that it still is. Every call is logged and told; an alarm that stands already
    /// keeps its beginning. Never waits.
    pub fn raise(&self, code: &'static str, detail: &str) {
        let now = self.clock.now();
        let detail: String = detail.chars().take(DETAIL_CHARS_MAX).collect();
        tracing::error!(alarm = code, detail, "alarm");
        let alarm = {
            let mut standing = self.standing();
            let since = standing.get(code).map_or(now, |alarm| alarm.since);
            let alarm = Alarm { code, detail, since };
            standing.insert(code, alarm.clone());
            alarm
        };
        if let Some(alerts) = &self.alerts {
            alerts.send(Alert { alarm, at: now });
        }
    }

    /// Says that all is well again, if an alarm of this code stands.
    pub fn clear(&self, code: &'static str) {
        if let Some(alarm) = self.standing().remove(code) {
            tracing::warn!(alarm = code, since = %alarm.since, "the alarm is over");
        }
    }

    /// The alarms that stand, in the order of their codes.
    #[must_use]
    pub fn all(&self) -> Vec<Alarm> {
        self.standing().values().cloned().collect()
    }

    fn standing(&self) -> MutexGuard<'_, BTreeMap<&'static str, Alarm>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn an_alarm_stands_from_its_first_raise_until_it_is_cleared() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(5)));
        let alarms = Alarms::new(clock.clone(), None);
        alarms.clear("a");
        assert_eq!(alarms.all(), []);
        alarms.raise("b", "first");
        clock.advance(10);
        alarms.raise("a", "other");
        alarms.raise("b", &"x".repeat(2 * DETAIL_CHARS_MAX));
        let alarm = |code, detail: &str, since| {
            let since = Timestamp::from_millis(since);
            Alarm { code, detail: detail.into(), since }
        };
        let long = "x".repeat(DETAIL_CHARS_MAX);
        assert_eq!(alarms.all(), [alarm("a", "other", 15), alarm("b", &long, 5)]);
        alarms.clear("b");
        assert_eq!(alarms.all(), [alarm("a", "other", 15)]);
        alarms.raise("b", "again");
        assert_eq!(alarms.all()[1], alarm("b", "again", 15));
    }
}
