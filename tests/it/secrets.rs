//! What must never be written down, and the one log line that is written about each request.

use crate::{
    server::{ADMIN_KEY, MERCHANT_1_KEY, MERCHANT_2_KEY, TestServer},
    wait::eventually,
};
use serde_json::{Value, json};
use std::{fs, path::Path};

const CARD: &str = "4242424242424242";

/// Whether the bytes stand in the log or in any file of the data folder.
fn is_written(server: &TestServer, text: &str) -> bool {
    server.logs().contains(text) || is_in_folder(&server.data(), text.as_bytes())
}

fn is_in_folder(folder: &Path, text: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return is_in_folder(&path, text);
        }
        let bytes = fs::read(path).unwrap();
        bytes.windows(text.len()).any(|window| window == text)
    })
}

/// The log line of the request with this id.
fn log_line(server: &TestServer, request: &str) -> Value {
    let mut lines = eventually("the request's log line", || {
        let logs = server.logs();
        let lines = logs.lines().filter(|line| line.contains(request));
        let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        (!lines.is_empty()).then_some(lines)
    });
    assert_eq!(lines.len(), 1, "one line per request: {lines:?}");
    lines.remove(0)
}

#[test]
fn a_card_number_is_refused_and_never_written_down() {
    let mut server = TestServer::start();
    let spaced = "4242 4242 4242 4242";
    let hyphened = "3782-822463-10005";
    let in_key = json!({CARD: "number"});
    let in_value = json!({"card": format!("no {hyphened}!")});
    for (field, value) in [
        ("description", json!(CARD)),
        ("description", json!(format!("paid with {spaced} yesterday"))),
        ("metadata", in_value),
        ("metadata", in_key),
        ("customerId", json!(CARD)),
        ("customerId", json!(format!("card-{CARD}"))),
        ("paymentMethod", json!(CARD)),
    ] {
        let mut body = json!({"amount": 100, "currency": "USD"});
        body[field] = value;
        let refused = server.pay("order", &body).problem(400, "validation_failed");
        assert!(refused.faulty_fields()[0].starts_with(field), "{}", refused.text());
        for number in [CARD, spaced, hyphened] {
            assert!(!refused.text().contains(number), "{}", refused.text());
        }
    }
    let id = server.charge("order", 100).of(201).id();
    let reason = json!({"reason": format!("back to {CARD}")});
    let refused = server.command("refund", &id, "back", &reason);
    assert_eq!(refused.problem(400, "validation_failed").faulty_fields(), ["reason"]);
    let written = json!({"amount": 1, "currency": "USD", "description": "a plain description"});
    let last = server.pay("plain", &written).of(201);
    log_line(&server, last.header("X-Request-Id").unwrap());
    assert!(server.terminate().success());
    assert!(is_written(&server, "a plain description"), "it would be found");
    for number in [CARD, spaced, hyphened] {
        assert!(!is_written(&server, number));
    }
}

#[test]
fn a_number_that_only_looks_like_a_card_is_taken() {
    let server = TestServer::start();
    for (place, text) in
        ["4242424242424241", "Order #12345", "+49 30 901820", "2026-11-22 15:04:05"]
            .into_iter()
            .enumerate()
    {
        let body = json!({"amount": 1, "currency": "USD", "description": text});
        server.pay(&place.to_string(), &body).of(201);
    }
}

#[test]
fn an_api_key_is_never_written_down() {
    let mut server = TestServer::start();
    let id = server.charge("order", 100).of(201).id();
    server.merchant_2().charge("order", 100).of(201);
    server.admin().reconciles();
    server.admin().refund(&id, "part", 10).of(200);
    let wrong = "sk_live_wrong_but_secret";
    server.client(wrong).charge("order", 100).of(401);
    let basic = format!("Basic {MERCHANT_1_KEY}");
    server.send("GET", "/api/payments", &[("Authorization", &basic)], None).unwrap().of(401);
    let last = server.get("/health").of(200);
    log_line(&server, last.header("X-Request-Id").unwrap());
    assert!(server.terminate().success());
    for key in [MERCHANT_1_KEY, MERCHANT_2_KEY, ADMIN_KEY, wrong] {
        assert!(!is_written(&server, key), "{key}");
    }
}

#[test]
fn each_request_has_one_log_line_that_says_what_became_of_it() {
    let server = TestServer::start();
    let charge = server.charge("order", 100).of(201);
    let id = charge.id();
    let path = format!("/api/payments/{id}");
    let part = json!({"amount": 101, "reason": "words of the merchant"});
    let too_much = server.command("refund", &id, "part", &part).of(422);
    for (answer, method, route, payment) in [
        (charge, "POST", "/api/payments", Some(id.as_str())),
        (server.get(&path).of(200), "GET", "/api/payments/{id}", Some(&id)),
        (too_much, "POST", "/api/payments/{id}/refund", Some(&id)),
        (server.charge("other", 0).of(400), "POST", "/api/payments", None),
        (server.get("/health").of(200), "GET", "/health", None),
        (server.client("wrong").get(&path).of(401), "GET", "/api/payments/{id}", None),
    ] {
        let line = log_line(&server, answer.header("X-Request-Id").unwrap());
        assert_eq!(line["method"], method);
        assert_eq!(line["route"], route);
        assert_eq!(line["status"], answer.status);
        assert_eq!(line["payment"].as_str(), payment, "{line}");
        assert!(line["latency_us"].as_u64().is_some_and(|latency| latency > 0), "{line}");
    }
    let nowhere = server.get("/nowhere/secret_path?secret_query=1").of(404);
    let line = log_line(&server, nowhere.header("X-Request-Id").unwrap());
    assert_eq!(line["status"], 404);
    for text in ["secret_path", "secret_query", "words of the merchant"] {
        assert!(!server.logs().contains(text), "{text}");
    }
}
