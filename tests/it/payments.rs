//! The life of a payment: every move that there is, and every one that there is not.

use crate::{
    client::{Client, Response},
    server::TestServer,
    shop::ASKS_NEVER,
    wait::eventually,
};
use serde_json::{Value, json};

/// The fields of a payment and no others, as the contract lists them.
const FIELDS: [&str; 23] = [
    "amount",
    "amountCapturable",
    "amountCaptured",
    "amountRefunded",
    "attempts",
    "capture",
    "createdAt",
    "currency",
    "customerId",
    "description",
    "expiresAt",
    "failure",
    "id",
    "idempotencyKey",
    "merchantId",
    "metadata",
    "needsReview",
    "paymentMethod",
    "provider",
    "providerReference",
    "refunds",
    "status",
    "updatedAt",
];

fn time(value: &Value) -> jiff::Timestamp {
    let text = value.as_str().unwrap();
    assert_eq!(text.len(), "2026-11-22T15:04:05.123Z".len(), "{text}");
    assert!(text.ends_with('Z'), "{text}");
    text.parse().unwrap()
}

fn is_id(value: &Value, prefix: &str) -> bool {
    let pattern = format!("^{prefix}[0-9a-f]{{12}}7[0-9a-f]{{3}}[89ab][0-9a-f]{{15}}$");
    let pattern = regex::Regex::new(&pattern).unwrap();
    pattern.is_match(value.as_str().unwrap())
}

/// `[amountCapturable, amountCaptured, amountRefunded]`
fn amounts(payment: &Value) -> [i64; 3] {
    ["amountCapturable", "amountCaptured", "amountRefunded"]
        .map(|field| payment[field].as_i64().unwrap())
}

#[test]
fn a_charge_takes_the_money_and_shows_every_field_of_the_payment() {
    let server = TestServer::start();
    let body = json!({
        "merchantId": "merchant_1",
        "amount": 4999,
        "currency": "USD",
        "capture": "automatic",
        "paymentMethod": "tok_visa",
        "customerId": "customer_7",
        "description": "Order #12345 – two cups ☕",
        "metadata": {"order": "12345", "table": "seven"},
    });
    let charge = server.pay("order_12345_payment", &body).of(201);
    let id = charge.id();
    assert_eq!(charge.header("Location"), Some(format!("/api/payments/{id}").as_str()));
    let payment = &charge.json;
    assert!(payment.as_object().unwrap().keys().eq(FIELDS));
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&payment[field], value, "{field}");
    }
    assert!(is_id(&payment["id"], "pay_"), "{id}");
    assert_eq!(payment["status"], "completed");
    assert_eq!(amounts(payment), [0, 4999, 0]);
    assert_eq!(payment["provider"], "sandbox");
    assert!(payment["providerReference"].is_string());
    assert_eq!(payment["failure"], Value::Null);
    assert_eq!(payment["idempotencyKey"], "order_12345_payment");
    assert_eq!(payment["refunds"], json!([]));
    assert_eq!(payment["needsReview"], false);
    let [attempt] = &payment["attempts"].as_array().unwrap()[..] else { panic!("{payment}") };
    assert!(is_id(&attempt["id"], "att_"));
    for (field, value) in
        [("operation", "charge"), ("provider", "sandbox"), ("status", "succeeded")]
    {
        assert_eq!(attempt[field], value);
    }
    assert_eq!((&attempt["amount"], &attempt["failure"]), (&json!(4999), &Value::Null));
    assert_eq!(attempt["providerReference"], payment["providerReference"]);
    assert_eq!(payment["expiresAt"], Value::Null);
    assert_eq!(time(&payment["createdAt"]), time(&payment["updatedAt"]));
    assert_eq!(server.payment(&id), *payment);
}

#[test]
fn what_a_charge_leaves_out_has_its_default() {
    let server = TestServer::start();
    let payment = server.charge("plain", 1).of(201).json;
    assert!(payment.as_object().unwrap().keys().eq(FIELDS));
    assert_eq!(payment["merchantId"], "merchant_1");
    assert_eq!(payment["capture"], "automatic");
    assert_eq!(payment["paymentMethod"], "tok_visa");
    assert_eq!(payment["customerId"], Value::Null);
    assert_eq!(payment["description"], Value::Null);
    assert_eq!(payment["metadata"], json!({}));
}

#[test]
fn an_authorization_holds_the_money_until_it_is_captured() {
    let server = TestServer::start();
    let held = server.authorize("hold", 100).of(201).json;
    assert_eq!(held["status"], "authorized");
    assert_eq!(held["capture"], "manual");
    assert_eq!(amounts(&held), [100, 0, 0]);
    let week = jiff::SignedDuration::from_hours(7 * 24);
    assert_eq!(time(&held["expiresAt"]), time(&held["createdAt"]) + week);

    let id = held["id"].as_str().unwrap();
    let captured = server.capture_all(id).of(200).json;
    assert_eq!(captured["status"], "completed");
    assert_eq!(amounts(&captured), [0, 100, 0]);
    assert_eq!(captured["expiresAt"], Value::Null);
    assert_eq!(captured["idempotencyKey"], "hold");
    assert_eq!(server.payment(id), captured);
}

#[test]
fn a_partial_capture_releases_the_rest() {
    let server = TestServer::start();
    let id = server.authorize("hold", 100).of(201).id();
    let captured = server.capture(&id, "take", 60).of(200).json;
    assert_eq!(captured["status"], "completed");
    assert_eq!(captured["amount"], 100);
    assert_eq!(amounts(&captured), [0, 60, 0]);
    server.capture(&id, "take_more", 40).problem(409, "invalid_transition");
    server.refund(&id, "give", 61).problem(422, "amount_exceeds_refundable");
    let refunded = server.refund_all(&id).of(200).json;
    assert_eq!(refunded["status"], "refunded");
    assert_eq!(amounts(&refunded), [0, 60, 60]);
}

#[test]
fn a_capture_of_more_than_is_authorized_is_refused() {
    let server = TestServer::start();
    let held = server.authorize("hold", 100).of(201).json;
    let id = held["id"].as_str().unwrap();
    server.capture(id, "take", 101).problem(422, "amount_exceeds_capturable");
    assert_eq!(server.payment(id), held);
    server.capture(id, "take", 100).of(200);
}

#[test]
fn a_void_gives_the_hold_up() {
    let server = TestServer::start();
    let id = server.authorize("hold", 100).of(201).id();
    let voided = server.void(&id).of(200).json;
    assert_eq!(voided["status"], "voided");
    assert_eq!(amounts(&voided), [0, 0, 0]);
    assert_eq!(voided["expiresAt"], Value::Null);
}

#[test]
fn a_hold_lapses_by_itself() {
    let server = TestServer::start_with(&[("STRONGROOM__PAYMENTS__AUTHORIZATION_TTL", "300ms")]);
    let held = server.authorize("hold", 100).of(201).json;
    let id = held["id"].as_str().unwrap();
    let lapses_at = time(&held["expiresAt"]);
    let expired = eventually("the hold lapses", || {
        let payment = server.payment(id);
        (payment["status"] != "authorized").then_some(payment)
    });
    assert_eq!(expired["status"], "expired");
    assert_eq!(amounts(&expired), [0, 0, 0]);
    assert!(time(&expired["updatedAt"]) >= lapses_at);
    refused_from(&server.capture_all(id), "expired", "completed");
}

#[test]
fn a_hold_that_has_lapsed_cannot_be_captured_though_the_timer_has_not_come() {
    let server = TestServer::start_with(&[("STRONGROOM__PAYMENTS__AUTHORIZATION_TTL", "1ms")]);
    for round in 0..30 {
        let held = server.authorize(&format!("hold_{round}"), 100);
        let held = held.of(201).json;
        let id = held["id"].as_str().unwrap();
        let lapses_at = time(&held["expiresAt"]);
        eventually("the hold's time is over", || {
            (jiff::Timestamp::now() > lapses_at).then_some(())
        });
        refused_from(&server.capture_all(id), "expired", "completed");
        assert_eq!(server.status(id), "expired");
    }
}

#[test]
fn a_hold_that_lapsed_while_the_server_was_down_is_let_go_at_the_next_start() {
    let mut server = TestServer::start_with(&[("STRONGROOM__PAYMENTS__AUTHORIZATION_TTL", "1s")]);
    let held = server.authorize("hold", 100).of(201).json;
    let id = held["id"].as_str().unwrap();
    server.kill();
    let lapses_at = time(&held["expiresAt"]);
    eventually("the hold's time is over", || (jiff::Timestamp::now() > lapses_at).then_some(()));
    server.restart();
    eventually("the hold is let go", || (server.status(id) == "expired").then_some(()));
}

#[test]
fn a_payment_is_refunded_at_once_or_in_parts_up_to_what_was_captured() {
    let server = TestServer::start();
    let whole = server.charge("whole", 100).of(201).id();
    let refunded = server.refund_all(&whole).of(200).json;
    assert_eq!(refunded["status"], "refunded");
    assert_eq!(amounts(&refunded), [0, 100, 100]);

    let parts = server.charge("parts", 100).of(201).id();
    let body = json!({"amount": 30, "reason": "one cup broke"});
    let first = server.command("refund", &parts, "part_1", &body).of(200);
    assert_eq!(first.json["status"], "partially_refunded");
    assert_eq!(amounts(&first.json), [0, 100, 30]);
    let second = server.refund(&parts, "part_2", 50).of(200).json;
    assert_eq!(second["status"], "partially_refunded");
    server.refund(&parts, "part_3", 21).problem(422, "amount_exceeds_refundable");
    let last = server.refund_all(&parts).of(200).json;
    assert_eq!(last["status"], "refunded");
    assert_eq!(amounts(&last), [0, 100, 100]);

    let refunds = last["refunds"].as_array().unwrap();
    let figures: Vec<_> = refunds
        .iter()
        .map(|refund| (refund["amount"].as_i64().unwrap(), refund["reason"].clone()))
        .collect();
    let reason = Value::from("one cup broke");
    assert_eq!(figures, [(30, reason), (50, Value::Null), (20, Value::Null)]);
    for refund in refunds {
        assert!(is_id(&refund["id"], "ref_"), "{refund}");
        let fields = ["amount", "createdAt", "id", "reason", "status"];
        assert!(refund.as_object().unwrap().keys().eq(fields));
        assert_eq!(refund["status"], "succeeded");
        assert!(time(&refund["createdAt"]) >= time(&last["createdAt"]));
    }
    assert_ne!(refunds[0]["id"], refunds[1]["id"]);
    assert_eq!(server.payment(&parts), last);
}

#[test]
fn a_refund_of_more_than_is_left_changes_nothing_and_may_be_asked_again_for_less() {
    let server = TestServer::start();
    let charged = server.charge("order", 100).of(201).json;
    let id = charged["id"].as_str().unwrap();
    for amount in [101, 999_999_999_999] {
        server.refund(id, "give", amount).problem(422, "amount_exceeds_refundable");
    }
    assert_eq!(server.payment(id), charged);
    server.refund(id, "give", 100).of(200);
}

/// Brings a payment into a state, by the shortest way there is.
fn payment_that_is(status: &str, server: &Client) -> String {
    let key = |step: &str| format!("{status}_{step}");
    let charge = || server.charge(&key("charge"), 100).of(201).id();
    let hold = || server.authorize(&key("hold"), 100).of(201).id();
    let id = match status {
        "processing" => server.charge_with("tok_timeout", &key("charge"), 100).id(),
        "failed" => server.charge_with("tok_declined", &key("charge"), 100).id(),
        "authorized" | "voided" | "expired" => hold(),
        _ => charge(),
    };
    match status {
        "voided" => drop(server.void(&id).of(200)),
        "partially_refunded" => drop(server.refund(&id, &key("part"), 40).of(200)),
        "refunded" => drop(server.refund_all(&id).of(200)),
        "expired" => {
            eventually("the hold lapses", || (server.status(&id) == "expired").then_some(()))
        }
        _ => {}
    }
    assert_eq!(server.status(&id), status);
    id
}

#[track_caller]
fn refused_from(response: &Response, from: &str, to: &str) {
    let problem = response.clone().problem(409, "invalid_transition");
    let detail = problem.json["detail"].as_str().unwrap().to_owned();
    for state in [from, to] {
        let named = detail.split(|c: char| c != '_' && !c.is_alphanumeric());
        assert!(named.into_iter().any(|word| word == state), "{detail}");
    }
}

/// Tries every command that is not `allowed` on a payment in `status`.
fn check_moves(server: &Client, status: &str, allowed: &[&str]) {
    let id = payment_that_is(status, server);
    let before = server.payment(&id);
    for (command, to) in [("capture", "completed"), ("void", "voided"), ("refund", "refunded")] {
        if allowed.contains(&command) {
            continue;
        }
        let key = format!("{status}_{command}");
        refused_from(&server.command(command, &id, &key, &json!({})), status, to);
        if command != "void" {
            let part = json!({"amount": 1});
            refused_from(&server.command(command, &id, &key, &part), status, to);
        }
        assert_eq!(server.payment(&id), before, "{command} of {status}");
    }
}

#[test]
fn every_move_that_is_not_in_the_table_is_refused_with_both_states() {
    let server = TestServer::start_with(&[ASKS_NEVER]);
    check_moves(&server, "processing", &[]);
    check_moves(&server, "authorized", &["capture", "void"]);
    check_moves(&server, "completed", &["refund"]);
    check_moves(&server, "partially_refunded", &["refund"]);
    check_moves(&server, "refunded", &[]);
    check_moves(&server, "voided", &[]);
    check_moves(&server, "failed", &[]);
    let short = TestServer::start_with(&[("STRONGROOM__PAYMENTS__AUTHORIZATION_TTL", "50ms")]);
    check_moves(&short, "expired", &[]);
}

#[test]
fn amounts_are_minor_units_whatever_the_currency_has_for_decimals() {
    let server = TestServer::start();
    for (currency, amount) in [("USD", 4999), ("JPY", 4999), ("KWD", 4999), ("CLF", 1)] {
        let body = json!({"amount": amount, "currency": currency, "customerId": currency});
        let payment = server.pay(currency, &body).of(201).json;
        assert_eq!(payment["amount"], amount);
        assert_eq!(payment["currency"], currency);
        let account = format!("customer:{currency}");
        assert_eq!(server.balance(&account, currency), (-amount, 0));
    }
}
