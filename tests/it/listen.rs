//! `strongroom listen`: a merchant's developer tries webhooks out on one machine.

use crate::{
    server::{Listener, TestServer},
    wait::eventually,
};
use serde_json::{Value, json};

#[test]
fn a_developer_sees_verified_webhooks_with_the_body_that_listen_prints() {
    let server = TestServer::start();
    let listener = Listener::start(&[]);
    let body = listener.lines().into_iter().find(|line| line.starts_with('{')).unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    server.post("/api/webhook-endpoints", "", &body).of(201);
    let payment = server.charge("order", 4999).of(201).id();
    let lines = eventually("the webhook is printed", || {
        let lines = listener.lines();
        lines.iter().any(|line| line.contains(&payment)).then_some(lines)
    });
    let line = lines.iter().find(|line| line.contains("payment.completed")).unwrap();
    assert!(line.ends_with("number 1  verified"), "{line}");
    let json: Value = serde_json::from_str(lines.last().unwrap().trim()).unwrap();
    assert_eq!(json["data"]["amount"], 4999);
}

#[test]
fn what_is_signed_with_another_secret_is_refused_and_counts_as_failed() {
    let server = TestServer::start();
    let listener = Listener::start(&["--secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
    let made = server.post("/api/webhook-endpoints", "", &json!({"url": listener.url()})).of(201);
    let path = format!("/api/webhook-endpoints/{}/test", made.id());
    let told = server.post(&path, "", &json!({})).of(200).json;
    assert_eq!(told["statusCode"], 400);
    assert!(told["answer"].as_str().unwrap().contains("no signature matches"), "{told}");
    assert!(
        listener
            .lines()
            .iter()
            .any(|line| line.contains("endpoint.test") && line.contains("REFUSED"))
    );
}
