//! `/api/payments`: make, move, read and list payments.

use super::{
    Core, Door,
    body::{self, Body},
    headers,
    query::Query,
    reply::Problem,
    wire::{PageBody, PaymentBody, Text, Time},
};
use crate::{
    actors::{
        Unavailable,
        payment::{Finding, Perform, Resolution, Wish},
    },
    credentials::Principal,
    domain::{
        books::{Books, Filter, History},
        event::{Action, CaptureMode, Details, Standing},
        id::{DerivedId, Kind, PaymentId},
        idempotency::{Fingerprint, Key, Operation, Request},
        ledger,
        money::Currency,
        payment::{Payment, Status},
    },
    pipeline::{self, Done, Task},
};
use actix_web::{
    HttpMessage, HttpRequest, HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{HeaderName, HeaderValue, LOCATION},
    },
    web,
};
use serde::Serialize;
use std::sync::Arc;
use tracing::Instrument;

const DESCRIPTION_CHARACTERS_MAX: usize = 1000;
const REASON_CHARACTERS_MAX: usize = 500;
const NAME_CHARACTERS_MAX: usize = 255;
const PAYMENT_METHOD_DEFAULT: &str = "tok_visa";

/// Left with the request for its log line.
pub(super) struct PaymentOfRequest(pub(super) PaymentId);

type Handled = Result<HttpResponse, Problem>;

/// `POST /api/payments`
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
    let perform = Perform {
        wish: Wish::Submit(Arc::new(details)),
        actor: principal.actor().clone(),
        request: Some(Request { key, fingerprint, operation: Operation::Create }),
    };
    let wait_max = door.limits.request_deadline;
    let task = Task { merchant, payment: id, perform, body_bytes, wait_max };
    carry_out(&request, &door, task).await
}

/// `POST /api/payments/{id}/capture`
pub(super) async fn capture(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    let wish = |body: &mut Body| Wish::Capture(body.amount("amount"));
    change(&request, payload, &door, wish).await
}

/// `POST /api/payments/{id}/void`
pub(super) async fn void(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    change(&request, payload, &door, |_| Wish::Void).await
}

/// `POST /api/payments/{id}/refund`
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

/// `POST /api/payments/{id}/resolve`, for an admin: what a person found out about what is in doubt.
pub(super) async fn resolve(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    headers::admin(&request, &door)?;
    change(&request, payload, &door, |body| Wish::Resolve(read_resolution(body))).await
}

fn read_resolution(body: &mut Body) -> Resolution {
    let reference = body.text("providerReference", NAME_CHARACTERS_MAX);
    let finding = match body.text("outcome", NAME_CHARACTERS_MAX).as_deref() {
        Some("succeeded") => Finding::Done(reference.map(String::into_boxed_str)),
        Some("failed") => Finding::NotDone,
        Some("dismissed") => Finding::Dismissed,
        Some(_) => {
            body.fault("outcome", "must be succeeded, failed or dismissed");
            Finding::Dismissed
        }
        None => {
            body.require("outcome", None::<()>);
            Finding::Dismissed
        }
    };
    let attempt = body.text("attemptId", NAME_CHARACTERS_MAX).and_then(|text| {
        let id = DerivedId::parse(&text).filter(|id| id.kind == Kind::Attempt);
        if id.is_none() {
            body.fault("attemptId", "must be the id of an attempt, att_…");
        }
        id
    });
    let reason = body.free_text("reason", REASON_CHARACTERS_MAX).filter(|text| !text.is_empty());
    let reason = body.require("reason", reason).unwrap_or_default().into_boxed_str();
    Resolution { attempt, finding, reason }
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
        let principal = headers::principal(request, door)?;
        door.core()?.writing()?;
        let mut query = Query::of(request)?;
        let in_query = query.text("idempotencyKey");
        query.finish()?;
        let key = headers::idempotency_key(request, in_query.as_deref())?;
        let bytes = body::receive(request, payload, door.limits).await?;
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
            Some(other) if other != **id => Err(Problem::other_merchant()),
            Some(_) | None => Ok(id.clone()),
        },
        Principal::Admin { .. } => {
            let known =
                named.as_ref().and_then(|named| door.merchants.iter().find(|id| ***id == **named));
            match (known, named.is_some()) {
                (Some(id), _) => Ok(id.clone()),
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

fn read_details(
    mut body: Body,
    id: PaymentId,
    merchant: Arc<str>,
    door: &Door,
) -> Result<Details, Problem> {
    let amount = body.amount("amount");
    let amount = body.require("amount", amount);
    let currency = body.text("currency", NAME_CHARACTERS_MAX).and_then(|code| {
        let currency = Currency::for_payment(&code);
        if currency.is_none() {
            body.fault(
                "currency",
                "must be a current ISO 4217 code with a minor unit, such as USD",
            );
        }
        currency
    });
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
    let perform = Perform { wish, actor: principal.actor().clone(), request: request_record };
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

/// `GET /api/payments/{id}`, `?at=` a time or sequence: as it stood then.
pub(super) async fn read(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let principal = headers::principal(&request, &door)?;
    let mut query = Query::of(&request)?;
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
    let named = query.text("merchantId").map(Arc::from);
    match principal {
        Principal::Merchant { id, .. } => match named {
            Some(other) if other != *id => Err(Problem::other_merchant()),
            _ => Ok(Some(id.clone())),
        },
        Principal::Admin { .. } => Ok(named),
    }
}

/// `GET /api/payments`
pub(super) async fn list(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let principal = headers::principal(&request, &door)?;
    let mut query = Query::of(&request)?;
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

/// One move in a payment's life.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TransitionBody {
    from: Option<&'static str>,
    to: &'static str,
    at: Time,
    sequence: u64,
    actor: Arc<str>,
    transaction_id: Option<Text<DerivedId>>,
    block_hash: Option<String>,
}

/// `GET /api/payments/{id}/events`
pub(super) async fn events(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let principal = headers::principal(&request, &door)?;
    let mut query = Query::of(&request)?;
    let limit = query.limit();
    let after: Option<usize> =
        query.read("after", "a cursor from `next`", |text| text.parse().ok());
    query.finish()?;
    let history = visible(&request, &door, &principal, History::clone)?;
    let mut moves = transitions(&door.core()?.books.read(), &history);
    let end = after.unwrap_or(moves.len()).min(moves.len());
    let start = end.saturating_sub(limit);
    let data = moves.drain(start..end).rev().collect();
    let next = (start > 0).then(|| start.to_string());
    Ok(HttpResponse::Ok().json(PageBody { data, next }))
}

/// Every move, oldest first. The ledger transaction stands at the move that posted it: the entry's last.
fn transitions(books: &Books, history: &History) -> Vec<TransitionBody> {
    let mut payment = Payment::pending(history.details.clone(), None);
    let mut all = Vec::new();
    for step in history.steps() {
        let moves = payment.transitions(&step.event);
        let last = moves.len().saturating_sub(1);
        let posts = ledger::transaction(&history.details, &step.event).is_some();
        let transaction = DerivedId::new(Kind::Transaction, step.at, step.sequence);
        all.extend(moves.into_iter().enumerate().map(|(place, (from, to))| TransitionBody {
            from: from.map(Status::name),
            to: to.name(),
            at: Time(step.at),
            sequence: step.sequence,
            actor: step.actor.clone(),
            transaction_id: (posts && place == last).then_some(Text(transaction)),
            block_hash: books.block_hash(step.sequence).map(|hash| hash.to_string()),
        }));
        payment.apply(&step.event, step.at, step.sequence);
    }
    all
}
