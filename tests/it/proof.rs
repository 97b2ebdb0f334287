//! Books that others can check: `verify`, `journal print` and `export`, run on the folder of a server that was stopped, or beside one that
//! runs.

use crate::{server::TestServer, wait::Stopping};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
    process::Output,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

/// A customer's name with everything that has a meaning in some format.
const STRANGE: &str = "a:b;c,\"d\"";

/// A stopped server that has seen every kind of event, in currencies of 0, 2, 3 and 4 decimal places.
fn stopped_server() -> (TestServer, Paid) {
    let mut server = TestServer::start();
    let pay = |key: &str, body: Value| server.pay(key, &body).of(201).id();
    let of = |amount: i64, currency: &str| json!({"amount": amount, "currency": currency});
    let yen = pay("yen", of(500, "JPY"));
    pay("unidades", of(9_999, "CLF"));
    let named = json!({
        "amount": 1001, "currency": "KWD", "capture": "manual", "customerId": STRANGE,
    });
    let dinar = pay("dinar", named);
    server.capture(&dinar, "take", 700).of(200);
    server.refund(&dinar, "part", 1).of(200);
    let held = pay("held", json!({"amount": 100, "currency": "USD", "capture": "manual"}));
    let dropped = pay("dropped", json!({"amount": 50, "currency": "USD", "capture": "manual"}));
    server.void(&dropped).of(200);
    let cents = pay("cents", of(4999, "USD"));
    server.refund(&cents, "refund", 5).of(200);
    server.charge_with("tok_declined", "declined", 100).of(201);
    server.merchant_2().charge("theirs", 77).of(201);
    server.terminate();
    (server, Paid { yen, dinar, held, dropped })
}

struct Paid {
    yen: String,
    dinar: String,
    held: String,
    dropped: String,
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn told(server: &TestServer, arguments: &[&str]) -> String {
    let output = server.tell(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

fn first_segment(server: &TestServer) -> std::path::PathBuf {
    server.data().join("journal/00000000000000000001.seg")
}

/// Every file under the folder, with a digest of its content, its mode and the time it was last changed.
pub fn fingerprint(folder: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        let metadata = fs::metadata(&path).unwrap();
        let (mode, changed) = (metadata.permissions().mode(), metadata.modified().unwrap());
        let content = match path.is_dir() {
            true => {
                files.extend(fingerprint(&path));
                Vec::new()
            }
            false => fs::read(&path).unwrap(),
        };
        let digest = hex::encode(Sha256::digest(content));
        files.insert(path.display().to_string(), format!("{digest} {mode:o} {changed:?}"));
    }
    files
}

#[test]
fn a_sound_journal_is_verified_and_its_totals_are_those_of_the_ledger() {
    let (mut server, _) = stopped_server();
    let said = told(&server, &["verify"]);
    for fact in ["chain head ", "every hash, rule and sum holds", "JPY: debits 500, credits 500"] {
        assert!(said.contains(fact), "no {fact} in: {said}");
    }
    assert!(said.contains("KWD: debits 0.701, credits 0.701"), "{said}");
    assert!(said.contains("CLF: debits 0.9999, credits 0.9999"), "{said}");
    let verdict: Value = serde_json::from_str(&told(&server, &["verify", "--json"])).unwrap();
    assert_eq!((&verdict["ok"], &verdict["findings"]), (&json!(true), &json!([])));
    assert!(verdict["checks"].as_array().unwrap().iter().all(|check| check["failed"] == 0));
    server.restart();
    assert_eq!(verdict["payments"], server.admin().all("/api/payments").len());
    let run = server.admin().reconciles();
    for (ours, theirs) in
        verdict["currencies"].as_array().unwrap().iter().zip(run["currencies"].as_array().unwrap())
    {
        assert_eq!(ours["currency"], theirs["currency"]);
        assert_eq!(ours["debits"], theirs["totalDebits"]);
        assert_eq!(ours["credits"], theirs["totalCredits"]);
    }
    let trial = server.admin().get("/api/ledger").of(200).json;
    for kind in trial["accounts"].as_array().unwrap() {
        let mut kinds = verdict["currencies"].as_array().unwrap().iter().flat_map(|currency| {
            let kinds = currency["accounts"].as_array().unwrap().iter();
            kinds.map(|kind| (&currency["currency"], kind))
        });
        let same = |(currency, ours): (&Value, &Value)| {
            *currency == kind["currency"]
                && ["kind", "balance", "pending", "count"].iter().all(|n| ours[*n] == kind[*n])
        };
        assert!(kinds.any(same), "{kind} is not in {verdict:#}");
    }
}

#[test]
fn a_flipped_byte_is_found_and_its_file_offset_and_sequence_are_named() {
    let (server, _) = stopped_server();
    let file = first_segment(&server);
    let mut bytes = fs::read(&file).unwrap();
    // Block 0 is the header, block 1 the start's own entry, block 2 the first payment.
    bytes[2 * 4096 + 300] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let damaged = server.tell(&["verify"]);
    assert_eq!(damaged.status.code(), Some(3));
    for fact in ["00000000000000000001.seg", "byte 8192", "entry 2"] {
        assert!(stderr(&damaged).contains(fact), "no {fact} in: {}", stderr(&damaged));
        assert!(stdout(&damaged).contains(fact), "no {fact} in: {}", stdout(&damaged));
    }
    let damaged = server.tell(&["verify", "--json"]);
    assert_eq!(damaged.status.code(), Some(3));
    let verdict: Value = serde_json::from_str(&stdout(&damaged)).unwrap();
    assert_eq!(verdict["ok"], false);
    let finding = &verdict["findings"][0];
    assert_eq!((&finding["offset"], &finding["sequence"]), (&json!(8192), &json!(2)));
    assert!(finding["file"].as_str().unwrap().ends_with("00000000000000000001.seg"));
    // The very first block is damage that no batch could be read before.
    bytes[2 * 4096 + 300] ^= 1;
    bytes[40] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let damaged = server.tell(&["verify", "--json"]);
    assert_eq!(damaged.status.code(), Some(3));
    let verdict: Value = serde_json::from_str(&stdout(&damaged)).unwrap();
    assert_eq!(verdict["findings"][0]["offset"], 0);
}

#[test]
fn a_verification_changes_nothing_on_disk_and_needs_no_right_to() {
    let (server, _) = stopped_server();
    fs::remove_file(server.data().join("LOCK")).unwrap();
    let readable = |mode: u32| {
        fs::set_permissions(server.data().join("journal"), fs::Permissions::from_mode(mode))
    };
    readable(0o500).unwrap();
    let before = fingerprint(&server.data());
    for command in [&["verify"][..], &["journal", "print"], &["export", "--format", "csv"]] {
        told(&server, command);
    }
    assert_eq!(fingerprint(&server.data()), before);
    readable(0o700).unwrap();
}

#[test]
fn a_folder_that_a_server_holds_is_read_as_it_stood_and_the_server_goes_on() {
    let mut server = TestServer::start();
    let paid = server.charge("order", 100).of(201);
    for command in [&["verify"][..], &["journal", "print"], &["export", "--format", "csv"]] {
        let output = server.tell(command);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stderr(&output).contains("data is in use: reading it as it stood now, through"));
        assert!(command == ["verify"] || stdout(&output).contains(&paid.id()));
    }
    let verdict: Value = serde_json::from_str(&told(&server, &["verify", "--json"])).unwrap();
    assert_eq!((&verdict["ok"], &verdict["payments"]), (&json!(true), &json!(1)));
    server.charge("next", 100).of(201);
    // Where nothing says how far it is whole, nothing is read.
    fs::remove_file(server.data().join("journal/watermark")).unwrap();
    let refused = server.tell(&["verify"]);
    assert_eq!(refused.status.code(), Some(5), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("is held by another process"));
    server.kill();
    server.restart();
    assert_eq!(server.all("/api/payments").len(), 2);
}

#[test]
fn a_journal_that_grows_is_read_whole_through_the_entry_that_was_durable() {
    let server = TestServer::start();
    let merchant = server.client(crate::server::MERCHANT_1_KEY);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                merchant.charge(&format!("order-{number}"), 100).of(201);
            }
        });
        let _stopping = Stopping(&stop);
        let mut last = 0;
        for _ in 0..20 {
            let known = server.all("/api/payments?limit=100").len();
            let verdict = serde_json::from_str(&told(&server, &["verify", "--json"]));
            let verdict: Value = verdict.unwrap();
            let found = verdict["payments"].as_u64().unwrap();
            assert!(found >= last && found >= u64::try_from(known).unwrap(), "{found} {known}");
            assert_eq!((&verdict["ok"], &verdict["tornTail"]), (&json!(true), &json!(null)));
            last = found;
        }
    });
}

#[test]
fn a_batch_in_flight_is_not_looked_at_beside_a_server_that_runs() {
    let mut server = TestServer::start_with(&[("STRONGROOM__JOURNAL__SEAL_AFTER_MS", "60000")]);
    server.charge("order", 100).of(201);
    let segment = first_segment(&server);
    let bytes = fs::read(&segment).unwrap();
    let mut blocks = bytes.chunks(4096);
    let used = blocks.rposition(|block| block.iter().any(|byte| *byte != 0)).unwrap() + 1;
    // What a write leaves that is half done: a part of the next batch, behind all that was acknowledged.
    let half = &bytes[2 * 4096..2 * 4096 + 1000];
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(half, u64::try_from(used * 4096).unwrap()).unwrap();
    file.sync_all().unwrap();
    let verdict: Value = serde_json::from_str(&told(&server, &["verify", "--json"])).unwrap();
    assert_eq!((&verdict["ok"], &verdict["tornTail"]), (&json!(true), &json!(null)));
    assert_eq!(verdict["payments"], 1);
    server.charge("next", 100).of(201);
    server.terminate();
    let verdict: Value = serde_json::from_str(&told(&server, &["verify", "--json"])).unwrap();
    assert_eq!(verdict["payments"], 2);
}

#[test]
fn a_torn_tail_is_told_and_is_no_finding() {
    let (server, _) = stopped_server();
    let file = first_segment(&server);
    let mut bytes = fs::read(&file).unwrap();
    let used =
        bytes.chunks(4096).rposition(|block| block.iter().any(|byte| *byte != 0)).unwrap() + 1;
    // Of a further batch some sectors arrived, and not the first, and nobody was told of it.
    bytes[used * 4096 + 512..][..1500].fill(7);
    fs::write(&file, &bytes).unwrap();
    let said = told(&server, &["verify"]);
    assert!(said.contains(&format!("torn tail: 4096 bytes from byte {}", used * 4096)), "{said}");
    assert_eq!(fs::read(&file).unwrap(), bytes, "it is only looked at");
    let verdict: Value = serde_json::from_str(&told(&server, &["verify", "--json"])).unwrap();
    assert_eq!(verdict["tornTail"]["offset"], used * 4096);
}

#[test]
fn a_folder_without_a_journal_is_wrong_usage_and_stays_as_it_is() {
    let (server, _) = stopped_server();
    fs::remove_dir_all(server.data()).unwrap();
    let missing = server.tell(&["verify"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("no journal in data"), "{}", stderr(&missing));
    assert!(!server.data().exists());
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The decimal as minor units, whatever its places.
fn minor_units(decimal: &str) -> i64 {
    decimal.replace('.', "").parse().unwrap()
}

#[test]
fn an_export_adds_up_to_the_ledger() {
    let (mut server, _) = stopped_server();
    let transactions = lines(&told(&server, &["export", "--format", "jsonl"]));
    let mut sums: BTreeMap<(String, String, String), (i64, i64)> = BTreeMap::new();
    for transaction in &transactions {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        for leg in transaction["legs"].as_array().unwrap() {
            let (posted, pending) = (&leg["postedMinorUnits"], &leg["pendingMinorUnits"]);
            let (posted, pending) = (posted.as_i64().unwrap(), pending.as_i64().unwrap());
            assert_eq!(minor_units(leg["posted"].as_str().unwrap()), posted);
            assert_eq!(minor_units(leg["pending"].as_str().unwrap()), pending);
            let account = (text(&transaction["merchantId"]), text(&leg["accountId"]));
            let sum = sums.entry((account.0, account.1, text(&transaction["currency"])));
            let sum = sum.or_default();
            (sum.0, sum.1) = (sum.0 + posted, sum.1 + pending);
        }
    }
    server.restart();
    for ((merchant, account, currency), sum) in &sums {
        let client = if merchant == "merchant_1" { &*server } else { &server.merchant_2() };
        let name = account.replace(';', "%3B").replace('"', "%22");
        assert_eq!(client.balance(&name, currency), *sum, "{account}");
    }
    let trial = server.admin().get("/api/ledger").of(200).json;
    let kinds = trial["accounts"].as_array().unwrap().iter();
    assert_eq!(
        kinds.map(|kind| kind["count"].as_u64().unwrap()).sum::<u64>(),
        u64::try_from(sums.len()).unwrap()
    );
}

#[test]
fn every_format_writes_amounts_with_the_decimal_places_of_their_currency() {
    let (server, paid) = stopped_server();
    let csv = told(&server, &["export", "--format", "csv"]);
    let hledger = told(&server, &["export", "--format", "hledger"]);
    let beancount = told(&server, &["export", "--format", "beancount"]);
    let yen = format!(",charged,customer:{},merchant_1,JPY,-500,0\n", paid.yen);
    assert!(csv.contains(&yen), "no {yen} in {csv}");
    let named = ",captured,\"customer:a:b;c,\"\"d\"\"\",merchant_1,KWD,-0.700,1.001\n";
    let named = format!("{}{named}", paid.dinar);
    assert!(csv.contains(&named), "no {named} in {csv}");
    for line in [
        &format!("    customer:{}  500 JPY\n    merchant:merchant_1  -500 JPY\n", paid.yen),
        "    customer:merchant_1:a%3Ab%3Bc%2C%22d%22  0.700 KWD  ; pending: -1.001 KWD\n",
        "    customer:merchant_1:a%3Ab%3Bc%2C%22d%22  -0.001 KWD\n",
        "    merchant:merchant_1  -0.9999 CLF\n",
        "    merchant:merchant_1  0.00 USD = -49.94 USD\n",
    ] {
        assert!(hledger.contains(line), "no {line} in {hledger}");
    }
    for line in [
        "  Assets:Customer:X-merchant-5F1:X-a-3Ab-3Bc-2C-22d-22  0.700 KWD  ; pending: -1.001 KWD\n",
        "  Liabilities:Merchant:X-merchant-5F1  -500 JPY\n",
        "balance Liabilities:Merchant:X-merchant-5F1  -0.9999 ~ 0 CLF\n",
    ] {
        assert!(beancount.contains(line), "no {line} in {beancount}");
    }
    // Money that was only held is no posting.
    for payment in [&paid.held, &paid.dropped] {
        for text in [&hledger, &beancount] {
            let mut lines = text.lines().filter(|line| line.contains(payment.as_str()));
            assert!(lines.all(|line| line.starts_with("; ")), "{payment} in {text}");
        }
    }
}

#[test]
fn an_export_is_cut_by_account_time_and_sequence() {
    let (server, paid) = stopped_server();
    let export =
        |cut: &[&str]| lines(&told(&server, &[&["export", "--format", "jsonl"], cut].concat()));
    let all = export(&[]);
    let of_account = export(&["--account", &format!("customer:{}", paid.yen)]);
    assert_eq!(of_account.len(), 1);
    assert_eq!(of_account[0]["paymentId"], paid.yen);
    assert_eq!(export(&["--account", "merchant:merchant_2"]).len(), 1);
    assert_eq!(export(&["--account", "merchant:nobody"]).len(), 0);
    let sequence = all[3]["sequence"].to_string();
    let (before, after) = (export(&["--to", &sequence]), export(&["--from", &sequence]));
    assert_eq!(before, all[..4]);
    assert_eq!(after, all[3..]);
    let time = all[3]["time"].as_str().unwrap();
    assert!(export(&["--from", time]).contains(&all[3]));
    assert!(export(&["--to", time]).contains(&all[3]));
    assert_eq!(export(&["--from", "2999-01-01T00:00:00Z"]).len(), 0);
    let wrong = server.tell(&["export", "--format", "csv", "--from", "yesterday"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_damaged_journal_is_exported_up_to_the_damage_and_says_so() {
    let (server, _) = stopped_server();
    let whole = told(&server, &["export", "--format", "csv"]);
    let file = first_segment(&server);
    let mut bytes = fs::read(&file).unwrap();
    bytes[4 * 4096 + 300] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let cut = server.tell(&["export", "--format", "csv"]);
    assert_eq!(cut.status.code(), Some(3));
    assert!(stderr(&cut).contains("byte 16384"), "{}", stderr(&cut));
    assert!(whole.starts_with(&stdout(&cut)) && stdout(&cut).lines().count() > 1);
}

#[test]
fn a_payments_entries_are_shown_with_what_happened_legs_key_and_block() {
    let (mut server, paid) = stopped_server();
    let shown = told(&server, &["journal", "print", "--payment", &paid.dinar]);
    for line in [
        "version 1  authorized 1.001 KWD on tok_visa",
        "version 2  captured 0.700 KWD, released 0.301 KWD, by merchant_1/test",
        "    merchant:merchant_1  credit 0.700 KWD, pending debit 1.001 KWD",
        "    key take (capture)",
        "version 3  refunded 0.001 KWD, by merchant_1/test",
    ] {
        assert!(shown.contains(line), "no {line:?} in {shown}");
    }
    assert!(!shown.contains(&paid.yen));
    let printed = lines(&told(&server, &["journal", "print", "--json", "--payment", &paid.dinar]));
    assert_eq!(printed.len(), 3);
    assert_eq!(printed[1]["facts"], json!({"amount": 700, "released": 301}));
    assert_eq!(printed[2]["transaction"]["legs"][0]["posted"], 1);
    server.restart();
    let events = server.get(&format!("/api/payments/{}/events", paid.dinar)).of(200).json;
    for entry in &printed {
        let mut events = events["data"].as_array().unwrap().iter();
        let event = events.find(|event| event["sequence"] == entry["sequence"]).unwrap();
        assert_eq!(event["blockHash"], entry["blockHash"]);
        assert_eq!(event["at"], entry["time"]);
        assert_eq!(event["actor"], entry["actor"]);
    }
}

#[test]
fn the_journal_is_shown_whole_or_from_an_entry_to_an_entry() {
    let (server, _) = stopped_server();
    let all = lines(&told(&server, &["journal", "print", "--json"]));
    let sequences: Vec<u64> = all.iter().map(|line| line["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.iter().copied().eq(1..=u64::try_from(all.len()).unwrap()), "{sequences:?}");
    assert_eq!((&all[0]["entry"], &all[0]["epoch"]), (&json!("opened"), &json!(1)));
    let some = lines(&told(&server, &["journal", "print", "--json", "--from", "3", "--to", "5"]));
    assert_eq!(some, all[2..5]);
    let shown = told(&server, &["journal", "print"]);
    assert_eq!(shown.lines().filter(|line| line.starts_with("    block ")).count(), all.len());
    let wrong = server.tell(&["journal", "print", "--payment", "order_1"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (server, _) = stopped_server();
    for command in [&["journal", "print"][..], &["verify"], &["export", "--format", "csv"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = server.tell_into(command, writer);
        assert_eq!((ended.status.code(), stderr(&ended)), (Some(0), String::new()), "{command:?}");
    }
}
