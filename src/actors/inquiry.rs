//! Finds out what became of attempts that are out: by the same call under the same key as long as the provider does
//! that at most once, by what it has on record after that, and by a person if it can't say.
//!
//! The calls are made here and not by the payment's actor, which goes on serving its clients; it books what is found.

use super::{
    Engine, Unavailable,
    attempts::{Verdict, call_of, judge},
    payment::{Heard, NotPerformed, Perform, Wish},
};
use crate::{
    domain::{
        event::Evidence,
        id::PaymentId,
        payment::{Attempt, Payment},
    },
    provider::Answer,
};
use std::{sync::Arc, time::Duration};

/// Who asks providers again, in a payment's history.
pub const INQUIRY: &str = "system/inquiry";

/// Asks about everything of a payment that is out, and has the payment's actor book what is found.
pub(super) async fn inquire(engine: &Arc<Engine>, id: PaymentId) -> Result<(), Unavailable> {
    let Some(payment) = engine.books.read().history(id).map(|history| history.payment()) else {
        return Ok(());
    };
    for attempt in payment.out() {
        let heard = if attempt.is_booked {
            find_out(engine, &payment, attempt).await
        } else {
            look_up(engine, &payment, attempt).await
        };
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
        return look_up(engine, payment, attempt).await;
    };
    let age = Duration::from_millis(engine.clock.now().millis_since(attempt.created_at));
    if age >= line.terms().repeats_for() {
        return look_up(engine, payment, attempt).await;
    }
    let call = call_of(payment, attempt);
    let answer = {
        let _place = match line.as_outside() {
            Some(outside) => outside.place().await,
            None => None,
        };
        line.ask(&call).await
    };
    let evidence = Evidence::LateReply;
    let repeated = Heard { attempt: attempt.sequence, answer, evidence, is_last_word: false };
    let is_known = |answer: &Answer| {
        let verdict = judge(attempt, &payment.details, answer.clone(), false);
        matches!(verdict, Verdict::Known(_))
    };
    if is_known(&repeated.answer) || !line.terms().looks_up {
        return repeated;
    }
    // A provider repeats what it answered first, also an error; what it has on record says more. That it has nothing says
    // nothing yet.
    let found = look_up(engine, payment, attempt).await;
    if is_known(&found.answer) { found } else { repeated }
}

async fn look_up(engine: &Engine, payment: &Payment, attempt: &Attempt) -> Heard {
    let heard = |answer, is_last_word| Heard {
        attempt: attempt.sequence,
        answer,
        evidence: Evidence::LookUp,
        is_last_word,
    };
    let Some(line) = engine.lines.to(&attempt.ask.provider) else {
        return heard(Answer::unknown("it is not configured any more"), true);
    };
    let age = Duration::from_millis(engine.clock.now().millis_since(attempt.created_at));
    let is_last_word = age >= line.terms().key_window;
    if !line.terms().looks_up {
        return heard(Answer::unknown("it can't be asked what it has on record"), is_last_word);
    }
    let _place = match line.as_outside() {
        Some(outside) => outside.place().await,
        None => None,
    };
    heard(line.look_up(&call_of(payment, attempt)).await, is_last_word)
}
