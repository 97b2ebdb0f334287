//! A request that is sent again under its key is done once, and answered as it was the first time.

use crate::{
    client::{Client, Response},
    server::{ADMIN_KEY, MERCHANT_1_KEY, TestServer},
    wait::{at_once, eventually},
};
use serde_json::{Value, json};

#[track_caller]
fn check_replay(again: &Response, first: &Response) {
    assert!(again.is_replay(), "{}", again.text());
    assert_eq!(again.status, first.status);
    assert_eq!(again.text(), first.text());
    assert_eq!(again.body, first.body);
}

fn lookup(client: &Client, key: &str) -> Response {
    client.get(&format!("/api/idempotency/{key}"))
}

#[test]
fn of_64_clients_that_send_one_key_at_once_one_makes_the_payment_and_all_get_its_answer() {
    let server = TestServer::start_with(&[("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "20000")]);
    for method in ["tok_visa", "tok_slow", "tok_declined"] {
        let before = server.all("/api/payments").len();
        let answers = at_once(64, |_| server.charge_with(method, method, 100));
        for answer in &answers {
            assert_eq!(answer.status, 201, "{}", answer.text());
            assert_eq!(answer.body, answers[0].body);
        }
        let replays = answers.iter().filter(|answer| answer.is_replay()).count();
        assert_eq!(replays, 63);
        assert_eq!(server.all("/api/payments").len(), before + 1);
    }
    assert_eq!(server.balance("merchant:merchant_1", "USD"), (200, 0));
    server.admin().reconciles();
}

#[test]
fn of_many_clients_that_send_one_key_for_different_payments_at_once_one_is_done() {
    let server = TestServer::start();
    for round in 0..10 {
        let key = format!("round_{round}");
        let answers = at_once(16, |number| server.charge(&key, 1 + i64::try_from(number).unwrap()));
        let done = answers.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(done, 1);
        for answer in answers.into_iter().filter(|answer| answer.status != 201) {
            answer.problem(422, "idempotency_key_reused");
        }
        assert_eq!(server.all("/api/payments").len(), round + 1);
    }
}

#[test]
fn a_refund_under_one_key_is_done_once_however_often_it_is_sent_at_once() {
    let server = TestServer::start();
    let id = server.charge("order", 100).of(201).id();
    let answers = at_once(32, |_| server.refund(&id, "refund", 30));
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (200, &answers[0].body));
    }
    assert_eq!(server.payment(&id)["amountRefunded"], 30);
}

/// Every kind of request with its first answer.
fn first_answers(server: &Client) -> Vec<(String, &'static str, Value, Response)> {
    let create = "/api/payments".to_owned();
    let charge = json!({"amount": 100, "currency": "USD", "metadata": {"b": "1", "a": "2"}});
    let hold = json!({"amount": 100, "currency": "USD", "capture": "manual"});
    let no = json!({"amount": 100, "currency": "USD", "paymentMethod": "tok_declined"});
    let out = json!({"amount": 100, "currency": "USD", "paymentMethod": "tok_timeout"});
    let mut requests = vec![
        (create.clone(), "charge", charge),
        (create.clone(), "hold", hold.clone()),
        (create.clone(), "other_hold", hold),
        (create.clone(), "declined", no),
        (create, "out", out),
    ];
    let mut answers: Vec<Response> = Vec::new();
    let mut next = 0;
    while let Some((path, key, body)) = requests.get(next).cloned() {
        answers.push(server.post(&path, key, &body));
        next += 1;
        if next == 5 {
            let of = |number: usize, command: &str| {
                format!("/api/payments/{}/{command}", answers[number].id())
            };
            requests.extend([
                (of(1, "capture"), "capture", json!({"amount": 90})),
                (of(2, "void"), "void", json!({})),
                (of(0, "refund"), "part", json!({"amount": 10, "reason": "x"})),
                (of(0, "refund"), "rest", json!({})),
            ]);
        }
    }
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [201, 201, 201, 201, 202, 200, 200, 200, 200]);
    requests
        .into_iter()
        .zip(answers)
        .map(|((path, key, body), answer)| (path, key, body, answer))
        .collect()
}

#[test]
fn a_replay_is_the_first_answer_byte_for_byte_though_the_payment_and_the_process_have_changed() {
    let mut server = TestServer::start_with(&[
        ("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "20"),
        ("STRONGROOM__PROVIDER__INQUIRE_AFTER_MS", "1"),
    ]);
    let first = first_answers(&server);
    let check = |server: &TestServer| {
        for (path, key, body, answer) in &first {
            check_replay(&server.post(path, key, body), answer);
        }
    };
    eventually("the answer that was out is known", || {
        (server.status(&first[4].3.id()) == "completed").then_some(())
    });
    check(&server);
    assert!(server.terminate().success());
    server.restart();
    check(&server);
    server.kill();
    server.restart();
    check(&server);
    assert_eq!(server.balance("merchant:merchant_1", "USD"), (190, 0));
    server.admin().reconciles();
}

#[test]
fn a_key_is_the_same_in_the_header_bare_or_quoted_and_in_the_query() {
    let server = TestServer::start();
    let first = server.charge("order_1", 100).of(201);
    check_replay(&server.charge("\"order_1\"", 100), &first);
    let body = json!({"amount": 100, "currency": "USD"});
    let in_query = server.post("/api/payments?idempotencyKey=order_1", "", &body);
    check_replay(&in_query, &first);
    let in_both = server.post("/api/payments?idempotencyKey=order_1", "order_1", &body);
    check_replay(&in_both, &first);
    server
        .post("/api/payments?idempotencyKey=order_2", "order_1", &body)
        .problem(400, "idempotency_key_ambiguous");
    let new = server.post("/api/payments?idempotencyKey=order_2", "", &body);
    assert!(!new.of(201).is_replay());
    assert_eq!(server.all("/api/payments").len(), 2);
}

#[test]
fn a_key_is_1_to_255_visible_ascii_characters() {
    let server = TestServer::start();
    let longest = "k".repeat(255);
    server.charge(&longest, 100).of(201);
    server.charge("!#$%&'()*+,-./:;<=>?@[]^_`{|}~", 100).of(201);
    for key in ["two words", "\"\"", "\"open", &"k".repeat(256)] {
        server.charge(key, 100).problem(400, "idempotency_key_invalid");
    }
    let body = br#"{"amount": 100, "currency": "USD"}"#;
    let bearer = format!("Bearer {MERCHANT_1_KEY}");
    let twice =
        [("Authorization", bearer.as_str()), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")];
    server
        .send("POST", "/api/payments", &twice, Some(body))
        .unwrap()
        .problem(400, "idempotency_key_ambiguous");
    assert_eq!(server.all("/api/payments").len(), 2);
}

#[test]
fn another_request_under_a_used_key_is_refused_and_does_nothing() {
    let server = TestServer::start();
    let first = server.charge("order", 100).of(201);
    let id = first.id();
    let reused = |answer: Response| drop(answer.problem(422, "idempotency_key_reused"));
    reused(server.charge("order", 101));
    reused(server.authorize("order", 100));
    reused(server.refund(&id, "order", 100));
    let part = server.refund(&id, "part", 10).of(200);
    reused(server.refund(&id, "part", 11));
    reused(server.charge("part", 10));
    let other = server.charge("other", 100).of(201).id();
    reused(server.refund(&other, "part", 10));
    check_replay(&server.refund(&id, "part", 10), &part);
    check_replay(&server.charge("order", 100), &first);
    assert_eq!(server.all("/api/payments").len(), 2);
    assert_eq!(server.balance("merchant:merchant_1", "USD"), (190, 0));
}

#[test]
fn the_order_of_fields_and_white_space_make_no_other_request() {
    let server = TestServer::start();
    let first = server.post_text(
        "/api/payments",
        "order",
        r#"{"amount":100,"currency":"USD","metadata":{"a":"1","b":"2"}}"#,
    );
    let again = server.post_text(
        "/api/payments",
        "order",
        "\n{ \"metadata\" : {\"b\": \"2\", \"a\": \"1\"},\t\"currency\": \"US\\u0044\", \"amount\": 100 }\r\n",
    );
    check_replay(&again, &first.of(201));
}

#[test]
fn a_refused_request_uses_up_no_key() {
    let server = TestServer::start();
    let id = server.charge("order", 100).of(201).id();
    let unused = |key: &str| drop(lookup(&server, key).problem(404, "idempotency_key_not_found"));
    server.charge("key", 0).problem(400, "validation_failed");
    unused("key");
    server.capture_all("pay_none").of(404);
    server.command("capture", &id, "key", &json!({})).problem(409, "invalid_transition");
    unused("key");
    server.refund(&id, "key", 101).problem(422, "amount_exceeds_refundable");
    server
        .refund("pay_0192f0c1a7d47a0b8d3f4c5e6a7b8c9d", "key", 1)
        .problem(404, "payment_not_found");
    let other = json!({"amount": 1, "currency": "USD", "merchantId": "merchant_2"});
    server.pay("key", &other).problem(403, "merchant_forbidden");
    server.client("sk_wrong").charge("key", 100).of(401);
    unused("key");
    assert!(!server.charge("key", 100).of(201).is_replay());
}

#[test]
fn a_declined_payment_uses_up_its_key() {
    let server = TestServer::start();
    let declined = server.charge_with("tok_declined", "order", 100).of(201);
    check_replay(&server.charge_with("tok_declined", "order", 100), &declined);
    server.charge("order", 100).problem(422, "idempotency_key_reused");
}

#[test]
fn a_key_is_required_to_make_a_payment_and_for_a_part_of_one() {
    let server = TestServer::start();
    let required = |answer: Response| drop(answer.problem(400, "idempotency_key_required"));
    required(server.charge("", 100));
    let held = server.authorize("hold", 100).of(201).id();
    required(server.capture(&held, "", 50));
    assert_eq!(server.status(&held), "authorized");
    server.capture_all(&held).of(200);
    required(server.refund(&held, "", 50));
    server.refund_all(&held).of(200);
    let other = server.authorize("other", 100).of(201).id();
    server.void(&other).of(200);
    assert_eq!(server.all("/api/payments").len(), 2);
}

#[test]
fn a_key_that_is_not_required_is_honoured_where_it_is_sent() {
    let server = TestServer::start();
    let nothing = json!({});
    let held = server.authorize("hold", 100).of(201).id();
    let captured = server.command("capture", &held, "take", &nothing).of(200);
    check_replay(&server.command("capture", &held, "take", &nothing), &captured);
    let refunded = server.command("refund", &held, "give", &nothing).of(200);
    check_replay(&server.command("refund", &held, "give", &nothing), &refunded);
    let other = server.authorize("other", 100).of(201).id();
    let voided = server.command("void", &other, "let_go", &nothing).of(200);
    check_replay(&server.command("void", &other, "let_go", &nothing), &voided);
}

#[test]
fn two_merchants_may_use_the_same_key() {
    let server = TestServer::start();
    let first = server.charge("order", 100).of(201);
    let second = server.merchant_2().charge("order", 200).of(201);
    assert!(!second.is_replay());
    assert_ne!(first.id(), second.id());
    check_replay(&server.charge("order", 100), &first);
    check_replay(&server.merchant_2().charge("order", 200), &second);
    let found = lookup(&server.merchant_2(), "order").of(200).json;
    assert_eq!(found["paymentId"], second.id());
}

#[test]
fn an_admin_who_acts_for_a_merchant_uses_the_merchants_keys() {
    let server = TestServer::start();
    let admin = server.client(ADMIN_KEY);
    let body = json!({"amount": 100, "currency": "USD", "merchantId": "merchant_1"});
    let first = server.pay("order", &body).of(201);
    check_replay(&admin.pay("order", &body), &first);
    let path = "/api/idempotency/order?merchantId=merchant_1";
    assert_eq!(admin.get(path).of(200).json["paymentId"], first.id());
}
