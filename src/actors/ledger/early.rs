//! A ledger that answers, or books, before it writes: bugs on purpose. Only compiled for tests.

use super::{LedgerActor, NotRecorded, Recorded, answer_all};
use crate::domain::{
    entry::{Batch, Entry, Hash, Record},
    time::Timestamp,
};
use std::sync::PoisonError;
use tokio::sync::oneshot;

type Replies = Vec<oneshot::Sender<Result<Recorded, NotRecorded>>>;

impl LedgerActor {
    pub(super) fn answer_too_early(&self, replies: &mut Replies, at: Timestamp) {
        if seeded!(AnsweredBeforeSync) {
            let sequence = self.journal.last_sequence().saturating_add(1);
            answer_all(std::mem::take(replies), &Ok(Recorded { sequence, at }));
        }
    }

    pub(super) fn apply_too_early(&self, records: &[Record], at: Timestamp) {
        if seeded!(AppliedBeforeSync) {
            let entries = (self.journal.last_sequence().saturating_add(1)..)
                .zip(records)
                .map(|(sequence, record)| Entry { sequence, at, record: record.clone() })
                .collect();
            let mut books = self.books.write().unwrap_or_else(PoisonError::into_inner);
            books.apply(Batch { entries, hash: Hash::default() });
        }
    }
}
