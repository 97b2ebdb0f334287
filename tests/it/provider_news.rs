//! What a provider tells by itself, in any order and any number of times; and what happens when it is slow, failing, or
//! not the only one.

use crate::{
    client::Response,
    metrics,
    server::TestServer,
    shop::{ASKS_NEVER, SETTINGS, Shop, WEBHOOK_SECRET, provider, route},
    stripe_double::{Fault, StripeDouble},
    wait::{at_once, eventually},
};
use serde_json::{Value, json};
use std::net::TcpListener;

#[test]
fn a_signed_event_resolves_what_is_in_doubt_however_often_and_in_whatever_order_it_comes() {
    let shop = Shop::start_with("failures_max = 1000000", &[ASKS_NEVER]);
    shop.tell(5);
    shop.stripe.next(&[Fault::ResetAfterEffect]);
    let charge = shop.charge("charge", 100).of(202).id();
    assert_eq!(shop.settled(&charge)["status"], "completed");
    shop.stripe.next(&[Fault::ErrorAfterEffect]);
    let hold = shop.authorize("hold", 200).of(202).id();
    assert_eq!(shop.settled(&hold)["status"], "authorized");
    shop.stripe.next(&[Fault::Garbage]);
    shop.capture(&hold, "capture", 150).of(202);
    assert_eq!(shop.settled(&hold)["status"], "completed");
    shop.stripe.next(&[Fault::ResetAfterEffect]);
    shop.refund(&hold, "refund", 50).of(202);
    assert_eq!(shop.settled(&hold)["status"], "partially_refunded");
    shop.stripe.next(&[Fault::ResetAfterEffect]);
    let given_up = shop.authorize("other", 300).of(202).id();
    shop.settled(&given_up);
    shop.stripe.next(&[Fault::ErrorAfterEffect]);
    shop.void(&given_up).of(202);
    assert_eq!(shop.settled(&given_up)["status"], "voided");
    let failed = shop.server.charge_with("pm_card_chargeDeclined", "failed", 10).of(201).id();
    // Seven effects, each told five times, mixed up, and none of it contradicts what is on the books.
    let taken = "strongroom_http_requests_total{route=\"/api/providers/{name}/webhook\",method=\"POST\",status=\"200\"}";
    eventually("all that was told has come", || {
        (metrics::value(&shop, taken) >= 35.0).then_some(())
    });
    for id in [&charge, &hold, &given_up, &failed] {
        assert_eq!(shop.payment(id)["needsReview"], false);
    }
    shop.agrees();
}

#[test]
fn a_refund_that_the_provider_works_on_is_pending_until_it_tells_and_may_fail_after_all() {
    let shop = Shop::start_with("", &[ASKS_NEVER]);
    shop.tell(1);
    let id = shop.charge("order", 1000).of(201).id();
    shop.stripe.next(&[Fault::Pending]);
    let pending = shop.refund(&id, "first", 400).of(202).json;
    assert_eq!(pending["refunds"][0]["status"], "pending");
    assert_eq!(shop.balance("merchant:merchant_1", "USD"), (1000, -400));
    let refunds = shop.stripe.refunds();
    let first = refunds[0]["id"].as_str().unwrap();
    shop.stripe.settle_refund(first, "succeeded");
    let payment = shop.settled(&id);
    assert_eq!(
        (&payment["status"], &payment["amountRefunded"]),
        (&json!("partially_refunded"), &json!(400))
    );
    shop.stripe.settle_refund(first, "failed");
    let payment = eventually("the bank sends it back", || {
        let payment = shop.payment(&id);
        (payment["status"] == "completed").then_some(payment)
    });
    assert_eq!(payment["refunds"][0]["status"], "failed");
    assert_eq!(payment["amountRefunded"], 0);
    assert_eq!(shop.balance("merchant:merchant_1", "USD"), (1000, 0));
    let kinds: Vec<Value> = shop.all("/api/events").iter().map(|it| it["type"].clone()).collect();
    assert_eq!(kinds, ["payment.refund_failed", "payment.partially_refunded", "payment.completed"]);
    shop.refund_all(&id).of(200);
    shop.agrees();
}

#[track_caller]
fn post(shop: &Shop, signature: Option<&str>, body: &str) -> Response {
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(signature.map(|text| ("Stripe-Signature", text)));
    let path = "/api/providers/stripe/webhook";
    shop.send("POST", path, &headers, Some(body.as_bytes())).unwrap()
}

#[test]
fn an_event_that_is_not_proven_to_come_from_the_provider_changes_nothing() {
    let shop = Shop::start_with("", &[ASKS_NEVER]);
    shop.stripe.next(&[Fault::ErrorAfterEffect]);
    let id = shop.charge("order", 100).of(202).id();
    let intent = shop.stripe.intent_of("strongroom_payment", &id).unwrap();
    let event = json!({
        "id": "evt_1", "object": "event", "type": "payment_intent.succeeded",
        "data": {"object": intent},
    });
    for signature in [None, Some("t=1,v1=00"), Some("v1="), Some("t=99999999999,v1=ab,v0=cd")] {
        post(&shop, signature, &event.to_string()).problem(400, "signature_invalid");
    }
    shop.stripe.tell(&shop.webhook(), "whsec_of_somebody_else", 0);
    assert_eq!(shop.stripe.send_event("payment_intent.succeeded", &intent), 400);
    shop.stripe.tell(&shop.webhook(), WEBHOOK_SECRET, 0);
    shop.stripe.clock_ahead(301_000 + 60_000);
    assert_eq!(shop.stripe.send_event("payment_intent.succeeded", &intent), 400, "of tomorrow");
    shop.stripe.clock_ahead(0);
    assert_eq!(shop.status(&id), "processing");
    let unknown = shop.send("POST", "/api/providers/nobody/webhook", &[], Some(b"{}")).unwrap();
    unknown.problem(404, "provider_not_found");
    assert_eq!(shop.stripe.send_event("payment_intent.succeeded", &intent), 200);
    assert_eq!(shop.status(&id), "completed");
    shop.agrees();
}

#[test]
fn what_contradicts_the_books_is_raised_once_and_booked_by_nobody_but_a_person() {
    let shop = Shop::start_with("", &[ASKS_NEVER]);
    shop.tell(0);
    let failed = shop.server.charge_with("pm_card_chargeDeclined", "failed", 100).of(201).id();
    let mut intent = shop.stripe.intent_of("strongroom_payment", &failed).unwrap();
    intent["status"] = "succeeded".into();
    intent["amount_received"] = 100.into();
    for _ in 0..5 {
        assert_eq!(shop.stripe.send_raw("evt_x", "payment_intent.succeeded", &intent), 200);
        assert_eq!(shop.stripe.send_event("payment_intent.succeeded", &intent), 200);
    }
    let payment = shop.in_review(&failed);
    assert_eq!(payment["notes"].as_array().unwrap().len(), 1, "{payment:#}");
    assert_eq!(payment["status"], "failed");
    let voided = shop.authorize("voided", 300).of(201).id();
    let mut intent = shop.stripe.intent_of("strongroom_payment", &voided).unwrap();
    shop.void(&voided).of(200);
    intent["status"] = "succeeded".into();
    intent["amount_received"] = 300.into();
    assert_eq!(shop.stripe.send_event("payment_intent.succeeded", &intent), 200);
    let payment = shop.in_review(&voided);
    assert!(payment["notes"][0]["what"].as_str().unwrap().contains("took 300 USD"), "{payment:#}");
    // What was true earlier contradicts nothing.
    let captured = shop.authorize("captured", 300).of(201).id();
    let early = shop.stripe.intent_of("strongroom_payment", &captured).unwrap();
    shop.capture_all(&captured).of(200);
    let late = "payment_intent.amount_capturable_updated";
    assert_eq!(shop.stripe.send_event(late, &early), 200);
    assert_eq!(shop.payment(&captured)["needsReview"], false);
    // A person finds out that the first one was charged.
    let attempt = shop.payment(&failed)["attempts"][0]["id"].clone();
    let body = json!({"outcome": "succeeded", "attemptId": attempt, "providerReference": "pi_1", "reason": "it was"});
    let resolved = shop.admin().command("resolve", &failed, "", &body).of(200).json;
    assert_eq!(
        (&resolved["status"], &resolved["needsReview"]),
        (&json!("completed"), &json!(false))
    );
    assert_eq!(shop.balance("merchant:merchant_1", "USD"), (400, 0));
    shop.admin().reconciles();
}

#[test]
fn money_at_the_provider_that_no_payment_is_about_is_put_on_record_once_and_raised() {
    let mut shop = Shop::start_with("", &[ASKS_NEVER]);
    shop.tell(0);
    let paid = shop.charge("order", 100).of(201).id();
    let mut stray = shop.stripe.intent_of("strongroom_payment", &paid).unwrap();
    stray["id"] = "pi_stray".into();
    stray["metadata"]["strongroom_payment"] = "pay_01999999999972aa8000000000000001".into();
    for _ in 0..3 {
        assert_eq!(shop.stripe.send_raw("evt_stray", "payment_intent.succeeded", &stray), 200);
    }
    // Given back by hand, at the provider: it names its payment only by the intent.
    let intent = shop.stripe.intent_of("strongroom_payment", &paid).unwrap();
    let refund = json!({
        "id": "re_by_hand", "object": "refund", "amount": 30, "currency": "usd", "status": "succeeded",
        "payment_intent": intent["id"], "metadata": {},
    });
    assert_eq!(shop.stripe.send_event("refund.created", &refund), 200);
    let payment = shop.in_review(&paid);
    let what = payment["notes"][0]["what"].as_str().unwrap();
    assert!(what.contains("gave back 30 USD") && what.contains("re_by_hand"), "{what}");
    let codes: Vec<Value> = shop.admin().get("/ready").of(200).json["alarms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alarm| alarm["code"].clone())
        .collect();
    assert!(codes.contains(&json!("provider.stray")), "{codes:?}");
    shop.server.terminate();
    let printed = shop.server.tell(&["journal", "print"]);
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(printed.matches("told of pi_stray").count(), 1, "{printed}");
    assert!(shop.server.tell(&["verify"]).status.success());
    shop.server.restart();
    assert_eq!(shop.payment(&paid)["needsReview"], true);
}

#[test]
fn a_failing_provider_takes_no_new_payments_and_no_keys_and_what_has_begun_is_finished() {
    let mut shop = Shop::start_with("failures_max = 3\nrest_ms = 5000", &[ASKS_NEVER]);
    let held = shop.authorize("held", 100).of(201).id();
    shop.stripe.down(true);
    let out: Vec<String> =
        (0..3).map(|number| shop.charge(&format!("out-{number}"), 10).of(202).id()).collect();
    let refused = eventually("the breaker is open", || {
        let answer = shop.charge("refused", 10);
        (answer.status == 503).then_some(answer)
    });
    let refused = refused.problem(503, "provider_unavailable");
    assert!(refused.header("Retry-After").is_some());
    shop.get("/api/idempotency/refused").problem(404, "idempotency_key_not_found");
    assert_eq!(shop.capture_all(&held).json["code"], "provider_unavailable");
    eventually("the operator is told", || {
        let ready = shop.admin().get("/ready").of(200).json;
        (ready["alarms"][0]["code"] == "provider.failing").then_some(())
    });
    shop.stripe.down(false);
    let taken = eventually("it takes payments again", || {
        let answer = shop.charge("refused", 10);
        (answer.status == 201).then_some(answer)
    });
    assert!(!taken.is_replay());
    shop.capture_all(&held).of(200);
    shop.server.kill();
    shop.server.set("STRONGROOM__PROVIDER__INQUIRE_AFTER_MS", "20");
    shop.server.restart();
    for id in &out {
        assert_eq!(shop.settled(id)["status"], "completed");
    }
    shop.agrees();
}

#[test]
fn a_provider_has_no_more_calls_at_once_than_it_may() {
    let lines = "in_flight_max = 2\nfailures_max = 1000000";
    let answer_within = ("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "3000");
    let shop = Shop::start_with(lines, &[answer_within, ASKS_NEVER]);
    shop.stripe.next(&[Fault::HeldBeforeEffect, Fault::HeldBeforeEffect]);
    let client = shop.client(crate::server::MERCHANT_1_KEY);
    at_once(2, |number| client.charge_with("pm_card_visa", &format!("slow-{number}"), 10).of(202));
    shop.charge("third", 10).problem(503, "provider_unavailable");
    shop.stripe.let_go(2);
    eventually("there is a place again", || (shop.charge("third", 10).status == 201).then_some(()));
    assert_eq!(shop.all("/api/payments").len(), 3);
}

/// An address that nobody listens at.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn payments_go_to_the_provider_of_the_first_rule_that_admits_them() {
    let (one, two) = (StripeDouble::start(), StripeDouble::start());
    let config = provider("one", &one.url(), "")
        + &provider("two", &two.url(), "")
        + "[[routes]]\ncurrency = \"EUR\"\nproviders = \"one\"\n"
        + "[[routes]]\namount_min = 1000\nproviders = \"two\"\n"
        + "[[routes]]\nmerchant = \"merchant_2\"\nproviders = \"one\"\n";
    let server = TestServer::start_configured(&config, &SETTINGS);
    let pay = |client: &crate::client::Client, key: &str, amount: i64, currency: &str| {
        let method = if amount < 1000 && currency == "USD" { "tok_visa" } else { "pm_card_visa" };
        let body = json!({"amount": amount, "currency": currency, "paymentMethod": method});
        client.pay(key, &body).of(201).json["provider"].clone()
    };
    assert_eq!(pay(&server, "a", 5000, "EUR"), "one");
    assert_eq!(pay(&server, "b", 5000, "USD"), "two");
    assert_eq!(pay(&server, "c", 500, "USD"), "sandbox");
    let body = json!({"amount": 5, "currency": "USD", "paymentMethod": "pm_card_visa"});
    assert_eq!(server.merchant_2().pay("d", &body).of(201).json["provider"], "one");
    assert_eq!((one.intents().len(), two.intents().len()), (2, 1));
}

#[test]
fn a_refusal_before_processing_and_a_retryable_decline_go_on_to_the_next_and_a_doubt_never_does() {
    let (first, second) = (StripeDouble::start(), StripeDouble::start());
    let lines = "failures_max = 1000000";
    let config = provider("gone", &nowhere(), lines)
        + &provider("first", &first.url(), lines)
        + &provider("second", &second.url(), lines)
        + &route("gone, first, second");
    let server = TestServer::start_configured(&config, &SETTINGS);
    let standings = |payment: &Value| -> Vec<String> {
        let attempts = payment["attempts"].as_array().unwrap().iter();
        let text = |it: &Value| format!("{} {}", it["provider"], it["status"]).replace('"', "");
        attempts.map(text).collect()
    };
    let unreached = server.charge_with("pm_card_visa", "unreached", 100).of(201).json;
    assert_eq!(standings(&unreached), ["gone failed", "first succeeded"]);
    assert_eq!((&unreached["provider"], &unreached["failure"]), (&json!("first"), &Value::Null));
    assert_eq!(unreached["attempts"][0]["failure"]["code"], "provider_unavailable");
    first.next(&[Fault::TooMany]);
    let busy = server.charge_with("pm_card_visa", "busy", 100).of(201).json;
    assert_eq!(standings(&busy), ["gone failed", "first failed", "second succeeded"]);
    let again = server.charge_with("pm_card_visa", "busy", 100).of(201);
    assert!(again.is_replay() && again.json == busy);
    let error = "pm_card_chargeDeclinedProcessingError";
    let everywhere = server.charge_with(error, "everywhere", 100).of(201).json;
    assert_eq!(standings(&everywhere), ["gone failed", "first failed", "second failed"]);
    assert_eq!(everywhere["failure"]["code"], "processing_error");
    let declined = server.charge_with("pm_card_chargeDeclined", "declined", 100).of(201).json;
    assert_eq!(standings(&declined), ["gone failed", "first failed"], "the card is to blame");
    first.next(&[Fault::ErrorBeforeEffect, Fault::ErrorBeforeEffect]);
    let doubtful = server.charge_with("pm_card_visa", "doubtful", 100).of(202);
    let settled = eventually("it is known", || {
        let payment = server.payment(&doubtful.id());
        (payment["status"] != "processing").then_some(payment)
    });
    assert_eq!(standings(&settled), ["gone failed", "first succeeded"]);
    let taken = |double: &StripeDouble| -> i64 {
        double.intents().iter().map(|it| it["amount_received"].as_i64().unwrap()).sum()
    };
    assert_eq!((taken(&first), taken(&second)), (200, 100));
    assert_eq!(server.balance("merchant:merchant_1", "USD"), (300, 0));
    // Its money is refunded where it is.
    server.refund_all(busy["id"].as_str().unwrap()).of(200);
    assert_eq!(second.refunds().len(), 1);
    server.admin().reconciles();
}
