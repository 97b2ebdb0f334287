//! Restart time does not grow with history: snapshots on demand, by time, by bytes and at a clean stop, and the archive.

use crate::{
    server::{ADMIN_KEY, MERCHANT_1_KEY, TestServer},
    wait::{at_once, eventually},
};
use serde_json::{Value, json};
use std::fs;

fn names(server: &TestServer, folder: &str, suffix: &str) -> Vec<String> {
    let listed = fs::read_dir(server.data().join(folder)).unwrap();
    let mut names: Vec<String> =
        listed.map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(suffix));
    names.sort();
    names
}

fn snapshots(server: &TestServer) -> Vec<String> {
    names(server, "snapshots", ".snap")
}

#[track_caller]
fn snapshot(server: &TestServer) -> Value {
    let made = server.admin().post("/api/snapshot", "", &json!({})).of(200);
    serde_json::from_str(&made.text()).unwrap()
}

/// Enough charges to fill a segment of 1 MiB, in blocks of 4 KiB.
fn fill_a_segment(server: &TestServer, round: &str) {
    let client = server.client(MERCHANT_1_KEY);
    for number in 0..260 {
        client.charge(&format!("{round}-{number}"), 100 + number).of(201);
    }
}

#[test]
fn a_snapshot_on_demand_holds_all_and_a_start_from_it_answers_as_before() {
    let mut server = TestServer::start();
    let empty = snapshot(&server);
    assert_eq!((&empty["made"], &empty["snapshot"]), (&json!(false), &Value::Null));
    let first = server.charge("first", 4999).of(201);
    let held = server.authorize("held", 700).of(201).id();
    let made = snapshot(&server);
    assert_eq!((&made["made"], &made["snapshot"]["payments"]), (&json!(true), &json!(2)));
    assert_eq!(snapshot(&server)["made"], json!(false), "nothing new");
    server.refund(&first.id(), "back", 999).of(200);
    server.kill();
    server.restart();
    let through = format!(
        "recovered 2 payments from a snapshot through entry {}",
        made["snapshot"]["sequence"]
    );
    assert!(server.announced().contains(&through), "{}", server.announced());
    let again = server.charge("first", 4999).of(201);
    assert!(again.is_replay());
    assert_eq!(again.body, first.body);
    assert_eq!(server.payment(&first.id())["amountRefunded"], json!(999));
    server.capture(&held, "take", 300).of(200);
    assert_eq!(server.balance("merchant:merchant_1", "USD"), (4999 - 999 + 300, 0));
    server.admin().reconciles();
}

#[test]
fn a_snapshot_is_for_admins() {
    let server = TestServer::start();
    let refused = server.client(MERCHANT_1_KEY).post("/api/snapshot", "", &json!({}));
    assert_eq!(refused.status, 403);
    let wrong = server.client("sk_wrong").post("/api/snapshot", "", &json!({}));
    assert_eq!(wrong.status, 401);
    let unknown = server.client(ADMIN_KEY).post("/api/snapshot?now=1", "", &json!({}));
    assert_eq!(unknown.status, 400);
}

#[test]
fn a_clean_stop_leaves_a_snapshot_and_a_kill_does_not() {
    let mut server = TestServer::start();
    server.charge("a", 100).of(201);
    server.kill();
    assert!(snapshots(&server).is_empty());
    server.restart();
    assert!(server.terminate().success());
    assert_eq!(snapshots(&server).len(), 1);
    server.restart();
    assert!(server.announced().contains("recovered 1 payments from a snapshot"));
    assert!(server.terminate().success());
    assert_eq!(snapshots(&server).len(), 1, "nothing new, no new snapshot");
}

#[test]
fn a_snapshot_comes_by_itself_when_the_last_one_is_old_or_the_journal_has_grown() {
    let by_time = TestServer::start_with(&[("STRONGROOM__SNAPSHOTS__EVERY", "1s")]);
    by_time.charge("a", 100).of(201);
    eventually("a snapshot by time", || (!snapshots(&by_time).is_empty()).then_some(()));

    let by_bytes = TestServer::start_with(&[("STRONGROOM__SNAPSHOTS__EVERY_BYTES", "1048576")]);
    by_bytes.charge("a", 100).of(201);
    fill_a_segment(&by_bytes, "fill");
    eventually("a snapshot by bytes", || (!snapshots(&by_bytes).is_empty()).then_some(()));
}

#[test]
fn a_damaged_snapshot_is_passed_over_set_aside_and_said() {
    let mut server = TestServer::start();
    server.charge("a", 100).of(201);
    snapshot(&server);
    server.charge("b", 200).of(201);
    snapshot(&server);
    server.charge("c", 300).of(201);
    server.kill();
    let newest = snapshots(&server).pop().unwrap();
    let path = server.data().join("snapshots").join(&newest);
    let mut content = fs::read(&path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&path, content).unwrap();
    server.restart();
    let said = server.announced();
    assert!(said.contains("recovered 3 payments from a snapshot"), "{said}");
    assert!(said.contains("passed over a damaged snapshot"), "{said}");
    server.says("a snapshot is damaged and passed over");
    assert_eq!(names(&server, "snapshots", ".damaged"), [format!("{newest}.damaged")]);
    assert_eq!(server.balance("merchant:merchant_1", "USD"), (600, 0));
    let ready = server.get("/ready").of(200).json;
    assert_eq!(ready["alarms"][0]["code"], json!("snapshot.damaged"), "{ready}");
    let metric = |name: &str| {
        let metrics = server.admin().get("/metrics").of(200).text();
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(metric("strongroom_snapshots_damaged_total"), 1);
    assert_eq!(snapshot(&server)["made"], json!(true));
    assert_eq!(metric("strongroom_snapshots_made_total"), 1);
    assert!(server.get("/ready").of(200).json["alarms"].is_null(), "the next good one ends it");
    assert_eq!(snapshots(&server).len(), 2);
}

#[test]
fn segments_that_two_snapshots_cover_are_archived_and_every_command_still_reads_them() {
    let mut server = TestServer::start();
    fill_a_segment(&server, "one");
    snapshot(&server);
    server.kill();
    let told = |server: &TestServer, arguments: &[&str]| {
        let output = server.tell(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    let before = told(&server, &["export", "--format", "csv"]);
    assert!(before.lines().count() > 500);
    server.restart();
    server.charge("more", 100).of(201);
    let made = snapshot(&server);
    assert_eq!(made["archivedSegments"], json!(1), "{made}");
    assert_eq!(names(&server, "archive", ".seg.zst"), ["00000000000000000001.seg.zst"]);
    assert!(!names(&server, "journal", ".seg").contains(&"00000000000000000001.seg".to_owned()));
    server.kill();
    let after = told(&server, &["export", "--format", "csv"]);
    assert!(after.starts_with(&before), "the archived entries are read as they were");
    assert!(told(&server, &["verify"]).contains("every hash, rule and sum holds"));
    let printed = told(&server, &["journal", "print", "--to", "3"]);
    assert!(printed.contains("one-0"), "{printed}");
    // Without any snapshot, the archive and the journal still tell it all.
    fs::remove_dir_all(server.data().join("snapshots")).unwrap();
    server.restart();
    assert!(server.announced().contains("recovered 261 payments from"), "{}", server.announced());
    server.admin().reconciles();
}

#[test]
fn an_archived_segment_that_is_missing_stops_the_start_though_snapshots_cover_it() {
    let mut server = TestServer::start();
    fill_a_segment(&server, "one");
    snapshot(&server);
    server.charge("more", 100).of(201);
    snapshot(&server);
    server.kill();
    fs::remove_file(server.data().join("archive/00000000000000000001.seg.zst")).unwrap();
    let output = server.tell(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the segment is missing, here and in the archive"), "{said}");
}

#[test]
fn charges_go_on_while_snapshots_are_made_one_after_the_other() {
    let server = TestServer::start();
    let answers = at_once(4, |client| {
        let own = server.client(MERCHANT_1_KEY);
        for number in 0..50 {
            match client {
                0 => drop(snapshot(&server)),
                _ => drop(own.charge(&format!("{client}-{number}"), 100).of(201)),
            }
        }
    });
    assert_eq!(answers.len(), 4);
    assert_eq!(server.balance("merchant:merchant_1", "USD"), (150 * 100, 0));
    server.admin().reconciles();
}

#[test]
fn verify_holds_every_snapshot_against_the_journal() {
    let mut server = TestServer::start_with(&[("STRONGROOM__JOURNAL__SEAL_AFTER_MS", "60000")]);
    server.charge("a", 100).of(201);
    snapshot(&server);
    server.charge("b", 200).of(201);
    snapshot(&server);
    server.kill();
    let verify = |server: &TestServer| {
        let output = server.tell(&["verify"]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = verify(&server);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 payments, as the journal says"), "{said}");
    assert!(said.contains("2 payments, as the journal says"), "{said}");
    let of = |place: usize| server.data().join("snapshots").join(&snapshots(&server)[place]);
    let older = of(0);
    let good = fs::read(&older).unwrap();
    let mut damaged = good.clone();
    damaged[40] ^= 1;
    fs::write(&older, damaged).unwrap();
    let (code, said) = verify(&server);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is not what the journal says"), "{said}");
    fs::write(&older, good).unwrap();
    // The journal's end is lost; the snapshot knows that there was more.
    let segment = server.data().join("journal/00000000000000000001.seg");
    let mut content = fs::read(&segment).unwrap();
    let end = content.iter().rposition(|byte| *byte > 0).unwrap() / 4096 * 4096;
    content[end..].fill(0);
    fs::write(&segment, content).unwrap();
    fs::remove_file(server.data().join("journal/watermark")).unwrap();
    let (code, said) = verify(&server);
    assert_eq!(code, Some(3), "{said}");
    let newest = snapshots(&server).last().unwrap().trim_end_matches(".snap").to_owned();
    let through: u64 = newest.parse().unwrap();
    let told = format!("entries through {through} were acknowledged");
    assert!(said.contains(&told), "no {told} in: {said}");
}
