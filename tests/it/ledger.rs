//! The double entry behind every payment: what each move books, what accounts add up to, and how they once stood.

use crate::{
    client::Client,
    server::TestServer,
    wait::{at_once, eventually},
};
use jiff::Timestamp;
use serde_json::{Value, json};

const MERCHANT: &str = "merchant:merchant_1";
/// What the sandbox was asked for and has not answered.
const DOUBT: &str = "in_doubt:sandbox";

fn account(client: &Client, name: &str, query: &str) -> Value {
    client.get(&format!("/api/ledger/{name}?limit=100{query}")).of(200).json
}

/// The balances of a payment's customer and of its merchant: `[posted, pending]` each.
#[track_caller]
fn check_balances(client: &Client, id: &str, customer: (i64, i64), merchant: (i64, i64)) {
    assert_eq!(client.balance(&format!("customer:{id}"), "USD"), customer);
    assert_eq!(client.balance(MERCHANT, "USD"), merchant);
}

#[test]
fn a_charge_debits_the_customer_and_credits_the_merchant() {
    let server = TestServer::start();
    let charge = server.charge("order", 4999).of(201);
    let customer = format!("customer:{}", charge.id());
    let of_customer = account(&server, &customer, "");
    let of_merchant = account(&server, MERCHANT, "");
    let fields = ["accountId", "balances", "entries", "next"];
    for (account, name, kind, amount) in [
        (&of_customer, customer.as_str(), "debit", -4999),
        (&of_merchant, MERCHANT, "credit", 4999),
    ] {
        assert!(account.as_object().unwrap().keys().eq(fields));
        assert_eq!(account["accountId"], name);
        let balance = json!([{"currency": "USD", "balance": amount, "pending": 0}]);
        assert_eq!(account["balances"], balance);
        assert_eq!(account["next"], Value::Null);
        let entries = account["entries"].as_array().unwrap();
        assert_eq!(entries.len(), 1);
        let entry = &entries[0];
        let fields = [
            "accountId",
            "amount",
            "createdAt",
            "currency",
            "id",
            "paymentId",
            "sequence",
            "transactionId",
            "type",
        ];
        assert!(entry.as_object().unwrap().keys().eq(fields), "{entry:#}");
        assert_eq!(entry["accountId"], name);
        assert_eq!(entry["amount"], amount);
        assert_eq!(entry["currency"], "USD");
        assert_eq!(entry["type"], kind);
        assert_eq!(entry["paymentId"], charge.json["id"]);
        assert_eq!(entry["createdAt"], charge.json["createdAt"]);
    }
    let (debit, credit) = (&of_customer["entries"][0], &of_merchant["entries"][0]);
    assert_eq!(debit["transactionId"], credit["transactionId"]);
    assert_eq!(debit["sequence"], credit["sequence"]);
    assert_ne!(debit["id"], credit["id"]);
}

#[test]
fn a_hold_moves_nothing_until_it_is_captured_and_a_refund_is_the_reverse() {
    let server = TestServer::start();
    let id = server.authorize("hold", 100).of(201).id();
    check_balances(&server, &id, (0, -100), (0, 100));
    server.capture(&id, "take", 70).of(200);
    check_balances(&server, &id, (-70, 0), (70, 0));
    server.refund(&id, "part", 30).of(200);
    check_balances(&server, &id, (-40, 0), (40, 0));
    server.refund_all(&id).of(200);
    check_balances(&server, &id, (0, 0), (0, 0));
    let posted: Vec<_> = account(&server, &format!("customer:{id}"), "")["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["amount"].as_i64().unwrap())
        .filter(|amount| *amount != 0)
        .collect();
    assert_eq!(posted, [40, 30, -70], "newest first");
}

#[test]
fn a_hold_that_is_given_up_or_lapses_is_dropped() {
    let server = TestServer::start();
    let id = server.authorize("hold", 100).of(201).id();
    server.void(&id).of(200);
    check_balances(&server, &id, (0, 0), (0, 0));
    server.admin().reconciles();

    let server = TestServer::start_with(&[("STRONGROOM__PAYMENTS__AUTHORIZATION_TTL", "50ms")]);
    let id = server.authorize("hold", 100).of(201).id();
    eventually("the hold lapses", || (server.status(&id) == "expired").then_some(()));
    check_balances(&server, &id, (0, 0), (0, 0));
    server.admin().reconciles();
}

#[test]
fn an_accounts_entries_are_read_page_by_page_and_add_up_to_its_balance() {
    let server = TestServer::start();
    for number in 0..12 {
        let id = server.charge(&format!("order_{number}"), 100 + number).of(201).id();
        server.refund(&id, &format!("part_{number}"), 10).of(200);
    }
    let whole = account(&server, MERCHANT, "");
    let entries = whole["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 24);
    assert_eq!(whole["next"], Value::Null);
    let sum: i64 = entries.iter().map(|entry| entry["amount"].as_i64().unwrap()).sum();
    assert_eq!(whole["balances"][0]["balance"], sum);
    let newest_first = |pair: &[Value]| pair[0]["sequence"].as_u64() > pair[1]["sequence"].as_u64();
    assert!(entries.windows(2).all(newest_first));

    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let page = server.get(&format!("/api/ledger/{MERCHANT}?limit=7{after}")).of(200).json;
        assert_eq!(page["balances"], whole["balances"]);
        paged.extend(page["entries"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    assert_eq!(&paged, entries);
}

/// Something that moves the merchant's account, in two currencies and every way there is.
fn moves(server: &Client) -> Vec<Box<dyn Fn() + '_>> {
    let yen = json!({"amount": 500, "currency": "JPY", "customerId": "ann"});
    let id = |key: &str| {
        server.get(&format!("/api/idempotency/{key}")).of(200).json["paymentId"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    vec![
        Box::new(|| drop(server.charge("charge", 100).of(201))),
        Box::new(|| drop(server.authorize("hold", 50).of(201))),
        Box::new(move || drop(server.pay("yen", &yen).of(201))),
        Box::new(move || drop(server.capture(&id("hold"), "take", 40).of(200))),
        Box::new(move || drop(server.refund(&id("charge"), "part", 30).of(200))),
        Box::new(|| drop(server.authorize("other_hold", 70).of(201))),
        Box::new(move || drop(server.void(&id("other_hold")).of(200))),
        Box::new(move || drop(server.refund_all(&id("yen")).of(200))),
    ]
}

#[test]
fn an_account_can_be_seen_as_it_stood_at_any_sequence_or_time() {
    let mut server = TestServer::start();
    let mut seen = Vec::new();
    for act in moves(&server) {
        act();
        let now = Timestamp::now();
        let at = format!("{now:.3}");
        let sequence = server.admin().get("/api/ledger").of(200).json["sequence"].clone();
        for name in [MERCHANT, "customer:ann"] {
            seen.push((name, sequence.to_string(), account(&server, name, "")));
            seen.push((name, at.clone(), account(&server, name, "")));
        }
        // The next move has a later time than the one just noted.
        let later = |now: Timestamp| now.as_millisecond() + 1;
        eventually("the clock moves on", || {
            (Timestamp::now().as_millisecond() >= later(now)).then_some(())
        });
    }
    let check = |server: &Client| {
        for (name, at, then) in &seen {
            let again = account(server, name, &format!("&at={at}"));
            assert_eq!(&again, then, "{name} at {at}");
        }
        assert_eq!(account(server, MERCHANT, "&at=0")["balances"], json!([]));
        let long_ago = account(server, MERCHANT, "&at=2020-01-01T00:00:00Z");
        assert_eq!(long_ago["entries"], json!([]));
        let ahead = account(server, MERCHANT, "&at=9999-01-01T00:00:00Z");
        assert_eq!(ahead, account(server, MERCHANT, ""));
        server
            .get(&format!("/api/ledger/{MERCHANT}?at=yesterday"))
            .problem(400, "validation_failed");
    };
    check(&server);
    server.kill();
    server.restart();
    check(&server);
}

#[test]
fn what_was_seen_while_a_payment_was_under_way_stays_true() {
    let server = TestServer::start_with(&[
        ("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "4000"),
        ("STRONGROOM__PROVIDER__INQUIRE_AFTER_MS", "1"),
    ]);
    let see =
        |query: &str| [account(&server, MERCHANT, query), account(&server.admin(), DOUBT, query)];
    let seen = at_once(2, |number| match number {
        0 => {
            let id = server.charge_with("tok_timeout", "slow", 100).of(202).id();
            eventually("it is booked", || (server.status(&id) == "completed").then_some(()));
            None
        }
        _ => {
            server.in_progress("slow");
            let asked = Timestamp::now().as_millisecond();
            eventually("the clock moves on", || {
                (Timestamp::now().as_millisecond() > asked).then_some(())
            });
            let now = format!("{:.3}", Timestamp::now());
            Some((now, see("")))
        }
    });
    let (at, then) = seen[1].clone().unwrap();
    for account in &then {
        assert_eq!(account["entries"], json!([]), "the payment is not booked yet");
    }
    assert_eq!(see(&format!("&at={at}")), then);
}

#[test]
fn the_trial_balance_sums_to_zero_in_every_currency() {
    let server = TestServer::start();
    for (number, currency) in ["USD", "JPY", "KWD", "EUR"].into_iter().enumerate() {
        let amount = 100 + number;
        let body =
            |capture: &str| json!({"amount": amount, "currency": currency, "capture": capture});
        let key = |step: &str| format!("{currency}_{step}");
        let id = server.pay(&key("charge"), &body("automatic")).of(201).id();
        server.refund(&id, &key("part"), 7).of(200);
        server.merchant_2().pay(&key("hold"), &body("manual")).of(201);
    }
    let trial = server.admin().get("/api/ledger").of(200).json;
    let totals = trial["totals"].as_array().unwrap();
    assert_eq!(totals.len(), 4);
    for total in totals {
        assert_eq!((&total["balance"], &total["pending"]), (&json!(0), &json!(0)));
    }
    let of = |kind: &str, currency: &str| {
        let accounts = trial["accounts"].as_array().unwrap();
        let of = |row: &&Value| row["kind"] == kind && row["currency"] == currency;
        accounts.iter().find(of).unwrap().clone()
    };
    let row = |kind: &str, balance: i64, pending: i64, count: u64| json!({"kind": kind, "currency": "KWD", "balance": balance, "pending": pending, "count": count});
    assert_eq!(of("merchant", "KWD"), row("merchant", 95, 102, 2));
    assert_eq!(of("customer", "KWD"), row("customer", -95, -102, 2));
    server.admin().reconciles();
}

#[test]
fn a_customer_of_a_name_is_one_account_at_a_merchant_and_another_at_the_next() {
    let server = TestServer::start();
    let pay = |client: &Client, key: &str, amount: i64| {
        let body = json!({"amount": amount, "currency": "USD", "customerId": "ann"});
        client.pay(key, &body).of(201).id()
    };
    let first = pay(&server, "first", 100);
    pay(&server, "second", 50);
    pay(&server.merchant_2(), "first", 7);
    assert_eq!(server.balance("customer:ann", "USD"), (-150, 0));
    assert_eq!(server.merchant_2().balance("customer:ann", "USD"), (-7, 0));
    let entries = |client: &Client| account(client, "customer:ann", "")["entries"].clone();
    assert_eq!(entries(&server).as_array().unwrap().len(), 2);
    assert_eq!(entries(&server.merchant_2()).as_array().unwrap().len(), 1);
    server.refund_all(&first).of(200);
    assert_eq!(server.balance("customer:ann", "USD"), (-50, 0));
    server.admin().reconciles();
}

#[test]
fn an_account_that_was_never_used_is_empty_for_those_who_may_see_it() {
    let server = TestServer::start();
    let other = server.merchant_2().charge("order", 100).of(201).id();
    let empty =
        |name: &str| json!({"accountId": name, "balances": [], "entries": [], "next": null});
    for name in [MERCHANT, "customer:nobody"] {
        assert_eq!(account(&server, name, ""), empty(name));
        assert_eq!(account(&server.admin(), name, ""), empty(name));
    }
    let failed = server.charge_with("tok_declined", "no", 100).of(201).id();
    let name = format!("customer:{failed}");
    assert_eq!(account(&server, &name, ""), empty(&name));
    for name in [
        "merchant:merchant_2",
        "merchant:merchant_3",
        &format!("customer:{other}"),
        "customer:pay_0192f0c1a7d47a0b8d3f4c5e6a7b8c9d",
        "bank:1",
        "merchant",
        "customer:",
    ] {
        server.get(&format!("/api/ledger/{name}")).problem(404, "account_not_found");
    }
    assert_eq!(server.admin().balance(&format!("customer:{other}"), "USD"), (-100, 0));
}

#[test]
fn a_reconciliation_counts_the_books_anew_and_is_kept() {
    let server = TestServer::start();
    let admin = server.admin();
    let first = admin.reconciles();
    assert_eq!(first["currencies"], json!([]));
    let id = server.charge("order", 100).of(201).id();
    server.refund(&id, "part", 30).of(200);
    server.authorize("hold", 50).of(201);
    let run = admin.reconciles();
    let fields = [
        "balanced",
        "chainHead",
        "checks",
        "currencies",
        "durationMs",
        "id",
        "sequence",
        "startedAt",
        "trigger",
    ];
    assert_eq!(run["trigger"], "request");
    assert!(run.as_object().unwrap().keys().eq(fields), "{run:#}");
    assert!(run["id"].as_str().unwrap().starts_with("rec_"));
    let usd =
        json!([{"currency": "USD", "totalDebits": 130, "totalCredits": 130, "difference": 0}]);
    assert_eq!(run["currencies"], usd);
    for check in run["checks"].as_array().unwrap() {
        assert!(check.as_object().unwrap().keys().eq(["checked", "failures", "name", "ok"]));
    }
    let head = run["chainHead"].as_str().unwrap();
    assert!(head.len() == 64 && head != first["chainHead"]);
    let trial = admin.get("/api/ledger").of(200).json;
    assert!(run["sequence"].as_u64() <= trial["sequence"].as_u64());

    let runs = admin.all("/api/reconcile?limit=1");
    let place = |run: &Value| runs.iter().position(|kept| kept == run);
    assert!(place(&run).unwrap() < place(&first).unwrap(), "newest first");
}

#[test]
fn the_books_balance_at_every_moment_while_payments_come_in() {
    let server = TestServer::start();
    at_once(5, |number| match number {
        0 => (0..10).for_each(|_| drop(server.admin().reconciles())),
        _ => (0..15).for_each(|round| {
            let key = |step: &str| format!("{step}_{number}_{round}");
            let id = server.authorize(&key("hold"), 100).of(201).id();
            server.capture(&id, &key("take"), 80).of(200);
            server.refund(&id, &key("part"), 20).of(200);
        }),
    });
    let run = server.admin().reconciles();
    assert_eq!(run["currencies"][0]["totalDebits"], 4 * 15 * 100);
    assert_eq!(server.balance(MERCHANT, "USD"), (4 * 15 * 60, 0));
}

#[test]
fn only_an_admin_sees_the_trial_balance_and_reconciles() {
    let server = TestServer::start();
    server.get("/api/ledger").problem(403, "forbidden");
    server.get("/api/reconcile").problem(403, "forbidden");
    server.post("/api/reconcile", "", &json!({})).problem(403, "forbidden");
    let nobody = server.client("wrong");
    nobody.get("/api/ledger").problem(401, "unauthenticated");
    let runs = server.admin().all("/api/reconcile");
    assert!(runs.iter().all(|run| run["trigger"] == "schedule"), "{runs:?}");
}
