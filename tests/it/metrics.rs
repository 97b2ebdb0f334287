//! Numbers for the operator: what is counted, who may read it, and that dashboard and alert rules name nothing else.

use crate::{
    client::{Client, Response},
    receiver::{Conduct, Receiver},
    server::TestServer,
    wait::{at_once, eventually},
    webhooks::{PATIENT, endpoint},
};
use regex::Regex;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, net::SocketAddr, path::Path};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The value of the series that begins with `name`, labels included; 0 if there is none yet.
#[track_caller]
pub fn value(server: &TestServer, name: &str) -> f64 {
    value_in(&server.admin().get("/metrics").of(200).text(), name)
}

pub fn value_in(text: &str, name: &str) -> f64 {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value).unwrap_or_default()
}

/// Metrics are also shown without a key.
pub const LISTEN: (&str, &str) = ("STRONGROOM__METRICS__LISTEN", "127.0.0.1:0");

/// Where they are.
pub fn listener(server: &TestServer) -> SocketAddr {
    let shown = Regex::new(r#""metrics are shown.*"address":"([0-9.:]+)""#).unwrap();
    eventually("the log says where", || {
        shown.captures(&server.logs()).map(|found| found[1].parse().unwrap())
    })
}

/// The value of a series of a server that has such a listener.
#[track_caller]
pub fn value_without_key(server: &TestServer, name: &str) -> f64 {
    let stranger = Client::new(&format!("http://{}", listener(server)), "");
    value_in(&stranger.send("GET", "/metrics", &[], None).unwrap().of(200).text(), name)
}

fn ask(client: &Client, accept: &str) -> Response {
    client.get_with("/metrics", &[("Accept", accept)]).of(200)
}

#[test]
fn metrics_are_for_admins_in_either_form_that_prometheus_reads() {
    let server = TestServer::start();
    server.get("/metrics").problem(403, "forbidden");
    server.client("wrong").get("/metrics").problem(401, "unauthenticated");
    let wanted = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
    let answer = ask(&server.admin(), wanted);
    assert_eq!(answer.header("Content-Type"), Some(OPEN_METRICS));
    let text = answer.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in [
        "# TYPE strongroom_journal_sequence gauge",
        "# TYPE strongroom_reconciliation_findings counter",
        "strongroom_payments{status=\"completed\"} 0",
        "strongroom_payments_in_doubt 0",
        "strongroom_ready 1",
    ] {
        assert!(text.lines().any(|each| each == line), "{line}: {text}");
    }
    for accept in ["text/plain", "*/*"] {
        let answer = ask(&server.admin(), accept);
        assert_eq!(answer.header("Content-Type"), Some(TEXT));
        let line = "# TYPE strongroom_reconciliation_findings_total counter\n";
        assert!(answer.text().contains(line), "{}", answer.text());
    }
}

#[test]
fn a_listener_of_its_own_shows_metrics_and_nothing_else_without_a_key() {
    let server = TestServer::start_with(&[LISTEN]);
    let stranger = Client::new(&format!("http://{}", listener(&server)), "");
    let text = stranger.send("GET", "/metrics", &[], None).unwrap().of(200).text();
    assert!(text.contains("strongroom_ready 1\n"), "{text}");
    for path in ["/api/payments", "/health", "/"] {
        stranger.send("GET", path, &[], None).unwrap().of(404);
    }
    stranger.send("POST", "/metrics", &[], None).unwrap().of(405);
}

#[test]
fn requests_are_counted_by_pattern_method_and_status_and_nothing_that_a_client_makes_up() {
    let server = TestServer::start();
    let id = server.charge("a", 100).of(201).id();
    server.charge("a", 100).of(201);
    server.pay("b", &json!({"amount": 0})).of(400);
    for _ in 0..3 {
        server.get(&format!("/api/payments/{id}")).of(200);
    }
    for made_up in ["/wp-login.php", "/api/paymentz", "/x/y/z"] {
        server.get(made_up).of(404);
    }
    server.send("TRACE", "/api/payments", &[], None).unwrap();
    let text = server.admin().get("/metrics").of(200).text();
    let requests = |route: &str, method: &str, status: u16| {
        let labels = format!("{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}}");
        value_in(&text, &format!("strongroom_http_requests_total{labels}"))
    };
    assert_eq!(requests("/api/payments", "POST", 201), 2.0);
    assert_eq!(requests("/api/payments", "POST", 400), 1.0);
    assert_eq!(requests("/api/payments/{id}", "GET", 200), 3.0);
    assert_eq!(requests("none", "GET", 404), 3.0);
    assert_eq!(requests("/api/payments", "other", 405), 1.0);
    let count =
        "strongroom_http_request_duration_seconds_count{route=\"/api/payments\",method=\"POST\"}";
    assert_eq!(value_in(&text, count), 3.0);
    assert!(!text.contains(&id) && !text.contains("wp-login"), "{text}");
}

#[test]
fn payments_are_counted_by_status_and_the_same_after_a_restart_from_journal_or_snapshot() {
    let mut server = TestServer::start();
    let held = server.authorize("a", 100).of(201).id();
    server.authorize("b", 100).of(201);
    let charged = server.charge("c", 100).of(201).id();
    server.charge_with("tok_declined", "d", 100).of(201);
    server.void(&held).of(200);
    server.refund_all(&charged).of(200);
    let check = |server: &TestServer| {
        for (status, count) in
            [("authorized", 1.0), ("voided", 1.0), ("refunded", 1.0), ("failed", 1.0)]
        {
            let name = format!("strongroom_payments{{status=\"{status}\"}}");
            assert_eq!(value(server, &name), count, "{status}");
        }
        assert_eq!(value(server, "strongroom_payments{status=\"completed\"}"), 0.0);
        server.admin().reconciles();
    };
    check(&server);
    server.kill();
    server.restart();
    check(&server);
    // A clean stop leaves a snapshot.
    assert!(server.terminate().success());
    server.restart();
    check(&server);
}

#[test]
fn replays_mismatches_and_waits_under_a_key_are_counted_apart() {
    // All three come while the provider's answer is out.
    let server = TestServer::start_with(&[
        ("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "4000"),
        ("STRONGROOM__HTTP__REQUEST_DEADLINE_MS", "20000"),
    ]);
    server.charge("a", 100).of(201);
    server.charge("a", 100).of(201);
    server.charge("a", 200).problem(422, "idempotency_key_reused");
    at_once(3, |_| server.charge_with("tok_timeout", "b", 100).of(202));
    let claims = |result: &str| {
        value(&server, &format!("strongroom_idempotency_claims_total{{result=\"{result}\"}}"))
    };
    assert_eq!((claims("fresh"), claims("mismatch")), (2.0, 1.0));
    assert_eq!(claims("replay"), 3.0);
    assert_eq!(claims("waited"), 2.0);
}

#[test]
fn journal_provider_and_process_are_measured() {
    // A seal would be counted between one figure and the next.
    let server = TestServer::start_with(&[("STRONGROOM__JOURNAL__SEAL_AFTER_MS", "60000")]);
    server.charge("a", 100).of(201);
    server.charge_with("tok_timeout", "b", 100).of(202);
    let text = server.admin().get("/metrics").of(200).text();
    let value = |name: &str| value_in(&text, name);
    let batches = value("strongroom_journal_batch_entries_count");
    assert!(batches >= 2.0, "{text}");
    assert_eq!(value("strongroom_journal_sync_duration_seconds_count"), batches);
    assert_eq!(value("strongroom_journal_batch_entries_bucket{le=\"+Inf\"}"), batches);
    let call = |outcome: &str| {
        let labels = format!("provider=\"sandbox\",operation=\"charge\",outcome=\"{outcome}\"");
        value(&format!("strongroom_provider_call_duration_seconds_count{{{labels}}}"))
    };
    assert_eq!(call("done"), 1.0, "{text}");
    assert_eq!(call("unknown") + call("not_awaited"), 1.0, "{text}");
    for positive in [
        "strongroom_journal_written_bytes_total",
        "strongroom_journal_free_bytes",
        "strongroom_data_filesystem_free_bytes",
        "strongroom_commands_in_flight_limit",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(value(positive) > 0.0, "{positive}: {text}");
    }
    for zero in ["strongroom_commands_in_flight", "strongroom_ledger_queue_entries"] {
        assert_eq!(value(zero), 0.0, "{zero}");
    }
}

#[test]
fn an_event_that_waits_grows_old_until_it_is_delivered() {
    let server = TestServer::start_with(&[PATIENT]);
    let receiver = Receiver::start_with(Conduct::Answer(503, ""));
    endpoint(&server, &receiver);
    server.charge("a", 100).of(201);
    receiver.wait_for(1);
    let age = || value(&server, "strongroom_webhooks_oldest_age_seconds");
    eventually("the oldest event is a second old", || (age() >= 1.0).then_some(()));
    assert_eq!(value(&server, "strongroom_webhooks_waiting"), 1.0);
    receiver.conduct(Conduct::Answer(200, ""));
    let event = server.all("/api/events")[0]["id"].as_str().unwrap().to_owned();
    server.post(&format!("/api/events/{event}/redeliver"), "", &json!({})).of(202);
    eventually("nothing waits", || (age() == 0.0).then_some(()));
    let delivered = "strongroom_webhooks_attempt_duration_seconds_count{result=\"delivered\"}";
    assert_eq!(value(&server, delivered), 1.0);
}

/// Every name in `text` that is one of a metric.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let name = Regex::new(r"\b(?:strongroom|process)_[a-z0-9_]+\b").unwrap();
    name.find_iter(text).map(|found| found.as_str().to_owned()).collect()
}

#[test]
fn every_metric_that_the_dashboard_and_the_alert_rules_name_is_served() {
    let server = TestServer::start_with(&[PATIENT]);
    let receiver = Receiver::start_with(Conduct::Answer(503, ""));
    endpoint(&server, &receiver);
    // Something of everything.
    server.charge("a", 100).of(201);
    server.charge_with("tok_timeout", "b", 100).of(202);
    server.post("/api/snapshot", "", &json!({})).of(403);
    server.admin().post("/api/snapshot", "", &json!({})).of(200);
    server.admin().reconciles();
    eventually("a try was counted", || {
        let text = server.admin().get("/metrics").of(200).text();
        text.contains("strongroom_webhooks_attempt_duration_seconds_count").then_some(())
    });
    let text = server.admin().get("/metrics").of(200).text();
    // Alarms, doubt and providers outside have series only while there are any, but always their name and type.
    let mut served = metrics_in(&text);
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        served.insert(name.to_owned());
        if kind == "histogram" {
            served.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
        }
    }
    let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("ops");
    let mut named = 0;
    for file in fs::read_dir(ops).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for name in metrics_in(&text) {
            assert!(served.contains(&name), "{} names {name}", path.display());
            named += 1;
        }
    }
    assert!(named > 40, "only {named} metrics are named");
}

#[test]
fn the_dashboard_asks_a_data_source_of_the_operators_choice_and_shows_units() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/grafana.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource");
    let panels = dashboard["panels"].as_array().unwrap();
    let shown = panels.iter().filter(|panel| panel["type"] != "row");
    let mut ids = BTreeSet::new();
    for panel in shown {
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{}", panel["title"]);
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{}", panel["title"]);
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
    }
    assert!(ids.len() > 20);
}
