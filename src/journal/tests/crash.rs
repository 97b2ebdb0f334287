//! Every way to crash: at each call of the disk, with each kind of fault, and with many outcomes of
//! what was not synced.
//!
//! `CRASHES=n` tries n times as many outcomes per call as a normal run.

use super::*;
use crate::{domain::entry::Record, journal::disk::simulated::Fault};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::cell::Cell;

thread_local! {
    /// How many states of the disk were started on.
    static STATES: Cell<u64> = const { Cell::new(0) };
}

/// What the outside world knows.
#[derive(Clone, Default)]
struct Told {
    acknowledged: Vec<Batch>,
    /// Asked for, never answered.
    in_flight: Option<Vec<Record>>,
}

/// A server's life until it ends or the disk fails: a start and some batches, over a rotation.
fn live(disk: &SimulatedDisk, told: &mut Told, now: u64) {
    let Ok((recovered, read)) = open(disk, at(now)) else {
        return;
    };
    told.acknowledged = read;
    let mut writer = recovered.writer;
    let records = samples::all();
    for size in [1, 9_000, 2, 30_000, 3, 15_000, 20_000, 1] {
        let batch = match size {
            small @ 0..10 => records.iter().take(small).cloned().collect(),
            large => vec![samples::large(large)],
        };
        match writer.append(batch.clone(), at(now + 1)) {
            Ok(batch) => told.acknowledged.push(batch),
            Err(_) => {
                told.in_flight = Some(batch);
                return;
            }
        }
        writer.settle();
    }
}

/// A start on this disk must know everything that was told, and nothing that was never asked for.
fn check(disk: &SimulatedDisk, told: &Told, now: u64) -> Vec<Batch> {
    STATES.set(STATES.get() + 1);
    let (_, read) = open(disk, at(now)).unwrap_or_else(|error| panic!("no start: {error}"));
    let (old, new) = read.split_at_checked(told.acknowledged.len()).expect("lost batches");
    assert!(old == told.acknowledged, "acknowledged batches changed");
    let mut in_flight = told.in_flight.clone();
    for batch in new {
        let records: Vec<_> = batch.entries.iter().map(|entry| entry.record.clone()).collect();
        let opened =
            matches!(records[..], [Record::Opened { ref software, .. }] if &**software == "0.1.0");
        assert!(opened || in_flight.take() == Some(records), "a batch nobody asked for");
    }
    read
}

/// Calls `with` with all sequences of choices if there are no more than `most`, else with that many
/// at random.
pub(super) fn outcomes(
    most: usize,
    seed: u64,
    mut with: impl FnMut(&mut dyn FnMut(usize) -> usize),
) {
    let mut digits: Vec<(usize, usize)> = Vec::new();
    for _ in 0..most {
        let mut place = 0;
        with(&mut |options| {
            if place == digits.len() {
                digits.push((0, options));
            }
            place += 1;
            digits[place - 1].0
        });
        while digits.last().is_some_and(|(digit, options)| digit + 1 == *options) {
            digits.pop();
        }
        match digits.last_mut() {
            Some((digit, _)) => *digit += 1,
            None => return,
        }
    }
    let mut random = SmallRng::seed_from_u64(seed);
    for _ in 0..most {
        with(&mut |options| random.random_range(0..options));
    }
}

fn outcomes_per_call() -> usize {
    let factor = std::env::var("CRASHES").map_or(1, |times| times.parse().unwrap());
    8 * factor
}

/// A second crash, at the `call`th call of the recovery from the first.
fn crash_in_recovery(disk: &SimulatedDisk, told: &Told, call: u64, seed: u64) {
    let disk = disk.copy();
    disk.fail_at(call, Fault::PowerFails);
    let mut told = told.clone();
    if let Ok((_, read)) = open(&disk, at(2_000)) {
        told = Told { acknowledged: read, in_flight: None };
    }
    outcomes(2, seed, |choose| {
        check(&disk.crash(choose), &told, 3_000);
    });
}

/// Two lives, the second of which meets the fault at its `call`th call. Whether it came to that.
fn run(call: u64, fault: Fault) -> bool {
    let disk = SimulatedDisk::default();
    let mut told = Told::default();
    if call.is_multiple_of(2) {
        live(&disk, &mut told, 0);
    }
    let before = disk.calls();
    disk.fail_at(call.div_ceil(2), fault);
    live(&disk, &mut told, 1_000);
    let struck = disk.calls() - before >= call.div_ceil(2);
    // The process starts anew on the same machine, and only then the power fails.
    let restarted = disk.copy();
    let read = check(&restarted, &told, 1_500);
    let restart_told = Told { acknowledged: read, in_flight: None };
    outcomes(4, call, |choose| {
        check(&restarted.crash(choose), &restart_told, 2_000);
    });
    let mut number = 0;
    outcomes(outcomes_per_call(), call, |choose| {
        let crashed = disk.crash(choose);
        number += 1;
        if number % 8 == 1 {
            for call in 1..10 {
                crash_in_recovery(&crashed, &told, call, number);
            }
        }
        let told = Told { acknowledged: check(&crashed, &told, 2_000), in_flight: None };
        check(&crashed.crash(&mut |_| 0), &told, 3_000);
    });
    struck
}

/// Has the fault strike at each call in turn.
#[expect(clippy::print_stdout, reason = "a figure to be read")]
fn at_each_call(fault: Fault) {
    let calls = (1..).take_while(|call| run(*call, fault)).count();
    println!("{fault:?} at {calls} calls: {} states were started on", STATES.get());
    assert!(calls > 50, "{calls}");
}

#[test]
fn a_power_failure_at_any_call_loses_nothing_that_was_acknowledged() {
    at_each_call(Fault::PowerFails);
}

#[test]
fn a_failed_sync_at_any_call_loses_nothing_that_was_acknowledged() {
    at_each_call(Fault::SyncFails);
}

#[test]
fn a_refused_call_at_any_point_loses_nothing_that_was_acknowledged() {
    at_each_call(Fault::Refused);
}
