//! The engine that keeps comparing the books with the journal: it finds what goes wrong in memory and on disk, says so in
//! every place there is, and is in nobody's way.

use crate::{
    backup::large_payment,
    pager::{Message, Pager},
    server::TestServer,
    wait::{at_once, eventually},
};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};
use strongroom::{
    clock::{Clock, SystemClock},
    domain::time::Timestamp,
    journal::{DirectIo, Folders, Options, recover},
};
use tempfile::TempDir;

const BALANCE: &str = "balances_match_journal";
const INTACT: &str = "journal_is_intact";
const MERCHANT: &str = "merchant:merchant_1";
const EVERY: &str = "STRONGROOM__RECONCILIATION__EVERY_MS";
const FULL_EVERY: &str = "STRONGROOM__RECONCILIATION__FULL_EVERY";

/// A file that is a sign to the server: what it says happens while it exists.
struct Sign {
    _folder: TempDir,
    path: PathBuf,
}

impl Sign {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sign");
        Self { _folder: folder, path }
    }

    /// The value of an environment variable that names this sign.
    fn of(&self, fault: &str) -> String {
        format!("{fault}:{}", self.path.display())
    }

    fn raise(&self) {
        fs::write(&self.path, "").unwrap();
    }

    fn lower(&self) {
        fs::remove_file(&self.path).unwrap();
    }
}

/// A server whose merchant_1 has a cent too much in memory while the sign is raised.
fn server_with_wrong_balance(settings: &[(&str, &str)]) -> (TestServer, Sign) {
    let sign = Sign::new();
    let fault = sign.of("merchant-balance-off-while");
    let fault = ("STRONGROOM_BOOKS_FAULT", fault.as_str());
    let settings: Vec<_> = settings.iter().copied().chain([fault]).collect();
    (TestServer::start_with(&settings), sign)
}

/// Raises the sign and waits until the balance is wrong: `right` and one cent.
fn make_wrong(server: &TestServer, sign: &Sign, right: i64) {
    sign.raise();
    eventually("the balance is wrong", || {
        (server.balance(MERCHANT, "USD") == (right + 1, 0)).then_some(())
    });
}

fn make_right(server: &TestServer, sign: &Sign, right: i64) {
    sign.lower();
    eventually("the balance is right", || {
        (server.balance(MERCHANT, "USD") == (right, 0)).then_some(())
    });
}

fn reconcile(server: &TestServer) -> Value {
    server.admin().post("/api/reconcile", "", &json!({})).of(200).json
}

fn failures(run: &Value, check: &str) -> Vec<String> {
    let checks = run["checks"].as_array().unwrap();
    let check = checks.iter().find(|each| each["name"] == check).unwrap_or(&Value::Null);
    let failures = check["failures"].as_array().unwrap_or_else(|| panic!("{run:#}"));
    assert_eq!(check["ok"], failures.is_empty(), "{run:#}");
    failures.iter().map(|failure| failure.as_str().unwrap().to_owned()).collect()
}

/// The alarms in `/ready`, which stays 200, as an admin reads them.
fn alarms(server: &TestServer) -> Vec<Value> {
    alarms_in(&server.admin().get("/ready").of(200).json)
}

fn alarms_in(ready: &Value) -> Vec<Value> {
    assert_eq!(ready["status"], "ready");
    ready["alarms"].as_array().cloned().unwrap_or_default()
}

fn metric(server: &TestServer, name: &str) -> Option<String> {
    let text = server.admin().get("/metrics").of(200).text();
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
    text.lines().find_map(value)
}

/// The last runs that found something, newest first.
fn bad_runs(server: &TestServer) -> Vec<Value> {
    let runs = server.admin().all("/api/reconcile?limit=100");
    runs.into_iter().filter(|run| run["balanced"] == false).collect()
}

/// Changes a bit in the middle of the second batch, the first payment's. A second call changes it back.
fn flip_a_bit_on_disk(server: &TestServer) {
    flip_a_bit(&server.data().join("journal/00000000000000000001.seg"), 2 * 4096 + 150);
}

fn flip_a_bit(path: &Path, place: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).unwrap();
    file.write_all_at(&[byte[0] ^ 1], place).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn a_balance_that_is_wrong_in_memory_is_found_by_the_next_run_and_told_in_every_place() {
    let (server, sign) = server_with_wrong_balance(&[]);
    server.charge("order", 4999).of(201);
    server.admin().reconciles();
    assert!(alarms(&server).is_empty());
    assert_eq!(metric(&server, "strongroom_reconciliation_findings_total").unwrap(), "0");
    make_wrong(&server, &sign, 4999);

    let run = reconcile(&server);
    assert_eq!(run["balanced"], false);
    let words = "merchant:merchant_1 USD: the running balance in memory is 5000 (pending 0), the journal on disk adds up \
                 to 4999 (pending 0)";
    assert_eq!(failures(&run, BALANCE), [words]);
    assert_eq!(failures(&run, "balances_match_entries").len(), 1, "the recount sees it too");
    assert!(failures(&run, INTACT).is_empty());
    assert_eq!(bad_runs(&server), [run], "it is kept");

    let alarm = alarms(&server).remove(0);
    assert_eq!(alarm["code"], "reconciliation.failed");
    let detail = alarm["detail"].as_str().unwrap();
    for word in [MERCHANT, "5000", "4999", "2 findings", "rec_", "stop taking payments"] {
        assert!(detail.contains(word), "{word}: {detail}");
    }
    let known = [json!({"code": alarm["code"], "since": alarm["since"]})];
    let stranger = server.send("GET", "/ready", &[], None).unwrap().of(200).json;
    let merchant = server.get("/ready").of(200).json;
    for ready in [stranger, merchant] {
        assert_eq!(alarms_in(&ready), known, "whose money it is, is not for them");
    }
    assert_eq!(metric(&server, "strongroom_reconciliation_findings_total").unwrap(), "2");
    let code = r#"strongroom_alarm{code="reconciliation.failed"}"#;
    assert_eq!(metric(&server, code).unwrap(), "1");
    eventually("the log says so", || {
        let logs = server.logs();
        let mut errors = logs.lines().filter(|line| line.contains("ERROR"));
        errors.find(|line| line.contains(words) && line.contains(BALANCE)).map(drop)
    });

    // The books were never judged by it: payments go on. The operator mends it, and a clean full run ends the alarm.
    server.charge("another", 1).of(201);
    make_right(&server, &sign, 5000);
    let since = &alarm["since"];
    assert_eq!(&alarms(&server)[0]["since"], since, "it stands until a full run finds nothing");
    server.admin().reconciles();
    assert!(alarms(&server).is_empty());
    assert_eq!(metric(&server, code), None);
}

#[test]
fn a_byte_that_rots_on_disk_under_a_running_server_is_found_by_the_next_run() {
    let server = TestServer::start();
    let charge = server.charge("order", 4999).of(201);
    server.admin().reconciles();
    flip_a_bit_on_disk(&server);
    let run = reconcile(&server);
    assert_eq!(run["balanced"], false);
    let found = failures(&run, INTACT).remove(0);
    for word in ["journal/00000000000000000001.seg", "byte 8192", "entry 2"] {
        assert!(found.contains(word), "{found}");
    }
    assert_eq!(alarms(&server)[0]["code"], "reconciliation.failed");
    assert!(failures(&run, "balances_match_entries").is_empty(), "memory is right");
    assert_eq!(server.payment(&charge.id()), charge.json, "and goes on");
    server.charge("another", 1).of(201);
    flip_a_bit_on_disk(&server);
    server.admin().reconciles();
    assert!(alarms(&server).is_empty());
}

#[test]
fn what_goes_wrong_is_found_in_the_background_though_nobody_asks() {
    let (server, sign) = server_with_wrong_balance(&[(EVERY, "10"), (FULL_EVERY, "100ms")]);
    server.charge("order", 4999).of(201);
    let found = |check: &str| {
        let runs = bad_runs(&server);
        let of = |run: &&Value| !failures_if_any(run, check).is_empty();
        runs.iter().find(of).map(|run| assert_eq!(run["trigger"], "schedule"))
    };
    make_wrong(&server, &sign, 4999);
    eventually("the wrong balance is found", || found("balances_match_entries"));
    eventually("there is an alarm", || (!alarms(&server).is_empty()).then_some(()));
    make_right(&server, &sign, 4999);
    eventually("the alarm is over", || alarms(&server).is_empty().then_some(()));

    flip_a_bit_on_disk(&server);
    eventually("the rotten byte is found", || found(INTACT));
    eventually("there is an alarm", || (!alarms(&server).is_empty()).then_some(()));
    flip_a_bit_on_disk(&server);
    eventually("the alarm is over", || alarms(&server).is_empty().then_some(()));
}

fn failures_if_any(run: &Value, check: &str) -> Vec<Value> {
    let checks = run["checks"].as_array().unwrap();
    let check = checks.iter().find(|each| each["name"] == check);
    check.map(|check| check["failures"].as_array().unwrap().clone()).unwrap_or_default()
}

#[test]
fn what_a_commit_touches_is_checked_without_waiting_for_a_full_run() {
    let (server, sign) = server_with_wrong_balance(&[(EVERY, "10"), (FULL_EVERY, "366d")]);
    server.charge("order", 100).of(201);
    server.admin().reconciles();
    make_wrong(&server, &sign, 100);
    server.charge("another", 7).of(201);
    let run = eventually("the wrong balance is found", || bad_runs(&server).pop());
    assert_eq!(run["trigger"], "commit");
    let found = failures(&run, BALANCE);
    assert!(found[0].starts_with("merchant:merchant_1 USD: "), "{found:?}");
    eventually("it is told", || (alarms(&server).len() == 1).then_some(()));

    // From there on only a full run can say that all is well.
    make_right(&server, &sign, 107);
    server.charge("third", 1).of(201);
    assert_eq!(alarms(&server).len(), 1);
    server.admin().reconciles();
    assert!(alarms(&server).is_empty());
}

/// A payment with so much on it that a few dozen fill a segment.
fn bulky(number: usize) -> Value {
    let mut body = large_payment("v");
    body["customerId"] = format!("customer_{}", number % 7).into();
    body
}

/// How far everything is known to be right, and the last entry.
fn through(server: &TestServer) -> (u64, u64) {
    let through = server.admin().get("/api/reconcile").of(200).json["reconciledThrough"].clone();
    let last = server.admin().get("/api/ledger").of(200).json["sequence"].as_u64().unwrap();
    if through.is_null() {
        return (0, last);
    }
    assert!(through.as_object().unwrap().keys().eq(["ageMs", "at", "sequence"]), "{through}");
    assert!(through["ageMs"].is_u64() && through["at"].is_string());
    (through["sequence"].as_u64().unwrap(), last)
}

#[test]
fn the_books_are_reconciled_through_the_last_entry_by_themselves() {
    // Entries over several segments, most of them booked after the start's own run.
    let mut server = TestServer::start_with(&[(EVERY, "10"), (FULL_EVERY, "366d")]);
    let segments = || fs::read_dir(server.data().join("journal")).unwrap().count();
    let before = segments();
    for number in 0..80 {
        let id = server.pay_in_time(&format!("order_{number}"), &bulky(number)).of(201).id();
        if number % 10 == 0 {
            server.refund_all(&id).of(200);
        }
    }
    assert!(segments() > before, "the journal went on in a new segment");
    let caught_up = |server: &TestServer| {
        eventually("it is reconciled through the last entry", || {
            let (through, last) = through(server);
            (through == last && last > 80).then_some(last)
        })
    };
    let last = caught_up(&server);
    let number = |name: &str| metric(&server, name).unwrap().parse::<u64>().unwrap();
    assert!(number("strongroom_journal_sequence") >= last);
    assert!(number("strongroom_reconciliation_through_sequence") >= last);
    assert!(number("strongroom_reconciliation_incremental_runs_total") >= 1);
    assert_eq!(number("strongroom_reconciliation_findings_total"), 0);
    assert_eq!(number("strongroom_payments{status=\"completed\"}"), 72);
    assert_eq!(number("strongroom_payments{status=\"refunded\"}"), 8);
    let age = metric(&server, "strongroom_reconciliation_age_seconds").unwrap();
    age.parse::<f64>().unwrap();
    let runs = server.admin().all("/api/reconcile");
    assert!(runs.iter().all(|run| run["trigger"] == "schedule"), "others found nothing: {runs:?}");

    server.kill();
    server.restart();
    caught_up(&server);
    assert!(alarms(&server).is_empty());
}

#[test]
fn a_byte_that_rots_in_the_archive_is_found_by_the_next_full_run() {
    let server = TestServer::start_with(&[(FULL_EVERY, "366d")]);
    for round in 0..3 {
        for number in 0..60 {
            server.pay_in_time(&format!("order_{round}_{number}"), &bulky(number)).of(201);
        }
        server.admin().post("/api/snapshot", "", &json!({})).of(200);
    }
    let archive = server.data().join("archive");
    let mut segments = fs::read_dir(&archive).unwrap().map(|segment| segment.unwrap().path());
    let segment = segments.next().expect("segments that two snapshots cover are archived");
    server.admin().reconciles();
    flip_a_bit(&segment, segment.metadata().unwrap().len() / 2);
    let run = reconcile(&server);
    let found = failures(&run, INTACT).remove(0);
    assert!(found.contains("archive/"), "{found}");
    assert_eq!(alarms(&server).len(), 1);
    server.charge("another", 1).of(201);
    flip_a_bit(&segment, segment.metadata().unwrap().len() / 2);
    server.admin().reconciles();
    assert!(alarms(&server).is_empty());
}

#[test]
fn an_engine_that_dies_of_a_bug_is_heard_of_and_payments_go_on() {
    let sign = Sign::new();
    let fault = sign.of("read-panics-while");
    let server = TestServer::start_with(&[("STRONGROOM_FAULT", &fault), (FULL_EVERY, "366d")]);
    server.admin().reconciles();
    sign.raise();
    let refused = server.admin().post("/api/reconcile", "", &json!({}));
    refused.problem(503, "not_serving");
    let alarm = eventually("there is an alarm", || alarms(&server).pop());
    assert_eq!(alarm["code"], "reconciliation.died");
    server.charge("order", 100).of(201);
    sign.lower();
    server.admin().post("/api/reconcile", "", &json!({})).problem(503, "not_serving");
    assert_eq!(alarms(&server).len(), 1);
}

#[test]
fn a_thread_for_snapshots_that_dies_of_a_bug_is_heard_of_and_payments_go_on() {
    let sign = Sign::new();
    let fault = sign.of("read-panics-while");
    let settings = [("STRONGROOM_FAULT", fault.as_str()), (EVERY, "3600000"), (FULL_EVERY, "366d")];
    let server = TestServer::start_with(&settings);
    server.charge("before", 100).of(201);
    server.admin().reconciles();
    sign.raise();
    let refused = server.admin().post("/api/snapshot", "", &json!({}));
    refused.problem(503, "snapshot_failed");
    let alarm = eventually("there is an alarm", || alarms(&server).pop());
    assert_eq!(alarm["code"], "snapshot.failed");
    let detail = alarm["detail"].as_str().unwrap();
    assert!(detail.contains("died of a bug"), "{detail}");
    server.charge("after", 100).of(201);
}

#[test]
fn payments_go_on_while_a_full_run_reads_the_disk_and_a_stop_does_not_wait_for_it() {
    let sign = Sign::new();
    let fault = sign.of("read-hangs-while");
    let mut server = TestServer::start_with(&[
        ("STRONGROOM_FAULT", &fault),
        ("STRONGROOM__HTTP__DRAIN_TIMEOUT_MS", "3000"),
        (EVERY, "10"),
        (FULL_EVERY, "366d"),
    ]);
    server.charge("before", 1).of(201);
    server.admin().reconciles();
    sign.raise();
    let answers = at_once(2, |number| match number {
        0 => reconcile(&server),
        _ => {
            for round in 0..50 {
                let id = server.authorize(&format!("hold_{round}"), 100).of(201).id();
                server.capture(&id, &format!("take_{round}"), 80).of(200);
                server.refund(&id, &format!("part_{round}"), 20).of(200);
            }
            let runs = server.admin().all("/api/reconcile");
            let by_request = runs.iter().filter(|run| run["trigger"] == "request");
            assert_eq!(by_request.count(), 1, "the second run is still under way");
            sign.lower();
            Value::Null
        }
    });
    assert_eq!(answers[0]["balanced"], true, "{:#}", answers[0]);
    assert_eq!(server.balance(MERCHANT, "USD"), (1 + 50 * 60, 0));
    server.admin().reconciles();

    // It hangs again, as what is new is checked.
    sign.raise();
    server.charge("after", 1).of(201);
    server.ask_to_stop();
    assert!(server.wait_for_exit().success(), "{}", server.logs());
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn a_finding_is_told_to_the_operators_webhook_signed_and_again_until_it_is_heard() {
    let pager = Pager::start(&[500, 200]);
    let url = pager.url("/hook?token=s3cr3t");
    let (server, sign) = server_with_wrong_balance(&[
        (FULL_EVERY, "366d"),
        ("STRONGROOM__ALERTS__WEBHOOK_URL", &url),
        ("STRONGROOM__ALERTS__WEBHOOK_SECRET", SECRET),
    ]);
    server.charge("order", 4999).of(201);
    server.admin().reconciles();
    make_wrong(&server, &sign, 4999);
    assert_eq!(reconcile(&server)["balanced"], false);
    let (first, second) = (pager.next(), pager.next());
    let verify = |message: &Message| {
        let webhook = standardwebhooks::Webhook::new(SECRET).unwrap();
        webhook.verify(&message.body, &message.headers).unwrap();
        serde_json::from_slice::<Value>(&message.body).unwrap()
    };
    let alert = verify(&first);
    assert_eq!(verify(&second), alert, "the same message once more");
    assert_eq!(first.headers["webhook-id"], second.headers["webhook-id"]);
    assert_eq!(first.request, "POST /hook?token=s3cr3t HTTP/1.1");
    assert_eq!(first.headers["webhook-id"].to_str().unwrap(), alert["id"].as_str().unwrap());
    assert!(alert["id"].as_str().unwrap().starts_with("evt_"));
    assert_eq!(alert["type"], "reconciliation.failed");
    assert!(alert["timestamp"].is_string());
    let alarm = alarms(&server).remove(0);
    assert_eq!(alert["data"], alarm);
    assert!(alarm["detail"].as_str().unwrap().contains("merchant:merchant_1 USD"));
    server.says("alert delivered");
    assert!(!server.logs().contains("s3cr3t") && !server.logs().contains(&SECRET[6..]));
}

#[test]
fn an_alert_is_signed_at_the_machines_time_though_the_journal_is_ahead_of_it() {
    let pager = Pager::start(&[200]);
    let url = pager.url("/hook");
    let (mut server, sign) = server_with_wrong_balance(&[
        ("STRONGROOM__ALERTS__WEBHOOK_URL", &url),
        ("STRONGROOM__ALERTS__WEBHOOK_SECRET", SECRET),
    ]);
    server.charge("order", 4999).of(201);
    server.kill();
    // Another process went on with a clock that was an hour ahead.
    let folders = Folders::open(&server.data(), DirectIo::Never).unwrap();
    let options = Options {
        segment_bytes: 1024 * 1024,
        batch_bytes_max: 256 * 1024,
        software: "0.1.0".into(),
    };
    let later = Timestamp::from_millis(SystemClock::default().now().millis() + 3_600_000);
    drop(recover(&folders, options, later, Default::default(), &mut |_| Ok(())).unwrap());
    server.restart();
    server.says("the machine's clock stands behind the journal");
    make_wrong(&server, &sign, 4999);
    assert_eq!(reconcile(&server)["balanced"], false);
    let alert = pager.next();
    let webhook = standardwebhooks::Webhook::new(SECRET).unwrap();
    webhook.verify(&alert.body, &alert.headers).unwrap();
}
