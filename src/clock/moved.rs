//! A clock that a test of the real program moves on, while it runs. Only compiled for tests.

use super::{Clock, SystemClock};
use crate::domain::time::Timestamp;
use std::{env, fs, path::PathBuf, time::Duration};

/// The machine's clock, ahead by as many milliseconds as stand in the file that the environment variable
/// `STRONGROOM_CLOCK_AHEAD` names. They have passed; with ` set` behind them, the clock was only set.
#[derive(Debug)]
pub struct MovedClock {
    machine: SystemClock,
    told: SystemClock,
    file: PathBuf,
}

impl MovedClock {
    /// The clock that the environment asks for, if it does.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        let file = env::var_os("STRONGROOM_CLOCK_AHEAD")?.into();
        Some(Self { machine: SystemClock::default(), told: SystemClock::default(), file })
    }

    /// By how much the clock is ahead, and how much of it has passed.
    fn ahead(&self) -> (u64, u64) {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        match text.strip_suffix(" set") {
            Some(set) => (set.parse().unwrap_or(0), 0),
            None => {
                let passed = text.parse().unwrap_or(0);
                (passed, passed)
            }
        }
    }

    fn moved(&self) -> Timestamp {
        self.machine.now().plus_millis(self.ahead().0)
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        self.told.at_least_last(self.moved().millis())
    }

    fn not_before(&self, time: Timestamp) {
        self.told.not_before(time);
    }

    fn steady(&self) -> Duration {
        self.machine.steady() + Duration::from_millis(self.ahead().1)
    }

    fn stands_still(&self) -> bool {
        self.told.is_ahead_of(self.moved().millis())
    }
}
