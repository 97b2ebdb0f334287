//! What can happen to a payment: facts, in the past tense.
//!
//! These types are written into the journal as they stand here. **Their variant and field order is the format**: only
//! append, never reorder or delete; the golden files in `tests/golden/` hold it.

use super::{
    id::{PaymentId, Sequence},
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
    /// The payment was made and is being given to its provider, whose answer is out: the amount is in doubt.
    Initiated(Arc<Details>),
    /// A provider is being asked for a change of the payment, and its answer is out: the amount is in doubt. The
    /// entry of this event names the attempt.
    Asked {
        /// What it is asked for. Boxed, so that a step of a payment at rest takes no room for it.
        ask: Box<Ask>,
        /// Why a merchant gives money back.
        reason: Option<Box<str>>,
    },
    /// What became of an attempt is known.
    Answered(Box<Answered>),
    /// What became of an attempt is known: nothing, in a way that lets another provider be asked instead. That is done
    /// in the same breath; the entry of this event names the new attempt.
    Rerouted {
        /// The attempt that failed.
        answered: Box<Answered>,
        /// Who is asked now.
        next: Arc<str>,
    },
    /// Something was found out about the payment that moves no money.
    Noted(Box<Note>),
}

impl Event {
    /// What happened, in a word or two that accountants know. `holds`: the money is only held by it.
    #[must_use]
    pub fn happened(&self, holds: bool) -> &'static str {
        let authorized = |outcome: &Outcome| match outcome.standing() {
            Standing::Succeeded if holds => "authorized",
            Standing::Succeeded => "charged",
            Standing::Out | Standing::Failed => "declined",
        };
        match self {
            Self::Submitted { outcome: None, .. } | Self::Initiated(_) => "submitted",
            Self::Submitted { outcome: Some(outcome), .. } | Self::Settled(outcome) => {
                authorized(outcome)
            }
            Self::Captured { .. } => "captured",
            Self::Voided => "voided",
            Self::Expired => "expired",
            Self::Refunded { .. } => "refunded",
            Self::Asked { ask, .. } => match ask.action {
                Action::Authorize => "authorization asked for",
                Action::Capture { .. } => "capture asked for",
                Action::Void => "void asked for",
                Action::Expire => "expiry asked for",
                Action::Refund { .. } => "refund asked for",
            },
            Self::Answered(answered) => match (answered.ask.action, answered.outcome.standing()) {
                (Action::Authorize, _) => authorized(&answered.outcome),
                (Action::Capture { .. }, Standing::Succeeded) => "captured",
                (Action::Capture { .. }, _) => "capture declined",
                (Action::Void, Standing::Succeeded) => "voided",
                (Action::Void, _) => "void declined",
                (Action::Expire, Standing::Succeeded) => "expired",
                (Action::Expire, _) => "expiry declined",
                (Action::Refund { .. }, Standing::Succeeded) => "refunded",
                (Action::Refund { .. }, _) => "refund failed",
            },
            Self::Rerouted { .. } => "rerouted",
            Self::Noted(note) => note.name(),
        }
    }

    /// Whether the client whose request began the attempt is told this, too: it became known while that client waited.
    #[must_use]
    pub fn is_told(&self) -> bool {
        match self {
            Self::Answered(answered) | Self::Rerouted { answered, .. } => {
                answered.evidence == Evidence::Reply
            }
            Self::Noted(note) => {
                matches!(&**note, Note::Contradicted { evidence: Evidence::Reply, .. })
            }
            _ => false,
        }
    }
}

/// What a provider is asked to do with a payment's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Hold the payment's amount, or take it, as its capture mode says.
    Authorize,
    /// Take of what is held.
    Capture {
        /// How much.
        amount: Amount,
        /// What goes back to the customer, in minor units.
        released: i64,
    },
    /// Let go of what is held, since the merchant gave it up.
    Void,
    /// Let go of what is held, since its time is over.
    Expire,
    /// Give back of what was taken.
    Refund {
        /// How much.
        amount: Amount,
    },
}

/// An action, asked of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Who is asked.
    pub provider: Arc<str>,
    /// For what.
    pub action: Action,
}

/// How an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Nobody knows yet what became of it: what it is about is in doubt.
    Out,
    /// It was done.
    Succeeded,
    /// Nothing was done.
    Failed,
}

impl Standing {
    /// As clients read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Out => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The entry that began the attempt.
    pub attempt: Sequence,
    /// What was asked for.
    pub ask: Ask,
    /// How the attempt stood until now: mostly out.
    pub was: Standing,
    /// What became of it.
    pub outcome: Outcome,
    /// How that is known.
    pub evidence: Evidence,
}

/// How something about an attempt is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// The provider's reply to the call, while the client waited for it.
    Reply,
    /// The provider's reply to the call when the client had been told that it is out, or to the same call, made again
    /// under the same key.
    LateReply,
    /// The provider was asked what it has on record.
    LookUp,
    /// The provider's own signed event of this id.
    Webhook(Box<str>),
    /// A person found out; these are the person's words.
    Person(Box<str>),
}

impl Evidence {
    /// In a word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reply => "reply",
            Self::LateReply => "late_reply",
            Self::LookUp => "look_up",
            Self::Webhook(_) => "webhook",
            Self::Person(_) => "person",
        }
    }

    /// The id of the provider's event, or the person's words.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Reply | Self::LateReply | Self::LookUp => None,
            Self::Webhook(text) | Self::Person(text) => Some(text),
        }
    }
}

/// What was found out about a payment without moving money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// Neither the provider nor a look-up can say what became of an attempt: a person has to find out.
    Undecided {
        /// The entry that began the attempt.
        attempt: Sequence,
        /// What was tried, and what came of it.
        what: Box<str>,
    },
    /// The provider says what the books do not: a person has to find out.
    Contradicted {
        /// How that is known.
        evidence: Evidence,
        /// What the provider says, against what.
        what: Box<str>,
    },
    /// A person has looked at what was noted, and is done with it.
    Reviewed {
        /// The person's words.
        what: Box<str>,
    },
}

impl Note {
    /// In a word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Undecided { .. } => "undecided",
            Self::Contradicted { .. } => "contradicted",
            Self::Reviewed { .. } => "reviewed",
        }
    }

    /// What was found out.
    #[must_use]
    pub fn what(&self) -> &str {
        match self {
            Self::Undecided { what, .. }
            | Self::Contradicted { what, .. }
            | Self::Reviewed { what } => what,
        }
    }
}

/// What certainly became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The money is held or taken, or whatever else was asked for is done.
    Approved {
        /// The provider's own name for what it did.
        reference: Box<str>,
    },
    /// Nothing was done; no code of the provider's says why.
    Declined(Decline),
    /// Nothing was done.
    DeclinedBy {
        /// Why.
        decline: Decline,
        /// The provider's own code for it.
        code: Box<str>,
    },
}

impl Outcome {
    /// How it leaves an attempt.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self {
            Self::Approved { .. } => Standing::Succeeded,
            Self::Declined(_) | Self::DeclinedBy { .. } => Standing::Failed,
        }
    }

    /// Why nothing was done; `None` if something was.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Approved { .. } => None,
            Self::Declined(decline) => Some(Failure { decline: *decline, code: None }),
            Self::DeclinedBy { decline, code } => {
                Some(Failure { decline: *decline, code: Some(code.clone()) })
            }
        }
    }
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In our words.
    pub decline: Decline,
    /// In the provider's.
    pub code: Option<Box<str>>,
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
    /// A number, date or check digit of the card is wrong.
    IncorrectCardData,
    /// The issuer wants the customer to authenticate, which this payment can't.
    AuthenticationRequired,
    /// Something went wrong at the provider or the issuer before anything was done; trying elsewhere may help.
    ProcessingError,
    /// The provider could not be reached, or turned the call away before processing it.
    ProviderUnavailable,
    /// The provider did not accept the request.
    ProviderRejected,
    /// The provider can't move this amount in this currency.
    AmountUnsupported,
    /// What was held is held no longer.
    AuthorizationGone,
    /// The provider has no trace of the attempt, so long after it that there would be one.
    NotProcessed,
    /// A person found out that nothing was done.
    ResolvedByHand,
}

impl Decline {
    /// Every one.
    pub const ALL: [Self; 14] = [
        Self::CardDeclined,
        Self::InsufficientFunds,
        Self::ExpiredCard,
        Self::AmountTooLarge,
        Self::PaymentMethodUnknown,
        Self::IncorrectCardData,
        Self::AuthenticationRequired,
        Self::ProcessingError,
        Self::ProviderUnavailable,
        Self::ProviderRejected,
        Self::AmountUnsupported,
        Self::AuthorizationGone,
        Self::NotProcessed,
        Self::ResolvedByHand,
    ];

    /// The code that clients switch on.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::CardDeclined => "card_declined",
            Self::InsufficientFunds => "insufficient_funds",
            Self::ExpiredCard => "expired_card",
            Self::AmountTooLarge => "amount_too_large",
            Self::PaymentMethodUnknown => "payment_method_unknown",
            Self::IncorrectCardData => "incorrect_card_data",
            Self::AuthenticationRequired => "authentication_required",
            Self::ProcessingError => "processing_error",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::ProviderRejected => "provider_rejected",
            Self::AmountUnsupported => "amount_unsupported",
            Self::AuthorizationGone => "authorization_gone",
            Self::NotProcessed => "not_processed",
            Self::ResolvedByHand => "resolved_by_hand",
        }
    }

    /// Whether another provider may be asked instead: the card is not to blame.
    #[must_use]
    pub fn lets_others_try(self) -> bool {
        match self {
            Self::ProcessingError
            | Self::ProviderUnavailable
            | Self::ProviderRejected
            | Self::AmountUnsupported => true,
            Self::CardDeclined
            | Self::InsufficientFunds
            | Self::ExpiredCard
            | Self::AmountTooLarge
            | Self::PaymentMethodUnknown
            | Self::IncorrectCardData
            | Self::AuthenticationRequired
            | Self::AuthorizationGone
            | Self::NotProcessed
            | Self::ResolvedByHand => false,
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
            Self::IncorrectCardData => "A number, date or check digit of the card is wrong.",
            Self::AuthenticationRequired => "The card's issuer asks the customer to authenticate.",
            Self::ProcessingError => "It could not be processed; nothing was done.",
            Self::ProviderUnavailable => "The provider could not be reached; nothing was done.",
            Self::ProviderRejected => "The provider did not accept the request.",
            Self::AmountUnsupported => "The provider cannot move this amount in this currency.",
            Self::AuthorizationGone => "The provider holds the authorization no longer.",
            Self::NotProcessed => "The provider has no trace of it; nothing was done.",
            Self::ResolvedByHand => "It was looked into by hand: nothing was done.",
        }
    }
}
