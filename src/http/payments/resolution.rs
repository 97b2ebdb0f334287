//! `/api/payments/{id}/resolve`: what a person found out about what is in doubt or in review.

use super::{
    super::{Door, body::Body, headers, wire::PaymentBody},
    Handled, NAME_CHARACTERS_MAX, REASON_CHARACTERS_MAX, change,
};
use crate::{
    actors::payment::{Finding, Resolution, Wish},
    domain::id::{DerivedId, Kind},
    wire::requests::{IdempotencyKey, IdempotencyKeyInQuery, NewResolution, OfPayment},
};
use actix_web::{HttpRequest, web};

/// Says what became of what is in doubt or in review (admin).
///
/// What a person found out at the provider, with the reason to believe it. The books follow it, so it is the last resort.
#[utoipa::path(post, path = "/api/payments/{id}/resolve", tag = "Payments", operation_id = "resolvePayment",
    params(OfPayment, IdempotencyKey, IdempotencyKeyInQuery), request_body = NewResolution,
    responses((status = 200, description = "The payment, with what was found out.", body = PaymentBody)),
    security(("adminKey" = [])),
    extensions(("x-problems" = json!(["invalid_transition", "operation_pending", "too_much_on_record", "nothing_to_resolve",
        "already_answered", "attempt_ambiguous", "still_authorized"]))))]
pub(in crate::http) async fn resolve(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    headers::admin(&request, &door)?;
    change(&request, payload, &door, |body| Wish::Resolve(read_resolution(body))).await
}

pub(in crate::http) fn read_resolution(body: &mut Body) -> Resolution {
    let reference = body.text("providerReference", NAME_CHARACTERS_MAX);
    let allowed = "succeeded, failed or dismissed";
    let finding = body.read("outcome", NAME_CHARACTERS_MAX, allowed, |text| match text {
        "succeeded" => Some(Finding::Done(reference.map(String::into_boxed_str))),
        "failed" => Some(Finding::NotDone),
        "dismissed" => Some(Finding::Dismissed),
        _ => None,
    });
    // With a fault the request goes no further.
    let finding = body.require("outcome", finding).unwrap_or(Finding::Dismissed);
    let attempt =
        body.read("attemptId", NAME_CHARACTERS_MAX, "the id of an attempt, att_…", |text| {
            DerivedId::parse(text).filter(|id| id.kind == Kind::Attempt)
        });
    let reason = body.free_text("reason", REASON_CHARACTERS_MAX).filter(|text| !text.is_empty());
    let reason = body.require("reason", reason).unwrap_or_default().into_boxed_str();
    Resolution { attempt, finding, reason }
}
