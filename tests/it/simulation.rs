//! Deterministic simulation: the real actors, journal, recovery and snapshots in a world that one seed decides.
//!
//! There is no runtime, no thread and no clock but the world's: it polls the actors' own tasks, in an order that the seed
//! decides, and moves the time. The disk loses, tears and fails, the bank is slow, forgets and contradicts itself, clients
//! retry, clocks jump; the audits hold what is then true against the clients' record and the bank's.
//!
//! `SEED=n` replays one run, `SEEDS=n` makes so many, `FROM=n` begins with that seed instead of 1.

mod audit;
mod bank;
mod bugs;
mod clients;
mod crash_states;
mod found;
mod harm;
mod hooks;
mod quiet;
mod run;
mod server;
mod world;

use crate::wait::give_way;
use run::{Tally, run};
use std::{
    env,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Instant,
};

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// The number if it is given; else so many, beside which other tests' servers are to answer in time.
fn number_or_give_way(variable: &str, usual: u64) -> u64 {
    number(variable).unwrap_or_else(|| {
        give_way();
        usual
    })
}

fn threads() -> u64 {
    thread::available_parallelism().map_or(1, |count| u64::try_from(count.get()).unwrap())
}

/// What `work` makes in as many threads as there are cores.
fn in_all_threads<T: Send>(work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let all: Vec<_> = (0..threads()).map(|thread| scope.spawn(move || work(thread))).collect();
        all.into_iter().map(|thread| thread.join().expect("a thread failed")).collect()
    })
}

/// After so many failures no more are looked for.
const FAILURES_MAX: usize = 10;

/// Runs the seeds on all cores.
fn run_all(seeds: Range<u64>) -> Tally {
    let (next, failed) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let tallies = in_all_threads(|_| {
        let mut tally = Tally::default();
        while let seed = next.fetch_add(1, SeqCst)
            && seeds.contains(&seed)
            && failed.lock().unwrap().len() < FAILURES_MAX
        {
            match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                Ok(run) => tally.add(run),
                Err(_) => {
                    failed.lock().unwrap().push(seed);
                    eprintln!("replay it by: SEED={seed} cargo test --test it simulation");
                }
            }
        }
        tally
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "failed: seeds {failed:?}");
    let mut sum = Tally::default();
    tallies.into_iter().for_each(|tally| sum.add(tally));
    sum
}

#[test]
fn whatever_befalls_it_nothing_is_lost_doubled_or_taken_back() {
    if let Some(seed) = number("SEED") {
        // `RUST_LOG=debug` shows what the server had to say.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let _log = tracing::subscriber::set_default(log.without_time().finish());
        println!("{:?}", run(seed));
        return;
    }
    let (from, count) = (number("FROM").unwrap_or(1), number_or_give_way("SEEDS", 10_000));
    let began = Instant::now();
    let tally = run_all(from..from + count);
    println!("{tally:?} in {:?}", began.elapsed());
    assert_eq!(tally.runs, count);
}
