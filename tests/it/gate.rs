//! What is too much of one request, and too many connections.

use crate::{
    metrics::{LISTEN, value_without_key},
    server::TestServer,
    wait::{eventually, patience},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
};

#[test]
fn a_url_or_head_that_is_too_long_is_a_problem() {
    let server = TestServer::start();
    let key = |length: usize| format!("/api/idempotency/{}", "k".repeat(length));
    server.get(&key(255)).problem(404, "idempotency_key_not_found");
    let longest = 2048 - key(0).len();
    assert_ne!(server.get(&key(longest)).status, 414);
    server.get(&key(longest + 1)).problem(414, "uri_too_long");
    let query = |length: usize| format!("/api/payments?customerId={}", "c".repeat(length - 11));
    server.get(&query(4096)).of(200);
    server.get(&query(4097)).problem(414, "uri_too_long");
    let large = "h".repeat(15_000);
    server.get_with("/api/payments", &[("X-Large", &large)]).of(200);
    let refused = server.get_with("/api/payments", &[("X-Large", &large), ("X-More", &large)]);
    let refused = refused.problem(431, "headers_too_large");
    assert!(refused.header("X-Request-Id").is_some());
    let names: Vec<String> = (0..65).map(|number| format!("X-Header-{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    server.get_with("/api/payments", &many[..50]).of(200);
    server.get_with("/api/payments", &many).problem(431, "headers_too_large");
    server.get("/api/payments").of(200);
}

#[test]
fn a_body_is_nested_at_most_16_deep() {
    let server = TestServer::start();
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        let body = format!(r#"{{"amount": 100, "currency": "USD", "nested": {open}{close}}}"#);
        server.post_text("/api/payments", "order", &body)
    };
    nested(16).problem(400, "validation_failed");
    let refused = nested(17).problem(400, "malformed_json");
    assert!(refused.json["detail"].as_str().unwrap().contains("deeper than 16"));
    nested(10_000).problem(400, "malformed_json");
}

/// What is answered on a new connection, which stays open; `None` if it is closed without a word.
fn connect(server: &TestServer) -> Option<(TcpStream, String)> {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(patience())).unwrap();
    let answer = ask(&mut stream)?;
    Some((stream, answer))
}

fn ask(stream: &mut TcpStream) -> Option<String> {
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    // Health and problems alike are one object.
    while !answer.ends_with('}') {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).ok().filter(|count| *count > 0)?;
        answer += std::str::from_utf8(&some[..count]).unwrap();
    }
    Some(answer)
}

/// So many connections that have been answered and stay open. One is not asked for before the one before is let in: two
/// workers let them in, in no certain order.
fn open(server: &TestServer, count: usize) -> Vec<TcpStream> {
    let opened = (0..count).map(|_| {
        let (stream, answer) = connect(server).expect("a place");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        stream
    });
    opened.collect()
}

/// The one connection too many is told no.
fn check_refusal(server: &TestServer) {
    let (_, answer) = eventually("it is told", || connect(server));
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["code"], "overloaded");
}

#[test]
fn connections_beyond_those_of_one_address_are_told_no_and_closed_and_those_before_go_on() {
    let server =
        TestServer::start_with(&[LISTEN, ("STRONGROOM__HTTP__CONNECTIONS_PER_ADDRESS", "3")]);
    let mut open = open(&server, 3);
    check_refusal(&server);
    let again = ask(&mut open[0]).expect("those before go on");
    assert!(again.starts_with("HTTP/1.1 200 "), "{again}");
    let shed = "strongroom_http_connections_ended_total{reason=\"too_many_from_address\"}";
    assert!(value_without_key(&server, shed) >= 1.0);
    assert!(value_without_key(&server, "strongroom_http_connections") >= 3.0);
    drop(open);
    eventually("a place is free", || {
        server.send("GET", "/health", &[], None).ok().filter(|answer| answer.status == 200)
    });
}

#[test]
fn the_newest_of_too_many_connections_is_shed_and_does_not_wait() {
    let server = TestServer::start_with(&[("STRONGROOM__HTTP__CONNECTIONS_MAX", "16")]);
    // Two of the 16 are for telling others no.
    let idle = open(&server, 14);
    check_refusal(&server);
    drop(idle);
    eventually("a place is free", || {
        server.send("GET", "/health", &[], None).ok().filter(|answer| answer.status == 200)
    });
}
