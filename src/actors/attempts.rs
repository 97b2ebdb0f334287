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

mod verdict;

pub(super) use verdict::{Verdict, judge};

use self::verdict::{denies, is_same, not_let_go};
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
    tasks,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;
use tracing::Instrument;

/// Who books what providers say, in a payment's history.
pub const PROVIDER: &str = "system/provider";

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
        if place.is_none() || seeded!(OutcomeBeforeIntent) {
            return self.submit_inside(details, by).await;
        }
        self.record(Command::Initiate(details), by, self.engine.clock.now()).await?;
        self.see_through(place, route).await
    }

    /// A provider that acts nowhere outside: what it says is on record in one entry with the payment.
    async fn submit_inside(&mut self, details: Arc<Details>, by: By) -> Result<(), NotPerformed> {
        let line = self.engine.lines.to(&details.provider);
        let line = line.ok_or(Unavailable::ProviderUnavailable)?;
        // Nobody asks for it by name.
        let own = details.id.uuid().as_u64_pair().1 % (1 << 48);
        let named = if seeded!(OutcomeBeforeIntent) { own } else { 0 };
        let call = Call {
            attempt: DerivedId::new(Kind::Attempt, Timestamp::default(), named),
            details: details.clone(),
            action: Action::Authorize,
            reference: "".into(),
            began: Timestamp::default(),
            quiet_for: Duration::ZERO,
        };
        let answer = tasks::timeout_at(self.until, line.ask(&call)).await;
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
        tasks::spawn(calling.in_current_span());
        match tasks::timeout_at(self.until, &mut told).await {
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
    if seeded!(LateAnswerDropped) {
        return;
    }
    let heard = Heard { attempt, answer, evidence: Evidence::LateReply, is_last_word: false };
    let done = engine.perform(id, Perform::by_system(Wish::Hear(heard), PROVIDER)).await;
    if let Err(error) = done {
        tracing::warn!(payment = %id, ?error, "a late answer was not booked; it is asked for again");
    }
}
