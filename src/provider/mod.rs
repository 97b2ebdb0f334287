//! The outside world that moves the money.
//!
//! A [`Provider`] does what it is asked at most once per attempt, and may not say what came of it: an answer of
//! [`Answer::Unknown`] is found out later, never guessed and never asked for again as a new attempt. What is on record
//! before and after a call is for the payment's actor to see to.
//!
//! [`Lines`] is how payments reach their provider: which ones there are, which one a payment goes to ([`routes`]), and
//! for those that act outside a [`line`] that bounds how long a call takes, how many there are at once, and how many
//! more are begun when they fail. `sandbox` moves no money; `stripe` speaks to Stripe.

#[cfg(feature = "fault-injection")]
pub mod faulty;
pub mod line;
pub mod routes;
mod sandbox;
pub mod stripe;

pub use line::{Line, Pace};
pub use routes::{Lines, Routes, Rule};
pub use sandbox::Sandbox;
pub use stripe::Stripe;

use crate::domain::{
    event::{Action, Decline, Details},
    id::{DerivedId, PaymentId},
    money::{Amount, Currency},
    time::Timestamp,
};
use std::{future::Future, pin::Pin, sync::Arc, time::Duration};
use thiserror::Error;

/// An attempt, as a provider needs to know it.
#[derive(Clone, Debug)]
pub struct Call {
    /// `att_…`: the provider's idempotency key.
    pub attempt: DerivedId,
    /// The payment that it is about.
    pub details: Arc<Details>,
    /// What is asked for.
    pub action: Action,
    /// The provider's name for what it holds or took; empty for an authorization.
    pub reference: Box<str>,
    /// When the attempt began.
    pub began: Timestamp,
    /// For how long no call of the attempt has been under way, at least.
    pub quiet_for: Duration,
}

/// What a provider says about an attempt. Amounts are minor units of the payment's currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done {
        /// The provider's name for what it did.
        reference: Box<str>,
        /// How much it was done with.
        amount: i64,
    },
    /// It is certain that nothing was done, and that nothing will be.
    Declined {
        /// Why.
        decline: Decline,
        /// The provider's own code for it; empty if it has none.
        code: Box<str>,
    },
    /// This very call did nothing: it was never sent, or was turned away before it was processed. An earlier call of the
    /// same attempt may have done it.
    NotProcessed {
        /// The provider's own code, or what failed.
        code: Box<str>,
    },
    /// The provider has no trace of it, now. Only look-ups say so.
    Absent,
    /// The provider has it, and has not decided yet.
    Working,
    /// Nobody can say. The money may have moved or not.
    Unknown {
        /// What happened, for a person.
        why: Box<str>,
        /// Whether the same call once more may tell. Looking it up always may.
        repeat: bool,
    },
}

impl Answer {
    /// Nobody can say, since.
    #[must_use]
    pub fn unknown(why: impl Into<Box<str>>) -> Self {
        Self::Unknown { why: why.into(), repeat: true }
    }

    /// In a word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done { .. } => "done",
            Self::Declined { .. } => "declined",
            Self::NotProcessed { .. } => "not_processed",
            Self::Absent => "absent",
            Self::Working => "working",
            Self::Unknown { .. } => "unknown",
        }
    }
}

/// An answer that is on its way.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + 'a>>;

/// What a provider promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long after its first call an attempt can be called for again under its key without being done twice.
    pub key_window: Duration,
    /// Whether the provider can be asked what it has on record of an attempt.
    pub looks_up: bool,
}

impl Terms {
    /// How long an attempt is called for again: some of the window is kept, so that whatever the last call did is on
    /// record by its end.
    #[must_use]
    pub fn repeats_for(self) -> Duration {
        self.key_window.saturating_sub(self.is_on_record_after())
    }

    /// How long after it was made whatever a call did is on record.
    #[must_use]
    pub fn is_on_record_after(self) -> Duration {
        self.key_window / 24
    }
}

/// A message that a provider sent by itself.
#[derive(Clone, Debug)]
pub struct Message {
    /// The header that proves where it comes from.
    pub signature: Box<str>,
    /// As it came.
    pub body: Box<[u8]>,
    /// When.
    pub at: Timestamp,
}

/// What a provider's message says about one of our payments, or of none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The provider's id of the event: it may send one several times.
    pub event: Box<str>,
    /// Which payment it is about; `None` if it does not name one of ours.
    pub payment: Option<PaymentId>,
    /// In which currency, if it is one that we know.
    pub currency: Option<Currency>,
    /// What it says.
    pub fact: Fact,
}

/// What a provider has on record about the money of a payment. Amounts are minor units of the payment's currency, but
/// for those of no payment, which are as the provider counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// About what it holds or took.
    Charge {
        /// Our name of the attempt to authorize it, if it says so.
        attempt: Option<DerivedId>,
        /// The provider's name for it.
        reference: Box<str>,
        /// How it stands.
        state: ChargeState,
    },
    /// About what it gave back or is giving back.
    Refund {
        /// Our name of the attempt, if it says so.
        attempt: Option<DerivedId>,
        /// The provider's name for it.
        reference: Box<str>,
        /// How much.
        amount: i64,
        /// How it stands.
        state: RefundState,
    },
}

/// How a provider's charge or hold stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChargeState {
    /// It is being worked on.
    Working,
    /// So much is held.
    Held(i64),
    /// So much was taken.
    Taken(i64),
    /// Nothing is held any longer, and nothing was taken.
    Released,
    /// Nothing was held or taken.
    Declined {
        /// Why.
        decline: Decline,
        /// The provider's own code.
        code: Box<str>,
    },
}

/// How a provider's refund stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefundState {
    /// It is being worked on.
    Working,
    /// The money is given back.
    Done,
    /// It is not, or it came back.
    Failed {
        /// The provider's own code.
        code: Box<str>,
    },
}

/// What a charge that stands so says about an attempt that is about it.
#[must_use]
pub fn answer_of(action: Action, manual: bool, reference: &str, state: &ChargeState) -> Answer {
    let done = |amount| Answer::Done { reference: reference.into(), amount };
    let gone = || Answer::Declined { decline: Decline::AuthorizationGone, code: "".into() };
    match (action, state) {
        (_, ChargeState::Working) => Answer::Working,
        (Action::Authorize, ChargeState::Held(amount)) if manual => done(*amount),
        (Action::Authorize, ChargeState::Taken(amount)) if !manual => done(*amount),
        (Action::Authorize, ChargeState::Held(_)) => {
            Answer::unknown("the provider holds what it was asked to take")
        }
        (Action::Authorize, ChargeState::Taken(_)) => {
            Answer::unknown("the provider took what it was asked to hold")
        }
        (Action::Authorize, ChargeState::Declined { decline, code }) => {
            Answer::Declined { decline: *decline, code: code.clone() }
        }
        (Action::Authorize | Action::Capture { .. }, ChargeState::Released) => gone(),
        (Action::Capture { .. }, ChargeState::Taken(amount)) => done(*amount),
        (Action::Void | Action::Expire, ChargeState::Released) => done(0),
        (Action::Void | Action::Expire, ChargeState::Taken(_)) => gone(),
        (Action::Capture { .. } | Action::Void | Action::Expire, ChargeState::Held(_)) => {
            Answer::Absent
        }
        (Action::Capture { .. } | Action::Void | Action::Expire, ChargeState::Declined { .. }) => {
            gone()
        }
        (Action::Refund { .. }, _) => Answer::unknown("a charge says nothing about a refund"),
    }
}

/// What a refund that stands so says about the attempt that made it.
#[must_use]
pub fn answer_of_refund(reference: &str, amount: i64, state: &RefundState) -> Answer {
    match state {
        RefundState::Working => Answer::Working,
        RefundState::Done => Answer::Done { reference: reference.into(), amount },
        RefundState::Failed { code } => {
            Answer::Declined { decline: Decline::ProcessingError, code: code.clone() }
        }
    }
}

/// Why a provider's message was not read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotRead {
    /// It is not proven to come from the provider, or is too old to tell.
    #[error("the signature does not prove that the message comes from the provider")]
    Unproven,
    /// It can't be made sense of.
    #[error("the message cannot be read: {0}")]
    Malformed(Box<str>),
    /// The provider has to be asked what it is about, and did not answer.
    #[error("the provider does not answer")]
    Unavailable,
}

/// A message that is being read.
pub type Reading<'a> = Pin<Box<dyn Future<Output = Result<Vec<News>, NotRead>> + 'a>>;

/// Who moves the money of a payment. Dropping the future of a call gives up waiting; it does not undo the call.
pub trait Provider {
    /// What it promises.
    fn terms(&self) -> Terms;

    /// Holds or takes the money of a payment, as its capture mode says.
    fn authorize<'a>(&'a self, call: &'a Call) -> Answering<'a>;

    /// Takes `amount` of what is held, and lets go of the rest.
    fn capture<'a>(&'a self, call: &'a Call, amount: Amount) -> Answering<'a>;

    /// Lets go of what is held.
    fn void<'a>(&'a self, call: &'a Call) -> Answering<'a>;

    /// Gives `amount` of what was taken back.
    fn refund<'a>(&'a self, call: &'a Call, amount: Amount) -> Answering<'a>;

    /// Asks what is on record about an attempt, by our name for it.
    fn look_up<'a>(&'a self, call: &'a Call) -> Answering<'a>;

    /// Checks and reads a message of the provider's own.
    fn read<'a>(&'a self, message: &'a Message) -> Reading<'a>;
}

/// Asks a provider for what the attempt is about.
pub fn ask<'a>(provider: &'a dyn Provider, call: &'a Call) -> Answering<'a> {
    match call.action {
        Action::Authorize => provider.authorize(call),
        Action::Capture { amount, .. } => provider.capture(call, amount),
        Action::Void | Action::Expire => provider.void(call),
        Action::Refund { amount } => provider.refund(call, amount),
    }
}
