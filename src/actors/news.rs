//! What providers tell by themselves: it may decide an attempt that is out, say what is on the books already, or
//! contradict them. In any order, any number of times.

use super::{
    attempts::{Verdict, judge},
    payment::{By, NotPerformed, Work},
};
use crate::{
    domain::{
        event::{Action, CaptureMode, Evidence, Outcome, Standing},
        id::DerivedId,
        payment::{Attempt, Payment, Status},
    },
    provider::{ChargeState, Fact, News, RefundState, answer_of, answer_of_refund},
};

/// Books what the news decides or contradicts. On return it is durable, or was on the books before.
pub(super) async fn heed(
    work: &mut Work,
    provider: &str,
    news: News,
    by: By,
) -> Result<(), NotPerformed> {
    let evidence = Evidence::Webhook(news.event);
    let currency = work.payment.details.currency;
    if let Some(other) = news.currency.filter(|other| *other != currency) {
        let what = format!("the provider tells of {other}; the payment is in {currency}");
        return work.contradicted(evidence, what).await;
    }
    if let Some((attempt, outcome)) = decided(&work.payment, provider, &news.fact) {
        return work.book(&attempt, outcome, evidence, by).await;
    }
    match contradiction(&work.payment, provider, &news.fact) {
        Some(what) => work.contradicted(evidence, what).await,
        None => Ok(()),
    }
}

/// The attempt that a fact decides, and how.
fn decided(payment: &Payment, provider: &str, fact: &Fact) -> Option<(Attempt, Outcome)> {
    let verdict = |attempt: &Attempt, answer| match judge(attempt, &payment.details, answer, false)
    {
        Verdict::Known(outcome) => Some((attempt.clone(), outcome)),
        Verdict::Contradicts(_) | Verdict::Open(_) => None,
    };
    match fact {
        Fact::Charge { attempt: named, reference, state } => {
            let manual = payment.details.capture == CaptureMode::Manual;
            payment.out().filter(|it| *it.ask.provider == *provider).find_map(|attempt| {
                let is_about = match attempt.ask.action {
                    Action::Authorize => *named == Some(attempt.id()),
                    Action::Capture { .. } | Action::Void | Action::Expire => {
                        payment.provider_reference.as_deref() == Some(reference)
                    }
                    Action::Refund { .. } => false,
                };
                let answer = || answer_of(attempt.ask.action, manual, reference, state);
                is_about.then(answer).and_then(|answer| verdict(attempt, answer))
            })
        }
        Fact::Refund { attempt: named, reference, amount, state } => {
            let attempt = named.and_then(|named| find(payment, provider, named))?;
            if attempt.amount(&payment.details).minor_units() != *amount {
                return None;
            }
            let decides = match attempt.standing {
                Standing::Out => true,
                // A bank may send it back.
                Standing::Succeeded => matches!(state, RefundState::Failed { .. }),
                Standing::Failed => false,
            };
            if decides {
                verdict(attempt, answer_of_refund(reference, *amount, state))
            } else {
                None
            }
        }
    }
}

fn find<'a>(payment: &'a Payment, provider: &str, id: DerivedId) -> Option<&'a Attempt> {
    let attempt = payment.attempt(id.sequence)?;
    (attempt.id() == id && *attempt.ask.provider == *provider).then_some(attempt)
}

/// What a fact that decides nothing says against the books, if it does.
fn contradiction(payment: &Payment, provider: &str, fact: &Fact) -> Option<String> {
    let currency = payment.details.currency;
    match fact {
        Fact::Charge { attempt, reference, state } => {
            let attempt = match attempt {
                Some(named) => find(payment, provider, *named),
                None => payment.attempts.iter().find(|attempt| {
                    attempt.ask.action == Action::Authorize
                        && *attempt.ask.provider == *provider
                        && attempt.reference.as_deref() == Some(reference)
                }),
            };
            let says = match state {
                ChargeState::Working => return None,
                ChargeState::Held(amount) => format!("holds {amount} {currency} (minor units)"),
                ChargeState::Taken(amount) => format!("took {amount} {currency} (minor units)"),
                ChargeState::Released => "holds nothing any longer and took nothing".to_owned(),
                ChargeState::Declined { .. } => "declined and holds nothing".to_owned(),
            };
            let Some(attempt) = attempt else {
                return Some(format!("{provider} {says} ({reference}) that nobody asked for here"));
            };
            let agrees = charge_agrees(payment, attempt, state);
            let status = payment.status.name();
            (!agrees)
                .then(|| format!("{provider} {says} ({reference}); here the payment is {status}"))
        }
        Fact::Refund { attempt, reference, amount, state } => {
            let says = match state {
                RefundState::Working => "is giving back",
                RefundState::Done => "gave back",
                RefundState::Failed { .. } => "failed to give back",
            };
            let says = format!("{provider} {says} {amount} {currency} (minor units, {reference})");
            let Some(attempt) = attempt.and_then(|named| find(payment, provider, named)) else {
                return Some(format!("{says}, which nobody asked for here"));
            };
            if attempt.amount(&payment.details).minor_units() != *amount {
                return Some(format!("{says}, another amount than was asked for"));
            }
            let denied = attempt.standing == Standing::Failed && *state == RefundState::Done;
            denied.then(|| format!("{says}; here that refund failed"))
        }
    }
}

/// Whether a charge may stand so at the provider while the payment stands as it does. What was true earlier agrees, since
/// news may come late.
fn charge_agrees(payment: &Payment, attempt: &Attempt, state: &ChargeState) -> bool {
    let manual = payment.details.capture == CaptureMode::Manual;
    let amount = payment.details.amount.minor_units();
    let about_hold_out = payment
        .out()
        .any(|attempt| !matches!(attempt.ask.action, Action::Authorize | Action::Refund { .. }));
    match (attempt.standing, state) {
        (_, ChargeState::Working) => true,
        (Standing::Out, ChargeState::Held(held)) => manual && *held == amount,
        (Standing::Out, ChargeState::Taken(taken)) => !manual && *taken == amount,
        (Standing::Out, ChargeState::Released | ChargeState::Declined { .. }) => true,
        (Standing::Failed, ChargeState::Held(_) | ChargeState::Taken(_)) => false,
        (Standing::Failed, ChargeState::Released | ChargeState::Declined { .. }) => true,
        (Standing::Succeeded, ChargeState::Declined { .. }) => false,
        (Standing::Succeeded, ChargeState::Held(held)) => manual && *held == amount,
        (Standing::Succeeded, ChargeState::Taken(taken)) if manual => {
            about_hold_out || payment.captured == *taken
        }
        (Standing::Succeeded, ChargeState::Taken(taken)) => *taken == amount,
        (Standing::Succeeded, ChargeState::Released) => {
            about_hold_out || matches!(payment.status, Status::Voided | Status::Expired)
        }
    }
}
