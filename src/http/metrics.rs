//! `/metrics`, as Prometheus and all that speak OpenMetrics read it.
//!
//! Most numbers are read where they live at the moment they are asked for; what would be gone by then is counted by the
//! [`meters`](crate::meters). A number more is a line more in [`registry`].

mod series;

use super::{Core, Door, Writing, headers, query::Query, reply::Problem};
use crate::{
    actors::{Engine, snapshots::State},
    domain::{books::Books, id::Sequence, payment::Status, webhook::Endpoint},
    meters::{
        Meters, meters,
        process::{Usage, file_system},
    },
};
use actix_web::{HttpRequest, HttpResponse, http::header::ACCEPT, web};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use series::{Counters, Gauges, Histograms, Unit};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Shows figures for Prometheus (admin).
///
/// Each is read where it lives, at the moment it is asked for.
#[utoipa::path(get, path = "/metrics", tag = "Operation", operation_id = "readMetrics", security(("adminKey" = [])),
    responses((status = 200, description = "In OpenMetrics where it is accepted, in the older text form where not.",
        content((String = "text/plain"), (String = "application/openmetrics-text")))),
    extensions(("x-problems" = json!(["internal_error"]))))]
pub(super) async fn read(
    request: HttpRequest,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    headers::admin(&request, &door)?;
    answer(&request, &door)
}

/// `GET /metrics` of the listener that `metrics.listen` opens.
pub(super) async fn read_without_key(
    request: HttpRequest,
    door: web::Data<Door>,
) -> Result<HttpResponse, Problem> {
    answer(&request, &door)
}

/// In OpenMetrics for those that ask for it, as Prometheus does, and for others in the text form before it.
fn answer(request: &HttpRequest, door: &Door) -> Result<HttpResponse, Problem> {
    Query::of(request).finish()?;
    let mut text = String::new();
    encode(&mut text, &registry(door)).map_err(|_| Problem::internal())?;
    let mut accepted = request.headers().get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    let (form, text) = match accepted.any(|value| value.contains("application/openmetrics-text")) {
        true => (OPEN_METRICS, text),
        false => (TEXT, series::as_text(&text)),
    };
    Ok(HttpResponse::Ok().content_type(form).body(text))
}

/// Everything; of the core only once it has recovered.
fn registry(door: &Door) -> Registry {
    let core = door.core.get();
    let mut registry = Registry::default();
    process(&mut registry);
    let own = registry.sub_registry_with_prefix("strongroom");
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    own.register("build_info", "Which release this is, always 1", Gauges(vec![(version, 1_u64)]));
    own.register("ready", "1 while payments are taken", ConstGauge::new(u64::from(ready(door))));
    let name = "tls_certificate_expires_timestamp_seconds";
    let help = "When the server's certificate expires, in seconds since the epoch";
    match &door.tls {
        Some(own_one) => {
            own.register(name, help, ConstGauge::new(own_one.expires().millis() / 1000));
        }
        // Its name is known all the same.
        None => own.register(name, help, Gauges(Vec::<(_, u64)>::new())),
    }
    counted(own, meters());
    let Some(core) = core else { return registry };
    books(own, core);
    reconciliation(own.sub_registry_with_prefix("reconciliation"), core);
    webhooks(own.sub_registry_with_prefix("webhooks"), core);
    if let Some(Writing { snapshots, engine, .. }) = &core.writing {
        at_work(own, engine);
        providers(own.sub_registry_with_prefix("provider"), engine);
        snapshots_made(own.sub_registry_with_prefix("snapshots"), core, &snapshots.state());
    }
    let alarms = core.alarms.all().into_iter();
    let alarms = alarms.map(|alarm| (vec![("code", alarm.code.to_owned())], 1_u64)).collect();
    own.register("alarm", "1 for each alarm that stands", Gauges(alarms));
    registry
}

/// As `/ready` says it. Books that are only shown take no payments.
fn ready(door: &Door) -> bool {
    let Some(Core { writing: Some(Writing { engine, .. }), books, .. }) = door.core.get() else {
        return false;
    };
    !door.drain.began() && engine.disk_answers().is_ok() && engine.admission.ready(books).is_ok()
}

/// Under the names that every client library of Prometheus gives them.
fn process(registry: &mut Registry) {
    let Some(usage) = Usage::now() else { return };
    let mut gauge = |name, help, value| registry.register(name, help, ConstGauge::new(value));
    gauge("process_resident_memory_bytes", "Resident memory size", usage.resident_bytes);
    gauge("process_virtual_memory_bytes", "Virtual memory size", usage.virtual_bytes);
    gauge("process_threads", "Threads of the process", usage.threads);
    gauge("process_open_fds", "Open file descriptors", usage.open_fds);
    if let Some(max_fds) = usage.max_fds {
        gauge("process_max_fds", "The most file descriptors there may be", max_fds);
    }
    let help = "When the process began, in seconds since the epoch";
    let began = ConstGauge::new(usage.started.as_secs_f64());
    registry.register("process_start_time_seconds", help, began);
    let help = "Time that the process spent on processors";
    registry.register("process_cpu_seconds", help, ConstCounter::new(usage.cpu.as_secs_f64()));
}

/// What the meters have counted since the process began.
fn counted(registry: &mut Registry, meters: &Meters) {
    let requests = meters.requests.read().into_iter().map(|(request, counts)| {
        let status = ("status", request.status.to_string());
        let route = [("route", request.route.to_owned()), ("method", request.method.to_owned())];
        (route.into_iter().chain([status]).collect(), counts.count)
    });
    let requests = Counters(requests.collect());
    registry.register("http_requests", "Requests that were answered", requests);
    let times = Histograms::of(&meters.requests, Unit::Microseconds, |request| {
        vec![("route", request.route.to_owned()), ("method", request.method.to_owned())]
    });
    registry.register("http_request_duration_seconds", "How long requests took", times);
    let open = ConstGauge::new(count(meters.connections.read()));
    registry.register("http_connections", "Connections that are open", open);
    let ended = meters.connections_ended.read().into_iter();
    let ended = ended.map(|(why, counts)| (vec![("reason", why.to_owned())], counts.count));
    let help = "Connections that were turned away or cut off: too_many, too_many_from_address, too_slow, no_tls";
    registry.register("http_connections_ended", help, Counters(ended.collect()));
    let claims = meters.claims.read().into_iter();
    let claims = claims.map(|(word, counts)| (vec![("result", word.to_owned())], counts.count));
    let help = "What became of requests under an idempotency key: fresh, replay, mismatch, in_progress (it waited too \
                long), overloaded; and how many waited for another one";
    registry.register("idempotency_claims", help, Counters(claims.collect()));
    let none = |(): &()| Vec::new();
    let help = "How long the journal took to make a batch durable";
    let syncs = Histograms::of(&meters.syncs, Unit::Microseconds, none);
    registry.register("journal_sync_duration_seconds", help, syncs);
    let batches = Histograms::of(&meters.batches, Unit::Pieces, none);
    registry.register("journal_batch_entries", "Entries in a batch of the journal", batches);
    let calls = Histograms::of(&meters.calls, Unit::Microseconds, |call| {
        let operation = ("operation", call.operation.to_owned());
        vec![("provider", call.provider.to_string()), operation, ("outcome", call.outcome.into())]
    });
    let help = "How long calls to payment providers took";
    registry.register("provider_call_duration_seconds", help, calls);
    let tries = Histograms::of(&meters.tries, Unit::Microseconds, |result| {
        vec![("result", (*result).to_owned())]
    });
    let help = "How long tries to deliver a webhook took, by what came of them";
    registry.register("webhooks_attempt_duration_seconds", help, tries);
    let Some((all, free)) = meters.data_dir.get().and_then(|folder| file_system(folder)) else {
        return;
    };
    let help = "The size of the file system that the data folder is on";
    registry.register("data_filesystem_size_bytes", help, ConstGauge::new(all));
    let help = "What of it the server can still use";
    registry.register("data_filesystem_free_bytes", help, ConstGauge::new(free));
}

/// What is being worked on, and the room for it.
fn at_work(registry: &mut Registry, engine: &Engine) {
    let (in_flight, in_flight_max) = engine.admission.in_flight();
    let space = engine.admission.space();
    let mut gauge = |name, help, value| registry.register(name, help, ConstGauge::new(value));
    gauge("commands_in_flight", "Commands that are worked on", count(in_flight));
    gauge("commands_in_flight_limit", "The most at once; more get 503", count(in_flight_max));
    let queue = count(meters().ledger_queue.read());
    gauge("ledger_queue_entries", "Entries that wait to be durable", queue);
    let help = "Room in the journal that is written already, and so can't run out";
    gauge("journal_free_bytes", help, space.free());
    gauge("journal_reserved_bytes", "What of it is promised to commands", space.reserved());
    let help = "Segments that are ready behind the one in use";
    gauge("journal_segments_ahead", help, u64::from(space.has_segment_ahead()));
    let help = "1 while the next segment could not be made, since the disk is full";
    gauge("journal_storage_full", help, u64::from(space.is_full()));
    let writing = engine.ledger.writing_for().as_secs_f64();
    let help = "How long the write that is under way has taken so far";
    registry.register("journal_write_age_seconds", help, ConstGauge::new(writing));
    let help = "Bytes that were written to the journal, padding included";
    registry.register("journal_written_bytes", help, ConstCounter::new(space.written()));
}

fn books(registry: &mut Registry, core: &Core) {
    let (sequence, by_status, in_doubt, in_review) = {
        let books = core.books.read();
        let counts = (books.in_doubt_count(), books.in_review_count());
        (books.position().sequence, books.payments_by_status().clone(), counts.0, counts.1)
    };
    let help = "The last entry of the journal";
    registry.register("journal_sequence", help, ConstGauge::new(sequence));
    let payments = Status::ALL.into_iter().map(|status| {
        let count = by_status.get(&status).copied().unwrap_or_default();
        (vec![("status", status.name().to_owned())], count)
    });
    registry.register("payments", "Payments on the books", Gauges(payments.collect()));
    let help = "Payments of which a provider's answer is out";
    registry.register("payments_in_doubt", help, ConstGauge::new(count(in_doubt)));
    let help = "Payments that a person has to look at";
    registry.register("payments_in_review", help, ConstGauge::new(count(in_review)));
    in_doubt_by_provider(registry.sub_registry_with_prefix("in_doubt"), core);
}

fn in_doubt_by_provider(registry: &mut Registry, core: &Core) {
    let (mut amounts, mut attempts, mut ages) = (Vec::new(), Vec::new(), Vec::new());
    let now = core.clock.now();
    let doubts = core.books.read().doubts();
    for ((provider, currency), doubt) in doubts {
        let labels = vec![("provider", provider.to_string()), ("currency", currency.to_string())];
        let age = doubt.since.map_or(0, |since| now.millis_since(since) / 1000);
        amounts.push((labels.clone(), i64::try_from(doubt.amount).unwrap_or(i64::MAX)));
        attempts.push((labels.clone(), doubt.attempts));
        ages.push((labels, age));
    }
    let help = "Money that a provider may have moved or not";
    registry.register("minor_units", help, Gauges(amounts));
    let help = "What was asked of a provider and is not known to be done";
    registry.register("attempts", help, Gauges(attempts));
    let help = "How long the oldest of them has been out";
    registry.register("oldest_age_seconds", help, Gauges(ages));
}

fn providers(registry: &mut Registry, engine: &Engine) {
    let (mut failing, mut calls) = (Vec::new(), Vec::new());
    for (name, line) in engine.lines.all() {
        let Some(outside) = line.as_outside() else { continue };
        let labels = vec![("provider", name.to_string())];
        failing.push((labels.clone(), u64::from(outside.is_failing())));
        calls.push((labels, count(outside.under_way())));
    }
    let help = "1 for each provider that takes no new payments";
    registry.register("failing", help, Gauges(failing));
    registry.register("calls", "Calls that are under way", Gauges(calls));
}

fn webhooks(registry: &mut Registry, core: &Core) {
    let (mut endpoints, mut disabled, mut failing) = (0_u64, 0_u64, 0_u64);
    let (mut waiting, mut dead, mut behind) = (0_u64, 0_u64, Vec::new());
    for endpoint in core.books.read().webhooks().endpoints() {
        let progress = &endpoint.progress;
        endpoints += 1;
        disabled += u64::from(endpoint.disabled.is_some());
        failing += u64::from(progress.failing_since.is_some());
        waiting = waiting.saturating_add(endpoint.waiting());
        dead = dead.saturating_add(count(progress.dead.len()));
        if endpoint.disabled.is_none() && endpoint.waiting() > 0 {
            behind.push(endpoint.id);
        }
    }
    // Looking for what an endpoint waits for takes a moment, and there may be many: the books are let go of in between.
    let oldest = behind.into_iter().filter_map(|id| {
        let books = core.books.read();
        let sequence = waits_longest(&books, books.webhooks().endpoint(id)?)?;
        Some(books.event(sequence)?.step.at.millis())
    });
    let oldest = oldest.min();
    let now = core.clock.now().millis();
    let age = oldest.map_or(0, |at| now.saturating_sub(at) / 1000);
    let mut gauge = |name, help, value| registry.register(name, help, ConstGauge::new(value));
    gauge("endpoints", "Webhook endpoints", endpoints);
    gauge("endpoints_disabled", "Endpoints that get nothing", disabled);
    gauge("endpoints_failing", "Endpoints whose last try failed", failing);
    gauge("waiting", "Events that endpoints have still to get", waiting);
    let help = "How long ago the oldest of them happened, but for disabled endpoints";
    gauge("oldest_age_seconds", help, age);
    gauge("dead_letters", "Events that were given up and can be redelivered", dead);
}

/// The entry of the event that an endpoint has waited for the longest; `None` if it has all, or if nothing that it
/// wants is among the next few hundred of its merchant.
fn waits_longest(books: &Books, endpoint: &Endpoint) -> Option<Sequence> {
    const LOOKED_MAX: usize = 512;
    let open = endpoint.progress.open.values().map(|open| open.sequence).min();
    let next = || {
        let (found, _) = books.feed(endpoint, endpoint.progress.cursor, (1, LOOKED_MAX));
        found.first().map(|next| next.sequence)
    };
    open.or_else(next)
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
