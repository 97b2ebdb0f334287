//! When a delivery that failed is tried again.

/// The waits between the tries of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// In milliseconds: before the second try, the third, and so on. After the last one the event is dead.
    pub waits_ms: Vec<u64>,
    /// By how much a wait is made shorter or longer at random, in percent of it, so that what failed together does not
    /// come back together; 0 to 100.
    pub jitter_percent: u64,
}

impl Schedule {
    /// How long to wait after `tries` tries have failed, in milliseconds; `None` if there is no further try. `dice`,
    /// drawn by the caller, is where in the range of the jitter the wait lies. An endpoint that asked for
    /// `retry_after_ms` gets at least that, within the longest wait of the schedule.
    #[must_use]
    pub fn wait_ms(&self, tries: usize, dice: u16, retry_after_ms: Option<u64>) -> Option<u64> {
        let wait = *self.waits_ms.get(tries.checked_sub(1)?)?;
        let longest = self.waits_ms.iter().copied().max().unwrap_or(wait);
        let jitter = self.jitter_percent.min(100);
        let spread = wait.saturating_mul(2).saturating_mul(jitter) / 100;
        let earliest = wait.saturating_sub(wait.saturating_mul(jitter) / 100);
        let drawn = u128::from(spread) * u128::from(dice) / u128::from(u16::MAX);
        let wait = earliest.saturating_add(u64::try_from(drawn).unwrap_or(0));
        Some(wait.max(retry_after_ms.unwrap_or(0).min(longest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(jitter_percent: u64) -> Schedule {
        Schedule { waits_ms: vec![5_000, 30_000, 120_000], jitter_percent }
    }

    #[test]
    fn each_failed_try_waits_as_the_schedule_says_and_after_the_last_there_is_none() {
        let waits: Vec<_> = (0..=4).map(|tries| schedule(0).wait_ms(tries, 9, None)).collect();
        assert_eq!(waits, [None, Some(5_000), Some(30_000), Some(120_000), None]);
    }

    #[test]
    fn jitter_moves_a_wait_by_at_most_its_share_either_way() {
        let wait = |dice| schedule(20).wait_ms(1, dice, None);
        assert_eq!(wait(0), Some(4_000));
        assert_eq!(wait(u16::MAX / 2), Some(4_999));
        assert_eq!(wait(u16::MAX), Some(6_000));
    }

    #[test]
    fn an_endpoint_that_asks_for_more_time_gets_it_up_to_the_longest_wait() {
        let wait = |asked| schedule(0).wait_ms(1, 0, Some(asked));
        assert_eq!(wait(1_000), Some(5_000));
        assert_eq!(wait(60_000), Some(60_000));
        assert_eq!(wait(u64::MAX), Some(120_000));
        assert_eq!(schedule(0).wait_ms(4, 0, Some(1_000)), None);
    }
}
