//! Webhooks: who is told of what, and how far they have got. Pure rules; couriers act on them.
//!
//! [`Webhooks`] is the fold of all that the journal says about endpoints: one value, changed only by entries in
//! sequence, so that the same journal always numbers the same events alike.

mod event;
mod progress;
mod queue;
mod record;
mod schedule;
mod signature;

pub use event::{EventType, Filter, Pattern};
pub use progress::{Change, DEAD_MAX, Open, Progress, Try, TryResult};
pub use queue::{Due, Queue, Terms, Upcoming, Verdict};
pub use record::{Created, DisabledBecause, Origin, Settings, WebhookEvent, WebhookRecord};
pub use schedule::Schedule;
pub use signature::{Secret, Signed, TOLERANCE_S, Unverified};

use super::{
    id::{EndpointId, Sequence},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use thiserror::Error;

/// Each so many admitted events, an endpoint remembers where in the journal it was.
const MARK_EVERY: u64 = 1024;

/// How often an endpoint's filter can be changed: each change is kept, since it decides how events are numbered.
const FILTERS_MAX: usize = 1000;

/// How many secrets of the past can sign beside the present one, which bounds the header.
const OLD_SECRETS_MAX: usize = 8;

/// Every endpoint there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhooks {
    endpoints: BTreeMap<EndpointId, Endpoint>,
    by_merchant: BTreeMap<Arc<str>, BTreeSet<EndpointId>>,
    /// Grows with everything that a courier has to know of.
    revision: u64,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Whose payments it is told of.
    pub merchant: Arc<str>,
    /// Where it is.
    pub url: Box<str>,
    /// The holder's free text.
    pub description: Option<Box<str>>,
    /// Where it was made.
    pub origin: Origin,
    /// What signs.
    pub secret: Secret,
    /// The secrets before, oldest first, and until when each signs too: at most [`OLD_SECRETS_MAX`].
    pub old_secrets: Vec<(Secret, Timestamp)>,
    /// Why nothing is sent to it, and since when; `None`: it is enabled.
    pub disabled: Option<(DisabledBecause, Timestamp)>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// How many events it was admitted so far: the last one's number.
    pub admitted: u64,
    /// How far it has got.
    pub progress: Progress,
    /// Grows with every change of it but progress.
    pub revision: u64,
    /// From which entry on which filter holds, oldest first, never empty.
    filters: Vec<(Sequence, Filter)>,
    /// The journal entries of its first event and of each [`MARK_EVERY`]th after that.
    marks: Vec<Sequence>,
}

impl Endpoint {
    /// What it wants.
    #[must_use]
    pub fn filter(&self) -> Option<&Filter> {
        self.filters.last().map(|(_, filter)| filter)
    }

    /// Whether it gets an event of this type that is derived from entry `sequence`.
    #[must_use]
    pub fn admits(&self, sequence: Sequence, kind: EventType) -> bool {
        admits(&self.filters, sequence, kind)
    }

    /// How its events were numbered so far, so that it can be counted anew while more happens.
    #[must_use]
    pub fn numbering(&self) -> Numbering {
        let (merchant, filters) = (self.merchant.clone(), self.filters.clone());
        Numbering { id: self.id, merchant, admitted: self.admitted, filters }
    }

    /// The secrets that sign at `now`, the newest first.
    #[must_use]
    pub fn signing_secrets(&self, now: Timestamp) -> Vec<Secret> {
        let old = self.old_secrets.iter().rev().filter(|(_, until)| now < *until);
        let old = old.map(|(secret, _)| secret.clone());
        [self.secret.clone()].into_iter().chain(old).collect()
    }

    /// A place in the journal at or before the event of entry `sequence`, from where its number can be counted: how
    /// many events were admitted up to an entry.
    #[must_use]
    pub fn mark_before_entry(&self, sequence: Sequence) -> Option<(u64, Sequence)> {
        self.mark(self.marks.partition_point(|mark| *mark <= sequence))
    }

    /// The same for the event of number `number`.
    #[must_use]
    pub fn mark_before_number(&self, number: u64) -> Option<(u64, Sequence)> {
        let passed = number.checked_sub(1)? / MARK_EVERY;
        self.mark(usize::try_from(passed).ok()?.checked_add(1)?.min(self.marks.len()))
    }

    fn mark(&self, passed: usize) -> Option<(u64, Sequence)> {
        let last = passed.checked_sub(1)?;
        let before = u64::try_from(last).ok()?.checked_mul(MARK_EVERY)?;
        Some((before, self.marks.get(last)?.checked_sub(1)?))
    }

    fn note(&mut self, sequence: Sequence) {
        if self.admitted.is_multiple_of(MARK_EVERY) {
            self.marks.push(sequence);
        }
        self.admitted = self.admitted.saturating_add(1);
    }

    /// How many events wait: not looked at yet, or open.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let open = u64::try_from(self.progress.open.len()).unwrap_or(u64::MAX);
        self.admitted.saturating_sub(self.progress.through).saturating_add(open)
    }
}

fn admits(filters: &[(Sequence, Filter)], sequence: Sequence, kind: EventType) -> bool {
    let held = filters.partition_point(|(from, _)| *from < sequence);
    let held = held.checked_sub(1).and_then(|last| filters.get(last));
    held.is_some_and(|(_, filter)| filter.admits(kind))
}

/// How an endpoint's events are numbered, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// Whose.
    pub id: EndpointId,
    /// Whose payments it is told of.
    pub merchant: Arc<str>,
    /// The number of its last event.
    pub admitted: u64,
    filters: Vec<(Sequence, Filter)>,
}

impl Numbering {
    /// As [`Endpoint::admits`].
    #[must_use]
    pub fn admits(&self, sequence: Sequence, kind: EventType) -> bool {
        admits(&self.filters, sequence, kind)
    }
}

/// Why an entry about webhooks can't follow what is on the books.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Misfit {
    /// There is no such endpoint.
    #[error("there is no webhook endpoint {0}")]
    NoSuchEndpoint(EndpointId),
    /// The id is taken.
    #[error("there is a webhook endpoint {0} already")]
    EndpointExists(EndpointId),
    /// The merchant has as many endpoints as it can have.
    #[error("{merchant} has {count} webhook endpoints, as many as it can have")]
    TooManyEndpoints {
        /// Whose.
        merchant: Arc<str>,
        /// How many.
        count: usize,
    },
    /// The filter was changed as often as it can be.
    #[error("the filter of {0} was changed as often as it can be: make a new endpoint")]
    TooManyFilters(EndpointId),
}

impl Webhooks {
    /// The fold of endpoints that were stored. What happened to payments is to be noted again, from the first event on:
    /// it is counted by the filters that held then.
    #[must_use]
    pub fn restore(endpoints: Vec<Endpoint>) -> Self {
        let mut all = Self::default();
        for mut endpoint in endpoints {
            (endpoint.admitted, endpoint.marks) = (0, Vec::new());
            let own = all.by_merchant.entry(endpoint.merchant.clone()).or_default();
            own.insert(endpoint.id);
            all.endpoints.insert(endpoint.id, endpoint);
        }
        all
    }

    /// Grows whenever an endpoint changes, or gets an event.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// An endpoint.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(&id)
    }

    /// All endpoints, oldest first.
    pub fn endpoints(&self) -> impl DoubleEndedIterator<Item = &Endpoint> {
        self.endpoints.values()
    }

    /// The endpoints of a merchant, oldest first.
    pub fn of_merchant<'a>(
        &'a self,
        merchant: &str,
    ) -> impl DoubleEndedIterator<Item = &'a Endpoint> + use<'a> {
        let ids = self.by_merchant.get(merchant).into_iter().flatten();
        ids.filter_map(|id| self.endpoints.get(id))
    }

    /// Whether `record` may be written next. `endpoints_max` is how many endpoints a merchant can have; a journal that
    /// is read may rightly hold more, from a time when that was higher.
    ///
    /// # Errors
    /// The [`Misfit`] says what forbids it.
    pub fn check(&self, record: &WebhookRecord, endpoints_max: usize) -> Result<(), Misfit> {
        match &record.event {
            WebhookEvent::Progressed(_) => Ok(()),
            WebhookEvent::Created(created) => {
                if self.endpoints.contains_key(&created.endpoint) {
                    return Err(Misfit::EndpointExists(created.endpoint));
                }
                let count = self.by_merchant.get(&created.merchant).map_or(0, BTreeSet::len);
                // The operator's own word in the configuration is no merchant's to use up.
                if created.origin == Origin::Api && count >= endpoints_max {
                    let merchant = created.merchant.clone();
                    return Err(Misfit::TooManyEndpoints { merchant, count });
                }
                Ok(())
            }
            event => {
                let known = event.endpoint().map(|id| (id, self.endpoints.get(&id)));
                match (event, known) {
                    (_, Some((id, None))) => Err(Misfit::NoSuchEndpoint(id)),
                    (WebhookEvent::Updated { .. }, Some((id, Some(endpoint))))
                        if endpoint.filters.len() >= FILTERS_MAX =>
                    {
                        Err(Misfit::TooManyFilters(id))
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// Makes an entry part of it. It never judges: what names an endpoint that is gone has no effect.
    pub fn apply(&mut self, record: WebhookRecord, sequence: Sequence, at: Timestamp) {
        match record.event {
            WebhookEvent::Progressed(changes) => {
                for change in changes {
                    if let Some(endpoint) = self.endpoints.get_mut(&change.endpoint) {
                        endpoint.progress.apply(change);
                    }
                }
                return;
            }
            WebhookEvent::Created(created) => self.create(*created, sequence, at),
            WebhookEvent::Deleted { endpoint } => self.delete(endpoint),
            event => {
                let endpoint = event.endpoint().and_then(|id| self.endpoints.get_mut(&id));
                if let Some(endpoint) = endpoint {
                    endpoint.apply(event, sequence, at);
                }
            }
        }
        self.revision = self.revision.wrapping_add(1);
    }

    fn create(&mut self, created: Created, sequence: Sequence, at: Timestamp) {
        let Created { endpoint: id, merchant, settings, secret, origin } = created;
        self.by_merchant.entry(merchant.clone()).or_default().insert(id);
        let endpoint = Endpoint {
            id,
            merchant,
            url: settings.url,
            description: settings.description,
            origin,
            secret,
            old_secrets: Vec::new(),
            disabled: None,
            created_at: at,
            updated_at: at,
            admitted: 0,
            progress: Progress::after(sequence),
            revision: 0,
            filters: vec![(sequence, settings.filter)],
            marks: Vec::new(),
        };
        self.endpoints.insert(id, endpoint);
    }

    fn delete(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.remove(&id) else { return };
        if let Some(ids) = self.by_merchant.get_mut(&endpoint.merchant) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_merchant.remove(&endpoint.merchant);
            }
        }
    }

    /// Counts an event of a merchant's payment at each endpoint that wants it.
    pub fn note(&mut self, merchant: &str, kind: EventType, sequence: Sequence) {
        let Some(ids) = self.by_merchant.get(merchant) else { return };
        for id in ids {
            if let Some(endpoint) = self.endpoints.get_mut(id)
                && endpoint.admits(sequence, kind)
            {
                endpoint.note(sequence);
                self.revision = self.revision.wrapping_add(1);
            }
        }
    }
}

impl Endpoint {
    fn apply(&mut self, event: WebhookEvent, sequence: Sequence, at: Timestamp) {
        match event {
            WebhookEvent::Updated { settings, .. } => {
                self.url = settings.url;
                self.description = settings.description;
                if self.filter() != Some(&settings.filter) {
                    self.filters.push((sequence, settings.filter));
                }
            }
            WebhookEvent::Rotated { secret, old_until, .. } => {
                let old = std::mem::replace(&mut self.secret, secret);
                // All of them: whoever rotates twice may still verify with the first.
                self.old_secrets.retain(|(_, until)| at < *until);
                self.old_secrets.push((old, old_until));
                let surplus = self.old_secrets.len().saturating_sub(OLD_SECRETS_MAX);
                self.old_secrets.drain(..surplus);
            }
            WebhookEvent::Disabled { reason, .. } => self.disabled = Some((reason, at)),
            WebhookEvent::Enabled { .. } => {
                self.disabled = None;
                self.progress.bring_forward();
            }
            WebhookEvent::Replayed { from, cursor, .. } => self.progress.rewind(from, cursor),
            WebhookEvent::Redelivered { number, sequence, .. } => {
                self.progress.reopen(number, sequence);
            }
            WebhookEvent::Created(_)
            | WebhookEvent::Deleted { .. }
            | WebhookEvent::Progressed(_) => {
                return;
            }
        }
        self.updated_at = at;
        self.revision = self.revision.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests;
