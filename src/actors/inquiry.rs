//! Finds out what became of attempts that are out: by what the provider has on record, by the same call under the same
//! key as long as the provider does that at most once, and by a person if it can't say.
//!
//! The provider is asked what it has before it is called again: what exists there already is never asked for anew. The
//! calls are made here and not by the payment's actor, which goes on serving its clients; it books what is found.

use super::{
    Engine, Unavailable,
    attempts::{Verdict, call_of, judge},
    payment::{Heard, NotPerformed, Perform, Wish},
};
use crate::{
    domain::{
        event::Evidence,
        id::{PaymentId, Sequence},
        payment::{Attempt, Payment},
    },
    provider::{Answer, Line, line::Place},
};
use std::sync::Arc;

/// Who asks providers again, in a payment's history.
pub const INQUIRY: &str = "system/inquiry";

/// Asks about everything of a payment that was out after entry `seen`, and has the payment's actor book what is found.
/// What has begun since is not asked about: the call of whoever began it may be on its way.
pub(super) async fn inquire(
    engine: &Arc<Engine>,
    id: PaymentId,
    seen: Sequence,
) -> Result<(), Unavailable> {
    let Some(payment) = engine.books.read().history(id).map(|history| history.payment()) else {
        return Ok(());
    };
    for attempt in payment.out().filter(|attempt| attempt.sequence <= seen) {
        let heard = find_out(engine, &payment, attempt).await;
        match engine.perform(id, Perform::by_system(Wish::Hear(heard), INQUIRY)).await {
            Ok(Some(payment)) => {
                let status = payment.status.name();
                tracing::debug!(payment = %id, status, by = INQUIRY, "payment looked after");
            }
            Ok(None) => tracing::error!(payment = %id, "a payment in doubt is not on the books"),
            Err(NotPerformed::Refused(refusal)) => {
                tracing::debug!(payment = %id, %refusal, "nothing left to do");
            }
            Err(NotPerformed::Breach(breach)) => {
                tracing::warn!(payment = %id, %breach, "another writer was faster; looked at again");
            }
            Err(NotPerformed::Unavailable(unavailable)) => return Err(unavailable),
        }
    }
    Ok(())
}

async fn find_out(engine: &Engine, payment: &Payment, attempt: &Attempt) -> Heard {
    let Some(line) = engine.lines.to(&attempt.ask.provider) else {
        let answer = Answer::unknown("it is not configured any more");
        return heard(attempt, answer, Evidence::LookUp, true);
    };
    let inquiry = Inquiry { engine, line, payment, attempt };
    let found = inquiry.look_up().await;
    if inquiry.says_enough(&found.answer) {
        return found;
    }
    let Some(answer) = inquiry.repeat().await else { return found };
    let repeated = heard(attempt, answer, Evidence::LateReply, false);
    match &repeated.answer {
        // A refusal may be of this very call, and an error what the first one was answered. What is on record says more.
        Answer::Declined { .. } if line.terms().looks_up => {
            let found = inquiry.look_up().await;
            match &found.answer {
                Answer::Absent => repeated,
                _ => found,
            }
        }
        Answer::Unknown { .. } if line.terms().looks_up => {
            let found = inquiry.look_up().await;
            if inquiry.says_enough(&found.answer) { found } else { repeated }
        }
        _ => repeated,
    }
}

fn heard(attempt: &Attempt, answer: Answer, evidence: Evidence, is_last_word: bool) -> Heard {
    Heard { attempt: attempt.sequence, answer, evidence, is_last_word }
}

/// What is asked about one attempt.
struct Inquiry<'a> {
    engine: &'a Engine,
    line: &'a Line,
    payment: &'a Payment,
    attempt: &'a Attempt,
}

impl Inquiry<'_> {
    async fn place(&self) -> Option<Place> {
        match self.line.as_outside() {
            Some(outside) => outside.place().await,
            None => None,
        }
    }

    async fn look_up(&self) -> Heard {
        let Self { engine, line, payment, attempt } = *self;
        let _place = self.place().await;
        let is_over = engine.calls.is_over(attempt, line.terms());
        let answer = if line.terms().looks_up {
            let quiet_for = engine.calls.quiet_for(attempt.id());
            line.look_up(&call_of(payment, attempt, quiet_for)).await
        } else {
            Answer::unknown("it can't be asked what it has on record")
        };
        heard(attempt, answer, Evidence::LookUp, is_over)
    }

    /// Calls for it again under its key; `None` if the provider might do it a second time.
    async fn repeat(&self) -> Option<Answer> {
        let Self { engine, line, payment, attempt } = *self;
        let _place = self.place().await;
        // What failed to be written may stand on disk all the same, and say that the attempt failed and another one was
        // begun in its place: nothing more is asked for before a start has told.
        if engine.books_are_whole().is_err() {
            return None;
        }
        // Asked after the place was waited for.
        if !attempt.is_booked || !engine.calls.may_repeat(attempt, line.terms()) {
            return None;
        }
        if seeded!(RepeatedUnderNewKey) {
            let other = Attempt { sequence: attempt.sequence | (1 << 40), ..attempt.clone() };
            return Some(engine.calls.ask(line, payment, &other).await);
        }
        Some(engine.calls.ask(line, payment, attempt).await)
    }

    /// Whether the answer leaves nothing to ask for: it is certain, it is for a person, or the provider is at it.
    fn says_enough(&self, answer: &Answer) -> bool {
        let verdict = judge(self.attempt, &self.payment.details, answer.clone(), false);
        *answer == Answer::Working || !matches!(verdict, Verdict::Open(_))
    }
}
