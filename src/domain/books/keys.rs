//! The idempotency table: which step of which payment was asked for under which merchant's key.

use super::{
    Answered,
    growing::Index,
    payments::{Payments, Slot, Step},
};
use crate::domain::idempotency::Key;
use std::hash::{BuildHasher, RandomState};

/// Finds steps by merchant and key. It holds no keys itself: those stand in the steps.
#[derive(Default)]
pub(super) struct Keys {
    table: Index<(Slot, u32)>,
    hasher: RandomState,
}

impl Keys {
    /// The step that was last asked for under the key.
    pub(super) fn find<'a>(
        &self,
        payments: &'a Payments,
        merchant: &str,
        key: &Key,
    ) -> Option<Answered<'a>> {
        let hash = self.hasher.hash_one((merchant, key.as_str()));
        let same = |entry: &(Slot, u32)| of(payments, *entry) == Some((merchant, key.as_str()));
        let (slot, number) = *self.table.find(hash, same)?;
        let (history, Step { request, .. }) = payments.step(slot, number)?;
        let version = history.told_version(number);
        let (_, Step { at, .. }) = payments.step(slot, version.checked_sub(1)?)?;
        Some(Answered { history, version, at: *at, request: request.as_deref()? })
    }

    /// An empty table with room for `count` keys.
    pub(super) fn with_capacity(count: usize) -> Self {
        Self { table: Index::with_capacity(count), hasher: RandomState::new() }
    }

    /// Remembers that step `number` of `slot` came under its key. A key whose retention was over is taken over.
    pub(super) fn insert(&mut self, payments: &Payments, slot: Slot, number: u32) {
        let Some(name) = of(payments, (slot, number)) else {
            return;
        };
        let hash = self.hasher.hash_one(name);
        let is_it = |entry: &(Slot, u32)| of(payments, *entry) == Some(name);
        self.table.insert(hash, (slot, number), is_it);
    }
}

fn of(payments: &Payments, (slot, number): (Slot, u32)) -> Option<(&str, &str)> {
    let (history, step) = payments.step(slot, number)?;
    Some((&history.details.merchant, step.request.as_ref()?.key.as_str()))
}
