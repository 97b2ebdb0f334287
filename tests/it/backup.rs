//! Backups: made while the server runs, taking only what is new, proven each time; and what a lost disk loses.

use crate::{
    client::Client,
    server::{MERCHANT_1_KEY, TestServer, check_refusal},
    wait::{Stopping, eventually},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Payments that are as large as they may be, so that few of them fill a segment.
const LARGE_PAYMENTS: (&str, &str) = ("STRONGROOM__HTTP__BODY_BYTES_MAX", "262144");

fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(output), stderr(output));
    stdout(output)
}

#[track_caller]
fn backup(server: &TestServer, to: &str) -> Value {
    serde_json::from_str(&done(&server.tell(&["backup", to, "--json"]))).unwrap()
}

/// Has a snapshot made. Segments that two of them cover go to the archive.
#[track_caller]
fn snapshot(admin: &Client) -> Value {
    admin.post("/api/snapshot", "", &json!({})).of(200).json
}

fn restore(server: &TestServer, arguments: &[&str]) -> Output {
    run(server.program(&[&["restore"], arguments].concat()))
}

/// A payment with 50 values of this kind.
pub fn large_payment(value: &str) -> Value {
    let pairs = (0..50).map(|number| (number.to_string(), value.repeat(500).into()));
    let metadata: serde_json::Map<String, Value> = pairs.collect();
    json!({"amount": 100, "currency": "USD", "metadata": metadata})
}

/// Makes payments that fill about this many segments: ten of them and the head of one make a mebibyte.
fn fill(server: &TestServer, name: &str, segments: usize) {
    let body = large_payment("\u{1f510}");
    for number in 0..segments * 11 {
        server.pay_in_time(&format!("{name}-{number}"), &body).of(201);
    }
}

/// A copy of the whole folder, as an operator makes one.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let (from, to) = (item.path(), to.join(item.file_name()));
        match from.is_dir() {
            true => copy_folder(&from, &to),
            false => drop(fs::copy(&from, &to).unwrap()),
        }
    }
}

/// Charges until it is told to stop, and keeps the answers. Some 40 charges fill a segment.
fn work(client: &Client, name: &str, told: &Mutex<Vec<Value>>, stop: &AtomicBool) {
    let body = large_payment("x").to_string();
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let key = format!("{name}-{number}");
        let Ok(paid) = client.try_post("/api/payments", &key, &body) else { return };
        if paid.status == 201 {
            told.lock().unwrap().push(paid.json);
        }
    }
}

#[test]
fn what_was_acknowledged_before_a_backup_began_outlives_the_disk() {
    let mut server = TestServer::start_with(&[LARGE_PAYMENTS]);
    let (told, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let (client, admin) = (server.client(MERCHANT_1_KEY), server.admin());
    let mut safe = Vec::new();
    thread::scope(|scope| {
        let _stopping = Stopping(&stop);
        for number in 0..4 {
            let (client, told, stop) = (&client, &told, &stop);
            scope.spawn(move || work(client, &format!("client{number}"), told, stop));
        }
        for round in 1..=3 {
            eventually("more payments are made", || {
                (told.lock().unwrap().len() > round * 60).then_some(())
            });
            safe = told.lock().unwrap().clone();
            // Segments go to the archive while they are copied.
            let snapshots = scope.spawn(|| [(); 2].map(|()| snapshot(&admin)));
            let made = backup(&server, "backup");
            snapshots.join().unwrap();
            assert!(made["payments"].as_u64().unwrap() >= u64::try_from(safe.len()).unwrap());
        }
        server.kill();
    });
    fs::remove_dir_all(server.data()).unwrap();
    let said = done(&restore(&server, &["backup", "--data", "data"]));
    for fact in ["every hash, rule and sum holds", "reconcile it with the providers"] {
        assert!(said.contains(fact), "no {fact} in: {said}");
    }
    server.restart();
    for payment in &safe {
        let found = server.payment(payment["id"].as_str().unwrap());
        assert_eq!(found, *payment, "it was acknowledged before the backup began");
    }
    let again = server.pay(safe[0]["idempotencyKey"].as_str().unwrap(), &large_payment("x"));
    assert!(again.is_replay(), "its key is still used");
    server.charge("after", 100).of(201);
    server.admin().reconciles();
    server.terminate();
    done(&server.tell(&["verify"]));
}

#[test]
fn a_second_backup_copies_only_what_is_new() {
    let mut server = TestServer::start_with(&[LARGE_PAYMENTS]);
    fill(&server, "first", 3);
    let count = |made: &Value, name: &str| made[name].as_u64().unwrap();
    let first = backup(&server, "backup");
    assert!(count(&first, "segmentsCopied") >= 3 && count(&first, "segmentsAlreadyThere") == 0);
    fill(&server, "second", 1);
    let second = backup(&server, "backup");
    assert_eq!(count(&second, "segmentsAlreadyThere"), count(&first, "segmentsCopied") - 1);
    assert!(count(&second, "segmentsCopied") <= 3, "{second}");
    assert!(count(&second, "bytesVerified") > count(&first, "bytesVerified"));
    server.terminate();
    backup(&server, "backup");
    let idle = backup(&server, "backup");
    assert_eq!((count(&idle, "segmentsCopied"), count(&idle, "bytesCopied")), (0, 0));
    // It is a data folder that every command reads, and says the same as the original.
    let verdicts = ["data", "backup"].map(|folder| {
        let verdict = done(&run(server.program(&["verify", "--json", "--data", folder])));
        serde_json::from_str::<Value>(&verdict).unwrap()
    });
    for fact in ["entries", "payments", "chainHead", "currencies", "lastEntryAt"] {
        assert_eq!(verdicts[0][fact], verdicts[1][fact]);
        if fact != "currencies" {
            assert_eq!(verdicts[0][fact], idle[fact]);
        }
    }
    let said = done(&server.tell(&["backup", "backup"]));
    assert!(said.contains("backed up data to backup: ") && said.contains("chain head "), "{said}");
}

#[test]
fn what_the_server_archives_is_not_copied_again() {
    let no_seal = ("STRONGROOM__JOURNAL__SEAL_AFTER_MS", "60000");
    let server = TestServer::start_with(&[LARGE_PAYMENTS, no_seal]);
    fill(&server, "first", 3);
    let first = backup(&server, "backup");
    for name in ["second", "third"] {
        server.charge(name, 100).of(201);
        snapshot(&server.admin());
    }
    let archived = || fs::read_dir(server.data().join("archive")).unwrap().count();
    assert!(archived() >= 2, "{}", archived());
    let next = backup(&server, "backup");
    let there = first["segmentsCopied"].as_u64().unwrap() - 1;
    assert_eq!(next["segmentsAlreadyThere"], there);
    // A new backup takes them as they are now, which is much smaller.
    let small = backup(&server, "small");
    assert_eq!(small["chainHead"], next["chainHead"]);
    assert!(small["bytesCopied"].as_u64().unwrap() < first["bytesCopied"].as_u64().unwrap());
    assert_eq!(fs::read_dir(server.path("small/archive")).unwrap().count(), archived());
    // It can be cut in the middle of what is archived, and a server goes on from there.
    let cut: Value = serde_json::from_str(&done(&restore(
        &server,
        &["small", "--data", "new", "--until", "5", "--json"],
    )))
    .unwrap();
    assert_eq!((&cut["entries"], &cut["segmentsCopied"]), (&json!(5), &json!(1)));
    let restored = server.beside(&["--data", "new"]);
    assert_eq!(restored.client(MERCHANT_1_KEY).all("/api/payments").len(), 4);
    restored.client(MERCHANT_1_KEY).charge("goes_on", 100).of(201);
}

#[test]
fn a_flipped_byte_in_a_backup_is_found_and_nothing_is_made_of_it() {
    let mut server = TestServer::start_with(&[LARGE_PAYMENTS]);
    fill(&server, "order", 2);
    server.terminate();
    backup(&server, "backup");
    let file = server.path("backup/journal/00000000000000000001.seg");
    let mut bytes = fs::read(&file).unwrap();
    bytes[2 * 4096 + 300] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let facts = ["00000000000000000001.seg", "byte 8192", "entry 2"];
    for more in [&[][..], &["--until", "20"]] {
        let damaged = restore(&server, &[&["backup", "--data", "new"], more].concat());
        check_refusal(&damaged, 3, &facts);
    }
    assert!(!server.path("new").exists() && !server.path("new.partial").exists());
    check_refusal(&server.tell(&["backup", "backup"]), 3, &facts);
    // What lies before the damage can still be had, and without the file a backup heals itself.
    done(&restore(&server, &["backup", "--data", "new", "--until", "1"]));
    fs::remove_file(&file).unwrap();
    assert_eq!(backup(&server, "backup")["segmentsCopied"], 1);
    done(&restore(&server, &["backup", "--data", "healed"]));
}

#[test]
fn a_backup_that_lost_its_end_is_not_taken_for_a_whole_one() {
    let mut server = TestServer::start_with(&[LARGE_PAYMENTS]);
    fill(&server, "order", 2);
    server.terminate();
    backup(&server, "backup");
    let mut segments: Vec<_> = fs::read_dir(server.path("backup/journal"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    segments.sort();
    fs::remove_file(segments.last().unwrap()).unwrap();
    check_refusal(&restore(&server, &["backup", "--data", "new"]), 3, &["were acknowledged"]);
    fs::remove_file(server.path("backup/journal/watermark")).unwrap();
    check_refusal(&restore(&server, &["backup", "--data", "new"]), 3, &["BACKUP", "its note"]);
    // Of what the note says is there, a part can be had, but not of another journal.
    done(&restore(&server, &["backup", "--data", "part", "--until", "5"]));
    let note = fs::read_to_string(server.path("backup/BACKUP")).unwrap();
    let store: Value = serde_json::from_str(&note).unwrap();
    let other = note.replace(store["store"].as_str().unwrap(), &uuid::Uuid::nil().to_string());
    for (text, word) in [(other.as_str(), "it is of store"), ("{}", "cannot be read")] {
        fs::write(server.path("backup/BACKUP"), text).unwrap();
        let until = restore(&server, &["backup", "--data", "new", "--until", "5"]);
        check_refusal(&until, 3, &["BACKUP", word]);
    }
    assert!(!server.path("new").exists() && !server.path("new.partial").exists());
}

#[test]
fn a_restore_until_a_sequence_or_time_makes_the_books_as_they_stood_then() {
    let server = TestServer::start();
    let first = server.authorize("first", 1000).of(201).id();
    server.capture(&first, "take", 700).of(200);
    let second = server.charge("second", 300).of(201).json;
    server.refund(&first, "back", 200).of(200);
    server.merchant_2().charge("third", 50).of(201);
    backup(&server, "backup");
    let trail = server.all(&format!("/api/payments/{first}/events"));
    let until_second = second["updatedAt"].as_str().unwrap();
    let mut moments: Vec<String> = trail.iter().map(|step| step["sequence"].to_string()).collect();
    moments.extend([until_second.to_owned(), "999999".into(), "2999-01-01T00:00:00Z".into()]);
    for (number, moment) in moments.iter().enumerate() {
        let new = format!("new{number}");
        let said = done(&restore(&server, &["backup", "--data", &new, "--until", moment.as_str()]));
        assert!(said.contains("cut after the last whole batch up to "), "{said}");
        let restored = server.beside(&["--data", &new]);
        for path in [
            "/api/ledger/merchant:merchant_1",
            &format!("/api/ledger/customer:{first}"),
            &format!("/api/payments/{first}"),
            &format!("/api/payments/{}", second["id"].as_str().unwrap()),
        ] {
            let then = server.get(&format!("{path}?at={moment}"));
            let now = restored.client(MERCHANT_1_KEY).get(path);
            assert_eq!((now.status, now.text()), (then.status, then.text()), "{moment} {path}");
        }
        restored.client(crate::server::ADMIN_KEY).reconciles();
        restored.client(MERCHANT_1_KEY).charge("goes_on", 100).of(201);
    }
    let none = restore(&server, &["backup", "--data", "new", "--until", "1970-01-01T00:00:00Z"]);
    check_refusal(&none, 1, &["no entry of it lies before"]);
    let wrong = restore(&server, &["backup", "--data", "new", "--until", "yesterday"]);
    check_refusal(&wrong, 2, &["yesterday"]);
    assert!(!server.path("new").exists());
}

#[test]
fn a_backup_never_gives_up_what_the_journal_no_longer_holds() {
    let mut server = TestServer::start();
    server.charge("kept", 100).of(201);
    server.kill();
    copy_folder(&server.data(), &server.path("older"));
    server.restart();
    let lost = server.charge("lost", 200).of(201).id();
    backup(&server, "backup");
    server.terminate();
    fs::remove_dir_all(server.data()).unwrap();
    fs::rename(server.path("older"), server.data()).unwrap();
    // First the journal is merely behind; then it has gone on by itself, further than the backup.
    check_refusal(&server.tell(&["backup", "backup"]), 1, &["does not hold", "another folder"]);
    server.restart();
    for number in 0..20 {
        server.charge(&format!("other-{number}"), 300).of(201);
    }
    check_refusal(&server.tell(&["backup", "backup"]), 1, &["does not hold", "another one"]);
    done(&restore(&server, &["backup", "--data", "new"]));
    let restored = server.beside(&["--read-only", "--data", "new"]);
    assert_eq!(restored.client(MERCHANT_1_KEY).payment(&lost)["amount"], 200);
}

#[test]
fn a_folder_that_is_not_meant_for_it_is_refused_and_stays_as_it_is() {
    let server = TestServer::start();
    let other = TestServer::start();
    server.charge("order", 100).of(201);
    backup(&other, server.path("others").to_str().unwrap());
    check_refusal(&server.tell(&["backup", "others"]), 2, &["is store", "another folder"]);
    check_refusal(&server.tell(&["backup", "data"]), 2, &["lies in the data folder"]);
    check_refusal(&server.tell(&["backup", "data/backup"]), 2, &["lies in the data folder"]);
    assert!(!server.path("data/backup").exists());
    let nothing = run(server.program(&["backup", "backup", "--data", "nowhere"]));
    check_refusal(&nothing, 2, &["no journal in nowhere"]);
    assert!(!server.path("backup").exists());
    backup(&server, "backup");
    let served = run(server.program(&["serve", "--data", "backup", "--listen", "127.0.0.1:0"]));
    check_refusal(&served, 2, &["backup is a backup", "strongroom restore backup"]);
    check_refusal(&restore(&server, &["backup", "--data", "data"]), 2, &["data is not empty"]);
    check_refusal(&restore(&server, &["nowhere", "--data", "new"]), 2, &["no journal in nowhere"]);
    // One that was killed over its work leaves a folder that nobody takes for data.
    fs::create_dir(server.path("new.partial")).unwrap();
    check_refusal(&restore(&server, &["backup", "--data", "new"]), 2, &["new.partial"]);
    fs::remove_dir(server.path("new.partial")).unwrap();
    fs::create_dir(server.path("new")).unwrap();
    done(&restore(&server, &["backup", "--data", "new"]));
    server.charge("next", 100).of(201);
}

#[test]
fn two_backups_to_one_folder_at_once_do_not_mix() {
    let server = TestServer::start();
    server.charge("order", 100).of(201);
    backup(&server, "backup");
    let held = strongroom::journal::DataLock::take(&server.path("backup")).unwrap();
    check_refusal(&server.tell(&["backup", "backup"]), 5, &["held by another process"]);
    // It can be read meanwhile, as far as it was known to be whole.
    done(&run(server.program(&["verify", "--data", "backup"])));
    drop(held);
    backup(&server, "backup");
}

/// The program under a limit on the size of files: the disk refuses to take more, in the middle of a segment.
fn with_little_room(server: &TestServer, arguments: &[&str]) -> Output {
    let program = server.program(arguments);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 800; exec \"$0\" \"$@\""]);
    command.arg(program.get_program()).args(program.get_args());
    command.current_dir(server.path("")).env_clear();
    run(command)
}

#[test]
fn a_disk_that_refuses_in_the_middle_leaves_the_last_backup_and_no_half_restore() {
    let server = TestServer::start_with(&[LARGE_PAYMENTS]);
    fill(&server, "first", 2);
    let before = backup(&server, "backup");
    fill(&server, "second", 2);
    let cut = with_little_room(&server, &["backup", "backup", "--data", "data"]);
    check_refusal(&cut, 4, &["cannot write", "File too large"]);
    let verdict = done(&run(server.program(&["verify", "--json", "--data", "backup"])));
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    assert_eq!(verdict["chainHead"], before["chainHead"]);
    let cut = with_little_room(&server, &["restore", "backup", "--data", "new"]);
    check_refusal(&cut, 4, &["nothing is left of it", "File too large"]);
    assert!(!server.path("new").exists() && !server.path("new.partial").exists());
    done(&restore(&server, &["backup", "--data", "new"]));
    assert!(backup(&server, "backup")["entries"].as_u64() > before["entries"].as_u64());
}
