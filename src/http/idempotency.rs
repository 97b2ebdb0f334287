//! `/api/idempotency/{key}`: what became of a request.

use super::{
    Door, headers,
    payments::status_of_answer,
    query::Query,
    reply::{Fault, Problem},
    wire::{Text, Time},
};
use crate::{
    actors::idempotency::ScopedKey,
    credentials::Principal,
    domain::{
        access::{self, Scope},
        id::PaymentId,
    },
    wire::{
        requests::{OfIdempotencyKey, OfMerchant},
        schema::{KeyOperation, KeyProgress, PaymentIdText, TimeText},
    },
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// What became of the request under an idempotency key.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = KeyState)]
struct KeyBody<'a> {
    key: &'a str,
    #[schema(value_type = KeyProgress)]
    state: &'static str,
    #[schema(value_type = Option<PaymentIdText>, required)]
    payment_id: Option<Text<PaymentId>>,
    #[schema(value_type = KeyOperation)]
    operation: &'static str,
    #[schema(required, minimum = 200, maximum = 499)]
    /// Of the saved answer.
    status: Option<u16>,
    #[schema(value_type = TimeText)]
    created_at: Time,
}

/// Tells what became of the request under a key.
///
/// 404 proves that nothing was done under it.
#[utoipa::path(get, path = "/api/idempotency/{key}", tag = "Idempotency", operation_id = "readIdempotencyKey",
    params(OfIdempotencyKey, OfMerchant),
    responses((status = 200, description = "What became of it.", body = KeyBody)),
    extensions(("x-problems" = json!(["merchant_forbidden", "idempotency_key_invalid", "idempotency_key_not_found"]))))]
pub(super) async fn read(
    request: HttpRequest,
    key: web::Path<String>,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    let principal = headers::holder(&request, &door, Scope::PaymentsRead)?;
    let mut query = Query::of(&request);
    let named: Option<Arc<str>> = query.text("merchantId").map(Arc::from);
    query.finish()?;
    let merchant: Arc<str> = match (principal, named) {
        (Principal::Merchant { id, .. }, Some(other)) if *other != *access::name_outside(&id) => {
            return Err(Problem::other_merchant());
        }
        (Principal::Merchant { id, .. }, _) => id,
        (Principal::Admin { .. }, Some(merchant)) => merchant,
        (Principal::Admin { .. }, None) => {
            let fault = Fault::new("merchantId", "is required: keys are a merchant's own");
            return Err(Problem::invalid(vec![fault]));
        }
    };
    let key = headers::read_key(&key)?;
    let core = door.core()?;
    let scoped = ScopedKey { merchant: merchant.clone(), key: key.clone() };
    // First what runs, then what is done: in between it can only move from the one to the other.
    let running = match &core.writing {
        Some(writing) => writing.engine.idempotency.running(scoped).await,
        None => None,
    };
    let now = core.clock.now();
    let books = core.books.read();
    let body = match (books.answered(&merchant, &key, core.retention, now), running) {
        (Some(answered), _) => {
            let payment = answered.history.payment_at(answered.version);
            let operation = answered.request.operation;
            KeyBody {
                key: key.as_str(),
                state: "completed",
                payment_id: Some(Text(payment.details.id)),
                operation: operation.name(),
                status: Some(status_of_answer(Some(operation), &payment).as_u16()),
                created_at: Time(answered.at),
            }
        }
        (None, Some((operation, since))) => KeyBody {
            key: key.as_str(),
            state: "in_progress",
            payment_id: None,
            operation: operation.name(),
            status: None,
            created_at: Time(since),
        },
        (None, None) => return Err(Problem::key_unknown()),
    };
    Ok(HttpResponse::Ok().json(body))
}
