//! `/metrics`, as Prometheus and all that speak OpenMetrics read it.
//!
//! Every number is read where it lives at the moment it is asked for; nothing is counted twice. A number more is a line
//! more in [`registry`].

use super::{Core, Door, Writing, headers, query::Query, reply::Problem};
use crate::actors::{Engine, snapshots::State};
use actix_web::{HttpRequest, HttpResponse, web};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::ConstCounter, family::Family, gauge::ConstGauge, gauge::Gauge},
    registry::Registry,
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Shows figures for Prometheus (admin).
///
/// Each is read where it lives, at the moment it is asked for.
#[utoipa::path(get, path = "/metrics", tag = "Operation", operation_id = "readMetrics", security(("adminKey" = [])),
    responses((status = 200, description = "OpenMetrics.", body = String, content_type = "application/openmetrics-text")),
    extensions(("x-problems" = json!(["internal_error"]))))]
pub(super) async fn read(
    request: HttpRequest,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    headers::admin(&request, &door)?;
    Query::of(&request)?.finish()?;
    let mut text = String::new();
    encode(&mut text, &registry(door.core()?)).map_err(|_| Problem::internal())?;
    Ok(HttpResponse::Ok().content_type(OPEN_METRICS).body(text))
}

fn registry(core: &Core) -> Registry {
    let mut registry = Registry::with_prefix("strongroom");
    books(&mut registry, core);
    reconciliation(registry.sub_registry_with_prefix("reconciliation"), core);
    webhooks(registry.sub_registry_with_prefix("webhooks"), core);
    if let Some(Writing { snapshots, engine, .. }) = &core.writing {
        providers(registry.sub_registry_with_prefix("provider"), engine);
        snapshots_made(registry.sub_registry_with_prefix("snapshots"), core, &snapshots.state());
    }
    let alarms = Family::<[(&str, &str); 1], Gauge>::default();
    for alarm in core.alarms.all() {
        alarms.get_or_create(&[("code", alarm.code)]).set(1);
    }
    registry.register("alarm", "1 for each alarm that stands", alarms);
    registry
}

fn books(registry: &mut Registry, core: &Core) {
    let (sequence, payments, in_doubt, in_review) = {
        let books = core.books.read();
        let counts = (books.in_doubt_count(), books.in_review_count());
        (books.position().sequence, books.payment_count(), counts.0, counts.1)
    };
    let help = "The last entry of the journal";
    registry.register("journal_sequence", help, ConstGauge::new(sequence));
    let help = "Payments on the books";
    registry.register("payments", help, ConstGauge::new(count(payments)));
    let help = "Payments of which a provider's answer is out";
    registry.register("payments_in_doubt", help, ConstGauge::new(count(in_doubt)));
    let help = "Payments that a person has to look at";
    registry.register("payments_in_review", help, ConstGauge::new(count(in_review)));
    in_doubt_by_provider(registry.sub_registry_with_prefix("in_doubt"), core);
}

fn in_doubt_by_provider(registry: &mut Registry, core: &Core) {
    let amounts = Family::<[(&str, String); 2], Gauge>::default();
    let attempts = Family::<[(&str, String); 2], Gauge>::default();
    let ages = Family::<[(&str, String); 2], Gauge>::default();
    let now = core.clock.now();
    let number = |number: i128| i64::try_from(number).unwrap_or(i64::MAX);
    for ((provider, currency), doubt) in core.books.read().doubts() {
        let labels = [("provider", provider.to_string()), ("currency", currency.to_string())];
        let age = doubt.since.map_or(0, |since| now.millis_since(since) / 1000);
        amounts.get_or_create(&labels).set(number(doubt.amount));
        attempts.get_or_create(&labels).set(number(doubt.attempts.into()));
        ages.get_or_create(&labels).set(number(age.into()));
    }
    registry.register("minor_units", "Money that a provider may have moved or not", amounts);
    registry.register(
        "attempts",
        "What was asked of a provider and is not known to be done",
        attempts,
    );
    registry.register("oldest_age_seconds", "How long the oldest of them has been out", ages);
}

fn providers(registry: &mut Registry, engine: &Engine) {
    let failing = Family::<[(&str, String); 1], Gauge>::default();
    let calls = Family::<[(&str, String); 1], Gauge>::default();
    for (name, line) in engine.lines.all() {
        let Some(outside) = line.as_outside() else { continue };
        let labels = [("provider", name.to_string())];
        failing.get_or_create(&labels).set(i64::from(outside.is_failing()));
        let under_way = i64::try_from(outside.under_way()).unwrap_or(i64::MAX);
        calls.get_or_create(&labels).set(under_way);
    }
    registry.register("failing", "1 for each provider that takes no new payments", failing);
    registry.register("calls", "Calls that are under way", calls);
}

fn webhooks(registry: &mut Registry, core: &Core) {
    let (mut endpoints, mut disabled, mut failing) = (0_u64, 0_u64, 0_u64);
    let (mut delivered, mut failed, mut waiting, mut dead) = (0_u64, 0_u64, 0_u64, 0_u64);
    for endpoint in core.books.read().webhooks().endpoints() {
        let progress = &endpoint.progress;
        endpoints += 1;
        disabled += u64::from(endpoint.disabled.is_some());
        failing += u64::from(progress.failing_since.is_some());
        delivered = delivered.saturating_add(progress.delivered);
        failed = failed.saturating_add(progress.failed);
        waiting = waiting.saturating_add(endpoint.waiting());
        dead = dead.saturating_add(count(progress.dead.len()));
    }
    let mut gauge = |name, help, value| registry.register(name, help, ConstGauge::new(value));
    gauge("endpoints", "Webhook endpoints", endpoints);
    gauge("endpoints_disabled", "Endpoints that get nothing", disabled);
    gauge("endpoints_failing", "Endpoints whose last try failed", failing);
    gauge("waiting", "Events that endpoints have still to get", waiting);
    gauge("dead_letters", "Events that were given up and can be redelivered", dead);
    // Of the endpoints that there are: a deleted one takes its own along.
    gauge("delivered", "Deliveries that succeeded, at endpoints that still exist", delivered);
    gauge("failed_attempts", "Tries that failed, at endpoints that still exist", failed);
}

fn reconciliation(registry: &mut Registry, core: &Core) {
    let counts = core.reconciliations.counts();
    let help = "Checks of everything that were made";
    registry.register("full_runs", help, ConstCounter::new(counts.full));
    let help = "Checks of what was new that were made";
    registry.register("incremental_runs", help, ConstCounter::new(counts.incremental));
    let help = "Things that were found wrong; any but 0 is an emergency";
    registry.register("findings", help, ConstCounter::new(counts.findings));
    let Some(through) = core.reconciliations.through() else { return };
    let help = "Everything up to this entry of the journal is known to be right";
    registry.register("through_sequence", help, ConstGauge::new(through.sequence));
    let help = "How long ago nothing had been booked behind that entry, in seconds";
    registry.register("age_seconds", help, ConstGauge::new(through.age.as_secs_f64()));
}

fn snapshots_made(registry: &mut Registry, core: &Core, state: &State) {
    let help = "Snapshots that were made";
    registry.register("made", help, ConstCounter::new(state.made));
    let help = "Snapshots that could not be made";
    registry.register("failed", help, ConstCounter::new(state.failed));
    let help = "Snapshots that were found damaged";
    registry.register("damaged", help, ConstCounter::new(state.damaged));
    let Some(newest) = &state.newest else { return };
    let help = "The last entry that the newest snapshot holds";
    registry.register("through_sequence", help, ConstGauge::new(newest.position.sequence));
    let help = "How long ago that entry was written, in seconds";
    let age = core.clock.now().millis_since(newest.position.at) / 1000;
    registry.register("age_seconds", help, ConstGauge::new(age));
    registry.register("bytes", "The size of the newest snapshot", ConstGauge::new(newest.bytes));
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
