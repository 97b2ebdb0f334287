//! What nobody knows the outcome of: it is a number in the books, and only evidence moves it. Nothing is done twice.

use crate::{
    clock::{Clock, HOUR},
    secrets::is_in_folder,
    server::MERCHANT_1_KEY,
    shop::{ANSWERS_SOON, ASKS_NEVER, SECRET_KEY, Shop, WEBHOOK_SECRET},
    stripe_double::Fault,
    wait::eventually,
};
use serde_json::{Value, json};

/// Faults whose effect was done, and those whose was not but will be when the call is made again.
fn doubtful() -> Vec<Fault> {
    vec![
        Fault::HeldAfterEffect,
        Fault::HeldBeforeEffect,
        Fault::ResetAfterEffect,
        Fault::ResetBeforeEffect,
        Fault::ErrorAfterEffect,
        Fault::ErrorBeforeEffect,
        Fault::Conflict,
        Fault::Garbage,
    ]
}

/// Lets the call go that this fault holds: when its effect was found, or was looked for and the call made again.
fn let_go(shop: &Shop, fault: Fault, payment: &str) {
    match fault {
        Fault::HeldAfterEffect => drop(shop.settled(payment)),
        Fault::HeldBeforeEffect => shop.stripe.wait_for_more(4),
        _ => return,
    }
    shop.stripe.let_go(1);
}

#[test]
fn a_payment_at_a_provider_is_charged_captured_voided_and_refunded_and_both_books_agree() {
    let shop = Shop::start();
    let charged = shop.charge("charge", 4999).of(201);
    assert_eq!(charged.json["status"], "completed");
    assert_eq!(charged.json["provider"], "stripe");
    let intent = shop.stripe.intent_of("strongroom_payment", &charged.id()).unwrap();
    assert_eq!(charged.json["providerReference"], intent["id"]);
    let attempt = &charged.json["attempts"][0];
    assert_eq!(attempt["id"], intent["metadata"]["strongroom_attempt"]);
    let held = shop.authorize("hold", 1000).of(201);
    assert_eq!(held.json["status"], "authorized");
    assert!(held.json["expiresAt"].is_string());
    let captured = shop.capture(&held.id(), "capture", 700).of(200).json;
    assert_eq!(
        (&captured["status"], &captured["amountCaptured"]),
        (&json!("completed"), &json!(700))
    );
    let given_up = shop.authorize("other", 500).of(201).id();
    assert_eq!(shop.void(&given_up).of(200).json["status"], "voided");
    assert_eq!(
        shop.refund(&charged.id(), "part", 999).of(200).json["refunds"][0]["status"],
        "succeeded"
    );
    let rest = shop.refund_all(&charged.id()).of(200).json;
    assert_eq!((&rest["status"], &rest["amountRefunded"]), (&json!("refunded"), &json!(4999)));
    assert_eq!(shop.balance("merchant:merchant_1", "USD"), (700, 0));
    shop.agrees();
    let calls = shop.stripe.requests().len();
    let again = shop.charge("charge", 4999).of(201);
    assert!(again.is_replay());
    assert_eq!(again.body, charged.body, "though the payment has been refunded since");
    assert!(shop.refund(&charged.id(), "part", 999).of(200).is_replay());
    assert_eq!(shop.stripe.requests().len(), calls, "a replay asks nobody");
}

#[test]
fn a_decline_is_on_record_in_our_words_and_the_providers() {
    let shop = Shop::start();
    for (method, code, provider_code) in [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds", "insufficient_funds"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error"),
        ("pm_card_authenticationRequired", "authentication_required", "requires_action"),
        ("pm_of_nobody", "payment_method_unknown", "resource_missing"),
    ] {
        let declined = shop.server.charge_with(method, method, 100).of(201).json;
        assert_eq!(declined["status"], "failed");
        assert_eq!(declined["failure"]["code"], code);
        assert_eq!(declined["failure"]["providerCode"], provider_code, "{declined:#}");
    }
    let unnamed = shop.server.pay("none", &json!({"amount": 100, "currency": "USD"}));
    assert_eq!(unnamed.problem(400, "validation_failed").faulty_fields(), ["paymentMethod"]);
    shop.agrees();
}

#[test]
fn a_charge_whose_outcome_is_unknown_is_in_doubt_until_it_is_known_and_is_done_once() {
    for fault in doubtful() {
        let shop = Shop::start_with("failures_max = 1000000", &[ANSWERS_SOON, ASKS_NEVER]);
        shop.stripe.next(&[fault]);
        let first = shop.charge("order", 4999).of(202);
        assert_eq!(first.json["status"], "processing", "{fault:?}");
        assert_eq!(first.json["attempts"][0]["status"], "pending");
        assert_eq!(shop.in_doubt(), 4999, "{fault:?}");
        let trial = shop.admin().get("/api/ledger").of(200).json;
        let doubt = &trial["inDoubt"][0];
        assert_eq!((&doubt["provider"], &doubt["amount"]), (&json!("stripe"), &json!(4999)));
        assert_eq!(shop.balance("merchant:merchant_1", "USD"), (0, 0));
        let mut shop = shop;
        shop.server.kill();
        shop.server.set("STRONGROOM__PROVIDER__INQUIRE_AFTER_MS", "20");
        shop.server.restart();
        let_go(&shop, fault, &first.id());
        let payment = shop.settled(&first.id());
        assert_eq!(payment["status"], "completed", "{fault:?}: {payment:#}");
        let again = shop.charge("order", 4999).of(202);
        assert_eq!(again.body, first.body, "the first answer, for ever");
        shop.agrees();
    }
}

#[test]
fn a_late_answer_is_heard_without_asking_again() {
    let shop = Shop::start_with("", &[ANSWERS_SOON, ASKS_NEVER]);
    shop.stripe.next(&[Fault::HeldAfterEffect]);
    let id = shop.charge("order", 100).of(202).id();
    shop.stripe.let_go(1);
    assert_eq!(shop.settled(&id)["status"], "completed");
    assert_eq!(shop.stripe.requests().len(), 1);
}

/// A payment that is ready for `change`, and its id.
fn ready_for(shop: &Shop, change: &str) -> String {
    match change {
        "refund" => shop.charge(change, 1000).of(201).id(),
        _ => shop.authorize(change, 1000).of(201).id(),
    }
}

#[test]
fn a_capture_void_or_refund_whose_outcome_is_unknown_is_in_doubt_and_done_once() {
    let shop = Shop::start_with("failures_max = 1000000", &[ANSWERS_SOON]);
    for (number, fault) in doubtful().into_iter().enumerate() {
        for change in ["capture", "void", "refund"] {
            let key = format!("{change}-{number}");
            let payment = match change {
                "refund" => shop.charge(&format!("{key}-payment"), 1000),
                _ => shop.authorize(&format!("{key}-payment"), 1000),
            };
            let id = payment.id();
            shop.settled(&id);
            shop.stripe.next(&[fault]);
            let body = if change == "void" { json!({}) } else { json!({"amount": 600}) };
            let first = shop.command(change, &id, &key, &body).of(202);
            let_go(&shop, fault, &id);
            let payment = shop.settled(&id);
            let status = match change {
                "capture" => "completed",
                "void" => "voided",
                _ => "partially_refunded",
            };
            assert_eq!(payment["status"], status, "{change} {fault:?}: {payment:#}");
            let again = shop.command(change, &id, &key, &body).of(202);
            assert_eq!(again.body, first.body);
        }
    }
    shop.agrees();
}

#[test]
fn what_is_in_doubt_counts_against_every_limit() {
    let shop = Shop::start_with("", &[ASKS_NEVER]);
    let held = ready_for(&shop, "capture");
    shop.stripe.next(&[Fault::ErrorAfterEffect]);
    let out = shop.capture(&held, "c1", 600).of(202).json;
    assert_eq!((&out["status"], &out["amountCapturable"]), (&json!("authorized"), &json!(0)));
    shop.capture(&held, "c2", 100).problem(409, "operation_pending");
    shop.void(&held).problem(409, "operation_pending");
    assert_eq!(shop.in_doubt(), 1000, "what would be released is in doubt as well");
    let taken = ready_for(&shop, "refund");
    shop.stripe.next(&[Fault::ResetAfterEffect]);
    let out = shop.refund(&taken, "r1", 700).of(202).json;
    assert_eq!((&out["status"], &out["amountRefunded"]), (&json!("completed"), &json!(0)));
    assert_eq!(out["refunds"][0]["status"], "pending");
    shop.refund(&taken, "r2", 301).problem(422, "amount_exceeds_refundable");
    shop.refund(&taken, "r3", 300).of(200);
    assert_eq!(shop.in_doubt(), 1700);
    shop.admin().reconciles();
}

#[test]
fn an_amount_that_differs_is_raised_and_the_truth_is_booked() {
    let shop = Shop::start();
    shop.stripe.next(&[Fault::LieAboutAmount(1)]);
    let id = shop.charge("order", 100).of(202).id();
    let payment = shop.settled(&id);
    assert_eq!(
        (&payment["status"], &payment["amountCaptured"]),
        (&json!("completed"), &json!(100))
    );
    let payment = shop.in_review(&id);
    assert!(payment["notes"][0]["what"].as_str().unwrap().contains("101"), "{payment:#}");
    let listed = shop.all("/api/payments?needsReview=true");
    assert_eq!(listed.len(), 1);
    let ready = eventually("the alarm stands", || {
        let ready = shop.admin().get("/ready").of(200).json;
        ready["alarms"].is_array().then_some(ready)
    });
    assert_eq!(ready["alarms"][0]["code"], "payment.needs_review");
    let body = json!({"outcome": "dismissed", "reason": "the provider's answer was wrong"});
    let resolve = |client: &crate::client::Client| client.command("resolve", &id, "", &body);
    resolve(&shop.client(MERCHANT_1_KEY)).problem(403, "forbidden");
    assert_eq!(resolve(&shop.admin()).of(200).json["needsReview"], false);
    resolve(&shop.admin()).problem(409, "nothing_to_resolve");
    eventually("the alarm is over", || {
        let ready = shop.admin().get("/ready").of(200).json;
        ready["alarms"].is_null().then_some(())
    });
    shop.agrees();
}

/// A server whose clock is moved, and which asks nobody again.
fn shop_with_clock() -> (Shop, Clock) {
    let clock = Clock::new();
    (Shop::with_clock("deadline_ms = 1000", &clock, &[ASKS_NEVER]), clock)
}

/// Starts the server again when the provider's key window is over, and has it ask from now on.
fn a_day_later(shop: &mut Shop, clock: &Clock) {
    shop.server.kill();
    shop.stripe.forget_keys();
    clock.has_passed(25 * HOUR);
    shop.server.set("STRONGROOM__PROVIDER__INQUIRE_AFTER_MS", "20");
    shop.server.restart();
}

#[test]
fn when_the_key_window_is_over_what_the_provider_has_on_record_decides() {
    let (mut shop, clock) = shop_with_clock();
    shop.stripe.next(&[Fault::ResetAfterEffect, Fault::ResetBeforeEffect]);
    let done = shop.charge("done", 100).of(202).id();
    let not_done = shop.charge("not_done", 200).of(202).id();
    shop.stripe.down(true);
    a_day_later(&mut shop, &clock);
    shop.in_review(&not_done);
    assert_eq!(shop.status(&not_done), "processing", "never failed without evidence");
    shop.stripe.down(false);
    assert_eq!(shop.settled(&done)["status"], "completed");
    let payment = shop.settled(&not_done);
    assert_eq!(payment["status"], "failed", "{payment:#}");
    assert_eq!(payment["failure"]["code"], "not_processed");
    assert_eq!(payment["needsReview"], false, "evidence settles what was noted");
    let calls = shop.stripe.requests();
    let posts = calls.iter().filter(|(method, ..)| method == "POST").count();
    assert_eq!(posts, 2, "nothing is asked for again when its key is forgotten");
    shop.agrees();
}

#[test]
fn what_neither_the_provider_nor_a_look_up_can_say_is_resolved_by_a_person_with_a_reason() {
    let (mut shop, clock) = shop_with_clock();
    shop.stripe.answers_lookups(false);
    shop.stripe.next(&[Fault::ResetAfterEffect]);
    let done = shop.charge("done", 100).of(202).id();
    a_day_later(&mut shop, &clock);
    let payment = shop.in_review(&done);
    assert_eq!(payment["status"], "processing", "never failed without evidence");
    assert_eq!(payment["notes"][0]["note"], "undecided");
    let attempt = payment["attempts"][0]["id"].clone();
    let resolve = |body: &Value| shop.admin().command("resolve", &done, "resolution", body);
    let refused = resolve(&json!({"outcome": "perhaps", "attemptId": "att_1", "reason": ""}));
    let refused = refused.problem(400, "validation_failed");
    assert_eq!(refused.faulty_fields(), ["outcome", "attemptId", "reason"]);
    let body = json!({
        "outcome": "succeeded", "attemptId": attempt, "providerReference": "pi_1",
        "reason": "seen in the provider's dashboard",
    });
    let resolved = resolve(&body).of(200);
    assert_eq!(resolved.json["status"], "completed");
    assert_eq!(resolved.json["needsReview"], false);
    assert!(resolve(&body).of(200).is_replay());
    let trail = shop.all(&format!("/api/payments/{done}/events"));
    assert_eq!(trail[0]["actor"], "admin/test");
    let printed = shop.server.tell(&["journal", "print", "--payment", &done]);
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("known by person \"seen in the provider's dashboard\""), "{printed}");
    shop.agrees();
}

#[test]
fn a_hold_that_lapses_is_let_go_at_the_provider() {
    let shop = Shop::start_with("", &[("STRONGROOM__PAYMENTS__AUTHORIZATION_TTL", "300ms")]);
    let id = shop.authorize("hold", 100).of(201).id();
    eventually("the hold lapses", || (shop.status(&id) == "expired").then_some(()));
    let intent = shop.stripe.intent_of("strongroom_payment", &id).unwrap();
    assert_eq!(intent["status"], "canceled");
    shop.agrees();
}

#[test]
fn a_provider_of_a_payment_that_is_not_configured_any_more_leaves_it_to_a_person() {
    let mut shop = Shop::start_with("", &[ASKS_NEVER]);
    let taken = shop.charge("taken", 100).of(201).id();
    shop.stripe.next(&[Fault::ErrorAfterEffect]);
    let out = shop.charge("out", 100).of(202).id();
    shop.server.kill();
    shop.server.configure_merchant_1("");
    shop.server.set("STRONGROOM__PROVIDER__INQUIRE_AFTER_MS", "20");
    shop.server.restart();
    shop.refund_all(&taken).problem(503, "provider_unavailable");
    let payment = shop.in_review(&out);
    assert!(
        payment["notes"][0]["what"].as_str().unwrap().contains("not configured"),
        "{payment:#}"
    );
}

#[test]
fn secrets_of_a_provider_stand_nowhere_but_in_the_configuration() {
    let shop = Shop::start();
    shop.tell(1);
    shop.charge("order", 100).of(201);
    shop.stripe.next(&[Fault::Garbage]);
    let id = shop.charge("doubt", 100).of(202).id();
    shop.settled(&id);
    let logs = shop.logs();
    for secret in [SECRET_KEY, WEBHOOK_SECRET] {
        assert!(!logs.contains(secret));
        assert!(!is_in_folder(&shop.data(), secret.as_bytes()), "a secret is on disk");
    }
}
