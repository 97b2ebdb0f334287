//! Looking at the past: one payment, one account, or a whole server that shows the books as they stood.

use crate::{
    client::Client,
    proof::fingerprint,
    server::{ADMIN_KEY, Beside, MERCHANT_1_KEY, TestServer},
    wait::{at_once, eventually},
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt};

#[test]
fn a_payment_can_be_seen_as_it_stood_at_any_sequence_or_time() {
    let mut server = TestServer::start();
    let before = server.charge("other", 100).of(201).id();
    let first = server.authorize("order", 1000).of(201);
    let id = first.id();
    let states = [
        first.json.clone(),
        server.capture(&id, "c", 700).of(200).json,
        server.refund(&id, "r1", 200).of(200).json,
        server.refund(&id, "r2", 500).of(200).json,
    ];
    let trail = server.all(&format!("/api/payments/{id}/events"));
    let sequences: std::collections::BTreeSet<u64> =
        trail.iter().map(|step| step["sequence"].as_u64().unwrap()).collect();
    server.kill();
    server.restart();
    let at = |cut: &str| server.get(&format!("/api/payments/{id}?at={cut}"));
    assert_eq!(sequences.len(), states.len());
    for (sequence, state) in sequences.iter().zip(&states) {
        assert_eq!(at(&sequence.to_string()).of(200).json, *state);
    }
    let of_last = states[3]["updatedAt"].as_str().unwrap();
    assert_eq!(at(of_last).of(200).json, states[3]);
    let first_sequence = *sequences.first().unwrap();
    at(&(first_sequence - 1).to_string()).problem(404, "payment_not_found");
    at("1970-01-01T00:00:00Z").problem(404, "payment_not_found");
    at("yesterday").problem(400, "validation_failed");
    server.get(&format!("/api/payments/{before}?at={first_sequence}")).of(200);
}

/// Every path that can be read, as an admin sees them, and what is answered there.
fn answers(client: &Client, paths: &[String]) -> Vec<(String, u16, String)> {
    let answer = |path: &String| {
        let mut answer = client.get(path);
        if path == "/api/ledger" {
            // Its position moves on with entries that are no payment's.
            answer.json.as_object_mut().unwrap().remove("sequence").unwrap();
            return (path.clone(), answer.status, answer.json.to_string());
        }
        (path.clone(), answer.status, answer.text())
    };
    paths.iter().map(answer).collect()
}

#[test]
fn a_read_only_server_shows_the_books_as_they_stood_and_refuses_every_write() {
    // A moment that is yet to come is now: no key is forgotten because of it.
    let mut server = TestServer::start_with(&[("STRONGROOM__IDEMPOTENCY__RETENTION", "1h")]);
    let early = server.authorize("early", 1000).of(201).id();
    let late = server.charge("late", 400).of(201).id();
    let ids = [&early, &late];
    let mut paths: Vec<String> =
        ids.iter().map(|id| format!("/api/payments/{id}/events")).collect();
    paths.extend(ids.iter().map(|id| format!("/api/payments/{id}")));
    paths.extend(ids.iter().map(|id| format!("/api/ledger/customer:{id}")));
    let others = [
        "/api/payments",
        "/api/payments?status=authorized",
        "/api/ledger",
        "/api/ledger/merchant:merchant_1",
        "/api/idempotency/late?merchantId=merchant_1",
        "/api/idempotency/take?merchantId=merchant_1",
    ];
    paths.extend(others.map(str::to_owned));
    // What the server itself answered at the time, before anything else happened.
    let then = answers(&server.admin(), &paths);
    let sequence = server.admin().get("/api/ledger").of(200).json["sequence"].clone();
    let time = server.payment(&late)["updatedAt"].clone();
    server.capture(&early, "take", 700).of(200);
    let now = answers(&server.admin(), &paths);
    assert_ne!(then, now);
    let (sequence, time) = (sequence.to_string(), time.as_str().unwrap().to_owned());
    let check = |server: &TestServer| {
        for (arguments, expected) in [
            (&["--read-only", "--at", &sequence][..], &then),
            (&["--read-only", "--at", &time], &then),
            (&["--read-only", "--at", "2999-01-01T00:00:00Z"], &now),
            (&["--read-only"], &now),
        ] {
            let shown = server.beside(arguments);
            let admin = shown.client(ADMIN_KEY);
            check_writes_are_refused(&shown, &early);
            assert_eq!(answers(&admin, &paths), *expected, "{arguments:?}");
            let ready = admin.get("/ready").of(200).json;
            assert_eq!((&ready["status"], &ready["readOnly"]), (&json!("ready"), &json!(true)));
            assert_eq!(ready["sequence"], admin.get("/api/ledger").of(200).json["sequence"]);
            admin.get("/health").of(200);
            let run = admin.reconciles();
            assert_eq!(admin.all("/api/reconcile")[0], run);
            assert!(shown.announced().contains("read-only: the books as they st"));
        }
    };
    // Beside the server that goes on, then on what it left, then on a backup of that.
    check(&server);
    server.charge("goes_on", 100).of(201);
    server.void(&server.authorize("held", 5).of(201).id()).of(200);
    server.kill();
    let told = server.tell(&["backup", "backup"]);
    assert!(told.status.success());
    let of_backup = server.beside(&["--data", "backup", "--read-only", "--at", &sequence]);
    assert_eq!(answers(&of_backup.client(ADMIN_KEY), &paths), then);
}

#[track_caller]
fn check_writes_are_refused(shown: &Beside, payment: &str) {
    let client = shown.client(MERCHANT_1_KEY);
    for refused in [
        client.charge("new", 100),
        client.charge("late", 400),
        client.pay("", &json!({"amount": "nonsense"})),
        client.capture(payment, "take", 700),
        client.capture_all(payment),
        client.void(payment),
        client.refund_all(payment),
    ] {
        let refused = refused.problem(403, "read_only");
        assert!(refused.text().contains("at entry "), "{}", refused.text());
    }
    let admin = shown.client(ADMIN_KEY);
    admin.post("/api/snapshot", "", &json!({})).problem(403, "read_only");
    let stranger = shown.client("sk_test_nobody");
    stranger.charge("new", 100).problem(401, "unauthenticated");
}

#[test]
fn a_read_only_server_changes_nothing_on_disk_and_keeps_nobody_from_it() {
    let mut server = TestServer::start();
    let paid = server.charge("order", 100).of(201).json;
    server.terminate();
    let journal = server.data().join("journal");
    fs::set_permissions(&journal, fs::Permissions::from_mode(0o500)).unwrap();
    let before = fingerprint(&server.data());
    let shown = server.beside(&["--read-only"]);
    let client = shown.client(MERCHANT_1_KEY);
    assert_eq!(client.payment(paid["id"].as_str().unwrap()), paid);
    client.charge("new", 100).problem(403, "read_only");
    assert_eq!(fingerprint(&server.data()), before);
    fs::set_permissions(&journal, fs::Permissions::from_mode(0o700)).unwrap();
    server.restart();
    server.charge("next", 100).of(201);
    assert_eq!(client.all("/api/payments").len(), 1, "it does not follow");
}

#[test]
fn a_moment_is_only_asked_for_of_a_server_that_is_read_only() {
    let server = TestServer::start();
    for (arguments, word) in [
        (&["serve", "--at", "5"][..], "--read-only"),
        (&["serve", "--read-only", "--at", "yesterday"], "yesterday"),
        (&["serve", "--read-only", "--data", "nowhere", "--listen", "127.0.0.1:0"], "nowhere"),
    ] {
        let refused = server.program(arguments).output().unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(word), "no {word} in: {said}");
    }
    assert!(!server.path("nowhere").exists());
}

#[test]
fn a_look_back_may_divide_what_was_written_at_once_and_a_restore_may_not() {
    let server = TestServer::start();
    let client = server.client(MERCHANT_1_KEY);
    let mut round = 0;
    // Payments that come while the disk works are written at once.
    let (first, last_before) = eventually("two payments are written at once", || {
        at_once(8, |number| client.charge(&format!("{round}-{number}"), 100).of(201));
        round += 1;
        let printed = server.tell(&["journal", "print", "--json"]);
        let printed = String::from_utf8(printed.stdout).unwrap();
        let entries: Vec<Value> =
            printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let same = |pair: &&[Value]| {
            pair[0]["entry"] == "payment" && pair[0]["blockHash"] == pair[1]["blockHash"]
        };
        let first = entries.windows(2).find(same)?[0].clone();
        let block = &first["blockHash"];
        let before = entries.iter().rfind(|entry| {
            entry["sequence"].as_u64() < first["sequence"].as_u64() && entry["blockHash"] != *block
        });
        Some((first["sequence"].as_u64().unwrap(), before.unwrap()["sequence"].clone()))
    });
    let at = first.to_string();
    let beside = server.beside(&["--read-only", "--at", &at]);
    let shown = beside.client(MERCHANT_1_KEY);
    let account = "/api/ledger/merchant:merchant_1";
    let then = server.get(&format!("{account}?at={first}")).of(200).text();
    assert_eq!(shown.get(account).of(200).text(), then);
    assert_eq!(shown.get("/ready").of(200).json["sequence"], first);
    let told = server.tell(&["backup", "backup"]);
    assert!(told.status.success());
    let restore = ["restore", "backup", "--data", "new", "--until", &at, "--json"];
    let restored = server.program(&restore).output().unwrap();
    let restored: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert_eq!(restored["entries"], last_before);
}
