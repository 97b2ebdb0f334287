//! How others reach the ledger actor. What becomes ready on a thread in one turn of its loop is handed over together: the
//! ledger is woken once for it, and it is one batch.

use super::Fatal;
use super::{
    Close, LedgerActor, NotRecorded, Pace, Recorded, State, answer,
    batch::{Append, Batch, Subject},
};
use crate::{
    actors::{BooksReader, Unavailable},
    domain::{
        access::AccessRecord,
        books::Books,
        entry::{PaymentRecord, Record, Stray},
        idempotency::Key,
        time::Timestamp,
        webhook::WebhookRecord,
    },
    journal::{Writer, entry},
    meters::meters,
    tasks,
    telemetry::traces::span,
};
use actix::{Addr, Message, dev::SendError};
use std::{
    cell::RefCell,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

/// How others reach the ledger actor.
#[derive(Clone)]
pub struct LedgerHandle {
    actor: Addr<LedgerActor>,
    writing: Writing,
    news: watch::Receiver<u64>,
}

/// Since when a write has been under way, if one is.
#[derive(Clone, Default)]
pub(super) struct Writing(Arc<Mutex<Option<Instant>>>);

impl Writing {
    pub(super) fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

impl LedgerHandle {
    /// Starts the ledger on the calling thread's arbiter, which it will block while it writes. `fatal` hears of it if
    /// the process must end.
    #[must_use]
    pub fn start(
        journal: Writer,
        books: Books,
        pace: Pace,
        fatal: mpsc::UnboundedSender<Fatal>,
    ) -> (Self, BooksReader) {
        let books = Arc::new(RwLock::new(books));
        let reader = BooksReader(books.clone());
        let writing = Writing::default();
        let (tell, news) = watch::channel(0);
        let actor = LedgerActor {
            tell,
            writing: writing.clone(),
            journal,
            books,
            pace,
            fatal,
            batch: Batch::default(),
            wrote: None,
            state: State::Writing,
        };
        let ledger = tasks::start(actor, |ctx| ctx.set_mailbox_capacity(pace.mailbox_max));
        (Self { actor: ledger, writing, news }, reader)
    }

    /// Records what happened to a merchant's payment. On return the entry is durable and on the books.
    ///
    /// # Errors
    /// A breach or a full disk: nothing was written. [`Unavailable::OutcomeUnknown`]: only recovery can tell.
    pub async fn record(
        &self,
        merchant: Arc<str>,
        record: PaymentRecord,
        now: Timestamp,
    ) -> Result<Recorded, NotRecorded> {
        let key = record.request.as_ref().map(|request| (merchant, request.key.clone()));
        self.append(Subject::Payment(record.payment), key, Record::Payment(record), now).await
    }

    /// Records what happened to webhook endpoints. On return the entry is durable and on the books.
    ///
    /// # Errors
    /// As [`LedgerHandle::record`].
    pub async fn record_webhook(
        &self,
        record: WebhookRecord,
        now: Timestamp,
    ) -> Result<Recorded, NotRecorded> {
        self.append(Subject::Webhooks, None, Record::Webhook(record), now).await
    }

    /// Puts money on record that no payment is about. On return the entry is durable.
    ///
    /// # Errors
    /// As [`LedgerHandle::record`].
    pub async fn record_stray(
        &self,
        stray: Stray,
        now: Timestamp,
    ) -> Result<Recorded, NotRecorded> {
        self.append(Subject::Strays, None, Record::Stray(stray), now).await
    }

    /// Records what an admin did about who may come in. On return the entry is durable and on the books.
    ///
    /// # Errors
    /// As [`LedgerHandle::record`].
    pub async fn record_access(
        &self,
        record: AccessRecord,
        now: Timestamp,
    ) -> Result<Recorded, NotRecorded> {
        self.append(Subject::Access, None, Record::Access(record), now).await
    }

    async fn append(
        &self,
        subject: Subject,
        key: Option<(Arc<str>, Key)>,
        record: Record,
        now: Timestamp,
    ) -> Result<Recorded, NotRecorded> {
        let (reply, recorded) = oneshot::channel();
        // Counted here and not on the ledger's thread. A record too large to count fills a batch by itself.
        let bytes = entry::encoded_bytes(&record).unwrap_or(usize::MAX);
        let span = span!("record");
        let _queued = meters().ledger_queue.enter();
        self.put(Append { subject, key, record, bytes, now, reply, span });
        recorded.await.unwrap_or(Err(NotRecorded::Unavailable(Unavailable::OutcomeUnknown)))
    }

    /// Puts a record with those that this thread hands over at the end of its turn, when all else that was ready has run.
    fn put(&self, append: Append) {
        let waiting = OUTBOX.with_borrow_mut(|outbox| {
            match outbox.iter_mut().find(|(ledger, _)| *ledger == self.actor) {
                Some((_, appends)) => {
                    appends.push(append);
                    appends.len()
                }
                None => {
                    outbox.push((self.actor.clone(), vec![append]));
                    1
                }
            }
        });
        if waiting >= OUTBOX_MAX {
            hand_over();
        } else if waiting == 1 {
            tasks::spawn(async { hand_over() });
        }
    }

    /// The revision of the webhooks on the books; changes whenever a courier has something to do.
    #[must_use]
    pub fn webhook_news(&self) -> watch::Receiver<u64> {
        self.news.clone()
    }

    /// How long the write that is under way has taken so far; zero if none is.
    #[must_use]
    pub fn writing_for(&self) -> Duration {
        let since = *self.writing.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| tasks::now().saturating_duration_since(since))
    }

    /// Writes what is waiting, seals the journal and takes nothing more. Returns whether all of it worked.
    pub async fn close(&self) -> bool {
        self.actor.send(Close).await.unwrap_or(false)
    }
}

/// How many records a thread gathers at the most, so that the disk begins while the rest of the turn is still to come.
const OUTBOX_MAX: usize = 16;

thread_local! {
    /// What this thread has to hand over, and to which ledger; there are several in tests only.
    static OUTBOX: RefCell<Vec<(Addr<LedgerActor>, Vec<Append>)>> = const { RefCell::new(Vec::new()) };
}

/// Hands over what the thread has gathered: one message, and one thread woken, for all that became ready together.
fn hand_over() {
    for (ledger, appends) in OUTBOX.take() {
        let (why, Appends(appends)) = match ledger.try_send(Appends(appends)) {
            Ok(()) => continue,
            Err(SendError::Full(appends)) => (Unavailable::Overloaded, appends),
            Err(SendError::Closed(appends)) => (Unavailable::NotServing, appends),
        };
        for append in appends {
            answer(append.reply, Err(NotRecorded::Unavailable(why)));
        }
    }
}

/// What one thread hands over at once.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Appends(pub(super) Vec<Append>);
