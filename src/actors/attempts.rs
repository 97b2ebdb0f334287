//! The long way to a provider that acts outside, and what becomes of attempts:
//!
//! ```text
//!   admit ──► intent on disk ──► call, under the attempt's id ──► outcome on disk ──► reply
//!   (or 503)  (Initiated,        │                                (Answered)
//!              Asked)            └─ no answer in time: 202, and whatever comes later is heard
//! ```
//!
//! No outcome is guessed. What is not known stays out; the scheduler asks again, the provider may tell by itself, a
//! person may find out. A payment whose provider definitely did nothing, and would not have because of the card, is
//! given to the next one of its route while the client waits.

use super::{
    Engine, Unavailable,
    payment::{By, Finding, Heard, NotPerformed, Perform, Resolution, Wish, Work},
};
use crate::{
    domain::{
        command::Command,
        event::{Action, Decline, Details, Evidence, Note, Outcome, Standing},
        id::{DerivedId, Kind, PaymentId, Sequence},
        payment::{self, Attempt, Payment},
        refusal::Refusal,
        time::Timestamp,
    },
    provider::{Answer, Call, line::Place},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;
use tracing::Instrument;

/// Who books what providers say, in a payment's history.
pub const PROVIDER: &str = "system/provider";

/// What an answer means for its attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is certain what became of it.
    Known(Outcome),
    /// The provider says what can't be: a person has to look.
    Contradicts(String),
    /// It stays open.
    Open(Box<str>),
}

/// What an answer means for an attempt. `alone`: no other call of this attempt was ever made.
pub(super) fn judge(attempt: &Attempt, details: &Details, answer: Answer, alone: bool) -> Verdict {
    let declined = |decline, code: Box<str>| {
        Verdict::Known(match &*code {
            "" => Outcome::Declined(decline),
            _ => Outcome::DeclinedBy { decline, code },
        })
    };
    match answer {
        Answer::Done { reference, amount } => {
            let asked = match attempt.ask.action {
                Action::Void | Action::Expire => {
                    return Verdict::Known(Outcome::Approved { reference });
                }
                Action::Authorize | Action::Capture { .. } | Action::Refund { .. } => {
                    attempt.amount(details).minor_units()
                }
            };
            if amount == asked {
                return Verdict::Known(Outcome::Approved { reference });
            }
            let (operation, currency) = (attempt.operation(details), details.currency);
            Verdict::Contradicts(format!(
                "{} was asked for a {operation} of {asked} {currency} (minor units) and says that it did it \
                 with {amount} ({reference})",
                attempt.ask.provider
            ))
        }
        Answer::Declined { decline, code } => declined(decline, code),
        // A hold that lapses nobody waits for: it is asked for again under the same key.
        Answer::NotProcessed { code } if alone && attempt.ask.action != Action::Expire => {
            declined(Decline::ProviderUnavailable, code)
        }
        Answer::NotProcessed { code } => {
            Verdict::Open(format!("the last call was not processed ({code})").into())
        }
        Answer::Absent => Verdict::Open("the provider has no trace of it".into()),
        Answer::Working => Verdict::Open("the provider is still working on it".into()),
        Answer::Unknown { why, .. } => Verdict::Open(why),
    }
}

/// A call about an attempt of a payment, of which none has been under way for so long.
#[must_use]
pub(super) fn call_of(payment: &Payment, attempt: &Attempt, quiet_for: Duration) -> Call {
    Call {
        attempt: attempt.id(),
        details: payment.details.clone(),
        action: attempt.ask.action,
        reference: payment.provider_reference.clone().unwrap_or_default(),
        began: attempt.created_at,
        quiet_for,
    }
}

impl Work {
    /// Makes the payment, with the first provider of its route that takes new attempts.
    pub(super) async fn submit(
        &mut self,
        details: Arc<Details>,
        by: By,
    ) -> Result<(), NotPerformed> {
        let mut route = self.engine.lines.route(&details).to_vec().into_iter();
        let (first, place) = self.next_of(&mut route)?;
        let mut details = details;
        // Nearly always it is the first one of the route, which the details name already.
        if details.provider != first {
            Arc::make_mut(&mut details).provider = first.clone();
        }
        self.payment.details = details.clone();
        self.payment.provider = first;
        if place.is_none() {
            return self.submit_inside(details, by).await;
        }
        self.record(Command::Initiate(details), by, self.engine.clock.now()).await?;
        self.see_through(place, route).await
    }

    /// A provider that acts nowhere outside: what it says is on record in one entry with the payment.
    async fn submit_inside(&mut self, details: Arc<Details>, by: By) -> Result<(), NotPerformed> {
        let line = self.engine.lines.to(&details.provider);
        let line = line.ok_or(Unavailable::ProviderUnavailable)?;
        let call = Call {
            attempt: DerivedId::new(Kind::Attempt, Timestamp::default(), 0),
            details: details.clone(),
            action: Action::Authorize,
            reference: "".into(),
            began: Timestamp::default(),
            quiet_for: Duration::ZERO,
        };
        let answer = tokio::time::timeout_at(self.until, line.ask(&call)).await;
        // Not before the provider has answered: whoever looked at the books meanwhile saw them without this.
        let now = self.engine.clock.now();
        let outcome = match answer {
            Ok(Answer::Done { reference, .. }) => Some(Outcome::Approved { reference }),
            Ok(Answer::Declined { decline, .. }) => Some(Outcome::Declined(decline)),
            _ => None,
        };
        let command = match outcome {
            Some(outcome) => Command::Submit { details, outcome: Some(outcome) },
            None => Command::Initiate(details),
        };
        self.record(command, by, now).await
    }

    /// A capture, void, expiry or refund.
    pub(super) async fn change(&mut self, change: Command, by: By) -> Result<(), NotPerformed> {
        let now = self.engine.clock.now();
        // What the rules refuse costs the provider nothing.
        payment::decide(&self.payment, change.clone(), now)?;
        let provider = self.payment.provider.clone();
        let Some(line) = self.engine.lines.to(&provider) else {
            tracing::error!(
                payment = %self.payment.details.id, %provider,
                "the provider of a payment is not configured any more: put it back into the configuration"
            );
            if change == Command::Expire {
                let what = format!(
                    "the hold's time is over, and {provider}, which holds it, is not configured any more"
                );
                self.contradicted(Evidence::LookUp, what).await?;
            }
            return Err(Unavailable::ProviderUnavailable.into());
        };
        let Some(outside) = line.as_outside() else {
            return self.record(change, by, now).await;
        };
        let place = outside.admit().map_err(|_| Unavailable::ProviderUnavailable)?;
        self.record(Command::Ask { provider, change: Box::new(change) }, by, now).await?;
        self.see_through(Some(place), Vec::new().into_iter()).await
    }

    /// Calls for the payment's newest attempt, whose intent is on disk, and books what is heard in time; goes on along
    /// the route while that is allowed. The client is told the payment as it stands then.
    async fn see_through(
        &mut self,
        mut place: Option<Place>,
        mut route: std::vec::IntoIter<Arc<str>>,
    ) -> Result<(), NotPerformed> {
        loop {
            let Some(attempt) = self.payment.attempts.last().cloned() else { return Ok(()) };
            let Some(answer) = self.call(&attempt, place.take()).await else {
                return Ok(());
            };
            let outcome = match judge(&attempt, &self.payment.details, answer, true) {
                Verdict::Known(outcome) => outcome,
                Verdict::Contradicts(what) => {
                    return booked(self.contradicted(Evidence::Reply, what).await);
                }
                Verdict::Open(why) => {
                    tracing::warn!(
                        payment = %self.payment.details.id, attempt = %attempt.id(),
                        provider = %attempt.ask.provider, %why,
                        "an outcome is unknown; it is looked for"
                    );
                    return Ok(());
                }
            };
            let (by, evidence) = (By::system(PROVIDER), Evidence::Reply);
            let Some((next, next_place)) = self.elsewhere(&outcome, &mut route) else {
                return booked(self.book(&attempt, outcome, evidence, by).await);
            };
            place = next_place;
            self.engine.calls.forget(attempt.id());
            let attempt = attempt.sequence;
            let reroute = Command::Reroute { attempt, outcome, evidence, next };
            if let Err(error) = self.record(reroute, by, self.engine.clock.now()).await {
                return booked(Err(error));
            }
        }
    }

    /// Who may be asked next, if the outcome lets another one be asked.
    fn elsewhere(
        &self,
        outcome: &Outcome,
        route: &mut std::vec::IntoIter<Arc<str>>,
    ) -> Option<(Arc<str>, Option<Place>)> {
        let failure = outcome.failure()?;
        if !failure.decline.lets_others_try() {
            return None;
        }
        self.next_of(route).ok()
    }

    /// The next provider of the route that takes a new attempt, with the place for it; one that acts nowhere outside needs
    /// none.
    fn next_of(
        &self,
        route: &mut std::vec::IntoIter<Arc<str>>,
    ) -> Result<(Arc<str>, Option<Place>), Unavailable> {
        for name in route {
            let Some(line) = self.engine.lines.to(&name) else { continue };
            match line.as_outside().map(|outside| outside.admit()) {
                None => return Ok((name, None)),
                Some(Ok(place)) => return Ok((name, Some(place))),
                Some(Err(_)) => {}
            }
        }
        Err(Unavailable::ProviderUnavailable)
    }

    /// Makes the call; `None` if it has not been answered in time. It goes on all the same, and its answer is heard later.
    async fn call(&self, attempt: &Attempt, place: Option<Place>) -> Option<Answer> {
        let line = self.engine.lines.to(&attempt.ask.provider)?.clone();
        let (tell, mut told) = oneshot::channel();
        let (engine, payment, attempt) =
            (self.engine.clone(), self.payment.clone(), attempt.clone());
        let calling = async move {
            let answer = engine.calls.ask(&line, &payment, &attempt).await;
            drop(place);
            if let Err(late) = tell.send(answer) {
                hear_late(&engine, payment.details.id, attempt.sequence, late).await;
            }
        };
        actix_rt::spawn(calling.in_current_span());
        match tokio::time::timeout_at(self.until, &mut told).await {
            Ok(answer) => answer.ok(),
            Err(_) => {
                // What was sent before it closes is not lost; what comes later is given back to the sender.
                told.close();
                told.try_recv().ok()
            }
        }
    }

    /// Books what a provider said about an attempt that was out, if it says anything.
    pub(super) async fn hear(&mut self, heard: Heard, by: By) -> Result<(), NotPerformed> {
        let Heard { attempt, answer, evidence, is_last_word } = heard;
        let Some(attempt) = self.payment.attempt(attempt).cloned() else { return Ok(()) };
        if attempt.standing != Standing::Out {
            return match denies(&attempt, &self.payment.details, &answer) {
                Some(what) => self.contradicted(evidence, what).await,
                None => Ok(()),
            };
        }
        let verdict = match answer {
            Answer::Absent if is_last_word => {
                Verdict::Known(Outcome::Declined(Decline::NotProcessed))
            }
            answer => judge(&attempt, &self.payment.details, answer, false),
        };
        match verdict {
            Verdict::Known(outcome) => self.book(&attempt, outcome, evidence, by).await,
            Verdict::Contradicts(what) => self.contradicted(evidence, what).await,
            Verdict::Open(why) if is_last_word => {
                let what = format!(
                    "what became of the {} at {} can't be found out: {why}",
                    attempt.operation(&self.payment.details),
                    attempt.ask.provider
                );
                self.note(Note::Undecided { attempt: attempt.sequence, what: what.into() }).await
            }
            Verdict::Open(why) => {
                tracing::debug!(payment = %self.payment.details.id, attempt = %attempt.id(), %why, "still unknown");
                Ok(())
            }
        }
    }

    /// Books what became of an attempt.
    pub(super) async fn book(
        &mut self,
        attempt: &Attempt,
        outcome: Outcome,
        evidence: Evidence,
        by: By,
    ) -> Result<(), NotPerformed> {
        tracing::info!(
            payment = %self.payment.details.id, attempt = %attempt.id(),
            operation = attempt.operation(&self.payment.details),
            outcome = outcome.standing().name(), evidence = evidence.name(),
            "what became of an attempt is known"
        );
        let not_let_go = not_let_go(attempt, &outcome);
        let seen = evidence.clone();
        let answer = match attempt.is_booked {
            true => Command::Answer { attempt: attempt.sequence, outcome, evidence },
            false => Command::Settle(outcome),
        };
        self.record(answer, by, self.engine.clock.now()).await?;
        self.engine.calls.forget(attempt.id());
        match not_let_go {
            // Asking again and again would not help.
            Some(what) => self.contradicted(seen, what).await,
            None => Ok(()),
        }
    }

    /// Puts on record that something says what can't be.
    pub(super) async fn contradicted(
        &mut self,
        evidence: Evidence,
        what: impl Into<Box<str>>,
    ) -> Result<(), NotPerformed> {
        self.note(Note::Contradicted { evidence, what: what.into() }).await
    }

    /// Puts on record what was found out, unless it is there already.
    pub(super) async fn note(&mut self, note: Note) -> Result<(), NotPerformed> {
        let known = self.payment.notes.iter().any(|noted| is_same(&noted.note, &note));
        if known {
            return Ok(());
        }
        let (id, what) = (self.payment.details.id, note.what().to_owned());
        match self.record(Command::Note(note), By::system(PROVIDER), self.engine.clock.now()).await
        {
            Err(NotPerformed::Refused(refusal)) => {
                tracing::error!(payment = %id, %refusal, what, "a payment needs a person to look at it");
                Ok(())
            }
            result => result,
        }
    }

    /// Books what a person found out.
    pub(super) async fn resolve(
        &mut self,
        resolution: Resolution,
        by: By,
    ) -> Result<(), NotPerformed> {
        let Resolution { attempt: named, finding, reason } = resolution;
        let now = self.engine.clock.now();
        if matches!(finding, Finding::Dismissed) {
            if self.payment.unsettled_notes().next().is_none() {
                return Err(Refusal::NothingToResolve.into());
            }
            // What is in doubt is not right as it stands.
            if let Some(out) = self.payment.out().next() {
                let operation = out.operation(&self.payment.details);
                return Err(Refusal::AnswerOut { operation }.into());
            }
            return self.record(Command::Note(Note::Reviewed { what: reason }), by, now).await;
        }
        let attempt = match named {
            Some(id) => self.payment.attempt(id.sequence).filter(|attempt| attempt.id() == id),
            None => {
                let mut out = self.payment.out();
                let first = out.next();
                let more = out.count();
                if more > 0 {
                    return Err(Refusal::SeveralOut { count: more + 1 }.into());
                }
                first
            }
        };
        let attempt = attempt.ok_or(Refusal::NothingToResolve)?;
        if attempt.standing == Standing::Out && self.engine.calls.is_under_way(attempt.id()) {
            // Whatever was found, the call may still take effect.
            let operation = attempt.operation(&self.payment.details);
            return Err(Refusal::AnswerOut { operation }.into());
        }
        let outcome = match finding {
            Finding::Done(reference) => {
                let known =
                    || attempt.reference.clone().or(self.payment.provider_reference.clone());
                Outcome::Approved { reference: reference.or_else(known).unwrap_or_default() }
            }
            Finding::NotDone | Finding::Dismissed => Outcome::Declined(Decline::ResolvedByHand),
        };
        let (attempt, evidence) = (attempt.sequence, Evidence::Person(reason));
        self.record(Command::Answer { attempt, outcome, evidence }, by, now).await
    }
}

/// What an answer says against an attempt whose outcome is on record, if it does.
fn denies(attempt: &Attempt, details: &Details, answer: &Answer) -> Option<String> {
    let (operation, provider) = (attempt.operation(details), &attempt.ask.provider);
    let moves = !matches!(attempt.ask.action, Action::Void | Action::Expire);
    match (attempt.standing, answer) {
        (Standing::Failed, Answer::Done { reference, amount }) => Some(format!(
            "{provider} says that it did the {operation} with {amount} {} (minor units, {reference}); here it failed",
            details.currency
        )),
        (Standing::Succeeded, Answer::Done { reference, amount }) => {
            let asked = attempt.amount(details).minor_units();
            let known = attempt.reference.as_deref().unwrap_or_default();
            let other = !known.is_empty() && *known != **reference;
            (moves && (other || *amount != asked)).then(|| {
                format!(
                    "{provider} says that it did the {operation} as {reference} with {amount} {} (minor units); here it is \
                     {known} with {asked}",
                    details.currency
                )
            })
        }
        (Standing::Succeeded, Answer::Declined { .. }) => {
            Some(format!("{provider} says that it did not do the {operation}; here it succeeded"))
        }
        _ => None,
    }
}

/// What is wrong if a provider says no to letting go of a hold: it took the money, or keeps it.
fn not_let_go(attempt: &Attempt, outcome: &Outcome) -> Option<&'static str> {
    let decline = outcome.failure()?.decline;
    match attempt.ask.action {
        Action::Expire => Some("the hold's time is over, and the provider does not let go of it"),
        Action::Void if decline == Decline::AuthorizationGone => Some(
            "the provider was to let go of the hold, and has it no longer: it may have taken the money",
        ),
        _ => None,
    }
}

/// Whether two notes say the same: a provider may tell one thing several times, and an attempt stays undecided.
fn is_same(one: &Note, other: &Note) -> bool {
    match (one, other) {
        (Note::Undecided { attempt: one, .. }, Note::Undecided { attempt: other, .. }) => {
            one == other
        }
        (
            Note::Contradicted { evidence: Evidence::Webhook(one), .. },
            Note::Contradicted { evidence: Evidence::Webhook(other), .. },
        ) if one == other => true,
        (Note::Contradicted { what: one, .. }, Note::Contradicted { what: other, .. }) => {
            one == other
        }
        _ => false,
    }
}

/// What the client is told if an answer could not be booked: the payment is on the books without it, which is true, and
/// it is asked for again.
fn booked(result: Result<(), NotPerformed>) -> Result<(), NotPerformed> {
    match result {
        Err(NotPerformed::Unavailable(Unavailable::StorageFull | Unavailable::Overloaded)) => {
            tracing::warn!("there was no room to book a provider's answer; it is asked for again");
            Ok(())
        }
        // The provider has been asked: to say that nothing was done would be a guess.
        Err(NotPerformed::Unavailable(_)) => Err(Unavailable::OutcomeUnknown.into()),
        result => result,
    }
}

/// Books an answer that nobody waited for any more. If that does not work now, the scheduler asks again.
async fn hear_late(engine: &Arc<Engine>, id: PaymentId, attempt: Sequence, answer: Answer) {
    let heard = Heard { attempt, answer, evidence: Evidence::LateReply, is_last_word: false };
    let done = engine.perform(id, Perform::by_system(Wish::Hear(heard), PROVIDER)).await;
    if let Err(error) = done {
        tracing::warn!(payment = %id, ?error, "a late answer was not booked; it is asked for again");
    }
}
