//! Telling merchants: signed, in order, at least once, and whoever misbehaves harms only itself.

use crate::{
    client::Client,
    receiver::{Conduct, Receiver, now_s},
    server::TestServer,
    wait::eventually,
};
use serde_json::{Value, json};
use std::{net::TcpListener, time::Duration};

/// Retries come quickly, so that a test need not wait for them.
pub const QUICK: (&str, &str) = ("STRONGROOM__WEBHOOKS__SCHEDULE", "20ms, 20ms, 20ms");
/// Retries never come within a test.
pub const PATIENT: (&str, &str) = ("STRONGROOM__WEBHOOKS__SCHEDULE", "1h, 1h");

/// An endpoint of merchant_1 at the receiver.
#[track_caller]
pub fn endpoint(client: &Client, receiver: &Receiver) -> Value {
    endpoint_for(client, receiver, &["*"])
}

#[track_caller]
pub fn endpoint_for(client: &Client, receiver: &Receiver, events: &[&str]) -> Value {
    let body = json!({"url": receiver.url(), "events": events});
    client.post("/api/webhook-endpoints", "", &body).of(201).json
}

pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}

pub fn path_of(endpoint: &Value) -> String {
    format!("/api/webhook-endpoints/{}", text(endpoint, "id"))
}

/// Waits until the endpoint at this path has confirmed so many events.
#[track_caller]
pub fn wait_until_delivered(client: &Client, path: &str, count: u64) {
    eventually("all are delivered", || {
        let counts = client.get(path).of(200).json["counts"].clone();
        (counts["delivered"] == count).then_some(())
    });
}

/// The event of the payment that has this type.
#[track_caller]
pub fn event_of(client: &Client, payment: &str, kind: &str) -> String {
    let events = client.all(&format!("/api/events?type={kind}"));
    let event = events.iter().find(|event| event["data"]["id"] == payment);
    text(event.expect("the event"), "id").to_owned()
}

#[track_caller]
pub fn deliveries(client: &Client, event: &str) -> Value {
    client.get(&format!("/api/events/{event}/deliveries")).of(200).json
}

/// Waits until the first endpoint's standing of the event is `state`.
#[track_caller]
pub fn wait_for_state(client: &Client, event: &str, state: &str) -> Value {
    eventually(&format!("{event} is {state}"), || {
        let found = deliveries(client, event);
        (found["endpoints"][0]["state"] == state).then_some(found)
    })
}

#[test]
fn what_happens_to_a_payment_is_told_in_order_signed_and_frozen() {
    let server = TestServer::start();
    let receiver = Receiver::start();
    let endpoint = endpoint(&server, &receiver);
    let held = server.authorize("a", 1000).of(201);
    server.capture(&held.id(), "b", 600).of(200);
    server.refund(&held.id(), "c", 100).of(200);
    server.refund_all(&held.id()).of(200);
    server.charge_with("tok_declined", "d", 5).of(201);
    let told = receiver.wait_for(5);
    let kinds: Vec<String> =
        told.iter().filter(|got| got.payment() == held.id()).map(|got| got.kind()).collect();
    assert_eq!(
        kinds,
        [
            "payment.authorized",
            "payment.completed",
            "payment.partially_refunded",
            "payment.refunded"
        ]
    );
    let statuses: Vec<Value> =
        told.iter().map(|got| got.json()["data"]["status"].clone()).collect();
    assert!(statuses.contains(&json!("failed")), "{statuses:?}");
    for got in &told {
        got.verify(text(&endpoint, "secret")).unwrap();
        assert_eq!(got.kind(), format!("payment.{}", text(&got.json()["data"], "status")));
        assert_eq!(got.id(), text(&got.json(), "id"));
        assert!(got.id().starts_with("evt_"));
        assert_eq!(got.path, "/hook");
        assert_eq!(got.header("host"), receiver.address().to_string());
        assert_eq!(got.header("content-type"), "application/json");
    }
    // Pulled, it is the same but for the number at the endpoint.
    let first = told.iter().find(|got| got.kind() == "payment.authorized").unwrap();
    let mut sent = first.json();
    let pulled = server.get(&format!("/api/events/{}", first.id())).of(200).json;
    sent.as_object_mut().unwrap().remove("sequence");
    assert_eq!(sent, pulled);
    assert_eq!(sent["data"], held.json, "as the payment was then");
}

#[test]
fn the_official_library_refuses_a_changed_body_a_wrong_secret_and_an_old_timestamp() {
    let server = TestServer::start();
    let receiver = Receiver::start();
    let endpoint = endpoint(&server, &receiver);
    let secret = text(&endpoint, "secret");
    server.charge("a", 100).of(201);
    let got = receiver.wait_for(1).remove(0);
    got.verify(secret).unwrap();
    let mut changed = got.clone();
    changed.body[20] ^= 1;
    assert!(changed.verify(secret).is_err());
    assert!(got.verify("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_err());
    let mut old = got.clone();
    let stamp = (got.timestamp() - 301).to_string();
    old.headers.insert("webhook-timestamp".into(), stamp);
    assert!(old.verify(secret).is_err());
}

#[test]
fn a_try_has_a_new_time_and_signature_and_the_old_id_and_body() {
    let server = TestServer::start_with(&[
        ("STRONGROOM__WEBHOOKS__SCHEDULE", "1100ms"),
        ("STRONGROOM__WEBHOOKS__JITTER_PERCENT", "0"),
    ]);
    let receiver = Receiver::start_with(Conduct::Answer(500, ""));
    let endpoint = endpoint(&server, &receiver);
    server.charge("a", 100).of(201);
    let told = receiver.wait_for(2);
    assert_eq!(told[0].id(), told[1].id());
    assert_eq!(told[0].body, told[1].body);
    assert!(told[1].timestamp() > told[0].timestamp());
    assert_ne!(told[0].header("webhook-signature"), told[1].header("webhook-signature"));
    told[1].verify(text(&endpoint, "secret")).unwrap();
}

#[test]
fn during_a_rotation_both_secrets_sign() {
    let server = TestServer::start();
    let receiver = Receiver::start();
    let endpoint = endpoint(&server, &receiver);
    let path = format!("{}/rotate-secret", path_of(&endpoint));
    let rotated = server.post(&path, "", &json!({})).of(200).json;
    let (old, new) = (text(&endpoint, "secret"), text(&rotated, "secret"));
    assert_ne!(old, new);
    assert!(new.starts_with("whsec_"));
    assert!(rotated["oldSecretUntil"].is_string());
    server.charge("a", 100).of(201);
    let got = receiver.wait_for(1).remove(0);
    got.verify(old).unwrap();
    got.verify(new).unwrap();
    assert_eq!(got.header("webhook-signature").split(' ').count(), 2);
    let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    server.post(&path, "", &json!({"secret": own})).of(200);
    server.charge("b", 100).of(201);
    let got = receiver.wait_for(2).remove(1);
    got.verify(own).unwrap();
    got.verify(new).unwrap();
    got.verify(old).unwrap();
}

#[test]
fn a_secret_is_shown_once_and_never_again_nor_written_to_the_log() {
    let mut server = TestServer::start();
    let receiver = Receiver::start();
    let made = endpoint(&server, &receiver);
    let secret = text(&made, "secret").to_owned();
    let shown = server.get(&path_of(&made)).of(200);
    assert!(!shown.text().contains("whsec_"), "{}", shown.text());
    assert!(!server.get("/api/webhook-endpoints").text().contains("whsec_"));
    server.charge("a", 100).of(201);
    receiver.wait_for(1);
    assert!(server.terminate().success());
    assert!(!server.logs().contains(&secret[6..]));
    let printed = server.tell(&["journal", "print", "--json"]);
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("webhook_endpoint_created"), "{printed}");
    assert!(!printed.contains(&secret[6..]));
    assert!(server.tell(&["verify"]).status.success());
}

#[test]
fn each_way_to_misbehave_is_a_recorded_try_with_its_reason_and_leaks_no_connection() {
    let server = TestServer::start_with(&[PATIENT, ("STRONGROOM__WEBHOOKS__TIMEOUT_MS", "2000")]);
    let receiver = Receiver::start();
    endpoint(&server, &receiver);
    let moved = "Location: http://127.0.0.1:1/elsewhere\r\n";
    for (place, (conduct, status, error)) in [
        (Conduct::Hang, None, Some("timed_out")),
        (Conduct::Slow(Duration::from_secs(4)), None, Some("timed_out")),
        (Conduct::Reset, None, Some("connection_closed")),
        (Conduct::CloseEarly, None, Some("connection_closed")),
        (Conduct::Garbage, None, Some("not_http")),
        (Conduct::Answer(500, ""), Some(500), Some("status_not_2xx")),
        (Conduct::Answer(302, moved), Some(302), Some("redirect_not_followed")),
        (Conduct::Answer(404, ""), Some(404), Some("status_not_2xx")),
        (Conduct::Endless, Some(200), Some("answer_cut_off")),
        (Conduct::CutOff, Some(200), Some("answer_cut_off")),
        (Conduct::Answer(204, ""), Some(204), None),
        (Conduct::Answer(200, ""), Some(200), None),
    ]
    .into_iter()
    .enumerate()
    {
        receiver.conduct(conduct.clone());
        let before = receiver.count();
        let payment = server.charge(&place.to_string(), 100).of(201).id();
        receiver.wait_for(before + 1);
        let event = event_of(&server, &payment, "payment.completed");
        let delivered = status.is_some_and(|status| status < 300);
        let state = if delivered { "delivered" } else { "retrying" };
        let found = wait_for_state(&server, &event, state);
        let tries = found["data"].as_array().unwrap();
        assert_eq!(tries.len(), 1, "{conduct:?}: {found:#}");
        assert_eq!(tries[0]["statusCode"], json!(status), "{conduct:?}");
        assert_eq!(tries[0]["error"], json!(error), "{conduct:?}");
        assert_eq!(tries[0]["delivered"], delivered, "{conduct:?}");
        assert_eq!(tries[0]["nextAttemptAt"].is_string(), !delivered, "{conduct:?}");
        assert!(tries[0]["at"].is_string() && tries[0]["latencyMs"].is_u64());
    }
    eventually("all connections but one are closed", || {
        (receiver.connections() <= 1).then_some(())
    });
}

#[test]
fn an_event_that_cannot_be_delivered_becomes_a_dead_letter_that_can_be_redelivered() {
    let server = TestServer::start_with(&[QUICK]);
    let receiver = Receiver::start_with(Conduct::Answer(503, ""));
    let endpoint = endpoint(&server, &receiver);
    let payment = server.charge("a", 100).of(201).id();
    let event = event_of(&server, &payment, "payment.completed");
    let dead = wait_for_state(&server, &event, "dead");
    assert_eq!(dead["data"].as_array().unwrap().len(), 4);
    assert_eq!(receiver.count(), 4);
    let counts = server.get(&path_of(&endpoint)).of(200).json["counts"].clone();
    assert_eq!((&counts["dead"], &counts["failedAttempts"]), (&json!(1), &json!(4)));
    let metrics = server.admin().get("/metrics").of(200).text();
    for line in [
        "webhooks_dead_letters 1",
        "webhooks_attempt_duration_seconds_count{result=\"status_not_2xx\"} 4",
        "webhooks_endpoints_failing 1",
    ] {
        assert!(metrics.contains(&format!("strongroom_{line}\n")), "{metrics}");
    }
    receiver.conduct(Conduct::Answer(200, ""));
    server.post(&format!("/api/events/{event}/redeliver"), "", &json!({})).of(202);
    wait_for_state(&server, &event, "delivered");
    let told = receiver.got();
    assert_eq!(told.len(), 5);
    assert!(told.iter().all(|got| got.id() == event));
    let counts = server.get(&path_of(&endpoint)).of(200).json["counts"].clone();
    assert_eq!((&counts["dead"], &counts["delivered"]), (&json!(0), &json!(1)));
}

#[test]
fn one_payments_failure_holds_its_own_later_events_and_nobody_elses() {
    let server = TestServer::start_with(&[PATIENT]);
    let receiver = Receiver::start_with(Conduct::FailAmount(666));
    endpoint(&server, &receiver);
    let bad = server.charge("bad", 666).of(201).id();
    server.refund_all(&bad).of(200);
    for number in 0..20 {
        server.charge(&number.to_string(), 100).of(201);
    }
    let told = receiver.wait_for(21);
    let of_bad: Vec<String> =
        told.iter().filter(|got| got.payment() == bad).map(|got| got.kind()).collect();
    assert_eq!(of_bad, ["payment.completed"], "the refund waits");
    let event = event_of(&server, &bad, "payment.completed");
    wait_for_state(&server, &event, "retrying");
    receiver.conduct(Conduct::Answer(200, ""));
    server.post(&format!("/api/events/{event}/redeliver"), "", &json!({})).of(202);
    let told = receiver.wait_for(23);
    let of_bad: Vec<String> =
        told.iter().filter(|got| got.payment() == bad).map(|got| got.kind()).collect();
    assert_eq!(of_bad, ["payment.completed", "payment.completed", "payment.refunded"]);
}

#[test]
fn an_endpoint_that_answers_410_is_disabled_and_goes_on_where_it_was_when_enabled() {
    let server = TestServer::start();
    let receiver = Receiver::start_with(Conduct::Answer(410, ""));
    let endpoint = endpoint(&server, &receiver);
    let payment = server.charge("a", 100).of(201).id();
    let path = path_of(&endpoint);
    let disabled = eventually("the endpoint is disabled", || {
        let endpoint = server.get(&path).of(200).json;
        (endpoint["enabled"] == false).then_some(endpoint)
    });
    assert_eq!(disabled["disabledReason"], "gone");
    let alarms = |server: &TestServer| server.admin().get("/ready").of(200).json["alarms"].clone();
    let alarm = eventually("the alarm", || {
        let alarms = alarms(&server);
        alarms.is_array().then(|| alarms[0].clone())
    });
    assert_eq!(alarm["code"], "endpoint.disabled");
    assert!(text(&alarm, "detail").contains(text(&endpoint, "id")), "{alarm}");
    let event = event_of(&server, &payment, "payment.completed");
    let stands = wait_for_state(&server, &event, "retrying");
    assert_eq!(stands["endpoints"][0]["nextAttemptAt"], Value::Null, "not while it is disabled");
    server.charge("b", 200).of(201);
    receiver.conduct(Conduct::Answer(200, ""));
    let before = receiver.count();
    assert_eq!(before, 1, "nothing more was sent");
    let enabled = server.patch(&path, &json!({"enabled": true})).of(200).json;
    assert_eq!((&enabled["enabled"], &enabled["disabledReason"]), (&json!(true), &Value::Null));
    let told = receiver.wait_for(3);
    eventually("the alarm is over", || alarms(&server).is_null().then_some(()));
    let mut numbers: Vec<u64> = told[1..].iter().map(|got| got.sequence()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
}

#[test]
fn an_endpoint_that_asks_to_be_left_alone_is_tried_later() {
    let server = TestServer::start_with(&[("STRONGROOM__WEBHOOKS__SCHEDULE", "10ms, 1h")]);
    let receiver = Receiver::start_with(Conduct::Answer(429, "Retry-After: 120\r\n"));
    endpoint(&server, &receiver);
    let payment = server.charge("a", 100).of(201).id();
    let event = event_of(&server, &payment, "payment.completed");
    let found = wait_for_state(&server, &event, "retrying");
    let attempt = &found["data"][0];
    let time = |field: &str| text(attempt, field).parse::<jiff::Timestamp>().unwrap();
    // It is counted from the end of the try.
    let wait = time("nextAttemptAt").as_millisecond() - time("at").as_millisecond();
    let wait = wait - attempt["latencyMs"].as_i64().unwrap();
    assert!((119_000..=121_000).contains(&wait), "{attempt}: {wait}");
}

#[test]
fn each_endpoint_numbers_its_own_events_without_a_gap_and_gets_what_it_asked_for() {
    let server = TestServer::start();
    let (all, refunds) = (Receiver::start(), Receiver::start());
    server.charge("before", 1).of(201);
    endpoint_for(&server, &all, &["payment.*"]);
    endpoint_for(&server, &refunds, &["payment.refunded", "payment.partially_refunded"]);
    for number in 0..5 {
        let id = server.charge(&format!("c{number}"), 100).of(201).id();
        server.refund(&id, &format!("r{number}"), 10).of(200);
    }
    server.merchant_2().charge("other", 1).of(201);
    let numbers = |receiver: &Receiver, count: usize| {
        let mut numbers: Vec<u64> =
            receiver.wait_for(count).iter().map(|got| got.sequence()).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(numbers(&all, 10), (1..=10).collect::<Vec<_>>());
    assert_eq!(numbers(&refunds, 5), (1..=5).collect::<Vec<_>>());
    assert!(refunds.got().iter().all(|got| got.kind() == "payment.partially_refunded"));
}

#[test]
fn what_was_missed_can_be_pulled_with_a_cursor_and_replayed() {
    let server = TestServer::start();
    let receiver = Receiver::start();
    let endpoint = endpoint(&server, &receiver);
    let payments: Vec<String> =
        (0..7).map(|number| server.charge(&number.to_string(), 100).of(201).id()).collect();
    receiver.wait_for(7);
    let of = |event: &Value| text(&event["data"], "id").to_owned();
    let newest: Vec<String> = server.all("/api/events?limit=3").iter().map(of).collect();
    assert_eq!(newest, payments.iter().rev().cloned().collect::<Vec<_>>());
    let oldest = server.all("/api/events?limit=2&order=asc");
    assert_eq!(oldest.iter().map(of).collect::<Vec<_>>(), payments);
    let third = text(&oldest[2], "id");
    let rest = server.all(&format!("/api/events?order=asc&after={third}"));
    assert_eq!(rest.iter().map(of).collect::<Vec<_>>(), payments[3..]);
    server.merchant_2().get(&format!("/api/events/{third}")).problem(404, "event_not_found");
    server
        .merchant_2()
        .get(&format!("/api/events?after={third}"))
        .problem(400, "validation_failed");
    for (from, first, count) in
        [(json!(third), 3, 5), (json!(6), 6, 2), (oldest[5]["timestamp"].clone(), 6, 2)]
    {
        let before = receiver.count();
        let replay =
            server.post(&format!("{}/replay", path_of(&endpoint)), "", &json!({"from": from}));
        let replay = replay.of(202).json;
        assert_eq!((&replay["from"], &replay["through"]), (&json!(first), &json!(7)), "{from}");
        let again = receiver.wait_for(before + count);
        let mut numbers: Vec<u64> = again[before..].iter().map(|got| got.sequence()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (first..=7).collect::<Vec<u64>>());
    }
    let path = format!("{}/replay", path_of(&endpoint));
    for wrong in [json!({}), json!({"from": "soon"}), json!({"from": 0}), json!({"from": 8})] {
        server.post(&path, "", &wrong).problem(400, "validation_failed");
    }
}

#[test]
fn a_test_event_is_sent_at_once_and_its_answer_told() {
    let server = TestServer::start();
    let receiver = Receiver::start();
    let endpoint = endpoint(&server, &receiver);
    let path = format!("{}/test", path_of(&endpoint));
    let told = server.post(&path, "", &json!({})).of(200).json;
    assert_eq!((&told["delivered"], &told["statusCode"]), (&json!(true), &json!(200)));
    assert_eq!(told["answer"], "ok");
    let got = receiver.got().remove(0);
    got.verify(text(&endpoint, "secret")).unwrap();
    assert_eq!(got.kind(), "endpoint.test");
    assert!(now_s().abs_diff(got.timestamp()) < 60);
    receiver.conduct(Conduct::Answer(500, ""));
    let told = server.post(&path, "", &json!({})).of(200).json;
    assert_eq!((&told["delivered"], &told["error"]), (&json!(false), &json!("status_not_2xx")));
}

#[test]
fn endpoints_that_hang_leave_half_of_the_places_for_tries_to_the_healthy() {
    let server = TestServer::start_with(&[PATIENT, ("STRONGROOM__WEBHOOKS__IN_FLIGHT_MAX", "6")]);
    let healthy = Receiver::start();
    endpoint(&server, &healthy);
    server.charge("first", 1).of(201);
    healthy.wait_for(1);
    let hanging: Vec<Receiver> = (0..3).map(|_| Receiver::start_with(Conduct::Hang)).collect();
    hanging.iter().for_each(|receiver| drop(endpoint(&server, receiver)));
    for number in 0..30 {
        server.charge(&number.to_string(), 1).of(201);
    }
    healthy.wait_for(31);
    let begun = || hanging.iter().map(Receiver::count).sum::<usize>();
    eventually("they take what they may", || (begun() >= 3).then_some(()));
    server.charge("last", 1).of(201);
    healthy.wait_for(32);
    assert_eq!(begun(), 3);
}

#[test]
fn healthy_endpoints_that_begin_to_hang_leave_places_to_those_not_known_yet() {
    let server = TestServer::start_with(&[PATIENT, ("STRONGROOM__WEBHOOKS__IN_FLIGHT_MAX", "4")]);
    let (once_healthy, new) = (Receiver::start(), Receiver::start());
    endpoint(&server, &once_healthy);
    server.charge("first", 1).of(201);
    eventually("it is known to be healthy", || {
        let known = server.get("/api/webhook-endpoints").of(200).json["data"][0].clone();
        (known["counts"]["delivered"] == 1).then_some(())
    });
    once_healthy.conduct(Conduct::Hang);
    server.charge("a", 1).of(201);
    server.charge("b", 1).of(201);
    once_healthy.wait_for(3);
    endpoint(&server, &new);
    server.charge("c", 1).of(201);
    new.wait_for(1);
    assert!(once_healthy.connections() >= 2, "its tries are still under way");
}

#[test]
fn tests_of_endpoints_that_hang_take_no_place_of_a_delivery() {
    let server = TestServer::start_with(&[
        ("STRONGROOM__WEBHOOKS__IN_FLIGHT_MAX", "2"),
        ("STRONGROOM__WEBHOOKS__TIMEOUT_MS", "60000"),
    ]);
    let (hanging, healthy) = (TcpListener::bind("127.0.0.1:0").unwrap(), Receiver::start());
    let url = format!("http://{}/", hanging.local_addr().unwrap());
    let tests: Vec<String> = (0..4)
        .map(|_| {
            let body = json!({"url": url, "events": ["payment.voided"]});
            let made = server.post("/api/webhook-endpoints", "", &body).of(201).json;
            format!("{}/test", path_of(&made))
        })
        .collect();
    endpoint(&server, &healthy);
    std::thread::scope(|scope| {
        for test in &tests {
            scope.spawn(|| server.post(test, "", &json!({})).of(200));
        }
        let held: Vec<_> = tests.iter().map(|_| hanging.accept().unwrap()).collect();
        server.charge("a", 100).of(201);
        healthy.wait_for(1);
        for test in &tests {
            server.post(test, "", &json!({})).problem(409, "webhook_test_under_way");
        }
        drop(held);
    });
}
