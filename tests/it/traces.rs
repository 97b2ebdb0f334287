//! Following a payment from the request to the webhook, as a collector of OpenTelemetry sees it.

use crate::{
    receiver::{Conduct, Receiver},
    server::{MERCHANT_1_KEY, TestServer},
    shop::{SETTINGS, provider, route},
    wait::eventually,
    webhooks::{PATIENT, endpoint},
};
use serde_json::Value;
use std::collections::BTreeMap;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Every span that the collector has got, in the form of OTLP.
fn spans(collector: &Receiver) -> Vec<Value> {
    let mut spans = Vec::new();
    for got in collector.got() {
        assert_eq!(got.path, "/v1/traces");
        for resource in got.json()["resourceSpans"].as_array().unwrap() {
            let service = &resource["resource"]["attributes"];
            assert!(service.to_string().contains("\"strongroom\""), "{service}");
            for scope in resource["scopeSpans"].as_array().unwrap() {
                spans.extend(scope["spans"].as_array().unwrap().iter().cloned());
            }
        }
    }
    spans
}

fn text<'a>(span: &'a Value, field: &str) -> &'a str {
    span[field].as_str().unwrap_or_default()
}

/// The spans of one trace by name, once all of these names are among them.
#[track_caller]
fn trace(collector: &Receiver, id: &str, names: &[&str]) -> BTreeMap<String, Value> {
    eventually("the trace is complete", || {
        let spans = spans(collector).into_iter().filter(|span| text(span, "traceId") == id);
        let by_name: BTreeMap<String, Value> =
            spans.map(|span| (text(&span, "name").to_owned(), span)).collect();
        names.iter().all(|name| by_name.contains_key(*name)).then_some(by_name)
    })
}

/// Charges on behalf of a caller that is being followed.
#[track_caller]
fn charge(server: &TestServer) -> String {
    let (bearer, parent) = (format!("Bearer {MERCHANT_1_KEY}"), format!("00-{TRACE}-{CALLER}-01"));
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", "followed"),
        ("traceparent", &parent),
    ];
    let body = br#"{"amount": 100, "currency": "USD", "paymentMethod": "tok_visa"}"#;
    server.send("POST", "/api/payments", &headers, Some(body)).unwrap().id()
}

#[test]
fn one_trace_follows_a_payment_from_the_request_that_began_it_to_the_webhook() {
    let collector = Receiver::start_with(Conduct::Answer(200, ""));
    let url = collector.url();
    let setting = ("STRONGROOM__TELEMETRY__OTLP_ENDPOINT", url.trim_end_matches("/hook"));
    let server = TestServer::start_with(&[setting, PATIENT]);
    let receiver = Receiver::start_with(Conduct::Answer(200, ""));
    endpoint(&server, &receiver);
    charge(&server);
    let names = [
        "POST /api/payments",
        "claim",
        "provider call",
        "record",
        "journal write",
        "webhook delivery",
    ];
    let trace = trace(&collector, TRACE, &names);
    let parent_of = |name: &str| text(&trace[name], "parentSpanId");
    let id_of = |name: &str| text(&trace[name], "spanId");
    assert_eq!(parent_of("POST /api/payments"), CALLER, "the caller's own span is the first");
    for (child, parent) in [
        ("claim", "POST /api/payments"),
        ("provider call", "POST /api/payments"),
        ("record", "POST /api/payments"),
        ("journal write", "record"),
        ("webhook delivery", "record"),
    ] {
        assert_eq!(parent_of(child), id_of(parent), "{child}");
    }
    let delivered = receiver.got();
    let told = format!("00-{TRACE}-{}-01", id_of("webhook delivery"));
    assert_eq!(delivered[0].header("traceparent"), told);
}

#[test]
fn a_call_to_a_provider_outside_carries_the_trace() {
    let collector = Receiver::start_with(Conduct::Answer(200, ""));
    let url = collector.url();
    let setting = ("STRONGROOM__TELEMETRY__OTLP_ENDPOINT", url.trim_end_matches("/hook"));
    let stripe = Receiver::start_with(Conduct::Answer(503, ""));
    let config = provider("stripe", stripe.url().trim_end_matches("/hook"), "") + &route("stripe");
    let server = TestServer::start_configured(&config, &[&SETTINGS[..], &[setting]].concat());
    charge(&server);
    let called = eventually("the provider is called", || stripe.got().into_iter().next());
    let names = ["POST /api/payments", "provider call", "record"];
    let trace = trace(&collector, TRACE, &names);
    let told = format!("00-{TRACE}-{}-01", text(&trace["provider call"], "spanId"));
    assert_eq!(called.header("traceparent"), told);
}

#[test]
fn of_requests_that_bring_no_trace_only_the_share_that_is_wanted_is_followed() {
    let collector = Receiver::start_with(Conduct::Answer(200, ""));
    let url = collector.url();
    let server = TestServer::start_with(&[
        ("STRONGROOM__TELEMETRY__OTLP_ENDPOINT", url.trim_end_matches("/hook")),
        ("STRONGROOM__TELEMETRY__SAMPLE_RATIO", "0.0"),
    ]);
    server.charge("unfollowed", 100).of(201);
    charge(&server);
    trace(&collector, TRACE, &["POST /api/payments", "claim", "record", "journal write"]);
    assert!(spans(&collector).iter().all(|span| text(span, "traceId") == TRACE));
}

#[test]
fn what_else_a_caller_says_of_its_trace_is_handed_on_if_it_is_short() {
    let collector = Receiver::start_with(Conduct::Answer(200, ""));
    let url = collector.url();
    let setting = ("STRONGROOM__TELEMETRY__OTLP_ENDPOINT", url.trim_end_matches("/hook"));
    let server = TestServer::start_with(&[setting]);
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let states = [format!("short={}", "s".repeat(100)), format!("long={}", "l".repeat(10_000))];
    for state in &states {
        let headers = [("traceparent", parent.as_str()), ("tracestate", state)];
        server.send("GET", "/health", &headers, None).unwrap().of(200);
    }
    let followed = eventually("both are followed", || {
        let spans = spans(&collector).into_iter().filter(|span| text(span, "traceId") == TRACE);
        Some(spans.collect::<Vec<_>>()).filter(|spans| spans.len() == states.len())
    });
    let said: Vec<&str> = followed.iter().map(|span| text(span, "traceState")).collect();
    assert!(said.contains(&states[0].as_str()) && said.contains(&""), "{said:?}");
}

#[test]
fn a_collector_that_answers_without_end_is_not_listened_to_for_ever() {
    let collector = Receiver::start_with(Conduct::Dawdle);
    let url = collector.url();
    let setting = ("STRONGROOM__TELEMETRY__OTLP_ENDPOINT", url.trim_end_matches("/hook"));
    let server = TestServer::start_with(&[setting]);
    eventually("spans are sent again and again", || {
        server.get("/health").of(200);
        (collector.got().len() >= 3).then_some(())
    });
}

#[test]
fn without_a_collector_nobody_is_followed() {
    let server = TestServer::start_with(&[PATIENT]);
    let receiver = Receiver::start_with(Conduct::Answer(200, ""));
    endpoint(&server, &receiver);
    charge(&server);
    let told = eventually("the webhook came", || receiver.got().into_iter().next());
    assert_eq!(told.header("traceparent"), "");
}

#[test]
fn a_collector_that_is_away_keeps_nobody_from_paying_nor_the_server_from_stopping() {
    let setting = ("STRONGROOM__TELEMETRY__OTLP_ENDPOINT", "http://127.0.0.1:1");
    let mut server = TestServer::start_with(&[setting]);
    charge(&server);
    assert!(server.terminate().success());
}
