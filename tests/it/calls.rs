//! Every call to the disk fails once: whichever it is, what was acknowledged is there after the next start.
//!
//! On an ordinary disk the calls are those of the journal, the archive and the snapshots to their folders, and the
//! double fails them. On the disk of `tests/lossyfs` they are all that the kernel hands to the file system, and the
//! power fails too when the server is killed.

use crate::{
    client::Client,
    record::Record,
    server::{MERCHANT_1_KEY, TestServer, disk},
    wait::at_once,
};
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

const SNAPSHOTS: [(&str, &str); 2] =
    [("STRONGROOM__SNAPSHOTS__EVERY", "1h"), ("STRONGROOM__SNAPSHOTS__EVERY_BYTES", "1073741824")];

/// Every how many calls one fails; `CALLS=1` for each of them.
fn stride() -> u64 {
    env::var("CALLS").map_or(12, |text| text.parse().expect("CALLS is a number"))
}

/// The file system that fails its calls itself, if that is what the data lies on.
fn switch() -> Option<PathBuf> {
    disk().map(|disk| disk.join(".fail")).filter(|switch| switch.exists())
}

/// A folder with two segments and what a snapshot covers, and the record of its clients.
fn prepared() -> (TestServer, Record) {
    let mut server = TestServer::start_with(&SNAPSHOTS);
    let record = Record::default();
    let segments =
        |server: &TestServer| fs::read_dir(server.data().join("journal")).unwrap().count();
    for round in 0.. {
        let client = server.client(MERCHANT_1_KEY);
        record.while_clients_work((&client, &format!("before{round}")), 40, || ());
        // Two of them, one ahead, the watermark.
        if segments(&server) >= 4 {
            break;
        }
    }
    snapshot(&server.admin());
    server.kill();
    (server, record)
}

/// Has a snapshot made, if the server is there and can.
fn snapshot(admin: &Client) {
    drop(admin.try_post("/api/snapshot", "", "{}"));
}

/// What became of a server of which one call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Became {
    DidNotStart,
    Ended,
    WentOn,
}

/// Starts a server on a copy, has it do all that it does, and stops it, while its call number `number` fails with
/// `error`. Says which call that was, if there were so many, and what became of it.
fn with_failing_call(
    (data, record): (&Path, &Record),
    number: u64,
    error: &str,
) -> Option<(String, Became)> {
    let fault = format!("call-fails:{number}");
    let mut server = TestServer::on_copy_of(data, &SNAPSHOTS);
    match switch() {
        Some(switch) => fs::write(switch, format!("{number} {error}")).unwrap(),
        None => server.set("STRONGROOM_FAULT", &fault),
    }
    let mut record = record.copy();
    let became = work(&mut server, &record);
    let called = match switch() {
        Some(switch) => {
            let said = fs::read_to_string(&switch).unwrap();
            fs::write(&switch, "0 EIO").unwrap();
            said.trim_end().split_once("failed: ").map(|(_, call)| call.to_owned())
        }
        None => {
            let call =
                regex::Regex::new(r#"was to fail","what":"([^"]*)","name":"([^"]*)""#).unwrap();
            call.captures(&server.logs()).map(|it| format!("{} {}", &it[1], &it[2]))
        }
    };
    server.unset("STRONGROOM_FAULT");
    server.restart();
    record.prove(&server);
    let called = called.filter(|call| call != "none")?;
    Some((called, became))
}

/// A start, work through a change of segments, two snapshots, so that segments go to the archive, and a stop.
fn work(server: &mut TestServer, record: &Record) -> Became {
    if let Err(status) = server.try_restart() {
        assert_eq!(status.code(), Some(4), "{}", server.logs());
        server.kill();
        return Became::DidNotStart;
    }
    let (client, admin) = (server.client(MERCHANT_1_KEY), server.admin());
    for name in ["first", "second"] {
        record.while_clients_work((&client, name), 30, || ());
        snapshot(&admin);
    }
    let ended = server.has_ended();
    if ended.is_none() {
        server.ask_to_stop();
    }
    let status = server.wait_for_exit();
    server.kill();
    match (ended, status.code()) {
        (None, Some(0)) => Became::WentOn,
        (_, Some(1 | 4)) => Became::Ended,
        (_, code) => panic!("{code:?}: {}", server.logs()),
    }
}

#[test]
fn whichever_call_to_the_disk_fails_nothing_acknowledged_is_lost() {
    let (server, record) = prepared();
    let data = server.data();
    let errors: &[&str] =
        if switch().is_some() { &["EIO", "ENOSPC", "EINTR", "SHORT"] } else { &["EIO"] };
    // A file system that fails its calls itself counts those of one server.
    let at_a_time = if switch().is_some() { 1 } else { 2 };
    for error in errors {
        let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let outcomes: Mutex<BTreeMap<(String, Became), u64>> = Mutex::default();
        at_once(at_a_time, |_| {
            while !over.load(Ordering::SeqCst) {
                let number = 1 + stride() * next.fetch_add(1, Ordering::SeqCst);
                match with_failing_call((&data, &record), number, error) {
                    Some(outcome) => *outcomes.lock().unwrap().entry(outcome).or_default() += 1,
                    None => over.store(true, Ordering::SeqCst),
                }
            }
        });
        let outcomes = outcomes.into_inner().unwrap();
        for ((call, became), count) in &outcomes {
            println!("{error} {count} x {call}: {became:?}");
        }
        let failed: u64 = outcomes.values().sum();
        println!("{error}: {failed} calls failed, each in a run of its own");
        assert!(failed > 5, "few calls were made, or the fault was misspelt");
    }
}
