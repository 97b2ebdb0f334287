//! Making and changing webhook endpoints, by the API and by the configuration, and where they may be.

use crate::{
    client::Client,
    receiver::{Conduct, Receiver},
    server::TestServer,
    wait::eventually,
    webhooks::{path_of, wait_until_delivered},
};
use serde_json::{Value, json};

const ENDPOINTS: &str = "/api/webhook-endpoints";

#[track_caller]
fn make(client: &Client, url: &str) -> Value {
    client.post(ENDPOINTS, "", &json!({"url": url})).of(201).json
}

#[test]
fn an_endpoint_is_made_read_changed_listed_and_deleted() {
    let mut server = TestServer::start();
    let receiver = Receiver::start();
    let body = json!({"url": receiver.url(), "events": ["payment.failed", "payment.*"], "description": "shop"});
    let made = server.post(ENDPOINTS, "", &body).of(201);
    assert_eq!(made.header("Location"), Some(path_of(&made.json).as_str()));
    let made = made.json;
    assert!(made["id"].as_str().unwrap().starts_with("we_"));
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!(made["events"], json!(["payment.*", "payment.failed"]));
    assert_eq!((&made["enabled"], &made["merchantId"]), (&json!(true), &json!("merchant_1")));
    let counts = json!({"events": 0, "delivered": 0, "failedAttempts": 0, "waiting": 0, "dead": 0});
    assert_eq!(made["counts"], counts);
    assert_eq!(made["failingSince"], Value::Null);
    let path = path_of(&made);
    let changed =
        server.patch(&path, &json!({"events": ["*"], "description": "other"})).of(200).json;
    assert_eq!((&changed["events"], &changed["description"]), (&json!(["*"]), &json!("other")));
    assert_eq!(changed["url"], made["url"]);
    let second = make(&server, &receiver.url());
    server.kill();
    server.restart();
    assert_eq!(server.get(&path).of(200).json, changed);
    let ids = |client: &Client, query: &str| -> Vec<Value> {
        client.all(&format!("{ENDPOINTS}{query}")).iter().map(|one| one["id"].clone()).collect()
    };
    let both = [second["id"].clone(), made["id"].clone()];
    assert_eq!(ids(&server, "?limit=1"), both);
    assert_eq!(ids(&server.admin(), ""), both);
    assert_eq!(ids(&server.merchant_2(), ""), Vec::<Value>::new());
    server.delete(&path).of(204);
    server.get(&path).problem(404, "webhook_endpoint_not_found");
    server.delete(&path).problem(404, "webhook_endpoint_not_found");
    assert_eq!(ids(&server, ""), both[..1]);
    server.charge("a", 100).of(201);
    receiver.wait_for(1);
}

#[test]
fn an_endpoint_of_another_merchant_is_not_there() {
    let server = TestServer::start();
    let receiver = Receiver::start();
    let path = path_of(&make(&server, &receiver.url()));
    let other = server.merchant_2();
    other.get(&path).problem(404, "webhook_endpoint_not_found");
    other.patch(&path, &json!({"enabled": false})).problem(404, "webhook_endpoint_not_found");
    other.delete(&path).problem(404, "webhook_endpoint_not_found");
    for action in ["rotate-secret", "test", "replay"] {
        let refused = other.post(&format!("{path}/{action}"), "", &json!({"from": 1}));
        refused.problem(404, "webhook_endpoint_not_found");
    }
    server.client("wrong").get(&path).problem(401, "unauthenticated");
    server.admin().get(&path).of(200);
    server
        .admin()
        .post(ENDPOINTS, "", &json!({"url": receiver.url()}))
        .problem(400, "validation_failed");
    let body = json!({"url": receiver.url(), "merchantId": "merchant_2"});
    server.admin().post(ENDPOINTS, "", &body).of(201);
    other.charge("a", 100).of(201);
    assert_eq!(receiver.wait_for(1)[0].json()["data"]["merchantId"], "merchant_2");
}

#[test]
fn every_fault_of_an_endpoint_is_told_at_once() {
    let server = TestServer::start();
    let body =
        json!({"url": "ftp://x", "events": ["payment.refund"], "secret": "short", "colour": 1});
    let refused = server.post(ENDPOINTS, "", &body).problem(400, "validation_failed");
    let mut fields = refused.faulty_fields();
    fields.sort_unstable();
    assert_eq!(fields, ["colour", "events", "secret", "url"]);
    for (body, field) in [
        (json!({}), "url"),
        (json!({"url": "https://8.8.8.8", "events": []}), "events"),
        (json!({"url": "https://8.8.8.8", "events": "payment.*"}), "events"),
        (json!({"url": "https://8.8.8.8", "secret": "whsec_AAAA"}), "secret"),
        (json!({"url": 7}), "url"),
    ] {
        let refused = server.post(ENDPOINTS, "", &body).problem(400, "validation_failed");
        assert_eq!(refused.faulty_fields(), [field], "{body}");
    }
    let path = path_of(&make(&server, "https://8.8.8.8/hook"));
    let refused = server.patch(&path, &json!({"enabled": "no"})).problem(400, "validation_failed");
    assert_eq!(refused.faulty_fields(), ["enabled"]);
}

#[test]
fn an_endpoint_inside_is_refused_when_it_is_made_and_when_it_is_moved() {
    let server = TestServer::start_with(&[("STRONGROOM__WEBHOOKS__ALLOW_LOOPBACK", "false")]);
    let path = path_of(&make(&server, "https://8.8.8.8/hook"));
    for url in [
        "http://shop.example/hook",
        "https://localhost/hook",
        "https://127.0.0.1:8443/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://user:word@8.8.8.8/",
        "https://2130706433/",
        "https://no-such-host.invalid/",
    ] {
        let refused = server.post(ENDPOINTS, "", &json!({"url": url}));
        assert_eq!(refused.problem(400, "validation_failed").faulty_fields(), ["url"], "{url}");
        server.patch(&path, &json!({"url": url})).problem(400, "validation_failed");
    }
}

#[test]
fn an_endpoint_that_turned_out_to_be_inside_is_not_connected_to() {
    let mut server = TestServer::start();
    let receiver = Receiver::start();
    let by_address = make(&server, &receiver.url());
    let by_name = make(&server, &receiver.url().replace("127.0.0.1", "localhost"));
    server.charge("a", 100).of(201);
    receiver.wait_for(2);
    assert!(server.terminate().success());
    server.set("STRONGROOM__WEBHOOKS__ALLOW_LOOPBACK", "false");
    server.restart();
    for endpoint in [by_address, by_name] {
        let told =
            server.post(&format!("{}/test", path_of(&endpoint)), "", &json!({})).of(200).json;
        assert_eq!(
            (&told["delivered"], &told["error"]),
            (&json!(false), &json!("address_forbidden"))
        );
    }
    assert_eq!(receiver.count(), 2, "nothing was sent");
}

#[test]
fn a_target_inside_is_open_only_by_the_operators_word() {
    let allow = ("STRONGROOM__WEBHOOKS__ALLOW_NETWORKS", "10.1.0.0/16, 192.0.2.7");
    let server = TestServer::start_with(&[allow]);
    make(&server, "https://10.1.2.3/hook");
    make(&server, "https://192.0.2.7/hook");
    for url in ["https://10.2.0.1/", "https://192.0.2.8/", "http://10.1.2.3/"] {
        server.post(ENDPOINTS, "", &json!({"url": url})).problem(400, "validation_failed");
    }
}

#[test]
fn a_merchant_has_no_more_endpoints_than_allowed() {
    let server = TestServer::start_with(&[("STRONGROOM__WEBHOOKS__ENDPOINTS_PER_MERCHANT", "2")]);
    let receiver = Receiver::start();
    let first = make(&server, &receiver.url());
    make(&server, &receiver.url());
    let body = json!({"url": receiver.url()});
    server.post(ENDPOINTS, "", &body).problem(422, "too_many_webhook_endpoints");
    server.merchant_2().post(ENDPOINTS, "", &body).of(201);
    server.delete(&path_of(&first)).of(204);
    make(&server, &receiver.url());
}

#[test]
fn an_endpoint_that_is_switched_off_gets_what_it_missed_when_it_is_on_again() {
    let mut server = TestServer::start();
    let receiver = Receiver::start();
    let path = path_of(&make(&server, &receiver.url()));
    server.charge("a", 100).of(201);
    wait_until_delivered(&server, &path, 1);
    let off = server.patch(&path, &json!({"enabled": false})).of(200).json;
    assert_eq!(off["disabledReason"], "requested");
    for key in ["b", "c"] {
        server.charge(key, 100).of(201);
    }
    server
        .post(&format!("{path}/replay"), "", &json!({"from": 1}))
        .problem(409, "webhook_endpoint_disabled");
    server.terminate();
    server.restart();
    assert_eq!(server.get(&path).of(200).json["counts"]["waiting"], 2);
    assert_eq!(receiver.count(), 1);
    server.patch(&path, &json!({"enabled": true})).of(200);
    let mut numbers: Vec<u64> = receiver.wait_for(3).iter().map(|got| got.sequence()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn an_event_that_nobody_wanted_cannot_be_redelivered() {
    let server = TestServer::start();
    server.charge("a", 100).of(201);
    let event = server.get("/api/events").of(200).json["data"][0]["id"].clone();
    let event = event.as_str().unwrap();
    let path = format!("/api/events/{event}/redeliver");
    server.post(&path, "", &json!({})).problem(409, "no_webhook_endpoint");
    make(&server, "https://8.8.8.8/later");
    server.post(&path, "", &json!({})).problem(409, "no_webhook_endpoint");
    let found = server.get(&format!("/api/events/{event}/deliveries")).of(200).json;
    assert_eq!(found, json!({"data": [], "endpoints": []}));
    let other = event.replace("evt_", "txn_");
    server.get(&format!("/api/events/{other}")).problem(404, "event_not_found");
}

#[test]
fn an_endpoint_of_the_configuration_is_like_any_other_but_changed_there() {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NEXT: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let mut server = TestServer::start();
    let (first, second) = (Receiver::start(), Receiver::start());
    assert!(server.terminate().success());
    let configured =
        |url: &str, secret: &str| format!("webhook_url = \"{url}\"\nwebhook_secret = \"{secret}\"");
    server.configure_merchant_1(&configured(&first.url(), SECRET));
    server.restart();
    server.charge("a", 100).of(201);
    first.wait_for(1)[0].verify(SECRET).unwrap();
    let endpoint = server.get(ENDPOINTS).of(200).json["data"][0].clone();
    assert_eq!((&endpoint["origin"], &endpoint["events"]), (&json!("config"), &json!(["*"])));
    let path = path_of(&endpoint);
    wait_until_delivered(&server, &path, 1);
    let moved = json!({"url": second.url()});
    server.patch(&path, &moved).problem(409, "webhook_endpoint_configured");
    server.delete(&path).problem(409, "webhook_endpoint_configured");
    server
        .post(&format!("{path}/rotate-secret"), "", &json!({}))
        .problem(409, "webhook_endpoint_configured");
    // Another place and secret: the same endpoint, its numbers go on, and both secrets sign for a while.
    assert!(server.terminate().success());
    server.configure_merchant_1(&configured(&second.url(), NEXT));
    server.restart();
    server.charge("b", 100).of(201);
    let got = second.wait_for(1).remove(0);
    got.verify(SECRET).unwrap();
    got.verify(NEXT).unwrap();
    assert_eq!(got.sequence(), 2);
    assert!(!server.logs().contains(&SECRET[6..]) && !server.logs().contains(&NEXT[6..]));
    assert!(server.terminate().success());
    server.configure_merchant_1("");
    server.restart();
    assert_eq!(server.get(ENDPOINTS).of(200).json["data"], json!([]));
}

#[test]
fn a_hanging_endpoint_neither_delays_the_others_nor_the_stop() {
    let mut server = TestServer::start();
    let (hanging, healthy) = (Receiver::start_with(Conduct::Hang), Receiver::start());
    make(&server, &hanging.url());
    let path = path_of(&make(&server, &healthy.url()));
    for number in 0..20 {
        server.charge(&number.to_string(), 100).of(201);
    }
    wait_until_delivered(&server, &path, 20);
    assert!(server.terminate().success());
    server.restart();
    let before = hanging.count();
    eventually("it is tried again", || (hanging.count() > before).then_some(()));
    assert_eq!(healthy.count(), 20);
}
