//! `/api/payments`: make, move, read and list payments.

pub(super) mod audit;
pub(super) mod resolution;

use super::{
    Core, Door,
    body::{self, Body},
    headers,
    query::Query,
    reply::Problem,
    wire::{PageBody, PaymentBody},
};
use crate::{
    actors::{
        Unavailable,
        payment::{Perform, Wish},
    },
    credentials::Principal,
    domain::{
        access::{self, Scope},
        books::{Filter, History},
        event::{Action, CaptureMode, Details, Standing},
        id::PaymentId,
        idempotency::{Fingerprint, Key, Operation, Request},
        money::Currency,
        payment::{Payment, Status},
    },
    pipeline::{self, Done, Task},
    wire::requests::{
        AsOf, IdempotencyKey, IdempotencyKeyInQuery, Limit, NewCapture, NewPayment, NewRefund,
        NewVoid, OfMerchant, OfPayment, PaymentFilter, RequiredIdempotencyKey,
    },
};
use actix_web::{
    HttpMessage, HttpRequest, HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{HeaderName, HeaderValue, LOCATION},
    },
    web,
};
use std::sync::Arc;
use tracing::Instrument;

const DESCRIPTION_CHARACTERS_MAX: usize = 1000;
const REASON_CHARACTERS_MAX: usize = 500;
const NAME_CHARACTERS_MAX: usize = 255;
const PAYMENT_METHOD_DEFAULT: &str = "tok_visa";

/// Left with the request for its log line.
pub(super) struct PaymentOfRequest(pub(super) PaymentId);

type Handled = Result<HttpResponse, Problem>;

/// Charges or authorizes.
///
/// `capture` says which. A payment that the provider declined is answered 201 too, as `failed`: the attempt is on record.
#[utoipa::path(post, path = "/api/payments", tag = "Payments", operation_id = "createPayment",
    params(RequiredIdempotencyKey, IdempotencyKeyInQuery), request_body = NewPayment,
    responses(
        (status = 201, description = "Charged, authorized or declined: `status` says which.", body = PaymentBody,
            headers(("Location" = String, description = "Where to read it."))),
        (status = 202, description = "The provider's answer is out: in doubt until it is known.", body = PaymentBody,
            headers(("Location" = String, description = "Where to read it.")))),
    extensions(("x-problems" = json!(["merchant_forbidden", "provider_unavailable"]))))]
pub(super) async fn create(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    let incoming = Incoming::receive(&request, payload, &door).await?;
    let key = incoming.key.clone().ok_or_else(Problem::key_required)?;
    let Incoming { principal, mut body, body_bytes, .. } = incoming;
    let fingerprint = Fingerprint::of("POST", request.path(), body.canonical());
    let id = PaymentId::new(crate::clock::new_uuid(door.core()?.clock.now()));
    let merchant = merchant_of(&principal, &mut body, &door)?;
    let details = read_details(body, id, merchant.clone(), &door)?;
    let under = Some(Request { key, fingerprint, operation: Operation::Create });
    let perform = Perform::new(Wish::Submit(Arc::new(details)), principal.actor().clone(), under);
    let wait_max = door.limits.request_deadline;
    let task = Task { merchant, payment: id, perform, body_bytes, wait_max };
    carry_out(&request, &door, task).await
}

/// Takes what was authorized, or a part of it.
///
/// What is not captured is released.
#[utoipa::path(post, path = "/api/payments/{id}/capture", tag = "Payments", operation_id = "capturePayment",
    params(OfPayment, IdempotencyKey, IdempotencyKeyInQuery), request_body = Option<NewCapture>,
    responses(
        (status = 200, description = "Captured.", body = PaymentBody),
        (status = 202, description = "The provider's answer is out: in doubt until it is known.", body = PaymentBody)),
    extensions(("x-problems" = json!(["invalid_transition", "operation_pending", "too_much_on_record", "provider_unavailable", "amount_exceeds_capturable", "capture_declined"]))))]
pub(super) async fn capture(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    let wish = |body: &mut Body| Wish::Capture(body.amount("amount"));
    change(&request, payload, &door, wish).await
}

/// Gives an authorization up.
///
/// The hold on the customer's money is released.
#[utoipa::path(post, path = "/api/payments/{id}/void", tag = "Payments", operation_id = "voidPayment",
    params(OfPayment, IdempotencyKey, IdempotencyKeyInQuery), request_body = Option<NewVoid>,
    responses(
        (status = 200, description = "Voided.", body = PaymentBody),
        (status = 202, description = "The provider's answer is out: in doubt until it is known.", body = PaymentBody)),
    extensions(("x-problems" = json!(["invalid_transition", "operation_pending", "too_much_on_record", "provider_unavailable", "void_declined"]))))]
pub(super) async fn void(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    change(&request, payload, &door, |_| Wish::Void).await
}

/// Gives back all that is left, or an amount.
///
/// Several partial refunds are possible, up to what was captured.
#[utoipa::path(post, path = "/api/payments/{id}/refund", tag = "Payments", operation_id = "refundPayment",
    params(OfPayment, IdempotencyKey, IdempotencyKeyInQuery), request_body = Option<NewRefund>,
    responses(
        (status = 200, description = "Refunded.", body = PaymentBody),
        (status = 202, description = "The provider's answer is out: in doubt until it is known.", body = PaymentBody)),
    extensions(("x-problems" = json!(["invalid_transition", "operation_pending", "too_much_on_record", "provider_unavailable", "amount_exceeds_refundable", "too_many_refunds", "refund_declined"]))))]
pub(super) async fn refund(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    let wish = |body: &mut Body| Wish::Refund {
        amount: body.amount("amount"),
        reason: body.free_text("reason", REASON_CHARACTERS_MAX).map(String::into_boxed_str),
    };
    change(&request, payload, &door, wish).await
}

/// What every POST brings along.
struct Incoming {
    principal: Principal,
    key: Option<Key>,
    body: Body,
    body_bytes: usize,
}

impl Incoming {
    async fn receive(
        request: &HttpRequest,
        payload: web::Payload,
        door: &Door,
    ) -> Result<Self, Problem> {
        let who = || {
            let principal = headers::holder(request, door, Scope::PaymentsWrite)?;
            door.core()?.writing()?;
            let mut query = Query::of(request);
            let in_query = query.text("idempotencyKey");
            query.finish()?;
            Ok((principal, headers::idempotency_key(request, in_query.as_deref())?))
        };
        let received = body::receive_from(request, payload, door, who).await?;
        let ((principal, key), bytes) = received;
        let body = Body::parse(&bytes)?;
        Ok(Self { principal, key, body, body_bytes: bytes.len() })
    }
}

/// Whose money, or whose endpoint, a body is about.
pub(super) fn merchant_of(
    principal: &Principal,
    body: &mut Body,
    door: &Door,
) -> Result<Arc<str>, Problem> {
    let named = body.text("merchantId", NAME_CHARACTERS_MAX);
    match principal {
        Principal::Merchant { id, .. } => match named {
            Some(other) if other != access::name_outside(id) => Err(Problem::other_merchant()),
            Some(_) | None => Ok(id.clone()),
        },
        Principal::Admin { .. } => {
            let known = named.as_ref().and_then(|named| door.merchant(named));
            match (known, named.is_some()) {
                (Some(id), _) => Ok(id),
                // The fault is reported with the body's others.
                (None, true) => {
                    body.fault("merchantId", "no such merchant");
                    Ok("".into())
                }
                (None, false) => {
                    body.require("merchantId", None::<()>);
                    Ok("".into())
                }
            }
        }
    }
}

pub(super) fn read_details(
    mut body: Body,
    id: PaymentId,
    merchant: Arc<str>,
    door: &Door,
) -> Result<Details, Problem> {
    let amount = body.amount("amount");
    let amount = body.require("amount", amount);
    let allowed = "a current ISO 4217 code with a minor unit, such as USD";
    let currency = body.read("currency", NAME_CHARACTERS_MAX, allowed, Currency::for_payment);
    let currency = body.require("currency", currency);
    let capture = match body.text("capture", NAME_CHARACTERS_MAX).as_deref() {
        None | Some("automatic") => CaptureMode::Automatic,
        Some("manual") => CaptureMode::Manual,
        Some(_) => {
            body.fault("capture", "must be automatic or manual");
            CaptureMode::Manual
        }
    };
    let payment_method = body.free_text("paymentMethod", NAME_CHARACTERS_MAX);
    let names_own_method = payment_method.is_some() || body.is_faulty("paymentMethod");
    if payment_method.as_deref().is_some_and(|token| !is_visible(token)) {
        body.fault("paymentMethod", "must be 1 to 255 visible ASCII characters");
    }
    let customer = body.free_text("customerId", NAME_CHARACTERS_MAX);
    if customer.as_deref().is_some_and(|customer| !is_visible(customer)) {
        body.fault("customerId", "must be 1 to 255 visible ASCII characters");
    }
    if customer.as_deref().is_some_and(|customer| PaymentId::parse(customer).is_some()) {
        body.fault("customerId", "must not be a payment's id");
    }
    let description = body.free_text("description", DESCRIPTION_CHARACTERS_MAX);
    let pairs = body.pairs("metadata").into_iter();
    let metadata = pairs.map(|(key, value)| (key.into_boxed_str(), value.into_boxed_str()));
    let metadata = metadata.collect();
    let (Some(amount), Some(currency)) = (amount, currency) else {
        return Err(body.finish().err().unwrap_or_else(Problem::internal));
    };
    let mut details = Details {
        id,
        merchant,
        amount,
        currency,
        capture,
        payment_method: payment_method.as_deref().unwrap_or(PAYMENT_METHOD_DEFAULT).into(),
        customer: customer.map(Arc::from),
        description: description.map(String::into_boxed_str),
        metadata,
        provider: "".into(),
        hold_ms: door.hold_ms,
    };
    let lines = &door.core()?.writing()?.engine.lines;
    let first = lines.route(&details).first();
    details.provider = first.cloned().unwrap_or_else(|| "".into());
    // Only the sandbox has a means of payment that anyone may use.
    let is_outside = lines.to(&details.provider).is_some_and(|line| line.as_outside().is_some());
    if is_outside && !names_own_method {
        body.fault(
            "paymentMethod",
            "is required: the provider's token of the customer's means of payment",
        );
    }
    body.finish()?;
    Ok(details)
}

fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A POST that moves a payment that is on the books.
async fn change(
    request: &HttpRequest,
    payload: web::Payload,
    door: &Door,
    wish: impl FnOnce(&mut Body) -> Wish,
) -> Handled {
    let incoming = Incoming::receive(request, payload, door).await?;
    let Incoming { principal, key, mut body, body_bytes } = incoming;
    let fingerprint = Fingerprint::of("POST", request.path(), body.canonical());
    let (payment, merchant) = visible(request, door, &principal, |history| {
        (history.details.id, history.details.merchant.clone())
    })?;
    let wish = wish(&mut body);
    body.finish()?;
    let is_partial = matches!(wish, Wish::Capture(Some(_)) | Wish::Refund { amount: Some(_), .. });
    if is_partial && key.is_none() {
        return Err(Problem::key_required());
    }
    let operation = wish.operation();
    let request_record =
        key.zip(operation).map(|(key, operation)| Request { key, fingerprint, operation });
    let perform = Perform::new(wish, principal.actor().clone(), request_record);
    let wait_max = door.limits.request_deadline;
    carry_out(request, door, Task { merchant, payment, perform, body_bytes, wait_max }).await
}

async fn carry_out(request: &HttpRequest, door: &Door, task: Task) -> Handled {
    let operation = task.perform.wish.operation();
    // Waiting for a twin may take one deadline, the work another one besides the provider's time.
    let engine = &door.core()?.writing()?.engine;
    let patience = task.wait_max.saturating_mul(2).saturating_add(engine.answer_within);
    // A task of its own: a client that hangs up, or a disk that hangs, must not cut it in half.
    let running = actix_web::rt::spawn(pipeline::run(engine.clone(), task).in_current_span());
    let finished = tokio::time::timeout(patience, running).await;
    let finished = finished.map_err(|_| Problem::from(Unavailable::OutcomeUnknown))?;
    let Done { payment, replayed } = finished.map_err(|_| Problem::internal())??;
    request.extensions_mut().insert(PaymentOfRequest(payment.details.id));
    let status = status_of_answer(operation, &payment);
    let mut response = match payment.attempts.last() {
        Some(attempt) if status == StatusCode::PAYMENT_REQUIRED => {
            Problem::change_declined(attempt, &payment.details).error_response()
        }
        _ => HttpResponse::build(status).json(PaymentBody::of(&payment)),
    };
    let headers = response.headers_mut();
    if operation == Some(Operation::Create) {
        let location = format!("/api/payments/{}", payment.details.id);
        headers
            .insert(LOCATION, HeaderValue::from_str(&location).map_err(|_| Problem::internal())?);
    }
    if replayed {
        let name = HeaderName::from_static("idempotent-replayed");
        headers.insert(name, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The status of the answer to a command that left the payment so: its attempt, if it made one, is the last.
pub(super) fn status_of_answer(operation: Option<Operation>, payment: &Payment) -> StatusCode {
    let attempt = payment.attempts.last();
    let standing = attempt.map(|attempt| attempt.standing);
    let authorizes = attempt.is_some_and(|attempt| attempt.ask.action == Action::Authorize);
    match (operation, standing) {
        (Some(Operation::Resolve), _) => StatusCode::OK,
        (_, Some(Standing::Out)) => StatusCode::ACCEPTED,
        (Some(Operation::Create), _) => StatusCode::CREATED,
        (_, Some(Standing::Failed)) if !authorizes => StatusCode::PAYMENT_REQUIRED,
        _ => StatusCode::OK,
    }
}

/// Reads a payment.
///
/// As it stands, or as it stood at a time or entry.
#[utoipa::path(get, path = "/api/payments/{id}", tag = "Payments", operation_id = "readPayment",
    params(OfPayment, AsOf), responses((status = 200, description = "The payment.", body = PaymentBody)))]
pub(super) async fn read(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let principal = headers::holder(&request, &door, Scope::PaymentsRead)?;
    let mut query = Query::of(&request);
    let cut = query.cut();
    query.finish()?;
    let payment = visible(&request, &door, &principal, |history| history.payment_as_of(cut))?;
    let payment = payment.ok_or_else(Problem::no_such_payment)?;
    Ok(HttpResponse::Ok().json(PaymentBody::of(&payment)))
}

/// Looks the payment of the path up, if the asker may see it.
fn visible<T>(
    request: &HttpRequest,
    door: &Door,
    principal: &Principal,
    view: impl FnOnce(&History) -> T,
) -> Result<T, Problem> {
    let Core { books, .. } = door.core()?;
    let id = request.match_info().get("id").and_then(PaymentId::parse);
    let id = id.ok_or_else(Problem::no_such_payment)?;
    request.extensions_mut().insert(PaymentOfRequest(id));
    let books = books.read();
    let history = books.history(id).filter(|history| principal.sees(&history.details.merchant));
    Ok(view(history.ok_or_else(Problem::no_such_payment)?))
}

/// Whose list is asked for: a merchant's own, or for an admin the one named, or all.
pub(super) fn merchant_asked_for(
    principal: &Principal,
    query: &mut Query,
) -> Result<Option<Arc<str>>, Problem> {
    let named = query.text("merchantId");
    match principal {
        Principal::Merchant { id, .. } => match named {
            Some(other) if other != access::name_outside(id) => Err(Problem::other_merchant()),
            _ => Ok(Some(id.clone())),
        },
        Principal::Admin { .. } => Ok(named.map(Arc::from)),
    }
}

/// Lists payments, newest first.
///
/// All, or those in a state, of a customer, of a time, or that a person has to look at.
#[utoipa::path(get, path = "/api/payments", tag = "Payments", operation_id = "listPayments",
    params(Limit, OfMerchant, PaymentFilter),
    responses((status = 200, description = "A page of payments.", body = PageBody<PaymentBody>)),
    extensions(("x-problems" = json!(["merchant_forbidden"]))))]
pub(super) async fn list(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let principal = headers::holder(&request, &door, Scope::PaymentsRead)?;
    let mut query = Query::of(&request);
    let (limit, after) = (query.limit(), query.payment("after"));
    let filter = Filter {
        merchant: merchant_asked_for(&principal, &mut query)?,
        status: query.read("status", "a payment's status", Status::parse),
        customer: query.text("customerId").map(Arc::from),
        from: query.time("from"),
        to: query.time("to"),
        needs_review: query.read("needsReview", "true or false", |text| text.parse().ok()),
    };
    query.finish()?;
    let books = door.core()?.books.read();
    let page = books.list(&filter, after, limit).ok_or_else(Problem::cursor_unknown)?;
    let next = page.next.map(|id| id.to_string());
    let payments: Vec<Payment> = page.histories.into_iter().map(History::payment).collect();
    drop(books);
    let data = payments.iter().map(PaymentBody::of).collect();
    Ok(HttpResponse::Ok().json(PageBody { data, next }))
}
