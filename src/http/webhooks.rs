//! `/api/webhook-endpoints`: who is told what, and where.

use super::{
    Core, Door,
    body::{self, Body},
    headers,
    payments::{merchant_asked_for, merchant_of},
    query::Query,
    reply::{Fault, Problem},
    wire::{PageBody, Text, Time},
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
        access::{self, Scope},
        id::{DerivedId, EndpointId, Kind},
        time::Timestamp,
        webhook::{
            Created, DisabledBecause, Endpoint, Filter, Origin, Pattern, Secret, Settings,
            WebhookEvent,
        },
    },
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

const URL_CHARACTERS_MAX: usize = 2048;
const DESCRIPTION_CHARACTERS_MAX: usize = 1000;
const SECRET_CHARACTERS_MAX: usize = 200;

type Handled = Result<HttpResponse, Problem>;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointBody {
    id: Text<EndpointId>,
    merchant_id: String,
    url: String,
    events: Vec<&'static str>,
    description: Option<String>,
    /// Where it was made: `api` or `config`.
    origin: &'static str,
    enabled: bool,
    disabled_reason: Option<&'static str>,
    disabled_at: Option<Time>,
    /// Since when no try has succeeded.
    failing_since: Option<Time>,
    counts: CountsBody,
    /// Until when the secret before the last rotation signs too, and at the latest those before it.
    old_secret_until: Option<Time>,
    created_at: Time,
    updated_at: Time,
    /// Shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CountsBody {
    /// Events that it was to get so far; the `sequence` of the last one.
    events: u64,
    delivered: u64,
    failed_attempts: u64,
    waiting: u64,
    dead: usize,
}

impl EndpointBody {
    fn of(endpoint: &Endpoint, secret: Option<&Secret>) -> Self {
        let progress = &endpoint.progress;
        Self {
            id: Text(endpoint.id),
            merchant_id: access::name_outside(&endpoint.merchant).to_owned(),
            url: endpoint.url.to_string(),
            events: endpoint.filter().map(|filter| filter.names().collect()).unwrap_or_default(),
            description: endpoint.description.as_deref().map(str::to_owned),
            origin: match endpoint.origin {
                Origin::Api => "api",
                Origin::Config => "config",
            },
            enabled: endpoint.disabled.is_none(),
            disabled_reason: endpoint.disabled.map(|(reason, _)| reason.name()),
            disabled_at: endpoint.disabled.map(|(_, at)| Time(at)),
            failing_since: progress.failing_since.map(Time),
            counts: CountsBody {
                events: endpoint.admitted,
                delivered: progress.delivered,
                failed_attempts: progress.failed,
                waiting: endpoint.waiting(),
                dead: progress.dead.len(),
            },
            old_secret_until: endpoint.old_secrets.last().map(|(_, until)| Time(*until)),
            created_at: Time(endpoint.created_at),
            updated_at: Time(endpoint.updated_at),
            secret: secret.map(Secret::expose),
        }
    }
}

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

async fn body_of(
    request: &HttpRequest,
    payload: web::Payload,
    door: &Door,
) -> Result<Body, Problem> {
    Query::of(request)?.finish()?;
    Body::parse(&body::receive(request, payload, door.limits).await?)
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

fn read_filter(body: &mut Body) -> Option<Filter> {
    let allowed = "event types such as payment.completed, payment.* or *";
    body.list("events", allowed, Pattern::parse).and_then(Filter::new)
}

fn read_secret(body: &mut Body) -> Option<Secret> {
    let text = body.text("secret", SECRET_CHARACTERS_MAX)?;
    let secret = Secret::parse(&text);
    if secret.is_none() {
        body.fault("secret", "must be whsec_ and the base64 of 24 to 64 random bytes");
    }
    secret
}

fn new_secret(given: Option<Secret>) -> Result<Secret, Problem> {
    match given {
        Some(secret) => Ok(secret),
        None => credentials::new_webhook_secret().map_err(|_| Problem::internal()),
    }
}

/// `POST /api/webhook-endpoints`
pub(super) async fn create(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    let principal = headers::holder(&request, &door, Scope::WebhooksWrite)?;
    let mut body = body_of(&request, payload, &door).await?;
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

/// `GET /api/webhook-endpoints/{id}`
pub(super) async fn read(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let (_, endpoint) = visible(&request, &door)?;
    Query::of(&request)?.finish()?;
    Ok(HttpResponse::Ok().json(EndpointBody::of(&endpoint, None)))
}

/// `GET /api/webhook-endpoints`
pub(super) async fn list(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let principal = headers::holder(&request, &door, Scope::WebhooksWrite)?;
    let mut query = Query::of(&request)?;
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

/// `PATCH /api/webhook-endpoints/{id}`
pub(super) async fn update(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    let (principal, endpoint) = visible(&request, &door)?;
    let mut body = body_of(&request, payload, &door).await?;
    let core = door.core()?;
    let writing = core.writing()?;
    let url = read_url(&mut body, &writing.webhooks.guard).await;
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

/// `DELETE /api/webhook-endpoints/{id}`
pub(super) async fn delete(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let (principal, endpoint) = visible(&request, &door)?;
    Query::of(&request)?.finish()?;
    if endpoint.origin == Origin::Config {
        return Err(Problem::endpoint_of_config());
    }
    let event = WebhookEvent::Deleted { endpoint: endpoint.id };
    endpoints::record(&door.core()?.writing()?.engine, principal.actor().clone(), event).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /api/webhook-endpoints/{id}/rotate-secret`
pub(super) async fn rotate(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    let (principal, endpoint) = visible(&request, &door)?;
    let mut body = body_of(&request, payload, &door).await?;
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TestBody {
    delivered: bool,
    at: Time,
    status_code: Option<u16>,
    latency_ms: u32,
    error: Option<&'static str>,
    /// The start of what it answered.
    answer: String,
}

/// `POST /api/webhook-endpoints/{id}/test`: sends an `endpoint.test` at once and says what came back.
pub(super) async fn test(request: HttpRequest, door: web::Data<Door>) -> Handled {
    const ANSWER_CHARACTERS_MAX: usize = 1000;
    let (_, endpoint) = visible(&request, &door)?;
    Query::of(&request)?.finish()?;
    let sent = door.core()?.writing()?.webhooks.test(endpoint.id).await;
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

#[derive(Serialize)]
struct ReplayBody {
    from: u64,
    through: u64,
    count: u64,
}

/// `POST /api/webhook-endpoints/{id}/replay`: sends everything again from `from` on: an event's id, its `sequence` at the
/// endpoint, or a time.
pub(super) async fn replay(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    let (principal, endpoint) = visible(&request, &door)?;
    let mut body = body_of(&request, payload, &door).await?;
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
