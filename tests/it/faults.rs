//! What a disk that fails or fills up does to those who are being served, and to their money.

use crate::{
    client::{Client, Response},
    clock::{Clock, HOUR},
    metrics,
    record::Record,
    server::{Folder, MERCHANT_1_KEY, TestServer, disk},
    wait::{at_once, eventually},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fs::{self, File},
    io::Write,
    path::PathBuf,
};

const FAULT: &str = "STRONGROOM_FAULT";
const CLIENTS: usize = 6;

/// A payment with so much on it that a few dozen fill a segment.
fn bulky() -> Value {
    let pairs = (0..40).map(|number| (format!("key_{number}"), json!("v".repeat(500))));
    json!({"amount": 100, "currency": "USD", "metadata": Value::Object(pairs.collect())})
}

/// Charges under ever new keys until there is no more answer, or no more 201. Returns all answers by their keys; `None`
/// where the connection broke.
fn charge_until_it_fails(server: &Client, client: usize) -> Vec<(String, Option<Response>)> {
    let mut answers = Vec::new();
    loop {
        let key = format!("order_{client}_{}", answers.len());
        let body = small().to_string();
        let answer = server.try_post("/api/payments", &key, &body).ok();
        let done = answer.as_ref().is_some_and(|answer| answer.status == 201);
        answers.push((key, answer));
        if !done {
            return answers;
        }
    }
}

#[test]
fn a_failed_write_ends_the_process_and_nobody_was_told_done_for_what_is_not_there() {
    for writes in [4, 9, 30] {
        let fault = format!("sync-fails-after:{writes}");
        // A seal is a write, too, and nobody waits for it.
        let never = ("STRONGROOM__JOURNAL__SEAL_AFTER_MS", "60000");
        let mut server = TestServer::start_with(&[(FAULT, &fault), never]);
        let answers = at_once(CLIENTS, |client| charge_until_it_fails(&server, client));
        let answers: Vec<_> = answers.into_iter().flatten().collect();
        assert_eq!(server.wait_for_exit().code(), Some(4), "{}", server.logs());
        let mut unknown = 0;
        for (_, answer) in &answers {
            match answer {
                Some(answer) if answer.status == 503 => {
                    assert!(answer.header("Retry-After").is_some());
                    let code = answer.json["code"].as_str().unwrap();
                    unknown += usize::from(code == "outcome_unknown");
                }
                Some(answer) => assert_eq!(answer.status, 201, "{}", answer.text()),
                None => {}
            }
        }
        assert!(unknown > 0, "who was waiting for the write is told");

        server.unset(FAULT);
        server.restart();
        for (key, answer) in &answers {
            let again = server.charge(key, 100).of(201);
            if let Some(answer) = answer.as_ref().filter(|answer| answer.status == 201) {
                assert!(again.is_replay(), "{key} was told done and is not there");
                assert_eq!(again.body, answer.body);
            }
        }
        let mut payments = HashMap::new();
        for payment in server.all("/api/payments?limit=100") {
            let key = payment["idempotencyKey"].as_str().unwrap().to_owned();
            *payments.entry(key).or_insert(0) += 1;
        }
        assert_eq!(payments.len(), answers.len());
        assert!(payments.values().all(|count| *count == 1), "{payments:?}");
        server.admin().reconciles();
    }
}

fn small() -> Value {
    json!({"amount": 100, "currency": "USD"})
}

/// Makes payments of this body until the disk takes none of them any more.
fn fill(server: &Client, name: &str, body: &Value) -> Response {
    let pay = |number: usize| server.pay_in_time(&format!("{name}_{number}"), body);
    let refused = (0..2_000).map(pay).find(|answer| answer.status != 201);
    refused.expect("the disk fills up").problem(503, "storage_full")
}

/// What fills the disk up: a file that takes all its room, if there is a small disk to test with, or else the sign that
/// the double looks for.
struct Filler {
    file: PathBuf,
    real: bool,
    _folder: tempfile::TempDir,
}

impl Filler {
    fn fill(&self) {
        let mut file = File::create(&self.file).unwrap();
        // The last bytes one by one.
        for bytes in [1 << 16, 1 << 9, 1] {
            while self.real && file.write_all(&vec![1; bytes]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(&self.file).unwrap();
    }
}

/// A server whose disk can be filled up. `DISK=` is a small one, which is filled for real.
fn server_with_small_disk(settings: &[(&str, &str)]) -> (TestServer, Filler) {
    let folder = disk().map_or_else(tempfile::tempdir, tempfile::tempdir_in).unwrap();
    let file = folder.path().join("filler");
    let fault = format!("full-while:{}", file.display());
    let mut settings = settings.to_vec();
    if disk().is_none() {
        settings.push((FAULT, fault.as_str()));
    }
    let filler = Filler { file, real: disk().is_some(), _folder: folder };
    let server = TestServer::start_with(&settings);
    eventually("the next segment is there", || {
        (metrics::value(&server, "strongroom_journal_segments_ahead") == 1.0).then_some(())
    });
    (server, filler)
}

#[test]
fn a_full_disk_takes_no_new_payments_while_all_else_goes_on_and_recovers_by_itself() {
    let (mut server, disk) = server_with_small_disk(&[]);
    let first = server.charge("first", 100).of(201);
    disk.fill();
    fill(&server, "bulky", &bulky());
    let full = fill(&server, "small", &small());
    assert!(full.header("Retry-After").unwrap().parse::<u32>().unwrap() >= 1);

    let refused = server.charge("new", 100).problem(503, "storage_full");
    assert!(refused.header("Retry-After").is_some());
    server.get("/api/idempotency/new").problem(404, "idempotency_key_not_found");
    server.refund(&first.id(), "part", 10).problem(503, "storage_full");
    server.get("/ready").problem(503, "storage_full");
    server.get("/health").of(200);
    assert_eq!(server.payment(&first.id()), first.json, "reads go on");
    let replay = server.charge("first", 100).of(201);
    assert!(replay.is_replay(), "replays go on");
    assert_eq!(replay.body, first.body);
    server.charge("wrong", 0).problem(400, "validation_failed");
    server.admin().reconciles();

    disk.free();
    eventually("the disk's room is seen", || (server.get("/ready").status == 200).then_some(()));
    let taken = server.charge("new", 100).of(201);
    assert!(!taken.is_replay());
    server.refund(&first.id(), "part", 10).of(200);
    let all = server.all("/api/payments?limit=100").len();
    server.kill();
    server.restart();
    assert_eq!(server.all("/api/payments?limit=100").len(), all);
    assert_eq!(server.charge("new", 100).body, taken.body);
    server.admin().reconciles();
}

#[test]
fn a_disk_that_fills_up_and_is_freed_under_load_loses_nothing_and_goes_on_by_itself() {
    let often = ("STRONGROOM__SNAPSHOTS__EVERY", "1s");
    let (mut server, disk) = server_with_small_disk(&[often]);
    let mut record = Record::default();
    for round in 0..2 {
        let client = server.client(MERCHANT_1_KEY);
        record.while_clients_work((&client, &format!("round{round}")), 30, || {
            disk.fill();
            let refused = (0..2_000).find_map(|number| {
                let key = format!("refused{round}-{number}");
                let answer = record.charge(&client, &key);
                (answer.status != 201).then_some((key, answer))
            });
            let (key, answer) = refused.expect("the disk fills up");
            answer.problem(503, "storage_full");
            server.get(&format!("/api/idempotency/{key}")).of(404);
            let full = eventually("balancers are told", || {
                Some(server.get("/ready")).filter(|ready| ready.status != 200)
            });
            full.problem(503, "storage_full");
            server.get("/health").of(200);
            disk.free();
            eventually("there is room again", || {
                (server.get("/ready").status == 200).then_some(())
            });
            let before = record.acknowledged();
            eventually("payments go on", || (record.acknowledged() > before).then_some(()));
        });
        record.prove(&server);
        // The next start finds the disk full: it starts, or says that it can't, and then does once there is room.
        disk.fill();
        server.kill();
        let started = server.try_restart();
        disk.free();
        if let Err(status) = started {
            assert_eq!(status.code(), Some(4), "{}", server.logs());
            server.restart();
        }
        record.prove(&server);
    }
}

#[test]
fn what_was_begun_before_the_disk_filled_up_is_finished() {
    let (server, disk) = server_with_small_disk(&[
        ("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "4000"),
        ("STRONGROOM__PROVIDER__INQUIRE_AFTER_MS", "1"),
        ("STRONGROOM__HTTP__REQUEST_DEADLINE_MS", "20000"),
    ]);
    disk.fill();
    fill(&server, "bulky", &bulky());
    let answers = at_once(2, |number| match number {
        0 => server.charge_with("tok_timeout", "begun", 100),
        _ => {
            server.in_progress("begun");
            let full = fill(&server, "small", &small());
            let key = server.get("/api/idempotency/begun").of(200);
            assert_eq!(key.json["state"], "in_progress", "the disk was full first");
            full
        }
    });
    assert_eq!(answers[0].status, 202, "{}", answers[0].text());
    let id = answers[0].id();
    server.charge("new", 100).problem(503, "storage_full");
    eventually("the provider's answer is booked", || {
        (server.status(&id) == "completed").then_some(())
    });
    server.charge("new", 100).problem(503, "storage_full");
    server.admin().reconciles();
}

#[test]
fn no_payment_is_turned_away_for_lack_of_room_while_there_is_some() {
    let server = TestServer::start();
    at_once(4, |client| {
        for number in 0..200 {
            server.charge(&format!("order_{client}_{number}"), 100).of(201);
        }
    });
    assert_eq!(server.balance("merchant:merchant_1", "USD"), (4 * 200 * 100, 0));
    server.admin().reconciles();
}

#[test]
fn a_disk_that_cannot_be_written_at_the_start_is_an_io_error() {
    let folder = Folder::new();
    fs::write(folder.path("data"), "a file where the folder should be").unwrap();
    let refused = folder.run([], ["--listen", "127.0.0.1:0"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    let folder = Folder::new();
    let refused = folder.run([(FAULT, "sync-fails-after:1")], ["--listen", "127.0.0.1:0"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
}

#[test]
fn holds_that_lapse_on_a_full_disk_take_no_room_from_what_was_begun() {
    let clock = Clock::new();
    let (server, disk) = server_with_small_disk(&[
        clock.setting(),
        ("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "4000"),
        ("STRONGROOM__PAYMENTS__AUTHORIZATION_TTL", "1h"),
        ("STRONGROOM__HTTP__REQUEST_DEADLINE_MS", "20000"),
    ]);
    let holds: Vec<_> = (0..40)
        .map(|number| server.authorize(&format!("hold_{number}"), 100).of(201).id())
        .collect();
    disk.fill();
    fill(&server, "bulky", &bulky());
    let answers = at_once(2, |number| match number {
        0 => server.charge_with("tok_timeout", "begun", 100),
        _ => {
            server.in_progress("begun");
            let full = fill(&server, "small", &small());
            clock.has_passed(HOUR);
            server.in_progress("begun");
            full
        }
    });
    assert_eq!(answers[0].status, 202, "{}", answers[0].text());
    disk.free();
    for id in &holds {
        eventually("every hold lapses once there is room", || {
            (server.status(id) == "expired").then_some(())
        });
    }
    server.admin().reconciles();
}
