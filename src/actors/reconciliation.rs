//! Runs the reconciliation of the books and keeps what the last runs found.

use super::BooksReader;
use crate::{
    clock::Clock,
    domain::{
        reconciliation::{Recount, Report},
        time::Timestamp,
    },
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// How many payments are counted between two moments at which the ledger may book.
const SLICE: usize = 256;

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    /// UUIDv7, shown as `rec_…`.
    pub id: Uuid,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What it found.
    pub report: Report,
}

/// The last runs.
pub struct Reconciliations {
    books: BooksReader,
    clock: Arc<dyn Clock>,
    kept_max: usize,
    kept: Mutex<VecDeque<Arc<Run>>>,
}

impl Reconciliations {
    /// Keeps the last `kept_max` runs.
    #[must_use]
    pub fn new(books: BooksReader, clock: Arc<dyn Clock>, kept_max: usize) -> Self {
        Self { books, clock, kept_max, kept: Mutex::default() }
    }

    /// Counts the whole books anew, on the calling thread, while payments go on.
    pub fn run(&self) -> Arc<Run> {
        let started_at = self.clock.now();
        let started = Instant::now();
        let mut recount = Recount::begin(&self.books.read());
        while recount.proceed(&self.books.read(), SLICE) {}
        let report = recount.finish();
        let run = Run {
            id: crate::clock::new_uuid(started_at),
            started_at,
            took: started.elapsed(),
            report,
        };
        for check in run.report.checks.iter().filter(|check| !check.ok()) {
            tracing::error!(
                check = check.name,
                failed = check.failed,
                first = check.failures.first().map(|failure| failure.what.as_str()),
                "reconciliation found the books wrong: stop taking payments, keep a copy of the data folder"
            );
        }
        let run = Arc::new(run);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front(run.clone());
        kept.truncate(self.kept_max);
        run
    }

    /// The last runs, newest first.
    #[must_use]
    pub fn runs(&self) -> Vec<Arc<Run>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
