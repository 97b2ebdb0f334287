//! Whatever crashes: the program is killed in the middle of its work, damaged, or dies of a bug, and is started again.
//!
//! Every start is held against the clients' own record of what they were told.

use crate::{
    client::Response,
    record::Record,
    server::{MERCHANT_1_KEY, TestServer},
    wait::{at_once, eventually},
};
use rand::RngExt;
use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// How often the program is killed; `CRASHES=` for more.
fn crashes() -> u64 {
    std::env::var("CRASHES").map_or(20, |count| count.parse().expect("CRASHES is a number"))
}

/// After so many kills a folder has enough in it, and a new one is begun.
const CRASHES_PER_FOLDER: u64 = 20;

/// In the middle of what the program is killed, besides that clients are at work.
const MOMENTS: [&str; 4] = ["work", "snapshot", "stop", "start"];

/// Kills the server at a random moment under clients at work, and has it started again.
fn crash(server: &mut TestServer, record: &Record, round: u64) {
    let moment = MOMENTS[usize::try_from(round % 4).unwrap()];
    let pause = |most: u64| {
        let micros = rand::rng().random_range(0..most * 1000);
        thread::sleep(Duration::from_micros(micros));
    };
    let (client, admin) = (server.client(MERCHANT_1_KEY), server.admin());
    let name = format!("round{round}");
    let enough = rand::rng().random_range(5..150);
    thread::scope(|scope| {
        record.while_clients_work((&client, &name), enough, || {
            match moment {
                "snapshot" => {
                    // The server is gone before this is answered, or just after.
                    scope.spawn(move || admin.try_post("/api/snapshot", "", "{}").is_ok());
                    pause(60);
                }
                "stop" => {
                    server.ask_to_stop();
                    pause(80);
                }
                _ => pause(5),
            }
            server.kill();
        });
    });
    if moment == "start" {
        for _ in 0..rand::rng().random_range(1..4) {
            let micros = rand::rng().random_range(0..250_000);
            server.start_and_kill_after(Duration::from_micros(micros));
        }
    }
    server.restart();
}

#[test]
fn kill_9_under_load_loses_nothing_acknowledged_and_doubles_nothing() {
    // Snapshots all the time: many a kill strikes while one is made or segments go to the archive.
    let often = ("STRONGROOM__SNAPSHOTS__EVERY", "1s");
    let bytes = ("STRONGROOM__SNAPSHOTS__EVERY_BYTES", "1048576");
    // A machine that stands still at times cuts nobody off.
    let patient = ("STRONGROOM__HTTP__HEAD_READ_TIMEOUT_MS", "600000");
    let began = Instant::now();
    let (mut payments, mut commands, mut done, mut not_done, mut archived) = (0, 0, 0, 0, 0);
    let mut left = crashes();
    while left > 0 {
        let mut server = TestServer::start_with(&[often, bytes, patient]);
        let mut record = Record::default();
        let here = left.min(CRASHES_PER_FOLDER);
        for round in 0..here {
            crash(&mut server, &record, round);
            record.prove(&server);
        }
        left -= here;
        payments += record.acknowledged();
        commands += record.commands();
        (done, not_done) = (done + record.unheard.0, not_done + record.unheard.1);
        archived += fs::read_dir(server.data().join("archive")).map_or(0, Iterator::count);
        println!(
            "{} kills in {:.0?}: {payments} payments acknowledged by {commands} commands, of which \
             nobody had heard of {done} that were done and {not_done} that were not; {archived} \
             segments archived",
            crashes() - left,
            began.elapsed()
        );
    }
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
    // Of a further batch some sectors arrived, and not the first, and nobody was told of it.
    bytes[end * 4096 + 512..][..1500].fill(7);
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
    server.says("a payment actor died at work");
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
    server.says("looking after a payment died of a bug");
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
        let merchant = server.client(MERCHANT_1_KEY);
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
        ("STRONGROOM__HTTP__REQUEST_DEADLINE_MS", "1000"),
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
