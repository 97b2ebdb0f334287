//! Has snapshots made: when there is much new in the journal, when the last one is old, and when somebody asks.
//!
//! A thread of its own makes them from the bytes on disk; the books and the ledger are never waited for or kept waiting.

use super::{
    BooksReader,
    alarms::Alarms,
    background::{self, Breaks, Manners},
};
use crate::{
    clock::Clock,
    domain::time::Timestamp,
    journal::{
        Folders, JournalError, Space,
        snapshot::{self, Held, Refused, Taken},
    },
};
use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// How often it is looked whether one is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The alarm that stands from a snapshot that was found damaged until the next one is made.
pub const DAMAGED: &str = "snapshot.damaged";

/// The alarm that stands from a snapshot that could not be made until the next one is, or since the thread died.
pub const FAILED: &str = "snapshot.failed";

/// When a snapshot is made without being asked for.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// This long after the last one.
    pub every: Duration,
    /// This many bytes of journal after the last one, or, if that is more, after [`WORTH`] times its own bytes.
    pub every_bytes: u64,
}

/// How many bytes of journal make it worth copying a byte of the snapshot before. Each snapshot copies the one before it,
/// so a fixed number of bytes between two would make a payment dearer the more there are.
const WORTH: u64 = 2;

impl Rhythm {
    /// How many bytes of journal are waited for after a snapshot of so many bytes.
    fn bytes_before_next(self, newest: u64) -> u64 {
        self.every_bytes.max(newest.saturating_mul(WORTH))
    }

    /// Whether one may be made with breaks while the journal has grown by so many bytes: on a machine so busy that breaks
    /// are long, snapshots must not fall behind.
    fn has_time(self, grown: u64, newest: u64) -> bool {
        grown < self.bytes_before_next(newest) / 2
    }
}

/// What became of a wish for a snapshot.
#[derive(Clone, Debug)]
pub struct Made {
    /// The newest snapshot; `None` as long as there are no payments.
    pub snapshot: Option<Held>,
    /// Whether it was made now. If not, it held every payment's entry already.
    pub now: bool,
    /// How many segments went to the archive.
    pub archived: u64,
    /// When it was asked for.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
}

/// What snapshots are made of, and who is told.
pub struct Subject {
    /// The store's files.
    pub folders: Folders,
    /// The live books, for how far they are; nothing else of them is looked at.
    pub books: BooksReader,
    /// How much is written.
    pub space: Arc<Space>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where failures and damage are raised.
    pub alarms: Arc<Alarms>,
}

/// What was made since the start.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The newest snapshot.
    pub newest: Option<Held>,
    /// How many were made.
    pub made: u64,
    /// How many could not be made.
    pub failed: u64,
    /// How many were found damaged.
    pub damaged: u64,
}

/// How others ask for snapshots.
#[derive(Clone)]
pub struct Snapshots {
    wishes: Sender<Wish>,
    waiting: Arc<AtomicUsize>,
    state: Arc<Mutex<State>>,
}

type Wish = oneshot::Sender<Result<Made, Arc<JournalError>>>;

impl Snapshots {
    /// Starts the thread. `unsaved` bytes of the journal are not in a snapshot yet, and the start found some `damaged`.
    ///
    /// # Errors
    /// The operating system makes no more threads.
    pub fn start(
        subject: Subject,
        rhythm: Rhythm,
        unsaved: u64,
        damaged: &[Refused],
    ) -> io::Result<Self> {
        let (wishes, wished) = mpsc::channel();
        let (waiting, state) = (Arc::<AtomicUsize>::default(), Arc::new(Mutex::default()));
        let maker = Maker {
            subject,
            rhythm,
            last: Instant::now(),
            written: 0,
            unsaved,
            waiting: waiting.clone(),
            state: state.clone(),
        };
        maker.tell_damaged(damaged);
        let alarms = maker.subject.alarms.clone();
        // It never holds the books' lock but to ask how far they are.
        background::spawn(
            "snapshots",
            Manners::Polite,
            move || maker.run(&wished),
            move |panicked| {
                if panicked {
                    let what = "the thread that makes snapshots died of a bug: payments go on and none is lost, but no more \
                            snapshots are made. Keep the log, report it, and start the server again at a quiet moment";
                    alarms.raise(FAILED, what);
                }
            },
        )?;
        Ok(Self { wishes, waiting, state })
    }

    /// What was made so far.
    #[must_use]
    pub fn state(&self) -> State {
        state(&self.state).clone()
    }

    /// Has one made that goes through everything that is durable now.
    ///
    /// # Errors
    /// Why there is none; those that were there still are.
    pub async fn make(&self) -> Result<Made, Arc<JournalError>> {
        let stopped = || Arc::new(JournalError::Stopped);
        let (wish, made) = oneshot::channel();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.wishes.send(wish).map_err(|_| stopped())?;
        made.await.map_err(|_| stopped())?
    }
}

fn state(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Maker {
    subject: Subject,
    rhythm: Rhythm,
    /// When the last one was made, or the process started.
    last: Instant,
    /// How many bytes the process had written by then.
    written: u64,
    /// How many bytes from before this process are in no snapshot.
    unsaved: u64,
    /// How many wishes are not answered.
    waiting: Arc<AtomicUsize>,
    state: Arc<Mutex<State>>,
}

impl Maker {
    fn run(mut self, wished: &Receiver<Wish>) {
        if let Ok(newest) = snapshot::newest(&self.subject.folders) {
            state(&self.state).newest = newest;
        }
        loop {
            let wish = match wished.recv_timeout(LOOK_EVERY) {
                Ok(wish) => Some(wish),
                Err(RecvTimeoutError::Timeout) if self.is_due() => None,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let made = self.make();
            let Some(wish) = wish else { continue };
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            if wish.send(made).is_err() {
                tracing::debug!("whoever wanted a snapshot is gone");
            }
        }
    }

    fn is_due(&self) -> bool {
        let new =
            self.subject.space.written().saturating_sub(self.written).saturating_add(self.unsaved);
        new > 0
            && (new >= self.rhythm.bytes_before_next(self.newest_bytes())
                || self.last.elapsed() >= self.rhythm.every)
    }

    fn newest_bytes(&self) -> u64 {
        state(&self.state).newest.as_ref().map_or(0, |newest| newest.bytes)
    }

    /// Makes one, with breaks as long as nobody waits and there is time.
    fn make(&mut self) -> Result<Made, Arc<JournalError>> {
        let Subject { folders, books, space, clock, .. } = &self.subject;
        let (at, began, written) = (clock.now(), Instant::now(), space.written());
        let through = books.read().position().sequence;
        let breaks = Breaks::default();
        let newest = self.newest_bytes();
        let taken = snapshot::take(folders, through, &|| {
            let grown = space.written().saturating_sub(written);
            if self.waiting.load(Ordering::Relaxed) == 0 && self.rhythm.has_time(grown, newest) {
                breaks.rest_if_due();
            }
        });
        // Also after a failure: it is not tried again every second.
        (self.last, self.written, self.unsaved) = (Instant::now(), written, 0);
        let made = taken.and_then(|taken| {
            let made_now = taken.as_ref().map(|taken| taken.snapshot.clone());
            let newest = match made_now {
                None => snapshot::newest(folders)?,
                made_now => made_now,
            };
            let took = began.elapsed();
            self.tell(taken.as_ref(), took);
            let archived = taken.as_ref().map_or(0, |taken| taken.archived);
            Ok(Made { snapshot: newest, now: taken.is_some(), archived, at, took })
        });
        match &made {
            Ok(made) => state(&self.state).newest.clone_from(&made.snapshot),
            Err(error) => {
                state(&self.state).failed += 1;
                let detail = format!(
                    "{error}. Payments go on and none is lost, but the next start takes longer"
                );
                self.subject.alarms.raise(FAILED, &detail);
            }
        }
        made.map_err(Arc::new)
    }

    fn tell(&self, taken: Option<&Taken>, took: Duration) {
        self.subject.alarms.clear(FAILED);
        let Some(Taken { snapshot, archived, damaged }) = taken else { return };
        tracing::info!(
            file = %snapshot.file.display(),
            sequence = snapshot.position.sequence,
            payments = snapshot.payments,
            bytes = snapshot.bytes,
            archived_segments = archived,
            ms = took.as_millis(),
            "a snapshot was made"
        );
        state(&self.state).made += 1;
        self.subject.alarms.clear(DAMAGED);
        self.tell_damaged(damaged);
    }

    fn tell_damaged(&self, damaged: &[Refused]) {
        state(&self.state).damaged += u64::try_from(damaged.len()).unwrap_or(u64::MAX);
        for Refused { file, why, .. } in damaged {
            let detail = format!(
                "the snapshot {} is damaged: {why}. No money is touched and the books are right, but the disk is to be \
                 checked; the next good snapshot ends this alarm",
                file.display()
            );
            self.subject.alarms.raise(DAMAGED, &detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_snapshots_copy_stays_a_part_of_what_the_journal_grows_by() {
        let rhythm = Rhythm { every: Duration::from_secs(3600), every_bytes: 256 };
        assert_eq!(rhythm.bytes_before_next(0), 256);
        assert_eq!(rhythm.bytes_before_next(128), 256);
        assert_eq!(rhythm.bytes_before_next(1000), 2000);
    }

    #[test]
    fn a_snapshot_has_time_until_half_of_what_the_next_one_comes_after_is_there() {
        let rhythm = Rhythm { every: Duration::from_secs(3600), every_bytes: 256 };
        assert!(rhythm.has_time(0, 0) && rhythm.has_time(127, 0) && rhythm.has_time(999, 1000));
        assert!(!rhythm.has_time(128, 0) && !rhythm.has_time(1000, 1000));
    }
}
