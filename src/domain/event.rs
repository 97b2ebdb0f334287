//! What can happen to a payment: facts, in the past tense.
//!
//! These types are written into the journal as they stand here. **Their variant and field order is the format**: only
//! append, never reorder or delete; the golden files in `tests/golden/` hold it.

use super::{
    id::PaymentId,
    money::{Amount, Currency},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the merchant asked for when it made the payment. It never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// The payment's id.
    pub id: PaymentId,
    /// Whose payment it is.
    pub merchant: Arc<str>,
    /// How much, in minor units of `currency`.
    pub amount: Amount,
    /// The currency of every amount of this payment.
    pub currency: Currency,
    /// Whether the money is taken at once or only held.
    pub capture: CaptureMode,
    /// The provider's token for the customer's means of payment; never a card number.
    pub payment_method: Arc<str>,
    /// The merchant's own name for its customer.
    pub customer: Option<Arc<str>>,
    /// The merchant's free text.
    pub description: Option<Box<str>>,
    /// The merchant's own pairs, sorted by key.
    pub metadata: Box<[(Box<str>, Box<str>)]>,
    /// Who moves the money.
    pub provider: Arc<str>,
    /// How long an authorization holds before it lapses, in milliseconds.
    pub hold_ms: u64,
}

/// Whether an approved payment takes the money or holds it for a later capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CaptureMode {
    /// A charge: approved means completed.
    Automatic,
    /// An authorization: approved means held.
    Manual,
}

impl CaptureMode {
    /// As clients write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Manual => "manual",
        }
    }
}

/// One fact about one payment. An entry of the journal holds exactly one, so a payment's version is how many it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The payment was made and given to the provider; with the provider's answer, if it had one by then.
    Submitted {
        /// What was asked for.
        details: Arc<Details>,
        /// `None`: the provider's answer is still out.
        outcome: Option<Outcome>,
    },
    /// The provider's answer to a submitted payment became known.
    Settled(Outcome),
    /// The merchant took held money.
    Captured {
        /// What it took.
        amount: Amount,
        /// What it left, which went back to the customer; 0 for a full capture.
        released: i64,
    },
    /// The merchant gave the hold up.
    Voided,
    /// The hold lapsed.
    Expired,
    /// The merchant gave money back.
    Refunded {
        /// How much.
        amount: Amount,
        /// The merchant's free text.
        reason: Option<Box<str>>,
    },
}

/// A provider's definite answer to an authorization or a charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The money is held or taken.
    Approved {
        /// The provider's own name for what it did.
        reference: Box<str>,
    },
    /// Nothing was held or taken.
    Declined(Decline),
}

/// Why a provider declined. The codes are stable; clients switch on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decline {
    /// The issuer said no and gave no reason.
    CardDeclined,
    /// The account does not hold enough.
    InsufficientFunds,
    /// The card is past its date.
    ExpiredCard,
    /// More than the provider takes in one payment.
    AmountTooLarge,
    /// The provider does not know this payment method.
    PaymentMethodUnknown,
}

impl Decline {
    /// The code that clients switch on.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::CardDeclined => "card_declined",
            Self::InsufficientFunds => "insufficient_funds",
            Self::ExpiredCard => "expired_card",
            Self::AmountTooLarge => "amount_too_large",
            Self::PaymentMethodUnknown => "payment_method_unknown",
        }
    }

    /// The same for a person.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::CardDeclined => "The card was declined.",
            Self::InsufficientFunds => "The account has insufficient funds.",
            Self::ExpiredCard => "The card has expired.",
            Self::AmountTooLarge => "The amount is more than the provider takes in one payment.",
            Self::PaymentMethodUnknown => "The provider does not know this payment method.",
        }
    }
}
