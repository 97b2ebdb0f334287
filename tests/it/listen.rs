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
    let [line, body] = eventually("the webhook is printed", || {
        let lines = listener.lines();
        let at = lines.iter().position(|line| line.contains(&payment))?;
        Some([lines[at - 1].clone(), lines[at].clone()])
    });
    assert!(line.contains("payment.completed") && line.ends_with("number 1  verified"), "{line}");
    let json: Value = serde_json::from_str(body.trim()).unwrap();
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
    eventually("the refusal is printed", || {
        let lines = listener.lines();
        let mut lines = lines.iter().filter(|line| line.contains("endpoint.test"));
        lines.any(|line| line.contains("REFUSED")).then_some(())
    });
}
