//! What must never be written down, and the one log line that is written about each request.

use crate::{
    client::Client,
    server::{ADMIN_KEY, MERCHANT_1_KEY, MERCHANT_2_KEY, TestServer},
    shop::{SECRET_KEY, Shop, WEBHOOK_SECRET},
    wait::eventually,
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
};

const CARD: &str = "4242424242424242";

/// Whether the bytes stand in the log or in any file of the data folder.
fn is_written(server: &TestServer, text: &str) -> bool {
    server.logs().contains(text) || is_in_folder(&server.data(), text.as_bytes())
}

pub fn is_in_folder(folder: &Path, text: &[u8]) -> bool {
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
        // The last line may not be there whole.
        let whole = logs.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines().filter(|line| line.contains(request));
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

const ALERTS_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const WRONG_KEYS: [&str; 3] =
    ["sk_live_canary_of_a_merchant", "ak_canary_of_an_admin", "whsec_canary_of_a_webhook"];

/// Every kind of request, each with what is planted in its path, query, headers and body.
fn plant(client: &Client, id: &str, planted: &str) {
    let in_header = |name: &'static str| (name, planted.to_owned());
    let bearer = ("Authorization", format!("Bearer {planted}"));
    let basic = ("Authorization", format!("Basic {planted}"));
    let usual = ("Authorization", format!("Bearer {MERCHANT_1_KEY}"));
    let admin = ("Authorization", format!("Bearer {ADMIN_KEY}"));
    let kinds = [
        vec![bearer.clone()],
        vec![basic],
        vec![bearer, usual.clone()],
        vec![in_header("Authorization")],
        vec![usual, in_header("X-Request-Id"), in_header("User-Agent"), in_header("Cookie")],
        vec![admin, in_header("X-Api-Key"), in_header("Referer"), in_header("X-Forwarded-For")],
        vec![in_header("Stripe-Signature"), in_header("Content-Type")],
    ];
    let field = |name: &str| json!({name: planted, "amount": 1, "currency": "USD"});
    let fields = ["description", "customerId", "paymentMethod", "reason", "currency", planted];
    let endpoint = json!({"url": format!("https://{planted}@shop.example/{planted}")});
    for headers in &kinds {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let send = |method: &str, path: &str, body: Option<&Value>| {
            let body = body.map(ToString::to_string);
            let answer = client.send(method, path, &headers, body.as_deref().map(str::as_bytes));
            let answer = answer.unwrap();
            assert!(answer.status >= 200 && answer.status != 500, "{}", answer.text());
        };
        for path in ["payments", "ledger", "idempotency", "events", "webhook-endpoints", planted] {
            send("GET", &format!("/api/{path}?api_key={planted}&after={planted}"), None);
            send("GET", &format!("/api/{path}/{planted}"), None);
        }
        for path in ["/health", "/ready", "/metrics", "/api/reconcile", "/api/ledger"] {
            send("GET", &format!("{path}?key={planted}"), None);
            send("DELETE", path, None);
        }
        for name in fields {
            // Without an idempotency key: what a merchant says of a payment is kept, whatever it is.
            let body = field(name);
            send("POST", &format!("/api/payments?key={planted}"), Some(&body));
            send("POST", &format!("/api/payments/{planted}/refund"), Some(&body));
            send("POST", &format!("/api/payments/{id}/resolve"), Some(&field("nothing")));
        }
        send("POST", "/api/webhook-endpoints", Some(&endpoint));
        send("POST", "/api/providers/stripe/webhook", Some(&field("id")));
        send("POST", &format!("/api/providers/{planted}/webhook"), Some(&field("id")));
        send("PATCH", &format!("/api/webhook-endpoints/{planted}"), Some(&endpoint));
    }
}

/// What is no HTTP, or hardly.
fn plant_garbage(address: SocketAddr, planted: &str) {
    for text in [
        format!("{planted}\r\n\r\n"),
        format!("{planted} / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        format!("GET /{planted} HTTP/9.9\r\n\r\n"),
        format!("{planted} /health HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nAuthorization: {planted}\u{1}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{planted} {planted}\r\n\r\n"),
        format!("POST /api/payments HTTP/1.1\r\nContent-Length: {planted}\r\n\r\n"),
        format!("GET /{} HTTP/1.1\r\n\r\n", planted.repeat(10_000)),
    ] {
        let mut connection = TcpStream::connect(address).unwrap();
        // The server may have said no and closed before all of it came.
        drop(connection.write_all(text.as_bytes()));
        drop(connection.shutdown(std::net::Shutdown::Write));
        drop(connection.read_to_end(&mut Vec::new()));
    }
}

#[test]
fn no_credential_and_no_card_number_is_written_down_wherever_it_is_put() {
    let mut shop = Shop::start_with(
        "",
        &[
            ("STRONGROOM__LOG__LEVEL", "trace"),
            ("STRONGROOM__ALERTS__WEBHOOK_URL", "http://127.0.0.1:9/"),
            ("STRONGROOM__ALERTS__WEBHOOK_SECRET", ALERTS_SECRET),
        ],
    );
    let id = shop.charge("order", 100).of(201).id();
    shop.server.merchant_2().get("/api/payments").of(200);
    shop.server.admin().refund(&id, "part", 10).of(200);
    shop.tell(1);
    for planted in WRONG_KEYS.into_iter().chain([CARD]) {
        plant(&shop.server, &id, planted);
        plant_garbage(shop.server.address(), planted);
    }
    shop.server.admin().reconciles();
    shop.server.admin().post("/api/snapshot", "", &json!({})).of(200);
    let last = shop.server.get("/health").of(200);
    shop.server.says(last.header("X-Request-Id").unwrap());
    assert!(shop.server.terminate().success());
    let own =
        [MERCHANT_1_KEY, MERCHANT_2_KEY, ADMIN_KEY, SECRET_KEY, WEBHOOK_SECRET, ALERTS_SECRET];
    for planted in own.into_iter().chain(WRONG_KEYS).chain([CARD]) {
        let logs = shop.server.logs();
        let line = logs.lines().find(|line| line.contains(planted));
        assert_eq!(line, None, "{planted}");
        assert!(!is_in_folder(&shop.server.data(), planted.as_bytes()), "{planted}");
    }
}
