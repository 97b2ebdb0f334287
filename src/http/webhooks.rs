//! `/api/webhook-endpoints`: who is told what, and where.

mod shown;

use super::{
    Core, Door, access,
    body::{self, Body},
    headers,
    payments::{merchant_asked_for, merchant_of},
    query::Query,
    reply::{Fault, Problem},
    wire::{PageBody, Time},
};
use crate::{
    actors::webhooks::{
        NotTested,
        endpoints::{self, SECRET_OVERLAP_MS},
        guard::Guard,
        places,
    },
    clock::new_uuid,
    credentials::{self, Principal},
    domain::{
        access::Scope,
        id::{DerivedId, EndpointId, Kind},
        time::Timestamp,
        webhook::{
            Created, DisabledBecause, Endpoint, Filter, Origin, Pattern, Secret, Settings,
            WebhookEvent,
        },
    },
    wire::{
        requests::{
            Limit, NewReplay, NewSecret, NewWebhookEndpoint, OfEndpoint, OfMerchant,
            WebhookEndpointChange,
        },
        schema::{DeliveryError, EndpointIdText, TimeText},
    },
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use shown::EndpointBody;
use utoipa::ToSchema;

const URL_CHARACTERS_MAX: usize = 2048;
const DESCRIPTION_CHARACTERS_MAX: usize = 1000;
const SECRET_CHARACTERS_MAX: usize = 200;

type Handled = Result<HttpResponse, Problem>;

/// The endpoint of the path, if the asker may see it.
fn visible(request: &HttpRequest, door: &Door) -> Result<(Principal, Endpoint), Problem> {
    let principal = headers::holder(request, door, Scope::WebhooksWrite)?;
    let id = request.match_info().get("id").and_then(EndpointId::parse);
    let books = door.core()?.books.read();
    let endpoint = id.and_then(|id| books.webhooks().endpoint(id));
    let endpoint = endpoint.filter(|endpoint| principal.sees(&endpoint.merchant)).cloned();
    drop(books);
    Ok((principal, endpoint.ok_or_else(Problem::no_such_endpoint)?))
}

/// The endpoint as it stands on the books.
fn shown(core: &Core, id: EndpointId, secret: Option<&Secret>) -> Result<EndpointBody, Problem> {
    let books = core.books.read();
    let endpoint = books.webhooks().endpoint(id);
    endpoint
        .map(|endpoint| EndpointBody::of(endpoint, secret))
        .ok_or_else(Problem::no_such_endpoint)
}

/// The URL, which must lead where webhooks may go now; it is checked again at each connection.
async fn read_url(body: &mut Body, guard: &Guard) -> Option<String> {
    let url = body.text("url", URL_CHARACTERS_MAX)?;
    let checked = match guard.target(&url) {
        Ok(target) => guard.resolve(&target).await.map(drop),
        Err(refused) => Err(refused),
    };
    match checked {
        Ok(()) => Some(url),
        Err(refused) => {
            body.fault("url", &refused.to_string());
            None
        }
    }
}

pub(super) fn read_filter(body: &mut Body) -> Option<Filter> {
    let allowed = "event types such as payment.completed, payment.* or *";
    body.list("events", allowed, Pattern::parse).and_then(Filter::new)
}

pub(super) fn read_secret(body: &mut Body) -> Option<Secret> {
    let allowed = "whsec_ and the base64 of 24 to 64 random bytes";
    body.read("secret", SECRET_CHARACTERS_MAX, allowed, Secret::parse)
}

fn new_secret(given: Option<Secret>) -> Result<Secret, Problem> {
    match given {
        Some(secret) => Ok(secret),
        None => credentials::new_webhook_secret().map_err(|_| Problem::internal()),
    }
}

/// Makes a webhook endpoint.
///
/// Its `secret` is shown this once.
#[utoipa::path(post, path = "/api/webhook-endpoints", tag = "Webhooks", operation_id = "createWebhookEndpoint",
    request_body = NewWebhookEndpoint,
    responses((status = 201, description = "Made, with its secret.", body = EndpointBody,
        headers(("Location" = String, description = "Where to read it.")))),
    extensions(("x-problems" = json!(["merchant_forbidden", "too_many_webhook_endpoints"]))))]
pub(super) async fn create(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    let who = || headers::holder(&request, &door, Scope::WebhooksWrite);
    let (principal, mut body) = body::only(&request, payload, &door, who).await?;
    let core = door.core()?;
    let writing = core.writing()?;
    let merchant = merchant_of(&principal, &mut body, &door)?;
    let url = read_url(&mut body, &writing.webhooks.guard).await;
    let url = body.require("url", url);
    let filter = read_filter(&mut body);
    let given = read_secret(&mut body);
    let description = body.free_text("description", DESCRIPTION_CHARACTERS_MAX);
    body.finish()?;
    let url = url.ok_or_else(Problem::internal)?;
    let secret = new_secret(given)?;
    let endpoint = EndpointId::new(new_uuid(core.clock.now()));
    let event = WebhookEvent::Created(Box::new(Created {
        endpoint,
        merchant,
        settings: Settings {
            url: url.into(),
            filter: filter.unwrap_or_else(Filter::everything),
            description: description.map(String::into_boxed_str),
        },
        secret: secret.clone(),
        origin: Origin::Api,
    }));
    endpoints::record(&writing.engine, principal.actor().clone(), event).await?;
    let mut response = HttpResponse::Created();
    response.insert_header(("Location", format!("/api/webhook-endpoints/{endpoint}")));
    Ok(response.json(shown(core, endpoint, Some(&secret))?))
}

/// Reads a webhook endpoint.
///
/// With its counts, and since when it has been failing; without its secret.
#[utoipa::path(get, path = "/api/webhook-endpoints/{id}", tag = "Webhooks", operation_id = "readWebhookEndpoint",
    params(OfEndpoint), responses((status = 200, description = "The endpoint.", body = EndpointBody)))]
pub(super) async fn read(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let (_, endpoint) = visible(&request, &door)?;
    Query::of(&request).finish()?;
    Ok(HttpResponse::Ok().json(EndpointBody::of(&endpoint, None)))
}

/// Lists webhook endpoints, newest first.
///
/// Those of the configuration among them.
#[utoipa::path(get, path = "/api/webhook-endpoints", tag = "Webhooks", operation_id = "listWebhookEndpoints",
    params(Limit, OfMerchant, ("after" = Option<EndpointIdText>, Query, description = "The cursor from `next`.")),
    responses((status = 200, description = "A page of endpoints.", body = PageBody<EndpointBody>)),
    extensions(("x-problems" = json!(["merchant_forbidden"]))))]
pub(super) async fn list(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let principal = headers::holder(&request, &door, Scope::WebhooksWrite)?;
    let mut query = Query::of(&request);
    let limit = query.limit();
    let after = query.read("after", "a cursor from `next`", EndpointId::parse);
    let merchant = merchant_asked_for(&principal, &mut query)?;
    query.finish()?;
    let books = door.core()?.books.read();
    let own = |endpoint: &&Endpoint| merchant.as_ref().is_none_or(|id| *id == endpoint.merchant);
    let newest_first = books.webhooks().endpoints().rev().filter(own);
    let mut rest = newest_first.filter(|endpoint| after.is_none_or(|after| endpoint.id < after));
    let data: Vec<EndpointBody> =
        rest.by_ref().take(limit).map(|endpoint| EndpointBody::of(endpoint, None)).collect();
    let more = rest.next().is_some();
    let next = data.last().filter(|_| more).map(|endpoint| endpoint.id.0.to_string());
    Ok(HttpResponse::Ok().json(PageBody { data, next }))
}

/// Changes a webhook endpoint.
///
/// What is left out stays. Nothing is lost while it is disabled.
#[utoipa::path(patch, path = "/api/webhook-endpoints/{id}", tag = "Webhooks", operation_id = "updateWebhookEndpoint",
    params(OfEndpoint), request_body = Option<WebhookEndpointChange>,
    responses((status = 200, description = "Changed.", body = EndpointBody)),
    extensions(("x-problems" = json!(["webhook_endpoint_configured", "too_many_changes"]))))]
pub(super) async fn update(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    let who = || visible(&request, &door);
    let (_, mut body) = body::only(&request, payload, &door, who).await?;
    let core = door.core()?;
    let writing = core.writing()?;
    let url = read_url(&mut body, &writing.webhooks.guard).await;
    // Looking a name up takes its time too.
    let (principal, endpoint) = who()?;
    let filter = read_filter(&mut body);
    let description = body.free_text("description", DESCRIPTION_CHARACTERS_MAX);
    let enabled = body.boolean("enabled");
    body.finish()?;
    let (id, actor) = (endpoint.id, principal.actor());
    if url.is_some() || filter.is_some() || description.is_some() {
        if endpoint.origin == Origin::Config {
            return Err(Problem::endpoint_of_config());
        }
        let old = endpoint.filter().cloned();
        let settings = Settings {
            url: url.map_or(endpoint.url, String::into_boxed_str),
            filter: filter.or(old).unwrap_or_else(Filter::everything),
            description: description.map(String::into_boxed_str).or(endpoint.description),
        };
        let event = WebhookEvent::Updated { endpoint: id, settings };
        endpoints::record(&writing.engine, actor.clone(), event).await?;
    }
    let reason = DisabledBecause::Asked;
    let event = match (enabled, endpoint.disabled.is_none()) {
        (Some(true), false) => Some(WebhookEvent::Enabled { endpoint: id }),
        (Some(false), true) => Some(WebhookEvent::Disabled { endpoint: id, reason }),
        _ => None,
    };
    if let Some(event) = event {
        endpoints::record(&writing.engine, actor.clone(), event).await?;
    }
    Ok(HttpResponse::Ok().json(shown(core, id, None)?))
}

/// Deletes a webhook endpoint.
///
/// What it has not got yet is not sent any more.
#[utoipa::path(delete, path = "/api/webhook-endpoints/{id}", tag = "Webhooks", operation_id = "deleteWebhookEndpoint",
    params(OfEndpoint), responses((status = 204, description = "Deleted.")),
    extensions(("x-problems" = json!(["webhook_endpoint_configured"]))))]
pub(super) async fn delete(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let (principal, endpoint) = visible(&request, &door)?;
    Query::of(&request).finish()?;
    if endpoint.origin == Origin::Config {
        return Err(Problem::endpoint_of_config());
    }
    let event = WebhookEvent::Deleted { endpoint: endpoint.id };
    endpoints::record(&door.core()?.writing()?.engine, principal.actor().clone(), event).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Gives a webhook endpoint a new secret.
///
/// The old one signs too for 24 hours.
#[utoipa::path(post, path = "/api/webhook-endpoints/{id}/rotate-secret", tag = "Webhooks", operation_id = "rotateWebhookSecret",
    params(OfEndpoint), request_body = Option<NewSecret>,
    responses((status = 200, description = "With its new secret, shown this once.", body = EndpointBody)),
    extensions(("x-problems" = json!(["webhook_endpoint_configured"]))))]
pub(super) async fn rotate(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    let who = || visible(&request, &door);
    let ((principal, endpoint), mut body) = body::only(&request, payload, &door, who).await?;
    let given = read_secret(&mut body);
    body.finish()?;
    if endpoint.origin == Origin::Config {
        return Err(Problem::endpoint_of_config());
    }
    let core = door.core()?;
    let writing = core.writing()?;
    let secret = new_secret(given)?;
    let old_until = core.clock.now().plus_millis(SECRET_OVERLAP_MS);
    let event = WebhookEvent::Rotated { endpoint: endpoint.id, secret: secret.clone(), old_until };
    endpoints::record(&writing.engine, principal.actor().clone(), event).await?;
    Ok(HttpResponse::Ok().json(shown(core, endpoint.id, Some(&secret))?))
}

/// What a test came to.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookTest)]
struct TestBody {
    delivered: bool,
    #[schema(value_type = TimeText)]
    at: Time,
    #[schema(required, minimum = 100, maximum = 999)]
    status_code: Option<u16>,
    latency_ms: u32,
    #[schema(value_type = Option<DeliveryError>, required)]
    error: Option<&'static str>,
    /// The start of what it answered.
    answer: String,
}

/// Tries a webhook endpoint.
///
/// Sends an `endpoint.test` now and says what came back; one at a time.
#[utoipa::path(post, path = "/api/webhook-endpoints/{id}/test", tag = "Webhooks", operation_id = "testWebhookEndpoint",
    params(OfEndpoint), responses((status = 200, description = "What came back.", body = TestBody)),
    extensions(("x-problems" = json!(["webhook_test_under_way"]))))]
pub(super) async fn test(request: HttpRequest, door: web::Data<Door>) -> Handled {
    const ANSWER_CHARACTERS_MAX: usize = 1000;
    let (principal, endpoint) = visible(&request, &door)?;
    Query::of(&request).finish()?;
    let core = door.core()?;
    let webhooks = &core.writing()?.webhooks;
    if let Principal::Admin { actor } = principal {
        access::asked(core, actor, &format!("test of {} asked for", endpoint.id)).await;
    }
    let sent = webhooks.test(endpoint.id).await;
    let sent = sent.map_err(|why| match why {
        NotTested::NobodyThere => Problem::not_serving(),
        NotTested::UnderWay => Problem::still_testing(),
    })?;
    let answer = String::from_utf8_lossy(&sent.answer);
    Ok(HttpResponse::Ok().json(TestBody {
        delivered: sent.tried.result.is_success(),
        at: Time(sent.tried.at),
        status_code: sent.tried.result.status(),
        latency_ms: sent.tried.latency_ms,
        error: sent.tried.result.error(),
        answer: answer.chars().take(ANSWER_CHARACTERS_MAX).collect(),
    }))
}

/// From where a replay begins.
enum From {
    Event(DerivedId),
    Number(u64),
    Time(Timestamp),
}

/// Which events, by their `sequence` at the endpoint, are sent again.
#[derive(Serialize, ToSchema)]
#[schema(as = Replay)]
struct ReplayBody {
    from: u64,
    through: u64,
    count: u64,
}

/// Sends everything again to a webhook endpoint.
///
/// From an event's id, its `sequence` at the endpoint, or a time on. 400 if no event of the endpoint happened there or later.
#[utoipa::path(post, path = "/api/webhook-endpoints/{id}/replay", tag = "Webhooks", operation_id = "replayWebhookEvents",
    params(OfEndpoint), request_body = NewReplay,
    responses((status = 202, description = "What is sent again.", body = ReplayBody)),
    extensions(("x-problems" = json!(["webhook_endpoint_disabled"]))))]
pub(super) async fn replay(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    let who = || visible(&request, &door);
    let ((principal, endpoint), mut body) = body::only(&request, payload, &door, who).await?;
    let from = body.text_or_number("from").and_then(|text| {
        let event = DerivedId::parse(&text).filter(|id| id.kind == Kind::Event).map(From::Event);
        let number = text.parse().ok().filter(|number| *number > 0).map(From::Number);
        let from = event.or(number).or_else(|| Timestamp::parse(&text).map(From::Time));
        if from.is_none() {
            body.fault("from", "must be an event's id, its sequence at the endpoint, or a time");
        }
        from
    });
    let from = body.require("from", from);
    body.finish()?;
    if endpoint.disabled.is_some() {
        return Err(Problem::endpoint_disabled());
    }
    let core = door.core()?;
    let writing = core.writing()?;
    let books = &core.books;
    let place = match from.ok_or_else(Problem::internal)? {
        From::Event(id) => places::first_from(books, endpoint.id, id.sequence),
        From::Number(number) => places::of_number(books, endpoint.id, number),
        From::Time(time) => {
            let entry = books.read().first_event_at(&endpoint.merchant, time);
            entry.and_then(|entry| places::first_from(books, endpoint.id, entry))
        }
    };
    let Some(place) = place else {
        let fault = Fault::new("from", "no event of this endpoint happened there or later");
        return Err(Problem::invalid(vec![fault]));
    };
    let cursor = place.sequence.saturating_sub(1);
    let event = WebhookEvent::Replayed { endpoint: endpoint.id, from: place.number, cursor };
    endpoints::record(&writing.engine, principal.actor().clone(), event).await?;
    let through = books.read().webhooks().endpoint(endpoint.id).map_or(0, |one| one.admitted);
    let count = through.saturating_sub(place.number).saturating_add(1);
    Ok(HttpResponse::Accepted().json(ReplayBody { from: place.number, through, count }))
}
