//! What a client, a clumsy operator or a sick machine can do to the server, and cannot.

use crate::{
    server::{Folder, MERCHANT_1_KEY, TestServer},
    shop::ASKS_NEVER,
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
};

#[test]
fn a_null_amount_moves_no_money() {
    let server = TestServer::start();
    let id = server.charge("order", 500).of(201).id();
    for key in ["", "r"] {
        let answer = server.command("refund", &id, key, &json!({"amount": null}));
        assert_eq!(answer.problem(400, "validation_failed").faulty_fields(), ["amount"]);
    }
    let held = server.authorize("held", 500).of(201).id();
    server
        .command("capture", &held, "c", &json!({"amount": null}))
        .problem(400, "validation_failed");
    assert_eq!(server.status(&id), "completed");
    assert_eq!(server.status(&held), "authorized");
}

#[test]
fn a_provider_that_is_down_does_not_look_like_a_full_disk() {
    let server =
        TestServer::start_with(&[("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "1"), ASKS_NEVER]);
    let paid = server.charge("before", 100).of(201).id();
    for number in 0..300 {
        server.charge_with("tok_timeout", &format!("out_{number}"), 100).of(202);
    }
    server.get("/ready").of(200);
    server.charge("after", 100).of(201);
    server.refund_all(&paid).of(200);
}

#[test]
fn a_request_id_that_could_be_a_card_number_is_replaced() {
    let server = TestServer::start();
    let headers = [("X-Request-Id", "4242424242424242")];
    let answer = server.send("GET", "/health", &headers, None).unwrap();
    assert_ne!(answer.header("X-Request-Id"), Some("4242424242424242"));
    server.says("/health");
    assert!(!server.logs().contains("4242424242424242"));
}

#[test]
fn a_key_that_was_sent_quoted_is_found_quoted_and_bare() {
    let server = TestServer::start();
    server.charge("\"quoted_1\"", 100).of(201);
    let bare = server.get("/api/idempotency/quoted_1").of(200);
    assert_eq!(server.get("/api/idempotency/%22quoted_1%22").of(200).body, bare.body);
}

#[test]
fn a_payment_has_at_most_100_refunds() {
    let server = TestServer::start();
    let id = server.charge("order", 500).of(201).id();
    for number in 0..100 {
        server.refund(&id, &format!("refund_{number}"), 1).of(200);
    }
    server.refund(&id, "one_more", 1).problem(422, "too_many_refunds");
    server.get("/api/idempotency/one_more").problem(404, "idempotency_key_not_found");
    assert_eq!(server.payment(&id)["amountRefunded"], 100);
    server.admin().reconciles();
}

/// Charges on a connection that stays open. Returns the answer's status.
fn pay(connection: &mut BufReader<TcpStream>, key: &str) -> u16 {
    let body = r#"{"amount": 100, "currency": "USD"}"#;
    let request = format!(
        "POST /api/payments HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {MERCHANT_1_KEY}\r\n\
         Idempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.get_mut().write_all(request.as_bytes()).unwrap();
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).unwrap();
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest[..3].parse().unwrap();
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        } else if line.is_empty() {
            break;
        }
    }
    let mut answer = vec![0; length];
    connection.read_exact(&mut answer).unwrap();
    status
}

#[test]
fn idle_connections_that_hold_all_descriptors_do_not_keep_the_journal_from_its_files() {
    let folder = Folder::new();
    let line = "ulimit -n 128; exec \"$0\" serve --config strongroom.toml --listen 127.0.0.1:0";
    let mut server = Command::new("sh")
        .args(["-c", line, env!("CARGO_BIN_EXE_strongroom")])
        .current_dir(folder.path(""))
        .env("STRONGROOM__JOURNAL__SEGMENT_BYTES", "1048576")
        .env("STRONGROOM__JOURNAL__BATCH_BYTES_MAX", "262144")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let url = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
        .expect("the server listens");
    let address = url.strip_prefix("http://").unwrap();
    // The merchant comes first and keeps its connection; then strangers take all that is left and say nothing.
    let mut merchant = BufReader::new(TcpStream::connect(address).unwrap());
    assert_eq!(pay(&mut merchant, "first"), 201);
    let strangers: Vec<TcpStream> =
        (0..150).map(|_| TcpStream::connect(address).unwrap()).collect();
    // Enough for two changes of segments.
    for number in 0..600 {
        assert_eq!(pay(&mut merchant, &format!("order_{number}")), 201);
    }
    assert!(server.try_wait().unwrap().is_none(), "the server lives");
    drop(strangers);
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn a_disk_that_hangs_is_told_and_does_not_keep_the_server_from_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let sign = folder.path().join("hang");
    let fault = format!("write-hangs-while:{}", sign.display());
    let mut server = TestServer::start_with(&[
        ("STRONGROOM_FAULT", fault.as_str()),
        ("STRONGROOM__HTTP__REQUEST_DEADLINE_MS", "1000"),
        ("STRONGROOM__JOURNAL__SEAL_AFTER_MS", "60000"),
        ("STRONGROOM__HTTP__DRAIN_TIMEOUT_MS", "200"),
    ]);
    let kept = server.charge("kept", 100).of(201);
    fs::write(&sign, "").unwrap();
    server.charge("open", 100).problem(503, "outcome_unknown");
    server.charge("next", 100).problem(503, "disk_stalled");
    server.get("/ready").problem(503, "disk_stalled");
    server.get("/api/idempotency/next").problem(404, "idempotency_key_not_found");
    server.ask_to_stop();
    assert_eq!(server.wait_for_exit().code(), Some(4));
    fs::remove_file(&sign).unwrap();
    server.restart();
    assert_eq!(server.charge("kept", 100).of(201).body, kept.body);
    server.charge("open", 100).of(201);
    server.admin().reconciles();
}

#[test]
fn the_demo_keeps_its_hands_off_books_that_are_there() {
    let mut server = TestServer::start();
    server.charge("real", 100).of(201);
    server.terminate();
    let demo = Command::new(env!("CARGO_BIN_EXE_strongroom"))
        .args(["demo", "--rounds", "1", "--data"])
        .arg(server.data())
        .output()
        .unwrap();
    assert_eq!(demo.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&demo.stderr).contains("holds books already"));
    server.restart();
    assert_eq!(server.all("/api/payments").len(), 1);
}

#[test]
fn a_new_key_can_be_put_into_the_configuration_as_it_is_printed() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(["key", "new"]).args(arguments).output().unwrap()
    };
    let printed = |arguments: &[&str]| {
        let text = String::from_utf8(run(arguments).stdout).unwrap();
        let (key, config) = text.split_once('\n').unwrap();
        (key.to_owned(), config.to_owned())
    };
    let (merchant_key, merchant) = printed(&["--name", "shop"]);
    let (admin_key, admin) = printed(&["--admin", "--name", "ops"]);
    // What a configured key moves is real money.
    assert!(merchant_key.starts_with("sk_live_") && admin_key.starts_with("ak_"));
    assert_eq!(run(&["--name", "a\"b c"]).status.code(), Some(2));
    let config = format!("[[merchants]]\nid = \"shop_1\"\nkeys = [{merchant}]\n{admin}");
    let mut server = TestServer::start();
    server.terminate();
    fs::write(server.data().with_file_name("strongroom.toml"), config).unwrap();
    server.restart();
    let charged = server.client(&merchant_key).charge("order", 100).of(201);
    assert_eq!(charged.json["mode"], Value::Null, "it is live");
    server.client(&admin_key).get("/api/ledger").of(200);
    server.charge("order", 100).problem(401, "unauthenticated");
}
