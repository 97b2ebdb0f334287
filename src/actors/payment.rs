//! One payment, awake: owns its state machine and takes one wish at a time.
//!
//! A wish is decided and the fact recorded by the ledger, and only then part of the payment. Nothing interleaves, so
//! limits cannot be raced: the second of two refunds is judged after the first one is on the books. What needs a
//! provider that acts outside goes the long way, see [`super::attempts`].

use super::{Engine, Unavailable, ledger::NotRecorded, news};
use crate::{
    domain::{
        books::Breach,
        command::Command,
        entry::PaymentRecord,
        event::{Details, Event, Evidence},
        id::{DerivedId, Sequence},
        idempotency::{Operation, Request},
        ledger,
        money::Amount,
        payment::{self, Form, Payment},
        refusal::Refusal,
        time::Timestamp,
    },
    provider::{Answer, News},
    tasks,
};
use actix::{Actor, ActorFutureExt, AtomicResponse, Context, Handler, Message, WrapFuture};
use std::sync::Arc;
use tokio::time::Instant;
use tracing::{Instrument, Span};

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
    /// Book what a provider said about an attempt that was out.
    Hear(Heard),
    /// Book what a provider told by itself.
    Heed {
        /// Its name.
        provider: Arc<str>,
        /// What it told.
        news: News,
    },
    /// Book what a person found out.
    Resolve(Resolution),
}

/// What a provider said about an attempt when nobody waited for it any more.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The entry that began the attempt.
    pub attempt: Sequence,
    /// What it said.
    pub answer: Answer,
    /// How it was asked.
    pub evidence: Evidence,
    /// Whether the attempt is so old that a provider that knows nothing of it never will, and that one that can't say
    /// leaves it to a person.
    pub is_last_word: bool,
}

/// What a person found out.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// About which attempt; `None`: the one that is out.
    pub attempt: Option<DerivedId>,
    /// What became of it.
    pub finding: Finding,
    /// The person's words.
    pub reason: Box<str>,
}

/// What a person found out about an attempt.
#[derive(Clone, Debug)]
pub enum Finding {
    /// It was done, under this name at the provider.
    Done(Option<Box<str>>),
    /// Nothing was done.
    NotDone,
    /// What was noted against the payment is dealt with, and the books are right as they are.
    Dismissed,
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
            Self::Resolve(_) => Some(Operation::Resolve),
            Self::Expire | Self::Hear(_) | Self::Heed { .. } => None,
        }
    }
}

/// The one message of a payment actor. The answer is the payment as the wish left it, durable.
#[derive(Message)]
#[rtype(result = "Result<Payment, NotPerformed>")]
pub(super) struct Asked {
    pub(super) task: Perform,
    /// The span that the work is part of.
    pub(super) span: Span,
}

/// What is to be done, for whom.
#[derive(Clone)]
pub struct Perform {
    /// What is wanted.
    pub wish: Wish,
    /// Who wants it.
    pub actor: Arc<str>,
    /// The idempotency key it came under.
    pub request: Option<Request>,
    /// When it was asked for: the time that a provider has is counted from there, whatever was waited for besides.
    pub since: Instant,
}

impl Perform {
    /// What somebody wants, from now on.
    #[must_use]
    pub fn new(wish: Wish, actor: Arc<str>, request: Option<Request>) -> Self {
        Self { wish, actor, request, since: tasks::now() }
    }

    /// A wish of the server's own, which comes under no key.
    #[must_use]
    pub fn by_system(wish: Wish, part: &'static str) -> Self {
        Self::new(wish, Arc::from(part), None)
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

impl From<Unavailable> for NotPerformed {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
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

impl Handler<Asked> for PaymentActor {
    type Result = AtomicResponse<Self, Result<Payment, NotPerformed>>;

    fn handle(&mut self, Asked { task, span }: Asked, _: &mut Context<Self>) -> Self::Result {
        let until = task.since + self.engine.answer_within;
        let mut work = Work { payment: self.payment.clone(), engine: self.engine.clone(), until };
        let done = async move {
            let result = work.perform(task).await;
            (work.payment, result)
        }
        .instrument(span);
        AtomicResponse::new(Box::pin(done.into_actor(self).map(|(payment, result), actor, _| {
            actor.payment = payment;
            result.map(|()| actor.payment.clone())
        })))
    }
}

/// A payment that is being worked on.
pub(super) struct Work {
    pub(super) payment: Payment,
    pub(super) engine: Arc<Engine>,
    /// Until when a provider's answer is waited for.
    pub(super) until: Instant,
}

/// Who wants something, and under which key.
pub(super) struct By {
    pub(super) actor: Arc<str>,
    pub(super) request: Option<Request>,
}

impl By {
    /// The server's own.
    pub(super) fn system(part: &'static str) -> Self {
        Self { actor: Arc::from(part), request: None }
    }
}

impl Work {
    async fn perform(&mut self, task: Perform) -> Result<(), NotPerformed> {
        let Perform { wish, actor, request, .. } = task;
        let by = By { actor, request };
        match wish {
            Wish::Submit(details) => self.submit(details, by).await,
            Wish::Capture(amount) => self.change_unless_lapsed(Command::Capture(amount), by).await,
            Wish::Void => self.change_unless_lapsed(Command::Void, by).await,
            Wish::Refund { amount, reason } => {
                self.change_unless_lapsed(Command::Refund { amount, reason }, by).await
            }
            Wish::Expire => self.change(Command::Expire, by).await,
            Wish::Hear(heard) => self.hear(heard, by).await,
            Wish::Heed { provider, news } => news::heed(self, &provider, news, by).await,
            Wish::Resolve(resolution) => self.resolve(resolution, by).await,
        }
    }

    async fn change_unless_lapsed(&mut self, change: Command, by: By) -> Result<(), NotPerformed> {
        if self.payment.has_lapsed(self.engine.clock.now()) {
            // The scheduler has not come to it yet. A hold that is over is over.
            self.change(Command::Expire, By::system(super::scheduler::EXPIRY)).await?;
        }
        self.change(change, by).await
    }

    /// On return the fact is durable and part of the payment; on error the payment is as it was.
    pub(super) async fn record(
        &mut self,
        command: Command,
        by: By,
        now: Timestamp,
    ) -> Result<(), NotPerformed> {
        let event: Event = payment::decide(&self.payment, command, now)?;
        let details = &self.payment.details;
        let record = PaymentRecord {
            payment: details.id,
            version: self.payment.version + 1,
            actor: by.actor,
            transaction: ledger::transaction(details, &event),
            event: event.clone(),
            request: by.request,
            form: Form::default(),
        };
        let merchant = details.merchant.clone();
        let recorded = self.engine.ledger.record(merchant, record, now).await?;
        self.payment.apply(&event, recorded.at, recorded.sequence);
        self.payment.form = Form::default();
        Ok(())
    }
}
