//! Every payment's history, compact at rest, and the indexes that find one.

use super::{
    Books,
    accounts::Cut,
    growing::{Index, Rows},
};
use crate::domain::{
    event::{Action, Details, Event, Standing},
    id::{PaymentId, Sequence},
    idempotency::Request,
    payment::{Form, Payment, Status, status_after},
    time::Timestamp,
    webhook::EventType,
};
use hashbrown::DefaultHashBuilder;
use std::{
    collections::{BTreeMap, HashMap, btree_map},
    hash::BuildHasher,
    sync::Arc,
};

/// A payment's number, counted from 0 in the order in which payments came onto the books.
pub type Slot = u32;

/// All that happened to one payment.
#[derive(Clone, Debug)]
pub struct History {
    /// What the merchant asked for.
    pub details: Arc<Details>,
    /// Where the payment stands now.
    pub status: Status,
    /// How many answers of providers are out.
    pub out: u16,
    /// Whether a person has to look at it.
    pub needs_review: bool,
    steps: Vec<Step>,
}

/// One event of a payment, in its place in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The entry's place.
    pub sequence: Sequence,
    /// The entry's time.
    pub at: Timestamp,
    /// Who caused it.
    pub actor: Arc<str>,
    /// What happened.
    pub event: Event,
    /// The idempotency key it was asked for under.
    pub request: Option<Box<Request>>,
    /// Of what form the answer is that was given to it.
    pub form: Form,
}

impl History {
    /// The history of `payment`, which its steps made.
    pub(super) fn new(payment: &Payment, steps: Vec<Step>) -> Self {
        let details = payment.details.clone();
        let mut history =
            Self { details, status: payment.status, out: 0, needs_review: false, steps };
        history.note(payment);
        history
    }

    /// Keeps what is looked for of a payment without folding its history.
    fn note(&mut self, payment: &Payment) {
        self.status = payment.status;
        self.out = u16::try_from(payment.out().count()).unwrap_or(u16::MAX);
        self.needs_review = payment.unsettled_notes().next().is_some();
    }

    /// The events, oldest first; never empty.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The payment as it stands now.
    #[must_use]
    pub fn payment(&self) -> Payment {
        self.payment_at(u32::MAX)
    }

    /// The payment as its first `version` events left it.
    #[must_use]
    pub fn payment_at(&self, version: u32) -> Payment {
        let mut payment = Payment::pending(
            self.details.clone(),
            self.created_under().map(|request| request.key.clone()),
        );
        for step in self.steps.iter().take(index(version)) {
            payment.apply(&step.event, step.at, step.sequence);
            payment.form = step.form;
        }
        payment
    }

    /// The version of the payment that the client was told whose request made step `number`: that step, and what became
    /// of it while the client waited.
    pub(super) fn told_version(&self, number: u32) -> u32 {
        let behind = self.steps.iter().skip(index(number).saturating_add(1));
        let told = behind.take_while(|step| step.event.is_told()).count();
        number.saturating_add(1).saturating_add(u32::try_from(told).unwrap_or(u32::MAX))
    }

    /// The payment as it stood then; `None` if it was not yet on the books.
    #[must_use]
    pub fn payment_as_of(&self, cut: Cut) -> Option<Payment> {
        let steps = self.steps.iter().take_while(|step| cut.includes(step)).count();
        (steps > 0).then(|| self.payment_at(u32::try_from(steps).unwrap_or(u32::MAX)))
    }

    /// The event that merchants are told of at step `number`, from 0.
    #[must_use]
    pub fn event_at(&self, number: usize) -> Option<EventType> {
        let step = self.steps.get(number)?;
        let version = number.checked_add(1)?;
        let is_last = version == self.steps.len();
        let as_it_left_it = || {
            let version = u32::try_from(version).ok()?;
            EventType::of(self.payment_at(version).status)
        };
        match &step.event {
            Event::Submitted { outcome: None, .. }
            | Event::Initiated(_)
            | Event::Asked { .. }
            | Event::Rerouted { .. }
            | Event::Noted(_) => None,
            Event::Answered(answered) => {
                match (answered.ask.action, answered.outcome.standing()) {
                    (Action::Refund { .. }, Standing::Failed) => Some(EventType::RefundFailed),
                    (Action::Capture { .. }, Standing::Failed) => Some(EventType::CaptureFailed),
                    (Action::Void, Standing::Failed) => Some(EventType::VoidFailed),
                    // The merchant did not ask for it, and it is asked for again.
                    (Action::Expire, Standing::Failed) => None,
                    _ if is_last => EventType::of(self.status),
                    _ => as_it_left_it(),
                }
            }
            _ if is_last => EventType::of(self.status),
            Event::Submitted { outcome: Some(outcome), .. } | Event::Settled(outcome) => {
                EventType::of(status_after(&self.details, outcome))
            }
            Event::Captured { .. } => Some(EventType::Completed),
            Event::Voided => Some(EventType::Voided),
            Event::Expired => Some(EventType::Expired),
            Event::Refunded { .. } => as_it_left_it(),
        }
    }

    /// The provider whose payment it is: the last one that was asked to authorize it.
    #[must_use]
    pub fn provider(&self) -> Arc<str> {
        let rerouted = |step: &Step| match &step.event {
            Event::Rerouted { next, .. } => Some(next.clone()),
            _ => None,
        };
        let last = self.steps.iter().rev().find_map(rerouted);
        last.unwrap_or_else(|| self.details.provider.clone())
    }

    /// When the payment came onto the books.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.steps.first().map(|step| step.at).unwrap_or_default()
    }

    /// The key that the payment was created under.
    #[must_use]
    pub fn created_under(&self) -> Option<&Request> {
        self.steps.first()?.request.as_deref()
    }

    /// When the hold lapses, while there is one that nothing is out about and that no person has to look at.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        if self.status != Status::Authorized || self.out > 0 || self.needs_review {
            return None;
        }
        let held = |step: &&Step| match &step.event {
            Event::Submitted { outcome: Some(_), .. } | Event::Settled(_) => true,
            // The last one: once it is held, it is not asked for again.
            Event::Answered(answered) => answered.ask.action == Action::Authorize,
            _ => false,
        };
        let step = self.steps.iter().rfind(held)?;
        Some(step.at.plus_millis(self.details.hold_ms))
    }
}

/// Which payments a list shows. Every condition given must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this merchant's.
    pub merchant: Option<Arc<str>>,
    /// Only in this status.
    pub status: Option<Status>,
    /// Only of this customer.
    pub customer: Option<Arc<str>>,
    /// Only created at this time or later.
    pub from: Option<Timestamp>,
    /// Only created before this time.
    pub to: Option<Timestamp>,
    /// Only those that a person has to look at, or only the others.
    pub needs_review: Option<bool>,
}

impl Filter {
    fn admits(&self, history: &History) -> bool {
        self.merchant.as_ref().is_none_or(|merchant| *merchant == history.details.merchant)
            && self.status.is_none_or(|status| status == history.status)
            && self.needs_review.is_none_or(|needs| needs == history.needs_review)
            && (self.customer.is_none() || self.customer == history.details.customer)
    }
}

/// A page of a list, newest first.
#[derive(Clone, Debug)]
pub struct Page<'a> {
    /// What it shows.
    pub histories: Vec<&'a History>,
    /// The last one shown, if there are more after it.
    pub next: Option<PaymentId>,
}

/// All histories.
#[derive(Default)]
pub(super) struct Payments {
    all: Rows<History>,
    by_id: Index<Slot>,
    by_merchant: HashMap<Arc<str>, Rows<Slot>>,
    /// How many stand so; none that no payment stands in.
    by_status: BTreeMap<Status, u64>,
    /// A fast one: ids are the server's own, so nobody can choose them to collide.
    hasher: DefaultHashBuilder,
}

impl Payments {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&History> {
        self.all.get(index(slot))
    }

    pub(super) fn find(&self, id: PaymentId) -> Option<&History> {
        self.slot_of(id).and_then(|slot| self.get(slot))
    }

    pub(super) fn step(&self, slot: Slot, number: u32) -> Option<(&History, &Step)> {
        let history = self.get(slot)?;
        Some((history, history.steps.get(index(number))?))
    }

    pub(super) fn iter_from(&self, from: Slot) -> impl Iterator<Item = &History> {
        self.all.range(index(from)..self.all.len())
    }

    pub(super) fn merchants(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_merchant.keys()
    }

    fn slot_of(&self, id: PaymentId) -> Option<Slot> {
        let same = |slot: &Slot| self.get(*slot).is_some_and(|history| history.details.id == id);
        self.by_id.find(self.hasher.hash_one(id), same).copied()
    }

    /// Adds a step to its payment; the first one makes the payment. Returns the payment's slot and the step's number,
    /// from 0. `None` for a step of a payment that was never submitted, which [`super::Books::check`] refuses.
    pub(super) fn append(&mut self, id: PaymentId, step: Step) -> Option<(Slot, u32)> {
        let slot = match (self.slot_of(id), &step.event) {
            (Some(slot), _) => slot,
            (None, Event::Submitted { details, .. } | Event::Initiated(details)) => {
                self.open(details.clone())?
            }
            (None, _) => return None,
        };
        let history = self.all.get_mut(index(slot))?;
        let mut payment = history.payment();
        payment.apply(&step.event, step.at, step.sequence);
        let (before, is_new) = (history.status, history.steps.is_empty());
        history.note(&payment);
        history.steps.reserve_exact(1);
        history.steps.push(step);
        *self.by_status.entry(payment.status).or_default() += 1;
        if !is_new && let btree_map::Entry::Occupied(mut left) = self.by_status.entry(before) {
            *left.get_mut() -= 1;
            if *left.get() == 0 {
                left.remove();
            }
        }
        Some((slot, payment.version.checked_sub(1)?))
    }

    /// Whole histories, in the order in which their payments came onto the books, that [`Payments::find`] does not find
    /// yet.
    pub(super) fn of(histories: Vec<History>) -> Self {
        let mut payments = Self::default();
        for (slot, history) in (0..).zip(&histories) {
            payments.file(&history.details.merchant, slot);
            *payments.by_status.entry(history.status).or_default() += 1;
        }
        Self { all: histories.into_iter().collect(), ..payments }
    }

    /// The index that finds a payment by its id; no two may have the same.
    pub(super) fn by_id(&self) -> Result<Index<Slot>, String> {
        let mut by_id = Index::with_capacity(self.all.len());
        let id_of = |slot: Slot| self.get(slot).map(|history| history.details.id);
        for (slot, history) in (0..).zip(self.all.iter()) {
            let id = history.details.id;
            let hash = self.hasher.hash_one(id);
            if by_id.insert(hash, slot, |known| id_of(*known) == Some(id)).is_some() {
                return Err(format!("{id} is there twice"));
            }
        }
        Ok(by_id)
    }

    /// The same payments with their index.
    pub(super) fn found_by(self, by_id: Index<Slot>) -> Self {
        Self { by_id, ..self }
    }

    fn file(&mut self, merchant: &Arc<str>, slot: Slot) {
        match self.by_merchant.get_mut(merchant) {
            Some(slots) => slots.push(slot),
            None => drop(self.by_merchant.insert(merchant.clone(), Rows::from_iter([slot]))),
        }
    }

    fn open(&mut self, details: Arc<Details>) -> Option<Slot> {
        let slot = Slot::try_from(self.all.len()).ok()?;
        let hash = self.hasher.hash_one(details.id);
        self.file(&details.merchant, slot);
        self.all.push(History::new(&Payment::pending(details, None), Vec::new()));
        // Whoever opens a payment has looked for it.
        self.by_id.insert(hash, slot, |_| false);
        Some(slot)
    }

    /// A page of the payments that `filter` admits, newest first, after the one named. `None` if `after` is not one of
    /// the payments the filter's merchant could have been shown.
    pub(super) fn list(
        &self,
        filter: &Filter,
        after: Option<PaymentId>,
        limit: usize,
    ) -> Option<Page<'_>> {
        let end = match after {
            None => Slot::MAX,
            Some(id) => {
                let history = self.find(id)?;
                let own = filter.merchant.as_ref().is_none_or(|m| *m == history.details.merchant);
                own.then(|| self.slot_of(id))??
            }
        };
        let mut matching = self
            .newest_first(filter.merchant.as_deref(), end)
            .skip_while(|history| filter.to.is_some_and(|to| history.created_at() >= to))
            .take_while(|history| filter.from.is_none_or(|from| history.created_at() >= from))
            .filter(|history| filter.admits(history));
        let histories: Vec<&History> = matching.by_ref().take(limit).collect();
        let more = matching.next().is_some();
        let next = if more { histories.last().map(|history| history.details.id) } else { None };
        Some(Page { histories, next })
    }

    fn newest_first(
        &self,
        merchant: Option<&str>,
        end: Slot,
    ) -> Box<dyn Iterator<Item = &History> + '_> {
        match merchant {
            None => Box::new(self.all.range(0..index(end)).rev()),
            Some(merchant) => {
                let slots = self.by_merchant.get(merchant).into_iter();
                let earlier = slots.flat_map(move |slots| {
                    slots.range(0..slots.partition_point(|slot| *slot < end)).rev()
                });
                Box::new(earlier.filter_map(|slot| self.get(*slot)))
            }
        }
    }
}

impl Books {
    /// How many payments stand so; none that no payment stands in.
    #[must_use]
    pub fn payments_by_status(&self) -> &BTreeMap<Status, u64> {
        &self.payments.by_status
    }

    /// Seeds a fault: counts a payment that is not there.
    #[cfg(test)]
    pub(super) fn corrupt_status(&mut self, status: Status) {
        *self.payments.by_status.entry(status).or_default() += 1;
    }
}

/// A slot or number as an index.
pub(super) fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
