//! What became of a key, how long a twin waits for the first, and how long a key stays used.

use crate::{
    client::{Client, Response},
    clock::{Clock, HOUR},
    server::TestServer,
    wait::{at_once, eventually},
};
use serde_json::{Value, json};

/// Time enough to look at a request in flight: the provider's answer to `tok_timeout` is out for this long.
const ANSWER_WITHIN: (&str, &str) = ("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "5000");
const RETENTION: &str = "STRONGROOM__IDEMPOTENCY__RETENTION";

fn lookup(client: &Client, key: &str) -> Response {
    client.get(&format!("/api/idempotency/{key}"))
}

#[test]
fn what_became_of_a_key_can_be_asked() {
    let mut server = TestServer::start();
    lookup(&server, "order").problem(404, "idempotency_key_not_found");
    let charge = server.charge("order", 100).of(201);
    server.refund(&charge.id(), "back/1", 30).of(200);
    server.charge_with("tok_declined", "no", 100).of(201);
    let check = |server: &Client| {
        let found = lookup(server, "order").of(200).json;
        assert_eq!(
            found,
            json!({
                "key": "order",
                "state": "completed",
                "paymentId": charge.id(),
                "operation": "create",
                "status": 201,
                "createdAt": charge.json["createdAt"],
            })
        );
        let found = lookup(server, "back/1").of(200).json;
        assert_eq!(found["operation"], "refund");
        assert_eq!(found["status"], 200);
        assert_eq!(found["paymentId"], charge.id());
        assert_eq!(lookup(server, "no").of(200).json["status"], 201);
        lookup(server, "never_sent").problem(404, "idempotency_key_not_found");
    };
    check(&server);
    lookup(&server.merchant_2(), "order").problem(404, "idempotency_key_not_found");
    server.kill();
    server.restart();
    check(&server);
}

#[test]
fn a_key_that_is_being_worked_on_is_in_progress_until_it_is_answered() {
    let server = TestServer::start_with(&[ANSWER_WITHIN]);
    let answers = at_once(2, |number| match number {
        0 => server.charge_with("tok_timeout", "order", 100),
        _ => {
            let found = server.in_progress("order");
            let fields = ["createdAt", "key", "operation", "paymentId", "state", "status"];
            assert!(found.as_object().unwrap().keys().eq(fields));
            assert_eq!(found["operation"], "create");
            assert_eq!(found["status"], Value::Null);
            eventually("it is answered", || {
                let found = lookup(&server, "order").of(200);
                (found.json["state"] == "completed").then_some(found)
            })
        }
    });
    assert_eq!(answers[0].status, 202);
    assert_eq!(answers[1].json["paymentId"], answers[0].id());
}

#[test]
fn who_waits_past_the_deadline_for_its_twin_is_told_so_and_may_ask_again() {
    let server =
        TestServer::start_with(&[ANSWER_WITHIN, ("STRONGROOM__HTTP__REQUEST_DEADLINE_MS", "1500")]);
    let charge = || server.charge_with("tok_timeout", "order", 100);
    let answers = at_once(2, |number| match number {
        0 => charge(),
        _ => {
            server.in_progress("order");
            let twin = charge().problem(409, "idempotency_key_in_progress");
            let seconds = twin.header("Retry-After").unwrap();
            assert!(seconds.parse::<u32>().unwrap() >= 1);
            server.charge("order", 100).problem(422, "idempotency_key_reused");
            twin
        }
    });
    assert_eq!(answers[0].status, 202, "{}", answers[0].text());
    let again = charge();
    assert!(again.is_replay());
    assert_eq!(again.body, answers[0].body);
    assert_eq!(server.all("/api/payments").len(), 1);
}

#[test]
fn a_key_is_new_again_when_its_retention_is_over() {
    let clock = Clock::new();
    let mut server = TestServer::start_with(&[(RETENTION, "1h"), clock.setting()]);
    let first = server.charge("order", 100).of(201);
    assert_eq!(server.charge("order", 100).body, first.body);
    server.kill();
    server.restart();
    clock.has_passed(HOUR / 2);
    assert_eq!(server.charge("order", 100).body, first.body);
    clock.has_passed(HOUR);
    let second = eventually("the retention is over", || {
        Some(server.charge("order", 100)).filter(|answer| answer.body != first.body)
    });
    assert_eq!(second.status, 201);
    assert_ne!(second.id(), first.id());
    assert!(
        time(&second.json["createdAt"])
            >= time(&first.json["createdAt"]) + jiff::SignedDuration::from_hours(1)
    );
    server.kill();
    server.restart();
    assert_eq!(server.all("/api/payments").len(), 2);
    server.admin().reconciles();
}

#[test]
fn when_its_retention_is_over_a_key_is_unknown_and_may_name_another_request() {
    let server = TestServer::start_with(&[(RETENTION, "1ms")]);
    let first = server.charge("order", 100).of(201);
    eventually("the retention is over", || (lookup(&server, "order").status == 404).then_some(()));
    let other = server.charge("order", 200).of(201);
    assert_ne!(other.id(), first.id());
    assert_eq!(server.payment(&first.id()), first.json);
    server.admin().reconciles();
}

#[test]
fn a_key_that_is_kept_forever_is_still_used_though_it_was_made_under_a_short_retention() {
    let mut server = TestServer::start_with(&[(RETENTION, "1ms")]);
    let first = server.charge("order", 100).of(201);
    eventually("the retention is over", || (lookup(&server, "order").status == 404).then_some(()));
    server.kill();
    server.set(RETENTION, "forever");
    server.restart();
    let again = server.charge("order", 100);
    assert!(again.is_replay());
    assert_eq!(again.body, first.body);
}

fn time(value: &Value) -> jiff::Timestamp {
    value.as_str().unwrap().parse().unwrap()
}
