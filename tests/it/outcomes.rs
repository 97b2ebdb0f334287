//! What a payment becomes by the provider's answer: approved, declined, late, or unknown for a while.

use crate::{
    client::{Client, Response},
    server::TestServer,
    shop::ASKS_NEVER,
    wait::eventually,
};
use serde_json::{Value, json};

const ANSWER_WITHIN: (&str, &str) = ("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "20");
const INQUIRE_SOON: (&str, &str) = ("STRONGROOM__PROVIDER__INQUIRE_AFTER_MS", "1");

#[track_caller]
fn check_declined(response: Response, code: &str) {
    let payment = response.of(201).json;
    assert_eq!(payment["status"], "failed");
    assert_eq!(payment["failure"]["code"], code);
    assert!(!payment["failure"]["message"].as_str().unwrap().is_empty());
    assert_eq!(payment["failure"].as_object().unwrap().len(), 2);
    for figure in ["amountCapturable", "amountCaptured", "amountRefunded"] {
        assert_eq!(payment[figure], 0, "{figure}");
    }
    assert_eq!(payment["expiresAt"], Value::Null);
}

#[track_caller]
fn settled(server: &Client, id: &str) -> Value {
    eventually("the provider's answer is known", || {
        let payment = server.payment(id);
        (payment["status"] != "processing").then_some(payment)
    })
}

#[test]
fn a_declined_payment_is_on_record_and_moves_no_money() {
    let server = TestServer::start();
    for (method, code) in [
        ("tok_declined", "card_declined"),
        ("tok_insufficient_funds", "insufficient_funds"),
        ("tok_expired_card", "expired_card"),
    ] {
        check_declined(server.charge_with(method, method, 4999), code);
        let body = json!({
            "amount": 4999, "currency": "USD", "paymentMethod": method, "capture": "manual",
        });
        check_declined(server.pay(&format!("{method}_hold"), &body), code);
    }
    let method_of_no_one = server.charge_with("tok_of_no_one", "no_one", 4999).of(201);
    assert_eq!(method_of_no_one.json["status"], "failed");
    assert_eq!(server.all("/api/payments").len(), 7);
    assert_eq!(server.balance("merchant:merchant_1", "USD"), (0, 0));
}

#[test]
fn an_amount_of_10000_or_more_is_too_large_for_the_sandbox() {
    let server = TestServer::start();
    let most = server.charge("most", 9_999).of(201).json;
    assert_eq!(most["status"], "completed");
    check_declined(server.charge("too_much", 10_000), "amount_too_large");
    check_declined(server.charge("far_too_much", 999_999_999_999), "amount_too_large");
    check_declined(server.authorize("hold", 10_000), "amount_too_large");
    check_declined(server.charge_with("tok_timeout", "timeout", 10_000), "amount_too_large");
}

#[test]
fn the_amount_from_which_the_sandbox_declines_can_be_set() {
    let server = TestServer::start_with(&[("STRONGROOM__PROVIDER__SANDBOX__DECLINE_AT", "500")]);
    assert_eq!(server.charge("most", 499).of(201).json["status"], "completed");
    check_declined(server.charge("too_much", 500), "amount_too_large");
}

#[test]
fn a_slow_answer_is_waited_for() {
    let server = TestServer::start_with(&[("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "20000")]);
    let charge = server.charge_with("tok_slow", "slow", 100).of(201);
    assert_eq!(charge.json["status"], "completed");
}

#[test]
fn an_answer_that_stays_out_is_looked_up_until_it_is_known() {
    let server = TestServer::start_with(&[ANSWER_WITHIN]);
    for (method, status) in [("tok_timeout", "completed"), ("tok_timeout_declined", "failed")] {
        let first = server.charge_with(method, method, 100).of(202);
        assert_eq!(first.json["status"], "processing");
        assert_eq!(first.json["amountCaptured"], 0);
        let payment = settled(&server, &first.id());
        assert_eq!(payment["status"], status);
        let declined = payment["failure"]["code"] == "card_declined";
        assert_eq!(declined, status == "failed");
        let replay = server.charge_with(method, method, 100).of(202);
        assert!(replay.is_replay());
        assert_eq!(replay.body, first.body, "the answer under a key is the first");
    }
    assert_eq!(server.balance("merchant:merchant_1", "USD"), (100, 0));
    server.admin().reconciles();
}

#[test]
fn a_hold_whose_answer_stayed_out_can_be_captured_once_it_is_known() {
    let server = TestServer::start_with(&[ANSWER_WITHIN, INQUIRE_SOON]);
    let body = json!({
        "amount": 100, "currency": "USD", "paymentMethod": "tok_timeout", "capture": "manual",
    });
    let id = server.pay("hold", &body).of(202).id();
    let held = settled(&server, &id);
    assert_eq!(held["status"], "authorized");
    assert_eq!(held["amountCapturable"], 100);
    assert!(held["expiresAt"].is_string());
    server.capture_all(&id).of(200);
    assert_eq!(server.balance("merchant:merchant_1", "USD"), (100, 0));
}

#[test]
fn an_answer_that_was_out_when_the_server_was_killed_is_looked_up_after_the_next_start() {
    let mut server = TestServer::start_with(&[ANSWER_WITHIN, ASKS_NEVER]);
    let approved = server.charge_with("tok_timeout", "approved", 100).of(202);
    let declined = server.charge_with("tok_timeout_declined", "declined", 100);
    let declined = declined.of(202);
    server.kill();
    server.set(INQUIRE_SOON.0, INQUIRE_SOON.1);
    server.restart();
    assert_eq!(settled(&server, &approved.id())["status"], "completed");
    assert_eq!(settled(&server, &declined.id())["status"], "failed");
    assert_eq!(server.balance("merchant:merchant_1", "USD"), (100, 0));
    server.admin().reconciles();
}
