//! How often who may ask, and that whoever asks more often is told when to come back and uses nothing up.

use crate::{
    client::Response,
    server::{MERCHANT_1_KEY, TestServer},
    wait::eventually,
};

const COUNT_LOOPBACK: (&str, &str) = ("STRONGROOM__LIMITS__LOOPBACK", "true");
/// Behind a proxy on this machine, which says who asks.
const PROXY: (&str, &str) = ("STRONGROOM__HTTP__TRUSTED_PROXIES", "127.0.0.0/8");
const ANY_ADDRESS: (&str, &str) = ("STRONGROOM__LIMITS__PER_ADDRESS_PER_SECOND", "0");

/// Asks for the payments, as a proxy does for a client at `address`.
#[track_caller]
fn ask_for(server: &TestServer, address: &str, key: &str) -> Response {
    server.client(key).get_with("/api/payments", &[("X-Forwarded-For", address)])
}

/// Held to the limit at least once among so many; the refusal.
#[track_caller]
fn until_refused(mut ask: impl FnMut() -> Response) -> Response {
    let refused = (0..1_000).map(|_| ask()).find(|answer| answer.status == 429);
    refused.expect("a refusal").problem(429, "rate_limited")
}

#[test]
fn a_key_that_asks_too_often_is_told_when_to_come_back_and_the_others_never_notice() {
    let server = TestServer::start_with(&[
        COUNT_LOOPBACK,
        ANY_ADDRESS,
        ("STRONGROOM__LIMITS__PER_KEY_PER_SECOND", "1"),
        ("STRONGROOM__LIMITS__PER_KEY_BURST", "3"),
    ]);
    let first = server.charge("order_1", 100).of(201);
    assert_eq!(first.header("RateLimit-Policy"), Some("\"key\";q=3;w=3"));
    assert_eq!(first.header("RateLimit"), Some("\"key\";r=2;t=1"));
    let mut number = 1;
    let refused = until_refused(|| {
        number += 1;
        server.charge(&format!("order_{number}"), 100)
    });
    assert_eq!(refused.header("RateLimit-Policy"), Some("\"key\";q=3;w=3"));
    assert_eq!(refused.header("RateLimit"), Some("\"key\";r=0;t=1"));
    assert_eq!(refused.header("Retry-After"), Some("1"));
    assert!(refused.header("X-Request-Id").is_some());
    server.merchant_2().charge("order", 100).of(201);
    let admin = server.admin();
    let unused = admin.get("/api/ledger").of(200);
    assert!(unused.header("RateLimit").is_some());
    let again = eventually("the limit is over", || {
        let answer = server.charge(&format!("order_{number}"), 100);
        (answer.status != 429).then_some(answer)
    });
    assert!(!again.of(201).is_replay(), "no idempotency key was used up");
}

#[test]
fn an_address_that_asks_too_often_is_turned_away_whatever_key_it_has() {
    let server = TestServer::start_with(&[
        PROXY,
        ("STRONGROOM__LIMITS__PER_ADDRESS_PER_SECOND", "1"),
        ("STRONGROOM__LIMITS__PER_ADDRESS_BURST", "3"),
    ]);
    let refused = until_refused(|| ask_for(&server, "203.0.113.9", MERCHANT_1_KEY));
    assert_eq!(refused.header("RateLimit-Policy"), Some("\"address\";q=3;w=3"));
    assert_eq!(refused.header("Retry-After"), Some("1"));
    until_refused(|| server.send("GET", "/nowhere", &[("X-Forwarded-For", "::9")], None).unwrap());
    ask_for(&server, "203.0.113.10", MERCHANT_1_KEY).of(200);
    // Of IPv6, a subscriber's whole network counts as one.
    let mut host = 0;
    until_refused(|| {
        host += 1;
        ask_for(&server, &format!("2001:db8::{host}"), MERCHANT_1_KEY)
    });
    ask_for(&server, "2001:db8:0:1::1", MERCHANT_1_KEY).of(200);
    for _ in 0..10 {
        for path in ["/health", "/ready"] {
            let headers = [("X-Forwarded-For", "203.0.113.9")];
            server.send("GET", path, &headers, None).unwrap().of(200);
        }
    }
}

#[test]
fn what_a_stranger_says_of_where_it_comes_from_is_not_believed() {
    let server = TestServer::start_with(&[
        COUNT_LOOPBACK,
        ("STRONGROOM__LIMITS__PER_ADDRESS_PER_SECOND", "1"),
        ("STRONGROOM__LIMITS__PER_ADDRESS_BURST", "3"),
        ("STRONGROOM__HTTP__TRUSTED_PROXIES", "192.0.2.1"),
    ]);
    let mut number = 0;
    until_refused(|| {
        number += 1;
        ask_for(&server, &format!("203.0.113.{number}"), MERCHANT_1_KEY)
    });
}

#[test]
fn what_a_client_writes_before_its_address_does_not_hide_it_behind_the_proxy() {
    let server = TestServer::start_with(&[
        PROXY,
        ANY_ADDRESS,
        ("STRONGROOM__LIMITS__WRONG_KEYS_PER_MINUTE", "3"),
    ]);
    // The proxy adds the client's address to what the client has sent.
    for (number, sent) in ["unknown", "127.0.0.1", "\u{e9}\u{e9}", ",,"].into_iter().enumerate() {
        let address = format!("{sent}, 203.0.113.{number}:4711");
        until_refused(|| ask_for(&server, &address, "sk_test_guess"));
    }
    // Nor does a word that is no address, which a proxy may say of whom it does not want to name.
    until_refused(|| ask_for(&server, "203.0.113.9, unknown", "sk_test_guess"));
    ask_for(&server, "203.0.113.10", MERCHANT_1_KEY).of(200);
}

#[test]
fn an_address_that_guesses_keys_is_not_listened_to_any_more_and_the_others_are() {
    let server = TestServer::start_with(&[
        PROXY,
        ANY_ADDRESS,
        ("STRONGROOM__LIMITS__WRONG_KEYS_PER_MINUTE", "3"),
    ]);
    for _ in 0..3 {
        ask_for(&server, "203.0.113.9", "sk_test_guess").problem(401, "unauthenticated");
    }
    let refused = until_refused(|| ask_for(&server, "203.0.113.9", "sk_test_guess"));
    assert_eq!(refused.header("RateLimit-Policy"), Some("\"wrong-keys\";q=3;w=60"));
    // So a right guess would not be told from a wrong one.
    ask_for(&server, "203.0.113.9", MERCHANT_1_KEY).problem(429, "rate_limited");
    ask_for(&server, "203.0.113.10", MERCHANT_1_KEY).of(200);
    // Nor by asking whether the server is ready, which shows an admin more.
    let admin = server.admin();
    let guess = |address: &str| admin.get_with("/ready", &[("X-Forwarded-For", address)]).of(200);
    assert!(guess("203.0.113.10").header("RateLimit").is_some());
    assert!(guess("203.0.113.9").header("RateLimit").is_none());
    // Whoever presents none has guessed nothing.
    for _ in 0..10 {
        let headers = [("X-Forwarded-For", "203.0.113.11")];
        let refused = server.send("GET", "/api/payments", &headers, None).unwrap();
        refused.problem(401, "unauthenticated");
    }
    ask_for(&server, "203.0.113.11", MERCHANT_1_KEY).of(200);
}

#[test]
fn requests_from_this_machine_are_not_counted_unless_that_is_asked_for() {
    let server = TestServer::start_with(&[
        ("STRONGROOM__LIMITS__PER_KEY_PER_SECOND", "1"),
        ("STRONGROOM__LIMITS__PER_KEY_BURST", "1"),
        ("STRONGROOM__LIMITS__PER_ADDRESS_PER_SECOND", "1"),
        ("STRONGROOM__LIMITS__PER_ADDRESS_BURST", "1"),
        ("STRONGROOM__LIMITS__WRONG_KEYS_PER_MINUTE", "1"),
    ]);
    for _ in 0..10 {
        assert_eq!(server.get("/api/payments").of(200).header("RateLimit"), None);
        server.client("sk_test_guess").get("/api/payments").of(401);
    }
}
