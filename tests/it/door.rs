//! The door: who may come in, what a request must look like, and how a wrong one is told.

use crate::{
    client::{Client, Response},
    server::{MERCHANT_1_KEY, TestServer},
};
use serde_json::json;
use std::{
    io::{Read, Write},
    net::TcpStream,
};

const CHARGE: &[u8] = br#"{"amount": 100, "currency": "USD"}"#;

#[track_caller]
fn check_nothing_happened(server: &TestServer) {
    assert!(server.all("/api/payments").is_empty());
    let trial = server.admin().get("/api/ledger").of(200).json;
    assert_eq!(trial["accounts"], json!([]));
}

#[test]
fn nobody_comes_in_without_a_key_that_is_known() {
    let server = TestServer::start();
    let bearer = format!("Bearer {MERCHANT_1_KEY}");
    let basic = format!("Basic {MERCHANT_1_KEY}");
    let longer = format!("{bearer}1");
    let shorter = &bearer[..bearer.len() - 1];
    for authorization in ["", "Bearer", "Bearer ", &basic, &longer, shorter, MERCHANT_1_KEY] {
        for (method, path, body) in [
            ("GET", "/api/payments", None),
            ("GET", "/api/payments/pay_1", None),
            ("GET", "/api/ledger/merchant:merchant_1", None),
            ("GET", "/api/idempotency/order", None),
            ("POST", "/api/payments", Some(CHARGE)),
            ("POST", "/api/payments/pay_1/refund", Some(CHARGE)),
            ("POST", "/api/reconcile", Some(CHARGE)),
        ] {
            let headers = [("Authorization", authorization), ("Idempotency-Key", "order")];
            let headers = if authorization.is_empty() { &headers[1..] } else { &headers };
            let refused = server.send(method, path, headers, body).unwrap();
            let refused = refused.problem(401, "unauthenticated");
            assert_eq!(refused.header("WWW-Authenticate"), Some("Bearer"));
        }
    }
    let twice = [("Authorization", bearer.as_str()), ("Authorization", "Bearer x")];
    let refused = server.send("GET", "/api/payments", &twice, None).unwrap();
    refused.problem(401, "unauthenticated");
    check_nothing_happened(&server);
}

#[test]
fn another_merchants_payment_is_as_unknown_as_one_that_is_not_there() {
    let server = TestServer::start();
    let held = server.authorize("hold", 100).of(201).json;
    let id = held["id"].as_str().unwrap();
    let other = server.merchant_2();
    let none = "pay_0192f0c1a7d47a0b8d3f4c5e6a7b8c9d";
    let same = |theirs: Response, missing: Response| {
        let theirs = theirs.problem(404, "payment_not_found");
        assert_eq!(theirs.body, missing.of(404).body);
    };
    for path in ["", "/events"] {
        let read = |id: &str| other.get(&format!("/api/payments/{id}{path}"));
        same(read(id), read(none));
    }
    for command in ["capture", "void", "refund"] {
        for body in [json!({}), json!({"amount": 1})] {
            let key = format!("{command}_{}", body.as_object().unwrap().len());
            if command == "void" && body != json!({}) {
                continue;
            }
            let send = |id: &str| other.command(command, id, &key, &body);
            same(send(id), send(none));
        }
    }
    assert!(other.all("/api/payments").is_empty());
    other.get(&format!("/api/ledger/customer:{id}")).problem(404, "account_not_found");
    other.get("/api/ledger/merchant:merchant_1").problem(404, "account_not_found");
    assert_eq!(server.payment(id), held);
    assert_eq!(server.admin().payment(id), held);
}

#[test]
fn a_merchants_key_makes_that_merchants_payments_only_and_an_admins_those_of_any() {
    let server = TestServer::start();
    let body = |merchant: &str| json!({"amount": 100, "currency": "USD", "merchantId": merchant});
    server.pay("order", &body("merchant_2")).problem(403, "merchant_forbidden");
    server.pay("order", &body("nobody")).problem(403, "merchant_forbidden");
    let admin = server.admin();
    let made = admin.pay("order", &body("merchant_2")).of(201);
    assert_eq!(made.json["merchantId"], "merchant_2");
    assert_eq!(server.merchant_2().payment(&made.id()), made.json);
    let nobody = admin.pay("other", &body("nobody")).problem(400, "validation_failed");
    assert_eq!(nobody.faulty_fields(), ["merchantId"]);
    let unnamed = admin.charge("other", 100).problem(400, "validation_failed");
    assert_eq!(unnamed.faulty_fields(), ["merchantId"]);
    assert!(server.all("/api/payments").is_empty());
}

#[test]
fn a_body_that_is_not_one_json_object_is_refused() {
    let server = TestServer::start();
    let deep = "[".repeat(50_000);
    for body in [
        "{",
        "null",
        "[]",
        "\"text\"",
        "4999",
        "amount=100&currency=USD",
        "{amount: 100}",
        r#"{"amount": 100, "currency": "USD"} {}"#,
        r#"{"amount": 100, "currency": "USD",}"#,
        r#"{"amount": 0100, "currency": "USD"}"#,
        r#"{"amount": +100, "currency": "USD"}"#,
        r#"{"amount": 0x64, "currency": "USD"}"#,
        r#"{"amount": 1e400, "currency": "USD"}"#,
        r#"{"amount": NaN, "currency": "USD"}"#,
        r#"{"amount": 100, "amount": 200, "currency": "USD"}"#,
        r#"{"amount": 100, "currency": "USD", "metadata": {"a": "1", "a": "2"}}"#,
        r#"{"amount": 100, "currency": "USD", "\u0061mount": 100}"#,
        r#"{"amount": 100, "currency": "USD", "description": "\ud800"}"#,
        &deep,
        &format!("{{\"metadata\": {deep}"),
    ] {
        let refused = server.post_text("/api/payments", "order", body);
        refused.problem(400, "malformed_json");
    }
    let bearer = format!("Bearer {MERCHANT_1_KEY}");
    let headers = [("Authorization", bearer.as_str()), ("Idempotency-Key", "order")];
    let latin_1 = b"{\"amount\": 100, \"currency\": \"USD\", \"description\": \"caf\xe9\"}";
    let refused = server.send("POST", "/api/payments", &headers, Some(latin_1));
    refused.unwrap().problem(400, "malformed_json");
    check_nothing_happened(&server);
}

#[test]
fn all_faults_of_a_body_are_told_at_once() {
    let server = TestServer::start();
    let empty = server.post_text("/api/payments", "order", "");
    let empty = empty.problem(400, "validation_failed");
    assert_eq!(empty.faulty_fields(), ["amount", "currency"]);
    let body = json!({
        "ammount": 100,
        "currency": "usd",
        "capture": "maybe",
        "customerId": 7,
        "description": ["a"],
        "metadata": {"a": 1, "b": "fine"},
        "paymentMethod": "",
        "refunds": [],
    });
    let refused = server.pay("order", &body).problem(400, "validation_failed");
    let mut fields = refused.faulty_fields();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "ammount",
            "amount",
            "capture",
            "currency",
            "customerId",
            "description",
            "metadata.a",
            "paymentMethod",
            "refunds"
        ]
    );
    check_nothing_happened(&server);
}

#[test]
fn a_field_that_is_unknown_is_refused_everywhere() {
    let server = TestServer::start();
    let id = server.authorize("hold", 100).of(201).id();
    for (command, field) in [("capture", "ammount"), ("void", "amount"), ("refund", "sum")] {
        let refused = server.command(command, &id, "key", &json!({field: 1}));
        let refused = refused.problem(400, "validation_failed");
        assert_eq!(refused.faulty_fields(), [field]);
    }
    assert_eq!(server.status(&id), "authorized");
}

/// Ways to write a number that is no amount.
const NO_AMOUNTS: [&str; 18] = [
    "0",
    "-0",
    "-1",
    "1.5",
    "100.0",
    "0.1",
    "1e3",
    "1E3",
    "1e-3",
    "1000000000000",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551617",
    "-9223372036854775809",
    "99999999999999999999999999999999",
    "\"100\"",
    "true",
    "[100]",
];

#[test]
fn an_amount_that_is_no_whole_number_of_minor_units_in_range_does_nothing() {
    let server = TestServer::start();
    for amount in NO_AMOUNTS {
        let body = format!(r#"{{"amount": {amount}, "currency": "USD"}}"#);
        let refused = server.post_text("/api/payments", "order", &body);
        let refused = refused.problem(400, "validation_failed");
        assert_eq!(refused.faulty_fields(), ["amount"], "{amount}");
    }
    check_nothing_happened(&server);

    let held = server.authorize("hold", 100).of(201).json;
    let paid = server.charge("order", 100).of(201).json;
    for amount in NO_AMOUNTS {
        for (payment, command) in [(&held, "capture"), (&paid, "refund")] {
            let path = format!("/api/payments/{}/{command}", payment["id"].as_str().unwrap());
            let body = format!(r#"{{"amount": {amount}}}"#);
            let refused = server.post_text(&path, "part", &body);
            refused.problem(400, "validation_failed");
        }
    }
    for payment in [held, paid] {
        assert_eq!(server.payment(payment["id"].as_str().unwrap()), payment);
    }
}

#[test]
fn a_body_has_at_most_64_kib() {
    let server = TestServer::start();
    let padded = |bytes: usize| {
        let charge = String::from_utf8_lossy(CHARGE);
        format!("{charge}{}", " ".repeat(bytes - charge.len()))
    };
    server.post_text("/api/payments", "order", &padded(65_537)).problem(413, "body_too_large");
    server.post_text("/api/payments", "order", &padded(1_000_000)).problem(413, "body_too_large");
    check_nothing_happened(&server);
    server.post_text("/api/payments", "order", &padded(65_536)).of(201);
}

/// Sends the head of a request and only part of its body.
fn send_part(server: &TestServer, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "POST /api/payments HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {MERCHANT_1_KEY}\r\n\
         Idempotency-Key: order\r\nContent-Length: {}\r\n\r\n",
        CHARGE.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream
}

#[test]
fn a_body_that_does_not_arrive_in_time_is_not_waited_for() {
    let server = TestServer::start_with(&[("STRONGROOM__HTTP__BODY_READ_TIMEOUT_MS", "50")]);
    let mut stream = send_part(&server, &CHARGE[..20]);
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 408");
    check_nothing_happened(&server);
}

#[test]
fn a_body_that_is_cut_off_does_nothing() {
    let server = TestServer::start();
    for bytes in [0, 1, 20, CHARGE.len() - 1] {
        drop(send_part(&server, &CHARGE[..bytes]));
    }
    let mut stream = send_part(&server, &CHARGE[..CHARGE.len() - 1]);
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    // Whether it is answered or just closed, it is over then.
    drop(stream.read_to_string(&mut answer));
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    check_nothing_happened(&server);
}

#[test]
fn every_response_carries_the_callers_request_id_or_a_new_one() {
    let server = TestServer::start();
    let longest = "i".repeat(128);
    let ask = |path: &str, id: &str| {
        let answer = server.send("GET", path, &[("X-Request-Id", id)], None).unwrap();
        answer.header("X-Request-Id").unwrap().to_owned()
    };
    for path in ["/health", "/api/payments", "/nowhere"] {
        for id in ["abc-123", "!~", &longest] {
            assert_eq!(ask(path, id), id, "{path}");
        }
        for id in ["two words", "", &format!("{longest}i")] {
            let made = ask(path, id);
            assert!(made != id && !made.is_empty(), "{path}: {made}");
        }
    }
    let id = |answer: Response| answer.header("X-Request-Id").unwrap().to_owned();
    assert_ne!(id(server.get("/health")), id(server.get("/health")));
    assert!(!id(server.charge("order", 100).of(201)).is_empty());
    assert!(!id(server.post("/health", "", &json!({})).of(405)).is_empty());
}

#[test]
fn a_path_that_leads_nowhere_and_a_method_that_it_does_not_take_are_problems() {
    let server = TestServer::start();
    for path in ["/", "/api", "/api/payment", "/api/payments/", "/api/payments/pay_1/close"] {
        server.get(path).problem(404, "no_such_route");
    }
    for id in ["pay_1", "PAY_0192f0c1a7d47a0b8d3f4c5e6a7b8c9d", "%00", "..%2f..%2fLOCK"] {
        server.get(&format!("/api/payments/{id}")).problem(404, "payment_not_found");
    }
    for (method, path, allowed) in [
        ("DELETE", "/api/payments", "GET, POST"),
        ("PUT", "/api/payments/pay_1", "GET"),
        ("GET", "/api/payments/pay_1/refund", "POST"),
        ("POST", "/api/ledger", "GET"),
        ("PATCH", "/api/reconcile", "GET, POST"),
        ("POST", "/health", "GET"),
    ] {
        let body = Some(CHARGE).filter(|_| !["GET", "DELETE"].contains(&method));
        let refused = server.send(method, path, &[], body).unwrap();
        let refused = refused.problem(405, "method_not_allowed");
        assert_eq!(refused.header("Allow"), Some(allowed), "{method} {path}");
    }
}

#[test]
fn a_query_parameter_that_is_unknown_is_refused_everywhere() {
    let server = TestServer::start();
    let id = server.charge("order", 100).of(201).id();
    let refused = |client: &Client, path: &str| {
        let refused = client.get(path).problem(400, "validation_failed");
        assert_eq!(refused.faulty_fields(), ["limmit"], "{path}");
    };
    for path in [
        "/api/payments",
        &format!("/api/payments/{id}"),
        &format!("/api/payments/{id}/events"),
        "/api/ledger/merchant:merchant_1",
        "/api/idempotency/order",
    ] {
        refused(&server, &format!("{path}?limmit=1"));
    }
    for path in ["/api/ledger", "/api/reconcile", "/metrics"] {
        refused(&server.admin(), &format!("{path}?limmit=1"));
    }
    for path in ["/api/payments", &format!("/api/payments/{id}/refund")] {
        let body = json!({});
        let refused = server.post(&format!("{path}?limmit=1"), "key", &body);
        refused.problem(400, "validation_failed");
    }
    assert_eq!(server.status(&id), "completed");
}

#[test]
fn anyone_may_ask_whether_the_server_lives_and_takes_payments() {
    let server = TestServer::start();
    let ask = |path: &str| server.send("GET", path, &[], None).unwrap().of(200).json;
    assert_eq!(ask("/health"), json!({"status": "ok"}));
    assert_eq!(ask("/ready"), json!({"status": "ready"}));
}
