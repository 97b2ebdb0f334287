//! What an endpoint still has to get, and when: the courier's rules, as a pure state machine.
//!
//! The caller takes events from the journal in order ([`Queue::take`]), asks what is due ([`Queue::next`]), sends it and
//! says what came of it ([`Queue::finish`]). Three rules hold:
//!
//! - **order**: of one payment's events only the first that is not settled is ever tried;
//! - **patience**: an endpoint that fails gets fewer tries at once, and one that looks down only now and then a new
//!   event; as soon as it takes one again, all that waits is tried at once;
//! - **bounds**: at most `backlog` events are held here, the rest stays in the journal.

use super::{
    progress::{Change, Open, Progress, Try},
    schedule::Schedule,
};
use crate::domain::{
    id::{EndpointId, PaymentId, Sequence},
    time::Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

/// With how many tries at once an endpoint begins; each success allows one more.
const WINDOW_START: usize = 4;
/// After so many failures in a row an endpoint counts as down.
const DOWN_AFTER: u32 = 8;
/// How long at least, and at most, an endpoint that is down waits for the next new event.
const PROBE_MS: (u64, u64) = (5_000, 15 * 60 * 1000);

/// How much one endpoint may take up, and how it is tried.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The waits between tries.
    pub schedule: Schedule,
    /// The most tries at once.
    pub concurrency: usize,
    /// The most events that are held while they wait.
    pub backlog: usize,
    /// How long an endpoint may fail before it is disabled, in milliseconds.
    pub disable_after_ms: u64,
}

/// An event that comes next in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upcoming {
    /// The journal entry it is derived from.
    pub sequence: Sequence,
    /// Whose event it is.
    pub payment: PaymentId,
}

/// An event to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its number at this endpoint.
    pub number: u64,
    /// The journal entry it is derived from.
    pub sequence: Sequence,
    /// Whose event it is.
    pub payment: PaymentId,
    /// Which try this is, from 1.
    pub attempt: usize,
    generation: u32,
}

/// What a finished try means for the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The event is settled.
    Delivered,
    /// It is tried again then.
    Again(Timestamp),
    /// It was the last try: a dead letter.
    Dead,
    /// The endpoint wants nothing more (410).
    Gone,
    /// The endpoint has failed for too long.
    FailingTooLong,
    /// The endpoint was set back meanwhile: it does not count.
    Stale,
}

/// The queue of one endpoint.
pub struct Queue {
    endpoint: EndpointId,
    terms: Terms,
    progress: Progress,
    window: usize,
    failures_in_a_row: u32,
    has_succeeded: bool,
    probed_at: Timestamp,
    payments: BTreeMap<u64, PaymentId>,
    /// The open events of each payment. Only the first of each may be tried.
    lanes: BTreeMap<PaymentId, BTreeSet<u64>>,
    /// Firsts of lanes that are not being tried, by when they are due.
    ready: BTreeSet<(Timestamp, u64)>,
    in_flight: BTreeSet<u64>,
    /// Tries from before a replay that are still under way, by payment.
    strays: BTreeMap<PaymentId, usize>,
    changed: BTreeSet<u64>,
    journaled: BTreeSet<u64>,
    died: Vec<(u64, Open)>,
    is_dirty: bool,
}

impl Queue {
    /// The queue of an endpoint that has got as far as `progress`. `payment_of` says whose event a journal entry makes;
    /// an open event that it does not know is dropped.
    #[must_use]
    pub fn new(
        endpoint: EndpointId,
        terms: Terms,
        progress: Progress,
        payment_of: impl Fn(Sequence) -> Option<PaymentId>,
    ) -> Self {
        let mut queue = Self {
            endpoint,
            terms,
            progress: Progress::default(),
            window: WINDOW_START,
            failures_in_a_row: 0,
            has_succeeded: false,
            probed_at: Timestamp::default(),
            payments: BTreeMap::new(),
            lanes: BTreeMap::new(),
            ready: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            strays: BTreeMap::new(),
            changed: BTreeSet::new(),
            journaled: BTreeSet::new(),
            died: Vec::new(),
            is_dirty: false,
        };
        queue.load(progress, payment_of);
        queue
    }

    /// Goes on from another progress, as after a replay. What is being tried goes on, but counts no more.
    pub fn load(&mut self, progress: Progress, payment_of: impl Fn(Sequence) -> Option<PaymentId>) {
        for number in std::mem::take(&mut self.in_flight) {
            if let Some(payment) = self.payments.get(&number) {
                *self.strays.entry(*payment).or_default() += 1;
            }
        }
        self.payments.clear();
        self.lanes.clear();
        self.ready.clear();
        self.changed.clear();
        self.died.clear();
        self.journaled = progress.open.keys().copied().collect();
        self.progress = progress;
        let rows: Vec<(u64, Sequence)> =
            self.progress.open.iter().map(|(number, open)| (*number, open.sequence)).collect();
        for (number, sequence) in rows {
            match payment_of(sequence) {
                Some(payment) => self.enter(number, payment),
                None => drop(self.progress.open.remove(&number)),
            }
        }
        self.is_dirty = false;
    }

    /// Goes back to event `from`, which comes after entry `cursor`, as the books did for a replay.
    pub fn rewind(
        &mut self,
        (from, cursor): (u64, Sequence),
        payment_of: impl Fn(Sequence) -> Option<PaymentId>,
    ) {
        let (journaled, died) =
            (std::mem::take(&mut self.journaled), std::mem::take(&mut self.died));
        let mut progress = std::mem::take(&mut self.progress);
        progress.rewind(from, cursor);
        self.load(progress, payment_of);
        // What the books did not know of yet is reported under the new generation.
        self.died = died.into_iter().filter(|(number, _)| *number < from).collect();
        self.changed = self.journaled.iter().chain(&journaled).copied().collect();
        self.journaled.extend(journaled);
        self.is_dirty = true;
    }

    /// How far it has got.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// How many tries are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len() + self.strays.values().sum::<usize>()
    }

    /// Whether its last try succeeded. Until one has, nobody knows.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.has_succeeded && self.failures_in_a_row == 0
    }

    fn is_down(&self) -> bool {
        self.failures_in_a_row >= DOWN_AFTER
    }

    /// When an endpoint that is down may get a new event.
    fn probe_at(&self, now: Timestamp) -> Timestamp {
        let (least, most) = PROBE_MS;
        let down_for = self.progress.failing_since.map_or(0, |since| now.millis_since(since));
        self.probed_at.plus_millis((down_for / 10).clamp(least, most))
    }

    /// How many further events to take from the journal now.
    #[must_use]
    pub fn wants(&self, now: Timestamp) -> usize {
        let room = self.terms.backlog.saturating_sub(self.progress.open.len());
        if self.is_down() {
            return usize::from(now >= self.probe_at(now)).min(room);
        }
        let ahead = self.window.saturating_mul(2);
        let due = self.ready.range(..=(now, u64::MAX)).take(ahead).count();
        ahead.saturating_sub(due + self.in_flight.len()).min(room)
    }

    /// Takes the next event that the endpoint's filter admits.
    pub fn take(&mut self, next: Upcoming, now: Timestamp) {
        if self.is_down() {
            self.probed_at = now;
        }
        let number = self.progress.through.saturating_add(1);
        self.progress.through = number;
        self.progress.cursor = next.sequence;
        self.progress.open.insert(number, Open::new(next.sequence));
        self.enter(number, next.payment);
        self.touch(number);
    }

    /// Nothing more for this endpoint stands up to entry `cursor`.
    pub fn seen(&mut self, cursor: Sequence) {
        self.progress.cursor = self.progress.cursor.max(cursor);
    }

    fn enter(&mut self, number: u64, payment: PaymentId) {
        self.payments.insert(number, payment);
        self.lanes.entry(payment).or_default().insert(number);
        self.ready_head(payment);
    }

    /// Puts the first event of a payment among those that can be tried, unless one of them is being tried.
    fn ready_head(&mut self, payment: PaymentId) {
        let Some(lane) = self.lanes.get(&payment) else { return };
        let in_order = !seeded!(OrderNotKept);
        let busy = self.strays.contains_key(&payment)
            || lane.iter().any(|number| self.in_flight.contains(number));
        for (place, number) in lane.iter().enumerate() {
            let due = self.progress.open.get(number).map(|open| open.due).unwrap_or_default();
            let is_tried = self.in_flight.contains(number);
            if (place == 0 && !busy) || (!in_order && !is_tried) {
                self.ready.insert((due, *number));
            } else {
                self.ready.remove(&(due, *number));
            }
        }
    }

    fn touch(&mut self, number: u64) {
        self.changed.insert(number);
        self.is_dirty = true;
    }

    /// The next event to send, if one is due and there is a place. It counts as being tried until [`Queue::finish`].
    pub fn next(&mut self, now: Timestamp) -> Option<Due> {
        if self.in_flight() >= self.window {
            return None;
        }
        let (due, number) = *self.ready.first()?;
        if due > now {
            return None;
        }
        self.ready.remove(&(due, number));
        self.in_flight.insert(number);
        let open = self.progress.open.get(&number)?;
        let due = Due {
            number,
            sequence: open.sequence,
            payment: *self.payments.get(&number)?,
            attempt: open.tries.len() + 1,
            generation: self.progress.generation,
        };
        if seeded!(CursorBeforeDelivery) {
            self.progress.open.remove(&number);
            self.touch(number);
        }
        Some(due)
    }

    /// When something is due next, if there is a place for it and nothing else happens before.
    #[must_use]
    pub fn wakes_at(&self, now: Timestamp) -> Option<Timestamp> {
        let head = self.ready.first().map(|(due, _)| *due);
        let head = head.filter(|_| self.in_flight() < self.window);
        // A probe whose time is over waits for an event, or for a place in the backlog.
        let probe = self.is_down().then(|| self.probe_at(now)).filter(|at| *at > now);
        head.into_iter().chain(probe).min()
    }

    /// Books what came of a try that ended at `now`. `dice` is for the jitter; `retry_after_ms` is what the endpoint
    /// asked for.
    pub fn finish(
        &mut self,
        due: Due,
        tried: Try,
        retry_after_ms: Option<u64>,
        (now, dice): (Timestamp, u16),
    ) -> Verdict {
        if due.generation != self.progress.generation {
            self.forget_stray(due.payment);
            return Verdict::Stale;
        }
        self.in_flight.remove(&due.number);
        self.touch(due.number);
        if tried.result.is_success() {
            self.succeed(due);
            return Verdict::Delivered;
        }
        self.fail(due, tried, retry_after_ms, (now, dice))
    }

    fn forget_stray(&mut self, payment: PaymentId) {
        if let Some(count) = self.strays.get_mut(&payment) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.strays.remove(&payment);
                self.ready_head(payment);
            }
        }
    }

    fn succeed(&mut self, due: Due) {
        self.progress.open.remove(&due.number);
        self.leave(due);
        self.progress.delivered = self.progress.delivered.saturating_add(1);
        self.progress.failing_since = None;
        self.window = self.window.saturating_add(1).min(self.terms.concurrency);
        if self.is_down() {
            self.bring_forward();
        }
        self.failures_in_a_row = 0;
        self.has_succeeded = true;
    }

    fn leave(&mut self, due: Due) {
        self.payments.remove(&due.number);
        if let Some(lane) = self.lanes.get_mut(&due.payment) {
            lane.remove(&due.number);
            if lane.is_empty() {
                self.lanes.remove(&due.payment);
            } else {
                self.ready_head(due.payment);
            }
        }
    }

    fn fail(
        &mut self,
        due: Due,
        tried: Try,
        retry_after_ms: Option<u64>,
        (now, dice): (Timestamp, u16),
    ) -> Verdict {
        self.progress.failed = self.progress.failed.saturating_add(1);
        let failing_since = *self.progress.failing_since.get_or_insert(tried.at);
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.window = (self.window / 2).max(1);
        let Some(open) = self.progress.open.get_mut(&due.number) else { return Verdict::Stale };
        open.tries.push(tried);
        if open.tries.len() > self.terms.schedule.waits_ms.len().saturating_add(1) {
            open.tries.remove(0);
        }
        let is_gone = tried.result.status() == Some(410);
        let wait = self.terms.schedule.wait_ms(open.tries.len(), dice, retry_after_ms);
        let verdict = match wait {
            // Being enabled again brings it forward. Until it is disabled on the books, which a full disk can put off,
            // it is left alone like any that fails.
            _ if is_gone => {
                let wait = wait.or(self.terms.schedule.waits_ms.last().copied());
                open.due = now.plus_millis(wait.unwrap_or_default());
                Verdict::Gone
            }
            Some(wait) => {
                open.due = now.plus_millis(wait);
                Verdict::Again(open.due)
            }
            None => Verdict::Dead,
        };
        if verdict == Verdict::Dead {
            let open = open.clone();
            self.died.push((due.number, open.clone()));
            self.progress.bury(due.number, open);
            self.leave(due);
        } else {
            self.ready_head(due.payment);
        }
        let too_long = now.millis_since(failing_since) >= self.terms.disable_after_ms;
        if too_long && !is_gone { Verdict::FailingTooLong } else { verdict }
    }

    /// Has all that waits tried at once, as after the endpoint came back or was enabled.
    pub fn bring_forward(&mut self) {
        self.failures_in_a_row = 0;
        self.ready.clear();
        self.progress.bring_forward();
        for payment in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.ready_head(payment);
        }
        self.changed.extend(self.progress.open.keys());
        self.is_dirty = true;
    }

    /// Has one event sent again, unless it is being tried right now.
    pub fn reopen(&mut self, number: u64, next: Upcoming) {
        if number > self.progress.through || self.in_flight.contains(&number) {
            return;
        }
        if let Some(open) = self.progress.open.get(&number) {
            self.ready.remove(&(open.due, number));
        }
        self.died.retain(|(dead, _)| *dead != number);
        self.progress.reopen(number, next.sequence);
        // The books have it open since the wish was recorded.
        self.journaled.insert(number);
        self.enter(number, next.payment);
        self.touch(number);
    }

    /// What is to be journaled since the last time; `None` if nothing is.
    pub fn report(&mut self) -> Option<Change> {
        if !std::mem::take(&mut self.is_dirty) {
            return None;
        }
        let (mut open, mut closed) = (Vec::new(), Vec::new());
        for number in std::mem::take(&mut self.changed) {
            match self.progress.open.get(&number) {
                Some(row) => {
                    self.journaled.insert(number);
                    open.push((number, row.clone()));
                }
                None if self.journaled.remove(&number) => closed.push(number),
                None => {}
            }
        }
        Some(Change {
            endpoint: self.endpoint,
            generation: self.progress.generation,
            through: self.progress.through,
            cursor: self.progress.cursor,
            open,
            closed,
            died: std::mem::take(&mut self.died),
            delivered: self.progress.delivered,
            failed: self.progress.failed,
            failing_since: self.progress.failing_since,
        })
    }

    /// Takes a report back that could not be journaled, so that the next one holds it too.
    pub fn take_back(&mut self, report: Change) {
        if report.generation != self.progress.generation {
            return;
        }
        self.changed.extend(report.open.iter().map(|(number, _)| *number));
        self.changed.extend(&report.closed);
        self.journaled.extend(report.closed);
        let mut died = report.died;
        died.append(&mut self.died);
        self.died = died;
        self.is_dirty = true;
    }
}

#[cfg(test)]
mod tests;
