//! The tests are tested: each seeded bug has to be caught, and by what is on record.
//!
//! `cargo test --test it seeded -- --nocapture` prints the table that stands in TESTING.md.

use super::{crash_states, run::run};
use crate::wait::give_way;
use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::{Mutex, Once},
};
use strongroom::domain::seeded::{Bug, seed};

/// After so many runs, or crash states, without a finding a harness is taken to miss a bug.
const RUNS: u64 = 1_000;
const STATES: u64 = 800;

thread_local! {
    static IS_EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// What a panic says that is expected is nothing to read.
fn keep_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_EXPECTED.get() {
                before(info);
            }
        }));
    });
    IS_EXPECTED.set(true);
}

/// Whether `work` fails with the bug; if so, in the first words of what it says.
fn fails(bug: Bug, work: impl FnOnce()) -> Option<String> {
    seed(Some(bug));
    let caught = catch_unwind(AssertUnwindSafe(work));
    seed(None);
    let payload = caught.err()?;
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let text = text
        .unwrap_or_default()
        .replace('\n', " ")
        .replace("assertion `left == right` failed: ", "");
    Some(text.chars().take(60).collect())
}

/// By which harness the bug was caught.
struct Row {
    bug: Bug,
    /// The seed that caught it, and what it said.
    simulation: Option<(u64, String)>,
    /// The crash state that caught it, and what it said.
    crash_states: Option<(u64, String)>,
}

fn hunt(bug: Bug) -> Row {
    keep_quiet();
    let caught = (1..=RUNS).find_map(|seed| {
        Some((
            seed,
            fails(bug, || {
                run(seed);
            })?,
        ))
    });
    let mut count = crash_states::Count::default();
    let said = fails(bug, || crash_states::enumerate(STATES, (0, 1), &mut count));
    IS_EXPECTED.set(false);
    Row { bug, simulation: caught, crash_states: said.map(|said| (count.states, said)) }
}

#[test]
fn every_seeded_bug_is_caught() {
    give_way();
    let left = Mutex::new(Bug::ALL.iter().copied());
    let rows = super::in_all_threads(|_| {
        let mut rows = Vec::new();
        while let Some(bug) = { left.lock().unwrap().next() } {
            rows.push(hunt(bug));
        }
        rows
    });
    let mut rows: Vec<Row> = rows.into_iter().flatten().collect();
    rows.sort_by_key(|row| Bug::ALL.iter().position(|bug| *bug == row.bug));
    println!("| bug | switch | simulation: run | crash states: state | what it said |");
    println!("|---|---|---|---|---|");
    for Row { bug, simulation, crash_states } in &rows {
        let number = |caught: &Option<(u64, String)>| {
            caught.as_ref().map_or("-".to_owned(), |(number, _)| number.to_string())
        };
        let (run, state) = (number(simulation), number(crash_states));
        let said = simulation.as_ref().or(crash_states.as_ref()).map_or("", |(_, said)| said);
        println!("| {} | `{bug:?}` | {run} | {state} | {said} |", bug.what());
    }
    let missed: Vec<Bug> = rows
        .iter()
        .filter(|row| row.simulation.is_none() && row.crash_states.is_none())
        .map(|row| row.bug)
        .collect();
    assert!(missed.is_empty(), "nothing notices {missed:?}");
}
