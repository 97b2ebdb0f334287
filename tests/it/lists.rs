//! Lists of payments and the audit trail of one: what is in them, in which order, page by page.

use crate::{client::Client, server::TestServer, wait::eventually};
use serde_json::{Value, json};

/// Every move there is; `null`: it did not exist.
const MOVES: [(&str, &str); 13] = [
    ("null", "pending"),
    ("pending", "processing"),
    ("pending", "failed"),
    ("processing", "authorized"),
    ("processing", "completed"),
    ("processing", "failed"),
    ("authorized", "completed"),
    ("authorized", "voided"),
    ("authorized", "expired"),
    ("completed", "partially_refunded"),
    ("completed", "refunded"),
    ("partially_refunded", "partially_refunded"),
    ("partially_refunded", "refunded"),
];

fn ids(payments: &[Value]) -> Vec<String> {
    let id = |payment: &Value| payment["id"].as_str().unwrap().to_owned();
    payments.iter().map(id).collect()
}

/// Makes so many payments and returns their ids, newest first.
fn charges(client: &Client, count: usize) -> Vec<String> {
    let made = (0..count).map(|number| client.charge(&format!("order_{number}"), 100).of(201).id());
    let mut made: Vec<_> = made.collect();
    made.reverse();
    made
}

#[test]
fn a_list_shows_the_newest_first_page_by_page() {
    let server = TestServer::start();
    let made = charges(&server, 25);
    let page = server.get("/api/payments").of(200).json;
    assert_eq!(page.as_object().unwrap().len(), 2);
    assert_eq!(ids(page["data"].as_array().unwrap()), made[..20]);
    let rest = format!("/api/payments?after={}", page["next"].as_str().unwrap());
    let rest = server.get(&rest).of(200).json;
    assert_eq!(ids(rest["data"].as_array().unwrap()), made[20..]);
    assert_eq!(rest["next"], Value::Null);
    for limit in [1, 7, 25, 100] {
        let all = server.all(&format!("/api/payments?limit={limit}"));
        assert_eq!(ids(&all), made, "limit {limit}");
    }
    assert_eq!(page["data"][0], server.payment(&made[0]));
}

#[test]
fn a_page_is_not_moved_by_payments_that_come_while_it_is_read() {
    let server = TestServer::start();
    let made = charges(&server, 4);
    let page = server.get("/api/payments?limit=2").of(200).json;
    server.charge("later", 100).of(201);
    let rest = format!("/api/payments?after={}", page["next"].as_str().unwrap());
    let rest = server.get(&rest).of(200).json;
    assert_eq!(ids(rest["data"].as_array().unwrap()), made[2..]);
}

#[test]
fn a_list_is_filtered_by_status_as_it_stands_now() {
    let server = TestServer::start();
    let held = server.authorize("hold", 100).of(201).id();
    let failed = server.charge_with("tok_declined", "no", 100).of(201).id();
    let charged = server.charge("yes", 100).of(201).id();
    let with = |status: &str| ids(&server.all(&format!("/api/payments?status={status}")));
    assert_eq!(with("authorized"), [held.as_str()]);
    assert_eq!(with("failed"), [failed.as_str()]);
    assert_eq!(with("completed"), [charged.as_str()]);
    assert_eq!(with("refunded"), [""; 0]);
    server.refund_all(&charged).of(200);
    server.capture_all(&held).of(200);
    assert_eq!(with("refunded"), [charged.as_str()]);
    assert_eq!(with("completed"), [held.as_str()]);
    assert_eq!(with("authorized"), [""; 0]);
}

#[test]
fn a_list_is_filtered_by_customer_and_time() {
    let server = TestServer::start();
    let pay = |key: &str, customer: &str| {
        let body = json!({"amount": 100, "currency": "USD", "customerId": customer});
        server.pay(key, &body).of(201).json
    };
    let all: Vec<_> =
        (0..12).rev().map(|number| pay(&number.to_string(), ["ann", "bob"][number % 2])).collect();
    let expected = |admits: &dyn Fn(&Value) -> bool| -> Vec<_> {
        let admitted: Vec<_> = all.iter().rev().filter(|p| admits(p)).cloned().collect();
        ids(&admitted)
    };
    let of_ann = server.all("/api/payments?customerId=ann&limit=4");
    assert_eq!(ids(&of_ann), expected(&|p| p["customerId"] == "ann"));
    assert!(server.all("/api/payments?customerId=carl").is_empty());

    let (from, to) = (&all[3]["createdAt"], &all[9]["createdAt"]);
    let time = |value: &Value| value.as_str().unwrap().to_owned();
    let since = |p: &Value| time(&p["createdAt"]) >= time(from);
    let until = |p: &Value| time(&p["createdAt"]) < time(to);
    let list = |query: &str| ids(&server.all(&format!("/api/payments?limit=3&{query}")));
    let (from, to) = (time(from), time(to));
    assert_eq!(list(&format!("from={from}")), expected(&since));
    assert_eq!(list(&format!("to={to}")), expected(&until));
    let both = format!("from={from}&to={to}");
    assert_eq!(list(&both), expected(&|p| since(p) && until(p)));
    let ann = format!("{both}&customerId=ann&status=completed");
    let of_ann = |p: &Value| since(p) && until(p) && p["customerId"] == "ann";
    assert_eq!(list(&ann), expected(&of_ann));
}

#[test]
fn a_parameter_that_is_unknown_or_out_of_range_is_refused() {
    let server = TestServer::start();
    charges(&server, 1);
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("limit=1&limit=2", "limit"),
        ("status=done", "status"),
        ("from=yesterday", "from"),
        ("to=2026-13-01T00:00:00Z", "to"),
        ("after=nothing", "after"),
        ("after=pay_0192f0c1a7d47a0b8d3f4c5e6a7b8c9d", "after"),
        ("custommerId=ann", "custommerId"),
    ] {
        let refused = server.get(&format!("/api/payments?{query}"));
        let refused = refused.problem(400, "validation_failed");
        assert_eq!(refused.faulty_fields(), [field], "{query}");
    }
}

#[test]
fn an_admin_sees_all_merchants_payments_or_those_of_one() {
    let server = TestServer::start();
    let first = server.charge("order", 100).of(201).id();
    let second = server.merchant_2().charge("order", 100).of(201).id();
    let admin = server.admin();
    assert_eq!(ids(&admin.all("/api/payments?limit=1")), [&*second, &*first]);
    let of_1 = admin.all("/api/payments?merchantId=merchant_1");
    assert_eq!(ids(&of_1), [first.as_str()]);
    assert_eq!(ids(&server.all("/api/payments")), [first.as_str()]);
    server.get("/api/payments?merchantId=merchant_2").problem(403, "merchant_forbidden");
}

/// The audit trail of a payment, oldest first, each move checked.
fn trail(client: &Client, id: &str) -> Vec<Value> {
    let mut trail = client.all(&format!("/api/payments/{id}/events?limit=2"));
    trail.reverse();
    let state = |value: &Value| value.as_str().unwrap_or("null").to_owned();
    let mut from = "null".to_owned();
    let mut last = (0, String::new());
    for step in &trail {
        let fields = ["actor", "at", "blockHash", "from", "sequence", "to", "transactionId"];
        assert!(step.as_object().unwrap().keys().eq(fields), "{step:#}");
        let (was, is) = (state(&step["from"]), state(&step["to"]));
        assert_eq!(was, from, "each move starts where the one before ended");
        assert!(MOVES.contains(&(was.as_str(), is.as_str())), "{was} to {is}");
        let place = (step["sequence"].as_u64().unwrap(), state(&step["at"]));
        assert!(place >= last, "{step:#}");
        let hash = step["blockHash"].as_str().unwrap();
        assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
        (from, last) = (is, place);
    }
    assert_eq!(from, client.status(id), "the trail leads to where it stands");
    trail
}

fn states(trail: &[Value]) -> Vec<&str> {
    trail.iter().map(|step| step["to"].as_str().unwrap()).collect()
}

#[test]
fn the_audit_trail_shows_every_move_with_who_made_it_and_what_it_booked() {
    let mut server = TestServer::start();
    let id = server.authorize("hold", 100).of(201).id();
    server.admin().capture(&id, "take", 80).of(200);
    server.refund(&id, "part", 30).of(200);
    server.refund(&id, "part_2", 30).of(200);
    server.refund_all(&id).of(200);
    let moves = trail(&server, &id);
    assert_eq!(
        states(&moves),
        [
            "pending",
            "processing",
            "authorized",
            "completed",
            "partially_refunded",
            "partially_refunded",
            "refunded"
        ]
    );
    let by = |step: &Value| step["actor"].as_str().unwrap().to_owned();
    assert_eq!(by(&moves[0]), "merchant_1/test");
    assert_eq!(by(&moves[3]), "admin/test");
    assert_eq!(by(&moves[6]), "merchant_1/test");

    let account = server.get(&format!("/api/ledger/customer:{id}")).of(200).json;
    let mut booked: Vec<_> = account["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["sequence"].clone(), entry["transactionId"].clone()))
        .collect();
    booked.reverse();
    let posted: Vec<_> = moves
        .iter()
        .filter(|step| step["transactionId"].is_string())
        .map(|step| (step["sequence"].clone(), step["transactionId"].clone()))
        .collect();
    assert_eq!(posted.len(), 5, "hold, capture, three refunds");
    for entry in &booked {
        assert!(posted.contains(entry), "{entry:?} is in the trail");
    }
    let path = format!("/api/payments/{id}/events");
    let before = server.get(&path).of(200).body;
    server.kill();
    server.restart();
    assert_eq!(server.get(&path).of(200).body, before, "also after a kill");
}

#[test]
fn the_audit_trail_shows_what_time_and_the_provider_did() {
    let server = TestServer::start_with(&[
        ("STRONGROOM__PAYMENTS__AUTHORIZATION_TTL", "50ms"),
        ("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "20"),
        ("STRONGROOM__PROVIDER__INQUIRE_AFTER_MS", "1"),
    ]);
    let held = server.authorize("hold", 100).of(201).id();
    let out = server.charge_with("tok_timeout_declined", "out", 100).of(202).id();
    for (id, status) in [(&held, "expired"), (&out, "failed")] {
        eventually(status, || (server.status(id) == status).then_some(()));
    }
    let expired = trail(&server, &held);
    assert_eq!(states(&expired), ["pending", "processing", "authorized", "expired"]);
    assert_eq!(expired[3]["actor"], "system/expiry");
    assert!(expired[3]["transactionId"].is_string(), "it drops the hold");
    let failed = trail(&server, &out);
    assert_eq!(states(&failed), ["pending", "processing", "failed"]);
    assert_eq!(failed[2]["actor"], "system/inquiry");
    assert!(failed[1]["transactionId"].is_string(), "it puts the amount in doubt");
    assert!(failed[2]["transactionId"].is_string(), "it takes it out again");
    assert_ne!(failed[1]["sequence"], failed[2]["sequence"]);
}
