//! One request on one screen: admit → claim → perform (decide, record) → settle → answer.
//!
//! It runs as a task of its own: a client that hangs up does not cut it in half.

use crate::{
    actors::{
        Engine, Unavailable,
        idempotency::Claimed,
        payment::{NotPerformed, Perform},
    },
    domain::{id::PaymentId, payment::Payment, refusal::Refusal},
    meters::meters,
    tasks,
    telemetry::traces::span,
};
use std::{sync::Arc, time::Duration};
use tracing::Instrument;

/// How often a request that lost a race to another writer looks again.
const ATTEMPTS_MAX: usize = 3;

/// A command, ready to be carried out.
pub struct Task {
    /// Whose payment.
    pub merchant: Arc<str>,
    /// Which payment; for a new one, its id to be.
    pub payment: PaymentId,
    /// What is wanted, by whom, under which key.
    pub perform: Perform,
    /// How long the body was.
    pub body_bytes: usize,
    /// How long to wait for another request under the same key.
    pub wait_max: Duration,
}

/// What the client is told: the payment as the command left it.
pub struct Done {
    /// The payment.
    pub payment: Payment,
    /// Whether this is the answer of an earlier request under the same key.
    pub replayed: bool,
}

/// Why the command was not carried out. None of these uses up the key.
#[derive(Debug)]
pub enum NotDone {
    /// A rule says no.
    Refused(Refusal),
    /// There is no such payment.
    NoSuchPayment,
    /// The key belongs to another request.
    KeyReused,
    /// Another request works under the key and has not finished in time.
    KeyInProgress,
    /// Not now.
    Unavailable(Unavailable),
}

/// Carries out a command exactly once per key. On return what it answers is durable.
///
/// # Errors
/// [`NotDone`] says why nothing was done; only with [`Unavailable::OutcomeUnknown`] it is not known.
pub async fn run(engine: Arc<Engine>, task: Task) -> Result<Done, NotDone> {
    let _place = engine.admission.enter().map_err(NotDone::Unavailable)?;
    let Task { merchant, payment, perform, body_bytes, wait_max } = task;
    for _ in 0..ATTEMPTS_MAX {
        let claim = match &perform.request {
            None => None,
            Some(request) => {
                let claiming = engine.idempotency.claim(merchant.clone(), request);
                let claiming = claiming.instrument(span!("claim"));
                let claimed = tasks::timeout(wait_max, claiming).await;
                meters().claims.note(word_for(&claimed), 0);
                match claimed {
                    Err(_) => return Err(NotDone::KeyInProgress),
                    Ok(None) => return Err(NotDone::Unavailable(Unavailable::Overloaded)),
                    Ok(Some(Claimed::Mismatch)) => return Err(NotDone::KeyReused),
                    Ok(Some(Claimed::Replay { payment, version })) => {
                        // What became of the payment may stand on disk and not in the books: the answer would be
                        // another one after the next start.
                        engine.books_are_whole().map_err(NotDone::Unavailable)?;
                        return replay(&engine, payment, version);
                    }
                    Ok(Some(Claimed::Fresh(claim))) => Some(claim),
                }
            }
        };
        engine.disk_answers().map_err(NotDone::Unavailable)?;
        let room = engine.admission.reserve(body_bytes, &engine.books);
        let _room = room.map_err(NotDone::Unavailable)?;
        let performed = engine.perform(payment, perform.clone()).await;
        drop(claim);
        match performed {
            Ok(Some(payment)) => {
                return Ok(Done { payment, replayed: false });
            }
            Ok(None) => return Err(NotDone::NoSuchPayment),
            Err(NotPerformed::Refused(refusal)) => return Err(NotDone::Refused(refusal)),
            Err(NotPerformed::Unavailable(why)) => return Err(NotDone::Unavailable(why)),
            Err(NotPerformed::Breach(breach)) => {
                tracing::warn!(%payment, %breach, "another writer was faster; looking again");
            }
        }
    }
    Err(NotDone::Unavailable(Unavailable::Overloaded))
}

/// What became of a claim, as it is counted.
fn word_for<E>(claimed: &Result<Option<Claimed>, E>) -> &'static str {
    match claimed {
        Err(_) => "in_progress",
        Ok(None) => "overloaded",
        Ok(Some(Claimed::Fresh(_))) => "fresh",
        Ok(Some(Claimed::Replay { .. })) => "replay",
        Ok(Some(Claimed::Mismatch)) => "mismatch",
    }
}

fn replay(engine: &Engine, payment: PaymentId, version: u32) -> Result<Done, NotDone> {
    let books = engine.books.read();
    let history = books.history(payment).ok_or(NotDone::NoSuchPayment)?;
    let payment = match seeded!(AnswerNotAsOfThen) {
        true => history.payment(),
        false => history.payment_at(version),
    };
    Ok(Done { payment, replayed: true })
}
