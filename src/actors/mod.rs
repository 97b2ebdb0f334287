//! Who acts. Each actor owns one thing and is the only one that changes it:
//!
//! ```text
//!   pipeline ──claim──► idempotency      which keys are being worked on
//!      │
//!      └──perform──► payment ──record──► ledger ──► journal, books
//!                  (one a payment,     (the only writer)
//!                   found or woken
//!                   by the registry)
//!   scheduler ──expire, hear──► payment ──ask──► provider      attempts: the long way there
//!   reconciliation ──compare──► books, journal     finding ──► alarms ──► alerts
//!   webhooks ──progress──► ledger        one courier an endpoint
//! ```
//!
//! Message types live with the actor that receives them; others hold a handle, never an address.

pub mod admission;
pub mod alarms;
pub mod alerts;
pub mod attempts;
pub mod background;
pub mod calls;
#[cfg(feature = "fault-injection")]
pub mod faulty;
pub mod idempotency;
mod inquiry;
pub mod ledger;
pub mod news;
pub mod payment;
pub mod reconciliation;
pub mod registry;
pub mod scheduler;
pub mod snapshots;
pub mod webhooks;

use crate::{
    clock::Clock,
    domain::{books::Books, id::PaymentId, idempotency::Retention, payment::Payment},
    provider::Lines,
};
use payment::{NotPerformed, PaymentActor, Perform, Wish};
use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};
use thiserror::Error;

/// Why nothing can be done right now. What was asked for may be asked again under the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unavailable {
    /// Too much is being worked on.
    #[error("too many requests are being worked on")]
    Overloaded,
    /// The process is coming up or going down.
    #[error("the server is starting or stopping")]
    NotServing,
    /// The provider is slow or failing, or has as many calls as it may have.
    #[error("the provider takes no new payments")]
    ProviderUnavailable,
    /// The disk has no room for the outcome.
    #[error("the disk has no room left for new payments")]
    StorageFull,
    /// A write has been under way for longer than a request waits.
    #[error("the disk does not answer")]
    DiskStalled,
    /// The request may have been carried out or not: asking again under the same key tells.
    #[error("the outcome is unknown; ask again with the same idempotency key")]
    OutcomeUnknown,
}

/// The books as everybody but the ledger actor sees them: to read, and only what is durable.
#[derive(Clone)]
pub struct BooksReader(Arc<RwLock<Books>>);

impl BooksReader {
    /// Books that nobody writes.
    #[must_use]
    pub fn of(books: Books) -> Self {
        Self(Arc::new(RwLock::new(books)))
    }

    /// The books, as they stand until the guard is dropped. Hold it shortly: it keeps the ledger from booking.
    pub fn read(&self) -> RwLockReadGuard<'_, Books> {
        // Only the ledger actor writes, and a panic while it does ends the process.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What every payment actor needs of the others.
pub struct Engine {
    /// What is durable.
    pub books: BooksReader,
    /// The only writer.
    pub ledger: ledger::LedgerHandle,
    /// Which keys are being worked on.
    pub idempotency: idempotency::IdempotencyHandle,
    /// Which payments are awake.
    pub registry: Arc<registry::Registry>,
    /// How much may be worked on.
    pub admission: Arc<admission::Admission>,
    /// Who moves the money.
    pub lines: Arc<Lines>,
    /// When providers were called about what is out.
    pub calls: calls::Calls,
    /// What is wrong now.
    pub alarms: Arc<alarms::Alarms>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How long a provider's answer is waited for before it counts as unknown.
    pub answer_within: Duration,
    /// How long an idempotency key stays used.
    pub retention: Retention,
    /// How long a write may take before the disk counts as stalled.
    pub stall_max: Duration,
}

impl Engine {
    /// Whether the disk answers.
    ///
    /// # Errors
    /// [`Unavailable::DiskStalled`].
    pub fn disk_answers(&self) -> Result<(), Unavailable> {
        if self.ledger.writing_for() > self.stall_max {
            return Err(Unavailable::DiskStalled);
        }
        Ok(())
    }

    /// Whether the books hold all that may be on disk.
    ///
    /// # Errors
    /// [`Unavailable::OutcomeUnknown`]: a write has failed, and only recovery can tell what it left.
    pub fn books_are_whole(&self) -> Result<(), Unavailable> {
        if self.admission.space().is_closed() {
            return Err(Unavailable::OutcomeUnknown);
        }
        Ok(())
    }

    /// Has the payment's actor, found or woken, carry out a wish. Returns the payment as it left it; `None` if there is
    /// no such payment. A new payment (`Wish::Submit`) gets its actor here.
    ///
    /// # Errors
    /// [`NotPerformed`]; with [`Unavailable::OutcomeUnknown`] the actor died at work, and only the books can tell.
    pub async fn perform(
        self: &Arc<Self>,
        id: PaymentId,
        task: Perform,
    ) -> Result<Option<Payment>, NotPerformed> {
        let wake = || match &task.wish {
            Wish::Submit(details) => {
                let key = task.request.as_ref().map(|request| request.key.clone());
                Some(Payment::pending(details.clone(), key))
            }
            _ => self.books.read().history(id).map(|history| history.payment()),
        };
        let wake = || wake().map(|payment| PaymentActor::new(payment, self.clone()));
        let Some(lease) = self.registry.lease(id, wake) else {
            return Ok(None);
        };
        match lease.perform(task).await {
            Err(NotPerformed::Breach(breach)) => {
                // The actor's view was stale; the next one is woken from the books.
                lease.retire();
                Err(NotPerformed::Breach(breach))
            }
            result => result.map(Some),
        }
    }
}
