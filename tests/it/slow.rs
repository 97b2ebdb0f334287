//! Clients that send a byte now and then, for ever, to hold on to a connection: they are cut off, wherever in a request
//! they dawdle, and nobody else notices.

use crate::{
    metrics::{LISTEN, listener, value_without_key},
    server::{MERCHANT_1_KEY, TestServer},
    wait::eventually,
};
use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

const TIMES: [(&str, &str); 2] = [
    ("STRONGROOM__HTTP__HEAD_READ_TIMEOUT_MS", "4000"),
    ("STRONGROOM__HTTP__BODY_READ_TIMEOUT_MS", "4000"),
];

/// Sends a byte at every look until the server has closed the connection; what came before that.
#[track_caller]
fn drip(server: &TestServer, mut stream: TcpStream, byte: &[u8]) -> String {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut said = Vec::new();
    eventually("the connection is closed", || {
        // The others are served meanwhile.
        server.get("/api/payments").of(200);
        let mut some = [0; 4096];
        let closed = stream.write_all(byte).is_err()
            || match stream.read(&mut some) {
                Ok(0) => true,
                Ok(count) => {
                    said.extend(&some[..count]);
                    false
                }
                Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            };
        closed.then_some(())
    });
    String::from_utf8(said).unwrap()
}

/// Asks for something on a connection that stays open, and reads the answer.
fn ask(stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    reader.get_mut().write_all(request).unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
}

#[test]
fn a_first_head_that_trickles_in_is_cut_off_and_others_are_served() {
    let server = TestServer::start_with(&TIMES);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nX-Slow: ").unwrap();
    assert_eq!(drip(&server, stream, b"s"), "");
}

#[test]
fn a_second_head_that_trickles_in_on_a_kept_connection_is_cut_off_and_others_are_served() {
    let server = TestServer::start_with(&TIMES);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    for _ in 0..3 {
        ask(&stream);
    }
    stream.write_all(b"GET /health HTTP/1.1\r\nX-Slow: ").unwrap();
    assert_eq!(drip(&server, stream, b"s"), "");
}

#[test]
fn who_dawdles_where_metrics_are_shown_is_cut_off_too_and_counted() {
    let server = TestServer::start_with(&[&TIMES[..], &[LISTEN]].concat());
    let mut stream = TcpStream::connect(listener(&server)).unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).unwrap();
    assert_ne!(stream.read(&mut [0; 1024]).unwrap(), 0);
    stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: ").unwrap();
    drip(&server, stream, b"s");
    let cut_off = "strongroom_http_connections_ended_total{reason=\"too_slow\"}";
    assert!(value_without_key(&server, cut_off) >= 1.0);
}

#[test]
fn a_head_that_trickles_in_behind_another_request_is_cut_off_and_others_are_served() {
    let server = TestServer::start_with(&TIMES);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let two = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health HTTP/1.1\r\nX-Slow: ";
    stream.write_all(two).unwrap();
    let said = drip(&server, stream, b"s");
    assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 1, "{said}");
}

#[test]
fn a_body_that_trickles_in_is_cut_off_and_others_are_served() {
    let server = TestServer::start_with(&TIMES);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "POST /api/payments HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {MERCHANT_1_KEY}\r\n\
         Idempotency-Key: order\r\nContent-Length: 60000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let said = drip(&server, stream, b" ");
    assert!(said.starts_with("HTTP/1.1 408 ") && said.contains("body_too_slow"), "{said}");
    assert_eq!(server.all("/api/payments").len(), 0);
}

#[test]
fn a_body_that_nobody_reads_cannot_trickle_in_for_ever_either() {
    let server = TestServer::start_with(&TIMES);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let said = drip(&server, stream, b" ");
    assert!(said.starts_with("HTTP/1.1 404 "), "{said}");
}

#[test]
fn a_client_that_says_nothing_at_all_is_let_go() {
    let server = TestServer::start_with(&TIMES);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let closed = stream.read(&mut [0; 16]);
    assert!(!closed.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "it is still open");
}
