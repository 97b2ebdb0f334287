//! Looking at the past.

use crate::server::TestServer;

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
