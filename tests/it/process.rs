//! The process: when it does not start, how it stops, and that too much at once or a client that hangs up cuts no
//! payment in half.

use crate::{
    metrics::value,
    server::{Folder, MERCHANT_1_KEY, TestServer, check_refusal},
    wait::{at_once, eventually},
};
use serde_json::json;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

/// The provider's answer to `tok_timeout` is out for this long, and its request in flight.
const ANSWER_WITHIN: (&str, &str) = ("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "5000");
const FREE_PORT: [&str; 2] = ["--listen", "127.0.0.1:0"];

#[test]
fn a_server_with_a_shipped_test_key_listens_on_no_address_but_a_loopback_one() {
    let folder = Folder::new();
    let refused = folder.run([], ["--listen", "0.0.0.0:0"]);
    check_refusal(&refused, 2, &["0.0.0.0:0", "merchant_1/test", "admin/test"]);
    let refused = folder.run([("STRONGROOM__HTTP__LISTEN", "[::]:0")], []);
    check_refusal(&refused, 2, &["[::]:0", "merchant_1/test"]);
    assert!(!folder.path("data").exists(), "nothing was touched");
}

#[test]
fn a_configuration_that_is_wrong_is_refused_with_the_keys_full_name() {
    let folder = Folder::new();
    for (variable, value, key) in [
        ("STRONGROOM__HTTP__LISTN", "127.0.0.1:0", "http.listn"),
        ("STRONGROOM__HTTP__WORKERS", "many", "http.workers"),
        ("STRONGROOM__JOURNAL__SEGMENT_BYTES", "1048577", "journal.segment_bytes"),
        ("STRONGROOM__IDEMPOTENCY__RETENTION", "a while", "idempotency.retention"),
        ("STRONGROOM__PROVIDER__SANDBOX__DECLINE_AT", "0", "provider.sandbox.decline_at"),
        ("STRONGROOM__NOTHING", "1", "nothing"),
    ] {
        let refused = folder.run([(variable, value)], FREE_PORT);
        check_refusal(&refused, 2, &[key, variable]);
    }
    for (text, key) in [
        ("[payments]\nauthorisation_ttl = \"7d\"", "payments.authorisation_ttl"),
        ("[http]\nbody_bytes_max = 1", "http.body_bytes_max"),
        ("[[merchants]]\nid = \"a b\"\nkeys = []", "merchants[0].id"),
        ("[http\n", "strongroom.toml"),
    ] {
        fs::write(folder.path("strongroom.toml"), text).unwrap();
        check_refusal(&folder.run([], FREE_PORT), 2, &[key]);
    }
    fs::remove_file(folder.path("strongroom.toml")).unwrap();
    check_refusal(&folder.run([], FREE_PORT), 2, &["strongroom.toml"]);
    check_refusal(&folder.run([], ["--listn", "127.0.0.1:0"]), 2, &["--listn"]);
    assert!(!folder.path("data").exists(), "nothing was touched");
}

#[test]
fn a_second_process_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let server = TestServer::start();
    let charge = server.charge("order", 100).of(201);
    check_refusal(&server.start_second(), 5, &["data"]);
    assert_eq!(server.payment(&charge.id()), charge.json);
    server.charge("other", 100).of(201);
}

#[test]
fn a_port_that_is_taken_is_an_io_error() {
    let server = TestServer::start();
    let address = server.address().to_string();
    let refused = Folder::new().run([], ["--listen", address.as_str()]);
    check_refusal(&refused, 4, &[&address]);
}

#[test]
fn a_server_says_what_it_recovered_and_where_it_listens() {
    let mut server = TestServer::start();
    let said = server.announced();
    assert!(said.contains("recovered 0 payments"), "{said}");
    assert!(said.contains(&format!("listening on http://{}", server.address())));
    server.charge("order", 100).of(201);
    server.charge("other", 100).of(201);
    server.kill();
    server.restart();
    assert!(server.announced().contains("recovered 2 payments"), "{}", server.announced());
}

#[test]
fn a_server_that_is_asked_to_stop_finishes_what_it_works_on_and_takes_nothing_more() {
    let mut server = TestServer::start_with(&[ANSWER_WITHIN]);
    let answers = at_once(3, |number| match number {
        0 => Some(server.charge_with("tok_slow", "slow", 100).of(201)),
        1 => Some(server.charge_with("tok_timeout", "out", 100).of(202)),
        _ => {
            server.in_progress("out");
            eventually("it has begun", || {
                (server.get("/api/idempotency/slow").status == 200).then_some(())
            });
            // Half of it has come when the server is told to stop, the rest when it takes no more.
            let body = json!({"amount": 100, "currency": "USD"}).to_string();
            let mut late = TcpStream::connect(server.address()).unwrap();
            let head = format!(
                "POST /api/payments HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {MERCHANT_1_KEY}\r\n\
                 Idempotency-Key: late\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            late.write_all(head.as_bytes()).unwrap();
            server.ask_to_stop();
            eventually("nobody is let in any more", || TcpStream::connect(server.address()).err());
            server.says("no more payments are taken");
            late.write_all(body.as_bytes()).unwrap();
            let mut refused = String::new();
            late.read_to_string(&mut refused).unwrap();
            for words in ["HTTP/1.1 503 ", "\"code\":\"not_serving\"", "retry-after: "] {
                assert!(refused.contains(words), "{words}: {refused}");
            }
            None
        }
    });
    assert!(server.wait_for_exit().success());
    server.restart();
    for answer in answers.iter().flatten() {
        let key = answer.json["idempotencyKey"].as_str().unwrap();
        let kept = server.get(&format!("/api/idempotency/{key}")).of(200).json;
        assert_eq!(kept["paymentId"], answer.id());
    }
    server.get("/api/idempotency/late").of(404);
    server.admin().reconciles();
}

#[test]
fn a_server_that_drains_is_not_ready_and_goes_on_until_the_grace_is_over() {
    let mut server = TestServer::start_with(&[("STRONGROOM__HTTP__DRAIN_GRACE", "1h")]);
    let before = server.charge("before", 100).of(201);
    assert_eq!(before.header("Connection"), None);
    server.get("/ready").of(200);
    server.ask_to_stop();
    let not_ready = eventually("it is not ready any more", || {
        Some(server.get("/ready")).filter(|ready| ready.status != 200)
    });
    not_ready.problem(503, "draining");
    assert_eq!(value(&server, "strongroom_ready"), 0.0, "nor do the metrics say so");
    server.get("/health").of(200);
    let after = server.charge("after", 100).of(201);
    assert_eq!(after.header("Connection"), Some("close"), "the client looks for another server");
    // The operator has waited long enough.
    server.ask_to_stop();
    eventually("nobody is let in any more", || TcpStream::connect(server.address()).err());
    assert!(server.wait_for_exit().success());
    server.restart();
    assert_eq!(server.charge("after", 100).of(201).body, after.body);
}

#[test]
fn a_server_that_is_asked_to_stop_twice_still_seals_its_journal() {
    let mut server = TestServer::start();
    for round in 0..5 {
        let charge = server.charge(&format!("order_{round}"), 100).of(201);
        server.ask_to_stop();
        server.ask_to_stop();
        assert!(server.wait_for_exit().success(), "{}", server.logs());
        server.restart();
        assert_eq!(server.payment(&charge.id()), charge.json);
    }
}

#[test]
fn a_request_without_end_does_not_keep_the_server_from_stopping() {
    let mut server = TestServer::start_with(&[
        ("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "60000"),
        // A fifth of it is left for the seal, also on a machine that stands still for a moment.
        ("STRONGROOM__HTTP__DRAIN_TIMEOUT_MS", "4000"),
    ]);
    at_once(2, |number| match number {
        0 => {
            let body = json!({"amount": 100, "currency": "USD", "paymentMethod": "tok_timeout"});
            assert!(server.try_post("/api/payments", "out", &body.to_string()).is_err());
        }
        _ => {
            server.in_progress("out");
            server.ask_to_stop();
        }
    });
    assert_eq!(server.wait_for_exit().code(), Some(1), "it says that something was cut off");
    server.restart();
    server.get("/api/idempotency/out").of(404);
    server.admin().reconciles();
}

#[test]
fn a_server_that_is_asked_to_stop_seals_its_journal() {
    let entries = |server: &TestServer| {
        let said = server.announced();
        let count = regex::Regex::new(r"at entry (\d+)").unwrap();
        count.captures(&said).unwrap()[1].parse::<u64>().unwrap()
    };
    let mut server = TestServer::start_with(&[("STRONGROOM__JOURNAL__SEAL_AFTER_MS", "60000")]);
    let recovered = [false, true].map(|sealed| {
        let before = entries(&server);
        server.charge(&format!("order_{sealed}"), 100).of(201);
        if sealed {
            assert!(server.terminate().success());
        } else {
            server.kill();
        }
        server.restart();
        entries(&server) - before
    });
    assert_eq!(recovered[1], recovered[0] + 1, "the seal is one entry more");
}

#[test]
fn more_than_may_be_worked_on_at_once_is_turned_away_before_it_has_begun() {
    let server = TestServer::start_with(&[ANSWER_WITHIN, ("STRONGROOM__HTTP__IN_FLIGHT_MAX", "2")]);
    let paid = server.charge("paid", 100).of(201).id();
    let answers = at_once(3, |number| match number {
        0 => server.charge_with("tok_timeout", "first", 100).of(202),
        1 => server.charge_with("tok_timeout", "second", 100).of(202),
        _ => {
            server.in_progress("first");
            server.in_progress("second");
            let refused = server.refund(&paid, "part", 10).problem(503, "overloaded");
            assert!(refused.header("Retry-After").is_some());
            let refused = server.charge("third", 100).problem(503, "overloaded");
            server.get("/api/idempotency/third").of(404);
            assert_eq!(server.status(&paid), "completed", "reads go on");
            refused
        }
    });
    assert!(answers[2].header("Retry-After").unwrap().parse::<u32>().unwrap() >= 1);
    assert!(!server.charge("third", 100).of(201).is_replay());
    server.refund(&paid, "part", 10).of(200);
    assert_eq!(server.all("/api/payments").len(), 4);
    server.admin().reconciles();
}

#[test]
fn a_client_that_hangs_up_does_not_cut_its_payment_in_half() {
    let server = TestServer::start_with(&[("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "20000")]);
    let body = json!({"amount": 100, "currency": "USD", "paymentMethod": "tok_slow"}).to_string();
    let request = |key: &str| {
        format!(
            "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n\
             POST /api/payments HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {MERCHANT_1_KEY}\r\n\
             Idempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let look = |key: &str| server.get(&format!("/api/idempotency/{key}"));
    // A machine that stands still may be too late for one.
    let mut payments = 0;
    let (stream, key) = eventually("one is seen while it is worked on", || {
        payments += 1;
        let key = format!("order_{payments}");
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(request(&key).as_bytes()).unwrap();
        let found = eventually("it has begun", || Some(look(&key)).filter(|it| it.status == 200));
        (found.json["state"] == "in_progress").then_some((stream, key))
    });
    // Closing a connection with an answer unread resets it: the server is told that nobody listens.
    stream.peek(&mut [0]).unwrap();
    drop(stream);
    let done = eventually("the payment is made all the same", || {
        let found = look(&key).of(200).json;
        (found["state"] == "completed").then_some(found)
    });
    let id = done["paymentId"].as_str().unwrap();
    assert_eq!(server.status(id), "completed");
    assert_eq!(server.balance("merchant:merchant_1", "USD"), (100 * payments, 0));
    let again = server.post_text("/api/payments", &key, &body).of(201);
    assert!(again.is_replay());
    assert_eq!(again.id(), id);
    server.admin().reconciles();
}
