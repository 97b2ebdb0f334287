//! The last tries of each endpoint, in memory, successes included. What failed is in the journal as well, as long as it
//! matters; this is for whoever looks what happened.

use crate::domain::{
    id::{EndpointId, Sequence},
    webhook::Try,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
};

/// How many tries of each endpoint are kept.
const KEPT_MAX: usize = 100;

/// One try.
#[derive(Clone, Copy, Debug)]
pub struct Logged {
    /// The journal entry of the event.
    pub sequence: Sequence,
    /// Which try of the event it was, from 1.
    pub attempt: usize,
    /// What came of it.
    pub tried: Try,
}

/// The last tries of each endpoint.
#[derive(Default)]
pub struct DeliveryLog(Mutex<BTreeMap<EndpointId, VecDeque<Logged>>>);

impl DeliveryLog {
    pub(super) fn note(
        &self,
        endpoint: EndpointId,
        (sequence, attempt): (Sequence, usize),
        tried: Try,
    ) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry(endpoint).or_default();
        if own.len() >= KEPT_MAX {
            own.pop_front();
        }
        own.push_back(Logged { sequence, attempt, tried });
    }

    pub(super) fn forget(&self, endpoint: EndpointId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&endpoint);
    }

    /// What is kept of one event at one endpoint, oldest first.
    #[must_use]
    pub fn of(&self, endpoint: EndpointId, sequence: Sequence) -> Vec<Logged> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.get(&endpoint).into_iter().flatten();
        own.filter(|logged| logged.sequence == sequence).copied().collect()
    }
}
