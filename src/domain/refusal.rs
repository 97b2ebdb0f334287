//! How a rule says no. A refusal changes nothing and uses up no idempotency key.

use super::{
    event::Standing,
    id::Sequence,
    money::{Amount, Currency},
    payment::Status,
    time::Timestamp,
};
use thiserror::Error;

/// A rule's no, with the facts it rests on. Amounts are minor units of the payment's currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The state machine has no such move.
    #[error("a payment that is {} cannot become {}", from.name(), to.name())]
    InvalidTransition {
        /// Where the payment stands.
        from: Status,
        /// Where the command would have taken it.
        to: Status,
    },
    /// A capture of more than is authorized.
    #[error(
        "{requested} {currency} (minor units) is more than the {capturable} that can be captured"
    )]
    OverCapture {
        /// What was asked for.
        requested: Amount,
        /// What is held.
        capturable: Amount,
        /// Of both.
        currency: Currency,
    },
    /// Refunds of more than was captured.
    #[error(
        "{requested} {currency} (minor units) is more than the {refundable} that can be refunded"
    )]
    OverRefund {
        /// What was asked for.
        requested: Amount,
        /// What was captured and not yet given back.
        refundable: Amount,
        /// Of both.
        currency: Currency,
    },
    /// A payment with so many refunds already that its answers would grow without end.
    #[error("the payment has {count} refunds, which is the most one payment can have")]
    TooManyRefunds {
        /// How many it has.
        count: usize,
    },
    /// A provider has not answered yet what it was asked before.
    #[error("the provider has not answered yet whether the {operation} before was done")]
    AnswerOut {
        /// What it was asked.
        operation: &'static str,
    },
    /// A payment with so much on record already that its answers would grow without end.
    #[error("the payment has {count} attempts or notes on record, which is the most it can have")]
    TooMuchOnRecord {
        /// How many.
        count: usize,
    },
    /// No attempt of the payment was begun by this entry.
    #[error("the payment has no attempt {attempt}")]
    NoSuchAttempt {
        /// The entry.
        attempt: Sequence,
    },
    /// It is known already what became of the attempt.
    #[error("what became of the {operation} is on record already: it {}", known.name())]
    AnsweredAlready {
        /// What was asked.
        operation: &'static str,
        /// What became of it.
        known: Standing,
    },
    /// There is nothing that a person could resolve.
    #[error("nothing of the payment is in doubt or in review")]
    NothingToResolve,
    /// More than one thing is out, and it was not said which is meant.
    #[error("{count} attempts are out; say which one is resolved")]
    SeveralOut {
        /// How many.
        count: usize,
    },
    /// An authorization whose time is not over does not lapse.
    #[error("the authorization holds until {until}")]
    StillHeld {
        /// When it lapses.
        until: Timestamp,
    },
}
