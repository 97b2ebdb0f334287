//! A server's clock, as a test moves it on.

use std::{fs, path::PathBuf};

pub const HOUR: u64 = 3_600_000;

/// The machine's clock, until it is moved on.
pub struct Clock {
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Clock {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { file: folder.path().join("ahead"), _folder: folder }
    }

    /// What a server is started with to have this clock.
    pub fn setting(&self) -> (&str, &str) {
        ("STRONGROOM_CLOCK_AHEAD", self.file.to_str().unwrap())
    }

    /// So many milliseconds in all have passed, besides those that did.
    pub fn has_passed(&self, ms: u64) {
        fs::write(&self.file, ms.to_string()).unwrap();
    }

    /// The clock is set ahead by so many milliseconds, which have not passed.
    pub fn is_set(&self, ms: u64) {
        fs::write(&self.file, format!("{ms} set")).unwrap();
    }
}
