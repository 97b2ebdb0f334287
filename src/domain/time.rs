//! Wall-clock time as the books know it: whole milliseconds since the Unix epoch, UTC.
//!
//! The domain never asks the time; every [`Timestamp`] here was read once, by the clock door, and handed in.

use jiff::tz::Offset;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z. Shown as RFC 3339 with three decimals.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The last instant that any offset of RFC 3339 can write: 9999-12-30T22:00:00.999Z.
    const LAST: u64 = 253_402_207_200_999;

    /// From milliseconds since the epoch; anything past that counts as the last instant.
    #[must_use]
    pub fn from_millis(millis: u64) -> Self {
        Self(millis.min(Self::LAST))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn millis(self) -> u64 {
        self.0
    }

    /// The time `millis` later, held at the last instant.
    #[must_use]
    pub fn plus_millis(self, millis: u64) -> Self {
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// How many milliseconds have passed since `earlier`; 0 if it lies ahead.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Reads RFC 3339 (`2026-11-22T15:04:05.123Z`, any offset). `None` before 1970 or when it is no such time.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let instant: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(instant.as_millisecond()).ok().map(Self::from_millis)
    }
}

/// A [`Timestamp`] as text: `2026-11-22T15:04:05.123Z`.
pub struct Rfc3339([u8; 24]);

impl Rfc3339 {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl From<Timestamp> for Rfc3339 {
    fn from(time: Timestamp) -> Self {
        let instant = i64::try_from(time.0)
            .ok()
            .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
            .unwrap_or(jiff::Timestamp::MAX);
        let at = Offset::UTC.to_datetime(instant);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let parts = [
            (0..4, at.year()),
            (5..7, at.month().into()),
            (8..10, at.day().into()),
            (11..13, at.hour().into()),
            (14..16, at.minute().into()),
            (17..19, at.second().into()),
            (20..23, at.millisecond()),
        ];
        for (places, part) in parts {
            let mut rest = part.unsigned_abs();
            for place in text.get_mut(places).into_iter().flatten().rev() {
                *place += u8::try_from(rest % 10).unwrap_or_default();
                rest /= 10;
            }
        }
        Self(text)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Rfc3339::from(*self).as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_with_milliseconds_and_read_back() {
        let time = Timestamp::from_millis(1_763_823_845_123);
        assert_eq!(time.to_string(), "2025-11-22T15:04:05.123Z");
        assert_eq!(Timestamp::parse("2025-11-22T15:04:05.123Z"), Some(time));
        assert_eq!(Timestamp::parse("2025-11-22T16:04:05.123+01:00"), Some(time));
        assert_eq!(Timestamp::from_millis(0).to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_time_is_shown_as_the_library_shows_it() {
        let far = Timestamp::LAST / 9973;
        for millis in
            (0..9973).map(|step| step * far).chain((0..70_000).map(|step| step * 86_399_999))
        {
            let instant =
                jiff::Timestamp::from_millisecond(i64::try_from(millis).unwrap()).unwrap();
            assert_eq!(Timestamp(millis).to_string(), format!("{instant:.3}"));
        }
    }

    #[test]
    fn times_out_of_range_are_held_or_refused() {
        assert_eq!(Timestamp::from_millis(u64::MAX).to_string(), "9999-12-30T22:00:00.999Z");
        assert_eq!(Timestamp::parse("1969-12-31T23:59:59Z"), None);
        assert_eq!(Timestamp::parse("yesterday"), None);
        assert_eq!(Timestamp::from_millis(5).millis_since(Timestamp::from_millis(9)), 0);
    }
}
