//! What a server that believes the wrong thing would get wrong: clocks that are set, answers that come after the verdict,
//! words of another provider, refusals of a repeat, money that was taken behind our back.

use crate::{
    clock::{Clock, HOUR},
    metrics,
    server::TestServer,
    shop::{ANSWERS_SOON, ASKS_NEVER, SETTINGS, Shop, WEBHOOK_SECRET, provider, route},
    stripe_double::{Fault, StripeDouble},
    wait::eventually,
};
use serde_json::{Value, json};
use std::{thread, time::Duration};

fn notes(payment: &Value) -> Vec<String> {
    let notes = payment["notes"].as_array().unwrap().iter();
    notes.map(|note| note["what"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_clock_that_jumps_ahead_fails_no_payment_whose_call_is_on_its_way() {
    let clock = Clock::new();
    let shop = Shop::with_clock("", &clock, &[ANSWERS_SOON]);
    shop.stripe.next(&[Fault::HeldBeforeEffect]);
    let id = shop.charge("order", 1000).of(202).id();
    clock.is_set(25 * HOUR);
    shop.stripe.wait_for_more(4);
    assert_eq!(shop.status(&id), "processing", "no trace of it says nothing yet");
    shop.stripe.let_go(1);
    assert_eq!(shop.settled(&id)["status"], "completed");
    shop.agrees();
}

#[test]
fn an_hour_of_a_provider_that_is_down_leaves_it_in_doubt_and_it_is_done_once_when_it_is_back() {
    let clock = Clock::new();
    let mut shop = Shop::with_clock("", &clock, &[ASKS_NEVER]);
    shop.stripe.next(&[Fault::ResetAfterEffect, Fault::ResetBeforeEffect]);
    let ids = ["done", "lost"].map(|key| shop.charge(key, 1000).of(202).id());
    shop.stripe.down(true);
    shop.server.kill();
    shop.server.set("STRONGROOM__PROVIDER__INQUIRE_AFTER_MS", "20");
    shop.server.restart();
    clock.has_passed(HOUR);
    eventually("it is an hour old", || {
        let age = "strongroom_in_doubt_oldest_age_seconds{provider=\"stripe\",currency=\"USD\"}";
        (metrics::value(&shop, age) >= 3600.0).then_some(())
    });
    let doubt = shop.admin().get("/api/ledger").of(200).json["inDoubt"][0].clone();
    assert_eq!((&doubt["amount"], &doubt["attempts"]), (&json!(2000), &json!(2)));
    assert!(ids.iter().all(|id| shop.status(id) == "processing"));
    shop.stripe.down(false);
    for id in &ids {
        assert_eq!(shop.settled(id)["status"], "completed");
    }
    shop.agrees();
}

#[test]
fn a_provider_that_answers_and_is_slow_takes_no_new_payments() {
    let lines = "failures_max = 2\nslow_after_ms = 50\nrest_ms = 60000";
    let shop = Shop::start_with(lines, &[]);
    let slow = Fault::LateAfterEffect(Duration::from_millis(200));
    shop.stripe.next(&[slow, slow]);
    for key in ["one", "two"] {
        shop.charge(key, 10).of(201);
    }
    shop.charge("three", 10).problem(503, "provider_unavailable");
    shop.get("/api/idempotency/three").problem(404, "idempotency_key_not_found");
}

#[test]
fn what_the_provider_has_is_not_called_for_again_and_what_it_works_on_is_waited_for() {
    let shop = Shop::start();
    let id = shop.charge("order", 1000).of(201).id();
    shop.stripe.next(&[Fault::Pending]);
    shop.refund(&id, "refund", 300).of(202);
    // A server that calls again now would give the money back twice.
    shop.stripe.forget_keys();
    let looks = |shop: &Shop| {
        let calls = shop.stripe.requests();
        calls.iter().filter(|(method, path, _)| method == "GET" && path.contains("refunds")).count()
    };
    eventually("it was asked about several times", || (looks(&shop) > 3).then_some(()));
    assert_eq!(shop.stripe.refunds().len(), 1);
    let first = shop.stripe.refunds()[0]["id"].as_str().unwrap().to_owned();
    shop.stripe.settle_refund(&first, "succeeded");
    shop.settled(&id);
    shop.agrees();
}

#[test]
fn an_answer_that_comes_after_the_verdict_and_denies_it_is_raised() {
    let shop = Shop::start_with("", &[ANSWERS_SOON, ASKS_NEVER]);
    shop.stripe.next(&[Fault::HeldAfterEffect]);
    let id = shop.charge("order", 1000).of(202).id();
    let resolve = |outcome: &str| {
        let body = json!({"outcome": outcome, "reason": "not in the dashboard"});
        shop.admin().command("resolve", &id, "", &body)
    };
    resolve("failed").problem(409, "operation_pending");
    assert_eq!(shop.status(&id), "processing", "nobody decides while the call is on its way");
    // The provider's own word comes first, and says otherwise than its answer will.
    shop.tell(0);
    let mut intent =
        eventually("it is charged", || shop.stripe.intent_of("strongroom_payment", &id));
    intent["status"] = "requires_payment_method".into();
    intent["amount_received"] = 0.into();
    intent["last_payment_error"] = json!({"code": "card_declined", "type": "card_error"});
    assert_eq!(shop.stripe.send_event("payment_intent.payment_failed", &intent), 200);
    assert_eq!(shop.status(&id), "failed");
    shop.stripe.let_go(1);
    let payment = shop.in_review(&id);
    assert!(notes(&payment)[0].contains("did the charge with 1000 USD"), "{payment:#}");
}

#[test]
fn a_provider_says_nothing_about_what_was_asked_of_another() {
    let (one, two) = (StripeDouble::start(), StripeDouble::start());
    let config = provider("one", &one.url(), "") + &provider("two", &two.url(), "") + &route("one");
    let mut settings = SETTINGS.to_vec();
    settings.push(ASKS_NEVER);
    let server = TestServer::start_configured(&config, &settings);
    one.next(&[Fault::ErrorBeforeEffect]);
    let id = server.charge_with("pm_card_visa", "order", 9900).of(202).id();
    let attempt = server.payment(&id)["attempts"][0]["id"].clone();
    let webhook = format!("http://{}/api/providers/two/webhook", server.address());
    two.tell(&webhook, WEBHOOK_SECRET, 0);
    let forged = json!({
        "id": "pi_forged", "object": "payment_intent", "amount": 9900, "amount_received": 9900,
        "amount_capturable": 0, "currency": "usd", "status": "succeeded", "last_payment_error": null,
        "metadata": {"strongroom_attempt": attempt, "strongroom_payment": id},
    });
    assert_eq!(two.send_event("payment_intent.succeeded", &forged), 200);
    let payment = server.payment(&id);
    assert_eq!(
        (&payment["status"], &payment["needsReview"]),
        (&json!("processing"), &json!(false))
    );
    let ready = server.admin().get("/ready").of(200).json;
    assert_eq!(ready["alarms"][0]["code"], "provider.stray", "{ready:#}");
}

#[test]
fn money_that_was_taken_behind_our_back_is_raised_once_and_asked_about_no_more() {
    let shop = Shop::start_with("", &[ASKS_NEVER]);
    let id = shop.authorize("hold", 1000).of(201).id();
    shop.stripe.capture_by_hand(&id);
    let refused = shop.void(&id).problem(402, "void_declined");
    assert_eq!(refused.json["failure"]["code"], "authorization_gone");
    let payment = shop.in_review(&id);
    assert!(notes(&payment)[0].contains("may have taken the money"), "{payment:#}");
    let more = shop.command("void", &id, "again", &json!({}));
    assert_eq!(more.status, 402);
    assert_eq!(notes(&shop.payment(&id)).len(), 1);
    assert_eq!(
        shop.capture_all(&id).of(200).json["status"],
        "completed",
        "the truth can be booked"
    );
    shop.agrees();
}

#[test]
fn what_is_in_doubt_is_not_dismissed() {
    let shop = Shop::start_with("", &[ASKS_NEVER]);
    shop.stripe.next(&[Fault::LieAboutAmount(5)]);
    let id = shop.charge("order", 1000).of(202).id();
    shop.in_review(&id);
    let dismiss = || {
        let body = json!({"outcome": "dismissed", "reason": "seems right"});
        shop.admin().command("resolve", &id, "", &body)
    };
    dismiss().problem(409, "operation_pending");
    assert_eq!(shop.payment(&id)["needsReview"], true);
}

#[test]
fn a_refund_of_the_sandbox_that_a_person_takes_back_leaves_the_books_and_past_events_right() {
    let server = TestServer::start();
    let id = server.charge("order", 1000).of(201).id();
    let refunded = server.refund_all(&id).of(200).json;
    let attempt = refunded["attempts"].as_array().unwrap().last().unwrap()["id"].clone();
    let kinds = || -> Vec<Value> {
        server.all("/api/events").iter().map(|it| it["type"].clone()).collect()
    };
    assert_eq!(kinds()[0], "payment.refunded");
    let body = json!({"outcome": "failed", "attemptId": attempt, "reason": "it came back"});
    server.admin().command("resolve", &id, "", &body).of(200);
    assert_eq!(kinds()[..2], ["payment.refund_failed", "payment.refunded"]);
    server.admin().reconciles();
}

#[test]
fn a_provider_that_hangs_holds_up_nobody_elses_inquiries_and_holds() {
    let hanging = StripeDouble::start();
    let lines = "failures_max = 1000000\nin_flight_max = 1000\ndeadline_ms = 60000";
    let config = provider("hanging", &hanging.url(), lines)
        + "[[routes]]\ncurrency = \"EUR\"\nproviders = \"hanging\"\n";
    let mut settings = SETTINGS.to_vec();
    settings.push(("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "20"));
    let server = TestServer::start_configured(&config, &settings);
    hanging.hang(true);
    let client = server.client(crate::server::MERCHANT_1_KEY);
    thread::scope(|scope| {
        for part in 0..4 {
            let client = &client;
            scope.spawn(move || {
                for number in 0..80 {
                    let body =
                        json!({"amount": 5, "currency": "EUR", "paymentMethod": "pm_card_visa"});
                    client.pay(&format!("{part}-{number}"), &body).of(202);
                }
            });
        }
    });
    let doubtful = server.charge_with("tok_timeout", "doubtful", 100).of(202).id();
    eventually("the sandbox's is decided", || {
        (server.status(&doubtful) == "completed").then_some(())
    });
    hanging.hang(false);
}

#[test]
fn a_refusal_of_a_repeat_says_nothing_about_the_first_call() {
    let shop = Shop::start_with("", &[ASKS_NEVER]);
    shop.stripe.next(&[Fault::ResetAfterEffect]);
    let id = shop.charge("order", 1000).of(202).id();
    // The search is behind and every repeat is refused: the list knows it.
    shop.stripe.refuse_everything();
    let mut shop = shop;
    shop.server.kill();
    shop.server.set("STRONGROOM__PROVIDER__INQUIRE_AFTER_MS", "20");
    shop.server.restart();
    assert_eq!(shop.settled(&id)["status"], "completed");
    shop.agrees();
}
