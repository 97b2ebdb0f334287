//! How far an endpoint has got: compact, in the journal and in memory, however long the endpoint is down.
//!
//! The events that an endpoint's filter admits are numbered 1, 2, 3, … without gaps. Of those up to `through`, all are
//! settled but the few in `open`. What lies beyond has not been looked at and stays in the journal.
//!
//! ```text
//!   settled, but for the open ones            not looked at yet
//!  ┌───────────────────────────────────────┐┌───────────────────
//!  1  2  3 [4] 5  6  7 [8][9] 10 … [through] through+1 …
//!          open        open
//! ```

use crate::domain::{id::EndpointId, id::Sequence, time::Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most dead letters that an endpoint's list holds. Older ones leave it; they can still be replayed.
pub const DEAD_MAX: usize = 1000;

/// One try to deliver an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    /// When it began.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub latency_ms: u32,
    /// What came of it.
    pub result: TryResult,
}

/// What came of a try. Variant order is the format of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TryResult {
    /// The endpoint answered with this status, 2xx being a success.
    Answered(u16),
    /// It answered with this status, but its body was endless, too slow or cut off; it was not read further.
    AnsweredInPart(u16),
    /// There was no answer in time.
    TimedOut,
    /// The name could not be resolved.
    Unresolved,
    /// The name led, or the URL leads, to an address that webhooks may not go to.
    Forbidden,
    /// No connection could be made.
    NotConnected,
    /// No connection could be secured: a certificate that is not trusted, or no TLS.
    NotSecured,
    /// The connection was closed or reset before an answer came.
    Disconnected,
    /// What came back was no HTTP.
    Garbage,
}

impl TryResult {
    /// The status of the answer, if there was one.
    #[must_use]
    pub fn status(self) -> Option<u16> {
        match self {
            Self::Answered(status) | Self::AnsweredInPart(status) => Some(status),
            _ => None,
        }
    }

    /// Whether the event counts as delivered.
    #[must_use]
    pub fn is_success(self) -> bool {
        self.status().is_some_and(|status| (200..300).contains(&status))
    }

    /// What was not as it should be, in a stable word; `None` for a plain success.
    #[must_use]
    pub fn error(self) -> Option<&'static str> {
        match self {
            Self::Answered(200..=299) => None,
            Self::Answered(300..=399) => Some("redirect_not_followed"),
            Self::Answered(410) => Some("gone"),
            Self::Answered(_) => Some("status_not_2xx"),
            Self::AnsweredInPart(_) => Some("answer_cut_off"),
            Self::TimedOut => Some("timed_out"),
            Self::Unresolved => Some("name_not_resolved"),
            Self::Forbidden => Some("address_forbidden"),
            Self::NotConnected => Some("connection_failed"),
            Self::NotSecured => Some("tls_failed"),
            Self::Disconnected => Some("connection_closed"),
            Self::Garbage => Some("not_http"),
        }
    }
}

/// An event that is not settled: tried and to be tried again, or behind one of its own payment that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The journal entry that the event is derived from.
    pub sequence: Sequence,
    /// When it is to be tried; the epoch for at once.
    pub due: Timestamp,
    /// What was tried, oldest first; the schedule bounds how much.
    pub tries: Vec<Try>,
}

impl Open {
    /// An event that nobody has tried yet.
    #[must_use]
    pub fn new(sequence: Sequence) -> Self {
        Self { sequence, due: Timestamp::default(), tries: Vec::new() }
    }
}

/// How far an endpoint has got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How often the endpoint was set back by a replay. What was reported before one no longer counts.
    pub generation: u32,
    /// The last replay: from which event on, and the journal entry that it comes after.
    pub replayed: Option<(u64, Sequence)>,
    /// The last event that was looked at, by its number; 0 before the first.
    pub through: u64,
    /// The journal entry up to which was looked.
    pub cursor: Sequence,
    /// The events up to `through` that are not settled, by number.
    pub open: BTreeMap<u64, Open>,
    /// Those that were given up, by number: the newest [`DEAD_MAX`].
    pub dead: BTreeMap<u64, Open>,
    /// How many deliveries succeeded.
    pub delivered: u64,
    /// How many tries failed.
    pub failed: u64,
    /// Since when no try has succeeded; `None` while the last one did.
    pub failing_since: Option<Timestamp>,
}

/// What has happened to an endpoint's deliveries since its last report. Field order is the format of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which endpoint.
    pub endpoint: EndpointId,
    /// The generation that the report is about.
    pub generation: u32,
    /// As in [`Progress`].
    pub through: u64,
    /// As in [`Progress`].
    pub cursor: Sequence,
    /// Events that are open and were not, or differ.
    pub open: Vec<(u64, Open)>,
    /// Events that were open and are settled.
    pub closed: Vec<u64>,
    /// Events that were given up.
    pub died: Vec<(u64, Open)>,
    /// As in [`Progress`].
    pub delivered: u64,
    /// As in [`Progress`].
    pub failed: u64,
    /// As in [`Progress`].
    pub failing_since: Option<Timestamp>,
}

impl Change {
    /// The same in pieces of at most `rows_max` rows, since a journal entry has a bound. Only the last one moves
    /// `through` on, so that a crash between two of them loses no event.
    #[must_use]
    pub fn split(mut self, rows_max: usize) -> Vec<Change> {
        let mut pieces = Vec::new();
        while self.open.len() + self.died.len() > rows_max {
            let open = self.open.split_off(self.open.len().saturating_sub(rows_max));
            let left = rows_max.saturating_sub(open.len());
            let died = self.died.split_off(self.died.len().saturating_sub(left));
            pieces.push(Self { through: 0, cursor: 0, open, died, closed: Vec::new(), ..self });
        }
        pieces.push(self);
        pieces
    }
}

impl Progress {
    /// That of an endpoint that gets what happens after entry `cursor`.
    #[must_use]
    pub fn after(cursor: Sequence) -> Self {
        Self { cursor, ..Self::default() }
    }

    /// Makes a report part of it. One from before a replay is dropped: what it tells of is sent again anyway.
    pub fn apply(&mut self, change: Change) {
        if change.generation != self.generation {
            return;
        }
        // The greater one: the earlier pieces of a report that was split carry none.
        self.through = self.through.max(change.through);
        self.cursor = self.cursor.max(change.cursor);
        for number in &change.closed {
            self.open.remove(number);
        }
        for (number, open) in change.died {
            self.bury(number, open);
        }
        for (number, open) in change.open {
            self.dead.remove(&number);
            self.open.insert(number, open);
        }
        self.delivered = change.delivered;
        self.failed = change.failed;
        self.failing_since = change.failing_since;
    }

    /// Gives an event up.
    pub fn bury(&mut self, number: u64, open: Open) {
        self.open.remove(&number);
        self.dead.insert(number, open);
        if self.dead.len() > DEAD_MAX {
            self.dead.pop_first();
        }
    }

    /// Has one event sent again, whatever became of it, with a schedule that begins anew.
    pub fn reopen(&mut self, number: u64, sequence: Sequence) {
        if number <= self.through {
            self.dead.remove(&number);
            self.open.insert(number, Open::new(sequence));
        }
    }

    /// Has everything sent again from event `from` on, which comes after entry `cursor`.
    pub fn rewind(&mut self, from: u64, cursor: Sequence) {
        self.generation = self.generation.wrapping_add(1);
        self.replayed = Some((from, cursor));
        self.through = self.through.min(from.saturating_sub(1));
        self.cursor = self.cursor.min(cursor);
        self.open.retain(|number, _| *number < from);
        self.dead.retain(|number, _| *number < from);
    }

    /// Has all that waits tried at once: the endpoint is back.
    pub fn bring_forward(&mut self) {
        self.failing_since = None;
        for open in self.open.values_mut() {
            open.due = Timestamp::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn change(through: u64, open: &[u64], closed: &[u64], died: &[u64]) -> Change {
        let rows = |numbers: &[u64]| numbers.iter().map(|n| (*n, Open::new(n * 10))).collect();
        Change {
            endpoint: EndpointId::new(Uuid::nil()),
            generation: 0,
            through,
            cursor: through * 10,
            open: rows(open),
            closed: closed.to_vec(),
            died: rows(died),
            delivered: 0,
            failed: 0,
            failing_since: None,
        }
    }

    fn numbers(rows: &BTreeMap<u64, Open>) -> Vec<u64> {
        rows.keys().copied().collect()
    }

    #[test]
    fn reports_add_up_to_what_is_open_and_what_is_dead() {
        let mut progress = Progress::after(3);
        progress.apply(change(5, &[2, 4, 5], &[], &[]));
        progress.apply(change(9, &[9], &[4], &[2]));
        assert_eq!((progress.through, progress.cursor), (9, 90));
        assert_eq!(numbers(&progress.open), [5, 9]);
        assert_eq!(numbers(&progress.dead), [2]);
    }

    #[test]
    fn a_report_in_pieces_adds_up_to_the_same_and_only_the_last_one_moves_on() {
        let whole = change(90, &[70, 71, 72, 90], &[4], &[10, 11, 12]);
        let mut start = Progress::after(3);
        start.apply(change(60, &[4, 10], &[], &[]));
        let (mut one, mut other) = (start.clone(), start);
        one.apply(whole.clone());
        let pieces = whole.split(3);
        let rows = |piece: &Change| piece.open.len() + piece.died.len();
        assert!(pieces.iter().all(|piece| rows(piece) <= 3), "{pieces:?}");
        for piece in pieces {
            assert_eq!((other.through, other.cursor), (60, 600));
            other.apply(piece);
        }
        assert_eq!(one, other);
        let fits = change(90, &[70], &[4], &[10]);
        assert_eq!(fits.clone().split(2), [fits]);
    }

    #[test]
    fn a_report_from_before_a_replay_does_not_count() {
        let mut progress = Progress::after(0);
        progress.apply(change(9, &[3, 9], &[], &[2, 5]));
        progress.rewind(5, 40);
        assert_eq!((progress.through, progress.cursor), (4, 40));
        assert_eq!((numbers(&progress.open), numbers(&progress.dead)), (vec![3], vec![2]));
        progress.apply(change(10, &[], &[3], &[]));
        assert_eq!(progress.through, 4);
        assert_eq!(numbers(&progress.open), [3]);
    }

    #[test]
    fn a_replay_starts_its_first_event_over_whether_it_is_open_or_dead() {
        for first in [3, 5] {
            let mut progress = Progress::after(0);
            progress.apply(change(9, &[2, 3], &[], &[4, 5]));
            progress.rewind(first, 0);
            assert!(!progress.open.contains_key(&first) && !progress.dead.contains_key(&first));
            assert!(progress.open.contains_key(&2), "it comes before");
        }
    }

    #[test]
    fn a_dead_letter_that_is_sent_again_starts_over() {
        let mut progress = Progress::after(0);
        progress.apply(change(3, &[], &[], &[2]));
        progress.reopen(2, 20);
        assert_eq!((numbers(&progress.open), numbers(&progress.dead)), (vec![2], vec![]));
        progress.reopen(4, 40);
        assert_eq!(numbers(&progress.open), [2], "what was not looked at yet comes by itself");
    }

    #[test]
    fn the_list_of_dead_letters_keeps_the_newest() {
        let mut progress = Progress::after(0);
        let last = u64::try_from(DEAD_MAX).unwrap() + 1;
        progress.apply(change(last, &[], &[], &(1..=last).collect::<Vec<_>>()));
        assert_eq!(progress.dead.len(), DEAD_MAX);
        assert_eq!(progress.dead.keys().next(), Some(&2));
    }

    #[test]
    fn any_2xx_is_a_success_and_nothing_else() {
        for (result, success, error) in [
            (TryResult::Answered(200), true, None),
            (TryResult::Answered(299), true, None),
            (TryResult::AnsweredInPart(204), true, Some("answer_cut_off")),
            (TryResult::Answered(199), false, Some("status_not_2xx")),
            (TryResult::Answered(302), false, Some("redirect_not_followed")),
            (TryResult::Answered(410), false, Some("gone")),
            (TryResult::Answered(500), false, Some("status_not_2xx")),
            (TryResult::AnsweredInPart(500), false, Some("answer_cut_off")),
            (TryResult::TimedOut, false, Some("timed_out")),
            (TryResult::Garbage, false, Some("not_http")),
        ] {
            assert_eq!((result.is_success(), result.error()), (success, error), "{result:?}");
        }
    }
}
