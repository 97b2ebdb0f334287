//! The life of one payment: which moves there are ([`decide`]) and what each does ([`Payment::apply`]).
//!
//! ```text
//!  pending → processing → authorized → completed → partially_refunded → refunded
//!     │          │            │            └───────────────────────────────↗
//!     └→ failed ←┘            ├→ voided
//!    processing → completed   └→ expired
//! ```
//!
//! All judgement is in `decide`; `apply` never judges. A payment that nothing is on record about yet is *pending*.

use super::{
    command::Command,
    event::{CaptureMode, Decline, Details, Event, Outcome},
    id::{DerivedId, Kind, Sequence},
    idempotency::Key,
    money::Amount,
    refusal::Refusal,
    time::Timestamp,
};
use std::sync::Arc;

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Made, not yet given to the provider.
    Pending,
    /// Given to the provider, whose answer is out.
    Processing,
    /// The money is held.
    Authorized,
    /// The money is taken.
    Completed,
    /// Part of the money was given back.
    PartiallyRefunded,
    /// All of it was given back.
    Refunded,
    /// The merchant gave the hold up.
    Voided,
    /// The hold lapsed.
    Expired,
    /// The provider declined.
    Failed,
}

impl Status {
    /// Every status, in the order of a payment's life.
    pub const ALL: [Status; 9] = [
        Status::Pending,
        Status::Processing,
        Status::Authorized,
        Status::Completed,
        Status::PartiallyRefunded,
        Status::Refunded,
        Status::Voided,
        Status::Expired,
        Status::Failed,
    ];

    /// As clients read and write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Authorized => "authorized",
            Self::Completed => "completed",
            Self::PartiallyRefunded => "partially_refunded",
            Self::Refunded => "refunded",
            Self::Voided => "voided",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }

    /// The status of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// A payment as its first `version` events made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// What the merchant asked for.
    pub details: Arc<Details>,
    /// The idempotency key it was created under.
    pub created_under: Option<Key>,
    /// Where it stands.
    pub status: Status,
    /// How many events it has; the next one makes version + 1.
    pub version: u32,
    /// The provider's name for the money it holds or took.
    pub provider_reference: Option<Box<str>>,
    /// Why the provider declined.
    pub failure: Option<Decline>,
    /// What was taken so far, in minor units.
    pub captured: i64,
    /// What was given back so far, in minor units.
    pub refunded: i64,
    /// Each giving back, oldest first.
    pub refunds: Vec<Refund>,
    /// When the hold lapses; only while authorized.
    pub expires_at: Option<Timestamp>,
    /// When it came onto the books.
    pub created_at: Timestamp,
    /// When its last event happened.
    pub updated_at: Timestamp,
}

/// One giving back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    /// Computed from the journal entry that made it.
    pub id: DerivedId,
    /// How much.
    pub amount: Amount,
    /// The merchant's free text.
    pub reason: Option<Box<str>>,
    /// When.
    pub created_at: Timestamp,
}

/// The most refunds of one payment: each of its answers lists them all.
pub const REFUNDS_MAX: usize = 100;

/// Whether the rules allow `command` now, and the fact that it makes.
///
/// # Errors
/// The [`Refusal`] names the rule and its figures; the payment is unchanged.
pub fn decide(payment: &Payment, command: Command, now: Timestamp) -> Result<Event, Refusal> {
    use Status::{
        Authorized, Completed, Expired, Failed, PartiallyRefunded, Pending, Processing, Refunded,
        Voided,
    };
    let refused = |to| Err(Refusal::InvalidTransition { from: payment.status, to });
    match (payment.status, command) {
        (Pending, Command::Submit { details, outcome }) => {
            Ok(Event::Submitted { details, outcome })
        }
        (
            Processing | Authorized | Completed | PartiallyRefunded | Refunded | Voided | Expired
            | Failed,
            Command::Submit { .. },
        ) => refused(Processing),

        (Processing, Command::Settle(outcome)) => Ok(Event::Settled(outcome)),
        (
            Pending | Authorized | Completed | PartiallyRefunded | Refunded | Voided | Expired
            | Failed,
            Command::Settle(outcome),
        ) => refused(status_after(&payment.details, &outcome)),

        (Authorized, Command::Capture(amount)) => capture(payment, amount),
        (
            Pending | Processing | Completed | PartiallyRefunded | Refunded | Voided | Expired
            | Failed,
            Command::Capture(_),
        ) => refused(Completed),

        (Authorized, Command::Void) => Ok(Event::Voided),
        (
            Pending | Processing | Completed | PartiallyRefunded | Refunded | Voided | Expired
            | Failed,
            Command::Void,
        ) => refused(Voided),

        (Authorized, Command::Expire) => expire(payment, now),
        (
            Pending | Processing | Completed | PartiallyRefunded | Refunded | Voided | Expired
            | Failed,
            Command::Expire,
        ) => refused(Expired),

        (Completed | PartiallyRefunded, Command::Refund { amount, reason }) => {
            refund(payment, amount, reason)
        }
        (
            Pending | Processing | Authorized | Refunded | Voided | Expired | Failed,
            Command::Refund { .. },
        ) => refused(Refunded),
    }
}

fn capture(payment: &Payment, amount: Option<Amount>) -> Result<Event, Refusal> {
    let capturable = payment.details.amount;
    let amount = amount.unwrap_or(capturable);
    if amount > capturable {
        let currency = payment.details.currency;
        return Err(Refusal::OverCapture { requested: amount, capturable, currency });
    }
    let released = capturable.less(amount).map_or(0, Amount::minor_units);
    Ok(Event::Captured { amount, released })
}

fn expire(payment: &Payment, now: Timestamp) -> Result<Event, Refusal> {
    match payment.expires_at {
        Some(until) if now < until => Err(Refusal::StillHeld { until }),
        Some(_) | None => Ok(Event::Expired),
    }
}

fn refund(
    payment: &Payment,
    amount: Option<Amount>,
    reason: Option<Box<str>>,
) -> Result<Event, Refusal> {
    let refused = Refusal::InvalidTransition { from: payment.status, to: Status::Refunded };
    let refundable = payment.refundable().ok_or(refused)?;
    if payment.refunds.len() >= REFUNDS_MAX {
        return Err(Refusal::TooManyRefunds { count: payment.refunds.len() });
    }
    let amount = amount.unwrap_or(refundable);
    if amount > refundable {
        let currency = payment.details.currency;
        return Err(Refusal::OverRefund { requested: amount, refundable, currency });
    }
    Ok(Event::Refunded { amount, reason })
}

/// Where the provider's answer leaves a payment.
#[must_use]
pub fn status_after(details: &Details, outcome: &Outcome) -> Status {
    match (outcome, details.capture) {
        (Outcome::Approved { .. }, CaptureMode::Automatic) => Status::Completed,
        (Outcome::Approved { .. }, CaptureMode::Manual) => Status::Authorized,
        (Outcome::Declined(_), _) => Status::Failed,
    }
}

impl Payment {
    /// A payment that nothing is on record about yet.
    #[must_use]
    pub fn pending(details: Arc<Details>, created_under: Option<Key>) -> Self {
        Self {
            details,
            created_under,
            status: Status::Pending,
            version: 0,
            provider_reference: None,
            failure: None,
            captured: 0,
            refunded: 0,
            refunds: Vec::new(),
            expires_at: None,
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
        }
    }

    /// What could still be given back.
    #[must_use]
    pub fn refundable(&self) -> Option<Amount> {
        self.captured.checked_sub(self.refunded).and_then(Amount::new)
    }

    /// What could still be taken, in minor units.
    #[must_use]
    pub fn capturable(&self) -> i64 {
        match self.status {
            Status::Authorized => self.details.amount.minor_units(),
            Status::Pending
            | Status::Processing
            | Status::Completed
            | Status::PartiallyRefunded
            | Status::Refunded
            | Status::Voided
            | Status::Expired
            | Status::Failed => 0,
        }
    }

    /// Whether the hold's time is over though nobody has booked that yet.
    #[must_use]
    pub fn has_lapsed(&self, now: Timestamp) -> bool {
        self.status == Status::Authorized && self.expires_at.is_some_and(|until| until <= now)
    }

    /// Makes `event`, written as entry `sequence` at time `at`, part of the payment. It never judges: what is on
    /// record has happened.
    pub fn apply(&mut self, event: &Event, at: Timestamp, sequence: Sequence) {
        if self.version == 0 {
            self.created_at = at;
        }
        self.version += 1;
        self.updated_at = at;
        match event {
            Event::Submitted { outcome: None, .. } => self.status = Status::Processing,
            Event::Submitted { outcome: Some(outcome), .. } | Event::Settled(outcome) => {
                self.settle(outcome, at);
            }
            Event::Captured { amount, .. } => {
                self.end_hold(Status::Completed);
                self.captured = amount.minor_units();
            }
            Event::Voided => self.end_hold(Status::Voided),
            Event::Expired => self.end_hold(Status::Expired),
            Event::Refunded { amount, reason } => {
                self.refunded += amount.minor_units();
                self.status = match self.refundable() {
                    Some(_) => Status::PartiallyRefunded,
                    None => Status::Refunded,
                };
                self.refunds.push(Refund {
                    id: DerivedId::new(Kind::Refund, at, sequence),
                    amount: *amount,
                    reason: reason.clone(),
                    created_at: at,
                });
            }
        }
    }

    fn settle(&mut self, outcome: &Outcome, at: Timestamp) {
        self.status = status_after(&self.details, outcome);
        match outcome {
            Outcome::Approved { reference } => {
                self.provider_reference = Some(reference.clone());
                match self.details.capture {
                    CaptureMode::Automatic => self.captured = self.details.amount.minor_units(),
                    CaptureMode::Manual => {
                        self.expires_at = Some(at.plus_millis(self.details.hold_ms));
                    }
                }
            }
            Outcome::Declined(decline) => self.failure = Some(*decline),
        }
    }

    fn end_hold(&mut self, status: Status) {
        self.status = status;
        self.expires_at = None;
    }

    /// The moves that `event` makes from where the payment stands, one after the other: submitting a payment and
    /// hearing the answer is one fact and one entry, yet three moves. `None` as the origin: it did not exist.
    #[must_use]
    pub fn transitions(&self, event: &Event) -> Vec<(Option<Status>, Status)> {
        let mut after = self.clone();
        after.apply(event, self.updated_at, 0);
        match event {
            Event::Submitted { outcome, .. } => {
                let mut moves =
                    vec![(None, Status::Pending), (Some(Status::Pending), Status::Processing)];
                if outcome.is_some() {
                    moves.push((Some(Status::Processing), after.status));
                }
                moves
            }
            Event::Settled(_)
            | Event::Captured { .. }
            | Event::Voided
            | Event::Expired
            | Event::Refunded { .. } => vec![(Some(self.status), after.status)],
        }
    }
}

/// The command whose acceptance makes exactly `event`: how a record is judged again by the rules that made it.
#[must_use]
pub fn command_of(event: &Event) -> Command {
    match event {
        Event::Submitted { details, outcome } => {
            Command::Submit { details: details.clone(), outcome: outcome.clone() }
        }
        Event::Settled(outcome) => Command::Settle(outcome.clone()),
        Event::Captured { amount, .. } => Command::Capture(Some(*amount)),
        Event::Voided => Command::Void,
        Event::Expired => Command::Expire,
        Event::Refunded { amount, reason } => {
            Command::Refund { amount: Some(*amount), reason: reason.clone() }
        }
    }
}

#[cfg(test)]
mod tests;
