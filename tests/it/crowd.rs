//! Very many connections, and clients that vanish in the middle: whoever pays is served, and nothing half-said is done.

use crate::{
    client::Client,
    server::{MERCHANT_1_KEY, TestServer},
    wait::{eventually, patience},
};
use rustix::{
    net::sockopt::set_socket_linger,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

/// How many are held open; fewer only where the system allows this process or the server fewer descriptors.
const CONNECTIONS: u64 = 10_000;

/// Room for the rest of the suite, and for what a server keeps for its own files.
const OTHER_DESCRIPTORS: u64 = 1_500;

/// Takes as many descriptors as there may be, which children inherit. How many connections that is enough for.
fn connections() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let most = limit.maximum.map_or(CONNECTIONS, |most| most.saturating_sub(OTHER_DESCRIPTORS));
    most.min(CONNECTIONS)
}

#[test]
fn ten_thousand_open_connections_keep_nobody_from_paying() {
    let count = connections();
    let server = TestServer::start_with(&[
        ("STRONGROOM__HTTP__CONNECTIONS_PER_ADDRESS", "20000"),
        ("STRONGROOM__HTTP__CONNECTIONS_MAX", "20000"),
        ("STRONGROOM__HTTP__HEAD_READ_TIMEOUT_MS", "600000"),
    ]);
    let merchant = Client::keeping(&format!("http://{}", server.address()), MERCHANT_1_KEY);
    let mut crowd = Vec::new();
    for number in 0..count {
        crowd.push(TcpStream::connect(server.address()).unwrap());
        if number % 500 == 0 {
            merchant.charge(&format!("order_{number}"), 100).of(201);
        }
    }
    // Each of them is held, and can ask.
    for stream in crowd.iter_mut().step_by(997) {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut said = [0; 15];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"HTTP/1.1 200 OK");
    }
    for number in 0..20 {
        server.charge(&format!("newcomer_{number}"), 100).of(201);
    }
    println!("{count} connections");
    drop(crowd);
    let paid = i64::try_from((count.div_ceil(500) + 20) * 100).unwrap();
    assert_eq!(server.balance("merchant:merchant_1", "USD"), (paid, 0));
    server.admin().reconciles();
}

/// How a client goes away.
#[derive(Clone, Copy)]
enum Vanishes {
    /// It closes its connection.
    Closes,
    /// It says that it will send no more, and waits.
    SendsNoMore,
    /// Its connection is reset.
    Resets,
    /// It is never heard of again: no end, no reset.
    Silently,
}

#[test]
fn clients_that_vanish_in_the_middle_of_a_request_use_no_key_and_hold_up_nobody() {
    let server = TestServer::start_with(&[
        ("STRONGROOM__HTTP__HEAD_READ_TIMEOUT_MS", "4000"),
        ("STRONGROOM__HTTP__BODY_READ_TIMEOUT_MS", "4000"),
    ]);
    let body = r#"{"amount": 100, "currency": "USD"}"#;
    let request = |key: &str| {
        format!(
            "POST /api/payments HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {MERCHANT_1_KEY}\r\n\
             Idempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let ways = [Vanishes::Closes, Vanishes::SendsNoMore, Vanishes::Resets, Vanishes::Silently];
    let mut silent = Vec::new();
    let mut number = 0;
    for cut in (1..request("half_000").len()).step_by(3) {
        for way in ways {
            let whole = request(&format!("half_{number:03}"));
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.write_all(&whole.as_bytes()[..cut]).unwrap();
            match way {
                Vanishes::Closes => {}
                Vanishes::SendsNoMore => {
                    stream.shutdown(Shutdown::Write).unwrap();
                    silent.push(stream);
                }
                Vanishes::Resets => set_socket_linger(&stream, Some(Duration::ZERO)).unwrap(),
                Vanishes::Silently => silent.push(stream),
            }
            number += 1;
        }
        server.charge(&format!("whole_{cut}"), 100).of(201);
    }
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        eventually("the server lets go of it", || match stream.read(&mut [0; 4096]) {
            Ok(0) | Err(_) => Some(()),
            Ok(_) => None,
        });
    }
    for number in 0..number {
        server.get(&format!("/api/idempotency/half_{number:03}")).of(404);
    }
    let payments = server.all("/api/payments?limit=100");
    assert_eq!(payments.len(), request("half_000").len().div_ceil(3));
    server.admin().reconciles();
}

#[test]
fn clients_that_come_at_once_find_a_place_to_wait_at() {
    let server = TestServer::start();
    server.stand_still();
    let address = server.address();
    // Whoever finds none is told nothing, and tries again a second later and more.
    let waiting: Vec<TcpStream> =
        (0..512).map(|_| TcpStream::connect_timeout(&address, patience()).unwrap()).collect();
    server.go_on();
    server.charge("order", 100).of(201);
    drop(waiting);
}
