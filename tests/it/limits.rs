//! The attacks on a payment's limits, free for anyone to run: many connections at once try to take or give back more
//! than there is. Each round ends with the payment, its ledger entries and the reconciliation telling the same.

use crate::{
    client::{Client, Response},
    server::TestServer,
    wait::at_once,
};
use serde_json::json;

/// How many tell of success; all others must be refused with one of these codes.
#[track_caller]
fn winners(responses: &[Response], codes: &[&str]) -> usize {
    let mut winners = 0;
    for response in responses {
        let code = response.json["code"].as_str().unwrap_or_default();
        match response.status {
            200 => winners += 1,
            409 | 422 if codes.contains(&code) => {}
            _ => panic!("{}: {}", response.status, response.text()),
        }
    }
    winners
}

/// What the ledger says a payment's customer has paid and is holding.
fn paid(client: &Client, id: &str) -> (i64, i64) {
    let (balance, pending) = client.balance(&format!("customer:{id}"), "USD");
    (-balance, -pending)
}

#[test]
fn two_refunds_of_60_at_once_never_both_succeed_on_100() {
    let server = TestServer::start();
    for round in 0..60 {
        let id = server.charge(&format!("round_{round}"), 100).of(201).id();
        let refund = |number| server.refund(&id, &format!("refund_{round}_{number}"), 60);
        let refunds = at_once(2, refund);
        assert_eq!(winners(&refunds, &["amount_exceeds_refundable"]), 1);
        let payment = server.payment(&id);
        assert_eq!(payment["amountRefunded"], 60, "round {round}");
        assert_eq!(payment["refunds"].as_array().unwrap().len(), 1);
        assert_eq!(paid(&server, &id), (40, 0), "round {round}");
    }
    assert_eq!(server.balance("merchant:merchant_1", "USD"), (60 * 40, 0));
    server.admin().reconciles();
}

#[test]
fn of_50_refunds_of_10_at_once_exactly_10_succeed_on_100() {
    let server = TestServer::start();
    for round in 0..5 {
        let id = server.charge(&format!("round_{round}"), 100).of(201).id();
        let refund = |number| server.refund(&id, &format!("refund_{round}_{number}"), 10);
        let refunds = at_once(50, refund);
        let codes = ["amount_exceeds_refundable", "invalid_transition"];
        assert_eq!(winners(&refunds, &codes), 10);
        let payment = server.payment(&id);
        assert_eq!(payment["status"], "refunded");
        assert_eq!(payment["amountRefunded"], 100);
        assert_eq!(payment["refunds"].as_array().unwrap().len(), 10);
        assert_eq!(paid(&server, &id), (0, 0));
    }
    assert_eq!(server.balance("merchant:merchant_1", "USD"), (0, 0));
    server.admin().reconciles();
}

#[test]
fn of_many_full_refunds_at_once_without_a_key_exactly_one_succeeds() {
    let server = TestServer::start();
    for round in 0..10 {
        let id = server.charge(&format!("round_{round}"), 100).of(201).id();
        let refunds = at_once(16, |_| server.refund_all(&id));
        assert_eq!(winners(&refunds, &["invalid_transition"]), 1);
        assert_eq!(paid(&server, &id), (0, 0));
    }
    server.admin().reconciles();
}

#[test]
fn of_many_captures_at_once_exactly_one_succeeds_and_never_takes_more_than_is_held() {
    let server = TestServer::start();
    for round in 0..15 {
        let id = server.authorize(&format!("round_{round}"), 100).of(201).id();
        let captures = at_once(24, |number| match number % 3 {
            0 => server.capture_all(&id),
            1 => server.capture(&id, &format!("part_{round}_{number}"), 60),
            _ => server.capture(&id, &format!("more_{round}_{number}"), 101),
        });
        let codes = ["invalid_transition", "amount_exceeds_capturable"];
        assert_eq!(winners(&captures, &codes), 1);
        let payment = server.payment(&id);
        let captured = payment["amountCaptured"].as_i64().unwrap();
        assert!([60, 100].contains(&captured), "{payment:#}");
        assert_eq!(paid(&server, &id), (captured, 0));
    }
    server.admin().reconciles();
}

#[test]
fn of_captures_and_voids_at_once_exactly_one_succeeds() {
    let server = TestServer::start();
    for round in 0..15 {
        let id = server.authorize(&format!("round_{round}"), 100).of(201).id();
        let commands = at_once(16, |number| match number % 2 {
            0 => server.capture_all(&id),
            _ => server.void(&id),
        });
        assert_eq!(winners(&commands, &["invalid_transition"]), 1);
        let expected = match server.status(&id).as_str() {
            "completed" => (100, 0),
            "voided" => (0, 0),
            status => panic!("{status}"),
        };
        assert_eq!(paid(&server, &id), expected);
    }
    server.admin().reconciles();
}

#[test]
fn a_capture_and_the_end_of_the_hold_at_once_never_both_happen() {
    let server = TestServer::start_with(&[("STRONGROOM__PAYMENTS__AUTHORIZATION_TTL", "100ms")]);
    let holds: Vec<_> = (0..40)
        .map(|number| server.authorize(&format!("hold_{number}"), 100).of(201).id())
        .collect();
    let captured = at_once(4, |part| {
        let part = holds.iter().skip(part * 10).take(10);
        winners(&part.map(|id| server.capture_all(id)).collect::<Vec<_>>(), &["invalid_transition"])
    });
    for id in &holds {
        let expected = match server.status(id).as_str() {
            "completed" => (100, 0),
            "expired" => (0, 0),
            status => panic!("{status}"),
        };
        assert_eq!(paid(&server, id), expected);
    }
    let captured = i64::try_from(captured.iter().sum::<usize>()).unwrap();
    assert_eq!(server.balance("merchant:merchant_1", "USD"), (captured * 100, 0));
    server.admin().reconciles();
}

#[test]
fn a_refund_cannot_overtake_the_capture_it_depends_on() {
    let server = TestServer::start();
    for round in 0..15 {
        let id = server.authorize(&format!("round_{round}"), 100).of(201).id();
        let results = at_once(8, |number| match number {
            0 => server.capture(&id, &format!("take_{round}"), 70),
            _ => server.refund(&id, &format!("give_{round}_{number}"), 40),
        });
        let codes = ["invalid_transition", "amount_exceeds_refundable"];
        assert_eq!(winners(&results[..1], &[]), 1, "nothing stands in its way");
        assert!(winners(&results[1..], &codes) <= 1);
        let payment = server.payment(&id);
        let left = 70 - payment["amountRefunded"].as_i64().unwrap();
        assert!([30, 70].contains(&left), "{payment:#}");
        assert_eq!(paid(&server, &id), (left, 0));
    }
    server.admin().reconciles();
}

#[test]
fn the_limits_hold_also_when_the_server_is_killed_between_two_refunds() {
    let mut server = TestServer::start();
    let id = server.charge("order", 100).of(201).id();
    server.refund(&id, "first", 60).of(200);
    server.kill();
    server.restart();
    let refunds = at_once(8, |number| server.refund(&id, &format!("again_{number}"), 60));
    assert_eq!(winners(&refunds, &["amount_exceeds_refundable"]), 0);
    let rest = server.command("refund", &id, "rest", &json!({"amount": 40}));
    assert_eq!(rest.of(200).json["status"], "refunded");
    server.admin().reconciles();
}
