//! A process that stands still, is joined by another, or has too little memory: nothing acknowledged is lost, and what
//! was asked for again is done once.

use crate::{
    backup::large_payment,
    client::Client,
    record::Record,
    server::{MERCHANT_1_KEY, TestServer, check_refusal},
    wait::eventually,
};
use std::{thread, time::Duration};

/// How long clients wait before they ask again, and how long a server stands still.
const TOO_LONG: Duration = Duration::from_millis(300);

#[test]
fn a_server_that_stands_still_under_load_doubles_nothing_when_clients_ask_again() {
    let server = TestServer::start();
    let mut record = Record::default();
    let url = format!("http://{}", server.address());
    let hasty = Client::hasty(TOO_LONG, &url, MERCHANT_1_KEY);
    for round in 0..4 {
        record.while_clients_work((&hasty, &format!("round{round}")), 20, || {
            server.stand_still();
            // Everybody's patience ends; a second process must not take the folder over.
            thread::sleep(2 * TOO_LONG);
            check_refusal(&server.start_second(), 5, &["data", "process"]);
            server.go_on();
        });
        record.prove(&server);
    }
    assert!(record.unheard.0 > 0, "what nobody heard of was done all the same");
}

#[test]
fn a_server_that_gets_no_more_memory_dies_or_refuses_and_loses_nothing() {
    // The allocator asks the system for a little at a time.
    let mut server = TestServer::start_with(&[("MIMALLOC_ARENA_RESERVE", "8192")]);
    // 5,000 of these are 250 megabytes. The allocator may have up to a hundred in reserve.
    let body = large_payment("\u{e9}");
    for (round, more_bytes) in [1 << 20, 24 << 20].into_iter().enumerate() {
        server.limit_memory(more_bytes);
        let mut told = Vec::new();
        while told.len() < 5_000 {
            let key = format!("order_{round}_{}", told.len());
            match server.try_post("/api/payments", &key, &body.to_string()) {
                Ok(answer) if answer.status == 201 => told.push((key, answer)),
                // It says that it can't, or may be asked again.
                Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
                Err(_) => break,
            }
        }
        assert!(told.len() < 5_000, "memory was no limit");
        eventually("the process has ended", || server.has_ended());
        server.kill();
        server.restart();
        for (key, answer) in &told {
            let again = server.pay(key, &body);
            assert!(again.is_replay(), "{key}");
            assert_eq!(again.body, answer.body, "{key}");
        }
        let made = server.all("/api/payments?limit=100").len();
        assert_eq!(
            server.balance("merchant:merchant_1", "USD").0,
            i64::try_from(made * 100).unwrap()
        );
        server.admin().reconciles();
        server.verifies();
    }
}
