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
//!
//! Whatever is asked of a provider is an [`Attempt`]. At a provider that acts nowhere outside, its beginning and its
//! outcome are one event. Otherwise the event that begins it is on record before the call, and it is *out* until there is
//! evidence of what became of it; a hold that a capture or void is out about takes no other, and a refund that is out
//! counts as given back. Evidence may take back what an answer said only in two cases: a refund that succeeded may fail
//! after all, and a person may find out that what failed was done.

use super::{
    command::Command,
    event::{
        Action, Answered, Ask, CaptureMode, Details, Event, Evidence, Failure, Outcome, Standing,
    },
    id::Sequence,
    idempotency::Key,
    money::Amount,
    refusal::Refusal,
    time::Timestamp,
};
use std::sync::Arc;

mod attempts;
mod record;

pub use record::{Attempt, Form, Noted, Refund, operation};

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Who holds or took the money, or was asked last to.
    pub provider: Arc<str>,
    /// The provider's name for the money it holds or took.
    pub provider_reference: Option<Box<str>>,
    /// Why the provider declined.
    pub failure: Option<Failure>,
    /// What was taken so far, in minor units.
    pub captured: i64,
    /// What was given back so far, in minor units.
    pub refunded: i64,
    /// Each giving back, oldest first, also those that failed.
    pub refunds: Vec<Refund>,
    /// Everything that was asked of providers, oldest first.
    pub attempts: Vec<Attempt>,
    /// What was found out and moved no money, oldest first.
    pub notes: Vec<Noted>,
    /// Of what form its answers are.
    pub form: Form,
    /// When the hold lapses; only while authorized.
    pub expires_at: Option<Timestamp>,
    /// When it came onto the books.
    pub created_at: Timestamp,
    /// When its last event happened.
    pub updated_at: Timestamp,
}

/// The most refunds of one payment: each of its answers lists them all.
pub const REFUNDS_MAX: usize = 100;

/// The most attempts of one payment, those before its last refunds included, and the most notes.
const ON_RECORD_MAX: usize = 250;

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
        (Pending, Command::Initiate(details)) => Ok(Event::Initiated(details)),
        (
            Processing | Authorized | Completed | PartiallyRefunded | Refunded | Voided | Expired
            | Failed,
            Command::Submit { .. } | Command::Initiate(_),
        ) => refused(Processing),

        (Processing, Command::Settle(outcome)) if payment.out().all(|it| !it.is_booked) => {
            Ok(Event::Settled(outcome))
        }
        (
            Pending | Processing | Authorized | Completed | PartiallyRefunded | Refunded | Voided
            | Expired | Failed,
            Command::Settle(outcome),
        ) => refused(status_after(&payment.details, &outcome)),

        (Authorized, Command::Capture(amount)) => capture(payment, amount),
        (
            Pending | Processing | Completed | PartiallyRefunded | Refunded | Voided | Expired
            | Failed,
            Command::Capture(_),
        ) => refused(Completed),

        (Authorized, Command::Void) => payment.hold_is_free().map(|()| Event::Voided),
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

        // Whether these may be depends on the attempt that they are about, which `attempts` knows.
        (_, Command::Ask { provider, change }) => {
            attempts::ask(payment, provider, decide(payment, *change, now)?)
        }
        (_, Command::Answer { attempt, outcome, evidence }) => {
            let answered = attempts::answer(payment, attempt, outcome, evidence)?;
            Ok(Event::Answered(Box::new(answered)))
        }
        (_, Command::Reroute { attempt, outcome, evidence, next }) => {
            attempts::reroute(payment, (attempt, outcome, evidence), next)
        }
        (_, Command::Note(note)) => attempts::note(payment, note),
    }
}

fn capture(payment: &Payment, amount: Option<Amount>) -> Result<Event, Refusal> {
    payment.hold_is_free()?;
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
        Some(_) | None => payment.hold_is_free().map(|()| Event::Expired),
    }
}

fn refund(
    payment: &Payment,
    amount: Option<Amount>,
    reason: Option<Box<str>>,
) -> Result<Event, Refusal> {
    // What is left is all out already.
    let refused = Refusal::AnswerOut { operation: "refund" };
    let refundable = payment.refundable().ok_or(refused)?;
    if payment.refunds.len() >= REFUNDS_MAX {
        return Err(Refusal::TooManyRefunds { count: payment.refunds.len() });
    }
    let amount = amount.unwrap_or(refundable);
    let one_more = refundable.minor_units() + i64::from(seeded!(RefundOffByOne));
    if amount.minor_units() > one_more {
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
        (Outcome::Declined(_) | Outcome::DeclinedBy { .. }, _) => Status::Failed,
    }
}

impl Payment {
    /// A payment that nothing is on record about yet.
    #[must_use]
    pub fn pending(details: Arc<Details>, created_under: Option<Key>) -> Self {
        Self {
            provider: details.provider.clone(),
            details,
            created_under,
            status: Status::Pending,
            version: 0,
            provider_reference: None,
            failure: None,
            captured: 0,
            refunded: 0,
            refunds: Vec::new(),
            attempts: Vec::new(),
            notes: Vec::new(),
            form: Form::default(),
            expires_at: None,
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
        }
    }

    /// What could still be given back. What is being given back counts as given.
    #[must_use]
    pub fn refundable(&self) -> Option<Amount> {
        let left = self.captured.checked_sub(self.refunded)?;
        left.checked_sub(self.refunds_out()).and_then(Amount::new)
    }

    /// What is being given back and may be or not, in minor units.
    #[must_use]
    pub fn refunds_out(&self) -> i64 {
        if seeded!(RefundOutForgotten) {
            return 0;
        }
        let out = self.refunds.iter().filter(|refund| refund.standing == Standing::Out);
        out.map(|refund| refund.amount.minor_units()).sum()
    }

    /// What is held, in minor units.
    #[must_use]
    pub fn held(&self) -> i64 {
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

    /// What could still be taken, in minor units.
    #[must_use]
    pub fn capturable(&self) -> i64 {
        if self.hold_is_free().is_ok() { self.held() } else { 0 }
    }

    /// Whether nothing is out about the hold. While there is one, nothing else can be out.
    fn hold_is_free(&self) -> Result<(), Refusal> {
        match self.out().next() {
            Some(attempt) => {
                Err(Refusal::AnswerOut { operation: attempt.operation(&self.details) })
            }
            None => Ok(()),
        }
    }

    /// The attempts that nobody knows the outcome of, oldest first.
    pub fn out(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| attempt.standing == Standing::Out)
    }

    /// The attempt that this entry began.
    #[must_use]
    pub fn attempt(&self, sequence: Sequence) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.sequence == sequence)
    }

    /// What was noted and nobody has looked at, oldest first.
    pub fn unsettled_notes(&self) -> impl Iterator<Item = &Noted> {
        self.notes.iter().filter(|noted| !noted.settled)
    }

    /// Whether the hold's time is over though nobody has booked that yet.
    #[must_use]
    pub fn has_lapsed(&self, now: Timestamp) -> bool {
        self.status == Status::Authorized
            && self.hold_is_free().is_ok()
            && self.expires_at.is_some_and(|until| until <= now)
    }

    /// Makes `event`, written as entry `sequence` at time `at`, part of the payment. It never judges: what is on
    /// record has happened.
    pub fn apply(&mut self, event: &Event, at: Timestamp, sequence: Sequence) {
        if self.version == 0 {
            self.created_at = at;
        }
        self.version += 1;
        self.updated_at = at;
        let own = |action| Ask { provider: self.provider.clone(), action };
        match event {
            Event::Submitted { outcome, .. } => {
                let ask = own(Action::Authorize);
                self.begin(ask, None, at, sequence);
                if let Some(attempt) = self.attempts.last_mut() {
                    attempt.is_booked = false;
                }
                if let Some(outcome) = outcome {
                    self.conclude(sequence, outcome, at);
                }
            }
            Event::Settled(outcome) => {
                let out = self.out().next().map(|attempt| attempt.sequence);
                self.conclude(out.unwrap_or(sequence), outcome, at);
            }
            Event::Captured { amount, released } => {
                let ask = own(Action::Capture { amount: *amount, released: *released });
                self.do_at_once(ask, None, at, sequence);
            }
            Event::Voided => self.do_at_once(own(Action::Void), None, at, sequence),
            Event::Expired => self.do_at_once(own(Action::Expire), None, at, sequence),
            Event::Refunded { amount, reason } => {
                let ask = own(Action::Refund { amount: *amount });
                self.do_at_once(ask, reason.clone(), at, sequence);
            }
            Event::Initiated(_) => self.begin(own(Action::Authorize), None, at, sequence),
            Event::Asked { ask, reason } => {
                self.begin((**ask).clone(), reason.clone(), at, sequence)
            }
            Event::Answered(answered) => {
                self.conclude(answered.attempt, &answered.outcome, at);
                if matches!(answered.evidence, Evidence::Person(_)) {
                    self.settle_notes();
                }
            }
            Event::Rerouted { answered, next } => {
                self.conclude(answered.attempt, &answered.outcome, at);
                let ask = Ask { provider: next.clone(), action: Action::Authorize };
                self.begin(ask, None, at, sequence);
            }
            Event::Noted(note) => self.take_note(note, at),
        }
    }

    /// The moves that `event` makes from where the payment stands, one after the other: submitting a payment and
    /// hearing the answer is one fact and one entry, yet three moves. `None` as the origin: it did not exist.
    #[must_use]
    pub fn transitions(&self, event: &Event) -> Vec<(Option<Status>, Status)> {
        let mut after = self.clone();
        after.apply(event, self.updated_at, Sequence::MAX);
        match event {
            Event::Submitted { .. } | Event::Initiated(_) => {
                let mut moves =
                    vec![(None, Status::Pending), (Some(Status::Pending), Status::Processing)];
                if after.status != Status::Processing {
                    moves.push((Some(Status::Processing), after.status));
                }
                moves
            }
            Event::Settled(_)
            | Event::Captured { .. }
            | Event::Voided
            | Event::Expired
            | Event::Refunded { .. }
            | Event::Asked { .. }
            | Event::Answered(_)
            | Event::Rerouted { .. }
            | Event::Noted(_) => vec![(Some(self.status), after.status)],
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
        Event::Initiated(details) => Command::Initiate(details.clone()),
        Event::Asked { ask, reason } => attempts::command_of(ask, reason.as_deref()),
        Event::Answered(answered) => {
            let Answered { attempt, outcome, evidence, .. } = &**answered;
            Command::Answer {
                attempt: *attempt,
                outcome: outcome.clone(),
                evidence: evidence.clone(),
            }
        }
        Event::Rerouted { answered, next } => {
            let Answered { attempt, outcome, evidence, .. } = &**answered;
            Command::Reroute {
                attempt: *attempt,
                outcome: outcome.clone(),
                evidence: evidence.clone(),
                next: next.clone(),
            }
        }
        Event::Noted(note) => Command::Note((**note).clone()),
    }
}

#[cfg(test)]
mod tests;
