//! One call that is to fail, and which.

use fuser::Errno;
use std::fmt;

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Io,
    Full,
    Interrupted,
    /// A write that writes half; any other call is interrupted.
    Short,
}

impl Kind {
    pub fn error(self) -> Errno {
        match self {
            Self::Io => Errno::EIO,
            Self::Full => Errno::ENOSPC,
            Self::Interrupted | Self::Short => Errno::EINTR,
        }
    }
}

/// The calls so far, and the one that is to fail.
#[derive(Default)]
pub struct Failing {
    calls: u64,
    at: Option<(u64, Kind)>,
    struck: Option<String>,
}

impl Failing {
    /// `N KIND`; with 0 none fails.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (at, kind) = std::str::from_utf8(text).ok()?.trim().split_once(' ')?;
        let kind = match kind {
            "EIO" => Kind::Io,
            "ENOSPC" => Kind::Full,
            "EINTR" => Kind::Interrupted,
            "SHORT" => Kind::Short,
            _ => return None,
        };
        Some(Self { calls: 0, at: Some((at.parse().ok()?, kind)), struck: None })
    }

    /// Counts a call; says how it is to fail, if it is the one.
    pub fn strikes(&mut self, what: &str) -> Option<Kind> {
        self.calls += 1;
        let (at, kind) = self.at?;
        if at != self.calls {
            return None;
        }
        self.struck = Some(what.to_owned());
        Some(kind)
    }
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let struck = self.struck.as_deref().unwrap_or("none");
        writeln!(f, "{} calls, failed: {struck}", self.calls)
    }
}
