//! Webhooks across the end of the process: nothing is lost, and little is sent twice.

use crate::{
    receiver::{Conduct, Receiver},
    server::TestServer,
    wait::eventually,
    webhooks::{
        PATIENT, QUICK, deliveries, endpoint, endpoint_for, event_of, path_of, text,
        wait_for_state, wait_until_delivered,
    },
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

#[test]
fn kill_9_in_the_middle_loses_no_event_and_keeps_each_payments_order() {
    let mut server =
        TestServer::start_with(&[QUICK, ("STRONGROOM__WEBHOOKS__JITTER_PERCENT", "0")]);
    let receiver = Receiver::start_with(Conduct::Slow(Duration::from_millis(2)));
    let made = endpoint(&server, &receiver);
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for round in 0..4 {
        for number in 0..25 {
            let key = format!("{round}-{number}");
            let id = server.charge(&key, 100).of(201).id();
            server.refund(&id, &format!("{key}-part"), 10).of(200);
            server.refund_all(&id).of(200);
            let kinds = ["payment.completed", "payment.partially_refunded", "payment.refunded"];
            expected.insert(id, kinds.map(str::to_owned).to_vec());
        }
        server.kill();
        server.restart();
    }
    eventually("all events arrived", || {
        let endpoint = server.get(&path_of(&made)).of(200).json;
        (endpoint["counts"]["waiting"] == 0).then_some(())
    });
    // By the first arrival of each event: what was under way at a kill came twice, under the same id.
    let mut firsts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for got in receiver.got() {
        if seen.insert(got.id().to_owned()) {
            firsts.entry(got.payment()).or_default().push(got.kind());
        }
    }
    assert_eq!(firsts, expected);
    let mut numbers: Vec<u64> = receiver.got().iter().map(|got| got.sequence()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (1..=300).collect::<Vec<u64>>(), "each number once, none missing");
}

#[test]
fn progress_survives_a_clean_stop_to_the_last_event() {
    let mut server = TestServer::start();
    let receiver = Receiver::start();
    let made = endpoint(&server, &receiver);
    for number in 0..30 {
        server.charge(&number.to_string(), 100).of(201);
    }
    wait_until_delivered(&server, &path_of(&made), 30);
    assert!(server.terminate().success());
    server.restart();
    let counts = server.get(&path_of(&made)).of(200).json["counts"].clone();
    assert_eq!((&counts["delivered"], &counts["waiting"]), (&json!(30), &json!(0)));
    server.charge("last", 100).of(201);
    let told = receiver.wait_for(31);
    assert_eq!(told.len(), 31, "nothing was sent twice");
    assert_eq!(told[30].sequence(), 31);
}

#[test]
fn a_start_from_a_snapshot_knows_endpoints_numbers_and_tries_as_the_whole_journal_does() {
    let mut server = TestServer::start_with(&[PATIENT]);
    let (receiver, bad) = (Receiver::start(), Receiver::start_with(Conduct::FailAmount(100)));
    let made = endpoint(&server, &receiver);
    let failing = endpoint_for(&server, &bad, &["payment.completed"]);
    for number in 0..5 {
        let id = server.charge(&number.to_string(), 100).of(201).id();
        server.refund_all(&id).of(200);
    }
    bad.wait_for(5);
    receiver.wait_for(10);
    let settled = |server: &TestServer| {
        eventually("progress is journaled", || {
            let counts = server.get(&path_of(&made)).of(200).json["counts"].clone();
            let failed = server.get(&path_of(&failing)).of(200).json["counts"].clone();
            (counts["waiting"] == 0 && failed["failedAttempts"] == 5).then_some(())
        });
    };
    settled(&server);
    server.admin().post("/api/snapshot", "", &json!({})).of(200);
    server.charge("later", 5).of(201);
    receiver.wait_for(11);
    bad.wait_for(6);
    eventually("progress is journaled", || {
        let counts = server.get(&path_of(&failing)).of(200).json["counts"].clone();
        (counts["delivered"] == 1).then_some(())
    });
    settled(&server);
    let shown = |server: &TestServer| {
        let deliveries: Vec<Value> = server
            .all("/api/events")
            .iter()
            .map(|event| deliveries(server, text(event, "id"))["endpoints"].clone())
            .collect();
        (server.get("/api/webhook-endpoints").of(200).json, deliveries)
    };
    let before = shown(&server);
    server.kill();
    server.restart();
    assert_eq!(shown(&server), before);
    server.charge("last", 5).of(201);
    assert_eq!(receiver.wait_for(12)[11].sequence(), 12);
    assert_eq!(bad.wait_for(7)[6].sequence(), 7);
}

#[test]
fn a_failing_endpoints_tries_survive_a_kill() {
    let mut server = TestServer::start_with(&[PATIENT]);
    let receiver = Receiver::start_with(Conduct::Answer(500, ""));
    endpoint(&server, &receiver);
    let payment = server.charge("a", 100).of(201).id();
    let event = event_of(&server, &payment, "payment.completed");
    let before = wait_for_state(&server, &event, "retrying");
    server.kill();
    server.restart();
    let after = deliveries(&server, &event);
    assert_eq!(after, before);
    assert_eq!(receiver.count(), 1, "it waits for its time");
}
