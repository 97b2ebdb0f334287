//! A clock that a test of the real program moves on, while it runs. Only compiled for tests.

use super::{Clock, SystemClock};
use crate::domain::time::Timestamp;
use std::{env, fs, path::PathBuf};

/// The machine's clock, ahead by as many milliseconds as stand in the file that the environment variable
/// `STRONGROOM_CLOCK_AHEAD` names.
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
}

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        let ahead = fs::read_to_string(&self.file).ok().and_then(|text| text.parse().ok());
        let moved = self.machine.now().plus_millis(ahead.unwrap_or(0));
        self.told.at_least_last(moved.millis())
    }

    fn not_before(&self, time: Timestamp) {
        self.told.not_before(time);
    }
}
