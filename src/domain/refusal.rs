//! How a rule says no. A refusal changes nothing and uses up no idempotency key.

use super::{
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
    /// An authorization whose time is not over does not lapse.
    #[error("the authorization holds until {until}")]
    StillHeld {
        /// When it lapses.
        until: Timestamp,
    },
}
