//! The meters door: what is counted where it happens, and read by `/metrics`.
//!
//! Like the log there is one set of meters a process, so that nobody has to hand it down. To count is cheap enough for
//! every request: each thread counts in a shard of its own, under a lock that only whoever reads `/metrics` ever takes
//! too, and nothing is allocated but for the first of a kind. What can be read where it lives (the books, the room on
//! disk) is not counted here. Nothing decides anything by a meter.

pub mod process;

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    path::PathBuf,
    sync::{
        Arc, LazyLock, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// How many threads count without ever meeting one another.
const SHARDS: usize = 16;

/// Up to how many microseconds, for requests and calls over a network: 250 µs to 30 s.
const NETWORK_US: &[u64] = &[
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
];
/// Up to how many microseconds, for a durable write: 50 µs to 5 s.
const DISK_US: &[u64] = &[
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    5_000_000,
];
/// Up to how many entries of a batch.
const ENTRIES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 4_096];

/// All meters of this process.
pub struct Meters {
    /// Requests, and the microseconds that they took.
    pub requests: Tally<Request>,
    /// Writes of the journal until they were durable, in microseconds.
    pub syncs: Tally<()>,
    /// Batches of the journal, and how many entries they had.
    pub batches: Tally<()>,
    /// What became of requests that came under an idempotency key, in a word.
    pub claims: Tally<&'static str>,
    /// Calls to payment providers, and the microseconds that they took.
    pub calls: Tally<Call>,
    /// Tries to deliver a webhook by their result, and the microseconds that they took.
    pub tries: Tally<&'static str>,
    /// Connections that were turned away or cut off, by why.
    pub connections_ended: Tally<&'static str>,
    /// Connections that are open.
    pub connections: Level,
    /// Entries that were sent to the ledger and are not answered.
    pub ledger_queue: Level,
    /// The folder whose file system is looked at.
    pub data_dir: OnceLock<PathBuf>,
}

/// A kind of request. Patterns and statuses are few; a method that is none of the usual ones is "other".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// The pattern of its path, never the path.
    pub route: &'static str,
    /// In capitals.
    pub method: &'static str,
    /// Of the answer.
    pub status: u16,
}

/// A kind of call to a provider.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    /// As it is configured.
    pub provider: Arc<str>,
    /// What was asked for.
    pub operation: &'static str,
    /// What it said.
    pub outcome: &'static str,
}

/// The meters.
pub fn meters() -> &'static Meters {
    static METERS: LazyLock<Meters> = LazyLock::new(|| Meters {
        requests: Tally::new(NETWORK_US),
        syncs: Tally::new(DISK_US),
        batches: Tally::new(ENTRIES),
        claims: Tally::new(&[]),
        calls: Tally::new(NETWORK_US),
        tries: Tally::new(NETWORK_US),
        connections_ended: Tally::new(&[]),
        connections: Level::default(),
        ledger_queue: Level::default(),
        data_dir: OnceLock::new(),
    });
    &METERS
}

/// How often something happened of each kind, and how much it was each time.
pub struct Tally<K> {
    bounds: &'static [u64],
    shards: [Shard<K>; SHARDS],
}

/// On cache lines of its own, so that threads that count do not slow one another down.
#[repr(align(128))]
struct Shard<K>(Mutex<HashMap<K, Counts>>);

/// What was counted of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often.
    pub count: u64,
    /// How much altogether.
    pub sum: u64,
    /// How often up to each bound and beyond the one before; the last is for what lies beyond all.
    pub within: Vec<u64>,
}

impl Counts {
    fn new(bounds: &[u64]) -> Self {
        Self { count: 0, sum: 0, within: vec![0; bounds.len().saturating_add(1)] }
    }

    fn note(&mut self, bounds: &[u64], amount: u64) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(amount);
        let place = bounds.partition_point(|bound| *bound < amount);
        if let Some(within) = self.within.get_mut(place) {
            *within = within.wrapping_add(1);
        }
    }

    /// Adds what was counted elsewhere, under the same bounds.
    pub fn add(&mut self, other: &Self) {
        self.count = self.count.wrapping_add(other.count);
        self.sum = self.sum.wrapping_add(other.sum);
        self.within.resize(self.within.len().max(other.within.len()), 0);
        for (own, other) in self.within.iter_mut().zip(&other.within) {
            *own = own.wrapping_add(*other);
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> Tally<K> {
    /// Nothing, to be told apart by these upper bounds, which ascend.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, shards: std::array::from_fn(|_| Shard(Mutex::default())) }
    }

    /// Counts one of a kind.
    pub fn note(&self, kind: K, amount: u64) {
        thread_local! {
            static OWN: usize = {
                static NEXT: AtomicUsize = AtomicUsize::new(0);
                NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS
            };
        }
        let own = OWN.try_with(|own| *own).unwrap_or_default();
        let Some(Shard(shard)) = self.shards.get(own) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard.entry(kind).or_insert_with(|| Counts::new(self.bounds)).note(self.bounds, amount);
    }

    /// Counts one of a kind that took so long, in microseconds.
    pub fn note_time(&self, kind: K, took: Duration) {
        self.note(kind, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// What was counted so far, by kind.
    #[must_use]
    pub fn read(&self) -> BTreeMap<K, Counts> {
        let mut all: BTreeMap<K, Counts> = BTreeMap::new();
        for Shard(shard) in &self.shards {
            for (kind, counts) in &*shard.lock().unwrap_or_else(PoisonError::into_inner) {
                all.entry(kind.clone()).or_default().add(counts);
            }
        }
        all
    }

    /// The upper bounds.
    #[must_use]
    pub fn bounds(&self) -> &'static [u64] {
        self.bounds
    }
}

/// How many there are now.
#[derive(Debug, Default)]
pub struct Level(AtomicUsize);

impl Level {
    /// One more, until what is returned is dropped.
    #[must_use]
    pub fn enter(&'static self) -> Entered {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(self)
    }

    /// How many.
    #[must_use]
    pub fn read(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of those that there are. Dropped when it leaves.
#[derive(Debug)]
pub struct Entered(&'static Level);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_threads_count_adds_up() {
        let tally: Tally<&'static str> = Tally::new(&[10, 20]);
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| {
                    for amount in [0, 10, 11, 20, 21] {
                        tally.note("a", amount);
                    }
                    tally.note_time("b", Duration::from_micros(15));
                });
            }
        });
        let threads = u64::try_from(2 * SHARDS).unwrap();
        let all = tally.read();
        let within = vec![2 * threads, 2 * threads, threads];
        assert_eq!(all["a"], Counts { count: 5 * threads, sum: 62 * threads, within });
        assert_eq!(all["b"].within, [0, threads, 0]);
    }

    #[test]
    fn a_level_falls_when_who_entered_has_left() {
        static LEVEL: Level = Level(AtomicUsize::new(0));
        let one = LEVEL.enter();
        let other = LEVEL.enter();
        drop(one);
        assert_eq!(LEVEL.read(), 1);
        drop(other);
        assert_eq!(LEVEL.read(), 0);
    }
}
