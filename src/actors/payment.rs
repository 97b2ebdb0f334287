//! One payment, awake: owns its state machine and takes one wish at a time.
//!
//! A wish is decided, the provider asked, the fact recorded by the ledger, and only then part of the payment. Nothing
//! interleaves, so limits cannot be raced: the second of two refunds is judged after the first one is on the books.

use super::{Engine, Unavailable, ledger::NotRecorded};
use crate::{
    domain::{
        books::Breach,
        command::Command,
        entry::PaymentRecord,
        event::{Details, Event, Outcome},
        idempotency::{Operation, Request},
        ledger,
        money::Amount,
        payment::{self, Payment, Status},
        refusal::Refusal,
        time::Timestamp,
    },
    provider::Answer,
};
use actix::{Actor, ActorFutureExt, AtomicResponse, Context, Handler, Message, WrapFuture};
use std::sync::Arc;

/// What someone wants of a payment; the provider's part is still to come.
#[derive(Clone, Debug)]
pub enum Wish {
    /// Make it.
    Submit(Arc<Details>),
    /// Take held money; `None` takes all.
    Capture(Option<Amount>),
    /// Give the hold up.
    Void,
    /// Give money back; no amount gives back all that is left.
    Refund {
        /// In minor units of the payment's currency.
        amount: Option<Amount>,
        /// The merchant's free text.
        reason: Option<Box<str>>,
    },
    /// Let the hold lapse.
    Expire,
    /// Ask the provider again what became of it.
    Inquire,
}

impl Wish {
    /// The word for what is wanted, as the idempotency record keeps it; `None` for the server's own wishes.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        match self {
            Self::Submit(_) => Some(Operation::Create),
            Self::Capture(_) => Some(Operation::Capture),
            Self::Void => Some(Operation::Void),
            Self::Refund { .. } => Some(Operation::Refund),
            Self::Expire | Self::Inquire => None,
        }
    }
}

/// The one message of a payment actor. The answer is the payment as the wish left it, durable.
#[derive(Message)]
#[rtype(result = "Result<Payment, NotPerformed>")]
pub struct Perform {
    /// What is wanted.
    pub wish: Wish,
    /// Who wants it.
    pub actor: Arc<str>,
    /// The idempotency key it came under.
    pub request: Option<Request>,
}

impl Perform {
    /// A wish of the server's own, which comes under no key.
    #[must_use]
    pub fn by_system(wish: Wish, part: &'static str) -> Self {
        Self { wish, actor: Arc::from(part), request: None }
    }
}

/// Why a wish was not carried out.
#[derive(Debug)]
pub enum NotPerformed {
    /// A rule says no.
    Refused(Refusal),
    /// Someone else wrote first: wake the payment anew and look at the key again.
    Breach(Breach),
    /// Not now.
    Unavailable(Unavailable),
}

impl From<Refusal> for NotPerformed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<NotRecorded> for NotPerformed {
    fn from(error: NotRecorded) -> Self {
        match error {
            NotRecorded::Breach(breach) => Self::Breach(breach),
            NotRecorded::Unavailable(unavailable) => Self::Unavailable(unavailable),
        }
    }
}

/// The actor. It lives as long as the registry has leased it to somebody.
pub struct PaymentActor {
    payment: Payment,
    engine: Arc<Engine>,
}

impl PaymentActor {
    /// An actor for a payment as it stands on the books, or for a new one.
    #[must_use]
    pub fn new(payment: Payment, engine: Arc<Engine>) -> Self {
        Self { payment, engine }
    }
}

impl Actor for PaymentActor {
    type Context = Context<Self>;
}

impl Handler<Perform> for PaymentActor {
    type Result = AtomicResponse<Self, Result<Payment, NotPerformed>>;

    fn handle(&mut self, task: Perform, _: &mut Context<Self>) -> Self::Result {
        let mut work = Work { payment: self.payment.clone(), engine: self.engine.clone() };
        let done = async move {
            let result = work.perform(task).await;
            (work.payment, result)
        };
        AtomicResponse::new(Box::pin(done.into_actor(self).map(|(payment, result), actor, _| {
            actor.payment = payment;
            result.map(|()| actor.payment.clone())
        })))
    }
}

struct Work {
    payment: Payment,
    engine: Arc<Engine>,
}

impl Work {
    async fn perform(&mut self, task: Perform) -> Result<(), NotPerformed> {
        let Perform { wish, actor, request } = task;
        let command = match wish {
            Wish::Submit(details) => {
                let outcome = self.submit(&details).await;
                Command::Submit { details, outcome }
            }
            Wish::Inquire if self.payment.status == Status::Processing => {
                match self.look_up().await {
                    Some(outcome) => Command::Settle(outcome),
                    None => return Ok(()),
                }
            }
            Wish::Inquire => return Ok(()),
            Wish::Capture(amount) => Command::Capture(amount),
            Wish::Void => Command::Void,
            Wish::Refund { amount, reason } => Command::Refund { amount, reason },
            Wish::Expire => Command::Expire,
        };
        // Not before the provider has answered: whoever looked at the books meanwhile saw them without this.
        let now = self.engine.clock.now();
        if self.payment.has_lapsed(now) && !matches!(command, Command::Expire) {
            // The scheduler has not come to it yet. A hold that is over is over.
            self.decide_and_record(Command::Expire, super::scheduler::EXPIRY.into(), None, now)
                .await?;
        }
        self.decide_and_record(command, actor, request, now).await
    }

    /// Asks the provider; `None` if it has not answered in time or does not know.
    async fn submit(&self, details: &Details) -> Option<Outcome> {
        let answer = self.engine.provider.submit(details);
        definite(tokio::time::timeout(self.engine.answer_within, answer).await)
    }

    async fn look_up(&self) -> Option<Outcome> {
        let details = &self.payment.details;
        let answer = self.engine.provider.look_up(details.id, details);
        definite(tokio::time::timeout(self.engine.answer_within, answer).await)
    }

    /// On return the fact is durable and part of the payment; on error the payment is as it was.
    async fn decide_and_record(
        &mut self,
        command: Command,
        actor: Arc<str>,
        request: Option<Request>,
        now: Timestamp,
    ) -> Result<(), NotPerformed> {
        let event: Event = payment::decide(&self.payment, command, now)?;
        let details = &self.payment.details;
        let record = PaymentRecord {
            payment: details.id,
            version: self.payment.version + 1,
            actor,
            transaction: ledger::transaction(details, &event),
            event: event.clone(),
            request,
        };
        let merchant = details.merchant.clone();
        let recorded = self.engine.ledger.record(merchant, record, now).await?;
        self.payment.apply(&event, recorded.at, recorded.sequence);
        Ok(())
    }
}

fn definite(answer: Result<Answer, tokio::time::error::Elapsed>) -> Option<Outcome> {
    match answer {
        Ok(Answer::Definite(outcome)) => Some(outcome),
        Ok(Answer::Unknown) | Err(_) => None,
    }
}
