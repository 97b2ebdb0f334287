//! `/api/events`: what happened, to be read, and what became of telling it.

use super::{
    Core, Door, headers,
    payments::merchant_asked_for,
    query::Query,
    reply::Problem,
    wire::{EventBody, PageBody, Text, Time, Told},
};
use crate::{
    actors::{
        BooksReader,
        webhooks::{endpoints, places},
    },
    credentials::Principal,
    domain::{
        access::Scope,
        books::{Direction, EventFilter},
        id::{DerivedId, EndpointId, Kind, Sequence},
        payment::Payment,
        time::Timestamp,
        webhook::{Endpoint, Filter, Pattern, Try, Upcoming, WebhookEvent},
    },
    wire::{
        requests::{EventFilter as EventsFilter, Limit, OfEvent, OfMerchant},
        schema::{DeliveryError, DeliveryState, EndpointIdText, TimeText},
    },
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// How many entries are looked at while the books are held.
const SLICE: usize = 1024;

type Handled = Result<HttpResponse, Problem>;

/// Lists what happened, newest first.
///
/// With `order=asc` oldest first, to catch up from the last event that was seen.
#[utoipa::path(get, path = "/api/events", tag = "Events", operation_id = "listEvents",
    params(Limit, OfMerchant, EventsFilter),
    responses((status = 200, description = "A page of events.", body = PageBody<EventBody>)),
    extensions(("x-problems" = json!(["merchant_forbidden"]))))]
pub(super) async fn list(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let principal = headers::holder(&request, &door, Scope::PaymentsRead)?;
    let mut query = Query::of(&request);
    let (limit, after) = (query.limit(), query.event("after"));
    let merchant = merchant_asked_for(&principal, &mut query)?;
    let types =
        query.read("type", "an event type such as payment.completed, or payment.*", |text| {
            Filter::new(vec![Pattern::parse(text)?])
        });
    let ascending = query.read("order", "asc or desc", |text| match text {
        "asc" => Some(true),
        "desc" => Some(false),
        _ => None,
    });
    query.finish()?;
    let filter = EventFilter { merchant, types };
    let books = &door.core()?.books;
    if let Some(after) = after {
        let books = books.read();
        let event = books.event(after.sequence).filter(|event| event.id() == after);
        let visible = event.filter(|event| principal.sees(&event.history.details.merchant));
        visible.ok_or_else(Problem::cursor_unknown)?;
    }
    let direction = match (ascending.unwrap_or(false), after) {
        (true, after) => Direction::OldestFirst { after: after.map_or(0, |id| id.sequence) },
        (false, after) => {
            let before = after.map_or(Sequence::MAX, |id| id.sequence);
            Direction::NewestFirst { before }
        }
    };
    let (page, more) = page(books, &filter, direction, limit).await;
    let next = page.last().filter(|_| more).map(|(told, _)| told.id.to_string());
    let data = page.iter().map(|(told, payment)| EventBody::of(told, payment, None)).collect();
    Ok(HttpResponse::Ok().json(PageBody { data, next }))
}

/// At most `limit` events, and whether there are more. Payments go on between slices of the books, however rare what is
/// looked for is.
async fn page(
    books: &BooksReader,
    filter: &EventFilter,
    direction: Direction,
    limit: usize,
) -> (Vec<(Told, Payment)>, bool) {
    let mut page = Vec::new();
    let mut on = Some(direction);
    while let Some(direction) = on
        && page.len() <= limit
    {
        let wanted = limit.saturating_add(1).saturating_sub(page.len());
        {
            let books = books.read();
            let (found, rest) = books.events(filter, direction, (wanted, SLICE));
            page.extend(found.iter().map(|event| (Told::of(event), event.payment())));
            on = rest;
        }
        tokio::task::yield_now().await;
    }
    let more = page.len() > limit;
    page.truncate(limit);
    (page, more)
}

/// The event of the path, if the asker may see it: what happened, to which payment, and whose it is.
fn visible(
    request: &HttpRequest,
    door: &Door,
    principal: &Principal,
) -> Result<(Told, Payment), Problem> {
    let id = request.match_info().get("id").and_then(DerivedId::parse);
    let id = id.filter(|id| id.kind == Kind::Event).ok_or_else(Problem::no_such_event)?;
    let books = door.core()?.books.read();
    let event = books.event(id.sequence).filter(|event| event.id() == id);
    let event = event.filter(|event| principal.sees(&event.history.details.merchant));
    let event = event.ok_or_else(Problem::no_such_event)?;
    Ok((Told::of(&event), event.payment()))
}

/// Reads an event.
///
/// With the payment as it was right after it, the same as in its deliveries.
#[utoipa::path(get, path = "/api/events/{id}", tag = "Events", operation_id = "readEvent",
    params(OfEvent), responses((status = 200, description = "The event.", body = EventBody)))]
pub(super) async fn read(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let principal = headers::holder(&request, &door, Scope::PaymentsRead)?;
    let (told, payment) = visible(&request, &door, &principal)?;
    Query::of(&request).finish()?;
    Ok(HttpResponse::Ok().json(EventBody::of(&told, &payment, None)))
}

/// What became of telling an event.
#[derive(Serialize, ToSchema)]
#[schema(as = Deliveries)]
struct DeliveriesBody {
    /// Each try, newest first.
    data: Vec<TryBody>,
    /// Where the event stands at each endpoint.
    endpoints: Vec<StandingBody>,
}

/// One try to deliver an event.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Delivery)]
struct TryBody {
    #[schema(value_type = EndpointIdText)]
    endpoint_id: Text<EndpointId>,
    #[schema(minimum = 1)]
    attempt: usize,
    #[schema(value_type = TimeText)]
    at: Time,
    #[schema(required, minimum = 100, maximum = 999)]
    status_code: Option<u16>,
    latency_ms: u32,
    delivered: bool,
    #[schema(value_type = Option<DeliveryError>, required)]
    error: Option<&'static str>,
    /// When the next try is due, on the last one of an event that is to be tried again.
    #[schema(value_type = Option<TimeText>, required)]
    next_attempt_at: Option<Time>,
}

/// Where an event stands at an endpoint.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Standing)]
struct StandingBody {
    #[schema(value_type = EndpointIdText)]
    endpoint_id: Text<EndpointId>,
    sequence: u64,
    #[schema(value_type = DeliveryState)]
    state: &'static str,
    #[schema(value_type = Option<TimeText>, required)]
    next_attempt_at: Option<Time>,
}

/// Shows what became of telling an event.
///
/// Each try, newest first, and where the event stands at each endpoint.
#[utoipa::path(get, path = "/api/events/{id}/deliveries", tag = "Events", operation_id = "listEventDeliveries",
    params(OfEvent), responses((status = 200, description = "The tries.", body = DeliveriesBody)))]
pub(super) async fn deliveries(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let principal = headers::holder(&request, &door, Scope::PaymentsRead)?;
    let (told, payment) = visible(&request, &door, &principal)?;
    Query::of(&request).finish()?;
    let Core { books, writing, .. } = door.core()?;
    let sequence = told.id.sequence;
    let mut body = DeliveriesBody { data: Vec::new(), endpoints: Vec::new() };
    for id in endpoints_of(door.core()?, &payment.details.merchant) {
        let Some(place) = places::of_entry(books, id, sequence) else { continue };
        let books = books.read();
        let Some(endpoint) = books.webhooks().endpoint(id) else { continue };
        let standing = standing(endpoint, place.number);
        let mut tries = recorded(endpoint, place.number);
        drop(books);
        let logged = writing.as_ref().map(|writing| writing.webhooks.log.of(id, sequence));
        tries.extend(
            logged
                .into_iter()
                .flatten()
                .map(|logged| (logged.tried.at, (logged.attempt, logged.tried))),
        );
        let last = tries.len();
        let rows = tries.into_values().zip(1..).map(|((attempt, tried), row)| TryBody {
            endpoint_id: Text(id),
            attempt,
            at: Time(tried.at),
            status_code: tried.result.status(),
            latency_ms: tried.latency_ms,
            delivered: tried.result.is_success(),
            error: tried.result.error(),
            next_attempt_at: standing.1.filter(|_| row == last).map(Time),
        });
        body.data.extend(rows);
        let (state, next) = standing;
        let endpoint_id = Text(id);
        let next_attempt_at = next.map(Time);
        let standing = StandingBody { endpoint_id, sequence: place.number, state, next_attempt_at };
        body.endpoints.push(standing);
    }
    body.data.sort_by_key(|row| std::cmp::Reverse((row.at.0, row.attempt)));
    Ok(HttpResponse::Ok().json(body))
}

fn endpoints_of(core: &Core, merchant: &str) -> Vec<EndpointId> {
    let books = core.books.read();
    books.webhooks().of_merchant(merchant).map(|endpoint| endpoint.id).collect()
}

/// Where an event stands at an endpoint, and when it is tried next: no time while the endpoint is disabled, nor for what
/// is tried at once.
fn standing(endpoint: &Endpoint, number: u64) -> (&'static str, Option<Timestamp>) {
    let progress = &endpoint.progress;
    match (progress.open.get(&number), progress.dead.get(&number)) {
        (Some(open), _) if open.tries.is_empty() => ("pending", None),
        (Some(_), _) if endpoint.disabled.is_some() => ("retrying", None),
        (Some(open), _) => ("retrying", Some(open.due).filter(|due| *due > Timestamp::default())),
        (None, Some(_)) => ("dead", None),
        (None, None) if number > progress.through => ("pending", None),
        (None, None) => ("delivered", None),
    }
}

/// The tries that the journal knows of, by their time.
fn recorded(endpoint: &Endpoint, number: u64) -> BTreeMap<Timestamp, (usize, Try)> {
    let progress = &endpoint.progress;
    let row = progress.open.get(&number).or_else(|| progress.dead.get(&number));
    let tries = row.into_iter().flat_map(|row| &row.tries);
    tries.zip(1..).map(|(tried, attempt)| (tried.at, (attempt, *tried))).collect()
}

/// To whom an event is sent again.
#[derive(Serialize, ToSchema)]
#[schema(as = Redelivered)]
struct RedeliveredBody {
    #[schema(value_type = Vec<EndpointIdText>)]
    endpoints: Vec<Text<EndpointId>>,
}

/// Sends an event again now.
///
/// To every enabled endpoint that it is for, also if it is a dead letter there.
#[utoipa::path(post, path = "/api/events/{id}/redeliver", tag = "Events", operation_id = "redeliverEvent",
    params(OfEvent), responses((status = 202, description = "To whom it is sent.", body = RedeliveredBody)),
    extensions(("x-problems" = json!(["no_webhook_endpoint"]))))]
pub(super) async fn redeliver(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let principal = headers::holder(&request, &door, Scope::WebhooksWrite)?;
    let (told, payment) = visible(&request, &door, &principal)?;
    Query::of(&request).finish()?;
    let core = door.core()?;
    let writing = core.writing()?;
    let sequence = told.id.sequence;
    let mut body = RedeliveredBody { endpoints: Vec::new() };
    for id in endpoints_of(core, &payment.details.merchant) {
        let enabled = {
            let books = core.books.read();
            books.webhooks().endpoint(id).is_some_and(|endpoint| endpoint.disabled.is_none())
        };
        let place = places::of_entry(&core.books, id, sequence).filter(|_| enabled);
        let Some(place) = place else { continue };
        let event = WebhookEvent::Redelivered { endpoint: id, number: place.number, sequence };
        endpoints::record(&writing.engine, principal.actor().clone(), event).await?;
        let next = Upcoming { sequence, payment: payment.details.id };
        writing.webhooks.redeliver(id, place.number, next);
        body.endpoints.push(Text(id));
    }
    if body.endpoints.is_empty() {
        return Err(Problem::no_endpoint_for_event());
    }
    Ok(HttpResponse::Accepted().json(body))
}
