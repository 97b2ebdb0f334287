//! The door: wire form in, meaning through, wire form out. It knows no rules of payments.
//!
//! The route table is [`routes`]; each module holds the handlers of one noun. What stands there is also the OpenAPI
//! document, see [`openapi`]: a route must be in both (`tests/it/openapi.rs`). `body` reads requests, `wire` writes
//! answers, `reply` is the one place where an outcome becomes a problem, `codes` the table of all problems.

mod access;
mod address;
mod around;
mod body;
mod codes;
mod connections;
mod docs;
mod events;
#[cfg(feature = "fault-injection")]
pub mod fuzzing;
mod gate;
mod headers;
mod health;
mod http2;
mod idempotency;
mod ledger;
mod lifecycle;
mod listener;
mod metrics;
mod observe;
mod openapi;
mod payments;
mod providers;
mod query;
mod rates;
mod reconciliation;
mod reply;
mod snapshots;
mod stream;
mod tls;
mod webhooks;
mod wire;

use crate::{
    actors::{
        BooksReader, Engine, alarms::Alarms, reconciliation::Reconciliations, snapshots::Snapshots,
        webhooks::WebhooksHandle,
    },
    clock::Clock,
    config::Network,
    credentials::Credentials,
    domain::idempotency::Retention,
};
use actix_web::{Resource, Route, web};
use observe::Pattern;
use reply::Problem;
use std::{sync::Arc, time::Duration};
use tokio::sync::SetOnce;

pub use lifecycle::Drain;

pub use listener::{serve, serve_metrics};
pub use rates::Rates;
pub use tls::Certificate;

/// What the handlers share.
pub struct Door {
    /// Who may come in.
    pub credentials: Credentials,
    /// The merchants that the configuration names.
    pub merchants: Vec<Arc<str>>,
    /// How much a request may be.
    pub limits: Limits,
    /// How often who may ask.
    pub rates: Rates,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// What the server proves itself with; none where it speaks plain HTTP.
    pub tls: Option<Arc<Certificate>>,
    /// How long an authorization holds, in milliseconds.
    pub hold_ms: u64,
    /// The core, once it has recovered. Until then the door says "not yet".
    pub core: SetOnce<Core>,
    /// Whether it is going down.
    pub drain: Arc<Drain>,
}

/// What stands behind the door.
pub struct Core {
    /// What is durable, to read.
    pub books: BooksReader,
    /// What time it is on these books.
    pub clock: Arc<dyn Clock>,
    /// How long an idempotency key stays used.
    pub retention: Retention,
    /// The reconciliation runs.
    pub reconciliations: Arc<Reconciliations>,
    /// What is wrong now.
    pub alarms: Arc<Alarms>,
    /// Whatever changes something on disk; none where the books are only shown.
    pub writing: Option<Writing>,
}

/// Who changes something on disk.
pub struct Writing {
    /// The actors.
    pub engine: Arc<Engine>,
    /// Who makes snapshots.
    pub snapshots: Snapshots,
    /// The webhook couriers.
    pub webhooks: WebhooksHandle,
}

impl Core {
    /// Who writes, or the refusal of whatever would.
    fn writing(&self) -> Result<&Writing, Problem> {
        let refused = || Problem::read_only(self.books.read().position());
        self.writing.as_ref().ok_or_else(refused)
    }
}

/// How much a request may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads that serve connections.
    pub workers: usize,
    /// Connections at once, over all workers.
    pub connections_max: usize,
    /// Connections at once from one address.
    pub connections_per_address: usize,
    /// How long the head of a request may take to arrive.
    pub head_read_timeout: Duration,
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// How long a body may take to arrive.
    pub body_read_timeout: Duration,
    /// How long a request waits for another one under its key.
    pub request_deadline: Duration,
}

impl Door {
    /// The merchant of this name, wherever it was made.
    fn merchant(&self, name: &str) -> Option<Arc<str>> {
        self.configured(name).cloned().or_else(|| {
            let books = self.core.get()?.books.read();
            books.access().merchant(name).map(|(id, _)| id.clone())
        })
    }

    /// The merchant of this name, if the configuration names it: then that alone says what it may.
    fn configured(&self, name: &str) -> Option<&Arc<str>> {
        self.merchants.iter().find(|id| ***id == *name)
    }

    fn core(&self) -> Result<&Core, Problem> {
        self.core.get().ok_or_else(Problem::not_serving)
    }
}

/// Every route there is.
fn routes(config: &mut web::ServiceConfig) {
    config
        .service(resource(
            "/api/payments",
            [("GET", web::get().to(payments::list)), ("POST", web::post().to(payments::create))],
        ))
        .service(resource("/api/payments/{id}", [("GET", web::get().to(payments::read))]))
        .service(resource(
            "/api/payments/{id}/events",
            [("GET", web::get().to(payments::audit::events))],
        ))
        .service(resource(
            "/api/payments/{id}/capture",
            [("POST", web::post().to(payments::capture))],
        ))
        .service(resource("/api/payments/{id}/void", [("POST", web::post().to(payments::void))]))
        .service(resource(
            "/api/payments/{id}/refund",
            [("POST", web::post().to(payments::refund))],
        ))
        .service(resource(
            "/api/payments/{id}/resolve",
            [("POST", web::post().to(payments::resolution::resolve))],
        ))
        .service(resource(
            "/api/providers/{name}/webhook",
            [("POST", web::post().to(providers::webhook))],
        ))
        .service(resource("/api/ledger", [("GET", web::get().to(ledger::trial_balance))]))
        .service(resource("/api/ledger/{account:.+}", [("GET", web::get().to(ledger::account))]))
        .service(resource("/api/idempotency/{key:.+}", [("GET", web::get().to(idempotency::read))]))
        .service(resource(
            "/api/reconcile",
            [
                ("GET", web::get().to(reconciliation::list)),
                ("POST", web::post().to(reconciliation::run)),
            ],
        ))
        .configure(webhook_routes)
        .configure(access_routes)
        .configure(document_routes)
        .service(resource("/metrics", [("GET", web::get().to(metrics::read))]))
        .service(resource("/api/snapshot", [("POST", web::post().to(snapshots::make))]))
        .service(resource("/health", [("GET", web::get().to(health::health))]))
        .service(resource("/ready", [("GET", web::get().to(health::ready))]))
        .default_service(web::to(|| async { Problem::no_such_route() }));
}

fn access_routes(config: &mut web::ServiceConfig) {
    config
        .service(resource(
            "/api/merchants",
            [
                ("GET", web::get().to(access::merchants)),
                ("POST", web::post().to(access::make_merchant)),
            ],
        ))
        .service(resource(
            "/api/merchants/{id}",
            [
                ("GET", web::get().to(access::read_merchant)),
                ("PATCH", web::patch().to(access::change_merchant)),
            ],
        ))
        .service(resource(
            "/api/merchants/{id}/keys",
            [("GET", web::get().to(access::keys)), ("POST", web::post().to(access::make_key))],
        ))
        .service(resource(
            "/api/merchants/{id}/keys/{key}",
            [("DELETE", web::delete().to(access::revoke))],
        ))
        .service(resource(
            "/api/admin-keys",
            [
                ("GET", web::get().to(access::admin_keys)),
                ("POST", web::post().to(access::make_admin_key)),
            ],
        ))
        .service(resource(
            "/api/admin-keys/{key}",
            [("DELETE", web::delete().to(access::revoke_admin))],
        ))
        .service(resource("/api/audit", [("GET", web::get().to(access::audit))]));
}

fn webhook_routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/api/events", [("GET", web::get().to(events::list))]))
        .service(resource("/api/events/{id}", [("GET", web::get().to(events::read))]))
        .service(resource(
            "/api/events/{id}/deliveries",
            [("GET", web::get().to(events::deliveries))],
        ))
        .service(resource(
            "/api/events/{id}/redeliver",
            [("POST", web::post().to(events::redeliver))],
        ))
        .service(resource(
            "/api/webhook-endpoints",
            [("GET", web::get().to(webhooks::list)), ("POST", web::post().to(webhooks::create))],
        ))
        .service(resource(
            "/api/webhook-endpoints/{id}",
            [
                ("GET", web::get().to(webhooks::read)),
                ("PATCH", web::patch().to(webhooks::update)),
                ("DELETE", web::delete().to(webhooks::delete)),
            ],
        ))
        .service(resource(
            "/api/webhook-endpoints/{id}/rotate-secret",
            [("POST", web::post().to(webhooks::rotate))],
        ))
        .service(resource(
            "/api/webhook-endpoints/{id}/test",
            [("POST", web::post().to(webhooks::test))],
        ))
        .service(resource(
            "/api/webhook-endpoints/{id}/replay",
            [("POST", web::post().to(webhooks::replay))],
        ));
}

fn document_routes(config: &mut web::ServiceConfig) {
    config
        .service(resource("/api/openapi.json", [("GET", web::get().to(docs::document))]))
        .service(resource("/docs", [("GET", web::get().to(docs::page))]))
        .service(resource("/docs/errors", [("GET", web::get().to(docs::errors))]))
        .service(resource("/docs/errors/{code}", [("GET", web::get().to(docs::error))]));
}

fn resource<const N: usize>(path: &'static str, methods: [(&'static str, Route); N]) -> Resource {
    let allowed = methods.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let resource = web::resource(path).app_data(Pattern(path));
    let resource = methods.into_iter().fold(resource, |all, (_, route)| all.route(route));
    resource.default_service(web::to(move || {
        let problem = Problem::method_not_allowed(&allowed);
        async move { problem }
    }))
}
