//! Whatever crashes: the program is killed in the middle of its work, damaged, or dies of a bug, and is started again.
//!
//! The checker keeps its own record of what was acknowledged, outside the server, and shares no code with it.

use crate::{
    client::{Client, Response},
    server::TestServer,
    wait::{at_once, eventually},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

const CLIENTS: usize = 6;

/// What a client asked for and was told.
#[derive(Clone)]
struct Asked {
    path: String,
    key: String,
    body: Value,
    /// The answer's status and bytes; `None` if none came.
    told: Option<(u16, Vec<u8>)>,
}

impl Asked {
    fn new(path: &str, key: String, body: Value) -> Self {
        Self { path: path.to_owned(), key, body, told: None }
    }

    /// Asks; a connection that dies leaves the answer open, as does "unknown, ask again".
    fn send(mut self, client: &Client) -> Self {
        let answer = client.try_post(&self.path, &self.key, &self.body.to_string()).ok();
        self.told = answer.filter(|answer| answer.status != 503).map(|a| (a.status, a.body));
        self
    }

    fn payment(&self) -> Option<String> {
        let (_, body) = self.told.as_ref()?;
        let payment: Value = serde_json::from_slice(body).ok()?;
        payment["id"].as_str().map(str::to_owned)
    }
}

/// One client's work: charges, and authorizations that are captured in part and refunded in part, until the server is
/// gone.
fn work(
    client: &Client,
    name: &str,
    record: &Mutex<Vec<Asked>>,
    stop: &AtomicBool,
    done: &AtomicUsize,
) {
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let key = |what: &str| format!("{name}-{number}-{what}");
        let capture = if number % 2 == 0 { "automatic" } else { "manual" };
        let body = json!({"amount": 1000 + number, "currency": "EUR", "capture": capture});
        let asked = Asked::new("/api/payments", key("pay"), body).send(client);
        let payment = asked.payment();
        record.lock().unwrap().push(asked);
        done.fetch_add(1, Ordering::SeqCst);
        let Some(payment) = payment else { continue };
        let mut steps = vec![("refund", 300)];
        if capture == "manual" {
            steps.insert(0, ("capture", 700));
        }
        for (command, amount) in steps {
            let path = format!("/api/payments/{payment}/{command}");
            let asked = Asked::new(&path, key(command), json!({"amount": amount})).send(client);
            let answered = asked.told.is_some();
            record.lock().unwrap().push(asked);
            if !answered {
                break;
            }
        }
    }
}

/// Lets clients work until `enough` requests were made, then kills the server under them.
fn work_and_kill(server: &mut TestServer, round: usize, enough: usize) -> Vec<Asked> {
    let record = Mutex::new(Vec::new());
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let client = server.client(crate::server::MERCHANT_1_KEY);
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (client, record, stop, done) = (&client, &record, &stop, &done);
            let name = format!("round{round}-client{number}");
            scope.spawn(move || work(client, &name, record, stop, done));
        }
        eventually("enough requests were made", || {
            (done.load(Ordering::SeqCst) >= enough).then_some(())
        });
        server.kill();
        stop.store(true, Ordering::SeqCst);
    });
    record.into_inner().unwrap()
}

fn rounds() -> usize {
    std::env::var("CRASHES").map_or(3, |count| count.parse().expect("CRASHES is a number"))
}

#[test]
fn kill_9_under_load_loses_nothing_acknowledged_and_doubles_nothing() {
    // Snapshots all the time: many a kill strikes while one is made or segments go to the archive.
    let often = ("STRONGROOM__SNAPSHOTS__EVERY", "1s");
    let bytes = ("STRONGROOM__SNAPSHOTS__EVERY_BYTES", "1048576");
    let mut server = TestServer::start_with(&[often, bytes]);
    let mut asked: Vec<Asked> = Vec::new();
    for round in 0..rounds() {
        asked.extend(work_and_kill(&mut server, round, 40 + 17 * (round % 7)));
        server.restart();
    }
    let open = asked.iter().filter(|asked| asked.told.is_none()).count();
    println!(
        "{} requests, {open} of them without an answer when the server was killed",
        asked.len()
    );
    // Whoever got no answer asks again under the same key, as clients are told to.
    let settled: Vec<Asked> = asked
        .iter()
        .map(|asked| match asked.told {
            Some(_) => asked.clone(),
            None => asked.clone().send(&server),
        })
        .collect();
    for asked in &settled {
        let (status, body) = asked.told.as_ref().expect("an answer once the server is back");
        assert!([200, 201].contains(status), "{} {status}", asked.path);
        let again = server.post(&asked.path, &asked.key, &asked.body);
        assert!(again.is_replay(), "{} was acknowledged and then forgotten", asked.key);
        assert_eq!((again.status, &again.body), (*status, body), "{} was told twice", asked.key);
    }
    check_books(&server, &settled);
}

/// The books against the checker's own record.
fn check_books(server: &TestServer, asked: &[Asked]) {
    let payments = server.all("/api/payments?limit=100");
    let keys: BTreeSet<&str> =
        payments.iter().map(|payment| payment["idempotencyKey"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), payments.len(), "a key made two payments");
    let mut expected: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for asked in asked {
        let (captured, refunded) = expected.entry(asked.payment().unwrap()).or_default();
        let amount = asked.body["amount"].as_i64().unwrap();
        match asked.path.rsplit('/').next().unwrap() {
            "payments" if asked.body["capture"] == "automatic" => *captured += amount,
            "capture" => *captured += amount,
            "refund" => *refunded += amount,
            _ => {}
        }
    }
    assert_eq!(payments.len(), expected.len(), "payments that nobody asked for, or lost ones");
    let mut balance = 0;
    for payment in &payments {
        let figure = |name: &str| payment[name].as_i64().unwrap();
        let found = (figure("amountCaptured"), figure("amountRefunded"));
        assert_eq!(Some(&found), expected.get(payment["id"].as_str().unwrap()), "{payment:#}");
        balance += found.0 - found.1;
        let entries = server
            .get(&format!("/api/ledger/customer:{}", payment["id"].as_str().unwrap()))
            .of(200)
            .json["entries"]
            .clone();
        let sum: i64 =
            entries.as_array().unwrap().iter().map(|e| e["amount"].as_i64().unwrap()).sum();
        assert_eq!(sum, found.1 - found.0, "{payment:#}");
    }
    assert_eq!(server.balance("merchant:merchant_1", "EUR").0, balance);
    let trial = server.admin().get("/api/ledger").of(200).json;
    for total in trial["totals"].as_array().unwrap() {
        assert_eq!((&total["balance"], &total["pending"]), (&json!(0), &json!(0)), "{trial:#}");
    }
    server.admin().reconciles();
}

fn first_segment(server: &TestServer) -> std::path::PathBuf {
    server.data().join("journal/00000000000000000001.seg")
}

#[test]
fn a_flipped_bit_stops_the_start_and_names_file_offset_and_sequence() {
    let mut server = TestServer::start();
    for number in 0..3 {
        server.charge(&format!("order_{number}"), 100).of(201);
    }
    server.kill();
    let file = first_segment(&server);
    let mut bytes = fs::read(&file).unwrap();
    // Block 0 is the header, block 1 the start's own entry, block 2 the first payment.
    bytes[2 * 4096 + 300] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let refused = server.start_second();
    assert_eq!(refused.status.code(), Some(3));
    let said = String::from_utf8(refused.stderr).unwrap();
    for fact in ["00000000000000000001.seg", "byte 8192", "entry 2", "backup"] {
        assert!(said.contains(fact), "no {fact} in: {said}");
    }
    assert_eq!(fs::read(&file).unwrap(), bytes, "a refused start changes nothing");
    bytes[2 * 4096 + 300] ^= 1;
    fs::write(&file, &bytes).unwrap();
    server.restart();
    assert_eq!(server.all("/api/payments").len(), 3);
}

#[test]
fn a_missing_journal_is_not_taken_for_a_new_one() {
    let mut server = TestServer::start();
    server.charge("order", 100).of(201);
    server.kill();
    fs::remove_file(first_segment(&server)).unwrap();
    let refused = server.start_second();
    assert_eq!(refused.status.code(), Some(3), "{}", String::from_utf8_lossy(&refused.stderr));
}

#[test]
fn a_torn_last_write_is_set_aside_and_said() {
    let mut server = TestServer::start();
    server.charge("order", 100).of(201);
    server.terminate();
    let file = first_segment(&server);
    let mut bytes = fs::read(&file).unwrap();
    let end =
        bytes.chunks(4096).rposition(|block| block.iter().any(|byte| *byte != 0)).unwrap() + 1;
    // The first half of a further batch arrived, and nobody was told of it.
    let batch = bytes[2 * 4096..3 * 4096 - 2000].to_vec();
    bytes[end * 4096..][..batch.len()].copy_from_slice(&batch);
    fs::write(&file, &bytes).unwrap();
    server.restart();
    assert!(server.announced().contains("a batch that a crash cut off"), "{}", server.announced());
    let aside = fs::read_dir(server.data().join("journal")).unwrap();
    let aside =
        aside.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("torn-"));
    assert_eq!(aside.count(), 1);
    assert_eq!(server.all("/api/payments").len(), 1);
    server.charge("next", 100).of(201);
}

#[test]
fn a_payment_actor_that_panics_is_woken_again_and_the_others_never_notice() {
    let server =
        TestServer::start_with(&[("STRONGROOM_PROVIDER_FAULT", "authorization-panics-once")]);
    server.charge("unlucky", 100).problem(503, "outcome_unknown");
    eventually("it is logged", || {
        server.logs().contains("a payment actor died at work").then_some(())
    });
    server.charge("other", 100).of(201);
    let again = server.charge("unlucky", 100).of(201);
    assert!(!again.is_replay());
    server.refund_all(&again.id()).of(200);
    assert_eq!(server.all("/api/payments").len(), 2);
    server.admin().reconciles();
}

#[test]
fn looking_for_an_outcome_that_dies_of_a_bug_is_tried_again() {
    let server = TestServer::start_with(&[
        ("STRONGROOM_PROVIDER_FAULT", "look-up-panics-once"),
        ("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "20"),
        ("STRONGROOM__PROVIDER__INQUIRE_AFTER_MS", "50"),
    ]);
    let unlucky = server.charge_with("tok_timeout", "unlucky", 100).of(202).id();
    eventually("the payment is looked after again", || {
        (server.status(&unlucky) == "completed").then_some(())
    });
    eventually("it is logged", || {
        server.logs().contains("looking after a payment died of a bug").then_some(())
    });
}

#[test]
fn a_ledger_that_panics_ends_the_process_and_recovery_tells_what_is_true() {
    let mut server = TestServer::start();
    let kept = server.charge("kept", 100).of(201);
    server.kill();
    // The first durable write is this start's own entry.
    server.set("STRONGROOM_FAULT", "write-panics-after:2");
    server.restart();
    let lost: Option<Response> =
        server.try_post("/api/payments", "lost", r#"{"amount": 100, "currency": "USD"}"#).ok();
    assert!(lost.is_none_or(|answer| answer.json["code"] == "outcome_unknown"));
    assert_eq!(server.wait_for_exit().code(), Some(1));
    assert!(server.logs().contains("died of a bug"), "{}", server.logs());
    server.set("STRONGROOM_FAULT", "full-while:/nonexistent");
    server.restart();
    assert_eq!(server.all("/api/payments").len(), 1);
    assert_eq!(server.charge("kept", 100).of(201).body, kept.body);
    server.charge("lost", 100).of(201);
    assert_eq!(server.all("/api/payments").len(), 2);
}

#[test]
fn a_change_of_segments_refuses_nobody() {
    let server = TestServer::start();
    let segments = || {
        let files = fs::read_dir(server.data().join("journal")).unwrap();
        files.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "seg")).count()
    };
    // A segment has room for 255 batches.
    let mut round = 0;
    while segments() < 4 {
        let merchant = server.client(crate::server::MERCHANT_1_KEY);
        at_once(4, |client| {
            for number in 0..25 {
                merchant.charge(&format!("{round}-{client}-{number}"), 100).of(201);
            }
        });
        round += 1;
    }
    server.admin().reconciles();
}

#[test]
fn a_disk_that_hangs_leaves_the_outcome_open_and_the_same_key_tells_it_later() {
    let folder = tempfile::tempdir().unwrap();
    let sign = folder.path().join("hang");
    let fault = format!("write-hangs-while:{}", sign.display());
    let server = TestServer::start_with(&[
        ("STRONGROOM_FAULT", fault.as_str()),
        ("STRONGROOM__HTTP__REQUEST_DEADLINE_MS", "50"),
    ]);
    fs::write(&sign, "").unwrap();
    let open = server.charge("order", 100).problem(503, "outcome_unknown");
    assert!(open.header("Retry-After").is_some());
    server.get("/health").of(200);
    assert_eq!(server.all("/api/payments").len(), 0, "what is not durable is not shown");
    fs::remove_file(&sign).unwrap();
    let told = eventually("the disk goes on", || {
        Some(server.charge("order", 100)).filter(|answer| answer.status == 201)
    });
    assert!(told.is_replay());
    assert_eq!(server.all("/api/payments").len(), 1);
}
