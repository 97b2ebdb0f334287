//! The only writer: gathers what came while the last write was under way, makes it durable in one write, books it,
//! answers.
//!
//! It has a thread of its own and blocks it while the disk works. Messages pile up in the mailbox meanwhile, and all
//! of them are the next batch: no timer, no batch size to tune. Nobody is answered before the write is durable, and the
//! books show nothing that is not.

mod batch;
#[cfg(feature = "fault-injection")]
mod early;
mod handle;

pub use handle::LedgerHandle;

use self::{
    batch::{Append, Batch},
    handle::{Appends, Writing},
};
use super::Unavailable;
use crate::{
    domain::{
        books::{Books, Breach},
        entry::Record,
        id::Sequence,
        idempotency::Retention,
        time::Timestamp,
    },
    journal::{JournalError, Writer},
    tasks,
    telemetry::traces::{self, span},
};
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tracing::Span;

/// Where an entry went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its place in the journal.
    pub sequence: Sequence,
    /// Its time.
    pub at: Timestamp,
}

/// Why a record was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotRecorded {
    /// It can't follow what is on the books.
    Breach(Breach),
    /// It could, but not now.
    Unavailable(Unavailable),
}

/// Why the process must end.
#[derive(Debug)]
pub enum Fatal {
    /// The journal could not be written. What is on disk is known again only after recovery.
    Journal(JournalError),
    /// The ledger actor died of a bug.
    LedgerDied,
}

/// How the ledger writes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The most entries in a batch.
    pub batch_entries_max: usize,
    /// The most bytes of entries in a batch.
    pub batch_bytes_max: usize,
    /// How long nothing may come before the journal is sealed.
    pub seal_after: Duration,
    /// How many messages may wait.
    pub mailbox_max: usize,
    /// How long an idempotency key stays used.
    pub retention: Retention,
    /// How many webhook endpoints a merchant can have.
    pub endpoints_max: usize,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Commit;

#[derive(Message)]
#[rtype(result = "bool")]
struct Close;

/// The actor.
pub struct LedgerActor {
    writing: Writing,
    /// Tells the couriers that something on the books concerns them.
    tell: watch::Sender<u64>,
    journal: Writer,
    books: Arc<RwLock<Books>>,
    pace: Pace,
    fatal: mpsc::UnboundedSender<Fatal>,
    batch: Batch,
    /// When the last batch was written that no seal covers yet.
    wrote: Option<Instant>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Writing,
    /// A write failed: nothing is tried again.
    Failed,
    Closed,
}

impl Actor for LedgerActor {
    type Context = Context<Self>;
}

impl Handler<Appends> for LedgerActor {
    type Result = ();

    fn handle(&mut self, Appends(appends): Appends, ctx: &mut Context<Self>) {
        for append in appends {
            self.take(append, ctx);
        }
    }
}

impl LedgerActor {
    /// Judges a record and puts it into the next batch.
    fn take(&mut self, append: Append, ctx: &mut Context<Self>) {
        let bytes = append.bytes;
        let is_full = self.batch.records.len() >= self.pace.batch_entries_max
            || self.batch.bytes.saturating_add(bytes) > self.pace.batch_bytes_max;
        if is_full || self.batch.touches(&append) {
            self.commit(ctx);
        }
        if self.state != State::Writing {
            answer(append.reply, Err(NotRecorded::Unavailable(Unavailable::NotServing)));
            return;
        }
        match self.judge(&append) {
            Err(breach) => answer(append.reply, Err(NotRecorded::Breach(breach))),
            Ok(()) => {
                if self.batch.records.is_empty() {
                    // Handled once the mailbox is empty.
                    ctx.notify(Commit);
                }
                self.batch.add(append);
            }
        }
    }
}

impl Handler<Commit> for LedgerActor {
    type Result = ();

    fn handle(&mut self, _: Commit, ctx: &mut Context<Self>) {
        self.commit(ctx);
    }
}

impl Handler<Close> for LedgerActor {
    type Result = bool;

    fn handle(&mut self, _: Close, ctx: &mut Context<Self>) -> bool {
        self.commit(ctx);
        if self.state == State::Writing && self.wrote.is_some() {
            self.seal();
        }
        let sealed = self.state == State::Writing;
        self.state = State::Closed;
        sealed
    }
}

impl LedgerActor {
    fn judge(&self, append: &Append) -> Result<(), Breach> {
        let books = self.books.read().unwrap_or_else(PoisonError::into_inner);
        match &append.record {
            Record::Opened { .. } | Record::Sealed | Record::Stray(_) => {}
            Record::Access(record) => books.check_access(record)?,
            Record::Payment(record) => books.check(record, append.now)?,
            Record::Webhook(record) => books.check_webhook(record, self.pace.endpoints_max)?,
        }
        match &append.key {
            Some((merchant, key)) if !seeded!(KeyNotChecked) => {
                books.check_key(merchant, key, self.pace.retention, append.now)
            }
            _ => Ok(()),
        }
    }

    /// Writes the batch, books it, answers.
    fn commit(&mut self, ctx: &mut Context<Self>) {
        let batch = std::mem::take(&mut self.batch);
        if batch.records.is_empty() {
            return;
        }
        #[cfg_attr(not(feature = "fault-injection"), expect(unused_mut, reason = "a seeded bug"))]
        let mut replies = batch.replies;
        #[cfg(feature = "fault-injection")]
        self.answer_too_early(&mut replies, batch.at);
        let written = self.write(batch.records, batch.at, &batch.spans);
        drop(batch.spans);
        answer_all(replies, &written);
        if self.state == State::Writing && self.wrote.replace(tasks::now()).is_none() {
            self.seal_after(self.pace.seal_after, ctx);
        }
    }

    /// Makes records durable, then books them. Returns where the first one went.
    fn write(
        &mut self,
        records: Vec<Record>,
        at: Timestamp,
        spans: &[(usize, Span)],
    ) -> Result<Recorded, NotRecorded> {
        let unknown = Err(NotRecorded::Unavailable(Unavailable::OutcomeUnknown));
        self.writing.set(Some(tasks::now()));
        let begin = |(_, span): &(usize, Span)| span!(parent: span, "journal write");
        let writing: Vec<Span> = spans.iter().map(begin).collect();
        #[cfg(feature = "fault-injection")]
        self.apply_too_early(&records, at);
        let written = self.journal.append(records, at);
        drop(writing);
        self.writing.set(None);
        match written {
            Ok(batch) => {
                let first = batch
                    .entries
                    .first()
                    .map(|entry| Recorded { sequence: entry.sequence, at: entry.at });
                if let Some(first) = first {
                    // Before the books show it to the couriers.
                    for (place, span) in spans {
                        traces::remember(first.followed_by(*place).sequence, span);
                    }
                }
                let mut books = self.books.write().unwrap_or_else(PoisonError::into_inner);
                if !seeded!(AppliedBeforeSync) {
                    books.apply(batch);
                }
                let revision = books.webhooks().revision();
                drop(books);
                self.tell.send_if_modified(|told| std::mem::replace(told, revision) != revision);
                first.map_or(unknown, Ok)
            }
            Err(JournalError::NoSpace { .. }) => {
                Err(NotRecorded::Unavailable(Unavailable::StorageFull))
            }
            Err(error) => {
                self.fail(Fatal::Journal(error));
                unknown
            }
        }
    }

    fn fail(&mut self, why: Fatal) {
        self.state = State::Failed;
        if self.fatal.send(why).is_err() {
            tracing::error!("the journal failed while the process was ending");
        }
    }

    fn seal_after(&self, time: Duration, ctx: &mut Context<Self>) {
        let waiting = tasks::sleep(time).into_actor(self);
        ctx.spawn(waiting.map(|(), ledger, ctx| ledger.seal_when_idle(ctx)));
    }

    fn seal_when_idle(&mut self, ctx: &mut Context<Self>) {
        let Some(wrote) = self.wrote else { return };
        let since = tasks::now().saturating_duration_since(wrote);
        match self.pace.seal_after.checked_sub(since) {
            Some(rest) if !rest.is_zero() => self.seal_after(rest, ctx),
            _ if self.state == State::Writing && self.batch.records.is_empty() => self.seal(),
            _ => {}
        }
    }

    /// Tells a later recovery that all before was acknowledged. On a full disk the room belongs to what has begun.
    fn seal(&mut self) {
        self.wrote = None;
        if self.journal.space().is_full() {
            return;
        }
        if self.write(vec![Record::Sealed], Timestamp::default(), &[]).is_err() {
            tracing::warn!("the journal could not be sealed");
        }
    }
}

impl Recorded {
    fn followed_by(self, place: usize) -> Self {
        let place = u64::try_from(place).unwrap_or(u64::MAX);
        Self { sequence: self.sequence.saturating_add(place), ..self }
    }
}

fn answer_all(
    replies: Vec<oneshot::Sender<Result<Recorded, NotRecorded>>>,
    written: &Result<Recorded, NotRecorded>,
) {
    for (place, reply) in replies.into_iter().enumerate() {
        answer(reply, written.clone().map(|first| first.followed_by(place)));
    }
}

fn answer(
    reply: oneshot::Sender<Result<Recorded, NotRecorded>>,
    result: Result<Recorded, NotRecorded>,
) {
    // The one who asked is gone only if its task died; the entry stands all the same.
    if reply.send(result).is_err() {
        tracing::warn!("an entry's sender is gone");
    }
}

impl Drop for LedgerActor {
    fn drop(&mut self) {
        if self.state == State::Writing {
            self.fail(Fatal::LedgerDied);
        }
    }
}

#[cfg(test)]
mod tests;
