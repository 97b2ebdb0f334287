//! Payments' steps as the events that merchants are told of, found by journal entry and by merchant.
//!
//! Four bytes an entry and eight an event: the events themselves are derived from the histories.

use super::{
    Books, Breach,
    growing::Rows,
    payments::{History, Payments, Slot, Step},
};
use crate::domain::{
    id::{DerivedId, EndpointId, Kind, Sequence},
    payment::Payment,
    time::Timestamp,
    webhook::{Endpoint, EventType, Filter, Queue, Upcoming, WebhookRecord, Webhooks},
};
use std::{collections::HashMap, iter, sync::Arc};

/// An event, with the payment that it happened to.
#[derive(Clone, Copy, Debug)]
pub struct Happened<'a> {
    /// What kind of thing happened.
    pub kind: EventType,
    /// The payment.
    pub history: &'a History,
    /// The payment's step that it is.
    pub step: &'a Step,
    /// The payment's version after it.
    pub version: u32,
}

impl Happened<'_> {
    /// What it is called: `evt_…`, the same for ever.
    #[must_use]
    pub fn id(&self) -> DerivedId {
        DerivedId::new(Kind::Event, self.step.at, self.step.sequence)
    }

    /// The payment as it was right after it.
    #[must_use]
    pub fn payment(&self) -> Payment {
        self.history.payment_at(self.version)
    }
}

/// Which events a list shows. Every condition given must hold.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only of this merchant's payments.
    pub merchant: Option<Arc<str>>,
    /// Only of these types.
    pub types: Option<Filter>,
}

/// From where to where a list of events goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From what happened before this entry back to the first.
    NewestFirst {
        /// The entry; the highest there is for all.
        before: Sequence,
    },
    /// From what happened after this entry on to the last.
    OldestFirst {
        /// The entry; 0 for all.
        after: Sequence,
    },
}

impl Direction {
    /// The same way, from behind an entry on.
    fn past(self, sequence: Sequence) -> Self {
        match self {
            Self::NewestFirst { .. } => Self::NewestFirst { before: sequence },
            Self::OldestFirst { .. } => Self::OldestFirst { after: sequence },
        }
    }
}

impl Books {
    /// Whether `record` may be written next, of a merchant that can have `endpoints_max` webhook endpoints.
    ///
    /// # Errors
    /// [`Breach::Webhook`] with what forbids it.
    pub fn check_webhook(
        &self,
        record: &WebhookRecord,
        endpoints_max: usize,
    ) -> Result<(), Breach> {
        Ok(self.webhooks.check(record, endpoints_max)?)
    }

    /// The webhook endpoints, and how far they have got.
    #[must_use]
    pub fn webhooks(&self) -> &Webhooks {
        &self.webhooks
    }

    /// The event that entry `sequence` makes, if it makes one.
    #[must_use]
    pub fn event(&self, sequence: Sequence) -> Option<Happened<'_>> {
        self.entries.event(&self.payments, sequence)
    }

    /// Whether entry `sequence` stands in the merchant's list of events.
    #[must_use]
    pub fn lists_event(&self, merchant: &str, sequence: Sequence) -> bool {
        let own = self.entries.of_merchant.get(merchant);
        own.is_some_and(|own| {
            own.get(own.partition_point(|other| *other < sequence)) == Some(&sequence)
        })
    }

    /// Seeds a fault: forgets a merchant's last event, so that a test sees reconciliation find it.
    #[cfg(test)]
    pub(super) fn corrupt_events(&mut self, merchant: &str) {
        if let Some(own) = self.entries.of_merchant.get_mut(merchant) {
            own.pop();
        }
    }

    /// Events that `filter` admits, in the order of `direction`: at most `limits.0`, looking at no more than `limits.1`
    /// entries. Returns them and from where to look on; `None` if there is nothing more.
    #[must_use]
    pub fn events<'a>(
        &'a self,
        filter: &EventFilter,
        direction: Direction,
        limits: (usize, usize),
    ) -> (Vec<Happened<'a>>, Option<Direction>) {
        self.entries.list(&self.payments, filter, direction, limits)
    }

    /// The entry of the merchant's first event at `time` or later.
    #[must_use]
    pub fn first_event_at(&self, merchant: &str, time: Timestamp) -> Option<Sequence> {
        self.entries.first_at(&self.payments, merchant, time)
    }

    /// Has the queue of an endpoint take what it wants of what comes next, looking at no more than `scan_max` entries.
    /// Returns whether it got on at all.
    pub fn feed_into(
        &self,
        queue: &mut Queue,
        endpoint: EndpointId,
        now: Timestamp,
        scan_max: usize,
    ) -> bool {
        let wants = queue.wants(now);
        let cursor = queue.progress().cursor;
        let Some(endpoint) = self.webhooks.endpoint(endpoint) else { return false };
        if wants == 0
            || endpoint.admitted <= queue.progress().through
            || endpoint.progress.generation != queue.progress().generation
        {
            return false;
        }
        let (found, looked) = self.feed(endpoint, cursor, (wants, scan_max));
        found.into_iter().for_each(|next| queue.take(next, now));
        queue.seen(looked);
        looked > cursor
    }

    /// What comes for an endpoint after entry `after`: at most `limits.0` events, looking at no more than `limits.1`.
    /// Returns them and the entry up to which it looked; nothing and the same entry if there is nothing to look at.
    #[must_use]
    pub fn feed(
        &self,
        endpoint: &Endpoint,
        after: Sequence,
        limits: (usize, usize),
    ) -> (Vec<Upcoming>, Sequence) {
        self.entries.feed(&self.payments, endpoint, after, limits)
    }

    /// Counts the event that a step makes at the endpoints that want it.
    pub(super) fn tell(&mut self, slot: Slot, number: u32) {
        let Some((history, step)) = self.payments.step(slot, number) else {
            return;
        };
        let merchant = &history.details.merchant;
        let kind = usize::try_from(number).ok().and_then(|number| history.event_at(number));
        self.entries.insert(step.sequence, slot, kind.map(|_| merchant));
        if let Some(kind) = kind {
            self.webhooks.note(merchant, kind, step.sequence);
        }
    }
}

/// Where in the histories each entry is.
#[derive(Default)]
pub(super) struct Entries {
    /// By sequence less 1: the payment of the entry, or [`NONE`].
    slots: Rows<Slot>,
    /// The entries that make events, in order.
    of_merchant: HashMap<Arc<str>, Rows<Sequence>>,
}

/// Of an entry that is no payment's.
const NONE: Slot = Slot::MAX;

impl Entries {
    /// Remembers that entry `sequence` is a step of the payment in `slot`, which makes an event for `tells`.
    pub(super) fn insert(&mut self, sequence: Sequence, slot: Slot, tells: Option<&Arc<str>>) {
        let Some(place) = sequence.checked_sub(1).and_then(|place| usize::try_from(place).ok())
        else {
            return;
        };
        while self.slots.len() <= place {
            self.slots.push(NONE);
        }
        if let Some(entry) = self.slots.get_mut(place) {
            *entry = slot;
        }
        if let Some(merchant) = tells {
            match self.of_merchant.get_mut(merchant) {
                Some(entries) => entries.push(sequence),
                None => {
                    drop(self.of_merchant.insert(merchant.clone(), Rows::from_iter([sequence])))
                }
            }
        }
    }

    /// The payment's step that entry `sequence` made.
    pub(super) fn step<'a>(
        &self,
        payments: &'a Payments,
        sequence: Sequence,
    ) -> Option<(&'a History, &'a Step)> {
        let place = usize::try_from(sequence.checked_sub(1)?).ok()?;
        let slot = *self.slots.get(place)?;
        let history = payments.get(slot).filter(|_| slot != NONE)?;
        let number = history.steps().binary_search_by_key(&sequence, |step| step.sequence).ok()?;
        Some((history, history.steps().get(number)?))
    }

    pub(super) fn event<'a>(
        &self,
        payments: &'a Payments,
        sequence: Sequence,
    ) -> Option<Happened<'a>> {
        let place = usize::try_from(sequence.checked_sub(1)?).ok()?;
        let slot = *self.slots.get(place)?;
        let history = payments.get(slot).filter(|_| slot != NONE)?;
        let number = history.steps().binary_search_by_key(&sequence, |step| step.sequence).ok()?;
        let kind = history.event_at(number)?;
        let version = u32::try_from(number).ok()?.checked_add(1)?;
        Some(Happened { kind, history, step: history.steps().get(number)?, version })
    }

    /// Events that `filter` admits, in the order of `direction`: at most `count`, looking at no more than `scan_max`
    /// entries. Returns them and from where to look on; `None` if there is nothing more.
    pub(super) fn list<'a>(
        &self,
        payments: &'a Payments,
        filter: &EventFilter,
        direction: Direction,
        (count, scan_max): (usize, usize),
    ) -> (Vec<Happened<'a>>, Option<Direction>) {
        let types = filter.types.as_ref();
        let admits = |event: &Happened<'_>| types.is_none_or(|types| types.admits(event.kind));
        let mut found = Vec::new();
        let mut on = direction;
        for (looked, sequence) in self.entries(filter.merchant.as_deref(), direction).enumerate() {
            if found.len() >= count || looked >= scan_max {
                return (found, Some(on));
            }
            on = direction.past(sequence);
            found.extend(self.event(payments, sequence).filter(admits));
        }
        (found, None)
    }

    /// The entries that may make events of the merchant, or of any.
    fn entries(
        &self,
        merchant: Option<&str>,
        direction: Direction,
    ) -> Box<dyn Iterator<Item = Sequence> + '_> {
        let Some(merchant) = merchant else {
            let last = Sequence::try_from(self.slots.len()).unwrap_or(Sequence::MAX);
            return match direction {
                Direction::NewestFirst { before } => {
                    Box::new((1..=last.min(before.saturating_sub(1))).rev())
                }
                Direction::OldestFirst { after } => Box::new(after.saturating_add(1)..=last),
            };
        };
        let Some(own) = self.of_merchant.get(merchant) else { return Box::new(iter::empty()) };
        match direction {
            Direction::NewestFirst { before } => {
                let end = own.partition_point(|sequence| *sequence < before);
                Box::new(own.range(0..end).rev().copied())
            }
            Direction::OldestFirst { after } => {
                let start = own.partition_point(|sequence| *sequence <= after);
                Box::new(own.range(start..own.len()).copied())
            }
        }
    }

    /// The entry of the merchant's first event at `time` or later.
    pub(super) fn first_at(
        &self,
        payments: &Payments,
        merchant: &str,
        time: Timestamp,
    ) -> Option<Sequence> {
        let own = self.of_merchant.get(merchant)?;
        let is_before = |sequence: &Sequence| {
            self.event(payments, *sequence).is_some_and(|event| event.step.at < time)
        };
        own.get(own.partition_point(is_before)).copied()
    }

    /// What comes for an endpoint after entry `after`: at most `count` events, looking at no more than `scan_max`.
    /// Returns them and the entry up to which it looked; nothing and the same entry if there is nothing to look at.
    pub(super) fn feed(
        &self,
        payments: &Payments,
        endpoint: &Endpoint,
        after: Sequence,
        (count, scan_max): (usize, usize),
    ) -> (Vec<Upcoming>, Sequence) {
        let mut found = Vec::new();
        let mut looked = after;
        let direction = Direction::OldestFirst { after };
        for sequence in self.entries(Some(&endpoint.merchant), direction).take(scan_max) {
            if found.len() >= count {
                break;
            }
            looked = sequence;
            let event = self.event(payments, sequence);
            let event = event.filter(|event| endpoint.admits(sequence, event.kind));
            let payment = event.map(|event| event.history.details.id);
            found.extend(payment.map(|payment| Upcoming { sequence, payment }));
        }
        (found, looked)
    }
}
