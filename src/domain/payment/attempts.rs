//! Attempts: what is asked of providers, what becomes of it, and what is found out about it.

use super::{ON_RECORD_MAX, Payment, Refund, Status, command_of as command_of_event, status_after};
use crate::domain::{
    command::Command,
    event::{Action, Answered, Ask, CaptureMode, Event, Evidence, Note, Outcome, Standing},
    id::{DerivedId, Kind, Sequence},
    payment::{Attempt, Noted},
    refusal::Refusal,
    time::Timestamp,
};
use std::sync::Arc;

/// How many attempts voids and expiries leave to others.
const KEPT_FOR_MONEY: usize = 50;

/// The ask for a change that the rules allow: `change` is what it would make.
pub(super) fn ask(payment: &Payment, provider: Arc<str>, change: Event) -> Result<Event, Refusal> {
    // Letting go of holds leaves room for what moves money.
    let kept = if matches!(change, Event::Voided | Event::Expired) { KEPT_FOR_MONEY } else { 0 };
    has_room(payment.attempts.len().saturating_add(kept))?;
    let (action, reason) = match change {
        Event::Captured { amount, released } => (Action::Capture { amount, released }, None),
        Event::Voided => (Action::Void, None),
        Event::Expired => (Action::Expire, None),
        Event::Refunded { amount, reason } => (Action::Refund { amount }, reason),
        // No change of money that a provider holds or took.
        _ => {
            let (from, to) = (payment.status, Status::Processing);
            return Err(Refusal::InvalidTransition { from, to });
        }
    };
    Ok(Event::Asked { ask: Box::new(Ask { provider, action }), reason })
}

/// The command of an ask.
pub(super) fn command_of(ask: &Ask, reason: Option<&str>) -> Command {
    let change = match ask.action {
        Action::Capture { amount, released } => Event::Captured { amount, released },
        Action::Refund { amount } => Event::Refunded { amount, reason: reason.map(Into::into) },
        Action::Void => Event::Voided,
        // An authorization is never asked for by itself: the rules refuse the command that is made of it here.
        Action::Expire | Action::Authorize => Event::Expired,
    };
    Command::Ask { provider: ask.provider.clone(), change: Box::new(command_of_event(&change)) }
}

/// What became of an attempt, if the rules let that be said.
pub(super) fn answer(
    payment: &Payment,
    sequence: Sequence,
    outcome: Outcome,
    evidence: Evidence,
) -> Result<Answered, Refusal> {
    let unknown = Refusal::NoSuchAttempt { attempt: sequence };
    let attempt = payment.attempt(sequence).ok_or(unknown)?;
    let answered = Answered {
        attempt: sequence,
        ask: attempt.ask.clone(),
        was: attempt.standing,
        outcome,
        evidence,
    };
    match (attempt.standing, answered.outcome.standing()) {
        (Standing::Out, _) if attempt.is_booked => Ok(answered),
        // A bank may send a refund back that the provider had called done.
        (Standing::Succeeded, Standing::Failed)
            if matches!(attempt.ask.action, Action::Refund { .. }) =>
        {
            Ok(answered)
        }
        (Standing::Failed, Standing::Succeeded)
            if matches!(answered.evidence, Evidence::Person(_))
                && may_be_done(payment, attempt) =>
        {
            Ok(answered)
        }
        (Standing::Out, _) => {
            let operation = attempt.operation(&payment.details);
            Err(Refusal::AnswerOut { operation })
        }
        (known, _) => {
            let operation = attempt.operation(&payment.details);
            Err(Refusal::AnsweredAlready { operation, known })
        }
    }
}

/// Whether an attempt that failed could have been done as far as the payment goes.
fn may_be_done(payment: &Payment, attempt: &Attempt) -> bool {
    match attempt.ask.action {
        Action::Authorize => payment.status == Status::Failed,
        Action::Capture { .. } | Action::Void | Action::Expire => {
            payment.status == Status::Authorized && payment.hold_is_free().is_ok()
        }
        Action::Refund { amount } => payment.refundable().is_some_and(|left| amount <= left),
    }
}

/// That the attempt to authorize failed, and that another provider is asked.
pub(super) fn reroute(
    payment: &Payment,
    (attempt, outcome, evidence): (Sequence, Outcome, Evidence),
    next: Arc<str>,
) -> Result<Event, Refusal> {
    has_room(payment.attempts.len())?;
    let answered = answer(payment, attempt, outcome, evidence)?;
    let lets = answered.outcome.failure().is_some_and(|failure| failure.decline.lets_others_try());
    let authorizes = answered.ask.action == Action::Authorize && answered.was == Standing::Out;
    if !lets || !authorizes {
        let to = status_after(&payment.details, &answered.outcome);
        return Err(Refusal::InvalidTransition { from: payment.status, to });
    }
    Ok(Event::Rerouted { answered: Box::new(answered), next })
}

/// What was found out, once.
pub(super) fn note(payment: &Payment, note: Note) -> Result<Event, Refusal> {
    has_room(payment.notes.len())?;
    if let Note::Undecided { attempt, .. } = note
        && payment.attempt(attempt).is_none()
    {
        return Err(Refusal::NoSuchAttempt { attempt });
    }
    if payment.status == Status::Pending {
        return Err(Refusal::InvalidTransition { from: payment.status, to: payment.status });
    }
    Ok(Event::Noted(Box::new(note)))
}

fn has_room(count: usize) -> Result<(), Refusal> {
    if count < ON_RECORD_MAX { Ok(()) } else { Err(Refusal::TooMuchOnRecord { count }) }
}

impl Payment {
    /// An attempt and its success in one.
    pub(super) fn do_at_once(
        &mut self,
        ask: Ask,
        reason: Option<Box<str>>,
        at: Timestamp,
        sequence: Sequence,
    ) {
        self.begin(ask, reason, at, sequence);
        let reference = self.provider_reference.clone().unwrap_or_default();
        self.conclude(sequence, &Outcome::Approved { reference }, at);
    }

    pub(super) fn begin(
        &mut self,
        ask: Ask,
        reason: Option<Box<str>>,
        at: Timestamp,
        sequence: Sequence,
    ) {
        match ask.action {
            Action::Authorize => {
                self.status = Status::Processing;
                self.provider = ask.provider.clone();
                self.failure = None;
            }
            Action::Refund { amount } => self.refunds.push(Refund {
                id: DerivedId::new(Kind::Refund, at, sequence),
                amount,
                standing: Standing::Out,
                failure: None,
                reason,
                created_at: at,
            }),
            Action::Capture { .. } | Action::Void | Action::Expire => {}
        }
        self.attempts.push(Attempt {
            sequence,
            ask,
            standing: Standing::Out,
            is_booked: true,
            reference: None,
            failure: None,
            created_at: at,
            updated_at: at,
        });
    }

    /// Makes what became of an attempt part of the payment.
    pub(super) fn conclude(&mut self, sequence: Sequence, outcome: &Outcome, at: Timestamp) {
        let mut attempts = self.attempts.iter_mut();
        let Some(attempt) = attempts.find(|attempt| attempt.sequence == sequence) else {
            return;
        };
        attempt.standing = outcome.standing();
        attempt.failure = outcome.failure();
        attempt.updated_at = at;
        if let Outcome::Approved { reference } = outcome {
            attempt.reference = Some(reference.clone());
        }
        let (action, provider) = (attempt.ask.action, attempt.ask.provider.clone());
        match (action, outcome) {
            (Action::Authorize, _) => {
                self.provider = provider;
                self.settle(outcome, at);
            }
            (Action::Refund { .. }, _) => self.conclude_refund(sequence, outcome),
            (Action::Capture { amount, .. }, Outcome::Approved { .. }) => {
                self.end_hold(Status::Completed);
                self.captured = amount.minor_units();
            }
            (Action::Void, Outcome::Approved { .. }) => self.end_hold(Status::Voided),
            (Action::Expire, Outcome::Approved { .. }) => self.end_hold(Status::Expired),
            (Action::Capture { .. } | Action::Void | Action::Expire, _) => {}
        }
        for noted in &mut self.notes {
            noted.settled |=
                matches!(noted.note, Note::Undecided { attempt, .. } if attempt == sequence);
        }
    }

    fn settle(&mut self, outcome: &Outcome, at: Timestamp) {
        self.status = status_after(&self.details, outcome);
        self.failure = outcome.failure();
        let Outcome::Approved { reference } = outcome else { return };
        self.provider_reference = Some(reference.clone());
        match self.details.capture {
            CaptureMode::Automatic => self.captured = self.details.amount.minor_units(),
            CaptureMode::Manual => {
                self.expires_at = Some(at.plus_millis(self.details.hold_ms));
            }
        }
    }

    fn conclude_refund(&mut self, sequence: Sequence, outcome: &Outcome) {
        let mut refunds = self.refunds.iter_mut();
        let Some(refund) = refunds.find(|refund| refund.id.sequence == sequence) else {
            return;
        };
        let (was, amount) = (refund.standing, refund.amount.minor_units());
        refund.standing = outcome.standing();
        refund.failure = outcome.failure();
        if was == Standing::Succeeded {
            self.refunded -= amount;
        }
        if refund.standing == Standing::Succeeded {
            self.refunded += amount;
        }
        self.status = match self.refunded {
            0 => Status::Completed,
            refunded if refunded < self.captured => Status::PartiallyRefunded,
            _ => Status::Refunded,
        };
    }

    fn end_hold(&mut self, status: Status) {
        self.status = status;
        self.expires_at = None;
    }

    /// A person has seen to what was noted.
    pub(super) fn settle_notes(&mut self) {
        self.notes.iter_mut().for_each(|noted| noted.settled = true);
    }

    pub(super) fn take_note(&mut self, note: &Note, at: Timestamp) {
        let reviewed = matches!(note, Note::Reviewed { .. });
        if reviewed {
            self.settle_notes();
        }
        self.notes.push(Noted { note: note.clone(), at, settled: reviewed });
    }
}
