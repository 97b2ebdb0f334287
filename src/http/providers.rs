//! `/api/providers/{name}/webhook`: what providers tell by themselves. No API key opens it; the provider's signature does.

use super::{Door, body, query::Query, reply::Problem};
use crate::{
    actors::{
        Engine, Unavailable, attempts,
        payment::{NotPerformed, Perform, Wish},
    },
    domain::{entry::Stray, id::PaymentId},
    provider::{ChargeState, Fact, Message, News, NotRead, RefundState},
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// The headers that providers sign in.
const SIGNATURES: [&str; 1] = ["stripe-signature"];

/// All that the message says is on record.
#[derive(Serialize, ToSchema)]
#[schema(as = Received)]
struct ReceivedBody {
    received: bool,
}

/// Takes what a provider tells by itself.
///
/// No API key opens it, the provider's signature does. 200 when all that the message says is on record, or was before; whatever else is answered, the provider sends it again.
#[utoipa::path(post, path = "/api/providers/{name}/webhook", tag = "Providers", operation_id = "receiveProviderEvent",
    params(("name" = String, Path, description = "The provider's name in the configuration.", pattern = "^[A-Za-z0-9_-]{1,64}$", example = "stripe"),
        ("Stripe-Signature" = Option<String>, Header, description = "What proves it, at a provider of the kind `stripe`.")),
    request_body(content = Object, description = "The provider's own message."), security(()),
    responses((status = 200, description = "On record.", body = ReceivedBody)),
    extensions(("x-problems" = json!(["provider_not_found", "signature_invalid", "message_malformed", "provider_unavailable"]))))]
pub(super) async fn webhook(
    request: HttpRequest,
    name: web::Path<String>,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    let core = door.core()?;
    let engine = &core.writing()?.engine;
    Query::of(&request).finish()?;
    let line = engine.lines.to(&name).ok_or_else(Problem::no_such_provider)?.clone();
    let bytes = body::receive(&request, payload, door.limits).await?;
    let signature = SIGNATURES.iter().find_map(|name| request.headers().get(*name));
    let signature = signature.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let message =
        Message { signature: signature.into(), body: bytes.as_ref().into(), at: core.clock.now() };
    let news = line.read(message).await.inspect_err(|not_read| {
        if let NotRead::Malformed(why) = not_read {
            // It is signed: the provider says something, and nobody here knows what.
            let detail = format!(
                "a signed message of {name} cannot be read ({why}), and {name} will send it again for a while: look \
                 there at what it says, and report it"
            );
            engine.alarms.raise("provider.unreadable", &detail);
        }
    })?;
    let _place = engine.admission.enter()?;
    for news in news {
        take(engine, &name, news).await?;
    }
    Ok(HttpResponse::Ok().json(ReceivedBody { received: true }))
}

/// Has news booked, or put on record if no payment is about it.
async fn take(engine: &Arc<Engine>, provider: &str, news: News) -> Result<(), Problem> {
    let _room = engine.admission.reserve(0, &engine.books)?;
    let Some(payment) = payment_of(engine, provider, &news) else {
        return put_on_record(engine, provider, &news).await;
    };
    let wish = Wish::Heed { provider: provider.into(), news };
    let perform = Perform::by_system(wish, attempts::PROVIDER);
    match engine.perform(payment, perform).await {
        Ok(_) => Ok(()),
        Err(NotPerformed::Refused(refusal)) => {
            tracing::warn!(%payment, %refusal, provider, "a provider's event changes nothing");
            Ok(())
        }
        Err(NotPerformed::Unavailable(unavailable)) => Err(unavailable.into()),
        // Another writer was faster: the provider sends it again.
        Err(NotPerformed::Breach(_)) => Err(Unavailable::Overloaded.into()),
    }
}

/// The payment that it names, if this provider was ever asked for something about that one: none decides what was asked
/// of another.
fn payment_of(engine: &Engine, provider: &str, news: &News) -> Option<PaymentId> {
    let id = news.payment?;
    let payment = engine.books.read().history(id)?.payment();
    let asked = payment.attempts.iter().any(|attempt| *attempt.ask.provider == *provider);
    asked.then_some(id)
}

/// Whether money stands so at the provider, or has moved.
fn is_about_money(fact: &Fact) -> bool {
    match fact {
        Fact::Charge { state, .. } => match state {
            ChargeState::Held(_) | ChargeState::Taken(_) => true,
            ChargeState::Working | ChargeState::Released | ChargeState::Declined { .. } => false,
        },
        Fact::Refund { state, .. } => match state {
            RefundState::Done => true,
            RefundState::Working | RefundState::Failed { .. } => false,
        },
    }
}

/// Money that no payment is about is nobody's to book, and must not be forgotten.
async fn put_on_record(engine: &Engine, provider: &str, news: &News) -> Result<(), Problem> {
    if !is_about_money(&news.fact) {
        tracing::info!(
            provider, event = %news.event, fact = ?news.fact,
            "an event that no payment here is about, and that moved no money"
        );
        return Ok(());
    }
    let stray = Stray {
        provider: provider.into(),
        event: news.event.clone(),
        reference: match &news.fact {
            Fact::Charge { reference, .. } | Fact::Refund { reference, .. } => reference.clone(),
        },
        what: format!("{:?} of payment {:?}", news.fact, news.payment).into(),
    };
    if engine.books.read().knows_stray(&stray) {
        return Ok(());
    }
    let detail = format!(
        "{provider} tells of {} (event {}), which no payment here is about: {}. Find out at the provider whose money it is",
        stray.reference, stray.event, stray.what
    );
    engine.ledger.record_stray(stray, engine.clock.now()).await?;
    engine.alarms.raise("provider.stray", &detail);
    Ok(())
}
