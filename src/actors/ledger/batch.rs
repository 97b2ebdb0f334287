//! What the next write will hold, and what may not be in one write together.

use super::{NotRecorded, Recorded};
use crate::domain::{entry::Record, id::PaymentId, idempotency::Key, time::Timestamp};
use actix::Message;
use std::{collections::HashSet, sync::Arc};
use tokio::sync::oneshot;
use tracing::Span;

/// What a record is about. Two of one subject are never judged against the same books.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Payment(PaymentId),
    Webhooks,
    Strays,
    Access,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Append {
    pub(super) subject: Subject,
    /// The idempotency key the record came under, with its merchant.
    pub(super) key: Option<(Arc<str>, Key)>,
    pub(super) record: Record,
    /// Of the record, encoded.
    pub(super) bytes: usize,
    pub(super) now: Timestamp,
    pub(super) reply: oneshot::Sender<Result<Recorded, NotRecorded>>,
    /// From sending it to its being durable.
    pub(super) span: Span,
}

/// What the next write will hold.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) records: Vec<Record>,
    pub(super) replies: Vec<oneshot::Sender<Result<Recorded, NotRecorded>>>,
    /// Of the records, encoded.
    pub(super) bytes: usize,
    pub(super) at: Timestamp,
    pub(super) subjects: HashSet<Subject>,
    pub(super) keys: HashSet<(Arc<str>, Key)>,
    /// Of the records whose trace is followed, by their place.
    pub(super) spans: Vec<(usize, Span)>,
}

impl Batch {
    /// Whether `append` can only be judged once this batch is on the books.
    pub(super) fn touches(&self, append: &Append) -> bool {
        let same_key = |key| !seeded!(KeyNotChecked) && self.keys.contains(key);
        (!seeded!(VersionNotChecked) && self.subjects.contains(&append.subject))
            || append.key.as_ref().is_some_and(same_key)
    }

    pub(super) fn add(&mut self, append: Append) {
        self.at = self.at.max(append.now);
        self.bytes = self.bytes.saturating_add(append.bytes);
        self.subjects.insert(append.subject);
        self.keys.extend(append.key);
        if !append.span.is_disabled() {
            self.spans.push((self.records.len(), append.span));
        }
        self.records.push(append.record);
        self.replies.push(append.reply);
    }
}
